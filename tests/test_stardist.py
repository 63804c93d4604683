"""Models of StarDist: what their files say is followed or refused, weights are read as Keras stores them, maps are those of stardist."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_segsuite import load_model, load_spec, segment
from napari_segsuite.codecs import compass, stars
from napari_segsuite.errors import MissingExtra, ModelError
from napari_segsuite.metrics import evaluate
from napari_segsuite.models.folder import fill
from napari_segsuite.models.foreign import keras_file, stardist
from napari_segsuite.models.foreign.fields import Fields
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.stardist_config import arguments, reach, stride
from napari_segsuite.models.foreign.stardist_net import finer, network, weights_of
from napari_segsuite.models.foreign.stardist_rays import directions, turned
from napari_segsuite.models.foreign.store import add

Array = NDArray[Any]
RADIUS = 6
FLAT: dict[str, Any] = {
    "n_dim": 2, "axes": "YXC", "n_channel_in": 1, "n_channel_out": 33, "train_checkpoint": "weights_best.h5", "n_rays": 32, "grid": [1, 1],
    "backbone": "unet", "n_classes": None, "unet_n_depth": 0, "unet_kernel_size": [17, 17], "unet_n_filter_base": 1, "unet_n_conv_per_depth": 1,
    "unet_pool": [2, 2], "unet_activation": "relu", "unet_last_activation": "relu", "unet_batch_norm": False, "unet_dropout": 0.0,
    "unet_expansion": 2, "unet_prefix": "", "net_conv_after_unet": 0, "net_input_shape": [None, None, 1], "train_patch_size": [256, 256],
}  # fmt: skip
SOLID = {
    **FLAT, "n_dim": 3, "axes": "ZYXC", "n_rays": 48, "n_channel_out": 49, "grid": [1, 2, 2], "unet_kernel_size": [11, 11, 11],
    "unet_pool": [2, 2, 2], "anisotropy": [2.0, 1.0, 1.0],
    "rays_json": {"name": "Rays_GoldenSpiral", "kwargs": {"n": 48, "anisotropy": [2.0, 1.0, 1.0]}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def finding(config: Mapping[str, Any], radius: float = RADIUS) -> dict[str, dict[str, Array]]:
    """Weights that find balls of one size: how much of a ball, less a shell around it, is bright; every ray is as long as the ball's radius."""
    shape, grid = config["unet_kernel_size"], config["grid"]
    dims = len(shape)
    far = np.sqrt(sum((g * (i - (n - 1) / 2)) ** 2 for i, n, g in zip(np.indices(shape), shape, grid, strict=True)))
    ball = (far <= radius) / max((far <= radius).sum(), 1) - 0.5 * ((far > radius) & (far <= radius + 2)) / max((far <= radius).sum(), 1)
    one = np.zeros(shape)
    one[tuple(n // 2 for n in shape)] = 1
    rounds = int(np.log2(max(grid)))
    layers = {f"conv{dims}d{f'_{40 + n}' if n else '_40'}": {"kernel": one[..., None, None], "bias": np.zeros(1)} for n in range(rounds)}
    tip, small = (1,) * dims, np.zeros(config["n_rays"]) + radius
    layers["middle_1"] = {"kernel": ball[..., None, None], "bias": np.zeros(1)}
    layers["prob"] = {"kernel": np.full((*tip, 1, 1), 12.0), "bias": np.array([-7.0])}
    layers["dist"] = {"kernel": np.zeros((*tip, 1, config["n_rays"])), "bias": small}
    if config["n_classes"]:
        kinds = np.arange(config["n_classes"] + 1.0)
        layers["prob_class"] = {"kernel": np.zeros((*tip, 1, len(kinds))), "bias": kinds}
    return layers


def store(path: Path, layers: Mapping[str, Mapping[str, Array]], layout: str = "keras 2") -> None:
    """Weights as the versions of Keras lay them out."""
    h5py = pytest.importorskip("h5py", reason="h5py (extra stardist) is not installed")
    with h5py.File(path, "w") as file:
        if layout == "keras 3":
            for n, (name, parts) in enumerate(layers.items()):
                group = file.create_group(f"layers/layer_{n}/vars")
                group.attrs["name"] = name
                for k, value in enumerate(parts.values()):
                    group[str(k)] = np.asarray(value, "f4")
            return
        top = file.create_group("model_weights") if layout == "whole model" else file
        end = ":0" if layout == "keras 2" else ""
        top.attrs["layer_names"] = [name.encode() for name in ("input", *layers)]
        top.create_group("input").attrs["weight_names"] = np.zeros(0)
        for name, parts in layers.items():
            group = top.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{part}{end}".encode() for part in parts]
            for part, value in parts.items():
                group[f"{name}/{part}{end}"] = np.asarray(value, "f4")


def written(folder: Path, config: Mapping[str, Any], layout: str = "keras 2", **thresholds: float) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "thresholds.json").write_text(json.dumps({"prob": 0.4, "nms": 0.3, **thresholds}))
    store(folder / "weights_best.h5", finding(config), layout)
    return folder


def balls(shape: tuple[int, ...], step: int, seed: int = 0) -> tuple[Array, Array]:
    """A picture of balls of one size that do not touch, and which is which."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    for n, corner in enumerate(np.ndindex(*(size // step for size in shape)), 1):
        middle = [c * step + step // 2 + int(rng.integers(-2, 3)) for c in corner]
        labels[sum((i - m) ** 2 for i, m in zip(np.indices(shape, sparse=True), middle, strict=True)) <= RADIUS**2] = n
    return (100 + 1000 * (labels > 0) + rng.normal(0, 10, shape)).astype(np.uint16), labels


@pytest.mark.parametrize("grid", [1, 2])
@pytest.mark.parametrize("layout", ["keras 2", "keras 3", "whole model"])
def test_a_model_finds_discs_from_the_command_line(grid: int, layout: str, tmp_path: Path, segsuite: Callable[..., Any]) -> None:
    import tifffile

    folder = written(tmp_path / "discs", {**FLAT, "grid": [grid, grid]}, layout)
    done = segsuite("models", "add", folder, "--diameter-px", 14)
    assert done.out == "added discs: instance, yx, classes object; use it with --model discs\n", done.err
    spec = load_spec("discs")
    assert (spec.codec, dict(spec.codec_options)) == ("stars", {"center": 0.4, "overlap": 0.3, "wide": 0.0, "longest": 14})
    assert (spec.multiple, spec.normalize["values"], spec.citation[:7]) == ((grid, grid), [1.0, 99.8], "Schmidt")
    pixels, truth = balls((100, 90), 18)
    tifffile.imwrite(tmp_path / "image.tif", pixels)
    done = segsuite("segment", tmp_path / "image.tif", "--model", "discs", "--out", tmp_path / "labels.tif")
    assert done.code == 0, done.err
    found = tifffile.imread(tmp_path / "labels.tif")
    match = evaluate(found, truth).objects
    assert (match.tp, match.fp, match.fn, len(match.iou)) == (25, 0, 0, 25)
    assert match.iou.min() > (0.8 if grid == 1 else 0.7), "on a grid a middle is a pixel off at most"
    parts = [np.asarray(segment(pixels, model="discs", chunk=chunk).labels) for chunk in ((), (31, 40))]
    np.testing.assert_array_equal(*parts)


def test_a_model_of_volumes_with_rays_of_its_own_and_classes(tmp_path: Path) -> None:
    add(str(written(tmp_path / "balls", {**SOLID, "n_classes": 2})), Form(diameter_px=14.0))
    spec = load_spec("balls")
    assert ([c.name for c in spec.classes], spec.multiple, spec.codec_options["longest"]) == (["object 1", "object 2"], (1, 2, 2), 14)
    pixels, truth = balls((20, 40, 40), 20)
    found = segment(pixels, model="balls")
    match = evaluate(np.asarray(found.labels), truth).objects
    assert (match.tp, match.fp, match.fn) == (4, 0, 0)
    assert match.iou.min() > 0.6
    assert found.segments["class_id"].tolist() == [2] * 4


def reference(x: Array, layers: Mapping[str, Mapping[str, Array]], config: Mapping[str, Any]) -> list[Array]:
    """A U-Net of depth 1 behind one round of pooling, written down once more: channels first, one image, no torch."""
    from scipy.ndimage import correlate

    def conv(x: Array, name: str, act: Callable[[Array], Array] = lambda v: np.maximum(v, 0)) -> Array:
        kernel, bias = layers[name]["kernel"], layers[name]["bias"]
        channels = [sum(correlate(x[i], kernel[..., i, o], mode="constant") for i in range(len(x))) + bias[o] for o in range(len(bias))]
        return act(np.stack(channels))

    def pool(x: Array, steps: Any) -> Array:
        for axis, n in enumerate(steps, 1):
            x = np.maximum.reduce([x.take(range(k, x.shape[axis], n), axis) for k in range(n)])
        return x

    auto = sorted((name for name in layers if name.startswith("conv2d")), key=lambda name: int(name.partition("_")[2] or 0))
    x = pool(conv(conv(x, auto[0]), auto[1]), config["grid"])
    skip = conv(conv(x, "down_level_0_no_0"), "down_level_0_no_1")
    x = conv(conv(pool(skip, config["unet_pool"]), "middle_0"), "middle_2")
    for axis, n in enumerate(config["unet_pool"], 1):
        x = x.repeat(n, axis)
    x = conv(conv(np.concatenate([x, skip]), "up_level_0_no_0"), "up_level_0_no_2")
    x = conv(x, "features")
    return [conv(x, "prob", lambda v: 1 / (1 + np.exp(-v))), conv(x, "dist", lambda v: v)]


def test_the_network_is_that_of_a_second_description() -> None:
    config = {**FLAT, "grid": [2, 1], "unet_n_depth": 1, "unet_kernel_size": [3, 5], "unet_n_conv_per_depth": 2, "unet_n_filter_base": 2,
              "net_conv_after_unet": 3, "n_rays": 8}  # fmt: skip
    net = network(arguments(Fields(Path("config.json"), "", config))).eval()
    rng, layers = np.random.default_rng(2), dict[str, dict[str, Array]]()
    names = ["conv2d_9", "conv2d_10"]
    for name, layer in net.network.layers.items():
        told = names.pop(0) if name.startswith("conv ") else name
        wide, width, *kernel = layer.weight.shape
        layers[told] = {"kernel": rng.normal(0, 0.3, (*kernel, width, wide)), "bias": rng.normal(0, 0.3, wide)}
    whole = {name: {part: value.astype(np.float32) for part, value in parts.items()} for name, parts in layers.items()}
    fill(net.network, weights_of(whole, net.network, Path("weights.h5")), Path("weights.h5"))
    x = rng.normal(size=(1, 8, 12))
    with torch.inference_mode():
        found = net.network(torch.from_numpy(x[None].astype(np.float32)))
        semantic, probability, rays = net(torch.from_numpy(x[None].astype(np.float32)))
    for got, wanted in zip(found, reference(x, layers, config), strict=True):
        np.testing.assert_allclose(got[0].numpy(), wanted, rtol=0, atol=1e-4)
    assert (semantic.shape, probability.shape, rays.shape) == ((1, 2, 8, 12), (1, 1, 8, 12), (1, 32, 8, 12))
    np.testing.assert_array_equal(probability[:, :, ::2], found[0])
    lengths = found[1][0].clamp_min(1e-3)
    torch.testing.assert_close(128 * rays[0, ::4, ::2] ** 2, lengths.clamp_max(128))


@given(st.sampled_from([2, 3]), st.integers(6, 40), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_other_rays_lead_to_the_same_star(dims: int, count: int, seed: int) -> None:
    """Seen from its own ends, a star is what it was; seen through finer rays, these end on its faces."""
    rng = np.random.default_rng(seed)
    rays, faces = directions(dims, count, tuple(rng.uniform(0.5, 3, 3)))
    assert not len(turned(rays, faces, rays))
    to = rng.normal(size=(20, dims))
    to /= np.linalg.norm(to, axis=1, keepdims=True)
    weights, lengths = turned(rays, faces, to), rng.uniform(2, 9, count)
    ends = to / (weights @ (1 / lengths))[:, None]
    corners = (rays * lengths[:, None])[faces]
    flat = np.einsum("fij,kj->kfi", np.linalg.inv(corners.transpose(0, 2, 1)), ends)
    on_face = (np.abs(flat.sum(2) - 1) < 1e-6) & (flat.min(2) > -1e-6)
    assert on_face.any(1).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_the_usual_rays_are_those_of_the_codec(dims: int) -> None:
    rays, faces = directions(dims, compass.RAYS[dims])
    assert not len(turned(rays, faces, compass.rays(dims)))
    rays3d = pytest.importorskip("stardist.rays3d", reason="stardist is not installed")
    for anisotropy in (None, (2.0, 1.0, 1.5)):
        theirs = rays3d.Rays_GoldenSpiral(96, anisotropy=anisotropy)
        found, sides = directions(3, 96, anisotropy or ())
        np.testing.assert_allclose(found, theirs.vertices, atol=1e-6)
        assert {tuple(sorted(side)) for side in sides.tolist()} == {tuple(sorted(side)) for side in theirs.faces.tolist()}


def test_maps_are_exact_at_the_grid_and_linear_between() -> None:
    x = torch.randn(2, 3, 4, 5)
    fine = finer(x, (2, 4))
    assert fine.shape == (2, 3, 8, 20)
    torch.testing.assert_close(fine[:, :, ::2, ::4], x)
    torch.testing.assert_close(fine[:, :, 1:-1:2, 2:-4:4], (fine[:, :, :-2:2, :-4:4] + x[:, :, :-1, 1:] + x[:, :, 1:, :-1] + x[:, :, 1:, 1:]) / 4)


@pytest.mark.parametrize(("config", "far"), [(FLAT, (8, 8)), ({**FLAT, "unet_n_depth": 2, "unet_kernel_size": [3, 3], "grid": [2, 1]}, (24, 13))])
def test_nothing_farther_away_changes_an_answer(config: Mapping[str, Any], far: tuple[int, int]) -> None:
    made = arguments(Fields(Path("config.json"), "", dict(config)))
    said = reach(made)
    assert all(f <= n for f, n in zip(far, said, strict=True)), "at least what is seen by hand"
    net = network(made).network.eval().double()
    for value in net.parameters():
        torch.nn.init.constant_(value, 0.1)
    x = torch.zeros(1, 1, 96, 96, dtype=torch.float64)
    other = x.clone()
    other[..., 48, 48] = 1
    with torch.inference_mode():
        changed = (finer(net(x)[1], made["grid"]) != finer(net(other)[1], made["grid"]))[0].any(0).nonzero()
    assert len(changed) > 100
    assert all((abs(changed[:, axis] - 48).max() <= n).item() for axis, n in enumerate(said))
    assert all(96 % n == 0 for n in stride(made))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another backbone": ({"backbone": "resnet"}, r"config\.json, field 'backbone': found 'resnet'\. Needed: unet"),
    "axes in another order": ({"axes": "XYC"}, r"'axes': found 'XYC'\. Needed: one of YX, YXC, ZYX, ZYXC"),
    "no number of rays": ({"n_rays": None}, r"'n_rays': found nothing"),
    "a grid that is no power of 2": ({"grid": [3, 1]}, r"'grid': found \[3, 1\]\. Needed: powers of 2"),
    "an even kernel": ({"unet_kernel_size": [4, 3]}, r"'unet_kernel_size': found \[4, 3\]\. Needed: 2 odd whole numbers"),
    "an activation that is code": ({"unet_activation": "lambda x: x"}, r"'unet_activation': found 'lambda x: x'"),
    "an option of the network that is not known": ({"unet_attention": True}, r"'unet_attention': found True\. Needed: no such field"),
    "a huge network": ({"unet_n_filter_base": 2**13}, r"'unet_n_filter_base': found 8192\. Needed: 4096 at most"),
    "a network that grows too fast": ({"unet_n_depth": 8, "unet_expansion": 4}, r"'unet_expansion'|'grid'"),
    "no class": ({"n_classes": 0}, r"'n_classes': found 0"),
    "other rays": ({"axes": "ZYXC", "unet_kernel_size": [3, 3, 3], "unet_pool": [2, 2, 2], "grid": [1, 1, 1],
                    "rays_json": {"name": "Rays_Octo", "kwargs": {"n_level": 3}}}, r"'rays_json': found .*Rays_Octo.*Needed: Rays_GoldenSpiral"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_by_its_name(name: str, tmp_path: Path, home: Path) -> None:
    (tmp_path / "star").mkdir()
    (tmp_path / "star" / "config.json").write_text(json.dumps({**FLAT, **REFUSED[name][0]}))
    (tmp_path / "star" / "weights_best.h5").write_bytes(b"")
    with pytest.raises(ModelError, match=REFUSED[name][1]):
        add(str(tmp_path / "star"))
    assert list(home.iterdir()) == []


def test_a_folder_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "star"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(FLAT))
    with pytest.raises(ModelError, match=r"holds config\.json\. Needed: weights: weights_best\.h5 or .*Copy the whole folder"):
        add(str(folder))
    (folder / "weights_last.h5").write_bytes(b"")
    with pytest.raises(ModelError, match=r"weights_last\.h5 is no model\. .*Of StarDist, add the folder that it is in"):
        add(str(folder / "weights_last.h5"))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r'pip install "napari-segsuite\[stardist\]"'):
        add(str(folder))
    told = stardist.read(folder, Form())
    assert (told.files[0], told.name) == ("weights_last.h5", "star")
    assert told.draft.codec_options == {"center": 0.5, "overlap": 0.4, "wide": 0.0, "longest": 64}
    assert stardist.read(folder, Form(diameter_px=500.0)).draft.codec_options["longest"] == stars.LONGEST
    (folder / "thresholds.json").write_text('{"prob": 1.5}')
    with pytest.raises(ModelError, match=r"thresholds\.json, field 'prob': found 1\.5\. Needed: a number from 0 to 1"):
        add(str(folder))
    (folder / "config.json").write_text('{"axes": "YXC", "unet_n_depth": 2}')
    (folder / "thresholds.json").unlink()
    (folder / "weights_last.h5").rename(folder / "weights_best.h5")
    with pytest.raises(ModelError, match=r"config\.json, field 'n_rays': found nothing"):
        add(str(folder))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py (extra stardist) is not installed")
    folder, good = written(tmp_path / "star", FLAT), finding(FLAT)
    path = folder / "weights_best.h5"
    whole = path.read_bytes()

    def refused(message: str, layers: Mapping[str, Mapping[str, Array]] | None = None) -> None:
        if layers is not None:
            store(path, layers)
        with pytest.raises(ModelError, match=message):
            add(str(folder), name="other")

    refused(r"'layers\.prob\.bias': the file has nothing", {**good, "prob": {"kernel": good["prob"]["kernel"]}})
    refused(r"'layers\.prob\.weight': the file has \(1, 2, 1, 1\)", {**good, "prob": {**good["prob"], "kernel": np.ones((1, 1, 2, 1))}})
    refused(r"'layers\.down_level_0_no_0\.", {**good, "down_level_0_no_0": good["prob"]})
    refused(r"norms or more\. Needed: 0, as the network", {**good, "batch_normalization_3": {"gamma": np.ones(1)}})
    refused(r"the weights 'layers\.prob\.bias' are not finite", {**good, "prob": {**good["prob"], "bias": np.full(1, np.nan)}})
    refused(r"layer 'prob' has 'alpha'", {**good, "prob": {**good["prob"], "alpha": np.ones(1)}})
    for data in (b"", b"no such file", whole[:600], whole[: len(whole) // 2]):
        path.write_bytes(data)
        refused(r"weights_best\.h5 (cannot be read as HDF5|has no '|: '|holds)")
    with h5py.File(path, "w") as file:
        file["secret"] = h5py.ExternalLink("other.h5", "/")
    refused(r"holds secret\. Needed: weights as Keras stores them")
    store(path, good)
    (tmp_path / "outside.h5").write_bytes(whole)
    with h5py.File(path, "r+") as file:
        del file["prob"]["prob"]["bias:0"]
        file["prob"]["prob"]["bias:0"] = h5py.ExternalLink(str(tmp_path / "outside.h5"), "/prob/prob/bias:0")
    refused(r"has no 'prob/bias:0' of its own")
    with h5py.File(path, "r+") as file:
        del file["prob"]["prob"]["bias:0"]
        (tmp_path / "raw").write_bytes(np.zeros(1, "f4").tobytes())
        file["prob"]["prob"].create_dataset("bias:0", (1,), "f4", external=[(str(tmp_path / "raw"), 0, 4)])
    refused(r"'prob/bias:0' is no array that lies in the file itself")
    with h5py.File(path, "w") as file:
        file.create_group("layers/conv2d/vars")["0"] = np.ones((1, 1, 1, 1), "f4")
    refused(r"layer 'conv2d' does not say its name\. Needed: a file of Keras 3\.3 or newer")
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"prob"]
        file.create_group("prob").attrs["weight_names"] = [b"prob/kernel:0"]
        file["prob"].create_dataset("prob/kernel:0", (2**15, 2**15), "f4", chunks=(64, 64), fillvalue=0)
    refused(rf"holds more than {keras_file.LARGEST} numbers")
    path.write_bytes(whole)
    add(str(folder), name="other")
    told = json.loads((tmp_path / "models" / "other" / "model.json").read_text())
    told["net"]["kwargs"]["unet_activation"] = "os.system"
    (tmp_path / "models" / "other" / "model.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match=r"field 'net\.kwargs\.unet_activation': found 'os\.system'"):
        load_model("other", device="cpu")


THEIRS = """
import json, sys
import numpy as np
from stardist.models import Config2D, Config3D, StarDist2D, StarDist3D

rng = np.random.default_rng(0)
for name, dims, config, size in json.loads(sys.argv[2]):
    kind, made = ((StarDist2D, Config2D), (StarDist3D, Config3D))[dims - 2]
    model = kind(made(**config), name=name, basedir=sys.argv[1])
    for layer in model.keras_model.layers:
        if values := layer.get_weights():
            layer.set_weights([rng.normal(0, (2 / np.prod(v.shape[:-1])) ** 0.5, v.shape) if v.ndim > 1 else rng.uniform(0.1, 0.5, v.shape)
                               for v in values])
    for file in ("weights_best.h5", "new.weights.h5"):
        model.keras_model.save_weights(f"{sys.argv[1]}/{name}/{file}")
    x = rng.normal(size=(1, *size, config.get("n_channel_in", 1))).astype("float32")
    answers = [np.moveaxis(a, -1, 1) for a in model.keras_model.predict(x, verbose=0)]
    np.savez(f"{sys.argv[1]}/{name}/answers.npz", np.moveaxis(x, -1, 1), *answers)
picture = np.load(f"{sys.argv[1]}/picture.npy")
model = StarDist2D(None, name="discs", basedir=sys.argv[1])
labels, _ = model.predict_instances(picture, prob_thresh=0.4, nms_thresh=0.3)
np.save(f"{sys.argv[1]}/labels.npy", labels)
"""
MODELS: list[tuple[str, int, dict[str, Any], tuple[int, ...]]] = [
    ("usual", 2, {"grid": [2, 2], "unet_n_filter_base": 4, "net_conv_after_unet": 8}, (32, 48)),
    ("classes", 2, {"n_rays": 16, "grid": [1, 4], "n_classes": 2, "unet_n_depth": 1, "unet_n_filter_base": 3, "unet_batch_norm": True,
                    "n_channel_in": 3, "unet_n_conv_per_depth": 3, "unet_last_activation": "elu", "net_conv_after_unet": 0}, (16, 24)),
    ("prefix", 2, {"unet_prefix": "p_", "unet_pool": [2, 1], "unet_kernel_size": [3, 5], "unet_n_filter_base": 2, "unet_activation": "elu"}, (16, 9)),
    ("volumes", 3, {"anisotropy": [2, 1, 1], "grid": [1, 2, 2], "unet_n_depth": 1, "unet_n_filter_base": 2, "net_conv_after_unet": 4}, (8, 16, 8)),
    ("residual", 3, {"n_rays": 32, "backbone": "resnet", "grid": [2, 4, 4], "resnet_n_filter_base": 3, "net_conv_after_resnet": 4}, (8, 16, 8)),
    ("normed", 3, {"backbone": "resnet", "grid": [1, 2, 2], "resnet_batch_norm": True, "resnet_n_blocks": 2, "resnet_n_conv_per_block": 2,
                   "resnet_n_filter_base": 3, "n_classes": 3}, (4, 8, 8)),
]  # fmt: skip


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("tensorflow", "stardist", "h5py"))), reason="TensorFlow, stardist or h5py is not installed"
)
def test_answers_and_objects_are_those_of_stardist(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    written(folder / "discs", FLAT)
    pixels, _ = balls((100, 90), 18)
    low, high = np.percentile(pixels, (1, 99.8))
    np.save(folder / "picture.npy", ((pixels - low) / (high - low)).astype(np.float32))
    quiet = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", THEIRS, str(folder), json.dumps(MODELS)], check=True, env=quiet, capture_output=True)
    for name, *_ in MODELS:
        x, *wanted = np.load(folder / name / "answers.npz").values()
        for file in ("weights_best.h5", "new.weights.h5"):
            told = stardist.read(folder / name, Form(weights=file))
            net = network(told.net["kwargs"]).network.eval()
            fill(net, weights_of(keras_file.read(folder / name / file), net, folder), folder)
            with torch.inference_mode():
                found = net(torch.from_numpy(x))
            found[2:] = [kinds.softmax(1) for kinds in found[2:]]
            for got, answer in zip(found, wanted, strict=True):
                assert np.ptp(answer) > 1e-3, f"{name} answers with a constant"
                np.testing.assert_allclose(got, answer, rtol=0, atol=1e-4, err_msg=f"{name}, {file}")
    add(str(folder / "discs"), Form(diameter_px=14.0))
    match = evaluate(np.asarray(segment(pixels, model="discs").labels), np.load(folder / "labels.npy")).objects
    assert (match.tp, match.fp, match.fn) == (25, 0, 0)
    assert match.iou.min() > 0.85
