"""Between `Segmentation` and napari's Labels layers: the table becomes the layer's features and comes back from them."""

from __future__ import annotations

import colorsys
import weakref
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from napari.utils.notifications import show_error
from numpy.typing import NDArray

from napari_segsuite.errors import SegsuiteError
from napari_segsuite.io.table import columns_of, table_of, tidy
from napari_segsuite.types import Class, Segmentation, Table
from napari_segsuite.viewer.layers import OURS, LayerData, axes_of, guess_axes, image_of, placement, reorder

DEFAULT_CLASSES = (Class(1, "object"),)
_COLORED = 5000
"""A panoptic result with more segments than this gets napari's own colours: one entry per segment becomes slow."""


def to_layer(segmentation: Segmentation, layer: Layer, axes: str | None = None) -> LayerData:
    """Show a result on top of the image layer it was made from.

    Parameters
    ----------
    segmentation : Segmentation
    layer : napari.layers.Image
        Where it lies now; it may have been moved, renamed or removed from the viewer since the run began.
    axes : str, optional
        What the layer's axes were taken to be, in its own order; by default `guess_axes`.

    Returns
    -------
    data, meta, "labels"
        With the layer's scale, translate, rotate, shear, affine, units and axis labels, without a channel axis.
    """
    axes = axes or guess_axes(layer)
    kept = [i for i, a in enumerate(axes) if a != "c"]
    order = [segmentation.axes.index(axes[i]) for i in kept]
    data, meta, kind = from_segmentation(segmentation)
    meta["metadata"][OURS]["axes"] = "".join(axes[i] for i in kept)
    if len(kept) != len(segmentation.axes) or len(axes) != layer.ndim:
        return data, meta, kind  # the layer has become something else; the result knows where it lies by itself
    return reorder(data, order), {**meta, **_as_placed(layer, kept), "name": _named(segmentation, layer)}, kind


def from_segmentation(segmentation: Segmentation) -> LayerData:
    """Show a segmentation as a Labels layer by what it knows itself."""
    noted = {
        "axes": segmentation.axes,
        "classes": [{"id": c.id, "name": c.name, "color": list(c.color), "countable": c.countable} for c in segmentation.classes],
        "provenance": dict(segmentation.provenance),
    }
    where = placement(segmentation.axes, segmentation.scale, segmentation.translate, segmentation.units, segmentation.affine)
    meta = {"name": segmentation.name, "features": features_of(segmentation), "metadata": {OURS: noted}, **where}
    if colors := colors_of(segmentation):
        meta["colormap"] = DirectLabelColormap(color_dict=colors)
    return segmentation.labels, meta, "labels"


def segmentation_of(data: Any, meta: Mapping[str, Any]) -> Segmentation:
    """Make a segmentation of a Labels layer's data tuple, whoever made the layer.

    The table comes from the features where they still describe the labels; after painting it is computed anew, and segments that
    were known keep their class, score and status.
    """
    meta = {**meta, "rgb": False}
    seen = image_of(data, meta, axes_of(len((data[0] if meta.get("multiscale") else data).shape), meta))
    noted = meta.get("metadata", {}).get(OURS, {})
    classes = tuple(Class(int(c["id"]), str(c["name"]), tuple(c["color"]), bool(c["countable"])) for c in noted.get("classes", ())) or DEFAULT_CLASSES
    return Segmentation(
        labels=seen.data,
        segments=_table(seen.data, seen.axes, classes, meta.get("features")),
        classes=classes,
        axes=seen.axes,
        scale=seen.scale,
        units=seen.units,
        translate=seen.translate,
        affine=seen.affine,
        name=str(meta.get("name") or "labels"),
        provenance=dict(noted.get("provenance", {})),
    )


