"""Mask2Former as transformers keeps it: what its files say is followed or refused; objects and stuff are those of transformers."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from napari_segsuite import load_model, load_spec, segment
from napari_segsuite.errors import MissingExtra, ModelError, OptionError
from napari_segsuite.models import queries
from napari_segsuite.models.foreign import mask2former
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.mask2former_net import NETWORK
from napari_segsuite.models.foreign.store import add
from napari_segsuite.models.foreign.swin_net import BACKBONE

Array = NDArray[Any]
SWIN: dict[str, Any] = {
    "model_type": "swin", "image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}  # fmt: skip
SIZES: dict[str, Any] = {
    "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 16, "dim_feedforward": 16, "encoder_layers": 1,
    "decoder_layers": 3, "num_attention_heads": 2, "num_queries": 12,
}  # fmt: skip
NAMES = {"0": "cat", "1": "sky", "2": "tree: oak", "3": "dog"}
CONFIG: dict[str, Any] = {"architectures": [NETWORK], **SIZES, BACKBONE: SWIN, "id2label": NAMES, "dropout": 0.0, "use_auxiliary_loss": True}
PIXELS: dict[str, Any] = {
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.25, 0.3],
    "size": {"height": 64, "width": 96},
    "label_ids_to_fuse": [1, 2],
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
    config, pixels = json.loads(json.dumps(CONFIG)), json.loads(json.dumps(PIXELS))
    if change:
        change(config, pixels)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    save_file({"weight": torch.ones(1)}, folder / "model.safetensors")
    return folder


def test_a_checkpoint_says_all_that_is_needed_or_is_asked(tmp_path: Path, no_transformers: None) -> None:
    folder = written(tmp_path / "net")
    told = mask2former.read(folder, Form())
    assert told.said.classes == ("1:sky:stuff", "2:tree oak:stuff", "3:cat:thing", "4:dog:thing")
    assert told.net["objects"] == {"layout": "queries", "kinds": [3, 1, 2, 4], "stuff": 2}
    assert (told.draft.input["least"], told.draft.input["step"], told.draft.channels) == ([1, 3, 64, 96], [1, 0, 0, 0], ("red", "green", "blue"))
    some = mask2former.read(folder, Form(classes=("1:Dog", "2:cat"), tile=(100, 64)))
    assert some.net["objects"] == {"layout": "queries", "kinds": [2, 0, 0, 1], "stuff": 0}
    assert some.draft.input["least"][2:] == [128, 64]
    things = mask2former.read(written(tmp_path / "b", lambda _, p: (p.pop("label_ids_to_fuse"), p.update(metadata={"thing_ids": [3]}))), Form())
    assert things.said.classes == ("1:cat:stuff", "2:sky:stuff", "3:tree oak:stuff", "4:dog:thing")
    with pytest.raises(MissingExtra, match=r'pip install "napari-segsuite\[transformers\]"'):
        add(str(folder))


REFUSED: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "kinds that nobody says": (lambda _, p: p.pop("label_ids_to_fuse"), r"which of its classes are things \(cat, sky, tree oak, dog\).*--classes ID"),
    "ids that are none": (lambda _, p: p.update(label_ids_to_fuse=[4]), r"'label_ids_to_fuse': found \[4\]\. Needed: numbers of classes, 0 to 3"),
    "another backbone": (lambda c, _: c[BACKBONE].update(model_type="resnet"), r"'backbone_config.model_type': found 'resnet'\. Needed: 'swin'"),
    "a backbone from elsewhere": (lambda c, _: c.update(backbone_config=None, backbone="a/b"), r"'backbone_config': found nothing"),
    "code of its own": (lambda c, _: c.update(architectures=["Mine"], auto_map={"AutoModel": "mine.Mine"}), r"field 'architectures'.*Mask2Former"),
    "a huge network": (lambda c, _: c.update(hidden_dim=10**9), r"'hidden_dim': found 1000000000"),
    "too many layers": (lambda c, _: c.update(decoder_layers=5000), r"'decoder_layers': found 5000\. Needed: at most 64"),
    "too many queries": (lambda c, _: c.update(num_queries=5000), r"'num_queries': found 5000\. Needed: at most 1000"),
    "a text for a number": (lambda c, _: c.update(num_queries="12"), r"'num_queries': found '12'"),
    "too few stages": (lambda c, _: c[BACKBONE].update(depths=[1]), r"'backbone_config\.depths': found \[1\]\. Needed: 4 whole numbers"),
    "another activation": (lambda c, _: c.update(activation_function="mine"), r"'activation_function': found 'mine'"),
    "other strides": (lambda c, _: c.update(feature_strides=[2, 4, 8, 16]), r"'feature_strides': found .* Needed: \[4, 8, 16, 32\]"),
    "positions": (lambda c, _: c[BACKBONE].update(use_absolute_embeddings=True), r"'backbone_config\.use_absolute_embeddings': found True"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_by_its_name(name: str, tmp_path: Path, home: Path, no_transformers: None) -> None:
    with pytest.raises((ModelError, OptionError), match=REFUSED[name][1]):
        add(str(written(tmp_path / "net", REFUSED[name][0])))
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"classes": ("1:bird",)}, "names of the network's classes, each once: cat, sky"),
        ({"classes": ("1:cat", "2:cat")}, "Classes has 'cat'"),
        ({"layout": "yolov8-seg"}, "Needed: nothing: what a Mask2Former answers with is known"),
        ({"codec": "semantic"}, "Codec is 'semantic'"),
        ({"axes": "zyx"}, "the letters of bcyx"),
    ],
)
def test_what_does_not_fit_is_said(said: dict[str, Any], told: str, tmp_path: Path, no_transformers: None) -> None:
    with pytest.raises(OptionError, match=told):
        add(str(written(tmp_path / "net")), Form(**said))


@pytest.fixture(scope="module")
def network() -> Any:
    """A small one of random weights that is sure of what it says."""
    transformers = pytest.importorskip("transformers")
    names = {int(n): name for n, name in NAMES.items()}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        config = transformers.Mask2FormerConfig(**SIZES, backbone_config=transformers.SwinConfig(**SWIN), id2label=names)
        net = transformers.Mask2FormerForUniversalSegmentation(config).eval()
        with torch.no_grad():
            for name, value in net.named_parameters():
                if value.ndim > 1:
                    torch.nn.init.normal_(value, std=1.3 / value[0].numel() ** 0.5)
                if "class_predictor.weight" in name:
                    value.mul_(3)
                if "queries" in name or "embed" in name:
                    torch.nn.init.normal_(value)
    return net


def stored(network: Any, folder: Path, **pixels: Any) -> Path:
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({**PIXELS, **pixels}))
    return folder


def blots(shape: tuple[int, int], seed: int) -> Array:
    """Colours that change slowly."""
    noise = torch.from_numpy(np.random.default_rng(seed).random((1, 3, 2 + shape[0] // 16, 2 + shape[1] // 16)))
    large = torch.nn.functional.interpolate(noise, shape, mode="bicubic").clamp(0, 1)[0]
    return (255 * large.numpy()).astype(np.uint8)


def raw(network: Any, pixels: Array) -> Any:
    """What transformers answers."""
    mean, deviation = (torch.tensor(PIXELS[key]).reshape(3, 1, 1) for key in ("image_mean", "image_std"))
    with torch.inference_mode():
        return network(((torch.from_numpy(pixels) / 255 - mean) / deviation)[None])


def test_objects_and_stuff_are_those_of_transformers(network: Any, tmp_path: Path) -> None:
    Processor = import_module("transformers").Mask2FormerImageProcessorPil

    add(str(stored(network, tmp_path / "net", size={"height": 384, "width": 384})))  # the size that its processor enlarges to
    assert [h.name for h in load_spec("net").heads] == ["semantic"]
    pixels = blots((384, 384), 1)
    answer = raw(network, pixels)
    found = load_model("net", device="cpu").predict(pixels[None].astype(np.float32))
    mine, kinds = found.objects[0], mask2former.read(tmp_path / "net", Form()).net["objects"]["kinds"]
    threshold = 0.4
    wanted = Processor().post_process_instance_segmentation(answer, threshold=threshold, return_binary_maps=True)[0]
    rows = [
        (row["score"], kinds[row["label_id"]], mask.numpy() > 0) for row, mask in zip(wanted["segments_info"], wanted["segmentation"], strict=True)
    ]
    rows = sorted((row for row in rows if row[1] > 2), key=lambda row: -row[0])
    assert len(rows) >= 2
    assert (mine.score > 255 * threshold).sum() == len(rows)
    for k, (score, kind, mask) in enumerate(rows):
        assert (mine.score[k], mine.kind[k]) == (pytest.approx(255 * score, abs=0.51), kind)
        own = np.zeros(mask.shape, np.uint8)
        own[tuple(mine.voxel[mine.owner == k].T)] = mine.value[mine.owner == k]
        np.testing.assert_array_equal((own > 128)[abs(own - 127.5) > 1], mask[abs(own - 127.5) > 1])
    semantic = Processor().post_process_semantic_segmentation(answer, return_segmentation_scores=True)[0].segmentation_scores
    stuff = torch.as_tensor(found.maps["semantic"])[0]
    torch.testing.assert_close(stuff[1:], semantic[[1, 2]] / semantic.sum(0).clamp_min(1), rtol=0, atol=1e-4)
    first, second = semantic.topk(2, 0).values
    sure = first - second > 1e-3
    best = torch.tensor([0, 1, 2, 0])[semantic.argmax(0)]
    assert (stuff[1:].argmax(0) + 1)[sure & (best > 0)].equal(best[sure & (best > 0)])
    assert (stuff[0] > 0.5)[sure].equal((best == 0)[sure])


def test_all_three_tasks_run_in_any_chunks(
    network: Any, tmp_path: Path, segsuite: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stored(network, tmp_path / "net")
    capsys.readouterr()

    def no_connection(*_: object) -> None:
        raise AssertionError("the network of computers was asked for something")

    monkeypatch.setattr(socket.socket, "connect", no_connection)
    pixels = blots((110, 150), 2).transpose(1, 2, 0)
    tasks = {"panoptic": "", "instance": "1:cat,2:dog", "semantic": "1:cat:stuff,2:sky:stuff,3:tree oak:stuff,4:dog:stuff"}
    for task, classes in tasks.items():
        done = segsuite("models", "add", folder, "--name", task, "--context", "12,12", *(["--classes", classes] if classes else []))
        assert (done.out.startswith(f"added {task}: {task}, yx, classes "), done.err) == (True, ""), done
        assert (load_spec(task).tile, load_spec(task).codec) == ((64, 96), "semantic" if task == "semantic" else "objects")
        wish: dict[str, Any] = {"model": task, "device": "cpu", "min_size_px": 0, "center": 0.2}
        found = segment(pixels, **wish)
        assert found.task == task
        assert len(found.segments["id"]) >= 2, found.segments["class_id"]
        np.testing.assert_array_equal(segment(pixels, **wish, chunk=(47, 91)).labels, found.labels)
    refuse_what_does_not_fit(folder, tmp_path / "models" / "panoptic" / "model.json")


def refuse_what_does_not_fit(folder: Path, description: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = "class_predictor.bias"
    for changed, message in (
        ({k: v for k, v in weights.items() if k != name}, rf"does not fit the network: missing keys: 1, such as {name}"),
        ({**weights, "more": torch.ones(1)}, r"unexpected keys: 1, such as more"),
        ({**weights, name: torch.full((5,), torch.nan)}, rf"the weights '{name}' are not finite"),
    ):
        save_file(changed, folder / "model.safetensors")
        with pytest.raises(ModelError, match=message):
            add(str(folder), name="other")
    told = json.loads(description.read_text())
    for key, value in (("stuff", 0), ("kinds", [1, 2, 3]), ("layout", "mine")):
        description.write_text(json.dumps({**told, "net": {**told["net"], "objects": {**told["net"]["objects"], key: value}}}))
        with pytest.raises(ModelError):
            load_model("panoptic", device="cpu").predict(np.zeros((1, 3, 64, 96), np.float32))


def test_answers_of_another_shape_or_not_finite_are_refused() -> None:
    told = {"kinds": [1, 2], "stuff": 1}
    good = [torch.zeros(1, 5, 3), torch.zeros(1, 5, 8, 8)]
    found = queries.read(told, good, (32, 32), (30, 32))
    assert (len(found["objects"][0].score), tuple(found["semantic"].shape)) == (0, (1, 2, 30, 32))
    for answers in ([good[0]], [good[0], torch.zeros(1, 4, 8, 8)], [torch.zeros(1, 5, 4), good[1]], [good[0], torch.zeros(1, 5, 0, 8)]):
        with pytest.raises(ModelError, match=r"answers with tensors of shape .* \(n, queries, 3\)"):
            queries.read(told, answers, (32, 32), (32, 32))
    with pytest.raises(ModelError, match="not finite"):
        queries.read(told, [good[0], good[1] * torch.nan], (32, 32), (32, 32))


def test_the_worst_of_too_many_voxels_are_left_out() -> None:
    """Every query claims all of the tile."""
    logits = torch.tensor([0.0, 9.0, 0.0]) * torch.linspace(0.6, 1, 100)[:, None]
    objects = queries.read({"kinds": [0, 1], "stuff": 0}, [logits[None], torch.full((1, 100, 8, 8), 9.0)], (32, 32), (32, 32))["objects"][0]
    assert len(objects.score) == 32
    assert (np.diff(objects.score.astype(int)) <= 0).all()


def test_stuff_and_what_is_not_wanted_are_no_objects() -> None:
    """Three queries, each sure of a column of its own: one of stuff, one of a thing, one of a class that nobody asked for."""
    logits = 20 * torch.eye(4)[:3]
    masks = 40 * torch.eye(3)[:, None, :].expand(3, 3, 3) - 20
    found = queries.read({"kinds": [1, 2, 0], "stuff": 1}, [logits[None], masks[None]], (3, 3), (3, 3))
    objects = found["objects"][0]
    assert (objects.score.tolist(), objects.kind.tolist(), objects.voxel.tolist()) == ([255], [2], [[0, 1], [1, 1], [2, 1]])
    torch.testing.assert_close(found["semantic"][0, :, 0], torch.tensor([[0.0, 1, 1], [1, 0, 0]]), rtol=0, atol=1e-4)
