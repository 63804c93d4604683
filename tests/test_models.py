"""Models: the checkpoint and what a damaged or hostile one is answered with, networks, devices, mirrors and memory."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from napari_segsuite.engine import tiles
from napari_segsuite.errors import ModelError, OptionError
from napari_segsuite.models import card, list_models, load_model, load_spec
from napari_segsuite.models.folder import LARGEST_JSON, read_spec, save
from napari_segsuite.models.nets import ResUNet, build
from napari_segsuite.models.torch_model import TorchModel, activate, pick_device, unflip
from napari_segsuite.types import Class, Head, ModelSpec

if TYPE_CHECKING:
    Array = NDArray[Any]

CELL = (Class(1, "cell"),)


# Checkpoint ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(untrained: Callable[..., TorchModel], tmp_path: Path) -> Path:
    """A valid model folder."""
    made = untrained()
    save(replace(made.spec, description="μ", pixel_size_um=(0.5, 0.25)), made.net.state_dict(), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("half", [True, False])
def test_a_checkpoint_gives_spec_and_predictions_back(half: bool, untrained: Callable[..., TorchModel], tmp_path: Path) -> None:
    classes = (Class(1, "tissue", (1, 2, 3), countable=False), Class(2, "cell"))
    made = untrained(3, classes, channels=("a", "b"), licence="CC0", trained_on="nothing", pixel_size_um=(2.0, 0.5, 0.5))
    told = save(made.spec, made.net.state_dict(), tmp_path, half=half)
    found = load_model(str(tmp_path), device="cpu")
    assert found.spec == told == load_spec(str(tmp_path))
    assert len(told.weights_sha256) == 64
    same = replace(told, weights_sha256="", net=made.spec.net)
    assert same == replace(made.spec, normalize=same.normalize, codec_options=same.codec_options)
    assert dict(same.normalize) == dict(made.spec.normalize)
    assert dict(same.codec_options) == dict(made.spec.codec_options)
    assert told.net == made.spec.net
    batch = np.random.default_rng(0).random((2, 2, 4, 8, 8)).astype(np.float32)
    found.precision = torch.float32  # type: ignore[attr-defined]
    one, other = found.predict(batch).maps, made.predict(batch).maps
    for name, value in one.items():
        assert torch.allclose(value, other[name], atol=3e-2 if half else 0, rtol=0), name
    assert not any(path.name.endswith(".part") for path in tmp_path.iterdir())


def test_half_precision_halves_the_file_and_keeps_norms(folder: Path, untrained: Callable[..., TorchModel], tmp_path: Path) -> None:
    made = untrained()
    save(made.spec, made.net.state_dict(), tmp_path / "full", half=False)
    stored, full = (from_bytes((f / "weights.safetensors").read_bytes()) for f in (folder, tmp_path / "full"))
    kernels = [n for n, v in full.items() if v.ndim > 1]
    assert {stored[n].dtype for n in kernels} == {torch.float16}
    assert all(torch.equal(stored[n], v) for n, v in full.items() if n not in kernels)


def test_saving_again_replaces_and_a_save_cut_off_in_the_middle_is_noticed(
    folder: Path, untrained: Callable[..., TorchModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = untrained(seed=5)
    replaced: list[str] = []
    really = Path.replace

    def once(self: Path, target: Path) -> Path:
        if replaced:
            raise KeyboardInterrupt
        replaced.append(self.name)
        return really(self, target)

    monkeypatch.setattr(Path, "replace", once)
    with pytest.raises(KeyboardInterrupt):
        save(other.spec, other.net.state_dict(), folder)
    monkeypatch.undo()
    assert replaced == ["weights.safetensors.part"]
    with pytest.raises(ModelError, match=r"as model\.json says"):
        load_model(str(folder), device="cpu")
    save(other.spec, other.net.state_dict(), folder)
    load_model(str(folder), device="cpu")


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e6])
def test_weights_that_are_not_finite_are_not_saved(value: float, untrained: Callable[..., TorchModel], tmp_path: Path) -> None:
    """1e6 is beyond what half precision holds."""
    made = untrained()
    state = made.net.state_dict()
    state["stem.weight"][0, 0, 0, 0] = value
    with pytest.raises(ModelError, match=r"the weights 'stem.weight' are not finite"):
        save(made.spec, state, tmp_path / "new")
    assert not (tmp_path / "new" / "model.json").exists()


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.json"
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


def reweigh(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the weights and make model.json agree with their sha256."""
    path = folder / "weights.safetensors"
    weights = from_bytes(path.read_bytes())
    change(weights)
    path.write_bytes(to_bytes(weights))
    rewrite(folder, lambda told: told.update(weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest()))


