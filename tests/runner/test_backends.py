from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitprof.devices.profiles import reference_model
from vitprof.runner.backends import BackendError, backend_module, ort
from vitprof.runner.wire import Plan


def _plan(image_file: Path, **changes: object) -> Plan:
    fields: dict[str, object] = {
        "backend": "ort",
        "artifact": str(reference_model("cpu-ref-1")),
        "inputs": str(image_file),
        "input_name": "image",
        "input_shape": (1, 3, 224, 224),
    }
    return Plan(**{**fields, **changes})  # type: ignore[arg-type]


def test_onnx_runtime_gives_the_same_outputs_timed_and_asked(image_file: Path) -> None:
    session = ort.load(_plan(image_file))
    session.call()
    session.call()
    [(name, dtype, shape, data)] = session.outputs(0)
    bound = session._binding.get_outputs()[0].numpy()
    assert (dtype, shape) == ("float32", (1, 100))
    np.testing.assert_array_equal(np.frombuffer(data, "float32").reshape(shape), bound)
    assert name


def test_bound_outputs_stay_in_the_same_memory(image_file: Path) -> None:
    session = ort.load(_plan(image_file))
    session.call()
    first = session._binding.get_outputs()[0].data_ptr()
    session.call()
    assert session._binding.get_outputs()[0].data_ptr() == first


def test_a_file_that_is_no_model_is_refused_with_a_remedy(tmp_path: Path, image_file: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(BackendError, match="cannot load") as caught:
        ort.load(_plan(image_file, artifact=str(broken)))
    assert "onnx.checker" in caught.value.remedy


@pytest.mark.parametrize(
    ("said", "kind", "remedy"),
    [
        ("std::bad_alloc", "out of memory", "smaller model"),
        ("[NOT_IMPLEMENTED] : Could not find an implementation for Foo(1)", "lacks an operator", "upgrade"),
        ("[INVALID_GRAPH] : bad", "cannot load", "onnx.checker"),
    ],
)
def test_what_onnx_runtime_says_becomes_a_remedy(said: str, kind: str, remedy: str) -> None:
    error = ort.load_error(RuntimeError(said))
    assert kind in str(error) and remedy in error.remedy


def test_an_unknown_backend_names_the_known_ones() -> None:
    with pytest.raises(BackendError) as caught:
        backend_module("nope")
    assert "ort" in caught.value.remedy
