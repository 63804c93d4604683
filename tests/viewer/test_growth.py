"""A run into a store from the Segment dock, through the real child process: what grows in the viewer, and that it can be stopped and gone on with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Labels
from pytestqt.qtbot import QtBot

from napari_segsuite import io
from napari_segsuite.engine.plan import Options
from napari_segsuite.engine.work import Work, read_job
from napari_segsuite.errors import InputError
from napari_segsuite.io import label_store
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Image
from napari_segsuite.viewer import child as child_module
from napari_segsuite.viewer import files
from napari_segsuite.viewer.files import write_labels
from napari_segsuite.viewer.segment import SegmentDock

CHUNK = (16, 32, 32)
SHAPE = (48, 128, 192)  # 72 chunks, two levels


@pytest.fixture
def dock(dock: SegmentDock) -> SegmentDock:
    dock.form.set_value(Options(model="otsu", chunk=CHUNK))
    return dock


@pytest.fixture(scope="module")
def pixels() -> Any:
    return nuclei(SHAPE, "zyx", seed=4)[0]


def add(viewer: Any, pixels: Any) -> Any:
    return viewer.add_image(pixels, name="cells", scale=(1, 0.4, 0.4), translate=(5, 6, 7), units=["micrometer"] * 3)


def finish(dock: SegmentDock, qtbot: QtBot) -> None:
    dock.check()
    assert dock.panel.run.isEnabled(), dock.panel.complaint.text() or dock.panel.notice.text()
    dock.panel.run.click()
    qtbot.waitUntil(lambda: dock._job is None, timeout=120_000)


def grown(viewer: Any) -> Labels | None:
    return next((x for x in viewer.layers if isinstance(x, Labels)), None)


def done(out: Path) -> dict[str, int]:
    """The finished chunks of an unfinished run, with the time when each was written."""
    job = read_job(out)
    assert job is not None
    folder = Work(out, job.token).records("chunks").folder
    return {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(folder) if not entry.name.startswith(".")}


def stop_in_the_middle(dock: SegmentDock, viewer: Any, qtbot: QtBot) -> None:
    dock.check()
    dock.panel.run.click()
    qtbot.waitUntil(lambda: grown(viewer) is not None, timeout=90_000)
    dock.panel.cancel.click()


def test_what_grew_on_disk_is_what_is_made_in_memory(viewer: Any, dock: SegmentDock, qtbot: QtBot, tmp_path: Path, pixels: Any) -> None:
    layer, out = add(viewer, pixels), tmp_path / "cells.ome.zarr"
    finish(dock, qtbot)
    memory = viewer.layers[-1]
    dock.target.set_value(out)
    finish(dock, qtbot)
    disk = viewer.layers[-1]
    assert disk is not memory
    assert disk.multiscale
    np.testing.assert_array_equal(np.asarray(disk.data[0]), memory.data)
    np.testing.assert_array_equal(np.asarray(disk.data[1]), memory.data[:, ::2, ::2])
    assert disk.features.equals(memory.features)
    for what in ("scale", "translate", "units", "axis_labels"):
        np.testing.assert_array_equal(getattr(disk, what), getattr(layer, what))
    assert (disk.name, memory.name) == ("cells otsu [1]", "cells otsu")
    assert disk.metadata["segsuite"]["provenance"]["seams"]["faces"] > 100
    assert ", saved in cells.ome.zarr. Seams: " in dock.panel.status.text()
    assert " pairs joined, neighbours agree on 100 % of " in dock.panel.status.text()
    assert not label_store.is_unfinished(out)
    assert not dock.panel.run.isEnabled()
    assert dock.panel.notice.text().startswith("cells.ome.zarr holds the result of these options already.")
    write_labels(str(tmp_path / "copy.tif"), disk.data, disk.as_layer_data_tuple()[1])
    np.testing.assert_array_equal(io.read_segmentation(tmp_path / "copy.tif").labels, memory.data)


def test_it_grows_stops_within_a_second_and_goes_on_without_doing_a_chunk_again(
    viewer: Any, dock: SegmentDock, qtbot: QtBot, tmp_path: Path, pixels: Any
) -> None:
    add(viewer, pixels)
    out = tmp_path / "cells.ome.zarr"
    dock.target.set_value(out)
    dock.child.warm().result(60)
    stop_in_the_middle(dock, viewer, qtbot)
    began = time.monotonic()
    assert dock._ended is not None
    assert dock._ended.wait(10)
    assert time.monotonic() - began < 5  # far less on a quiet machine
    shown, before = grown(viewer), done(out)
    assert shown is not None
    assert shown.multiscale
    assert 0 < len(before) < 72
    told = dock.panel.status.text()
    assert told.startswith("Stopped; ")
    assert told.endswith(" of 72 chunks are done. Press Run to go on.")
    assert abs(int(told.split()[1]) - len(before)) <= 1  # one may have been on its way to the disk
    assert np.asarray(shown.data[-1]).any()
    with pytest.raises(InputError, match="not finished"):
        write_labels(str(tmp_path / "x.tif"), shown.data, shown.as_layer_data_tuple()[1])
    dock.check()
    assert dock.panel.notice.text() == f"Goes on where it stopped: {len(before)} of 72 chunks are done."
    dock.panel.run.click()
    seen = dict(before)
    while dock._job is not None:
        qtbot.wait(20)
        if label_store.is_unfinished(out) and (out / ".segsuite" / "job.json").exists():
            seen |= done(out)
    assert {name: seen[name] for name in before} == before
    assert len(viewer.layers) == 2
    assert grown(viewer) is shown
    assert "unfinished" not in shown.metadata["segsuite"]
    dock.target.set_value(None)
    finish(dock, qtbot)
    np.testing.assert_array_equal(np.asarray(shown.data[0]), viewer.layers[-1].data)


@pytest.mark.gui
def test_closing_napari_in_the_middle_leaves_what_is_done(
    make_napari_viewer: Callable[[], Any], qtbot: QtBot, tmp_path: Path, pixels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "NEEDED", ("napari_segsuite.engine.chunk",))
    viewer = make_napari_viewer()
    dock = SegmentDock(viewer)
    viewer.window.add_dock_widget(dock, name="Segment")
    dock.form.set_value(Options(model="otsu", chunk=CHUNK))
    add(viewer, pixels)
    dock.target.set_value(tmp_path / "cells.ome.zarr")
    dock.check()
    dock.panel.run.click()
    qtbot.waitUntil(lambda: grown(viewer) is not None, timeout=90_000)
    job, child = dock._job, dock.child
    assert job is not None
    viewer.close()
    assert job.finished.wait(20)
    qtbot.waitUntil(lambda: child.pid is None, timeout=10_000)
    assert label_store.is_unfinished(tmp_path / "cells.ome.zarr")
    assert len(done(tmp_path / "cells.ome.zarr")) > 0


def test_a_layer_that_is_removed_while_it_grows_comes_back_with_the_result(
    viewer: Any, dock: SegmentDock, qtbot: QtBot, tmp_path: Path, pixels: Any
) -> None:
    add(viewer, pixels)
    dock.target.set_value(tmp_path / "cells.ome.zarr")
    dock.check()
    dock.panel.run.click()
    qtbot.waitUntil(lambda: grown(viewer) is not None, timeout=90_000)
    viewer.layers.remove(grown(viewer))
    qtbot.waitUntil(lambda: dock._job is None, timeout=120_000)
    result = grown(viewer)
    assert result is not None
    assert result.features["index"].max() == np.asarray(result.data[0]).max()


def test_a_store_without_a_pyramid_is_shown_from_disk(
    viewer: Any, dock: SegmentDock, qtbot: QtBot, tmp_path: Path, pixels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a large image whose own store has one level."""
    monkeypatch.setattr(files, "EDITABLE_BYTES", 1000)
    viewer.add_image(pixels[:16], name="cells")
    dock.target.set_value(tmp_path / "cells.ome.zarr")
    finish(dock, qtbot)
    result = viewer.layers[-1]
    assert (result.multiscale, result.editable) == (False, False)
    stored = io.read_segmentation(tmp_path / "cells.ome.zarr")
    np.testing.assert_array_equal(np.asarray(result.data), np.asarray(stored.labels[...]))
    write_labels(str(tmp_path / "copy.tif"), result.data, result.as_layer_data_tuple()[1])
    np.testing.assert_array_equal(io.read_segmentation(tmp_path / "copy.tif").segments["size"], stored.segments["size"])


