"""What networks of transformers on a Swin Transformer are built with; transformers is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_segsuite.models.foreign.fields import Fields, check_plain

BACKBONE = "backbone_config"
STAGES = ["stage1", "stage2", "stage3", "stage4"]
WHOLE = {"image_size": 224, "patch_size": 4, "num_channels": 3, "embed_dim": 96, "window_size": 7}
OTHER = {
    "depths": [2, 2, 6, 2],
    "num_heads": [3, 6, 12, 24],
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "use_absolute_embeddings": False,
    "out_features": STAGES,
}
"""The entries that say what the backbone is, with what they are where nothing is said; all others are for training."""
ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu", "swish")
LAYERS, QUERIES = 64, 1000
"""Layers of a part, and queries, that a network may have."""
LIMITS = {"encoder_layers": LAYERS, "decoder_layers": LAYERS, "query_dec_layers": LAYERS, "num_queries": QUERIES, "task_seq_len": QUERIES}


def taken(told: Fields, keys: Mapping[str, Any]) -> Fields:
    """Of a configuration the entries `keys` and those of its backbone, which must be a Swin Transformer."""
    swin = told.below(BACKBONE)
    if swin.value("model_type", None) != "swin":
        swin.wrong("model_type", swin.value("model_type", None), "'swin'")
    backbone = {key: swin.told[key] for key in (*WHOLE, *OTHER) if key in swin.told}
    return Fields(told.path, "", {**{key: told.told[key] for key in keys if key in told.told}, BACKBONE: backbone})


def arguments(told: Fields, whole: Mapping[str, int], other: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """What a network is built with, after seeing that it fits together.

    Parameters
    ----------
    told : Fields
        What is said of it, and of its backbone.
    whole, other : mapping
        Its entries that are whole numbers from 1 on, and all others, with what they are where nothing is said.
    fixed : mapping
        Entries that may be nothing else: others would make masks of another size, or need positions that the tile does not have.

    Raises
    ------
    ModelError
        Names the entry.
    """
    told.only({*whole, *other, BACKBONE, "num_labels"})
    swin = told.below(BACKBONE)
    swin.only({*WHOLE, *OTHER})
    made: dict[str, Any] = {**whole, **other, **{key: value for key, value in told.told.items() if key != BACKBONE}}
    backbone: dict[str, Any] = {**WHOLE, **OTHER, **swin.told}
    for fields, values, numbers in ((told, made, whole), (swin, backbone, WHOLE)):
        for key, value in values.items():
            check_plain(fields, key, value)
            if key in (*numbers, "num_labels"):
                fields.whole(key, value, 1)
    for key, most in LIMITS.items():
        if made.get(key, 0) > most:
            told.wrong(key, made[key], f"at most {most}")
    for key in ("depths", "num_heads"):
        few = backbone[key]
        if not isinstance(few, list) or len(few) != len(STAGES) or not all(type(n) is int and 1 <= n <= LAYERS for n in few):
            swin.wrong(key, few, f"{len(STAGES)} whole numbers from 1 to {LAYERS}, one per stage")
    _check_fixed(told, made, fixed)
    _check_fixed(swin, backbone, {"patch_size": 4, "out_features": STAGES, "use_absolute_embeddings": False})
    check_activation(swin, backbone, "hidden_act")
    return {**made, BACKBONE: backbone}


def check_activation(fields: Fields, values: Mapping[str, Any], key: str) -> None:
    """Refuse activations that are not known."""
    if values[key] not in ACTIVATIONS:
        fields.wrong(key, values[key], ", ".join(ACTIVATIONS))


def _check_fixed(fields: Fields, values: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    for key, value in right.items():
        if values[key] != value:
            fields.wrong(key, values[key], str(value))
