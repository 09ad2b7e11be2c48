"""A program of torch.export to a `.tflite` file: run by path, with the interpreter of the environment `litert`.

Its own file because it is a program of that environment: vitprof is not installed there, and nothing of it is imported.
One JSON line on standard input asks (`program`, `shape`, `output`), one on standard output answers (`{}`, or `error`).
The end of standard input ends the process: whoever asked is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any


def main() -> None:
    """Answers one request."""
    wire = os.dup(1)
    # The converter prints: to standard error with it.
    os.dup2(2, 1)
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_host, daemon=True).start()
    try:
        _convert(request)
        answer = {}
    except BaseException as error:  # The border of the environment: torch, jax and MLIR raise what they like.
        answer = {"error": f"{type(error).__name__}: {error}"}
    os.write(wire, json.dumps(answer).encode() + b"\n")
    # Not through the threads and destructors of three frameworks.
    os._exit(0)


def _convert(request: dict[str, Any]) -> None:
    import litert_torch
    import torch

    module = torch.export.load(request["program"]).module(check_guards=False)
    with torch.no_grad():
        converted = litert_torch.convert(module, (torch.zeros(request["shape"]),))
    converted.export(request["output"])


def _end_with_host() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
