"""What SAM (Segment Anything, Kirillov et al. 2023, arXiv 2304.02643) is built with; transformers is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_segsuite.models.foreign.fields import Fields, check_plain

NETWORK = "SamModel"
WHOLE: Mapping[str, Mapping[str, int]] = {
    "vision_config": {
        "hidden_size": 768,
        "output_channels": 256,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "image_size": 1024,
        "patch_size": 16,
        "num_pos_feats": 128,
    },
    "prompt_encoder_config": {"hidden_size": 256, "image_size": 1024, "patch_size": 16, "mask_input_channels": 16, "num_point_embeddings": 4},
    "mask_decoder_config": {
        "hidden_size": 256,
        "mlp_dim": 2048,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "attention_downsample_rate": 2,
        "num_multimask_outputs": 3,
        "iou_head_depth": 3,
        "iou_head_hidden_dim": 256,
    },
}
OTHER: Mapping[str, Mapping[str, Any]] = {
    "vision_config": {
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "mlp_ratio": 4.0,
        "mlp_dim": None,
        "use_abs_pos": True,
        "use_rel_pos": True,
        "window_size": 14,
        "global_attn_indexes": [2, 5, 8, 11],
    },
    "prompt_encoder_config": {"hidden_act": "gelu", "layer_norm_eps": 1e-6},
    "mask_decoder_config": {"hidden_act": "relu", "layer_norm_eps": 1e-6},
}
"""The entries that say what the three parts of the network are, with what they are where nothing is said; all others are for training."""
ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu", "swish")
LAYERS, SIDES = 64, (32, 2048)
"""Layers of a part, and the side of an image, that a network may have."""


def taken(told: Fields) -> dict[str, Any]:
    """The entries of ``config.json`` that say what the network is."""
    parts = {part: told.below(part).told if part in told.told else {} for part in WHOLE}
    return {part: {key: value for key, value in parts[part].items() if key in WHOLE[part] or key in OTHER[part]} for part in WHOLE}


def arguments(told: Fields) -> dict[str, Any]:
    """What the network is built with, after seeing that it fits together.

    Raises
    ------
    ModelError
        Names the entry.
    """
    told.only(WHOLE)
    made = {part: _part(told.below(part), part) for part in WHOLE}
    vision, prompts, decoder = (made[part] for part in WHOLE)
    fields = told.below("vision_config")
    if not SIDES[0] <= vision["image_size"] <= SIDES[1] or vision["image_size"] % vision["patch_size"]:
        fields.wrong("image_size", vision["image_size"], f"{SIDES[0]} to {SIDES[1]}, a multiple of patch_size ({vision['patch_size']})")
    if vision["num_channels"] != 3:
        fields.wrong("num_channels", vision["num_channels"], "3")
    for key in ("image_size", "patch_size"):
        if prompts[key] != vision[key]:
            told.below("prompt_encoder_config").wrong(key, prompts[key], f"{vision[key]}, as in vision_config")
    # What meets in the decoder: embeddings of the image and of the prompts, and of where they are.
    for fields, key, found in (
        (told.below("vision_config"), "output_channels", vision["output_channels"]),
        (told.below("vision_config"), "num_pos_feats", 2 * vision["num_pos_feats"]),
        (told.below("prompt_encoder_config"), "hidden_size", prompts["hidden_size"]),
    ):
        if found != decoder["hidden_size"]:
            fields.wrong(key, found, f"{decoder['hidden_size']}, as hidden_size in mask_decoder_config (num_pos_feats: half of it)")
    return made


def _part(told: Fields, part: str) -> dict[str, Any]:
    """One part of the network."""
    told.only({*WHOLE[part], *OTHER[part]})
    made: dict[str, Any] = {**WHOLE[part], **OTHER[part], **told.told}
    for key, value in made.items():
        check_plain(told, key, value)
        if key in WHOLE[part] or key == "window_size" or (key == "mlp_dim" and value is not None):
            told.whole(key, value, 0 if key == "window_size" else 1)
    for key in ("num_hidden_layers", "iou_head_depth", "num_multimask_outputs"):
        if made.get(key, 1) > LAYERS:
            told.wrong(key, made[key], f"at most {LAYERS}")
    if made["hidden_act"] not in ACTIVATIONS:
        told.wrong("hidden_act", made["hidden_act"], ", ".join(ACTIVATIONS))
    indexes = made.get("global_attn_indexes", [])
    if not isinstance(indexes, list) or not all(type(n) is int and n >= 0 for n in indexes):
        told.wrong("global_attn_indexes", indexes, "whole numbers")
    return made
