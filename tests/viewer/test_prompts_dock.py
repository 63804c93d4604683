"""The Prompts dock in a real window: clicks and boxes become outlines, outlines become objects with rows, and nothing is lost."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.layers import Labels
from pytestqt.qtbot import QtBot

from napari_segsuite.io import read_segmentation
from napari_segsuite.models.foreign import sam
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.store import add
from napari_segsuite.viewer import child as child_module
from napari_segsuite.viewer.prompts_dock import PromptsDock

SPOTS = {(30, 40): 10, (30, 80): 12, (75, 60): 14}


def cells(shape: tuple[int, int] = (110, 130)) -> Any:
    """Bright discs on a dark ground."""
    y, x = np.indices(shape)
    inside = np.logical_or.reduce([(y - a) ** 2 + (x - b) ** 2 <= r**2 for (a, b), r in SPOTS.items()])
    return (30 + 90 * inside + np.random.default_rng(0).normal(0, 3, shape)).astype(np.uint8)


@pytest.fixture
def make_dock(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[Any], PromptsDock]]:
    """Docks whose child loads nothing ahead; no models are added."""
    monkeypatch.setattr(child_module, "NEEDED", ())
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    made: list[PromptsDock] = []

    def make(viewer: Any) -> PromptsDock:
        made.append(PromptsDock(viewer))
        qtbot.addWidget(made[-1])
        return made[-1]

    yield make
    for dock in made:
        for job in dock._jobs:
            job.cancel()
            job.finished.wait(20)
        dock.child.close()


@pytest.fixture
def dock(viewer: Any, make_dock: Callable[[Any], PromptsDock]) -> PromptsDock:
    return make_dock(viewer)


def click(dock: PromptsDock, *place: float) -> None:
    dock.clicks.points.add([place])
    dock.ask()


def test_a_click_becomes_an_object_with_a_row_and_undo_takes_it_out(
    make_napari_viewer: Callable[[], Any], make_dock: Callable[[Any], PromptsDock], tmp_path: Path
) -> None:
    before, viewer = set(sys.modules), make_napari_viewer()
    dock = make_dock(viewer)
    viewer.window.add_dock_widget(dock, name="Prompts")
    layer = viewer.add_image(cells(), name="cells", scale=(0.5, 0.25), translate=(3, 4), units=("um", "um"), rotate=20)
    dock.use("object")
    assert dock.clicks.points.canvas_size_limits[0] == 0, "or napari draws a dot in the corner where nobody has clicked"
    assert not dock.panel.accept.isEnabled()
    for k, place in enumerate(SPOTS):
        click(dock, *place)
        outline = dock.clicks.outline
        assert outline.visible
        inside = np.argwhere(outline.data).mean(0)
        np.testing.assert_allclose(outline.data_to_world(inside), layer.data_to_world(place), atol=0.6)
        if k == 0:
            dock.panel.accept.click()
        else:
            keys = dict.fromkeys(map(str, dock.clicks.points.keymap))
            assert {"Enter", "Escape", "T", "N"} <= set(keys)
            next(f for key, f in dock.clicks.points.keymap.items() if str(key) == "Enter")(dock.clicks.points)
    labels = viewer.layers["cells objects"]
    assert (labels.scale.tolist(), labels.translate.tolist(), labels.units) == ([0.5, 0.25], [3, 4], layer.units)
    assert np.allclose(labels.data_to_world((9, 9)), layer.data_to_world((9, 9)))
    assert labels.features["index"].tolist() == [0, 1, 2, 3]
    for k, ((y, x), radius) in enumerate(SPOTS.items(), 1):
        assert labels.data[y, x] == k
        assert labels.features["size"][k] == (labels.data == k).sum() == pytest.approx(np.pi * radius**2, rel=0.15)
        assert labels.features["centroid_x"][k] == pytest.approx(x, abs=1)
    assert labels.metadata["segsuite"]["provenance"]["prompts"]["2"]["points"] == [[30.0, 80.0]]
    assert viewer.layers.selection.active is dock.clicks.points
    assert len(dock.clicks.points.data) == 0
    viewer.layers.selection = {labels}
    viewer.layers.save(str(tmp_path / "out.tif"), selected=True, plugin="napari-segsuite")
    assert read_segmentation(tmp_path / "out.tif").segments["id"].tolist() == [1, 2, 3]
    dock.panel.undo.click()
    assert labels.data.max() == 2
    assert labels.features["size"].tolist() == [0, *((labels.data == k).sum() for k in (1, 2))], "no row of zeros is left"
    assert "3" not in labels.metadata["segsuite"]["provenance"]["prompts"]
    dock.undo()
    dock.undo()
    assert not labels.data.any()
    assert not labels.features["size"].any()
    assert len(labels.features) <= 1
    assert not dock.panel.undo.isEnabled()
    assert "torch" not in set(sys.modules) - before


def test_an_object_of_a_large_image_is_accepted_faster_than_napari_adds_a_layer_of_its_size(viewer: Any, dock: PromptsDock) -> None:
    pixels = np.zeros((6144, 6144), np.uint8)
    pixels[3000:3110, 3000:3130] = cells()
    viewer.add_image(pixels, name="large", contrast_limits=(0, 255))
    viewer.layers.remove(viewer.add_labels(np.zeros((9, 9), np.int32)))  # some of napari is compiled
    before = time.process_time()
    viewer.layers.remove(viewer.add_labels(np.zeros(pixels.shape, np.int32)))
    usual = time.process_time() - before
    dock.use("object")
    click(dock, 3030, 3040)
    before = time.process_time()
    dock.accept()
    took = time.process_time() - before
    assert took < 0.8 * usual
    assert viewer.layers["large objects"].data[3030, 3040] == 1


def test_background_points_and_boxes_change_the_answer(viewer: Any, dock: PromptsDock, qtbot: QtBot) -> None:
    viewer.add_image(cells())
    dock.panel.tools["background"].click()
    click(dock, 30, 60)
    assert not dock.panel.accept.isEnabled(), "nothing says yet where the object is"
    dock.swap()
    assert dock.panel.tools["object"].isChecked()
    dock.clicks.points.add([(30, 40)])
    qtbot.waitUntil(dock.panel.accept.isEnabled, timeout=20_000)
    assert dock.clicks.said().marks == (False, True)
    dock.clear()
    assert not dock.clicks.outline.visible
    dock.use("box")
    dock.clicks.shapes.add_rectangles(np.array([[59, 44], [59, 76], [91, 76], [91, 44]]))
    dock.ask()
    assert dock._answer is not None
    assert dock._answer.question.prompt.box == ((59.5, 91.5), (44.5, 76.5))
    dock.accept()
    assert viewer.layers["Image objects"].data[75, 60] == 1
    assert viewer.layers["Image objects"].data[30, 40] == 0


def test_a_layer_that_is_there_keeps_its_objects_and_columns(viewer: Any, dock: PromptsDock) -> None:
    viewer.add_image(cells(), name="cells")
    data = np.zeros((110, 130), np.uint8)
    data[20:40, 34:38] = 200
    old = viewer.add_labels(data, name="mine", features={"index": [0, 200], "score": [np.nan, 0.25], "size": [0, 80], "note": ["", "by hand"]})
    viewer.add_labels(np.zeros((5, 5), np.uint8), name="small")
    viewer.add_labels(np.zeros((110, 130), np.uint8), name="elsewhere", translate=(50, 0))
    assert [dock.panel.targets.itemText(k) for k in range(dock.panel.targets.count())] == ["new layer", "mine"]
    dock.panel.choose(old)
    dock.use("object")
    click(dock, 30, 43)
    dock.accept()
    assert (old.data == 200).sum() == 80
    assert old.data[30, 43] == 201
    assert old.features["note"].tolist()[:2] == ["", "by hand"]
    row = old.features[old.features["index"] == 201].iloc[0]
    assert (row["size"], row["score"]) == ((old.data == 201).sum(), 1.0)
    dock.undo()
    np.testing.assert_array_equal(old.data, data)
    assert old.features["index"].tolist() == [0, 200]
    dock.panel.over.setChecked(True)
    click(dock, 30, 43)
    dock.accept()
    assert (old.data == 200).sum() < 80
    assert old.features["size"][1] == (old.data == 200).sum()
    assert old.features["score"][1] == 0.25
    old.data[30, 43] = 5  # somebody paints on it
    dock.undo()
    assert (old.data == 200).sum() == 80
    assert old.data[30, 43] == 5
    old.data[0, 0] = 255
    click(dock, 75, 60)
    dock.accept()
    assert "ends at 255" in dock.panel.status.text()


def test_in_a_stack_the_shown_slice_is_meant_or_the_body(viewer: Any, dock: PromptsDock) -> None:
    volume = np.full((12, 60, 60), 20, np.float32)
    volume[3:9, 20:40, 20:40] = 90
    viewer.add_image(volume + np.random.default_rng(0).normal(0, 2, volume.shape), name="stack", scale=(2, 1, 1))
    viewer.dims.set_point(0, 2 * 5)
    assert not dock.panel.volume.isHidden()
    dock.use("object")
    click(dock, 5, 30, 30)
    dock.accept()
    labels = viewer.layers["stack objects"]
    assert np.unique(np.nonzero(labels.data)[0]).tolist() == [5]
    assert labels.data.sum() == pytest.approx(400, rel=0.15)
    click(dock, 6, 30, 30)
    assert not dock.panel.accept.isEnabled(), "that slice is not shown"
    dock.panel.volume.setChecked(True)
    dock.panel.over.setChecked(True)
    dock.ask()
    dock.accept()
    deep = np.unique(np.nonzero(labels.data == 2)[0])
    assert {4, 5, 6, 7} <= set(deep) <= set(range(2, 10))
    assert labels.features["bbox_z0"][2] == deep[0]
    dock.undo()
    assert labels.data.sum() == pytest.approx(400, rel=0.15)


def test_what_cannot_be_found_is_said(viewer: Any, dock: PromptsDock) -> None:
    said = dock.panel.status.text
    colours = viewer.add_image(np.full((90, 90, 3), 117, np.uint8), name="colours")
    grey = viewer.add_image(np.full((90, 90), 117.3, np.float32), name="grey")
    for layer in (colours, grey):
        dock.layer.set_value(layer)
        dock.use("object")
        click(dock, 30, 40)
        assert "Nothing is found there" in said()
        assert not dock.panel.accept.isEnabled()
    dock.layer.set_value(viewer.add_image(cells(), name="cells"))
    dock.use("object")
    click(dock, 30, 40)
    for place in ((-0.6, 40), (30, 129.6)):
        click(dock, *place)
        assert len(dock.clicks.points.data) == 1
        assert dock.panel.accept.isEnabled(), "what was said inside still holds"
    dock.clear()
    click(dock, 30, 400)
    assert said() == "That is outside the image."
    dock.use("box")
    dock.clicks.shapes.add_rectangles(np.array([[200, 200], [200, 250], [250, 250], [250, 200]]))
    dock.ask()
    assert (said(), len(dock.clicks.shapes.data)) == ("That is outside the image.", 0)


def test_the_same_object_twice_is_said(viewer: Any, dock: PromptsDock) -> None:
    viewer.add_image(cells(), name="cells")
    dock.use("object")
    for _ in range(2):
        click(dock, 30, 40)
        dock.accept()
    assert "belongs to other objects already" in dock.panel.status.text()
    dock.panel.over.setChecked(True)
    dock.accept()
    told = "Object 2 is in 'cells objects'. It lies where object 1 was, of which nothing is left; Undo brings it back."
    assert dock.panel.status.text() == told
    dock.undo()
    assert viewer.layers["cells objects"].data.max() == 1


def test_closing_the_dock_takes_its_layers_along_unless_something_is_said_in_them(
    make_napari_viewer: Callable[[], Any], make_dock: Callable[[Any], PromptsDock], qtbot: QtBot
) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(cells(), name="cells", scale=(0.5, 0.5))
    for points in ((), ((30, 40), (31, 41))):
        dock = make_dock(viewer)
        closed = viewer.window.add_dock_widget(dock, name="Prompts")
        dock.use("object")
        dock.use("box")
        dock.use("object")
        for place in points:
            click(dock, *place)
        closed.destroyOnClose()  # the cross in its corner
        assert [layer.name for layer in viewer.layers] == ["cells"] + ["Prompts"] * bool(points)
        viewer.layers[0].data = cells()[::-1]  # nobody listens
    left = viewer.layers["Prompts"]
    assert left.data.tolist() == [[30, 40], [31, 41]]
    assert not left.keymap
    dock = make_dock(viewer)
    dock.use("object")
    assert dock.clicks.points is left, "a new dock goes on with it"
    qtbot.waitUntil(dock.panel.accept.isEnabled, timeout=20_000)
    dock.accept()
    assert len(left.data) == 0
    assert viewer.layers["cells objects"].data.any()


def test_another_image_and_layers_that_go_are_no_surprise(viewer: Any, dock: PromptsDock) -> None:
    dock.use("object")
    assert "Open an image" in dock.panel.status.text()
    first = viewer.add_image(cells(), name="first")
    dock.use("object")
    click(dock, 30, 40)
    second = viewer.add_image(cells()[:90], name="second")
    dock.layer.set_value(second)
    assert dock.clicks.points is None
    assert sorted(layer.name for layer in viewer.layers) == ["Prompts", "first", "second"], "what was not accepted stays with its image"
    dock.layer.set_value(first)
    dock.use("object")
    assert dock.clicks.points.data.tolist() == [[30, 40]], "and is gone on with"
    dock.clear()
    dock.layer.set_value(second)
    assert [layer.name for layer in viewer.layers] == ["first", "second"]
    dock.use("object")
    click(dock, 30, 40)
    viewer.layers.remove(dock.clicks.points)
    dock.use("object")
    click(dock, 30, 40)
    dock.accept()
    target = viewer.layers["second objects"]
    viewer.layers.remove(target)
    assert not [layer for layer in viewer.layers if isinstance(layer, Labels) and layer.name.endswith("objects")]
    dock.undo()
    viewer.layers.remove(second)
    assert dock.layer.value() is first
    viewer.layers.clear()
    assert dock.layer.value() is None


def test_what_is_said_of_another_slice_is_neither_asked_nor_lost(viewer: Any, dock: PromptsDock) -> None:
    viewer.add_image(np.stack([cells(), cells()[::-1], cells()]), name="stack")
    told = dock.panel.status.text
    for z in (0, 1):
        viewer.dims.set_point(0, z)
        dock.use("object")
        click(dock, z, *((30, 40) if z == 0 else (79, 40)))
        assert "Enter accepts it" in told()
    viewer.dims.set_point(0, 2)
    dock.ask()
    assert told() == "In other slices: 2 points."
    assert not dock.panel.accept.isEnabled()
    dock.use("background")
    click(dock, 2, 3, 3)
    assert told().startswith("So far only background is said here")
    dock.clear()
    assert dock.clicks.said().points == ((0, 30, 40), (1, 79, 40)), "only what is shown is forgotten"
    viewer.dims.set_point(0, 1)
    dock.accept()
    assert told() == "Object 1 is in 'stack objects'."
    assert dock.clicks.said().points == ((0, 30, 40),)
    viewer.layers["stack objects"].name = "renamed"
    assert told() == ""
    assert dock.panel.targets.currentText() == "renamed"


def test_a_box_takes_the_place_of_one_in_its_slice_only(viewer: Any, dock: PromptsDock) -> None:
    viewer.add_image(np.stack([cells()] * 3), name="stack")
    dock.use("box")
    shapes = dock.clicks.shapes
    for z, side in ((0, 20), (1, 21), (1, 22)):
        corners = np.array([[z, 18, 28], [z, 18, 28 + side], [z, 18 + side, 28 + side], [z, 18 + side, 28]], float)
        shapes.add_rectangles(corners)
        list(dock.clicks._dragged(shapes, SimpleNamespace(type="mouse_release")))
    assert [box and box[0] for box in dock.clicks.said().boxes] == [(0, 1), (1, 2)]
    assert dock.clicks.said().boxes[1][1] == (18.5, 40.5)
    viewer.dims.set_point(0, 0)
    dock.ask()
    assert dock._answer is not None
    assert dock._answer.question.prompt.box == ((18.5, 38.5), (28.5, 48.5))


def test_what_the_canvas_or_a_layer_has_become_is_said_at_once(viewer: Any, dock: PromptsDock, qtbot: QtBot) -> None:
    layer = viewer.add_image(np.stack([cells()] * 3), name="stack")
    dock.use("object")
    viewer.dims.ndisplay = 3
    click(dock, 1, 30, 40)
    assert "Switch to 2D" in dock.panel.status.text()
    viewer.dims.ndisplay = 2
    viewer.dims.set_point(0, 1)
    qtbot.waitUntil(dock.panel.accept.isEnabled, timeout=20_000)
    assert "Enter accepts it" in dock.panel.status.text()
    layer.scale = (1, 2, 2)  # what was said goes along
    dock.use("object")
    dock.ask()
    assert dock.clicks.points.scale.tolist() == [1, 2, 2]
    dock.accept()
    target = viewer.layers["stack objects"]
    assert target.scale.tolist() == [1, 2, 2]
    click(dock, 1, 30, 80)
    target.data = np.zeros((2, 50, 60), np.uint16)
    dock.accept()
    assert dock.panel.status.text() == "Layer 'stack objects' is of another size than the image: choose another one under Objects to."
    assert len(dock.clicks.points.data) == 1


@pytest.mark.slow  # transformers is loaded three times
def test_a_sam_answers_in_the_child(viewer: Any, dock: PromptsDock, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(sam, "POINTS", 2)
    vision = transformers.SamVisionConfig(
        hidden_size=8, output_channels=16, num_hidden_layers=1, num_attention_heads=1, image_size=64, num_pos_feats=8, global_attn_indexes=[0]
    )
    decoder = transformers.SamMaskDecoderConfig(hidden_size=16, mlp_dim=8, num_attention_heads=2, iou_head_hidden_dim=8)
    prompts = transformers.SamPromptEncoderConfig(hidden_size=16, image_size=64)
    net = transformers.SamModel(transformers.SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder))
    net.mask_decoder.output_hypernetworks_mlps[1].proj_out.bias.data.fill_(1.0)
    net.save_pretrained(tmp_path / "tiny")
    (tmp_path / "tiny" / "preprocessor_config.json").write_text("{}")
    add(str(tmp_path / "tiny"), Form())
    dock._relist()
    assert [dock.panel.models.itemText(k) for k in range(dock.panel.models.count())] == ["geodesic", "tiny"]
    viewer.add_image(cells(), name="cells")
    dock.panel.models.setCurrentText("tiny")
    dock.use("object")
    click(dock, 30, 40)
    qtbot.waitUntil(lambda: dock._job is None, timeout=90_000)
    assert dock._answer is not None, dock.panel.status.text()
    first = dock._answer
    assert first.view == ((0, 64), (0, 64))
    click(dock, 32, 42)
    qtbot.waitUntil(lambda: dock._job is None and dock._answer is not first, timeout=30_000)
    assert dock._answer.question.prompt.points == ((30, 40), (32, 42))
    dock.child.kill()  # its memory of the image is gone
    click(dock, 34, 44)
    qtbot.waitUntil(lambda: dock._job is None and len(dock._answer.question.prompt.points) == 3, timeout=90_000)
    if dock._answer.candidates:
        dock.accept()
        assert viewer.layers["cells objects"].data.any()
