"""A viewer without a window, and a Segment dock whose child process loads no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from napari_segsuite.viewer.segment import SegmentDock


@pytest.fixture
def viewer() -> Any:
    from napari.components import ViewerModel

    return ViewerModel()


@pytest.fixture
def dock(viewer: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[SegmentDock]:
    """With the model `otsu`; what it still does in the end is stopped."""
    from napari_segsuite.engine.plan import Options
    from napari_segsuite.viewer import child
    from napari_segsuite.viewer.segment import SegmentDock

    monkeypatch.setattr(child, "NEEDED", ("napari_segsuite.engine.chunk",))
    dock = SegmentDock(viewer)
    qtbot.addWidget(dock)
    dock.form.set_value(Options(model="otsu"))
    yield dock
    for job in dock._jobs:
        job.cancel()
        job.finished.wait(20)
    dock.child.close()
