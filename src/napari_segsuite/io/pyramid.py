"""Pyramids: how far to shrink, and shrinking block by block: images by mean, labels by taking every n-th voxel, never a mixture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.io.blocks import regions
from napari_segsuite.types import SPATIAL, ArrayLike

SMALL_VOXELS = 2**20
"""The lowest level has at most this many voxels per time point and channel: napari reads all of it for a thumbnail."""

Factors = tuple[int, ...]


def plan_factors(axes: str, shape: Sequence[int]) -> list[Factors]:
    """How much each level shrinks the one before it: by 2 along the longest spatial axes, until it is small.

    >>> plan_factors("zyx", (60, 4096, 4096))
    [(1, 2, 2), (1, 2, 2), (1, 2, 2), (1, 2, 2), (1, 2, 2)]
    """
    factors, size = [], list(shape)
    while _voxels(axes, size) > SMALL_VOXELS:
        longest = max(n for a, n in zip(axes, size, strict=True) if a in SPATIAL)
        step = tuple(2 if a in SPATIAL and n * 2 > longest else 1 for a, n in zip(axes, size, strict=True))
        size = [-(-n // f) for n, f in zip(size, step, strict=True)]
        factors.append(step)
    return factors


def factors_between(shapes: Sequence[Sequence[int]]) -> list[Factors]:
    """The factors of a pyramid that is there already, from the shapes of its levels."""
    return [tuple(max(1, round(a / b)) for a, b in zip(fine, coarse, strict=True)) for fine, coarse in pairwise(shapes)]


def shrunk(shape: Sequence[int], factors: Factors) -> tuple[int, ...]:
    """Shape of the next level; a rest that does not fill a block counts as one."""
    return tuple(-(-n // f) for n, f in zip(shape, factors, strict=True))


def copy(source: ArrayLike, target: Any) -> None:
    """Copy an array of any kind into a zarr array, in pieces made of whole chunks."""
    for region in regions(tuple(target.shape), tuple(target.chunks)):
        target[region] = np.asarray(source[region]).astype(target.dtype, copy=False)


def shrink(source: Any, target: Any, factors: Factors, *, labels: bool) -> None:
    """Fill a lower level from the one above it."""
    for region in regions(tuple(target.shape), tuple(target.chunks), limit=2**21):
        above = tuple(slice(s.start * f, min(s.stop * f, n)) for s, f, n in zip(region, factors, source.shape, strict=True))
        block = np.asarray(source[above])
        target[region] = block[tuple(slice(None, None, f) for f in factors)] if labels or block.dtype == bool else block_mean(block, factors)


def block_mean(block: NDArray[Any], factors: Factors) -> NDArray[Any]:
    """Mean of blocks of `factors` voxels, in the type of the input; a rest is filled up with its last voxel.

    >>> block_mean(np.array([[1, 3, 5]], np.uint8), (1, 2))
    array([[2, 5]], dtype=uint8)
    """
    padded = np.pad(block, [(0, -n % f) for n, f in zip(block.shape, factors, strict=True)], mode="edge")
    split = padded.reshape([part for n, f in zip(padded.shape, factors, strict=True) for part in (n // f, f)])
    mean = split.mean(axis=tuple(range(1, split.ndim, 2)), dtype=np.float64 if block.dtype.itemsize > 2 else np.float32)
    whole: NDArray[Any] = (np.rint(mean) if block.dtype.kind in "iu" else mean).astype(block.dtype)
    return whole


def _voxels(axes: str, shape: Sequence[int]) -> int:
    return int(np.prod([n for a, n in zip(axes, shape, strict=True) if a in SPATIAL], dtype=np.int64))
