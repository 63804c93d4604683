"""Results as Labels layers: features that napari matches to labels, colours, and the way back after somebody painted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Labels

from napari_segsuite.io.table import table_of
from napari_segsuite.types import Class, Segmentation
from napari_segsuite.viewer.results import colors_of, features_of, from_segmentation, segmentation_of
from napari_segsuite.viewer.shown import Shown

CELL = (Class(1, "cell"),)
STREET = (Class(1, "road", (80, 80, 80), countable=False), Class(2, "sky", (0, 0, 255), countable=False), Class(3, "car", (200, 0, 0)))


def segmentation(labels: object, classes: tuple[Class, ...] = CELL) -> Segmentation:
    array = np.asarray(labels, np.uint32)
    table = table_of(array, "yx", classes)
    table["score"] = np.linspace(0.25, 0.75, len(table["id"]))
    table["status"] = np.array(["new"] * len(table["id"]))
    return Segmentation(array, table, classes, "yx", (0.5, 0.5), ("micrometer",) * 2, (1.0, 2.0), provenance={"plan": {"model": {"name": "m"}}})


def as_layer(made: Segmentation) -> Labels:
    data, meta, _ = from_segmentation(made)
    return Labels(data, **meta)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=12, max_size=12))
def test_row_k_is_label_k_and_the_status_bar_agrees(values: list[int]) -> None:
    made = segmentation(np.array(values).reshape(3, 4))
    layer = as_layer(made)
    for i, size in zip(made.segments["id"].tolist(), made.segments["size"].tolist(), strict=True):
        assert layer.features["index"][i] == i
        assert layer.features["size"][i] == size
        assert layer._label_index[i] == i  # what the status bar looks up
    y, x = np.argwhere(made.labels > 0)[0] if made.labels.any() else (0, 0)
    said = layer.get_status((y * 0.5 + 1, x * 0.5 + 2), world=True)["coordinates"]
    assert ("class: cell" in said) == bool(made.labels[y, x])


def test_the_first_row_is_the_background_and_gaps_are_empty() -> None:
    features = features_of(segmentation([[0, 1], [3, 3]]))
    assert features["class"].tolist() == ["background", "cell", "", "cell"]
    assert features["size"].tolist() == [0, 1, 0, 2]
    assert list(features)[:5] == ["index", "class", "class_id", "score", "size"]


def test_sparse_ids_do_not_make_a_row_each() -> None:
    layer = as_layer(segmentation([[0, 5], [50_000_000, 50_000_000]]))
    assert layer.features["index"].tolist() == [5, 50_000_000]
    assert "size: 2" in layer.get_status((1.5, 2), world=True)["coordinates"]


def test_a_result_without_segments_is_a_layer_too() -> None:
    layer = as_layer(segmentation(np.zeros((3, 3))))
    assert layer.features["class"].tolist() == ["background"]
    assert segmentation_of(*layer.as_layer_data_tuple()[:2]).segments["id"].tolist() == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=20, max_size=20), st.booleans())
def test_a_segmentation_comes_back_unchanged(values: list[int], street: bool) -> None:
    made = segmentation(np.array(values).reshape(4, 5), STREET if street else CELL)
    back = segmentation_of(*as_layer(made).as_layer_data_tuple()[:2])
    assert back.classes == made.classes
    assert back.provenance == made.provenance
    assert (back.scale, back.units, back.translate, back.axes) == (made.scale, made.units, made.translate, made.axes)
    assert list(back.segments) == list(made.segments)
    for name, column in made.segments.items():
        assert np.array_equal(back.segments[name], column), name


def test_after_painting_the_table_is_computed_anew_and_what_was_known_stays() -> None:
    layer = as_layer(segmentation([[0, 1, 1], [2, 2, 0]]))
    layer.data_setitem((np.array([0]), np.array([0])), 2)
    layer.data_setitem((np.array([1]), np.array([2])), 9)
    table = segmentation_of(*layer.as_layer_data_tuple()[:2]).segments
    assert table["id"].tolist() == [1, 2, 9]
    assert table["size"].tolist() == [2, 3, 1]
    assert table["score"].tolist() == [0.25, 0.75, 1.0]
    assert table["status"].tolist() == ["new", "new", ""]
    assert table["bbox_y0"].tolist() == [0, 0, 1]


def test_labels_of_others_get_a_table() -> None:
    back = segmentation_of(*Labels(np.array([[0, 4], [4, 4]]), name="mine").as_layer_data_tuple()[:2])
    assert (back.name, back.axes, back.units) == ("mine", "yx", ("pixel", "pixel"))
    assert back.segments["size"].tolist() == [3]


def test_stuff_has_its_class_colour_and_things_shades_of_theirs() -> None:
    colors = colors_of(segmentation([[1, 2], [3, 4]], STREET))
    assert np.allclose(colors[2], [0, 0, 1, 1])
    assert not np.allclose(colors[3], colors[4])
    assert colors[3][0] > colors[3][2]
    assert np.allclose(as_layer(segmentation([[1, 2], [3, 4]], STREET)).get_color(2), [0, 0, 1, 1])


def test_things_of_one_kind_keep_naparis_colours() -> None:
    assert colors_of(segmentation([[1, 2]])) == {}


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((2, 3)), name="cells", scale=(0.5, 0.5), units=("um", "um"))
    return viewer


def show(shown: Shown, viewer: ViewerModel, *, replace: bool, labels: object = ((0, 1, 1), (2, 2, 0))) -> str:
    return shown.show(segmentation(labels), viewer.layers["cells"], "yx", "m", replace=replace)


def test_a_result_is_a_new_layer_named_after_image_and_model(viewer: ViewerModel) -> None:
    shown = Shown(viewer)
    show(shown, viewer, replace=False)
    show(shown, viewer, replace=False)
    assert [layer.name for layer in viewer.layers] == ["cells", "cells m", "cells m [1]"]
    assert shown.latest() is viewer.layers[-1]


def test_the_previous_result_is_replaced_where_it_was(viewer: ViewerModel) -> None:
    shown = Shown(viewer)
    show(shown, viewer, replace=True)
    viewer.add_points(name="on top")
    assert show(shown, viewer, replace=True, labels=((0, 1, 1), (0, 0, 0))) == ""
    assert [layer.name for layer in viewer.layers] == ["cells", "cells m", "on top"]
    assert viewer.layers["cells m"].data.sum() == 2


@pytest.mark.parametrize("edit", ["paint", "write", "table"])
def test_what_a_user_edited_is_never_replaced(viewer: ViewerModel, edit: str) -> None:
    shown = Shown(viewer)
    show(shown, viewer, replace=True)
    old = viewer.layers["cells m"]
    if edit == "paint":
        old.paint((0, 0), 7)
    elif edit == "write":
        old.data[0, 0] = 7
    else:
        old.features = old.features.assign(status=["", "checked", "new"])
    assert show(shown, viewer, replace=True) == "'cells m' was edited and is kept."
    assert old in viewer.layers
    assert len(viewer.layers) == 3


def test_a_result_that_was_removed_is_forgotten(viewer: ViewerModel) -> None:
    shown = Shown(viewer)
    show(shown, viewer, replace=True)
    viewer.layers.remove("cells m")
    assert shown.latest() is None
    assert show(shown, viewer, replace=True) == ""
