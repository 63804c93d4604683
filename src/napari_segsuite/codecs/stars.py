"""The `stars` codec: what is here (semantic), how deep inside its object is it (probability), how far is the outline along each ray (rays).

The representation is that of StarDist (Schmidt et al. 2018, doi:10.1007/978-3-030-00934-2_30; in volumes Weigert et al. 2020,
doi:10.1109/WACV45572.2020.9093435): a star is the polygon, or polyhedron, that the ends of a voxel's rays span. What differs is that it is
exact in chunks, that heights are ordered to the last tie, and that stars have the voxels of the foreground only:

1. a voxel is foreground where its background probability is low; its class is the most probable other one;
2. a candidate is a thing voxel of enough probability that no voxel of its window exceeds in probability, added up over a small box (of equals,
   the first in the frame's order); its star has the thing voxels inside, its rays are no longer than `longest`;
3. two stars overlap if one's middle is no farther from the other's than rays are long, and if they have more than a part of the voxels of the
   smaller in common;
4. a candidate is an object if it overlaps no higher one that is an object, as in StarDist's greedy suppression (`suppress.standing`);
5. a voxel belongs to the highest object whose star it is in.

An object's name is 1 + its middle's index in the frame, so that chunks that never met agree on it. Objects are cut down to what can be seen
from their middle: what is not star-convex loses parts. Rays are counted in voxels, and are the same in images whose voxels are not cubes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_segsuite.codecs import targets
from napari_segsuite.codecs.compass import RAYS, Compass, compass_of, rays
from napari_segsuite.codecs.pieces import Assigned, Pick, pick, voxels
from napari_segsuite.codecs.places import countable, keys, maxima, owned, summed
from napari_segsuite.codecs.semantic import class_ids, kinds, scores
from napari_segsuite.codecs.suppress import FAR, standing
from napari_segsuite.types import Class, Head

LONGEST = 128
"""No ray has more voxels. Maps have the root of a ray's part of this, so that short rays are told more exactly than long ones."""

RAY_UNIT = 1 / 8
"""Networks answer in units of this, so that the numbers they learn are near 1."""

DEFAULTS: Mapping[str, Any] = {
    "foreground": 0.5, "center": 0.4, "smooth": 1, "window": 2, "longest": 32, "wide": 0.75, "overlap": 0.4, "orphans": False,
}  # fmt: skip
"""Least foreground probability and probability of a middle; half-width of the box that this is added up over and of the window of a candidate;
longest ray, and how much is added to each, since the lines and faces between rays cut off what is round (model voxels); part of the smaller
star's voxels that may be a higher one's too; whether foreground that is in no star becomes an object of its own."""

BACKGROUND_WEIGHT = 1e-3
"""What background, where rays are 0, counts in the loss of rays beside the 1 of a middle."""

PAIRS = 2**20
"""Pairs of a star and a voxel that are looked at together."""


