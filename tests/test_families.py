"""Networks of other libraries: each is built, trained, stored, loaded, and answers the same whatever the chunks."""

from __future__ import annotations

import sys
from collections.abc import Generator
from dataclasses import replace
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
from napari_segsuite.engine import tiles
from napari_segsuite.errors import MissingExtra, ModelError, OptionError
from napari_segsuite.models import families, nets
from napari_segsuite.models.families import DETECTORS, FAMILIES, SIZES
from napari_segsuite.models.folder import FOREIGN, save, stored
from napari_segsuite.models.torch_model import TorchModel
from napari_segsuite.synthetic import nuclei
from napari_segsuite.training import design, job
from napari_segsuite.training.data import read_data
from napari_segsuite.training.options import TrainOptions, check
from napari_segsuite.types import Class, ModelSpec

Array = NDArray[Any]
EVERY = [(name, dims) for name, dims in SIZES if not name.endswith("-base") and name not in DETECTORS]
CODECS = {"deeplabv3plus": "semantic", "fpn": "semantic", "segformer": "semantic", "unetplusplus": "flows", "dynunet": "flows"}
"""Of the others ``centers``."""
CROP = {2: (64, 64), 3: (32, 32, 32)}


def each(*slow: str) -> pytest.MarkDecorator:
    """All families; `slow` ones, and those of MONAI, whose import alone takes ten seconds, are left out where time is short."""
    marked = {(name, dims): name in slow or FAMILIES[name].extra == "monai" for name, dims in EVERY}
    return pytest.mark.parametrize(
        ("name", "dims"), [pytest.param(*key, id=f"{key[0]} {key[1]}D", marks=[pytest.mark.slow] * late) for key, late in marked.items()]
    )


every = each("unetplusplus")


def library(name: str) -> None:
    """Skip where the library of a family is absent, or does not work with the torch that is there."""
    family = FAMILIES[name]
    try:
        for module in family.libraries:
            import_module(module)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"the extra {family.extra} is not installed: {error}")


def kwargs_of(name: str, dims: int, heads: dict[str, int], channels: int = 1) -> dict[str, Any]:
    """What the smaller size of a family is built with for data whose voxels are cubes."""
    size = dict(SIZES[name, dims])
    if "widths" in size:
        size |= {"widths": size["widths"][:4], "strides": [[2] * dims] * 3}
    return {"dims": dims, "in_channels": channels, "heads": heads, **size}


def built(name: str, dims: int, heads: dict[str, int], channels: int = 1) -> nets.Net:
    library(name)
    torch.manual_seed(0)
    return nets.build(name, kwargs_of(name, dims, heads, channels))


