"""Where the objects of a label image have their centres and outlines, and how to get there: what codecs teach a network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array

SIGMA_RANGE = (1.5, 4.0)
"""Smallest and largest width of a centre's bump, in voxels."""


def medoids(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find each object's voxel that is closest to the median of its coordinates.

    Unlike a centroid it always lies inside, also in bent and ring-shaped objects.

    Parameters
    ----------
    labels : (*spatial) integer
        0 is background.

    Returns
    -------
    ids : (K,) int64
        Sorted labels.
    points : (K, d) int64
        Voxel coordinates.
    sizes : (K,) int64
        Voxels per object.

    Examples
    --------
    >>> medoids(np.array([[7, 7, 7], [0, 0, 0], [0, 0, 3]]))
    (array([3, 7]), array([[2, 2],
           [0, 1]]), array([1, 3]))
    """
    inside = np.flatnonzero(labels)
    ids, which, sizes = np.unique(labels.ravel()[inside], return_inverse=True, return_counts=True)
    starts = np.cumsum(sizes) - sizes
    coords = np.stack(np.unravel_index(inside, labels.shape)) if len(inside) else np.zeros((labels.ndim, 0), np.int64)
    distance = np.zeros(len(inside))
    for c in coords:
        middle = c[np.lexsort((c, which))[starts + sizes // 2]]
        distance += (c - middle[which]) ** 2.0
    best = np.lexsort((inside, distance, which))[starts]
    return ids.astype(np.int64), coords[:, best].T.astype(np.int64), sizes.astype(np.int64)


def heat(shape: Sequence[int], points: NDArray[np.int64], sigmas: NDArray[np.float64]) -> NDArray[np.float32]:
    """Draw one Gaussian bump of height 1 per point, the larger value where they meet.

    Parameters
    ----------
    shape : spatial shape
    points : (K, d) voxel coordinates
    sigmas : (K, d) widths in voxels

    Returns
    -------
    (*shape) float32
    """
    out = np.zeros(tuple(shape), np.float32)
    for point, sigma in zip(points, sigmas, strict=True):
        reach = np.ceil(3 * sigma).astype(int)
        low = np.maximum(point - reach, 0)
        high = np.minimum(point + reach + 1, shape)
        bump = np.ones(1, np.float32)
        for a, b, p, s in zip(low, high, point, sigma, strict=True):
            line = np.exp(-((np.arange(a, b) - p) ** 2) / (2 * s**2)).astype(np.float32)
            bump = bump[..., None] * line
        view = out[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        np.maximum(view, bump[0], out=view)
    return out


def offsets(labels: NDArray[np.integer], ids: NDArray[np.int64], points: NDArray[np.int64]) -> NDArray[np.float32]:
    """Vector from each object voxel to its object's point, 0 in the background.

    Returns
    -------
    (d, *spatial) float32, in voxels
    """
    out = np.zeros((labels.ndim, labels.size), np.float32)
    inside = np.flatnonzero(labels)
    which = np.searchsorted(ids, labels.ravel()[inside])
    for axis, coord in enumerate(np.unravel_index(inside, labels.shape)):
        out[axis, inside] = points[which, axis] - coord
    return out.reshape(labels.ndim, *labels.shape)


def sigmas(sizes: NDArray[np.int64], sampling: Sequence[float]) -> NDArray[np.float64]:
    """Width of each object's centre bump: 0.12 of its side length, within `SIGMA_RANGE`, per axis in voxels."""
    d = len(sampling)
    relative = np.asarray(sampling, float) / min(sampling)
    side = (sizes * np.prod(relative)) ** (1 / d)
    return np.clip(0.12 * side, *SIGMA_RANGE)[:, None] / relative[None]


def weights(things: NDArray[np.integer], ids: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float32]:
    """What an object's voxels count in the loss of its vectors: the inverse root of its size, so that a small object counts nearly as a large one.

    Returns
    -------
    (1, *spatial) float32
    """
    out = np.zeros(things.shape, np.float32)
    inside = things > 0
    out[inside] = 1 / np.sqrt(sizes[np.searchsorted(ids, things[inside])])
    return out[None]


def neighbours(labels: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.int8], NDArray[np.int32]]:
    """Which voxels of one object are next to each other, corners included.

    Returns
    -------
    inside : (n,) intp
        Flat indices of the voxels that are not background.
    steps : (3**d, d) int8
        The steps to a voxel's neighbours and itself.
    beside : (n, 3**d) int32
        Number of the voxel of the same object that each step leads to, from 0 in the order of `inside`; n where there is none.
    """
    padded = np.pad(labels, 1)
    at = np.flatnonzero(padded)
    steps = np.array(list(product((-1, 0, 1), repeat=labels.ndim)), np.int8)
    far = steps @ (np.array(padded.strides) // padded.itemsize)
    number = np.full(padded.size, len(at), np.int32)
    number[at] = np.arange(len(at), dtype=np.int32)
    line = padded.ravel()
    beside = np.empty((len(at), len(steps)), np.int32)
    for k, step in enumerate(far):
        beside[:, k] = np.where(line[at + step] == line[at], number[at + step], len(at))
    return np.flatnonzero(labels), steps, beside


def diffused(beside: NDArray[np.int32], steps: NDArray[np.int8], sources: NDArray[np.intp], sampling: Sequence[float]) -> NDArray[np.float64]:
    """Heat that is put in at the sources again and again, and lost at the objects' borders, after it came to the last voxel and four times as long.

    At any time a voxel is colder than one of its neighbours unless it is a source, so that going to the warmest leads there.

    Parameters
    ----------
    beside, steps
        See `neighbours`.
    sources : (K,) intp
        Numbers of voxels.
    sampling : d floats
        Voxel size per axis; heat passes slowly where voxels are long.

    Returns
    -------
    (n + 1,) float64
        The last is 0: what is outside.
    """
    count = len(beside)
    slow = (min(sampling) / np.asarray(sampling, float)) ** 2 / 3
    shares = np.where(steps == 0, 1 - 2 * slow, slow).prod(1)
    there = beside < count
    ends = np.concatenate([[0], np.cumsum(there.sum(1))]).astype(np.int32)
    spread = csr_array((np.broadcast_to(shares, beside.shape)[there], beside[there], ends), shape=(count, count))
    fresh = np.bincount(sources, minlength=count) * 1e290  # so much, because far away it is soon less than a float can tell from 0
    heat, warm, times = fresh, 0, 0
    while int(np.count_nonzero(heat)) > warm:
        heat, warm, times = spread @ heat + fresh, int(np.count_nonzero(heat)), times + 1
    for _ in range(3 * times):
        heat = spread @ heat + fresh
    return np.append(heat, 0)


def outlines(things: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Find the voxels of objects that are next to something else, corners included; the border of the image is nothing else.

    Examples
    --------
    >>> outlines(np.array([[1, 1, 1, 1, 2, 2]])).astype(int)
    array([[0, 0, 0, 1, 1, 0]])
    """
    beside: NDArray[np.bool_] = ndimage.maximum_filter(things, 3, mode="nearest") != ndimage.minimum_filter(things, 3, mode="nearest")
    beside &= things > 0
    return beside


def depths(things: NDArray[np.integer], rim: NDArray[np.bool_], sampling: Sequence[float]) -> NDArray[np.float64]:
    """How far it is from the middle of each object voxel to its object's outline.

    Parameters
    ----------
    things : (*spatial) integer
        0 is background.
    rim : (*spatial) bool
        See `outlines`.
    sampling : d floats
        Voxel size per axis.

    Returns
    -------
    (*spatial) float64
        0 in the background, 0.5 on the rim, in sides of a voxel along its shortest axis; where nothing has an outline, half of the image.
    """
    relative = np.asarray(sampling, float) / min(sampling)
    deep = ndimage.distance_transform_edt(~rim, relative) + 0.5 if rim.any() else np.full(things.shape, max(things.shape) / 2)
    return np.where(things > 0, deep, 0.0)


def ways(
    beside: NDArray[np.int32], steps: NDArray[np.int8], known: NDArray[np.float64], sampling: Sequence[float], cost: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What the cheapest way inside its object costs, for each voxel (as Bellman and Ford, from voxels that became cheaper).

    Parameters
    ----------
    beside, steps
        See `neighbours`.
    known : (n,) float64
        What ways cost that are known already: 0 at the ends of all ways; infinite elsewhere.
    sampling : d floats
        Voxel size per axis.
    cost : (n,) float64
        Of a step of length 1 at each voxel; a step costs the mean of its ends times its length. Infinite where no way leads.

    Returns
    -------
    (n,) float64
        Infinite for voxels from which no way leads.
    """
    moves = steps.any(1)
    length = np.sqrt(((steps[moves] * (np.asarray(sampling, float) / min(sampling))) ** 2).sum(1))
    beside, cost = beside[:, moves], np.append(cost, np.inf)
    least = np.append(known, np.inf)
    front = np.flatnonzero(np.isfinite(least))
    while len(front):
        to = beside[front]
        new = least[front, None] + length * (cost[front, None] + cost[to]) / 2
        better = new < least[to]
        to = to[better]
        np.minimum.at(least, to, new[better])
        front = np.unique(to)
    return least[:-1]
