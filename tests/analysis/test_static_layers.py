"""Kernels beside counted nodes: who does a product's MACs, what is fused, what cannot be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitprof.analysis.static_layers import static_layers
from vitprof.counts import Kind, OpRow
from vitprof.export.trt_rtx_layers import kernel_list
from vitprof.kernels import Attention, Kernel, KernelList, StaticLayers

RECORDED = (Path(__file__).parents[1] / "data" / "rtx_layers_mobilenetv3_fp16.txt").read_text()


def _kernel(name: str, nodes: str = "", type: str = "gemm", moved: int | None = 10, *, io: str = "x y") -> Kernel:
    read, written = io.split()
    return Kernel(name, type, "", tuple(nodes.split()), (read,), (written,), moved)


def _row(name: str, kind: Kind, macs: int = 0, module: str = "m", *, depends: bool = True) -> OpRow:
    return OpRow("op", kind, module, 1, macs, 4, 4, (1,), name=name, depends_on_input=depends)


def _told(
    kernels: list[Kernel], rows: list[OpRow], *attentions: Attention, depth: int = 1, batch: int = 1
) -> StaticLayers:
    return static_layers(KernelList(tuple(kernels), 1, 2, 3), rows, attentions, batch=batch, depth=depth)


def test_a_product_belongs_to_the_kernel_that_multiplies_and_not_to_those_around_it() -> None:
    kernels = [
        _kernel("__myl_ConcTran_myl0_0", "conv", "kgen"),
        _kernel("__myl_CorrMulAdd_myl0_1", "conv act", "runtime_fusion"),
        _kernel("__myl_MulAdd_myl0_2", "gate conv", "kgen"),
        _kernel("__myl_Add_myl0_3", "conv", "kgen"),
    ]
    rows = [_row("conv", Kind.CONV, 900), _row("act", Kind.ACTIVATION), _row("gate", Kind.ELEMENTWISE)]
    told = _told(kernels, rows)
    assert [one.work.macs for one in told.kernels] == [0, 900, 0, 0]
    # The last one is what is left of the convolution: its bias.
    kinds = [Kind.DATA_MOVEMENT, Kind.CONV, Kind.ELEMENTWISE, Kind.ELEMENTWISE]
    assert [one.kind for one in told.kernels] == kinds
    assert told.attributed_macs_share == 1 and told.nodes == 3


def test_a_product_that_only_a_generated_kernel_names_is_its_work() -> None:
    told = _told([_kernel("__myl_MulSum_myl0_0", "mm", "kgen")], [_row("mm", Kind.OTHER_MATMUL, 5)])
    assert told.kernels[0].work.macs == 5 and told.kernels[0].kind is Kind.OTHER_MATMUL


def test_recorded_convolutions_are_done_once() -> None:
    """As recorded: the stem is named by two kernels, an expanding convolution by its own and by the gate behind it."""
    squeeze = "/blocks/blocks.2/blocks.2.0/se"
    rows = [
        _row("/conv_stem/Conv", Kind.CONV, 5_419_008, "conv_stem"),
        _row(f"{squeeze}/conv_expand/Conv", Kind.POINTWISE_CONV, 1_728, "blocks.2.0.se.conv_expand"),
        _row(f"{squeeze}/gate/HardSigmoid", Kind.ACTIVATION, module="blocks.2.0.se.gate"),
        _row(f"{squeeze}/Mul", Kind.ELEMENTWISE, module="blocks.2.0.se"),
        _row("/nowhere/Conv", Kind.CONV, 1_000, "nowhere"),
    ]
    told = static_layers(kernel_list(RECORDED), rows, (), batch=1, depth=2)
    done = {one.kernel.name: (one.kind, one.work.macs) for one in told.kernels if one.work.macs}
    assert done == {
        "__myl_CorrMulAddMinMaxMul_myl0_1": (Kind.CONV, 5_419_008),
        f"{squeeze}/conv_expand/Conv_myl0_15": (Kind.POINTWISE_CONV, 1_728),
    }
    gate = next(one for one in told.kernels if one.kernel.name == "__myl_MulAddMinMaxMul_myl0_16")
    assert (gate.kind, gate.work.macs, gate.module) == (Kind.ACTIVATION, 0, "blocks.2.0.se.gate")
    # Of 5,421,736 + 1,000 counted MACs the last thousand stand in no kernel.
    assert told.attributed_macs_share == pytest.approx(5_420_736 / 5_421_736)


def test_attention_is_fused_where_one_kernel_has_all_of_it() -> None:
    rows = [
        *(_row(name, Kind.ATTENTION, 10, "a") for name in ("qk1", "av1", "qk2", "av2")),
        *(_row(name, Kind.SOFTMAX, module="a") for name in ("s1", "s2")),
    ]
    kernels = [
        _kernel("__myl_Tran_myl0_0", "qk1", "kgen"),
        _kernel("_gemm_mha_v2_myl0_1", "qk1 s1 av1", "kgen"),
        _kernel("g", "qk2"),
        _kernel("__myl_Exp", "s2"),
        _kernel("h", "av2"),
    ]
    told = _told(kernels, rows, Attention("qk1", "s1", "av1"), Attention("qk2", "s2", "av2"))
    assert (told.attentions, told.fused_attentions) == (2, 1)
    assert [one.attentions for one in told.kernels] == [0, 1, 0, 0, 0]
    assert (told.kernels[1].kind, told.kernels[1].work.macs) == (Kind.ATTENTION, 20)
    assert told.kernels[3].kind is Kind.SOFTMAX


def test_a_kernel_without_nodes_is_of_the_module_that_it_feeds() -> None:
    kernels = [
        _kernel("__myl_Tran_myl0_0", type="kgen", io="x a"),
        _kernel("mm", "mm", io="a b"),
        _kernel("odd", type="oracle", moved=0, io="b c"),
    ]
    told = _told(kernels, [_row("mm", Kind.LINEAR, 7, "blocks.3.mlp")], depth=2)
    assert [one.module for one in told.kernels] == ["blocks.3.mlp", "blocks.3.mlp", ""]
    assert [one.kind for one in told.kernels] == [Kind.DATA_MOVEMENT, Kind.LINEAR, None]
    # What cannot be told has no MACs, not none of them.
    assert [one.work.macs for one in told.kernels] == [0, 7, None]
    assert {one.name: one.kernels for one in told.by_module} == {"blocks.3": 2, None: 1}


def test_sums_come_with_most_macs_first_and_shares_of_the_whole() -> None:
    kernels = [_kernel("a", "n", moved=30), _kernel("b", "l", moved=50), _kernel("c", "r", "kgen", moved=20)]
    rows = [_row("n", Kind.CONV, 25), _row("l", Kind.LINEAR, 75), _row("r", Kind.NORM)]
    told = _told(kernels, rows)
    assert [(one.name, one.work.macs_share, one.work.bytes_share) for one in told.by_kind] == [
        ("linear", 0.75, 0.5),
        ("conv", 0.25, 0.3),
        ("norm", 0.0, 0.2),
    ]
    assert told.kernels[1].work.macs_per_byte == 1.5
    # MACs are those of one image, bytes those of all four.
    assert _told(kernels, rows, batch=4).kernels[1].work.macs_per_byte == 6


def test_what_needs_no_image_is_no_work() -> None:
    table = _row("table", Kind.LINEAR, 92, depends=False)
    told = _told([_kernel("a", "n")], [_row("n", Kind.LINEAR, 8), table])
    assert (told.macs, told.nodes, told.image_free_macs, told.attributed_macs_share) == (8, 1, 0, 1)
    # Unless the compiler leaves it in a kernel.
    told = _told([_kernel("a", "n"), _kernel("b", "table")], [_row("n", Kind.LINEAR, 8), table])
    assert (told.macs, told.nodes, told.image_free_macs) == (100, 2, 92)
    assert [one.work.macs for one in told.kernels] == [8, 92]
    assert _told([_kernel("a")], []).attributed_macs_share is None


def test_signals_and_waits_are_no_kernels() -> None:
    told = _told([_kernel("s", type="signal"), _kernel("n", "n"), _kernel("w", type="wait")], [_row("n", Kind.CONV, 1)])
    assert (len(told.kernels), told.synchronisations) == (1, 2)
    assert [one.kernels for one in told.by_kind] == [1]
