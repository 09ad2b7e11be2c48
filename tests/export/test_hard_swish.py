from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from tests.cost.graphs import graph, node, saved
from vitprof.export.hard_swish import hard_swish_apart


def _net(operator: str, path: Path) -> Path:
    file = saved(path, graph([node(operator, "image", name="act")], [], (1, 1, 1, 9)))
    model = onnx.load(str(file))
    # The newest that this ONNX Runtime knows.
    model.ir_version = 10
    onnx.save(model, str(file))
    return file


def _run(path: Path, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]  # type: ignore[no-any-return]


def test_the_parts_compute_what_the_operator_does(tmp_path: Path) -> None:
    path = _net("HardSwish", tmp_path / "net.onnx")
    image = np.linspace(-4, 4, 9, dtype="float32").reshape(1, 1, 1, 9)
    before = _run(path, image)
    assert hard_swish_apart(path) == 1
    assert [(one.op_type, one.name) for one in onnx.load(str(path)).graph.node] == [
        ("HardSigmoid", "act"),
        ("Mul", "act_product"),
    ]
    np.testing.assert_allclose(_run(path, image), before, rtol=1e-6, atol=1e-7)
    # By hand: 3 * 1, -3 * 0, 1 * (1/6 + 1/2).
    assert np.allclose(before.ravel()[[7, 1, 5]], [3.0, 0.0, 4 / 6])


def test_a_file_without_any_is_left_as_it_is(tmp_path: Path) -> None:
    path = _net("Relu", tmp_path / "net.onnx")
    before = path.read_bytes()
    assert hard_swish_apart(path) == 0 and path.read_bytes() == before