def features_of(segmentation: Segmentation) -> dict[str, NDArray[Any]]:
    """Make the features of a Labels layer from the table of segments.

    napari 0.9 finds the row of a label by the column ``index`` in its status bar, and by position in its features table, where
    the first row is the background's. So row k is label k wherever that is possible: a row for the background and for numbers
    in between that do not occur, with size 0. With sparse ids only the column ``index`` is right.

    Returns
    -------
    columns
        ``index``, ``class``, then the columns of the table besides ``id``.
    """
    table, ids = segmentation.segments, np.asarray(segmentation.segments["id"])
    names = {c.id: c.name for c in segmentation.classes}
    top = int(ids.max()) if len(ids) else 0
    dense = top <= 2 * len(ids) + 64
    rows = np.arange(top + 1) if dense else ids
    found = ids if dense else np.arange(len(ids))
    columns: dict[str, NDArray[Any]] = {"index": rows}
    for name, column in table.items():
        if name == "id":
            continue
        values = np.asarray(column)
        full = np.full(len(rows), np.nan if values.dtype.kind == "f" else "" if values.dtype.kind in "UO" else 0, dtype=values.dtype)
        full[found] = values
        columns[name] = full
    listed = [names.get(int(k), "") for k in columns.get("class_id", np.zeros(len(rows), int))]
    if dense:
        listed[0] = "background"
    return {"index": rows, "class": np.array(listed, dtype=object), **{k: v for k, v in columns.items() if k != "index"}}


def colors_of(segmentation: Segmentation) -> dict[int | None, NDArray[np.float64]]:
    """Give stuff its class colours, and things shades of theirs; nothing where all is of one countable kind."""
    stuff: dict[int | None, NDArray[np.float64]] = {c.id: np.array([*c.color, 255]) / 255 for c in segmentation.classes if not c.countable}
    things = {c.id: c.color for c in segmentation.classes if c.countable}
    ids, kinds = (np.asarray(segmentation.segments[k]).tolist() for k in ("id", "class_id"))
    if (not stuff and len(things) < 2) or len(ids) > _COLORED:
        return {}
    colors: dict[int | None, NDArray[np.float64]] = {0: np.zeros(4), None: np.array([0.5, 0.5, 0.5, 1.0]), **stuff}
    return colors | {i: _shade(things[k], i) for i, k in zip(ids, kinds, strict=True) if k in things}


def fingerprint(layer: Labels) -> tuple[int, int]:
    """Two numbers that change when anybody paints on a layer or edits its table."""
    features = layer.features.drop(columns=[c for c in layer.features.columns if c.startswith("_")])
    table = features.to_csv(index=False).encode()
    return zlib.crc32(np.ascontiguousarray(layer.data).view(np.uint8).data), zlib.crc32(table)


def _as_placed(layer: Layer, kept: list[int]) -> dict[str, Any]:
    shear = np.asarray(layer.shear)
    if shear.ndim == 1:
        above = np.eye(layer.ndim)
        above[np.triu_indices(layer.ndim, 1)] = shear
        shear = above[np.ix_(kept, kept)][np.triu_indices(len(kept), 1)]
    else:
        shear = shear[np.ix_(kept, kept)]
    return {
        "scale": tuple(float(v) for v in np.asarray(layer.scale)[kept]),
        "translate": tuple(float(v) for v in np.asarray(layer.translate)[kept]),
        "rotate": np.asarray(layer.rotate)[np.ix_(kept, kept)],
        "shear": shear,
        "affine": np.asarray(layer.affine.affine_matrix)[np.ix_([*kept, layer.ndim], [*kept, layer.ndim])],
        "units": tuple(layer.units[i] for i in kept),
        "axis_labels": tuple(layer.axis_labels[i] for i in kept),
    }


def _named(segmentation: Segmentation, layer: Layer) -> str:
    plan = segmentation.provenance.get("plan", segmentation.provenance)
    model = plan.get("model", {}).get("name", "labels") if isinstance(plan, Mapping) else "labels"
    return f"{layer.name} {model}"


def _shade(color: tuple[int, int, int], seed: int) -> NDArray[np.float64]:
    """One of many like colours, by the golden ratio, so that neighbours in number differ."""
    hue, light, saturation = colorsys.rgb_to_hls(*(v / 255 for v in color))
    turn = (seed * 0.61803) % 1 - 0.5
    return np.array([*colorsys.hls_to_rgb((hue + 0.12 * turn) % 1, min(0.85, max(0.3, light + 0.3 * turn)), max(saturation, 0.5)), 1.0])


