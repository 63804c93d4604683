"""A network of another library with one named output per head, and what the rest of the package asks of any network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_WIDTH, MAX_NUMBERS, MAX_WEIGHTS = 1024, 64, 2**29
_LINEAR = {2: "bilinear", 3: "trilinear"}


class Headed(nn.Module):
    """A body that makes one map of features, and a convolution of each voxel's features for each head.

    Parameters
    ----------
    body : Module
        (N, C, *spatial) to (N, features, *spatial / zoom).
    features : int
    heads : mapping of str to int
        Output channels per head.
    multiple : sequence of int
        What the spatial lengths of an input must be multiples of.
    context : int
        Margin of a tile that is thrown away: how far from a voxel the input changes its output so much that one sees it. All that these
        networks can see would be most of every tile.
    core : sequence of int
        About what a tile keeps when its context is thrown away: as much as memory allows.
    zoom : int
        How much coarser the features are than the image; outputs are interpolated, with voxels as areas, so that they do not move with the
        size of the tile.
    last : bool
        Whether convolutions are faster with channels last.

    Notes
    -----
    Output as of `nets.ResUNet`: a dict of (N, channels, *spatial) tensors without activation. All chance within a network (dropout,
    stochastic depth) is switched off: a run that was stopped goes on as if it had not been.
    """

    def __init__(
        self,
        body: nn.Module,
        features: int,
        heads: Mapping[str, int],
        *,
        multiple: Sequence[int],
        context: int,
        core: Sequence[int],
        zoom: int = 1,
        last: bool = True,
    ) -> None:
        super().__init__()
        self.dims, self.multiple, self.zoom = len(multiple), tuple(multiple), zoom
        self.context, self.core = (context,) * self.dims, tuple(core)
        layout = torch.channels_last if self.dims == 2 else torch.channels_last_3d
        self.memory_format = layout if last else torch.contiguous_format
        self.body = body
        conv = nn.Conv2d if self.dims == 2 else nn.Conv3d
        self.heads = nn.ModuleDict({name: conv(features, n, 1) for name, n in heads.items()})
        certain(self)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.body(x)
        found = {name: head(x) for name, head in self.heads.items()}
        if self.zoom == 1:
            return found
        return {name: F.interpolate(v, scale_factor=float(self.zoom), mode=_LINEAR[self.dims], align_corners=False) for name, v in found.items()}


def check(dims: Any, allowed: Sequence[int], in_channels: Any, heads: Any, numbers: Sequence[Any], weights: int = 0) -> None:
    """Refuse what a damaged or hostile checkpoint could ask for before any memory is taken.

    Raises
    ------
    ValueError
    """
    whole = [in_channels, *heads.values(), *numbers]
    sound = len(whole) <= MAX_NUMBERS and all(type(n) is int and 1 <= n <= MAX_WIDTH for n in whole)
    if dims not in allowed or not heads or not sound or weights > MAX_WEIGHTS:
        told = f"{dims} dims, {in_channels} channels, sizes {list(numbers)[:MAX_NUMBERS]}, {len(heads)} heads"
        raise ValueError(f"a network of {told} cannot be built")


def certain(net: nn.Module) -> None:
    """Switch off all that is drawn by chance during training."""
    for module in net.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(getattr(module, "drop_prob", None), float):  # stochastic depth, by whichever library
            module.drop_prob = 0.0  # type: ignore[assignment]
