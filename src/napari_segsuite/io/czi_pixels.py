"""The pixels of CZI tiles, each decoded when a region asks for it, and put in its place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import zstd  # type: ignore[import-untyped]
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io import czi_tiles as ct
from napari_segsuite.io.czi_tiles import Tile
from napari_segsuite.io.faults import AGAIN
from napari_segsuite.io.lazy import Opened
from napari_segsuite.io.planes import Box, Kept, Planes

OUTER = "TCZ"
"""Dimensions that count planes of one image."""


@dataclass(frozen=True)
class Level:
    """One resolution of one image.

    Attributes
    ----------
    path : Path
    tiles : tuple of Tile
        Of one `Tile.factor`.
    box : (int, int, int, int)
        First row, the row after the last, first and after the last column of the image, in pixels of the finest resolution.
    outer : tuple of range
        The numbers along T, C and Z that the image has.
    """

    path: Path
    tiles: tuple[Tile, ...]
    box: Box
    outer: tuple[range, ...]

    @property
    def factor(self) -> float:
        """Pixels of the finest resolution per pixel."""
        return self.tiles[0].factor

    @property
    def coloured(self) -> bool:
        """Whether a pixel is red, green and blue."""
        return self.tiles[0].samples > 1

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The type that holds the values of all tiles."""
        return np.result_type(*{tile.dtype for tile in self.tiles}).newbyteorder("=")

    @property
    def letters(self) -> str:
        """Its axes: T, C and Z only where there are several."""
        counted = "".join(a for a, numbers in zip(OUTER.lower(), self.outer, strict=True) if len(numbers) > 1)
        return counted + "yx" + "c" * self.coloured

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        top, bottom, left, right = self.box
        return ceil((bottom - top) / self.factor), ceil((right - left) / self.factor)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its axes."""
        return (*(len(numbers) for numbers in self.outer if len(numbers) > 1), *self.size, *((3,) if self.coloured else ()))

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a tile among its axes."""
        colours = (3,) if self.coloured else ()
        return (*(1 for _ in self.letters[: len(self.shape) - 2 - len(colours)]), *self.tiles[0].stored, *colours)


def open_level(level: Level) -> Opened:
    """What `lazy.View` opens."""
    tiles: defaultdict[tuple[int, ...], list[Tile]] = defaultdict(list)
    for tile in sorted(level.tiles, key=lambda one: one.start.get("M", 0)):  # the later tile lies on top
        tiles[plane_of(tile)].append(tile)
    placed = {plane: (found, _boxes(level, found)) for plane, found in tiles.items()}
    kept = Kept()

    def region(at: tuple[int, ...], box: Box) -> NDArray[Any]:
        given = iter(at)
        plane = tuple(numbers[next(given) if len(numbers) > 1 else 0] for numbers in level.outer)
        return _region(level, *placed.get(plane, ([], _boxes(level, []))), box, kept)

    return Planes(level.shape, level.dtype, region, coloured=level.coloured), None


def plane_of(tile: Tile) -> tuple[int, ...]:
    """The numbers of the plane that a tile lies in."""
    return tuple(tile.start.get(name, 0) for name in OUTER)


def pixels_of(tile: Tile, path: Path) -> NDArray[Any]:
    """Decode a tile: (rows, columns) or (rows, columns, 3), colours as red, green and blue.

    Raises
    ------
    InputError
        It is damaged.
    MissingExtra
    """
    with path.open("rb") as file:
        packed = ct.read_packed(file, tile, path)
    shape = (*tile.stored, *((tile.samples,) if tile.samples > 1 else ()))
    # Some programs say that a tile is packed, and store it as it is.
    if tile.packing == ct.RAW or len(packed) == tile.nbytes:
        return _red_first(_shaped(packed, tile, shape, path))
    if tile.packing in (ct.ZSTD, ct.ZSTD_WITH_HEADER):
        return _red_first(_shaped(_unzstd(packed, tile), tile, shape, path))
    import imagecodecs

    if tile.packing == ct.LZW:
        return _red_first(_shaped(imagecodecs.lzw_decode(packed, out=tile.nbytes), tile, shape, path))
    found = np.asarray((imagecodecs.jpeg_decode if tile.packing == ct.JPEG else imagecodecs.jpegxr_decode)(packed))
    if found.dtype != tile.dtype or found.shape[2:] != shape[2:]:
        raise InputError(f"a tile of {path} holds pixels of {found.dtype}, shape {found.shape}", f"{tile.dtype}, {shape}", AGAIN)
    return found[..., :3] if tile.samples > 1 else found  # decoders put red first themselves


def _boxes(level: Level, tiles: Sequence[Tile]) -> NDArray[np.int64]:
    """Where tiles lie in a level, (n, 4): see `planes.Box`."""
    corners = [(round((t.start["Y"] - level.box[0]) / level.factor), round((t.start["X"] - level.box[2]) / level.factor)) for t in tiles]
    return np.array([(y, y + t.stored[0], x, x + t.stored[1]) for (y, x), t in zip(corners, tiles, strict=True)], np.int64).reshape(-1, 4)


def _region(level: Level, tiles: Sequence[Tile], boxes: NDArray[np.int64], box: Box, kept: Kept) -> NDArray[Any]:
    """A part of a plane; 0 where there is no tile."""
    top, bottom, left, right = box
    whole = np.zeros((bottom - top, right - left, *((3,) if level.coloured else ())), level.dtype)
    meets = (boxes[:, 0] < bottom) & (boxes[:, 1] > top) & (boxes[:, 2] < right) & (boxes[:, 3] > left)
    for k in np.flatnonzero(meets).tolist():
        tile, (y, end, x, stop) = tiles[k], boxes[k].tolist()
        first, start = max(y, top), max(x, left)
        part = slice(first - y, min(end, bottom) - y), slice(start - x, min(stop, right) - x)
        found = kept.get(tile.at, partial(pixels_of, tile, level.path))[part]
        # Of a level, tiles at the edge can be a row or column smaller than declared.
        whole[first - top : first - top + found.shape[0], start - left : start - left + found.shape[1]] = found
    return whole


def _shaped(data: Any, tile: Tile, shape: tuple[int, ...], path: Path) -> NDArray[Any]:
    if len(data) < tile.nbytes:
        raise InputError(f"a tile of {path} holds {len(data)} bytes, and {shape} pixels of {tile.dtype} are {tile.nbytes}", do=AGAIN)
    return np.frombuffer(data, tile.dtype, tile.nbytes // tile.dtype.itemsize).reshape(shape)


def _red_first(found: NDArray[Any]) -> NDArray[Any]:
    """Stored colours begin with blue; the fourth sample is not used."""
    return found[..., 2::-1] if found.ndim > 2 else found


def _unzstd(packed: bytes, tile: Tile) -> Any:
    """Unpack Zstandard; with a header that can say that the low bytes of all samples come first, then the high ones."""
    mixed, begin = False, 0
    if tile.packing == ct.ZSTD_WITH_HEADER:
        begin = packed[0]
        if begin not in (1, 3):
            raise ValueError(f"a header of {begin} bytes")
        mixed = begin == 3 and packed[1] == 1 and bool(packed[2] & 1)
    data = zstd.decompress(packed[begin:], np.empty(tile.nbytes, np.uint8))
    return np.asarray(data).reshape(2, -1).T.tobytes() if mixed and tile.dtype.itemsize == 2 else memoryview(data)