NOT_A_SPEC: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another format": (lambda t: t.update(format="segsuite-model/9"), r"is not of the format 'segsuite-model/1'. Needed: a field 'format'"),
    "no format": (lambda t: t.pop("format"), "is not of the format"),
    "an unknown field": (lambda t: t.update(run="rm -rf"), r"has unknown fields run\. Needed: only axes, .*\. Update napari-segsuite\."),
    "no name": (lambda t: t.pop("name"), r"describes no model: .*'name'"),
    "no heads": (lambda t: t.pop("heads"), "describes no model"),
    "a head of two fields": (lambda t: t.update(heads=[{"name": "x", "channels": 1}]), "describes no model"),
    "classes that start at 0": (lambda t: t["classes"][0].update(id=0), "class ids are not 1, 2, 3"),
    "no classes": (lambda t: t.update(classes=[]), "class ids are not 1, 2, 3"),
    "stuff last": (lambda t: t["classes"].append({"id": 2, "name": "s", "color": [0, 0, 0], "countable": False}), "a class of stuff comes after"),
    "other axes": (lambda t: t.update(axes="xy"), "axes 'xy'"),
    "one number too few": (lambda t: t.update(tile=[24]), r"tile \(24,\)"),
    "a tile of a million": (lambda t: t.update(tile=[10**6, 10**6]), r"tile \(1000000, 1000000\)"),
    "a tile of words": (lambda t: t.update(tile="24"), "describes no model"),
    "all context": (lambda t: t.update(context=[12, 12]), r"a tile of \(24, 24\) has nothing left inside a context of \(12, 12\)"),
    "all context once rounded up": (lambda t: t.update(multiple=[8, 8], context=[9, 9]), "has nothing left"),
    "a stride of 0": (lambda t: t.update(multiple=[0, 2]), "describes no model"),
    "a name that is a number": (lambda t: t.update(name=3), "name is 3, not a text"),
    "no sha256": (lambda t: t.update(weights_sha256=None), "weights_sha256 is None, not a text"),
    "an unknown codec": (lambda t: t.update(codec="os.system"), "the codec 'os.system' is not one of semantic, centers, flows"),
    "no channels": (lambda t: t.update(channels=[]), "channels are"),
    "a negative pixel size": (lambda t: t.update(pixel_size_um=[-1, 1]), "pixel_size_um is"),
    "one pixel size": (lambda t: t.update(pixel_size_um=[1]), "pixel_size_um is"),
    "a diameter that is no number": (lambda t: t.update(diameter_px="NaN"), "describes no model|diameter_px is"),
    "an infinite diameter": (lambda t: t.update(diameter_px=math.inf), "diameter_px is inf"),
    "an unknown normalisation": (lambda t: t.update(normalize={"method": "eval"}), "normalize is"),
    "one percentile": (lambda t: t.update(normalize={"method": "percentiles", "values": [1]}), "describes no model"),
    "percentiles upside down": (lambda t: t.update(normalize={"method": "percentiles", "values": [99, 1]}), "normalize is"),
    "normalisation by a list": (lambda t: t.update(normalize=[1, 99]), "describes no model"),
}


@pytest.mark.parametrize("name", NOT_A_SPEC)
def test_a_description_that_describes_no_model_is_refused(name: str, folder: Path) -> None:
    change, text = NOT_A_SPEC[name]
    rewrite(folder, change)
    with pytest.raises(ModelError, match=text) as caught:
        read_spec(folder)
    assert "model.json" in str(caught.value)
    with pytest.raises(ModelError):
        load_model(str(folder))


