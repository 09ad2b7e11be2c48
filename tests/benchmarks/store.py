"""How the results store holds out: rows a second, bytes a row, how long a filtered list takes, and ten writers at once.

    python -m tests.benchmarks.store [--rows 10000,100000]      one store that grows: insert rate, size, `results list`
    python -m tests.benchmarks.store --make N FILE              a store of N rows, for whoever needs one
    python -m tests.benchmarks.store --writers 10 [--store URL] ten processes that write 10,000 rows together

Rows are as `latency` writes them, of 200 models on 3 backends with 3 batches, in runs of 1,800 cells one day apart;
their numbers are drawn from a seed, so that the same rows come out every time. Needs no model and measures nothing.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.report import samples
from vitprof.report.document import dicts_from_results
from vitprof.store.results import open_store
from vitprof.store.runs import StoredRun, new_run

FAMILIES = (
    "vit",
    "convnext",
    "resnet",
    "efficientnet",
    "lowformer",
    "mobilenetv3",
    "swin",
    "regnety",
    "fastvit",
    "levit",
)
MODELS = tuple(
    f"{family}_{size}_{px}" for family in FAMILIES for size in ("a", "b", "c", "d") for px in range(160, 320, 32)
)
BACKENDS = ("ort", "openvino", "torch")
BATCHES = (1, 8, 32)
_BEGIN = datetime(2020, 1, 1, 12, tzinfo=UTC)
_ROWS_PER_GROUP = 8
_ROWS_PER_TRANSACTION = 1_000
_LISTS = (
    ("one model", ("vit_a_224",)),
    ("a family on a backend", ("lowformer*", "--backend", "openvino")),
    ("one model, all its rows", ("vit_a_224", "--all", "--limit", "100")),
    ("a run", ("--run", "latest", "--backend", "ort", "--limit", "100")),
)


def rows_of(run: int) -> Iterator[dict[str, Any]]:
    """The rows of a run: every model on every backend with every batch; the same ones for the same number."""
    drawn = random.Random(run)
    [template] = dicts_from_results([samples.ok()])
    day = _BEGIN + timedelta(days=run)
    for index, (model, backend, batch) in enumerate(
        (model, backend, batch) for model in MODELS for backend in BACKENDS for batch in BATCHES
    ):
        yield _row(template, drawn, model, backend, batch, day + timedelta(seconds=index * 20), run)


def _row(
    template: dict[str, Any], drawn: random.Random, model: str, backend: str, batch: int, at: datetime, run: int
) -> dict[str, Any]:
    row = copy.deepcopy(template)
    cell = random.Random(f"{model} {backend}")
    macs = round(math.exp(cell.uniform(18, 24)))
    p50 = macs / cell.uniform(5, 60) * batch * math.exp(drawn.gauss(0, 0.05))
    ratio = p50 / 4e6 * math.exp(drawn.gauss(0, 0.01))
    half = drawn.uniform(0.002, 0.02)
    row.update(model=model, backend=backend, batch=batch, started_at=at.isoformat(timespec="seconds"))
    row["latency_ns"].update(
        p50=round(p50), p90=round(p50 * 1.1), p99=round(p50 * drawn.uniform(1.2, 2)), mean=round(p50 * 1.02),
        min=round(p50 * 0.93), max=round(p50 * drawn.uniform(1.5, 3)),
        ci95=[round(p50 * (1 - half)), round(p50 * (1 + half))],
        samples=drawn.randrange(200, 2_000), rounds=drawn.randrange(16, 90), warmup_samples=drawn.randrange(50, 300),
        outliers=drawn.randrange(20),
    )  # fmt: skip
    row["relative"].update(
        ratio=float(f"{ratio:.6g}"),
        ci95=[float(f"{ratio * (1 - half):.6g}"), float(f"{ratio * (1 + half):.6g}")],
        reference_spread=float(f"{drawn.uniform(0.01, 0.2):.6g}"),
        grade=drawn.choice("AAAB"),
    )
    row["cold_ns"].update(load=drawn.randrange(10**8, 10**9), first_call=round(p50 * drawn.uniform(1, 4)))
    row["cost"].update(params=macs // 300, macs=macs, weight_bytes=macs // 75, activation_bytes=macs // 40)
    row["artifact"].update(sha256=hashlib.sha256(f"{model} {backend}".encode()).hexdigest(), bytes=macs // 74)
    row["memory"].update(peak_rss_bytes=drawn.randrange(10**8, 10**9))
    row["throughput_images_per_s"] = float(f"{1e9 * batch / p50:.6g}")
    row["achieved_macs_per_s"] = float(f"{1e9 * batch * macs / p50:.6g}")
    row["grade"] = drawn.choice("AAABBC")
    moving = {"load_1min": round(drawn.uniform(0, 2), 2), "temperature_c": drawn.randrange(40, 80), "clock_hz": 3.1e9}
    # The system is updated now and then.
    lasting = {"machine": "x86_64", "system": "Linux", "kernel": f"6.1.{run // 40}", "cpu": "AMD EPYC 7B13", "cores": 2}
    row["environment"] = {
        "before": {**lasting, **moving},
        "after": {**lasting, **moving, "load_1min": round(drawn.uniform(0, 2), 2)},
        "clock_step_ns": 40,
        "clock_cost_ns": drawn.randrange(40, 60),
        "loop_overhead_ns": drawn.randrange(50, 90),
    }
    if drawn.random() < 0.02:
        names = (
            "latency_ns",
            "relative",
            "throughput_images_per_s",
            "cold_ns",
            "achieved_macs_per_s",
            "memory",
            "grade",
        )
        failure = {"stage": "run", "error": "the runtime cannot run 'GridSample'", "remedy": "try another backend"}
        row.update(dict.fromkeys(names), outcome="failed", failure=failure)
    return row


def make(address: str, count: int, have: int = 0) -> float:
    """Adds rows to a store that has the first `have` of them already until there are `count`; returns the seconds."""
    taken_s = 0.0
    with open_store(address) as store:
        for run, rows in _parts(have, count):
            begin = time.perf_counter()
            store.add(run, rows)
            taken_s += time.perf_counter() - begin
    return taken_s


def _parts(have: int, count: int) -> Iterator[tuple[StoredRun, list[dict[str, Any]]]]:
    per_run = len(MODELS) * len(BACKENDS) * len(BATCHES)
    for number in range(have // per_run, -(-count // per_run)):
        at = (_BEGIN + timedelta(days=number)).isoformat(timespec="seconds")
        run = StoredRun(
            f"{_BEGIN + timedelta(days=number):%Y%m%dT%H%M%SZ}-{number:08x}", at, "0.1.0", "sweep nightly.toml"
        )
        rows = list(rows_of(number))[max(0, have - number * per_run) : count - number * per_run]
        for begin in range(0, len(rows), _ROWS_PER_TRANSACTION):
            yield run, rows[begin : begin + _ROWS_PER_TRANSACTION]


def _grown(sizes: list[int], address: str) -> None:
    print("rows | rows/s | MB | bytes/row | " + " | ".join(f"{name}: s, busy s (MB)" for name, _ in _LISTS))
    have = 0
    for size in sizes:
        seconds = make(address, size, have)
        with open_store(address) as store:
            size_bytes = store.size_bytes
        shown = "-" if size_bytes is None else f"{size_bytes / 1e6:.1f} | {size_bytes / size:.0f}"
        cells = [_listed(address, words) for _, words in _LISTS]
        print(f"{size} | {(size - have) / seconds:.0f} | {shown} | {' | '.join(cells)}", flush=True)
        have = size
    print(f"one group of {_ROWS_PER_GROUP} rows, opening among it: {_group_ms(address):.0f} ms")


def _listed(address: str, words: tuple[str, ...]) -> str:
    """Wall and processor time of the whole command, medians of three, and its peak memory."""
    command = [sys.executable, "-m", "vitprof", "results", "list", *words, "--store", address]
    seconds, busy, kilobytes = [], [], 0
    for _ in range(3):
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds.append(time.perf_counter() - begin)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        busy.append(usage.ru_utime + usage.ru_stime)
        kilobytes = max(kilobytes, usage.ru_maxrss)
    return f"{statistics.median(seconds):.2f}, {statistics.median(busy):.2f} ({kilobytes / 1e3:.0f})"


def _group_ms(address: str) -> float:
    rows = list(rows_of(10**6))[:_ROWS_PER_GROUP]
    taken = []
    for _ in range(10):
        begin = time.perf_counter()
        with open_store(address) as store:
            store.add(new_run("latency"), rows)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken) * 1e3


def _write(address: str, name: str, count: int, at_s: float) -> None:
    rows = list(rows_of(int(name)))[:_ROWS_PER_GROUP]
    run = new_run(f"writer {name}")
    time.sleep(max(0.0, at_s - time.time()))
    for index in range(0, count, _ROWS_PER_GROUP):
        part = [{**row, "model": f"w{name}-{index + place}"} for place, row in enumerate(rows)][: count - index]
        with open_store(address) as store:
            store.add(run, part)


def write_at_once(address: str, writers: int, count: int) -> float:
    """So many processes write `count` rows together, each group of eight with a store opened anew; the seconds.

    `AssertionError` where one was turned away, or a row is missing or there twice.
    """
    spawn = multiprocessing.get_context("spawn")
    at_s = time.time() + 1.0 + 0.4 * writers
    each = count // writers
    started = [spawn.Process(target=_write, args=(address, str(number), each, at_s)) for number in range(writers)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    seconds = time.time() - at_s
    assert [process.exitcode for process in started] == [0] * writers, "a writer was turned away"
    with open_store(address) as store:
        found = [row.document["model"] for row in store.rows(is_all=True)]
    wanted = {f"w{number}-{index}" for number in range(writers) for index in range(each)}
    assert len(found) == len(wanted) and set(found) == wanted, "rows are lost or there twice"
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="10000,100000", help="sizes of the store, rising")
    parser.add_argument("--make", nargs=2, metavar=("N", "FILE"))
    parser.add_argument("--writers", type=int)
    parser.add_argument("--count", type=int, default=10_000, help="rows of all writers together")
    parser.add_argument("--store", help="an empty store, a file or a URL; default: a file that is removed")
    options = parser.parse_args()
    if options.make:
        seconds = make(options.make[1], int(options.make[0]))
        print(json.dumps({"rows": int(options.make[0]), "seconds": round(seconds, 2)}))
        return
    with tempfile.TemporaryDirectory() as folder:
        address = options.store or str(Path(folder) / "results.sqlite")
        if options.writers:
            seconds = write_at_once(address, options.writers, options.count)
            print(f"{options.writers} writers, {options.count} rows: {seconds:.1f} s, none lost, none twice")
            return
        _grown([int(size) for size in options.rows.split(",")], address)


if __name__ == "__main__":
    main()
