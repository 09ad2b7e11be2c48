"""A report of Xcode beside the artifact that it measured: counts, placement, and who is not taken for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("coremltools")

from tests import xcode
from tests.test_prepare_coreml import FACTORY
from vitprof.analysis.layers import layer_profile
from vitprof.cells import CellSamples
from vitprof.errors import UsageError
from vitprof.export.coreml_operators import macs_share_without, read_operators
from vitprof.measurements import StopReason
from vitprof.prepare import prepare
from vitprof.records import Artifact, ModelSpec, Precision, Source
from vitprof.rows import _placement_macs_share as placement_macs_share
from vitprof.runner.wire import Profile, ProfiledOp
from vitprof.store.xcode_reports import XcodeReport, read_report
from vitprof.xcode_results import artifact_of, result_of

# Of the convolution (8 x 8 x 8 outputs of 3 x 3 x 3) and of the linear layer (8 by 5).
STEM_MACS, HEAD_MACS = 512 * 27, 40


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Artifact:
    path = tmp_path_factory.mktemp("source") / "net.py"
    path.write_text(FACTORY)
    spec = ModelSpec("net.py:net", Source.PYTHON, precision=Precision.FP16, path=str(path), factory="net")
    return prepare(spec, "coreml", root)


def _report(folder: Path, artifact: Artifact, **changed: Any) -> XcodeReport:
    """Of this artifact, its linear layer on the CPU."""
    rows = read_operators(artifact.folder) or ()
    operations = [
        xcode.operation(row.name, f"ios16.{row.op}", "cpu" if row.op == "linear" else "neuralEngine", 1 / len(rows))
        for row in rows
    ]
    facts = {"file_name": "net-net-fp16", "size": artifact.bytes, "shape": artifact.input_shape, **changed}
    return read_report(xcode.write(folder, xcode.report(operations, **facts)))


def test_operators_are_kept_by_the_names_of_the_program_with_modules_and_work(artifact: Artifact) -> None:
    rows = read_operators(artifact.folder) or ()
    products = {row.module: row.macs for row in rows if row.macs}
    assert products == {"stem": STEM_MACS, "head": HEAD_MACS}
    assert len({row.name for row in rows}) == len(rows)


def test_the_share_of_macs_without_some_operators(artifact: Artifact) -> None:
    rows = read_operators(artifact.folder) or ()
    head = frozenset(row.name for row in rows if row.module == "head")
    assert macs_share_without(artifact.folder, head) == pytest.approx(STEM_MACS / (STEM_MACS + HEAD_MACS))
    assert macs_share_without(artifact.folder, frozenset()) == 1.0
    # A name of another program: nothing is known.
    assert macs_share_without(artifact.folder, head | {"another"}) is None
    assert macs_share_without(artifact.folder.parent, head) is None


def test_an_estimated_profile_is_joined_to_modules_by_those_names(artifact: Artifact) -> None:
    rows = read_operators(artifact.folder) or ()
    ops = tuple(ProfiledOp(row.name, row.op, 100.0, members=(row.name,), placed="ane") for row in rows)
    found = layer_profile(Profile(ops, 1000.0, 5, is_estimate=True), rows, batch=1, depth=1)
    assert found.is_estimate and found.unseen_macs_share == 0.0 and not found.unattributed_share
    assert {one.name for one in found.by_module} >= {"stem", "head"}
    assert {op.placed for op in found.ops} == {"ane"}


def test_the_row_has_the_counts_of_the_artifact_and_where_its_macs_run(
    artifact: Artifact, root: Path, tmp_path: Path
) -> None:
    report = _report(tmp_path, artifact)
    assert artifact_of(report, root) == artifact
    result = result_of(report, artifact, device="iphone13")
    assert result.artifact == artifact and result.spec.name == "net.py:net"
    assert result.placement_macs_share == pytest.approx(STEM_MACS / (STEM_MACS + HEAD_MACS))
    assert result.summary is not None and result.samples is not None
    assert result.summary.achieved_macs_per_s == pytest.approx((STEM_MACS + HEAD_MACS) / 2.1e-3)
    assert result.samples.stop_reason is StopReason.CALLS
    assert [doubt.code for doubt in result.summary.warnings] == ["measured by xcode"]


def test_a_measured_row_has_the_share_of_macs_where_every_process_tells(artifact: Artifact, tmp_path: Path) -> None:
    samples = result_of(_report(tmp_path, artifact), artifact).samples
    assert samples is not None
    share = placement_macs_share(artifact, CellSamples(samples, None))
    assert share == pytest.approx(STEM_MACS / (STEM_MACS + HEAD_MACS))
    mute = replace(samples.sets[0], ready=replace(samples.sets[0].ready, misplaced_ops=None))
    assert placement_macs_share(artifact, CellSamples(replace(samples, sets=(mute, *samples.sets[1:])), None)) is None
    assert placement_macs_share(artifact, CellSamples(replace(samples, sets=()), None)) is None


@pytest.mark.parametrize(
    "changed",
    [{"file_name": "net-net"}, {"size": 10_000_000}, {"shape": (8, 3, 16, 16)}, {"shape": (1, 3, 32, 32)}],
)
def test_a_package_of_another_name_size_or_shape_is_another(
    artifact: Artifact, root: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    assert artifact_of(_report(tmp_path, artifact, **changed), root) is None


def test_reports_are_of_a_protocol_of_their_own(artifact: Artifact, tmp_path: Path) -> None:
    report = _report(tmp_path, artifact)
    protocol = result_of(report, None).protocol
    assert protocol.effort == "xcode" and protocol.reference == ""
    longer = replace(report, predictions_ns=(report.predictions_ns[0] * 2,) * 3)
    assert result_of(longer, None).protocol.hash != protocol.hash


def test_a_report_without_a_precision_asks_for_it(artifact: Artifact, tmp_path: Path) -> None:
    report = replace(_report(tmp_path, artifact), precision=None, input_shape=None)
    with pytest.raises(UsageError, match="does not say its precision") as caught:
        result_of(report, None)
    assert "--precision fp16" in caught.value.remedy
    # Who asks knows better than a report, and is asked before it.
    assert result_of(replace(report, precision="fp32"), None, precision="fp16").spec.precision is Precision.FP16
    result = result_of(report, None, precision="fp16")
    assert (result.spec.name, result.device, result.spec.size, result.spec.batch) == ("net-net", "iPhone 13", None, 1)


def test_a_report_of_one_prediction_counts_it(artifact: Artifact, tmp_path: Path) -> None:
    report = replace(_report(tmp_path, artifact), predictions_ns=((3_000_000,),))
    summary = result_of(report, None).summary
    assert summary is not None
    assert (summary.latency.p50_ns.value, summary.latency.samples) == (3_000_000, 1)