UNREADABLE: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "not UTF-8": lambda data: b'{"name": "\xff"}',
    "a list": lambda data: b"[1, 2]",
    "a million brackets": lambda data: b"[" * (LARGEST_JSON - 1),
    "too long": lambda data: b" " * LARGEST_JSON + data,
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_description_that_cannot_be_read_is_refused(name: str, folder: Path) -> None:
    path = folder / "model.json"
    path.write_bytes(UNREADABLE[name](path.read_bytes()))
    with pytest.raises(ModelError, match=r"model\.json (cannot be read|is not of the format|has \d+ bytes. Needed: at most)"):
        load_spec(str(folder))


NOT_A_NET: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "an unknown network": (
        lambda t: t["net"].update(name="torch.load"),
        r"field 'net': 'torch.load'\. Needed: a network of resunet, .* and its sizes",
    ),
    "no network": (lambda t: t.update(net={}), "field 'net': 'kwargs'"),
    "sizes that are no mapping": (lambda t: t["net"].update(kwargs=5), "field 'net'"),
    "an unknown size": (lambda t: t["net"]["kwargs"].update(depth=3), "field 'net': .*depth"),
    "huge widths": (lambda t: t["net"]["kwargs"].update(widths=[10**9, 10**9]), "cannot be built"),
    "huge widths within bounds": (lambda t: t["net"]["kwargs"].update(widths=[1024] * 8, blocks=[4] * 8), "cannot be built"),
    "a million blocks": (lambda t: t["net"]["kwargs"].update(blocks=[10**6, 1]), "cannot be built"),
    "widths of 0": (lambda t: t["net"]["kwargs"].update(widths=[0, 6]), "cannot be built"),
    "widths that are one number": (lambda t: t["net"]["kwargs"].update(widths=4), "field 'net'"),
    "strides of 3": (lambda t: t["net"]["kwargs"].update(strides=[[3, 3]]), "cannot be built"),
    "four dimensions": (lambda t: t["net"]["kwargs"].update(dims=4), "field 'net'"),
    "another number of dimensions": (lambda t: t["net"]["kwargs"].update(dims=3), "Needed: .*'dims': 2"),
    "another number of channels": (lambda t: t["net"]["kwargs"].update(in_channels=3), "Needed: .*'in_channels': 1"),
    "other heads": (lambda t: t["net"]["kwargs"]["heads"].update(offset=3), "Needed: .*'offset': 2"),
    "no centre": (lambda t: (t["heads"].pop(1), t["net"]["kwargs"]["heads"].pop("center")), "for the codec 'centers'"),
    "one class too many": (lambda t: t["classes"].append({**t["classes"][0], "id": 2}), r"the heads are .* for the codec 'centers' and 2 classes"),
    "a stride that is not the network's": (lambda t: t.update(multiple=[3, 2]), r"multiple is \(3, 2\)\. Needed: multiples of \(2, 2\)"),
}


@pytest.mark.parametrize("name", NOT_A_NET)
def test_a_network_that_does_not_fit_its_description_is_refused(name: str, folder: Path) -> None:
    change, text = NOT_A_NET[name]
    rewrite(folder, change)
    with pytest.raises(ModelError, match=text):
        load_model(str(folder), device="cpu")


NOT_ITS_WEIGHTS: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "one missing": (lambda w: w.pop("stem.weight"), r"1 tensors do not fit, such as 'stem.weight': the file has nothing\. Needed: \(4, 1, 3, 3\)"),
    "one too many": (lambda w: w.update(more=torch.zeros(2)), r"such as 'more': the file has \(2,\)\. Needed: nothing as the network"),
    "another shape": (lambda w: w.update({"stem.weight": torch.zeros(4, 2, 3, 3)}), r"the file has \(4, 2, 3, 3\)\. Needed: \(4, 1, 3, 3\)"),
    "not finite": (lambda w: w["heads.center.bias"].fill_(math.nan), r"'heads.center.bias' are not finite\. Train again"),
    "infinite statistics": (lambda w: w["encoder.0.0.first_norm.running_var"].fill_(math.inf), "are not finite"),
}


