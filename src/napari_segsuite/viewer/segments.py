"""The segments of a Labels layer by its table: their classes, which of them are shown and how, and corrections of classes as data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from napari.layers import Tracks as TracksLayer
from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap, label_colormap
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.models.classes import COLORS
from napari_segsuite.tracking import Tracks
from napari_segsuite.types import Class, Segmentation
from napari_segsuite.viewer.layers import OURS
from napari_segsuite.viewer.results import (
    DEFAULT_CLASSES,
    UNFINISHED,
    as_placed,
    classes_in,
    from_segmentation,
    measured_again,
    noted_classes,
    segmentation_of,
    shade,
)

CORRECTED = "corrected"
"""Status of a segment whose class somebody has set."""
MOST = 100_000
"""napari looks colours of single segments up in a dictionary; with more than this, drawing waits for seconds."""


@dataclass(frozen=True)
class ClassEdit:
    """A correction of the classes of segments; `before` and `after` hold one (class id, status) per segment."""

    ids: tuple[int, ...]
    before: tuple[tuple[int, str], ...]
    after: tuple[tuple[int, str], ...]

    @property
    def inverse(self) -> ClassEdit:
        """What takes it back."""
        return replace(self, before=self.after, after=self.before)

    def only(self, ids: Collection[int]) -> ClassEdit:
        """What it does to these segments."""
        kept = [k for k, i in enumerate(self.ids) if i in ids]
        return ClassEdit(tuple(self.ids[k] for k in kept), tuple(self.before[k] for k in kept), tuple(self.after[k] for k in kept))


class Segments:
    """What the table of a Labels layer says; nothing is kept here, so that painting and undo elsewhere are seen.

    Parameters
    ----------
    layer : napari.layers.Labels

    Raises
    ------
    InputError
        The layer has no table, or shows a run that is not finished.
    """

    def __init__(self, layer: Labels) -> None:
        if UNFINISHED in layer.metadata.get(OURS, {}):
            raise InputError(f"layer {layer.name!r} shows a result that is not finished", do="Press Run in the Segment dock to go on with it.")
        if not {"index", "class_id", "size"} <= set(layer.features.columns):
            raise InputError(f"layer {layer.name!r} has no table of segments", do="Press 'Update table' to make one.")
        self.layer = layer
        self._there = np.asarray(layer.features["size"]) > 0

    @property
    def classes(self) -> tuple[Class, ...]:
        """As the layer notes them; a layer without a note has one kind of object."""
        return classes_in(self.layer.metadata) or DEFAULT_CLASSES

    @property
    def ids(self) -> NDArray[np.int64]:
        """Of all segments, ascending as in the table."""
        return self.column("index").astype(np.int64)

    def column(self, name: str) -> NDArray[Any]:
        """A column of the table, one value per segment."""
        return np.asarray(self.layer.features[name])[self._there]

    def row(self, number: int) -> dict[str, Any] | None:
        """All that the table says of one segment."""
        found = np.flatnonzero(self._there & (np.asarray(self.layer.features["index"]) == number))
        return {str(k): self.layer.features[k].iloc[found[0]] for k in self.layer.features} if len(found) else None

    @property
    def objects(self) -> NDArray[np.int64]:
        """Those of countable classes, and of classes that nobody noted."""
        return self.ids[~np.isin(self.column("class_id"), [c.id for c in self.classes if not c.countable])]

    def counts(self) -> dict[int, int]:
        """Segments per class id."""
        kinds, numbers = np.unique(self.column("class_id"), return_counts=True)
        return dict(zip(kinds.tolist(), numbers.tolist(), strict=True))

    def shown(self, hidden: Collection[int] = (), least_score: float = 0, least_size: float = 0) -> NDArray[np.int64]:
        """The segments of classes that are not hidden and that reach a score and a size, in voxels.

        Stuff is judged by its class alone, and what has no score by the rest.
        """
        kinds = self.column("class_id")
        stuff = np.isin(kinds, [c.id for c in self.classes if not c.countable])
        enough = (self.column("size") >= least_size) & ~(self._scores < least_score)
        return self.ids[~np.isin(kinds, list(hidden)) & (enough | stuff)]

    def counted(self, hidden: Collection[int] = (), least_score: float = 0, least_size: float = 0) -> str:
        """How many segments are shown, in words."""
        shown = self.shown(hidden, least_score, least_size)
        told = f"{len(shown)} of {len(self.ids)} segments are shown"
        without = int(np.isnan(self._scores[np.isin(self.ids, shown)]).sum()) if least_score > 0 else 0
        return f"{told}, {without} of them without a score." if without else f"{told}."

    @property
    def _scores(self) -> NDArray[np.float64]:
        """One per segment, NaN where nobody gave one."""
        return self.column("score").astype(np.float64) if "score" in self.layer.features else np.full(len(self.ids), np.nan)

    def colors(self, shown: NDArray[np.int64], *, by_class: bool, own: Any = None, marked: int = 0) -> Any:
        """A colormap in which only some segments are seen.

        Parameters
        ----------
        shown : ids
        by_class : bool
            All segments of a class in its colour; else each in one of its own, of several classes in a shade of its class's.
        own : napari colormap, optional
            What the layer had before; used where nothing is hidden and nothing is to be said about classes.
        marked : int
            A segment that is white, whatever else.

        Raises
        ------
        InputError
            There are more segments than napari can give single colours.
        """
        ids, things = self.ids, [c for c in self.classes if c.countable]
        plain = not by_class and len(self.classes) == len(things) < 2
        cyclic = own if isinstance(own, CyclicLabelColormap) else label_colormap()
        if plain and len(shown) == len(ids) and marked not in ids:
            return cyclic
        if len(ids) > MOST:
            raise InputError(f"{len(ids)} segments are too many to colour or hide single ones", f"at most {MOST}", "Copy a part of them.")
        colors: dict[int | None, Any] = {0: np.zeros(4), None: np.array([0.5, 0.5, 0.5, 1.0])}
        visible = np.isin(ids, shown)
        pictured = cyclic.map(ids) if plain else np.zeros((len(ids), 4))
        of = {c.id: c for c in self.classes}
        for number, kind, seen, own_color in zip(ids.tolist(), self.column("class_id").tolist(), visible.tolist(), pictured, strict=True):
            known = of.get(int(kind))
            if not seen:
                colors[number] = np.zeros(4)
            elif plain or known is None:
                colors[number] = own_color if plain else colors[None]
            else:
                colors[number] = np.array([*known.color, 255]) / 255 if by_class or not known.countable else shade(known.color, number)
        if marked in ids:
            colors[marked] = np.ones(4)
        return DirectLabelColormap(color_dict=colors)

    def correction(self, ids: Sequence[int], class_id: int) -> ClassEdit:
        """What giving these segments a class would change; those that have it already and parts of stuff are left alone.

        Raises
        ------
        InputError
            The class is stuff, whose voxels are no segments.
        """
        if not next(c.countable for c in self.classes if c.id == class_id):
            raise InputError("a class of stuff cannot be given to an object", "a class of objects", "Paint with the number of the class instead.")
        kinds = self.column("class_id")
        stuff = [c.id for c in self.classes if not c.countable]
        change = np.isin(self.ids, list(ids)) & (kinds != class_id) & ~np.isin(kinds, stuff)
        status = self.column("status")[change] if "status" in self.layer.features else np.full(change.sum(), "")
        before = tuple((int(k), str(s)) for k, s in zip(kinds[change], status, strict=True))
        return ClassEdit(tuple(self.ids[change].tolist()), before, ((class_id, CORRECTED),) * len(before))

    def apply(self, edit: ClassEdit) -> None:
        """Write a correction, or its inverse, into the table."""
        if not edit.ids:
            return
        table = self.layer.features.copy()
        names = {c.id: c.name for c in self.classes}
        at = dict(zip(np.asarray(table["index"]).tolist(), range(len(table)), strict=True))
        rows = [at[i] for i in edit.ids]
        table["status"] = table["status"].astype(object) if "status" in table else ""
        for name, values in (
            ("class_id", [k for k, _ in edit.after]),
            ("class", [names.get(k, "") for k, _ in edit.after]),
            ("status", [s for _, s in edit.after]),
        ):
            table.iloc[rows, table.columns.get_loc(name)] = values
        self.layer.features = table

    def add_class(self, name: str) -> Class:
        """Note one more class of objects in the layer.

        Raises
        ------
        InputError
            The name is empty or there already.
        """
        name = name.strip()
        if not name or name in [c.name for c in self.classes]:
            raise InputError(f"a class {name!r} is there already" if name else "the class has no name", "a name that no other class has")
        number = max(c.id for c in self.classes) + 1
        added = Class(number, name, COLORS[(number - 1) % len(COLORS)])
        self._note([*self.classes, added])
        return added

    def change_class(self, changed: Class) -> None:
        """Give a class another colour or name."""
        self._note([changed if c.id == changed.id else c for c in self.classes])

    def only(self, shown: NDArray[np.int64]) -> Segmentation:
        """A segmentation of some segments alone, with their numbers; the layer's labels have to be in memory."""
        data, meta, _ = self.layer.as_layer_data_tuple()
        whole = segmentation_of(data, meta)
        kept = np.isin(whole.segments["id"], shown)
        labels = np.where(np.isin(whole.labels, shown), whole.labels, 0).astype(np.asarray(whole.labels).dtype)
        return replace(whole, labels=labels, segments={k: np.asarray(v)[kept] for k, v in whole.segments.items()})

    def _note(self, classes: Sequence[Class]) -> None:
        self.layer.metadata = {**self.layer.metadata, OURS: {**self.layer.metadata.get(OURS, {}), "classes": noted_classes(classes)}}


