"""Mask2Former out of random weights: learns all tasks, is stored and loaded, goes on where it stopped, answers the same in any chunks."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from napari_segsuite import load_model, load_spec, segment, training
from napari_segsuite.codecs import codec
from napari_segsuite.errors import MissingExtra, OptionError
from napari_segsuite.models import families, nets, queries
from napari_segsuite.models.families.transformers import ENCODERS
from napari_segsuite.models.folder import save
from napari_segsuite.models.torch_model import TorchModel
from napari_segsuite.synthetic import nuclei
from napari_segsuite.training import design, job
from napari_segsuite.training.data import read_data
from napari_segsuite.training.options import TrainOptions, check
from napari_segsuite.types import Class, ModelSpec

Array = NDArray[Any]
TINY: dict[str, Any] = {"encoder": "resnet18", "width": 32, "layers": 1, "queries": 12}
SIZES: dict[str, Any] = {"dims": 2, "in_channels": 1, "heads": {"semantic": 2}, **TINY, "kinds": [2]}
FAST: dict[str, Any] = {"net": "mask2former", "batch": 2, "crop": (64, 64), "device": "cpu"}
CLASSES = {
    "instance": (),
    "panoptic": ("1:tissue:stuff", "2:nucleus:thing"),
    "semantic": ("1:tissue", "2:nucleus"),
}


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    try:
        import_module("transformers").Mask2FormerForUniversalSegmentation  # noqa: B018
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"the extra transformers is not installed: {error}")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network, only smaller."""
    monkeypatch.setitem(families.SIZES, ("mask2former", 2), TINY)  # type: ignore[arg-type]
    monkeypatch.setitem(ENCODERS, "resnet18", {"layer_type": "basic", "hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1]})  # type: ignore[arg-type]


def files(folder: Path, task: str) -> dict[str, Any]:
    """Pictures of nuclei and their labels; but of the task of instances on brighter ground on one side, which is tissue."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for k in range(2):
        pixels, labels = nuclei((96, 96), "yx", seed=k, crowding=0.2)
        half = np.zeros_like(labels)
        half[:, 48:] = task != "instance"
        truth = labels if task == "instance" else np.where(labels, labels + 1 if task == "panoptic" else 2, half)
        tifffile.imwrite(folder / "images" / f"{k}.tif", pixels + 150 * half)
        tifffile.imwrite(folder / "labels" / f"{k}.tif", truth.astype(np.uint16))
    return {"images": str(folder / "images"), "labels": str(folder / "labels"), "task": task, "classes": CLASSES[task]}


def untrained(**change: Any) -> Any:
    torch.manual_seed(0)
    return nets.build("mask2former", {**SIZES, **change})


# The laws -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [pytest.param("instance", marks=pytest.mark.slow), "panoptic", "semantic"])
def test_every_task_is_learnt_stored_and_answered(task: str, tmp_path: Path) -> None:
    made = training.train(**files(tmp_path, task), **FAST, steps=2, out=tmp_path / "mine")
    spec = load_spec(str(made.model))
    assert (spec.codec, spec.task) == ("semantic" if task == "semantic" else "objects", task)
    assert {h.name: h.channels for h in spec.heads} == {"instance": {}, "panoptic": {"semantic": 2}, "semantic": {"semantic": 3}}[task]
    assert all(c >= spec.codec_options.get("longest", 0) + 8 and t > 2 * c for c, t in zip(spec.context, spec.tile, strict=True))
    assert segment(nuclei((70, 80), "yx", seed=9)[0], str(made.model), min_score=0).task == task


def test_an_untrained_network_answers_the_same_in_any_chunks(tmp_path: Path) -> None:
    """One that was never trained, and that sees objects and tissue everywhere."""
    net = untrained(queries=40)
    with torch.no_grad():
        net.network.class_predictor.weight *= 5
        net.network.class_predictor.bias += torch.tensor([-2.0, 3, 3, -9])
    classes = (Class(1, "tissue", countable=False), Class(2, "nucleus"))
    about: dict[str, Any] = {"codec_options": {"longest": 20, "center": 0.1}, "net": {"name": "mask2former", "kwargs": {**SIZES, "queries": 40}}}
    grid: dict[str, Any] = {"tile": (96, 96), "multiple": (32, 32), "context": (32, 32)}
    save(ModelSpec("untrained", "yx", ("grey",), codec("objects").heads(classes, 2), classes, "objects", **grid, **about), net.state_dict(), tmp_path)
    pixels = nuclei((110, 150), "yx", seed=9, crowding=0.2)[0]
    wish: dict[str, Any] = {"model": str(tmp_path), "device": "cpu", "min_score": 0, "min_size_px": 0}
    whole = segment(pixels, **wish)
    assert len(whole.segments["id"]) > 5
    assert set(whole.segments["class_id"]) == {1, 2}
    for chunk in ((60, 150), (47, 91)):
        np.testing.assert_array_equal(segment(pixels, **wish, chunk=chunk).labels, whole.labels)


def test_a_stopped_run_that_goes_on_is_that_of_nobody_stopping_it(tmp_path: Path) -> None:
    """Although the points at which masks are compared are drawn by chance."""
    given = {**files(tmp_path, "panoptic"), **FAST, "steps": 2, "held_back": 0.0}
    training.train(**given, out=tmp_path / "a")
    steps = job.run(TrainOptions.from_json(given), tmp_path / "b")
    while next(steps).done < 1:
        pass
    steps.close()
    training.train(**given, out=tmp_path / "b")
    assert (tmp_path / "a" / "weights.safetensors").read_bytes() == (tmp_path / "b" / "weights.safetensors").read_bytes()


def test_what_is_learnt_is_learnt() -> None:
    """One picture by heart: the loss falls, and what is found is what is there."""
    net = untrained(kinds=[1], heads={}, queries=8).train()
    objects = torch.zeros((1, 64, 64), dtype=torch.int32)
    objects[:, 8:28, 8:28], objects[:, 36:60, 30:58] = 1, 2
    target = {"objects": objects, "kind": (objects > 0).to(torch.uint8)}
    x = target["kind"][:, None].float()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    told = []
    for _ in range(60):
        loss = sum(net.losses(x, target).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        told.append(float(loss.detach()))
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    net(x)
    with torch.inference_mode():
        found = net.eval()(x)["objects"][0]
    assert told[-1] < told[0] / 3
    sure = [k for k in range(len(found.score)) if found.score[k] > 127]
    masks = [np.zeros((64, 64), bool) for _ in sure]
    for mask, k in zip(masks, sure, strict=True):
        mask[tuple(found.voxel[(found.owner == k) & (found.value > 127)].T)] = True
    for number in (1, 2):
        true = objects[0].numpy() == number
        assert max((mask & true).sum() / (mask | true).sum() for mask in masks) > 0.7


# Its parts ----------------------------------------------------------------------------------------------------------------------------


def test_the_loss_is_that_of_transformers() -> None:
    net = untrained().train()
    kind = torch.zeros((2, 64, 64), dtype=torch.uint8)
    kind[:, :, 32:] = 1
    objects = torch.zeros((2, 64, 64), dtype=torch.int32)
    objects[0, 5:20, 5:20], objects[1, 30:50, 20:44] = 3, 7
    kind[objects > 0] = 2
    x = torch.rand(2, 1, 64, 64)
    torch.manual_seed(1)
    parts = net.losses(x, {"objects": objects, "kind": kind})
    truth = [net._truth(*pair) for pair in zip(objects, kind, strict=True)]
    torch.manual_seed(1)
    told = net.network(x, mask_labels=[masks for masks, _ in truth], class_labels=[classes for _, classes in truth])
    assert set(parts) == {"cross_entropy", "mask", "dice"}
    torch.testing.assert_close(sum(parts.values()), told.loss)
    sum(parts.values()).backward()
    assert [name for name, value in net.named_parameters() if value.grad is None] == []  # every weight is part of what answers


def test_what_is_learnt_from_are_masks_and_classes() -> None:
    net = untrained(kinds=[2, 5])
    objects = torch.zeros((12, 20), dtype=torch.int32)
    objects[2:6, 3:10], objects[8:12, 15:20], objects[0, 0] = 7, 3, 9  # the last is too small
    kind = torch.where(objects == 7, 5, 2).to(torch.uint8) * (objects > 0)
    kind[11, :5] = 1
    masks, classes = net._truth(objects, kind)
    assert classes.tolist() == [0, 1, 2, 3]
    assert [int(m.sum()) for m in masks] == [240 - 28 - 20 - 1 - 5, 5, 20, 28]
    things, _ = untrained(heads={})._truth(torch.zeros_like(objects), torch.zeros_like(kind))
    assert things.shape == (0, 12, 20)
    semantic, classes = untrained(kinds=[], heads={"semantic": 4})._truth(torch.zeros_like(objects), torch.full_like(kind, 3))
    assert (classes.tolist(), bool(semantic.all())) == ([3], True)


@pytest.mark.parametrize("count", [0, 30])
def test_nothing_to_learn_from_and_more_than_there_are_queries(count: int) -> None:
    net = untrained(kinds=[1], heads={}).train()
    objects = torch.zeros((1, 64, 64), dtype=torch.int32)
    for k in range(count):
        y, x = divmod(k, 6)
        objects[0, 10 * y : 10 * y + 6, 10 * x : 10 * x + 6] = k + 1
    parts = net.losses(torch.rand(1, 1, 64, 64), {"objects": objects, "kind": (objects > 0).to(torch.uint8)})
    sum(parts.values()).backward()
    assert all(bool(torch.isfinite(value)) for value in parts.values())
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)


def test_its_answer_is_read_as_that_of_networks_that_others_trained() -> None:
    net = untrained().eval()
    spec = ModelSpec("a", "yx", ("grey",), codec("objects").heads(PANOPTIC, 2), PANOPTIC, "objects", tile=(64, 64), multiple=(32, 32))
    model = TorchModel(spec, net, device="cpu", precision=torch.float32)
    batch = np.random.default_rng(0).random((1, 1, 64, 64)).astype(np.float32)
    found = model.predict(batch)
    with torch.inference_mode():
        told = net.network(torch.from_numpy(batch))
        expected = queries.read({"kinds": [0, 1, 2], "stuff": 1}, [told.class_queries_logits, told.masks_queries_logits], (64, 64), (64, 64))
    torch.testing.assert_close(found.maps["semantic"], expected["semantic"], rtol=0, atol=0)
    assert np.array_equal(found.objects[0].voxel, expected["objects"][0].voxel)
    again = model.predict(batch)
    assert torch.equal(again.maps["semantic"], found.maps["semantic"])


PANOPTIC = (Class(1, "tissue", countable=False), Class(2, "nucleus"))


def test_it_goes_on_from_a_model_with_other_classes(tmp_path: Path) -> None:
    given = files(tmp_path, "panoptic")
    net = untrained(heads={}, kinds=[1])
    spec = ModelSpec("first", "yx", ("grey",), (), (Class(1, "cell"),), "objects", tile=(192, 192), multiple=(32, 32), context=(64, 64))
    about = {"name": "mask2former", "kwargs": {**SIZES, "heads": {}, "kinds": [1]}}
    save(ModelSpec(**{**vars(spec), "net": about}), net.state_dict(), tmp_path / "first", half=False)
    options = TrainOptions(**given, codec="objects", init=str(tmp_path / "first"))
    data = read_data(options)
    made: Any = design.design(options, data, data.samples, "second")
    assert (made.spec.net["kwargs"]["kinds"], made.net.told) == ([2], {"kinds": [0, 1, 2], "stuff": 1})
    assert any("did not fit and begins anew" in notice for notice in made.notices)
    first, second = load_model(str(tmp_path / "first"), device="cpu"), made.net.state_dict()
    kept = [name for name, value in first.net.state_dict().items() if second[name].shape == value.shape]  # type: ignore[attr-defined]
    assert all(torch.equal(first.net.state_dict()[name], second[name]) for name in kept)  # type: ignore[attr-defined]


# Refused ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"dims": 3}, {"encoder": "swin"}, {"kinds": [], "heads": {}}, {"kinds": [300]}, {"heads": {"center": 1}}, {"width": 10**6}, {"width": 40},
        {"layers": 99}, {"layers": True}, {"queries": 0}, {"queries": 10**6}, {"heads": {"semantic": 10**6}},
    ],
)  # fmt: skip
def test_sizes_that_no_network_of_ours_has_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        nets.build("mask2former", {**SIZES, **change})


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"codec": "centers"}, r"Network mask2former with the codec centers\. Needed: the codec objects with maskrcnn or mask2former"),
        ({"codec": "objects", "task": "semantic"}, r"with the codec objects\. Needed: the codec semantic with mask2former"),
    ],
)
def test_what_does_not_go_together_is_refused(wish: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        check(TrainOptions(images="a", labels="b", net="mask2former", **wish))


def test_a_library_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"pip install \"napari-segsuite\[transformers\]\""):
        nets.build("mask2former", SIZES)
