"""A network of others as a model like any other: tiles in, the activated maps of a codec out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_segsuite.arrays import mirror
from napari_segsuite.errors import ModelError
from napari_segsuite.models import queries
from napari_segsuite.models.foreign import sam_masks, whole
from napari_segsuite.models.foreign.fields import line
from napari_segsuite.models.foreign.network import opened, valid
from napari_segsuite.models.foreign.processing import apply
from napari_segsuite.models.torch_model import TorchModel, pick_device
from napari_segsuite.types import Head, ModelSpec

READERS = {"queries": queries, "masks": sam_masks}
"""Who makes objects of an answer, by its layout; all others are those of `whole`."""


def load(folder: Path, spec: ModelSpec, *, device: str, flips: bool) -> TorchModel:
    """Make a model of a folder with somebody else's network in it.

    Raises
    ------
    MissingExtra, ModelError
        See `network.opened`.
    """
    where = pick_device(device)
    net = Foreign(spec, opened(spec.net, folder, where))
    # In the precision that it came in: nobody has tried it with another one. One by one: its batch may be fixed.
    model = TorchModel(spec, net, device=device, batch=1, flips=flips, precision=torch.float32, activation=lambda _, maps: maps)
    return model


class Foreign(nn.Module):
    """Brings a tile to the network's axes and sizes, and its answer to the codec's maps.

    Parameters
    ----------
    spec : ModelSpec
        Its `net` has ``input`` (``axes``, ``least``, ``step`` per axis, ``steps``), ``outputs`` (``axes``, ``steps``) and ``maps`` (head ->
        ``output``, ``channels`` and ``activation``); of networks that answer with whole objects ``objects`` (`whole.read`, `queries.read`) instead.
    network : Module
        Tensors to a list of tensors.
    """

    def __init__(self, spec: ModelSpec, network: nn.Module) -> None:
        super().__init__()
        self.spec, self.network, self.net = spec, network, spec.net
        self.axes = "bc" + spec.axes

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Activated maps (N, C, *spatial) of normalised tiles (N, C, *spatial), and lists of objects."""
        size = x.shape[2:]
        try:
            maps = self._maps(x)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise ModelError(
                f"model {self.spec.name!r} cannot answer a tile of shape {tuple(x.shape)}: {type(error).__name__}: {line(error)}"
            ) from error
        for name in (head.name for head in self.spec.heads):
            value = maps[name]
            if not bool(value.isfinite().all()):
                raise ModelError(f"model {self.spec.name!r} answered with a map {name!r} that is not finite", do="Try another normalisation.")
            maps[name] = value[(slice(None), slice(None), *(slice(n) for n in size))]
        return maps

    def _maps(self, x: Tensor) -> dict[str, Any]:
        """What the network answers, as maps with the engine's axes; as large as its input, which may be larger than the tile."""
        told, shape = self.net["input"], x.shape[2:]
        x = _grown(rearranged(x, self.axes, told["axes"], f"the input of model {self.spec.name!r}"), told)
        answers = self.network(apply(told["steps"], x, told["axes"]))
        sizes = dict(zip(told["axes"], x.shape, strict=True))
        size = tuple(sizes[a] for a in self.spec.axes)
        if "objects" in self.net:
            return self._whole(answers, size, shape)
        maps = {head.name: self._map(head, answers) for head in self.spec.heads}
        for name, value in maps.items():
            if tuple(value.shape[2:]) != size:
                found = f"model {self.spec.name!r} answers an input of {size} with a map {name!r} of {tuple(value.shape[2:])}"
                raise ModelError(found, "maps as large as the input, to segment images with them")
        return maps

    def _whole(self, answers: list[Tensor], size: Sequence[int], shape: Sequence[int]) -> dict[str, Any]:
        told = self.net["objects"]
        found: dict[str, Any] = READERS.get(told["layout"], whole).read(told, answers, size, shape)
        wrong = [head.name for head in self.spec.heads if head.name not in found or found[head.name].shape[1] != head.channels]
        if wrong:
            raise ModelError(f"model {self.spec.name!r} does not answer with the map {wrong[0]!r} as model.json says", do="Add the model again.")
        return found

    def _map(self, head: Head, answers: list[Tensor]) -> Tensor:
        wish = self.net["maps"][head.name]
        told = self.net["outputs"][wish["output"]]
        value = apply(told["steps"], answers[wish["output"]].float(), told["axes"])
        value = rearranged(value, told["axes"], self.axes, f"output {wish['output']} of model {self.spec.name!r}")
        if wish["channels"]:
            value = value[:, list(wish["channels"])]
        return activated(head, value, wish, len(self.spec.classes))


def activated(head: Head, value: Tensor, wish: Mapping[str, Any], classes: int) -> Tensor:
    """The map of a head out of the channels chosen for it.

    In ``semantic`` the background comes first. Where a network has no channel for it, it is what no class claims; after a softmax over the
    classes alone there is none. The codec takes a voxel for background where that has more than a half; with ``argmax`` the background is
    therefore compared with the most probable class instead of with all of them together.
    """
    kind = wish["activation"]
    if head.kind in ("vector", "scalar"):
        return value * float(wish["unit"])
    if head.name != "semantic":
        return value if kind == "none" else value.sigmoid()
    value = value.softmax(1) if kind in ("softmax", "argmax") else value.sigmoid() if kind == "sigmoid" else value
    if value.shape[1] == classes + 1:
        if kind == "argmax":
            best = value[:, 1:].amax(1, keepdim=True)
            value = torch.cat([value[:, :1] / (value[:, :1] + best), value[:, 1:]], 1)
        return value
    background = torch.zeros_like(value[:, :1]) if kind in ("softmax", "argmax") else 1 - value.amax(1, keepdim=True)
    return torch.cat([background, value], 1)


def rearranged(x: Tensor, axes: str, to: str, what: str) -> Tensor:
    """A tensor with other axes: those that are new or gone have a length of 1.

    Raises
    ------
    ModelError
        An axis that is not wanted is longer.
    """
    if x.ndim != len(axes):
        raise ModelError(f"{what} has the shape {tuple(x.shape)}", f"{len(axes)} axes, {axes!r}")
    for letter in [a for a in axes if a not in to]:
        at = axes.index(letter)
        if x.shape[at] != 1:
            raise ModelError(f"{what} has the shape {tuple(x.shape)} and the axes {axes!r}", f"a length of 1 along {letter!r}")
        x, axes = x.squeeze(at), axes.replace(letter, "")
    for letter in [a for a in to if a not in axes]:
        x, axes = x.unsqueeze(0), letter + axes
    return x.permute([axes.index(a) for a in to])


def _grown(x: Tensor, told: Mapping[str, Any]) -> Tensor:
    """Mirrored at the far end of each spatial axis until the network takes it."""
    for at, (letter, least, step) in enumerate(zip(told["axes"], told["least"], told["step"], strict=True)):
        n = x.shape[at]
        if letter in "zyx" and (size := valid(n, least, step)) != n:
            x = x.index_select(at, torch.from_numpy(mirror(n, size)).to(x.device))
    return x
