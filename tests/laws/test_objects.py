"""Laws of the codec `objects`: every mask comes back, the best of overlapping ones wins, and nothing depends on tiles' and chunks' borders.

Law 1 holds for any objects whose mean voxels differ and that reach no farther than ``longest`` from them, connected or not in the codec;
linking keeps the largest part of what is not connected, as for all codecs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_segsuite import arrays
from napari_segsuite.codecs import instances, objects, pieces
from napari_segsuite.engine.plan import Options, resolve
from napari_segsuite.engine.run import result, run
from napari_segsuite.errors import OptionError
from napari_segsuite.types import Class, Image, ModelSpec, Prediction, Segmentation

if TYPE_CHECKING:
    from napari_segsuite.codecs.instances import Objects
    from napari_segsuite.codecs.pieces import Assigned

Array = NDArray[Any]
CELL = (Class(1, "cell"),)
BOTH = (Class(1, "tissue", countable=False), Class(2, "cell"), Class(3, "debris"))
FEW = settings(max_examples=25, deadline=None, derandomize=True)
NEAR: dict[str, Any] = {"longest": 3, "center": 0.1, "overlap": 0.2}


def painted(found: Assigned) -> Array:
    out = np.zeros(int(np.prod(found.shape)), np.int64)
    out[found.inside] = found.keys[found.number]
    return out.reshape(found.shape)


def assigned(maps: Mapping[str, Any], classes: Sequence[Class] = CELL, **options: Any) -> Assigned:
    shape = maps["objects"].shape
    return objects.assign(maps, classes, options, (0,) * len(shape), shape, (1.0,) * len(shape))


def same(found: Array, labels: Array) -> bool:
    pairs = np.unique(np.stack([found.ravel(), labels.ravel()]), axis=1).T
    return len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1])) == len(pairs) and all((f == 0) == (t == 0) for f, t in pairs)


@st.composite
def scenes(draw: st.DrawFn) -> Array:
    """Cells around seeds: they touch, are cut by the border, have ragged sides, are long or as small as one voxel."""
    d = draw(st.sampled_from((2, 3)))
    shape = draw(st.tuples(*[st.integers(1, 30 if d == 2 else 12)] * d))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    seeds = rng.integers(0, shape, (draw(st.integers(1, 12)), d))
    stretch = rng.uniform(0.2, 1, d).reshape(-1, *[1] * d)
    away = np.stack([(((np.indices(shape) - s.reshape(-1, *[1] * d)) * stretch) ** 2).sum(0) for s in seeds]) + rng.random(shape) * 3
    return np.where(away.min(0) < rng.integers(1, 60), 1 + away.argmin(0), 0).astype(np.int32)


def distinct(labels: Array) -> Array:
    """The objects whose mean voxel no earlier one has."""
    found = objects.perfect(labels, CELL)["objects"]
    ids = np.unique(labels[labels > 0])
    first = np.unique(found.center, axis=0, return_index=True)[1] if len(ids) else np.zeros(0, np.intp)
    return np.where(np.isin(labels, ids[first]), labels, 0)


@given(scenes())
@FEW
@example(np.zeros((1, 1), np.int32))
@example(np.ones((1, 1, 40), np.int32))
@example(np.arange(1, 31, dtype=np.int32).reshape(2, 3, 5))
def test_every_object_comes_back(labels: Array) -> None:
    labels = distinct(labels)
    assert same(painted(assigned(objects.perfect(labels, CELL), longest=400)), labels)


def test_a_ring_and_what_lies_in_it_come_back_unless_their_middles_are_one_voxel() -> None:
    y, x = np.mgrid[:41, :41]
    far = np.hypot(y - 20, x - 20)
    labels = np.where(far < 5, 1, np.where((far > 10) & (far < 15), 2, 0))
    assert len(np.unique(painted(assigned(objects.perfect(labels, CELL))))) == 2
    labels[far < 5] = 0
    labels[np.hypot(y - 23, x - 20) < 5] = 1
    assert same(painted(assigned(objects.perfect(labels, CELL))), labels)


@given(scenes(), st.integers(0, 2**32 - 1))
@FEW
def test_classes_and_stuff_come_back(labels: Array, seed: int) -> None:
    labels = distinct(labels)
    class_of = {int(i): int(np.random.default_rng(seed + i).integers(1, 4)) for i in np.unique(labels) if i}
    found = assigned(objects.perfect(labels, BOTH, class_of), BOTH, longest=400)
    kind = np.zeros(labels.size, np.uint8)
    kind[found.inside] = found.kind
    expected = np.array([0, *(class_of.get(i, 0) for i in range(1, labels.max() + 1))])[labels]
    np.testing.assert_array_equal(kind.reshape(labels.shape), expected)
    things = np.where(expected > 1, labels, 0)
    number = np.zeros(labels.size, np.int64)
    number[found.inside] = found.keys[found.number]
    assert same(number.reshape(labels.shape), things)


def two(overlap: int, scores: tuple[float, float]) -> Objects:
    """Two bars of 20 voxels with some in common."""
    first, second = ([(1, k) for k in range(start, start + 20)] for start in (0, 20 - overlap))
    owner = np.repeat([0, 1], 20)
    return instances.listed((3, 60), np.array(scores), np.array([1, 1]), owner, np.array([*first, *second]), np.ones(40))


@pytest.mark.parametrize(("overlap", "count"), [(0, 2), (8, 2), (9, 1), (19, 1)])
def test_the_best_of_what_overlaps_stays_and_has_what_both_claim(overlap: int, count: int) -> None:
    for scores in ((0.9, 0.8), (0.8, 0.9)):
        found = assigned({"objects": two(overlap, scores)})
        sizes = np.bincount(found.number)[1:]
        assert len(found.keys) - 1 == count
        assert sorted(sizes) == ([20] if count == 1 else [20 - overlap, 20])
        best = int(np.argmax(found.heights[1:]))
        assert found.heights[1:][best] == 230
        assert sizes[best] == 20


def test_unsure_objects_and_voxels_are_left_out() -> None:
    owner, voxel = np.zeros(6, np.intp), np.array([(0, k) for k in range(6)])
    value = np.array([0.2, 0.35, 0.5, 0.6, 0.9, 1.0])
    found = instances.listed((1, 9), np.array([0.6]), np.array([1]), owner, voxel, value)
    assert len(found.value) == 5  # what nobody can want is not listed
    assert len(assigned({"objects": found}).inside) == 4
    assert len(assigned({"objects": found}, foreground=0.3).inside) == 5
    assert len(assigned({"objects": found}, center=0.61).inside) == 0
    assert len(assigned({"objects": found}, longest=1).inside) == 3


# Regions ------------------------------------------------------------------------------------------------------------------------------


def anything(shape: Sequence[int], seed: int, classes: int = 1) -> Objects:
    """Boxes of random voxels everywhere: ties in scores, much overlap, masks beyond what is allowed, several with one middle."""
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape)) // 15
    low = rng.integers(0, shape, (count, len(shape)))
    side = rng.integers(1, rng.integers(2, 9), (count, len(shape)))
    voxel, owner = [], []
    for k, (a, n) in enumerate(zip(low, side, strict=True)):
        inside = np.argwhere(rng.random(n) < rng.choice([0.5, 1.0])) + a
        voxel.append(inside)
        owner += [k] * len(inside)
    everything = np.concatenate(voxel)
    kind = rng.integers(1, classes + 1, count) if classes == 1 else rng.integers(2, classes + 1, count)
    return instances.listed(
        shape,
        rng.choice([0.05, 0.5, 0.7, 0.71] if seed % 2 else rng.random(99), count),
        kind,
        np.array(owner),
        everything,
        rng.choice([0.4, 0.6, 0.9], len(owner)),
    )


def region_of(found: Objects, box: Sequence[tuple[int, int]]) -> Objects:
    return instances.moved(found, [-a for a, _ in box], [b - a for a, b in box])


def differs(shape: Sequence[int], factor: Sequence[float], seed: int, margin: Sequence[int] | None = None, classes: Sequence[Class] = CELL) -> bool:
    """Whether a region with `margin` around it is decoded otherwise than in the whole."""
    rng = np.random.default_rng(seed + 1)
    whole, stuff = anything(shape, seed, len(classes)), rng.choice([0, 100, 255], (2, *shape)).astype(np.uint8)
    low = [int(rng.integers(0, n)) for n in shape]
    box = [(a, int(rng.integers(a + 1, n + 1))) for a, n in zip(low, shape, strict=True)]
    answers = []
    for far in (margin or objects.reach(NEAR, factor), shape):
        around = [(max(a - m, 0), min(b + m, n)) for (a, b), m, n in zip(box, far, shape, strict=True)]
        at = tuple(slice(a, b) for a, b in around)
        maps = {"objects": region_of(whole, around), **({} if len(classes) == 1 else {"semantic": stuff[(slice(None), *at)]})}
        wanted = [slice(a - r, b - r) for (a, b), (r, _) in zip(box, around, strict=True)]
        got = objects.assign(maps, classes, NEAR, [a for a, _ in around], shape, factor, wanted)
        answers.append([got.inside, got.kind, got.keys[got.number], got.heights[got.number], *got.scores])
    return any(not np.array_equal(a, b) for a, b in zip(*answers, strict=True))


GRIDS: list[tuple[tuple[int, ...], tuple[float, ...]]] = [
    ((64, 70), (1.0, 1.0)), ((80, 61), (1.7, 1.0)), ((30, 34, 36), (1.0, 1.0, 1.0)), ((1, 64, 50), (1.0, 1.0, 1.0)),
]  # fmt: skip


@given(st.sampled_from(GRIDS), st.sampled_from([CELL, BOTH]), st.integers(0, 2**32 - 2))
@settings(FEW, max_examples=40)
def test_a_region_with_reach_around_it_is_decoded_as_in_the_whole(
    grid: tuple[Sequence[int], Sequence[float]], classes: Sequence[Class], seed: int
) -> None:
    assert not differs(*grid, seed, classes=classes)


@pytest.mark.parametrize("margin", [1, 3, 6])
def test_a_reach_that_is_too_small_is_found_out(margin: int) -> None:
    assert objects.reach(NEAR, (1.0, 1.0)) == (5 * 3 + 3,) * 2
    assert any(differs((64, 70), (1.0, 1.0), seed, (margin, margin)) for seed in range(60))


@given(st.sampled_from([(9, 11), (4, 5, 6)]), st.integers(0, 99), st.data())
@FEW
def test_on_a_finer_grid_every_voxel_has_the_mask_of_the_nearest(shape: tuple[int, ...], seed: int, data: st.DataObject) -> None:
    found = anything(shape, seed)
    fine = tuple(data.draw(st.integers(n, 3 * n)) for n in shape)
    lines = [arrays.nearest(n, m, 0, m) for n, m in zip(shape, fine, strict=True)]
    large = instances.enlarged(found, lines, fine)
    for k in range(len(found.score)):
        coarse, expected = (np.zeros(s, np.uint8) for s in (shape, fine))
        coarse[tuple(found.voxel[found.owner == k].T)] = found.value[found.owner == k]
        expected[tuple(large.voxel[large.owner == k].T)] = large.value[large.owner == k]
        np.testing.assert_array_equal(coarse[np.ix_(*lines)], expected)
    assert all(np.array_equal(line[large.center[:, a]], found.center[:, a]) for a, line in enumerate(lines))
    assert (np.diff(large.owner) >= 0).all()


@given(st.integers(0, 99))
@FEW
def test_a_record_and_parts_put_together_are_the_same(seed: int) -> None:
    found = anything((20, 30), seed)
    again = instances.unpacked(instances.packed(found), (20, 30))
    half = np.arange(len(found.score)) % 2 == 0
    both = instances.together([instances.chosen(found, half), instances.chosen(found, ~half)], found.shape)
    order = np.argsort(np.r_[np.flatnonzero(half), np.flatnonzero(~half)])
    for other in (again, instances.reordered(both, order)):
        assert all(np.array_equal(a, b) for a, b in zip(instances.packed(found).values(), instances.packed(other).values(), strict=True))


# Engine -------------------------------------------------------------------------------------------------------------------------------


class Detector:
    """Finds bright blobs in its tile by a threshold, as sure as they are bright: of a blob that is cut, two tiles say different things."""

    def __init__(self, dims: int, classes: Sequence[Class] = CELL, **options: Any) -> None:
        self.spec = ModelSpec(
            "detector", "zyx"[-dims:], ("grey",), objects.heads(classes, dims), tuple(classes), "objects", tile=(12, 32, 32)[-dims:],
            multiple=(2, 2, 2)[-dims:], context=(3, 8, 8)[-dims:], diameter_px=10.0, normalize={"method": "percentiles", "values": [0.0, 100.0]},
            codec_options={"longest": 6, "center": 0.0, **options},
        )  # fmt: skip

    def predict(self, batch: Array) -> Prediction:
        found = [self._one(pixels[0]) for pixels in batch]
        maps = {head.name: np.stack([1 - batch[:, 0], batch[:, 0]], 1) for head in self.spec.heads}
        return Prediction(maps, found)

    def _one(self, pixels: Array) -> Objects:
        labels, count = ndimage.label(pixels > 0.4)
        where = np.argwhere(labels)
        owner = labels[labels > 0] - 1
        score = ndimage.mean(pixels, labels, np.arange(1, count + 1)) if count else np.zeros(0)
        kinds = [c.id for c in self.spec.classes if c.countable]
        kind = np.array([kinds[int(1000 * s) % len(kinds)] for s in np.atleast_1d(score)[:count]], np.uint8)
        return instances.listed(pixels.shape, np.atleast_1d(score)[:count], kind, owner, where, pixels[labels > 0])


def segmented(image: Image, model: Detector, out: Path | None = None, **options: Any) -> Segmentation:
    plan = resolve(image, Options.from_json({"model": "detector", **options}), model.spec)
    return result(run(plan, image, model=model, out=out))


@pytest.mark.parametrize(
    ("shape", "axes", "classes", "options", "chunks"),
    [
        ((90, 71), "yx", CELL, {}, [(90, 20), (17, 71), (33, 32)]),
        ((90, 71), "yx", BOTH, {"foreground": 0.6}, [(33, 32)]),
        ((50, 41), "yx", CELL, {"diameter_px": 6.0}, [(13, 41), (20, 19)]),
        ((80, 71), "yx", CELL, {"diameter_px": 17.0}, [(33, 32)]),
        ((21, 40, 45), "zyx", CELL, {}, [(21, 13, 45), (8, 20, 17)]),
        ((3, 40, 41), "zyx", BOTH, {"stack": "slices"}, [(13, 41)]),
    ],
)  # fmt: skip
def test_a_detector_answers_the_same_in_any_chunks(
    shape: tuple[int, ...], axes: str, classes: Sequence[Class], options: dict[str, Any], chunks: Sequence[tuple[int, ...]]
) -> None:
    rng = np.random.default_rng(0)
    image = arrays.as_image(ndimage.gaussian_filter(rng.random(shape), 2).astype(np.float32), axes)
    model = Detector(2 if "stack" in options else len(shape), classes)
    whole = segmented(image, model, **options)
    assert len(whole.segments["id"]) > 4, "nothing to compare"
    with tempfile.TemporaryDirectory() as folder:
        for k, chunk in enumerate(chunks):
            for part in (
                segmented(image, model, chunk=chunk, **options),
                segmented(image, model, Path(folder) / f"{k}.ome.zarr", chunk=chunk, **options),
            ):
                np.testing.assert_array_equal(np.asarray(part.labels), whole.labels)
                assert all(np.array_equal(column, whole.segments[name]) for name, column in part.segments.items())


def test_objects_on_the_borders_of_tiles_are_found_once() -> None:
    """As long as the context of a tile shows all of them."""
    y, x = np.mgrid[:150, :150]
    middles = np.random.default_rng(2).permutation([(6 + 11 * i + j % 3, 6 + 11 * j + i % 3) for i in range(13) for j in range(13)])[:150]
    truth = np.any([np.hypot(y - a, x - b) < 3.6 for a, b in middles], axis=0)
    found = segmented(arrays.as_image(truth.astype(np.float32)), Detector(2, longest=6))
    assert len(found.segments["id"]) == 150
    assert same(np.asarray(found.labels), ndimage.label(truth)[0])


@pytest.mark.parametrize(("wish", "told"), [({"flips": True}, "no mean can be taken"), ({"stack": "orthogonal"}, "whole objects of slices")])
def test_what_has_no_mean_is_refused(wish: dict[str, Any], told: str) -> None:
    image = arrays.as_image(np.zeros((5, 20, 20), np.float32), "zyx")
    with pytest.raises(OptionError, match=told):
        resolve(image, Options.from_json({"stack": "slices", **wish}), Detector(2).spec)


def test_pieces_know_the_object_that_they_are_of() -> None:
    labels = np.zeros((12, 12), np.int32)
    labels[2:5, 2:5], labels[7:9, 3:11] = 1, 2
    found = pieces.collect(assigned(objects.perfect(labels, CELL)), CELL, (0, 0), labels.shape)
    assert sorted(found.rows["size"].tolist()) == [9, 16]
    assert set(found.rows["key"].tolist()) == {1 + 3 * 12 + 3, 1 + 8 * 12 + 7}
