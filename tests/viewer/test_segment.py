"""The Segment dock in a real window: from a layer to labels through the real child process, and everything that can come in between."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import npe2
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from napari.utils.notifications import notification_manager
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog

import napari_segsuite
from napari_segsuite import io
from napari_segsuite.engine.plan import Options
from napari_segsuite.synthetic import nuclei
from napari_segsuite.viewer import child as child_module
from napari_segsuite.viewer.pickers import LayerPicker
from napari_segsuite.viewer.segment import SegmentDock

Said = list[tuple[str, str]]


@pytest.fixture
def viewer(make_napari_viewer: Callable[[], Any]) -> Any:
    return make_napari_viewer()


@pytest.fixture
def dock(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[SegmentDock]:
    """A dock with the model that needs no weights, and a child that does not load torch ahead."""
    monkeypatch.setattr(child_module, "NEEDED", ("napari_segsuite.engine.chunk",))
    dock = SegmentDock(viewer)
    viewer.window.add_dock_widget(dock, name="Segment")
    dock.form.set_value(Options(model="otsu"))
    dock.check()
    yield dock
    dock.child.close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """What napari is asked to show to the user."""
    heard: Said = []
    monkeypatch.setattr(notification_manager, "dispatch", lambda note: heard.append((str(note.severity), note.message)))
    return heard


def add_cells(viewer: Any, shape: tuple[int, ...] = (96, 128), axes: str = "yx", **kwargs: Any) -> Any:
    pixels, _ = nuclei(shape, axes, seed=4)
    units = ["micrometer"] * len(axes)
    return viewer.add_image(pixels, **{"name": "cells", "scale": [1.0, 0.4, 0.4][-len(axes) :], "units": units, **kwargs})


def add_many(viewer: Any) -> Any:
    """So many frames that a run does not end while a test looks at it."""
    pixels, _ = nuclei((96, 128), "yx", seed=4)
    return viewer.add_image(np.tile(pixels, (3000, 1, 1)), name="cells", units=("second", "micrometer", "micrometer"), axis_labels=("t", "y", "x"))


def finish(dock: SegmentDock, qtbot: QtBot, seconds: float = 90) -> None:
    dock.check()
    dock.panel.run.click()
    assert dock.panel.cancel.isEnabled()
    qtbot.waitUntil(lambda: not dock.panel.cancel.isEnabled(), timeout=int(seconds * 1000))


def test_from_a_layer_to_labels(viewer: Any, dock: SegmentDock, qtbot: QtBot) -> None:
    layer = add_cells(viewer, translate=[3, 4], rotate=30)
    before, loaded = layer.data.copy(), set(sys.modules)
    finish(dock, qtbot)
    result = viewer.layers[-1]
    assert isinstance(result, Labels)
    assert result.name == "cells otsu"
    assert np.array_equal(result.data > 0, result.data.astype(bool))
    assert 10 < result.data.max() < 80
    assert np.allclose(result.data_to_world((5, 7)), layer.data_to_world((5, 7)))
    assert (result.units, result.axis_labels) == (layer.units, layer.axis_labels)
    assert result.features["index"].tolist() == list(range(result.data.max() + 1))
    assert result.features["size"][3] == (result.data == 3).sum()
    assert {"class", "score", "bbox_y0", "centroid_x"} <= set(result.features)
    assert result.metadata["segsuite"]["provenance"]["plan"]["model"]["name"] == "otsu"
    assert dock.panel.status.text().startswith(f"{result.data.max()} segments in ")
    assert dock.panel.table.isEnabled()
    assert np.array_equal(layer.data, before)
    assert "torch" not in set(sys.modules) - loaded


def test_the_window_stays_responsive_and_the_bar_moves(viewer: Any, dock: SegmentDock, qtbot: QtBot) -> None:
    add_many(viewer)
    dock.child.warm().result(60)
    ticks, seen = list[float](), list[int]()
    dock.panel.bar.valueChanged.connect(seen.append)
    timer = QTimer(interval=10)
    timer.timeout.connect(lambda: ticks.append(time.monotonic()))
    timer.start()
    dock.check()
    dock.panel.run.click()
    qtbot.waitUntil(lambda: len(seen) > 5, timeout=60_000)
    timer.stop()
    dock.panel.cancel.click()
    moved = [value for value in seen if value >= 0]  # a bar without a range says -1
    assert moved == sorted(moved)
    assert 0 < moved[-1] < dock.panel.bar.maximum()
    assert np.diff(ticks).max() < 2.0  # a run in this process would hold the window for all of its frames


def test_a_movie_of_stacks_keeps_its_shape_and_axes(viewer: Any, dock: SegmentDock, qtbot: QtBot) -> None:
    add_cells(viewer, (4, 6, 96, 128), "tzyx", scale=[1, 1, 0.4, 0.4], units=["second", *["micrometer"] * 3])
    dock.form.editor("stack").set_value("slices")
    finish(dock, qtbot)
    assert viewer.layers[-1].data.shape == (4, 6, 96, 128)
    assert viewer.layers[-1].axis_labels == viewer.layers[0].axis_labels


def test_cancel_stops_within_a_second_and_the_next_run_works(viewer: Any, dock: SegmentDock, qtbot: QtBot) -> None:
    add_many(viewer)
    pid = dock.child.warm().result(60)
    dock.check()
    dock.panel.run.click()
    job = dock._job
    assert job is not None
    qtbot.waitUntil(lambda: "Segmenting" in dock.panel.counts.text(), timeout=60_000)
    dock.panel.cancel.click()
    assert job.finished.wait(5)  # 0.1 to 0.8 s beside other work; the whole run takes minutes
    assert dock.panel.status.text().startswith("Cancelled after ")
    assert dock.panel.run.isEnabled()
    assert len(viewer.layers) == 1
    assert dock.child.warm().result(60) != pid
    viewer.layers.clear()
    add_cells(viewer)
    finish(dock, qtbot)
    assert len(viewer.layers) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_child_that_is_killed_becomes_a_sentence(viewer: Any, dock: SegmentDock, qtbot: QtBot, said: Said) -> None:
    add_many(viewer)
    pid = dock.child.warm().result(60)
    dock.check()
    dock.panel.run.click()
    qtbot.waitUntil(lambda: "Segmenting" in dock.panel.counts.text(), timeout=60_000)
    os.kill(pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: not dock.panel.cancel.isEnabled(), timeout=10_000)
    assert said[0][0] == "error"
    assert said[0][1].startswith("The process that computes the segments stopped unexpectedly (signal SIGKILL). Most often the memory ran out")
    assert dock.panel.status.text() == said[0][1]
    assert dock.panel.run.isEnabled()


def test_a_layer_that_is_removed_or_moved_during_a_run_still_gets_its_result(viewer: Any, dock: SegmentDock, qtbot: QtBot) -> None:
    layer = add_cells(viewer)
    dock.check()
    dock.panel.run.click()
    layer.name, layer.scale = "renamed", (7, 7)
    viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=90_000)
    assert viewer.layers[0].name == "renamed otsu"
    assert viewer.layers[0].scale.tolist() == [7, 7]


def test_closing_the_viewer_during_a_run_ends_the_child(viewer: Any, dock: SegmentDock, qtbot: QtBot) -> None:
    add_many(viewer)
    dock.child.warm().result(60)
    dock.check()
    dock.panel.run.click()
    job, child = dock._job, dock.child
    assert job is not None
    qtbot.waitUntil(lambda: "Segmenting" in dock.panel.counts.text(), timeout=60_000)
    viewer.close()
    qtbot.waitUntil(lambda: child.pid is None, timeout=10_000)
    assert job.finished.wait(5)


def test_two_viewers_have_their_own_runs_and_a_result_is_of_the_pixels_that_were_there(
    viewer: Any, dock: SegmentDock, qtbot: QtBot, make_napari_viewer: Callable[[], Any]
) -> None:
    other = make_napari_viewer()
    beside = SegmentDock(other)
    other.window.add_dock_widget(beside, name="Segment")
    beside.form.set_value(Options(model="otsu"))
    pixels = [nuclei((96, 128), "yx", seed=seed)[0] for seed in (4, 5)]
    before = [one.tobytes() for one in pixels]
    for where, own, one in ((viewer, dock, pixels[0]), (other, beside, pixels[1])):
        where.add_image(one, name="cells")
        own.check()
        own.panel.run.click()
    viewer.layers[0].data = np.zeros((50, 60), np.uint8)
    qtbot.waitUntil(lambda: dock._job is None and beside._job is None, timeout=90_000)
    for where, own, one in ((viewer, dock, pixels[0]), (other, beside, pixels[1])):
        assert [layer.name for layer in where.layers] == ["cells", "cells otsu"]
        np.testing.assert_array_equal(where.layers[1].data, napari_segsuite.segment(one, "otsu").labels)
        assert ("The image was changed since Run was pressed" in own.panel.status.text()) == (own is dock)
    assert [one.tobytes() for one in pixels] == before
    beside.child.close()


def test_a_dock_that_is_closed_in_the_middle_ends_its_run_and_a_new_one_works(viewer: Any, dock: SegmentDock, qtbot: QtBot, said: Said) -> None:
    add_many(viewer)
    dock.check()
    dock.panel.run.click()
    job, child = dock._job, dock.child
    assert job is not None
    qtbot.waitUntil(lambda: "Segmenting" in dock.panel.counts.text(), timeout=60_000)
    close(viewer, dock)
    assert job.finished.wait(10)
    qtbot.waitUntil(lambda: child.pid is None, timeout=10_000)
    assert ("info", "The run was stopped, since its dock was closed.") in said
    viewer.layers.clear()
    add_cells(viewer)
    again = SegmentDock(viewer)
    viewer.window.add_dock_widget(again, name="Segment")
    again.form.set_value(Options(model="otsu"))
    finish(again, qtbot)
    assert [layer.name for layer in viewer.layers] == ["cells", "cells otsu"]
    again.child.close()


def close(viewer: Any, dock: SegmentDock) -> None:
    """Press the cross in the corner of a dock."""
    next(d for d in viewer.window._wrapped_dock_widgets.values() if d.widget() is dock).destroyOnClose()


def test_closing_the_dock_ends_the_child_and_lets_go_of_the_layers(viewer: Any, dock: SegmentDock, qtbot: QtBot) -> None:
    layer, child = add_cells(viewer), dock.child
    child.warm().result(60)
    close(viewer, dock)
    qtbot.waitUntil(lambda: child.pid is None, timeout=10_000)
    layer.name = "nobody listens"
    viewer.layers.clear()


@pytest.mark.parametrize(
    ("shape", "meta", "options", "told"),
    [
        ((3, 20, 20), {"axis_labels": ("c", "y", "x")}, {}, "needs 1 channel; 'cells' has 3 (0, 1, 2)"),
        ((20, 20), {}, {"diameter_px": 30.0}, "does not resample"),
        ((4, 20, 20), {}, {"chunk": (8, 8, 8, 8)}, "Chunk has 4 numbers"),
    ],
)
def test_what_does_not_fit_is_said_before_run(
    viewer: Any, dock: SegmentDock, shape: tuple[int, ...], meta: dict[str, Any], options: dict[str, Any], told: str
) -> None:
    viewer.add_image(np.zeros(shape, np.uint8), name="cells", **meta)
    dock.form.set_value(Options(model="otsu", **options))
    dock.check()
    assert told in dock.panel.complaint.text()
    assert not dock.panel.run.isEnabled()
    assert told in dock.panel.run.toolTip()
    dock.run()
    assert dock._job is None


def test_what_is_said_of_a_layer_follows_its_name_and_its_axes(viewer: Any, dock: SegmentDock, qtbot: QtBot) -> None:
    layer = viewer.add_image(np.zeros((3, 20, 20), np.uint8), name="cells", axis_labels=("c", "y", "x"))
    dock.check()
    assert "'cells' has 3 (0, 1, 2)" in dock.panel.complaint.text()
    layer.name = "renamed"
    qtbot.waitUntil(lambda: "'renamed' has 3" in dock.panel.complaint.text(), timeout=5000)
    layer.axis_labels = ("t", "y", "x")
    qtbot.waitUntil(lambda: dock.panel.complaint.text() == "", timeout=5000)
    assert dock.axes.value() == "tyx"


def test_a_complaint_names_the_field_and_not_the_keyword(viewer: Any, dock: SegmentDock) -> None:
    viewer.add_image(np.zeros((3, 20, 20), np.uint8), name="cells", axis_labels=("c", "y", "x"))
    dock.check()
    assert dock.panel.complaint.text().endswith("Choose it under Channels.")
    dock.channels.set_value(("1",))
    dock.check()
    assert dock.panel.complaint.text() == ""
    assert dock.panel.run.isEnabled()


def test_without_an_image_it_says_where_to_find_one(dock: SegmentDock) -> None:
    assert dock.panel.notice.text() == "Open an image, or try File > Open Sample > Segsuite."
    assert not dock.panel.run.isEnabled()


def test_the_user_says_what_the_leading_axis_is(viewer: Any, dock: SegmentDock, qtbot: QtBot) -> None:
    viewer.add_image(np.zeros((4, 20, 30), np.uint8), name="cells")
    assert [dock.axes.itemText(k) for k in range(dock.axes.count())] == ["z-stack (zyx)", "time (tyx)", "channels (cyx)"]
    dock.axes.setCurrentIndex(1)
    dock.check()
    assert dock._plan is not None
    assert dock._plan[1].axes == "tyx"
    viewer.add_image(np.zeros((20, 30)), name="flat")
    dock.layer.set_value(viewer.layers["flat"])
    assert not dock.axes.isVisibleTo(dock)


def test_a_device_that_is_not_there_is_told_in_the_words_of_the_form(viewer: Any, dock: SegmentDock, qtbot: QtBot, said: Said) -> None:
    add_cells(viewer)
    dock.form.set_value(Options(model="nuclei", device="cuda:99"))
    finish(dock, qtbot)
    assert dock.panel.status.text().endswith("Choose auto or cpu under Advanced > Device.")
    assert said[0][1] == dock.panel.status.text()


def test_an_unknown_model_folder_is_a_complaint(viewer: Any, dock: SegmentDock) -> None:
    add_cells(viewer)
    dock.model.set_value("/no/such/folder")
    dock.check()
    assert dock.panel.complaint.text().startswith("There is no model '/no/such/folder'")
    assert not dock.panel.run.isEnabled()


def test_layers_are_followed_by_reference(qtbot: QtBot) -> None:
    model = ViewerModel()
    picker = LayerPicker(model.layers)
    qtbot.addWidget(picker)
    first: Any = model.add_image(np.zeros((4, 4)), name="first")
    second = model.add_image(np.zeros((4, 4)), name="second")
    model.add_labels(np.zeros((4, 4), int))
    assert [picker.itemText(k) for k in range(picker.count())] == ["first", "second"]
    assert picker.value() == first
    first.name = "renamed"
    assert picker.currentText() == "renamed"
    model.layers.move(0, 2)
    assert (picker.value(), picker.currentText()) == (first, "renamed")
    model.layers.remove(first)
    assert picker.value() is second
    model.layers.clear()
    assert picker.currentText() == ""
    picker.close_links()


def test_the_table_and_save_buttons(
    viewer: Any, dock: SegmentDock, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    plugins = npe2.PluginManager.instance()
    if "napari-segsuite" not in plugins:  # run from a checkout that is not installed
        plugins.register(str(Path(napari_segsuite.__file__).with_name("napari.yaml")))
    layer = add_cells(viewer)
    assert not dock.panel.table.isEnabled()
    finish(dock, qtbot)
    viewer.layers.selection = {layer}
    for _ in range(2):  # a second click must not open a second table
        dock.panel.table.click()
    table = viewer.window.dock_widgets["Features table widget (napari)"]
    assert "cells otsu" in table.info.text()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "cells.ome.zarr"), ""))
    dock.panel.save.click()
    assert np.array_equal(io.read_segmentation(tmp_path / "cells.ome.zarr").labels, viewer.layers["cells otsu"].data)
    dock.panel.save.click()
    assert said[-1][1].endswith("exists already. Choose another name.")
    viewer.layers.remove("cells otsu")
    assert not dock.panel.save.isEnabled(), "it is no longer in the viewer"
    assert not dock.panel.table.isEnabled()


def test_it_fits_a_small_screen(viewer: Any, dock: SegmentDock) -> None:
    add_cells(viewer)
    dock.check()
    hint = dock.minimumSizeHint()
    assert hint.width() < 340
    assert hint.height() < 600
