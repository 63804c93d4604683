"""Going through an array that need not fit in memory, piece by piece along its chunks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.types import ArrayLike

BLOCK_ELEMENTS = 2**23
"""How many elements a piece has at most where nothing else is said, unless one chunk has more."""

Region = tuple[slice, ...]


def regions(shape: tuple[int, ...], chunks: tuple[int, ...], limit: int | None = None) -> Iterator[Region]:
    """Cut a shape into boxes made of whole chunks, in C order.

    >>> list(regions((3, 4), (1, 4), limit=8))
    [(slice(0, 2, None), slice(0, 4, None)), (slice(2, 3, None), slice(0, 4, None))]
    """
    steps = _grow(shape, chunks, BLOCK_ELEMENTS if limit is None else limit)
    starts = [range(0, n, step) for n, step in zip(shape, steps, strict=True)]
    for corner in itertools.product(*starts):
        yield tuple(slice(at, min(at + step, n)) for at, step, n in zip(corner, steps, shape, strict=True))


def pieces(array: ArrayLike, limit: int | None = None) -> Iterator[tuple[Region, NDArray[Any]]]:
    """Read an array region by region, along the chunks in which it is stored."""
    for region in regions(tuple(array.shape), chunks_of(array), limit):
        yield region, np.asarray(array[region])


def chunks_of(array: ArrayLike) -> tuple[int, ...]:
    """The chunk shape of an array: its own where it has one, else single rows that `regions` puts together."""
    own = getattr(array, "chunks", None)
    if own and all(isinstance(n, int) and n > 0 for n in own):
        return tuple(own)
    if own and all(isinstance(sizes, tuple) and sizes for sizes in own):  # dask lists the size of every chunk
        return tuple(max(1, max(sizes)) for sizes in own)
    return (1,) * (len(array.shape) - 1) + (max(1, array.shape[-1]),) if array.shape else ()


def _grow(shape: tuple[int, ...], chunks: tuple[int, ...], limit: int) -> list[int]:
    steps = [max(1, min(c, n)) for c, n in zip(chunks, shape, strict=True)]
    for axis in reversed(range(len(shape))):
        while steps[axis] < shape[axis] and np.prod(steps, dtype=float) * 2 <= limit:
            steps[axis] = min(shape[axis], steps[axis] * 2)
    return steps
