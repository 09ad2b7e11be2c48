from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

from vitprof.cost.agreement import Cause, agreement, text_from_agreement
from vitprof.cost.onnx_count import count_onnx
from vitprof.counts import Cost, Kind, OpRow


def _row(module: str, macs: int, kind: Kind = Kind.LINEAR, *, calls: int = 1, depends: bool = True) -> OpRow:
    return OpRow("op", kind, module, calls, macs, 4, 4, (1,), depends_on_input=depends)


def _cost(*rows: OpRow) -> Cost:
    return Cost(1, sum(row.macs for row in rows), 4, 4, len(rows), rows=rows)


def test_equal_counts_agree_without_a_cause() -> None:
    compared = agreement(_cost(_row("a", 100)), _cost(_row("a", 60), _row("a", 40, Kind.CONV)))
    assert compared.agrees
    assert (compared.difference_share, compared.folded, compared.causes) == (0.0, (), ())


def test_what_the_exporter_folded_is_named_and_no_difference() -> None:
    table = _row("attn.table", 31, depends=False)
    compared = agreement(_cost(_row("a", 1000), table), _cost(_row("a", 1000)))
    assert compared.agrees
    assert compared.folded == (table,)
    assert (compared.torch_macs, compared.onnx_macs, compared.folded_macs) == (1031, 1000, 31)


def test_what_the_graph_kept_is_not_named_as_folded() -> None:
    # Two calls in one row are two nodes; the paths of a graph may be lost.
    kept, gone = _row("table", 62, calls=2, depends=False), _row("other", 7, depends=False)
    nodes = [_row("", 31, depends=False), _row("", 31, depends=False)]
    compared = agreement(_cost(_row("a", 1000), kept, gone), _cost(_row("a", 1000), *nodes))
    assert compared.folded == (gone,)
    assert compared.difference_share == 0.0


def test_a_thousandth_agrees_and_more_does_not() -> None:
    assert agreement(_cost(_row("a", 1000)), _cost(_row("a", 1001))).agrees
    assert agreement(_cost(_row("a", 1000)), _cost(_row("a", 999))).agrees
    assert not agreement(_cost(_row("a", 10_000)), _cost(_row("a", 10_011))).agrees


def test_a_disagreement_names_its_operators_the_worst_first() -> None:
    mine = _cost(_row("a", 100), _row("b", 200, Kind.CONV), _row("c", 50))
    theirs = _cost(_row("a", 90), _row("b", 300, Kind.CONV), _row("c", 50, Kind.OTHER_MATMUL))
    compared = agreement(mine, theirs)
    assert compared.difference_share == pytest.approx(90 / 350)
    # `c` has the same sum under another kind: no cause.
    assert compared.causes == (Cause("b", Kind.CONV, 200, 300), Cause("a", Kind.LINEAR, 100, 90))
    assert [cause.difference_macs for cause in compared.causes] == [100, -10]


def test_what_differs_is_told_in_words() -> None:
    mine = _cost(_row("a", 1000), _row("table", 31, depends=False))
    assert text_from_agreement(agreement(mine, _cost(_row("a", 1000)))) == (
        "the exporter folded table (op, 31.00), which needs no image",
    )
    assert text_from_agreement(agreement(mine, _cost(_row("a", 1200), _row("table", 31, depends=False)))) == (
        "a (linear): 1.200 k in the file, 1.000 k in the module",
    )


def test_a_graph_without_modules_is_compared_by_kind() -> None:
    mine = _cost(_row("a", 100), _row("b", 200, Kind.CONV))
    theirs = _cost(_row("", 100), _row("", 250, Kind.CONV))
    assert agreement(mine, theirs).causes == (Cause("", Kind.CONV, 200, 250),)


def test_a_count_without_a_total_agrees_with_nothing() -> None:
    compared = agreement(_cost(_row("a", 100)), Cost(1, None, 4, None, None))
    assert not compared.agrees
    assert compared.difference_share is None


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], tuple[Path, Cost]]:
    """A timm model's ONNX file and its count in torch."""
    pytest.importorskip("torch")
    from vitprof.cost.count import count
    from vitprof.export.onnx_export import export_onnx
    from vitprof.runner.torchvision_compat import import_timm

    folder = tmp_path_factory.mktemp("exported")

    @cache
    def made(name: str, size: int) -> tuple[Path, Cost]:
        module = import_timm().create_model(name).eval()
        export_onnx(module, (1, 3, size, size), folder / f"{name}.onnx", any_batch=True)
        return folder / f"{name}.onnx", count(module, (1, 3, size, size))

    return made


