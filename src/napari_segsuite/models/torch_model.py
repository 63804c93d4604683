"""A network on a device: precision, batches, mirrored inputs, and what happens when memory runs out."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_segsuite.codecs import DIRECTED
from napari_segsuite.errors import ModelError, OptionError
from napari_segsuite.types import Head, ModelSpec, Prediction

log = logging.getLogger(__name__)


class TorchModel:
    """A spec with its network, ready to predict.

    Parameters
    ----------
    spec : ModelSpec
    net : Module
        (N, C, *spatial) to a dict of raw head outputs.
    device, batch, flips
        See `models.load_model`.
    precision : torch.dtype, optional
        Of the computation; by default the fastest that the device has.
    activation : callable, optional
        Makes a head's map of its raw output; by default the network's own ``activation``, or `activate`.

    Notes
    -----
    On a CPU tiles are computed one by one: it is faster than several together, and the last bits of what libraries for convolutions
    answer depend on how many tiles they are given.
    """

    def __init__(
        self,
        spec: ModelSpec,
        net: nn.Module,
        *,
        device: str = "auto",
        batch: int = 4,
        flips: bool = False,
        precision: torch.dtype | None = None,
        activation: Callable[[Head, Tensor], Tensor] | None = None,
    ) -> None:
        if flips and spec.codec in DIRECTED:
            found = f"model {spec.name!r} answers with {DIRECTED[spec.codec]}, of which no mean can be taken over mirrored images"
            raise OptionError(found, do="Choose flips=False.")
        self.spec, self.flips = spec, flips
        self.device = pick_device(device)
        self.batch = 1 if self.device.type == "cpu" else batch
        layout = getattr(net, "memory_format", torch.contiguous_format)
        self.layout: torch.memory_format = layout if self.device.type != "mps" else torch.contiguous_format
        self.precision = precision or precision_of(self.device)
        own: Any = getattr(net, "activation", activate)
        self.activation: Callable[[Head, Tensor], Tensor] = activation or own
        self.net = net.eval().requires_grad_(False).to(self.device).to(memory_format=self.layout)
        self.notices: list[str] = []

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        """Activated maps, on the device, of a (N, C, *spatial) batch of normalised tiles."""
        parts, start = [], 0
        while start < len(batch):
            together = batch[start : start + self.batch]  # which gets smaller when memory runs out
            parts.append(self._retried(together))
            start += len(together)
        found = _joined(parts)
        return Prediction({h.name: found[h.name] for h in self.spec.heads}, found.get("objects", ()))

    def _retried(self, batch: NDArray[np.float32]) -> dict[str, Any]:
        """Halve the batch when memory runs out, then compute the single tile on the CPU; the tile itself never changes."""
        try:
            return self._averaged(batch, self.net, self.device)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        if len(batch) > 1:
            half = len(batch) // 2
            self._say(f"out of memory with {len(batch)} tiles at a time: going on with {half}")
            self.batch = min(self.batch, half)
            return _joined([self._retried(batch[:half]), self._retried(batch[half:])])
        self._say("out of memory with a single tile: it is computed on the CPU")
        net = self.net.to("cpu")
        try:
            return self._averaged(batch, net, torch.device("cpu"))
        except torch.OutOfMemoryError as error:
            found = f"the memory does not suffice for a single tile of {' x '.join(str(n) for n in batch.shape[2:])}"
            raise ModelError(found, do="Close other programs, or take a smaller model.") from error
        finally:
            self.net.to(self.device)

    @torch.inference_mode()
    def _averaged(self, batch: NDArray[np.float32], net: nn.Module, device: torch.device) -> dict[str, Any]:
        x = torch.from_numpy(batch).to(device)
        if self.spec.codec == "objects":
            raw = self._forward(net, x, device)
            return {**{h.name: self.activation(h, raw[h.name].float()) for h in self.spec.heads}, "objects": raw["objects"]}
        axes = range(2, x.ndim)
        mirrors = list(itertools.chain.from_iterable(itertools.combinations(axes, n) for n in range(len(axes) + 1)))
        total: dict[str, Tensor] = {}
        for mirror in mirrors if self.flips else [()]:
            raw = self._forward(net, x.flip(mirror) if mirror else x, device)
            for head in self.spec.heads:
                value = unflip(self.activation(head, raw[head.name].float()), head, mirror)
                total[head.name] = total[head.name] + value if head.name in total else value
        return {name: value / len(mirrors) for name, value in total.items()} if self.flips else total

    def _forward(self, net: nn.Module, x: Tensor, device: torch.device) -> dict[str, Any]:
        x = x.contiguous(memory_format=self.layout)
        with torch.autocast(device.type, self.precision, enabled=self.precision != torch.float32):
            outputs: dict[str, Any] = net(x)
        return outputs

    def _say(self, text: str) -> None:
        if text not in self.notices:
            self.notices.append(text)
            log.warning(text)


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What several batches gave: tensors, and lists of objects."""
    if len(parts) == 1:
        return dict(parts[0])
    lists = {name: [p[name] for p in parts] for name in parts[0]}
    return {name: list(itertools.chain(*found)) if name == "objects" else torch.cat(found) for name, found in lists.items()}


def activate(head: Head, raw: Tensor) -> Tensor:
    """Raw outputs (N, C, *spatial) to probabilities, or to voxels."""
    if head.kind == "logits":
        return raw.softmax(1)
    if head.kind == "probability":
        return raw.sigmoid()
    return raw * head.unit


def unflip(value: Tensor, head: Head, mirror: Sequence[int]) -> Tensor:
    """Turn the maps of a mirrored input back; vectors change their sign along the mirrored axes."""
    if not mirror:
        return value
    value = value.flip(tuple(mirror))
    if head.kind == "vector":
        sign = torch.ones(value.shape[1], device=value.device)
        sign[[axis - 2 for axis in mirror]] = -1
        value = value * sign.reshape(1, -1, *[1] * (value.ndim - 2))
    return value


def pick_device(wish: str) -> torch.device:
    """Resolve ``auto`` and check that the wish exists.

    Raises
    ------
    OptionError
        The device is unknown or not there.
    """
    if wish == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(wish)
        torch.empty(1, device=device).cpu()  # which also refuses "meta", a device that computes nothing
    except (RuntimeError, AssertionError) as error:
        found, needed = f"device {wish!r} is not available here", "auto, cpu, cuda, cuda:1 or mps"
        raise OptionError(found, needed, "Choose device='auto' or 'cpu' (--device cpu).") from error
    return device


def precision_of(device: torch.device) -> torch.dtype:
    """The fastest precision that costs no accuracy worth speaking of; half precision only where the hardware has it."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)():
        return torch.bfloat16
    return torch.float32
