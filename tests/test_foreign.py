"""Models that others made: packages of BioImage.IO and bare networks, from the file to the segmentation."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import shutil
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from napari_segsuite import Class, list_models, load_model, load_spec, read_segmentation, segment, write
from napari_segsuite.arrays import as_image
from napari_segsuite.errors import ModelError, OptionError, SegsuiteError
from napari_segsuite.models.foreign import tensors
from napari_segsuite.models.foreign.check import check
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.grid import grid
from napari_segsuite.models.foreign.model import activated, rearranged
from napari_segsuite.models.foreign.network import valid
from napari_segsuite.models.foreign.processing import apply
from napari_segsuite.models.foreign.store import add, free_name, remove
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Head

Array = NDArray[Any]
SAID = ("--axes", "yx", "--normalize", "none", "--activation", "none", "--context", "4,4", "--tile", "32,32", "--multiple", "4,4")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def packages(shared_data: Path) -> Path:
    """Real packages of BioImage.IO."""
    return shared_data / "models_bioimageio"


class Blur(nn.Module):
    """Probability of an object: the mean of a window of 5, cut off at 0 and 1. It looks 2 voxels far."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, 5, stride=1, padding=2, count_include_pad=False).clamp(0, 1)


def onnx_model(path: Path, kernel: Array, *, activation: str = "", size: tuple[object, object] = ("h", "w")) -> Path:
    """A convolution with zeros around the image, as an ONNX file."""
    pad = [k // 2 for k in kernel.shape[2:]]
    nodes = [onnx.helper.make_node("Conv", ["x", "w"], ["y" if not activation else "z"], pads=pad * 2)]
    nodes += [onnx.helper.make_node(activation, ["z"], ["y"])] if activation else []
    ends = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", c, *size]) for n, c in (("x", kernel.shape[1]), ("y", kernel.shape[0]))
    ]
    graph = onnx.helper.make_graph(nodes, "net", ends[:1], ends[1:], [onnx.numpy_helper.from_array(kernel.astype(np.float32), "w")])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def blurring(path: Path, **more: Any) -> Path:
    return onnx_model(path, np.full((1, 1, 5, 5), 1 / 25), **more)


def scripted(path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the format is old
        torch.jit.save(torch.jit.trace(Blur(), torch.zeros(1, 1, 16, 16), check_trace=False), path)
    return path


def spots(shape: tuple[int, int] = (70, 90)) -> Array:
    return np.asarray(nuclei(shape, "yx", crowding=0.1, seed=3)[0] > 60, np.float32)


def blurred(pixels: Array) -> Array:
    return Blur()(torch.from_numpy(pixels)[None, None])[0, 0].numpy()


# Packages -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "weights"),
    [("bioimageio.yaml", "onnx"), ("bioimageio.yaml", "torchscript"), ("v0_4_0.bioimageio.yaml", "onnx"), ("v0_4_9.bioimageio.yaml", "torchscript")],
)
def test_a_package_gives_what_its_makers_got(name: str, weights: str, packages: Path) -> None:
    told = check(str(packages / "unet2d_nuclei_broad" / name), weights=weights, trusted=True)
    assert told.good
    assert told.differences["probability"] < 1e-5


def test_a_package_with_several_tensors_is_checked_but_does_not_segment(packages: Path) -> None:
    path = str(packages / "unet2d_multi_tensor")
    told = check(path, weights="torchscript", trusted=True)
    assert told.good
    assert set(told.differences) == {"output0", "output1"}
    with pytest.raises(ModelError, match=r"bioimageio.yaml, field 'inputs': 2 of them \(input0, input1\)\. Needed: one input.* models check"):
        add(path, Form(weights="torchscript"), trusted=True)


