"""Networks of MONAI (Apache 2.0 licence), for planes and volumes, with BatchNorm instead of norms over the tile (see `models.nets`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from torch import nn

from napari_segsuite.models.families.headed import Headed, check

NORM = ("batch", {"momentum": 0.05})
WINDOW = 7
"""Side of the windows of SwinUNETR's attention, in tokens."""
CORE = {2: (768, 768), 3: (96, 160, 160)}
SMALL_CORE = {2: (512, 512), 3: (64, 96, 96)}
"""For attention, which needs more memory."""


def segresnet(library: Any, *, dims: int, in_channels: int, heads: Mapping[str, int], width: int, blocks: Sequence[int]) -> Headed:
    """Build SegResNet (Myronenko 2018, arXiv 1810.11654), without its autoencoder. All axes are pooled alike.

    Parameters
    ----------
    width : int
        Channels of the finest level; each next one has twice as many.
    blocks : sequence of int
        Residual blocks per level of the encoder.
    """
    check(dims, (2, 3), in_channels, heads, [width, *blocks])
    widths = [width * 2**level for level in range(len(blocks))]
    check(dims, (2, 3), in_channels, heads, widths, sum(2 * n * w * w for n, w in zip(blocks, widths, strict=True)) * 3**dims)
    up = (1,) * (len(blocks) - 1)
    body = library.SegResNet(dims, width, in_channels, 1, norm=NORM, blocks_down=tuple(blocks), blocks_up=up)
    body.conv_final[2] = nn.Identity()  # the head is ours; the norm before it belongs to the last block
    multiple = 2 ** (len(blocks) - 1)
    return Headed(body, width, heads, multiple=(multiple,) * dims, context=64 if dims == 2 else 16, core=CORE[dims])


def dynunet(
    library: Any, *, dims: int, in_channels: int, heads: Mapping[str, int], widths: Sequence[int], strides: Sequence[Sequence[int]]
) -> Headed:
    """Build nnU-Net's network (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z), as DynUNet.

    Parameters
    ----------
    widths : sequence of int
        Channels per level, finest first.
    strides : sequence of sequences of int
        Pooling from each level to the next, per axis.
    """
    check(dims, (2, 3), in_channels, heads, [*widths, *(n for step in strides for n in step)], sum(6 * w * w for w in widths) * 3**dims)
    if len(strides) != len(widths) - 1 or any(len(step) != dims or set(step) - {1, 2} for step in strides):
        raise ValueError(f"a network with widths {list(widths)} cannot have strides {list(strides)}")
    more = max(2 - len(strides), 0)  # it has three levels at least
    steps = [(1,) * dims, *(tuple(step) for step in strides), *[(1,) * dims] * more]
    filters = [*widths, *[widths[-1]] * more]
    # Flat until an axis is pooled for the first time, as its voxels are too long before.
    kernels = [tuple(3 if max(sides) > 1 else 1 for sides in zip(*strides[: k + 1], strict=True)) for k in range(len(strides))]
    kernels += [(3,) * dims] * (1 + more)
    whole = library.DynUNet(dims, in_channels, 1, kernels, steps, steps[1:], filters=filters, norm_name=NORM)
    multiple = [prod(sides) for sides in zip(*steps, strict=True)]
    # The levels inside each other, without the lists that hold the same weights by other names.
    return Headed(whole.skip_layers, widths[0], heads, multiple=multiple, context=64 if dims == 2 else 16, core=CORE[dims])


def swinunetr(library: Any, *, dims: int, in_channels: int, heads: Mapping[str, int], width: int) -> Headed:
    """Build Swin UNETR (Hatamizadeh et al. 2022, arXiv 2201.01266). Its windows of attention begin at the tile's corner.

    Parameters
    ----------
    width : int
        Channels of the finest level, a multiple of 12.
    """
    check(dims, (2, 3), in_channels, heads, [width, 16 * width])
    body = library.SwinUNETR(in_channels, 1, feature_size=width, norm_name=NORM, spatial_dims=dims, window_size=WINDOW)
    body.out = nn.Identity()
    for module in list(body.modules()):
        index = getattr(module, "relative_position_index", None)
        if index is not None:  # follows from the window's size: not to be stored with the weights
            del module.relative_position_index
            module.register_buffer("relative_position_index", index, persistent=False)
    return Headed(body, width, heads, multiple=(32,) * dims, context=32, core=SMALL_CORE[dims], last=False)
