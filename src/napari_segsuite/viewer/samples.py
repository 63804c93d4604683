"""File > Open Sample > Segsuite: real images that scikit-image brings along, and synthetic nuclei with their truth; no downloads."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_segsuite.io.table import table_of
from napari_segsuite.synthetic import SCALE_UM, nuclei
from napari_segsuite.types import Class, Image, Segmentation
from napari_segsuite.viewer.layers import LayerData, from_image
from napari_segsuite.viewer.results import from_segmentation

MINUTES = 5.0
"""Time between two frames of the synthetic series."""


def tissue() -> list[LayerData]:
    """Stained colon tissue: nuclei in blue, one protein in brown (scikit-image's immunohistochemistry), and the blue stain alone."""
    from skimage.color import rgb2hed
    from skimage.data import immunohistochemistry

    picture = immunohistochemistry()
    haematoxylin = rgb2hed(picture)[..., 0].astype(np.float32)
    return _picture(picture, "tissue", rgb=True) + _picture(haematoxylin, "tissue haematoxylin")


def cell() -> list[LayerData]:
    """A single cell in saline, seen by its optical thickness (scikit-image's cell)."""
    from skimage.data import cell as photo

    return _picture(photo(), "cell")


def coins() -> list[LayerData]:
    """Greek coins on an uneven background: countable things that everybody knows (scikit-image's coins)."""
    from skimage.data import coins as photo

    return _picture(photo(), "coins")


def nuclei_2d() -> list[LayerData]:
    """Synthetic nuclei in a plane, with the truth."""
    return _nuclei((512, 512), "yx", "nuclei 2D")


def nuclei_3d() -> list[LayerData]:
    """A synthetic z-stack of touching nuclei, with the truth; slices lie further apart than pixels."""
    return _nuclei((32, 256, 256), "zyx", "nuclei 3D")


def nuclei_over_time() -> list[LayerData]:
    """Synthetic nuclei in a volume that drift, with the truth; a nucleus keeps its number."""
    return _nuclei((6, 20, 192, 192), "tzyx", "nuclei 3D + time")


def _picture(pixels: Any, name: str, *, rgb: bool = False) -> list[LayerData]:
    axes = "cyx" if rgb else "yx"
    n = len(axes)
    levels = (pixels.transpose(2, 0, 1),) if rgb else (pixels,)
    image = Image(levels, axes, (1.0,) * n, ("pixel",) * n, (0.0,) * n, ("red", "green", "blue") if rgb else (), rgb=rgb, name=name)
    return from_image(image)


def _nuclei(shape: tuple[int, ...], axes: str, name: str) -> list[LayerData]:
    pixels, labels = nuclei(shape, axes, seed=7)
    scale = tuple(SCALE_UM.get(a, MINUTES) for a in axes)
    units = tuple("minute" if a == "t" else "micrometer" for a in axes)
    start = (0.0,) * len(axes)
    classes = (Class(1, "nucleus", (255, 127, 14)),)
    truth = Segmentation(labels, table_of(labels, axes, classes), classes, axes, scale, units, start, name=f"{name} truth")
    seen, hidden = from_image(Image((pixels,), axes, scale, units, start, name=name)), from_segmentation(truth)
    hidden[1]["visible"] = False
    return [*seen, hidden]
