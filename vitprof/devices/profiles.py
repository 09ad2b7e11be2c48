"""Device profiles: TOML files, checked on the way in, found by name.

Order: `--device-file`, the user's folder, the shipped ones. From a checkout the shipped files are those at its top;
from an installed wheel they lie inside the package: what works from the one works from the other.
"""

from __future__ import annotations

import difflib
import os
import platform
import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from platformdirs import user_config_path
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from vitprof.errors import UsageError
from vitprof.records import Device, Peak, Readiness
from vitprof.runner.backends import BACKENDS
from vitprof.runner.processor import core_numbers
from vitprof.runner.sensors import cpu_model

_PACKAGE = Path(__file__).resolve().parent.parent
# Those that peaks are known in; tf32 is what an NVIDIA GPU may compute fp32 in.
_PEAK_PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")


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
    # TOML knows inf and nan: neither is a peak, nor a time to wait.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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

    # Another profile, whose keys hold where this one does not say otherwise.
    extends: str | None = None
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
        if path.parent == folder and _is_file(path):
            return read_profile(path)
    known = [one.name for one in devices()]
    near = difflib.get_close_matches(name, known, n=3) or known
    raise UsageError(
        f"unknown device '{name}'; known: {', '.join(near)}",
        remedy=f"list them with: vitprof devices list; or write {user_folder() / (_safe(name) + '.toml')}",
        stage="device",
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A name of more letters than a file's may have.
        return False


def devices() -> tuple[Device, ...]:
    """All profiles by name, a user's own instead of a shipped one of that name."""
    paths: dict[str, Path] = {}
    for folder in (shipped_folder(), user_folder()):
        paths.update({path.stem: path for path in sorted(folder.glob("*.toml"))})
    return tuple(read_profile(paths[name]) for name in sorted(paths))


def read_profile(path: Path) -> Device:
    """The profile in `path`; `UsageError` that names file, key and what is allowed."""
    try:
        profile = Profile.model_validate(_keys(path, ()))
    except ValidationError as error:
        raise _bad(path, _told(error)) from error
    _check_together(path, profile)
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


def _keys(path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    """What `path` says, with what the profile says that it extends; `below`: those that came to this one so."""
    try:
        own = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _bad(path, f"not TOML: {error}") from error
    base_name = own.get("extends")
    if not isinstance(base_name, str):
        return own
    seen = (*below, path.resolve())
    names = {file.stem: file for folder in (shipped_folder(), user_folder()) for file in sorted(folder.glob("*.toml"))}
    # A user's own a100 extends the shipped one: a file does not extend itself.
    shipped = shipped_folder() / f"{path.stem}.toml"
    base = shipped if base_name == path.stem else names.get(base_name)
    if base is None or not base.is_file():
        near = difflib.get_close_matches(base_name, names, n=3) or sorted(names)
        raise _bad(path, f"key 'extends': there is no profile {base_name!r}; there are: {', '.join(near)}")
    if base.resolve() in seen:
        raise _bad(path, f"key 'extends': {base_name!r} is or extends this very profile")
    return _merged(_keys(base, seen), own)


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own`, and what it does not say from `base`; a peak is taken whole: no source may stand by another value."""
    merged = {**base, **own}
    for key in ("ready", "peak_macs_per_s"):
        if isinstance(base.get(key), dict) and isinstance(own.get(key), dict):
            merged[key] = {**base[key], **own[key]}
    if isinstance(base.get("options"), dict) and isinstance(own.get("options"), dict):
        merged["options"] = {**base["options"], **own["options"]}
        for backend in set(base["options"]) & set(own["options"]):
            if isinstance(own["options"][backend], dict):
                merged["options"][backend] = {**base["options"][backend], **own["options"][backend]}
    return merged


def _check_together(path: Path, profile: Profile) -> None:
    """What no key says alone."""
    for key, names in (("backends", profile.backends), ("options", profile.options)):
        unknown = sorted(set(names) - set(BACKENDS))
        if unknown:
            raise _bad(path, f"key '{key}': unknown {', '.join(unknown)}; allowed: {', '.join(sorted(BACKENDS))}")
    if not profile.backends:
        raise _bad(path, f"key 'backends' names none; allowed: {', '.join(sorted(BACKENDS))}")
    unknown = sorted(set(profile.peak_macs_per_s) - set(_PEAK_PRECISIONS))
    if unknown:
        raise _bad(path, f"key 'peak_macs_per_s': unknown {', '.join(unknown)}; allowed: {', '.join(_PEAK_PRECISIONS)}")
    if profile.transport != TransportName.LOCAL and not (profile.kind and profile.chip):
        raise _bad(path, "keys 'kind' and 'chip' are required unless transport is 'local'")
    if profile.cores is not None:
        try:
            core_numbers(profile.cores)
        except ValueError as error:
            raise _bad(path, f"key 'cores': {profile.cores!r} names no cores; write '4-7' or '0,2'") from error


def _told(error: ValidationError) -> str:
    """The first fault: the key, what is wrong with it, what is allowed."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"key '{key}' is missing"
    if first["type"] != "extra_forbidden":
        return f"key '{key}': {first['msg']} (got {first.get('input')!r})"
    allowed = sorted(_keys_beside(first["loc"]))
    near = difflib.get_close_matches(str(first["loc"][-1]), allowed, n=1)
    return f"unknown key '{key}'{f'; did you mean {near[0]!r}?' if near else ''}; allowed: {', '.join(allowed)}"


def _keys_beside(place: tuple[int | str, ...]) -> Iterable[str]:
    """Keys of the table that a key stands in: the whole profile, or one of its tables."""
    if len(place) == 1:
        return Profile.model_fields
    return ReadyEntry.model_fields if place[0] == "ready" else PeakEntry.model_fields


def _bad(path: Path, what: str) -> UsageError:
    return UsageError(f"{path}: {what}", remedy="mend the file; devices/README.md explains every key", stage="device")


def _own_kind() -> Kind:
    return Kind.ARM_CPU if platform.machine().lower() in ("aarch64", "arm64") else Kind.X86_CPU


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
