"""A try on what is in view answers as a run does there, and lies where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from numpy.typing import NDArray
from pytestqt.qtbot import QtBot

from napari_segsuite.engine.plan import Options, resolve
from napari_segsuite.engine.run import result, run
from napari_segsuite.errors import InputError
from napari_segsuite.models import load_spec
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Image
from napari_segsuite.viewer import child as child_module
from napari_segsuite.viewer import preview
from napari_segsuite.viewer.child import Child
from napari_segsuite.viewer.segment import SegmentDock
from napari_segsuite.viewer.view import in_view


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    child = Child()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child_module, "NEEDED", ())
        child.warm().result(60)
        yield child
        child.close()


def picture(shape: tuple[int, ...], axes: str) -> Image:
    pixels, _ = nuclei(shape[-len(axes.replace("c", "")) :], axes.replace("c", ""), seed=7)
    n = len(axes)
    if "c" in axes:
        pixels = np.stack([pixels[::-1], pixels])
    return Image((pixels,), axes, (0.5,) * n, ("micrometer",) * n, tuple(float(k) for k in range(n)))


def outlines(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Where neighbouring samples along x have another label."""
    return np.diff(labels.astype(np.int64), axis=-1) != 0


CASES = [
    ((400, 900), "yx", {"model": "watershed"}, {"y": (130, 290), "x": (350, 720)}),
    ((400, 500), "yx", {"model": "watershed", "diameter_px": 22.0}, {"y": (100, 260), "x": (50, 330)}),
    ((3, 200, 200), "tyx", {"model": "otsu"}, {"t": (1, 2), "y": (0, 90), "x": (80, 200)}),
    ((5, 150, 150), "zyx", {"model": "otsu", "stack": "slices"}, {"z": (3, 4), "y": (20, 90), "x": (11, 100)}),
    ((24, 96, 96), "zyx", {"model": "watershed"}, {"z": (12, 13), "y": (10, 80), "x": (20, 90)}),
    ((2, 120, 130), "cyx", {"model": "otsu", "channels": ("1",)}, {"y": (20, 110), "x": (0, 90)}),
]


@pytest.mark.parametrize(("shape", "axes", "options", "view"), CASES, ids=[f"{c[1]}-{'-'.join(map(str, c[2].values()))}" for c in CASES])
def test_a_preview_is_what_a_run_gives_there(
    child: Child, shape: tuple[int, ...], axes: str, options: dict[str, Any], view: dict[str, tuple[int, int]]
) -> None:
    image = picture(shape, axes)
    plan = resolve(image, Options(**options), spec := load_spec(options["model"]))
    part = preview.part_of(plan, spec, image, view)
    found = result(preview.segment(plan, image, part, child))
    whole = np.asarray(result(run(plan, image)).labels)
    there = whole[tuple(slice(*part.box[a]) for a in axes if a != "c")]
    assert found.labels.shape == there.shape
    assert found.labels.max() > 3
    # Objects within the box are the same; those that its edge cuts may only be missing.
    inner = np.setdiff1d(there, np.concatenate([np.unique(np.take(there, k, axis)) for axis in spatial(found.axes, plan.axes) for k in (0, -1)]))
    kept = np.isin(there, inner)
    assert len(inner) > 1
    assert np.array_equal((found.labels > 0) & kept, kept)
    assert np.array_equal(outlines(found.labels * kept), outlines(there * kept))
    assert not ((found.labels > 0) & (there == 0)).any()
    table = found.segments
    at = np.argwhere(found.labels == table["id"][2])
    for axis, low, high in zip(found.axes, at.min(0), at.max(0) + 1, strict=True):
        assert (table[f"bbox_{axis}0"][2], table[f"bbox_{axis}1"][2]) == (low, high)
    assert found.translate == tuple(k + 0.5 * part.box[a][0] for k, a in enumerate(axes) if a != "c")


