"""Objects that are put into a Labels layer one by one, each with a row in its table, and taken out again."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.table import columns_of
from napari_segsuite.types import Image
from napari_segsuite.viewer.layers import OURS, guess_axes
from napari_segsuite.viewer.results import DEFAULT_CLASSES, laid_on, measured_again

Where = tuple[NDArray[np.intp], ...]


@dataclass(frozen=True, eq=False)
class Stroke:
    """An object that was put into a layer: where, what was there before, and how many rows the layer's table had."""

    layer: weakref.ref[Labels]
    number: int
    where: Where
    before: NDArray[np.integer]
    rows: int


class Painted:
    """The objects that a dock has put into Labels layers.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._strokes: list[Stroke] = []

    @property
    def can_undo(self) -> bool:
        """Whether there is an object that can be taken out again."""
        return any(self._alive(stroke) is not None for stroke in self._strokes)

    def new(self, layer: Layer, axes: str, image: Image) -> Labels:
        """Add an empty Labels layer on the grid of an image layer, whose axes are `axes` in its own order."""
        own = image.axes.replace("c", "")
        kept = axes.replace("c", "")
        where = laid_on([], own, image, layer, axes)[1]
        classes = [{"id": c.id, "name": c.name, "color": list(c.color), "countable": c.countable} for c in DEFAULT_CLASSES]
        meta = {OURS: {"axes": kept, "classes": classes, "provenance": {}}}
        empty = np.zeros([image.size(a) for a in kept], np.uint16)  # shown as it is; napari would hash each voxel of a larger type, again and again
        made: Labels = self._viewer.add_labels(empty, name=f"{layer.name} objects", metadata=meta, **where)
        return made

    def put(
        self, layer: Labels, where: tuple[int | slice, ...], region: NDArray[np.bool_], score: float, told: Mapping[str, Any], *, over: bool
    ) -> int:
        """Write an object as a new number, with a row in the layer's table.

        Parameters
        ----------
        layer : napari.layers.Labels
        where : tuple of int and slice
            The part of the layer's data that `region` is of.
        region : bool array
        score : float
        told : mapping
            How it was found, which is kept in the layer's metadata.
        over : bool
            Whether it may take voxels of other objects.

        Returns
        -------
        int
            The number; 0 if all of the region belongs to other objects already.

        Raises
        ------
        InputError
            The layer's type has no larger number.
        """
        part = np.asarray(layer.data[where])
        mine = region if over else region & (part == 0)
        if not mine.any():
            return 0
        number = int(np.max(layer.data)) + 1
        if number > np.iinfo(layer.data.dtype).max:
            found = f"layer {layer.name!r} is of type {layer.data.dtype}, which ends at {number - 1}"
            raise InputError(found, "a type for larger numbers", "Right-click the layer and choose Convert data type.")
        places = _places(where, mine)
        stroke = Stroke(weakref.ref(layer), number, places, np.array(layer.data[places]), len(layer.features))
        layer.data_setitem(places, number)
        self._strokes.append(stroke)
        _note(layer, number, dict(told))
        _table(layer, {number: places}, scores={number: score})
        _measured_again(layer, stroke)
        return number

    def covered(self) -> str:
        """The objects that the last one has left nothing of, in a sentence; nothing if there is none."""
        stroke = self._strokes[-1]
        layer = self._alive(stroke)
        gone = [str(n) for n in np.unique(stroke.before) if n and layer is not None and not (layer.data == n).any()]
        return f" It lies where object {' and '.join(gone)} was, of which nothing is left; Undo brings it back." if gone else ""

    def undo(self) -> int:
        """Take the last object out again, and put back what was there; its number, or 0 if there is none.

        Voxels that somebody has painted on since then stay as they are.
        """
        while self._strokes:
            stroke = self._strokes.pop()
            if (layer := self._alive(stroke)) is None:
                continue
            mine = layer.data[stroke.where] == stroke.number
            places = tuple(line[mine] for line in stroke.where)
            if len(places[0]):
                layer.data_setitem(places, stroke.before[mine])
            _note(layer, stroke.number, None)
            _table(layer, {stroke.number: np.nonzero(np.asarray(layer.data) == stroke.number)})
            _measured_again(layer, stroke)
            _without_end(layer, stroke.rows)
            return stroke.number
        return 0

    def _alive(self, stroke: Stroke) -> Labels | None:
        layer = stroke.layer()
        fits = (
            layer is not None and layer in self._viewer.layers and all(line.max() < n for line, n in zip(stroke.where, layer.data.shape, strict=True))
        )
        return layer if fits else None


def takes(labels: Labels, layer: Layer | None) -> str:
    """Why a Labels layer cannot take objects of an image layer; nothing if it can."""
    if layer is None:
        return "has no image"
    axes = guess_axes(layer)
    kept = [i for i, a in enumerate(axes) if a != "c"]
    shape = layer.level_shapes[0] if layer.multiscale else layer.data.shape
    if labels.multiscale or not isinstance(labels.data, np.ndarray) or not labels.editable or not labels.data.flags.writeable:
        return "cannot be painted on"
    if labels.data.shape != tuple(shape[i] for i in kept):
        return "is of another size than the image"
    ends = [np.zeros(len(kept)), np.array(labels.data.shape) - 1.0]
    whole = np.zeros((2, layer.ndim))
    whole[:, kept] = ends
    far = [np.abs(np.asarray(labels.data_to_world(a)) - np.asarray(layer.data_to_world(b))[kept]) for a, b in zip(ends, whole, strict=True)]
    return "" if np.max(far) <= 0.01 * float(np.min(np.abs(layer.scale))) else "lies elsewhere than the image"


def _places(where: tuple[int | slice, ...], mine: NDArray[np.bool_]) -> Where:
    """The voxels of a part as indices of the whole."""
    found = iter(np.nonzero(mine))
    count = int(mine.sum())
    return tuple(np.full(count, w, np.intp) if isinstance(w, int) else next(found) + w.start for w in where)


def _note(layer: Labels, number: int, told: dict[str, Any] | None) -> None:
    """Keep how an object was found beside the layer's data, from where it is saved with it."""
    ours = layer.metadata.setdefault(OURS, {})
    prompts = ours.setdefault("provenance", {}).setdefault("prompts", {})
    if told is None:
        prompts.pop(str(number), None)
    else:
        prompts[str(number)] = told


