"""Result folders of nnU-Net: plans are followed or refused, checkpoints are numbers only, and maps are those of the package's own network."""

from __future__ import annotations

import copy
import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from napari_segsuite import load_model, load_spec, segment
from napari_segsuite.errors import MissingExtra, ModelError
from napari_segsuite.models.foreign import nnunet
from napari_segsuite.models.foreign.fields import Fields
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.nnunet_nets import architecture, arguments
from napari_segsuite.models.foreign.pickles import checkpoint
from napari_segsuite.models.foreign.processing import apply
from napari_segsuite.models.foreign.store import add

Array = NDArray[Any]
UNET = "dynamic_network_architectures.architectures.unet"
NORM = "torch.nn.modules.instancenorm.InstanceNorm2d"
CT = {"mean": 99.5, "std": 40.25, "percentile_00_5": -20.0, "percentile_99_5": 210.0, "median": 101.0, "min": -50.0, "max": 400.0}
SOLID: dict[str, Any] = {
    "network_class_name": f"{UNET}.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [1, 1, 2],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
FLAT: dict[str, Any] = {
    "network_class_name": f"{UNET}.ResidualEncoderUNet",
    "arch_kwargs": {
        **{k: v for k, v in SOLID["arch_kwargs"].items() if k != "n_conv_per_stage"},
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "norm_op": "torch.nn.modules.batchnorm.BatchNorm2d",
        "kernel_sizes": [[3, 3]] * 3,
        "strides": [[1, 1], [2, 2], [2, 1]],
        "n_blocks_per_stage": [1, 1, 1],
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
PLANS: dict[str, Any] = {
    "dataset_name": "Dataset004_Tiny",
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [2, 0, 1],
    "transpose_backward": [1, 2, 0],
    "configurations": {
        "3d_fullres": {
            "patch_size": [16, 24, 32],
            "spacing": [3.0, 1.0, 2.0],
            "normalization_schemes": ["CTNormalization", "NoNormalization"],
            "use_mask_for_norm": [False, False],
            "architecture": SOLID,
        },
        "2d": {
            "patch_size": [32, 40],
            "spacing": [1.0, 2.0],
            "normalization_schemes": ["ZScoreNormalization"] * 2,
            "use_mask_for_norm": [False, False],
            "architecture": FLAT,
        },
        "3d_lowres": {"inherits_from": "3d_fullres", "spacing": [6.0, 2.0, 4.0]},
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    },
    "foreground_intensity_properties_per_channel": {"0": CT, "1": CT},
}
DATASET: dict[str, Any] = {
    "channel_names": {"0": "CT", "1": "noNorm"},
    "labels": {"background": 0, "organ": 1, "tumour": 2, "ignore": 3},
    "numTraining": 3,
    "file_ending": ".nii.gz",
    "licence": "CC0",
    "reference": "A. Author, 2024",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package of networks were not installed."""
    for name in ("dynamic_network_architectures", "dynamic_network_architectures.architectures", UNET):
        monkeypatch.setitem(sys.modules, name, None)


def written(
    folder: Path,
    change: Callable[[dict[str, Any], dict[str, Any]], object] | None = None,
    *,
    folds: dict[str, Any] | None = None,
    configuration: str = "3d_fullres",
    more: Any = None,
) -> Path:
    """A folder as nnU-Net's training leaves it."""
    plans, data = copy.deepcopy(PLANS), copy.deepcopy(DATASET)
    if change:
        change(plans, data)
    folder.mkdir()
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(data))
    for name, weights in (folds or {"fold_0": {"weight": torch.ones(1)}}).items():
        told = {
            "network_weights": weights,
            "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.01, "params": [0]}]},
            "grad_scaler_state": {"scale": 65536.0, "growth_factor": 2.0},
            "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)], "lrs": [0.01], "dice_per_class_or_region": [[np.float64(0.5)]]},
            "_best_ema": np.float64(0.5),
            "current_epoch": 3,
            "init_args": {"configuration": configuration, "fold": 0, "plans": plans, "dataset_json": data, "device": torch.device("cpu"), "x": more},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        (folder / name).mkdir()
        torch.save(told, folder / name / "checkpoint_final.pth")
    return folder


def network(told: dict[str, Any], seed: int) -> nn.Module:
    """A network as nnU-Net builds it, with deep supervision as in its training."""
    unet = pytest.importorskip(UNET, reason="the networks of nnU-Net (extra nnunet) are not installed")
    kwargs = dict(told["arch_kwargs"])
    for key in told["_kw_requires_import"]:
        kwargs[key] = getattr(nn, kwargs[key].rpartition(".")[2]) if kwargs[key] else None
    made = getattr(unet, told["network_class_name"].rpartition(".")[2])(input_channels=2, num_classes=3, deep_supervision=True, **kwargs)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for value in made.parameters():
            nn.init.normal_(value, std=0.3)
    last = made.decoder.seg_layers[-1]
    nn.init.zeros_(last.bias)  # no class is the most probable everywhere
    last.weight.data.mul_(10)
    made.decoder.deep_supervision = False
    return made.eval()


def test_plans_say_all_that_is_needed(tmp_path: Path, no_package: None) -> None:
    told = nnunet.read(written(tmp_path / "r"), Form())
    assert told.name == "Dataset004_Tiny"
    assert told.draft.input["axes"] == "bcxzy"
    assert (told.draft.input["least"], told.draft.input["step"]) == ([1, 2, 4, 8, 8], [1, 0, 2, 4, 4])
    assert (told.said.tile, told.said.context) == ((24, 32, 16), (6, 8, 4))
    assert told.said.pixel_size_um == (1000, 2000, 3000)
    assert told.said.classes == ("1:organ:stuff", "2:tumour:stuff")
    assert (told.draft.channels, told.draft.outputs[0]["activation"]) == (("CT", "noNorm"), "argmax")
    assert told.net["kwargs"]["conv_op"] == "Conv3d"
    x = torch.tensor([[-100.0, 0.0, 100.0, 300.0], [-100.0, 0.0, 100.0, 3e8]]).reshape(1, 2, 4, 1, 1)
    wanted = torch.stack([(x[0, 0].clip(-20, 210) - 99.5) / 40.25, x[0, 1]])[None]
    torch.testing.assert_close(apply(told.draft.input["steps"], x, "bcxzy"), wanted)
    with pytest.raises(MissingExtra, match=r'pip install "napari-segsuite\[nnunet\]"'):
        add(str(tmp_path / "r"))


def test_a_configuration_takes_over_from_another(tmp_path: Path, no_package: None) -> None:
    low = nnunet.read(written(tmp_path / "low", configuration="3d_lowres"), Form())
    assert (low.said.pixel_size_um, low.said.tile) == ((2000, 4000, 6000), (24, 32, 16))
    flat = written(tmp_path / "flat", lambda p, _: p.update(transpose_forward=[0, 2, 1], image_reader_writer="NaturalImage2DIO"), configuration="2d")
    told = nnunet.read(flat, Form())
    assert (told.draft.input["axes"], told.said.pixel_size_um, told.said.tile) == ("bcxy", (), (40, 32))
    assert told.draft.normalize == {"method": "mean_std", "eps": 0.0, "joint": False, "cut": None}


def test_scales_from_0_to_1(tmp_path: Path, no_package: None) -> None:
    def scheme(*names: str) -> Callable[[dict[str, Any], Any], object]:
        return lambda p, _: p["configurations"]["3d_fullres"].update(normalization_schemes=list(names))

    told = nnunet.read(written(tmp_path / "a", scheme("RescaleTo01Normalization", "RescaleTo01Normalization")), Form()).draft
    assert (told.normalize["method"], told.normalize["values"], told.input["steps"]) == ("percentiles", [0.0, 100.0], [])
    told = nnunet.read(written(tmp_path / "b", scheme("RGBTo01Normalization", "NoNormalization")), Form()).draft
    x = torch.tensor([255.0, 7.0]).reshape(1, 2, 1, 1, 1)
    assert apply(told.input["steps"], x, "bcxzy").ravel().tolist() == [1.0, 7.0]
    assert nnunet.read(written(tmp_path / "c", scheme("NoNormalization", "NoNormalization")), Form()).draft.input["steps"] == []


def fine(plans: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = plans["configurations"]["3d_fullres"]
    return found


def aged(plans: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Plans as versions before 2.4 wrote them: names of their own, and widths by a rule."""
    for planned in plans["configurations"].values():
        if "architecture" in planned:
            told = planned.pop("architecture")
            kwargs = told["arch_kwargs"]
            planned |= {
                "UNet_class_name": told["network_class_name"].rpartition(".")[2],
                "UNet_base_num_features": kwargs["features_per_stage"][0],
                "unet_max_num_features": kwargs["features_per_stage"][-1],
                "n_conv_per_stage_encoder": kwargs.get("n_conv_per_stage") or kwargs["n_blocks_per_stage"],
                "n_conv_per_stage_decoder": kwargs["n_conv_per_stage_decoder"],
                "num_pool_per_axis": [1, 2, 2],
                "pool_op_kernel_sizes": kwargs["strides"],
                "conv_kernel_sizes": kwargs["kernel_sizes"],
            }
    fine(plans).update(changes)
    plans["foreground_intensity_properties_by_modality"] = plans.pop("foreground_intensity_properties_per_channel")
    return plans


def built_with(**changes: Any) -> Callable[[dict[str, Any], Any], object]:
    return lambda plans, _: fine(plans)["architecture"]["arch_kwargs"].update(changes)


REFUSED: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "another network": (
        lambda p, _: fine(p)["architecture"].update(network_class_name="os.system"),
        r"plans\.json, field 'configurations\.3d_fullres\.architecture\.network_class_name': found 'os\.system'\. Needed: one of dynamic_network",
    ),
    "another layer": (built_with(norm_op="os.path.join"), r"arch_kwargs\.norm_op': found 'os\.path\.join'\. Needed: one of InstanceNorm2d"),
    "a layer of another kind": (built_with(nonlin="torch.nn.modules.conv.Conv3d"), r"arch_kwargs\.nonlin': found 'Conv3d'"),
    "an unknown argument": (built_with(pretrained="x"), r"arch_kwargs\.pretrained': found 'x'"),
    "a huge network": (built_with(features_per_stage=[10**8] * 3), r"features_per_stage': found 100000000\. Needed: at most"),
    "strides of nothing": (built_with(strides=[[1, 1, 1], [0, 2, 2], 2]), r"arch_kwargs\.strides': found"),
    "layers for planes": (built_with(conv_op="torch.nn.Conv2d"), r"Needed: layers for 3 axes"),
    "no network": (
        lambda p, _: fine(p).pop("architecture"),
        r"'configurations\.3d_fullres\.architecture': found nothing\. Needed: .* UNet_class_name as before version 2\.4",
    ),
    "another network in old plans": (
        lambda p, _: aged(p, UNet_class_name="os.system"),
        r"3d_fullres\.UNet_class_name': found 'os\.system'\. Needed: one of PlainConvUNet",
    ),
    "too few levels in old plans": (
        lambda p, _: aged(p, pool_op_kernel_sizes=[[1, 1, 1]]),
        r"3d_fullres\.pool_op_kernel_sizes': found \[\[1, 1, 1\]\]\. Needed: a list of 3",
    ),
    "a huge network in old plans": (
        lambda p, _: aged(p, UNet_base_num_features=2**30, unet_max_num_features=2**30),
        r"features_per_stage': found 1073741824\. Needed: at most",
    ),
    "some voxels": (
        lambda p, _: fine(p).update(normalization_schemes=["ZScoreNormalization"] * 2, use_mask_for_norm=[True, False]),
        r"use_mask_for_norm': found \[True, False\]",
    ),
    "mixed statistics": (
        lambda p, _: fine(p).update(normalization_schemes=["ZScoreNormalization", "CTNormalization"]),
        r"normalization_schemes': found \['ZScore.*Needed: ZScoreNormalization or RescaleTo01Normalization of all channels",
    ),
    "an unknown scheme": (lambda p, _: fine(p).update(normalization_schemes=["Mine", "Mine"]), r"normalization_schemes': found \['Mine', 'Mine'\]"),
    "too few schemes": (lambda p, _: fine(p).update(normalization_schemes=["NoNormalization"]), r"Needed: 2 names, one per channel"),
    "no numbers": (
        lambda p, _: p.pop("foreground_intensity_properties_per_channel"),
        r"'foreground_intensity_properties_per_channel': found nothing",
    ),
    "an infinite number": (
        lambda p, _: p["foreground_intensity_properties_per_channel"]["0"].update(mean=float("inf")),
        r"'foreground_intensity_properties_per_channel\.0\.mean': found inf",
    ),
    "regions": (
        lambda _, d: d.update(labels={"background": 0, "whole": [1, 2], "core": 2}),
        r"dataset\.json, field 'labels': found .* one number per label",
    ),
    "labels with a gap": (lambda _, d: d.update(labels={"background": 0, "a": 2}), r"'labels': .* Needed: the numbers 0, 1, 2"),
    "channels with a gap": (lambda _, d: d.update(channel_names={"0": "CT", "2": "x"}), r"'channel_names': .* Needed: names by number"),
    "an unknown reader": (lambda p, _: p.update(image_reader_writer="Tiff3DIO"), r"'image_reader_writer': found 'Tiff3DIO'.* with --pixel-size-um"),
    "a voxel of no size": (lambda p, _: fine(p).update(spacing=[0, 1, 1]), r"spacing': found \(0\.0, 1\.0, 1\.0\)"),
    "axes that are none": (lambda p, _: p.update(transpose_forward=[0, 1, 1]), r"'transpose_forward': found \[0, 1, 1\]"),
    "a patch of two axes": (
        lambda p, _: fine(p).update(patch_size=[16, 16]),
        r"'transpose_forward': found \[2, 0, 1\]\. Needed: an order of three axes",
    ),
    "an endless heritage": (lambda p, _: fine(p).update(inherits_from="3d_fullres"), r"takes over from itself"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_by_its_name(name: str, tmp_path: Path, home: Path, no_package: None) -> None:
    with pytest.raises(ModelError, match=REFUSED[name][1]) as caught:
        add(str(written(tmp_path / "r", REFUSED[name][0])))
    assert str(tmp_path / "r") in str(caught.value)
    assert list(home.iterdir()) == []


def test_folds_and_configurations_that_do_not_fit(tmp_path: Path, no_package: None) -> None:
    with pytest.raises(ModelError, match=r"previous_stage': found '3d_lowres'\. Needed: none: in a cascade"):
        add(str(written(tmp_path / "cascade", configuration="3d_cascade_fullres")))
    with pytest.raises(ModelError, match=r"'configurations\.3d_huge': found nothing\. Needed: one of 3d_fullres, 2d"):
        add(str(written(tmp_path / "huge", configuration="3d_huge")))
    folder = written(tmp_path / "r", folds={"fold_0": {}, "fold_1": {}, "fold_all": {}})
    with pytest.raises(ModelError, match=r"in fold_0, fold_1, fold_all\. Needed: the fold 'fold_2'"):
        add(str(folder), Form(weights="fold_2"))
    assert nnunet.read(folder, Form()).files[:2] == ("fold_0/checkpoint_final.pth", "fold_1/checkpoint_final.pth")
    assert nnunet.read(folder, Form(weights="fold_all")).files[0] == "fold_all/checkpoint_final.pth"
    other = written(tmp_path / "other", configuration="2d")
    shutil.copy(other / "fold_0" / "checkpoint_final.pth", folder / "fold_1")
    with pytest.raises(ModelError, match=r"fold_0/checkpoint_final\.pth: 3d_fullres, fold_1/checkpoint_final\.pth: 2d\. Needed: the name of one"):
        add(str(folder))
    shutil.rmtree(other / "fold_0")
    with pytest.raises(ModelError, match=r"has checkpoint_final\.pth in no folder fold_0"):
        add(str(other))


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_checkpoint_is_numbers_only(tmp_path: Path, no_package: None) -> None:
    for n, more in enumerate((Trap(tmp_path / "canary"), np.array([Trap(tmp_path / "canary")], object), np.arange(3), tmp_path)):
        with pytest.raises(ModelError, match=r"checkpoint_final\.pth cannot be read as numbers only"):
            add(str(written(tmp_path / f"r{n}", more=more)))
    folder = written(tmp_path / "r", folds={"fold_0": {"weight": "text"}})
    with pytest.raises(ModelError, match=r"checkpoint_final\.pth holds weight\. Needed: weights by their names"):
        add(str(folder))
    assert not (tmp_path / "canary").exists()


def test_a_checkpoint_of_an_older_numpy_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "r") / "fold_0" / "checkpoint_final.pth"
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    assert b"numpy._core.multiarray" in members[name]
    members[name] = members[name].replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    assert checkpoint(path)["_best_ema"] == 0.5
    assert checkpoint(path)["logging"]["mean_fg_dice"] == [0.5, 0.25]


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_old_plans_mean_the_same_network(configuration: str, tmp_path: Path, no_package: None) -> None:
    new, old = PLANS["configurations"][configuration], aged(copy.deepcopy(PLANS))["configurations"][configuration]
    told = architecture(Fields(tmp_path / "plans.json", "", old)).told
    if configuration == "2d":  # old plans had no other norm
        assert told["arch_kwargs"].pop("norm_op") == "torch.nn.InstanceNorm2d"
    wanted = {**new["architecture"]["arch_kwargs"], "conv_op": f"torch.nn.Conv{len(new['patch_size'])}d"}
    assert told["network_class_name"] == new["architecture"]["network_class_name"]
    assert told["arch_kwargs"].items() <= {**wanted, "norm_op": "torch.nn.InstanceNorm3d"}.items()
    assert len(told["arch_kwargs"]) == len(wanted) - (configuration == "2d")


@pytest.mark.filterwarnings("ignore:Detected old nnU-Net plans")
def test_old_plans_are_read_as_nnunet_reads_them(tmp_path: Path) -> None:
    plans = pytest.importorskip("nnunetv2.utilities.plans_handling.plans_handler", reason="nnU-Net is not installed")
    old = aged(copy.deepcopy(PLANS))["configurations"]
    for name in ("3d_fullres", "2d"):
        told = arguments(architecture(Fields(tmp_path / "plans.json", "", copy.deepcopy(old[name]))), 1, 2)
        theirs = {**plans.ConfigurationManager(copy.deepcopy(old[name])).configuration["architecture"], "_kw_requires_import": []}
        theirs["network_class_name"] = theirs["network_class_name"].replace("residual_unet", "unet")
        assert arguments(Fields(tmp_path / "plans.json", "", theirs), 1, 2) == told


def test_networks_of_old_plans_answer_as_the_package(tmp_path: Path) -> None:
    nets = {"3d_fullres": network(SOLID, 4), "2d": network({**FLAT, "arch_kwargs": {**FLAT["arch_kwargs"], "norm_op": NORM}}, 5)}
    for name, order in (("3d_fullres", "xzy"), ("2d", "xy")):
        change: Callable[[dict[str, Any], Any], object] = lambda p, _: aged(p)  # noqa: E731
        if name == "2d":
            change = lambda p, _: aged(p).update(transpose_forward=[0, 2, 1])  # noqa: E731
        add(str(written(tmp_path / name, change, folds={"fold_0": nets[name].state_dict()}, configuration=name)), name=name)
        pixels = np.random.default_rng(1).uniform(-100, 300, (2, *(24, 32, 16)[: len(order)])).astype(np.float32)
        ready = np.stack([(pixels[0].clip(-20, 210) - 99.5) / 40.25, pixels[1]]).astype(np.float32) if name != "2d" else pixels
        compared(name, [nets[name]], pixels, ready, order)


def compared(model: str, nets: list[nn.Module], pixels: Array, ready: Array, order: str) -> tuple[Array, Array]:
    """Labels as nnU-Net gives them, and where they are sure; maps are compared on the way."""
    axes = "zyx"[-(pixels.ndim - 1) :]
    to = [0, *(1 + axes.index(a) for a in order)]
    back = [0, *(1 + order.index(a) for a in axes)]
    with torch.inference_mode():
        x = torch.from_numpy(np.ascontiguousarray(ready.transpose(to)))[None]
        logits = (sum(net(x) for net in nets) / len(nets))[0].permute(back)  # type: ignore[union-attr]
    found = torch.as_tensor(load_model(model, device="cpu").predict(pixels[None]).maps["semantic"])[0]
    torch.testing.assert_close(found[1:], logits.softmax(0)[1:], rtol=0, atol=1e-4)
    first, second = logits.softmax(0).topk(2, 0).values
    return logits.argmax(0).numpy(), ((first - second) > 1 / 64).numpy()


def test_maps_and_labels_of_volumes_are_those_of_the_package(tmp_path: Path, segsuite: Callable[..., Any]) -> None:
    nets = [network(SOLID, seed) for seed in (1, 2)]
    folds = {f"fold_{n}": net.state_dict() for n, net in enumerate(nets)}
    inner = written(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres", folds=folds)
    (tmp_path / "zip" / "Dataset004_Tiny").mkdir(parents=True)
    shutil.move(inner, tmp_path / "zip" / "Dataset004_Tiny" / inner.name)
    done = segsuite("models", "add", shutil.make_archive(str(tmp_path / "tiny"), "zip", tmp_path / "zip"), "--name", "tiny")
    assert done.out == "added tiny: semantic, zyx, classes organ, tumour; use it with --model tiny\n", done.err
    assert (load_spec("tiny").citation, load_spec("tiny").licence) == ("A. Author, 2024", "CC0")
    pixels = np.random.default_rng(1).uniform(-100, 300, (2, 24, 32, 16)).astype(np.float32)
    pixels[1] /= 100
    ready = np.stack([(pixels[0].clip(-20, 210) - 99.5) / 40.25, pixels[1]]).astype(np.float32)
    wanted, sure = compared("tiny", nets, pixels, ready, "xzy")
    assert set(np.unique(wanted)) == {0, 1, 2}
    assert sure.mean() > 0.8
    found = segment(pixels, model="tiny", axes="czyx", channels=(0, 1), min_size_px=0)
    np.testing.assert_array_equal(np.asarray(found.labels)[sure], wanted[sure])
    large = np.tile(pixels, (1, 2, 1, 2))
    parts = [np.asarray(segment(large, model="tiny", axes="czyx", channels=(0, 1), min_size_px=0, chunk=c).labels) for c in ((), (17, 25, 13))]
    np.testing.assert_array_equal(*parts)
    add(str(tmp_path / "tiny.zip"), Form(weights="fold_1"), name="one")
    compared("one", nets[1:], pixels, ready, "xzy")
    told = json.loads((tmp_path / "models" / "one" / "model.json").read_text())
    for change, message in (
        ({"network": "Unknown"}, "Needed: one of PlainConvUNet"),
        ({"kwargs": {**told["net"]["kwargs"], "conv_op": "Linear"}}, r"field 'net\.kwargs\.conv_op': found 'Linear'"),
        ({"kwargs": {**told["net"]["kwargs"], "features_per_stage": [4, 4, 4]}}, r"tensors do not fit, such as"),
    ):
        (tmp_path / "models" / "one" / "model.json").write_text(json.dumps({**told, "net": {**told["net"], **change}}))
        with pytest.raises(ModelError, match=message):
            load_model("one", device="cpu")


def test_maps_of_planes_are_those_of_the_package(tmp_path: Path) -> None:
    net = network(FLAT, 3)
    change: Callable[[dict[str, Any], Any], object] = lambda p, _: p.update(transpose_forward=[0, 2, 1])  # noqa: E731
    add(str(written(tmp_path / "r", change, folds={"fold_0": net.state_dict()}, configuration="2d")), name="flat")
    pixels = np.random.default_rng(1).normal(50, 9, (2, 40, 32)).astype(np.float32)
    ready = (pixels - pixels.mean((1, 2), keepdims=True)) / pixels.std((1, 2), keepdims=True)
    wanted, sure = compared("flat", [net], ready, ready, "xy")
    found = segment(pixels, model="flat", axes="cyx", channels=(0, 1), min_size_px=0)
    np.testing.assert_array_equal(np.asarray(found.labels)[sure], wanted[sure])
    assert sure.mean() > 0.8
