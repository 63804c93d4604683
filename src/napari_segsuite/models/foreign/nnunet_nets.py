"""Networks that nnU-Net plans, by name, and what they are called with, which plans say as import paths; none is imported."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from napari_segsuite.models.foreign.fields import Fields, check_plain

LAYERS: Mapping[str, tuple[str, ...]] = {
    "conv_op": ("Conv2d", "Conv3d"),
    "norm_op": ("InstanceNorm2d", "InstanceNorm3d", "BatchNorm2d", "BatchNorm3d"),
    "dropout_op": ("Dropout2d", "Dropout3d"),
    "nonlin": ("LeakyReLU", "ReLU", "ELU", "GELU", "SiLU"),
}
"""Arguments that are layers of PyTorch, and which they may be."""
_COMMON = (
    "n_stages", "features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage_decoder", "conv_bias", "norm_op_kwargs", "dropout_op_kwargs",
    "nonlin_kwargs", *LAYERS,
)  # fmt: skip
NETWORKS: Mapping[str, tuple[str, ...]] = {
    "PlainConvUNet": (*_COMMON, "n_conv_per_stage", "nonlin_first"),
    "ResidualEncoderUNet": (*_COMMON, "n_blocks_per_stage", "bottleneck_channels", "stem_channels"),
}
"""Of dynamic_network_architectures.architectures.unet: name -> what it is called with."""
PLACE = "dynamic_network_architectures.architectures.unet"


def arguments(told: Fields, channels: int, classes: int) -> tuple[str, dict[str, Any]]:
    """The network that plans describe, and what it is called with.

    Parameters
    ----------
    told : Fields
        ``architecture`` of a configuration.
    channels, classes : int
        Of the image and of the answer.

    Raises
    ------
    ModelError
        Names the field.
    """
    name = told.text("network_class_name")
    if name not in {f"{PLACE}.{known}" for known in NETWORKS}:
        told.wrong("network_class_name", name, f"one of {', '.join(f'{PLACE}.{known}' for known in NETWORKS)}")
    kwargs = dict(told.below("arch_kwargs").told)
    for key in LAYERS:
        if isinstance(kwargs.get(key), str):
            match = re.fullmatch(r"torch\.nn\.(?:modules\.\w+\.)?(\w+)", kwargs[key])
            kwargs[key] = match.group(1) if match else kwargs[key]
    kwargs |= {"input_channels": channels, "num_classes": classes}
    return name.rpartition(".")[2], checked(name.rpartition(".")[2], Fields(told.path, told.name("arch_kwargs"), kwargs))


def checked(name: str, told: Fields) -> dict[str, Any]:
    """The arguments of a network, after seeing that they are plain values and names of layers that are known.

    Raises
    ------
    ModelError
    """
    if name not in NETWORKS:
        told.wrong("", name, f"one of {', '.join(NETWORKS)}")
    told.only({*NETWORKS[name], "input_channels", "num_classes"})
    for key, value in told.told.items():
        check_plain(told, key, value)
        if key in LAYERS and value is not None and value not in LAYERS[key]:
            told.wrong(key, value, f"one of {', '.join(LAYERS[key])} of torch.nn")
    return dict(told.told)


def strides(kwargs: Mapping[str, Any], dims: int, told: Fields) -> tuple[int, ...]:
    """What the lengths of an image are multiples of, per axis of the network."""
    steps = kwargs.get("strides")
    each = [step if isinstance(step, list) else [step] * dims for step in steps] if isinstance(steps, list) else []
    if not each or not all(len(step) == dims and all(type(n) is int and n >= 1 for n in step) for step in each):
        told.wrong("architecture.arch_kwargs.strides", steps, f"numbers from 1 on, {dims} per level")
    found = tuple(math.prod(step[axis] for step in each) for axis in range(dims))
    if max(found) > 1024 or kwargs.get("conv_op") != f"Conv{dims}d":
        told.wrong("architecture.arch_kwargs", kwargs, f"layers for {dims} axes, and strides of 1024 in all at most")
    return found
