"""Labels as they must be: integers that are not negative, in the smallest type that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.blocks import pieces
from napari_segsuite.types import ArrayLike

TOLERANCE = 1e-3
"""How far from a whole number a label stored as a float may be; rounding errors of resaving are far smaller."""


def largest(labels: ArrayLike, source: str = "") -> int:
    """The largest id of an array in memory or on disk, called `source` in errors; 0 for an empty one.

    Raises
    ------
    InputError
        An id is negative, or the array does not hold integers.
    """
    if np.dtype(labels.dtype).kind not in "bui":
        raise InputError(f"labels are of type {labels.dtype}", "integers")
    top = 0
    for region, block in pieces(labels):
        if not block.size:
            continue
        low = int(block.min())
        if low < 0:
            raise negative(low, [int(i + part.start) for i, part in zip(np.argwhere(block == low)[0], region, strict=True)], source)
        top = max(top, int(block.max()))
    return top


def negative(number: int, at: Sequence[int], source: str = "") -> InputError:
    """The complaint about an id below 0, which some programs give to what nobody labelled."""
    return InputError(
        f"the labels{f' in {source}' if source else ''} hold a negative id ({number} at {tuple(at)})",
        "ids from 0 (background) on",
        f"Replace it by 0 if it means 'not labelled'; of a truth, segsuite evaluate leaves such voxels out with --ignore-label {number}.",
    )


def smallest_dtype(top: int) -> np.dtype[Any]:
    """The type that labels with ids up to `top` are stored in: uint16, uint32 or uint64.

    >>> [smallest_dtype(n).name for n in (3, 65536, 2**32)]
    ['uint16', 'uint32', 'uint64']
    """
    return np.dtype(next(kind for kind in (np.uint16, np.uint32, np.uint64) if top <= np.iinfo(kind).max))


def from_pixels(pixels: NDArray[Any], source: str) -> NDArray[Any]:
    """Take the pixels of any image file as labels, if they can be labels.

    Raises
    ------
    InputError
        Values that are not whole, or negative.
    """
    if pixels.dtype.kind == "f":
        pixels = _whole(pixels, source)
    if pixels.dtype.kind not in "bui":
        raise InputError(f"file {source} holds values of type {pixels.dtype}", "whole numbers, one per segment")
    if pixels.dtype.kind == "i":
        top = largest(pixels, source)
        return pixels.astype(smallest_dtype(top))
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def _whole(pixels: NDArray[Any], source: str) -> NDArray[np.int64]:
    whole: NDArray[Any] = np.rint(pixels)
    wrong = ~(np.abs(pixels - whole) <= TOLERANCE) | (np.abs(pixels) > 2**53)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        found = f"the label image {source} has values that are not whole numbers ({pixels[at]:g} at {at})"
        raise InputError(found, "one whole number per segment", "Is it a probability map?")
    return whole.astype(np.int64)