@pytest.mark.parametrize("name", NOT_ITS_WEIGHTS)
def test_weights_of_another_network_are_refused(name: str, folder: Path) -> None:
    change, text = NOT_ITS_WEIGHTS[name]
    reweigh(folder, change)
    with pytest.raises(ModelError, match=text):
        load_model(str(folder), device="cpu")


@pytest.mark.parametrize("name", ["cut off", "one bit", "gone"])
def test_damaged_weights_are_refused(name: str, folder: Path) -> None:
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    if name == "gone":
        path.unlink()
    else:
        data[-1] ^= 1
        path.write_bytes(data if name == "one bit" else data[:-9])
    text = r"has the sha256 .*\. Needed: .* as model\.json says\. Get the model again"
    if name == "gone":
        text = "cannot be read: .* Needed: the weights beside"
    with pytest.raises(ModelError, match=text):
        load_model(str(folder), device="cpu")


@pytest.mark.parametrize("name", ["cut off", "pickle", "header of 8 EB"])
def test_what_is_no_safetensors_file_is_refused_even_with_the_right_sha256_and_never_run(name: str, folder: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    path = folder / "weights.safetensors"
    data = {"cut off": path.read_bytes()[:-9], "pickle": pickle.dumps(Trap()), "header of 8 EB": b"\xff" * 7 + b"\x7f" + b"{}"}[name]
    path.write_bytes(data)
    rewrite(folder, lambda told: told.update(weights_sha256=hashlib.sha256(data).hexdigest()))
    with pytest.raises(ModelError, match="is not a safetensors file"):
        load_model(str(folder), device="cpu")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("ref", ["nuclei2", "/no/such/folder", ".", "", "otsu/"])
def test_a_model_that_does_not_exist_is_told_with_those_that_do(ref: str) -> None:
    text = r"There is no model .*\. Needed: one of .*otsu, .*, or a folder with model\.json and weights\.safetensors\."
    asked: list[Callable[[str], object]] = [load_spec, load_model, card]
    for ask in asked:
        with pytest.raises(ModelError, match=text) as caught:
            ask(ref)
        assert repr(ref) in str(caught.value)


def test_every_model_that_came_with_the_install_is_described_and_has_a_card() -> None:
    specs = {spec.name: spec for spec in list_models()}
    assert "otsu" in specs
    for name, spec in specs.items():
        assert load_spec(name) == spec
        assert spec.description
        assert spec.licence
        assert card(name).strip() or name == "nuclei", name
        assert set(asdict_names(spec)) == {f.name for f in fields(ModelSpec)}


def asdict_names(spec: ModelSpec) -> list[str]:
    return [f.name for f in fields(spec)]


# Networks -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dims", "widths"), [(2, (4, 8)), (2, (7, 9)), (2, (8, 16, 24)), (3, (4, 6))])
def test_gradients_are_those_of_double_precision(dims: int, widths: tuple[int, ...]) -> None:
    """With narrow networks in their preferred layout, where one CPU library writes beyond its memory if asked for a strided 1x1 convolution."""
    torch.manual_seed(0)
    net = ResUNet(dims, 1, {"a": 2}, widths, (1,) * len(widths))
    exact = copy.deepcopy(net).double()
    pixels = torch.rand(2, 1, *[8] * dims)
    for made, x in ((net.to(memory_format=net.memory_format), pixels.contiguous(memory_format=net.memory_format)), (exact, pixels.double())):
        made.train()(x)["a"].square().mean().backward()
    for (name, one), other in zip(net.named_parameters(), exact.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad.double(), other.grad, rtol=1e-2, atol=1e-3 * float(other.grad.abs().max())), name


@pytest.mark.parametrize(
    ("dims", "strides", "multiple", "size"),
    [
        (2, None, (4, 4), (12, 8)),
        (3, None, (4, 4, 4), (4, 8, 12)),
        (3, [(1, 2, 2), (2, 2, 2)], (2, 4, 4), (2, 8, 4)),
        (3, [(1, 2, 2), (1, 2, 2)], (1, 4, 4), (3, 4, 4)),
        (2, [(1, 2), (2, 1)], (2, 2), (6, 4)),
    ],
)
def test_networks_answer_on_their_inputs_grid(dims: int, strides: Any, multiple: tuple[int, ...], size: tuple[int, ...]) -> None:
    net = ResUNet(dims, 2, {"semantic": 3, "center": 1}, (2, 3, 4), (1, 2, 1), strides).eval()
    assert net.multiple == multiple
    for layout in (torch.contiguous_format, net.memory_format):
        out = net(torch.rand(2, 2, *size).contiguous(memory_format=layout))
        assert {name: tuple(value.shape) for name, value in out.items()} == {"semantic": (2, 3, *size), "center": (2, 1, *size)}
        assert all(value.isfinite().all() for value in out.values())


def test_a_flat_stride_has_flat_kernels() -> None:
    net: Any = ResUNet(3, 1, {"a": 1}, (2, 2, 2), (1, 1, 1), [(1, 2, 2), (2, 2, 2)])
    assert net.stem.weight.shape[2:] == (1, 3, 3)
    assert net.encoder[1][0].first.weight.shape[2:] == (3, 3, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dims": 1}, {"heads": {}}, {"widths": ()}, {"widths": (4, 2.5)}, {"blocks": (1,)}, {"blocks": (1, 0)}, {"in_channels": 0},
        {"heads": {"a": 1025}}, {"strides": [(2,)]}, {"strides": [(2, 4)]}, {"strides": []}, {"widths": (1024,) * 9, "blocks": (1,) * 9},
    ],
)  # fmt: skip
def test_networks_that_cannot_be_are_refused_before_memory_is_taken(wrong: dict[str, Any]) -> None:
    right = {"dims": 2, "in_channels": 1, "heads": {"a": 1}, "widths": (2, 2), "blocks": (1, 1)}
    build("resunet", right)
    with pytest.raises(ValueError, match="cannot be built"):
        build("resunet", {**right, **wrong})


