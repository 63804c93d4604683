"""Nested regions of a picture, from small to large, and which of them is bounded by the sharpest edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVELS = 256


class Levels(NamedTuple):
    """The regions ``{rank <= j}``, for every j.

    Attributes
    ----------
    rank : (*spatial) intp
        The first region that a voxel is in; the number of regions where it is in none.
    area : (n,) intp
        Voxels of each.
    border : (n,) float
        Pairs of neighbours of which only one is inside.
    contrast : (n,) float
        By how much the picture differs across the border, inside minus outside, as a mean over the border; the length of this vector over the
        channels. Noise, whose sign changes, averages out.
    """

    rank: NDArray[np.intp]
    area: NDArray[np.intp]
    border: NDArray[np.float64]
    contrast: NDArray[np.float64]


def levels(field: NDArray[np.float64], picture: NDArray[np.float32], open_ends: Sequence[tuple[bool, bool]] = (), count: int = LEVELS) -> Levels:
    """Measure the regions where a field is at most so high, for heights with about equally many voxels between them.

    Every pair of neighbours is on the border of the regions from the lower rank of the two on, up to the higher one; so all borders are
    summed up in one pass.

    Parameters
    ----------
    field : (*spatial) float
        Infinite where nothing may be.
    picture : (C, *spatial) float32
    open_ends : sequence of (bool, bool)
        Whether more of the picture lies before the first and behind the last voxel along each axis. What ends there has border there, of which
        nothing says that it is one.
    count : int
    """
    heights = np.unique(np.quantile(field[np.isfinite(field)], np.linspace(0, 1, count + 1)))
    rank = np.searchsorted(heights, field)
    n = len(heights)
    border, steps = np.zeros(n + 1), np.zeros((len(picture), n + 1))
    for axis in range(field.ndim):
        first, second = (rank.take(range(a, rank.shape[axis] - 1 + a), axis).ravel() for a in (0, 1))
        inner, outer = np.minimum(first, second), np.maximum(first, second)
        on = inner < outer
        border += np.bincount(inner[on], minlength=n + 1) - np.bincount(outer[on], minlength=n + 1)
        sign = np.where(first < second, -1.0, 1.0)
        for channel, values in enumerate(picture):
            step = (sign * np.diff(values, axis=axis).ravel())[on]
            steps[channel] += np.bincount(inner[on], step, n + 1) - np.bincount(outer[on], step, n + 1)
    for axis, both in enumerate(open_ends):
        for end in (end for end, more in zip((0, -1), both, strict=True) if more):
            border += np.bincount(rank.take(end, axis).ravel(), minlength=n + 1)
    length = np.maximum(border.cumsum()[:n], 1)
    contrast = np.sqrt((steps.cumsum(1)[:, :n] ** 2).sum(0)) / length
    return Levels(rank, np.bincount(rank.ravel(), minlength=n + 1)[:n].cumsum(), length, contrast)


def roundness(found: Levels) -> NDArray[np.float64]:
    """How compact each region is: 1 for a disc or a ball and what is rounder than that, less for a ragged one.

    A border is counted in pairs of neighbours: those of a disc of radius r are 8 r, and of a ball 6 pi r^2.
    """
    dims = found.rank.ndim
    ball = {1: 2.0, 2: 8 / np.pi**0.5, 3: 6 * np.pi / (4 / 3 * np.pi) ** (2 / 3)}[dims]
    least = ball * found.area ** ((dims - 1) / dims)
    share: NDArray[np.float64] = np.minimum(1.0, (least / found.border) ** 2)
    return share


def boxes(found: Levels) -> NDArray[np.intp]:
    """First and last voxel of each region along each axis, (n, dims, 2); -1 and -2 where it is empty."""
    n, dims = len(found.area), found.rank.ndim
    ends = np.empty((n, dims, 2), np.intp)
    for axis in range(dims):
        lowest = found.rank.min(tuple(a for a in range(dims) if a != axis))
        inside = lowest[None] <= np.arange(n)[:, None]
        some = inside.any(1)
        ends[:, axis, 0] = np.where(some, inside.argmax(1), -1)
        ends[:, axis, 1] = np.where(some, len(lowest) - 1 - inside[:, ::-1].argmax(1), -2)
    return ends
