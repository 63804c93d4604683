"""What SegFormer (Xie et al. 2021, arXiv 2105.15203) is built with; transformers is not imported."""

from __future__ import annotations

import math
from typing import Any

from napari_segsuite.models.foreign.fields import Fields, check_plain

CONFIG = "config.json"
NETWORK = "SegformerForSemanticSegmentation"
FEW = {  # per level of the encoder
    "depths": [2, 2, 2, 2],
    "hidden_sizes": [32, 64, 160, 256],
    "mlp_ratios": [4, 4, 4, 4],
    "num_attention_heads": [1, 2, 5, 8],
    "patch_sizes": [7, 3, 3, 3],
    "sr_ratios": [8, 4, 2, 1],
    "strides": [4, 2, 2, 2],
}
ONE = {
    "num_channels": 3,
    "num_encoder_blocks": 4,
    "decoder_hidden_size": 256,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "reshape_last_stage": True,
}
"""The entries that say what the network is, with what they are where nothing is said; all others are for training."""
ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu", "swish")


def arguments(told: Fields) -> dict[str, Any]:
    """What the network is built with, after seeing that it fits together.

    Raises
    ------
    ModelError
        Names the entry.
    """
    told.only({*ONE, *FEW, "num_labels"})
    for key, value in told.told.items():
        check_plain(told, key, value)
    made: dict[str, Any] = {**ONE, **FEW, **told.told}
    levels = told.whole("num_encoder_blocks", made["num_encoder_blocks"], 1)
    for key in FEW:
        if not isinstance(made[key], list) or len(made[key]) != levels or not all(isinstance(n, int) and n >= 1 for n in made[key]):
            told.wrong(key, made[key], f"{levels} whole numbers from 1 on, one per level")
    for key in ("num_channels", "decoder_hidden_size", *(["num_labels"] if "num_labels" in made else [])):
        told.whole(key, made[key], 1)
    if made["hidden_act"] not in ACTIVATIONS or made["reshape_last_stage"] is not True or math.prod(made["strides"]) > 1024:
        told.wrong(
            "hidden_act", {k: made[k] for k in ("hidden_act", "reshape_last_stage", "strides")}, f"{', '.join(ACTIVATIONS)}; true; 1024 in all"
        )
    return made
