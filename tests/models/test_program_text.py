from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("torch")

from vitprof.models.program_text import Unsafe, checked


def is_safe(key: str, text: str) -> bool:
    try:
        return bool(checked({key: text}) == {key: text})
    except Unsafe:
        return False


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.conv2d.default",
        "torch.ops.aten.add.Tensor",
        "torch.ops.aten.__and__.Tensor",
        "torch.ops.prims.convert_element_type.default",
        "torch.ops.higher_order.cond",
        "torch.sym_max",
        "_operator.floordiv",
        "math.trunc",
    ],
)
def test_operators_that_compute_are_plain(target: str) -> None:
    assert is_safe("target", target)
    assert is_safe("as_operator", target)


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.hub.load",
        "torch.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.from_file.out",
        "torch.ops.aten.save.default",
        "torch.ops.aten.conv2d",
        "torch.ops.aten.conv2d.default.__call__",
        "torch.ops.aten.conv2d.__class__",
        "torch.ops.aten.conv2d._schemas",
        "torch.ops.aten._dir.append",
        "torch.ops.aten.__class__.mro",
        "torch.ops.aten.no_such_operator.default",
        "torch.ops.c10d.send.default",
        "torch.ops.debugprims.load_tensor.default",
        "torch.ops.higher_order.aoti_call_delegate",
        "torch.ops.higher_order.cond.__init__",
        "_operator.methodcaller",
        "_operator.attrgetter",
        "_operator.call",
        "math.__loader__.load_module",
        "#namespace:name",
        "builtins.eval",
        "",
    ],
)
def test_all_else_is_no_operator(target: str) -> None:
    assert not is_safe("target", target)
    assert not is_safe("as_operator", target)


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s77', positive=True, integer=True)",
        "Add(FloorDiv(Add(Symbol('s0', positive=True, integer=True), Integer(-3)), Integer(2)), Integer(1))",
        "Max(Integer(1), Mul(Integer(2), Pow(Symbol('u3', integer=True), Integer(2))))",
        "Float('0.5', precision=53)",
        "Rational(1, 2)",
        "StrictLessThan(Symbol('s1'), int_oo)",
        "s0*(s1 - 3)//2 + 4",
        "(s0 < 4) & ~(s1 >= 2)",
        "64",
    ],
)
def test_arithmetic_on_sizes_is_plain(text: str) -> None:
    assert is_safe("expr_str", text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "exec('1')",
        "open('x')",
        "Add('exec(1)', Integer(1))",
        "Max('1')",
        "Integer('1')",
        "Symbol(exec)",
        "Symbol('a b')",
        "Symbol('s0', positive=exec('1'))",
        "Symbol('s0', **s1)",
        "Add(*s0)",
        "s0.__class__",
        "s0[0]",
        "[s0]",
        "lambda: s0",
        "s0 if s1 else s2",
        "preview",
        "Lambda(s0, s0)",
        "sympify('1')",
        "f'{s0}'",
        "s0\n+ s1",
        "Ｍax(s0)",
        "1 +",
        "(" * 5000,
        "",
    ],
)
def test_anything_more_than_arithmetic_is_not(text: str) -> None:
    assert not is_safe("expr_str", text)


def tree(**node: Any) -> str:
    return json.dumps([1, {"type": "builtins.tuple", "context": "null", "children_spec": [], **node}])


LEAF = {"type": None, "context": None, "children_spec": []}


def test_plain_containers_hold_inputs_and_outputs() -> None:
    assert is_safe("out_spec", tree(children_spec=[LEAF, LEAF]))
    assert is_safe("out_spec", tree(type="builtins.dict", context='["logits", 3, "f.1"]', children_spec=[LEAF]))
    assert is_safe("in_spec", json.dumps([1, LEAF]))


@pytest.mark.parametrize(
    "text",
    [
        tree(type="collections.defaultdict", context='{"default_factory_module": "os"}'),
        tree(type="collections.namedtuple"),
        tree(context='{"__enum__": true, "fqn": "os:abc", "name": "a"}'),
        tree(type="builtins.dict", context='[{"__enum__": true}]'),
        tree(type="builtins.dict", context='["a b"]'),
        tree(children_spec=[{"type": "os.system", "context": "null", "children_spec": []}]),
        tree(more=1),
        json.dumps([2, LEAF]),
        json.dumps(LEAF),
        "[",
        "[" * 100_000,
    ],
)
def test_any_other_container_is_not_plain(text: str) -> None:
    assert not is_safe("out_spec", text)


@pytest.mark.parametrize("key", ["name", "as_name", "parameter_name", "fqn", "forward_arg_names", "path_name", "type"])
def test_names_are_letters_digits_dots_and_dashes(key: str) -> None:
    assert is_safe(key, "blocks.0.attn-1.qkv_weight")
    for text in ("a b", "a=1", "a()", "a'", "a\n", "a#", "à", "a/../b", "a:b"):
        assert not is_safe(key, text)


def test_names_of_entries_are_names_too() -> None:
    assert checked({"tensor_values": {"conv.1": {"dtype": 7}}}) == {"tensor_values": {"conv.1": {"dtype": 7}}}
    with pytest.raises(Unsafe, match="the name"):
        checked({"tensor_values": {"x = exec('1')": {}}})


def test_arguments_are_any_printable_text() -> None:
    assert is_safe("as_string", "bhwc,hkc->bhwk")
    assert is_safe("as_string", 'it\'s "quoted"')
    assert not is_safe("as_string", "two\nlines")


def test_a_text_where_none_belongs_is_not_plain() -> None:
    assert not is_safe("class_fqn", "__torch__.torch.classes.a.B")
    assert not is_safe("as_int", "1")
    assert not is_safe("unheard_of", "a")
    with pytest.raises(Unsafe):
        checked({"as_strings": ["fine", "not\0fine"]})
    with pytest.raises(Unsafe):
        checked({"expr_str": ["s0", "exec('1')"]})


def test_infinite_numbers_are_told_in_words() -> None:
    assert is_safe("as_float", "-Infinity")
    assert not is_safe("as_float", "exec")


def test_what_no_program_needs_is_left_out() -> None:
    node = {
        "metadata": {"stack_trace": "File 'x'", "nn_module_stack": "L__self__,,a.B;L__self__c,c,d.E", "custom": "{}"}
    }
    assert checked(node) == {"metadata": {"nn_module_stack": "L__self__,,a.B;L__self__c,c,d.E"}}
    assert checked({"metadata": {"nn_module_stack": "a\nb"}}) == {"metadata": {}}
    assert checked({"guards_code": ["exec('1')"]}) == {"guards_code": []}
    assert checked({"treespec_namedtuple_fields": {"a b": {}}}) == {"treespec_namedtuple_fields": {}}


def test_a_weight_may_be_called_metadata() -> None:
    with pytest.raises(Unsafe):
        checked({"metadata": {"path_name": "a b", "use_pickle": False}})
