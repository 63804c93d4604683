"""The networks of StarDist (Schmidt et al. 2018, doi:10.1007/978-3-030-00934-2_30; Weigert et al. 2020, doi:10.1109/WACV45572.2020.9093435).

A U-Net behind a few pooled convolutions, or a residual network, as csbdeep and stardist define them in Keras: layers have the names that they
have there, so that weights find their place; those that Keras names by itself are counted in the order in which they are made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from napari_segsuite.codecs import compass, stars
from napari_segsuite.errors import ModelError
from napari_segsuite.models.foreign.fields import Fields
from napari_segsuite.models.foreign.keras_file import Layers
from napari_segsuite.models.foreign.stardist_config import AXES, arguments, rounds, spiral
from napari_segsuite.models.foreign.stardist_rays import directions, turned

SHORTEST = 1e-3
"""No ray is shorter, as in StarDist."""
_ACT: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "elu": F.elu, "selu": F.selu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "softplus": F.softplus, "linear": lambda x: x,
}  # fmt: skip
_CONV: Mapping[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM: Mapping[int, Callable[..., nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL: Mapping[int, Callable[..., Tensor]] = {2: F.max_pool2d, 3: F.max_pool3d}
KERNEL, STEM = 3, 7
NAMED = re.compile(r"(conv|batch_normalization)(?:[23]d)?(?:_(\d+))?")
"""A name that Keras gave to a layer by itself."""


class StarNet(nn.Module):
    """Images (N, C, *spatial) to StarDist's own answers on its grid: probability, lengths of rays in voxels, and logits of classes if it has any.

    Parameters
    ----------
    told : mapping
        As `stardist_config.arguments` answers.
    """

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__()
        self.told, self.dims = told, len(AXES[told["axes"]])
        self.layers, self.norms = nn.ModuleDict(), nn.ModuleDict()
        width, build = told["n_channel_in"], self._unet if told["backbone"] == "unet" else self._resnet
        self.kernel = told[f"{told['backbone']}_kernel_size"]
        self.act, self.normed = _ACT[told[f"{told['backbone']}_activation"]], told[f"{told['backbone']}_batch_norm"]
        width = build(width)
        after = told[f"net_conv_after_{told['backbone']}"]
        several = told["n_classes"] is not None
        for name in ("features", *(["features_class"] if several else [])) if after else ():
            self._layer(name, width, after, self.kernel)
        for name, count in (("prob", 1), ("dist", told["n_rays"]), *([("prob_class", told["n_classes"] + 1)] if several else [])):
            self._layer(name, after or width, count, [1] * self.dims)

    def forward(self, x: Tensor) -> list[Tensor]:
        base = (self._through_unet if self.told["backbone"] == "unet" else self._through_resnet)(x)
        features = self._after("features", base)
        answers = [self._run("prob", features).sigmoid(), self._run("dist", features)]
        return [*answers, self._run("prob_class", self._after("features_class", base))] if "prob_class" in self.layers else answers

    def _after(self, name: str, x: Tensor) -> Tensor:
        return self.act(self._run(name, x)) if name in self.layers else x

    def _unet(self, width: int) -> int:
        told, base, depth = self.told, self.told["unet_n_filter_base"], self.told["unet_n_depth"]
        count, widths = told["unet_n_conv_per_depth"], [int(base * told["unet_expansion"] ** n) for n in range(depth + 1)]
        for n in range(count * len(rounds(told["grid"]))):
            width = self._layer(f"conv {n}", width, base, self.kernel)
        for name, level in self._down():
            width = self._block(name, width, widths[level])
        for n in range(count - 1):
            width = self._block(f"middle_{n}", width, widths[depth])
        width = self._block(f"middle_{count}", width, widths[max(0, depth - 1)])
        for level in reversed(range(depth)):
            width += widths[level]
            for n in range(count - 1):
                width = self._block(f"up_level_{level}_no_{n}", width, widths[level])
            width = self._block(f"up_level_{level}_no_{count}", width, widths[max(0, level - 1)])
        return width

    def _down(self) -> list[tuple[str, int]]:
        count = self.told["unet_n_conv_per_depth"]
        return [(f"down_level_{level}_no_{n}", level) for level in range(self.told["unet_n_depth"]) for n in range(count)]

    def _through_unet(self, x: Tensor) -> Tensor:
        told, count, skips = self.told, self.told["unet_n_conv_per_depth"], []
        for n, step in enumerate(rounds(told["grid"])):
            for k in range(count):
                x = self.act(self._run(f"conv {n * count + k}", x))
            x = _POOL[self.dims](x, step)
        for name, _ in self._down():
            x = self._activated(name, x)
            if name.endswith(f"_{count - 1}"):
                skips.append(x)
                x = _POOL[self.dims](x, tuple(told["unet_pool"]))
        for n in (*range(count - 1), count):
            x = self._activated(f"middle_{n}", x)
        for level in reversed(range(told["unet_n_depth"])):
            x = torch.cat([F.interpolate(x, scale_factor=[float(p) for p in told["unet_pool"]], mode="nearest"), skips.pop()], 1)
            for n in range(count - 1):
                x = self._activated(f"up_level_{level}_no_{n}", x)
            x = self._activated(f"up_level_{level}_no_{count}", x, None if level else _ACT[told["unet_last_activation"]])
        return x

    def _resnet(self, width: int) -> int:
        told, base = self.told, self.told["resnet_n_filter_base"]
        width = self._layer("conv 0", width, base, [STEM] * self.dims)
        width = self._layer("conv 1", width, base, [KERNEL] * self.dims)
        self.blocks: list[tuple[list[str], str, tuple[int, ...]]] = []
        for step in self._steps():
            base *= 2 if max(step) > 1 else 1
            names = []
            for n in range(told["resnet_n_conv_per_block"]):
                names.append(f"conv {len(self.layers)}")
                self._block(names[-1], width if n == 0 else base, base, bias=not self.normed)
            other = f"conv {len(self.layers)}" if max(step) > 1 or width != base else ""
            if other:
                self._layer(other, width, base, [1] * self.dims, bias=not self.normed)
            self.blocks.append((names, other, step))
            width = base
        return width

    def _steps(self) -> list[tuple[int, ...]]:
        steps = rounds(self.told["grid"])
        return steps + [(1,) * self.dims] * (self.told["resnet_n_blocks"] - len(steps))

    def _through_resnet(self, x: Tensor) -> Tensor:
        x = self._run("conv 1", self._run("conv 0", x))
        for names, other, step in self.blocks:
            y = x
            for name in names:
                y = self._activated(name, y, _ACT["linear"] if name == names[-1] else None, step if name == names[0] else None)
            x = self.act((self._run(other, x, step) if other else x) + y)
        return x

    def _block(self, name: str, width: int, wide: int, *, bias: bool = True) -> int:
        """A convolution, with the norm behind it if there are norms."""
        self._layer(name, width, wide, self.kernel, bias=bias)
        if self.normed:
            self.norms[name] = _NORM[self.dims](wide, eps=1e-3)  # of Keras
        return wide

    def _layer(self, name: str, width: int, wide: int, kernel: Sequence[int], *, bias: bool = True) -> int:
        self.layers[name] = _CONV[self.dims](width, wide, tuple(kernel), bias=bias)
        return wide

    def _activated(self, name: str, x: Tensor, act: Callable[[Tensor], Tensor] | None = None, step: tuple[int, ...] | None = None) -> Tensor:
        x = self._run(name, x, step)
        return (act or self.act)(self.norms[name](x) if name in self.norms else x)

    def _run(self, name: str, x: Tensor, step: tuple[int, ...] | None = None) -> Tensor:
        """A convolution with zeros around, as Keras places them: with a stride, of an odd number one more lies behind."""
        layer: Any = self.layers[name]
        step = step or (1,) * self.dims
        wide = [max(k - s, 0) for k, s in zip(layer.kernel_size, step, strict=True)]
        around = [n for total in reversed(wide) for n in (total // 2, total - total // 2)]
        convolved: Any = F.conv2d if self.dims == 2 else F.conv3d
        answer: Tensor = convolved(F.pad(x, around), layer.weight, layer.bias, step)
        return answer


class Stars(nn.Module):
    """The answers of StarDist's network as the maps of codec ``stars``, as fine as its input.

    StarDist has no map of the foreground: a star is not cut down to what is seen as an object. So all is foreground here, and what is in no
    star is background. Where there are classes, they share the foreground as they do without the background.
    """

    lengths: Tensor
    """(rays of the codec, rays of the network) weights between reciprocal lengths; empty where the rays are the same."""

    def __init__(self, network: StarNet, lengths: NDArray[np.float64]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("lengths", torch.from_numpy(lengths.astype(np.float32)), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        probability, rays, *classes = self.network(x)
        rays = rays.clamp_min(SHORTEST)
        if len(self.lengths):
            rays = 1 / torch.einsum("kn,bn...->bk...", self.lengths, 1 / rays)
        kinds = classes[0][:, 1:].softmax(1) if classes else torch.ones_like(probability)
        maps = (torch.cat([torch.zeros_like(probability), kinds], 1), probability, rays)
        semantic, probability, rays = (finer(value, self.network.told["grid"]) for value in maps)
        return [semantic, probability, (rays / stars.LONGEST).clamp_max(1).sqrt()]


def finer(x: Tensor, grid: Sequence[int]) -> Tensor:
    """A map on a grid, whose values belong to the first voxel of each cell, on all voxels: linear between those.

    >>> finer(torch.tensor([[[0.0, 4.0]]]), (4,))
    tensor([[[0., 1., 2., 3., 4., 4., 4., 4.]]])
    """
    for axis, n in enumerate(grid, 2):
        if n > 1:
            last = x.narrow(axis, x.shape[axis] - 1, 1)
            step = torch.cat([x.narrow(axis, 1, x.shape[axis] - 1), last], axis) - x
            x = torch.stack([x + step * (k / n) for k in range(n)], axis + 1).flatten(axis, axis + 1)
    return x


def network(kwargs: Mapping[str, Any]) -> Stars:
    """Build what `kwargs`, as in ``config.json``, describe.

    Raises
    ------
    ModelError
        Names the entry that does not fit.
    """
    told = Fields(Path("model.json"), "net.kwargs", dict(kwargs))
    made = arguments(told)
    dims = len(AXES[made["axes"]])
    squeezed = spiral(told, made) if dims == 3 else ()
    return Stars(StarNet(made), turned(*directions(dims, made["n_rays"], squeezed), compass.rays(dims)))


def weights_of(layers: Layers, net: StarNet, path: Path) -> dict[str, Tensor]:
    """The weights of Keras's layers by the names that they have in our network, in PyTorch's order of axes.

    Raises
    ------
    ModelError
        There are other layers, or arrays of other layers' kinds.
    """
    own = _counted(layers)
    prefix = net.told.get("unet_prefix", "")
    found: dict[str, Tensor] = {}
    order = list(net.norms)
    for layer, parts in layers.items():
        kind, number = own.get(layer, ("", 0))
        name = f"conv {number}" if kind == "conv" else layer.removeprefix(prefix)
        if kind == "batch_normalization":
            if number >= len(order):
                raise ModelError(f"{path} has {number + 1} norms or more", f"{len(order)}, as the network in config.json")
            name = order[number]
            found[f"norms.{name}.num_batches_tracked"] = torch.tensor(0)
        for part, value in parts.items():
            array = torch.from_numpy(value)
            if part == "kernel" and array.ndim > 2:
                array = array.permute(-1, -2, *range(array.ndim - 2)).contiguous()
            found[f"{'norms' if kind == 'batch_normalization' else 'layers'}.{name}.{_PART[part]}"] = array
    return found


_PART = {
    "kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var",
}  # fmt: skip


def _counted(layers: Layers) -> dict[str, tuple[str, int]]:
    """Of the layers that Keras named, their kind and their place: it counts on through all networks that a program makes."""
    named = [(match[1], int(match[2] or 0), layer) for layer in layers if (match := NAMED.fullmatch(layer))]
    order: dict[str, int] = {}
    found = {}
    for kind, _, layer in sorted(named):
        found[layer] = (kind, order.get(kind, 0))
        order[kind] = found[layer][1] + 1
    return found