@pytest.mark.parametrize(("name", "size"), [("mobilenetv3_small_100", 64), ("vit_tiny_patch16_224", 224)])
def test_both_counters_agree_on_real_models(
    exported: Callable[[str, int], tuple[Path, Cost]], name: str, size: int
) -> None:
    path, torch_cost = exported(name, size)
    compared = agreement(torch_cost, count_onnx(path, (1, 3, size, size)))
    assert (compared.difference_share, compared.folded) == (0.0, ())
    # Not only in sum: every module has the same.
    assert _macs_of_modules(torch_cost) == _macs_of_modules(count_onnx(path, (1, 3, size, size)))


def _macs_of_modules(cost: Cost) -> Counter[str]:
    sums: Counter[str] = Counter()
    for row in cost.rows:
        sums[row.module] += row.macs
    return +sums


@pytest.mark.parametrize("form", ["fused", "QDQ", "QOperator", "dynamic"])
def test_a_runtimes_own_forms_of_a_graph_have_its_macs(
    exported: Callable[[str, int], tuple[Path, Cost]], tmp_path: Path, form: str
) -> None:
    ort = pytest.importorskip("onnxruntime")
    quantization = pytest.importorskip("onnxruntime.quantization")
    source, torch_cost = exported("mobilenetv3_small_100", 64)
    options = ort.SessionOptions()
    # The level above chooses layouts by the processor and fills channels up, which adds MACs.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    path = tmp_path / f"{form}.onnx"
    if form == "dynamic":
        quantization.quantize_dynamic(_plain(source, tmp_path), path)
    elif form != "fused":
        reader = _Image()
        quantization.quantize_static(
            _plain(source, tmp_path), path, reader, quant_format=quantization.QuantFormat[form]
        )
    cost = count_onnx(path, (1, 3, 64, 64))
    assert (cost.macs, cost.uncounted_ops, cost.coverage) == (torch_cost.macs, {}, 1.0)
    operators = {"fused": "com.microsoft.FusedConv", "QDQ": "DequantizeLinear", "QOperator": "QLinearConv"}
    assert operators.get(form, "ConvInteger") in {row.op for row in cost.rows}
    depthwise = [row for row in cost.rows if row.kind is Kind.DEPTHWISE_CONV]
    assert sum(row.macs for row in depthwise) == sum(
        row.macs for row in torch_cost.rows if row.kind is Kind.DEPTHWISE_CONV
    )


def _plain(source: Path, folder: Path) -> Path:
    """The file as the quantiser wants it: no bias behind an Identity."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(source), str(folder / "plain.onnx"), skip_symbolic_shape=True)
    return folder / "plain.onnx"


class _Image:
    """One random image, as the quantiser reads its calibration data."""

    def __init__(self) -> None:
        import numpy as np

        self._left = [{"image": np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)}]

    def get_next(self) -> dict[str, Any] | None:
        return self._left.pop() if self._left else None


def test_a_real_exporter_folds_what_needs_no_image(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from vitprof.cost.count import count
    from vitprof.export.onnx_export import export_onnx
    from vitprof.records import Exporter

    class Positioned(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 1)
            self.position = torch.nn.Linear(2, 8)
            self.register_buffer("coordinates", torch.rand(8, 2))

        def forward(self, image: Any) -> Any:
            return self.conv(image) + self.position(self.coordinates)

    shape = (1, 3, 8, 8)
    export_onnx(Positioned().eval(), shape, tmp_path / "model.onnx", Exporter.DYNAMO)
    compared = agreement(count(Positioned().eval(), shape), count_onnx(tmp_path / "model.onnx", shape))
    # 64 positions of 3 by 4; the table of 8 rows of 2 by 8 is a constant of the graph.
    assert (compared.torch_macs, compared.onnx_macs) == (64 * 12 + 128, 64 * 12)
    assert [(row.module, row.macs) for row in compared.folded] == [("position", 128)]
    assert compared.difference_share == 0.0
