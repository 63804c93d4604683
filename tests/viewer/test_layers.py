"""Law 8, the viewer's half: a marked voxel keeps its world position from layer to image to labels to layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from numpy.testing import assert_allclose

from napari_segsuite.errors import InputError
from napari_segsuite.io.table import table_of
from napari_segsuite.types import Class, Image, Segmentation
from napari_segsuite.viewer.layers import axes_choices, axes_of, from_image, guess_axes, to_image
from napari_segsuite.viewer.results import from_segmentation, segmentation_of, to_layer

SIZES = {"t": 2, "c": 2, "z": 3, "y": 4, "x": 5}
CLASSES = (Class(1, "cell"),)


@st.composite
def layers(draw: st.DrawFn) -> tuple[ImageLayer, str]:
    """Image layers of 2 to 5 axes in any allowed order, placed in any way."""
    ndim = draw(st.integers(2, 5))
    axes = draw(st.sampled_from(axes_choices(ndim)))
    numbers = st.floats(0.1, 9.0, allow_subnormal=False).map(lambda v: round(v, 3))
    meta: dict[str, Any] = {
        "scale": [draw(numbers) for _ in axes],
        "translate": [draw(numbers) - 4 for _ in axes],
        "units": ["second" if a == "t" else "micrometer" if a in "zyx" else "pixel" for a in axes],
        "axis_labels": tuple(axes),
    }
    if draw(st.booleans()):
        meta["rotate"] = draw(st.floats(-90, 90).map(lambda v: round(v, 2)))  # in the plane of the last two axes
    if draw(st.booleans()):
        meta["shear"] = [0.0] * (ndim * (ndim - 1) // 2 - 1) + [draw(numbers) / 9]
    if draw(st.booleans()):
        affine = np.eye(ndim + 1)
        affine[ndim - 2 : ndim, ndim - 2 : ndim] += np.array([[0.1, 0.3], [-0.2, 0.4]])
        affine[ndim - 1, -1] = 3
        meta["affine"] = affine
    shape = [SIZES[a] for a in axes]
    return ImageLayer(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), name="cells", **meta), axes


def segmentation_on(image: Image) -> Segmentation:
    """A segmentation on an image's grid, as an engine would return it: every voxel another segment."""
    kept = [i for i, a in enumerate(image.axes) if a != "c"]
    axes = "".join(image.axes[i] for i in kept)
    shape = tuple(image.shape[i] for i in kept)
    labels = np.arange(1, np.prod(shape) + 1, dtype=np.uint32).reshape(shape)
    placed: dict[str, Any] = {name: tuple(getattr(image, name)[i] for i in kept) for name in ("scale", "units", "translate")}
    return Segmentation(labels, table_of(labels, axes, CLASSES), CLASSES, axes, **placed, affine=image.affine)


def without_c(axes: str) -> list[int]:
    return [i for i, a in enumerate(axes) if a != "c"]


