"""Where the objects of a label image have their centres: what the `centers` codec teaches a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
