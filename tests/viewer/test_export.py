"""The export dialog, and the writers of File > Save for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_segsuite.annotations import read_annotations

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


@pytest.mark.gui
def test_the_dialog_says_what_gets_lost_and_writes(viewer: Any, qtbot: QtBot, tmp_path: Path) -> None:
    from napari_segsuite.viewer.export import ExportDialog

    layers = [viewer.add_labels(np.repeat(np.eye(6, dtype=int)[None], n, 0)[0 if n == 1 else slice(None)], name=str(n)) for n in (1, 3)]
    dialog = ExportDialog(layers, layers[0])
    qtbot.addWidget(dialog)
    assert not dialog.write.isEnabled()
    assert dialog.lost.text() == "Nothing gets lost."
    dialog.format.setCurrentIndex(dialog.format.findData("labelme"))
    assert "holes" in dialog.lost.text()
    dialog.target.setText(str(tmp_path / "a.json"))
    dialog.format.setCurrentIndex(dialog.format.findData("geojson"))
    assert dialog.target.text().endswith("a.geojson")
    dialog.export()
    (item,) = read_annotations(tmp_path / "a.geojson")
    assert np.array_equal(item.segmentation.labels, layers[0].data)
    dialog.export()
    assert "exists already" in dialog.complaint.text()
    dialog.layers.setCurrentIndex(1)
    dialog.format.setCurrentIndex(dialog.format.findData("coco"))
    dialog.export()
    assert "is about pictures" in dialog.complaint.text()


@pytest.mark.parametrize("suffix", [".geojson", ".json", ".zip", ".ply", ".stl", ".glb"])
def test_napari_saves_labels_for_other_programs(viewer: Any, npe2pm: Any, tmp_path: Path, suffix: str) -> None:
    from npe2 import PluginManifest

    import napari_segsuite

    npe2pm.register(PluginManifest.from_file(Path(napari_segsuite.__file__).with_name("napari.yaml")))
    shape = (4, 5, 6) if suffix in (".ply", ".stl", ".glb") else (5, 6)
    labels = np.zeros(shape, int)
    labels[..., 1:3, 2:4] = 3
    layer = viewer.add_labels(labels, name="cells")
    assert layer.save(str(tmp_path / f"a{suffix}"), plugin="napari-segsuite") == [str(tmp_path / f"a{suffix}")]
    if len(shape) == 2:
        (item,) = read_annotations(tmp_path / f"a{suffix}")
        assert np.array_equal(item.segmentation.labels, labels)