def shaken(net: nn.Module) -> nn.Module:
    """Norms with statistics of their own, as after training."""
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            module.running_mean.uniform_(-0.3, 0.3)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return net


@pytest.mark.parametrize("dims", [2, 3])
def test_a_voxel_does_not_depend_on_its_tile_where_the_context_covers_what_the_network_sees(dims: int, untrained: Callable[..., TorchModel]) -> None:
    model = untrained(dims)
    shaken(model.net)
    shape = (24, 24, 40)[-dims:]
    pixels = np.random.default_rng(0).random((1, *shape)).astype(np.float32)
    whole = model.predict(pixels[None]).maps

    def worst(context: int) -> float:
        spec = replace(model.spec, tile=(2 * context + 8,) * dims, context=(context,) * dims)
        found = []
        for tile in tiles.tiles(shape, spec, tuple((0, n) for n in shape))[:6]:
            part = model.predict(pixels[(slice(None), *[slice(*s) for s in tile.seen])][None]).maps
            inner = tuple(slice(a - s, b - s) for (a, b), (s, _) in zip(tile.core, tile.seen, strict=True))
            for name, value in part.items():
                there = whole[name][(slice(None), slice(None), *[slice(*c) for c in tile.core])]
                found.append(float((value[(slice(None), slice(None), *inner)] - there).abs().max()))
        return max(found)

    assert worst(12) < 1e-4
    assert worst(0) > 1e-2, "this test would not notice"


# Prediction ---------------------------------------------------------------------------------------------------------------------------


class Toward(nn.Module):
    """Answers that turn with the image: a value, and the difference of a voxel's neighbours along each axis."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        slopes = []
        for axis in range(2, x.ndim):
            n = x.shape[axis]
            after, before = torch.arange(n).add(1).clamp(max=n - 1), torch.arange(n).sub(1).clamp(min=0)
            slopes.append(x.index_select(axis, after) - x.index_select(axis, before))
        return {"semantic": torch.cat([x, 1 - x], 1), "center": x, "offset": torch.cat(slopes, 1)}


class Uneven(Toward):
    """The same, but stronger to one side."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        ramp = torch.linspace(1, 2, x.shape[-1])
        return {name: value * ramp for name, value in super().forward(x).items()}