def update(layer: Labels) -> int:
    """Make the table of a layer anew from its labels; what is known of a segment stays, and what has no score gets none.

    Returns
    -------
    int
        Voxels with numbers below 0, which are no segments and left out.

    Raises
    ------
    InputError
        The labels lie on disk, or show a run that is not finished.
    """
    if not isinstance(layer.data, np.ndarray):
        raise InputError(f"layer {layer.name!r} is shown from disk", "labels in memory", "Its table was made when it was.")
    columns, segmentation = measured_again(layer)
    layer.features = columns
    noted: Mapping[str, Any] = layer.metadata.get(OURS, {})
    layer.metadata = {**layer.metadata, OURS: {**noted, "classes": noted_classes(segmentation.classes)}}
    return int((layer.data < 0).sum()) if layer.data.dtype.kind == "i" else 0


def tracked_layers(tracked: Segmentation, tracks: Tracks, layer: Labels) -> list[Layer]:
    """Labels by track, and the tracks themselves, where the labels lie that they were made from."""
    data, meta, _ = from_segmentation(tracked)
    axes, where = tracked.axes, as_placed(layer, list(range(layer.ndim)))
    rows = tracks.table
    points = np.stack([rows["track"], *(rows[a] for a in axes)], axis=1).astype(float)
    graph = {child: [parent] for child, parent in tracks.parents.items()}
    labels = Labels(data, **{**meta, **where, "name": f"{layer.name} tracked"})
    return [labels, TracksLayer(points, graph=graph, name=f"{layer.name} tracks", **where)] if len(points) else [labels]
