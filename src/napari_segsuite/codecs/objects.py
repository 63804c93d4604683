"""The `objects` codec: whole objects, each with a score, a class and a mask, as detectors answer (Mask R-CNN, mask prototypes, queries).

Masks may overlap; labels cannot. As detectors do, but exactly the same in any chunks, with scores ordered to the last tie:

1. an object has the voxels of its mask whose probability is high enough and that are no farther than `longest` from its middle; of several
   with one middle, the best stays;
2. two objects overlap if their middles are near enough to each other to do so and they have more than a part of the voxels of the smaller
   in common;
3. an object stays if it overlaps no better one that stays (greedy suppression, found in rounds: `suppress.standing`);
4. a voxel belongs to the best object whose mask it is in.

An object's name is 1 + its middle's index in the frame. Stuff comes from a map of its own, and lies under the objects.

The first answers of this kind are those of Mask R-CNN (He et al. 2017, arXiv 1703.06870), whose masks are pasted by score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_segsuite.codecs import instances
from napari_segsuite.codecs.instances import MARGIN, Objects
from napari_segsuite.codecs.pieces import Assigned, Pick, pick, voxels
from napari_segsuite.codecs.places import keys
from napari_segsuite.codecs.semantic import class_ids, kinds
from napari_segsuite.codecs.suppress import FAR, standing
from napari_segsuite.types import Class, Head

DEFAULTS: Mapping[str, Any] = {"foreground": 0.5, "center": 0.5, "longest": 64, "overlap": 0.4}
"""Least mask probability, least score; farthest that a voxel of an object is from its middle along an axis (model voxels); part of the smaller
object's voxels that may be a better one's too."""


def heads(classes: Sequence[Class], dims: int) -> tuple[Head, ...]:
    """Name the maps that a network must produce beside its objects: one of the classes of stuff, where there are any."""
    del dims
    stuff = sum(not c.countable for c in classes)
    return (Head("semantic", stuff + 1, "logits"),) if stuff else ()


def encode(
    labels: NDArray[np.integer],
    classes: Sequence[Class],
    class_of: Mapping[int, int] | None = None,
    sampling: Sequence[float] | None = None,
) -> dict[str, NDArray[np.generic]]:
    """Turn labels into what a network that answers with objects learns from.

    Parameters
    ----------
    labels : (*spatial) integer
        0 is background.
    classes : sequence of Class
    class_of : mapping of label to class id, optional
        By default every label is an object of the first countable class, and of its own class if none is countable.
    sampling : sequence of float, optional
        Not needed: no length is encoded.

    Returns
    -------
    dict
        ``objects`` (*spatial) int32, the labels of things; ``kind`` (*spatial) uint8 class ids.
    """
    del sampling
    kind = class_ids(labels, classes, class_of)
    things = np.isin(kind, [c.id for c in classes if c.countable])
    return {"objects": np.where(things, labels, 0).astype(np.int32), "kind": kind}


def perfect(labels: NDArray[np.integer], classes: Sequence[Class], class_of: Mapping[int, int] | None = None) -> dict[str, Any]:
    """What a network that makes no mistake answers.

    Returns
    -------
    dict
        ``objects``, and ``semantic`` (stuff + 1, *spatial) uint8 where there are classes of stuff.
    """
    told = encode(labels, classes, class_of)
    things: NDArray[np.int32] = np.asarray(told["objects"], np.int32)
    kind = np.asarray(told["kind"], np.uint8)
    where = np.argwhere(things)
    ids, owner = np.unique(things[things > 0], return_inverse=True)
    kinds_of = ndimage.maximum(kind, things, ids) if len(ids) else np.zeros(0)
    full = np.ones(len(where))
    found: dict[str, Any] = {"objects": instances.listed(labels.shape, np.ones(len(ids)), np.asarray(kinds_of), owner, where, full)}
    stuff = [c.id for c in classes if not c.countable]
    if stuff:
        ground = np.where(np.isin(kind, stuff), kind, 0)
        found["semantic"] = np.stack([ground == k for k in (0, *stuff)]) * np.uint8(255)
    return found


def reach(options: Mapping[str, Any], factor: Sequence[float]) -> tuple[int, ...]:
    """How far from a voxel the decoder looks, per axis, on a grid that is `factor` times as fine as the model's."""
    o = {**DEFAULTS, **options}
    return tuple(FAR * _longest(o, f) + int(np.ceil((MARGIN + 1) * f)) for f in factor)


