"""A SAM as its makers store it, and micro-sam does too: one file of weights, whose shapes say what the network is.

The names of its arrays are those of the package ``segment_anything`` (Kirillov et al. 2023); here they get those of transformers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from napari_segsuite.models.foreign.fields import Fields
from napari_segsuite.models.foreign.pickles import NESTED, read_numbers, weights_in
from napari_segsuite.models.foreign.weights_file import names_in

SAM = "a SAM"
MARKS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    ((b"image_encoder.trunk.", b"sam_mask_decoder."), "a SAM 2"),
    ((b"mask_decoder.hf_token",), "a SAM-HQ"),
    ((b"image_encoder.patch_embed.seq", b"mask_decoder.iou_token"), "a MobileSAM"),
    ((b"image_encoder.patch_embed.proj", b"prompt_encoder.pe_layer", b"mask_decoder.iou_token"), SAM),
)
"""Parts of names of arrays by which a network is known, first those that it is not mistaken for."""
PLACES = (*NESTED, "model_state")
"""Where in a file the weights may be; the last is what micro-sam calls them in the checkpoints of a training."""
PREFIX = "sam."
"""Before all names in such a checkpoint."""
HEADS = 8
"""Of attention in the mask decoder of all SAMs; the shapes of the weights do not say it."""
NORM = 1e-5
"""Of the decoder's norms, which transformers has smaller."""
RENAMED: tuple[tuple[str, str], ...] = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"^vision_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^vision_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^(vision_encoder\.layers\.\d+|mask_decoder\.transformer\.layers\.\d+)\.norm(\d)", r"\1.layer_norm\2"),
    (r"^vision_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^vision_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^vision_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^vision_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", "prompt_encoder.shared_embedding.positional_embedding"),
    (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
)
POSITIONS = "prompt_encoder.shared_embedding.positional_embedding"
"""Which transformers has twice, also as the image's."""
_LAYER = re.compile(r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.(\d+)\.(.+)$")


def kind(path: Path) -> str:
    """Which network a file is of; empty where it is none of these."""
    names = names_in(path)
    return next((kind for marks, kind in MARKS if all(mark in names for mark in marks)), "")


def is_model(path: Path) -> bool:
    """Whether a file holds the weights of a SAM of any kind, by the names in it."""
    return path.is_file() and bool(kind(path))


def loaded(path: Path) -> dict[str, Tensor]:
    """The weights in a file, by the names that their makers gave them.

    Raises
    ------
    ModelError
        It holds objects that are no numbers, or no weights.
    """
    weights = weights_in(read_numbers(path), path, PLACES)
    return {name.removeprefix(PREFIX): value for name, value in weights.items()}


def parts_in(weights: Mapping[str, Tensor], path: Path) -> dict[str, dict[str, Any]]:
    """What a network is built with, as the shapes of its weights say it.

    Raises
    ------
    ModelError
        Names the array that is missing or has another number of axes.
    """

    def wrong(name: str, found: Any, needed: str) -> NoReturn:
        Fields(path, "", {}).wrong(name, found, needed)

    def shape(name: str, axes: int) -> tuple[int, ...]:
        found = tuple(weights[name].shape) if name in weights else None
        if found is None or len(found) != axes or not all(found):
            wrong(name, found, f"an array of {axes} axes, as in a SAM")
        return found

    grid = shape("image_encoder.pos_embed", 4)[1]
    hidden, _, _, patch = shape("image_encoder.patch_embed.proj.weight", 4)
    layers = _count(weights, r"image_encoder\.blocks\.(\d+)\.")
    far = [shape(f"image_encoder.blocks.{k}.attn.rel_pos_h", 2) for k in range(layers)]
    windows = {(n + 1) // 2 for n, _ in far} - {grid}
    if not layers or len(windows) > 1 or hidden % far[0][1]:
        wrong("image_encoder.blocks", f"{layers}, with windows of {sorted(windows)}", "blocks of one size of windows, and some that see everything")
    width = shape("prompt_encoder.no_mask_embed.weight", 2)[1]
    shared = {"image_size": grid * patch, "patch_size": patch}
    vision = {
        **shared,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // far[0][1],
        "window_size": max(windows, default=0),
        "global_attn_indexes": [k for k, (n, _) in enumerate(far) if (n + 1) // 2 == grid],
        "mlp_dim": shape("image_encoder.blocks.0.mlp.lin1.weight", 2)[0],
        "output_channels": shape("image_encoder.neck.0.weight", 4)[0],
        "num_channels": 3,
        "num_pos_feats": shape("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", 2)[1],
        "qkv_bias": "image_encoder.blocks.0.attn.qkv.bias" in weights,
    }
    prompts = {
        **shared,
        "hidden_size": width,
        "mask_input_channels": shape("prompt_encoder.mask_downscaling.3.weight", 4)[0],
        "num_point_embeddings": _count(weights, r"prompt_encoder\.point_embeddings\.(\d+)\."),
    }
    return {"vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": _decoder(weights, shape, width)}


def _decoder(weights: Mapping[str, Tensor], shape: Callable[[str, int], tuple[int, ...]], width: int) -> dict[str, Any]:
    first = "mask_decoder.transformer.layers.0"
    return {
        "hidden_size": width,
        "mlp_dim": shape(f"{first}.mlp.lin1.weight", 2)[0],
        "num_hidden_layers": _count(weights, r"mask_decoder\.transformer\.layers\.(\d+)\."),
        "num_attention_heads": HEADS,
        "attention_downsample_rate": max(1, width // shape(f"{first}.cross_attn_token_to_image.q_proj.weight", 2)[0]),
        "num_multimask_outputs": shape("mask_decoder.mask_tokens.weight", 2)[0] - 1,
        "iou_head_depth": _count(weights, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\."),
        "iou_head_hidden_dim": shape("mask_decoder.iou_prediction_head.layers.0.weight", 2)[0],
        "layer_norm_eps": NORM,
    }


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights by the names that transformers gives them."""
    last: dict[str, int] = {}
    for name in weights:
        if found := _LAYER.match(name):
            last[found[1]] = max(last.get(found[1], 0), int(found[2]))
    made: dict[str, Tensor] = {}
    for name, value in weights.items():
        if found := _LAYER.match(name):
            part, k = found[1], int(found[2])
            name = f"{part}.{'proj_in' if k == 0 else 'proj_out' if k == last[part] else f'layers.{k - 1}'}.{found[3]}"
        for before, after in RENAMED:
            name = re.sub(before, after, name)
        made[name] = value
    if POSITIONS in made:
        made["shared_image_embedding.positional_embedding"] = made[POSITIONS].clone()
    return made


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """How many parts there are that are numbered from 0 on."""
    numbers = {int(found[1]) for name in weights if (found := re.match(pattern, name))}
    return len(numbers) if numbers == set(range(len(numbers))) else 0
