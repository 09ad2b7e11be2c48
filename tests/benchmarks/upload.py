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

import psutil

from tests.devices.sshd import HOST, Sshd, device, running
from vitprof.devices.profiles import reference_model
from vitprof.devices.transports.ssh import SshTransport

_BYTES = 100_000_000
_TURNS = 5
_POLL_S = 0.05
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


def second_run(server: Sshd, folder: Path) -> None:
    """Wall time of a cached command, the part of it without a runner, and the time of `ssh board true`."""
    profile = folder / "board.toml"
    profile.write_text(
        f'kind = "x86-cpu"\nchip = "x"\ntransport = "ssh"\nhost = "{HOST}"\npython = "{sys.executable}"\n'
        'backends = ["ort"]\n'
    )
    command = [sys.executable, "-m", "vitprof", "latency", str(reference_model("cpu-ref-1"))]
    command += ["--device-file", str(profile), "--measure", "20x", "--effort", "quick", "--threads", "1"]
    places = {f"VITPROF_{name}_DIR": str(folder / name.lower()) for name in ("CACHE", "DATA", "CONFIG")}
    environment = {**os.environ, **places}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    for _ in range(_TURNS):
        begin = last = time.monotonic()
        alone_s = 0.0
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        while process.poll() is None:
            time.sleep(_POLL_S)
            now = time.monotonic()
            alone_s += 0.0 if _has_runner(server) else now - last
            last = now
        link_s = time.monotonic()
        subprocess.run(["ssh", HOST, "true"], check=True)
        link_s = time.monotonic() - link_s
        print(f"a cached command: {last - begin:.2f} s, {alone_s:.2f} s without a runner, a connection {link_s:.2f} s")


def _has_runner(server: Sshd) -> bool:
    with contextlib.suppress(psutil.Error):
        for one in psutil.Process(server.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                words = one.cmdline()
                if len(words) == 2 and words[1].endswith(".zip"):
                    return True
    return False


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name, running(Path(name) / "sshd", settings=_SETTINGS) as server:
        sending(Path(name))
        second_run(server, Path(name))
