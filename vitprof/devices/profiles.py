"""Device profiles: TOML files, checked on the way in, found by name.

Order: `--device-file`, the user's folder, the shipped ones. From a checkout the shipped files are those at its top;
from an installed wheel they lie inside the package: what works from the one works from the other.
"""

from __future__ import annotations

import difflib
import os
import platform
import tomllib
from enum import StrEnum
from pathlib import Path

from platformdirs import user_config_path
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from vitprof.errors import UsageError
from vitprof.records import Device, Peak, Readiness
from vitprof.runner.backends import BACKENDS
from vitprof.runner.sensors import cpu_model

_PACKAGE = Path(__file__).resolve().parent.parent


class Kind(StrEnum):
    GPU = "gpu"
    MOBILE_GPU = "mobile-gpu"
    ARM_CPU = "arm-cpu"
    X86_CPU = "x86-cpu"
    BROWSER = "browser"
    EMULATED = "emulated"


class TransportName(StrEnum):
    LOCAL = "local"
    SSH = "ssh"
    ADB = "adb"
    BROWSER = "browser"
    EMULATED = "emulated"


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PeakEntry(_Checked):
    value: float = Field(gt=0)
    source: str = Field(min_length=1)


class ReadyEntry(_Checked):
    max_load: float | None = Field(default=None, gt=0)
    max_temperature_c: float | None = Field(default=None, gt=0)
    min_battery_share: float | None = Field(default=None, ge=0, le=1)
    on_mains: StrictBool = False
    wait_s: float = Field(default=600.0, ge=0)


class Profile(_Checked):
    """What a profile may say; `devices/README.md` explains every key."""

    transport: TransportName
    # Left out where the device is this machine: then they are its own.
    kind: Kind | None = None
    chip: str | None = None
    backends: list[str]
    host: str | None = None
    python: str | None = None
    requirements: list[str] = []
    match: str | None = None
    cores: str | None = None
    ready: ReadyEntry = ReadyEntry()
    threads: int | None = Field(default=None, ge=1)
    peak_macs_per_s: dict[str, PeakEntry] = {}
    peak_bytes_per_s: PeakEntry | None = None
    options: dict[str, dict[str, StrictBool | StrictInt | StrictStr]] = {}
    notes: str = ""


def shipped_folder() -> Path:
    """Where the shipped profiles and the reference models lie."""
    inside_wheel = _PACKAGE / "device_data"
    return inside_wheel if inside_wheel.is_dir() else _PACKAGE.parent / "devices"


def user_folder() -> Path:
    """Where a user's own profiles lie: `~/.config/vitprof/devices` unless VITPROF_CONFIG_DIR says otherwise."""
    override = os.environ.get("VITPROF_CONFIG_DIR")
    return (Path(override) if override else user_config_path("vitprof")) / "devices"


def calibration_models() -> Path:
    """The file whose factories build the models that peaks are measured with."""
    return shipped_folder() / "calibration.py"


def reference_model(name: str) -> Path:
    return shipped_folder() / "reference" / f"{name}.onnx"


def device(name: str, device_file: Path | None = None) -> Device:
    """The device called `name`; `UsageError` with the nearest names where there is none."""
    if device_file is not None:
        return read_profile(device_file)
    for folder in (user_folder(), shipped_folder()):
        path = folder / f"{name}.toml"
        if path.parent == folder and path.is_file():
            return read_profile(path)
    known = [one.name for one in devices()]
    near = difflib.get_close_matches(name, known, n=3) or known
    raise UsageError(
        f"unknown device '{name}'; known: {', '.join(near)}",
        remedy=f"list them with: vitprof devices list; or write {user_folder() / (_safe(name) + '.toml')}",
        stage="device",
    )


def devices() -> tuple[Device, ...]:
    """All profiles by name, a user's own instead of a shipped one of that name."""
    paths: dict[str, Path] = {}
    for folder in (shipped_folder(), user_folder()):
        paths.update({path.stem: path for path in sorted(folder.glob("*.toml"))})
    return tuple(read_profile(paths[name]) for name in sorted(paths))


def read_profile(path: Path) -> Device:
    """The profile in `path`; `UsageError` that names file, key and what is allowed."""
    try:
        profile = Profile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _bad(path, f"not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise _bad(path, f"key '{key}': {first['msg']} (got {first.get('input')!r})") from error
    for key, names in (("backends", profile.backends), ("options", profile.options)):
        unknown = sorted(set(names) - set(BACKENDS))
        if unknown:
            raise _bad(path, f"key '{key}': unknown {', '.join(unknown)}; allowed: {', '.join(sorted(BACKENDS))}")
    if profile.transport != TransportName.LOCAL and not (profile.kind and profile.chip):
        raise _bad(path, "keys 'kind' and 'chip' are required unless transport is 'local'")
    return Device(
        name=path.stem,
        kind=(profile.kind or _own_kind()).value,
        chip=profile.chip or cpu_model(),
        transport=profile.transport.value,
        backends=tuple(profile.backends),
        host=profile.host,
        python=profile.python,
        requirements=tuple(profile.requirements),
        cores=profile.cores,
        ready=Readiness(**profile.ready.model_dump()),
        match=profile.match,
        threads=profile.threads,
        peak_macs_per_s={name: Peak(one.value, one.source) for name, one in profile.peak_macs_per_s.items()},
        peak_bytes_per_s=Peak(profile.peak_bytes_per_s.value, profile.peak_bytes_per_s.source)
        if profile.peak_bytes_per_s
        else None,
        options={backend: dict(given) for backend, given in profile.options.items()},
        notes=profile.notes,
    )


def _bad(path: Path, what: str) -> UsageError:
    return UsageError(f"{path}: {what}", remedy="mend the file; devices/README.md explains every key", stage="device")


def _own_kind() -> Kind:
    return Kind.ARM_CPU if platform.machine().lower() in ("aarch64", "arm64") else Kind.X86_CPU


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
