"""Folders of TotalSegmentator: parts of a task are one model, whose labels are those of the parts, painted one after the other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from napari_segsuite import load_model, load_spec, segment
from napari_segsuite.codecs.semantic import kinds
from napari_segsuite.engine.plan import Options, resolve
from napari_segsuite.engine.tiles import quantize
from napari_segsuite.errors import ModelError, OptionError
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.home import installed
from napari_segsuite.models.foreign.join import join
from napari_segsuite.models.foreign.store import add
from napari_segsuite.models.foreign.totalsegmentator import TASKS
from napari_segsuite.models.parts import Parts, parted_spec
from napari_segsuite.types import Class, Head, Image, ModelSpec, Prediction

UNET = "dynamic_network_architectures.architectures.unet"
TRAINER = "nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres"
WIDTHS = [2, 4]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def network(classes: int, seed: int) -> nn.Module:
    """A tiny network of nnU-Net with random weights, as old plans have it."""
    unet = pytest.importorskip(UNET, reason="the networks of nnU-Net (extra nnunet) are not installed")
    layers = {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "nonlin": nn.LeakyReLU}
    levels = {"n_stages": 2, "features_per_stage": WIDTHS, "kernel_sizes": [[3, 3, 3]] * 2, "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": 1}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made: nn.Module = unet.PlainConvUNet(
            1, num_classes=classes + 1, **levels, **layers, conv_bias=True, n_conv_per_stage_decoder=1, nonlin_kwargs={}, deep_supervision=True
        )
        for value in made.parameters():
            nn.init.normal_(value, std=0.3)
    last: Any = made.decoder.seg_layers[-1]  # type: ignore[union-attr]
    last.weight.data.mul_(20)
    last.bias.data[0] = 12  # about as much background as classes
    return made


def written(results: Path, number: int, classes: int, weights: dict[str, Any] | None = None) -> Path:
    """A data set's folder as it lies in ``~/.totalsegmentator/nnunet/results``."""
    name = f"Dataset{number}_TotalSegmentator_part"
    planned = {
        "patch_size": [16, 16, 16],
        "spacing": [1.5, 1.5, 1.5],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": WIDTHS[0],
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "num_pool_per_axis": [1, 1, 1],
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]],
        "conv_kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    }
    # Each part was planned by the voxels of its own classes, so the parts scale pixels differently.
    numbers = {"mean": float(number - 290), "std": 50.0, "percentile_00_5": -100.0 - number % 10, "percentile_99_5": 200.0}
    plans = {
        "dataset_name": name,
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "configurations": {"3d_fullres": planned},
        "foreground_intensity_properties_per_channel": {"0": numbers},
    }
    labels = {"background": 0, **{f"organ_{number}_{k}": k for k in range(1, classes + 1)}}
    data = {"channel_names": {"0": "CT"}, "labels": labels, "licence": "Apache 2.0", "overwrite_image_reader_writer": "NibabelIOWithReorient"}
    folder = results / name / TRAINER
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(data))
    told = {"network_weights": weights or {"weight": torch.ones(1)}, "init_args": {"configuration": "3d_fullres", "plans": plans}}
    torch.save(told, folder / "fold_0" / "checkpoint_final.pth")
    return folder


