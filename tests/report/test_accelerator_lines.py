"""What a result on an accelerator says beside that of a processor."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.report import samples
from vitprof.measurements import Energy
from vitprof.records import Result
from vitprof.report.block import lines_of
from vitprof.report.document import json_text, rows_from_results


def _on_gpu() -> Result:
    result = samples.ok()
    assert result.summary is not None
    summary = replace(
        result.summary,
        build_spread=0.031,
        peak_rss_measuring_bytes=180_000_000,
        peak_device_bytes=1_500_000_000,
        peak_device_nvml_bytes=1_900_000_000,
        device_p50_ns=2.5e6,
        energy=Energy("NVML: energy counter", 0.01234, 251.5, 70.0, 0.00891),
        launch_share=0.3125,
    )
    return replace(result, summary=summary)


def test_the_device_s_own_figures_have_lines_of_their_own() -> None:
    lines = {line.label: line.phrases for line in lines_of(_on_gpu())}
    assert "p50 2.500 ms by the GPU's own clock" in lines["device time"][0]
    assert lines["memory"] == (
        "212.0 MB peak of the runner process",
        "180.0 MB of it while it measured",
        "1.500 GB of the device's memory by the runtime",
        "1.900 GB by NVML",
    )
    assert lines["energy"] == (
        "12.34 mJ an image, rest included",
        "8.910 mJ above rest",
        "251.5 W while it ran",
        "70.00 W at rest",
        "by NVML: energy counter",
    )
    assert "within 3.1%" in lines["builds"][1]
    assert lines["launches"][0].startswith("31.2% of a call")
    assert not {"device time", "builds", "launches", "energy"} & {line.label for line in lines_of(samples.ok())}


def test_the_document_has_them_too() -> None:
    [row] = json.loads(json_text(rows_from_results((_on_gpu(),), with_samples=False)))["results"]
    assert row["latency_ns"]["device_p50"] == 2_500_000
    assert row["memory"] == {
        "peak_rss_bytes": 212_000_000,
        "peak_rss_measuring_bytes": 180_000_000,
        "peak_device_bytes": 1_500_000_000,
        "peak_device_nvml_bytes": 1_900_000_000,
    }
    assert row["energy_j_per_image"] == 0.01234
    assert row["energy"] == {
        "source": "NVML: energy counter",
        "j_per_image": 0.01234,
        "j_above_idle_per_image": 0.00891,
        "power_w": 251.5,
        "idle_power_w": 70.0,
    }
    assert row["launch_share"] == 0.3125
