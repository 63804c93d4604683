"""The outside of a LIF file: its XML, and where its blocks of samples are."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import AGAIN, size_text

_MAGIC, _MARK = 0x70, 0x2A
_HEAD = struct.Struct("<IIBI")
_WIDE_FROM = 2
"""Version of the XML from which blocks say their length in 64 bits."""


def read_header(path: Path) -> tuple[str, dict[str, tuple[int, int]]]:
    """The XML of a file, and its blocks by name: first byte, and length as far as it is there.

    Raises
    ------
    InputError
        It is no LIF file, or cut off in its XML.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(_HEAD.size)
        magic, _, mark, length = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0, 0, 0)
        if (magic, mark) != (_MAGIC, _MARK):
            raise InputError(f"file {path} does not begin like a LIF file ({size_text(size)} long)", do=AGAIN)
        if 2 * length > size - _HEAD.size:
            raise InputError(f"file {path} is truncated: its XML needs {size_text(2 * length)}, and it is {size_text(size)} long", do=AGAIN)
        text = file.read(2 * length).decode("utf-16-le")
        return text, _blocks(file, size, wide=_version(text) >= _WIDE_FROM)


def _version(text: str) -> int:
    """The version that the outermost element of the XML says."""
    return int(text.partition('Version="')[2].partition('"')[0] or 0)


def _blocks(file: BinaryIO, size: int, *, wide: bool) -> dict[str, tuple[int, int]]:
    """Follow the blocks to the end of the file; one that is cut off is the last."""
    about = struct.Struct("<IIBQBI" if wide else "<IIBIBI")
    found: dict[str, tuple[int, int]] = {}
    while len(head := file.read(about.size)) == about.size:
        magic, _, mark, length, other, characters = about.unpack(head)
        if (magic, mark, other) != (_MAGIC, _MARK, _MARK) or 2 * characters > size:
            break
        name = file.read(2 * characters).decode("utf-16-le", "replace")
        at = file.tell()
        found[name] = (at, max(min(length, size - at), 0))
        file.seek(at + length)
    return found
