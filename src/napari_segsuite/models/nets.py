"""Networks of our own: a residual U-Net for two and three dimensions with one named output per head.

The design follows the residual-encoder U-Nets that won the comparison in Isensee et al. 2024 (nnU-Net Revisited,
arXiv 2404.09556), with BatchNorm instead of InstanceNorm: at inference its statistics are constants, so that a voxel's value does
not depend on the tile that it is computed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_segsuite.models import families
from napari_segsuite.models.families.detection import Detector
from napari_segsuite.models.families.headed import Headed
from napari_segsuite.models.families.transformers import Universal

_CONV: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}

MAX_WIDTH, MAX_LEVELS, MAX_BLOCKS, MAX_WEIGHTS = 1024, 8, 8, 2**29


class ResBlock(nn.Module):
    """Two normalised convolutions with a shortcut (He et al. 2016), the first with an optional stride."""

    def __init__(self, dims: int, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        self.first = _conv(dims, inputs, outputs, kernel, stride)
        self.first_norm = _NORM[dims](outputs, momentum=0.05)
        self.second = _conv(dims, outputs, outputs, kernel)
        self.second_norm = _NORM[dims](outputs, momentum=0.05)
        same = inputs == outputs and all(s == 1 for s in stride)
        self.shortcut = nn.Identity() if same else _conv(dims, inputs, outputs, (1,) * dims)
        self.every = (slice(None), slice(None), *(slice(None, None, s) for s in stride))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(_normed(self.first, self.first_norm, x), inplace=True)
        y = _normed(self.second, self.second_norm, y)
        # Voxels are skipped before the 1x1 convolution, not by it: the gradient of the latter writes beyond its memory, and is wrong, on
        # CPUs in channels-last layout with fewer than 8 or 16 channels (github.com/uxlfoundation/oneDNN/issues/6035; torch 2.13 and 2.15).
        y += self.shortcut(x[self.every])
        return F.relu(y, inplace=True)


class ResUNet(nn.Module):
    """Residual U-Net with named heads.

    Parameters
    ----------
    dims : {2, 3}
        Number of spatial axes.
    in_channels : int
    heads : mapping of str to int
        Output channels per head.
    widths : sequence of int
        Channels per level, finest first.
    blocks : sequence of int
        Residual blocks per encoder level; the decoder has one per level.
    strides : sequence of sequences of int, optional
        Pooling from each level to the next, per axis; 2 everywhere by default. Use ``(1, 2, 2)`` in the first steps of anisotropic
        volumes; kernels of those levels are flat (1, 3, 3) as well.

    Notes
    -----
    Input (N, in_channels, *spatial), each spatial length a multiple of `multiple`; output a dict of
    (N, channels, *spatial) tensors without activation.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        heads: Mapping[str, int],
        widths: Sequence[int] = (16, 32, 64, 128),
        blocks: Sequence[int] = (1, 2, 2, 2),
        strides: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        strides = [tuple(s) for s in strides] if strides is not None else [(2,) * dims] * (len(widths) - 1)
        _check(dims, in_channels, heads, widths, blocks, strides)
        self.dims, self.strides, self.blocks = dims, strides, list(blocks)
        self.kernels = kernels = [tuple(3 if s > 1 else 1 for s in stride) for stride in strides] + [(3,) * dims]
        self.stem = _conv(dims, in_channels, widths[0], kernels[0])
        self.encoder = nn.ModuleList()
        for level, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            before = widths[max(level - 1, 0)]
            stride = strides[level - 1] if level else (1,) * dims
            first = ResBlock(dims, before, width, kernels[level], stride)
            rest = [ResBlock(dims, width, width, kernels[level], (1,) * dims) for _ in range(count - 1)]
            self.encoder.append(nn.Sequential(first, *rest))
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level in reversed(range(len(widths) - 1)):
            self.up.append(_conv(dims, widths[level + 1], widths[level], (1,) * dims))
            self.decoder.append(ResBlock(dims, 2 * widths[level], widths[level], kernels[level], (1,) * dims))
        self.heads = nn.ModuleDict({name: nn.Conv2d(widths[0], n, 1) if dims == 2 else nn.Conv3d(widths[0], n, 1) for name, n in heads.items()})

    @property
    def multiple(self) -> tuple[int, ...]:
        """What the spatial lengths of an input must be multiples of."""
        total = [1] * self.dims
        for stride in self.strides:
            total = [t * s for t, s in zip(total, stride, strict=True)]
        return tuple(total)

    @property
    def reach(self) -> tuple[int, ...]:
        """How far from a voxel the input can change its output, per axis: half of the receptive field, and what strides shift it by."""
        far, scale = [0] * self.dims, [1] * self.dims
        for level, count in enumerate(self.blocks):
            for axis in range(self.dims):
                half = self.kernels[level][axis] // 2
                before = scale[axis]
                scale[axis] *= self.strides[level - 1][axis] if level else 1
                deepest = level == len(self.strides)
                # Stem, the first convolution of the level, the others; the decoder's block, where there is one.
                far[axis] += half * (before * (2 if not level else 1) + scale[axis] * (2 * count - 1 + (0 if deepest else 2)))
        return tuple(f + m - 1 for f, m in zip(far, self.multiple, strict=True))

    @property
    def memory_format(self) -> torch.memory_format:
        """Layout in which the convolutions are fastest."""
        return _LAYOUT[self.dims]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.relu(self.stem(x))
        skips: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for up, stage, stride in zip(self.up, self.decoder, reversed(self.strides), strict=True):
            # The 1x1 convolution commutes with nearest upsampling and costs 2^d less before it.
            x = F.interpolate(up(x), scale_factor=[float(s) for s in stride], mode="nearest")
            x = torch.cat([x, skips.pop()], dim=1)  # by a name of its own, so that its parts need not be kept any longer
            x = stage(x)
        return {name: head(x) for name, head in self.heads.items()}


