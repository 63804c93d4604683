"""SegFormer as transformers keeps it: what its files say is followed or refused, and maps are those of transformers."""

from __future__ import annotations

import json
import pickle
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from napari_segsuite import load_model, load_spec, segment
from napari_segsuite.errors import MissingExtra, ModelError, OptionError
from napari_segsuite.models.foreign import segformer
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.processing import apply
from napari_segsuite.models.foreign.store import add

TINY: dict[str, Any] = {
    "architectures": ["SegformerForSemanticSegmentation"],
    "model_type": "segformer",
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 8, 16, 16],
    "num_attention_heads": [1, 1, 2, 2],
    "decoder_hidden_size": 16,
    "id2label": {"0": "sky", "1": "background", "2": "tree: oak"},
    "label2id": {"sky": 0, "background": 1, "tree: oak": 2},
    "transformers_version": "5.23.0",
    "semantic_loss_ignore_index": 255,
}
PIXELS: dict[str, Any] = {
    "image_processor_type": "SegformerImageProcessor",
    "do_normalize": True,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.25, 0.3],
    "size": {"height": 64, "width": 96},
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def no_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if transformers were not installed."""
    monkeypatch.setitem(sys.modules, "transformers", None)


def written(folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], object] | None = None) -> Path:
    """A checkpoint whose weights are none."""
    config, pixels = json.loads(json.dumps(TINY)), json.loads(json.dumps(PIXELS))
    if change:
        change(config, pixels)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    save_file({"weight": torch.ones(1)}, folder / "model.safetensors")
    return folder


def test_a_checkpoint_says_all_that_is_needed(tmp_path: Path, no_transformers: None) -> None:
    told = segformer.read(written(tmp_path / "seg"), Form())
    assert (told.draft.channels, told.said.tile, told.said.context) == (("red", "green", "blue"), (96, 96), (8, 12))
    assert (told.said.classes, told.said.outputs) == (("1:sky:stuff", "2:tree oak:stuff"), ("semantic=0:1:0:2",))
    assert told.draft.outputs[0]["activation"] == "argmax"
    x = torch.tensor([0.0, 51.0, 255.0]).reshape(1, 3, 1, 1)
    found = apply(told.draft.input["steps"], x, "bcyx").ravel()
    torch.testing.assert_close(found, torch.tensor([-2.0, (0.2 - 0.5) / 0.25, 0.4 / 0.3]))
    with pytest.raises(MissingExtra, match=r'pip install "napari-segsuite\[transformers\]"'):
        add(str(tmp_path / "seg"))
    one = segformer.read(written(tmp_path / "one", lambda c, p: (c.update(id2label={"0": "road"}), p.update(do_rescale=False, size=128))), Form())
    assert (one.said.classes, one.draft.outputs[0]["activation"], one.said.tile) == (("1:road:stuff",), "sigmoid", (128, 128))
    assert apply(one.draft.input["steps"], x, "bcyx").ravel()[2] == pytest.approx((255 - 0.6) / 0.3)
    (tmp_path / "seg" / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"has no preprocessor_config\.json\. Needed: this file, .* Say it with --normalize"):
        add(str(tmp_path / "seg"))
    assert segformer.read(tmp_path / "seg", Form(normalize="mean_std")).draft.normalize["method"] == "mean_std"


REFUSED: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "another network": (
        lambda c, _: c.update(architectures=["UperNetForSemanticSegmentation"]),
        r"config\.json, field 'architectures': found \['UperNet.*Needed: \['SegformerForSemanticSegmentation'\]",
    ),
    "code of its own": (lambda c, _: c.update(architectures=["Mine"], auto_map={"AutoModel": "mine.Mine"}), r"field 'architectures'"),
    "too few levels": (lambda c, _: c.update(depths=[1, 1]), r"'depths': found \[1, 1\]\. Needed: 4 whole numbers"),
    "a huge network": (lambda c, _: c.update(hidden_sizes=[8, 8, 16, 10**9]), r"'hidden_sizes': found 1000000000"),
    "another activation": (lambda c, _: c.update(hidden_act="mine"), r"'hidden_act': found .*'mine'"),
    "a text for a number": (lambda c, _: c.update(decoder_hidden_size="16"), r"'decoder_hidden_size': found '16'"),
    "labels with a gap": (lambda c, _: c.update(id2label={"0": "a", "2": "b"}), r"'id2label': found .* names by number from 0 on"),
    "too many labels": (lambda c, _: c.update(id2label={str(n): "a" for n in range(300)}), r"'id2label': found .* 255 at most"),
    "too few means": (lambda _, p: p.update(image_mean=[0.5]), r"preprocessor_config\.json, field 'image_mean': found \[0\.5\]\. Needed: 3 numbers"),
    "no deviation": (lambda _, p: p.update(image_std=[1, 1, 0]), r"'image_std': found \(1\.0, 1\.0, 0\.0\)\. Needed: numbers above 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_by_its_name(name: str, tmp_path: Path, home: Path, no_transformers: None) -> None:
    with pytest.raises(ModelError, match=REFUSED[name][1]):
        add(str(written(tmp_path / "seg", REFUSED[name][0])))
    assert list(home.iterdir()) == []


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_weights_are_numbers_only(tmp_path: Path, no_transformers: None) -> None:
    folder = written(tmp_path / "seg")
    (folder / "model.safetensors").write_bytes(b"not one")
    with pytest.raises(ModelError, match=r"model\.safetensors is not a safetensors file"):
        add(str(folder))
    (folder / "model.safetensors").unlink()
    for data in (pickle.dumps({"weight": Trap(tmp_path / "canary")}), b""):
        (folder / "pytorch_model.bin").write_bytes(data)
        with pytest.raises(ModelError, match=r"pytorch_model\.bin cannot be read as numbers only"):
            add(str(folder))
    assert not (tmp_path / "canary").exists()
    with pytest.raises(OptionError, match="the letters of bcyx"):
        add(str(folder), Form(axes="zyx"))


def test_maps_and_labels_are_those_of_transformers(
    tmp_path: Path, segsuite: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    wanted = {key: TINY[key] for key in ("depths", "hidden_sizes", "num_attention_heads", "decoder_hidden_size")}
    names = {int(n): name for n, name in TINY["id2label"].items()}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(**wanted, id2label=names)).eval()
        for value in network.parameters():
            torch.nn.init.normal_(value, std=0.3)
    torch.nn.init.zeros_(network.decode_head.classifier.bias)
    network.decode_head.classifier.weight.data.mul_(4)
    network.save_pretrained(tmp_path / "seg")
    (tmp_path / "seg" / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    capsys.readouterr()

    def no_connection(*_: object) -> None:
        raise AssertionError("the network of computers was asked for something")

    monkeypatch.setattr(socket.socket, "connect", no_connection)
    done = segsuite("models", "add", tmp_path / "seg")
    assert done.out == "added seg: semantic, yx, classes sky, tree oak; use it with --model seg\n", done.err
    assert (done.err, load_spec("seg").multiple) == ("", (32, 32))
    pixels = np.random.default_rng(1).integers(0, 256, (3, 64, 96)).astype(np.uint8)
    mean, deviation = (torch.tensor(PIXELS[key]).reshape(3, 1, 1) for key in ("image_mean", "image_std"))
    with torch.inference_mode():
        logits = network(((torch.from_numpy(pixels) / 255 - mean) / deviation)[None]).logits
        logits = F.interpolate(logits, (64, 96), mode="bilinear", align_corners=False)[0, [1, 0, 2]]
    found = torch.as_tensor(load_model("seg", device="cpu").predict(pixels[None].astype(np.float32)).maps["semantic"])[0]
    torch.testing.assert_close(found[1:], logits.softmax(0)[1:], rtol=0, atol=1e-4)
    first, second = logits.softmax(0).topk(2, 0).values
    sure = ((first - second) > 1 / 64).numpy()
    labels = np.asarray(segment(pixels.transpose(1, 2, 0), model="seg", min_size_px=0).labels)
    assert sure.mean() > 0.8
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(labels[sure], logits.argmax(0).numpy()[sure])
    large = np.tile(pixels.transpose(1, 2, 0), (3, 2, 1))
    parts = [np.asarray(segment(large, model="seg", min_size_px=0, chunk=c).labels) for c in ((), (50, 61))]
    np.testing.assert_array_equal(*parts)
    assert segment(pixels[0], model="seg", min_size_px=0).labels.shape == (64, 96)
    refuse_what_does_not_fit(tmp_path)


def refuse_what_does_not_fit(path: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(path / "seg" / "model.safetensors")
    name = "decode_head.classifier.bias"
    (path / "seg" / "model.safetensors").unlink()
    changes: tuple[tuple[dict[str, Any], str], ...] = (
        ({k: v for k, v in weights.items() if k != name}, rf"pytorch_model\.bin does not fit the network: missing keys: 1, such as {name}"),
        ({**weights, "more": torch.ones(1)}, r"unexpected keys: 1, such as more"),
        ({**weights, name: torch.ones(7)}, r"mismatched keys: 1, such as \('decode_head\.classifier\.bias'"),
        ({**weights, name: torch.full((3,), torch.nan)}, rf"the weights '{name}' are not finite"),
    )
    for changed, message in changes:
        torch.save(changed, path / "seg" / "pytorch_model.bin")
        with pytest.raises(ModelError, match=message):
            add(str(path / "seg"), name="other")
    torch.save(weights, path / "seg" / "pytorch_model.bin")
    assert add(str(path / "seg"), name="other").net["file"] == "package/pytorch_model.bin"
    told = json.loads((path / "models" / "seg" / "model.json").read_text())
    for kwargs, message in (({"hidden_act": "x"}, "'net.kwargs.hidden_act'"), ({"auto_map": {}}, "'net.kwargs.auto_map'")):
        changed = {**told, "net": {**told["net"], "kwargs": {**told["net"]["kwargs"], **kwargs}}}
        (path / "models" / "seg" / "model.json").write_text(json.dumps(changed))
        with pytest.raises(ModelError, match=message):
            load_model("seg", device="cpu")
