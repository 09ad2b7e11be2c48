"""TensorRT's profile from text of the documented form (its guide, "Engine Inspector"); none of it is recorded."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from vitprof.devices.transports.fake import VirtualClock
from vitprof.runner.backends import BackendError
from vitprof.runner.profiles import WARM_UP_CALLS, tensorrt
from vitprof.runner.wire import ProfileRequest

# As documented for DETAILED verbosity; the separator in the metadata is a raw control character.
INSPECTOR = """{"Layers": [{
  "Name": "Reformatting CopyNode for Input Tensor 0 to /conv/Conv",
  "LayerType": "Reformat",
  "Inputs": [{"Name": "image", "Dimensions": [1,3,8,8], "Format/Datatype": "Row major linear FP16 format"}],
  "Outputs": [{"Name": "Reformatted Input", "Dimensions": [1,3,8,8], "Format/Datatype": "Channel major FP16 format"}],
  "TacticValue": "0x0000000000000000", "StreamId": 0, "Metadata": ""
},{
  "Name": "/conv/Conv + /act/Relu",
  "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "Reformatted Input", "Dimensions": [1,3,8,8], "Format/Datatype": "Channel major FP16 format"}],
  "Outputs": [{"Name": "/act/Relu_output_0", "Dimensions": [1,8,4,4], "Format/Datatype": "Channel major FP16 format"}],
  "ParameterType": "Convolution", "Kernel": [2,2], "Groups": 1, "HasBias": 1,
  "TacticName": "sm80_xmma_fprop", "StreamId": 0,
  "Metadata": "[ONNX Layer: /conv/Conv]\x1e[ONNX Layer: /act/Relu]"
},{
  "Name": "__myl_MeaMul_myl0_1",
  "LayerType": "kgen",
  "Inputs": [{"Name": "/act/Relu_output_0", "Dimensions": [1,8,4,4], "Format/Datatype": "Channel major FP16 format"}],
  "Outputs": [{"Name": "logits", "Dimensions": [1,8], "Format/Datatype": "Row major linear FP16 format"}],
  "TacticName": "__myl_MeaMul_0x1", "StreamId": 0,
  "Metadata": "[ONNX Layer: node_of_mean[0]][ONNX Layer: /fc/Gemm]__mm"
}], "Bindings": ["image", "logits"]}"""
REFORMAT, CONV, HEAD = (layer["Name"] for layer in json.loads(INSPECTOR, strict=False)["Layers"])


def test_the_inspector_tells_the_onnx_nodes_of_each_layer() -> None:
    layers = tensorrt.layers_from_inspector(INSPECTOR)
    assert [(layer.name, layer.kind) for layer in layers] == [
        (REFORMAT, "Reformat"),
        (CONV, "CaskConvolution"),
        (HEAD, "kgen"),
    ]
    assert layers[1].members == ("/conv/Conv", "/act/Relu")
    # The node had no name: the parser called it after its output, which has brackets of its own.
    assert layers[2].members == ("mean[0]", "/fc/Gemm")
    assert layers[2].inputs == ("/act/Relu_output_0",) and layers[2].outputs == ("logits",)


def test_tensorrt_11_differs_beside_the_layers_only() -> None:
    # "Bindings" became "I/O Tensors", a list of objects.
    newer = {"Layers": json.loads(INSPECTOR, strict=False)["Layers"], "I/O Tensors": [{"Name": "image"}]}
    assert tensorrt.layers_from_inspector(json.dumps(newer)) == tensorrt.layers_from_inspector(INSPECTOR)


def test_of_an_engine_with_names_alone_the_name_tells_the_nodes() -> None:
    [layer] = tensorrt.layers_from_inspector('{"Layers": ["/conv/Conv + /act/Relu"], "Bindings": []}')
    assert layer.members == ("/conv/Conv", "/act/Relu")


@pytest.mark.parametrize("text", ["", "no JSON", "{}", "[]"])
def test_a_text_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(BackendError, match="engine inspector"):
        tensorrt.layers_from_inspector(text)


def test_a_layer_s_time_is_its_mean_over_the_runs() -> None:
    runs = [[(REFORMAT, 0.001), (CONV, 0.010), (HEAD, 0.002)], [(REFORMAT, 0.003), (CONV, 0.012), (HEAD, 0.002)]]
    ops = tensorrt.ops_from_runs(runs, tensorrt.layers_from_inspector(INSPECTOR))
    # (1 + 3) / 2, (10 + 12) / 2, (2 + 2) / 2 microseconds.
    assert [(op.op, round(op.ns), op.calls) for op in ops] == [
        ("Reformat", 2_000, 1),
        ("CaskConvolution", 11_000, 1),
        ("kgen", 2_000, 1),
    ]
    assert [op.feeds for op in ops] == [(CONV,), (HEAD,), ()]
    assert all(op.module is None for op in ops), "modules are found on the host, from the nodes"


def test_a_layer_that_the_inspector_does_not_know_keeps_its_time() -> None:
    [op] = tensorrt.ops_from_runs([[("new", 0.5)]], ())
    assert (op.name, op.op, op.ns) == ("new", "unknown", 500_000.0)


def test_a_profiler_that_reports_nothing_is_an_error_and_no_empty_profile() -> None:
    with pytest.raises(BackendError, match="reported no layer"):
        tensorrt.ops_from_runs([[], []], ())


def test_every_run_s_layers_are_kept_apart_and_the_warm_up_is_left_out() -> None:
    clock = VirtualClock()
    context: Any = SimpleNamespace(profiler=None)
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        clock.wait(1_000_000)
        context.profiler.report_layer_time(CONV, calls / 1000)
        context.profiler.report_layer_time(HEAD, 0.25)

    library = SimpleNamespace(IProfiler=type("IProfiler", (), {}))
    runs, runs_ns = tensorrt.recorded(library, context, call, ProfileRequest(runs=4), clock)
    assert runs_ns == [1_000_000] * 4
    first = WARM_UP_CALLS + 1
    assert runs == [[(CONV, number / 1000), (HEAD, 0.25)] for number in range(first, first + 4)]
    profile = tensorrt.profile(runs, runs_ns, tensorrt.layers_from_inspector(INSPECTOR))
    # Two of the four runs lie between the quartiles.
    assert profile.runs == 2 and profile.total_ns == 1_000_000
