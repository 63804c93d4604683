"""Connected components of equal values, by runs: stretches of one value along the last axis.

A picture has far fewer runs than voxels, so that joining them and adding up over them costs next to nothing; what is linear in the voxels
is a handful of passes (the run-length algorithms of Rosenfeld and Pfaltz 1966, written for arrays).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True, eq=False)
class Runs:
    """Stretches of one value, in the array's order.

    Attributes
    ----------
    start, length : (r,) int64
        Flat index of each run's first voxel, and how many there are.
    at : (r,) int64
        Where each run begins in the list of voxels that are not background.
    value : (r,) integer
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    at: NDArray[np.int64]
    value: NDArray[np.integer]


def find(inside: NDArray[np.intp], value: NDArray[np.integer], shape: Sequence[int]) -> Runs:
    """List the runs of an array of which only the voxels that are not background are given.

    Parameters
    ----------
    inside : (n,) intp
        Their flat indices, ascending.
    value : (n,) integer
    shape : d ints
        Of the array.

    Examples
    --------
    >>> values = np.array([[0, 5, 5], [5, 0, 2]])
    >>> inside = np.flatnonzero(values)
    >>> runs = find(inside, values.ravel()[inside], values.shape)
    >>> runs.start, runs.length, runs.value
    (array([1, 3, 5]), array([2, 1, 1]), array([5, 5, 2]))
    """
    small = inside.astype(np.int32) if np.prod(shape, dtype=np.int64) < 2**31 else inside  # half the bytes to move
    new = small // shape[-1] * shape[-1] == small  # a run ends with its line
    new[:1] = True
    new[1:] |= (np.diff(small) != 1) | (value[1:] != value[:-1])
    at = np.flatnonzero(new)
    return Runs(inside[at], np.diff(at, append=len(inside)), at, value[at])


def join(runs: Runs, shape: Sequence[int]) -> NDArray[np.int32]:
    """Number the face-connected components of equal value, from 0.

    Returns
    -------
    (r,) int32
        Component of each run.

    Examples
    --------
    >>> values = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 2]])
    >>> inside = np.flatnonzero(values)
    >>> join(find(inside, values.ravel()[inside], values.shape), values.shape)
    array([0, 0, 0, 1], dtype=int32)
    """
    count, total = len(runs.start), int(np.prod(shape, dtype=np.int64))
    small = np.int32 if total < 2**30 else np.int64  # half the bytes to move
    start: NDArray[np.integer] = runs.start.astype(small)
    stop: NDArray[np.integer] = start + runs.length.astype(small)
    pairs = [np.zeros((2, 0), np.int64)]
    stride = shape[-1] if len(shape) else 1
    for n in reversed(shape[:-1]):
        # A run's shadow on the next line overlaps the runs from the first that ends after its start to the last that starts before its end.
        high = _before(start, stop + stride)
        low = _before(stop, start + (stride + 1))
        high[start // stride % n == n - 1] = 0  # it is on the last line
        many = np.maximum(high - low, 0)
        mine = np.repeat(np.arange(count), many)
        theirs = np.arange(len(mine)) + np.repeat(low - np.cumsum(many) + many, many)
        same = runs.value[mine] == runs.value[theirs]
        pairs.append(np.stack([mine[same], theirs[same]]))
        stride *= n
    a, b = np.concatenate(pairs, axis=1)
    graph = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(count, count))
    component: NDArray[np.int32] = connected_components(graph, directed=False)[1].astype(np.int32) if count else np.zeros(0, np.int32)
    return component


def _before(sorted_: NDArray[np.integer], these: NDArray[np.integer]) -> NDArray[np.intp]:
    """How many of the numbers in one ascending list are smaller than each of another: `numpy.searchsorted`, by merging the two."""
    # A stable sort finds the two stretches that are in order and merges them; of equals, these come first.
    order = np.argsort(np.concatenate([these, sorted_]), kind="stable")
    place = np.flatnonzero(order < len(these))
    return place - np.arange(len(these))


def gaps(runs: Runs, shape: Sequence[int]) -> NDArray[np.int64]:
    """Lengths of what a flattened array is made of in turns: background, a run, background, ..., a run, background.

    Returns
    -------
    (2 r + 1,) int64

    Examples
    --------
    >>> values = np.array([[0, 5, 5], [5, 0, 2]])
    >>> inside = np.flatnonzero(values)
    >>> gaps(find(inside, values.ravel()[inside], values.shape), values.shape)
    array([1, 2, 0, 1, 1, 1, 0])
    """
    ends = np.zeros(2 * len(runs.start) + 2, np.int64)
    ends[1:-1:2], ends[2:-1:2], ends[-1] = runs.start, runs.start + runs.length, np.prod(shape, dtype=np.int64)
    return np.diff(ends)


def painted(piece: NDArray[Any], lengths: NDArray[np.integer], shape: Sequence[int]) -> NDArray[Any]:
    """The array of runs that are these pieces, with background 0 between them (`gaps`).

    Examples
    --------
    >>> painted(np.array([7, 8, 9]), np.array([1, 2, 0, 1, 1, 1, 0]), (2, 3))
    array([[0, 7, 7],
           [8, 0, 9]])
    """
    both = np.zeros(len(lengths), piece.dtype)
    both[1::2] = piece
    return np.repeat(both, lengths).reshape(tuple(shape))
