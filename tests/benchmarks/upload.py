"""What a device behind SSH costs beside the measuring: sending a file, and a second run of what is there already.

    python -m tests.benchmarks.upload

Against a real sshd on this machine. Sending: 100 MB, by scp and by vitprof in turn, so that both meet the same moods of
the machine; each makes a connection of its own, and all is inside the time (hashing here, hashing there).
A second run: the wall time of a cached `vitprof latency`, that part of it during which no runner lived there, and what
a connection alone takes.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.devices.sshd import HOST, device, running
from vitprof.devices.profiles import reference_model
from vitprof.devices.transports.ssh import SshTransport

_BYTES = 100_000_000
_TURNS = 5
_COMMANDS = 11
_SETTINGS = ("Subsystem sftp internal-sftp",)


def sending(folder: Path) -> None:
    """Rates of both, in turn, and their ratio."""
    rates: dict[str, list[float]] = {"scp": [], "vitprof": []}
    for turn in range(_TURNS):
        file = folder / f"{turn}.bin"
        file.write_bytes(os.urandom(_BYTES))
        for name in ("scp", "vitprof") if turn % 2 else ("vitprof", "scp"):
            begin = time.monotonic()
            if name == "scp":
                subprocess.run(["scp", "-q", "-S", "ssh", file, f"{HOST}:{folder / 'copy'}"], check=True)
            else:
                with contextlib.closing(SshTransport(device(), folder / "cache")) as transport:
                    transport.place(str(file))
            rates[name].append(_BYTES / (time.monotonic() - begin) / 1e6)
        file.unlink()
    for name, values in rates.items():
        print(f"{name:>8}: median {statistics.median(values):.0f} MB/s of {', '.join(f'{one:.0f}' for one in values)}")
    ratios = [ours / theirs for ours, theirs in zip(rates["vitprof"], rates["scp"], strict=True)]
    print(f"   ratio: median {statistics.median(ratios):.2f} of {', '.join(f'{one:.2f}' for one in ratios)}")


def second_run(folder: Path) -> None:
    """Wall time of a cached command, the part of it without a runner, and the time of `ssh board true`.

    The board's interpreter is a script that writes down when each runner begins and ends: nothing polls meanwhile.
    """
    lives, python = folder / "lives", folder / "python"
    python.write_text(
        "#!/bin/bash\n"
        'case "$1" in *.zip)\n'
        f'    trap "echo end \\$EPOCHREALTIME >> {lives}" EXIT\n'
        f"    echo begin $EPOCHREALTIME >> {lives};;\n"
        "esac\n"
        f'{sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    profile = folder / "board.toml"
    profile.write_text(
        f'kind = "x86-cpu"\nchip = "x"\ntransport = "ssh"\nhost = "{HOST}"\npython = "{python}"\nbackends = ["ort"]\n'
    )
    command = [sys.executable, "-m", "vitprof", "latency", str(reference_model("cpu-ref-1"))]
    command += ["--device-file", str(profile), "--measure", "20x", "--effort", "quick", "--threads", "1"]
    places = {f"VITPROF_{name}_DIR": str(folder / name.lower()) for name in ("CACHE", "DATA", "CONFIG")}
    environment = {**os.environ, **places}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    beyond_s = []
    for _ in range(_COMMANDS):
        lives.write_text("")
        begin_s = time.time()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        whole_s = time.time() - begin_s
        alone_s = whole_s - _covered_s(lives.read_text().splitlines())
        link_s = time.monotonic()
        subprocess.run(["ssh", HOST, "true"], check=True)
        link_s = time.monotonic() - link_s
        beyond_s.append(alone_s - link_s)
        print(f"a cached command: {whole_s:.2f} s, {alone_s:.2f} s without a runner, a connection {link_s:.2f} s")
    print(f"  beyond runner and connection: median {statistics.median(beyond_s):.2f} s")


def _covered_s(lines: list[str]) -> float:
    """How long at least one runner lived, from lines such as `begin 1700000000.000001`."""
    moments = sorted((float(moment), 1 if what == "begin" else -1) for what, moment in map(str.split, lines))
    alive, since_s, covered_s = 0, 0.0, 0.0
    for moment_s, step in moments:
        if alive == 0:
            since_s = moment_s
        alive += step
        if alive == 0:
            covered_s += moment_s - since_s
    assert alive == 0, lines
    return covered_s


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name, running(Path(name) / "sshd", settings=_SETTINGS):
        sending(Path(name))
        second_run(Path(name))
