"""A picture of a result for people: the image with the segments' outlines on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.arrays import contrast
from napari_segsuite.io.commit import replacing
from napari_segsuite.types import Image, Segmentation

OUTLINE = (255, 220, 0)


def overlay(image: Image, segmentation: Segmentation) -> NDArray[np.uint8]:
    """Draw yellow outlines of the segments on the image; of stacks and series the middle plane.

    Returns
    -------
    (Y, X, 3) uint8
    """
    from skimage.segmentation import find_boundaries

    picture = _picture(image)
    labels = np.asarray(
        segmentation.labels[
            tuple(n // 2 if a not in "yx" else slice(None) for a, n in zip(segmentation.axes, segmentation.labels.shape, strict=True))
        ]
    )
    picture[find_boundaries(labels, mode="inner")] = OUTLINE
    return picture


def write_overlay(image: Image, segmentation: Segmentation, path: Path, *, overwrite: bool = False) -> Path:
    """Write `overlay` as a PNG."""
    from PIL import Image as Picture

    with replacing(path, overwrite=overwrite) as part:
        Picture.fromarray(overlay(image, segmentation)).save(part, format="PNG")
    return path


def _picture(image: Image) -> NDArray[np.uint8]:
    """The middle plane as an RGB picture; of several channels the first."""
    at = {a: image.size(a) // 2 for a in image.axes if a not in "cyx"}
    plane = np.asarray(image.data[tuple(at.get(a, slice(None)) for a in image.axes)])
    if "c" not in image.axes:
        plane = plane[None]
    plane = plane[:3] if image.rgb else plane[:1]
    return np.array(np.broadcast_to(np.moveaxis(_stretched(plane), 0, -1), (*plane.shape[1:], 3)))


def _stretched(plane: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values between two percentiles of the finite pixels; what is not a number is black."""
    low, high = contrast(plane, (0.5, 99.8))
    scaled = np.nan_to_num(np.clip((plane.astype(np.float64) - low) / (high - low), 0, 1))
    stretched: NDArray[np.uint8] = (scaled * 255).astype(np.uint8)
    return stretched
