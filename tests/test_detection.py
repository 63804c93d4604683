"""Mask R-CNN: learns, is stored and loaded, goes on where it stopped, answers the same in any chunks; and how its masks are pasted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from napari_segsuite import load_spec, segment, training
from napari_segsuite.codecs import codec
from napari_segsuite.codecs.paste import pasted
from napari_segsuite.errors import MissingExtra, OptionError
from napari_segsuite.models import nets
from napari_segsuite.models.families import detection
from napari_segsuite.models.folder import save
from napari_segsuite.synthetic import nuclei
from napari_segsuite.training import job
from napari_segsuite.training.options import TrainOptions, check
from napari_segsuite.types import Class, ModelSpec

Array = NDArray[Any]
FAST: dict[str, Any] = {"net": "maskrcnn", "batch": 2, "crop": (64, 64), "device": "cpu"}
SIZES: dict[str, Any] = {
    "dims": 2, "in_channels": 1, "heads": {"semantic": 2}, "encoder": "resnet18", "width": 16, "layers": 1, "kinds": [2], "smallest": 8,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    try:
        import torchvision.models.detection  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"the extra detection is not installed: {error}")


def files(folder: Path, *, stuff: bool = False) -> dict[str, Any]:
    """Pictures of nuclei and their labels; if wished on brighter ground on one side, which is tissue."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for k in range(2):
        pixels, labels = nuclei((96, 96), "yx", seed=k, crowding=0.2)
        half = np.zeros_like(labels)
        half[:, 48:] = stuff
        tifffile.imwrite(folder / "images" / f"{k}.tif", pixels + 150 * half)
        tifffile.imwrite(folder / "labels" / f"{k}.tif", (np.where(labels, labels + 1, half) if stuff else labels).astype(np.uint16))
    return {"images": str(folder / "images"), "labels": str(folder / "labels")}


def test_things_and_stuff_are_learnt_and_stored(tmp_path: Path) -> None:
    wishes = {"task": "panoptic", "classes": ("1:tissue:stuff", "2:nucleus:thing")}
    made = training.train(**files(tmp_path, stuff=True), **FAST, **wishes, steps=2, out=tmp_path / "mine")
    spec = load_spec(str(made.model))
    assert (spec.codec, spec.task, [h.name for h in spec.heads]) == ("objects", "panoptic", ["semantic"])
    assert spec.context[0] >= spec.codec_options["longest"] + 32
    assert segment(nuclei((70, 80), "yx", seed=9)[0], str(made.model)).task == "panoptic"