def heads(classes: Sequence[Class], dims: int) -> tuple[Head, ...]:
    """Name the maps that a network must produce for `classes` (background comes first in ``semantic``)."""
    return (
        Head("semantic", len(classes) + 1, "logits"),
        Head("probability", 1, "probability"),
        Head("rays", RAYS[dims], "scalar", RAY_UNIT),
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
        Voxel size per axis, any unit; isotropic by default. Rays are counted in voxels whatever their size.

    Returns
    -------
    dict
        ``semantic`` (*spatial) uint8 class ids; ``probability`` (1, *spatial) float32, the distance to the object's outline as a part of its
        largest; ``rays`` (n, *spatial) float32, roots of the parts of `LONGEST`; ``rays_weight`` (1, *spatial) float32, the probability.
    """
    semantic = class_ids(labels, classes, class_of)
    things = np.where(np.isin(semantic, [c.id for c in classes if c.countable]), labels, 0)
    deep = targets.depths(things, targets.outlines(things), sampling or (1.0,) * things.ndim)
    ids, which = np.unique(things, return_inverse=True)
    number: NDArray[np.int32] = np.asarray(1 + which.reshape(things.shape), np.int32)
    deepest = np.maximum(ndimage.maximum(deep, number, np.arange(len(ids) + 1)), 0.5)
    probability = (deep / deepest[number]).astype(np.float32)
    long = np.zeros((RAYS[things.ndim], things.size), np.float32)
    long[:, np.flatnonzero(things)] = np.sqrt(_lengths(np.where(things > 0, number, np.int32(0))) / LONGEST)
    weight = np.where(things > 0, probability, np.float32(BACKGROUND_WEIGHT))
    return {"semantic": semantic, "probability": probability[None], "rays": long.reshape(-1, *things.shape), "rays_weight": weight[None]}


def _lengths(things: NDArray[np.int32]) -> NDArray[np.float32]:
    """How many voxels it is from each object voxel along each ray until the object ends, (rays, n): half a voxel behind the last one inside."""
    padded = np.pad(things, 1)
    strides, line = np.array(padded.strides) // padded.itemsize, padded.ravel()
    inside: NDArray[np.integer] = np.flatnonzero(line).astype(np.int32 if line.size < 2**31 else np.int64)
    directions, everything = rays(things.ndim), np.arange(len(inside), dtype=inside.dtype)
    far = (np.rint(np.arange(1, LONGEST + 1)[:, None, None] * directions).astype(np.int64) @ strides).astype(inside.dtype)
    lengths = np.full((len(directions), len(inside)), LONGEST, np.float32)
    for k, half in enumerate(0.5 / np.abs(directions).max(1)):
        at: NDArray[np.integer] = everything
        start: NDArray[np.integer] = inside
        value = line[inside]
        for t in range(LONGEST):
            same = line.take(start + far[t, k], mode="clip") == value
            stays = np.flatnonzero(same)
            if len(stays) < len(at):
                lengths[k, at[np.flatnonzero(~same)]] = t + half
                at, start, value = at.take(stays), start.take(stays), value.take(stays)
            if not len(at):
                break
    return np.minimum(lengths, LONGEST)


def _window(o: Mapping[str, Any], factor: Sequence[float]) -> list[int]:
    return [max(1, round(o["window"] * f)) for f in factor]


def _box(o: Mapping[str, Any], factor: Sequence[float]) -> list[int]:
    return [round(o["smooth"] * f) for f in factor]


def _longest(o: Mapping[str, Any]) -> float:
    return float(min(o["longest"], LONGEST))


def reach(options: Mapping[str, Any], factor: Sequence[float]) -> tuple[int, ...]:
    """How far from a voxel the decoder looks, per axis, on a grid that is `factor` times as fine as the model's.

    The middle of a voxel's star is as far away as a ray is long. Whether it is an object depends on those that it overlaps, in the first round
    on whether there are any, in each other one on what these overlap, and what that overlaps; and on how large their stars are.
    """
    o = {**DEFAULTS, **options}
    widths = zip(factor, _window(o, factor), _box(o, factor), strict=True)
    return tuple(FAR * int(_longest(o) * f) + window + box for f, window, box in widths)


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
        ``semantic`` (C, *spatial) uint8 probabilities, ``probability`` (1, *spatial) and ``rays`` (n, *spatial) uint8.
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
    thing = countable(kind, classes)
    probability, compass = maps["probability"][0], compass_of(tuple(factor), _longest(o))
    added = summed(probability.astype(np.int32), _box(o, factor)) + 1
    added *= thing & (probability >= max(1, round(255 * o["center"])))
    places = maxima(added, 1, _window(o, factor))
    places = places[np.lexsort((-places, added.ravel()[places]))]  # the lowest first
    ends = np.stack([pick(ray, places) for ray in maps["rays"]], 1)
    star, voxel = _inside(_reaches(o)[ends], thing, places, compass)
    chosen = standing(star, voxel, places, thing.shape, o["overlap"], [int(_longest(o) * f) for f in factor])
    peaks = np.sort(places[chosen])
    number = np.zeros(thing.size, np.int32)
    mine = chosen[star]
    number[voxel[mine]] = (1 + np.searchsorted(peaks, places[star[mine]])).astype(np.int32)  # of several, the last stays: the highest
    found, numbers = owned(voxels(kind > 0, at), thing, lambda where: pick(number, where), o["orphans"])
    heights = np.concatenate([[0], pick(probability, peaks)]).astype(np.uint8)
    names = keys(peaks, thing.shape, origin, shape)
    return Assigned(found.shape, found.inside, pick(kind, found.where), numbers, names, heights, scores(maps["semantic"], found))


def _reaches(o: Mapping[str, Any]) -> NDArray[np.float64]:
    """Length of a ray in model voxels for each value of the map."""
    lengths: NDArray[np.float64] = np.clip(LONGEST * (np.arange(256) / 255) ** 2 + o["wide"], 0.5, _longest(o))
    return lengths


def _inside(
    lengths: NDArray[np.float64], thing: NDArray[np.bool_], places: NDArray[np.intp], compass: Compass
) -> tuple[NDArray[np.int32], NDArray[np.integer]]:
    """The thing voxels of each star: number of the star, ascending, and flat index.

    A voxel that weights a, b of two rays lead to lies within the triangle of their ends if a / (length of one) + b / (that of the other) is at
    most 1; so with tetrahedra.
    """
    inverse, farthest = 1 / lengths, lengths.max(1, initial=0)
    many = np.searchsorted(compass.distance, farthest, "right")
    middle = np.stack(np.unravel_index(places, thing.shape), 1).astype(np.int32)
    found: list[tuple[NDArray[np.int32], NDArray[np.integer]]] = [(np.zeros(0, np.int32), np.zeros(0, np.int64))]
    ends_at = np.cumsum(many)
    first = 0
    while first < len(places):
        last = max(first + 1, int(np.searchsorted(ends_at, ends_at[first] - many[first] + PAIRS, "right")))
        counts = many[first:last]
        star = np.repeat(np.arange(first, last, dtype=np.int32), counts)
        seen = np.arange(len(star)) - np.repeat(np.cumsum(counts) - counts, counts)
        found.append(_within(star, seen, inverse, middle, thing, compass))
        first = last
    return np.concatenate([s for s, _ in found]), np.concatenate([v for _, v in found])


def _within(
    star: NDArray[np.int32],
    seen: NDArray[np.intp],
    inverse: NDArray[np.float64],
    middle: NDArray[np.int32],
    thing: NDArray[np.bool_],
    compass: Compass,
) -> tuple[NDArray[np.int32], NDArray[np.integer]]:
    """Those of some pairs of a star and a voxel of the compass where the voxel is a thing inside the star."""
    part = np.zeros(len(star))
    row, flat_inverse = star.astype(np.int64) * inverse.shape[1], inverse.ravel()
    for between, weight in zip(compass.between.T, compass.weight.T, strict=True):
        part += weight[seen] * flat_inverse[row + between[seen]]
    good = np.flatnonzero(part <= 1)
    star, seen = star[good], seen[good]
    at, within = np.zeros(len(star), np.int64), np.ones(len(star), np.bool_)
    for axis, n in enumerate(thing.shape):
        place = middle[star, axis] + compass.step[seen, axis]
        within &= (place >= 0) & (place < n)
        at = at * n + place
    within &= pick(thing, np.where(within, at, 0))
    return star[within], at[within]