def _measured_again(layer: Labels, stroke: Stroke) -> None:
    """Bring the rows of those up to date that lost voxels or got them back."""
    others = [int(n) for n in np.unique(stroke.before) if n]
    if others:
        data = np.asarray(layer.data)
        _table(layer, {n: np.nonzero(data == n) for n in others})


def _table(layer: Labels, objects: Mapping[int, Where], scores: Mapping[int, float] | None = None) -> None:
    """Write the rows of objects into a layer's features; all other rows and columns stay. One without voxels gets an empty row."""
    axes = guess_axes(layer)
    columns = {str(name): np.asarray(layer.features[name]) for name in layer.features}
    if "index" not in columns:
        made, _ = measured_again(layer)
        extra = {name: column for name, column in columns.items() if len(column) == len(made["index"]) and name not in made}
        columns = {**made, **extra}
    for number, places in objects.items():
        row = _row(number, places, axes, layer)
        if scores and number in scores:
            row["score"] = scores[number]
        elif (columns["index"] == number).any():
            row = {name: value for name, value in row.items() if name not in ("score", "status", "class", "class_id") or not len(places[0])}
        columns = _with_row(columns, number, row)
    layer.features = columns


def _without_end(layer: Labels, rows: int) -> None:
    """Take the last rows away that say nothing, down to so many: those that were added for an object that is taken out again."""
    there, sizes = len(layer.features), np.asarray(layer.features["size"])
    while there > rows and not sizes[there - 1]:
        there -= 1
    if there < len(sizes):
        layer.features = layer.features.iloc[:there]


def _row(number: int, places: Where, axes: str, layer: Labels) -> dict[str, Any]:
    """What the table says of an object; zeros where it has no voxel."""
    noted = layer.metadata.get(OURS, {}).get("classes") or [{"id": c.id, "name": c.name, "countable": c.countable} for c in DEFAULT_CLASSES]
    kind = next((c for c in noted if c["countable"]), noted[0])
    size = len(places[0])
    if not size:
        return dict.fromkeys((name for name in columns_of(axes) if name not in ("id", "status")), 0) | {"class": "", "status": ""}
    row: dict[str, Any] = {"class": kind["name"], "class_id": kind["id"], "score": 1.0, "size": size, "status": ""}
    for axis, line in zip(axes, places, strict=True):
        row |= {f"bbox_{axis}0": int(line.min()), f"bbox_{axis}1": int(line.max()) + 1, f"centroid_{axis}": float(line.mean())}
    return row


def _with_row(columns: Mapping[str, NDArray[Any]], number: int, row: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The columns with a row for a number: its own if it has one, else a new one at its place, after empty ones where row k is label k."""
    index = columns["index"]
    if not (index == number).any():
        dense = np.array_equal(index, np.arange(len(index))) and number <= 2 * len(index) + 64
        added = np.arange(len(index), number + 1) if dense else np.array([number])
        columns = {name: _longer(column, len(added)) for name, column in columns.items()}
        columns["index"][-len(added) :] = added
    at = int(np.flatnonzero(columns["index"] == number)[0])
    made = {}
    for name, column in columns.items():
        if name in row and column.dtype.kind in "iub" and isinstance(row[name], float):
            column = column.astype(np.float64)
        made[name] = column.astype(object) if column.dtype.kind in "UO" else column.copy()
        if name in row:
            made[name][at] = row[name]
    return made


def _longer(column: NDArray[Any], more: int) -> NDArray[Any]:
    """A column with rows that say nothing at its end."""
    kind = column.dtype.kind
    values: Sequence[Any] = [0 if kind in "iub" else np.nan if kind == "f" else ""] * more
    return np.concatenate([column.astype(object) if kind in "UO" else column, np.array(values, object if kind in "UO" else column.dtype)])
