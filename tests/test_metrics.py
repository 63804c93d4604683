"""Each figure equals an independent computation of it; equality and emptiness are defined."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from skimage.metrics import adapted_rand_error, variation_of_information
from torchmetrics.detection import PanopticQuality

from napari_segsuite.metrics import THRESHOLDS, evaluate, foreground, matching, matching_by_class, overlap, partition

Array = NDArray[Any]

FEW = settings(max_examples=25, deadline=None)
PAIRS = st.integers(1, 6).flatmap(lambda n: st.tuples(*[arrays(np.int32, (2, n, 3), elements=st.integers(0, 4))] * 2))
"""Two small label arrays in which segments touch, interleave and come in several pieces."""


def cells(kind: int) -> tuple[Array, Array]:
    """A field of discs (two-dimensional for 0 and 1, a stack for 2), and a prediction that moves, resizes, misses, adds, merges and splits."""
    z, y, x = np.mgrid[: 1 + 5 * (kind == 2), :150, :170]
    true, pred = np.zeros((2, *z.shape), np.int32)
    for i in range(6):
        for j in range(7):
            name, row, column = 1 + 7 * i + j, 14 + 24 * i + (i + 3 * j) % 5, 13 + 24 * j + (2 * i + j) % 5
            radius, depth = 7 + (i * j + kind) % 6, 2 + (i + j) % 5
            dy, dx, grown = (i * i + j + kind) % 4 - 1, (i + 2 * j) % 3 - 1, (i * j + i) % 3 - 1
            if (i + j) % 10 != 4:
                true[((y - row) ** 2 + (x - column) ** 2 < radius**2) & (z < depth)] = name
            disc = ((y - row - dy) ** 2 + (x - column - dx) ** 2 < (radius + grown) ** 2) & (z < depth + grown)
            if (2 * i + j) % 8 != 5:
                pred[disc] = name - ((i + j) % 8 == 3)
            if j == 5:
                pred[disc & (x > column)] = 50 + i
    return true.squeeze(), pred.squeeze()


# What stardist 0.9.2 (matching, matching_dataset) and cellpose 4.2.1 (average_precision, the same counts) say of `cells`:
# TP at IoU 0.1, 0.3 and the THRESHOLDS, mean matched IoU at 0.5 to 0.7, PQ at 0.5; each has 37 true and 39 predicted segments.
RECORDED = {
    0: ((32, 31, 22, 22, 22, 19, 17, 13, 8, 6, 3, 2), (0.779209, 0.779209, 0.779209, 0.802515, 0.815057), 0.451121),
    1: ((32, 31, 23, 22, 22, 21, 20, 15, 10, 5, 1, 1), (0.778505, 0.790427, 0.790427, 0.797172, 0.802236), 0.4712),
    2: ((32, 29, 17, 12, 10, 7, 7, 7, 5, 5, 2, 2), (0.696946, 0.76594, 0.807268, 0.882665, 0.882665), 0.311792),
}
RECORDED_AP = (0.373494, 0.325581, 0.310345, 0.259669, 0.23913, 0.181347, 0.112195, 0.075472, 0.027027, 0.022422)


@pytest.mark.parametrize("kind", RECORDED)
def test_counts_are_those_of_stardist_and_cellpose(kind: int) -> None:
    counts, ious, pq = RECORDED[kind]
    table = overlap(*cells(kind))
    found = [matching(table, t) for t in (0.1, 0.3, *THRESHOLDS)]
    assert [(m.tp, m.fp, m.fn) for m in found] == [(tp, 39 - tp, 37 - tp) for tp in counts]
    assert [m.sq for m in found[2:7]] == pytest.approx(ious, abs=1e-6)
    assert found[2].pq == pytest.approx(pq, abs=1e-6)


def test_pooled_ap_is_that_of_stardist() -> None:
    true, pred = zip(*(cells(kind) for kind in range(3)), strict=True)
    scores = evaluate(pred, true)
    assert list(scores.ap.values()) == pytest.approx(RECORDED_AP, abs=1e-6)
    single = [evaluate(p, t).ap[0.7] for p, t in zip(pred, true, strict=True)]
    assert scores.ap_mean_per_image[0.7] == pytest.approx(sum(single) / 3)


def _best(iou: dict[tuple[int, int], Fraction], true: list[int]) -> tuple[int, Fraction]:
    """The most pairs, then the largest sum of IoU, by trying everything."""
    if not true:
        return 0, Fraction(0)
    choices = [_best(iou, true[1:])]
    for pair, value in iou.items():
        if pair[0] == true[0]:
            count, total = _best({k: v for k, v in iou.items() if k[1] != pair[1]}, true[1:])
            choices.append((count + 1, total + value))
    return max(choices)


@FEW
@given(PAIRS, st.sampled_from((0.05, 0.1, 0.2, 0.25, 0.4, 0.5, 0.6, 0.75, 1.0)))
def test_matching_is_the_best_of_all_matchings(pair: tuple[Array, Array], threshold: float) -> None:
    true, pred = pair
    voxels = [{i: {*np.flatnonzero(side == i).tolist()} for i in np.unique(side).tolist() if i} for side in (true, pred)]
    iou = {(i, j): Fraction(len(a & b), len(a | b)) for i, a in voxels[0].items() for j, b in voxels[1].items()}
    near = {k: v for k, v in iou.items() if v >= Fraction(str(threshold))}
    found = matching(overlap(true, pred), threshold)
    count, total = _best(near, list(voxels[0]))
    assert (found.tp, found.fp, found.fn) == (count, len(voxels[1]) - count, len(voxels[0]) - count)
    assert float(found.iou.sum()) == pytest.approx(float(total))
    matched = list(zip(found.true_ids.tolist(), found.pred_ids.tolist(), strict=True))
    assert found.iou.tolist() == [float(near[k]) for k in matched]
    assert len({i for i, _ in matched}) == len({j for _, j in matched}) == count


@FEW
@given(PAIRS, st.lists(st.integers(1, 3), min_size=8, max_size=8))
def test_panoptic_quality_is_that_of_torchmetrics(pair: tuple[Array, Array], drawn: list[int]) -> None:
    true, pred = pair
    classes = [{0: 0, **dict(enumerate(half, 1))} for half in (drawn[:4], drawn[4:])]
    table = overlap(true, pred)
    # An IoU of exactly 0.5 is a match here (as in stardist), and none in Kirillov et al.
    assume(0.5 not in matching(table, 0.5).iou)
    found = matching_by_class(table, classes[0], classes[1])
    assume(all(0.5 not in m.iou for m in found.values()))
    reference = PanopticQuality(things={1, 2, 3}, stuffs={0}, return_sq_and_rq=True, return_per_class=True)
    coded = [torch.tensor(np.stack([np.vectorize(c.get)(a), a], -1))[None] for c, a in zip(classes, pair, strict=True)]
    expected = reference(coded[1], coded[0])[:3].tolist()
    assert set(found) == {c[int(i)] for c, a in zip(classes, pair, strict=True) for i in np.unique(a)} - {0}
    for kind, m in found.items():
        assert (m.pq, m.sq, m.rq) == pytest.approx(expected[kind - 1])


@FEW
@given(PAIRS)
def test_partition_figures_are_those_of_scikit_image(pair: tuple[Array, Array]) -> None:
    true, pred = pair
    assume((np.unique(true[true > 0], return_counts=True)[1] > 1).any() and (np.unique(pred[true > 0], return_counts=True)[1] > 1).any())
    found = partition(overlap(true, pred))
    assert [found.voi_split, found.voi_merge] == pytest.approx(variation_of_information(true, pred, ignore_labels=(0,)).tolist(), abs=1e-9)
    assert found.arand == pytest.approx(adapted_rand_error(true, pred)[0], abs=1e-12)


def test_squared_sizes_beyond_64_bits() -> None:
    table = overlap(np.array([1]), np.array([1]))
    for _ in range(40):
        table = table + table
    assert table.voxels == 2**40
    assert partition(table).both_pairs == pytest.approx(2.0**80)
    assert (partition(table).arand, partition(table).voi_split) == (0, 0)


@FEW
@given(PAIRS)
def test_dice_and_iou_are_those_of_the_masks(pair: tuple[Array, Array]) -> None:
    true, pred = (a > 0 for a in pair)
    found, both, either = foreground(overlap(*pair)), int((true & pred).sum()), int((true | pred).sum())
    assert (found.true, found.pred, found.both) == (true.sum(), pred.sum(), both)
    assert found.iou == (both / either if either else 1)
    assert found.dice == (2 * both / (true.sum() + pred.sum()) if either else 1)


@pytest.mark.parametrize("twentieth", range(1, 21))
def test_iou_equal_to_the_threshold_matches(twentieth: int) -> None:
    true, pred = np.ones(20, np.uint8), (np.arange(20) < twentieth).astype(np.uint8)
    assert matching(overlap(true, pred), twentieth / 20).tp == 1
    assert matching(overlap(np.ones(21, np.uint8), np.append(pred, 0)), twentieth / 20).tp == 0


def test_of_two_halves_one_matches() -> None:
    table = overlap(np.array([5, 5, 0, 7, 8]), np.array([3, 4, 0, 6, 6]))
    found = matching(table, 0.5)
    assert list(zip(found.true_ids.tolist(), found.pred_ids.tolist(), found.iou.tolist(), strict=True)) == [(5, 3, 0.5), (7, 6, 0.5)]
    assert matching(table, 0.51).tp == 0


def test_below_one_half_two_poor_pairs_go_before_one_good_pair() -> None:
    true, pred = np.repeat([1, 1, 2], [2, 16, 2]), np.repeat([4, 3, 3], [2, 16, 2])
    assert matching(overlap(true, pred), 0.15).iou.tolist() == [0.8]
    assert matching(overlap(true, pred), 0.1).iou.tolist() == [2 / 18, 2 / 18]


@pytest.mark.parametrize(
    ("true", "pred", "expected"),
    [
        ([0, 0], [0, 0], {"ap": 1, "f1": 1, "precision": 1, "recall": 1, "pq": 1, "sq": 1, "rq": 1, "dice": 1, "iou": 1, "voi_split": 0, "arand": 0}),
        ([1, 1], [0, 0], {"ap": 0, "f1": 0, "precision": 0, "recall": 0, "pq": 0, "sq": 0, "rq": 0, "dice": 0, "iou": 0, "fn": 1, "fp": 0}),
        ([0, 0], [1, 2], {"ap": 0, "f1": 0, "precision": 0, "recall": 0, "pq": 0, "sq": 0, "rq": 0, "dice": 0, "iou": 0, "fn": 0, "fp": 2}),
        ([], [], {"ap": 1, "f1": 1, "pq": 1, "dice": 1, "n_true": 0, "n_pred": 0, "voi_merge": 0, "arand": 0}),
    ],
)
def test_empty_cases(true: list[int], pred: list[int], expected: dict[str, float]) -> None:
    told = evaluate(np.array(pred, np.int64), np.array(true, np.int64)).to_json()
    assert {k: told[k] for k in expected if k != "ap"} == {k: v for k, v in expected.items() if k != "ap"}
    assert set(told["ap"].values()) == set(told["ap_mean_per_image"].values()) == {expected["ap"]}


def test_json_has_the_agreed_keys_and_is_plain() -> None:
    true, pred = cells(0)
    told = evaluate([pred, pred], [true, true], names=["one", "two"]).to_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert list(told["ap"]) == ["0.5", "0.55", "0.6", "0.65", "0.7", "0.75", "0.8", "0.85", "0.9", "0.95"]
    assert {k: type(told[k]) for k in ("f1", "pq", "sq", "rq", "dice")} == dict.fromkeys(("f1", "pq", "sq", "rq", "dice"), float)
    assert (told["n_true"], told["n_pred"], told["images"]) == (74, 78, 2)
    assert [row["name"] for row in told["per_image"]] == ["one", "two"]
    assert "AP 0.407 at IoU 0.5" in str(evaluate(pred, true))
