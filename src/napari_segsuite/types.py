"""The words of the project as values: images in, maps between, labels and a table out.

Everything here is frozen and free of torch. Axes are single letters in the order ``t c z y x``; an array's shape always
follows its ``axes``. Lengths carry their unit in the field ``units``; ``"pixel"`` means that the size is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.sizes import pixel_size_um, size_text, voxel_text

AXES = "tczyx"
SPATIAL = "zyx"

Task = Literal["semantic", "instance", "panoptic"]
HeadKind = Literal["probability", "logits", "scalar", "vector"]


class ArrayLike(Protocol):
    """What numpy, dask and zarr arrays have in common."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels with everything needed to put them in their place; never modified, read lazily.

    Attributes
    ----------
    levels : tuple of array
        The same image at falling resolution, finest first; numpy, dask or zarr arrays.
    axes : str
        One letter of ``tczyx`` per dimension, in that order, for example ``"zyx"`` or ``"cyx"``.
        An RGB(A) picture has a ``c`` axis like any other.
    scale : tuple of float
        Size of one sample of the finest level along each axis, in `units`; 1 where it means nothing (``c``).
    units : tuple of str
        Unit of `scale` per axis: ``"micrometer"``, ``"second"``, ... or ``"pixel"`` where unknown.
    translate : tuple of float
        World position of the first sample's centre along each axis, in `units`.
    channels : tuple of str
        Names along ``c``; empty without a ``c`` axis.
    rgb : bool
        Whether ``c`` holds red, green, blue (and alpha) of one colour picture.
    affine : (d + 1, d + 1) float array, optional
        Full transform of the spatial axes where scale and translate are not enough.
    name, source : str
        What to call it; the path or URL it came from (empty for arrays in memory).
    """

    levels: tuple[Any, ...]
    axes: str
    scale: tuple[float, ...]
    units: tuple[str, ...]
    translate: tuple[float, ...]
    channels: tuple[str, ...] = ()
    rgb: bool = False
    affine: NDArray[np.float64] | None = None
    name: str = "image"
    source: str = ""

    def __repr__(self) -> str:
        of = f", {', '.join(self.channels)}" if self.channels else ""
        return f"<Image {self.name!r}: {_grid_text(self, self.data)}{of}>"

    @property
    def data(self) -> Any:
        """The finest level."""
        return self.levels[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the finest level, following `axes`."""
        return tuple(self.levels[0].shape)

    @property
    def spatial(self) -> str:
        """The spatial axes this image has, ``"yx"`` or ``"zyx"``."""
        return "".join(a for a in self.axes if a in SPATIAL)

    def size(self, axis: str) -> int:
        """Length along `axis`; 1 where the image does not have it."""
        return int(self.shape[self.axes.index(axis)]) if axis in self.axes else 1

    def pixel_size_um(self) -> tuple[float, ...] | None:
        """Sample size along the spatial axes in micrometres, or None where any is unknown."""
        return pixel_size_um(self.axes, self.scale, self.units)


@dataclass(frozen=True)
class Class:
    """A kind of thing (countable) or stuff (not countable) that a model tells apart.

    Ids start at 1; stuff classes come first, so that in a purely semantic result the label *is* the class id.
    """

    id: int
    name: str
    color: tuple[int, int, int] = (255, 127, 14)
    countable: bool = True


Table = Mapping[str, NDArray[Any]]
"""A table as columns of equal length; ``pandas.DataFrame(table)`` shows it."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels plus a table: the result of every task.

    Attributes
    ----------
    labels : integer array
        0 is background (or void); ``1..K`` are the K stuff classes; things are numbered after them.
    segments : table
        One row per segment, ordered by ``id``. Columns: ``id``, ``class_id``, ``score`` (0..1), ``size`` (voxels), then per
        axis ``a`` of `axes` ``bbox_a0``, ``bbox_a1`` (half-open, voxels) and ``centroid_a`` (voxels), and ``status``.
    classes : tuple of Class
    axes, scale, units, translate, affine
        As in `Image`, without ``c``.
    provenance : mapping
        The plan and what happened (JSON-able); empty for labels that were not computed here.
    """

    labels: Any
    segments: Table
    classes: tuple[Class, ...]
    axes: str
    scale: tuple[float, ...]
    units: tuple[str, ...]
    translate: tuple[float, ...]
    affine: NDArray[np.float64] | None = None
    name: str = "labels"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        n = len(self.segments["id"])
        return f"<Segmentation {self.name!r}: {_grid_text(self, self.labels)}, {n} segment{'s' * (n != 1)} ({self.task})>"

    @property
    def task(self) -> Task:
        """``semantic``, ``instance`` or ``panoptic``, derived from which classes are countable."""
        return task_of(self.classes)


