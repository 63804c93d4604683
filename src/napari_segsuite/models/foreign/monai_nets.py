"""Networks of MONAI that bundles may ask for by name, what they are called with, and in what steps their input may grow. MONAI is not imported."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_segsuite.models.foreign.fields import Fields, check_plain

Sides = Sequence[int]


@dataclass(frozen=True)
class Network:
    """What is known of a network.

    Attributes
    ----------
    arguments : tuple of str
        Those that it may be called with, beside ``in_channels`` and ``out_channels``.
    stride : callable
        From its arguments and number of spatial axes to what each length is a multiple of.
    fixed : str
        The argument that says the one size that it takes; empty where it takes many.
    gone : tuple of str
        Arguments of older versions of MONAI, which change nothing in the network.
    """

    arguments: tuple[str, ...]
    stride: Callable[[Mapping[str, Any], int], Sides]
    fixed: str = ""
    gone: tuple[str, ...] = ()


def _product(told: Mapping[str, Any], dims: int) -> Sides:
    """The product of all strides, each a number or one per axis."""
    return [math.prod(s[axis] if isinstance(s, list) else s for s in told["strides"]) for axis in range(dims)]


def _always(stride: int) -> Callable[[Mapping[str, Any], int], Sides]:
    return lambda _, dims: (stride,) * dims


def _segresnet(told: Mapping[str, Any], dims: int) -> Sides:
    return (2 ** (len(told.get("blocks_down", (1, 2, 2, 4))) - 1),) * dims


def _swin(told: Mapping[str, Any], dims: int) -> Sides:
    return (told.get("patch_size", 2) ** 5,) * dims


_UNET = ("spatial_dims", "channels", "strides", "kernel_size", "up_kernel_size", "dropout")
_BASIC = ("spatial_dims", "features", "act", "norm", "bias", "dropout", "upsample")
NETWORKS: Mapping[str, Network] = {
    "AttentionUnet": Network(_UNET, _product),
    "BasicUNet": Network(_BASIC, _always(16)),
    "DynUNet": Network(
        ("spatial_dims", "kernel_size", "strides", "upsample_kernel_size", "filters", "dropout", "norm_name", "act_name", "deep_supervision",
         "deep_supr_num", "res_block", "trans_bias"),
        _product,
    ),
    "SegResNet": Network(
        ("spatial_dims", "init_filters", "dropout_prob", "act", "norm", "norm_name", "num_groups", "use_conv_final", "blocks_down", "blocks_up",
         "upsample_mode"),
        _segresnet,
    ),
    "SwinUNETR": Network(
        ("patch_size", "depths", "num_heads", "window_size", "qkv_bias", "mlp_ratio", "feature_size", "norm_name", "drop_rate", "attn_drop_rate",
         "dropout_path_rate", "normalize", "patch_norm", "use_checkpoint", "spatial_dims", "downsample", "use_v2"),
        _swin,
        gone=("img_size",),
    ),
    "UNETR": Network(
        ("img_size", "feature_size", "hidden_size", "mlp_dim", "num_heads", "proj_type", "norm_name", "conv_block", "res_block", "dropout_rate",
         "spatial_dims", "qkv_bias"),
        _always(16),
        fixed="img_size",
    ),
    "UNet": Network((*_UNET, "num_res_units", "act", "norm", "bias", "adn_ordering"), _product),
    "VNet": Network(("spatial_dims", "act", "dropout_prob", "dropout_prob_down", "dropout_prob_up", "dropout_dim", "bias"), _always(16)),
}  # fmt: skip


def arguments(name: str, told: Fields) -> dict[str, Any]:
    """What a network is called with, after seeing that it is known and that nothing but plain values is asked for.

    Raises
    ------
    ModelError
        Names the argument.
    """
    if name not in NETWORKS:
        told.wrong("_target_", name, f"one of {', '.join(NETWORKS)}")
    network = NETWORKS[name]
    told.only({"in_channels", "out_channels", *network.arguments, *network.gone})
    for key, value in told.told.items():
        check_plain(told, key, value)
    kwargs = {key: value for key, value in told.told.items() if key not in network.gone}
    for key, least in (("in_channels", 1), ("out_channels", 1), ("spatial_dims", 2)):
        kwargs[key] = told.whole(key, told.value(key, _DEFAULTS.get((name, key), ...)), least)
    if kwargs["spatial_dims"] > 3:
        told.wrong("spatial_dims", kwargs["spatial_dims"], "2 or 3")
    return kwargs


_DEFAULTS = {
    **{(name, "spatial_dims"): 3 for name in ("BasicUNet", "SegResNet", "SwinUNETR", "UNETR", "VNet")},
    **{(name, "in_channels"): 1 for name in ("BasicUNet", "SegResNet", "VNet")},
    **{(name, "out_channels"): 2 for name in ("BasicUNet", "SegResNet")},
    ("VNet", "out_channels"): 1,
}


def sides(name: str, kwargs: Mapping[str, Any], told: Fields) -> list[tuple[int, int]]:
    """Per axis of the network the least length, and the step between lengths; a step of 0 means that one only."""
    network, dims = NETWORKS[name], kwargs["spatial_dims"]
    try:
        if network.fixed:
            size = kwargs[network.fixed]
            sizes = [(n, 0) for n in (size if isinstance(size, list) else [size] * dims)]
        else:
            # Twice the stride: a norm over the voxels of an image needs more than one of them at the coarsest level.
            sizes = [(2 * n, n) for n in network.stride(kwargs, dims)]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        told.wrong("", dict(told.told), f"arguments that fit together: {type(error).__name__}: {error}")
    if len(sizes) != dims or not all(type(n) is int and 1 <= n <= 4096 for n, _ in sizes):
        told.wrong("", dict(told.told), f"{dims} lengths from 1 to 4096 that an image must have at least")
    return sizes
