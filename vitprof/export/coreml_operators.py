"""The counted operators of a Core ML program, kept beside the package by the names that Core ML itself uses.

Its own file because whoever joins them to what a device says (`layers`, the share of MACs that is placed where asked)
must not load coremltools for it: a saved program knows neither the modules that its operators come from nor their work.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from vitprof.counts import Kind, OpRow
from vitprof.mil import MilProgram

_FILE = "operators.json"


def write_operators(folder: Path, program: MilProgram, rows: tuple[OpRow, ...]) -> None:
    """Writes the counted `rows` of `program`, one an operator, to the artifact's `folder`."""
    named = [
        dataclasses.asdict(dataclasses.replace(row, name=op.outputs[0].name if op.outputs else row.name))
        for op, row in zip(program.ops, rows, strict=True)
    ]
    (folder / _FILE).write_text(json.dumps(named))


def read_operators(folder: Path) -> tuple[OpRow, ...] | None:
    """A row for each operator of the program in the artifact's `folder`, `name` that of its first output.

    None for an artifact of a version that kept none.
    """
    try:
        body = json.loads((folder / _FILE).read_text())
        return tuple(OpRow(**{**row, "kind": Kind(row["kind"]), "shape_out": tuple(row["shape_out"])}) for row in body)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def macs_share_without(folder: Path, names: frozenset[str]) -> float | None:
    """Which share of the program's MACs its other operators have, 0-1; None where that cannot be told."""
    rows = read_operators(folder)
    macs = sum(row.macs for row in rows or ())
    if not rows or not macs or not names <= {row.name for row in rows}:
        return None
    return 1 - sum(row.macs for row in rows if row.name in names) / macs