def test_another_image_does_not_go_on_with_it(viewer: Any, dock: SegmentDock, qtbot: QtBot, tmp_path: Path, pixels: Any) -> None:
    """Only pixels tell two layers of one shape apart."""
    add(viewer, pixels)
    out = tmp_path / "cells.ome.zarr"
    dock.target.set_value(out)
    stop_in_the_middle(dock, viewer, qtbot)
    viewer.layers.clear()
    add(viewer, pixels[::-1].copy())
    dock.target.set_value(out)
    finish(dock, qtbot)
    assert "from another input, or from this one before it changed. Choose another name under Save to." in dock.panel.status.text()
    assert label_store.is_unfinished(out)


@pytest.mark.parametrize("shape", [(90, 100), (4, 6, 60, 70)])
def test_a_small_result_and_a_movie_on_disk(viewer: Any, dock: SegmentDock, qtbot: QtBot, tmp_path: Path, shape: tuple[int, ...]) -> None:
    dock.form.set_value(Options(model="otsu", chunk=(4, 32, 32)[-min(len(shape), 3) :]))
    axes = "tzyx"[-len(shape) :]
    viewer.add_image(nuclei(shape, axes, seed=1)[0], name="cells", axis_labels=tuple(axes))
    dock.target.set_value(tmp_path / "cells.ome.zarr")
    finish(dock, qtbot)
    result = viewer.layers[-1]
    assert not result.multiscale
    assert result.editable
    assert isinstance(result.data, np.ndarray)
    np.testing.assert_array_equal(result.data, io.read_segmentation(tmp_path / "cells.ome.zarr").labels)


