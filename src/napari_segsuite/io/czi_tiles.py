"""The directory of a CZI file: where its tiles are, what they show, and its XML.

Written after what ZEISS publishes of the format (https://zeiss.github.io/libczi/): segments with a name and a length; one of them lists all tiles,
with their place along each dimension, in pixels of the finest resolution.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from napari_segsuite.errors import InputError
from napari_segsuite.io.bulk import HARMLESS_BYTES
from napari_segsuite.io.faults import AGAIN, size_text

TYPES = {
    0: ("u1", 1), 1: ("u2", 1), 2: ("f4", 1), 3: ("u1", 3), 4: ("u2", 3), 8: ("f4", 3), 9: ("u1", 4), 12: ("u4", 1), 13: ("f8", 1),
}  # fmt: skip
"""Number of a pixel type -> numpy's type, and samples per pixel; the numbers that are not here are complex."""

RAW, JPEG, LZW, JPEG_XR, ZSTD, ZSTD_WITH_HEADER = 0, 1, 2, 4, 5, 6
PACKINGS = {RAW: 1, JPEG: 2000, LZW: 4096, JPEG_XR: 50_000, ZSTD: 50_000, ZSTD_WITH_HEADER: 50_000}
"""Number of a compression -> how many bytes one stored byte can become; more is a bomb or damage."""

_SEGMENT = struct.Struct("<16sqq")
_FILE = struct.Struct("<iiii16s16siqqiq")
_ENTRY = struct.Struct("<2siqiiB5si")
_DIMENSION = struct.Struct("<4siifi")
_BLOCK = struct.Struct("<iiq")
_DIRECTORY_HEAD, _XML_HEAD, _BLOCK_HEAD = 128, 256, 256


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of pixels.

    Attributes
    ----------
    start : mapping of str to int
        First number along each dimension, ``X`` and ``Y`` in pixels of the finest resolution; the order of ``M`` is that of painting.
    size : (int, int)
        Height and width in pixels of the finest resolution.
    stored : (int, int)
        Height and width as stored.
    kind, packing : int
        Keys of `TYPES` and `PACKINGS`.
    at : int
        Where its segment begins.
    """

    start: Mapping[str, int]
    size: tuple[int, int]
    stored: tuple[int, int]
    kind: int
    packing: int
    at: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a sample."""
        return np.dtype(f"<{TYPES[self.kind][0]}")

    @property
    def samples(self) -> int:
        """Per pixel: 1, or 3 or 4 for colours."""
        return TYPES[self.kind][1]

    @property
    def nbytes(self) -> int:
        """Size of its pixels in memory."""
        return prod(self.stored) * self.samples * self.dtype.itemsize

    @property
    def factor(self) -> float:
        """Pixels of the finest resolution per stored one, along an axis; below 1 where more are stored, as of localized molecules."""
        (height, width), (rows, columns) = self.size, self.stored
        ratio = max(height / rows, width / columns)
        return float(round(ratio)) if ratio >= 1 else 1 / round(1 / min(height / rows, width / columns))