@settings(max_examples=25, deadline=None)
@given(layers(), st.data())
def test_a_voxel_keeps_its_world_position(made: tuple[ImageLayer, str], data: st.DataObject) -> None:
    layer, axes = made
    voxel = np.array([data.draw(st.integers(0, n - 1)) for n in layer.data.shape])
    image = to_image(layer)
    at = dict(zip(axes, voxel.tolist(), strict=True))
    assert image.data[tuple(at[a] for a in image.axes)] == layer.data[tuple(voxel)]

    segmentation = segmentation_on(image)
    shown = Labels(*[(d := to_layer(segmentation, layer))[0]], **d[1])
    kept = without_c(axes)
    mine = tuple(voxel[kept])
    assert shown.data[mine] == segmentation.labels[tuple(at[a] for a in segmentation.axes)]
    world = np.asarray(layer.data_to_world(voxel))[kept]
    assert_allclose(shown.data_to_world(mine), world, atol=1e-9)
    assert shown.units == tuple(layer.units[i] for i in kept)
    assert shown.axis_labels == tuple(layer.axis_labels[i] for i in kept)

    back = segmentation_of(*shown.as_layer_data_tuple()[:2])
    assert np.array_equal(back.labels, segmentation.labels)
    alone = Labels(*[(d := from_segmentation(back))[0]], **d[1])
    order = [back.axes.index(axes[i]) for i in kept]
    mine_sorted = tuple(at[a] for a in back.axes)
    assert_allclose(np.asarray(alone.data_to_world(mine_sorted))[order], world, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(layers())
def test_an_image_goes_to_the_viewer_and_back(made: tuple[ImageLayer, str]) -> None:
    layer, axes = made
    if "c" in axes:
        return
    image = to_image(layer)
    (data, meta, kind), *more = from_image(image)
    again = to_image(ImageLayer(data, **meta))
    assert (kind, more) == ("image", [])
    assert (again.axes, again.scale, again.units) == (image.axes, image.scale, image.units)
    assert np.array_equal(again.data, image.data)
    if image.affine is None:
        assert (again.affine, again.translate) == (None, image.translate)
    else:
        assert again.affine is not None
        assert_allclose(again.affine, image.affine, atol=1e-9)


@pytest.mark.parametrize(
    ("ndim", "meta", "axes"),
    [
        (2, {}, "yx"),
        (3, {}, "zyx"),
        (4, {}, "tzyx"),
        (5, {}, "tczyx"),
        (3, {"axis_labels": ("t", "y", "x")}, "tyx"),
        (3, {"axis_labels": ("Channel", "Y", "X")}, "cyx"),
        (3, {"axis_labels": ("-3", "-2", "-1"), "metadata": {"segsuite": {"axes": "tyx"}}}, "tyx"),
        (3, {"axis_labels": ("x", "y", "z")}, "zyx"),
    ],
)
def test_axes_are_guessed(ndim: int, meta: dict[str, Any], axes: str) -> None:
    assert axes_of(ndim, meta) == axes


def test_a_leading_axis_in_seconds_is_time() -> None:
    assert guess_axes(ImageLayer(np.zeros((3, 4, 5)), units=("second", "um", "um"))) == "tyx"


def test_too_many_axes_are_an_error() -> None:
    with pytest.raises(InputError, match=r"The layer has 6 axes. Needed: 2 to 5"):
        to_image(ImageLayer(np.zeros((2, 2, 2, 2, 2, 2))))


def test_a_colour_picture_has_channels() -> None:
    layer = ImageLayer(np.random.default_rng(0).integers(0, 255, (3, 4, 5, 4)).astype(np.uint8), rgb=True, axis_labels=("t", "y", "x"))
    image = to_image(layer)
    assert (image.axes, image.rgb, image.channels) == ("tcyx", True, ("red", "green", "blue", "alpha"))
    assert np.array_equal(image.data[1, 2], layer.data[1, ..., 2])
    (data, meta, _), *more = from_image(image)
    assert meta["rgb"]
    assert more == []
    assert np.array_equal(data, layer.data)


def test_levels_of_a_pyramid_are_kept_and_not_copied() -> None:
    levels = [np.zeros((64, 64)), np.zeros((32, 32))]
    image = to_image(ImageLayer(levels, multiscale=True))
    assert [level.shape for level in image.levels] == [(64, 64), (32, 32)]
    assert np.shares_memory(image.levels[0], levels[0])


def test_channels_become_layers_with_their_names() -> None:
    pixels = np.random.default_rng(1).random((2, 3, 4, 5))
    image = Image((pixels,), "czyx", (1, 2, 3, 4), ("pixel", *("micrometer",) * 3), (0, 5, 6, 7), ("DAPI", "GFP"), name="cells")
    (data, meta, kind), *_ = from_image(image)
    added = ImageLayer(data[0], **{k: v for k, v in meta.items() if k not in ("channel_axis", "name", "metadata", "multiscale")})
    assert (meta["channel_axis"], meta["name"], kind) == (0, ["cells DAPI", "cells GFP"], "image")
    assert (added.scale.tolist(), added.translate.tolist()) == ([2, 3, 4], [5, 6, 7])


def test_a_unit_that_napari_does_not_know_becomes_pixel() -> None:
    image = Image((np.zeros((4, 5)),), "yx", (2.0, 3.0), ("barleycorn", "micrometer"), (0.0, 0.0))
    (data, meta, _), *_ = from_image(image)
    layer = ImageLayer(data, **meta)
    assert [str(u) for u in layer.units] == ["pixel", "micrometer"]
    assert layer.scale.tolist() == [2, 3]


def test_a_layer_that_became_something_else_does_not_lose_the_result() -> None:
    layer = ImageLayer(np.zeros((4, 5)), scale=(2, 3), units=("um", "um"))
    segmentation = segmentation_on(to_image(layer))
    layer.data = np.zeros((2, 4, 5))
    data, meta, _ = to_layer(segmentation, layer, "yx")
    assert Labels(data, **meta).scale.tolist() == [2, 3]
