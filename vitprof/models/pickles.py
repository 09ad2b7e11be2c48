"""What a pickle would call, read from its opcodes without unpickling it.

Its own file, and used for words alone: what a message says of a file. Nothing is unpickled on its answer.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

# What torch.save writes for tensors in plain containers; a file with nothing else holds weights.
_TENSORS = ("torch._utils._rebuild_", "torch._tensor._rebuild_", "torch.storage.")
_PLAIN = (
    "collections.OrderedDict",
    "torch.Size",
    "torch.device",
    "torch.nn.parameter.Parameter",
    "torch.serialization",
)
# torch.FloatStorage, torch.float32: how the type of a tensor is told.
_TYPE = re.compile(r"torch\.(\w+Storage|b?float\w*|u?int\d+|bool)")
# The format before torch 1.6 has four pickles in a row before the tensors' bytes.
_LEGACY_PICKLES = 5
_STRINGS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING")


def called_by(file: BinaryIO) -> tuple[str, ...]:
    """`module.name` of all that unpickling `file` (of torch.save, or a plain pickle) would import, sorted.

    `ValueError` where it is no pickle.
    """
    return tuple(sorted({name for part in _pickles(file) for name in _imported(part)}))


def foreign(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `names` that are not how a tensor or a plain container is put together again; none for mere weights."""
    return tuple(name for name in names if not (name.startswith(_TENSORS) or name in _PLAIN or _TYPE.fullmatch(name)))


def _pickles(file: BinaryIO) -> Iterator[BinaryIO]:
    is_archive = zipfile.is_zipfile(file)
    file.seek(0)
    if not is_archive:
        yield file
        return
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith((".pkl", ".pickle"))]
            yield from (io.BytesIO(archive.read(name)) for name in names)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        raise ValueError(str(error)) from error
    if not names:
        raise ValueError("a zip archive without a pickle")


def _imported(stream: BinaryIO) -> Iterator[str]:
    """By pickle's own rules, near enough: a name that is put together at run time is told as such."""
    yield from _imported_by_one(stream)
    for _ in range(_LEGACY_PICKLES - 1):
        try:
            yield from _imported_by_one(stream)
        except ValueError:
            # The bytes after the last pickle.
            return


def _imported_by_one(stream: BinaryIO) -> Iterator[str]:
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name in _STRINGS:
                strings.append(str(argument))
            elif opcode.name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", ".", 1)
            elif opcode.name == "STACK_GLOBAL":
                yield ".".join(strings[-2:]) if len(strings) > 1 else "a name that is not spelled out"
            elif opcode.name in ("EXT1", "EXT2", "EXT4"):
                yield f"extension {argument}"
    except (ValueError, UnicodeDecodeError, IndexError) as error:
        raise ValueError(f"no pickle: {error}") from error