def read_directory(path: Path) -> tuple[list[Tile], str]:
    """The tiles of a file, and its XML.

    Raises
    ------
    InputError
        It is no CZI file, is cut off, one of several that belong together, or declares tiles that it cannot hold.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < _SEGMENT.size + _FILE.size or not _name_at(file, 0).startswith(b"ZISRAWFILE"):
            raise InputError(f"file {path} does not begin like a CZI file ({size_text(size)} long)", do=AGAIN)
        *_, part, directory, metadata, _, _ = _FILE.unpack(file.read(_FILE.size))
        if part:
            raise InputError(f"file {path} is part {part} of a CZI in several files", "one file", "Save it as one file with ZEN.")
        if not directory:
            raise InputError(f"file {path} was not closed by the program that wrote it, so its list of tiles is missing", do=AGAIN)
        tiles = _tiles(file, directory, size, path)
        return tiles, _xml(file, metadata, path) if metadata else ""


def read_packed(file: BinaryIO, tile: Tile, path: Path) -> bytes:
    """The bytes of a tile, as stored.

    Raises
    ------
    InputError
        They are not there.
    """
    if not _name_at(file, tile.at).startswith(b"ZISRAWSUBBLOCK"):
        raise InputError(f"file {path} has no tile at byte {tile.at}, where its list says that there is one", do=AGAIN)
    head = file.read(_BLOCK.size + _ENTRY.size)
    more, _, length = _BLOCK.unpack_from(head)
    dimensions = _ENTRY.unpack_from(head, _BLOCK.size)[-1]
    first = tile.at + _SEGMENT.size + max(_BLOCK_HEAD, len(head) + dimensions * _DIMENSION.size) + more
    room = os.fstat(file.fileno()).st_size - first
    if more < 0 or not 0 <= length <= room:
        raise InputError(f"file {path} is truncated: the tile at byte {tile.at} needs {length} bytes, and {max(room, 0)} are there", do=AGAIN)
    file.seek(first)
    return file.read(length)


def _name_at(file: BinaryIO, at: int) -> bytes:
    """The name of the segment at a byte; the file stands at what is in it then."""
    file.seek(at)
    name: bytes = _SEGMENT.unpack(file.read(_SEGMENT.size))[0]
    return name


def _tiles(file: BinaryIO, at: int, size: int, path: Path) -> list[Tile]:
    if not 0 < at < size or not _name_at(file, at).startswith(b"ZISRAWDIRECTORY"):
        raise InputError(f"file {path} is truncated: its list of tiles should be at byte {at}, and is not there", do=AGAIN)
    (count,) = struct.unpack("<i", file.read(4))
    if not 0 <= count <= size // (_ENTRY.size + 2 * _DIMENSION.size):
        raise InputError(f"file {path} declares {count} tiles, and is {size_text(size)} long", do=AGAIN)
    file.seek(at + _SEGMENT.size + _DIRECTORY_HEAD)
    return [_tile(file, size, path) for _ in range(count)]


def _tile(file: BinaryIO, size: int, path: Path) -> Tile:
    schema, kind, at, part, packing, _, _, n = _ENTRY.unpack(file.read(_ENTRY.size))
    if schema != b"DV" or not 2 <= n <= 64 or part:
        raise InputError(f"the list of tiles of file {path} holds what is no tile of this file ({schema!r}, {n} dimensions, part {part})", do=AGAIN)
    found = {
        name.rstrip(b"\0").decode("ascii"): (start, count, stored) for name, start, count, _, stored in _DIMENSION.iter_unpack(file.read(n * 20))
    }
    (_, height, rows), (_, width, columns) = found["Y"], found["X"]
    if min(height, width, rows, columns) < 1 or at <= 0 or at + _SEGMENT.size + _BLOCK_HEAD > size:
        raise InputError(f"file {path} declares a tile of {height} x {width} pixels at byte {at}, and ends at {size}", do=AGAIN)
    if kind not in TYPES or packing not in PACKINGS:
        found_text = f"the pixels of {path} are of the type {kind} with the compression {packing}"
        raise InputError(found_text, "whole or real numbers, as they are or packed by Zstandard, JPEG XR, JPEG or LZW", "Save it anew with ZEN.")
    tile = Tile({name: start for name, (start, _, _) in found.items()}, (height, width), (rows, columns), kind, packing, at)
    if tile.nbytes > max(HARMLESS_BYTES if packing else 0, size * PACKINGS[packing]):
        found_text = f"file {path} is {size_text(size)} long and declares a tile of {rows} x {columns} pixels, which needs {size_text(tile.nbytes)}"
        raise InputError(found_text, do=AGAIN)
    return tile


def _xml(file: BinaryIO, at: int, path: Path) -> str:
    if not _name_at(file, at).startswith(b"ZISRAWMETADATA"):
        raise InputError(f"file {path} has no metadata at byte {at}, where its header says that they are", do=AGAIN)
    (length,) = struct.unpack("<i", file.read(4))
    file.seek(at + _SEGMENT.size + _XML_HEAD)
    found = file.read(max(length, 0))
    if len(found) != length:
        raise InputError(f"file {path} is truncated: its metadata need {length} bytes, and {len(found)} are there", do=AGAIN)
    return found.decode("utf-8", "replace").rstrip("\0")
