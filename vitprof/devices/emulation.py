"""The emulated board: what it consists of, where it lies, and how it is made.

    <cache>/environments/emulated-a72-<hash of its pins>/
        root/            python3 and the libraries of an aarch64 Debian
        site/            numpy and ONNX Runtime for aarch64
        qemu-aarch64     QEMU 10, one static file
    <cache>/environments/emulated-a72-counting-<hash>/
        site/            the newest ONNX Runtime that QEMU 7.2 can run
        qemu/            QEMU 7.2, the last that Debian builds with its plugin interface
        counter.so       our plugin, which counts the instructions that are executed

Its own file because all pins of the board stand here. Two set-ups, as no QEMU of Debian can both run a current ONNX
Runtime and count (docs/decisions/0025). Each appears whole, by one rename, after it has run its runtime once.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitprof.devices import debian
from vitprof.devices.counter_plugin import SOURCE
from vitprof.environments import run_shown
from vitprof.errors import UnreachableError, VitprofError
from vitprof.folders import made_whole
from vitprof.records import Device
from vitprof.runner import hold
from vitprof.runner.instructions import FILE_VARIABLE
from vitprof.runner.sensors import EMULATOR_VARIABLE

CPU = "cortex-a72"
_ARCHITECTURE = "arm64"
_RELEASE, _COUNTING_RELEASE = "trixie", "bookworm"
_PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "zlib1g", "libgomp1")
# Of that release; wheels are made for one version.
_PYTHON = "3.13"
_NUMPY = "numpy==2.4.6 --hash=sha256:72fbe16c6fac95aedf5937fa873445cec2110be35d8a4e9433d7501fd98dae6b"
_ORT = "onnxruntime==1.31.1 --hash=sha256:dcaedc50333876f3829ab966b242147f0e548229e29c36fe44622ecf748c25ee"
# Of those that were tried, the newest that QEMU 7.2 survives the import of; 1.28.0 and 1.31.1 are killed there.
_COUNTING_ORT = "onnxruntime==1.24.1 --hash=sha256:1099f3629832580fedf415cfce2462a56cc9ca2b560d6300c24558e2ac049134"
_WHEEL_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
_DISK, _COUNTING_DISK = "230 MB", "160 MB"
_FACTS = "facts.json"
_REPORT = "report this with the output of: vitprof doctor"
# Of what `_make` and `_make_counting` put where; another one is another folder.
_LAYOUT = "layout 1"


@dataclass(frozen=True)
class Board:
    """A set-up that is there: how a program of aarch64 is started in it."""

    # Everything up to the program's own name; without the environment of this process.
    command: tuple[str, ...]
    # For the record, as `qemu-aarch64 10.0.13, cortex-a72`.
    emulator: str


def folder_of(cache_root: Path) -> Path:
    """Where the board is, or would be: other pins are another folder."""
    return _folder(cache_root, "emulated-a72", (_LAYOUT, CPU, _RELEASE, *_PACKAGES, _NUMPY, _ORT))


def counting_folder_of(cache_root: Path) -> Path:
    """Where the one that counts instructions is, or would be; it uses the other's root."""
    pins = (folder_of(cache_root).name, _COUNTING_RELEASE, _NUMPY, _COUNTING_ORT, SOURCE)
    return _folder(cache_root, "emulated-a72-counting", pins)


def board(device: Device, cache_root: Path) -> Board:
    """The board of `device`; `UnreachableError` where it is not set up or cannot be here."""
    _check_host(device)
    folder = folder_of(cache_root)
    if not folder.is_dir():
        raise _not_set_up(device, "is not set up yet")
    return _board(folder, folder / "root", folder / "site", [str(folder / "qemu-aarch64")])


def counting_board(device: Device, cache_root: Path, counter: Path) -> Board:
    """The same with a plugin that adds every executed instruction to the eight bytes in `counter`."""
    board(device, cache_root)
    folder = counting_folder_of(cache_root)
    if not folder.is_dir():
        raise _not_set_up(device, "is set up, but not to count instructions (that needs a C compiler)")
    return _counting_board(folder, folder_of(cache_root) / "root", counter)


