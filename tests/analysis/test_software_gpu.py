from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.analysis.series import samples_from_ratios
from vitprof.analysis.summary import summarise
from vitprof.measurements import Grade, Samples
from vitprof.protocols import protocol


def _on(gpu: dict[str, object]) -> Samples:
    steady = np.random.default_rng(0).normal(2.0, 0.005, 40)
    samples = samples_from_ratios([steady, steady, steady])
    sets = tuple(
        replace(one, ready=replace(one.ready, environment={**one.ready.environment, **gpu})) for one in samples.sets
    )
    return replace(samples, sets=sets)


def test_a_renderer_in_software_is_told_and_graded_c() -> None:
    software = {"gpu_is_software": True, "gpu": "a renderer in software"}
    for gpu, grade, codes in (({"gpu_is_software": False}, Grade.A, []), (software, Grade.C, ["software gpu"])):
        summary = summarise(_on(gpu), protocol(), batch=1, macs_per_image=1, reference_long_run_ns=None)
        assert summary is not None and summary.relative is not None
        assert (summary.grade, summary.relative.grade) == (grade, grade)
        assert [doubt.code for doubt in summary.warnings] == codes