@dataclass(frozen=True)
class Head:
    """A named output of a network; `kind` decides its loss, its resampling and what a flip does to it.

    `unit` is what the raw output of a scalar or vector head is multiplied by to be in voxels.
    """

    name: str
    channels: int
    kind: HeadKind
    unit: float = 1.0


@dataclass(frozen=True)
class ModelSpec:
    """All that must be known to run a model, and nothing that depends on an image.

    Attributes
    ----------
    name, version, description : str
    axes : str
        Spatial axes of the model, ``"yx"`` or ``"zyx"``; ``"any"`` for a model that takes both (its per-axis numbers are then for
        ``zyx``, and the last two serve ``yx``).
    channels : tuple of str
        Input channels by name. A model of three channels ``("red", "green", "blue")`` also takes one channel, repeated.
    pixel_size_um : tuple of float, optional
        Sample size the model was made for, per axis; None for a model without a physical scale.
    diameter_px : float, optional
        Typical object diameter in the model's own pixels; what the ``diameter_px`` option is divided by.
    tile : tuple of int
        Largest network input that is cut on the canonical grid, per axis.
    multiple : tuple of int
        Network inputs are multiples of this, per axis.
    context : tuple of int
        Margin of a tile that is thrown away, per axis.
    normalize : mapping
        ``method`` (`arrays.METHODS`) and its numbers: what of the whole image becomes 0 and 1. ``joint``: of all channels
        together; ``cut``: None where values that are far off are kept.
    heads, classes : tuples
    codec : str
        Name of the codec that decodes the heads.
    codec_options : mapping
        What the codec was tuned to (thresholds, radii).
    net : mapping
        ``{"name": ..., "kwargs": {...}}`` of the network for our own checkpoints; for networks of others also their files and what they take and
        give (`models.foreign`); empty for Python objects.
    licence, citation, trained_on : str
    weights_sha256 : str
        Of the weights file; empty for models without weights.
    """

    name: str
    axes: str
    channels: tuple[str, ...]
    heads: tuple[Head, ...]
    classes: tuple[Class, ...]
    codec: str
    version: str = "1"
    description: str = ""
    pixel_size_um: tuple[float, ...] | None = None
    diameter_px: float | None = None
    tile: tuple[int, ...] = (512, 512)
    multiple: tuple[int, ...] = (16, 16)
    context: tuple[int, ...] = (64, 64)
    normalize: Mapping[str, Any] = field(default_factory=lambda: {"method": "percentiles", "values": [1.0, 99.8]})
    codec_options: Mapping[str, Any] = field(default_factory=dict)
    net: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    citation: str = ""
    trained_on: str = ""
    weights_sha256: str = ""

    @property
    def task(self) -> Task:
        """What the model answers with, derived from its classes."""
        return task_of(self.classes)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about a tile, a chunk or an image: the same type for each.

    Attributes
    ----------
    maps : mapping of str to (N, C, *spatial) array or tensor
        One entry per head, activated (probabilities, not logits; offsets in voxels).
    objects : sequence of codecs.instances.Objects
        One per tile, of models that answer with whole objects.
    """

    maps: Mapping[str, Any]
    objects: Sequence[Any] = ()


@dataclass(frozen=True, eq=False)
class Pieces:
    """What a codec makes of one chunk, before linking.

    A piece is the part of one segment inside one chunk. Everything in `rows` adds up over pieces, which is why a
    segment's row does not depend on how the volume was cut.

    Attributes
    ----------
    labels : (*spatial) int32
        Local piece numbers 1..n inside the chunk's core; 0 is background.
    rows : table
        Column per quantity, one row per piece: ``key`` (int64, global name of the segment; pieces with one key belong
        together), ``size``, ``vote_k`` (sum of the 0..255 scores of class k), ``low_*``, ``high_*``, ``sum_*`` and more (`pieces.collect`).
    """

    labels: NDArray[np.int32]
    rows: Table


class Model(Protocol):
    """Anything that turns normalised pixels into maps."""

    @property
    def spec(self) -> ModelSpec: ...

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        """Maps of a batch of tiles, (N, C, *spatial)."""
        ...


def _grid_text(of: Image | Segmentation, array: ArrayLike) -> str:
    return f"{size_text(array.shape, of.axes)}, {array.dtype}, voxel {voxel_text(of.scale, of.axes, of.units)}"


def task_of(classes: Sequence[Class]) -> Task:
    """Name the task that a set of classes stands for.

    >>> task_of([Class(1, "tissue", countable=False)]), task_of([Class(1, "nucleus")])
    ('semantic', 'instance')
    """
    countable = [c.countable for c in classes]
    return "instance" if countable and all(countable) else "panoptic" if any(countable) else "semantic"
