"""Archives that run code when torch loads them as it stands: what a file from a stranger may be.

Each would make an empty file, the marker, so that a test sees both that it does and that vitprof lets it not.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Edit = Callable[[Any], None]


class Evil:
    """Unpickled, it runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def saved(value: object) -> bytes:
    """As torch.save writes it."""
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def altered(
    source: Path,
    target: Path,
    *,
    edits: Mapping[str, Edit] | None = None,
    members: Mapping[str, bytes | None] | None = None,
) -> Path:
    """A copy of an archive with JSON members changed, and members put in or (None) left out."""
    left = dict(members or {})
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for info in old.infolist():
            name = info.filename.partition("/")[2]
            data = left.pop(name) if name in left else old.read(info)
            if data is None:
                continue
            if edits and name in edits:
                body = json.loads(data)
                edits[name](body)
                data = json.dumps(body).encode()
            new.writestr(info.filename, data)
        for name, data in left.items():
            new.writestr(f"{root}/{name}", data or b"")
    return target


PROGRAM = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
SAMPLES = "data/sample_inputs/model.pt"


def _graph(body: Any) -> Any:
    return body["graph_module"]["graph"]


def _call(target: str, *arguments: Any, output: Any) -> Any:
    inputs = [{"name": name, "arg": value, "kind": 1} for name, value in arguments]
    return {"target": target, "inputs": inputs, "outputs": [output], "metadata": {}, "name": "added"}


def pickled_weight(source: Path, target: Path, marker: Path) -> Path:
    def edit(body: Any) -> None:
        next(iter(body["config"].values()))["use_pickle"] = True

    return altered(source, target, edits={WEIGHTS: edit}, members={"data/weights/weight_0": saved(Evil(marker))})


def pickled_constant(source: Path, target: Path, marker: Path) -> Path:
    def edit(body: Any) -> None:
        next(iter(body["config"].values())).update(path_name="opaque_obj_0", use_pickle=True)

    members = {"data/constants/opaque_obj_0": pickle.dumps(Evil(marker))}
    return altered(source, target, edits={CONSTANTS: edit}, members=members)


def pickled_samples(source: Path, target: Path, marker: Path) -> Path:
    return altered(source, target, members={SAMPLES: saved(Evil(marker))})


def pickled_weights_of_old(source: Path, target: Path, marker: Path) -> Path:
    """The layout of torch 2.7."""
    return altered(source, target, members={"data/weights/model.pt": saved(Evil(marker))})


def pickled_constants_of_old(source: Path, target: Path, marker: Path) -> Path:
    return altered(source, target, members={"data/constants/model.pt": saved(Evil(marker))})


