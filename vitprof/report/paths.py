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


def without_folders(text: str) -> str:
    """`text` with `…/` for the folders of every absolute path in it; URLs and relative paths stay."""
    return _PATHS.sub(_SHORT, text) if "/" in text or "\\" in text else text
