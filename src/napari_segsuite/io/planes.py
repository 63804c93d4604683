"""Arrays that are made of planes in a file: each is read when something of it is asked for, and the last ones are kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.bulk import HARMLESS_BYTES, LAZY_BYTES
from napari_segsuite.io.faults import AGAIN, size_text
from napari_segsuite.io.geometry import Described, channel_names, fields_of, order_of, parse_axes, stem_of
from napari_segsuite.io.lazy import Opened, View
from napari_segsuite.types import SPATIAL, Image

Box = tuple[int, int, int, int]
"""First row, the row after the last, first column, the column after the last."""

MOST_EMPTY = 1000
"""How many times larger than what is stored of it an image may be."""

Region = Callable[[tuple[int, ...], Box], NDArray[Any]]
"""Reads a part of the plane at some numbers: (rows, columns) or (rows, columns, colours)."""


class Kept:
    """What was read or decoded last, up to a number of bytes; safe to use from many threads."""

    def __init__(self, most: int = LAZY_BYTES) -> None:
        self._most, self._held, self._lock = most, 0, Lock()
        self._arrays: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array of this key, made anew where it is not kept; not to be written to."""
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
        found = make()
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = found
                self._held += found.nbytes
            while self._held > self._most and len(self._arrays) > 1:
                self._held -= self._arrays.popitem(last=False)[1].nbytes
        return found


class Planes:
    """Planes in a file as one array; `lazy.View` opens it.

    Parameters
    ----------
    shape : tuple of int
        Of the array: the axes that count planes, then rows and columns, then colours if `coloured`.
    dtype : dtype
    region : callable
        Reads a part of one plane.
    coloured : bool
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], region: Region, *, coloured: bool = False) -> None:
        self._shape, self._dtype, self._region = shape, dtype, region
        self._outer = len(shape) - (3 if coloured else 2)

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        """A part, all axes of which are there."""
        ranges = [range(*one.indices(n)) for one, n in zip(key, self._shape, strict=True)]
        whole = np.zeros([len(one) for one in ranges], self._dtype)
        if not whole.size:
            return whole
        (rows, columns), rest = forwards(key[self._outer : self._outer + 2], self._shape[self._outer :])
        box, rest = (rows.start, rows.stop, columns.start, columns.stop), (*rest, *key[self._outer + 2 :])
        for to, at in zip(np.ndindex(*whole.shape[: self._outer]), product(*ranges[: self._outer]), strict=True):
            whole[to] = self._region(at, box)[rest]
        return whole


def forwards(key: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices that go forwards in steps of one, and what is left to do to what they give.

    >>> forwards((slice(None, None, -2), slice(1, 9, 3)), (6, 9))
    ((slice(1, 6, None), slice(1, 8, None)), (slice(None, None, -2), slice(None, None, 3)))
    """
    ranges = [range(*one.indices(n)) for one, n in zip(key, shape, strict=False)]
    box = tuple(slice(min(one), max(one) + 1) if one else slice(0, 0) for one in ranges)
    return box, tuple(slice(None, None, one.step) for one in ranges)


def check_extent(shape: tuple[int, ...], dtype: np.dtype[Any], there: int, path: Path) -> None:
    """Refuse an image that is far larger than what a file can hold of it; what is not there is 0.

    Parameters
    ----------
    shape, dtype
        Of the image.
    there : int
        Bytes of it that can be there.
    path : Path

    Raises
    ------
    InputError
    """
    nbytes = prod(shape) * dtype.itemsize
    if nbytes > max(HARMLESS_BYTES, MOST_EMPTY * there):
        found = f"file {path} declares an image of shape {shape}, which needs {size_text(nbytes)}, and holds {size_text(there)} of it at most"
        raise InputError(found, do=AGAIN)


@dataclass(frozen=True)
class Stored:
    """An array in a file.

    Attributes
    ----------
    opening : callable
        As of `lazy.View`.
    shape : tuple of int
    dtype : dtype
    chunks : tuple of int, optional
    """

    opening: Callable[[], Opened]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None = None


def to_image(levels: Sequence[Stored], letters: str, described: Described, path: Path, axes: str | None) -> Image:
    """Make an `Image` of what a file holds, which stays there until it is asked for.

    Parameters
    ----------
    levels : sequence of Stored
        Finest first.
    letters : str
        Their axes as the file has them.
    described : Described
    path : Path
    axes : str, optional
        Their axes as a user has them.
    """
    stored = parse_axes(axes, levels[0].shape, path) if axes else letters
    # Lengths belong to what is stored, whatever it is called.
    was = {new: old for new, old in zip(stored, letters, strict=True) if new in SPATIAL and old in SPATIAL}
    sizes = {**described.sizes, **{new: described.sizes[old] for new, old in was.items() if old in described.sizes}}
    moved = {**described.translate, **{new: described.translate[old] for new, old in was.items() if old in described.translate}}
    described = replace(described, sizes=sizes, translate=moved)
    found, order = order_of(stored)
    views = tuple(View(one.opening, one.shape, one.dtype, order, path, one.chunks) for one in levels)
    n = views[0].shape[found.index("c")] if "c" in found else 0
    return Image(
        levels=views, channels=channel_names(n, described), rgb=described.rgb and "c" in found, name=stem_of(path), source=str(path),
        **fields_of(found, described),
    )  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """Samples that lie in a file as they are.

    Attributes
    ----------
    path : Path
    first : int
        Byte of the first sample.
    shape, steps : tuple of int
        Length of each axis, and bytes from one sample to the next.
    dtype : dtype
    """

    path: Path
    first: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]
    dtype: np.dtype[Any]


def check_samples(samples: Samples, begin: int, room: int) -> None:
    """Complain of samples that lie outside of the bytes from `begin` on of which there are `room`.

    Raises
    ------
    InputError
    """
    reach = [step * (n - 1) for n, step in zip(samples.shape, samples.steps, strict=True)]
    low = samples.first - begin + sum(n for n in reach if n < 0)
    end = samples.first - begin + sum(n for n in reach if n > 0) + samples.dtype.itemsize
    if min(samples.shape) < 1 or low < 0 or end > room:
        told = f"file {samples.path} declares an image of shape {samples.shape} and type {samples.dtype}, which needs {size_text(end)}"
        raise InputError(f"{told}, and holds {size_text(max(room, 0))} of it", do=AGAIN)


def open_samples(samples: Samples) -> Opened:
    """What `lazy.View` opens: a map of the file into memory."""
    mapped = np.memmap(samples.path, np.uint8, "r")
    return np.ndarray(samples.shape, samples.dtype, mapped, samples.first, samples.steps), None