def announcement(device: Device, cache_root: Path) -> str:
    """What `set_up` installs, and where: to be said before anything is fetched. Empty where nothing is left to do."""
    parts = []
    if not folder_of(cache_root).is_dir():
        parts += [
            f"an aarch64 root of Debian {_RELEASE} (python3 and what ONNX Runtime needs) and its static qemu-aarch64",
            f"wheels for aarch64: {_name(_NUMPY)}, {_name(_ORT)}; in all about {_DISK}",
            f"into {folder_of(cache_root)}",
        ]
    if not counting_folder_of(cache_root).is_dir():
        parts += [
            f"to count instructions: qemu-aarch64 of Debian {_COUNTING_RELEASE}, a plugin that is compiled here,",
            f"wheels for aarch64: {_name(_NUMPY)}, {_name(_COUNTING_ORT)}; in all about {_COUNTING_DISK}",
            f"into {counting_folder_of(cache_root)}",
        ]
    lead = f"{device.name} installs, in vitprof's cache and nowhere else:"
    return "\n  ".join((lead, *parts)) if parts else ""


def set_up(device: Device, cache_root: Path) -> tuple[Path, ...]:
    """The folders of both set-ups, made now where they are missing; only the first where there is no C compiler.

    `UnreachableError` where this host cannot have them, `VitprofError` where making one fails.
    """
    _check_host(device)
    folder, counting = folder_of(cache_root), counting_folder_of(cache_root)
    if not folder.is_dir():
        debian.check_host()
        with made_whole(folder, "setup") as making:
            _make(making)
    if not counting.is_dir() and _compiler():
        debian.check_host()
        with made_whole(counting, "setup") as making:
            _make_counting(making, folder / "root")
    return tuple(one for one in (folder, counting) if one.is_dir())


def lacking(device: Device, cache_root: Path) -> str:
    """What `set_up` left out, and what to type for it; empty where nothing is missing."""
    if counting_folder_of(cache_root).is_dir():
        return ""
    again = f"sudo apt install gcc libc6-dev, then again: vitprof devices setup {device.name}"
    return f"it cannot count instructions yet, as this machine has no C compiler: {again}"


def remove(cache_root: Path, *, everything: bool) -> tuple[Path, ...]:
    """The folders that were removed: those of older pins, or all."""
    current = () if everything else (folder_of(cache_root), counting_folder_of(cache_root))
    found = tuple(one for one in sorted(_root(cache_root).glob("emulated-a72-*")) if one not in current)
    for folder in found:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def make_root(root: Path, packages: Sequence[str]) -> None:
    """Unpacks `packages` for aarch64, and all that they need, under `root`."""
    with tempfile.TemporaryDirectory(prefix="vitprof-") as work:
        debian.unpack(debian.fetch(packages, _RELEASE, _ARCHITECTURE, Path(work)), root)


def make_qemu(file: Path) -> None:
    """Puts the static emulator there: the one file of its package that is needed."""
    with tempfile.TemporaryDirectory(prefix="vitprof-") as work:
        (Path(work) / "root").mkdir()
        debian.unpack(debian.fetch(("qemu-user",), _RELEASE, "amd64", Path(work)), Path(work) / "root")
        shutil.copy2(Path(work) / "root/usr/bin/qemu-aarch64", file)


