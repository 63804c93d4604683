"""`segsuite train`: from a folder of images and labels to a model that runs, stopped and gone on with, and what it says of bad input."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from napari_segsuite import SegsuiteError, codecs, evaluate, load_model, load_spec, read_segmentation, segment, training, write
from napari_segsuite.arrays import as_image
from napari_segsuite.codecs import centers
from napari_segsuite.errors import ModelError
from napari_segsuite.flags import add_options
from napari_segsuite.models.folder import save
from napari_segsuite.models.nets import ResUNet
from napari_segsuite.synthetic import nuclei
from napari_segsuite.training import appraise, classes, design, job, losses
from napari_segsuite.training.augment import Augmentation
from napari_segsuite.training.data import held_back, read_data
from napari_segsuite.training.options import TrainOptions, check
from napari_segsuite.training.samples import Crops, Pair
from napari_segsuite.types import Class, Head, ModelSpec

Array = NDArray[Any]
TWO = ("1:tissue:stuff", "2:nucleus:thing")
FAST: dict[str, Any] = {"net": "resunet-tiny", "batch": 4, "rate": 4e-3, "crop": (48, 48)}
SHORT: dict[str, Any] = {**FAST, "steps": 6, "crop": (16, 16), "batch": 2}


def picture(kind: str, seed: int, shape: tuple[int, ...], axes: str) -> tuple[Array, Array]:
    """Nuclei; for the other two tasks half of the picture is brighter, which is tissue."""
    pixels, labels = nuclei(shape, axes, seed=seed)
    if kind == "instance":
        return pixels, labels.astype(np.uint16)
    half = np.zeros(shape, np.uint16)
    half[..., shape[-1] // 2 :] = 1
    return pixels + 150 * half, np.where(labels > 0, 2 if kind == "semantic" else labels + 1, half).astype(np.uint16)


def pairs(folder: Path, kind: str = "instance", count: int = 4, shape: tuple[int, ...] = (96, 96), axes: str = "yx") -> dict[str, Any]:
    """Write images and labels of the same names; the wishes that name them."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for k in range(count):
        for name, array in zip(("images", "labels"), picture(kind, k, shape, axes), strict=True):
            tifffile.imwrite(folder / name / f"cells{k}.tif", array, metadata={"axes": axes.upper()})
    return {"images": str(folder / "images"), "labels": str(folder / "labels")}


