"""Static layers shown: what was fused, what could not be told, and that no name can break it."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from tests.report.samples import HOSTILE_NAME
from vitprof.counts import Kind
from vitprof.kernels import FusedKernel, Kernel, KernelList, KernelSum, KernelWork, StaticLayers, StaticModel
from vitprof.records import ModelSpec, Precision, Source
from vitprof.report.by import By
from vitprof.report.document import json_text
from vitprof.report.sections import sections_text, show_sections
from vitprof.report.static_layers import MOST_ROWS, document, sections_of

MIXED = KernelWork(9_000_000, 0.9, 300_000, 0.6, 30.0)
MOVED = KernelWork(0, 0.0, 200_000, 0.4, 0.0)
UNTOLD = KernelWork(None, None, 0, 0.0, None)
NODES = ("/blocks.0/attn/MatMul", "/blocks.0/attn/Softmax", "/blocks.0/attn/MatMul_1", "/blocks.0/attn/Mul")
KERNELS = (
    Kernel("__myl_Tran_myl0_0", "kgen", "t0", (), ("image",), ("a",), 200_000),
    Kernel("_gemm_mha_v2_myl0_1", "gemm", "t1", NODES, ("a",), ("b",), 300_000),
    Kernel("odd_2", "oracle", "", (), (), (), 0),
)
LAYERS = StaticLayers(
    listed=KernelList(KERNELS, weight_bytes=11_400_000, activation_bytes=605_000, scratch_bytes=None),
    synchronisations=0,
    nodes=42,
    macs=10_000_000,
    image_free_macs=0,
    attributed_macs_share=0.9,
    attentions=12,
    fused_attentions=1,
    kernels=(
        FusedKernel(KERNELS[0], Kind.DATA_MOVEMENT, "blocks.0.attn", MOVED, 0),
        FusedKernel(KERNELS[1], Kind.ATTENTION, "blocks.0.attn", MIXED, 1),
        FusedKernel(KERNELS[2], None, "", UNTOLD, 0),
    ),
    by_kind=(KernelSum("attention", 1, MIXED), KernelSum("data_movement", 1, MOVED), KernelSum(None, 1, UNTOLD)),
    by_module=(KernelSum("blocks.0", 2, MIXED), KernelSum(None, 1, UNTOLD)),
)
SPEC = ModelSpec("net", Source.TIMM, precision=Precision.FP16)
MODEL = StaticModel(SPEC, (1, 3, 96, 64), "trt-rtx", "1.7.1.116", "8.6", LAYERS)


def _shown(model: StaticModel, by: By = By.KIND, *, is_whole: bool = False, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    show_sections(sections_of(model, by, is_whole=is_whole), console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_what_was_fused_stands_before_the_tables() -> None:
    lines = _shown(MODEL).splitlines()
    assert lines[0] == ("net, 96x64, batch 1, fp16, trt-rtx 1.7.1.116 for compute capability 8.6, built and not run")
    assert lines[1] == "3 kernels of 42 ONNX nodes. Attention: 1 of 12 in one kernel each. 90.00% of 10.00 MMACs told."
    assert lines[2] == "Memory: weights 11.40 MB, activations 605.0 kB, scratch n/a."
    none = dataclasses.replace(LAYERS, attentions=0, fused_attentions=0)
    odd = dataclasses.replace(LAYERS, synchronisations=7, image_free_macs=250_000)
    text = " ".join(_shown(dataclasses.replace(MODEL, layers=odd)).split())
    assert "3 kernels (beside 7 signals and waits between streams) of 42 ONNX nodes." in text
    assert "250.0 kMACs of it need no image and are done again for each" in text
    assert "No softmax attention." in _shown(dataclasses.replace(MODEL, layers=none))


def test_kinds_and_kernels_have_their_macs_and_bytes_beside_each_other() -> None:
    lines = [line.split() for line in _shown(MODEL).splitlines()]
    assert ["attention", "1", "9.000", "90.0%", "300.0", "60.0%", "30.0"] in lines
    # Nothing of the MACs is no number; what could not be told is told to be so.
    assert ["(not", "told)", "1", "n/a", "-", "0", "0.0%", "-"] in lines
    whole = ["blocks.0.attn", "attention", "(whole)", "gemm", "9.000", "90.0%", "300.0", "60.0%", "30.0"]
    assert [*whole, "MatMul,", "Softmax,", "MatMul_1,", "1", "more"] in lines
    # A kernel that is made of no node is known by its own name.
    assert next(line for line in lines if "kgen" in line)[-1] == "__myl_Tran"


def test_the_kernels_come_by_macs_and_all_of_them_in_the_order_of_the_compiler() -> None:
    def types(text: str) -> list[str]:
        return [word for line in text.splitlines() for word in line.split() if word in ("kgen", "gemm", "oracle")]

    assert types(_shown(MODEL, By.OP)) == ["gemm", "kgen", "oracle"]
    assert types(_shown(MODEL, By.OP, is_whole=True)) == ["kgen", "gemm", "oracle"]


def test_kernels_that_do_the_same_in_modules_with_other_numbers_are_one_row() -> None:
    fused = LAYERS.kernels[1]
    kernels = (fused, dataclasses.replace(fused, module="blocks.1.attn"), LAYERS.kernels[0])
    model = dataclasses.replace(MODEL, layers=dataclasses.replace(LAYERS, kernels=kernels))
    lines = [" ".join(line.split()) for line in _shown(model, By.OP).splitlines()]
    # Twice 9 MMACs and 300 kB, so the MACs of a byte stay.
    assert any(line.startswith("2 x blocks.*.attn attention (whole) gemm 18.00 180.0% 600.0") for line in lines)
    assert "blocks.1.attn" in _shown(model, By.OP, is_whole=True)


def test_a_long_list_is_cut_and_says_so() -> None:
    unlike = tuple(dataclasses.replace(LAYERS.kernels[0], module=f"m{place}") for place in range(33))
    model = dataclasses.replace(MODEL, layers=dataclasses.replace(LAYERS, kernels=unlike))
    assert f"{33 - MOST_ROWS} more with fewer MACs: --all shows every kernel." in _shown(model)
    assert "--all" not in _shown(model, is_whole=True)


@pytest.mark.parametrize("by", list(By))
def test_names_from_outside_cannot_break_the_tables(by: By) -> None:
    bad = f"{HOSTILE_NAME}\x1b[31m\n"
    kernel = dataclasses.replace(KERNELS[1], name=bad, type=bad, tactic=bad, nodes=(bad,))
    layers = dataclasses.replace(
        LAYERS,
        kernels=(FusedKernel(kernel, Kind.ATTENTION, bad, MIXED, 1),),
        by_module=(KernelSum(bad, 1, MIXED),),
    )
    model = dataclasses.replace(MODEL, spec=dataclasses.replace(SPEC, name=bad), layers=layers)
    markdown = sections_text(sections_of(model, by))
    assert "<script>" not in markdown and "a\\|b&lt;script&gt;" in markdown
    assert "\x1b[31m" not in _shown(model, by) + markdown
    assert json.loads(json_text(document(model)))["kernels"][0]["nodes"] == [bad]


def test_the_document_has_null_for_what_is_not_known() -> None:
    read = json.loads(json_text(document(MODEL)))
    assert (read["size"], read["compute_capability"], read["onnx_nodes"]) == ([96, 64], "8.6", 42)
    assert read["attention"] == {"found": 12, "fused": 1}
    assert read["memory_bytes"] == {"weights": 11_400_000, "activations": 605_000, "scratch": None}
    assert [kernel["kind"] for kernel in read["kernels"]] == ["data_movement", "attention", None]
    assert read["kernels"][1]["work"] == {
        "macs": 9_000_000,
        "macs_share": 0.9,
        "bytes": 300_000,
        "bytes_share": 0.6,
        "macs_per_byte": 30.0,
    }
    assert read["kernels"][2]["work"]["macs"] is None
