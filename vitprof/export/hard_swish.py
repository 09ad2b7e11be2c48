"""Hard swish in an ONNX file, written as the product that it is.

Its own file because it is a work-around for one parser: TensorRT's takes the operator in fp32 and fp16 and refuses
it in bf16, while it takes both operators that it consists of.

    HardSwish(x) = x * HardSigmoid(x), alpha = 1/6, beta = 1/2      (ONNX, operator HardSwish-14)
"""

from __future__ import annotations

from pathlib import Path

_OPERATOR = "HardSwish"


def hard_swish_apart(path: Path) -> int:
    """How many of them the file had: they are two operators each now, with the name on the first."""
    import onnx

    model = onnx.load(str(path))
    nodes = list(model.graph.node)
    found = len([node for node in nodes if node.op_type == _OPERATOR])
    if not found:
        return 0
    del model.graph.node[:]
    for node in nodes:
        if node.op_type != _OPERATOR:
            model.graph.node.append(node)
            continue
        [image], [output] = node.input, node.output
        gate = f"{output}_gate"
        model.graph.node.append(onnx.helper.make_node("HardSigmoid", [image], [gate], node.name, alpha=1 / 6, beta=0.5))
        model.graph.node.append(onnx.helper.make_node("Mul", [image, gate], [output], f"{node.name}_product"))
    onnx.save_model(model, str(path))
    return found
