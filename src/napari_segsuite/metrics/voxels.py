"""Scores that count voxels instead of segments: Dice and IoU of regions, and how well two partitions agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.metrics.objects import kinds
from napari_segsuite.metrics.table import Overlap


@dataclass(frozen=True)
class Region:
    """Sizes in voxels of a region in the truth, in the prediction, and in both; regions of several images add.

    >>> Region(true=4, pred=4, both=2).dice, (Region(4, 4, 2) + Region(0, 2, 0)).iou
    (0.5, 0.25)
    """

    true: int
    pred: int
    both: int

    @property
    def dice(self) -> float:
        """Twice the shared voxels over the sum of both sizes; 1 if both are empty."""
        return 2 * self.both / (self.true + self.pred) if self.true + self.pred else 1.0

    @property
    def iou(self) -> float:
        """Shared voxels over those in either; 1 if both are empty."""
        union = self.true + self.pred - self.both
        return self.both / union if union else 1.0

    def __add__(self, other: Region) -> Region:
        return Region(self.true + other.true, self.pred + other.pred, self.both + other.both)


@dataclass(frozen=True)
class Partition:
    """Sums over the voxels that belong to a true segment, from which the agreement of two partitions follows; they add over images.

    Attributes
    ----------
    voxels : int
        In a true segment. The truth's background is left out, as in the CREMI and SNEMI3D challenges, so a prediction in
        it changes nothing here; what is predicted as background counts as one segment of its image.
    split, merge : float
        Sum over voxels of the information (bits) still needed to name its predicted segment when the true one is known,
        and the other way round.
    true_pairs, pred_pairs, both_pairs : float
        Ordered pairs of voxels in one true segment, one predicted segment, both.
    """

    voxels: int
    split: float
    merge: float
    true_pairs: float
    pred_pairs: float
    both_pairs: float

    @property
    def voi_split(self) -> float:
        """Conditional entropy H(prediction | truth) in bits per voxel: 0 if no true segment is split (Meila 2007)."""
        return self.split / self.voxels if self.voxels else 0.0

    @property
    def voi_merge(self) -> float:
        """Conditional entropy H(truth | prediction) in bits per voxel: 0 if no two true segments are merged."""
        return self.merge / self.voxels if self.voxels else 0.0

    @property
    def arand(self) -> float:
        """Adapted Rand error, 0 to 1 (Arganda-Carreras et al. 2015); 0 where there is no pair to judge."""
        pairs = self.true_pairs + self.pred_pairs
        return 1 - 2 * self.both_pairs / pairs if pairs else 0.0

    def __add__(self, other: Partition) -> Partition:
        return Partition(
            self.voxels + other.voxels,
            self.split + other.split,
            self.merge + other.merge,
            self.true_pairs + other.true_pairs,
            self.pred_pairs + other.pred_pairs,
            self.both_pairs + other.both_pairs,
        )


def foreground(table: Overlap) -> Region:
    """The region of everything that is not background.

    Parameters
    ----------
    table : Overlap

    Returns
    -------
    Region
    """
    return _region(table, table.true != 0, table.pred != 0)


def regions_by_class(table: Overlap, true_classes: Mapping[int, int], pred_classes: Mapping[int, int]) -> dict[int, Region]:
    """The region of each class, its segments taken together.

    Parameters
    ----------
    table : Overlap
    true_classes, pred_classes : mapping of segment id to class id
        A segment that is missing here belongs to no class.

    Returns
    -------
    dict of class id to Region
        Of every class that occurs on either side, by rising id.
    """
    true = kinds(table.true_side.ids, true_classes)[table.true_side.place]
    pred = kinds(table.pred_side.ids, pred_classes)[table.pred_side.place]
    occurring = sorted({*np.unique(true).tolist(), *np.unique(pred).tolist()} - {0})
    return {kind: _region(table, true == kind, pred == kind) for kind in occurring}


def partition(table: Overlap) -> Partition:
    """Compare two ways to cut the true foreground into pieces.

    Parameters
    ----------
    table : Overlap

    Returns
    -------
    Partition
    """
    inside = table.true != 0
    inner = Overlap(table.true[inside], table.pred[inside], table.count[inside])
    true, pred = inner.true_side, inner.pred_side
    return Partition(
        voxels=inner.voxels,
        split=_information(inner.count, true.sizes[true.place]),
        merge=_information(inner.count, pred.sizes[pred.place]),
        true_pairs=_pairs(true.sizes),
        pred_pairs=_pairs(pred.sizes),
        both_pairs=_pairs(inner.count),
    )


def _region(table: Overlap, true: NDArray[np.bool_], pred: NDArray[np.bool_]) -> Region:
    return Region(*(int(table.count[rows].sum()) for rows in (true, pred, true & pred)))


def _information(part: NDArray[np.int64], whole: NDArray[np.int64]) -> float:
    return float(np.sum(part * np.log2(whole / part)))


def _pairs(sizes: NDArray[np.int64]) -> float:
    # As real numbers: the square of a count of voxels can exceed 64 bits.
    return float(np.sum(sizes * (sizes - 1.0)))
