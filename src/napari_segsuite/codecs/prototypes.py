"""Boxes whose masks are mixed out of prototypes, as networks of one stage answer, to the voxels of objects.

Each box has one number per prototype; its mask is the sigmoid of the prototypes' sum with these numbers, inside the box (YOLACT, Bolya et al.
2019, arXiv 1904.02689). All is done in numpy, on whole arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from napari_segsuite.codecs import instances
from napari_segsuite.codecs.instances import LEAST, Objects

SURE = 0.05
"""Boxes with a lower score are left out at once; which of the others are wanted is for the codec to say."""
OVERLAP = 0.7
"""Of two boxes of one class that have more than this in common, as intersection over union, the worse is left out."""
CANDIDATES, MOST = 4000, 1000
"""Boxes that are compared with each other, and boxes that may stay, per tile."""
ROOM = 32
"""How many times the area of a tile all its boxes may have together; the worst of more are left out."""
Line = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Boxes:
    """n boxes of one tile.

    Attributes
    ----------
    corners : (n, 4) float64
        x0, y0, x1, y1; pixel i lies from i to i + 1.
    score : (n,) float
        0..1.
    kind : (n,) integer
    mix : (n, k) float32
        Numbers that the k prototypes are multiplied by.
    """

    corners: NDArray[np.float64]
    score: NDArray[np.floating]
    kind: NDArray[np.integer]
    mix: NDArray[np.float32]

    def only(self, those: NDArray[np.bool_] | NDArray[np.intp]) -> Boxes:
        """These of them, in this order."""
        return Boxes(self.corners[those], self.score[those], self.kind[those], self.mix[those])


def boxes(places: NDArray[np.float32], scores: NDArray[np.float32], mix: NDArray[np.float32], kinds: NDArray[np.integer]) -> Boxes:
    """The boxes that are sure enough, each of its most probable class, best first.

    Parameters
    ----------
    places : (n, 4) float32
        Middle x and y, width and height, in pixels.
    scores : (n, classes) float32
    mix : (n, k) float32
    kinds : (classes,) integer
        Ids of the classes.
    """
    best = scores.argmax(1) if len(scores) else np.zeros(0, np.intp)
    score = np.take_along_axis(scores, best[:, None], 1)[:, 0]
    sure = np.flatnonzero((score >= SURE) & (places[:, 2:] > 0).all(1))
    sure = sure[np.argsort(-score[sure], kind="stable")][:CANDIDATES]
    middle, half = places[sure, :2].astype(np.float64), places[sure, 2:].astype(np.float64) / 2
    return Boxes(np.concatenate([middle - half, middle + half], 1), score[sure], kinds[best[sure]], mix[sure])


def suppressed(found: Boxes, overlap: float = OVERLAP, most: int = MOST) -> NDArray[np.intp]:
    """The boxes that stay: greedily, a box stays if it has not too much in common with a better one of its class that stays.

    Parameters
    ----------
    found : Boxes
    overlap : float
        Intersection over union that two may have.
    most : int
        Boxes that may stay.

    Returns
    -------
    (m,) intp
        Best first; of equals, the first of the list.
    """
    corners, kind = found.corners, found.kind
    area = (corners[:, 2:] - corners[:, :2]).prod(1)
    left, stay = np.argsort(-found.score, kind="stable"), list[int]()
    while len(left) and len(stay) < most:
        best, left = left[0], left[1:]
        stay.append(int(best))
        side = np.minimum(corners[left, 2:], corners[best, 2:]) - np.maximum(corners[left, :2], corners[best, :2])
        common = np.maximum(side, 0).prod(1)
        apart = common <= overlap * (area[left] + area[best] - common)
        left = left[apart | (kind[left] != kind[best])]
    return np.array(stay, np.intp)


def objects(found: Boxes, prototypes: NDArray[np.float32], size: Sequence[int], shape: Sequence[int]) -> Objects:
    """The objects in the boxes that stay.

    Parameters
    ----------
    found : Boxes
    prototypes : (k, h, w) float32
        All of the network's input, on a coarser grid.
    size : 2 ints
        Of the network's input.
    shape : 2 ints
        Of the tile, which may be smaller: the rest of the input was only mirrored.
    """
    found = found.only(suppressed(found))
    # A pixel is in a box if its middle is.
    low = np.clip(np.ceil(found.corners[:, [1, 0]] - 0.5), 0, shape).astype(np.intp)
    high = np.clip(np.ceil(found.corners[:, [3, 2]] - 0.5), low, shape).astype(np.intp)
    room = np.cumsum((high - low).prod(1)) <= ROOM * int(np.prod(shape))
    lines = [_line(coarse, fine) for coarse, fine in zip(prototypes.shape[1:], size, strict=True)]
    masks = [_mask(mix, prototypes, a, b, lines) for mix, a, b in zip(found.mix[room], low[room], high[room], strict=True)]
    owner = np.repeat(np.arange(len(masks)), [len(value) for _, value in masks])
    voxel = np.concatenate([np.zeros((0, 2), np.intp), *(where for where, _ in masks)])
    value = np.concatenate([np.zeros(0, np.float32), *(value for _, value in masks)])
    return instances.listed(shape, found.score[room], found.kind[room], owner, voxel, value)


def _mask(
    mix: NDArray[np.float32], prototypes: NDArray[np.float32], low: NDArray[np.intp], high: NDArray[np.intp], lines: Sequence[Line]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The pixels of one box that are probable enough to be listed, and how probable they are: from its part of the prototypes only."""
    if (high <= low).any():
        return np.zeros((0, 2), np.intp), np.zeros(0, np.float32)
    (top, bottom, down), (first, second, right) = ([part[a:b] for part in line] for line, a, b in zip(lines, low, high, strict=True))
    y, x = top[0], first[0]
    coarse = expit(np.tensordot(mix, prototypes[:, y : bottom[-1] + 1, x : second[-1] + 1], 1))
    rows = coarse[top - y] * (1 - down)[:, None] + coarse[bottom - y] * down[:, None]
    value = rows[:, first - x] * (1 - right) + rows[:, second - x] * right
    where = np.argwhere(value >= (LEAST - 0.5) / 255)
    return where + low, value[tuple(where.T)]


def _line(coarse: int, fine: int) -> Line:
    """Where the samples of a fine line lie between those of a coarse one as long: the two beside each, and the share of the second."""
    place = np.clip((np.arange(fine) + 0.5) * (coarse / fine) - 0.5, 0, coarse - 1)
    first = place.astype(np.intp)
    return first, np.minimum(first + 1, coarse - 1), (place - first).astype(np.float32)
