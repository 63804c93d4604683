"""OneFormer as transformers keeps it: it is told the task that its classes ask for; objects and stuff are those of transformers."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_segsuite import load_model, load_spec, segment
from napari_segsuite.errors import MissingExtra, ModelError
from napari_segsuite.models.foreign import oneformer
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.oneformer_net import FIRST, LAST, NETWORK, tokens
from napari_segsuite.models.foreign.store import add
from napari_segsuite.models.foreign.swin_net import BACKBONE

SWIN: dict[str, Any] = {
    "model_type": "swin", "image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}  # fmt: skip
SIZES: dict[str, Any] = {
    "conv_dim": 32, "mask_dim": 32, "hidden_dim": 32, "encoder_feedforward_dim": 16, "dim_feedforward": 16, "encoder_layers": 1,
    "decoder_layers": 3, "query_dec_layers": 1, "num_attention_heads": 2, "num_queries": 12, "task_seq_len": 20,
}  # fmt: skip
NAMES = {"0": "cat", "1": "sky", "2": "tree", "3": "dog"}
PIXELS: dict[str, Any] = {
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.25, 0.3],
    "size": {"height": 384, "width": 384},
    "metadata": {"thing_ids": [0, 3], "class_names": list(NAMES.values())},
}
MERGES = ["t h", "th e</w>", "t a", "ta s", "i s</w>", "a n", "p an", "t i", "ti c</w>", "s e", "m an", "se man", "an c", "e e</w>"]
LETTERS = [letter + end for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
VOCABULARY = {token: n for n, token in enumerate([*LETTERS, *(m.replace(" ", "") for m in MERGES), FIRST, LAST])}
CONFIG: dict[str, Any] = {"architectures": [NETWORK], **SIZES, BACKBONE: SWIN, "id2label": NAMES, "is_training": True}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def described(folder: Path) -> Path:
    """All files beside the weights."""
    folder.mkdir(exist_ok=True)
    for name, told in (("config", CONFIG), ("preprocessor_config", PIXELS), ("vocab", VOCABULARY)):
        (folder / f"{name}.json").write_text(json.dumps(told))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]) + "\n")
    return folder


def written(folder: Path) -> Path:
    """A checkpoint whose weights are none."""
    save_file({"weight": torch.ones(1)}, described(folder) / "model.safetensors")
    return folder


def test_texts_have_the_numbers_of_the_tokenizer() -> None:
    Tokenizer = pytest.importorskip("transformers").CLIPTokenizer
    theirs = Tokenizer(vocab=VOCABULARY, merges=[tuple(m.split()) for m in MERGES])
    for text in ("the task is panoptic", "the task is instance", "the task is semantic", "aaa tata ttt isis"):
        wanted = theirs(text)["input_ids"]
        assert tokens(text, VOCABULARY, "\n".join(MERGES), 40) == wanted + [0] * (40 - len(wanted)), text
    assert tokens("the task", VOCABULARY, "", 8) is None, "too short"
    assert tokens("the Task", VOCABULARY, "", 40) is None, "no such letter"


@pytest.mark.parametrize(("classes", "task"), [((), "panoptic"), (("1:cat", "2:dog"), "instance"), (("1:cat:stuff", "2:sky:stuff"), "semantic")])
def test_the_task_is_what_the_classes_ask_for(classes: tuple[str, ...], task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    folder = written(tmp_path / "net")
    told = oneformer.read(folder, Form(classes=classes))
    assert told.net["kwargs"]["task"] == tokens(f"the task is {task}", VOCABULARY, "\n".join(MERGES), 20)
    assert told.net["name"] == "transformers_oneformer"
    with pytest.raises(MissingExtra, match=r'pip install "napari-segsuite\[transformers\]"'):
        add(str(folder))


def test_what_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "net")
    for changes, message in (
        ({BACKBONE: {"model_type": "dinat"}}, r"'backbone_config\.model_type': found 'dinat'\. Needed: 'swin'"),
        ({"task_seq_len": 5000}, r"'task_seq_len': found 5000\. Needed: at most 1000"),
        ({"norm": "BN"}, r"'norm': found 'BN'\. Needed: GN"),
        ({"task_seq_len": 3}, r"vocab\.json and merges\.txt do not write 'the task is panoptic' in 3 tokens"),
    ):
        (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
        with pytest.raises(ModelError, match=message):
            oneformer.read(folder, Form())
    described(folder)
    (folder / "vocab.json").write_text("[]")
    with pytest.raises(ModelError, match="the vocabulary of CLIP"):
        oneformer.read(folder, Form())
    (folder / "vocab.json").unlink()
    with pytest.raises(ModelError, match=r"vocab\.json"):
        oneformer.read(folder, Form())


@pytest.fixture(scope="module")
def network() -> Any:
    """A small one of random weights that is sure of what it says."""
    transformers = pytest.importorskip("transformers")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        names = {int(n): name for n, name in NAMES.items()}
        config = transformers.OneFormerConfig(**SIZES, backbone_config=transformers.SwinConfig(**SWIN), id2label=names)
        net = transformers.OneFormerForUniversalSegmentation(config).eval()
        with torch.no_grad():
            for name, value in net.named_parameters():
                if value.ndim > 1:
                    torch.nn.init.normal_(value, std=1.3 / value[0].numel() ** 0.5)
                if "class_embed.weight" in name:
                    value.mul_(3)
                if "queries" in name or "query_embed" in name or "level_embed" in name:
                    torch.nn.init.normal_(value)
    return net


def blots(seed: int) -> np.ndarray[Any, Any]:
    """Colours that change slowly."""
    noise = torch.from_numpy(np.random.default_rng(seed).random((1, 3, 26, 26)))
    return (255 * torch.nn.functional.interpolate(noise, (384, 384), mode="bicubic").clamp(0, 1)[0].numpy()).astype(np.uint8)


def test_objects_and_stuff_are_those_of_transformers(network: Any, tmp_path: Path) -> None:
    Processor = import_module("transformers").Mask2FormerImageProcessorPil  # the same of instances; OneFormer's own counts a query more than once
    network.save_pretrained(tmp_path / "net")
    weights = load_file(described(tmp_path / "net") / "model.safetensors")
    save_file({**weights, "model.text_mapper.more": torch.ones(1)}, tmp_path / "net" / "model.safetensors")  # as from a training
    pixels, answers = blots(1), {}
    for task, classes in (("panoptic", ()), ("instance", ("1:cat", "2:dog"))):
        add(str(tmp_path / "net"), Form(classes=classes), name=task)
        mean, deviation = (torch.tensor(PIXELS[key]).reshape(3, 1, 1) for key in ("image_mean", "image_std"))
        said = torch.tensor([load_spec(task).net["kwargs"]["task"]])
        with torch.inference_mode():
            answers[task] = network(((torch.from_numpy(pixels) / 255 - mean) / deviation)[None], task_inputs=said)
        found = load_model(task, device="cpu").predict(pixels[None].astype(np.float32))
        mine, kinds = found.objects[0], load_spec(task).net["objects"]["kinds"]
        wanted = Processor().post_process_instance_segmentation(answers[task], threshold=0.3, return_binary_maps=True)[0]["segments_info"]
        rows = sorted(((row["score"], kinds[row["label_id"]]) for row in wanted if row["label_id"] in (0, 3)), reverse=True)
        assert len(rows) >= 2
        assert (mine.score > 255 * 0.3).sum() == len(rows)
        for k, (score, kind) in enumerate(rows):
            assert (mine.score[k], mine.kind[k]) == (pytest.approx(255 * score, abs=0.51), kind)
        if task == "panoptic":
            stuff = torch.as_tensor(found.maps["semantic"])[0]
    claimed = Processor().post_process_semantic_segmentation(answers["panoptic"], return_segmentation_scores=True)[0].segmentation_scores
    torch.testing.assert_close(stuff[1:], claimed[[1, 2]] / claimed.sum(0).clamp_min(1), rtol=0, atol=1e-4)
    assert not torch.allclose(answers["panoptic"].masks_queries_logits, answers["instance"].masks_queries_logits, atol=0.01), "the task is heard"
    wish: dict[str, Any] = {"model": "panoptic", "device": "cpu", "min_size_px": 0, "center": 0.2}
    whole = segment(pixels.transpose(1, 2, 0), **wish)
    assert whole.task == "panoptic"
    np.testing.assert_array_equal(segment(pixels.transpose(1, 2, 0), **wish, chunk=(201, 150)).labels, whole.labels)
    (tmp_path / "models" / "panoptic" / "model.json").write_text(
        (tmp_path / "models" / "panoptic" / "model.json").read_text().replace('"task_seq_len": 20', '"task_seq_len": 19')
    )
    with pytest.raises(ModelError, match=r"net\.kwargs\.task': found .* Needed: 19 numbers of tokens"):
        load_model("panoptic", device="cpu")
