"""Small things to write: labels of two kinds of segment, and images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_segsuite.io.table import table_of
from napari_segsuite.types import Class, Image, Segmentation

CLASSES = (Class(1, "tissue", (1, 2, 3), countable=False), Class(2, "cell", (9, 8, 7)))


@pytest.fixture
def make_segmentation() -> Callable[..., Segmentation]:
    def make(labels: NDArray[Any] | None = None, axes: str = "yx", **fields: Any) -> Segmentation:
        if labels is None:
            labels = np.zeros((30, 40), np.uint16)
            labels[2:9, 3:9], labels[15:25, 20:39] = 1, 5
        n = labels.ndim
        place = {"scale": (0.5,) * n, "units": ("micrometer",) * n, "translate": (0.0,) * n}
        told = {"labels": labels, "segments": table_of(labels, axes, CLASSES), "classes": CLASSES, "axes": axes, "provenance": {"model": "otsu"}}
        return Segmentation(**{**told, **place, **fields})

    return make


@pytest.fixture
def make_image() -> Callable[..., Image]:
    def make(pixels: NDArray[Any], axes: str = "yx", **fields: Any) -> Image:
        place = {"scale": tuple(1.0 if a == "c" else 0.5 for a in axes), "translate": (0.0,) * len(axes)}
        names = tuple(f"dye {k}" for k in range(pixels.shape[axes.index("c")])) if "c" in axes else ()
        units = tuple("pixel" if a == "c" else "micrometer" for a in axes)
        return Image(**{"levels": (pixels,), "axes": axes, "channels": names, "units": units, **place, **fields})

    return make
