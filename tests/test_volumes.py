"""Synthetic training volumes: the same seed gives the same volume, the truth is what was drawn, and shapes of labels come back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_segsuite.training.shapes import GRID, REACH, Floats, shapes
from napari_segsuite.training.volumes import look, volume

SHAPE = (16, 48, 56)
FEW = settings(max_examples=15, deadline=None, derandomize=True)


def ellipsoid(radii: tuple[float, ...]) -> NDArray[np.int32]:
    grid = np.stack(np.meshgrid(*[np.arange(-r - 3, r + 4) for r in radii], indexing="ij"))
    inside = sum((g / r) ** 2 for g, r in zip(grid, radii, strict=True)) < 1
    return np.asarray(inside, np.int32)


def ball() -> list[Floats]:
    return shapes(ellipsoid((9, 9, 9)))


@given(st.integers(0, 2**32 - 1), st.booleans())
@FEW
def test_every_volume_is_sound(seed: int, real: bool) -> None:
    rng = np.random.default_rng(seed)
    image, labels = volume(SHAPE, rng, real=ball() if real else ())
    assert (image.shape, image.dtype.name, labels.shape, labels.dtype.name) == (SHAPE, "uint16", SHAPE, "int32")
    assert np.array_equal(np.unique(np.append(labels, 0)), np.arange(labels.max() + 1))
    assert image.std() > 0
    assert (image == 65535).mean() < 0.01
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        assert ndimage.label(labels[box] == number, np.ones((3, 3, 3)))[1] == 1


@given(st.integers(0, 2**32 - 1))
@FEW
def test_same_seed_same_volume_and_other_seed_another(seed: int) -> None:
    one, again, other = (volume(SHAPE, np.random.default_rng(s)) for s in (seed, seed, seed + 1))
    np.testing.assert_array_equal(one[0], again[0])
    np.testing.assert_array_equal(one[1], again[1])
    assert not np.array_equal(one[0], other[0])


def test_nuclei_are_where_the_light_is_and_have_the_size_asked_for() -> None:
    how = replace(look(np.random.default_rng(0)), step=2.0, diameter=14, spread=0.05, slender=0.03, crowding=0.2, near=1.1, uneven=0.1)
    how = replace(how, blur=0.5, blur_z=1, photons=200, haze=0.1, ground=0.1, specks=0, noise=1, fading=0)
    image, labels = volume((40, 100, 100), np.random.default_rng(1), how)
    assert np.median(image[labels > 0]) > 2 * np.median(image[labels == 0])
    whole = [b for b in ndimage.find_objects(labels) if all(s.start > 0 and s.stop < n for s, n in zip(b, labels.shape, strict=True))]
    deep, high, wide = np.median([[s.stop - s.start for s in box] for box in whole], axis=0)
    assert deep == pytest.approx(7, abs=2)
    assert (high + wide) / 2 == pytest.approx(14, abs=2.5)


def test_dense_nuclei_touch() -> None:
    how = replace(look(np.random.default_rng(0)), step=1.0, diameter=14, crowding=0.6, near=0.8, clumps=0.5)
    _, labels = volume((32, 80, 80), np.random.default_rng(2), how)
    assert labels.max() > 30
    assert ndimage.label(labels > 0)[1] < 0.5 * labels.max()


def test_shapes_of_labels_come_back_in_their_own_radii() -> None:
    (found,) = ball()
    assert found.shape == (GRID,) * 3
    middle = GRID // 2
    assert found[middle, middle, middle] == pytest.approx(1, abs=0.2)
    assert (found > 0).mean() * (2 * REACH * GRID / (GRID - 1)) ** 3 == pytest.approx(4 / 3 * np.pi, rel=0.15)


def test_shapes_know_how_far_slices_are_apart() -> None:
    (flat,) = shapes(ellipsoid((5, 10, 10)), step=2.0)
    line = GRID // 2
    along_z, along_x = (flat[:, line, line] > 0).sum(), (flat[line, line, :] > 0).sum()
    assert abs(int(along_z) - int(along_x)) <= 1


def test_objects_at_the_border_and_small_ones_give_no_shape() -> None:
    whole = ellipsoid((9, 9, 9))
    assert shapes(whole[9:]) == []
    assert shapes(ellipsoid((3, 3, 3))) == []
