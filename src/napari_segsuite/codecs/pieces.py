"""From a class, an object number and a score per voxel to `Pieces`: the half of decoding that all codecs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.codecs import runs
from napari_segsuite.codecs.runs import Runs
from napari_segsuite.types import Class, Pieces


@dataclass(frozen=True, eq=False)
class Assigned:
    """What a codec decided for each voxel of a region.

    Attributes
    ----------
    kind : (*spatial) uint8
        Class id; 0 is background.
    number : (*spatial) int32
        Local number 1..K of the object that a thing voxel belongs to; 0 where none is known, and for stuff.
    keys : (K + 1,) int64
        Global name of each object, the same in every chunk that sees it; entry 0 is unused.
    heights : (K + 1,) uint8
        How sure each object's centre is, 0..255.
    scores : (C, *spatial) uint8
        Probability of each class, background first, 0..255.
    """

    kind: NDArray[np.uint8]
    number: NDArray[np.int32]
    keys: NDArray[np.int64]
    heights: NDArray[np.uint8]
    scores: NDArray[np.uint8]

    def take(self, index: Sequence[NDArray[np.intp] | slice]) -> Assigned:
        """Cut or sample the region, one index per axis."""
        if all(isinstance(i, slice) for i in index):
            at = tuple(index)
            return Assigned(self.kind[at], self.number[at], self.keys, self.heights, self.scores[(slice(None), *at)])
        kind, number, scores = self.kind, self.number, self.scores
        for axis, i in enumerate(index):
            where = np.arange(kind.shape[axis])[i] if isinstance(i, slice) else i
            kind, number, scores = kind.take(where, axis), number.take(where, axis), scores.take(where, axis + 1)
        return Assigned(kind, number, self.keys, self.heights, scores)


def collect(assigned: Assigned, classes: Sequence[Class], origin: Sequence[int], shape: Sequence[int]) -> Pieces:
    """Find the connected pieces of a chunk and add up what their segments' rows are made of.

    Parameters
    ----------
    assigned : Assigned
        Of the chunk's core alone, on the image's grid.
    classes : sequence of Class
    origin, shape : d ints
        First voxel of the core in its frame, and the frame's shape.

    Returns
    -------
    Pieces
        Rows have ``key`` (> 0: the object's global name; 0: an object known by contact only; < 0: minus a stuff class's id),
        ``kind`` (class id of its first voxel), ``height``, ``first`` (index of the first voxel in the flattened frame), ``size``,
        ``vote_k`` (sum of the 0..255 scores of class k), and per axis ``low_a``, ``high_a`` (half-open) and ``sum_a``
        (of the coordinates), in frame voxels.
    """
    found = runs.find(_values(assigned, classes))
    kind, number = assigned.kind.ravel()[found.start], assigned.number.ravel()[found.start]
    stuff = np.isin(kind, [c.id for c in classes if not c.countable])
    part = _parts(found, stuff, assigned.kind.shape)
    count = int(part.max()) + 1 if len(part) else 0
    head = np.zeros(count, np.int64)
    head[part[::-1]] = np.arange(len(part))[::-1]  # the first run of each piece
    rows: dict[str, NDArray[Any]] = {
        "key": np.where(stuff, -kind.astype(np.int64), np.where(number > 0, assigned.keys[number], 0))[head],
        "kind": kind[head],
        "height": np.where(stuff | (number == 0), 0, assigned.heights[number])[head].astype(np.uint8),
        "size": _added(found.length, part, count),
    }
    for c in classes:
        score = assigned.scores[c.id].ravel()[found.inside]
        rows[f"vote_{c.id}"] = _added(np.add.reduceat(score, found.at, dtype=np.int64) if count else found.at, part, count)
    rows |= _places(found, part, head, assigned.kind.shape, origin, shape)
    labels = np.zeros(assigned.kind.size, np.int32)
    labels[found.inside] = np.repeat(part + 1, found.length)
    return Pieces(labels.reshape(assigned.kind.shape), rows)


def _values(assigned: Assigned, classes: Sequence[Class]) -> NDArray[np.int32]:
    """One value per object; one per class, beyond those, for stuff and for things that are known by contact only."""
    if np.count_nonzero(assigned.kind) == np.count_nonzero(assigned.number):  # everything is an object with a number
        return assigned.number
    return np.where((assigned.kind > 0) & (assigned.number == 0), len(assigned.keys) + assigned.kind.astype(np.int32), assigned.number)


def _parts(found: Runs, stuff: NDArray[np.bool_], shape: Sequence[int]) -> NDArray[np.int32]:
    """Piece of each run: face-connected, but all of a stuff class together."""
    part = runs.join(found, shape)
    if not stuff.any():
        return part
    joined = np.where(stuff, -1 - found.value.astype(np.int64), part)
    return np.unique(joined, return_inverse=True)[1].astype(np.int32)


def _added(values: NDArray[np.int64], part: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    out = np.zeros(count, np.int64)
    np.add.at(out, part, values)
    return out


def _places(
    found: Runs, part: NDArray[np.int32], head: NDArray[np.int64], region: Sequence[int], origin: Sequence[int], shape: Sequence[int]
) -> dict[str, NDArray[np.int64]]:
    """Bounding box, coordinate sums and first voxel per piece, in frame coordinates."""
    count, last = len(head), len(region) - 1
    at = [c + o for c, o in zip(np.unravel_index(found.start, tuple(region)), origin, strict=True)]
    rows: dict[str, NDArray[np.int64]] = {}
    for axis, start in enumerate(at):
        along = found.length if axis == last else np.ones_like(found.length)
        low, high = np.full(count, np.iinfo(np.int64).max), np.zeros(count, np.int64)
        np.minimum.at(low, part, start)
        np.maximum.at(high, part, start + along)
        rows[f"low_{axis}"], rows[f"high_{axis}"] = low, high
        rows[f"sum_{axis}"] = _added(start * found.length + along * (along - 1) // 2, part, count)
    rows["first"] = np.ravel_multi_index([a[head] for a in at], tuple(shape)).astype(np.int64) if count else np.zeros(0, np.int64)
    return rows
