"""What `devices check` found, for a terminal and as JSON.

Its own file because a device's answer is neither a result nor a profile. Everything in it comes from another machine:
it is shown with its control characters made visible.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vitprof.records import CheckedDevice
from vitprof.report.outside import encodable, plain
from vitprof.report.schema import Part, WarningPart
from vitprof.units import NOT_KNOWN, significant

if TYPE_CHECKING:
    from rich.console import Console

# In this order, under these names and in these units; what else a device tells comes after.
_FACTS = (
    ("cpu", "processor", ""),
    ("machine", "machine", ""),
    ("cores", "cores", ""),
    ("gpus", "GPUs", ""),
    ("system", "system", ""),
    ("kernel", "kernel", ""),
    ("python", "Python", ""),
    ("governor", "governor", ""),
    ("clock_hz", "clock", "Hz"),
    ("temperature_c", "temperature", "°C"),
    ("load_1min", "load over a minute", ""),
    ("power", "power", ""),
    ("battery_share", "battery", "%"),
)


class CheckDocument(Part):
    """`devices check`."""

    schema_version: int = 1
    device: str
    kind: str
    chip: str
    transport: str
    host: str | None
    # Nothing stands in the way of measuring there now.
    ready: bool
    held_by: str | None
    facts: dict[str, Any]
    # By backend of the device; null where it is not installed there.
    runtimes: dict[str, str | None]
    warnings: tuple[WarningPart, ...]


def document_from_check(checked: CheckedDevice) -> CheckDocument:
    """The document of `devices check`."""
    device = checked.device
    return CheckDocument(
        device=encodable(device.name),
        kind=device.kind,
        chip=encodable(device.chip),
        transport=device.transport,
        host=encodable(device.host) if device.host else None,
        ready=checked.is_ready,
        held_by=encodable(checked.held_by) if checked.held_by else None,
        facts={encodable(str(name)): _encodable(value) for name, value in checked.facts.items()},
        runtimes={name: encodable(one) if one else None for name, one in checked.runtimes.items()},
        warnings=tuple(
            WarningPart(code=one.code, detail=encodable(one.detail), remedy=encodable(one.remedy))
            for one in checked.doubts
        ),
    )


def show_check(checked: CheckedDevice, console: Console) -> None:
    """Print what the device is and how it stands, its runtimes, and what to type to mend what is wrong."""
    from rich.text import Text

    lines = [(label, plain(text)) for label, text in _fact_lines(checked.facts)]
    lines += [(f"runtime {name}", plain(one or "not installed")) for name, one in checked.runtimes.items()]
    lines.append(("in use", plain(checked.held_by or "no")))
    lines.append(("ready", "yes" if checked.is_ready else "no"))
    width = max(len(label) for label, _ in lines)
    console.print(Text(plain(checked.device.name), "bold"), soft_wrap=True)
    for label, text in lines:
        console.print(Text.assemble("  ", (label.ljust(width), "dim"), "  ", text), soft_wrap=True)
    if checked.doubts:
        console.print(Text("Warnings", "bold yellow"), soft_wrap=True)
    for one in checked.doubts:
        console.print(Text(f"  {one.code}: {plain(one.detail)}"), soft_wrap=True)
        console.print(Text(f"    remedy: {plain(one.remedy)}", "cyan"), soft_wrap=True)


def _fact_lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    known = {name for name, _, _ in _FACTS}
    lines = [(label, _text(facts[name], unit)) for name, label, unit in _FACTS if name in facts]
    return lines + [(str(name), _text(value, "")) for name, value in facts.items() if name not in known]


def _text(value: object, unit: str) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return NOT_KNOWN if value is None else str(value)
    if unit == "%":
        return f"{value:.0%}"
    return f"{significant(value / 1e9)} GHz" if unit == "Hz" else f"{value:g} {unit}".rstrip()


def _encodable(value: object) -> object:
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, (list, tuple)):
        return [_encodable(one) for one in value]
    if isinstance(value, Mapping):
        return {encodable(str(name)): _encodable(one) for name, one in value.items()}
    return value
