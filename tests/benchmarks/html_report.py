"""What the HTML report costs by its rows: time to write, bytes, time until it answers a click in Chromium.

python -m tests.benchmarks.html_report [ROWS …]
"""

from __future__ import annotations

import gzip
import sys
import tempfile
import time
from pathlib import Path

from tests.report.chromium_page import page
from tests.report.html_reports import report
from vitprof.report.html import html_text

_TRIES = 3


def main() -> None:
    html_text(report(12))
    for rows in [int(word) for word in sys.argv[1:]] or [300, 1_000, 10_000]:
        made = report(rows)
        start = time.perf_counter()
        text = html_text(made)
        write_s = time.perf_counter() - start
        sizes = f"{len(text) / 1e6:.2f} MB, {len(gzip.compress(text.encode())) / 1e6:.2f} MB compressed"
        print(f"{len(made.rows)} rows: written in {write_s:.2f} s, {sizes}")
        _opened(text)


def _opened(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder, page() as opened:
        file = Path(folder) / "report.html"
        file.write_text(text, encoding="utf-8")
        for _ in range(_TRIES):
            start = time.perf_counter()
            opened.open(file)
            print(f"  opened and drawn in {time.perf_counter() - start:.2f} s", end="")
            for what, act in (
                ("sorted", "document.querySelector('#results th[data-key=ratio] button').click()"),
                ("filtered and drawn", "document.querySelector('.facet[data-facet=grade] input').click()"),
                ("all again", "document.querySelector('#reset').click()"),
            ):
                done = (
                    "new Promise((done) => { const start = performance.now(); requestAnimationFrame(() => setTimeout("
                )
                done += "() => setTimeout(() => done(performance.now() - start), 0), 0)); "
                print(f", {what} {opened.value(f'{done}{act}; }})'):.0f} ms", end="")
                opened.settle()
            print()
        heap = opened.value("performance.memory.usedJSHeapSize")
        print(f"  {heap / 1e6:.0f} MB of JavaScript's memory; complaints: {opened.complaints or 'none'}")


if __name__ == "__main__":
    main()
