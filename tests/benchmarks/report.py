"""Seconds and peak memory of `vitprof report` over 1,000 and 10,000 rows, each with one before it.

    python -m tests.benchmarks.report [--rows 1000,10000] [--one-group] [--html]

`--one-group`: all models on one device and backend, the worst case for what compares models with each other. The
command runs in a process of its own, so that its memory is its own; imports count.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import reported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="1000,10000")
    parser.add_argument("--one-group", action="store_true")
    parser.add_argument("--html", action="store_true")
    asked = parser.parse_args()
    for count in map(int, asked.rows.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            _show(count, Path(folder), is_one_group=asked.one_group, with_html=asked.html)


def _show(count: int, folder: Path, *, is_one_group: bool, with_html: bool) -> None:
    before, now = reported.many(count)
    if is_one_group:
        for index, row in enumerate((*before, *now)):
            row.update(device="local", backend="ort", model=f"{row['model']}_{index % count}")
    store = reported.store_of(folder / "results.sqlite", now, before)
    output = folder / "report.md"
    words = [sys.executable, "-m", "vitprof", "report", "--store", str(store), "-o", str(output)]
    began = time.perf_counter()
    process = subprocess.Popen([*words, *(["--html"] if with_html else [])], env={**os.environ})
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"vitprof report ended with status {os.waitstatus_to_exitcode(status)}")
    busy = used.ru_utime + used.ru_stime
    told = f"{count:>7,} rows  {seconds:6.2f} s ({busy:.2f} s of processor)  {_bytes(used) / 1e6:7.0f} MB peak"
    print(f"{told}  {_sizes(folder)}", flush=True)


def _bytes(used: resource.struct_rusage) -> int:
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _sizes(folder: Path) -> str:
    files = sorted(file for file in folder.iterdir() if file.name.startswith("report"))
    return ", ".join(f"{file.name} {file.stat().st_size / 1e3:,.0f} kB" for file in files)


if __name__ == "__main__":
    main()
