"""The line before Run: found out in the child process, for what is chosen now, and told against what is free."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytestqt.qtbot import QtBot

from napari_segsuite import arrays
from napari_segsuite.engine.plan import Options, resolve
from napari_segsuite.models import load_spec
from napari_segsuite.synthetic import nuclei
from napari_segsuite.viewer import forecast, stores
from napari_segsuite.viewer.appraise import Repeated, appraise, light
from napari_segsuite.viewer.forecast import words
from napari_segsuite.viewer.segment import SegmentDock

TOLD = {"seconds": 600.0, "ram_bytes": 2e9, "disk_bytes": 3e9, "vram_bytes": 0, "chunks": 40}


def test_it_fits_or_says_what_does_not() -> None:
    free = {"ram": 8e9, "disk": 9e9, "vram": 0.0}
    text, warning = words(TOLD, free)
    assert text == "About 10 min, 2.0 GB of memory (8.0 GB free), 3.0 GB on disk (9.0 GB free)."
    assert warning == ""
    assert words(TOLD, free, 0.25)[0].startswith("About 2 min for what is left, ")
    assert words(TOLD, free, 0.001)[0].startswith("A few seconds for what is left, ")
    text, warning = words({**TOLD, "ram_bytes": 9e9, "vram_bytes": 4e9}, {**free, "vram": 2e9})
    assert text.endswith("4.0 GB on the graphics card (2.0 GB free).")
    assert warning.startswith("It may not fit: about 9.0 GB of memory are needed and 8.0 GB are free. Choose a smaller chunk under Advanced")
    assert warning.endswith("about 4.0 GB on the graphics card are needed and 2.0 GB are free. Choose a smaller batch under Advanced.")


def test_a_store_is_forecast_in_the_child_and_again_when_the_chunk_changes(viewer: Any, dock: SegmentDock, qtbot: QtBot, tmp_path: Path) -> None:
    viewer.add_image(nuclei((200, 200), "yx", seed=1)[0])
    dock.check()
    assert dock.panel.cost.text() == ""  # nobody needs to know that a small picture takes a second
    loaded = set(sys.modules)
    dock.target.set_value(tmp_path / "a.ome.zarr")
    dock.check()
    assert dock.panel.cost.text() == "Estimating time and memory..."
    assert dock.panel.run.isEnabled()
    qtbot.waitUntil(lambda: " on disk (" in dock.panel.cost.text(), timeout=90_000)
    assert dock.panel.cost.text().startswith("A few seconds, ")
    assert {"torch", "napari_segsuite.engine.chunk"} & (set(sys.modules) - loaded) == set()
    dock.form.set_value(Options(model="otsu", chunk=(64, 64)))
    dock.check()
    assert dock.panel.cost.text() == "Estimating time and memory..."
    qtbot.waitUntil(lambda: " on disk (" in dock.panel.cost.text(), timeout=90_000)
    assert not list(tmp_path.iterdir())


def test_run_does_not_wait_for_it(viewer: Any, dock: SegmentDock, qtbot: QtBot, tmp_path: Path) -> None:
    viewer.add_image(nuclei((200, 200), "yx", seed=1)[0])
    dock.target.set_value(tmp_path / "a.ome.zarr")
    dock.check()
    dock.panel.run.click()
    assert dock.panel.cost.text() == ""
    qtbot.waitUntil(lambda: dock._job is None, timeout=90_000)
    assert "saved in a.ome.zarr" in dock.panel.status.text()


@pytest.mark.skipif(sys.platform == "win32", reason="the process is stopped by a signal")
def test_an_old_estimate_makes_way_for_a_run(viewer: Any, dock: SegmentDock, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer.add_image(nuclei((200, 200), "yx", seed=1)[0])
    pid = dock.child.warm().result(60)
    os.kill(pid, signal.SIGSTOP)  # as if a tile took for ever
    dock.target.set_value(tmp_path / "a.ome.zarr")
    dock.check()
    qtbot.waitUntil(lambda: dock._forecast._running is not None, timeout=10_000)
    monkeypatch.setattr(forecast, "PATIENCE_S", 0.0)
    dock.panel.run.click()
    qtbot.waitUntil(lambda: dock._job is None, timeout=90_000)
    assert "saved in a.ome.zarr" in dock.panel.status.text()
    assert dock.child.pid != pid


def test_a_large_image_is_offered_a_store(viewer: Any, dock: SegmentDock, tmp_path: Path) -> None:
    big = da.zeros((2**10, 2**9 + 1, 2**9), np.uint8, chunks=(64, 512, 512))
    layer = viewer.add_image(big, contrast_limits=(0, 1), name="cells")
    dock.check()
    assert "choose a store under Save to" in dock.panel.notice.text()
    assert dock.panel.run.isEnabled()
    layer.metadata["segsuite"] = {"source": str(tmp_path / "cells.ome.zarr"), "axes": "zyx"}
    dock.check()
    assert dock.target.value() == tmp_path / "cells_otsu.ome.zarr"
    assert dock.panel.notice.text() == ""
    dock.target.set_value(None)  # somebody has memory enough
    dock.check()
    assert dock.target.value() is None
    other = viewer.add_image(np.zeros((9, 9)))
    dock.layer.set_value(other)
    dock.layer.set_value(layer)
    dock.check()
    assert dock.target.value() == tmp_path / "cells_otsu.ome.zarr"


def test_what_is_typed_is_complained_about_before_run(viewer: Any, dock: SegmentDock, tmp_path: Path) -> None:
    viewer.add_image(np.zeros((20, 20), np.uint8))
    dock.target.box.setEditText(str(tmp_path / "a.tif"))
    dock.check()
    assert "Needed: one that ends in .ome.zarr" in dock.panel.complaint.text()
    assert not dock.panel.run.isEnabled()
    dock.target.box.setEditText("")
    dock.check()
    assert dock.panel.run.isEnabled()


def test_the_part_that_is_sent_stands_for_the_whole() -> None:
    image = arrays.as_image(nuclei((300, 500), "yx", seed=1)[0], "yx")
    plan = resolve(image, Options(model="otsu", chunk=(128, 128)), load_spec("otsu"))
    sent = light(image)
    assert sent.shape == image.shape
    whole, part = (appraise(plan, i, load_spec("otsu"), True) for i in (image, sent))
    assert {**whole, "seconds": 0} == {**part, "seconds": 0}
    assert part["chunks"] == 12
    assert stores.voxels(image) == 150_000


@given(st.data())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_part_is_repeated(data: st.DataObject) -> None:
    part = np.arange(12).reshape(3, 4)
    seen = Repeated(part, (7, 9))
    whole = np.tile(part, (3, 3))[:7, :9]
    key = tuple(data.draw(st.one_of(st.integers(0, n - 1), st.builds(slice, st.integers(0, n), st.none() | st.integers(0, n)))) for n in (7, 9))
    np.testing.assert_array_equal(seen[key], whole[key])
    np.testing.assert_array_equal(seen[key[:1]], whole[key[:1]])