def oldest_layout(source: Path, target: Path, marker: Path) -> Path:
    """The layout before torch 2.7: pickles beside the program."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        program = next(old.read(name) for name in old.namelist() if name.endswith(PROGRAM))
        new.writestr("version", "8.1")
        new.writestr("serialized_exported_program.json", program)
        for name in ("state_dict", "constants", "example_inputs"):
            new.writestr(f"serialized_{name}.pt", saved(Evil(marker)))
    return target


def size_that_is_code(source: Path, target: Path, marker: Path) -> Path:
    def edit(body: Any) -> None:
        sizes = (size for meta in _graph(body)["tensor_values"].values() for size in meta["sizes"])
        next(size for size in sizes if "as_expr" in size)["as_expr"]["expr_str"] = (
            f"__import__('os').system('touch {marker}')"
        )

    return altered(source, target, edits={PROGRAM: edit})


def size_in_a_text(source: Path, target: Path, marker: Path) -> Path:
    """sympy evaluates a text that stands among the arguments of a function."""

    def edit(body: Any) -> None:
        sizes = (size for meta in _graph(body)["tensor_values"].values() for size in meta["sizes"])
        code = f"__import__(chr(111)+chr(115)).system('touch {marker}')"
        next(size for size in sizes if "as_expr" in size)["as_expr"]["expr_str"] = f"Max({code!r}, Integer(1))"

    return altered(source, target, edits={PROGRAM: edit})


def imported_module(source: Path, target: Path, marker: Path) -> Path:
    """A tree of outputs whose context is an enum of a module; that module must be importable."""
    module = target.parent / "planted_module.py"
    module.write_text(f"open({str(marker)!r}, 'w').close()\n")

    def edit(body: Any) -> None:
        signature = body["graph_module"]["module_call_graph"][0]["signature"]
        tree = json.loads(signature["out_spec"])
        enum = {"__enum__": True, "fqn": f"{module.stem}:Kind", "name": "A"}
        tree[1] = {"type": "builtins.tuple", "context": json.dumps(enum), "children_spec": tree[1]["children_spec"]}
        signature["out_spec"] = json.dumps(tree)

    return altered(source, target, edits={PROGRAM: edit})


def file_operator(source: Path, target: Path, marker: Path) -> Path:
    """A file mapped shared is made where there is none, and written to from then on."""

    def edit(body: Any) -> None:
        graph = _graph(body)
        arguments = (("filename", {"as_string": str(marker)}), ("shared", {"as_bool": True}), ("size", {"as_int": 4}))
        node = _call("torch.ops.aten.from_file.default", *arguments, output={"as_tensor": {"name": "added"}})
        graph["nodes"].insert(0, node)
        usual = next(iter(graph["tensor_values"].values()))
        graph["tensor_values"]["added"] = {**usual, "sizes": [{"as_int": 4}], "strides": [{"as_int": 1}]}

    return altered(source, target, edits={PROGRAM: edit})


def guard_that_is_code(source: Path, target: Path, marker: Path) -> Path:
    def edit(body: Any) -> None:
        body["guards_code"] = [f"__import__('os').system('touch {marker}') == 0"]

    return altered(source, target, edits={PROGRAM: edit})


def function_as_operator(source: Path, target: Path, marker: Path) -> Path:
    def edit(body: Any) -> None:
        argument = ("", {"as_string": f"touch {marker}"})
        _graph(body)["nodes"].insert(0, _call("torch.os.system", argument, output={"as_none": True}))

    return altered(source, target, edits={PROGRAM: edit})


def function_as_argument(source: Path, target: Path, marker: Path) -> Path:
    """In a graph within a graph: the branch of a condition."""

    def edit(body: Any) -> None:
        inner = {**_graph(body), "nodes": [_call("torch.os.system", output={"as_none": True})]}
        branch = ("", {"as_graph": {"name": "branch", "graph": inner}})
        predicate = ("", {"as_bool": True})
        node = _call("torch.ops.higher_order.cond", predicate, branch, branch, output={"as_none": True})
        _graph(body)["nodes"].insert(0, node)

    return altered(source, target, edits={PROGRAM: edit})


def extension_operator(source: Path, target: Path, marker: Path) -> Path:
    def edit(body: Any) -> None:
        _graph(body)["nodes"].insert(0, _call("#namespace:name", output={"as_none": True}))

    return altered(source, target, edits={PROGRAM: edit})


def name_that_is_code(source: Path, target: Path, marker: Path) -> Path:
    """Names of inputs stand in the Python that torch generates for a graph."""

    def edit(body: Any) -> None:
        signature = body["graph_module"]["module_call_graph"][0]["signature"]
        signature["forward_arg_names"] = [f"x=__import__('os').system('touch {marker}')"]

    return altered(source, target, edits={PROGRAM: edit})


def custom_object(source: Path, target: Path, marker: Path) -> Path:
    def edit(body: Any) -> None:
        body["graph_module"]["signature"]["input_specs"].append(
            {"custom_obj": {"arg": {"name": "o", "class_fqn": "__torch__.torch.classes.a.B"}, "custom_obj_name": "o"}}
        )

    return altered(source, target, edits={PROGRAM: edit})


def compiled_code(source: Path, target: Path, marker: Path) -> Path:
    return altered(source, target, members={"data/aotinductor/model/model.so": b"\x7fELF"})


def member_outside(source: Path, target: Path, marker: Path) -> Path:
    return altered(source, target, members={"../../escaped": b"x"})


def member_twice(source: Path, target: Path, marker: Path) -> Path:
    """One reader of a zip takes the first of two, another the last."""
    altered(source, target)
    with zipfile.ZipFile(target, "a") as archive:
        first = next(name for name in archive.namelist() if name.endswith(PROGRAM))
        archive.writestr(first.replace("model.json", "MODEL.json"), b"{}")
    return target


# What each is refused for.
REFUSED: dict[Callable[[Path, Path, Path], Path], str] = {
    pickled_weight: "is a pickle",
    pickled_constant: "is a pickle",
    pickled_samples: "a pickle that calls 'posix.system'",
    pickled_weights_of_old: "weights are a pickle",
    pickled_constants_of_old: "weights are a pickle",
    oldest_layout: "weights are a pickle",
    size_that_is_code: "more than arithmetic",
    size_in_a_text: "more than arithmetic",
    imported_module: "outputs of the type",
    file_operator: "it calls 'torch.ops.aten.from_file.default'",
    function_as_operator: "it calls 'torch.os.system'",
    function_as_argument: "it calls 'torch.os.system'",
    extension_operator: "it calls '#namespace:name'",
    name_that_is_code: "the name",
    custom_object: "a text where none belongs",
    compiled_code: "compiled code",
    member_outside: "outside the archive",
    member_twice: "the same name",
}
# These run as soon as torch.export.load, .module() or a call is left to itself (torch 2.13).
RUN_UNGUARDED = (
    *(pickled_weight, pickled_constant, pickled_samples, pickled_weights_of_old, pickled_constants_of_old),
    *(oldest_layout, size_that_is_code, size_in_a_text, imported_module, file_operator, guard_that_is_code),
)