def with_net(net: nn.Module, untrained: Callable[..., TorchModel], dims: int = 2, **more: Any) -> TorchModel:
    model = TorchModel(untrained(dims).spec, net, device="cpu", **more)
    model.precision = torch.float32
    return model


@pytest.mark.parametrize("dims", [2, 3])
def test_mirrors_are_undone_exactly(dims: int, untrained: Callable[..., TorchModel]) -> None:
    """A network whose answers turn with the image answers the same with and without: vectors to the last bit, others up to their softmax."""
    batch = np.random.default_rng(0).integers(0, 65, (3, 1, *(5, 6, 7)[-dims:])).astype(np.float32) / np.float32(64)  # sums of eight are exact
    plain = with_net(Toward(), untrained, dims).predict(batch).maps
    mirrored = with_net(Toward(), untrained, dims, flips=True).predict(batch).maps
    assert torch.equal(plain["offset"], mirrored["offset"])
    assert float(plain["offset"].abs().max()) > 1
    for name, value in plain.items():
        assert torch.allclose(value, mirrored[name], atol=1e-6, rtol=0), name


def test_mirrors_are_averaged(untrained: Callable[..., TorchModel]) -> None:
    batch = torch.rand(2, 1, 5, 6, generator=torch.Generator().manual_seed(0))
    heads = untrained().spec.heads
    total: dict[str, Tensor] = {}
    for mirror in ((), (2,), (3,), (2, 3)):
        raw = Uneven()(batch.flip(mirror))
        for head in heads:
            value = activate(head, raw[head.name]).flip(mirror)
            if head.kind == "vector":
                for axis in mirror:
                    value[:, axis - 2] *= -1
            total[head.name] = total.get(head.name, torch.zeros(())) + value / 4
    found = with_net(Uneven(), untrained, flips=True).predict(batch.numpy()).maps
    for name, value in total.items():
        assert torch.allclose(found[name], value, atol=1e-6), name
    plain = with_net(Uneven(), untrained).predict(batch.numpy()).maps
    assert not torch.allclose(plain["offset"], found["offset"], atol=1e-2)


def test_only_vectors_change_their_sign() -> None:
    value = torch.arange(24.0).reshape(1, 3, 2, 2, 2)
    for n in range(4):
        for mirror in itertools.combinations((2, 3, 4), n):
            assert torch.equal(unflip(value, Head("p", 3, "probability"), mirror), value.flip(mirror))
            back = unflip(unflip(value, Head("v", 3, "vector"), mirror), Head("v", 3, "vector"), mirror)
            assert torch.equal(back, value)
    vector = unflip(value, Head("v", 3, "vector"), (3,))
    assert torch.equal(vector, value.flip(3) * torch.tensor([1, -1, 1]).reshape(1, 3, 1, 1, 1))


def test_activations() -> None:
    raw = torch.tensor([[[2.0]], [[-1.0]]])[None]
    assert activate(Head("a", 2, "logits"), raw).sum() == pytest.approx(1)
    assert activate(Head("a", 2, "probability"), raw).flatten().tolist() == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))])
    assert activate(Head("a", 2, "vector", 8.0), raw).flatten().tolist() == [16, -8]


def test_tiles_answer_the_same_bits_alone_and_together(untrained: Callable[..., TorchModel]) -> None:
    """Libraries for convolutions do not promise that, which is why tiles are computed one by one on a CPU."""
    for dims in (2, 3):
        model = untrained(dims)
        model.net = shaken(ResUNet(dims, 1, {h.name: h.channels for h in model.spec.heads}, (4, 8, 16), (1, 1, 1)).eval()).requires_grad_(False)
        batch = np.random.default_rng(0).random((5, 1, *(8, 32, 32)[-dims:])).astype(np.float32)
        together = model.predict(batch).maps
        for k in range(5):
            for name, value in model.predict(batch[k : k + 1]).maps.items():
                assert torch.equal(together[name][k : k + 1], value), name


