"""The Segments dock: what is shown, how it is coloured, and that corrections of classes can be taken back and are saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Labels
from napari.utils.colormaps import CyclicLabelColormap
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QInputDialog

from napari_segsuite import read_segmentation
from napari_segsuite.errors import InputError
from napari_segsuite.io.table import table_of
from napari_segsuite.types import Class, Segmentation
from napari_segsuite.viewer.files import write_annotations, write_labels
from napari_segsuite.viewer.results import from_segmentation
from napari_segsuite.viewer.segments import MOST, Segments, update
from napari_segsuite.viewer.segments_dock import SegmentsDock

CLASSES = (Class(1, "ground", (10, 20, 30), countable=False), Class(2, "round", (255, 0, 0)), Class(3, "long", (0, 0, 255)))
SCORES = {1: 0.5, 2: 0.9, 3: 0.3, 5: 0.7}


def layer_of(classes: tuple[Class, ...] = CLASSES) -> Labels:
    """Ground 1, round objects 2 and 3, a long object 5."""
    labels = np.zeros((20, 30), np.int32)
    labels[:5] = 1
    labels[8:11, 2:5], labels[8:10, 10:12], labels[15, 3:20] = 2, 3, 5
    of = {1: 1, 2: 2, 3: 2, 5: 3} if len(classes) == 3 else {1: 1, 2: 1, 3: 1, 5: 1}
    table = dict(table_of(labels, "yx", classes, of))
    table["score"] = np.array([SCORES[int(i)] for i in table["id"]])
    segmentation = Segmentation(labels, table, classes, "yx", (0.5, 0.5), ("micrometer",) * 2, (3.0, 4.0), name="cells")
    data, meta, _ = from_segmentation(segmentation)
    return Labels(data, **meta)


@pytest.fixture
def dock(viewer: ViewerModel, qtbot: QtBot) -> SegmentsDock:
    viewer.add_layer(layer_of())
    dock = SegmentsDock(viewer)
    qtbot.addWidget(dock)
    return dock


def tick(dock: SegmentsDock, class_id: int, *, on: bool) -> None:
    items = [dock.view.list.topLevelItem(k) for k in range(dock.view.list.topLevelItemCount())]
    item = next(i for i in items if i.data(0, Qt.ItemDataRole.UserRole) == class_id)
    item.setCheckState(0, Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)


def color(layer: Labels, number: int) -> list[float]:
    return [round(float(v), 2) for v in layer.colormap.map(np.array([number]))[0]]


@given(st.lists(st.tuples(st.sets(st.sampled_from([1, 2, 3, 5])), st.sampled_from([2, 3])), max_size=6))
@settings(max_examples=20, deadline=None)
def test_corrections_taken_back_leave_the_table_as_it_was(wishes: list[tuple[set[int], int]]) -> None:
    """The law of edits: apply(edit), then apply(inverse), is nothing."""
    layer = layer_of()
    before, done = layer.features.copy(), []
    for ids, kind in wishes:
        edit = Segments(layer).correction(sorted(ids), kind)
        assert edit.inverse.inverse == edit
        Segments(layer).apply(edit)
        done.append(edit)
        table = Segments(layer)
        assert {int(table.row(i)["class_id"]) for i in ids - {1}} <= {kind}  # type: ignore[index]
        assert table.row(1)["class_id"] == 1  # type: ignore[index]  # stuff is its voxels
    for edit in reversed(done):
        Segments(layer).apply(edit.inverse)
    after = layer.features
    assert after.columns.tolist() == before.columns.tolist()
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])


def test_a_corrected_class_is_saved_and_read_back(tmp_path: Path) -> None:
    layer = layer_of()
    Segments(layer).apply(Segments(layer).correction([3], 3))
    added = Segments(layer).add_class("debris")
    Segments(layer).apply(Segments(layer).correction([2], added.id))
    data, meta, _ = layer.as_layer_data_tuple()
    for name in ("a.ome.zarr", "a.tif"):
        (path,) = write_labels(str(tmp_path / name), data, meta)
        back = read_segmentation(path)
        assert dict(zip(back.segments["id"].tolist(), back.segments["class_id"].tolist(), strict=True)) == {1: 1, 2: 4, 3: 3, 5: 3}
        assert [c.name for c in back.classes] == ["ground", "round", "long", "debris"]
        assert back.segments["status"].tolist() == ["", "corrected", "corrected", ""]
        np.testing.assert_array_equal(np.asarray(back.labels), layer.data)


def test_ticks_score_and_size_say_what_is_shown(dock: SegmentsDock) -> None:
    layer = dock.layer
    assert layer is not None
    dock.recolor()
    assert dock.view.told.text() == "4 of 4 segments are shown."
    tick(dock, 3, on=False)
    assert color(layer, 5) == [0, 0, 0, 0]
    assert color(layer, 2)[3] == 1
    tick(dock, 3, on=True)
    dock.view.score.setValue(0.6)
    assert [color(layer, n)[3] for n in (1, 2, 3, 5)] == [1, 1, 0, 1], "stuff is not judged by its score"
    dock.view.score.setValue(0)
    dock.view.size.setValue(10)
    assert [color(layer, n)[3] for n in (1, 2, 3, 5)] == [1, 0, 0, 1]
    assert dock.view.told.text() == "2 of 4 segments are shown."


def test_classes_or_objects_have_colours_of_their_own(dock: SegmentsDock) -> None:
    layer = dock.layer
    assert layer is not None
    dock.view.mark.setChecked(False)
    dock.view.by_class.setChecked(True)
    assert color(layer, 2) == color(layer, 3) == [1, 0, 0, 1]
    assert color(layer, 5) == [0, 0, 1, 1]
    assert color(layer, 1) == [0.04, 0.08, 0.12, 1]
    dock.view.by_class.setChecked(False)
    assert color(layer, 2) != color(layer, 3)
    assert layer.colormap.map(np.array([0]))[0][3] == 0


def test_objects_of_one_class_get_their_own_colours_back(viewer: ViewerModel, qtbot: QtBot) -> None:
    layer = viewer.add_layer(layer_of((Class(1, "cell"),)))
    before = [color(layer, n) for n in (1, 2, 3, 5)]
    dock = SegmentsDock(viewer)
    qtbot.addWidget(dock)
    dock.view.mark.setChecked(False)
    dock.view.score.setValue(0.8)
    assert color(layer, 3)[3] == 0
    assert color(layer, 2) == before[1]
    dock.view.score.setValue(0)
    assert isinstance(layer.colormap, CyclicLabelColormap)
    assert [color(layer, n) for n in (1, 2, 3, 5)] == before


def test_the_selected_segment_is_told_marked_corrected_and_corrected_back(dock: SegmentsDock) -> None:
    layer = dock.layer
    assert layer is not None
    layer.selected_label = 3
    assert dock.view.one.text() == "3: round, 4 voxels, score 0.30"
    assert color(layer, 3) == [1, 1, 1, 1]
    dock.view.choose(3)
    dock.change()
    assert dock.view.one.text() == "3: long, 4 voxels, score 0.30, corrected"
    assert dock.view.undo.isEnabled()
    dock.undo()
    assert dock.view.one.text() == "3: round, 4 voxels, score 0.30"
    assert not dock.view.undo.isEnabled()
    layer.selected_label = 4
    assert "is no segment" in dock.view.one.text()


def test_all_that_is_shown_is_changed_and_nothing_else(dock: SegmentsDock) -> None:
    dock.view.size.setValue(5)
    dock.view.choose(3)
    dock.change_shown()
    assert Segments(dock.layer).column("class_id").tolist() == [1, 3, 2, 3]  # type: ignore[arg-type]
    dock.undo()
    assert Segments(dock.layer).column("class_id").tolist() == [1, 2, 2, 3]  # type: ignore[arg-type]


def test_steps_go_through_the_objects_in_order_and_the_view_follows(dock: SegmentsDock, viewer: ViewerModel) -> None:
    layer = dock.layer
    assert layer is not None
    layer.selected_label = 0
    dock.view.order.setCurrentText("score, lowest first")
    seen = []
    for _ in range(4):
        dock.step()
        seen.append(int(layer.selected_label))
    assert seen == [3, 5, 2, 3]
    y, x = (float(layer.features[f"centroid_{a}"][3]) for a in "yx")
    assert getattr(viewer, "scene", viewer).camera.center[1:] == pytest.approx((3 + y / 2, 4 + x / 2))
    dock.step_back()
    assert layer.selected_label == 2


def test_what_is_shown_is_copied_and_the_layer_stays(dock: SegmentsDock, viewer: ViewerModel) -> None:
    layer = dock.layer
    assert layer is not None
    before = layer.data.copy()
    tick(dock, 1, on=False)
    dock.view.score.setValue(0.6)
    dock.copy()
    part = viewer.layers[-1]
    assert part.name == "cells part"
    np.testing.assert_array_equal(part.data, np.where(np.isin(before, [2, 5]), before, 0))
    np.testing.assert_array_equal(layer.data, before)
    assert (tuple(part.scale), tuple(part.translate)) == ((0.5, 0.5), (3.0, 4.0))
    assert dock.layer is part, "napari selects the new layer"
    assert Segments(part).ids.tolist() == [2, 5]


def test_painting_is_measured_when_the_table_is_updated(dock: SegmentsDock) -> None:
    layer = dock.layer
    assert layer is not None
    Segments(layer).apply(Segments(layer).correction([2], 3))
    layer.data[18, 25:29] = 9
    layer.data[layer.data == 3] = 0
    dock.update_table()
    table = Segments(layer)
    assert table.ids.tolist() == [1, 2, 5, 9]
    assert dock.view.list.topLevelItem(3).text(0) == "no class", "of two kinds of objects, nobody knows which this is"
    assert (table.row(2)["class"], table.row(9)["size"], table.row(9)["class"]) == ("long", 4, "")  # type: ignore[index]


def test_updating_the_table_keeps_undo_and_columns_of_others(dock: SegmentsDock) -> None:
    layer = dock.layer
    assert layer is not None
    layer.features = layer.features.assign(note=[f"n{k}" for k in layer.features["index"]])
    for ids in ([2], [3]):
        dock._apply(Segments(layer), Segments(layer).correction(ids, 3))
    layer.data[18, 25:29] = 9
    layer.data[layer.data == 3] = 0
    dock.update_table()
    assert Segments(layer).column("note").tolist() == ["n1", "n2", "n5", ""]
    assert dock.view.undo.isEnabled()
    dock.undo()
    assert Segments(layer).column("class_id").tolist() == [1, 2, 3, 0], "of those that are still there"
    assert not dock.view.undo.isEnabled()


def test_what_was_painted_is_not_in_the_table_and_that_is_said(dock: SegmentsDock) -> None:
    layer = dock.layer
    assert layer is not None
    told, stale = dock.view.told.text, "painted on since they were measured"
    assert stale not in told()
    layer.paint((18, 27), 9)
    assert stale in told()
    layer.selected_label = 3
    dock.view.choose(3)
    dock.change()
    assert stale in told(), "a correction measures nothing"
    dock.update_table()
    assert stale not in told()
    assert 9 in Segments(layer).ids


def test_numbers_below_0_are_no_segments_and_that_is_said(viewer: ViewerModel, qtbot: QtBot) -> None:
    labels = np.zeros((10, 10), np.int32)
    labels[2:4, 2:4], labels[6:8, 6:9], labels[0, 0] = 2, -1, -2
    viewer.add_labels(labels)
    dock = SegmentsDock(viewer)
    qtbot.addWidget(dock)
    dock.update_table()
    assert Segments(dock.layer).ids.tolist() == [2]  # type: ignore[arg-type]
    told = "1 of 1 segments are shown. 7 voxels have numbers below 0, which are no segments, and are left out."
    assert dock.view.told.text() == told
    dock.recolor()
    assert dock.view.told.text() == told


def test_a_long_name_pushes_nothing_out_of_view(dock: SegmentsDock, qtbot: QtBot) -> None:
    layer = dock.layer
    assert layer is not None
    usual = dock.minimumSizeHint().width()
    Segments(layer).change_class(replace(CLASSES[1], name="x" * 300))
    layer.name = "y" * 300
    layer.selected_label = 2
    dock.resize(320, 700)
    dock.show()
    dock.refresh()
    columns = [dock.view.list.columnWidth(k) for k in range(2)]
    assert sum(columns) <= dock.view.list.viewport().width()
    assert columns[1] > 20
    assert "x" * 300 in dock.view.list.topLevelItem(1).toolTip(0)
    assert dock.minimumSizeHint().width() == usual
    assert dock.view.title.text() == f"{'y' * 29}...{'y' * 28}"


def test_labels_without_a_table_get_one(viewer: ViewerModel, qtbot: QtBot) -> None:
    labels = np.zeros((10, 10), np.uint8)
    labels[2:4, 2:4] = 7
    viewer.add_labels(labels)
    dock = SegmentsDock(viewer)
    qtbot.addWidget(dock)
    assert "Press 'Update table'" in dock.view.title.text()
    dock.update_table()
    assert Segments(dock.layer).ids.tolist() == [7]  # type: ignore[arg-type]
    assert dock.view.list.topLevelItem(0).text(1) == "1"


def test_a_segment_that_nobody_scored_has_no_score_and_is_not_hidden_by_one(dock: SegmentsDock, viewer: ViewerModel, tmp_path: Path) -> None:
    layer = dock.layer
    assert layer is not None
    layer.data[18, 25:29] = 9
    dock.update_table()
    scores = dict(zip(Segments(layer).ids.tolist(), Segments(layer).column("score").tolist(), strict=True))
    assert {i: scores[i] for i in SCORES} == SCORES
    assert np.isnan(scores[9])
    layer.selected_label = 9
    assert "no score" in dock.view.one.text()
    dock.view.score.setValue(0.6)
    assert Segments(layer).shown(*dock.view.filters()).tolist() == [1, 2, 5, 9]
    assert dock.view.told.text() == "4 of 5 segments are shown, 1 of them without a score."
    dock.update_table()
    assert np.isnan(Segments(layer).row(9)["score"]), "it stays unknown"  # type: ignore[index]
    data, meta, _ = layer.as_layer_data_tuple()
    for name in ("out.tif", "out.ome.zarr"):
        assert np.isnan(read_segmentation(write_labels(str(tmp_path / name), data, meta)[0]).segments["score"][-1])
    write_annotations(str(tmp_path / "out.geojson"), data, meta)
    assert "NaN" not in (tmp_path / "out.geojson").read_text()


def test_a_class_is_added_by_its_name(dock: SegmentsDock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QInputDialog, "getText", lambda *_: ("debris", True))
    dock.add_class()
    assert dock.view.chosen() == 4
    monkeypatch.setattr(QInputDialog, "getText", lambda *_: ("round", True))
    told: list[str] = []
    monkeypatch.setattr("napari_segsuite.viewer.words.show_error", told.append)
    dock.add_class()
    assert told == ["A class 'round' is there already. Needed: a name that no other class has."]
    assert len(Segments(dock.layer).classes) == 4  # type: ignore[arg-type]


def test_what_cannot_be_done_says_why() -> None:
    with pytest.raises(InputError, match=r"(?i)a class of stuff cannot be given"):
        Segments(layer_of()).correction([2], 1)
    unfinished = layer_of()
    unfinished.metadata["segsuite"]["unfinished"] = "store"
    with pytest.raises(InputError, match="not finished"):
        Segments(unfinished)
    large = layer_of()
    n = MOST + 10
    large.features = {"index": np.arange(n), "class_id": np.full(n, 2), "size": np.ones(n, int)}
    with pytest.raises(InputError, match="too many to colour"):
        Segments(large).colors(np.arange(5), by_class=True)
    import dask.array as da

    with pytest.raises(InputError, match="shown from disk"):
        update(Labels(da.zeros((4, 4), dtype=int)))


def test_another_layer_is_another_table(dock: SegmentsDock, viewer: ViewerModel) -> None:
    first: Any = dock.layer
    dock.view.score.setValue(0.6)
    second = viewer.add_layer(layer_of((Class(1, "cell"),)))
    assert dock.layer is second
    assert dock.view.filters() == (set(), 0, 0)
    dock.view.by_class.setChecked(True)
    viewer.layers.selection.active = first
    assert dock.layer is first
    assert dock.view.filters() == (set(), 0.6, 0), "as the layer is seen"
    assert not dock.view.by_class.isChecked()
    assert dock.view.told.text() == "3 of 4 segments are shown."
    assert [color(first, n)[3] for n in (1, 2, 3, 5)] == [1, 1, 0, 1]
    tick(dock, 3, on=False)
    viewer.layers.selection.active = second
    assert dock.view.by_class.isChecked()
    viewer.layers.remove(second)
    viewer.layers.selection.active = first
    assert dock.view.filters() == ({3}, 0.6, 0)
    viewer.layers.clear()
    assert dock.layer is None
    assert dock.view.title.text() == "Select a Labels layer."
    assert dock.view.told.text() == dock.view.one.text() == ""


def test_a_series_is_tracked_into_layers_of_its_own(viewer: ViewerModel, qtbot: QtBot) -> None:
    labels = np.zeros((4, 30, 40), np.int32)
    for t in range(4):
        labels[t, 5:10, 5 + t : 10 + t], labels[t, 20:25, 30 - t : 35 - t] = 1 + t % 2, 2 - t % 2
    cell, units = (replace(CLASSES[1], id=1),), ("second", *("micrometer",) * 2)
    segmentation = Segmentation(labels, table_of(labels, "tyx", cell), cell, "tyx", (60.0, 0.5, 0.5), units, (0.0, 3.0, 4.0))
    data, meta, _ = from_segmentation(segmentation)
    layer = viewer.add_labels(data, **meta)
    dock = SegmentsDock(viewer)
    qtbot.addWidget(dock)
    assert not dock.view.time.isHidden()
    assert dock.minimumSizeHint().height() < 600, "it fits a small screen"
    dock.track()
    tracked, tracks = viewer.layers[-2:]
    assert [np.unique(tracked.data[:, y, :]).tolist() for y in (7, 22)] == [[0, 1], [0, 2]]
    assert tuple(tracks.scale) == tuple(layer.scale)
    assert tuple(tracks.translate) == tuple(layer.translate)
    assert np.asarray(tracks.data)[:2].tolist() == [[1, 0, 7, 7], [1, 1, 7, 8]]
    viewer.add_layer(layer_of())
    assert dock.view.time.isHidden()
