"""Places in a region: the local maxima of a map, which of them is nearest, what they are called in the frame, and which voxels are theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.codecs.pieces import Voxels, pick
from napari_segsuite.types import Class


def maxima(heights: NDArray[np.integer], least: int, window: Sequence[int]) -> NDArray[np.intp]:
    """Flat indices, ascending, of the voxels of at least this height (1 or more) that are first in (height, -index) within their window.

    Examples
    --------
    >>> maxima(np.array([[0, 3, 3, 1, 0, 2]]), 2, (1, 1))
    array([1, 5])
    """
    padded = np.pad(heights, [(w, w) for w in window])
    strides = np.array(padded.strides) // padded.itemsize
    line = padded.ravel()
    base = np.flatnonzero(line >= least)
    height = line[base]
    wide = np.result_type(height, np.int16)  # so that 1 less than nothing is not the most
    steps = sorted(product(*[range(-w, w + 1) for w in window]), key=lambda step: sum(abs(a) for a in step))[1:]
    far = np.array([int(np.dot(step, strides)) for step in steps], np.intp)
    earlier = np.array([step < (0,) * len(step) for step in steps], np.int16)  # of equals, the first is the peak
    done = 0
    while done < len(steps) and len(base):
        # Most voxels fail already beside a neighbour: first step by step, then for the few that are left many steps at a time.
        many = slice(done, done + max(1, 2**14 // len(base)))
        other = line.take(base[:, None] + far[many], mode="clip")
        stays = (other <= height[:, None].astype(wide) - earlier[many]).all(1)
        base, height, done = base[stays], height[stays], many.stop
    at = np.unravel_index(base, padded.shape)
    peaks: NDArray[np.intp] = np.ravel_multi_index([a - w for a, w in zip(at, window, strict=True)], heights.shape)
    return peaks


def nearest(
    peaks: NDArray[np.intp], shape: Sequence[int], search: float, factor: Sequence[float], places: Sequence[NDArray[np.integer]]
) -> NDArray[np.int32]:
    """Number (from 1) of the peak that is nearest to each place within `search`, 0 for none; of equally near ones, the first.

    Discs of numbers are written around all peaks, their farthest voxels first and each nearer one over them. Of two peaks at one distance
    from a voxel, the first in the frame's order is the one from which the step to the voxel is last in that order.
    """
    width = [int(search * f) for f in factor]
    steps = np.array(list(product(*[range(-w, w + 1) for w in width])))
    distance = np.round(((steps / np.asarray(factor)) ** 2).sum(1), 6)
    order = np.argsort(-distance, kind="stable")
    steps = steps[order][distance[order] <= search**2]
    padded = [n + 2 * w for n, w in zip(shape, width, strict=True)]  # so that no disc ends at the border
    around = np.zeros(padded, np.int32)
    at = [c + w for c, w in zip(np.unravel_index(peaks, tuple(shape)), width, strict=True)]
    where = flat(list(steps.T), padded)[:, None] + flat(at, padded)[None]
    around.ravel()[where.ravel()] = np.broadcast_to(np.arange(1, len(peaks) + 1, dtype=np.int32), where.shape).ravel()
    shift = int(flat(width, padded))
    result: NDArray[np.int32] = pick(around, flat(places, padded) + shift)
    return result


def keys(peaks: NDArray[np.intp], region: Sequence[int], origin: Sequence[int], shape: Sequence[int]) -> NDArray[np.int64]:
    """Name of each numbered peak of a region (entry 0 is none): 1 + its index in the frame, so that chunks that never met agree.

    Examples
    --------
    >>> keys(np.array([0, 3]), (2, 2), (4, 5), (10, 10))
    array([ 0, 46, 57])
    """
    where = [c + a for c, a in zip(np.unravel_index(peaks, tuple(region)), origin, strict=True)]
    names = 1 + np.ravel_multi_index(where, tuple(shape)) if len(peaks) else np.zeros(0)
    return np.concatenate([[0], names]).astype(np.int64)


def summed(values: NDArray[np.integer], box: Sequence[int]) -> NDArray[np.integer]:
    """Sums over a box of this half-width around each voxel.

    Examples
    --------
    >>> summed(np.array([[1, 0, 2, 3]]), (0, 1))
    array([[1, 3, 5, 5]])
    """
    for axis, width in enumerate(box):
        line = np.moveaxis(values, axis, 0)
        values = values.copy()
        total = np.moveaxis(values, axis, 0)
        for far in range(1, width + 1):
            total[far:] += line[:-far]
            total[:-far] += line[far:]
    return values


def countable(kind: NDArray[np.uint8], classes: Sequence[Class]) -> NDArray[np.bool_]:
    """Where the classes of things are."""
    things = [c.id for c in classes if c.countable]
    return kind > 0 if len(things) == len(classes) else np.isin(kind, things)


def owned(
    found: Voxels, thing: NDArray[np.bool_], owner: Callable[[NDArray[np.integer]], NDArray[np.int32]], orphans: bool
) -> tuple[Voxels, NDArray[np.int32]]:
    """Give the voxels of things that were found their owners.

    Parameters
    ----------
    found : Voxels
        Things and stuff.
    thing : (*spatial) bool
        Where things are.
    owner : callable
        Flat indices of thing voxels to their object's number, 0 if they have none.
    orphans : bool
        Whether thing voxels without an owner stay.

    Returns
    -------
    found, number
        What stays, and its numbers; stuff has 0.
    """
    mine = pick(thing, found.where)
    if mine.all():
        number = owner(found.where)
        known = number > 0
    else:
        known = ~mine
        number = np.zeros(len(known), np.int32)
        number[mine] = owner(found.where[mine])
        known |= number > 0
    return (found, number) if orphans or known.all() else (found.keep(known), number[known])


def coords(index: NDArray[np.integer], shape: Sequence[int]) -> list[NDArray[np.integer]]:
    """`numpy.unravel_index` that keeps small integers small."""
    out = []
    for n in reversed(shape):
        rest = index // n
        out.append(index - rest * n)
        index = rest
    return out[::-1]


def flat(places: Sequence[Any], shape: Sequence[int]) -> Any:
    """`numpy.ravel_multi_index` that keeps small integers small."""
    index = places[0]
    for place, n in zip(places[1:], shape[1:], strict=True):
        index = index * n + place
    return index
