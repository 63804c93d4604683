"""MONAI bundles: what they say is followed or refused, nothing in them is run, and maps are those of MONAI's own network."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from napari_segsuite import load_model, load_spec, segment
from napari_segsuite.errors import MissingExtra, ModelError, OptionError
from napari_segsuite.models.foreign import bundle, monai_nets
from napari_segsuite.models.foreign.described import classes_of
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.model import activated
from napari_segsuite.models.foreign.monai_config import Config
from napari_segsuite.models.foreign.monai_transforms import Prepared, prepared
from napari_segsuite.models.foreign.processing import apply
from napari_segsuite.models.foreign.store import add, remove
from napari_segsuite.types import Head

Array = NDArray[Any]
UNET = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": "@widths", "strides": [2, 2], "norm": "batch"}
INFERENCE: dict[str, Any] = {
    "imports": ["$import os"],
    "image_key": "image",
    "widths": [4, 8, 8],
    "sizes": {"fine": [[2.0, 2.0, 4.0]]},
    "device": "$torch.device('cuda:0')",
    "network_def": UNET,
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "@image_key", "reader": "$monai.data.ITKReader"},
            {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
            {"_target_": "monai.transforms.Orientationd", "keys": ["@image_key"], "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "@image_key", "pixdim": "@sizes#fine#0", "mode": "bilinear"},
            {"_target_": "ScaleIntensityRanged", "keys": "@image_key", "a_min": -50, "a_max": 150, "b_min": 0, "b_max": 1, "clip": True},
            {"_target_": "EnsureTyped", "keys": "@image_key", "_desc_": "a tensor"},
        ],
    },
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 24, 16], "sw_batch_size": 4, "overlap": 0.25},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "nearest_interp": False},
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "SaveImaged", "keys": "pred", "output_dtype": "$numpy.float32"},
        ],
    },
    "run": ["$@evaluator.run()"],
}
METADATA: dict[str, Any] = {
    "version": "0.2.1",
    "name": "Tiny organs",
    "description": "Organs in a CT",
    "data_source": "noise",
    "references": ["A. Author, 2024."],
    "network_data_format": {
        "inputs": {"image": {"num_channels": 1, "channel_def": {"0": "image"}}},
        "outputs": {"pred": {"num_channels": 3, "channel_def": {"0": "background", "1": "liver: left", "2": "spleen"}}},
    },
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def no_monai(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if MONAI were not installed."""
    for name in ("monai", "monai.networks", "monai.networks.nets"):
        monkeypatch.setitem(sys.modules, name, None)


def written(folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], object] | None = None, weights: Any = None) -> Path:
    """A bundle on disk."""
    inference, about = copy.deepcopy(INFERENCE), copy.deepcopy(METADATA)
    if change:
        change(inference, about)
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir(parents=True)
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    (folder / "configs" / "metadata.json").write_text(json.dumps(about))
    (folder / "docs" / "README.md").write_text("# Tiny organs\n")
    (folder / "LICENSE").write_text("Apache License\n")
    torch.save({"weight": torch.ones(1)} if weights is None else weights, folder / "models" / "model.pt")
    return folder


