"""A report as one HTML file: tables that sort, a plot with axes to choose, what changed, what disagrees, what failed.

Its own file because it keeps the page from harm and from the network: the data cannot end the element it stands in,
the page may run its own two scripts, known by their hashes, and load nothing. Opened from a disk it works offline.
The same report gives the same bytes with the same vitprof and vl-convert.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from vitprof.errors import UnreachableError
from vitprof.report.html_data import data_from_report
from vitprof.reports import Report

_PAGE = Path(__file__).parent / "page"
# In the order in which they need each other; they are one script.
_SCRIPTS = (
    *("dom.js", "data.js", "table.js", "marks.js", "plot.js", "filters.js", "changes.js"),
    *("inspector.js", "answers.js", "sections.js", "main.js"),
)
_LICENCES = """
Drawn by Vega, Vega-Lite and Vega-Embed (Copyright University of Washington Interactive Data Lab, BSD 3-Clause,
https github.com/vega) and the parts of D3 that they hold (Copyright Mike Bostock, ISC).
"""
# Inside a script these could end it or change how it is read; inside JSON they have another spelling.
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def html_text(report: Report) -> str:
    """The whole file; raises what `check_installed` does."""
    style = _style()
    scripts = (_vega(), _script())
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    head = (
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        "<title>vitprof report</title>",
        f"<style>{style}</style>",
        "</head>",
    )
    data = f'<script type="application/json" id="data">{_json(data_from_report(report))}</script>'
    body = (_read("page.html"), data, *(f"<script>{script}</script>" for script in scripts), "</body>", "</html>")
    return "\n".join((*head, *body)) + "\n"


def _json(data: object) -> str:
    # ASCII alone, so that no line separator and no other character can mean something to whoever reads the file.
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for char, spelled in _ESCAPES.items():
        text = text.replace(char, spelled)
    return text


def check_installed() -> None:
    """`UnreachableError` where vl-convert, which brings Vega, is not installed."""
    if find_spec("vl_convert") is None:
        raise UnreachableError(
            "the HTML report needs vl-convert, which is not installed",
            remedy="pip install 'vitprof[report]'",
            stage="report",
        )


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script; a second of work, once a process."""
    check_installed()
    import vl_convert

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return _harmless(f"/*{_LICENCES}*/\n{bundle}")


@cache
def _script() -> str:
    parts = "\n".join(_read(name) for name in _SCRIPTS)
    return _harmless(f'(() => {{\n"use strict";\n{parts}}})();\n')


def _harmless(script: str) -> str:
    """The same program, in which nothing can end the element that it stands in."""
    return re.sub(r"<(?=/script|script|!--)", r"\\x3c", script, flags=re.IGNORECASE)


@cache
def _style() -> str:
    return f"\n{_read('style.css')}"


def _read(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
