"""Outlines of objects along the edges of their pixels, and back: what is filled at pixel centres is what was traced, bit for bit.

A corner of the outline is a place where the number of the four pixels around it that belong to the object is odd, or where two belong to it
that touch only there. Along every line of the grid corners come in pairs, the two ends of a stretch of the outline; so sorting them joins them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Ring = NDArray[np.float64]
"""Corners of a closed line, (n, 2) as x, y in pixels; (0, 0) is the outer corner of the first pixel. The first is not repeated."""

Polygon = list[Ring]
"""An outer ring, and then those of its holes."""


def trace(mask: NDArray[np.bool_], at: tuple[int, int] = (0, 0)) -> list[Polygon]:
    """Draw an object as polygons.

    Parameters
    ----------
    mask : (h, w) bool
    at : tuple of int
        Where the first pixel of `mask` lies in its image, y and x.

    Returns
    -------
    list of Polygon
        One for each part that hangs together by the sides of pixels. Rings cross neither themselves nor each other and meet at single points at
        most, as GeoJSON wants; seen with y downwards, outer ones run clockwise and holes the other way.

    Examples
    --------
    >>> [[ring.tolist() for ring in polygon] for polygon in trace(np.ones((1, 2), bool))]
    [[[[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]]]]
    """
    inside = np.pad(mask.astype(bool), 1)
    parts, _ = ndimage.label(inside)
    found: dict[int, Polygon] = {}
    holes: list[tuple[int, Ring]] = []
    for ring in _rings(inside):
        part = _part_beside(ring, parts)
        moved = (ring - 1 + (at[1], at[0])).astype(np.float64)
        if area(ring) > 0:
            found[part] = [moved]
        else:
            holes.append((part, moved))
    for part, hole in holes:
        found[part].append(hole)
    return [found[part] for part in sorted(found)]


def fill(rings: Sequence[Ring], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Which pixels have their centre inside of an odd number of rings.

    Parameters
    ----------
    rings : sequence of Ring
        What is outside of the image is cut off.
    shape : tuple of int
        Of the image, height and width.
    """
    height, width = shape
    edges = np.concatenate([np.hstack([ring, np.roll(ring, -1, axis=0)]) for ring in rings]) if len(rings) else np.zeros((0, 4))
    edges = np.where((edges[:, 1] > edges[:, 3])[:, None], edges[:, [2, 3, 0, 1]], edges)  # downwards, so that a line there and back meets itself
    first = np.clip(np.ceil(edges[:, 1] - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(edges[:, 3] - 0.5), 0, height).astype(np.int64)
    count = last - first
    which = np.repeat(np.arange(len(edges)), count)
    row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[which]
    x0, y0, x1, y1 = edges[which].T
    across = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    column = np.clip(np.ceil(across - 0.5), 0, width).astype(np.int64)
    flips = np.bincount(row * (width + 1) + column, minlength=height * (width + 1)).reshape(height, width + 1)
    return np.asarray(np.cumsum(flips, axis=1)[:, :width] % 2, bool)


def box(rings: Sequence[Ring], shape: tuple[int, int]) -> tuple[slice, slice]:
    """The pixels of an image that rings can fill, as slices along y and x."""
    points = np.concatenate(list(rings))
    low = np.clip(np.floor(points.min(0)), 0, shape[::-1]).astype(int)
    high = np.clip(np.ceil(points.max(0)), 0, shape[::-1]).astype(int)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def area(ring: Ring | NDArray[np.int64]) -> float:
    """The area of a ring; positive where it runs clockwise with y downwards."""
    x, y = ring.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def in_one(polygon: Sequence[Ring]) -> Ring:
    """Put a ring and its holes into one line, for formats without holes: there and back along bridges that enclose nothing."""
    line = [polygon[0], polygon[0][:1]]
    for hole in polygon[1:]:
        line += [hole, hole[:1], polygon[0][:1]]
    return np.concatenate(line) if len(polygon) > 1 else polygon[0]


def _corners(inside: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All corners by row, (n, 2) as y, x, and their order by column; where two pixels touch by a corner it is there twice."""
    a, b, c, d = (inside[rows, columns] for rows in (slice(None, -1), slice(1, None)) for columns in (slice(None, -1), slice(1, None)))
    odd = a ^ b ^ c ^ d
    twice = (a == d) & (b == c) & (a != b)
    at = np.argwhere(odd | twice)
    both = twice[at[:, 0], at[:, 1]]
    rows = np.repeat(at, 1 + both, axis=0) + 1
    second = np.zeros(len(rows), np.int64)
    second[np.cumsum(1 + both)[both] - 1] = 1
    # Of such a pair the first ends the stretch to its left; it goes on upwards if the pixel up left of it is inside, else downwards.
    falling = a[rows[:, 0] - 1, rows[:, 1] - 1]
    return rows, np.lexsort((np.where(falling, second, -second), rows[:, 0], rows[:, 1]))


def _rings(inside: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """All rings around what is inside, (n, 2) as x, y, so that inside is to the right of the way; no corner is in a ring twice."""
    corners, by_column = _corners(inside)
    partner = np.empty(len(corners), np.int64)
    partner[by_column[0::2]], partner[by_column[1::2]] = by_column[1::2], by_column[0::2]
    vertical: list[int] = partner.tolist()
    names: list[int] = (corners[:, 0] * inside.shape[1] + corners[:, 1]).tolist()
    seen = bytearray(len(corners))
    rings = []
    for start in range(0, len(corners), 2):
        if seen[start]:
            continue
        line, at = [], start
        while not seen[at]:
            seen[at] = seen[at ^ 1] = 1
            line += [at, at ^ 1]  # the other end of the stretch along the row
            at = vertical[at ^ 1]
        for part in _simple(line, names):
            points = corners[part][:, ::-1]
            rings.append(points if _clockwise(points, inside) else points[::-1])
    return rings


def _simple(line: list[int], names: list[int]) -> list[list[int]]:
    """Cut a line at the points where it meets itself."""
    places = [names[at] for at in line]
    if len(set(places)) == len(places):
        return [line]
    found: list[list[int]] = []
    open_: list[int] = []
    where: dict[int, int] = {}
    for at, place in zip(line, places, strict=True):
        if place in where:
            cut = where[place]
            found.append(open_[cut:])
            for gone in open_[cut + 1 :]:
                del where[names[gone]]
            del open_[cut + 1 :]
        else:
            where[place] = len(open_)
            open_.append(at)
    return [*found, open_]


def _along_row(points: NDArray[np.int64]) -> tuple[int, int, int]:
    """Row, left end, and +1 or -1 for its direction, of the first stretch of a ring that runs along a row."""
    (x0, _), (x1, y1) = points[:2] if points[0][1] == points[1][1] else points[[1, 2 % len(points)]]
    return int(y1), int(min(x0, x1)), 1 if x1 > x0 else -1


def _clockwise(points: NDArray[np.int64], inside: NDArray[np.bool_]) -> bool:
    """Whether what is inside lies to the right of the way."""
    row, left, way = _along_row(points)
    return bool(inside[row, left]) == (way > 0)


def _part_beside(ring: NDArray[np.int64], parts: NDArray[Any]) -> int:
    """The part of the object that a ring, drawn with the object to its right, belongs to."""
    row, left, way = _along_row(ring)
    return int(parts[row if way > 0 else row - 1, left])
