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

Pick = Sequence[slice | NDArray[np.intp]]
"""Per axis, which voxels of a region are wanted: a stretch, or a list."""


@dataclass(frozen=True, eq=False)
class Assigned:
    """What a codec decided for the voxels that were asked for; n of them are not background.

    Attributes
    ----------
    shape : d ints
        Of the array of voxels that were asked for.
    inside : (n,) intp
        Flat indices in that array, ascending.
    kind : (n,) uint8
        Class id.
    number : (n,) int32
        Local number 1..K of the object that a thing voxel belongs to; 0 where none is known, and for stuff.
    keys : (K + 1,) int64
        Global name of each object, the same in every chunk that sees it; entry 0 is unused.
    heights : (K + 1,) uint8
        How sure each object's centre is, 0..255.
    scores : sequence of (n,) uint8
        Probability of each class (without background), 0..255.
    """

    shape: tuple[int, ...]
    inside: NDArray[np.intp]
    kind: NDArray[np.uint8]
    number: NDArray[np.int32]
    keys: NDArray[np.int64]
    heights: NDArray[np.uint8]
    scores: Sequence[NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Voxels:
    """Those of the voxels that were asked for that are not background.

    Attributes
    ----------
    shape : d ints
        Of the array of voxels that were asked for.
    inside, where : (n,) intp
        Flat indices in that array and in the region.
    """

    shape: tuple[int, ...]
    inside: NDArray[np.intp]
    where: NDArray[np.intp]

    def keep(self, those: NDArray[np.bool_]) -> Voxels:
        """Drop the others."""
        inside = self.inside[those]
        return Voxels(self.shape, inside, inside if self.where is self.inside else self.where[those])


def voxels(present: NDArray[np.bool_], at: Pick | None) -> Voxels:
    """List what is present of the voxels `at` a region; of all by default.

    Examples
    --------
    >>> there = np.array([[True, False, True], [False, False, True]])
    >>> found = voxels(there, [slice(0, 2), np.array([2, 2])])
    >>> found.inside, found.where
    (array([0, 1, 2, 3]), array([2, 2, 5, 5]))
    """
    if at is None:
        inside = np.flatnonzero(present)
        return Voxels(present.shape, inside, inside)
    lines = [np.arange(n)[i] for n, i in zip(present.shape, at, strict=True)]
    picked = present[tuple(at)] if all(isinstance(i, slice) for i in at) else present[np.ix_(*lines)]
    inside = np.flatnonzero(picked)
    coords = np.unravel_index(inside, picked.shape)
    where = np.ravel_multi_index([line[c] for line, c in zip(lines, coords, strict=True)], present.shape)
    return Voxels(picked.shape, inside, where)


def pick(values: NDArray[Any], where: NDArray[np.integer]) -> NDArray[Any]:
    """Read an array at flat indices that are known to be inside it, which takes half the time of ``values.ravel()[where]``."""
    return values.ravel().take(where, mode="clip")


def cropped(assigned: Assigned, shape: Sequence[int]) -> Assigned:
    """Keep the voxels of the first `shape` along each axis."""
    if tuple(shape) == tuple(assigned.shape):
        return assigned
    inner = tuple(slice(n) for n in shape)
    core, present = np.zeros(assigned.shape, np.bool_), np.zeros(assigned.shape, np.bool_)
    core[inner] = True
    present.ravel()[assigned.inside] = True
    stays = pick(core, assigned.inside)
    return Assigned(
        tuple(shape), np.flatnonzero(present[inner]), assigned.kind[stays], assigned.number[stays], assigned.keys, assigned.heights,
        [score[stays] for score in assigned.scores],
    )  # fmt: skip


def planes_behind(assigned: Assigned, shape: Sequence[int]) -> dict[int, NDArray[np.int64]]:
    """What was decided in the planes right behind the first `shape` voxels, for those axes where one was asked for.

    Returns
    -------
    dict of axis to (*face) int64
        An object's global name, or minus the class id where there is none; 0 is background.
    """
    planes = {}
    for axis, (n, m) in enumerate(zip(shape, assigned.shape, strict=True)):
        if m == n:
            continue
        which = np.zeros(assigned.shape, np.bool_)
        which[tuple(slice(n, n + 1) if a == axis else slice(k) for a, k in enumerate(shape))] = True
        there = np.flatnonzero(which.ravel()[assigned.inside])
        number = assigned.number[there]
        at = np.unravel_index(assigned.inside[there], assigned.shape)
        planes[axis] = np.zeros([k for a, k in enumerate(shape) if a != axis], np.int64)
        names = np.where(number > 0, assigned.keys[number], -assigned.kind[there].astype(np.int64))
        planes[axis][tuple(c for a, c in enumerate(at) if a != axis)] = names
    return planes


@dataclass(frozen=True, eq=False)
class Outlined:
    """The pieces of a chunk before they are painted.

    Attributes
    ----------
    shape : d ints
        Of the chunk.
    lengths : (2 r + 1,) int64
        See `runs.gaps`.
    piece : (r,) int32
        Number of each run's piece, from 1.
    rows : table
        See `outline`.
    """

    shape: tuple[int, ...]
    lengths: NDArray[np.int64]
    piece: NDArray[np.int32]
    rows: dict[str, NDArray[Any]]


def collect(assigned: Assigned, classes: Sequence[Class], origin: Sequence[int], shape: Sequence[int]) -> Pieces:
    """Find the connected pieces of a chunk and add up what their segments' rows are made of (`outline`)."""
    found = outline(assigned, classes, origin, shape)
    return Pieces(runs.painted(found.piece, found.lengths, found.shape), found.rows)


def outline(assigned: Assigned, classes: Sequence[Class], origin: Sequence[int], shape: Sequence[int]) -> Outlined:
    """Find the connected pieces of a chunk, as runs, and add up what their segments' rows are made of.

    Parameters
    ----------
    assigned : Assigned
        Of the chunk's own voxels, on the image's grid.
    classes : sequence of Class
    origin, shape : d ints
        First voxel of the core in its frame, and the frame's shape.

    Returns
    -------
    Outlined
        Rows have ``key`` (> 0: the object's global name; 0: an object known by contact only; < 0: minus a stuff class's id),
        ``kind`` (class id of its first voxel), ``height``, ``first`` (index of the first voxel in the flattened frame), ``size``,
        ``vote_k`` (sum of the 0..255 scores of class k), and per axis ``low_a``, ``high_a`` (half-open) and ``sum_a``
        (of the coordinates), in frame voxels.
    """
    found = runs.find(assigned.inside, _values(assigned), assigned.shape)
    kind, number = assigned.kind[found.at], assigned.number[found.at]
    stuff = np.isin(kind, [c.id for c in classes if not c.countable])
    part = _parts(found, stuff, assigned.shape)
    count = int(part.max()) + 1 if len(part) else 0
    head = np.zeros(count, np.int64)
    head[part[::-1]] = np.arange(len(part))[::-1]  # the first run of each piece
    rows: dict[str, NDArray[Any]] = {
        "key": np.where(stuff, -kind.astype(np.int64), np.where(number > 0, assigned.keys[number], 0))[head],
        "kind": kind[head],
        "height": np.where(stuff | (number == 0), 0, assigned.heights[number])[head].astype(np.uint8),
        "size": _added(found.length, part, count),
    }
    for c, score in zip(classes, assigned.scores, strict=True):
        rows[f"vote_{c.id}"] = _added(np.add.reduceat(score, found.at, dtype=np.int64) if count else found.at, part, count)
    rows |= _places(found, part, head, assigned.shape, origin, shape)
    return Outlined(assigned.shape, runs.gaps(found, assigned.shape), part + 1, rows)


def _values(assigned: Assigned) -> NDArray[np.int32]:
    """One value per object; one per class, beyond those, for stuff and for things that are known by contact only."""
    if assigned.number.all():  # everything is an object with a number
        return assigned.number
    return np.where(assigned.number > 0, assigned.number, len(assigned.keys) + assigned.kind.astype(np.int32))


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