def test_a_try_with_three_views_of_a_volume_is_nearly_what_a_run_gives_there(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture((40, 96, 90), "zyx")
    plan = resolve(image, Options(model="watershed", stack="orthogonal"), load_spec("watershed"))
    spec = plan.spec_of(load_spec("watershed"))
    view = {"z": (20, 21), "y": (0, 96), "x": (0, 90)}
    monkeypatch.setattr(preview, "LARGEST_SEEN", 200_000)
    part = preview.part_of(plan, spec, image, view)
    assert not part.whole
    assert part.box["z"] == (4, 37)
    found = result(preview.segment(plan, image, part, child))
    assert found.provenance["preview"] == {a: list(side) for a, side in part.box.items()}
    assert found.translate == tuple(k + 0.5 * part.box[a][0] for k, a in enumerate("zyx"))
    with child.executor() as executor:
        whole = np.asarray(result(run(plan, image, executor=executor)).labels)
    z = 20 - part.box["z"][0]
    one, other = found.labels[z] > 0, whole[20, slice(*part.box["y"]), slice(*part.box["x"])] > 0
    assert (one & other).sum() > 0.85 * (one | other).sum() > 0
    assert "Nearly as a run gives" in preview.caveat(plan, part)


def test_a_try_with_three_views_never_takes_minutes() -> None:
    image = Image((np.zeros((200, 3000, 2000), np.uint8),), "zyx", (2.0, 0.5, 0.5), ("micrometer",) * 3, (0.0,) * 3)
    plan = resolve(image, Options(model="nuclei", stack="orthogonal"), load_spec("nuclei"))
    part = preview.part_of(plan, plan.spec_of(load_spec("nuclei")), image, {"z": (90, 91), "y": (0, 3000), "x": (0, 2000)})
    assert preview._seen(plan, plan.spec_of(load_spec("nuclei")), image, part) <= preview.LARGEST_SEEN
    assert min(b - a for a, b in (part.box["y"], part.box["x"])) > 64
    assert "Only the middle of the view" in preview.caveat(plan, part)


def kind(layer: Any) -> str:
    return type(layer).__name__


def place(grid: Any, viewer: Any, k: int) -> Any:
    """Which view of napari's grid a layer is in."""
    return tuple(grid.position(k, viewer.layers if hasattr(viewer, "canvas") else len(viewer.layers)))


def spatial(axes: str, seen: str) -> list[int]:
    return [k for k, a in enumerate(axes) if a in seen]


def test_a_large_view_is_tried_in_its_middle_and_a_slab_is_as_deep_as_the_context() -> None:
    image = Image((np.zeros((60, 5000, 4000), np.uint8),), "zyx", (1.0,) * 3, ("pixel",) * 3, (0.0,) * 3)
    plan = resolve(image, Options(model="watershed"), spec := load_spec("watershed"))
    part = preview.part_of(plan, spec, image, {"z": (30, 31), "y": (0, 5000), "x": (1000, 4000)})
    assert not part.whole
    assert part.box["z"] == (14, 47)
    size = {a: b - start for a, (start, b) in part.box.items()}
    assert 0.9 * preview.LARGEST[3] < np.prod(list(size.values())) <= preview.LARGEST[3]
    assert sum(part.box["x"]) == pytest.approx(5000, abs=2)
    assert "middle of the view" in preview.caveat(plan, part)
    assert "33 slices" in preview.caveat(plan, part)


def test_what_is_in_view_is_what_napari_draws(make_napari_viewer: Callable[[], Any]) -> None:
    viewer = make_napari_viewer()
    pixels = np.zeros((3, 300, 400), np.uint8)
    layer = viewer.add_image(pixels, scale=(1, 2, 2), translate=(0, 30, 40), rotate=20)
    levels = viewer.add_image([pixels, pixels[:, ::2, ::2]], multiscale=True, scale=(1, 2, 2), translate=(0, 30, 40), rotate=20)
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
    grid = viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid
    viewer.dims.set_point(0, 2)
    for on, zoom in ((False, 2.5), (True, 2.5)):
        grid.enabled, camera.zoom = on, zoom
        viewer.window._qt_viewer.canvas.on_draw(None)
        if on:
            viewer.screenshot(flash=False)  # the grid's views get their size when it is drawn
        box = in_view(viewer, layer, "tyx")
        drawn = layer.corner_pixels[:, 1:]
        assert np.abs(np.transpose([box["y"], box["x"]]) - drawn).max() <= (2 if on else 1)  # a grid has a little space between its views
        assert box["t"] == (2, 3)
        assert in_view(viewer, levels, "tyx") == box
    assert drawn[1, 0] < 300  # it did not show all
    camera.center = (0, 1e5, 1e5)
    with pytest.raises(InputError, match="in view"):
        in_view(viewer, layer, "tyx")
    viewer.dims.ndisplay = 3
    with pytest.raises(InputError, match="does not show a slice"):
        in_view(viewer, layer, "tyx")


def test_tries_replace_each_other_or_stay_to_be_compared(child: Child, qtbot: QtBot) -> None:
    viewer = ViewerModel()
    layer: Any = viewer.add_image(nuclei((300, 400), "yx", seed=4)[0], name="cells", scale=(2, 2), translate=(30, 40), rotate=20)
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
    camera.zoom = 2.5
    dock = SegmentDock(viewer)
    qtbot.addWidget(dock)
    dock.child.close()
    dock.child = child

    def attempt(**options: Any) -> list[str]:
        dock.form.set_value(Options(**options))
        dock.check()
        dock.panel.attempt.click()
        assert not dock.panel.run.isEnabled()
        qtbot.waitUntil(lambda: dock._job is None, timeout=60_000)
        return [x.name for x in viewer.layers][1:]

    assert attempt(model="otsu") == ["cells otsu preview"]
    box, labels = in_view(viewer, layer, "yx"), viewer.layers[1]
    assert labels.data.shape == tuple(b - a for a, b in (box["y"], box["x"]))
    assert labels.data.shape < (300, 400)
    assert np.allclose(labels.data_to_world((5, 7)), layer.data_to_world((5 + box["y"][0], 7 + box["x"][0])))
    assert dock.panel.status.text().startswith("In view: ")
    viewer.dims.ndisplay = 3
    dock.panel.attempt.click()
    assert "Switch to 2D" in dock.panel.status.text()
    viewer.dims.ndisplay = 2
    assert dock.panel.status.text() == "", "it is 2D now"
    assert attempt(model="otsu", min_size_px=50) == ["cells otsu preview (min size 50)"]
    dock.panel.compare.setChecked(True)
    assert attempt(model="watershed") == ["cells otsu preview (min size 50)", "cells watershed preview"]
    assert attempt(model="watershed") == ["cells otsu preview (min size 50)", "cells watershed preview"]
    viewer.layers[-1].data[0, 0] = 99
    assert len(attempt(model="watershed")) == 3
    assert "was edited and is kept" in dock.panel.status.text()
    grid = viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid
    before = [x.name for x in viewer.layers]
    for others in ("", "points", "hidden"):
        if others:
            before.append(viewer.add_points(np.zeros((1, 2)), name=others, visible=others == "points").name)
        dock.panel.side_by_side.click()
        assert grid.enabled
        seen = [k for k, one in enumerate(viewer.layers) if one.visible]
        cells = {place(grid, viewer, k): [] for k in seen}
        for k in seen:
            cells[place(grid, viewer, k)].append(viewer.layers[k])
        lying = [[kind(x) for x in both] for both in cells.values() if kind(both[-1]) == "Labels"]
        assert lying == [["Image", "Labels"]] * (2 if others else 3), "each try lies on the image, and one that was edited if it is alone"
        assert all(x.data is layer.data for x in viewer.layers if kind(x) == "Image")
        layer.contrast_limits = (1, 2)
        assert all(x.contrast_limits == [1, 2] for x in viewer.layers if kind(x) == "Image")
        assert dock.layer.count() == 1, "copies are nothing to choose"
        assert [x.name for x in viewer.layers if x.name_overlay.visible] == [before[1], before[3]], "each view says what is tried in it"
        grid.enabled = False
        assert not dock.panel.side_by_side.isChecked()
        assert not any(x.name_overlay.visible for x in viewer.layers)
        assert [x.name for x in viewer.layers] == before
    n = len(viewer.layers)
    dock.panel.attempt.click()
    job = dock._job
    assert job is not None
    dock.panel.cancel.click()
    assert job.finished.wait(10)
    assert dock.panel.status.text().startswith("Cancelled after ")
    assert dock.panel.attempt.isEnabled()
    assert len(viewer.layers) == n
