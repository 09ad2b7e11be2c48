"""The JSON of an exported program, string by string: what torch's loader would evaluate must be plain.

torch looks operators up by attribute from `torch`, `operator` and `math` (`torch.os.system` is one), hands symbolic
sizes to sympy (which evaluates Python), imports the modules that a tree of outputs names, compiles guards, and writes
every name into the Python that it generates for a graph. So nothing is searched for here: every string must be what
its place wants, in the narrowest form that `torch.export.save` writes, and what is not needed is left out.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from vitprof.models.trust import shown

# An operator of these computes, except the two of `_FILE_OPERATORS`; other namespaces reach networks and libraries.
_NAMESPACES = "aten|prims|quantized|quantized_decomposed|torchvision"
_OPERATOR = re.compile(rf"torch\.ops\.({_NAMESPACES})\.(\w+)\.(\w+)", re.ASCII)
# `torch.from_file` makes and changes files when it maps them shared; `aten::save` writes one.
FILE_OPERATORS = frozenset({"from_file", "save"})
# Branches and loops, whose bodies are graphs of the same JSON; and arithmetic on sizes (_SYM_OPS of
# torch/_export/serde/serialize.py).
_CONTROL = re.compile(
    r"torch\.ops\.higher_order\."
    r"(cond|while_loop|map_impl|scan|associative_scan|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_|lshift|rshift|getitem)"
    r"|math\.(trunc|ceil|floor|sqrt)"
    r"|torch\.sym_(not|int|float|ite|max|min|sqrt|sum)"
)
# Parameters and modules may be called 0 and a-b; nothing of these characters is a call, a string or a comment.
_NAME = re.compile(r"[\w.\-]*", re.ASCII)
_VERSION = re.compile(r"[\w.+<=\-]*", re.ASCII)
_MODULES = re.compile(r"[\w.,;:@<>\[\]' \-]*", re.ASCII)
# Arguments such as "bilinear": passed on as values.
_ARGUMENT = re.compile(r"[\x20-\x7e]*")
_SYMBOL = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NUMBER = re.compile(r"-?[\d.]+(e[+-]?\d+)?", re.ASCII)
_INFINITE = frozenset({"Infinity", "-Infinity", "NaN"})
_SIZE_TEXT = re.compile(r"[\w ()+\-*/%.,<>=&|~']*", re.ASCII)
# What sympy's `srepr` writes for sizes, and torch's own functions of them (GraphModuleDeserializer.sympy_functions).
_SIZE_FUNCTION = re.compile(
    r"Integer|Rational|Add|Mul|Pow|Max|Min|Abs|Equality|Unequality|LessThan|GreaterThan|StrictLessThan"
    r"|StrictGreaterThan|Eq|Ne|And|Or|Not|floor|ceiling|sqrt"
    r"|FloorDiv|ModularIndexing|Where|PythonMod|Mod|CleanDiv|CeilToInt|FloorToInt|CeilDiv|LShift|RShift|PowByNatural"
    r"|FloatPow|FloatTrueDiv|IntTrueDiv|IsNonOverlappingAndDenseIndicator|TruncToFloat|TruncToInt|RoundToInt"
    r"|RoundDecimal|ToFloat|Identity"
)
# Those whose first argument is a text that is not evaluated; sympy evaluates one anywhere else.
_SIZE_TEXTS = {"Symbol": _SYMBOL, "Float": _NUMBER}
_ARITHMETIC = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr),
    *(ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)
_SIZE_CONSTANTS = re.compile(r"[a-z]+\d+|oo|int_oo|true|false", re.ASCII)
_TREE_TYPES = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
_TREE_KEYS = {"type", "context", "children_spec"}


class Unsafe(Exception):
    """A string that torch might evaluate; its text says what was found."""


def checked(value: Any, key: str = "") -> Any:
    """`value` (of `json.loads`) without what no program needs; `Unsafe` for the first string that is not plain.

    `key`: the name under which the value stands; the strings of a list stand under the list's.
    """
    if isinstance(value, str):
        if key not in _STRINGS:
            raise Unsafe(f"a text where none belongs: {shown(key)}: {shown(value)}")
        if not _STRINGS[key](value):
            raise Unsafe(f"{_TOLD.get(key, 'the name')} {shown(value)}")
        return value
    if isinstance(value, Mapping):
        return {_plain_key(name): _kept(name, entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [checked(entry, key) for entry in value]
    return value


def _plain_key(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Unsafe(f"the name {shown(name)}")
    return name


def _kept(key: str, value: Any) -> Any:
    # Kept by torch for reading only, but guards are compiled and the rest is free text.
    if key == "guards_code":
        return []
    if key == "treespec_namedtuple_fields":
        return {}
    # A weight may be called metadata too: its entry is not all texts.
    if key == "metadata" and isinstance(value, Mapping) and all(isinstance(entry, str) for entry in value.values()):
        return _modules_alone(value)
    return checked(value, key)


def _modules_alone(metadata: Mapping[str, str]) -> dict[str, str]:
    """Of which module an operator came: all that is worth keeping of what a node carries along."""
    modules = metadata.get("nn_module_stack", "")
    return {"nn_module_stack": modules} if modules and _MODULES.fullmatch(modules) else {}


def _is_operator(target: str) -> bool:
    if _CONTROL.fullmatch(target):
        return True
    match = _OPERATOR.fullmatch(target)
    if match is None or match[2] in FILE_OPERATORS:
        return False
    import torch

    # What torch has registered: its objects have attributes that are no operators.
    packet = getattr(getattr(torch.ops, match[1]), match[2], None)
    return isinstance(packet, torch._ops.OpOverloadPacket) and match[3] in packet.overloads()


def _is_size(text: str) -> bool:
    """Whether sympy would only compute: calls of known functions on whole numbers, symbols and one another."""
    if not _SIZE_TEXT.fullmatch(text):
        return False
    try:
        return _is_size_node(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_size_node(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=value):
            return isinstance(value, (bool, int, float))
        case ast.Name(id=name):
            return _SIZE_CONSTANTS.fullmatch(name) is not None
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
            return _is_size_call(name, arguments) and _are_facts(keywords)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Invert(), operand=operand):
            return _is_size_node(operand)
        case ast.BinOp(op=op, left=left, right=right) | ast.Compare(left=left, ops=[op], comparators=[right]):
            return isinstance(op, _ARITHMETIC) and _is_size_node(left) and _is_size_node(right)
    return False


def _is_size_call(name: str, arguments: list[ast.expr]) -> bool:
    match arguments:
        case [ast.Constant(value=str() as text)]:
            return name in _SIZE_TEXTS and _SIZE_TEXTS[name].fullmatch(text) is not None
    return _SIZE_FUNCTION.fullmatch(name) is not None and all(map(_is_size_node, arguments))


def _are_facts(keywords: list[ast.keyword]) -> bool:
    """`positive=True, precision=53`."""
    return all(
        one.arg is not None and isinstance(one.value, ast.Constant) and isinstance(one.value.value, (bool, int))
        for one in keywords
    )


def _is_tree(text: str) -> bool:
    """Whether inputs or outputs are nested in plain containers: any other type names a module to import."""
    try:
        [protocol, tree] = json.loads(text)
        return protocol == 1 and _is_tree_node(tree)
    except (ValueError, TypeError, RecursionError):
        return False


def _is_tree_node(node: Any) -> bool:
    if not isinstance(node, dict) or set(node) != _TREE_KEYS or node["type"] not in _TREE_TYPES:
        return False
    context = json.loads(node["context"]) if node["context"] is not None else None
    keys = context if isinstance(context, list) else [] if context is None else [context]
    plain = all(isinstance(key, int) or (isinstance(key, str) and bool(_NAME.fullmatch(key))) for key in keys)
    return plain and all(map(_is_tree_node, node["children_spec"]))


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


# Every place of torch/_export/serde/schema.py that holds a text; custom objects are missing, they are pickles.
_STRINGS: dict[str, Callable[[str], bool]] = {
    "target": _is_operator,
    "as_operator": _is_operator,
    "expr_str": _is_size,
    "in_spec": _is_tree,
    "out_spec": _is_tree,
    "as_string": _matches(_ARGUMENT),
    "as_strings": _matches(_ARGUMENT),
    "torch_version": _matches(_VERSION),
    **dict.fromkeys(("as_float", "as_floats", "as_float_lists", "real", "imag"), _INFINITE.__contains__),
    **dict.fromkeys(("name", "as_name", "fqn", "forward_arg_names", "verifiers", "path_name", "type"), _matches(_NAME)),
    **dict.fromkeys(("parameter_name", "buffer_name", "tensor_constant_name", "user_input_name"), _matches(_NAME)),
}
_TOLD = {
    "target": "it calls",
    "as_operator": "it calls",
    "expr_str": "a size that is more than arithmetic:",
    "in_spec": "inputs of the type",
    "out_spec": "outputs of the type",
}