def _table(labels: Any, axes: str, classes: tuple[Class, ...], features: Any) -> Table:
    known = {str(k): np.asarray(features[k]) for k in features} if features is not None else {}
    if "index" not in known:
        return table_of(labels, axes, classes)
    there = known["size"] > 0 if "size" in known else np.ones(len(known["index"]), bool)
    old = {"id": known["index"][there], **{k: v[there] for k, v in known.items() if k not in ("index", "class")}}
    kinds = old.get("class_id")
    new = table_of(labels, axes, classes, dict(zip(old["id"].tolist(), kinds.tolist(), strict=True)) if kinds is not None else None)
    if set(columns_of(axes)) <= set(old) and all(np.array_equal(old[k], new[k]) for k in new if k.startswith(("id", "size", "bbox"))):
        return tidy(old)
    return _with_known(new, old)


def _with_known(new: dict[str, NDArray[Any]], old: dict[str, NDArray[Any]]) -> Table:
    row = {int(i): k for k, i in enumerate(old["id"])}
    for name in ("score", "status"):
        if name in old:
            new[name] = np.array([old[name][row[i]] if i in row else v for i, v in zip(new["id"].tolist(), new[name].tolist(), strict=True)])
    return tidy(new)


class Shown:
    """The results that a dock has put into its viewer, and what can be done with the latest.

    Parameters
    ----------
    viewer : napari.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._made: list[tuple[weakref.ref[Layer], str, weakref.ref[Labels], tuple[int, int]]] = []
        self._latest: weakref.ref[Labels] | None = None

    def show(self, segmentation: Segmentation, layer: Layer, axes: str, model: str, *, replace: bool) -> str:
        """Add a result as a new layer; what to tell the user besides, in a sentence or nothing.

        With `replace`, the previous result of the same model for the same layer goes, unless somebody edited it.
        """
        data, meta, _ = to_layer(segmentation, layer, axes)
        told, old = self._previous(layer, model) if replace else ("", None)
        at = self._viewer.layers.index(old) if old is not None else None
        if old is not None:
            self._viewer.layers.remove(old)
        new = self._viewer.add_labels(data, **meta)
        if at is not None:
            self._viewer.layers.move(len(self._viewer.layers) - 1, at)
        self._made.append((weakref.ref(layer), model, weakref.ref(new), fingerprint(new)))
        self._latest = weakref.ref(new)
        return told

    def latest(self) -> Labels | None:
        """The newest result that is still in the viewer."""
        layer = self._latest() if self._latest is not None else None
        return layer if layer is not None and layer in self._viewer.layers else None

    def open_table(self) -> None:
        """Open napari's table of features on the latest result, below the image, where there is room for its columns."""
        from qtpy.QtCore import Qt

        if (layer := self.latest()) is not None:
            self._viewer.layers.selection = {layer}
        dock, _ = self._viewer.window.add_plugin_dock_widget("napari", "Features table widget")
        if dock.property("segsuite-moved") is None and not dock.isFloating():
            dock.setProperty("segsuite-moved", True)
            dock.parent().addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, dock)
        dock.show()

    def save(self, parent: Any) -> None:
        """Ask where to, and write the latest result as File > Save does."""
        from qtpy.QtWidgets import QFileDialog

        if (layer := self.latest()) is None:
            show_error("There is no result to save: it is no longer in the viewer.")
            return
        path, _ = QFileDialog.getSaveFileName(parent, "Save labels", f"{layer.name}.ome.zarr", "OME-Zarr (*.ome.zarr);;TIFF (*.tif)")
        if not path:
            return
        self._viewer.layers.selection = {layer}
        try:
            self._viewer.layers.save(path, selected=True, plugin="napari-segsuite")
        except SegsuiteError as error:
            show_error(str(error))

    def _previous(self, layer: Layer, model: str) -> tuple[str, Labels | None]:
        for image, name, labels, before in reversed(self._made):
            old = labels()
            if image() is layer and name == model and old is not None and old in self._viewer.layers:
                return ("", old) if fingerprint(old) == before else (f"{old.name!r} was edited and is kept.", None)
        return "", None
