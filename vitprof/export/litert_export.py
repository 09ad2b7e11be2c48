"""A module to a `.tflite` file for LiteRT, by litert-torch in an environment of its own.

    module ─ rank4 ─► four axes ─ torch.export ─► program ─ litert_worker.py, in the environment ─► .tflite

A program crosses over and not the module: it needs neither timm nor the user's own packages on the other side.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vitprof import environments
from vitprof.errors import VitprofError
from vitprof.export.onnx_export import flattening, without_fast_attention
from vitprof.export.pt2_export import export_pt2
from vitprof.export.rank4 import rewritten

if TYPE_CHECKING:
    import torch

FORMAT = "litert"
_WORKER = Path(__file__).with_name("litert_worker.py")
# As much of a foreign error as a reader wants in a table.
_CAUSE_LETTERS = 300
# Where packages lie here says nothing about the model, and a survey is read elsewhere.
_INSTALLED = re.compile(r"\S*/(?:site|dist)-packages/")
_REMEDY = "measure it with --backend ort, which runs an ONNX export"


@dataclass(frozen=True)
class LitertExport:
    """Facts of a finished export."""

    exporter: str
    fixups: tuple[str, ...]


def check_set_up(cache_root: Path) -> None:
    """`UnreachableError` where the environment is not set up."""
    environments.python_of(environments.environment("litert"), cache_root)


def export_litert(module: torch.nn.Module, input_shape: tuple[int, ...], path: Path, cache_root: Path) -> LitertExport:
    """Writes `module` for fp32 images of `input_shape` to `path`.

    `UnreachableError` where the environment is not set up, `VitprofError` (stage "export") where the model cannot be
    converted.
    """
    import torch

    one = environments.environment("litert")
    python = environments.python_of(one, cache_root)
    image = torch.zeros(input_shape)
    with tempfile.TemporaryDirectory(prefix="vitprof-") as scratch, without_fast_attention():
        program = Path(scratch) / "model.pt2"
        flat, fixups = rewritten(flattening(module), image)
        export_pt2(flat, image, program)
        _convert(python, {"program": str(program), "shape": list(input_shape), "output": str(path)}, Path(scratch))
    return LitertExport(one.title, fixups)


def _convert(python: Path, request: dict[str, object], scratch: Path) -> None:
    with (scratch / "said.txt").open("w+b") as said:
        worker = subprocess.Popen(
            [str(python), "-I", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=environments.clean_variables(),
        )
        with worker:
            line = _answer(worker, request)
        if not line:
            raise VitprofError(
                f"litert-torch died with status {worker.returncode}: {_last_line(said)}", remedy=_REMEDY, stage="export"
            )
    error = json.loads(line).get("error")
    if error:
        raise VitprofError(f"litert-torch cannot take the model: {_short(error)}", remedy=_REMEDY, stage="export")


def _answer(worker: subprocess.Popen[bytes], request: dict[str, object]) -> bytes:
    assert worker.stdin is not None and worker.stdout is not None  # noqa: S101 - opened with PIPE
    try:
        worker.stdin.write(json.dumps(request).encode() + b"\n")
        worker.stdin.flush()
    except BrokenPipeError:
        # One that is dead already answers with nothing; what is left in the buffer goes here, or it is tried again.
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.close()
    # It stays open until there is an answer: its end would end the worker.
    return worker.stdout.readline()


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return _short(lines[-1]) if lines else "without a word"


def _short(error: str) -> str:
    text = _INSTALLED.sub("", " ".join(error.split()))
    return text if len(text) <= _CAUSE_LETTERS else f"{text[: _CAUSE_LETTERS - 1]}…"
