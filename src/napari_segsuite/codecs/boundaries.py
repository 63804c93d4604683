"""The `boundaries` codec: what is here (semantic), is it an outline (boundary), how far is it to the middle of its object (distance).

What networks learn is close to Lin et al. 2021 (arXiv 2107.05840: foreground, contour and distance), what is made of it is a watershed. Theirs floods
from the whole of an image; this one is decided by what is near, so that it is exact in chunks. All maps are integers.

1. a voxel is foreground where its background probability is low; its class is the most probable other one;
2. a thing voxel's height is its distance map plus 1 minus its boundary map, added up over a small box; nothing else has a height;
3. each steps to the highest of its neighbours, corners included. Where none is higher, to one of equal height that has a way up in fewest
   steps, if that is few; where there is no way up, the first in the frame's order of a level top is the top;
4. a basin is what comes to one top after a fixed number of steps. What is still on its way is no object;
5. a basin belongs to the one that it is joined with by the highest pass, if the top of that is higher (of equals, the first) and near, and
   the pass is not much lower than its own top. So it is for that one, and for the next, as long as tops are near the first one;
6. a top is an object where the distance map is high enough.

An object's name is 1 + its top's index in the frame, so that chunks that never met agree on it.

The distance map is 1 / (1 + w), where w is what the cheapest way inside the object to its middle costs, and a step costs the more, the nearer
the outline is. The middle is the medoid of what is not outline. The map is 1 there and falls along every way from there, whatever the shape:
there are no second tops, as those of the distance to the outline, where an object is long or bent. In a disc, w is the logarithm of the depth
of the middle over that of the voxel. What is lost: parts that are narrower than three voxels are nothing but outline. Where objects touch
they may go to the neighbour, and what lies behind them may become an object of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.codecs import targets
from napari_segsuite.codecs.pieces import Assigned, Pick, pick, voxels
from napari_segsuite.codecs.places import countable, keys, owned, summed
from napari_segsuite.codecs.semantic import class_ids, kinds, scores
from napari_segsuite.types import Class, Head

DEFAULTS: Mapping[str, Any] = {
    "foreground": 0.5, "center": 0.3, "smooth": 2, "steps": 32, "level": 8, "merge": 0.1, "search": 24, "orphans": False,
}  # fmt: skip
"""Least foreground probability and distance map at a top; half-width of the box that heights are added up over; how many steps of one voxel are
taken at least, and how far a way up is looked for on level ground; how much lower than a top the pass to the next may be, as a part of the maps'
range, and how far away that top (model voxels); whether foreground that belongs to no object becomes an object of its own."""

BACKGROUND_WEIGHT = 0.1
"""What background counts in the distance loss beside the 1 of objects."""


def heads(classes: Sequence[Class], dims: int) -> tuple[Head, ...]:
    """Name the maps that a network must produce for `classes` (background comes first in ``semantic``)."""
    return (Head("semantic", len(classes) + 1, "logits"), Head("boundary", 1, "probability"), Head("distance", 1, "scalar"))


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
        ``semantic`` (*spatial) uint8 class ids; ``boundary`` (1, *spatial) float32, 1 on objects' voxels that are next to anything else;
        ``distance`` (1, *spatial) float32, 1 at middles, 0 in the background; ``distance_weight`` (1, *spatial) float32.
    """
    semantic = class_ids(labels, classes, class_of)
    things = np.where(np.isin(semantic, [c.id for c in classes if c.countable]), labels, 0)
    rim = targets.outlines(things)
    distance = _distances(things, rim, tuple(sampling or (1.0,) * things.ndim))
    weight = np.where(things > 0, np.float32(1), np.float32(BACKGROUND_WEIGHT))
    return {"semantic": semantic, "boundary": rim[None].astype(np.float32), "distance": distance[None], "distance_weight": weight[None]}


def _distances(things: NDArray[np.integer], rim: NDArray[np.bool_], sampling: Sequence[float]) -> NDArray[np.float32]:
    """The distance map: ways that lead along outlines are those of voxels from which there is no other."""
    core = np.where(rim, 0, things)
    points = targets.medoids(np.where(np.isin(things, np.unique(core)), core, things))[1]
    inside, steps, beside = targets.neighbours(things)
    known = np.full(len(inside), np.inf)
    known[np.searchsorted(inside, np.ravel_multi_index(tuple(points.T), things.shape))] = 0
    cost = 1 / pick(targets.depths(things, rim, sampling), inside)
    within = targets.ways(beside, steps, known, sampling, np.where(pick(rim, inside), np.inf, cost))
    ways = np.where(np.isfinite(within), within, targets.ways(beside, steps, within, sampling, cost))
    distance = np.zeros(things.shape, np.float32)
    distance.ravel()[inside] = 1 / (1 + ways)
    return distance


