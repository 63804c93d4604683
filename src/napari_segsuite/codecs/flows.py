"""The `flows` codec: what is here (semantic), and which way is it to the middle of its object (flow), as in Cellpose.

The vectors are those of Stringer et al. 2021 (doi:10.1038/s41592-020-01018-x): heat that is put in at an object's medoid spreads inside
the object and is lost at its border; everywhere the vector points to where it gets warmer, and has one length. Decoding is exact:

1. a voxel is foreground where its background probability is low; its class is the most probable other one;
2. the vectors of things are added up over a small box, which takes noise out of them;
3. a thing voxel steps to the one of its neighbours, corners included, that its sum points to; if that is not a thing, only along
   the longest component; if that is not one either, not at all: it is stuck, as a middle of an object is not;
4. after a fixed number of steps it is counted where it came to, unless a voxel is stuck there;
5. a sink is a voxel that no voxel of its window exceeds in this count (of equals, the first in the frame's order);
6. a voxel belongs to the sink that is nearest to where it came, if one is near enough.

An object's name is 1 + its sink's index in the frame, so that chunks that never met agree on it. There are no fractions of voxels, so
that the way of 2 n steps is the way of n steps taken twice: with a table of where each voxel comes to, 64 steps are six look-ups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.codecs import targets
from napari_segsuite.codecs.pieces import Assigned, Pick, pick, voxels
from napari_segsuite.codecs.places import coords, countable, flat, keys, maxima, nearest, owned, summed
from napari_segsuite.codecs.semantic import class_ids, kinds, scores
from napari_segsuite.types import Class, Head

FLOW_UNIT = 8.0
"""Length of the encoded vectors in voxels, and what networks answer in: they learn vectors of length 1, decoded as integers of 1/64."""

DEFAULTS: Mapping[str, Any] = {"foreground": 0.5, "smooth": 1, "steps": 64, "least": 10, "window": 3, "search": 6, "orphans": False}
"""Least foreground probability; half-width of the box that vectors are added up over; how many steps of one voxel are taken at least; fewest
voxels that come to a sink; half-width of its window, and search radius around the place that a voxel came to (model voxels); whether
foreground that belongs to no sink becomes an object of its own."""

LONGEST = 1000
"""Components of vectors are cut off at this many 1/64, so that their sums over boxes of up to 32 voxels are small numbers."""


def heads(classes: Sequence[Class], dims: int) -> tuple[Head, ...]:
    """Name the maps that a network must produce for `classes` (background comes first in ``semantic``)."""
    return (Head("semantic", len(classes) + 1, "logits"), Head("flow", dims, "vector", FLOW_UNIT))


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
        ``semantic`` (*spatial) uint8 class ids; ``flow`` (d, *spatial) float32, `FLOW_UNIT` voxels long inside of objects and 0 at their
        medoids; ``weight`` (1, *spatial) float32, what an object's voxels count in the flow loss: the inverse root of its size.
    """
    semantic = class_ids(labels, classes, class_of)
    things = np.where(np.isin(semantic, [c.id for c in classes if c.countable]), labels, 0)
    ids, points, sizes = targets.medoids(things)
    inside, steps, beside = targets.neighbours(things)
    sources = np.searchsorted(inside, np.ravel_multi_index(tuple(points.T), things.shape))
    heat = targets.diffused(beside, steps, sources, sampling or (1.0,) * things.ndim)
    flow = np.zeros((things.ndim, things.size), np.float32)
    flow[:, inside] = _directions(heat, beside, steps, sampling or (1.0,) * things.ndim) * FLOW_UNIT / 64
    return {"semantic": semantic, "flow": flow.reshape(-1, *things.shape), "weight": targets.weights(things, ids, sizes)}


def _directions(heat: NDArray[np.float64], beside: NDArray[np.int32], steps: NDArray[np.int8], sampling: Sequence[float]) -> NDArray[np.float64]:
    """Vectors (d, n) up the heat, in 1/64: its gradient, or where that leads out of the object or downwards, to the warmest neighbour."""
    near, count = heat[beside], len(beside)
    axes = [[int(np.flatnonzero((steps == sign * axis).all(1))[0]) for sign in (1, -1)] for axis in np.eye(steps.shape[1], dtype=np.int8)]
    slope = np.stack([(near[:, up] - near[:, down]) / size**2 for (up, down), size in zip(axes, sampling, strict=True)])
    slope /= np.maximum(np.abs(slope).max(0), np.finfo(float).tiny)  # first, since far from the source squares are too small for a float
    slope /= np.maximum(np.sqrt((slope**2).sum(0)), 0.5)
    slope = np.rint(64 * slope)
    led = ((_towards(slope.astype(np.int32)) + 1) * 3 ** np.arange(len(slope))[::-1, None]).sum(0)
    best = near.argmax(1)
    good = near[np.arange(count), led] > heat[:count]
    warmest = np.rint(64 * steps[best].T / np.maximum(np.sqrt((steps[best].T ** 2.0).sum(0)), 1))
    return np.where(good, slope, np.where(near.max(1) > heat[:count], warmest, 0))


