"""A SAM as one file of weights: what it is built with is read off their shapes, and it answers as ``segment_anything`` does."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_segsuite.errors import MissingExtra, ModelError, OptionError
from napari_segsuite.models.foreign import sam_file
from napari_segsuite.models.foreign.fields import Fields
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.sam_net import arguments
from napari_segsuite.models.foreign.store import add
from napari_segsuite.models.prompts import Prompt, prompter

SIDE = 64
SIZES = {"vit_b": (768, 12, 12, [2, 5, 8, 11]), "vit_l": (1024, 24, 16, [5, 11, 17, 23]), "vit_h": (1280, 32, 16, [7, 15, 23, 31])}
"""Width, blocks, heads and blocks that see everything, from the paper's appendix A and the makers' files."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture(scope="module")
def network() -> Any:
    """A small one of random weights, built by the makers' package."""
    modeling = pytest.importorskip("segment_anything.modeling")
    pytest.importorskip("transformers")
    with torch.random.fork_rng():
        torch.manual_seed(2)
        encoder = modeling.ImageEncoderViT(
            depth=3, embed_dim=16, img_size=SIDE, mlp_ratio=2, norm_layer=partial(nn.LayerNorm, eps=1e-6), num_heads=2, patch_size=8,
            use_rel_pos=True, global_attn_indexes=[1], window_size=4, out_chans=32,
        )  # fmt: skip
        prompts = modeling.PromptEncoder(embed_dim=32, image_embedding_size=(8, 8), input_image_size=(SIDE, SIDE), mask_in_chans=12)
        looks = modeling.TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=40, num_heads=8)
        decoder = modeling.MaskDecoder(transformer_dim=32, transformer=looks, iou_head_depth=4, iou_head_hidden_dim=20)
        net = modeling.Sam(encoder, prompts, decoder).eval()
        with torch.no_grad():
            for value in net.parameters():
                if value.ndim > 1:
                    nn.init.normal_(value, std=2.5 / value[0].numel() ** 0.5)
            last = net.mask_decoder.iou_prediction_head.layers[-1]
            last.weight *= 0.05
            last.bias.fill_(0.5)
    return net


def nested(weights: dict[str, Tensor]) -> dict[str, Any]:
    """As micro-sam stores a network while it is trained."""
    return {"model_state": {f"sam.{name}": value for name, value in weights.items()}, "iteration": 7}


@pytest.mark.parametrize("stored", [dict, nested])
def test_it_answers_as_its_makers_package_does(network: Any, stored: Any, tmp_path: Path) -> None:
    torch.save(stored(network.state_dict()), tmp_path / "vit_tiny.pth")
    add(str(tmp_path / "vit_tiny.pth"), Form(normalize="none", context=(16, 16)))
    picture = np.random.default_rng(0).integers(0, 255, (SIDE, 48, 3)).astype(np.uint8)
    backend, theirs = prompter("vit_tiny", device="cpu"), pytest.importorskip("segment_anything").SamPredictor(network)
    theirs.set_image(picture)
    state = backend.look(picture.transpose(2, 0, 1).astype(np.float32))
    torch.testing.assert_close(state.embedding, theirs.features, rtol=0, atol=1e-4)
    for prompt, told in (
        (Prompt(((20, 12),)), {"point_coords": [[12, 20]], "point_labels": [1]}),
        (Prompt(((20, 12), (30, 25)), (True, False)), {"point_coords": [[12, 20], [25, 30]], "point_labels": [1, 0]}),
        (Prompt(box=((10, 31), (5, 26))), {"box": [5, 10, 25, 30]}),
    ):
        several = prompt.box is None and len(prompt.points) == 1
        masks, sure, _ = theirs.predict(**{key: np.array(value) for key, value in told.items()}, multimask_output=several)
        found = backend.answer(state, prompt)
        assert len(found) == (3 if several else 1)
        for k, candidate in zip(np.argsort(-sure, kind="stable"), found, strict=True):
            assert candidate.score == pytest.approx(min(max(float(sure[k]), 0), 1), abs=1e-4)
            np.testing.assert_array_equal(candidate.region, masks[k])