def flags(wishes: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in wishes.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return words


@pytest.fixture(scope="module")
def wishes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {**pairs(tmp_path_factory.mktemp("nuclei")), **FAST, "steps": 50}


@pytest.fixture(scope="module")
def trained(wishes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> training.Trained:
    return training.train(**wishes, out=tmp_path_factory.mktemp("trained") / "mine")


# What comes out -----------------------------------------------------------------------------------------------------------------------


def test_a_model_for_instances_is_learnt_in_a_minute_and_runs_at_once(
    trained: training.Trained, wishes: dict[str, Any], segsuite: Callable[..., Any], tmp_path: Path
) -> None:
    assert trained.figures["ap_0.5"] > 0.5
    assert len(trained.held_back) == 1
    [held] = trained.held_back
    told = segsuite("segment", Path(wishes["images"]) / f"{held}.tif", "--model", trained.model, "--out", tmp_path / "found.tif")
    assert (told.code, told.err) == (0, "")
    truth = read_segmentation(Path(wishes["labels"]) / f"{held}.tif").labels
    scores = evaluate(read_segmentation(tmp_path / "found.tif").labels, truth)
    assert (scores.ap[0.5], scores.ap[0.75]) == (trained.figures["ap_0.5"], trained.figures["ap_0.75"])  # the figures are the user's own
    spec = load_spec(str(trained.model))
    assert (spec.task, spec.codec, spec.channels, spec.name) == ("instance", "centers", ("grey",), "mine")
    assert spec.diameter_px == pytest.approx(20, rel=0.2)
    card = (trained.model / "card.md").read_text(encoding="utf-8")
    assert f"AP {trained.figures['ap_0.5']:.3f} at IoU 0.5" in card
    assert held in card
    assert sorted(p.name for p in trained.model.iterdir()) == ["card.md", "model.json", "training", "weights.safetensors"]
    assert not (trained.model / "training" / "checkpoint.pt").exists()


def test_a_trained_model_gives_the_same_whatever_the_chunks(trained: training.Trained) -> None:
    picture = nuclei((150, 130), "yx", seed=9)[0]
    whole = segment(picture, str(trained.model))
    assert len(whole.segments["id"]) > 10
    np.testing.assert_array_equal(segment(picture, str(trained.model), chunk=(64, 48)).labels, whole.labels)


def test_classes_are_learnt(tmp_path: Path) -> None:
    given = pairs(tmp_path, "semantic")
    found = training.train(**given, **{**FAST, "steps": 25}, task="semantic", classes=("1:tissue", "2:nucleus"), out=tmp_path / "model")
    rows = {row["name"]: row for row in found.figures["classes"]}
    assert set(rows) == {"tissue", "nucleus"}
    assert min(row["dice"] for row in rows.values()) > 0.8
    assert all(row["iou"] == pytest.approx(row["dice"] / (2 - row["dice"])) for row in rows.values())
    labels = segment(given["images"] + "/cells0.tif", str(found.model)).labels
    truth = tifffile.imread(given["labels"] + "/cells0.tif")
    assert (np.asarray(labels) == truth).mean() > 0.9


def test_stuff_and_things_are_learnt_together(tmp_path: Path) -> None:
    given = pairs(tmp_path, "panoptic")
    found = training.train(**given, **{**FAST, "steps": 40}, task="panoptic", classes=TWO, out=tmp_path / "model")
    rows = {row["name"]: row for row in found.figures["classes"]}
    assert rows["tissue"]["pq"] > 0.6
    assert rows["nucleus"]["pq"] > 0.3
    assert found.figures["mean"]["pq"] == pytest.approx(np.mean([row["pq"] for row in rows.values()]))
    assert segment(given["images"] + "/cells0.tif", str(found.model)).task == "panoptic"


def test_a_volume_is_learnt_from(tmp_path: Path) -> None:
    given = pairs(tmp_path, count=3, shape=(12, 40, 40), axes="zyx")
    found = training.train(**given, **{**FAST, "steps": 30, "crop": (8, 24, 24), "batch": 2}, out=tmp_path / "model")
    spec = load_spec(str(found.model))
    assert spec.axes == "zyx"
    assert spec.net["kwargs"]["strides"] == [[2, 2, 2], [1, 2, 2]]
    assert found.figures["n_pred"] > 0
    pixels = nuclei((14, 50, 44), "zyx", seed=8)[0]
    whole = segment(pixels, str(found.model), min_score=0, min_size_px=0)
    assert len(whole.segments["id"])
    np.testing.assert_array_equal(segment(pixels, str(found.model), min_score=0, min_size_px=0, chunk=(7, 24, 20)).labels, whole.labels)


def test_colours_pixel_sizes_and_time_points_are_taken_from_the_files(tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    (tmp_path / "l").mkdir()
    for k in range(2):
        pixels, labels = nuclei((3, 24, 24), "tyx", seed=k)
        channels = np.stack([pixels, pixels[::-1]], axis=1)
        image = as_image(channels, "tcyx")
        image = replace(image, scale=(1, 1, 0.5, 0.5), units=("second", "pixel", "micrometer", "micrometer"), channels=("DAPI", "GFP"))
        write(image, tmp_path / "i" / f"{k}.ome.zarr")
        tifffile.imwrite(tmp_path / "l" / f"{k}.tif", labels.astype(np.uint16), metadata={"axes": "TYX"}, photometric="minisblack")
    found = training.train(tmp_path / "i", tmp_path / "l", tmp_path / "model", **SHORT)
    spec = load_spec(str(found.model))
    assert spec.channels == ("DAPI", "GFP")
    assert spec.pixel_size_um == (0.5, 0.5)
    assert {name.partition(" ")[2] for name in found.held_back} == {"t=0", "t=1", "t=2"}  # one file, all of its time points
    assert {name.partition(" ")[0] for name in found.held_back} in ({"0"}, {"1"})  # known by the name of the file, whatever it says inside


def test_the_classes_of_our_own_results_are_known(tmp_path: Path) -> None:
    given = pairs(tmp_path, "panoptic", count=2, shape=(40, 40))
    told = tuple(classes.parse(TWO, "panoptic"))
    for path in sorted(Path(given["labels"]).iterdir()):
        labels = tifffile.imread(path)
        options = TrainOptions(**given, task="panoptic", classes=TWO)
        [sample] = [s for s in read_data(options).samples if s.name == path.stem]
        path.unlink()
        write(replace(sample.truth(told), labels=sample.labels), path.with_suffix(".ome.zarr"))
        assert labels.shape == sample.labels.shape
    data = read_data(TrainOptions(**given, task="panoptic"))
    assert [(c.id, c.name, c.countable) for c in data.classes] == [(1, "tissue", False), (2, "nucleus", True)]
    assert {kind for sample in data.samples for kind in sample.class_of.values()} == {1, 2}


# What is held back --------------------------------------------------------------------------------------------------------------------


def test_masks_without_numbers_are_noticed_and_split_on_request(segsuite: Callable[..., Any], tmp_path: Path) -> None:
    """The commonest mistake: a mask of 0 and 255, of which a network would learn that all nuclei of an image are one."""
    given = pairs(tmp_path)
    numbers = 0
    for path in (tmp_path / "labels").iterdir():
        mask = (tifffile.imread(path) > 0).astype(np.uint8) * 255
        numbers += int(ndimage.label(mask, np.ones((3, 3)))[1])
        tifffile.imwrite(path, mask)
    data = read_data(TrainOptions(**given))
    assert len(data.notices) == 1
    assert data.notices[0].startswith("4 of 4 objects lie in several separate pieces (one of cells")
    parted = read_data(TrainOptions(**given, split=True))
    assert not parted.notices
    assert sum(len(s.class_of) for s in parted.samples) == numbers > 4
    for sample in parted.samples:
        assert set(np.unique(sample.labels)) == {0, *sample.class_of}
    told = segsuite("train", *flags({**given, **SHORT, "split": True}), "--out", tmp_path / "mine")
    assert (told.code, "pieces" in told.out + told.err) == (0, False), told


def test_a_mask_is_one_class_and_classes_that_are_nowhere_are_told(tmp_path: Path) -> None:
    given = {**pairs(tmp_path), "task": "semantic"}
    for path in (tmp_path / "labels").iterdir():
        tifffile.imwrite(path, (tifffile.imread(path) > 0).astype(np.uint8) * 255)
    data = read_data(TrainOptions(**given))
    assert [c.name for c in data.classes] == ["class 1"]
    assert data.notices == ("the labels are masks of 0 and 255: the latter is class 1",)
    assert all(set(np.unique(s.labels)) <= {0, 1} for s in data.samples)
    path = next((tmp_path / "labels").iterdir())
    tifffile.imwrite(path, (tifffile.imread(path) > 0).astype(np.uint8) * 7)
    data = read_data(TrainOptions(**given))
    assert data.notices[-1].startswith("253 of 255 classes are nowhere in the labels (class 1, class 2, ")


def test_splitting_leaves_stuff_and_whole_objects_as_they_are(tmp_path: Path) -> None:
    given = {**pairs(tmp_path, "panoptic"), "task": "panoptic", "classes": TWO}
    whole, parted = (read_data(TrainOptions(**given, split=split)) for split in (False, True))
    assert not whole.notices
    for one, other in zip(whole.samples, parted.samples, strict=True):
        assert np.array_equal(one.labels == 1, other.labels == 1)
        assert one.class_of == other.class_of
        assert len({*zip(one.labels.ravel().tolist(), other.labels.ravel().tolist(), strict=True)}) == 1 + len(one.class_of)


def test_what_is_held_back_depends_on_names_and_seed_alone(tmp_path: Path) -> None:
    data = read_data(TrainOptions(**pairs(tmp_path, count=8, shape=(24, 24))))
    drawn = [[s.name for s in held_back(data, 0.25, seed)[1]] for seed in range(6)]
    assert all(len(names) == 2 for names in drawn)
    assert len({tuple(names) for names in drawn}) > 1
    assert [s.name for s in held_back(replace(data, files=data.files[::-1]), 0.25, 0)[1]] == drawn[0][::-1]
    train, kept = held_back(data, 0.25, 0)
    assert sorted(s.name for s in (*train, *kept)) == sorted(s.name for s in data.samples)
    assert held_back(data, 0, 0) == (data.samples, [])


def test_of_one_image_a_part_is_held_back(tmp_path: Path) -> None:
    data = read_data(TrainOptions(**pairs(tmp_path, count=1, shape=(40, 100))))
    [train], [kept] = held_back(data, 0.2, 0)
    assert (train.name, kept.name) == ("cells0 x=0:80", "cells0 x=80:100")
    np.testing.assert_array_equal(np.concatenate([train.image.data, kept.image.data], -1), data.samples[0].image.data)
    np.testing.assert_array_equal(np.concatenate([train.labels, kept.labels], -1) > 0, data.samples[0].labels > 0)


# Stopped and gone on with -------------------------------------------------------------------------------------------------------------


def test_a_stopped_run_that_goes_on_is_that_of_nobody_stopping_it(tmp_path: Path) -> None:
    given = {**pairs(tmp_path, count=2, shape=(32, 32)), **SHORT}
    training.train(**given, out=tmp_path / "a" / "model")
    out = tmp_path / "b" / "model"
    for stop in (2, 5):
        steps = job.run(TrainOptions.from_json(given), out)
        while next(steps).done < stop:
            pass
        steps.close()
        assert (out / "training" / "checkpoint.pt").is_file()
        with pytest.raises(ModelError, match="is no model"):
            load_spec(str(out))
    training.train(**given, out=out)
    for name in ("model.json", "weights.safetensors", "card.md"):
        assert (out / name).read_bytes() == (tmp_path / "a" / "model" / name).read_bytes()


def test_control_c_and_the_same_command_again(forked: Callable[..., Any], tmp_path: Path) -> None:
    given = flags({**pairs(tmp_path, count=2, shape=(32, 32)), **SHORT, "progress": "json"})
    out = tmp_path / "model"
    stopped = forked("train", *given, "--out", out, watch=out, at=24, signal=2)
    assert stopped.code == 130
    assert "the same command goes on" in stopped.err
    assert not (out / "model.json").exists()
    assert (out / "training" / "checkpoint.pt").exists()
    again = forked("train", *given, "--out", out)
    assert again.code == 0
    lines = [json.loads(line) for line in again.out.splitlines()]
    first = next(line for line in lines if line["event"] == "progress" and line["done"])
    assert first["done"] > 1  # not from the beginning
    assert lines[-1]["event"] == "done"
    assert forked("train", *given, "--out", out).out.count('"skipped"') == 1


def test_the_same_again_is_done_already_and_another_wish_is_refused(trained: training.Trained, wishes: dict[str, Any], tmp_path: Path) -> None:
    weights = (trained.model / "weights.safetensors").stat().st_mtime_ns
    again = training.train(**wishes, out=trained.model)
    assert (again.fresh, again.figures, again.held_back) == (False, trained.figures, trained.held_back)
    with pytest.raises(SegsuiteError, match=r"another training: steps was 50 and is 51.*--overwrite"):
        training.train(**{**wishes, "steps": 51}, out=trained.model)
    other = tmp_path / "labels"
    shutil.copytree(wishes["labels"], other)
    tifffile.imwrite(other / "cells1.tif", np.roll(tifffile.imread(other / "cells1.tif"), 1, 0), metadata={"axes": "YX"})
    with pytest.raises(SegsuiteError, match="cells1 changed"):
        training.train(**{**wishes, "labels": other}, out=trained.model)
    assert (trained.model / "weights.safetensors").stat().st_mtime_ns == weights
    short = training.train(**{**wishes, **SHORT}, out=tmp_path / "m")
    assert training.train(**{**wishes, **SHORT, "seed": 1}, out=tmp_path / "m", overwrite=True).fresh
    assert short.model == tmp_path / "m"


# Beginning with a model ---------------------------------------------------------------------------------------------------------------


def begun(wishes: dict[str, Any], **more: Any) -> design.Design:
    options = TrainOptions.from_json({k: v for k, v in {**wishes, "net": None, **more}.items() if v is not None})
    data = read_data(options)
    return design.design(options, data, data.samples, "model")


def test_training_can_begin_with_a_model(trained: training.Trained, wishes: dict[str, Any]) -> None:
    theirs: Any = load_model(str(trained.model), device="cpu")
    made = begun(wishes, init=str(trained.model))
    for name, value in made.net.state_dict().items():
        torch.testing.assert_close(value, theirs.net.state_dict()[name], rtol=0, atol=0)
    other = begun(wishes, init=str(trained.model), task="semantic", classes=tuple(f"{k}:c{k}" for k in range(1, 200)))
    assert "semantic of mine did not fit and begins anew" in other.notices[0]
    torch.testing.assert_close(other.net.stem.weight, theirs.net.stem.weight, rtol=0, atol=0)


def test_a_model_for_colours_takes_grey_images_too(wishes: dict[str, Any]) -> None:
    made = begun(wishes, init="nuclei")
    assert made.spec.channels == ("red", "green", "blue")
    assert made.notices == ()


# Parts --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "strides"), [(2, None), (2, [[2, 2], [1, 2]]), (3, [[1, 2, 2], [2, 2, 2]])], ids=["plane", "uneven plane", "flat volume"]
)
def test_the_reach_of_a_network_is_how_far_it_looks(dims: int, strides: Any) -> None:
    torch.manual_seed(0)
    net = ResUNet(dims, 1, {"semantic": 2}, (2, 2, 2), (1, 2, 1), strides).double().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.Conv3d)):
                module.weight.abs_()  # so that no influence is cut off by a rectifier
    size = [-(-(2 * r + 2 * m) // m) * m for r, m in zip(net.reach, net.multiple, strict=True)]
    for axis in range(dims):
        found = []
        for shift in range(net.multiple[axis]):
            at = [n // 2 for n in size]
            at[axis] += shift
            x = torch.ones(1, 1, *size, dtype=torch.float64, requires_grad=True)
            net(x)["semantic"][(0, 0, *at)].backward()
            assert x.grad is not None
            seen = np.flatnonzero(x.grad[0, 0].abs().amax([a for a in range(dims) if a != axis]).numpy())
            found += [at[axis] - seen.min(), seen.max() - at[axis]]
        assert net.reach[axis] - net.multiple[axis] <= max(found) <= net.reach[axis]


def test_context_and_tile_are_whole_strides_and_the_context_is_all_that_is_seen_in_a_plane() -> None:
    for (name, dims), size in design.WIDTHS.items():
        net = ResUNet(dims, 1, {"semantic": 2}, **size)
        context, tile = design.grid(net)
        assert all(c % m == t % m == 0 and t > 3 * c for c, t, m in zip(context, tile, net.multiple, strict=True)), name
        if dims == 2:
            assert all(c >= r for c, r in zip(context, net.reach, strict=True))


def old_losses(outputs: dict[str, Any], target: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What the two models that come with the install were trained with."""
    logits, truth = outputs["semantic"], target["semantic"].long()
    p, onehot = logits.softmax(1), F.one_hot(truth, logits.shape[1]).movedim(-1, 1).float()
    over = [0, *range(2, p.ndim)]
    dice = 1 - ((2 * (p * onehot).sum(over)[1:] + 1) / ((p + onehot).sum(over)[1:] + 1)).mean()
    heat = ((1 + 20 * target["center"]) * (outputs["center"].sigmoid() - target["center"]) ** 2).mean()
    error = F.smooth_l1_loss(outputs["offset"], target["offset"] / 8, reduction="none", beta=0.25).sum(1, keepdim=True)
    offset = (error * target["weight"]).sum() / target["weight"].sum().clamp(min=1e-6)
    return {"semantic": F.cross_entropy(logits, truth), "semantic dice": dice, "center": heat, "offset": offset}


@pytest.mark.parametrize("dims", [2, 3])
def test_losses_of_the_codec_that_the_recipes_use_are_as_they_were(dims: int) -> None:
    heads = centers.heads((Class(1, "cell"),), dims)
    labels = nuclei((8, 40, 40)[-dims:], "zyx"[-dims:], seed=2)[1]
    target = {name: torch.from_numpy(np.ascontiguousarray(v))[None] for name, v in centers.encode(labels, (Class(1, "cell"),)).items()}
    torch.manual_seed(0)
    outputs = {head.name: torch.randn(1, head.channels, *labels.shape) for head in heads}
    found, old = losses.losses(outputs, target, heads), old_losses(outputs, target)
    assert list(found) == list(old)
    assert all(torch.equal(found[name], old[name]) for name in old)
    expected = sum(w * old[name] for name, w in {"semantic": 1.0, "semantic dice": 1.0, "center": 10.0, "offset": 1.0}.items())
    assert float(losses.total(found, heads)) == pytest.approx(float(expected))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", [name for name in codecs.NAMES if name != "objects"])
def test_every_codec_can_be_learned(name: str, dims: int) -> None:
    """The right answer costs nothing, a wrong one of any head something; and what a training chooses are options of the codec."""
    codec, labels = codecs.codec(name), nuclei((8, 40, 40)[-dims:], "zyx"[-dims:], seed=2)[1]
    heads = codec.heads((Class(1, "cell"),), dims)
    target = {key: torch.from_numpy(np.ascontiguousarray(v))[None] for key, v in codec.encode(labels, (Class(1, "cell"),)).items()}
    inside = target["semantic"][:, None].float()
    right = {head.name: target[head.name] / head.unit for head in heads if head.kind in ("scalar", "vector")}
    right |= {head.name: torch.logit(target[head.name].clamp(1e-6, 1 - 1e-6)) for head in heads if head.kind == "probability"}
    right["semantic"] = 40 * torch.cat([1 - inside, inside], 1) - 20
    assert all(float(v) < 1e-4 for v in losses.losses(right, target, heads).values())
    for head in heads:
        assert float(losses.losses({**right, head.name: -right[head.name]}, target, heads)[head.name]) > 0.01, head.name
    chosen = design._codec_options(name, design.Objects(20.0, 35.0, 30.0, 9))
    spec = ModelSpec("m", "zyx"[-dims:], ("grey",), heads, (Class(1, "cell"),), name, diameter_px=20.0, codec_options=chosen)
    assert set(chosen).union(*appraise._tries(spec)) <= set(codec.DEFAULTS)


def test_every_kind_of_head_has_a_loss_in_its_own_unit() -> None:
    heads = (Head("near", 1, "scalar", 4.0), Head("way", 2, "vector", 2.0))
    truth = {"near": torch.full((1, 1, 3, 3), 8.0), "way": torch.full((1, 2, 3, 3), 6.0)}
    right = {"near": truth["near"] / 4, "way": truth["way"] / 2}
    assert all(float(v) == 0 for v in losses.losses(right, truth, heads).values())
    far = losses.losses({"near": right["near"] + 1, "way": right["way"] + 1}, truth, heads)
    assert (float(far["near"]), float(far["way"])) == (0.875, 1.75)  # 1 - beta / 2, per channel
    weight = torch.zeros(1, 1, 3, 3)
    weight[..., 0] = 1
    wrong = {**right, "way": right["way"] + torch.tensor([0.0, 0.0, 5.0])}
    assert float(losses.losses(wrong, {**truth, "weight": weight}, heads)["way"]) == 0
    assert float(losses.losses(wrong, {**truth, "way_weight": 1 - weight}, heads)["way"]) > 1


def test_a_crop_knows_the_class_of_every_object() -> None:
    pixels, labels = picture("panoptic", 3, (60, 60), "yx")
    ids = np.unique(labels)[1:]
    class_of = {int(i): 1 if i == 1 else 2 for i in ids}
    lookup = np.array([0, *(class_of.get(i, 0) for i in range(1, int(ids.max()) + 1))])
    told = classes.parse(TWO, "panoptic")
    image = np.stack([lookup[labels]]).astype(np.float32)  # the picture is its own truth

    def encode(found: Array, class_of: Any = None) -> dict[str, Array]:
        return {**centers.encode(found, told, class_of), "objects": found}

    still = Augmentation(rotate=True, exact=1.0, intensity=0, invert=0)
    data = Crops([Pair(image, labels.astype(np.int32), (), class_of=class_of)], encode, (32, 32), 20, still, 1, empty=0)
    seen = set[int]()
    for k in range(20):
        crop = data[k]
        found, expected = crop["semantic"].numpy(), np.rint(crop["image"][0].numpy())
        np.testing.assert_array_equal(found, expected)
        seen |= set(np.unique(found).tolist())
    assert seen == {0, 1, 2}
    assert pixels.shape == labels.shape


# Wishes and bad input -----------------------------------------------------------------------------------------------------------------


def test_flags_are_the_wishes() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, TrainOptions, needed=("images", "labels"))
    chosen: dict[str, Any] = {"crop": (64, 32), "steps": 7, "rate": 0.01, "held_back": 0.3, "init": "nuclei", "split": True}
    wish = TrainOptions(images="a", labels="b", task="panoptic", classes=TWO, **chosen)
    given = {k: v for k, v in wish.to_json().items() if v not in (None, [])}
    words = flags({k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})
    assert TrainOptions(**vars(parser.parse_args(words))) == wish == TrainOptions.from_json(wish.to_json())
    check(wish)


WISHES = [
    ({"net": "unet"}, "there is no network 'unet'. Needed: resunet, resunet-tiny"),
    ({"codec": "magic"}, "there is no codec 'magic'. Needed: one of semantic, centers"),
    ({"task": "objects"}, "task is 'objects'. Needed: 'semantic' or 'instance' or 'panoptic'"),
    ({"steps": 0}, "steps is 0. Needed: a whole number from 1"),
    ({"held_back": 2.0}, "held_back is 2.0. Needed: a number from 0 to 0.9"),
    ({"crop": (0, 4)}, "crop is (0, 4)"),
    ({"crop": (30, 30)}, "crop is (30, 30). Needed: multiples of"),
    ({"crop": (64, 64)}, "and image cells0 has (40, 40) voxels"),
    ({"crop": (32,)}, "crop has 1 numbers. Needed: 2, one per spatial axis"),
    ({"device": "tpu"}, "device is 'tpu'"),
    ({"images": "nowhere"}, "No file at nowhere"),
    ({"labels": ""}, "No labels are given"),
    ({"init": "nobody"}, "there is no model 'nobody'"),
    ({"init": "otsu"}, "model 'otsu' has no weights to begin with"),
    ({"init": "nuclei-3d"}, "model 'nuclei-3d' is for axes zyx, and the images have yx"),
    ({"init": "nuclei", "net": "resunet-tiny"}, "Leave --net away"),
    ({"task": "panoptic"}, "the label files do not say which classes there are"),
    ({"classes": ("1:a", "3:b")}, "the ids of the classes are 1, 3"),
    ({"classes": ("one",)}, "class 'one' cannot be read"),
    ({"task": "panoptic", "classes": ("1:a:thing", "2:b:stuff")}, "stuff comes after things"),
    ({"task": "panoptic", "classes": ("1:a:thing",)}, "at least one class of stuff and one of things"),
    ({"task": "panoptic", "classes": ("1:a:stuff", "2:b:thing", "3:c:thing")}, "there are 2 classes of things"),
    ({"task": "semantic", "classes": ("1:a",)}, "ids of classes, 0 to 1. If ids are objects, use --task instance"),
]


@pytest.mark.parametrize(("wish", "told"), WISHES, ids=[str(w) for w, _ in WISHES])
def test_a_wish_that_cannot_be_met_is_refused_before_anything_is_written(wish: dict[str, Any], told: str, tmp_path: Path) -> None:
    given = pairs(tmp_path, count=2, shape=(40, 40))
    with pytest.raises(SegsuiteError) as error:
        training.train(**{**given, "net": None, "steps": 3, **wish}, out=tmp_path / "model")
    assert told.lower() in str(error.value).lower()
    assert not list((tmp_path / "model").glob("*.*"))


def spoil_missing(folder: Path) -> None:
    (folder / "labels" / "cells1.tif").unlink()


def spoil_shape(folder: Path) -> None:
    tifffile.imwrite(folder / "labels" / "cells1.tif", np.ones((40, 39), np.uint8), metadata={"axes": "YX"})


def spoil_empty(folder: Path) -> None:
    for path in (folder / "labels").iterdir():
        tifffile.imwrite(path, np.zeros((40, 40), np.uint8), metadata={"axes": "YX"})


def spoil_channels(folder: Path) -> None:
    write(as_image(np.zeros((2, 40, 40), np.uint8), "cyx"), folder / "images" / "cells1.tif", overwrite=True)


def spoil_axes(folder: Path) -> None:
    for name in ("images", "labels"):
        tifffile.imwrite(folder / name / "cells1.tif", np.ones((20, 40, 40), np.uint8), metadata={"axes": "ZYX"})


def spoil_size(folder: Path) -> None:
    for name in ("images", "labels"):
        tifffile.imwrite(folder / name / "cells1.tif", np.ones((40, 9), np.uint8), metadata={"axes": "YX"})


def spoil_kind(folder: Path) -> None:
    tifffile.imwrite(folder / "labels" / "cells1.tif", np.full((40, 40), 0.5, np.float32), metadata={"axes": "YX"})


def spoil_file(folder: Path) -> None:
    (folder / "images" / "cells1.tif").write_bytes(b"II*\0 nothing")


FILES = [
    (spoil_missing, "here are files in only one of"),
    (spoil_shape, "have shape (40, 39), and their image"),
    (spoil_empty, "are empty. Needed: labels above 0"),
    (spoil_channels, "has 1 channels, and"),
    (spoil_axes, "has yx as its axes, and"),
    (spoil_size, "Needed: at least 16 pixels along y and x"),
    (spoil_kind, "cells1.tif"),
    (spoil_file, "is truncated"),
]


@pytest.mark.parametrize(("spoil", "told"), FILES, ids=[s.__name__ for s, _ in FILES])
def test_files_that_do_not_fit_are_named(spoil: Callable[[Path], None], told: str, segsuite: Callable[..., Any], tmp_path: Path) -> None:
    given = pairs(tmp_path, count=2, shape=(40, 40))
    spoil(tmp_path)
    answer = segsuite("train", *flags(given), "--steps", 3, "--out", tmp_path / "model")
    assert (answer.code, answer.out) == (1, "")
    assert told in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "model").exists()


def test_a_folder_with_something_else_is_left_alone(trained: training.Trained, wishes: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("all of it")
    with pytest.raises(SegsuiteError, match=r"holds thesis\.txt, and no training of ours.*--overwrite"):
        training.train(**wishes, out=tmp_path / "full")
    (tmp_path / "file").write_text("")
    with pytest.raises(SegsuiteError, match="is a file"):
        training.train(**wishes, out=tmp_path / "file")
    with pytest.raises(SegsuiteError, match="into its own folder"):
        training.train(**{**wishes, "net": None}, init=str(trained.model), out=trained.model, overwrite=True)
    training.train(**{**wishes, **SHORT}, out=tmp_path / "full", overwrite=True)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "all of it"


def test_a_run_that_diverges_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {**pairs(tmp_path, count=2, shape=(32, 32)), **SHORT, "steps": 30}

    def infinite(outputs: Any, *_: Any) -> Any:
        return {"semantic": outputs["semantic"].sum() * float("nan")}

    monkeypatch.setattr(losses, "losses", infinite)
    with pytest.raises(SegsuiteError, match=r"not finite.*--rate 0\.001 --overwrite"):
        training.train(**given, out=tmp_path / "model")
    assert not (tmp_path / "model" / "model.json").exists()


def test_nothing_looks_like_a_model_until_its_description_is_there(
    trained: training.Trained, wishes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        save(*_, **__)
        raise OSError(28, "No space left on device")

    given = {**wishes, **SHORT}
    monkeypatch.setattr(job, "appraise", broken)
    with pytest.raises((OSError, TypeError)):
        training.train(**given, out=tmp_path / "m")
    assert not (tmp_path / "m" / "model.json").exists()
    monkeypatch.undo()
    assert training.train(**given, out=tmp_path / "m").fresh
    assert trained.fresh
