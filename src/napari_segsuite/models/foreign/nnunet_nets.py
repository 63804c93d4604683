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
OLD_NAME = "UNet_class_name"
"""What plans of versions before 2.4 call the network."""


def architecture(planned: Fields) -> Fields:
    """The network of a configuration as nnU-Net describes it since version 2.4; of older plans, what nnU-Net itself makes of them.

    Parameters
    ----------
    planned : Fields
        A configuration, with what it takes over from others.

    Raises
    ------
    ModelError
        Names the field.
    """
    if "architecture" in planned.told:
        return planned.below("architecture")
    if OLD_NAME not in planned.told:
        planned.wrong("architecture", None, f"a description of the network, or {OLD_NAME} as before version 2.4")
    name = planned.text(OLD_NAME)
    if name not in NETWORKS:
        planned.wrong(OLD_NAME, name, f"one of {', '.join(NETWORKS)}")
    dims, stages = len(_listed(planned, "patch_size")), len(_listed(planned, "n_conv_per_stage_encoder"))
    first, most = (planned.whole(key, planned.value(key), 1) for key in ("UNet_base_num_features", "unet_max_num_features"))
    kwargs = {
        "n_stages": stages,
        "features_per_stage": [min(first << min(n, 31), most) for n in range(stages)],
        "conv_op": f"torch.nn.Conv{dims}d",
        "kernel_sizes": _listed(planned, "conv_kernel_sizes", stages),
        "strides": _listed(planned, "pool_op_kernel_sizes", stages),
        "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage": _listed(planned, "n_conv_per_stage_encoder"),
        "n_conv_per_stage_decoder": _listed(planned, "n_conv_per_stage_decoder", stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return Fields(planned.path, planned.where, {"network_class_name": f"{PLACE}.{name}", "arch_kwargs": kwargs})


def _listed(planned: Fields, key: str, count: int = 0) -> list[Any]:
    """A list that is not empty, of as many entries as `count` where that is known."""
    found = planned.value(key)
    if not isinstance(found, list) or not found or (count and len(found) != count):
        planned.wrong(key, found, f"a list of {count}, one per level" if count else "a list of numbers")
    return found


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