def _doublings(o: Mapping[str, Any], factor: Sequence[float]) -> int:
    """How often the way of one step is doubled until it has all the steps."""
    return int(np.ceil(np.log2(max(1, o["steps"] * max(factor)))))


def _box(o: Mapping[str, Any], factor: Sequence[float]) -> list[int]:
    return [round(o["smooth"] * f) for f in factor]


def _near(o: Mapping[str, Any], factor: Sequence[float]) -> list[int]:
    return [int(o["search"] * f) for f in factor]


def _level(o: Mapping[str, Any], factor: Sequence[float]) -> int:
    return int(np.ceil(o["level"] * max(factor)))


def reach(options: Mapping[str, Any], factor: Sequence[float]) -> tuple[int, ...]:
    """How far from a voxel the decoder looks, per axis, on a grid that is `factor` times as fine as the model's.

    A voxel comes as far as it has steps, and then from basin to basin. Where one goes from the last of these depends on all of its voxels, which
    come from as far, and on those next to them and where they come to. Each of these looks for a way up, and at the box around it.
    """
    o = {**DEFAULTS, **options}
    way, level = 2 ** _doublings(o, factor), _level(o, factor)
    return tuple(3 * way + near + level + box + 3 for near, box in zip(_near(o, factor), _box(o, factor), strict=True))


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
        ``semantic`` (C, *spatial) uint8 probabilities, ``boundary`` and ``distance`` (1, *spatial) uint8.
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
    inside, box = np.flatnonzero(thing), _box(o, factor)
    heights = _heights(maps, thing, box)
    line, far = heights.ravel(), _far(heights.shape)
    small = np.int32 if line.size < 2**31 else np.int64  # half the bytes to move
    here: NDArray[np.integer] = np.flatnonzero(np.pad(thing, 1)).astype(small)
    ahead = _ahead(line, here, far, _level(o, factor))
    tops, basin = _basins(ahead, here, line.size, _doublings(o, factor))
    passes = _passes(basin, line, far)
    limit = round(o["merge"] * 2 * 255) * int(np.prod([2 * b + 1 for b in box]))
    places = np.stack(np.unravel_index(inside[tops], thing.shape))
    final = _merged(passes, line[here[tops]], places, limit, _near(o, factor))
    sure = maps["distance"].ravel()[inside[tops]]
    good = np.zeros(len(tops) + 1, np.bool_)
    good[final[1:]] = sure[final[1:] - 1] >= max(1, round(255 * o["center"]))
    roots = np.flatnonzero(good[1:])
    number = np.zeros(thing.size, np.int32)
    number[inside] = np.where(good, np.cumsum(good), 0)[final].astype(np.int32)[basin[here]]
    found, numbers = owned(voxels(kind > 0, at), thing, lambda where: pick(number, where), o["orphans"])
    names = keys(inside[tops[roots]], thing.shape, origin, shape)
    sureness = np.concatenate([[0], sure[roots]]).astype(np.uint8)
    return Assigned(found.shape, found.inside, pick(kind, found.where), numbers, names, sureness, scores(maps["semantic"], found))


def _heights(maps: Mapping[str, NDArray[np.uint8]], thing: NDArray[np.bool_], box: Sequence[int]) -> NDArray[np.integer]:
    """Heights of things, 1 or more, and 0 elsewhere and in a frame of one voxel around, so that no step leads out."""
    small = np.int16 if np.prod([2 * b + 1 for b in box]) * 511 < 2**15 else np.int32
    heights = (256 - maps["boundary"][0].astype(small)) + maps["distance"][0]
    heights *= thing
    return np.pad(summed(heights, box) * thing, 1)


def _far(padded: Sequence[int]) -> list[int]:
    """How far neighbours are in the flattened array: first those with a common face, and of these the first in the array's order."""
    strides = np.cumprod([1, *reversed(padded[1:])])[::-1]
    steps = sorted(product((-1, 0, 1), repeat=len(padded)), key=lambda step: sum(map(abs, step)))[1:]
    return [int(np.dot(step, strides)) for step in steps]


