"""The synthetic nuclei: the same seed gives the same image, the truth is what is seen, and shapes follow the axes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_segsuite.errors import OptionError
from napari_segsuite.synthetic import nuclei

SHAPES = {"yx": (70, 80), "zyx": (12, 50, 60), "tyx": (3, 60, 50), "tzyx": (2, 10, 40, 50)}


@pytest.mark.parametrize("axes", SHAPES)
def test_shapes_types_and_numbers(axes: str) -> None:
    pixels, labels = nuclei(SHAPES[axes], axes, seed=1)
    assert pixels.shape == labels.shape == SHAPES[axes]
    assert (pixels.dtype.name, labels.dtype.name) == ("uint16", "int32")
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert labels.max() > 3


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), crowding=st.floats(0.01, 0.5), diameter=st.floats(3.0, 15.0))
def test_the_truth_is_where_the_light_is(seed: int, crowding: float, diameter: float) -> None:
    pixels, labels = nuclei((64, 64), "yx", seed=seed, crowding=crowding, diameter_um=diameter)
    inside, outside = ndimage.binary_erosion(labels > 0, iterations=2), ~ndimage.binary_dilation(labels > 0, iterations=4)
    if inside.sum() > 20 and outside.sum() > 20:
        assert np.median(pixels[inside]) > np.median(pixels[outside]) + 50


def test_same_seed_same_image_and_other_seed_another() -> None:
    one, again, other = (nuclei((40, 40), "yx", seed=s) for s in (5, 5, 6))
    assert np.array_equal(one[0], again[0])
    assert np.array_equal(one[1], again[1])
    assert not np.array_equal(one[1], other[1])


def test_many_nuclei_touch() -> None:
    _, labels = nuclei((200, 200), "yx", seed=2, crowding=0.4)
    assert ndimage.label(labels > 0)[1] < 0.8 * labels.max()


def test_a_nucleus_keeps_its_number_while_it_drifts() -> None:
    _, labels = nuclei((4, 90, 90), "tyx", seed=3)
    where = [ndimage.center_of_mass(labels[t] == 10) for t in range(4) if (labels[t] == 10).any()]
    steps = np.linalg.norm(np.diff(where, axis=0), axis=1)
    assert len(where) > 1
    assert steps.max() < 6


def test_scale_is_physical() -> None:
    _, labels = nuclei((40, 160, 160), "zyx", scale_um=(2.0, 0.5, 0.5), seed=0, diameter_um=12.0)
    boxes = [box for box in ndimage.find_objects(labels) if all(s.start > 0 and s.stop < n for s, n in zip(box, labels.shape, strict=True))]
    deep, wide = (np.median([s[k].stop - s[k].start for s in boxes]) for k in (0, 1))
    assert 2.5 < wide / deep < 6.5


def test_what_does_not_fit_together_is_said() -> None:
    with pytest.raises(OptionError, match=r"Axes 'xy', shape \(3, 3\).*Needed: axes yx, zyx, tyx or tzyx"):
        nuclei((3, 3), "xy")
    with pytest.raises(OptionError, match="do not fit together"):
        nuclei((3, 3), "zyx")
