"""Text without the folders of the machine that it was written on.

Its own file because a report is published, and error texts and names of files say where somebody's files lie. What a
path names is kept: its last part. Names of ONNX nodes look like paths (`/blocks.0/attn/MatMul`) and stay.
"""

from __future__ import annotations

import re

_SHORT = "…/"
# The top of file systems, on Linux, macOS and in containers.
_TOPS = (
    "Applications|Library|System|Users|Volumes|app|bin|boot|cache|content|data|dev|etc|export|home|kaggle|lib|lib64"
    "|media|mnt|nfs|nix|opt|private|proc|project|projects|repo|root|run|sbin|scratch|sdcard|share|snap|srv|storage"
    "|sys|tmp|usr|var|venv|work|workspace|workspaces"
)
_PART = r"[^\s/\\'\"`<>|:;,()\[\]{}]+"
_PATHS = re.compile(
    # In quotes a path may hold blanks.
    rf"(?<=['\"`])(?:~[\w.-]*/|/(?:{_TOPS})/|[A-Za-z]:[\\/]|\\\\)[^'\"`\n]*[\\/](?=[^'\"`\\/]+['\"`])"
    rf"|(?:\bfile://|(?<![\w./\\…~-]))(?:~[\w.-]*/|/(?:{_TOPS})/|[A-Za-z]:[\\/]|\\\\)(?:{_PART}[\\/])*"
    # Under a folder of another name, what has a suffix is a file.
    rf"|(?<![\w.:/\\…~-])/(?:{_PART}/)+(?=[^\s/\\'\"`<>|:;,()\[\]{{}}]*\.[A-Za-z]\w{{0,6}}\b(?!/))"
)


_SEPARATORS = re.compile(r"[\\/]")


def without_folders(text: str, model: str = "") -> str:
    """`text` with `…/` for the folders of every absolute path in it; URLs and relative paths stay.

    Outside of quotes a path ends at a blank, but for those of `model`, the path that the text is about.
    """
    if "/" not in text and "\\" not in text:
        return text
    folders = model[: -len(_last(model))] if _last(model) and name_without_folders(model) != model else ""
    return _PATHS.sub(_SHORT, text.replace(folders, _SHORT) if folders else text)


def name_without_folders(name: str) -> str:
    """A model's name; of one that is an absolute path, in whose folders there may be blanks, `…/` and its last part."""
    short = without_folders(name)
    return f"{_SHORT}{_last(short)}" if short.startswith(_SHORT) else short


def _last(path: str) -> str:
    return _SEPARATORS.split(path)[-1]
