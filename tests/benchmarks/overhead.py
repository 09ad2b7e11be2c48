"""What the harness itself costs: per sample in the runner, and per command in the host.

    python -m tests.benchmarks.overhead

The loop's overhead is a sample of the fake backend's empty call less the cost of one reading of the clock. The host's
share is the wall time of a cached `vitprof latency` less the time during which any runner process lived.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time

import psutil

from vitprof.devices.transports.local import LocalTransport
from vitprof.places import places
from vitprof.runner.wire import Block, BlockRequest, Plan, Ready

_COMMAND = (sys.executable, "-m", "vitprof", "latency", "mobilenetv3_small_100", "--threads", "1")
_POLL_S = 0.005


def per_sample() -> None:
    link = LocalTransport(places().cache_root).start(Plan("fake"))
    ready = link.receive(60)
    assert isinstance(ready, Ready)
    link.send(BlockRequest(0))
    block = link.receive(60)
    assert isinstance(block, Block)
    link.close()
    sample_ns = statistics.median(block.samples_ns) / ready.calls_per_sample
    print(
        f"an empty call: {sample_ns:.0f} ns a call over {len(block.samples_ns):,} samples of "
        f"{ready.calls_per_sample} calls; clock {ready.clock_cost_ns} ns a reading; "
        f"the loop adds {ready.loop_overhead_ns} ns to a sample"
    )


def per_command() -> None:
    """Wall time of the command, the part of it without any runner, and the host's peak memory."""
    subprocess.run(_COMMAND, capture_output=True, check=True)
    begin = time.monotonic()
    process = subprocess.Popen(_COMMAND, stdout=subprocess.DEVNULL)
    alone_s, peak_bytes = 0.0, 0
    stop = threading.Event()
    host = psutil.Process(process.pid)
    last = begin
    while process.poll() is None and not stop.wait(_POLL_S):
        now = time.monotonic()
        try:
            runners = [child for child in host.children() if child.status() != psutil.STATUS_ZOMBIE]
            peak_bytes = max(peak_bytes, host.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        alone_s += 0 if runners else now - last
        last = now
    wall_s = time.monotonic() - begin
    print(f"a cached command: {wall_s:.1f} s, {alone_s:.2f} s without a runner; host peak {peak_bytes / 1e6:.0f} MB")


if __name__ == "__main__":
    per_sample()
    per_command()