NETS = ("resunet", *families.FAMILIES)
Net = ResUNet | Headed | Detector | Universal
"""What all have: `dims`, `multiple`, `memory_format`, and heads by name."""


def build(name: str, kwargs: Mapping[str, Any]) -> Net:
    """Make a network by its name in the checkpoint; only names in `NETS` exist, so a file cannot choose what is called.

    Raises
    ------
    MissingExtra
        It is of a library that is not installed.
    """
    return ResUNet(**kwargs) if name == "resunet" else families.build(name, kwargs)


def multiple_of(net: nn.Module) -> tuple[int, ...]:
    """What the spatial lengths of a network's input must be multiples of."""
    multiple: tuple[int, ...] = net.multiple  # type: ignore[assignment]
    return multiple


def _conv(dims: int, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int] | None = None) -> nn.Module:
    padding = tuple(k // 2 for k in kernel)
    return _CONV[dims](inputs, outputs, tuple(kernel), tuple(stride or (1,) * dims), padding, bias=False)


def _normed(conv: Any, norm: Any, x: Tensor) -> Tensor:
    """A convolution with BatchNorm behind it.

    At inference the norm's statistics are constants, which go into the weights: a pass over the voxels less, and a map less in memory
    (Jacob et al. 2018, doi:10.1109/CVPR.2018.00286, section 3.2).
    """
    if norm.training:
        return cast("Tensor", norm(conv(x)))
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    weight = conv.weight * scale.reshape(-1, *[1] * (conv.weight.ndim - 1))
    return cast("Tensor", conv._conv_forward(x, weight, norm.bias - norm.running_mean * scale))


def _check(
    dims: int, in_channels: int, heads: Mapping[str, int], widths: Sequence[int], blocks: Sequence[int], strides: Sequence[Sequence[int]]
) -> None:
    """Refuse what a damaged or hostile checkpoint could ask for before any memory is taken."""
    numbers = [in_channels, *heads.values(), *widths]
    fits = (
        dims in (2, 3)
        and heads
        and 1 <= len(widths) <= MAX_LEVELS
        and len(blocks) == len(widths) == len(strides) + 1
        and all(isinstance(n, int) and 1 <= n <= MAX_WIDTH for n in numbers)
        and all(isinstance(n, int) and 1 <= n <= MAX_BLOCKS for n in blocks)
        and all(len(s) == dims and set(s) <= {1, 2} for s in strides)
        and sum(2 * n * w * w for n, w in zip(blocks, widths, strict=True)) * 3**dims <= MAX_WEIGHTS
    )
    if not fits:
        raise ValueError(f"a network of {dims} dims, widths {list(widths)}, blocks {list(blocks)}, heads {dict(heads)} cannot be built")
