"""Rows measured once more: what cannot be done for one of them is that one's own trouble."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.gated import row
from vitprof.devices.profiles import device, reference_model
from vitprof.gating.again import Means, measured_again
from vitprof.places import Places
from vitprof.protocols import Effort, protocol, protocol_on
from vitprof.report.progress import NoProgress


def test_what_is_gone_keeps_no_other_row_from_being_measured(here: Places, tmp_path: Path) -> None:
    place = dataclasses.replace(here, named_store=str(tmp_path / "results.sqlite"))
    rules = protocol_on(device("local", None), protocol(Effort.QUICK))
    tiny = str(reference_model("cpu-ref-1"))
    of_file = {"source": "onnx", "protocol_hash": rules.hash, "artifact": {"sha256": "0" * 64}}
    rows = [
        row(model=str(tmp_path / "gone.onnx"), **of_file),
        row(model=tiny, backend="coreml", **of_file),
        row(model=tiny, **of_file),
    ]
    found = measured_again(rows, lambda hash: None, Means(), place, NoProgress())
    assert "gone.onnx" in found.reasons[0] and "coreml" in found.reasons[1]
    # It came as far as the file, which is another one.
    assert "not the one that was measured" in found.reasons[2]
