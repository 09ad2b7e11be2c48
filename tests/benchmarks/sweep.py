"""A sweep killed at random instants gives the cells of an unbroken one; and what of its time passes without a runner.

    python -m tests.benchmarks.sweep [--models 6 --backends 3 --batches 3 --sizes 2 --kills 10 --seed 0]

Three passes over one plan: the first exports and is not counted; the second is unbroken, with cached artifacts, and its
time without any runner process is what the harness costs; the third is killed with SIGKILL again and again and resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from vitprof.group import MAX_CELLS

_MODELS = (
    *("lcnet_050", "mobilenetv3_small_050", "tinynet_e"),
    *("mnasnet_small", "mobilenetv4_conv_small_050", "mobilenetv3_small_100"),
)
_BACKENDS = ("ort", "openvino", "torch")
_BATCHES = (1, 2, 4)
_SIZES = (96, 128)
_POLL_S = 0.01
_KEY = ("model", "size", "batch", "precision", "device", "backend", "threads")


class Sweep:
    """One plan in a folder of its own, with a store of its own for each pass."""

    def __init__(self, folder: Path, counts: tuple[int, int, int, int], measure: str | None) -> None:
        models, backends, batches, sizes = counts
        self.cells = models * backends * batches * sizes
        self._plan = folder / "plan.toml"
        self._folder = folder
        self._options = ["--measure", measure] if measure else []
        self._plan.write_text(
            f"models = {json.dumps(_MODELS[:models])}\nbackends = {json.dumps(_BACKENDS[:backends])}\n"
            f"batches = {json.dumps(_BATCHES[:batches])}\nsizes = {json.dumps(_SIZES[:sizes])}\n"
            'threads = [1]\neffort = "quick"\n'
        )
        self._environment = {**os.environ, "VITPROF_DATA_DIR": str(folder / "data")}

    def store(self, name: str) -> Path:
        return self._folder / f"{name}.sqlite"

    def started(self, name: str, *more: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "vitprof", "sweep", str(self._plan), "--store", str(self.store(name)), *more]
        words += self._options
        log = (self._folder / f"{name}.log").open("a")
        return subprocess.Popen(words, text=True, stdout=subprocess.PIPE, stderr=log, env=self._environment)

    def unbroken(self, name: str) -> tuple[Counter[str], float, float, float]:
        """The cells of one whole run, its wall time, the parts of it without any runner and with none at work."""
        begun_s = time.monotonic()
        process = self.started(name, "--json", str(self._folder / f"{name}.json"))
        alone_s, idle_s = _seconds_of_host(process)
        wall_s = time.monotonic() - begun_s
        process.communicate()
        return self.cells_of(name), wall_s, alone_s, idle_s

    def killed(self, name: str, kills: int, lifetime_s: float, seed: int) -> tuple[Counter[str], int]:
        """The cells of one run that is killed so often, each time after up to `lifetime_s`; and how often it was."""
        chance = random.Random(seed)
        into = ("--json", str(self._folder / f"{name}.json"))
        killed = 0
        while killed < kills:
            process = self.started(name, *into, *(["--resume"] if killed else []))
            try:
                process.communicate(timeout=chance.uniform(0.0, lifetime_s))
                return self.cells_of(name), killed
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                killed += 1
                print(f"  killed {killed}: {self.filled(name)} cells are stored", flush=True)
        self.started(name, *into, "--resume").communicate()
        return self.cells_of(name), killed

    def filled(self, name: str) -> int:
        """So many cells have a row, of all runs in the store."""
        try:
            with sqlite3.connect(self.store(name)) as database:
                [(count,)] = database.execute("SELECT count(*) FROM sweep_cells WHERE result IS NOT NULL")
        except sqlite3.OperationalError:
            # It was killed before it had made a store.
            return 0
        return int(count)

    def cells_of(self, name: str) -> Counter[str]:
        """How often each cell was measured, by what the last command wrote."""
        rows = json.loads((self._folder / f"{name}.json").read_text())["results"]
        return Counter(json.dumps([row[key] for key in _KEY]) for row in rows)


def _seconds_of_host(process: subprocess.Popen[str]) -> tuple[float, float]:
    """Seconds in which no runner lives, and in which none is at work: those that sleep wait for the host."""
    host, alone_s, idle_s, last_s = psutil.Process(process.pid), 0.0, 0.0, time.monotonic()
    while process.poll() is None:
        time.sleep(_POLL_S)
        now_s = time.monotonic()
        states = list(_states(host))
        alone_s += 0 if states else now_s - last_s
        idle_s += 0 if set(states) - {psutil.STATUS_SLEEPING} else now_s - last_s
        last_s = now_s
    return alone_s, idle_s


def _states(host: psutil.Process) -> Iterator[str]:
    try:
        children = host.children()
    except psutil.NoSuchProcess:
        return
    for child in children:
        try:
            state = child.status()
        except psutil.NoSuchProcess:
            continue
        if state != psutil.STATUS_ZOMBIE:
            yield state


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, most in (("models", len(_MODELS)), ("backends", 3), ("batches", 3), ("sizes", 2)):
        parser.add_argument(f"--{name}", type=int, default=most)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    # For a look that takes minutes: 30x.
    parser.add_argument("--measure")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitprof-sweep-") as folder:
        sweep = Sweep(Path(folder), (asked.models, asked.backends, asked.batches, asked.sizes), asked.measure)
        first, first_s, *_ = sweep.unbroken("first")
        print(f"{sweep.cells} cells, exported and measured in {first_s:.0f} s", flush=True)
        whole, wall_s, alone_s, idle_s = sweep.unbroken("unbroken")
        shares = f"without any runner {alone_s:.1f} s = {alone_s / wall_s:.1%}, with none at work {idle_s / wall_s:.1%}"
        print(f"unbroken, cached: {wall_s:.0f} s, {shares}", flush=True)
        # Longer than a group, or it would never get on; so short that it is killed as often as asked.
        lifetime_s = max(1.5 * wall_s / max(1, asked.kills), 2.5 * wall_s * MAX_CELLS / sweep.cells)
        cells, killed = sweep.killed("killed", asked.kills, lifetime_s, asked.seed)
        twice = [cell for cell, count in cells.items() if count > 1]
        print(f"killed {killed} times: {len(cells)} cells, {len(set(whole) - set(cells))} lost, {len(twice)} twice")
        print(f"rows in the store: {sweep.filled('killed')}; the same cells: {set(cells) == set(whole) == set(first)}")


if __name__ == "__main__":
    main()