REFUSED = {
    "unet2d_nuclei_broad/invalid_v0_4_0_duplicate_tensor_names.bioimageio.yaml": r"'outputs\[0\]\.name': found 'data'\. Needed: a name that",
    "unet2d_nuclei_broad/expand_output_shape.bioimageio.yaml": r"names the file 'unet2d_expand_output_shape\.py', which is not in",
    "unet2d_nuclei_broad/expand_output_shape_v0_4.bioimageio.yaml": r"'unet2d_expand_output_shape\.py', which is not in",
    "unet2d_fixed_shape/v0_4.bioimageio.yaml": r"names the file 'unet\.py', which is not in",
    "unet2d_diff_output_shape/bioimageio.yaml": r"names the file 'resize_unet\.py', which is not in",
    "upsample_test_model/v0_4.bioimageio.yaml": r"names the file 'upsample_model\.py', which is not in",
    "rdf_only/stardist_example_model/v0_4.bioimageio.yaml": r"'weights': tensorflow_saved_model_bundle\. Needed: weights that can be run here",
    "rdf_only/stardist_example_model/rdf_wrong_shape_v0_4.yaml": r"'outputs\[0\]\.shape\.offset': found \[1, 1, 1, 33\]\. Needed: .* axis 'b' is 0",
    "rdf_only/stardist_example_model/rdf_wrong_shape2_v0_4.yaml": r"'weights': tensorflow_saved_model_bundle\.",
    "rdf_only/unet2d_keras_tf2/v0_4.bioimageio.yaml": r"'weights': keras_hdf5, tensorflow_saved_model_bundle\. Needed: weights that",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_package_that_cannot_be_run_is_refused_with_the_reason(name: str, packages: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSUITE_OFFLINE", "1")
    for ask in (add, check):
        with pytest.raises(ModelError, match=REFUSED[name]) as caught:
            ask(str(packages / name), trusted=True)
        assert "yaml" in str(caught.value)
    assert [path.name for path in home.iterdir()] == []


def test_every_description_that_is_there_is_tried_above(packages: Path) -> None:
    found = {path.relative_to(packages).as_posix() for path in packages.rglob("*.yaml")} - {"unet2d_nuclei_broad/environment.yaml"}
    tried = {f"unet2d_nuclei_broad/{name}" for name in ("bioimageio.yaml", "v0_4_0.bioimageio.yaml", "v0_4_9.bioimageio.yaml")}
    assert found == {*REFUSED, *tried, "unet2d_multi_tensor/bioimageio.yaml"}


def test_a_package_is_added_checked_used_and_removed(packages: Path, tmp_path: Path, home: Path, segsuite: Callable[..., Any]) -> None:
    folder = packages / "unet2d_nuclei_broad"
    pixels, answer = (np.load(folder / f"test_{kind}.npy")[0, 0] for kind in ("input", "output"))
    write(as_image(pixels), tmp_path / "cells.tif")
    assert segsuite("models", "add", folder, "--name", "broad", "--classes", "1:nucleus").out.startswith(
        "added broad: instance, yx, classes nucleus;"
    )
    assert "broad " in segsuite("models", "list").out
    assert "nucleus (objects)" in segsuite("models", "show", "broad").out
    done = segsuite("models", "check", "broad")
    assert (done.code, done.out.endswith("good\n")) == (0, True)
    assert segsuite("segment", tmp_path / "cells.tif", "--model", "broad", "--out", tmp_path / "out.tif", "--min-size-px", 0).code == 0
    labels = np.asarray(read_segmentation(tmp_path / "out.tif").labels)
    clear = abs(answer - 0.5) > 1 / 255  # maps are rounded to 1/255
    np.testing.assert_array_equal((labels > 0)[clear], (answer > 0.5)[clear])
    assert 20 < labels.max() < 200
    assert segsuite("models", "remove", "broad").code == 0
    assert [path.name for path in home.iterdir()] == []
    assert "There is no model 'broad'" in segsuite("models", "show", "broad").err


def test_a_package_says_how_it_wants_an_image_and_what_its_borders_are_worth(packages: Path) -> None:
    spec = add(str(packages / "unet2d_nuclei_broad" / "v0_4_9.bioimageio.yaml"), name="broad")
    assert dict(spec.normalize) == {"joint": False, "cut": None, "method": "mean_std", "eps": 1e-6}
    assert (spec.tile, spec.context, spec.multiple, spec.channels) == ((512, 512), (32, 32), (1, 1), ("grey",))
    assert (spec.licence, spec.classes) == ("MIT", (Class(1, "object"),))
    assert "Ronneberger" in spec.citation
    assert load_spec("broad") == spec
    assert spec in list_models()


def packaged(folder: Path, network: Path, pixels: Array, **changes: Any) -> Path:
    """A package of version 0.5 around a network of one channel, whose test is that it gives what `blurred` does."""
    folder.mkdir(parents=True, exist_ok=True)
    if network.parent != folder:
        shutil.copy(network, folder)
    np.save(folder / "in.npy", pixels[None, None].astype(np.float32))
    np.save(folder / "out.npy", blurred(pixels.astype(np.float32))[None, None])
    space = [{"type": "space", "id": a, "size": {"min": 16, "step": 4}} for a in "yx"]
    axes = [{"type": "batch"}, {"type": "channel", "channel_names": ["a"]}]
    same = [{"type": "space", "id": a, "size": {"tensor_id": "x", "axis_id": a}, "halo": 4} for a in "yx"]
    kind = {".onnx": "onnx", ".pt": "torchscript"}.get(network.suffix, "pytorch_state_dict")
    told = {
        "type": "model", "format_version": "0.5.4", "name": "Blurring Net", "license": "CC0-1.0", "description": "blurs",
        "inputs": [{"id": "x", "axes": axes + space, "test_tensor": {"source": "in.npy"}}],
        "outputs": [{"id": "y", "axes": axes + same, "test_tensor": {"source": "out.npy"}, "data": {"range": [0, 1]}}],
        "weights": {kind: {"source": network.name, "sha256": hashlib.sha256(network.read_bytes()).hexdigest()}}, **changes,
    }  # fmt: skip
    (folder / "rdf.yaml").write_text(json.dumps(told), encoding="utf-8")  # JSON is YAML
    return folder


CODE = """
import torch
class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(width))
    def forward(self, x):
        return torch.nn.functional.avg_pool2d(x, 5, 1, 2, count_include_pad=False).clamp(0, 1) * self.w.sum()
"""


def test_a_state_dict_runs_with_the_code_of_its_package_once_that_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    torch.save({"w": torch.full((2,), 0.5)}, tmp_path / "p" / "weights.pth")
    (tmp_path / "p" / "net.py").write_text(CODE, encoding="utf-8")
    architecture = {"source": "net.py", "callable": "Net", "kwargs": {"width": 2}}
    weights = {"pytorch_state_dict": {"source": "weights.pth", "architecture": architecture}}
    folder = packaged(tmp_path / "p", tmp_path / "p" / "weights.pth", spots((64, 64)), weights=weights)
    with pytest.raises(ModelError, match=r"runs code of its own: the network is Python code .*net\.py \(sha256 [0-9a-f]{64}\).*--trust"):
        add(str(folder))
    assert add(str(folder), trusted=True).name == "blurring-net"
    assert check("blurring-net").good
    np.testing.assert_array_equal(segment(spots(), model="blurring-net", min_size_px=0).labels > 0, blurred(spots()) >= 0.5)


def test_a_zip_file_and_its_folder_are_the_same_package(tmp_path: Path) -> None:
    folder = packaged(tmp_path / "p", scripted(tmp_path / "net.pt"), spots((64, 64)))
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    specs = [add(str(source), trusted=True, overwrite=True) for source in (folder, tmp_path / "p.zip")]
    assert specs[0] == specs[1]
    assert check("blurring-net").differences == {"y": 0}


def test_a_package_that_gives_something_else_is_not_good(tmp_path: Path, segsuite: Callable[..., Any]) -> None:
    folder = packaged(tmp_path / "p", blurring(tmp_path / "net.onnx"), np.zeros((64, 64)))
    np.save(folder / "out.npy", np.full((1, 1, 64, 64), 2e-4, np.float32))
    done = segsuite("models", "check", folder)
    assert (done.code, done.out) == (1, "Blurring Net (onnx): largest difference y 0.0002; tolerance 0.0001: NOT GOOD\n")
    assert segsuite("models", "check", folder, "--tolerance", "0.001").code == 0


def test_statistics_are_those_of_the_image_and_not_of_a_tile(tmp_path: Path) -> None:
    pixels = np.linspace(0, 1, 128 * 64, dtype=np.float32).reshape(128, 64) * 300
    changes = [{"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}}, {"id": "scale_linear", "kwargs": {"gain": 0.5, "offset": 0.5}}]
    folder = packaged(tmp_path / "p", scripted(tmp_path / "net.pt"), pixels)
    told = json.loads((folder / "rdf.yaml").read_text())
    told["inputs"][0]["preprocessing"] = changes
    (folder / "rdf.yaml").write_text(json.dumps(told))
    add(str(folder), Form(tile=(32, 32)), trusted=True)
    found = segment(pixels, model="blurring-net", min_size_px=0).labels > 0
    wanted = blurred((pixels - pixels.mean()) / pixels.std() * 0.5 + 0.5)
    np.testing.assert_array_equal(found[abs(wanted - 0.5) > 1 / 255], (wanted > 0.5)[abs(wanted - 0.5) > 1 / 255])
    assert found.mean() == pytest.approx(0.5, abs=0.02)


# Bare networks ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["onnx", "pt", "pt2"])
def test_a_bare_network_segments_as_it_does_by_hand(kind: str, tmp_path: Path, segsuite: Callable[..., Any]) -> None:
    path, pixels = tmp_path / f"net.{kind}", spots()
    if kind == "onnx":
        blurring(path)
        inner = blurred(pixels)  # at the border of the image it sees zeros
        wanted = np.where(np.pad(np.ones((66, 86), bool), 2), inner, 0) >= 0.5
    elif kind == "pt":
        scripted(path)
        wanted = blurred(pixels) >= 0.5
    else:
        side = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
        torch.export.save(torch.export.export(Blur(), (torch.zeros(1, 1, 32, 32),), dynamic_shapes=(side,)), path)
        wanted = blurred(pixels) >= 0.5
    trust = [] if kind == "onnx" else ["--trust"]
    done = segsuite("models", "add", path, *SAID, "--classes", "1:spot:thing", *trust)
    assert done.out == "added net: instance, yx, classes spot; use it with --model net\n", done.err
    write(as_image(pixels), tmp_path / "spots.tif")
    assert segsuite("segment", tmp_path / "spots.tif", "--model", "net", "--out", tmp_path / "o.tif", "--min-size-px", 0).code == 0
    found = np.asarray(read_segmentation(tmp_path / "o.tif").labels) > 0
    inside = np.s_[2:-2, 2:-2] if kind == "onnx" else np.s_[:, :]
    np.testing.assert_array_equal(found[inside], wanted[inside])


@settings(max_examples=5, deadline=None)
@given(st.tuples(st.integers(5, 60), st.integers(5, 60)))
def test_chunked_is_whole(tmp_path_factory: pytest.TempPathFactory, chunk: tuple[int, int]) -> None:
    if "blur" not in {spec.name for spec in list_models()}:
        form = Form(axes="yx", normalize="percentiles:0:100", activation="none", context=(4, 4), tile=(32, 32), multiple=(4, 4))
        add(str(blurring(tmp_path_factory.mktemp("net") / "blur.onnx")), form)
    pixels = spots((61, 83))
    whole, parts = (segment(pixels, model="blur", min_size_px=0, chunk=c) for c in ((), chunk))
    np.testing.assert_array_equal(whole.labels > 0, parts.labels > 0)
    assert sorted(whole.segments["size"]) == sorted(parts.segments["size"])


def test_classes_with_their_own_channel_for_the_background(tmp_path: Path) -> None:
    kernel = np.array([[10.0, 0], [-10, 0], [0, 3]]).reshape(3, 2, 1, 1)  # bright, dark, and the background last
    path = onnx_model(tmp_path / "kinds.onnx", kernel)
    said = {"axes": "yx", "channels": ["value", "one"], "normalize": "none", "activation": "softmax"}
    said |= {"classes": ["1:dark:stuff", "2:bright:thing"], "outputs": ["semantic=0:2:1:0"]}
    path.with_suffix(".json").write_text(json.dumps(said))
    spec = add(str(path))
    assert (spec.task, [c.name for c in spec.classes]) == ("panoptic", ["dark", "bright"])
    pixels = np.zeros((2, 20, 30), np.float32)
    pixels[0, 2:8, 2:8], pixels[0, 10:15, 10:20], pixels[1] = 1, -1, 1
    found = segment(pixels, model="kinds", axes="cyx", min_size_px=0)
    assert found.labels[4, 4] == 2
    assert found.labels[12, 12] == 1
    assert found.segments["size"].tolist() == [50, 36]


def test_volumes_and_slices_of_volumes(tmp_path: Path) -> None:
    volume = np.asarray(nuclei((20, 40, 44), "zyx", crowding=0.1, seed=1)[0] > 60, np.float32)
    said = {"normalize": "none", "activation": "none", "classes": ("1:spot",)}
    add(
        str(onnx_model(tmp_path / "solid.onnx", np.full((1, 1, 3, 3, 3), 1 / 27), size=("d", "h", "w"))),
        Form(axes="zyx", tile=(16, 24, 24), multiple=(4, 4, 4), **said),
    )
    add(str(onnx_model(tmp_path / "flat.onnx", np.full((1, 1, 3, 3), 1 / 9))), Form(axes="yx", tile=(64, 64), **said))
    assert (load_spec("solid").context, load_spec("solid").multiple) == ((2, 3, 3), (4, 4, 4))
    inner = np.s_[1:-1, 1:-1, 1:-1]
    solid = ndimage.uniform_filter(volume, 3)[inner]
    found = segment(volume, model="solid", min_size_px=0).labels[inner]
    np.testing.assert_array_equal((found > 0)[abs(solid - 0.5) > 1 / 255], (solid > 0.5)[abs(solid - 0.5) > 1 / 255])
    flat = np.mean([ndimage.uniform_filter(volume, [1 if a == axis else 3 for a in range(3)]) for axis in range(3)], axis=0)[inner]
    found = segment(volume, model="flat", stack="orthogonal", min_size_px=0).labels[inner]
    np.testing.assert_array_equal((found > 0)[abs(flat - 0.5) > 1 / 100], (flat > 0.5)[abs(flat - 0.5) > 1 / 100])


def test_flags_are_said_on_top_of_the_form(tmp_path: Path, segsuite: Callable[..., Any]) -> None:
    path = blurring(tmp_path / "net.onnx")
    (tmp_path / "f.json").write_text(json.dumps({"axes": "yx", "normalize": "none", "activation": "none", "licence": "MIT", "tile": [64, 64]}))
    assert segsuite("models", "add", path, "--form", tmp_path / "f.json", "--tile", "48,48", "--pixel-size-um", "0.5,0.25").code == 0
    spec = load_spec("net")
    assert (spec.licence, spec.tile, spec.context, spec.pixel_size_um) == ("MIT", (48, 48), (6, 6), (0.5, 0.25))


def test_an_answer_may_be_the_maps_of_another_codec(tmp_path: Path) -> None:
    kernel = np.array([[0, 1.0], [0, 0], [0, 0], [1, 0]]).reshape(4, 2, 1, 1)  # centre, offsets, foreground
    form = Form(
        axes="yx", channels=("fore", "middle"), codec="centers", outputs=("center=0:0", "offset=0:1:2", "semantic=0:3"), normalize="none",
        activation="none", classes=("1:cell",), unit=1.0,
    )  # fmt: skip
    add(str(onnx_model(tmp_path / "middle.onnx", kernel)), form)
    pixels = np.zeros((2, 24, 24), np.float32)
    pixels[0, 4:9, 4:9], pixels[1, 6, 6] = 1, 1
    pixels[0, 4:9, 9:14], pixels[1, 6, 11] = 1, 1
    found = segment(pixels, model="middle", axes="cyx", min_size_px=0)
    assert found.segments["size"].tolist() == [25, 25]  # they touch


def test_a_network_of_one_size_only_gets_that(tmp_path: Path) -> None:
    path = blurring(tmp_path / "fixed.onnx", size=(40, 48))
    spec = add(str(path), Form(axes="yx", normalize="none", activation="none", context=(4, 4)))
    assert (spec.tile, spec.multiple) == ((40, 48), (1, 1))
    found = segment(spots((90, 60)), model="fixed", min_size_px=0).labels > 0
    np.testing.assert_array_equal(found[2:-2, 2:-2], (blurred(spots((90, 60))) >= 0.5)[2:-2, 2:-2])
    assert segment(spots((20, 30)), model="fixed").labels.shape == (20, 30)
    chunks = segment(spots((90, 60)), model="fixed", min_size_px=0, chunk=(31, 22))
    np.testing.assert_array_equal(chunks.labels > 0, found)


LACKING: dict[str, tuple[dict[str, Any], str]] = {
    "everything": ({}, r"net\.onnx does not say what it takes and gives\. Needed: --axes, --normalize, --activation\. Say it, for example"),
    "classes": ({"axes": "yx", "normalize": "none", "activation": "softmax"}, "answers with 3 channels, and what they stand for is not said"),
    "another number of channels": (
        {"axes": "yx", "normalize": "none", "activation": "none", "channels": ("a", "b")},
        "takes 1 channels. Needed: as many as --channels, a, b",
    ),
    "too many classes": (
        {"axes": "yx", "normalize": "none", "activation": "none", "classes": ("1:a", "2:b", "3:c", "4:d")},
        r"has 3 channels\. Needed: 4 \(one per class\) or 5",
    ),
    "a channel that is not there": (
        {"axes": "yx", "normalize": "none", "activation": "none", "classes": ("1:a",), "outputs": ("semantic=0:3",)},
        "HEAD=NUMBER:CHANNEL",
    ),
    "another codec's maps": (
        {"axes": "yx", "normalize": "none", "activation": "none", "classes": ("1:a",), "codec": "centers"},
        "which of them is which of semantic, center, offset",
    ),
    "three dimensions": ({"axes": "zyx", "normalize": "none", "activation": "none"}, r"input has 4 axes .*--input-axes"),
    "a tile that is all margin": (
        {"axes": "yx", "normalize": "none", "activation": "none", "classes": ("1:a", "2:b"), "tile": (32, 32), "context": (8, 8)},
        r"tile is 32 x 32, and a context of 8 x 8, in steps of 16 x 16, .*Needed: a tile of 48 x 48",
    ),
    "a codec that does not exist": ({"axes": "yx", "normalize": "none", "activation": "none", "codec": "magic"}, "there is no codec 'magic'"),
}


@pytest.mark.parametrize("name", LACKING)
def test_what_a_form_lacks_is_asked_for(name: str, tmp_path: Path, home: Path) -> None:
    said, text = LACKING[name]
    path = onnx_model(tmp_path / "net.onnx", np.ones((3, 1, 1, 1)))
    with pytest.raises(SegsuiteError, match=f"(?i){text}"):
        add(str(path), Form(**said))
    assert not list(home.glob("*"))


def test_a_softmax_of_one_channel_is_refused_and_of_one_among_several_is_not(tmp_path: Path) -> None:
    """The one is 1 everywhere."""
    form = Form(axes="yx", normalize="none", activation="softmax", classes=("1:a",), outputs=("semantic=0:0",))
    with pytest.raises(OptionError, match="makes 1 of everything where there is one channel"):
        add(str(onnx_model(tmp_path / "one.onnx", np.ones((1, 1, 1, 1)))), form)
    assert add(str(onnx_model(tmp_path / "three.onnx", np.ones((3, 1, 1, 1)))), form).name == "three"


@pytest.mark.parametrize(
    "said", [{"axes": "xy"}, {"tile": 5}, {"tile": ["a"]}, {"normalize": "zscore"}, {"normalize": "percentiles:9"}, {"fixed": 1}]
)
def test_a_form_that_does_not_fit_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"(?i){next(iter(said))}"):
        Form(**said)


def test_the_flags_are_the_form(segsuite: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        segsuite("models", "add", "--help")
    told = capsys.readouterr().out
    assert [f.name for f in fields(Form) if f"--{f.name.replace('_', '-')}" not in told] == []


# What is done to pixels ---------------------------------------------------------------------------------------------------------------


STEPS: dict[str, tuple[dict[str, Any], Callable[[Array], Array]]] = {
    "binarize": ({"threshold": 0.5}, lambda x: x > 0.5),
    "clip": ({"min": -0.5, "max": 1.0}, lambda x: x.clip(-0.5, 1)),
    "scale_linear": (
        {"gain": [2.0, 3.0], "offset": [1.0, 0.0], "axis": "c"},
        lambda x: x * np.array([2, 3.0])[:, None, None] + np.array([1.0, 0])[:, None, None],
    ),
    "sigmoid": ({}, lambda x: 1 / (1 + np.exp(-x))),
    "softmax": ({"axis": "c"}, lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    "ensure_dtype": ({"dtype": "uint8"}, np.trunc),
    "zero_mean_unit_variance": ({"axes": "yx", "eps": 0.1}, lambda x: (x - x.mean((2, 3), keepdims=True)) / (x.std((2, 3), keepdims=True) + 0.1)),
    "fixed_zero_mean_unit_variance": ({"mean": 1.0, "std": 2.0}, lambda x: (x - 1) / (2 + 1e-6)),
    "scale_range": (
        {"axes": "cyx", "min_percentile": 10.0, "max_percentile": 90.0},
        lambda x: (x - np.quantile(x, 0.1, (1, 2, 3), keepdims=True)) / (np.ptp(np.quantile(x, [0.1, 0.9], (1, 2, 3), keepdims=True), axis=0) + 1e-6),
    ),
    "scale_mean_variance": (
        {"reference_tensor": "r"},
        lambda x: (x - x.mean()) / (x.std() + 1e-6) * (1 + 1e-6),
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_each_step_is_what_its_definition_says(name: str) -> None:
    kwargs, wanted = STEPS[name]
    x = np.random.default_rng(1).normal(size=(2, 2, 6, 7)).astype(np.float32) * 2
    others = {"r": (torch.tensor([-1.0, 1, -1, 1]).reshape(1, 1, 2, 2), "bcyx")}
    found = apply([{"name": name, "kwargs": kwargs}], torch.from_numpy(x), "bcyx", others).numpy()
    np.testing.assert_allclose(found, wanted(x), atol=2e-6, rtol=1e-5)


def test_all_steps_that_are_known_are_tried() -> None:
    assert set(STEPS) == tensors.STEPS


def test_axes_are_brought_into_any_order_and_back() -> None:
    x = torch.rand(2, 3, 4, 5)
    there = rearranged(x, "bcyx", "byxzc", "x")
    assert there.shape == (2, 4, 5, 1, 3)
    assert rearranged(there, "byxzc", "bcyx", "x").equal(x)
    with pytest.raises(ModelError, match="a length of 1 along 'c'"):
        rearranged(x, "bcyx", "byx", "the input")


@given(st.integers(1, 300), st.integers(1, 64), st.integers(0, 32))
def test_a_valid_size_is_the_smallest_that_fits(n: int, least: int, step: int) -> None:
    sizes = [least + k * step for k in range(400)] if step else [least]
    assert valid(n, least, step) == min((s for s in sizes if s >= n), default=least)


@pytest.mark.parametrize(
    ("activation", "channels", "wanted"),
    [
        ("none", [0.25], [0.75, 0.25]),
        ("none", [0.5, 0.25, 0.25], [0.5, 0.25, 0.25]),
        ("none", [0.25, 0.5], [0.5, 0.25, 0.5]),
        ("softmax", [0.0, 0.0], [0.0, 0.5, 0.5]),
        ("sigmoid", [0.0, -100.0], [0.5, 0.5, 0.0]),
    ],
)
def test_the_background_is_what_no_class_claims(activation: str, channels: list[float], wanted: list[float]) -> None:
    value, classes = torch.tensor(channels).reshape(1, -1, 1, 1), max(1, len(wanted) - 1)
    found = activated(Head("semantic", classes + 1, "logits"), value, {"activation": activation}, classes)
    assert found.flatten().tolist() == pytest.approx(wanted)


# The folder and the web ---------------------------------------------------------------------------------------------------------------


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    path, form = blurring(tmp_path / "My Net!.onnx"), Form(axes="yx", normalize="none", activation="none")
    assert add(str(path), form).name == "my-net"
    with pytest.raises(OptionError, match=r"(?i)a model 'my-net' is there already.*--overwrite"):
        add(str(path), form)
    before = segment(spots(), model="my-net", min_size_px=0).labels
    assert add(str(onnx_model(path, np.zeros((1, 1, 1, 1)))), form, overwrite=True).name == "my-net"
    assert before.any()
    assert not segment(spots(), model="my-net", min_size_px=0).labels.any()
    for name, text in (("otsu", "came with the install"), ("nuclei", "came with the install"), ("...", "letters, digits")):
        with pytest.raises(OptionError, match=text):
            add(str(path), form, name=name)
    with pytest.raises(ModelError, match=r"No model 'otsu' was added\. Needed: one of my-net"):
        remove("otsu")


def test_a_folder_of_ours_is_added_too(untrained: Callable[..., Any], tmp_path: Path) -> None:
    from napari_segsuite.models.folder import save

    made = untrained()
    save(made.spec, made.net.state_dict(), tmp_path / "trained")
    assert add(str(tmp_path / "trained"), name="mine").name == "mine"
    pixels = np.random.default_rng(0).random((1, 1, 16, 16), np.float32)
    one, other = (load_model(ref, device="cpu").predict(pixels).maps["center"] for ref in ("mine", str(tmp_path / "trained")))
    assert torch.equal(one, other)


def test_a_damaged_model_that_was_added_hides_no_other(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / "bad").mkdir(parents=True)
    (home / "bad" / "model.json").write_text("{")
    assert "otsu" in {spec.name for spec in list_models()}
    assert "is left out" in caplog.text


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the URL that it is served at."""
    (tmp_path / "web").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "web")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield tmp_path / "web", f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_package_at_a_url(served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web, url = served
    folder = packaged(web / "p", blurring(tmp_path / "net.onnx"), np.zeros((64, 64)))
    with zipfile.ZipFile(web / "p.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    digest, seen = hashlib.sha256((web / "p.zip").read_bytes()).hexdigest(), list[tuple[int, int]]()
    assert add(f"{url}/p.zip", name="a", sha256=digest, show=lambda *n: seen.append(n)).name == "a"
    assert seen[-1] == ((web / "p.zip").stat().st_size,) * 2
    assert add(f"{url}/p/rdf.yaml", name="b").weights_sha256 == load_spec("a").weights_sha256
    assert check("b").good
    with pytest.raises(ModelError, match=r"cannot be downloaded: .*Needed: an address that answers with the file of sha256 000"):
        add(f"{url}/p.zip", name="c", sha256="0" * 64)
    with pytest.raises(ModelError, match=r"cannot be downloaded: .*404"):
        add(f"{url}/q.zip")
    monkeypatch.setenv("SEGSUITE_OFFLINE", "1")
    with pytest.raises(ModelError, match="would be downloaded, and SEGSUITE_OFFLINE is set"):
        add(f"{url}/p.zip", name="d")


def test_addresses_and_files_that_are_no_models_are_told(segsuite: Callable[..., Any], tmp_path: Path) -> None:
    told = segsuite("models", "add", "ftp://example.com/a.zip")
    assert (told.code, "Needed: https:// or http://, or a file or folder on this machine" in told.err) == (1, True)
    write(as_image(np.zeros((5, 5), np.uint8)), tmp_path / "a.tif")
    told = segsuite("models", "check", tmp_path / "a.tif")
    assert f"{tmp_path / 'a.tif'} is no model with a test of its own. Needed: the name of a model" in told.err
    assert "YAML" not in told.err


@pytest.mark.parametrize("name", ["CON", "nul", "Com1.v2", "ends.", "NUCLEI", "Otsu", "MINE"])
def test_names_that_other_systems_cannot_tell_apart_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.json").write_text("{}")
    with pytest.raises(OptionError, match=r"every system|differs in more than capitals"):
        free_name(name, overwrite=True)
    assert free_name("mine", overwrite=True) == "mine"
    assert free_name("console", overwrite=False) == "console"


def test_a_context_that_leaves_no_tile_of_a_usual_size_is_refused() -> None:
    told = {"axes": "bcyx", "least": (1, 1, 16, 16), "step": (0, 0, 16, 16)}
    assert grid("yx", told, (), Form(context=(1000, 1000)))[2] == (1000, 1000)
    for context in ((9999, 9999), (-5, -5)):
        with pytest.raises(OptionError, match=r"Context is .*, for which tiles of .* Needed: from 0 to 2024\."):
            grid("yx", told, (), Form(context=context))
    assert grid("yx", told, (), Form(context=(2024, 2024)))[0] == (4080, 4080)
