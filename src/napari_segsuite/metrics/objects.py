"""Which predicted segment is which true one: matching by intersection over union (IoU), and the counts that follow.

A pair may match where its IoU is *at least* the threshold (as in stardist and cellpose; Kirillov et al. ask for more than 0.5,
which differs only for an IoU of exactly 0.5). From 0.5 on, a segment has at most one such partner, except that two halves
reach exactly 0.5 together; the half with the lower id is taken. Below 0.5 the matching has the most pairs possible and,
among those, the largest sum of IoU.

Where a figure would be 0 / 0 it is 1 if there is neither a true nor a predicted segment, and 0 otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import OptionError
from napari_segsuite.metrics.table import Ids, Overlap

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Matching:
    """Matched pairs of segments of one image, or of several (`join`).

    Attributes
    ----------
    threshold : float
        Least IoU of a match.
    n_true, n_pred : int
        Segments on either side, background not counted.
    true_ids, pred_ids : (tp,) uint64
        The pairs, ordered by true id; of several images one after the other.
    iou : (tp,) float64
        IoU of each pair.
    """

    threshold: float
    n_true: int
    n_pred: int
    true_ids: Ids
    pred_ids: Ids
    iou: NDArray[np.float64]

    @property
    def tp(self) -> int:
        """Matched pairs."""
        return len(self.iou)

    @property
    def fp(self) -> int:
        """Predicted segments without a partner."""
        return self.n_pred - self.tp

    @property
    def fn(self) -> int:
        """True segments without a partner."""
        return self.n_true - self.tp

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return self._share(self.tp, self.n_pred)

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return self._share(self.tp, self.n_true)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return self._share(2 * self.tp, self.n_true + self.n_pred)

    @property
    def ap(self) -> float:
        """TP / (TP + FP + FN), which is called average precision in this field."""
        return self._share(self.tp, self.tp + self.fp + self.fn)

    @property
    def rq(self) -> float:
        """Recognition quality: the same as `f1`."""
        return self.f1

    @property
    def sq(self) -> float:
        """Segmentation quality: mean IoU of the matched pairs."""
        return self._share(float(self.iou.sum()), self.tp)

    @property
    def pq(self) -> float:
        """Panoptic quality, `sq` times `rq` (Kirillov et al. 2019, eq. 1)."""
        return self.sq * self.rq

    def at(self, threshold: float) -> Matching:
        """The matching at a higher threshold, without matching again."""
        if not 0.5 <= self.threshold <= threshold:
            raise OptionError(f"a matching at IoU {self.threshold:g} does not tell that at {threshold:g}", "thresholds from 0.5, the second higher")
        keep = self.iou >= threshold
        return Matching(threshold, self.n_true, self.n_pred, self.true_ids[keep], self.pred_ids[keep], self.iou[keep])

    def _share(self, part: float, whole: float) -> float:
        return part / whole if whole else float(self.n_true + self.n_pred == 0)


def matching(table: Overlap, threshold: float = 0.5) -> Matching:
    """Pair the segments of both sides, one to one.

    Parameters
    ----------
    table : Overlap
    threshold : float
        Least IoU of a pair, above 0 and at most 1. The IoU is a quotient of two integers, correctly rounded, so that a
        pair of 13 / 20 does match at 0.65.

    Returns
    -------
    Matching

    Raises
    ------
    OptionError
        The threshold is out of range.

    Examples
    --------
    >>> from napari_segsuite.metrics import overlap
    >>> found = matching(overlap(np.array([1, 1, 1, 0, 2, 2]), np.array([1, 1, 1, 1, 0, 0])), 0.7)
    >>> found.tp, found.fp, found.fn, found.iou.tolist()
    (1, 0, 1, [0.75])
    """
    return _match(table, threshold, table.true_side.ids != 0, table.pred_side.ids != 0)


def matching_by_class(
    table: Overlap, true_classes: Mapping[int, int], pred_classes: Mapping[int, int], threshold: float = 0.5
) -> dict[int, Matching]:
    """Pair only segments of one class with each other.

    Parameters
    ----------
    table : Overlap
    true_classes, pred_classes : mapping of segment id to class id
        A segment that is missing here has no class and is nobody's partner.
    threshold : float

    Returns
    -------
    dict of class id to Matching
        Of every class that occurs on either side, by rising id.
    """
    true_kind, pred_kind = kinds(table.true_side.ids, true_classes), kinds(table.pred_side.ids, pred_classes)
    occurring = sorted({*true_kind.tolist(), *pred_kind.tolist()} - {0})
    return {kind: _match(table, threshold, true_kind == kind, pred_kind == kind) for kind in occurring}


def join(matchings: Sequence[Matching]) -> Matching:
    """Put the matchings of several images together, all at one threshold, so that its figures are those of the pooled counts."""
    (threshold,) = {m.threshold for m in matchings}
    true_ids, pred_ids, iou = (np.concatenate(c) for c in zip(*((m.true_ids, m.pred_ids, m.iou) for m in matchings), strict=True))
    return Matching(threshold, sum(m.n_true for m in matchings), sum(m.n_pred for m in matchings), true_ids, pred_ids, iou)


def kinds(ids: Ids, classes: Mapping[int, int]) -> NDArray[np.int64]:
    """Class id of each segment id; 0 for background and for segments without a class."""
    return np.array([classes.get(int(i), 0) if i else 0 for i in ids], np.int64)


def _match(table: Overlap, threshold: float, wanted_true: NDArray[np.bool_], wanted_pred: NDArray[np.bool_]) -> Matching:
    """Match the wanted segments of both sides."""
    if not 0 < threshold <= 1:
        raise OptionError(f"the IoU threshold is {threshold:g}", "a number above 0 and up to 1")
    true, pred = table.true_side, table.pred_side
    rows = np.flatnonzero(wanted_true[true.place] & wanted_pred[pred.place])
    both = table.count[rows]
    iou = both / (true.sizes[true.place[rows]] + pred.sizes[pred.place[rows]] - both)
    near = iou >= threshold
    rows, iou = rows[near], iou[near]
    chosen = (_first if threshold >= 0.5 else _assign)(true.place[rows], pred.place[rows], iou)
    rows, iou = rows[chosen], iou[chosen]
    return Matching(threshold, int(wanted_true.sum()), int(wanted_pred.sum()), table.true[rows], table.pred[rows], iou)


def _first(true: Indices, pred: Indices, iou: NDArray[np.float64]) -> Indices:
    """Pick among pairs of IoU >= 0.5: all, but for halves of exactly 0.5, of which the first stays.

    Two pairs can only share a segment if it is the union of both partners, and these then touch nothing else. So no choice
    here takes a partner from anyone.
    """
    chosen = np.sort(np.unique(true, return_index=True)[1])
    return np.sort(chosen[np.unique(pred[chosen], return_index=True)[1]])


def _assign(true: Indices, pred: Indices, iou: NDArray[np.float64]) -> Indices:
    """Pick the most pairs, and among the ways to do so the one with the largest sum of IoU, by a sparse assignment."""
    if not len(iou):
        return np.empty(0, np.intp)
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    rows, row = np.unique(true, return_inverse=True)
    columns, column = np.unique(pred, return_inverse=True)
    # Every true segment may also stay alone, in a column of its own; one pair more saves more than any sum of IoU.
    # No cost is 0, which a sparse matrix would take for "cannot be paired".
    worth = min(len(rows), len(columns)) + 1.0
    alone = np.arange(len(rows))
    cost = np.concatenate([2.0 - iou, np.full(len(rows), worth + 2.0)])
    place = np.concatenate([row, alone]), np.concatenate([column, len(columns) + alone])
    shape = len(rows), len(columns) + len(rows)
    found_row, found_column = min_weight_full_bipartite_matching(csr_array((cost, place), shape=shape))
    partner = np.full(len(rows), -1)
    partner[found_row] = found_column
    return np.flatnonzero(partner[row] == column)