def make_site(site: Path, pins: Sequence[str] = (_NUMPY, _ORT)) -> None:
    """Installs wheels for aarch64, each the very file of its pin, into `site`."""
    with tempfile.TemporaryDirectory(prefix="vitprof-") as work:
        file = Path(work) / "requirements.txt"
        file.write_text("\n".join(pins) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--require-hashes", "--target", str(site), "--requirement", str(file)]
        command += ["--python-version", _PYTHON, "--implementation", "cp", "--abi", f"cp{_PYTHON.replace('.', '')}"]
        command += [word for name in _WHEEL_PLATFORMS for word in ("--platform", name)]
        run_shown(command, "check the network and that pip is there: python -m pip --version")


def _make(making: Path) -> None:
    (making / "root").mkdir()
    make_root(making / "root", _PACKAGES)
    make_site(making / "site")
    make_qemu(making / "qemu-aarch64")
    _write_facts(making, [str(making / "qemu-aarch64")])
    _try(_board(making, making / "root", making / "site", [str(making / "qemu-aarch64")]), _name(_ORT))


def _make_counting(making: Path, root: Path) -> None:
    qemu = making / "qemu"
    with tempfile.TemporaryDirectory(prefix="vitprof-") as work:
        files = debian.fetch(("qemu-user",), _COUNTING_RELEASE, "amd64", Path(work))
        whole = Path(work) / "whole"
        whole.mkdir()
        debian.unpack(files, whole)
        # The other processors' emulators and the documentation take most of the room.
        qemu.mkdir()
        shutil.copy2(whole / "usr/bin/qemu-aarch64", qemu)
        shutil.copytree(whole / "usr/lib/x86_64-linux-gnu", qemu / "lib", symlinks=True)
    make_site(making / "site", (_NUMPY, _COUNTING_ORT))
    source = making / "counter.c"
    source.write_text(SOURCE, encoding="utf-8")
    compile_ = [_compiler() or "cc", "-O2", "-shared", "-fPIC", "-o", str(making / "counter.so"), str(source)]
    run_shown(compile_, "sudo apt install gcc libc6-dev")
    _write_facts(making, _loaded(qemu))
    counter = making / "tried"
    counter.write_bytes(bytes(8))
    _try(_counting_board(making, root, counter), _name(_COUNTING_ORT))
    if not any(counter.read_bytes()):
        raise VitprofError("the emulator ran, and its plugin counted nothing", remedy=_REPORT, stage="setup")
    counter.unlink()


def _board(folder: Path, root: Path, site: Path, qemu: list[str], counter: Path | None = None) -> Board:
    """Programs of the root run with nothing of this process's environment: what is there is in every run the same."""
    emulator = json.loads((folder / _FACTS).read_text(encoding="utf-8"))["emulator"]
    variables = {
        "LANG": "C.UTF-8",
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(site),
        # Sets and dictionaries in one order: it moves a count by 2e-5.
        "PYTHONHASHSEED": "0",
        EMULATOR_VARIABLE: emulator,
    }
    plugin: tuple[str, ...] = ()
    if counter is None:
        # It can be asked who has the lock.
        variables |= {name: os.environ[name] for name in (hold.FOLDER_VARIABLE,) if name in os.environ}
    else:
        variables[FILE_VARIABLE] = str(counter)
        # A comma ends a value; two are one.
        library, into = (str(path).replace(",", ",,") for path in (folder / "counter.so", counter))
        plugin = ("-plugin", f"{library},into={into}")
    # Paths that the root has are the root's, all others the host's; a child process would run on the host's own
    # processor, but the runner starts none.
    command = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
    command += [*qemu, "-cpu", CPU, *plugin, "-L", str(root)]
    return Board((*command, str(root / "usr/bin/python3")), emulator)


def _counting_board(folder: Path, root: Path, counter: Path) -> Board:
    return _board(folder, root, folder / "site", _loaded(folder / "qemu"), counter)


def _loaded(qemu: Path) -> list[str]:
    """The emulator started by its own dynamic loader: the host's libraries may be others."""
    return [str(qemu / "lib/ld-linux-x86-64.so.2"), "--library-path", str(qemu / "lib"), str(qemu / "qemu-aarch64")]


def _write_facts(folder: Path, qemu: list[str]) -> None:
    """`qemu-aarch64 10.0.13, cortex-a72`, asked of the emulator itself."""
    said = _said([*qemu, "--version"]).split()
    version = next((word for word in said if word[:1].isdigit()), "n/a")
    facts = {"emulator": f"qemu-aarch64 {version}, {CPU}"}
    (folder / _FACTS).write_text(json.dumps(facts) + "\n", encoding="utf-8")


def _try(board: Board, ort: str) -> None:
    """Imports ONNX Runtime once: the emulator bears it, and Python keeps what it has compiled."""
    program = "import numpy, onnxruntime, platform; print(platform.machine(), onnxruntime.__version__)"
    said = _said([*board.command, "-c", program]).split()
    if said != ["aarch64", ort.partition(" ")[2]]:
        raise VitprofError(f"the emulated Python says {' '.join(said)!r}, not aarch64 and {ort}", remedy=_REPORT)


def _check_host(device: Device) -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise UnreachableError(
            f"device '{device.name}' is emulated on Linux x86-64; this is {platform.system()} {platform.machine()}",
            remedy="run vitprof on such a machine, or in a container there",
            stage="device",
        )


def _not_set_up(device: Device, what: str) -> UnreachableError:
    return UnreachableError(
        f"device '{device.name}' {what}", remedy=f"vitprof devices setup {device.name}", stage="device"
    )


def _folder(cache_root: Path, name: str, pins: Sequence[str]) -> Path:
    content = hashlib.sha256("\n".join(pins).encode()).hexdigest()[:12]
    return _root(cache_root) / f"{name}-{content}"


def _root(cache_root: Path) -> Path:
    return cache_root.absolute() / "environments"


def _compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc")


def _name(pin: str) -> str:
    """`numpy 2.4.6` of a pin."""
    return pin.split(maxsplit=1)[0].replace("==", " ")


def _said(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        words = done.stderr.strip().splitlines()[-1:] or ["no word"]
        message = f"the emulator ended with status {done.returncode}: {words[0]}"
        raise VitprofError(message, remedy=_REPORT, stage="setup")
    return done.stdout
