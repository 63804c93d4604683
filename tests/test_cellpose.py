"""Files of Cellpose's weights: known by what is in them, refused by the name of the array, and maps and objects are those of cellpose."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_segsuite import load_model, load_spec, segment
from napari_segsuite.errors import ModelError, OptionError
from napari_segsuite.metrics import evaluate
from napari_segsuite.models.foreign import cellpose, cellpose_sam
from napari_segsuite.models.foreign.built import built
from napari_segsuite.models.foreign.cellpose_net import CPnet
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.store import add

Array = NDArray[Any]
RADIUS = 6
FACING: dict[str, Any] = {"patch": 4, "tokens": 8, "width": 16, "head": 4, "hidden": 32, "features": 8, "positions": [5, 15]}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def random(net: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Weights of a network, drawn, with what Cellpose keeps beside them."""
    drawn = torch.Generator().manual_seed(seed)
    found = {}
    for name, value in net.state_dict().items():
        if name == "W2" or not value.is_floating_point():
            found[name] = value.clone()
        elif name.endswith(("running_var", "norm1.weight", "norm2.weight")):
            found[name] = torch.rand(value.shape, generator=drawn) + 0.5
        else:
            found[name] = torch.randn(value.shape, generator=drawn) / math.sqrt(max(value[0].numel() if value.ndim > 1 else 4, 1))
    return {**found, "diam_mean": torch.tensor([17.0]), "diam_labels": torch.tensor([22.25])}


def finding() -> dict[str, Tensor]:
    """Weights of a network of one level that finds discs: where it is bright there is one, and flows lead to where it is brighter."""
    net, side = CPnet(2, [4], 15), np.arange(15) - 7
    weights = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    weights |= {
        name: torch.ones_like(v) for name, v in net.state_dict().items() if name.endswith("running_var") or (v.ndim == 1 and ".0.weight" in name)
    }
    down, up = "downsample.down.res_down_0", "upsample.up.res_up_0"
    weights[f"{down}.proj.1.weight"][0, 0] = 1
    slope = torch.from_numpy(np.stack([np.broadcast_to(side[:, None], (15, 15)), np.broadcast_to(side, (15, 15))]) / 60.0).float()
    for axis in range(2):  # rectified, so that both signs are needed
        for sign, factor in enumerate((1.0, -1.0)):
            weights[f"{down}.conv.conv_0.2.weight"][2 * axis + sign, 0] = factor * slope[axis]
            weights[f"{down}.conv.conv_1.2.weight"][1 + axis, 2 * axis + sign, 7, 7] = factor
    for channel in range(4):
        weights[f"{up}.proj.1.weight"][channel, channel] = 1
    weights["output.0.bias"] += 50.0
    for channel, (source, factor, middle) in enumerate(((1, 1.0, 0.0), (2, 1.0, 0.0), (0, 20.0, 0.5))):
        weights["output.2.weight"][channel, source] = factor
        weights["output.2.bias"][channel] = -factor * (50.0 + middle)
    return {**weights, "diam_mean": torch.tensor([2.0 * RADIUS]), "diam_labels": torch.tensor([2.0 * RADIUS])}


