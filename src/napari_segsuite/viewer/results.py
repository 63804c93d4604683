"""Between `Segmentation` and napari's Labels layers: the table becomes the layer's features and comes back from them."""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.table import columns_of, table_of, tidy
from napari_segsuite.types import Class, Image, Segmentation, Table
from napari_segsuite.viewer.layers import OURS, LayerData, axes_of, guess_axes, image_of, placement, reorder

DEFAULT_CLASSES = (Class(1, "object"),)
UNFINISHED = "unfinished"
"""Key in a layer's metadata for the store of a run that it shows before it is finished."""
_COLORED = 5000
"""A panoptic result with more segments than this gets napari's own colours: one entry per segment becomes slow."""


def to_layer(segmentation: Segmentation, layer: Layer, axes: str | None = None, levels: Sequence[Any] = ()) -> LayerData:
    """Show a result on top of the image layer it was made from.

    Parameters
    ----------
    segmentation : Segmentation
    layer : napari.layers.Image
        Where it lies now; it may have been moved, renamed or removed from the viewer since the run began.
    axes : str, optional
        What the layer's axes were taken to be, in its own order; by default `guess_axes`.
    levels : sequence of arrays, optional
        The labels as a pyramid, finest first, where they are to be shown so.

    Returns
    -------
    data, meta, "labels"
        With the layer's scale, translate, rotate, shear, affine, units and axis labels, without a channel axis.
    """
    axes = axes or guess_axes(layer)
    data, meta, kind = from_segmentation(segmentation)
    meta["metadata"][OURS]["axes"] = axes.replace("c", "")
    shown, where = laid_on(levels or [data], segmentation.axes, segmentation, layer, axes)
    if _fits(segmentation.axes, layer, axes):
        where["name"] = _named(segmentation, layer)
    if len(shown) > 1:
        where["multiscale"] = True
    return shown if len(shown) > 1 else shown[0], {**meta, **where}, kind


def laid_on(levels: Sequence[Any], own: str, thing: Image | Segmentation, layer: Layer, axes: str) -> tuple[list[Any], dict[str, Any]]:
    """Lay arrays on a layer.

    Parameters
    ----------
    levels : sequence of arrays
    own : str
        Their axes.
    thing : Image or Segmentation
        Knows where they lie if the layer has become something else meanwhile.
    layer, axes
        What they belong to, and what its axes were taken to be.

    Returns
    -------
    levels, meta
        In the order of the layer's axes, and where they lie.
    """
    if not _fits(own, layer, axes):
        return list(levels), placement(thing.axes, thing.scale, thing.translate, thing.units, thing.affine)
    kept = [i for i, a in enumerate(axes) if a != "c"]
    order = [own.index(axes[i]) for i in kept]
    return [reorder(level, order) for level in levels], as_placed(layer, kept)