def test_a_layer_with_its_axes_in_another_order(viewer: Any, dock: SegmentDock, qtbot: QtBot, tmp_path: Path, pixels: Any) -> None:
    movie = np.stack([pixels[:24], pixels[24:]], axis=1)  # z, t, y, x
    viewer.add_image(movie, name="cells", axis_labels=("z", "t", "y", "x"), scale=(2, 1, 0.5, 0.5))
    dock.form.set_value(Options(model="otsu", chunk=(24, 64, 96)))
    dock.target.set_value(tmp_path / "cells.ome.zarr")
    finish(dock, qtbot)
    result = viewer.layers[-1]
    stored = io.read_segmentation(tmp_path / "cells.ome.zarr").labels
    np.testing.assert_array_equal(np.asarray(result.data[0] if result.multiscale else result.data), np.asarray(stored[...]).swapaxes(0, 1))
    assert result.scale.tolist() == [2, 1, 0.5, 0.5]


def test_into_the_store_of_the_image_and_on_from_a_new_dock(viewer: Any, dock: SegmentDock, qtbot: QtBot, tmp_path: Path, pixels: Any) -> None:
    store = tmp_path / "cells.ome.zarr"
    io.write(Image((pixels,), "zyx", (1.0, 0.4, 0.4), ("micrometer",) * 3, (0.0,) * 3, name="cells"), store)
    levels = list(io.read(store).levels)
    told = {"axes": "zyx", "source": str(store)}
    viewer.add_image(levels, name="cells", metadata={"segsuite": told}, scale=(1, 0.4, 0.4), units=["micrometer"] * 3, multiscale=True)
    dock.check()
    offered = [dock.target.box.itemText(k) for k in range(dock.target.box.count())]
    assert offered == ["memory only", str(tmp_path / "cells_otsu.ome.zarr"), str(store / "labels" / "otsu")]
    assert dock.target.value() is None
    dock.target.box.setCurrentIndex(2)
    dock.target.box.activated.emit(2)
    assert dock.target.value() == store / "labels" / "otsu"
    stop_in_the_middle(dock, viewer, qtbot)
    assert dock._ended is not None
    assert dock._ended.wait(10)
    other = SegmentDock(viewer)
    qtbot.addWidget(other)
    other.form.set_value(Options(model="otsu", chunk=CHUNK))
    other.check()
    assert other.target.value() == store / "labels" / "otsu"  # what was begun is chosen by itself
    assert other.panel.notice.text().startswith("Goes on where it stopped: ")
    finish(other, qtbot)
    other.child.close()
    assert len(viewer.layers) == 2
    np.testing.assert_array_equal(np.asarray(viewer.layers[-1].data[0]), np.asarray(io.read_segmentation(store).labels[...]))
