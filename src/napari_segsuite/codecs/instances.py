"""Objects that a network found whole: a score, a class and a mask each, which may overlap. Lists of voxels, merged by shift and append."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

MARGIN = 2
"""Voxels by which an object's middle may lie outside the part of a tile that the tile answers for: two tiles that see the same object do not
agree to the last voxel on where its middle is, and each could leave it to the other."""
LEAST = 76
"""Mask probabilities (0..255) below this are not listed: about 0.3."""
_PREFIX = "objects_"


@dataclass(frozen=True, eq=False)
class Objects:
    """n objects in a box, with m mask voxels in all.

    Attributes
    ----------
    shape : d ints
        Of the box that the coordinates are in.
    score : (n,) uint8
        How sure the network is of each, 0..255.
    kind : (n,) uint8
        Class ids.
    center : (n, d) int32
        Middle of each; may lie outside the box where only a part of the object is inside.
    owner : (m,) int32
        Number of each voxel's object, from 0, ascending.
    voxel : (m, d) int32
        Inside the box.
    value : (m,) uint8
        Mask probability, 0..255.
    """

    shape: tuple[int, ...]
    score: NDArray[np.uint8]
    kind: NDArray[np.uint8]
    center: NDArray[np.int32]
    owner: NDArray[np.int32]
    voxel: NDArray[np.int32]
    value: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """Memory of all arrays."""
        return sum(getattr(self, name).nbytes for name in _ARRAYS)


_ARRAYS = tuple(f.name for f in fields(Objects) if f.name != "shape")


def listed(
    shape: Sequence[int],
    score: NDArray[np.floating],
    kind: NDArray[np.integer],
    owner: NDArray[np.integer],
    voxel: NDArray[np.integer],
    value: NDArray[np.floating],
) -> Objects:
    """Make `Objects` of what a network says, with the mean voxel of each mask as its middle; what has no voxel is left out.

    Parameters
    ----------
    shape : d ints
    score : (n,) float
        0..1.
    kind : (n,) integer
        Class ids.
    owner : (m,) integer
    voxel : (m, d) integer
    value : (m,) float
        Mask probabilities, 0..1.

    Examples
    --------
    >>> found = listed((4, 4), np.array([0.9, 0.5]), np.array([1, 1]), np.array([1, 1]), np.array([[0, 1], [2, 1]]), np.array([0.8, 1.0]))
    >>> found.score, found.center, found.value
    (array([128], dtype=uint8), array([[1, 1]], dtype=int32), array([204, 255], dtype=uint8))
    """
    small = np.rint(np.clip(value, 0, 1) * 255).astype(np.uint8)
    keep = (small >= LEAST) & ((voxel >= 0) & (voxel < np.array(shape))).all(1)
    owner, voxel, small = owner[keep], voxel[keep], small[keep]
    order = np.argsort(owner, kind="stable")
    owner, voxel, small = owner[order], voxel[order], small[order]
    count = np.bincount(owner, minlength=len(score))
    # Sums of whole numbers, rounded half up: the same on every machine.
    total = np.stack([np.bincount(owner, line, len(score)).astype(np.int64) for line in voxel.T], 1)
    center = (2 * total + count[:, None]) // np.maximum(2 * count[:, None], 1)
    sure = np.rint(np.clip(score, 0, 1) * 255).astype(np.uint8)
    everything = Objects(tuple(shape), sure, kind.astype(np.uint8), center.astype(np.int32), owner.astype(np.int32), voxel.astype(np.int32), small)
    return chosen(everything, count > 0)


def none(shape: Sequence[int]) -> Objects:
    """No objects in a box."""
    d = len(shape)
    nothing, numbers, places = np.zeros(0, np.uint8), np.zeros(0, np.int32), np.zeros((0, d), np.int32)
    return Objects(tuple(shape), nothing, nothing, places, numbers, places, nothing)


def chosen(objects: Objects, those: NDArray[np.bool_]) -> Objects:
    """Drop the others."""
    if those.all():
        return objects
    number = np.cumsum(those, dtype=np.int32) - 1
    per_object = {name: getattr(objects, name)[those] for name in ("score", "kind", "center")}
    left = trimmed(objects, those[objects.owner])
    return replace(left, owner=number[left.owner], **per_object)


def trimmed(objects: Objects, those: NDArray[np.bool_]) -> Objects:
    """Keep these of the mask voxels."""
    return replace(objects, owner=objects.owner[those], voxel=objects.voxel[those], value=objects.value[those])


def reordered(objects: Objects, order: NDArray[np.intp]) -> Objects:
    """The same objects in another order."""
    number = np.argsort(order)[objects.owner].astype(np.int32)
    by = np.argsort(number, kind="stable")
    per_object = {name: getattr(objects, name)[order] for name in ("score", "kind", "center")}
    return replace(objects, owner=number[by], voxel=objects.voxel[by], value=objects.value[by], **per_object)


def moved(objects: Objects, by: Sequence[int], shape: Sequence[int]) -> Objects:
    """The same in another box, `by` voxels further on; masks are cut at its border."""
    step = np.array(by, np.int32)
    voxel = objects.voxel + step
    inside = np.logical_and.reduce((voxel >= 0) & (voxel < np.array(shape)), axis=1)
    return trimmed(replace(objects, shape=tuple(shape), center=objects.center + step, voxel=voxel), inside)


def answered(objects: Objects, core: Sequence[tuple[int, int]], seen: Sequence[tuple[int, int]], frame: Sequence[int]) -> Objects:
    """What a tile answers for: the objects whose middle lies in its core, or `MARGIN` beside it, in the coordinates of the frame.

    Parameters
    ----------
    objects : Objects
        Of the tile.
    core, seen : box
        As `engine.tiles.Tile`.
    frame : d ints
        Its shape; what lies beyond it was only mirrored.
    """
    low, high = (np.array([side[k] for side in core]) for k in (0, 1))
    here = moved(objects, [a for a, _ in seen], frame)
    ours = np.logical_and.reduce((here.center >= low - MARGIN) & (here.center < high + MARGIN), axis=1)
    return chosen(here, ours & (np.bincount(here.owner, minlength=len(ours)) > 0))


def together(parts: Iterable[Objects], shape: Sequence[int]) -> Objects:
    """One list of all, in one box."""
    found = [none(shape), *parts]
    counts = np.cumsum([0, *(len(part.score) for part in found)])
    joined = {name: np.concatenate([getattr(part, name) for part in found]) for name in _ARRAYS if name != "owner"}
    owner = np.concatenate([part.owner + np.int32(first) for part, first in zip(found, counts[:-1], strict=True)])
    return Objects(tuple(shape), owner=owner, **joined)


def enlarged(objects: Objects, places: Sequence[NDArray[np.intp]], shape: Sequence[int]) -> Objects:
    """Bring objects onto a finer grid, whose voxels have the masks of the nearest coarse ones.

    Parameters
    ----------
    objects : Objects
    places : per axis, one ascending index per fine voxel
        Of the coarse voxel that is nearest to it, in the coordinates of the objects.
    shape : d ints
        Of the fine box.
    """
    owner, voxel, value, center = objects.owner, objects.voxel, objects.value, objects.center.copy()
    for axis, line in enumerate(places):
        low, high = np.searchsorted(line, voxel[:, axis], "left"), np.searchsorted(line, voxel[:, axis], "right")
        many = high - low
        which = np.repeat(np.arange(len(voxel)), many)
        fine = np.arange(len(which)) - np.repeat(np.cumsum(many) - many - low, many)
        owner, voxel, value = owner[which], voxel[which], value[which]
        voxel[:, axis] = fine
        # Beyond the box a middle only needs to be beyond it.
        inside = np.searchsorted(line, center[:, axis], "left") + np.searchsorted(line, center[:, axis], "right")
        beyond = np.where(center[:, axis] > (line[-1] if len(line) else 0), len(line), -1)
        center[:, axis] = np.where(np.isin(center[:, axis], line), inside // 2, beyond)
    return replace(objects, shape=tuple(shape), center=center, owner=owner, voxel=voxel, value=value)


def packed(objects: Objects) -> dict[str, NDArray[Any]]:
    """Arrays by name, for a record."""
    return {_PREFIX + name: getattr(objects, name) for name in _ARRAYS}


def unpacked(arrays: Mapping[str, NDArray[Any]], shape: Sequence[int]) -> Objects:
    """What `packed` made, in a frame of this shape."""
    return Objects(tuple(shape), **{name: arrays[_PREFIX + name] for name in _ARRAYS})
