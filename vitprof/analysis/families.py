"""The family of a model, from its name: what inversions are grouped by, so that one family does not fill the table.

Its own file because tables and pictures group alike. It never enters a reason (`reasons`).
"""

from __future__ import annotations

import re

# Sources that are written before a name.
_SOURCE = re.compile(r"(timm|torchvision):")
_LEADING_LETTERS = re.compile(r"[A-Za-z]+")
_FIRST_WORD = re.compile(r"_[A-Za-z]+")
# Letters that say who made a model, or nothing: the next word is needed to tell families apart.
_TOO_WIDE = ("vit", "tf", "eva", "test")


def family_of(name: str) -> str:
    """`efficientnet` from `efficientnet_b0`, `tf_efficientnet` from `tf_efficientnet_b0`; `name` if no letter leads."""
    bare = _SOURCE.sub("", name, count=1) if _SOURCE.match(name) else name
    letters = _LEADING_LETTERS.match(bare)
    if letters is None:
        return bare
    word = _FIRST_WORD.search(bare) if letters[0] in _TOO_WIDE else None
    return letters[0] + (word[0] if word else "")