class Greedy(Toward):
    """Runs out of memory above `limit` tiles at a time, the first `times` times."""

    def __init__(self, limit: int, times: float = math.inf) -> None:
        super().__init__()
        self.limit, self.times = limit, times
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.calls.append(len(x))
        if len(x) > self.limit and self.times > 0:
            self.times -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return super().forward(x)


def test_out_of_memory_halves_the_batch_and_changes_nothing_else(untrained: Callable[..., TorchModel]) -> None:
    batch = np.random.default_rng(0).random((11, 1, 6, 8)).astype(np.float32)
    expected = with_net(Toward(), untrained, batch=1).predict(batch).maps
    net = Greedy(2)
    model = with_net(net, untrained)
    model.batch = 8  # as on a GPU
    for _ in range(2):
        found = model.predict(batch).maps
        assert torch.equal(found["offset"], expected["offset"])
        for name, value in expected.items():
            assert torch.allclose(found[name], value, atol=1e-6, rtol=0), name
    assert model.batch == 2
    assert model.notices == ["out of memory with 8 tiles at a time: going on with 4", "out of memory with 4 tiles at a time: going on with 2"]
    net.calls.clear()
    model.predict(batch)
    assert max(net.calls) == 2  # what was learnt is kept


def test_a_tile_that_does_not_fit_is_computed_on_the_cpu_and_said_once(untrained: Callable[..., TorchModel]) -> None:
    batch = np.random.default_rng(0).random((2, 1, 6, 8)).astype(np.float32)
    net = Greedy(0, times=1)
    model = with_net(net, untrained)
    found = model.predict(batch).maps
    for name, value in with_net(Toward(), untrained).predict(batch).maps.items():
        assert torch.equal(found[name], value), name
    assert model.notices == ["out of memory with a single tile: it is computed on the CPU"]
    net.times = 1
    model.predict(batch)
    assert len(model.notices) == 1


def test_a_tile_that_fits_nowhere_is_an_error_in_words(untrained: Callable[..., TorchModel]) -> None:
    model = with_net(Greedy(0), untrained)
    with pytest.raises(ModelError, match=r"The memory does not suffice for a single tile of 6 x 8\. Close other programs, or take a smaller model\."):
        model.predict(np.zeros((2, 1, 6, 8), np.float32))


@pytest.mark.parametrize("wish", ["cuda:99", "banana", "meta", "", "cpu:x", "vulkan"])
def test_a_device_that_is_not_there_is_told(wish: str) -> None:
    text = r"Device .* is not available here\. Needed: auto, cpu, cuda, cuda:1 or mps\. Choose device='auto' or 'cpu' \(--device cpu\)\."
    with pytest.raises(OptionError, match=text) as caught:
        pick_device(wish)
    assert repr(wish) in str(caught.value)


def test_devices_that_are_there() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    here = {"cpu"} | ({"cuda"} if torch.cuda.is_available() else set()) | ({"mps"} if torch.backends.mps.is_available() else set())
    assert pick_device("auto").type in here
    assert (pick_device("auto").type == "cpu") == (here == {"cpu"})


def test_a_network_is_frozen_and_in_evaluation_mode(untrained: Callable[..., TorchModel]) -> None:
    model = untrained()
    assert not model.net.training
    assert not any(p.requires_grad for p in model.net.parameters())
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    answer = model.predict(np.random.default_rng(0).random((2, 1, 8, 8)).astype(np.float32)).maps
    assert all(torch.equal(value, before[name]) for name, value in model.net.state_dict().items())
    assert sorted(answer) == ["center", "offset", "semantic"]
    assert _sums_to_one(answer["semantic"])


def _sums_to_one(maps: Tensor, axes: Sequence[int] = (1,)) -> bool:
    return bool(torch.allclose(maps.sum(tuple(axes)), torch.ones(()), atol=1e-5))
