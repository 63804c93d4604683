"""The network of Cellpose 1 to 3 (Stringer et al. 2021, doi:10.1038/s41592-020-01018-x): a residual U-Net with a style, out of its weights' shapes.

Each step is a norm, a rectifier and a convolution. The style is the mean over the tile of the coarsest features, brought to a length of 1; it is
added, by a linear layer, before most steps of the way up. Parts are called as in the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_segsuite.models.foreign.fields import Fields

FIRST = "downsample.down.res_down_0.proj.1.weight"
"""The array that tells a file of Cellpose 1 to 3."""
LAST = "output.2.weight"
OUTPUTS = 3
"""The flow along y and x, and the logit of being in an object."""
LEVELS, WIDEST, KERNELS = 8, 4096, (1, 3, 5, 7, 9, 11, 13, 15)


def arguments(told: Fields) -> dict[str, Any]:
    """What the network is built with, after seeing that it fits together.

    Parameters
    ----------
    told : Fields
        ``channels`` that an image has, ``inputs`` that the network has, ``widths`` of its levels, ``kernel``.

    Raises
    ------
    ModelError
        Names the entry.
    """
    told.only({"channels", "inputs", "widths", "kernel"})
    inputs, widths, kernel = (told.value(key) for key in ("inputs", "widths", "kernel"))
    told.whole("inputs", inputs, 1)
    if told.whole("channels", told.value("channels"), 1) > inputs:
        told.wrong("channels", told.value("channels"), f"{inputs} at most")
    if not isinstance(widths, list) or not 1 <= len(widths) <= LEVELS or not all(type(n) is int and 1 <= n <= WIDEST for n in widths):
        told.wrong("widths", widths, f"1 to {LEVELS} whole numbers from 1 to {WIDEST}")
    if kernel not in KERNELS or inputs > WIDEST:
        told.wrong("kernel", kernel, f"one of {', '.join(map(str, KERNELS))}")
    return {"channels": told.value("channels"), "inputs": inputs, "widths": widths, "kernel": kernel}


def shapes_in(weights: Mapping[str, Tensor], wrong: Any) -> dict[str, Any]:
    """What the network of some weights is built with, all but the image's channels.

    Parameters
    ----------
    weights : mapping of str to Tensor
    wrong : callable
        Told an array's name, what was found and what is needed; raises.
    """
    levels = 0
    while f"downsample.down.res_down_{levels}.proj.1.weight" in weights:
        levels += 1
    kernel, last = "downsample.down.res_down_0.conv.conv_0.2.weight", weights.get(LAST)
    for name in (*(f"downsample.down.res_down_{n}.proj.1.weight" for n in range(levels)), kernel, LAST):
        if name not in weights or weights[name].ndim != 4:
            found = tuple(weights[name].shape) if name in weights else None
            wrong(name, found, "an array of 4 axes, as in a network of planes by Cellpose 1 to 3")
    if last is None or last.shape[0] != OUTPUTS:
        wrong(LAST, None if last is None else tuple(last.shape), f"{OUTPUTS} outputs: two of the flow, and being in an object; not of a denoiser")
    widths = [int(weights[f"downsample.down.res_down_{n}.proj.1.weight"].shape[0]) for n in range(levels)]
    return {"inputs": int(weights[FIRST].shape[1]), "widths": widths, "kernel": int(weights[kernel].shape[-1])}


class CPnet(nn.Module):
    """Images (N, C, y, x) to (N, 3, y, x); y and x are multiples of 2 to the number of levels less one."""

    def __init__(self, inputs: int, widths: list[int], kernel: int) -> None:
        super().__init__()
        down = [inputs, *widths]
        up = [*widths, widths[-1]]
        style = widths[-1]
        self.downsample, self.upsample = nn.Module(), nn.Module()
        self.downsample.down = _numbered("res_down", [_Down(a, b, kernel) for a, b in pairwise(down)])
        self.upsample.up = _numbered("res_up", [_Up(b, a, style, kernel) for a, b in pairwise(up)])
        self.output = _step(up[0], OUTPUTS, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for stage in self.downsample.down:  # type: ignore[union-attr]
            x = stage(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        style = F.normalize(x.mean((2, 3)), dim=1)
        coarsest = True
        for stage in reversed(list(self.upsample.up)):  # type: ignore[arg-type]
            x = stage(x if coarsest else F.interpolate(x, scale_factor=2, mode="nearest"), skips.pop(), style)
            coarsest = False
        answer: Tensor = self.output(x)
        return answer


class _Down(nn.Module):
    """Four steps in two residual pairs."""

    def __init__(self, width: int, wide: int, kernel: int) -> None:
        super().__init__()
        self.proj = _plain(width, wide)
        self.conv = _numbered("conv", [_step(wide if n else width, wide, kernel) for n in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        first, second, third, fourth = self.conv
        x = self.proj(x) + second(first(x))
        answer: Tensor = x + fourth(third(x))
        return answer


class _Up(nn.Module):
    """The same with the skip added before the second step, and the style before all but the first."""

    def __init__(self, width: int, wide: int, style: int, kernel: int) -> None:
        super().__init__()
        self.proj = _plain(width, wide)
        self.conv = _numbered("conv", [_step(width, wide, kernel), *(_Styled(wide, style, kernel) for _ in range(3))])

    def forward(self, x: Tensor, skip: Tensor, style: Tensor) -> Tensor:
        first, second, third, fourth = self.conv
        x = self.proj(x) + second(first(x) + skip, style)
        answer: Tensor = x + fourth(third(x, style), style)
        return answer


class _Styled(nn.Module):
    def __init__(self, width: int, style: int, kernel: int) -> None:
        super().__init__()
        self.conv, self.full = _step(width, width, kernel), nn.Linear(style, width)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        answer: Tensor = self.conv(x + self.full(style)[..., None, None])
        return answer


def _step(width: int, wide: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, wide, kernel, padding=kernel // 2))


def _plain(width: int, wide: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(width), nn.Conv2d(width, wide, 1))


def _numbered(name: str, parts: list[nn.Module]) -> nn.Sequential:
    found = nn.Sequential()
    for n, part in enumerate(parts):
        found.add_module(f"{name}_{n}", part)
    return found


class Filled(nn.Module):
    """A network of more channels than images have: the others are empty, as in Cellpose."""

    def __init__(self, network: nn.Module, channels: int, inputs: int) -> None:
        super().__init__()
        self.network, self.more = network, inputs - channels

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.network(F.pad(x, (0, 0, 0, 0, 0, self.more)))
        return answer


def refuse(path: Any, name: str, found: Any, needed: str) -> NoReturn:
    """Refuse an array in a file."""
    Fields(path, "", {}).wrong(name, found, needed)


def kept(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the network itself: not the diameters that are kept beside them."""
    return {name: value.float() if torch.is_floating_point(value) else value for name, value in weights.items() if not name.startswith("diam_")}
