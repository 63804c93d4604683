"""What Mask2Former (Cheng et al. 2022, arXiv 2112.01527) on a Swin Transformer is built with; transformers is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_segsuite.models.foreign.fields import Fields, check_plain

NETWORK = "Mask2FormerForUniversalSegmentation"
BACKBONE = "backbone_config"
STAGES = ["stage1", "stage2", "stage3", "stage4"]
WHOLE = {
    "feature_size": 256,
    "mask_feature_size": 256,
    "hidden_dim": 256,
    "encoder_feedforward_dim": 1024,
    "dim_feedforward": 2048,
    "encoder_layers": 6,
    "decoder_layers": 10,
    "num_attention_heads": 8,
    "num_queries": 100,
    "common_stride": 4,
}
OTHER = {"activation_function": "relu", "pre_norm": False, "enforce_input_projection": False, "feature_strides": [4, 8, 16, 32]}
SWIN_WHOLE = {"image_size": 224, "patch_size": 4, "num_channels": 3, "embed_dim": 96, "window_size": 7}
SWIN_OTHER = {
    "depths": [2, 2, 6, 2],
    "num_heads": [3, 6, 12, 24],
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "use_absolute_embeddings": False,
    "out_features": STAGES,
}
"""The entries that say what the network and its backbone are, with what they are where nothing is said; all others are for training."""
ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu", "swish")
LAYERS, QUERIES = 64, 1000
"""Layers of a part, and queries, that a network may have."""


def arguments(told: Fields) -> dict[str, Any]:
    """What the network is built with, after seeing that it fits together.

    Raises
    ------
    ModelError
        Names the entry.
    """
    told.only({*WHOLE, *OTHER, BACKBONE, "num_labels"})
    swin = told.below(BACKBONE)
    swin.only({*SWIN_WHOLE, *SWIN_OTHER})
    made: dict[str, Any] = {**WHOLE, **OTHER, **{key: value for key, value in told.told.items() if key != BACKBONE}}
    backbone: dict[str, Any] = {**SWIN_WHOLE, **SWIN_OTHER, **swin.told}
    for fields, values, whole in ((told, made, WHOLE), (swin, backbone, SWIN_WHOLE)):
        for key, value in values.items():
            check_plain(fields, key, value)
            if key in (*whole, "num_labels"):
                fields.whole(key, value, 1)
    for key, most in (("encoder_layers", LAYERS), ("decoder_layers", LAYERS), ("num_queries", QUERIES)):
        if made[key] > most:
            told.wrong(key, made[key], f"at most {most}")
    for key in ("depths", "num_heads"):
        few = backbone[key]
        if not isinstance(few, list) or len(few) != len(STAGES) or not all(type(n) is int and 1 <= n <= LAYERS for n in few):
            swin.wrong(key, few, f"{len(STAGES)} whole numbers from 1 to {LAYERS}, one per stage")
    # Others would make masks of another size, or need positions that the tile does not have.
    _check_fixed(told, made, {"common_stride": 4, "feature_strides": OTHER["feature_strides"]})
    _check_fixed(swin, backbone, {"patch_size": 4, "out_features": STAGES, "use_absolute_embeddings": False})
    for fields, values, key in ((told, made, "activation_function"), (swin, backbone, "hidden_act")):
        if values[key] not in ACTIVATIONS:
            fields.wrong(key, values[key], ", ".join(ACTIVATIONS))
    return {**made, BACKBONE: backbone}


def _check_fixed(fields: Fields, values: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    for key, value in right.items():
        if values[key] != value:
            fields.wrong(key, values[key], str(value))