def _ahead(line: NDArray[np.integer], here: NDArray[np.integer], far: Sequence[int], level: int) -> NDArray[np.integer]:
    """Flat index of the voxel that each thing voxel steps to; its own for tops."""
    # Heights and, behind them, which neighbour it is: of equals, the voxel itself and then the first neighbour is the most.
    ranked, margin = line.astype(np.int32) << 5, max(far)
    best = ranked[margin:-margin] + 31
    for k, step in enumerate(far):
        np.maximum(best, ranked[margin + step : len(line) - margin + step] + (30 - k), out=best)
    which = 31 - (best.take(here - margin) & 31)
    ahead: NDArray[np.integer] = here + np.array([0, *far], here.dtype)[which]
    waiting = np.flatnonzero(ahead == here)
    led = np.zeros(line.size, np.bool_)
    led[here[ahead != here]] = True
    for _ in range(level):
        start = here[waiting]
        to = start.copy()
        for there in _level_ground(line, start, reversed(far)):
            np.copyto(to, there, where=led.take(there) & (there != start))
        found = to != start
        if not found.any():
            break
        ahead[waiting[found]] = to[found]
        led[start[found]] = True
        waiting = waiting[~found]
    start = here[waiting]
    first = start.copy()
    for there in _level_ground(line, start, far):
        np.copyto(first, there, where=(there < first) & ~led.take(there))
    ahead[waiting] = first
    return ahead


def _level_ground(line: NDArray[np.integer], start: NDArray[np.integer], far: Iterator[int] | Sequence[int]) -> Iterator[NDArray[np.integer]]:
    """For one step after the other, the neighbours of equal height; where the neighbour has another, the voxel itself."""
    height = line[start]
    for step in far:
        there = start + step
        yield np.where(line.take(there) == height, there, start)


def _basins(ahead: NDArray[np.integer], here: NDArray[np.integer], size: int, doublings: int) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Which of the thing voxels are tops; and at each voxel the number, from 1, of the top that it comes to, 0 for things that come to none."""
    number, basin = np.empty(size, here.dtype), np.zeros(size, np.int32)
    number[here] = np.arange(len(here), dtype=here.dtype)
    goals = number.take(ahead)
    tops = np.flatnonzero(ahead == here)
    for _ in range(doublings):
        before, goals = goals, goals.take(goals)
        if (before == goals).all():
            break
    count = np.zeros(len(here), np.int32)
    count[tops] = np.arange(1, len(tops) + 1, dtype=np.int32)
    basin[here] = count.take(goals)
    return tops, basin


def _passes(basin: NDArray[np.int32], line: NDArray[np.integer], far: Sequence[int]) -> NDArray[np.int64]:
    """Where voxels of two basins are next to each other: (3, m) numbers of the two, and the height of the lower voxel."""
    found, known = [np.zeros((3, 0), np.int64)], basin > 0
    for step in far:
        if step > 0:
            one, other = basin[:-step], basin[step:]
            start = np.flatnonzero((one != other) & known[:-step] & known[step:])
            found.append(np.stack([one[start], other[start], np.minimum(line[start], line[start + step])]).astype(np.int64))
    return np.concatenate(found, axis=1)


def _merged(passes: NDArray[np.int64], heights: NDArray[np.integer], places: NDArray[np.intp], limit: int, near: Sequence[int]) -> NDArray[np.int32]:
    """Number of the basin that each basin belongs to in the end; entry 0 is none."""
    count = len(heights)
    rank = np.zeros(count + 1, np.int64)
    rank[1 + np.lexsort((-np.arange(count), heights))] = np.arange(1, count + 1)
    tall = np.concatenate([[0], heights]).astype(np.int64)
    one, other, height = passes
    swap = rank[one] > rank[other]
    lower, upper = np.where(swap, other, one), np.where(swap, one, other)
    kept = np.flatnonzero(tall[lower] - height <= limit)
    lower, upper, height = lower[kept], upper[kept], height[kept]
    for line, most in zip(places, near, strict=True):
        height[np.abs(line[lower - 1] - line[upper - 1]) > most] = 0
    best = np.zeros(count + 1, np.int64)
    np.maximum.at(best, lower, height * (count + 1) + rank[upper])
    parent = np.arange(count + 1, dtype=np.int32)
    joined = np.flatnonzero(best > count)
    parent[joined] = np.argsort(rank)[best[joined] % (count + 1)]
    return _followed(parent, places, near)


def _followed(parent: NDArray[np.int32], places: NDArray[np.intp], near: Sequence[int]) -> NDArray[np.int32]:
    """Where one comes to from each basin by going from basin to basin, as long as tops are near the first one."""
    final = np.arange(len(parent), dtype=np.int32)
    going = np.flatnonzero(parent != final)
    while len(going):
        ahead = parent[final[going]]
        apart = np.abs(places[:, ahead - 1] - places[:, going - 1])
        stays = (ahead != final[going]) & (apart <= np.array(near)[:, None]).all(0)
        going = going[stays]
        final[going] = ahead[stays]
    return final
