"""The list of kernels of a build, as recorded with TensorRT-RTX 1.7.1 and with lines of the same form."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from vitprof.errors import VitprofError
from vitprof.export.trt_rtx_layers import is_kept, kernel_list

# Recorded: mobilenetv3_large_100 in fp16 for compute capability 8.6.
RECORDED = (Path(__file__).parents[1] / "data" / "rtx_layers_mobilenetv3_fp16.txt").read_text()


def _tensor(name: str, dims: str, type: str = "Half") -> str:
    form = "Format: (Linear) Row major linear format"
    return f"{{ Name: {name}, Dimensions: [{dims}], Strides: [1], StrideOrder: [0], Datatype: {type}, {form} }}"


def _line(metadata: str, *, inputs: str = "", constants: str = "", outputs: str = "", name: str = "k") -> str:
    tensors = f"Inputs: [{inputs}], Constants: [{constants}], Outputs: [{outputs}]"
    return f"Name: {name}, LayerType: gemm, {tensors}, TacticName: t, StreamId: 0, Metadata: {metadata}"


def test_every_kernel_of_the_recorded_build_is_read() -> None:
    kernels = kernel_list(RECORDED).kernels
    assert Counter(kernel.type for kernel in kernels) == {"correlation": 48, "kgen": 23, "runtime_fusion": 16}
    first, second, *_ = kernels
    assert (first.name, first.tactic) == ("__myl_ConcTran_myl0_0", "__myl_ConcTran_0xf8cfd8a78a623bf6c0c77b873e4b6c1e")
    assert (first.reads, first.writes) == (("input",), ("__myln_k_arg__bb1_2_myl0",))
    assert second.nodes == ("/conv_stem/Conv", "/bn1/act/HardSwish") and second.tactic == ""
    # Half values: an image of 3 x 224 x 224, one more channel of zeros, the four channels together.
    assert first.bytes_moved == 2 * 224 * 224 * (3 + 1 + 4)


def test_a_node_of_which_the_compiler_made_another_operator_keeps_its_name() -> None:
    named = {kernel.nodes for kernel in kernel_list(RECORDED).kernels}
    assert ("/conv_head/Conv",) in named
    # A change of layout that the compiler added is made of no node.
    assert () in named


def test_no_memory_is_told_where_the_build_does_not_say_it() -> None:
    listed = kernel_list(RECORDED)
    assert (listed.weight_bytes, listed.activation_bytes, listed.scratch_bytes) == (None, None, None)


def test_the_memory_lines_are_read_with_and_without_a_unit() -> None:
    text = f"{_line('')}\nTotal Activation Memory: 62976 bytes\nTotal Weights Memory: 1851804\n"
    listed = kernel_list(text + "Max Scratch Memory: 1,024 bytes\n")
    assert (listed.activation_bytes, listed.weight_bytes, listed.scratch_bytes) == (62976, 1851804, 1024)


def test_names_may_hold_brackets_and_commas() -> None:
    tensor = _tensor("a, b [0]", "2,3")
    [kernel] = kernel_list(_line("[ONNX Layer: /a[0]/x]\x1f[ONNX Layer: y]", outputs=tensor, name="/a, b/c")).kernels
    assert (kernel.name, kernel.nodes, kernel.writes) == ("/a, b/c", ("/a[0]/x", "y"), ("a, b [0]",))


def test_a_tensor_that_a_kernel_reads_twice_is_read_once() -> None:
    inputs = f"{_tensor('x', '1,8')}, {_tensor('x', '1,8')}"
    [kernel] = kernel_list(_line("", inputs=inputs, constants=_tensor("w", "8,4", "Float"))).kernels
    # 8 half values and 32 floats.
    assert kernel.bytes_moved == 16 + 128


def test_bytes_of_an_unknown_type_are_not_known() -> None:
    [kernel] = kernel_list(_line("", inputs=_tensor("x", "8", "Quaternion"))).kernels
    assert kernel.bytes_moved is None


def test_a_kernel_without_tensors_is_a_kernel() -> None:
    [kernel] = kernel_list("Name: wait_0, LayerType: wait, TacticName: , StreamId: 1, Metadata: ").kernels
    assert (kernel.type, kernel.nodes, kernel.bytes_moved) == ("wait", (), 0)


def test_a_build_that_lists_nothing_is_an_error() -> None:
    with pytest.raises(VitprofError, match="listed no kernels"):
        kernel_list("Layers:\n\nI/O Tensors:\n")


def test_only_the_list_and_the_memory_are_kept_of_a_log() -> None:
    kept = [is_kept(line) for line in ("Layers:\nName: x", "Total Weights Memory: 5 bytes", "Graph optimization: 3 s")]
    assert kept == [True, True, False]
