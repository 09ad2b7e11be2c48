"""What a result on an accelerator says beside that of a processor."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.report import samples
from vitprof.records import Result
from vitprof.report.block import lines_of
from vitprof.report.document import json_text, rows_from_results


def _on_gpu() -> Result:
    result = samples.ok()
    assert result.summary is not None
    told = {"peak_device_bytes": 1_500_000_000, "device_p50_ns": 2.5e6, "energy_j_per_image": 0.01234}
    told["launch_share"] = 0.3125
    return replace(result, summary=replace(result.summary, build_spread=0.031, **told))


def test_the_device_s_own_figures_have_lines_of_their_own() -> None:
    lines = {line.label: line.phrases for line in lines_of(_on_gpu())}
    assert "p50 2.500 ms by the GPU's own clock" in lines["device time"][0]
    assert lines["memory"][1:] == ("1.500 GB of the GPU's memory", "0.0123 J an image, idle power included")
    assert "within 3.1%" in lines["builds"][1]
    assert lines["launches"][0].startswith("31.2% of a call")
    assert not {"device time", "builds", "launches"} & {line.label for line in lines_of(samples.ok())}


def test_the_document_has_them_too() -> None:
    [row] = json.loads(json_text(rows_from_results((_on_gpu(),), with_samples=False)))["results"]
    assert row["latency_ns"]["device_p50"] == 2_500_000
    assert (row["memory"]["peak_device_bytes"], row["energy_j_per_image"]) == (1_500_000_000, 0.01234)
    assert row["launch_share"] == 0.3125