def test_a_stored_network_answers_the_same_in_any_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was never trained, and that sees objects everywhere."""
    monkeypatch.setattr(detection, "MOST", 40)
    torch.manual_seed(0)
    net: Any = nets.build("maskrcnn", SIZES)
    with torch.no_grad():
        net.roi_heads.box_predictor.cls_score.bias[1] = 1
        net.roi_heads.mask_predictor.mask_fcn_logits.bias[1] = 1
    classes = (Class(1, "tissue", countable=False), Class(2, "nucleus"))
    about: dict[str, Any] = {"codec_options": {"longest": 12, "center": 0.3}, "net": {"name": "maskrcnn", "kwargs": SIZES}}
    heads = codec("objects").heads(classes, 2)
    grid: dict[str, Any] = {"tile": (128, 128), "multiple": (32, 32), "context": (32, 32)}
    save(ModelSpec("untrained", "yx", ("grey",), heads, classes, "objects", **grid, **about), net.state_dict(), tmp_path)
    pixels = nuclei((110, 150), "yx", seed=9, crowding=0.2)[0]
    wish: dict[str, Any] = {"model": str(tmp_path), "device": "cpu", "min_score": 0, "min_size_px": 0}
    whole = segment(pixels, **wish)
    assert len(whole.segments["id"]) > 10
    assert set(whole.segments["class_id"]) == {1, 2}
    for chunk in ((60, 150), (47, 91)):
        np.testing.assert_array_equal(segment(pixels, **wish, chunk=chunk).labels, whole.labels)


def test_a_stopped_run_that_goes_on_is_that_of_nobody_stopping_it(tmp_path: Path) -> None:
    """Although the network draws by chance which boxes it learns from."""
    given = {**files(tmp_path), **FAST, "steps": 2, "held_back": 0.0}
    training.train(**given, out=tmp_path / "a")
    steps = job.run(TrainOptions.from_json(given), tmp_path / "b")
    while next(steps).done < 1:
        pass
    steps.close()
    training.train(**given, out=tmp_path / "b")
    assert (tmp_path / "a" / "weights.safetensors").read_bytes() == (tmp_path / "b" / "weights.safetensors").read_bytes()


def test_what_is_learnt_from_are_boxes_classes_and_masks() -> None:
    net: Any = nets.build("maskrcnn", {**SIZES, "kinds": [2, 5], "heads": {}})
    objects = torch.zeros((12, 20), dtype=torch.int32)
    objects[2:6, 3:10], objects[8:12, 15:20], objects[0, 0] = 7, 3, 9  # the last is too small for a box
    kind = torch.where(objects == 7, 5, 2).to(torch.uint8) * (objects > 0)
    truth = net._truth(objects, kind)
    assert truth["boxes"].tolist() == [[15, 8, 20, 12], [3, 2, 10, 6]]
    assert truth["labels"].tolist() == [1, 2]
    assert [int(m.sum()) for m in truth["masks"]] == [20, 28]
    assert truth["masks"][1, 2:6, 3:10].all()
    nothing = net._truth(torch.zeros_like(objects), torch.zeros_like(kind))
    parts = net.train().losses(torch.rand(1, 1, 64, 64), {"objects": torch.zeros(1, 64, 64, dtype=torch.int32), "kind": torch.zeros(1, 64, 64)})
    assert (len(nothing["boxes"]), nothing["masks"].shape) == (0, (0, 12, 20))
    assert all(bool(torch.isfinite(value)) for value in parts.values())


def boxes_of(rng: np.random.Generator, count: int, shape: tuple[int, int]) -> Array:
    low = rng.uniform(-5, np.array(shape)[::-1], (count, 2))
    return np.concatenate([low, low + rng.uniform(0.3, 30, (count, 2))], 1)


def painted(found: tuple[Array, Array, Array], count: int, shape: tuple[int, int]) -> Array:
    owner, voxel, value = found
    out = np.zeros((count, *shape), np.float32)
    out[(owner, *voxel.T)] = value
    return out


def test_masks_are_pasted_as_interpolation_says() -> None:
    """Pixel by pixel, from the definition."""
    rng, shape = np.random.default_rng(0), (40, 50)
    boxes, masks = boxes_of(rng, 30, shape), rng.random((30, 7, 7)).astype(np.float32)
    found = painted(pasted(masks, boxes, shape), 30, shape)
    for mask, (x0, y0, x1, y1), got in zip(np.pad(masks, [(0, 0), (1, 1), (1, 1)]), boxes, found, strict=True):
        expected = np.zeros(shape)
        for y in range(max(int(np.floor(y0)), 0), min(int(np.ceil(y1)), shape[0])):
            for x in range(max(int(np.floor(x0)), 0), min(int(np.ceil(x1)), shape[1])):
                v, u = ((y + 0.5 - y0) / (y1 - y0) * 7 + 0.5, (x + 0.5 - x0) / (x1 - x0) * 7 + 0.5)
                v, u = np.clip([v, u], 0, 7.999999)
                i, j = int(v), int(u)
                weights = np.array([[(1 - v + i) * (1 - u + j), (1 - v + i) * (u - j)], [(v - i) * (1 - u + j), (v - i) * (u - j)]])
                expected[y, x] = (mask[i : i + 2, j : j + 2] * weights).sum()
        listed = expected >= 75.5 / 255
        near = np.abs(expected - 75.5 / 255) < 1e-4
        assert ((got > 0) == listed)[~near].all()
        np.testing.assert_allclose(got[listed & ~near], expected[listed & ~near], atol=1e-4)


def test_masks_are_pasted_nearly_as_by_torchvision() -> None:
    """Which rounds boxes to whole pixels first."""
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    rng, shape = np.random.default_rng(1), (120, 140)
    y, x = np.mgrid[:28, :28]
    masks = np.stack([np.hypot((y - 13.5) / a, (x - 13.5) / b) < 1 for a, b in rng.uniform(8, 14, (40, 2))]).astype(np.float32)
    low = rng.uniform(0, 90, (40, 2))
    boxes = np.concatenate([low, low + rng.uniform(15, 40, (40, 2))], 1)
    ours = painted(pasted(masks, boxes, shape), 40, shape) >= 0.5
    theirs = paste_masks_in_image(torch.from_numpy(masks)[:, None], torch.from_numpy(boxes).float(), shape)[:, 0].numpy() >= 0.5
    iou = (ours & theirs).sum((1, 2)) / (ours | theirs).sum((1, 2))
    assert iou.mean() > 0.9
    assert iou.min() > 0.75


@pytest.mark.parametrize(
    "change",
    [{"dims": 3}, {"encoder": "vit"}, {"kinds": []}, {"kinds": [300]}, {"heads": {"center": 1}}, {"width": 10**6}, {"layers": 999}, {"smallest": 0}],
)
def test_sizes_that_no_network_of_ours_has_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        nets.build("maskrcnn", {**SIZES, **change})


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"net": "maskrcnn", "codec": "centers"}, r"Network maskrcnn with the codec centers\. Needed: the codec objects with maskrcnn"),
        ({"codec": "objects"}, r"Network resunet-small with the codec objects\."),
        ({"net": "maskrcnn-base", "task": "semantic"}, r"finds objects, and the task is semantic\. Needed: the task instance or panoptic"),
    ],
)
def test_what_does_not_go_together_is_refused(wish: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        check(TrainOptions(images="a", labels="b", **wish))


def test_a_library_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchvision.models.detection", None)
    with pytest.raises(MissingExtra, match=r"pip install \"napari-segsuite\[detection\]\""):
        nets.build("maskrcnn", SIZES)
