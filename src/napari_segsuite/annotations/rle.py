"""Masks as COCO writes them: run lengths down the columns, beginning with background, as numbers or packed into text.

The packed form and the filling of polygons follow pycocotools (https://github.com/cocodataset/cocoapi, common/maskApi.c), and give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Box = tuple[NDArray[np.bool_], tuple[int, int]]
"""The part of a mask around its pixels, and where it begins, y and x."""

SCALE = 5
"""COCO looks at polygons five times finer than pixels."""


def encode(crop: NDArray[np.bool_], at: tuple[int, int], shape: tuple[int, int]) -> list[int]:
    """Count the runs of a mask of which a box is given.

    Parameters
    ----------
    crop : (h, w) bool
    at : tuple of int
        Where the box begins, y and x.
    shape : tuple of int
        Of the whole mask.

    Examples
    --------
    >>> encode(np.array([[False, True], [True, True]]), (0, 0), (2, 2))
    [1, 3]
    """
    height, width = shape
    padded = np.pad(crop.T, ((0, 0), (1, 1)))
    column, row = np.nonzero(padded[:, 1:] != padded[:, :-1])
    places = (column + at[1]) * height + row + at[0]
    # A run that ends at the foot of one column may go on at the head of the next: then it ends and begins at one place, and does neither.
    once = np.ones(len(places), bool)
    once[1:] &= (different := places[1:] != places[:-1])
    once[:-1] &= different
    places = places[once]
    ends = [] if len(places) and places[-1] == height * width else [height * width]
    return [int(n) for n in np.diff(np.concatenate([[0], places, ends]))]


def decode(counts: Sequence[int], shape: tuple[int, int]) -> Box:
    """Unfold runs.

    Raises
    ------
    ValueError
        A count is negative, or they do not add up to the number of pixels.
    """
    height, width = shape
    if any(n < 0 for n in counts) or sum(counts) != height * width:
        raise ValueError(f"its runs add up to {sum(counts)} pixels, and the image has {height} x {width}")
    ends = np.cumsum(np.asarray(counts, np.int64))
    runs = np.array([(a, b) for a, b in zip(ends[0::2], ends[1::2], strict=False) if b > a], np.int64).reshape(-1, 2)
    return _unfolded(runs.reshape(-1), height)


def join(boxes: Sequence[Box]) -> Box:
    """All that is in any of several masks."""
    boxes = [box for box in boxes if box[0].size] or boxes[:1]
    low = np.min([at for _, at in boxes], axis=0)
    high = np.max([np.add(at, mask.shape) for mask, at in boxes], axis=0)
    joined = np.zeros(high - low, bool)
    for mask, at in boxes:
        y, x = np.subtract(at, low)
        joined[y : y + mask.shape[0], x : x + mask.shape[1]] |= mask
    return joined, (int(low[0]), int(low[1]))


def pack(counts: Sequence[int]) -> str:
    """Write runs as text: each as its difference from the last but one, five bits to a character.

    >>> pack([1, 3]), unpack("13")
    ('13', [1, 3])
    """
    text = []
    for k, count in enumerate(counts):
        value = count - counts[k - 2] if k > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + 32 * more))
    return "".join(text)


def unpack(text: str) -> list[int]:
    """Read runs from text.

    Raises
    ------
    ValueError
        A character cannot be, or the text ends within a number.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"its runs hold {letter!r}, which no packed run length does")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (1 << shift) if bits & 16 else 0
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("its runs end within a number")
    return counts


def fill(points: NDArray[np.float64], shape: tuple[int, int]) -> Box:
    """Fill a polygon as COCO does.

    Parameters
    ----------
    points : (n, 2) float
        x and y of its corners in pixels.
    shape : tuple of int
        Of the image, height and width.
    """
    height, width = shape
    corners = np.trunc(SCALE * points + 0.5).astype(np.int64)
    line = np.concatenate([_steps(a, b) for a, b in pairwise([*corners, corners[0]])])
    (u, v), (before_u, before_v) = line[1:].T, line[:-1].T
    x = (np.where(u < before_u, u, u - 1) + 0.5) / SCALE - 0.5
    y = np.ceil(np.clip((np.minimum(v, before_v) + 0.5) / SCALE - 0.5, 0, height))
    there = (u != before_u) & (np.floor(x) == x) & (x >= 0) & (x <= width - 1)
    return _unfolded((x[there] * height + y[there]).astype(np.int64), height)


def _unfolded(places: NDArray[np.int64], height: int) -> Box:
    """The mask whose pixels, counted down the columns, begin and end to be inside at these places."""
    if not len(places):
        return np.zeros((0, 0), bool), (0, 0)
    left, right = int(places.min()) // height, -(-int(places.max()) // height)
    size = (right - left) * height
    flips = np.bincount(places - left * height, minlength=size + 1)[:size]
    mask = np.asarray(np.cumsum(flips) % 2, bool).reshape(right - left, height).T
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return mask[:0, :0], (0, 0)
    y, x = int(rows[0]), int(columns[0])
    return mask[y : rows[-1] + 1, x : columns[-1] + 1], (y, x + left)


def _steps(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """All places of the fine grid on the way between two corners."""
    long = int(np.abs(b - a).argmax()) if abs(b - a)[0] != abs(b - a)[1] else 0
    low, high = (a, b) if a[long] <= b[long] else (b, a)
    length = int(high[long] - low[long])
    slope = (high[1 - long] - low[1 - long]) / length if length else 0.0
    step = np.arange(length + 1)
    places = np.empty((length + 1, 2), np.int64)
    places[:, long] = low[long] + step
    places[:, 1 - long] = np.trunc(low[1 - long] + slope * step + 0.5)
    return places if low is a else places[::-1]
