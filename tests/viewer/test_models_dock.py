"""The Models dock with its real process: a model is added, checked and removed, and the Segment dock knows at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import npe2
import numpy as np
import pytest
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QMessageBox

import napari_segsuite
from napari_segsuite.errors import ModelError
from napari_segsuite.models.foreign.home import installed, trusted
from napari_segsuite.types import Class, Head, ModelSpec
from napari_segsuite.viewer import child as child_module
from napari_segsuite.viewer import shelf
from napari_segsuite.viewer.cards import card_of
from napari_segsuite.viewer.models_dock import ModelsDock
from napari_segsuite.viewer.pickers import ModelPicker
from napari_segsuite.viewer.segment import SegmentDock

SAME = """
import torch
class Net(torch.nn.Module):
    def forward(self, x):
        return x.clone()
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models, and children that load nothing ahead."""
    monkeypatch.setattr(child_module, "NEEDED", ())
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def models(qtbot: QtBot, home: Path) -> Iterator[ModelsDock]:
    dock = ModelsDock(ViewerModel())
    qtbot.addWidget(dock)
    yield dock
    for job in dock._jobs:
        job.cancel()
        job.finished.wait(20)
    dock.child.close()


def blur(path: Path) -> Path:
    """A network of one layer as an ONNX file."""
    import onnx

    ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", 1, "h", "w"]) for n in ("x", "y")]
    kernel = onnx.numpy_helper.from_array(np.full((1, 1, 5, 5), 1 / 25, np.float32), "w")
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], pads=[2, 2, 2, 2])
    graph = onnx.helper.make_graph([node], "blur", ends[:1], ends[1:], [kernel])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def program(folder: Path) -> Path:
    """A package of BioImage.IO whose network is Python code that answers with what it is given."""
    import torch

    folder.mkdir()
    torch.save({}, folder / "weights.pth")
    (folder / "net.py").write_text(SAME, encoding="utf-8")
    np.save(folder / "test.npy", np.random.default_rng(0).random((1, 1, 32, 32), np.float32))
    axes: list[dict[str, Any]] = [{"type": "batch"}, {"type": "channel", "channel_names": ["a"]}]
    space = [{"type": "space", "id": a, "size": {"min": 16, "step": 4}} for a in "yx"]
    same = [{"type": "space", "id": a, "size": {"tensor_id": "x", "axis_id": a}, "halo": 4} for a in "yx"]
    test, architecture = {"test_tensor": {"source": "test.npy"}}, {"source": "net.py", "callable": "Net"}
    told = {
        "type": "model", "format_version": "0.5.4", "name": "same", "license": "CC0-1.0", "description": "says the same",
        "inputs": [{"id": "x", "axes": axes + space, **test}], "outputs": [{"id": "y", "axes": axes + same, "data": {"range": [0, 1]}, **test}],
        "weights": {"pytorch_state_dict": {"source": "weights.pth", "architecture": architecture}},
    }  # fmt: skip
    (folder / "rdf.yaml").write_text(json.dumps(told), encoding="utf-8")  # JSON is YAML
    return folder


def listed(dock: ModelsDock) -> list[str]:
    return [item.text(0) for item in dock._items()]


def idle(dock: ModelsDock, qtbot: QtBot) -> str:
    """Wait for what is being done; what the dock says then."""
    qtbot.waitUntil(lambda: dock._job is None, timeout=60_000)
    return str(dock.view.status.text())


def answer(text: str | None, seen: list[QMessageBox]) -> None:
    """Press a button of the question that comes, or Enter."""

    def press() -> None:
        box = QApplication.activeModalWidget()
        if not isinstance(box, QMessageBox):
            QTimer.singleShot(20, press)
            return
        seen.append(box)
        button = next(b for b in box.buttons() if b.text().replace("&", "") == text) if text else box.defaultButton()
        button.click()

    QTimer.singleShot(20, press)


def choices(picker: ModelPicker) -> list[str]:
    """What can be chosen."""
    return [picker.itemText(k) for k in range(picker.count()) if picker.model().item(k).isEnabled()]


def add_in_file(models: ModelsDock, segment: SegmentDock, qtbot: QtBot, file: Path) -> None:
    models.view.add.click()
    assert models.view.stack.currentIndex() == 1
    models.page.source.setText(str(file))
    models.page.add.click()
    assert not models.view.add.isEnabled()
    told = idle(models, qtbot)
    assert "does not say what it takes and gives. Needed: Axes, Normalize, Activation." in told
    assert "--" not in told
    assert models.page.form.isVisibleTo(models.page)
    for name, value in {"axes": "yx", "normalize": "percentiles:1:99.8", "activation": "none", "context": (8, 8)}.items():
        models.page.form.editor(name).set_value(value)
    models.page.add.click()
    assert idle(models, qtbot) == "Added blur. It is in the list of the Segment dock now."
    assert models.view.text.toPlainText().startswith("blur")
    assert not models.view.check.isEnabled()
    segment.model.set_value("blur")
    assert segment.model.currentText() == "blur"
    assert "blur" in choices(segment.model)


def remove_with_a_question(models: ModelsDock, segment: SegmentDock, qtbot: QtBot) -> None:
    seen: list[QMessageBox] = []
    answer(None, seen)
    models.view.remove.click()
    assert list(installed()) == ["blur"]
    answer("Remove", seen)
    models.view.remove.click()
    assert idle(models, qtbot) == "Removed blur."
    assert [box.text() for box in seen] == ["Remove blur?"] * 2
    assert "blur" not in choices(segment.model)
    assert segment.model.value() == "nuclei"
    segment.check()
    assert segment.panel.notice.text().startswith("Model 'blur' is no longer there: 'nuclei' is chosen in its place.")
    segment.model.set_value("otsu")
    segment.check()
    assert "blur" not in segment.panel.notice.text()


def add_program(models: ModelsDock, qtbot: QtBot, folder: Path) -> None:
    models.page.source.setText(str(folder))
    seen: list[QMessageBox] = []
    answer(None, seen)
    models.page.add.click()
    assert idle(models, qtbot) == "Not added: it runs code of its own."
    qtbot.waitUntil(lambda: len(seen) == 1, timeout=5000)
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("net.py", "weights.pth")}
    assert all(f"{name}\nsha256 {digest}" in seen[0].informativeText() for name, digest in digests.items())
    assert not installed()
    assert not trusted()
    answer("Trust these files", seen)
    models.page.add.click()
    qtbot.waitUntil(lambda: bool(installed()), timeout=60_000)
    assert idle(models, qtbot).startswith("Added same.")
    assert trusted() == set(digests.values())


def test_models_are_added_checked_and_removed_and_the_segment_dock_knows_at_once(models: ModelsDock, qtbot: QtBot, tmp_path: Path) -> None:
    # In one test, since every process that opens networks takes seconds to start.
    segment = SegmentDock(ViewerModel())
    qtbot.addWidget(segment)
    before = listed(models)
    add_in_file(models, segment, qtbot, blur(tmp_path / "blur.onnx"))
    assert sorted(listed(models)) == sorted([*before, "blur"])
    remove_with_a_question(models, segment, qtbot)
    assert listed(models) == before
    add_program(models, qtbot, program(tmp_path / "package"))
    models.view.check.click()
    told = idle(models, qtbot)
    assert told == "same (pytorch_state_dict): largest difference y 0; tolerance 0.0001: good."
    segment.child.close()


def test_cancel_leaves_nothing_behind(models: ModelsDock, qtbot: QtBot, tmp_path: Path, home: Path) -> None:
    models.page.source.setText(str(blur(tmp_path / "blur.onnx")))
    models.page.add.click()
    job = models._job
    assert job is not None
    qtbot.wait(300)
    models.view.cancel.click()
    assert job.finished.wait(10)
    assert models.view.status.text().startswith("Cancelled after ")
    assert models.view.add.isEnabled()
    assert not list(home.glob("*"))


def test_files_are_trusted_as_they_were_seen_and_not_by_their_names(tmp_path: Path) -> None:
    folder = program(tmp_path / "package")
    with pytest.raises(ModelError) as refused:
        shelf.add(shelf.Wish(str(folder)), tmp_path / "bytes")
    _, files = shelf.programs(refused.value)
    assert [Path(name).name for name in files] == ["weights.pth", "net.py"]
    (folder / "net.py").write_text(f"{SAME}# and something else\n", encoding="utf-8")
    with pytest.raises(ModelError) as again:
        shelf.add(shelf.Wish(str(folder), agreed=files), tmp_path / "bytes")
    assert set(shelf.programs(again.value)[1]) == {"package/net.py"}
    assert not trusted()
    assert not installed()


def test_words_of_strangers_are_shown_and_not_obeyed(qtbot: QtBot, home: Path, models: ModelsDock) -> None:
    spec = ModelSpec(
        "odd", "yx", ("grey",), (Head("semantic", 2, "logits"),), (Class(1, "<b>x</b>|y"),), "semantic",
        description="<img src='file:///etc/passwd'> ![p](//evil/p.png) **bold**", licence="[here](file:///bin/true)",
    )  # fmt: skip
    (home / "odd").mkdir(parents=True)
    (home / "odd" / "model.json").write_text("{}", encoding="utf-8")
    models.view.text.setMarkdown(card_of(spec))
    told = models.view.text.toPlainText()
    assert "<img src='file:///etc/passwd'> ![p](//evil/p.png) **bold**" in told
    assert "<b>x</b>|y" in told
    assert "[here](file:///bin/true)" in told


def test_segment_opens_in_a_tab_beside_models(make_napari_viewer: Callable[[], Any]) -> None:
    plugins = npe2.PluginManager.instance()
    if "napari-segsuite" not in plugins:  # run from a checkout that is not installed
        plugins.register(str(Path(napari_segsuite.__file__).with_name("napari.yaml")))
    viewer = make_napari_viewer()
    beside, models = viewer.window.add_plugin_dock_widget("napari-segsuite", "Models")
    models.set_value("otsu")
    models.use()
    segment = next(d for d in viewer.window._wrapped_dock_widgets.values() if isinstance(d.widget(), SegmentDock))
    assert viewer.window._qt_window.tabifiedDockWidgets(beside) == [segment]
    assert segment.widget().model.value() == "otsu"


def test_headings_cannot_be_chosen(qtbot: QtBot, models: ModelsDock) -> None:
    picker = ModelPicker(models._specs.listed())
    qtbot.addWidget(picker)
    heads = [k for k in range(picker.count()) if not picker.model().item(k).isEnabled()]
    assert [picker.itemText(k) for k in heads] == ["Objects (instance)", "Kinds of pixels (semantic)", "Others"]
    assert picker.itemText(heads[1] + 1) == "kmeans"
    picker.setCurrentIndex(heads[1] - 1)
    qtbot.keyClick(picker, Qt.Key.Key_Down)
    assert picker.value() == "kmeans"
    picker.set_value("/some/folder")
    picker.fill(models._specs.listed()[:2])
    assert picker.value() == "/some/folder"
    picker.set_value("nuclei")
    picker.fill(models._specs.listed()[1:])
    assert picker.value() == models._specs.listed()[1].name


def test_a_card_tells_what_a_user_needs(models: ModelsDock) -> None:
    models.set_value("otsu")
    told = models.view.text.toPlainText()
    assert told.startswith("otsu")
    for words in ("BSD-3-Clause", "needs no training", "2D and 3D", "Otsu 1979", "objects (object)"):
        assert words in told
    assert not models.view.remove.isEnabled()
    models.set_value("nuclei")
    told = models.view.text.toPlainText()
    assert "came with the install" in told
    assert "builtin" in told
    assert "BBBC038" in told
