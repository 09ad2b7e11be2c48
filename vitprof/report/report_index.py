"""The list of reports in the README of their folder.

Its own file because that README is a person's: only what stands between the two marks is ever replaced, and a README
without them is added to at its end, in a folder that is called `reports`; elsewhere nothing is touched.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import quote

from vitprof.errors import VitprofError
from vitprof.report.report_words import MARK

BEGIN = "<!-- vitprof reports: this list is written by `vitprof report`; write above or below it -->"
END = "<!-- vitprof reports end -->"
_FOLDER = "reports"
_README = "README.md"
# Title, opening and counts stand at the beginning.
_HEAD_BYTES = 16_384


def update_index(folder: Path) -> Path | None:
    """The README that was brought up to date; None where the folder has no list and does not ask for one.

    A folder asks by its name, `reports`, or by the marks in its README. `VitprofError` for a README that cannot be
    read or written, or that has one mark only.
    """
    readme = folder / _README
    try:
        # As bytes: line ends are a person's too.
        text = readme.read_bytes().decode("utf-8") if readme.exists() else None
        if (text is None or BEGIN not in text) and folder.resolve().name != _FOLDER:
            return None
        while (renewed := _renewed(text, _list_of(folder), readme)) != text:
            _write(readme.resolve(), renewed)
            # Looked at once more: what another process reported meanwhile must be in the list that stays.
            text = renewed
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise VitprofError(
            f"cannot bring the list of reports in {readme} up to date: {why}",
            remedy="see that the file can be read and written; the report itself is there",
            stage="report",
        ) from error
    return readme


def _write(readme: Path, text: str) -> None:
    """All of it or nothing: on a full disk a person's text stays."""
    part = readme.with_name(f".{readme.name}.{os.getpid()}.part")
    try:
        part.write_bytes(text.encode("utf-8"))
        if readme.exists():
            shutil.copymode(readme, part)
        part.replace(readme)
    finally:
        part.unlink(missing_ok=True)


def _renewed(text: str | None, entries: str, readme: Path) -> str:
    block = f"{BEGIN}\n{entries}{END}"
    if text is None:
        return f"# Reports\n\n{block}\n"
    if BEGIN not in text:
        return f"{text.rstrip()}\n\n{block}\n" if text.strip() else f"# Reports\n\n{block}\n"
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise VitprofError(
            f"the list of reports in {readme} has no end",
            remedy=f"put the line {END} below it; what follows it is kept",
            stage="report",
        )
    return f"{before}{block}{after}"


def _list_of(folder: Path) -> str:
    files = sorted(file for file in folder.glob("*.md") if file.name != _README and file.is_file())
    lines = [line for file in files if (line := _line(file))]
    return "".join(f"{line}\n" for line in lines)


def _line(file: Path) -> str:
    """Of one report, in the words of the report itself; "" for a file that is none."""
    with file.open("rb") as opened:
        lines = opened.read(_HEAD_BYTES).decode("utf-8", "replace").splitlines()
    if not lines or lines[0] != MARK:
        return ""
    told = [line.strip() for line in lines[1:] if line.strip()]
    title = next((line.removeprefix("# ") for line in told if line.startswith("# ")), file.stem)
    opening, has_html, _ = told[1].partition(" Every row, sortable:") if len(told) > 1 else ("", "", "")
    # `**1 broke, 2 slower**, each cell against …`: the list of changes begins with a dash.
    counts = next((line.split("**")[1] for line in told if line.startswith("**") and line.count("**") > 1), "")
    html = file.with_suffix(".html")
    # One that the report does not name is of a report that was here before.
    link = f" ([HTML]({quote(html.name)}))" if has_html and html.exists() else ""
    return f"- [{title}]({quote(file.name)}){link}: {opening}{f' {counts}.' if counts else ''}"
