from __future__ import annotations

import pytest

from vitprof.export.coreml_lint import lint
from vitprof.mil import MilOp, MilProgram, MilValue


def value(name: str, *shape: int, dtype: str = "fp16", depends: bool = True) -> MilValue:
    return MilValue(name, dtype, shape, depends_on_input=depends)


def op(
    type: str, *shape: int, dtype: str = "fp16", module: str = "", depends: bool = True, **inputs: MilValue
) -> MilOp:
    given = {name: (one,) for name, one in inputs.items()}
    return MilOp(type, f"{type}_1", given, (value("y", *shape, dtype=dtype, depends=depends),), module)


def found(*ops: MilOp) -> list[str]:
    return [doubt.code for doubt in lint(MilProgram("CoreML6", (value("image", 1, 3, 8, 8),), ops))]


CONV = op("conv", 1, 8, 4, 4, weight=MilValue("w", "fp16", (8, 3, 3, 3), is_constant=True))


def test_a_plain_program_in_fp16_has_no_finding() -> None:
    assert found(CONV, op("relu", 1, 8, 4, 4), op("linear", 1, 10)) == []


def test_a_finding_names_how_many_where_and_who_says_so() -> None:
    ops = [op("mul", 1, 8, dtype="fp32", module=f"blocks.{i}.attn") for i in range(7)]
    [doubt] = lint(MilProgram("CoreML6", (value("image", 1, 3, 8, 8),), (*ops, CONV)))
    assert doubt.code == "fp32"
    assert "7 of 8 operators (7 mul; the first fp32), in blocks.0.attn, blocks.1.attn" in doubt.detail
    assert "blocks.4.attn and 2 more" in doubt.detail
    assert "coremltools guide" in doubt.detail
    assert doubt.remedy == "export with --precision fp16"


def test_an_operator_of_no_known_module_is_named_itself() -> None:
    [doubt] = lint(MilProgram("CoreML6", (), (op("gather", 1, 8),)))
    assert "1 of 1 operators (1 gather; the first 1x8), in gather_1" in doubt.detail


def test_conversions_at_the_ends_are_not_fp32_arithmetic() -> None:
    assert found(op("cast", 1, 8, dtype="fp32")) == []


def test_what_needs_no_image_runs_nowhere() -> None:
    assert found(op("gather", 1, 8, dtype="int32", depends=False)) == []


@pytest.mark.parametrize(
    ("ops", "code"),
    [
        (op("reduce_argmax", 1, 8, dtype="int32"), "whole numbers"),
        (op("transpose", 1, 2, 3, 4, 5), "more than 4 axes"),
        (op("reshape", 6, 20, x=value("x", 1, 2, 3, 4, 5)), "more than 4 axes"),
        (op("softmax", 1, 16_385), "long axis"),
        (op("add", 1, 65_537, 2, 2), "long axis"),
        (op("conv", 1, 8, 4, 4, weight=value("w", 8, 1, 15, 15)), "wide kernel"),
        (op("scatter_nd", 1, 8), "no such operator"),
        (op("sin", 1, 8), "newer engines only"),
        (op("custom_layer", 1, 8), "custom operator"),
    ],
)
def test_each_rule_finds_what_it_is_for(ops: MilOp, code: str) -> None:
    assert found(CONV, ops) == [code]


def test_extents_at_the_limit_are_no_finding() -> None:
    assert found(op("add", 1, 65_536, 2, 16_384)) == []


def test_a_convolution_over_three_axes_is_found_beside_its_axes() -> None:
    conv = op("conv", 1, 8, 4, 4, 4, weight=value("w", 8, 3, 3, 3, 3))
    assert found(conv) == ["more than 4 axes", "3-D convolution"]
