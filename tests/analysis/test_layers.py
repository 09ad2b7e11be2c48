"""A profile joined to counted operators: every figure worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitprof.analysis.layers import layer_profile
from vitprof.counts import Kind, OpRow
from vitprof.runner.wire import Profile, ProfiledOp


def _row(op: str, kind: Kind, module: str, macs: int, moved: int, *, weights: int = 0, name: str = "") -> OpRow:
    return OpRow(op, kind, module, 1, macs, moved - 10, 10, (1,), weight_bytes=weights, name=name)


# 1000 MACs and 400 bytes in all, of which 80 are weights.
GRAPH = (
    _row("Conv", Kind.CONV, "stem.conv", 700, 100, weights=40, name="/stem/Conv"),
    _row("Relu", Kind.ACTIVATION, "stem.act", 0, 100, name="/stem/Relu"),
    _row("Conv", Kind.DEPTHWISE_CONV, "blocks.0.dw", 100, 60, weights=20, name="/dw0/Conv"),
    _row("Conv", Kind.DEPTHWISE_CONV, "blocks.1.dw", 100, 60, weights=20, name="/dw1/Conv"),
    _row("Conv", Kind.POINTWISE_CONV, "head", 100, 80, name="/head/Conv"),
    replace(_row("Conv", Kind.CONV, "fold", 9999, 9999, name="/fold"), depends_on_input=False),
)
# 1,000 ns in operators, 250 ns between them.
PROFILE = Profile(
    (
        ProfiledOp("reorder_in", "ReorderInput", 50.0, feeds=("stem",)),
        ProfiledOp("stem", "Conv", 350.0, members=("/stem/Conv", "/stem/Relu", "/fold")),
        ProfiledOp("dw0", "Conv", 200.0, members=("/dw0/Conv",)),
        ProfiledOp("dw1", "Conv", 250.0, members=("/dw1/Conv",)),
        ProfiledOp("what", "FusedMystery", 150.0),
    ),
    total_ns=1250.0,
    runs=7,
)


def test_shares_are_of_all_operators_together() -> None:
    found = layer_profile(PROFILE, GRAPH, batch=1, depth=2)
    reorder, stem, dw0, _, what = found.ops
    assert (stem.kind, stem.module, stem.members) == (Kind.CONV, "stem.conv", ("/stem/Conv", "/stem/Relu"))
    # 350 of 1000 ns; 700 of 1000 MACs; 200 of 400 bytes; 700 MACs in 350 ns.
    work = stem.work
    assert (work.time_share, work.macs, work.macs_share) == (0.35, 700, 0.7)
    assert (work.bytes_moved, work.bytes_share, work.macs_per_s) == (200, 0.5, pytest.approx(2e9))
    assert dw0.work.time_share == 0.2 and dw0.work.bytes_share == 60 / 400
    # A change of layout belongs to the module that it feeds; its MACs are none and known.
    assert (reorder.kind, reorder.module, reorder.work.macs) == (Kind.DATA_MOVEMENT, "stem.conv", 0)
    assert (what.kind, what.work.macs, what.work.bytes_moved, what.work.macs_per_s) == (None, None, None, None)


def test_what_could_not_be_told_is_shown() -> None:
    found = layer_profile(PROFILE, GRAPH, batch=1, depth=2)
    # 250 of 1250 ns between operators; 150 of 1000 ns without members; the head's 100 of 1000 MACs in no operator.
    assert (found.overhead_ns, found.unattributed_share, found.unseen_macs_share) == (250.0, 0.15, 0.1)
    assert found.time_shares == {
        Kind.CONV: 0.35,
        Kind.DEPTHWISE_CONV: 0.45,
        Kind.DATA_MOVEMENT: 0.05,
    }


def test_kinds_and_modules_are_sums_with_the_longest_first() -> None:
    found = layer_profile(PROFILE, GRAPH, batch=1, depth=1)
    assert [(one.name, one.ops, one.work.ns) for one in found.by_kind] == [
        ("depthwise_conv", 2, 450.0),
        ("conv", 1, 350.0),
        (None, 1, 150.0),
        ("data_movement", 1, 50.0),
    ]
    # 200 MACs in 450 ns.
    assert found.by_kind[0].work.macs_per_s == pytest.approx(200 / 450e-9)
    assert [(one.name, one.work.ns) for one in found.by_module] == [("blocks", 450.0), ("stem", 400.0), (None, 150.0)]
    deeper = layer_profile(PROFILE, GRAPH, batch=1, depth=2)
    assert [one.name for one in deeper.by_module] == ["stem.conv", "blocks.1", "blocks.0", None]


def test_weights_are_read_once_for_a_batch_and_images_are_multiplied() -> None:
    stem = layer_profile(PROFILE, GRAPH, batch=4, depth=2).ops[1]
    # 40 of weights + (60 + 100) x 4; 700 MACs x 4 in 350 ns.
    assert stem.work.bytes_moved == 680 and stem.work.macs == 700
    assert stem.work.macs_per_s == pytest.approx(8e9)


def test_disagreements_say_what_takes_more_of_the_time_than_of_the_macs() -> None:
    found = layer_profile(PROFILE, GRAPH, batch=1, depth=2)
    # Both depthwise ones do the same work: 450 of 1000 ns, 200 of 1000 MACs, 120 of 400 bytes; the widest gap, 25 %.
    assert found.disagreements == (
        "2 x blocks.*.dw (depthwise_conv): 45.0% of the time, 20.0% of the MACs, 30.0% of the bytes; "
        "444.4 MMAC/s against 1.000 GMAC/s on average",
        "stem.conv (data_movement): 5.0% of the time, none of the MACs, none of the counted bytes",
    )


def test_modules_that_do_other_work_have_lines_of_their_own() -> None:
    rows = (*GRAPH[:3], replace(GRAPH[3], macs=90), GRAPH[4])
    lines = layer_profile(PROFILE, rows, batch=1, depth=2).disagreements
    assert [line.partition(" ")[0] for line in lines] == ["blocks.1.dw", "blocks.0.dw", "stem.conv"]


def test_a_member_of_several_operators_is_known_to_all_and_the_work_of_the_first() -> None:
    ops = (
        ProfiledOp("a", "MVN", 10.0, members=("/norm",)),
        ProfiledOp("b", "Subgraph", 10.0, members=("/norm",)),
    )
    rows = (_row("LayerNormalization", Kind.NORM, "norm", 0, 100, name="/norm"),)
    found = layer_profile(Profile(ops, 20.0, 1), rows, batch=1, depth=2)
    assert [(op.kind, op.module, op.work.bytes_moved) for op in found.ops] == [
        (Kind.NORM, "norm", 100),
        (Kind.NORM, "norm", 0),
    ]
    # There are no MACs to have a share of.
    assert found.ops[0].work.macs_share is None and found.unseen_macs_share is None


EAGER = (
    _row("addmm", Kind.LINEAR, "fc1", 500, 100),
    _row("addmm", Kind.LINEAR, "fc2", 300, 100),
    _row("bmm", Kind.ATTENTION, "attn", 200, 100),
    _row("_softmax", Kind.SOFTMAX, "attn", 0, 50),
    _row("relu", Kind.ACTIVATION, "act", 0, 50),
    # Computed each time, though it does not depend on the image.
    replace(_row("sin", Kind.ELEMENTWISE, "pos", 0, 100), depends_on_input=False),
)
CALLS = (
    ProfiledOp("fc1.linear", "linear", 40.0, module="fc1", members=("addmm", "t")),
    ProfiledOp("fc2.linear", "linear", 20.0, module="fc2", members=("addmm", "t")),
    ProfiledOp("attn.sdpa", "scaled_dot_product_attention", 20.0, module="attn", members=("_flash_for_cpu",)),
    ProfiledOp("act.relu_", "relu_", 10.0, module="act"),
    ProfiledOp("pos.sin", "sin", 5.0, module="pos"),
    ProfiledOp("fc1.view", "view", 5.0, module="fc1"),
)


def test_calls_of_eager_torch_are_joined_by_module_and_operator() -> None:
    found = layer_profile(Profile(CALLS, 120.0, 1), EAGER, batch=1, depth=2)
    assert [(op.module, op.kind, op.work.macs, op.members) for op in found.ops] == [
        ("fc1", Kind.LINEAR, 500, ("addmm",)),
        ("fc2", Kind.LINEAR, 300, ("addmm",)),
        # The counter takes fused attention apart.
        ("attn", Kind.ATTENTION, 200, ("bmm", "_softmax")),
        ("act", Kind.ACTIVATION, 0, ("relu",)),
        ("pos", Kind.ELEMENTWISE, 0, ("sin",)),
        ("fc1", Kind.DATA_MOVEMENT, 0, ()),
    ]
    assert found.unattributed_share == 0 and found.unseen_macs_share == 0


def test_without_modules_operators_are_joined_by_their_names_alone() -> None:
    rows = (*EAGER, _row("_convolution", Kind.DEPTHWISE_CONV, "a", 10, 20), _row("_convolution", Kind.CONV, "b", 5, 20))
    ops = (
        ProfiledOp("linear", "linear", 60.0, module="", members=("addmm",)),
        ProfiledOp("_convolution", "_convolution", 40.0, module=""),
    )
    linear, convolution = layer_profile(Profile(ops, 120.0, 1), rows, batch=1, depth=2).ops
    assert (linear.kind, linear.work.macs) == (Kind.LINEAR, 800)
    # Of several kinds of convolution: not the one that happens to be heavier.
    assert (convolution.kind, convolution.work.macs) == (Kind.CONV, 15)