@pytest.mark.parametrize("size", SIZES)
def test_the_sizes_that_were_published_are_read_off_the_weights(size: str, tmp_path: Path) -> None:
    package = pytest.importorskip("segment_anything")
    with torch.device("meta"):
        weights = package.sam_model_registry[size]().state_dict()
    kwargs = arguments(Fields(tmp_path, "", sam_file.parts_in(weights, tmp_path)))
    vision = kwargs["vision_config"]
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "global_attn_indexes")
    assert tuple(vision[name] for name in names) == SIZES[size]
    assert (vision["image_size"], vision["patch_size"], vision["window_size"], vision["mlp_dim"]) == (1024, 16, 14, 4 * SIZES[size][0])
    decoder = {"hidden_size": 256, "mlp_dim": 2048, "num_hidden_layers": 2, "attention_downsample_rate": 2, "num_multimask_outputs": 3}
    assert {name: kwargs["mask_decoder_config"][name] for name in decoder} == decoder
    transformers = pytest.importorskip("transformers")
    kinds = {"vision_config": "SamVisionConfig", "prompt_encoder_config": "SamPromptEncoderConfig", "mask_decoder_config": "SamMaskDecoderConfig"}
    with torch.device("meta"):
        net = transformers.SamModel(transformers.SamConfig(**{part: getattr(transformers, kind)(**kwargs[part]) for part, kind in kinds.items()}))
    assert {k: v.shape for k, v in sam_file.renamed(weights).items()} == {k: v.shape for k, v in net.state_dict().items()}


NAMES = ("image_encoder.patch_embed.proj.weight", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", "mask_decoder.iou_token.weight")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("image_encoder.trunk.pos_embed", "sam_mask_decoder.iou_token.weight"), "is a SAM 2"),
        ((*NAMES, "mask_decoder.hf_token.weight"), "is a SAM-HQ"),
        (("image_encoder.patch_embed.seq.0.c.weight", "mask_decoder.iou_token.weight"), "is a MobileSAM"),
        (NAMES, r"field 'image_encoder.pos_embed': found nothing\. Needed: an array of 4 axes"),
    ],
)
def test_others_are_called_by_their_names(names: tuple[str, ...], told: str, home: Path, tmp_path: Path) -> None:
    torch.save(dict.fromkeys(names, torch.ones(2)), tmp_path / "net.pth")
    with pytest.raises(ModelError, match=told):
        add(str(tmp_path / "net.pth"))
    assert list(home.iterdir()) == []


def test_weights_that_do_not_fit_are_refused(network: Any, tmp_path: Path) -> None:
    weights = network.state_dict()
    name = "mask_decoder.iou_token.weight"
    for changed, message in (
        ({**weights, "image_encoder.pos_embed": torch.ones(3)}, r"'image_encoder.pos_embed': found \(3,\)"),
        ({**weights, "image_encoder.blocks.0.attn.rel_pos_h": torch.ones(9, 8)}, r"'image_encoder.blocks': found '3, with windows of \[4, 5\]"),
        ({**weights, name: weights[name] * torch.nan}, rf"the weights '{name}' are not finite"),
        ({**weights, "mask_decoder.more.weight": torch.ones(1)}, "unexpected keys: 1, such as mask_decoder.more.weight"),
        ({k: v for k, v in weights.items() if k != "mask_decoder.transformer.layers.1.norm2.bias"}, "missing keys: 1"),
    ):
        torch.save(changed, tmp_path / "net.pth")
        with pytest.raises(ModelError, match=message):
            add(str(tmp_path / "net.pth"))
    torch.save(weights, tmp_path / "net.pth")
    with pytest.raises(OptionError, match="one class of things"):
        add(str(tmp_path / "net.pth"), Form(classes=("1:cat", "2:dog")))


def test_without_transformers_the_extra_is_named(network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    with pytest.raises(MissingExtra, match=r'pip install "napari-segsuite\[transformers\]"'):
        add(str(tmp_path / "net.pth"))
