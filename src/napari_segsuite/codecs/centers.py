"""The `centers` codec: what is here (semantic), where is the middle of its object (center), how far is that (offset).

One network answers all three tasks in two and three dimensions (Cheng et al. 2020, Panoptic-DeepLab; Hirsch and Kainmueller
2020 for offsets to the centre of nuclei). Decoding looks at every voxel a fixed number of times and at nothing beyond a fixed distance:

1. a voxel is foreground where its background probability is low; its class is the most probable other one;
2. a peak is a voxel of the centre map that no voxel of its window exceeds (of equals, the first in the frame's order);
3. a thing voxel follows its offset, then once more the offset found there, a short way: near the middle offsets are short and exact;
4. it belongs to the peak that is nearest to where it landed, if one is near enough.

An object's name is 1 + its peak's index in the frame, so that chunks that never met agree on it. All maps are integers, so that
they agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.codecs import targets
from napari_segsuite.codecs.pieces import Assigned, Pick, pick, voxels
from napari_segsuite.codecs.places import coords, countable, flat, keys, maxima, nearest, owned
from napari_segsuite.codecs.semantic import class_ids, kinds, scores
from napari_segsuite.types import Class, Head

OFFSET_UNIT = 8.0
"""Networks answer with offsets in units of this many voxels, so that the numbers they learn are near 1."""

EIGHTHS = 8
"""Offsets are decoded as integers of 1/8 voxel."""

DEFAULTS: Mapping[str, Any] = {"foreground": 0.5, "center": 0.2, "window": 2, "search": 6, "longest": 80, "second": 6, "orphans": False}
"""Least foreground probability and peak height; half-width of the peak window, search radius around the landing place, longest offset and
longest second step (model voxels); whether foreground that belongs to no peak becomes an object of its own."""


def heads(classes: Sequence[Class], dims: int) -> tuple[Head, ...]:
    """Name the maps that a network must produce for `classes` (background comes first in ``semantic``)."""
    return (
        Head("semantic", len(classes) + 1, "logits"),
        Head("center", 1, "probability"),
        Head("offset", dims, "vector", OFFSET_UNIT),
    )


def encode(
    labels: NDArray[np.integer],
    classes: Sequence[Class],
    class_of: Mapping[int, int] | None = None,
    sampling: Sequence[float] | None = None,
) -> dict[str, NDArray[np.generic]]:
    """Turn labels into the maps that a perfect network would give.

    Parameters
    ----------
    labels : (*spatial) integer
        0 is background.
    classes : sequence of Class
    class_of : mapping of label to class id, optional
        By default every label is an object of the first countable class, and of its own class if none is countable.
    sampling : sequence of float, optional
        Voxel size per axis, any unit; isotropic by default.

    Returns
    -------
    dict
        ``semantic`` (*spatial) uint8 class ids; ``center`` (1, *spatial) float32; ``offset`` (d, *spatial) float32 in voxels;
        ``weight`` (1, *spatial) float32, what an object's voxels count in the offset loss: the inverse root of its size.
    """
    sampling = tuple(sampling or (1.0,) * labels.ndim)
    semantic = class_ids(labels, classes, class_of)
    things = np.where(np.isin(semantic, [c.id for c in classes if c.countable]), labels, 0)
    ids, points, sizes = targets.medoids(things)
    return {
        "semantic": semantic,
        "center": targets.heat(things.shape, points, targets.sigmas(sizes, sampling))[None],
        "offset": targets.offsets(things, ids, points),
        "weight": targets.weights(things, ids, sizes),
    }


def reach(options: Mapping[str, Any], factor: Sequence[float]) -> tuple[int, ...]:
    """How far from a voxel the decoder looks, per axis, on a grid that is `factor` times as fine as the model's."""
    o = {**DEFAULTS, **options}
    return tuple(int(np.ceil((o["longest"] + o["second"] + o["search"] + o["window"]) * f)) + 4 for f in factor)


def assign(
    maps: Mapping[str, NDArray[Any]],
    classes: Sequence[Class],
    options: Mapping[str, Any],
    origin: Sequence[int],
    shape: Sequence[int],
    factor: Sequence[float],
    at: Pick | None = None,
) -> Assigned:
    """Give the voxels of a region their classes and objects.

    Parameters
    ----------
    maps : mapping
        ``semantic`` (C, *spatial) uint8 probabilities, ``center`` (1, *spatial) uint8, ``offset`` (d, *spatial) int16 in 1/8 voxel.
    classes : sequence of Class
    options : mapping
        What differs from `DEFAULTS`.
    origin, shape : d ints
        First voxel of the region in its frame, and the frame's shape.
    factor : d floats
        Voxels of this grid per voxel of the model's grid; the lengths in `options` are multiplied by it.
    at : one slice or index array per axis, optional
        Which voxels of the region are wanted; all by default.

    Returns
    -------
    Assigned
        Exact at every voxel that is `reach` or more away from the region's border, or whose frame ends there.
    """
    o = {**DEFAULTS, **options}
    kind = kinds(maps["semantic"], o["foreground"])
    center = maps["center"][0]
    peaks = maxima(center, max(1, round(255 * o["center"])), [max(1, round(o["window"] * f)) for f in factor])
    thing = countable(kind, classes)

    def owner(where: NDArray[np.integer]) -> NDArray[np.int32]:
        return nearest(peaks, center.shape, o["search"], factor, _land(maps["offset"], thing, where, o, factor))

    found, number = owned(voxels(kind > 0, at), thing, owner, o["orphans"])
    heights = np.concatenate([[0], center.ravel()[peaks]]).astype(np.uint8)
    names = keys(peaks, center.shape, origin, shape)
    return Assigned(found.shape, found.inside, pick(kind, found.where), number, names, heights, scores(maps["semantic"], found))


def _land(
    offset: NDArray[np.int16], thing: NDArray[np.bool_], where: NDArray[np.integer], o: Mapping[str, Any], factor: Sequence[float]
) -> list[NDArray[np.integer]]:
    """Where the offsets of thing voxels (flat indices) lead, after the second step, as coordinates."""
    shape = thing.shape
    small = where.astype(np.int32) if thing.size < 2**31 else where  # half the bytes to move
    at = [_step(c, pick(offset[k], where), o["longest"] * f, shape[k]) for k, (c, f) in enumerate(zip(coords(small, shape), factor, strict=True))]
    landed = flat(at, shape)
    good = pick(thing, landed)  # outside of things offsets mean nothing, and the second step is not taken
    return [_step(at[k], pick(offset[k], landed) * good, o["second"] * f, shape[k]) for k, f in enumerate(factor)]


def _step(start: NDArray[np.integer], eighths: NDArray[np.int16], longest: float, n: int) -> NDArray[np.integer]:
    """One step along an axis of n voxels; `eighths` is written over."""
    limit = min(int(longest * EIGHTHS), 2**15 - EIGHTHS)
    np.clip(eighths, -limit, limit, out=eighths)
    eighths += EIGHTHS // 2
    eighths >>= 3
    moved = start + eighths
    return np.clip(moved, 0, n - 1, out=moved)