def discs(shape: tuple[int, int] = (112, 120), step: int = 28) -> tuple[Array, Array]:
    """A picture of discs of one size that do not touch, and which is which."""
    rng, labels = np.random.default_rng(0), np.zeros(shape, np.int32)
    y, x = np.indices(shape)
    for n, (i, j) in enumerate(np.ndindex(shape[0] // step, shape[1] // step), 1):
        top, left = (step * k + step // 2 + int(rng.integers(-2, 3)) for k in (i, j))
        labels[(y - top) ** 2 + (x - left) ** 2 <= RADIUS**2] = n
    return (100 + 1000 * (labels > 0) + rng.normal(0, 10, shape)).astype(np.uint16), labels


def saved(path: Path, weights: Any, *, old: bool = False) -> Path:
    torch.save(weights, path, _use_new_zipfile_serialization=not old)
    return path


@pytest.mark.parametrize(("name", "old"), [("CP_20260101_120000", False), ("discs.pt", False), ("cyto", True)])
def test_a_file_of_weights_finds_discs_from_the_command_line(name: str, old: bool, tmp_path: Path, segsuite: Callable[..., Any]) -> None:
    import tifffile

    done = segsuite("models", "add", saved(tmp_path / name, finding(), old=old), "--name", "discs")
    assert done.out == "added discs: instance, yx, classes cell; use it with --model discs\n", done.err
    spec = load_spec("discs")
    assert (spec.codec, spec.diameter_px, spec.channels, spec.tile, spec.licence) == ("flows", 12, ("grey",), (224, 224), "")
    assert (spec.normalize["values"], spec.description) == ([1.0, 99.0], "Cellpose 1 to 3, for objects of 12 pixels.")
    pixels, truth = discs()
    tifffile.imwrite(tmp_path / "image.tif", pixels)
    done = segsuite("segment", tmp_path / "image.tif", "--model", "discs", "--out", tmp_path / "labels.tif")
    assert done.code == 0, done.err
    found = tifffile.imread(tmp_path / "labels.tif")
    match = evaluate(found, truth).objects
    assert (match.tp, match.fp, match.fn) == (16, 0, 0)
    assert match.iou.min() > 0.95


@pytest.mark.filterwarnings("ignore")
def test_objects_are_those_that_cellpose_makes_of_the_same_flows(tmp_path: Path) -> None:
    dynamics = pytest.importorskip("cellpose.dynamics", reason="cellpose is not installed")
    add(str(saved(tmp_path / "discs", finding())))
    pixels, _ = discs()
    low, high = np.percentile(pixels, (1, 99))
    model = load_model("discs", device="cpu")
    x = torch.from_numpy(((pixels - low) / (high - low)).astype(np.float32))[None, None]
    with torch.inference_mode():
        y, x, inside = model.net.network.inner(x)[0].numpy()
    theirs = dynamics.compute_masks(np.stack([y, x]), inside, niter=200, flow_threshold=0, min_size=0)
    match = evaluate(np.asarray(segment(pixels, model="discs").labels), theirs.astype(np.int32)).objects
    assert (match.tp, match.fp, match.fn) == (16, 0, 0)
    assert match.iou.min() > 0.95


def test_the_style_is_of_the_tile(tmp_path: Path) -> None:
    """What chunks do not change a tile does: a network with a style sees all of it."""
    weights = random(CPnet(1, [4, 8], 3))
    add(str(saved(tmp_path / "styled", weights)), Form(context=(8, 8)))
    pixels, _ = discs((260, 250))
    parts = [np.asarray(segment(pixels, model="styled", chunk=chunk, min_size_px=0).labels) for chunk in ((), (140, 250))]
    assert len(np.unique(parts[0])) > 2
    np.testing.assert_array_equal(*parts)
    small = np.random.default_rng(0).normal(size=(1, 1, 64, 64)).astype(np.float32)
    far = small.copy()
    far[..., -8:, -8:] += 100
    model = load_model("styled", device="cpu")
    one, other = (np.asarray(model.predict(x).maps["semantic"])[..., :32, :32] for x in (small, far))
    assert np.abs(one - other).max() > 1e-6


def test_channels_that_images_do_not_have_are_empty(tmp_path: Path) -> None:
    weights = random(CPnet(2, [4, 8], 3))
    for name, channels in (("one", ()), ("two", ("cells", "nuclei"))):
        add(str(saved(tmp_path / name, weights)), Form(channels=channels))
    assert (load_spec("one").channels, load_spec("two").channels) == (("grey",), ("cells", "nuclei"))
    assert load_spec("one").description.endswith("17 pixels; those that it was trained on had 22.2 before they were brought to that.")
    x = np.random.default_rng(0).normal(size=(1, 1, 64, 48)).astype(np.float32)
    one = load_model("one", device="cpu").predict(x).maps
    two = load_model("two", device="cpu").predict(np.concatenate([x, 0 * x], 1)).maps
    for name in ("semantic", "flow"):
        np.testing.assert_array_equal(one[name], two[name])
    with pytest.raises(OptionError, match="2 names at most, since the network takes 2"):
        add(str(saved(tmp_path / "three", weights)), Form(channels=("a", "b", "c")))


def test_answers_are_those_of_cellpose_3(tmp_path: Path) -> None:
    """In an environment with cellpose below 4; the network is not in later versions."""
    theirs = pytest.importorskip("cellpose.resnet_torch", reason="cellpose below 4 is not installed")
    for widths in ([2, 32, 64, 128, 256], [1, 4, 8]):
        net = theirs.CPnet(list(widths), 3, sz=3).eval()
        net.load_state_dict(random(net))
        told = cellpose.read(saved(tmp_path / "net", net.state_dict()), Form(channels=tuple("ab"[: widths[0]])))
        x = torch.randn(2, widths[0], 64, 48, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            found, wanted = built({**told.net, "file": "net"}, {"net": tmp_path / "net"}).eval()(x), net(x)[0]
        assert wanted.std() > 0.01
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_a_network_of_cellpose_4_goes_the_whole_way(tmp_path: Path) -> None:
    weights = random(cellpose_sam.CPSAM(**FACING))
    weights["out.bias"][-16:] += 5  # so that it is sure of something
    add(str(saved(tmp_path / "sam", weights)), Form(channels=("cells", "nuclei")))
    spec = load_spec("sam")
    assert (spec.net["name"], spec.tile, spec.multiple, spec.context) == ("cellpose_sam", (32, 32), (4, 4), (4, 4))
    assert (spec.diameter_px, spec.citation[:9], dict(spec.net["kwargs"])) == (17, "Pachitari", {**FACING, "channels": 2})
    pixels = np.random.default_rng(0).integers(0, 255, (2, 90, 70)).astype(np.uint8)
    parts = [np.asarray(segment(pixels, model="sam", axes="cyx", chunk=chunk, min_size_px=0).labels) for chunk in ((), (30, 41))]
    assert len(np.unique(parts[0])) > 2
    np.testing.assert_array_equal(*parts)


def sams(depth: int) -> Callable[[Any], Any]:
    """What makes SAM's own encoder in a small size."""
    from functools import partial
    from types import SimpleNamespace

    encoder = pytest.importorskip("segment_anything.modeling.image_encoder")
    sizes: dict[str, Any] = {"embed_dim": 32, "depth": depth, "num_heads": 4, "out_chans": 8, "window_size": 14, "global_attn_indexes": [1]}
    norm = partial(nn.LayerNorm, eps=1e-6)
    return lambda _: SimpleNamespace(image_encoder=encoder.ImageEncoderViT(qkv_bias=True, use_rel_pos=True, norm_layer=norm, **sizes))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_answers_are_those_of_cellpose_4(whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vit = pytest.importorskip("cellpose.vit", reason="cellpose 4.2 is not installed")
    if not whole:
        monkeypatch.setitem(vit.sam_model_registry, "vit_l", sams(3))  # the same network with fewer and smaller layers
    net = vit.CPSAM().eval()
    net.load_state_dict(random(net))
    told = cellpose.read(saved(tmp_path / "net", net.state_dict()), Form())
    assert told.net["kwargs"]["positions"] == ([*[27] * 5, 127] * 4 if whole else [27, 127, 27])
    x = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, wanted = built({**told.net, "file": "net"}, {"net": tmp_path / "net"}).eval()(x), net(x)[0]
    (tmp_path / "net").unlink()  # large
    assert wanted.std() > 0.01
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a denoiser": (lambda w: w.update({"output.2.weight": torch.ones(1, 4, 1, 1)}), r"'output\.2\.weight': found \(1, 4, 1, 1\)\. Needed: 3 outputs"),
    "a network of volumes": (lambda w: w.update({"downsample.down.res_down_0.proj.1.weight": torch.ones(4, 1, 1, 1, 1)}), r"an array of 4 axes"),
    "no answer": (lambda w: w.pop("output.2.weight"), r"'output\.2\.weight': found nothing"),
    "a missing array": (lambda w: w.pop("output.0.running_mean"), r"'output\.0\.running_mean': the file has nothing"),
    "one too many": (lambda w: w.update(more=torch.ones(1)), r"such as 'more'"),
    "another shape": (lambda w: w.update({"output.2.bias": torch.ones(4)}), r"'output\.2\.bias': the file has \(4,\)\. Needed: \(3,\)"),
    "a number that is none": (lambda w: w.update({"output.2.bias": torch.full((3,), math.nan)}), r"'output\.2\.bias' are not finite"),
    "no diameter": (lambda w: w.update(diam_mean=torch.tensor([math.inf])), r"'diam_mean': found \[inf\]\. Needed: one number"),
    "too wide": (lambda w: w.update({"downsample.down.res_down_1.proj.1.weight": torch.ones(5000, 1, 1, 1)}), r"'widths': found \[4, 5000\]"),
    "an even kernel": (lambda w: w.update({"downsample.down.res_down_0.conv.conv_0.2.weight": torch.ones(4, 2, 4, 4)}), r"'kernel': found 4"),
    "on DINOv3": (lambda w: w.update({"encoder.cls_token": torch.ones(1), "W2": torch.ones(1)}), r"is a network of Cellpose 4 on DINOv3"),
    "on SegFormer": (lambda w: w.update({"encoder.patch_embed1.proj": torch.ones(1)}), r"is a network of Cellpose 3 on SegFormer"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_by_its_name(name: str, tmp_path: Path, home: Path) -> None:
    weights = random(CPnet(2, [4, 8], 3))
    REFUSED[name][0](weights)
    with pytest.raises(ModelError, match=REFUSED[name][1]):
        add(str(saved(tmp_path / "net", weights)))
    assert list(home.iterdir()) == []


SAM_REFUSED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "more outputs": (lambda w: w.update(W2=torch.ones(80, 5, 4, 4)), r"'W2': found \(80, 5, 4, 4\)\. Needed: 3 outputs"),
    "no neck": (lambda w: w.pop("encoder.neck.0.weight"), r"'encoder\.neck\.0\.weight': found nothing\. Needed: an array of 4 axes"),
    "heads that do not fit": (lambda w: w.update({"encoder.blocks.0.attn.rel_pos_h": torch.ones(5, 3)}), r"'head': found 3\. Needed: a divisor"),
    "a huge tile": (lambda w: w.update({"encoder.pos_embed": torch.ones(1, 200, 200, 1)}), r"'tokens': found 200\. Needed: 128 at most"),
    "other positions": (lambda w: w.update({"encoder.blocks.1.attn.rel_pos_w": torch.ones(7, 4)}), r"rel_pos_w': the file has \(7, 4\)"),
}


@pytest.mark.parametrize("name", SAM_REFUSED)
def test_of_cellpose_4_as_well(name: str, tmp_path: Path) -> None:
    weights = random(cellpose_sam.CPSAM(**FACING))
    SAM_REFUSED[name][0](weights)
    with pytest.raises(ModelError, match=SAM_REFUSED[name][1]):
        add(str(saved(tmp_path / "net", weights)))


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_but_numbers_is_read(tmp_path: Path) -> None:
    weights = random(CPnet(2, [4], 3))
    trapped = {**weights, "diam_mean": Trap(tmp_path / "canary")}
    (tmp_path / "plain").write_bytes(pickle.dumps({"downsample.down.res_down_0 upsample.up.res_up_0": Trap(tmp_path / "canary")}))
    for path in (saved(tmp_path / "new", trapped), saved(tmp_path / "old", trapped, old=True), tmp_path / "plain"):
        with pytest.raises(ModelError, match=r"cannot be read as numbers only"):
            add(str(path))
    assert not (tmp_path / "canary").exists()
    whole = saved(tmp_path / "net", weights).read_bytes()
    for end in (0, 1, 100, len(whole) // 2, len(whole) - 30):
        (tmp_path / "net").write_bytes(whole[:end])
        with pytest.raises(ModelError, match=r"net is no model\. Needed: .* weights of Cellpose"):
            add(str(tmp_path / "net"))
    other = saved(tmp_path / "other.pt", {"layer.weight": torch.ones(1)})
    with pytest.raises((ModelError, OptionError), match=r"a state dict or another pickle|does not say what it takes"):
        add(str(other))
    add(str(saved(tmp_path / "net", weights)), name="good")
    told = json.loads((tmp_path / "models" / "good" / "model.json").read_text())
    told["net"]["kwargs"]["widths"] = [10**9]
    (tmp_path / "models" / "good" / "model.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match=r"'net\.kwargs\.widths': found \[1000000000\]"):
        load_model("good", device="cpu")
