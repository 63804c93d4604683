"""Writing OME-Zarr 0.4 and 0.5: images and labels with pyramids, checksums on every chunk, the table beside the labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, OptionError, OutputError
from napari_segsuite.io import ngff, pyramid
from napari_segsuite.io.commit import check_free, put_attributes, replacing
from napari_segsuite.io.faults import writing
from napari_segsuite.io.ids import largest, smallest_dtype
from napari_segsuite.io.ome_zarr import TABLE, labels_of
from napari_segsuite.io.place import has_metadata, names_in, store_at
from napari_segsuite.io.record import KEY, image_record, segmentation_record
from napari_segsuite.io.store import make_array, open_node
from napari_segsuite.io.table import tidy
from napari_segsuite.sizes import size_text
from napari_segsuite.types import SPATIAL, Image, Segmentation, Table

DEFAULT_VERSION = "0.5"
CHUNK = {"yx": {"y": 1024, "x": 1024}, "zyx": {"z": 32, "y": 256, "x": 256}}
"""Chunk sizes per spatial axes; 1 along time and channels."""

ROWS = 2**17
"""Rows per chunk of a table."""


def write_image(image: Image, path: Path, *, overwrite: bool, version: str | None = None) -> None:
    """Write an image as an OME-Zarr store of its own, with the levels it has or a new pyramid."""
    version = version or DEFAULT_VERSION
    zarr_format = ngff.check_version(version)
    dtype = np.dtype(image.data.dtype).newbyteorder("=")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise OutputError(f"OME-Zarr has no pixels of type {dtype}", "integers, booleans or floats of at most 64 bits", "Convert the image first.")
    check_replaceable(path, overwrite=overwrite, labels=False)
    with replacing(path, overwrite=overwrite) as part:
        group = zarr.open_group(store_at(part), mode="w", zarr_format=zarr_format)
        arrays = _image_levels(group, image, dtype)
        scales = scales_of(image, [a.shape for a in arrays], "mean", version)
        ome: dict[str, Any] = {"multiscales": [scales]}
        if "c" in image.axes:
            names = image.channels or tuple(f"channel {k}" for k in range(image.size("c")))
            ome["omero"] = ngff.omero(names, _limits(arrays[-1], image), dtype, rgb=image.rgb, version=version)
        group.attrs.update({**ngff.wrapped(ome, version), KEY: image_record(image)})


def write_segmentation(segmentation: Segmentation, path: Path, *, overwrite: bool, version: str | None = None) -> None:
    """Write a segmentation as a store of its own, or, where `path` is ``STORE/labels/NAME``, into an image store."""
    image_path = parent_of(path)
    if image_path is None:
        check_replaceable(path, overwrite=overwrite, labels=True)
        with replacing(path, overwrite=overwrite) as part:
            _fill(part, segmentation, version or DEFAULT_VERSION, None)
        return
    own, factors = like_image(image_path, segmentation.axes, version, segmentation.labels.shape)
    check_free(path, overwrite=overwrite)
    prepare_parent(path, own)
    with replacing(path, overwrite=overwrite) as part:
        _fill(part, segmentation, own, factors)
    register(path, own)


def parent_of(path: Path) -> Path | None:
    """The image store that labels at `path` belong to, where it has the form ``STORE/labels/NAME``; None for a store of its own.

    Raises
    ------
    OutputError
        It lies somewhere else inside a store.
    """
    above = path.parent.parent
    if path.parent.name == "labels" and has_metadata(above):
        return above
    if any(p.suffix.lower() == ".zarr" for p in path.parents):
        raise OutputError(f"store {path} lies inside another store", "a store of its own, or STORE/labels/NAME")
    return None


def prepare_parent(path: Path, version: str) -> zarr.Group:
    """Make the ``labels`` group of an image store, where it is missing."""
    with writing(path):
        return zarr.open_group(store_at(path.parent), mode="a", zarr_format=ngff.VERSIONS[version])


def register(path: Path, version: str) -> None:
    """List the finished labels ``STORE/labels/NAME`` in their image."""
    image_path = path.parent.parent
    parent = prepare_parent(path, version)
    image = open_node(image_path)
    with writing(path):
        listed = labels_of(image) if isinstance(image, zarr.Group) else []
        parent.attrs.update(ngff.wrapped({"labels": [*(n for n in listed if n != path.name), path.name]}, version))
        _consolidate(image_path, version)


def _fill(part: Path, segmentation: Segmentation, version: str, factors: Sequence[pyramid.Factors] | None) -> None:
    """Write a label image with its pyramid, metadata and table to an empty folder."""
    group = zarr.open_group(store_at(part), mode="w", zarr_format=ngff.check_version(version))
    labels, axes = segmentation.labels, segmentation.axes
    dtype = smallest_dtype(largest(labels))
    level = make_array(group, "0", tuple(labels.shape), dtype, _chunks(axes, labels.shape), axes, every_chunk=True)
    pyramid.copy(labels, level)
    shapes = [level.shape]
    for k, step in enumerate(pyramid.plan_factors(axes, labels.shape) if factors is None else factors):
        shape = pyramid.shrunk(level.shape, step)
        lower = make_array(group, str(k + 1), shape, dtype, _chunks(axes, shape), axes)
        pyramid.shrink(level, lower, step, labels=True)
        level = lower
        shapes.append(shape)
    segments = tidy(segmentation.segments)
    write_labels_table(group, segments)
    told = ngff.image_label(segments, segmentation.classes, inside=factors is not None, version=version)
    ome = {"multiscales": [scales_of(segmentation, shapes, "nearest", version)], "image-label": told}
    put_attributes(part, {**ngff.wrapped(ome, version), KEY: segmentation_record(segmentation, table=False)})


def _image_levels(group: zarr.Group, image: Image, dtype: np.dtype[Any]) -> list[zarr.Array[Any]]:
    given = image.levels if len(image.levels) > 1 else image.levels[:1]
    arrays = []
    for k, source in enumerate(given):
        arrays.append(make_array(group, str(k), tuple(source.shape), dtype, _chunks(image.axes, source.shape), image.axes))
        pyramid.copy(source, arrays[-1])
    for step in pyramid.plan_factors(image.axes, arrays[-1].shape):
        shape = pyramid.shrunk(arrays[-1].shape, step)
        lower = make_array(group, str(len(arrays)), shape, dtype, _chunks(image.axes, shape), image.axes)
        pyramid.shrink(arrays[-1], lower, step, labels=False)
        arrays.append(lower)
    return arrays


def scales_of(thing: Image | Segmentation, shapes: Sequence[tuple[int, ...]], method: str, version: str) -> dict[str, Any]:
    """The multiscale metadata; a mean lies in the middle of its block, a picked voxel where it was."""
    levels, total = [], np.ones(len(thing.axes))
    for k, shape in enumerate(shapes):
        if k:
            total = total * np.array(pyramid.factors_between([shapes[k - 1], shape])[0])
        shift = (total - 1) / 2 if method == "mean" else np.zeros(len(total))
        scale = [float(s * f) for s, f in zip(thing.scale, total, strict=True)]
        levels.append((str(k), scale, [float(t + s * d) for t, s, d in zip(thing.translate, thing.scale, shift, strict=True)]))
    return ngff.multiscale(thing.axes, thing.units, levels, name=thing.name, method=method, version=version)


def _limits(lowest: zarr.Array[Any], image: Image) -> list[tuple[float, float]]:
    """Contrast window per channel, from the lowest level."""
    if image.rgb and lowest.dtype == np.uint8:
        return [(0.0, 255.0)] * image.size("c")
    axis = image.axes.index("c")
    limits = []
    for k in range(lowest.shape[axis]):
        values = np.asarray(lowest[(slice(None),) * axis + (k,)]).astype(np.float64)
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        limits.append((low, high if high > low else low + 1.0))
    return limits


def write_labels_table(group: zarr.Group, segments: Table) -> None:
    """The table below `TABLE`: one array (columns, rows) per type, and text as numbers into a list of the texts that occur."""
    table = group.create_group(TABLE)
    listed, stacks = [], dict[str, list[NDArray[Any]]]()
    for name, column in segments.items():
        entry: dict[str, Any] = {"name": name}
        if column.dtype.kind == "U":
            texts, column = np.unique(column, return_inverse=True)
            entry["categories"], column = texts.tolist(), column.astype(np.int64)
        stack = stacks.setdefault(column.dtype.name, [])
        listed.append({**entry, "array": column.dtype.name, "at": len(stack)})
        stack.append(column)
    for kind, stack in stacks.items():
        shape = (len(stack), len(stack[0]))
        array = make_array(table, kind, shape, stack[0].dtype, (shape[0], max(1, min(ROWS, shape[1]))), "", every_chunk=True)
        for start in range(0, shape[1], ROWS):  # a copy of all of a large table would take much room
            array[:, start : start + ROWS] = np.stack([column[start : start + ROWS] for column in stack])
    table.attrs.update({"columns": listed, "rows": len(next(iter(segments.values()), ()))})


def like_image(image_path: Path, axes: str, version: str | None, shape: Sequence[int]) -> tuple[str, list[pyramid.Factors]]:
    """Version and pyramid factors that labels inside an image store must have: those of the image.

    Raises
    ------
    OptionError
        Another version is wished.
    OutputError
        The store is no image, or the labels have axes that it has not.
    """
    image = open_node(image_path)
    own = next(v for v, number in ngff.VERSIONS.items() if number == image.metadata.zarr_format)
    if version not in (None, own):
        raise OptionError(f"store {image_path} is OME-Zarr {own}, and labels inside it cannot be {version}", do="Leave version empty.")
    if not isinstance(image, zarr.Group):
        raise OutputError(f"store {image_path} is a plain array", "an image group to write labels into")
    ome = ngff.ome_of(image.attrs.asdict())
    try:
        scales = ome["multiscales"][0]
        shapes = [_shape_of(image[d["path"]]) for d in scales["datasets"]]
        stored, _ = ngff.axes_of(scales, len(shapes[0]))
    except (KeyError, IndexError, TypeError, InputError) as error:
        raise OutputError(f"store {image_path} is not an OME-Zarr image", "an image group to write labels into") from error
    if not set(axes) <= set(stored):
        raise OutputError(f"the labels have axes {axes!r} and the image in {image_path} has {stored!r}", "labels of that image")
    size = dict(zip(stored, shapes[0], strict=True))
    if [size[a] for a in axes] != list(shape) or any(size[a] > 1 for a in stored if a not in axes and a != "c"):
        found = f"the labels are {size_text(shape, axes)}, and the image in {image_path} is {size_text(shapes[0], stored)}"
        raise OutputError(found, "labels of that image", "Choose another output.")
    per_level = pyramid.factors_between(shapes)
    return own, [tuple(step[stored.index(a)] for a in axes) for step in per_level]


def _shape_of(node: zarr.Array[Any] | zarr.Group) -> tuple[int, ...]:
    if isinstance(node, zarr.Group):
        raise KeyError("a group where a level should be")
    return tuple(node.shape)


def check_replaceable(path: Path, *, overwrite: bool, labels: bool) -> None:
    """Labels never replace an image store, and nothing replaces a folder that is not a store."""
    if path.exists() and (not path.is_dir() or not (has_metadata(path) or not names_in(path))):
        kind = "folder" if path.is_dir() else "file"
        raise OutputError(f"{kind} {path} is there and is not a zarr store, so it is not replaced", do="Choose another name, or remove it yourself.")
    if path.exists() and labels and has_metadata(path) and "image-label" not in ngff.ome_of(open_node(path).attrs.asdict()):
        raise OutputError(f"store {path} holds an image, which labels must not replace", do=f"Write them into it with {path / 'labels' / 'NAME'}.")
    check_free(path, overwrite=overwrite)


def _consolidate(image_path: Path, version: str) -> None:
    """Renew consolidated metadata where there is some: readers would not see the new labels otherwise."""
    if version == "0.4":
        stale = (image_path / ".zmetadata").is_file()
    else:
        stale = bool(json.loads((image_path / "zarr.json").read_text(encoding="utf-8")).get("consolidated_metadata"))
    if stale:
        zarr.consolidate_metadata(store_at(image_path), zarr_format=ngff.VERSIONS[version])


def _chunks(axes: str, shape: Sequence[int]) -> tuple[int, ...]:
    sizes = CHUNK["zyx" if "z" in axes else "yx"]
    return tuple(max(1, min(n, sizes[a])) if a in SPATIAL else 1 for a, n in zip(axes, shape, strict=True))