def test_all_parts_are_one_model_whose_labels_are_painted_one_after_the_other(tmp_path: Path, segsuite: Callable[..., Any]) -> None:
    results = tmp_path / "results"
    for number, count in TASKS["total"].items():
        written(results, number, count, network(count, number).state_dict())
    written(results, 297, 2)  # the fast model, which is no part
    done = segsuite("models", "add", str(results))
    assert done.out.startswith("added totalsegmentator-total: semantic, zyx, classes organ_291_1, organ_291_2, "), done.err
    spec = load_spec("totalsegmentator-total")
    names = [f"organ_{number}_{k}" for number, count in TASKS["total"].items() for k in range(1, count + 1)]
    assert [(c.id, c.name) for c in spec.classes] == list(enumerate(names, 1))
    assert (len(spec.classes), spec.pixel_size_um, spec.licence) == (117, (1500.0,) * 3, "Apache 2.0")
    assert spec.description.startswith("5 models, one after the other. It sees x grow towards the right")
    shutil.rmtree(results)
    pixels = np.random.default_rng(1).normal(50, 60, (30, 22, 18)).astype(np.float32)
    found = np.asarray(segment(pixels, model="totalsegmentator-total", axes="zyx", min_size_px=0, device="cpu").labels)
    wanted, first, claims = np.zeros_like(found), 0, np.zeros(found.shape, int)
    for k, count in enumerate(TASKS["total"].values()):
        part = str(installed()["totalsegmentator-total"] / "members" / str(k))
        own = np.asarray(segment(pixels, model=part, axes="zyx", min_size_px=0, device="cpu").labels)
        wanted = np.where(own > 0, own + first, wanted)
        first, claims = first + count, claims + (own > 0)
    assert (claims == 0).any()
    assert (claims > 1).any(), "parts must overlap for their order to matter"
    np.testing.assert_array_equal(found, wanted)
    parts = segment(pixels, model="totalsegmentator-total", axes="zyx", min_size_px=0, device="cpu", chunk=(11, 13, 9))
    np.testing.assert_array_equal(np.asarray(parts.labels), found)
    check_that_images_are_mirrored(pixels[:16, :16, :16])
    with pytest.raises(OptionError, match="is made of models itself"):
        join(["totalsegmentator-total"] * 2, "more")


def check_that_images_are_mirrored(pixels: NDArray[np.float32]) -> None:
    """Law 8: an image is the same however its samples are stored, and the model sees its right on the same side."""
    place: dict[str, Any] = {"axes": "zyx", "scale": (1.5,) * 3, "units": ("millimeter",) * 3, "translate": (0.0,) * 3}
    wish: dict[str, Any] = {"model": "totalsegmentator-total", "min_size_px": 0, "device": "cpu"}
    wanted = np.asarray(segment(pixels, axes="zyx", **wish).labels)  # which has no place, and is taken as it is
    for signs in ((1, -1, -1), (1, 1, 1), (-1, 1, -1)):  # of z, y, x in a world that grows to the head, the back and the left
        turned = [k for k, sign in enumerate(signs) if sign != (1, -1, -1)[k]]
        image = Image(levels=(np.flip(pixels, turned),), **place, affine=None if min(signs) > 0 else np.diag([*(1.5 * s for s in signs), 1.0]))
        plan = resolve(image, Options(**wish), load_spec("totalsegmentator-total"))
        assert plan.mirror == "".join("zyx"[k] for k in turned)
        assert any("mirrored along" in text for text in plan.notices) == bool(turned)
        found = np.flip(np.asarray(segment(image, **wish).labels), turned)
        np.testing.assert_array_equal(found, wanted, err_msg=f"{signs} {plan.zoom} {plan.mirror}")


def test_one_part_alone_has_the_names_of_its_labels(tmp_path: Path) -> None:
    written(tmp_path / "results", 293, 3, network(3, 1).state_dict())
    spec = add(str(tmp_path / "results" / "Dataset293_TotalSegmentator_part"), name="heart")
    assert [(c.id, c.name) for c in spec.classes] == [(1, "organ_293_1"), (2, "organ_293_2"), (3, "organ_293_3")]
    assert load_model("heart", device="cpu").spec == spec


def test_classes_are_numbered_as_totalsegmentator_numbers_them() -> None:
    theirs = pytest.importorskip("totalsegmentator.map_to_binary", reason="TotalSegmentator is not installed")
    kinds = {"total": ("5_parts", "ct"), "total_v3": ("5_parts_total_v3", "ct_v3")}
    for task, numbers in TASKS.items():
        parts, ids = kinds.get(task, (f"parts_{task.removeprefix('total_')}", task.removeprefix("total_")))
        names = {number: getattr(theirs, f"class_map_{parts}")[getattr(theirs, f"map_taskid_to_partname_{ids}")[number]] for number in numbers}
        assert {number: len(told) for number, told in names.items()} == dict(numbers)
        every = [told[k] for told in names.values() for k in sorted(told)]
        assert dict(enumerate(every, 1)) == theirs.class_map[task]


