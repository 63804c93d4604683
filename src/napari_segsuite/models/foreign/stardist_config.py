"""What a network of StarDist is built with, as its ``config.json`` says it; neither stardist nor csbdeep is imported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from napari_segsuite.models.foreign.fields import Fields, check_plain

CONFIG = "config.json"
UNET: Mapping[str, Any] = {
    "unet_n_depth": None, "unet_kernel_size": 3, "unet_n_filter_base": 32, "unet_n_conv_per_depth": 2, "unet_pool": 2, "unet_activation": "relu",
    "unet_last_activation": "relu", "unet_batch_norm": False, "unet_dropout": 0.0, "unet_expansion": 2, "unet_prefix": "",
    "net_conv_after_unet": 128,
}  # fmt: skip
RESNET: Mapping[str, Any] = {
    "resnet_n_blocks": 4, "resnet_kernel_size": 3, "resnet_kernel_init": "he_normal", "resnet_n_filter_base": 32, "resnet_n_conv_per_block": 3,
    "resnet_activation": "relu", "resnet_batch_norm": False, "net_conv_after_resnet": 128,
}  # fmt: skip
"""The entries that say what a backbone is, with what they are where nothing is said (3 and 2: along each axis)."""
COMMON: Mapping[str, Any] = {
    "axes": ..., "n_rays": ..., "grid": 1, "backbone": "unet", "n_channel_in": 1, "n_classes": None, "anisotropy": None, "rays_json": None,
}  # fmt: skip
AXES = {"YX": "yx", "YXC": "yx", "ZYX": "zyx", "ZYXC": "zyx"}
ACTIVATIONS = ("relu", "elu", "selu", "tanh", "sigmoid", "softplus", "linear")
SPIRAL = "Rays_GoldenSpiral"
MOST = {"n_rays": 1024, "n_channel_in": 1024, "depth": 8, "filters": 4096, "stride": 1024}


def arguments(told: Fields) -> dict[str, Any]:
    """The entries that say what the network is, all of them, after seeing that they fit together.

    Parameters
    ----------
    told : Fields
        ``config.json``, or what this function answered for it.

    Raises
    ------
    ModelError
        Names the entry.
    """
    made = {key: told.value(key, default) for key, default in COMMON.items()}
    if made["axes"] not in AXES:
        told.wrong("axes", made["axes"], f"one of {', '.join(AXES)}")
    dims = len(AXES[made["axes"]])
    if made["backbone"] not in ("unet", "resnet")[: dims - 1]:
        told.wrong("backbone", made["backbone"], "unet" if dims == 2 else "unet or resnet")
    backbone = UNET if made["backbone"] == "unet" else RESNET
    for key in told.told:
        if key.startswith(("unet_", "resnet_", "net_conv_after")) and key not in backbone:
            told.wrong(key, told.told[key], f"no such field: only {', '.join(backbone)}")
    made |= {key: told.value(key, default) for key, default in backbone.items()}
    made = {key: [value] * dims if key in ("grid", "unet_kernel_size", "unet_pool", "resnet_kernel_size") and value in (1, 2, 3) else value
            for key, value in made.items()}  # fmt: skip
    if made.get("unet_n_depth", 0) is None:
        made["unet_n_depth"] = 5 - dims
    for key, value in made.items():
        check_plain(told, key, value)
    _check_common(told, made, dims)
    (_check_unet if made["backbone"] == "unet" else _check_resnet)(told, made, dims)
    return made


def stride(made: Mapping[str, Any]) -> tuple[int, ...]:
    """What the lengths of an image are multiples of, per axis."""
    pools = [n ** made["unet_n_depth"] for n in made["unet_pool"]] if made["backbone"] == "unet" else [1] * len(made["grid"])
    return tuple(g * p for g, p in zip(made["grid"], pools, strict=True))


def reach(made: Mapping[str, Any]) -> tuple[int, ...]:
    """How far a voxel can be from those that change its answer, per axis: half of all kernels, and what pooling shifts them by."""
    unet = made["backbone"] == "unet"
    kernel, after = made[f"{made['backbone']}_kernel_size"], made[f"net_conv_after_{made['backbone']}"]
    far = []
    for k, g, pool in zip(kernel, made["grid"], made["unet_pool"] if unet else made["grid"], strict=True):
        half, last = k // 2, g if after else 0
        if unet:
            count, depth = made["unet_n_conv_per_depth"], made["unet_n_depth"]
            levels = 2 * sum(pool**n for n in range(depth)) + pool**depth
            # To the grid a round of convolutions for each halving, at 1, 2, ..., g / 2.
            far.append(half * (count * (g - 1 + g * levels) + last) + g * pool**depth)
        else:
            # The first two layers have kernels of 7 and 3 whatever is said.
            far.append(4 + half * (made["resnet_n_conv_per_block"] * made["resnet_n_blocks"] * g + last) + g)
    return tuple(far)


def rounds(grid: list[int]) -> list[tuple[int, ...]]:
    """How an image is pooled to a grid, in steps of 2.

    >>> rounds([1, 4])
    [(1, 2), (1, 2)]
    """
    pooled, found = [1] * len(grid), []
    while pooled != list(grid):
        step = tuple(2 if g > p else 1 for g, p in zip(grid, pooled, strict=True))
        found.append(step)
        pooled = [p * s for p, s in zip(pooled, step, strict=True)]
    return found


def _check_common(told: Fields, made: Mapping[str, Any], dims: int) -> None:
    _wholes(told, made, "grid", dims, 1)
    if any(n & (n - 1) for n in made["grid"]):
        told.wrong("grid", made["grid"], "powers of 2")
    for key, least in (("n_rays", dims + 1), ("n_channel_in", 1)):
        if told.whole(key, made[key], least) > MOST[key]:
            told.wrong(key, made[key], f"{MOST[key]} at most")
    if made["n_classes"] is not None and told.whole("n_classes", made["n_classes"], 1) > 255:
        told.wrong("n_classes", made["n_classes"], "255 at most")
    if dims == 3:
        spiral(told, made)


def spiral(told: Fields, made: Mapping[str, Any]) -> tuple[float, float, float]:
    """By how much the rays of a volume are squeezed along each axis: `Rays_GoldenSpiral` of stardist; other rays are refused."""
    written = made["rays_json"] or {"name": SPIRAL, "kwargs": {"n": made["n_rays"], "anisotropy": made["anisotropy"]}}
    kwargs = written.get("kwargs") if isinstance(written, dict) else None
    if not isinstance(kwargs, dict) or written.get("name") != SPIRAL or kwargs.get("n") != made["n_rays"] or not set(kwargs) <= {"n", "anisotropy"}:
        told.wrong("rays_json", made["rays_json"], f"{SPIRAL} with as many rays as n_rays, which is {made['n_rays']}")
    squeezed = kwargs.get("anisotropy") or (1, 1, 1)
    if not isinstance(squeezed, (list, tuple)) or len(squeezed) != 3 or not all(isinstance(n, (int, float)) and 0.01 <= n <= 100 for n in squeezed):
        told.wrong("rays_json", squeezed, "3 numbers from 0.01 to 100 as anisotropy")
    z, y, x = (float(n) for n in squeezed)
    return z, y, x


def _check_unet(told: Fields, made: Mapping[str, Any], dims: int) -> None:
    _wholes(told, made, "unet_kernel_size", dims, 1, odd=True)
    _wholes(told, made, "unet_pool", dims, 1)
    for key, least in (("unet_n_depth", 0), ("unet_n_conv_per_depth", 1)):
        if told.whole(key, made[key], least) > MOST["depth"]:
            told.wrong(key, made[key], f"{MOST['depth']} at most")
    _check_filters(told, made, "unet_n_filter_base", "net_conv_after_unet")
    _check_activations(told, made, "unet_activation", "unet_last_activation")
    growth = told.finite("unet_expansion", made["unet_expansion"])
    if not 0 < growth <= 8 or made["unet_n_filter_base"] * max(growth, 1) ** made["unet_n_depth"] > MOST["filters"]:
        told.wrong("unet_expansion", growth, f"at most {MOST['filters']} filters in a layer")
    if not isinstance(made["unet_batch_norm"], bool) or not isinstance(made["unet_prefix"], str):
        told.wrong("unet_batch_norm", {k: made[k] for k in ("unet_batch_norm", "unet_prefix")}, "true or false, and a text")
    if math.prod(stride(made)) > MOST["stride"] ** 2 or max(stride(made)) > MOST["stride"]:
        told.wrong("grid", {k: made[k] for k in ("grid", "unet_pool", "unet_n_depth")}, f"strides of {MOST['stride']} in all at most")


def _check_resnet(told: Fields, made: Mapping[str, Any], dims: int) -> None:
    _wholes(told, made, "resnet_kernel_size", dims, 1, odd=True)
    for key, least in (("resnet_n_blocks", 1), ("resnet_n_conv_per_block", 2)):
        if told.whole(key, made[key], least) > 4 * MOST["depth"]:
            told.wrong(key, made[key], f"{4 * MOST['depth']} at most")
    _check_filters(told, made, "resnet_n_filter_base", "net_conv_after_resnet")
    _check_activations(told, made, "resnet_activation")
    if not isinstance(made["resnet_batch_norm"], bool):
        told.wrong("resnet_batch_norm", made["resnet_batch_norm"], "true or false")
    if len(rounds(made["grid"])) > made["resnet_n_blocks"]:
        told.wrong("resnet_n_blocks", made["resnet_n_blocks"], f"as many as the grid {made['grid']} is halved, at least")


def _check_filters(told: Fields, made: Mapping[str, Any], base: str, after: str) -> None:
    for key, least in ((base, 1), (after, 0)):
        if told.whole(key, made[key], least) > MOST["filters"]:
            told.wrong(key, made[key], f"{MOST['filters']} at most")


def _check_activations(told: Fields, made: Mapping[str, Any], *keys: str) -> None:
    for key in keys:
        if made[key] not in ACTIVATIONS:
            told.wrong(key, made[key], f"one of {', '.join(ACTIVATIONS)}")


def _wholes(told: Fields, made: Mapping[str, Any], key: str, count: int, least: int, *, odd: bool = False) -> None:
    found = made[key]
    good = isinstance(found, list) and len(found) == count and all(type(n) is int and least <= n <= 64 for n in found)
    if not good or (odd and not all(n % 2 for n in found)):
        told.wrong(key, found, f"{count} {'odd ' if odd else ''}whole numbers from {least} to 64")