def _towards(vectors: NDArray[np.integer]) -> NDArray[np.integer]:
    """The step of -1, 0 or 1 along each axis to the neighbour that a vector points to: along the components of more than half the longest."""
    size = np.abs(vectors)
    steps: NDArray[np.integer] = np.sign(vectors) * (size >= (size.max(0) + 1) // 2)
    return steps


def _doublings(options: Mapping[str, Any], factor: Sequence[float]) -> int:
    """How often the way of one step is doubled until it has all the steps."""
    steps = {**DEFAULTS, **options}["steps"]
    return int(np.ceil(np.log2(max(1, steps * max(factor)))))


def _window(o: Mapping[str, Any], factor: Sequence[float]) -> list[int]:
    return [max(1, round(o["window"] * f)) for f in factor]


def _box(o: Mapping[str, Any], factor: Sequence[float]) -> list[int]:
    return [round(o["smooth"] * f) for f in factor]


def reach(options: Mapping[str, Any], factor: Sequence[float]) -> tuple[int, ...]:
    """How far from a voxel the decoder looks, per axis, on a grid that is `factor` times as fine as the model's.

    A voxel comes as far as it has steps, its sink lies within the search radius, that it is one depends on the counts in its window, and
    these on the voxels that can come there, each of which looks one voxel ahead, and at the box around it.
    """
    o = {**DEFAULTS, **options}
    way = 2 ** _doublings(o, factor)
    widths = zip(factor, _window(o, factor), _box(o, factor), strict=True)
    return tuple(2 * way + int(o["search"] * f) + window + max(1, box) for f, window, box in widths)


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
        ``semantic`` (C, *spatial) uint8 probabilities, ``flow`` (d, *spatial) int16 vectors of any length.
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
    inside = np.flatnonzero(thing)
    ahead, stuck = _ahead(_smooth(maps["flow"], thing, inside, _box(o, factor)), thing, inside)
    goals = _goals(ahead, inside, thing.size, _doublings(o, factor))
    del ahead  # regions are large
    count = np.bincount(goals.take(inside), minlength=thing.size).astype(np.int32)
    places = np.flatnonzero(count)
    count[stuck] = 0
    sinks = maxima(count.reshape(thing.shape), max(1, int(o["least"])), _window(o, factor))
    numbers = np.zeros(thing.size, np.int32)
    numbers[places] = nearest(sinks, thing.shape, o["search"], factor, coords(places, thing.shape))
    found, number = owned(voxels(kind > 0, at), thing, lambda where: pick(numbers, pick(goals, where)), o["orphans"])
    heights = np.full(len(sinks) + 1, 255, np.uint8)  # there is no map that says how sure a sink is
    return Assigned(
        found.shape, found.inside, pick(kind, found.where), number, keys(sinks, thing.shape, origin, shape), heights, scores(maps["semantic"], found)
    )


def _smooth(flow: NDArray[np.int16], thing: NDArray[np.bool_], inside: NDArray[np.intp], box: Sequence[int]) -> NDArray[np.integer]:
    """Sums (d, n) of the vectors of things over the box around each thing voxel."""
    small = np.int16 if np.prod([2 * w + 1 for w in box]) * LONGEST < 2**15 else np.int32
    out = np.empty((len(flow), len(inside)), small)
    for component, sums in zip(flow, out, strict=True):
        values = np.clip(component, -LONGEST, LONGEST).astype(small, copy=False)
        values *= thing
        sums[:] = pick(summed(values, box), inside)
    return out


def _goals(ahead: NDArray[np.integer], inside: NDArray[np.intp], size: int, doublings: int) -> NDArray[np.integer]:
    """Flat index of the voxel that each voxel of the region comes to; those that are not things stay."""
    goals: NDArray[np.integer] = np.arange(size, dtype=ahead.dtype)
    goals[inside] = ahead
    for _ in range(doublings):
        ahead = pick(goals, ahead)
        goals[inside] = ahead
    return goals


def _ahead(vectors: NDArray[np.integer], thing: NDArray[np.bool_], inside: NDArray[np.intp]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Flat index of the voxel that each thing voxel steps to, and of those that are stuck."""
    start: NDArray[np.integer] = inside.astype(np.int32) if thing.size < 2**31 else inside  # half the bytes to move
    steps = _towards(vectors)
    at = coords(start, thing.shape)
    ahead = _moved(at, steps, thing.shape)
    lost = np.flatnonzero(~pick(thing, ahead))
    longest = np.abs(vectors[:, lost]).argmax(0) == np.arange(len(vectors))[:, None]
    aside = _moved([a[lost] for a in at], steps[:, lost] * longest, thing.shape)
    free = pick(thing, aside)
    ahead[lost] = np.where(free, aside, start[lost])
    return ahead, start[lost[~free]]


def _moved(at: Sequence[NDArray[np.integer]], steps: NDArray[np.integer], shape: Sequence[int]) -> NDArray[np.integer]:
    """Flat index after one step that does not leave the region."""
    moved = [a + s for a, s in zip(at, steps, strict=True)]
    for line, n in zip(moved, shape, strict=True):
        np.clip(line, 0, n - 1, out=line)
    index: NDArray[np.integer] = flat(moved, shape)
    return index
