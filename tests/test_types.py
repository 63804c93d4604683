"""The words of the project say in a prompt what they hold, and not all of it."""

from __future__ import annotations

import numpy as np
import pytest

import napari_segsuite as ns


@pytest.mark.parametrize(
    ("array", "axes", "channels", "said"),
    [
        (np.zeros((4, 5), np.uint8), "yx", (), "<Image 'cells': 4 y x 5 x, uint8, voxel 0.5 x 0.5 micrometer>"),
        (np.zeros((2, 4, 5), np.float32), "cyx", ("DAPI", "GFP"), "<Image 'cells': 2 c x 4 y x 5 x, float32, voxel 0.5 x 0.5 micrometer, DAPI, GFP>"),
    ],
)
def test_an_image_says_its_grid(array: np.ndarray, axes: str, channels: tuple[str, ...], said: str) -> None:
    scale, units = (1.0,) * (len(axes) - 2) + (0.5, 0.5), ("pixel",) * (len(axes) - 2) + ("micrometer",) * 2
    image = ns.Image((array,), axes=axes, scale=scale, units=units, translate=(0.0,) * len(axes), channels=channels, name="cells")
    assert repr(image) == said


@pytest.mark.parametrize(("objects", "said"), [(0, "0 segments"), (1, "1 segment"), (2, "2 segments")])
def test_a_result_says_its_grid_and_how_many_segments_it_has(objects: int, said: str) -> None:
    pixels = np.zeros((64, 64), np.uint8)
    for k in range(objects):
        pixels[10:20, 30 * k + 4 : 30 * k + 20] = 200
    result = ns.segment(pixels, model="otsu")
    assert repr(result) == f"<Segmentation 'image otsu': 64 y x 64 x, uint32, voxel 1 x 1 pixel, {said} (instance)>"