def untrained(name: str, dims: int) -> TorchModel:
    """Random weights whose answers vary from voxel to voxel, and tiles so small that a little picture has several."""
    representation = CODECS.get(name, "centers")
    classes = (Class(1, "a", countable=False), Class(2, "b", countable=False)) if representation == "semantic" else (Class(1, "cell"),)
    heads = codec(representation).heads(classes, dims)
    outputs = {h.name: h.channels for h in heads}
    net = built(name, dims, outputs)
    with torch.no_grad():
        pixels = nuclei(CROP[dims], "zyx"[-dims:], seed=9)[0].astype(np.float32) / 200
        for head, value in net.eval()(torch.from_numpy(pixels)[None, None]).items():
            final: Any = net.heads[head]
            final.weight /= value.std()
            final.bias.copy_((final.bias - value.mean((0, *range(2, value.ndim)))) / value.std())
    near = {"centers": {"longest": 4, "second": 2, "search": 3, "window": 2}, "flows": {"steps": 4, "search": 3, "window": 2, "least": 2}}
    about = {"diameter_px": 10.0, "codec_options": near.get(representation, {}), "net": {"name": name, "kwargs": kwargs_of(name, dims, outputs)}}
    m = net.multiple[0]
    spec = ModelSpec(
        name, "zyx"[-dims:], ("grey",), heads, classes, representation, tile=(3 * m,) * dims, multiple=net.multiple, context=(m // 2,) * dims, **about
    )
    model = TorchModel(spec, net, device="cpu")
    model.precision = torch.float32  # the same numbers on every kind of processor
    return model


def files(folder: Path, dims: int, kind: str = "instance", count: int = 2) -> dict[str, Any]:
    """Pictures of nuclei and their labels as files; the wishes that name them."""
    shape, axes = (48, 56) if dims == 2 else (12, 36, 40), "zyx"[-dims:]
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for k in range(count):
        pixels, labels = nuclei(shape, axes, seed=k)
        truth = (labels > 0).astype(np.uint8) if kind == "semantic" else labels.astype(np.uint16)
        for part, array in (("images", pixels), ("labels", truth)):
            tifffile.imwrite(folder / part / f"{k}.tif", array, metadata={"axes": axes.upper()})
    return {"images": str(folder / "images"), "labels": str(folder / "labels")}


def drained(steps: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


# The laws -----------------------------------------------------------------------------------------------------------------------------


@each("unetplusplus", "deeplabv3plus")
def test_maps_and_labels_do_not_depend_on_the_chunks(name: str, dims: int, tmp_path: Path) -> None:
    model = untrained(name, dims)
    m = model.spec.multiple[-1]
    shape = (int(3.4 * m) + 3, int(3.4 * m) + 1) if dims == 2 else (m // 2 + 5, m + 3, int(3.2 * m))
    pixels = nuclei(shape, "zyx"[-dims:], seed=9)[0].astype(np.float32)[None] / 200

    def read(box: tiles.Box) -> Array:
        return pixels[(slice(None), *(slice(a, b) for a, b in box))]

    def maps(region: tiles.Box) -> dict[str, Array]:
        *_, (_, _, found) = tiles.predict(read, shape, model, region, 1)
        return found

    assert len(tiles.tiles(shape, model.spec, tuple((0, n) for n in shape))) > 1
    whole = maps(tuple((0, n) for n in shape))
    part = tuple((n // 3, n // 3 + n // 2) for n in shape)
    for head, value in maps(part).items():
        np.testing.assert_array_equal(value, whole[head][(slice(None), *(slice(a, b) for a, b in part))])
        assert value.std() > 0
    save(model.spec, model.net.state_dict(), tmp_path)
    options: dict[str, Any] = {"model": str(tmp_path), "device": "cpu", "min_score": 0, "min_size_px": 0}
    expected = segment(pixels[0], **options)
    assert len(expected.segments["id"])
    np.testing.assert_array_equal(segment(pixels[0], **options, chunk=tuple(n // 2 + 1 for n in shape)).labels, expected.labels)


@every
def test_what_was_trained_is_stored_loaded_and_answers_the_same(name: str, dims: int, tmp_path: Path) -> None:
    library(name)
    representation = CODECS.get(name, "centers")
    task = {"task": "semantic", "classes": ("1:nucleus",)} if representation == "semantic" else {"codec": representation}
    given = files(tmp_path, dims, task.get("task", "instance"))
    options = TrainOptions(**given, **task, net=name, steps=2, batch=2, device="cpu")
    data = read_data(options)
    torch.manual_seed(0)
    made = design.design(options, data, data.samples, "mine")
    assert all(c % m == t % m == 0 and t > 2 * c for c, t, m in zip(made.spec.context, made.spec.tile, made.net.multiple, strict=True))
    state = drained(job._fitted(options, made, data.samples, tmp_path / "training"))
    assert [key for key, value in made.net.named_parameters() if value.grad is None] == []  # every weight is part of what answers
    trained = TorchModel(made.spec, made.net, device="cpu")
    save(made.spec, state, tmp_path / "mine")
    loaded: Any = load_model(str(tmp_path / "mine"), device="cpu")
    batch = np.random.default_rng(0).random((1, 1, *CROP[dims])).astype(np.float32)
    expected = trained.predict(batch).maps
    assert all(torch.equal(value, expected[head]) for head, value in loaded.predict(batch).maps.items())
    again = design.design(replace(options, net=None, init=str(tmp_path / "mine")), data, data.samples, "more")
    assert all(torch.equal(value, loaded.net.state_dict()[key]) for key, value in again.net.state_dict().items())


@every
def test_a_voxel_answers_by_what_is_around_it_alone(name: str, dims: int) -> None:
    """Of all families but one, whose attention sees the whole tile; norms and means over the tile would show here."""
    net = built(name, dims, {"semantic": 2}).eval()
    short, long = max(net.multiple[0], 32) if dims == 2 else net.multiple[0], 1024 if dims == 2 else 512
    x = torch.rand(1, 1, *(short,) * (dims - 1), long)
    other = x.clone()
    other[..., long // 4 * 3 :] = torch.rand(other[..., long // 4 * 3 :].shape) * 3
    with torch.inference_mode():
        one, two = net(x)["semantic"], net(other)["semantic"]
    near = slice(0, long // 8)
    assert torch.equal(one[..., near], two[..., near]) == (name != "segformer")
    assert not torch.equal(one, two)


@every
def test_nothing_in_a_network_is_drawn_by_chance_and_all_channels_are_seen(name: str, dims: int) -> None:
    net = built(name, dims, {"semantic": 3, "offset": dims}, channels=4)
    x = torch.rand(2, 4, *CROP[dims])
    one, two = net.train()(x), net(x)
    assert all(torch.equal(value, two[head]) for head, value in one.items())
    assert {head: tuple(value.shape) for head, value in one.items()} == {"semantic": (2, 3, *CROP[dims]), "offset": (2, dims, *CROP[dims])}
    for channel in range(4):
        changed = x.clone()
        changed[:, channel] = 0
        assert not torch.equal(net(changed)["offset"], one["offset"])


# One of them from the command line -------------------------------------------------------------------------------------------------------


def test_a_family_is_trained_by_its_name_and_runs_at_once(segsuite: Any, tmp_path: Path) -> None:
    library("fpn")
    given = files(tmp_path, 2)
    wishes = ["--net", "fpn", "--steps", "2", "--batch", "2", "--crop", "32,32", "--device", "cpu", "--out", tmp_path / "mine"]
    told = segsuite("train", "--images", given["images"], "--labels", given["labels"], *wishes)
    assert (told.code, told.err) == (0, "")
    spec = load_spec(str(tmp_path / "mine"))
    assert (spec.net["name"], spec.net["kwargs"]["encoder"], spec.multiple) == ("fpn", "resnet18", (32, 32))
    assert "encoder resnet18, width 64" in (tmp_path / "mine" / "card.md").read_text(encoding="utf-8")
    told = segsuite("segment", Path(given["images"]) / "0.tif", "--model", tmp_path / "mine", "--out", tmp_path / "found.tif")
    assert told.code == 0


def test_all_names_are_in_the_help(segsuite: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        segsuite("train", "--help")
    told = " ".join(capsys.readouterr().out.split())
    assert all(name in told for name in FAMILIES)


# Refused ------------------------------------------------------------------------------------------------------------------------------


def test_a_network_for_planes_takes_no_volumes(tmp_path: Path) -> None:
    library("fpn")
    with pytest.raises(OptionError, match=r"Network fpn is for planes, and the images have the axes zyx"):
        training.train(**files(tmp_path, 3), net="fpn", steps=2, out=tmp_path / "model")


@pytest.mark.parametrize("name", ["fpn", pytest.param("segresnet", marks=pytest.mark.slow), pytest.param("swinunetr", marks=pytest.mark.slow)])
def test_a_library_that_is_absent_is_named_before_anything_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = FAMILIES[name]
    monkeypatch.setitem(sys.modules, family.libraries[-1].partition(".")[0], None)
    with pytest.raises(MissingExtra, match=rf"The network {name} needs .* pip install \"napari-segsuite\[{family.extra}\]\""):
        check(TrainOptions(images="a", labels="b", net=f"{name}-base"))
    monkeypatch.setitem(sys.modules, family.libraries[-1], None)
    with pytest.raises(MissingExtra, match=family.extra):
        nets.build(name, kwargs_of(name, 2, {"semantic": 2}))


def test_a_library_that_does_not_work_with_this_torch_is_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(families, "import_module", broken)
    with pytest.raises(MissingExtra, match="smp"):
        nets.build("fpn", kwargs_of("fpn", 2, {"semantic": 2}))


def test_a_norm_over_a_single_voxel_is_refused(tmp_path: Path) -> None:
    library("fpn")
    with pytest.raises(OptionError, match=r"deepest level sees a single voxel\. Needed: two at least\. Choose a larger --batch"):
        training.train(**files(tmp_path, 2), net="fpn", crop=(32, 32), batch=1, steps=2, out=tmp_path / "model")


HOSTILE = [
    ("fpn", {"encoder": "tu-vit_giant_patch14_dinov2"}),
    ("fpn", {"encoder": "../../weights"}),
    ("fpn", {"width": 48}),
    ("deeplabv3plus", {"encoder": "mit_b0"}),
    ("segformer", {"width": 10**6}),
    ("segformer", {"width": True}),
    ("unetplusplus", {"dims": 3}),
    ("unetplusplus", {"in_channels": 0}),
    ("segresnet", {"blocks": [1] * 60}),
    ("segresnet", {"blocks": [10**9]}),
    ("segresnet", {"widths": [8]}),
    ("dynunet", {"widths": [1024] * 40, "strides": [[1, 1]] * 39}),
    ("dynunet", {"strides": [[2, 2]]}),
    ("dynunet", {"strides": [[64, 2]] * 3}),
    ("swinunetr", {"width": 100}),
    ("swinunetr", {"width": 13}),
    ("swinunetr", {"heads": {}}),
    ("swinunetr", {"heads": {str(k): 1000 for k in range(10**4)}}),
]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param(name, change, id=f"{name} {str(change)[:40]}", marks=[pytest.mark.slow] * (FAMILIES[name].extra == "monai"))
        for name, change in HOSTILE
    ],
)
def test_sizes_that_no_network_of_ours_has_are_refused(name: str, change: dict[str, Any]) -> None:
    library(name)
    with pytest.raises((ValueError, TypeError)):
        nets.build(name, {**kwargs_of(name, 2, {"semantic": 2}), **change})


def test_networks_of_ours_are_called_otherwise_than_those_that_others_made() -> None:
    """By its name a stored network is built, or loaded from the files that it came with."""
    assert not set(nets.NETS) & set(FOREIGN)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    model = untrained("fpn", 2)
    state = {f"{key}.old" if key.endswith("conv1.weight") else key: value for key, value in model.net.state_dict().items()}
    save(model.spec, state, tmp_path)
    with pytest.raises(ModelError, match=r"\d+ tensors do not fit, such as 'body\.encoder\.conv1\.weight': the file has nothing"):
        load_model(str(tmp_path), device="cpu")


def test_whole_numbers_are_stored_whole() -> None:
    index = torch.tensor([[2049, 1], [70000, 5]])
    assert torch.equal(stored(index), index)
    assert stored(torch.rand(2, 2)).dtype == torch.float16
