"""A model for slices on a volume: its maps of the xy, xz and yz slices, averaged.

What is called ortho-plane inference (empanada; Conrad and Narayan 2023) or 3D with a 2D model (Cellpose; Stringer et al. 2021). It needs
no torch of its own: `orthogonal_spec` describes the model that `Orthogonal` is, and both take any model.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.types import Head, Model, ModelSpec, Prediction

PLANES = ((0, 1, 2), (1, 2, 0), (2, 0, 1))
"""The views: the axis that is cut into slices, then the rows and the columns of a slice. Turning ``zyx`` round turns the views round."""

TILE = 224
"""Largest tile per axis: computing its maps takes up to a gigabyte."""
CONTEXT = 32
"""A context up to this is kept; of a larger one half is enough, since at a seam one of the three views has all that it wants to see."""
TOGETHER = 2**19
"""Pixels of slices that are handed to the model together, at most: few enough that one hears now and then how far a cube is."""


def orthogonal_spec(spec: ModelSpec) -> ModelSpec:
    """Describe the model for volumes that a model for slices becomes.

    Parameters
    ----------
    spec : ModelSpec
        With axes ``yx`` or ``any``.

    Returns
    -------
    ModelSpec
        With axes ``zyx``, cubes as tiles, vectors of three components, and the least area of an object as the volume of the ball that has
        this cross-section.
    """
    multiple = math.lcm(*spec.multiple[-2:])
    context = max(min(c, max(CONTEXT, -(-c // 2))) for c in spec.context[-2:])
    least = 2 * (-(-context // multiple) * multiple) + multiple  # a tile that has a core
    options = dict(spec.codec_options)
    if "min_size" in options:
        options["min_size"] = round(4 / (3 * math.sqrt(math.pi)) * options["min_size"] ** 1.5)
    return replace(
        spec,
        axes="zyx",
        heads=tuple(replace(h, channels=3) if h.kind == "vector" else h for h in spec.heads),
        pixel_size_um=None if spec.pixel_size_um is None else (math.sqrt(math.prod(spec.pixel_size_um[-2:])),) * 3,
        tile=(max(min(TILE, *spec.tile[-2:]), least),) * 3,
        multiple=(multiple,) * 3,
        context=(context,) * 3,
        codec_options=options,
    )


class Orthogonal:
    """A model for slices as a model for volumes.

    Probabilities are the mean of the three views. Each view has two components of a vector, so that each component is the mean of two; a
    view counts there by how sure it is that there is anything, because the vectors of background mean nothing.

    Parameters
    ----------
    model : Model
        With axes ``yx`` or ``any``.

    Notes
    -----
    In every slice through a convex object, vectors point to the middle of its cross-section; their means lead to the middle of the object.
    Of an object that is bent, branched or hollow, slices show several cross-sections, and it may come in parts.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.spec = model, orthogonal_spec(model.spec)

    @property
    def device(self) -> Any:
        """Where the model runs."""
        return getattr(self.model, "device", "cpu")

    @property
    def notices(self) -> list[str]:
        """What the model has to say."""
        return list(getattr(self.model, "notices", ()))

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        """Maps (N, C, z, y, x) of a batch of tiles; one after the other, so that the slices seen together are always the same."""
        steps = self.steps(batch)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                found: Prediction = stop.value
                return found

    def steps(self, batch: NDArray[np.float32]) -> Generator[float, None, Prediction]:
        """The same, saying in between which part is done: a large cube takes a processor minutes."""
        parts = []
        for k, volume in enumerate(batch):
            mean, done = _Mean(self.spec.heads, volume.shape[1:]), 0
            for plane in PLANES:
                for at, maps in self._slices(_turned(volume, plane)):
                    mean.add(plane, at, maps)
                    done += at.stop - at.start
                    yield (k + done / sum(volume.shape[1:])) / len(batch)
            parts.append(mean.maps())
        return Prediction({h.name: _stacked([p[h.name] for p in parts]) for h in self.spec.heads})

    def _slices(self, slices: NDArray[np.float32]) -> Iterator[tuple[slice, Mapping[str, Any]]]:
        """Maps of the slices (n, C, rows, columns) of a view, a bounded number at a time."""
        many = max(1, TOGETHER // math.prod(slices.shape[2:]))
        for start in range(0, len(slices), many):
            at = slice(start, min(start + many, len(slices)))
            yield at, self.model.predict(np.ascontiguousarray(slices[at])).maps


class _Mean:
    """The mean of maps as they come in, on whatever device they are; the `shape` is that of the tile."""

    def __init__(self, heads: tuple[Head, ...], shape: tuple[int, ...]) -> None:
        self.heads, self.shape = heads, shape
        self.sums: dict[str, Any] = {}
        self.weights: dict[str, Any] = {}

    def add(self, plane: tuple[int, int, int], at: slice, maps: Mapping[str, Any]) -> None:
        """Add maps (n, C, rows, columns) of some slices of a view."""
        sure = 1 - maps["semantic"][:, 0] if "semantic" in maps else 1.0
        for head in self.heads:
            value = maps[head.name]
            if head.name not in self.sums:
                self.sums[head.name] = _zeros(value, (head.channels, *self.shape))
            into = _turned(self.sums[head.name], plane)[at]
            if head.kind == "vector":
                weights = self.weights.setdefault(head.name, _zeros(value, (head.channels, *self.shape)))
                for k, axis in enumerate(plane[1:]):
                    into[:, axis] += value[:, k] * sure
                    _turned(weights, plane)[at][:, axis] += sure
            else:
                into += value

    def maps(self) -> dict[str, Any]:
        """What was added, divided by how often; a vector that no view is sure of is zero."""
        for name, total in self.sums.items():
            total /= self.weights[name] + 1e-6 if name in self.weights else len(PLANES)
        return self.sums


def _turned(volume: Any, plane: tuple[int, int, int]) -> Any:
    """A volume (C, z, y, x) as the slices (n, C, rows, columns) of a view; a view of the array too, so that one can write into it."""
    order = (1 + plane[0], 0, 1 + plane[1], 1 + plane[2])
    return volume.transpose(order) if isinstance(volume, np.ndarray) else volume.permute(order)


def _zeros(like: Any, shape: tuple[int, ...]) -> Any:
    return np.zeros(shape, np.float32) if isinstance(like, np.ndarray) else like.new_zeros(shape)


def _stacked(values: list[Any]) -> Any:
    if len(values) == 1:
        return values[0][None]
    if isinstance(values[0], np.ndarray):
        return np.stack(values)
    import torch

    return torch.stack(values)
