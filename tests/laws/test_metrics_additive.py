"""Law 5: tables of the parts add to the table of the whole, a segmentation against itself is perfect, names do not matter."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_segsuite.metrics import THRESHOLDS, Overlap, evaluate, foreground, matching, overlap, overlap_blocks, partition

Array = NDArray[Any]

# Ids that a table by id, a signed integer or a real number would lose or confuse.
IDS = (0, 1, 2, 3, 255, 65536, 2**32 + 1, 2**53, 2**53 + 1, 2**63, 2**64 - 2, 2**64 - 1)
FEW = settings(max_examples=25, deadline=None)


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...], count: int) -> list[tuple[slice, ...]]:
    """Boxes of at least one voxel inside `shape`."""
    corner = st.tuples(*(st.integers(0, n - 1) for n in shape))
    length = st.tuples(*(st.integers(1, n) for n in shape))
    drawn = draw(st.lists(st.tuples(corner, length), max_size=count))
    return [tuple(slice(c, c + n) for c, n in zip(*box, strict=True)) for box in drawn]


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Array, Array]:
    """A truth of painted boxes, and a prediction that repeats some of them and adds others: every kind of IoU occurs."""
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)))
    true_boxes, extra = draw(boxes(shape, 5)), draw(boxes(shape, 4))
    kept = draw(st.lists(st.sampled_from(true_boxes), max_size=5)) if true_boxes else []
    return _paint(shape, true_boxes), _paint(shape, kept + extra)


def _paint(shape: tuple[int, ...], painted: list[tuple[slice, ...]]) -> Array:
    labels = np.zeros(shape, np.uint64)
    for name, box in zip(IDS[1:], painted, strict=False):
        labels[box] = name
    return labels


def _renumber(labels: Array, names: dict[int, int]) -> Array:
    return np.array([names[int(i)] for i in labels.ravel()], np.uint64).reshape(labels.shape)


def _figures(table: Overlap) -> list[float]:
    found, parts = matching(table), partition(table)
    low = [matching(table, t).tp for t in (0.1, 0.3)]
    return [*low, *(found.at(t).ap for t in THRESHOLDS), found.f1, found.sq, foreground(table).dice, parts.voi_split, parts.voi_merge, parts.arand]


@FEW
@given(scenes(), st.data())
def test_tables_of_parts_add_to_the_table_of_the_whole(scene: tuple[Array, Array], data: st.DataObject) -> None:
    true, pred = scene
    axis = data.draw(st.integers(0, true.ndim - 1))
    cuts = sorted(data.draw(st.lists(st.integers(0, true.shape[axis]), max_size=3)))
    edges = [0, *cuts, true.shape[axis]]
    parts = [overlap(*(np.take(a, range(lo, hi), axis) for a in scene)) for lo, hi in pairwise(edges)]
    assert reduce(add, data.draw(st.permutations(parts))) == overlap(true, pred)
    assert sum(part.voxels for part in parts) == true.size


@FEW
@given(scenes(), st.data())
def test_walking_in_blocks_changes_nothing(scene: tuple[Array, Array], data: st.DataObject) -> None:
    true, pred = scene
    block = [data.draw(st.integers(1, n + 1)) for n in true.shape]
    assert overlap_blocks(true, pred, block=block, ignore=1) == overlap(true, pred, ignore=1)


def test_chunked_arrays_give_the_table_of_the_arrays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_segsuite.metrics.table.BLOCK_VOXELS", 500)
    monkeypatch.setattr("napari_segsuite.metrics.table.WAITING_ROWS", 1000)
    rng = np.random.default_rng(0)
    true, pred = (rng.integers(0, 2000, (9, 40, 35)).astype(np.uint32) for _ in range(2))
    stored = [zarr.create_array({}, data=a, chunks=chunks) for a, chunks in ((true, (4, 16, 16)), (pred, (9, 7, 35)))]
    assert overlap_blocks(*stored) == overlap(true, pred)


@FEW
@given(scenes())
def test_a_segmentation_against_itself_is_perfect(scene: tuple[Array, Array]) -> None:
    for labels in scene:
        scores = evaluate(labels, labels)
        told = scores.to_json()
        assert set(scores.ap.values()) == set(scores.ap_mean_per_image.values()) == {1.0}
        assert [told[k] for k in ("f1", "precision", "recall", "pq", "sq", "rq", "dice", "iou")] == [1.0] * 8
        assert [told[k] for k in ("voi_split", "voi_merge", "arand", "fp", "fn")] == [0] * 5
        assert told["n_true"] == told["n_pred"] == len(set(labels.ravel().tolist()) - {0})


@FEW
@given(scenes(), st.data())
def test_names_of_segments_do_not_matter(scene: tuple[Array, Array], data: st.DataObject) -> None:
    true, pred = scene
    numbers = st.integers(1, 2**64 - 1)
    renumbered = []
    for labels in (true, pred):
        old = sorted(set(labels.ravel().tolist()) - {0})
        new = data.draw(st.lists(numbers, min_size=len(old), max_size=len(old), unique=True))
        renumbered.append(_renumber(labels, {0: 0, **dict(zip(old, new, strict=True))}))
    assert _figures(overlap(*renumbered)) == pytest.approx(_figures(overlap(true, pred)), abs=1e-12)


@FEW
@given(scenes(), st.sampled_from((0.05, 0.2, 0.4, 0.5, 0.75)))
def test_truth_and_prediction_can_change_places(scene: tuple[Array, Array], threshold: float) -> None:
    table, swapped = overlap(*scene), overlap(*scene[::-1])
    one, other = matching(table, threshold), matching(swapped, threshold)
    assert (one.tp, one.fp, one.fn) == (other.tp, other.fn, other.fp)
    assert (one.precision, one.recall, one.f1, one.ap) == (other.recall, other.precision, other.f1, other.ap)
    assert one.pq == pytest.approx(other.pq)
    assert foreground(table).dice == foreground(swapped).dice


@FEW
@given(st.lists(scenes(), min_size=2, max_size=3))
def test_images_pool_to_the_scores_of_one_image_that_holds_them_all(drawn: list[tuple[Array, Array]]) -> None:
    scores = evaluate([pred for _, pred in drawn], [true for true, _ in drawn])
    side_by_side = []
    for side in (0, 1):
        pieces = [_renumber(scene[side], {0: 0, **{i: 100 * k + n for n, i in enumerate(IDS[1:])}}) for k, scene in enumerate(drawn, 1)]
        side_by_side.append(np.concatenate([piece.ravel() for piece in pieces]))
    whole = evaluate(side_by_side[1], side_by_side[0])
    assert scores.ap == whole.ap
    assert (scores.n_true, scores.n_pred, scores.foreground) == (whole.n_true, whole.n_pred, whole.foreground)
    assert (scores.pq, scores.objects.sq) == pytest.approx((whole.pq, whole.objects.sq))
    added = reduce(add, [evaluate(pred, true) for true, pred in drawn])
    assert {k: v for k, v in added.to_json().items() if k != "per_image"} == {k: v for k, v in scores.to_json().items() if k != "per_image"}
