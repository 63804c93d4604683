"""Is it exact here too? A crop where chunks and tiles meet is computed once more in one piece, and compared with the result.

The network sees the crop and its context in one go, the decoder all of it at once. What differs from the result are last bits of the
network's floating point numbers, which depend on the size of its input; where that flips a voxel, the report counts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.engine import link, tiles
from napari_segsuite.engine.layout import At, Layout
from napari_segsuite.engine.plan import Plan
from napari_segsuite.engine.tiles import Box
from napari_segsuite.types import ArrayLike, Image, Model, ModelSpec

SIDE = {2: 768, 3: 96}
"""Longest side of the crop in voxels, by the number of axes: what a network can be expected to compute in one go."""


def self_check(plan: Plan, image: Image, spec: ModelSpec, labels: ArrayLike, model: Model | None = None) -> dict[str, Any]:
    """Compare a crop of a result with the same crop computed in one piece.

    Parameters
    ----------
    plan : Plan
        With its limits measured.
    image : Image
    spec : ModelSpec
    labels : (*image without channels) integer
    model : Model, optional
        Instead of the one that the plan names.

    Returns
    -------
    dict
        ``frame`` and ``box`` of the crop; ``objects`` in it, without those that its border cuts; ``same``: how many of them are there in
        one piece too, with an IoU of 0.9 at least; ``voxels`` that are something in either, and the share of them that ``agree`` on what.
    """
    from napari_segsuite import metrics

    layout = Layout(plan, spec)
    frame = tuple(n // 2 for n in layout.frames)
    box = _crop(layout)
    whole = _in_one_piece(plan, image, spec, At(frame, box), layout, model)
    stored = np.asarray(labels[_index(plan, image, frame, box)]).reshape(whole.shape)
    stuff = sum(not c.countable for c in spec.classes)
    one, other = _inside(stored, stuff), _inside(whole, stuff)
    scores = metrics.evaluate([other], [one])
    ap = scores.ap[0.9]
    same = round(ap * (scores.n_true + scores.n_pred) / (1 + ap)) if scores.n_true + scores.n_pred else 0
    both = (one > 0) | (other > 0)
    agree = float((_partner(one, other) == other)[both].mean()) if both.any() else 1.0
    place = {"frame": list(frame), "box": [list(side) for side in box]}
    return {**place, "objects": scores.n_true, "same": same, "voxels": int(both.sum()), "agree": round(agree, 6)}


def sentence(told: dict[str, Any]) -> str:
    """What the check found, for people."""
    where = ", ".join(f"{a}:{b}" for a, b in told["box"])
    return f"self-check: at {where} {told['same']} of {told['objects']} segments are the same in one piece, {100 * told['agree']:.4g} % of the voxels"


def _crop(layout: Layout) -> Box:
    """A box around the corner of chunks, or else of tiles, that is nearest to the middle."""
    box = []
    for n, chunks, cores in zip(layout.grids.image, layout.chunk_lines, _own_lines(layout), strict=True):
        cuts = [b for _, b in chunks[:-1]] or [b for _, b in cores[:-1]] or [n // 2]
        middle, side = min(cuts, key=lambda c: abs(c - n / 2)), min(n, SIDE[len(layout.grids.image)])
        low = min(max(middle - side // 2, 0), n - side)
        box.append((low, low + side))
    return tuple(box)


def _own_lines(layout: Layout) -> list[list[tuple[int, int]]]:
    """What tiles answer for on the image's grid, per axis."""
    out = []
    for n, m, line in zip(layout.grids.image, layout.grids.model, layout.tile_lines, strict=True):
        out.append([(-(-a * n // m), -(-b * n // m)) for (a, b), _ in line])
    return out


def _in_one_piece(plan: Plan, image: Image, spec: ModelSpec, at: At, layout: Layout, model: Model | None) -> NDArray[np.int64]:
    """Labels of a crop from one call of the network and one of the decoder."""
    from napari_segsuite.codecs import instances, pieces
    from napari_segsuite.engine import chunk
    from napari_segsuite.engine.reader import Reader

    cells, own = layout.grids, chunk.model_of(plan, model)
    around = cells.around(at.box, layout.reach)
    region = cells.on_model(around)
    multiple, context = spec.multiple[-len(region) :], spec.context[-len(region) :]
    # The network's grid of strides is that of the whole frame.
    seen = tuple(
        (max((a - c) // m * m, 0), min(-(-(b + c) // m) * m, n)) for (a, b), c, m, n in zip(region, context, multiple, cells.model, strict=True)
    )
    pixels = tiles.padded(Reader(plan, image, at.frame, at.box, cells, len(spec.channels)).read(seen), multiple)
    answer = own.predict(pixels[None])
    inner = tuple(slice(a - s, b - s) for (a, b), (s, _) in zip(region, seen, strict=True))
    whole = tiles.answered(spec, answer, (1, *pixels.shape))
    maps: dict[str, Any] = {name: value[0][(slice(None), *inner)] for name, value in whole.items()}
    for found in answer.objects:
        maps |= {"objects": instances.moved(found, [s - a for (a, _), (s, _) in zip(region, seen, strict=True)], [b - a for a, b in region])}
    assigned = chunk.assign(plan, spec, at.box, around, maps)
    found = pieces.collect(assigned, spec.classes, [a for a, _ in at.box], cells.image)
    linked = link.link([found.rows], np.zeros((0, 2), np.int64), spec.classes, plan.axes, plan.min_size, plan.min_score)
    return np.concatenate([[0], linked.final])[found.labels]


def _index(plan: Plan, image: Image, frame: Sequence[int], box: Box) -> tuple[int | slice, ...]:
    at, spatial = dict(zip(plan.frames, frame, strict=True)), dict(zip(plan.axes, box, strict=True))
    return tuple(at[a] if a in at else slice(*spatial[a]) if a in spatial else 0 for a in image.axes if a != "c")


def _inside(labels: NDArray[Any], stuff: int) -> NDArray[np.int64]:
    """Labels without the things that reach the border, which the crop cuts."""
    border = {int(i) for axis in range(labels.ndim) for side in (0, -1) for i in np.unique(np.take(labels, side, axis))}
    cut = np.array([i for i in border if i > stuff], np.int64)
    return np.where(np.isin(labels, cut), 0, labels).astype(np.int64)


def _partner(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels of `one` renamed to those labels of `other` that most of their voxels have."""
    pairs, counts = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1, return_counts=True)
    best = {0: 0}
    for k in np.argsort(counts, kind="stable"):
        best[int(pairs[0, k])] = int(pairs[1, k])
    best[0] = 0
    ids, index = np.unique(one, return_inverse=True)
    return np.array([best[int(i)] for i in ids], np.int64)[index].reshape(one.shape)