def from_segmentation(segmentation: Segmentation) -> LayerData:
    """Show a segmentation as a Labels layer by what it knows itself."""
    noted = {
        "axes": segmentation.axes,
        "classes": noted_classes(segmentation.classes),
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

    Raises
    ------
    InputError
        The layer shows a run that is not finished.
    """
    meta = {**meta, "rgb": False}
    if UNFINISHED in meta.get("metadata", {}).get(OURS, {}):
        raise InputError(f"layer {meta.get('name')!r} shows a result that is not finished", do="Press Run in the Segment dock to go on with it.")
    seen = image_of(data, meta, axes_of(len((data[0] if meta.get("multiscale") else data).shape), meta))
    noted = meta.get("metadata", {}).get(OURS, {})
    painted = hasattr(seen.data, "__setitem__") and not meta.get("multiscale")
    classes = classes_in(meta.get("metadata", {})) or DEFAULT_CLASSES
    return Segmentation(
        labels=seen.data,
        segments=_table(seen.data, seen.axes, classes, meta.get("features"), painted=painted),
        classes=classes,
        axes=seen.axes,
        scale=seen.scale,
        units=seen.units,
        translate=seen.translate,
        affine=seen.affine,
        name=str(meta.get("name") or "labels"),
        provenance=dict(noted.get("provenance", {})),
    )


def noted_classes(classes: Sequence[Class]) -> list[dict[str, Any]]:
    """Classes as a layer's metadata holds them."""
    return [{"id": c.id, "name": c.name, "color": list(c.color), "countable": c.countable} for c in classes]


def classes_in(metadata: Mapping[str, Any]) -> tuple[Class, ...]:
    """The classes that a layer's metadata holds; none where nobody noted any."""
    noted = metadata.get(OURS, {}).get("classes", ())
    return tuple(Class(int(c["id"]), str(c["name"]), tuple(c["color"]), bool(c["countable"])) for c in noted)


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


def measured_again(layer: Labels) -> tuple[dict[str, NDArray[Any]], Segmentation]:
    """Make the features of a layer anew from its labels, and the segmentation that they are of.

    What is known of a segment stays; a score that nobody gave is NaN, since those of others cannot be compared with a made-up one.
    """
    data, meta, _ = layer.as_layer_data_tuple()
    segmentation = segmentation_of(data, meta)
    columns, known = features_of(segmentation), layer.features
    scored = known["index"][known["score"].notna() & (known["size"] > 0)] if {"index", "score", "size"} <= set(known) else ()
    columns["score"] = np.where(np.isin(columns["index"], scored), columns["score"], np.nan)
    return columns, segmentation


def colors_of(segmentation: Segmentation) -> dict[int | None, NDArray[np.float64]]:
    """Give stuff its class colours, and things shades of theirs; nothing where all is of one countable kind."""
    stuff: dict[int | None, NDArray[np.float64]] = {c.id: np.array([*c.color, 255]) / 255 for c in segmentation.classes if not c.countable}
    things = {c.id: c.color for c in segmentation.classes if c.countable}
    ids, kinds = (np.asarray(segmentation.segments[k]).tolist() for k in ("id", "class_id"))
    if (not stuff and len(things) < 2) or len(ids) > _COLORED:
        return {}
    colors: dict[int | None, NDArray[np.float64]] = {0: np.zeros(4), None: np.array([0.5, 0.5, 0.5, 1.0]), **stuff}
    return colors | {i: shade(things[k], i) for i, k in zip(ids, kinds, strict=True) if k in things}


def fingerprint(layer: Labels) -> tuple[int, int]:
    """Two numbers that change when anybody paints on a layer or edits its table or its classes."""
    features = layer.features.drop(columns=[c for c in layer.features.columns if c.startswith("_")])
    table = f"{features.to_csv(index=False)}{layer.metadata.get(OURS, {}).get('classes')}".encode()
    # Nobody can paint on what lies on disk, and reading it could take minutes.
    pixels = np.ascontiguousarray(layer.data).view(np.uint8).data if isinstance(layer.data, np.ndarray) else b""
    return zlib.crc32(pixels), zlib.crc32(table)


def _fits(own: str, layer: Layer, axes: str) -> bool:
    """Whether a layer is still what it was taken for."""
    return len(axes.replace("c", "")) == len(own) and len(axes) == layer.ndim


def as_placed(layer: Layer, kept: list[int]) -> dict[str, Any]:
    """Where some axes of a layer lie, for another one that is to lie there."""
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


def shade(color: tuple[int, int, int], seed: int) -> NDArray[np.float64]:
    """One of many like colours, by the golden ratio, so that neighbours in number differ."""
    hue, light, saturation = colorsys.rgb_to_hls(*(v / 255 for v in color))
    turn = (seed * 0.61803) % 1 - 0.5
    return np.array([*colorsys.hls_to_rgb((hue + 0.12 * turn) % 1, min(0.85, max(0.3, light + 0.3 * turn)), max(saturation, 0.5)), 1.0])


def _table(labels: Any, axes: str, classes: tuple[Class, ...], features: Any, *, painted: bool) -> Table:
    known = {str(k): np.asarray(features[k]) for k in features} if features is not None else {}
    if "index" not in known:
        return table_of(_positive(labels), axes, classes)
    there = known["size"] > 0 if "size" in known else np.ones(len(known["index"]), bool)
    old = {"id": known["index"][there], **{k: v[there] for k, v in known.items() if k not in ("index", "class")}}
    if not painted and set(columns_of(axes)) <= set(old):
        return tidy(old)
    kinds = old.get("class_id")
    new = table_of(_positive(labels), axes, classes, dict(zip(old["id"].tolist(), kinds.tolist(), strict=True)) if kinds is not None else None)
    if set(columns_of(axes)) <= set(old) and all(np.array_equal(old[k], new[k]) for k in new if k.startswith(("id", "size", "bbox"))):
        return tidy(old)
    return _with_known(new, old)


def _positive(labels: Any) -> Any:
    """Without numbers below 0, which are no segments: many programs mark with them what shall not be looked at."""
    return np.maximum(labels, 0) if isinstance(labels, np.ndarray) and labels.dtype.kind == "i" and (labels < 0).any() else labels


def _with_known(new: dict[str, NDArray[Any]], old: dict[str, NDArray[Any]]) -> Table:
    """Measured rows with what was known of them before and cannot be measured; new segments say nothing in columns of others."""
    row = {int(i): k for k, i in enumerate(old["id"])}
    for name, column in old.items():
        if name in new and name not in ("score", "status"):
            continue
        blank = np.nan if column.dtype.kind == "f" else 0 if column.dtype.kind in "iub" else ""
        usual = new[name].tolist() if name in new else [blank] * len(new["id"])
        new[name] = np.array([column[row[i]] if i in row else v for i, v in zip(new["id"].tolist(), usual, strict=True)])
    return tidy(new)
