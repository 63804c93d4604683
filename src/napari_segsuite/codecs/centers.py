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
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.codecs import targets
from napari_segsuite.codecs.pieces import Assigned, Pick, pick, voxels
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
    weight = np.zeros(things.shape, np.float32)
    inside = things > 0
    weight[inside] = 1 / np.sqrt(sizes[np.searchsorted(ids, things[inside])])
    return {
        "semantic": semantic,
        "center": targets.heat(things.shape, points, targets.sigmas(sizes, sampling))[None],
        "offset": targets.offsets(things, ids, points),
        "weight": weight[None],
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
    peaks = _peaks(center, max(1, round(255 * o["center"])), [max(1, round(o["window"] * f)) for f in factor])
    present = kind > 0
    found = voxels(present, at)
    things = [c.id for c in classes if c.countable]
    if len(things) == len(classes):
        number = _nearest(peaks, center.shape, o["search"], factor, _land(maps["offset"], present, found.where, o, factor))
        known = number > 0
    else:
        thing = np.isin(kind, things)
        known = ~pick(thing, found.where)
        number = np.zeros(len(known), np.int32)
        landed = _land(maps["offset"], thing, found.where[~known], o, factor)
        number[~known] = _nearest(peaks, center.shape, o["search"], factor, landed)
        known |= number > 0
    if not (o["orphans"] or known.all()):
        found, number = found.keep(known), number[known]
    where = [c + a for c, a in zip(np.unravel_index(peaks, center.shape), origin, strict=True)]
    names = 1 + np.ravel_multi_index(where, tuple(shape)) if len(peaks) else np.zeros(0)
    keys = np.concatenate([[0], names]).astype(np.int64)
    heights = np.concatenate([[0], center.ravel()[peaks]]).astype(np.uint8)
    return Assigned(found.shape, found.inside, pick(kind, found.where), number, keys, heights, scores(maps["semantic"], found))


def _peaks(center: NDArray[np.uint8], least: int, window: Sequence[int]) -> NDArray[np.intp]:
    """Flat indices, ascending, of the voxels that are first in (height, -index) within their window."""
    padded = np.pad(center, [(w, w) for w in window])
    strides = np.array(padded.strides)
    flat = padded.ravel()
    base = np.flatnonzero(flat >= least)
    height = flat[base]
    steps = sorted(product(*[range(-w, w + 1) for w in window]), key=lambda step: sum(abs(a) for a in step))[1:]
    far = np.array([int(np.dot(step, strides)) for step in steps], np.intp)
    earlier = np.array([step < (0,) * len(step) for step in steps], np.int16)  # of equals, the first is the peak
    done = 0
    while done < len(steps) and len(base):
        # Most voxels fail already beside a neighbour: first step by step, then for the few that are left many steps at a time.
        many = slice(done, done + max(1, 2**14 // len(base)))
        other = flat.take(base[:, None] + far[many], mode="clip")
        stays = (other <= height[:, None].astype(np.int16) - earlier[many]).all(1)
        base, height, done = base[stays], height[stays], many.stop
    at = np.unravel_index(base, padded.shape)
    peaks: NDArray[np.intp] = np.ravel_multi_index([a - w for a, w in zip(at, window, strict=True)], center.shape)
    return peaks


def _nearest(
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
    where = _flat(list(steps.T), padded)[:, None] + _flat(at, padded)[None]
    around.ravel()[where.ravel()] = np.broadcast_to(np.arange(1, len(peaks) + 1, dtype=np.int32), where.shape).ravel()
    shift = int(_flat(width, padded))
    result: NDArray[np.int32] = pick(around, _flat(places, padded) + shift)
    return result


def _land(
    offset: NDArray[np.int16], thing: NDArray[np.bool_], where: NDArray[np.integer], o: Mapping[str, Any], factor: Sequence[float]
) -> list[NDArray[np.integer]]:
    """Where the offsets of thing voxels (flat indices) lead, after the second step, as coordinates."""
    shape = thing.shape
    small = where.astype(np.int32) if thing.size < 2**31 else where  # half the bytes to move
    at = [_step(c, pick(offset[k], where), o["longest"] * f, shape[k]) for k, (c, f) in enumerate(zip(_coords(small, shape), factor, strict=True))]
    landed = _flat(at, shape)
    good = pick(thing, landed)  # outside of things offsets mean nothing, and the second step is not taken
    return [_step(at[k], pick(offset[k], landed) * good, o["second"] * f, shape[k]) for k, f in enumerate(factor)]


def _coords(flat: NDArray[np.integer], shape: Sequence[int]) -> list[NDArray[np.integer]]:
    """`numpy.unravel_index` that keeps small integers small."""
    coords = []
    for n in reversed(shape):
        rest = flat // n
        coords.append(flat - rest * n)
        flat = rest
    return coords[::-1]


def _flat(coords: Sequence[Any], shape: Sequence[int]) -> Any:
    """`numpy.ravel_multi_index` that keeps small integers small."""
    flat = coords[0]
    for coord, n in zip(coords[1:], shape[1:], strict=True):
        flat = flat * n + coord
    return flat


def _step(start: NDArray[np.integer], eighths: NDArray[np.int16], longest: float, n: int) -> NDArray[np.integer]:
    """One step along an axis of n voxels; `eighths` is written over."""
    limit = min(int(longest * EIGHTHS), 2**15 - EIGHTHS)
    np.clip(eighths, -limit, limit, out=eighths)
    eighths += EIGHTHS // 2
    eighths >>= 3
    moved = start + eighths
    return np.clip(moved, 0, n - 1, out=moved)