class Fixed:
    """A model that answers with the same maps, whatever it sees."""

    def __init__(self, maps: NDArray[np.float32]) -> None:
        classes = tuple(Class(k, f"class {k}", countable=False) for k in range(1, maps.shape[1]))
        self.spec = ModelSpec("fixed", "yx", ("grey",), (Head("semantic", maps.shape[1], "logits"),), classes, "semantic")
        self.maps = maps

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        return Prediction({"semantic": torch.from_numpy(self.maps)})


@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(0, 2**32 - 1))
def test_decoding_parts_is_painting_what_each_decodes_to(counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    # No network claims a voxel for a class whose probability rounds to 0: of at most 254 classes the best has more.
    maps = [np.moveaxis(rng.dirichlet(np.ones(n + 1), (1, 6, 7)), 3, 1).astype(np.float32).clip(0.01) for n in counts]
    for value in maps:
        value[:, 0] = rng.choice([0, 127, 128, 128.49, 128.51, 129, 255], (1, 6, 7)) / 255
    models = [Fixed(value) for value in maps]
    spec = parted_spec([m.spec for m in models], "all")
    head = spec.heads[0]
    found = Parts(spec, models).predict(np.zeros((1, 1, 6, 7), np.float32)).maps["semantic"]
    assert tuple(found.shape) == (1, 1 + sum(counts), 6, 7)
    wanted, first = np.zeros((6, 7), np.uint8), 0
    for n, value in zip(counts, maps, strict=True):
        own = kinds(quantize(head, torch.from_numpy(value))[0], 0.5)
        wanted = np.where(own > 0, own + np.uint8(first), wanted)
        first += n
    np.testing.assert_array_equal(kinds(quantize(head, found)[0], 0.5), wanted)
    assert ((np.asarray(found)[0, 1:] > 0).sum(0) <= max(counts)).all(), "one part speaks"


def test_what_are_no_parts_of_a_task_is_said(tmp_path: Path, home: Path) -> None:
    results = tmp_path / "results"
    for number in (850, 291, 293):
        written(results, number, TASKS["total"].get(number, 29))
    with pytest.raises(
        ModelError, match=r"has the data sets 291, 293, 850\. Needed: all parts of a task: of total 291, 292, .*download_weights -t total"
    ):
        add(str(results))
    with pytest.raises(ModelError, match=r"Needed: all parts of a task: of total_mr 850, 851\..*download_weights -t total_mr"):
        add(str(results), Form(weights="total_mr"))
    with pytest.raises(OptionError, match=r"Weights is 'lungs'.*total, total_v3"):
        add(str(results), Form(weights="lungs"))
    with pytest.raises(OptionError, match="the classes of TotalSegmentator are known"):
        add(str(results), Form(classes=("1:liver:stuff",)))
    wrong = written(results, 851, 20)
    with pytest.raises(ModelError, match=r"has 20 classes\. Needed: 21, as this part of the task total_mr has"):
        add(str(results))
    shutil.copytree(wrong, wrong.parent / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    with pytest.raises(ModelError, match=r"Dataset851_TotalSegmentator_part has 2 trainings \(nnUNetTrainerNoMirroring"):
        add(str(results))
    for number, count in TASKS["headneck_muscles"].items():
        written(results, number, count)
    with pytest.raises(OptionError, match=r"has all parts of total_mr, headneck_muscles\. Needed: one task.*--weights total_mr"):
        add(str(results))
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "told"), [({"pixel_size_um": (1.0, 1.0)}, "differ in pixel_size_um"), ({"channels": ("red",)}, "differ in channels")]
)
def test_parts_that_see_images_differently_are_refused(changes: dict[str, Any], told: str) -> None:
    spec = Fixed(np.zeros((1, 3, 2, 2), np.float32)).spec
    with pytest.raises(OptionError, match=told):
        parted_spec([spec, replace(spec, **changes)], "all")
    with pytest.raises(OptionError, match="answers with objects"):
        parted_spec([spec, replace(spec, classes=(Class(1, "cell"), Class(2, "bud")))], "all")