def weighted(network: nn.Module) -> nn.Module:
    """A network whose answer differs from voxel to voxel, with norms as after a training."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for module in network.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
                nn.init.uniform_(module.running_mean, -0.1, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        for value in network.parameters():
            nn.init.normal_(value, std=0.3)
    return network.eval()


# What is read ---------------------------------------------------------------------------------------------------------------------------


def test_a_bundle_says_all_that_is_needed(tmp_path: Path, no_monai: None) -> None:
    told = bundle.read(written(tmp_path / "b"), Form())
    assert told.name == "Tiny organs"
    assert told.draft.input["axes"] == "bcxyz"
    assert told.draft.input["least"] == [1, 1, 8, 8, 8]
    assert told.draft.input["step"] == [1, 0, 4, 4, 4]
    assert told.said.pixel_size_um == (4000, 2000, 2000)
    assert (told.said.tile, told.said.context) == ((16, 24, 32), (2, 3, 4))
    assert told.said.classes == ("1:liver left:stuff", "2:spleen:stuff")
    assert told.draft.outputs[0]["activation"] == "argmax"
    assert told.draft.texts["description"] == (
        "Organs in a CT. Images must lie with x towards the right, y towards the front, z towards the head; nothing turns them."
    )
    assert told.net["kwargs"]["channels"] == [4, 8, 8]
    assert set(told.files) == {"models/model.pt", "configs/metadata.json", "configs/inference.json", "LICENSE"}
    with pytest.raises(MissingExtra, match=r'A MONAI bundle needs .* pip install "napari-segsuite\[monai\]"'):
        add(str(tmp_path / "b"))


def test_yaml_says_the_same_as_json(tmp_path: Path, no_monai: None) -> None:
    import yaml

    folder = written(tmp_path / "b")
    wanted = bundle.read(folder, Form())
    (folder / "configs" / "inference.json").unlink()
    (folder / "configs" / "inference.yaml").write_text(yaml.safe_dump(INFERENCE))
    found = bundle.read(folder, Form())
    assert (found.draft, found.said, found.net) == (wanted.draft, wanted.said, wanted.net)


def test_what_the_user_says_is_not_asked_of_the_bundle(tmp_path: Path, no_monai: None) -> None:
    def strange(told: dict[str, Any], _: Any) -> None:
        told["sizes"]["fine"] = "$[1.5, 1.5, 1.5] if highres else [3, 3, 3]"
        told["preprocessing"]["transforms"][4] = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True}
        told["postprocessing"]["transforms"][0] = {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}

    folder = written(tmp_path / "b", strange)
    form = Form(normalize="mean_std", pixel_size_um=(3, 2, 1), activation="sigmoid", input_axes="bczyx")
    told = bundle.read(folder, form)
    assert told.draft.normalize["method"] == "mean_std"
    assert (told.draft.input["axes"], told.draft.outputs[0]["activation"], told.said.tile) == ("bczyx", "sigmoid", (32, 24, 16))
    with pytest.raises(OptionError, match="the letters of bczyx"):
        bundle.read(folder, Form(**{**vars(form), "input_axes": "bcyx"}))


def transforms(told: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = told["preprocessing"]["transforms"]
    return found


def answers(told: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = told["postprocessing"]["transforms"]
    return found


REFUSED: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "code for the network": (
        lambda t, _: t.update(network_def="$monai.networks.nets.UNet(3, 1, 2)"),
        r"inference\.json, field 'network_def': found '\$monai.*Needed: a mapping with _target_",
    ),
    "another library": (
        lambda t, _: t["network_def"].update(_target_="subprocess.run"),
        r"field 'network_def\._target_': found 'subprocess\.run'\. Needed: a name out of monai\.networks\.nets",
    ),
    "another package of MONAI": (lambda t, _: t["network_def"].update(_target_="monai.bundle.scripts.run"), r"a name out of monai\.networks\.nets"),
    "an unknown network": (
        lambda t, _: t["network_def"].update(_target_="HoVerNet"),
        r"field 'network_def\._target_': found 'HoVerNet'\. Needed: one of AttentionUnet, BasicUNet",
    ),
    "an unknown argument": (lambda t, _: t["network_def"].update(pretrained=True), r"field 'network_def\.pretrained': found True\."),
    "code for an argument": (
        lambda t, _: t.update(widths="$[2 ** n for n in range(3)]"),
        r"field 'network_def\.channels': found '\$\[2.*Needed: a value: this is Python code.* Write the value itself into the file",
    ),
    "a call for an argument": (lambda t, _: t.update(widths={"_target_": "list"}), r"'network_def\.channels\._target_': found 'list'"),
    "a macro": (lambda t, _: t.update(widths="%train.json#widths"), r"'network_def\.channels': found '%train"),
    "a reference to nothing": (lambda t, _: t["network_def"].update(channels="@wide"), r"found '@wide'\. Needed: a name that is in the file"),
    "a reference to itself": (lambda t, _: t.update(widths="@widths"), r"Needed: at most 10000 values, 30 deep"),
    "requirements": (lambda t, _: t["network_def"].update(_requires_="$import os"), r"'network_def\._requires_': found '\$import os'"),
    "a huge network": (lambda t, _: t.update(widths=[4, 8, 10**9]), r"'network_def\.channels': found 1000000000\. Needed: at most 1000 values"),
    "strides of nothing": (lambda t, _: t["network_def"].update(strides=[0, 2]), r"Needed: 3 lengths from 1 to 4096"),
    "an unknown transform": (
        lambda t, _: transforms(t).append({"_target_": "CropForegroundd"}),
        r"'preprocessing\.transforms\[6\]\._target_': found 'CropF",
    ),
    "code in a transform": (lambda t, _: transforms(t)[4].update(a_min="$-50"), r"'preprocessing\.transforms\[4\]\.a_min': found '\$-50'"),
    "a converter": (lambda t, _: transforms(t)[0].update(converter="$lambda x: x"), r"\[0\]\.converter': found '\$lambda"),
    "an unknown reader": (lambda t, _: transforms(t)[0].update(reader="NumpyReader"), r"Needed: one of ITKReader, NibabelReader, PILReader"),
    "whole numbers": (lambda t, _: transforms(t)[5].update(dtype="uint8"), r"\[5\]\.dtype': found 'uint8'\. Needed: float32"),
    "several keys": (lambda t, _: transforms(t)[3].update(keys=["image", "label"]), r"\[3\]\.keys': found \['image', 'label'\]"),
    "statistics of some voxels": (
        lambda t, _: transforms(t).append({"_target_": "NormalizeIntensityd", "nonzero": True}),
        r"\[6\]\.nonzero': found True\. Needed: false",
    ),
    "statistics after clipping": (lambda t, _: transforms(t).append({"_target_": "ScaleIntensityd"}), r"Needed: them first"),
    "an empty range": (lambda t, _: transforms(t)[4].update(a_max=-50), r"\[4\]\.a_max': found -50\.0"),
    "relative percentiles": (
        lambda t, _: transforms(t).insert(4, {"_target_": "ScaleIntensityRangePercentilesd", "lower": 1, "upper": 99, "relative": True}),
        r"two percentiles from 0 to 100, and not relative",
    ),
    "a voxel of no size": (lambda t, _: t["sizes"].update(fine=[[1, 1, -1]]), r"'preprocessing\.transforms\[3\]\.pixdim': found \[1, 1, -1\]"),
    "an odd orientation": (lambda t, _: transforms(t)[2].update(axcodes="RAQ"), r"letters for x, y, z, such as RAS"),
    "an unknown answer": (
        lambda t, _: answers(t).insert(3, {"_target_": "KeepLargestConnectedComponentd"}),
        r"'postprocessing\.transforms\[3\]\._target_': found 'KeepLargest",
    ),
    "classes upon each other": (
        lambda t, _: t["postprocessing"].update(transforms=[{"_target_": "Activationsd", "sigmoid": True}]),
        r"found 'sigmoid of 3 channels'\. .* With --activation sigmoid",
    ),
    "another threshold": (lambda t, _: answers(t)[2].update(argmax=False, threshold=0.3), r"a threshold of 0\.5 after sigmoid"),
    "a window of code": (lambda t, _: t["inferer"].update(roi_size="$(96,) * 3"), r"'inferer\.roi_size': found '\$\(96"),
    "metadata without sense": (lambda _, m: m.update(name=3), r"metadata\.json, field 'name': found 3\. Needed: a text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_by_its_name(name: str, tmp_path: Path, home: Path, no_monai: None) -> None:
    with pytest.raises(ModelError, match=REFUSED[name][1]) as caught:
        add(str(written(tmp_path / "b", REFUSED[name][0])))
    assert str(tmp_path / "b") in str(caught.value)
    assert list(home.iterdir()) == []


REAL = {
    "mednist_gan": r"'network_def\._target_': found 'Generator'\. Needed: one of AttentionUnet",
    "pathology_nuclei_segmentation_classification": r"names the file 'models/model\.pt', which is not in it.* large_files\.yml",
    "spleen_ct_segmentation": r"names the file 'models/model\.pt', which is not in it.* large_files\.yml",
    "wholeBody_ct_segmentation": r"names the file 'models/model\.pt', which is not in it.* large_files\.yml",
}


@pytest.mark.parametrize("name", REAL)
def test_real_bundles_without_weights_say_so(name: str, shared_data: Path, no_monai: None) -> None:
    with pytest.raises(ModelError, match=REAL[name]):
        add(str(shared_data / "models_monai" / name))


def test_real_bundles_with_some_weights(shared_data: Path, tmp_path: Path, no_monai: None) -> None:
    folders = {}
    for name in ("spleen_ct_segmentation", "wholeBody_ct_segmentation", "pathology_nuclei_segmentation_classification"):
        folders[name] = shutil.copytree(shared_data / "models_monai" / name, tmp_path / name, copy_function=shutil.copyfile)
        folders[name].chmod(0o755)
        (folders[name] / "models").mkdir()
        torch.save({"weight": torch.ones(1)}, folders[name] / "models" / "model.pt")
    spleen = bundle.read(folders["spleen_ct_segmentation"], Form())
    assert (spleen.said.tile, spleen.said.context, spleen.said.pixel_size_um) == ((96, 96, 96), (24, 24, 24), (2000, 1500, 1500))
    assert spleen.said.classes == ("1:spleen:stuff",)
    assert spleen.draft.outputs[0]["activation"] == "argmax"
    with pytest.raises(ModelError, match=r"\.pixdim': found '\$\[1\.5, 1\.5, 1\.5\] if @displayable_configs#highres"):
        bundle.read(folders["wholeBody_ct_segmentation"], Form())
    with pytest.raises(ModelError, match=r"\[5\]\.nonzero': found True"):
        bundle.read(folders["wholeBody_ct_segmentation"], Form(pixel_size_um=(1500, 1500, 1500)))
    whole = bundle.read(folders["wholeBody_ct_segmentation"], Form(pixel_size_um=(1500, 1500, 1500), normalize="mean_std"))
    assert len(whole.said.classes) == 104
    with pytest.raises(ModelError, match=r"found 'HoVerNet'"):
        bundle.read(folders["pathology_nuclei_segmentation_classification"], Form())


# Nothing is run -------------------------------------------------------------------------------------------------------------------------


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_weights_are_numbers_only(tmp_path: Path, no_monai: None) -> None:
    folder = written(tmp_path / "b", weights={"model": {"weight": torch.ones(1)}, "more": Trap(tmp_path / "canary")})
    for data in ((folder / "models" / "model.pt").read_bytes(), pickle.dumps({"weight": Trap(tmp_path / "canary")}), b""):
        (folder / "models" / "model.pt").write_bytes(data)
        with pytest.raises(ModelError, match=r"model\.pt cannot be read as numbers only"):
            add(str(folder))
    torch.save({"epoch": 3, "names": ["a"]}, folder / "models" / "model.pt")
    with pytest.raises(ModelError, match=r"model\.pt holds epoch, names\. Needed: weights by their names"):
        add(str(folder))
    assert not (tmp_path / "canary").exists()


def test_code_in_files_of_a_bundle_is_never_run(tmp_path: Path, no_monai: None) -> None:
    code = f"__import__('pathlib').Path({str(tmp_path / 'canary')!r}).touch()"

    def armed(told: dict[str, Any], _: Any) -> None:
        told.update({"initialize": [f"${code}"], "run": [f"${code}"], "imports": [f"${code}"], "device": f"${code}"})

    folder = written(tmp_path / "b", armed)
    (folder / "configs" / "logging.conf").write_text(f"[handler_x]\nargs=({code},)\n")
    (folder / "scripts").mkdir()
    (folder / "scripts" / "__init__.py").write_text(code)
    with pytest.raises(MissingExtra):
        add(str(folder))
    assert not (tmp_path / "canary").exists()


def test_a_bundle_of_a_program_is_taken_only_when_it_is_trusted(tmp_path: Path, no_monai: None) -> None:
    def one(told: dict[str, Any], about: dict[str, Any]) -> None:
        told["network_def"].update(out_channels=1, spatial_dims=2)
        told["preprocessing"]["transforms"] = [{"_target_": "ScaleIntensityRange", "a_min": 0, "a_max": 2}]
        told["postprocessing"]["transforms"] = [{"_target_": "Activations", "sigmoid": True}, {"_target_": "AsDiscrete", "threshold": 0.5}]
        told["inferer"]["roi_size"] = [32, 32]
        about["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "spot"}

    class Shift(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 10 * (x - 0.5)

    folder = written(tmp_path / "b", one)
    (folder / "models" / "model.pt").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the format is old
        torch.jit.save(torch.jit.trace(Shift(), torch.zeros(1, 1, 8, 8)), folder / "models" / "model.ts")
    with pytest.raises(ModelError, match=r"runs code of its own: a TorchScript file.* --trust"):
        add(str(folder))
    spec = add(str(folder), trusted=True)
    assert (spec.task, [c.name for c in spec.classes], spec.axes) == ("semantic", ["spot"], "yx")
    pixels = np.zeros((20, 30), np.float32)
    pixels[3:9, 5:25] = 2
    np.testing.assert_array_equal(segment(pixels, model=spec.name, min_size_px=0).labels, pixels > 1)
    remove(spec.name)


def test_links_do_not_lead_out(tmp_path: Path, no_monai: None) -> None:
    folder = written(tmp_path / "b")
    secret = (folder / "models" / "model.pt").rename(tmp_path / "secret.pt")
    (folder / "models" / "model.pt").symlink_to(secret)
    with pytest.raises(ModelError, match=r"model\.pt is a link"):
        add(str(folder))


# Transforms -----------------------------------------------------------------------------------------------------------------------------


def before(tmp_path: Path, *items: dict[str, Any], channels: int = 1) -> Prepared:
    (tmp_path / "inference.json").write_text(json.dumps({"preprocessing": {"_target_": "Compose", "transforms": items}}))
    config = Config(tmp_path / "inference.json")
    return prepared(config, config.followed("preprocessing"), 2, channels, intensities=True, spacing=True)


NUMBER = st.integers(-1000, 1000).map(lambda n: n / 8)


@settings(max_examples=50, deadline=None)
@given(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER).filter(lambda n: n[0] < n[1] and n[2] < n[3]), st.booleans())
def test_a_range_is_what_its_definition_says(tmp_path_factory: pytest.TempPathFactory, ends: tuple[float, ...], clip: bool) -> None:
    told = {"_target_": "ScaleIntensityRanged", "clip": clip, **dict(zip(("a_min", "a_max", "b_min", "b_max"), ends, strict=True))}
    made = before(tmp_path_factory.getbasetemp(), told)
    x = torch.linspace(-150, 150, 64, dtype=torch.float64).reshape(1, 1, 8, 8)
    a, b, c, d = ends
    wanted = (x - a) / (b - a) * (d - c) + c
    wanted = wanted.clip(c, d) if clip else wanted
    torch.testing.assert_close(apply(made.steps, x, "bcxy"), wanted, rtol=1e-9, atol=1e-6)


def test_statistics_are_found_once_and_follow_what_scales(tmp_path: Path) -> None:
    scale = {"_target_": "ScaleIntensityD", "minv": -1, "maxv": 1}
    made = before(tmp_path, {"_target_": "NormalizeIntensityDict"}, scale)
    assert made.normalize == {"method": "percentiles", "values": [0.0, 100.0], "cut": None, "joint": False}
    assert made.steps == [{"name": "scale_linear", "kwargs": {"gain": 2.0, "offset": -1.0}}]
    assert before(tmp_path, {"_target_": "NormalizeIntensity"}, channels=2).normalize["joint"]
    with pytest.raises(ModelError, match="them first"):
        before(tmp_path, {"_target_": "NormalizeIntensity", "channel_wise": True}, scale, channels=2)
    fixed = before(tmp_path, {"_target_": "NormalizeIntensity", "subtrahend": [1, 2], "divisor": [2, 0], "channel_wise": True}, channels=2)
    found = apply(fixed.steps, torch.tensor([3.0, 5.0]).reshape(1, 2, 1, 1), "bcxy")
    assert found.ravel().tolist() == [1.0, 3.0]
    assert before(tmp_path, {"_target_": "ScaleIntensity", "minv": None, "maxv": None, "factor": 1}).steps[0]["kwargs"]["gain"] == 2
    assert before(tmp_path, {**scale, "_disabled_": True}).steps == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "background", "c"]), min_size=1, max_size=5, unique=True))
def test_every_channel_is_a_class_or_the_background(names: list[str]) -> None:
    told = classes_of(names)
    order = [int(n) for n in told["outputs"][0].split(":")[1:]] if "outputs" in told else list(range(len(names)))
    assert sorted(order) == list(range(len(names)))
    kept = [names[n] for n in order if names[n] != "background" or len(names) == 1]
    assert [c.split(":")[1] for c in told["classes"]] == kept


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=6))
def test_argmax_is_the_highest_channel(logits: list[float]) -> None:
    value = torch.tensor(logits).reshape(1, -1, 1, 1)
    found = activated(Head("semantic", len(logits), "logits"), value, {"activation": "argmax"}, len(logits) - 1).ravel()
    if abs(logits[0] - max(logits[1:])) > 1e-3:
        assert bool(found[0] > 0.5) == (np.argmax(logits) == 0)
    torch.testing.assert_close(found[1:], value.softmax(1).ravel()[1:])


# Networks -------------------------------------------------------------------------------------------------------------------------------


def test_maps_and_labels_are_those_of_monai(tmp_path: Path, segsuite: Callable[..., Any]) -> None:
    nets = pytest.importorskip("monai.networks.nets")
    network = weighted(nets.UNet(spatial_dims=3, in_channels=1, out_channels=3, channels=[4, 8, 8], strides=[2, 2], norm="batch"))
    folder = written(tmp_path / "b", weights={"model": network.state_dict()})
    archive = shutil.make_archive(str(tmp_path / "tiny"), "zip", folder)
    done = segsuite("models", "add", archive)
    assert done.out == "added tiny-organs: semantic, zyx, classes liver left, spleen; use it with --model tiny-organs\n", done.err
    spec, model = load_spec("tiny-organs"), load_model("tiny-organs", device="cpu")
    assert (spec.licence, spec.trained_on, spec.version) == ("see LICENSE in its package", "noise", "0.2.1")
    volume = np.random.default_rng(1).uniform(-100, 200, (16, 24, 32)).astype(np.float32)
    x = torch.from_numpy(volume).permute(2, 1, 0)[None, None]
    with torch.inference_mode():
        logits = network(((x + 50) / 200).clip(0, 1))[0].permute(0, 3, 2, 1)
    found = torch.as_tensor(model.predict(volume[None, None]).maps["semantic"])[0]
    torch.testing.assert_close(found[1:], logits.softmax(0)[1:], rtol=0, atol=1e-4)
    wanted = logits.argmax(0).numpy()
    sure = logits.softmax(0).topk(2, 0).values.diff(dim=0)[0].abs().numpy() > 1 / 64
    whole = segment(volume, model="tiny-organs", min_size_px=0)
    assert set(np.unique(wanted)) == {0, 1, 2}
    assert sure.mean() > 0.8
    np.testing.assert_array_equal(np.asarray(whole.labels)[sure], wanted[sure])
    large = np.tile(volume, (2, 1, 2))
    labels = [np.asarray(segment(large, model="tiny-organs", min_size_px=0, chunk=c).labels) for c in ((), (13, 17, 22))]
    np.testing.assert_array_equal(*labels)
    assert add(str(tmp_path / "models" / "tiny-organs"), name="copy").net == spec.net
    refuse_what_was_changed(folder, tmp_path / "models" / "tiny-organs", network)


def refuse_what_was_changed(folder: Path, model: Path, network: nn.Module) -> None:
    told = json.loads((model / "model.json").read_text())
    changes: dict[str, tuple[dict[str, Any], str]] = {
        "network": ({"network": "FlexibleUNet"}, "Needed: one of AttentionUnet"),
        "kwargs": ({"kwargs": {**told["net"]["kwargs"], "act": {"_target_": "x" * 200}}}, r"field 'net\.kwargs\.act': found"),
        "more": ({"kwargs": {**told["net"]["kwargs"], "backbone": "x"}}, r"field 'net\.kwargs\.backbone': found 'x'"),
        "sizes": ({"kwargs": {**told["net"]["kwargs"], "channels": [8, 8, 8]}}, r"tensors do not fit, such as"),
        "huge": ({"kwargs": {**told["net"]["kwargs"], "channels": [8192, 16384, 16384]}}, r"he network would have too many weights"),
        "odd": ({"kwargs": {**told["net"]["kwargs"], "norm": "no such norm"}}, r"he network monai\.networks\.nets\.UNet cannot be built"),
    }
    for change, message in changes.values():
        (model / "model.json").write_text(json.dumps({**told, "net": {**told["net"], **change}}))
        with pytest.raises(ModelError, match=message):
            load_model("tiny-organs", device="cpu")
    state = network.state_dict()
    name = next(iter(state))
    torch.save({f"module.{k}": v * (torch.nan if k == name else 1) for k, v in state.items()}, folder / "models" / "model.pt")
    with pytest.raises(ModelError, match=rf"the weights '{name}' are not finite"):
        add(str(folder), name="another")


TINY: dict[str, dict[str, Any]] = {
    "AttentionUnet": {"spatial_dims": 2, "channels": [4, 8, 8], "strides": [2, 2]},
    "BasicUNet": {"spatial_dims": 2, "features": [4, 4, 8, 8, 8, 4], "norm": ["batch", {"eps": 1e-4}]},
    "DynUNet": {
        "spatial_dims": 3, "kernel_size": [[1, 3, 3], 3, 3], "strides": [1, [1, 2, 2], 2], "upsample_kernel_size": [[1, 2, 2], 2],
        "filters": [4, 8, 8], "norm_name": "batch", "deep_supervision": True,
    },
    "SegResNet": {"spatial_dims": 3, "init_filters": 8, "blocks_down": [1, 1, 2], "blocks_up": [1, 1], "dropout_prob": 0.2},
    "SwinUNETR": {"spatial_dims": 2, "feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4], "img_size": [64, 64]},
    "UNETR": {"spatial_dims": 2, "img_size": [32, 48], "feature_size": 4, "hidden_size": 24, "mlp_dim": 24, "num_heads": 2, "norm_name": "batch"},
    "UNet": {"spatial_dims": 2, "channels": [4, 8], "strides": [[2, 1]], "num_res_units": 1, "act": ["prelu", {"init": 0.2}]},
    "VNet": {"spatial_dims": 2, "dropout_dim": 2},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", monai_nets.NETWORKS)
def test_every_network_that_is_known_is_built_and_answers_as_monai_does(name: str, tmp_path: Path) -> None:
    nets, told = pytest.importorskip("monai.networks.nets"), TINY[name]
    dims = told["spatial_dims"]
    kwargs = {key: value for key, value in told.items() if key not in monai_nets.NETWORKS[name].gone}
    network = weighted(getattr(nets, name)(in_channels=2, out_channels=3, **kwargs))

    def change(inference: dict[str, Any], about: dict[str, Any]) -> None:
        inference["network_def"] = {"_target_": f"monai.networks.nets.{name}", "in_channels": 2, "out_channels": 3, **told}
        inference["preprocessing"]["transforms"] = []
        inference["inferer"] = {"_target_": "SimpleInferer"}

    spec = add(str(written(tmp_path / "b", change, {"state_dict": network.state_dict()})), Form(channels=("a", "b")))
    least = dict(zip(spec.net["input"]["axes"], zip(spec.net["input"]["least"], spec.net["input"]["step"], strict=True), strict=True))
    model = load_model(spec.name, device="cpu")
    for steps in (0, 1):
        size = [least[a][0] + steps * least[a][1] for a in "xyz"[:dims]]
        x = torch.from_numpy(np.random.default_rng(steps).normal(size=(1, 2, *size)).astype(np.float32))
        with torch.inference_mode():
            wanted = network(x).softmax(1).movedim(list(range(2, 2 + dims)), list(range(1 + dims, 1, -1)))
        found = torch.as_tensor(model.predict(np.ascontiguousarray(x.numpy().transpose(0, 1, *range(1 + dims, 1, -1)))).maps["semantic"])
        torch.testing.assert_close(found[:, 1:], wanted[:, 1:], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_transforms_are_those_of_monai(tmp_path: Path) -> None:
    library = pytest.importorskip("monai.transforms")
    from napari_segsuite.arrays import contrast, moments, normalize

    x = np.random.default_rng(0).normal(100, 30, (2, 16, 16)).astype(np.float32)
    many: list[list[dict[str, Any]]] = [
        [{"_target_": "ScaleIntensity"}],
        [{"_target_": "ScaleIntensity", "minv": -1, "maxv": 3, "channel_wise": True}],
        [{"_target_": "ScaleIntensity", "minv": None, "maxv": None, "factor": 0.5}],
        [{"_target_": "NormalizeIntensity"}],
        [{"_target_": "NormalizeIntensity", "channel_wise": True}],
        [{"_target_": "NormalizeIntensity", "subtrahend": 3, "divisor": 2}],
        [{"_target_": "NormalizeIntensity", "subtrahend": [3, 4], "divisor": [2, 0], "channel_wise": True}],
        [{"_target_": "ScaleIntensityRange", "a_min": 60, "a_max": 120, "b_min": 0, "b_max": 2, "clip": True}],
        [{"_target_": "ScaleIntensityRange", "a_min": 60, "a_max": 120}],
        [{"_target_": "ScaleIntensityRangePercentiles", "lower": 5, "upper": 95, "b_min": -1, "b_max": 1, "clip": True, "channel_wise": True}],
        [{"_target_": "ScaleIntensityRange", "a_min": 60, "a_max": 120}, {"_target_": "ScaleIntensity", "minv": -1}],
    ]
    for items in many:
        made, wanted = before(tmp_path, *items, channels=2), x
        for item in items:
            wanted = np.asarray(getattr(library, item["_target_"])(**{k: v for k, v in item.items() if k != "_target_"})(wanted.copy()))
        limits = [(0.0, 1.0)] * 2
        if made.normalize["method"] != "none":
            groups = [x, x] if made.normalize["joint"] else [x[0], x[1]]
            limits = [moments(g, 0) if made.normalize["method"] == "mean_std" else contrast(g, tuple(made.normalize["values"])) for g in groups]
        scaled = torch.from_numpy(normalize(x, limits, 1e30))[None]
        np.testing.assert_allclose(apply(made.steps, scaled, "bcxy")[0], wanted, atol=2e-5)


def test_every_network_is_tried() -> None:
    assert TINY.keys() == monai_nets.NETWORKS.keys()


def test_the_command_says_what_it_takes(segsuite: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        segsuite("models", "add", "--help")
    assert "MONAI" in capsys.readouterr().out
