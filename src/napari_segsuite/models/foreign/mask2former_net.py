"""What Mask2Former (Cheng et al. 2022, arXiv 2112.01527) on a Swin Transformer is built with; transformers is not imported."""

from __future__ import annotations

from typing import Any

from napari_segsuite.models.foreign import swin_net
from napari_segsuite.models.foreign.fields import Fields

NETWORK = "Mask2FormerForUniversalSegmentation"
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
"""The entries that say what the network is, with what they are where nothing is said; all others are for training."""


def arguments(told: Fields) -> dict[str, Any]:
    """What the network is built with, after seeing that it fits together.

    Raises
    ------
    ModelError
        Names the entry.
    """
    made = swin_net.arguments(told, WHOLE, OTHER, {"common_stride": 4, "feature_strides": OTHER["feature_strides"]})
    swin_net.check_activation(told, made, "activation_function")
    return made