def assign(
    maps: Mapping[str, Any],
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
        ``objects``, of the region; ``semantic`` (stuff + 1, *spatial) uint8 where there are classes of stuff.
    classes : sequence of Class
    options : mapping
        What differs from `DEFAULTS`.
    origin, shape : d ints
        First voxel of the region in its frame, and the frame's shape.
    factor : d floats
        Voxels of this grid per voxel of the model's grid; `longest` is multiplied by it.
    at : one slice or index array per axis, optional
        Which voxels of the region are wanted; all by default.

    Returns
    -------
    Assigned
        Exact at every voxel that is `reach` or more away from the region's border, or whose frame ends there.
    """
    o = {**DEFAULTS, **options}
    near = [_longest(o, f) for f in factor]
    objects = _ordered(_within(maps["objects"], o, near))
    region = objects.shape
    places = np.ravel_multi_index(tuple(objects.center.T), region) if len(objects.score) else np.zeros(0, np.intp)
    flat = np.ravel_multi_index(tuple(objects.voxel.T), region) if len(objects.owner) else np.zeros(0, np.intp)
    stays = standing(objects.owner, flat, places, region, o["overlap"], near)
    peaks = np.sort(places[stays])
    number, kind, value = np.zeros(region, np.int32), np.zeros(region, np.uint8), np.zeros(region, np.uint8)
    if "semantic" in maps:
        stuff = np.array([0, *(c.id for c in classes if not c.countable)], np.uint8)
        kind[...] = stuff[kinds(maps["semantic"], o["foreground"])]
        value[...] = maps["semantic"].max(0)
    mine = stays[objects.owner]
    # Of several objects, the last stays: the best.
    number.ravel()[flat[mine]] = (1 + np.searchsorted(peaks, places[objects.owner[mine]])).astype(np.int32)
    kind.ravel()[flat[mine]] = objects.kind[objects.owner[mine]]
    value.ravel()[flat[mine]] = objects.value[mine]
    found = voxels(kind > 0, at)
    kind_of, value_of = pick(kind, found.where), pick(value, found.where)
    heights = np.zeros(len(peaks) + 1, np.uint8)
    heights[1 + np.searchsorted(peaks, places[stays])] = objects.score[stays]
    scores = [np.where(kind_of == c.id, value_of, np.uint8(0)) for c in classes]
    return Assigned(found.shape, found.inside, kind_of, pick(number, found.where), keys(peaks, region, origin, shape), heights, scores)


def _longest(o: Mapping[str, Any], factor: float) -> int:
    return max(1, int(o["longest"] * factor))


def _within(objects: Objects, o: Mapping[str, Any], near: Sequence[int]) -> Objects:
    """The objects that are sure enough and whose middle is in the region, with the voxels that are sure and near enough."""
    inside = ((objects.center >= 0) & (objects.center < np.array(objects.shape))).all(1)
    objects = instances.chosen(objects, inside & (objects.score >= max(1, round(255 * o["center"]))))
    away = np.abs(objects.voxel - objects.center[objects.owner])
    keep = (objects.value >= round(255 * o["foreground"])) & (away <= np.array(near)).all(1)
    some = np.bincount(objects.owner[keep], minlength=len(objects.score)) > 0
    return instances.chosen(instances.trimmed(objects, keep), some)


def _ordered(objects: Objects) -> Objects:
    """The worst first, of equals the last in the frame's order; of those with one middle, only the best."""
    if not len(objects.score):
        return objects
    place = np.ravel_multi_index(tuple(objects.center.T), objects.shape)
    size = np.bincount(objects.owner, minlength=len(place))
    total = np.bincount(objects.owner, objects.value, len(place)).astype(np.int64)
    order = np.lexsort((objects.kind, total, size, objects.score, -place))  # by place, then what two with one middle differ in
    best = np.ones(len(order), np.bool_)
    best[:-1] = place[order[1:]] != place[order[:-1]]
    single = np.zeros(len(order), np.bool_)
    single[order[best]] = True
    objects, place = instances.chosen(objects, single), place[single]
    return instances.reordered(objects, np.lexsort((-place, objects.score)))
