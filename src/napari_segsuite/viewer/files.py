"""npe2 readers and writers on top of `napari_segsuite.io`: scale, units, channels and tables survive the way through napari."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_info, show_warning

from napari_segsuite import io
from napari_segsuite.errors import InputError
from napari_segsuite.io.inputs import source_of
from napari_segsuite.io.scenes import Several
from napari_segsuite.types import Image
from napari_segsuite.viewer.layers import DEFAULTS, OURS, LayerData, from_image, image_of, sliceable
from napari_segsuite.viewer.results import from_segmentation, segmentation_of

ANNOTATIONS = {".geojson": "geojson", ".zip": "roi-zip", ".json": "coco", ".ply": "ply", ".stl": "stl", ".glb": "glb"}
"""What File > Save writes under these suffixes; all other formats are in the dialog of the Segment dock."""

EDITABLE_BYTES = 2**30
"""Labels up to this size are read into memory, where they can be painted on without touching the file; larger ones are shown from disk."""

MOST_SCENES = 20
"""Images of one file that become layers; of a file with more, the list of layers would be too long to find anything in."""


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Answer with a reader for files and stores that we know, and with None for stacks of files and for other folders."""
    kind = source_of(Path(path)) if isinstance(path, str) else None
    return read_layers if kind is not None and (kind in ("ome_zarr", "dicom") or not Path(path).is_dir()) else None  # type: ignore[arg-type]


def read_layers(path: str | Sequence[str]) -> list[LayerData]:
    """Open a file as layers: an image, the labels inside its store, or labels of their own.

    Raises
    ------
    InputError
        The file is missing or damaged, or holds very many images.
    """
    where = Path(str(path))
    if source_of(where) == "ome_zarr":
        return _store_layers(where)
    if io.holds_labels(where):
        return [_labels_layer(where)]
    try:
        return from_image(_image(where))
    except Several as error:
        return _scenes(where, error)


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a Labels layer with its table, classes and provenance.

    A file is replaced, which napari's dialog has asked about; a store that is there already is not.
    """
    target = _with_suffix(path)
    return [str(io.write(segmentation_of(data, meta), target, overwrite=io.module_of(target) != "ome_zarr"))]


def write_annotations(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a Labels layer for other programs, as the suffix says; what they cannot be told is shown."""
    from napari_segsuite.annotations import Annotated, export, lost

    target, found = Path(path), segmentation_of(data, meta)
    name = ANNOTATIONS[target.suffix.lower()]
    export([Annotated(found, f"{found.name}.tif")], target, name, overwrite=True)  # which napari's dialog has asked about
    if told := lost(found, name):
        show_info(f"{target.name} does not hold: {'; '.join(told)}.")
    return [path]


def write_image(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write an image layer with its scale, units and levels."""
    target = _with_suffix(path)
    return [str(io.write(image_of(data, meta), target, overwrite=io.module_of(target) != "ome_zarr"))]


def write_both(path: str, layers: list[LayerData]) -> list[str]:
    """Write an image layer and Labels layers into one OME-Zarr store, the labels under ``labels/``."""
    store = Path(path)
    data, meta, _ = next(layer for layer in layers if layer[2] == "image")
    written = [io.write(image_of(data, meta), store)]
    for data, meta, kind in layers:
        if kind == "labels":
            name = re.sub(r"[^\w.-]+", "_", str(meta.get("name") or "labels")).strip("_.") or "labels"
            written.append(io.write(segmentation_of(data, meta), store / "labels" / name))
    return [str(p) for p in written]


def _store_layers(path: Path) -> list[LayerData]:
    """An image with its labels, or labels by themselves."""
    import zarr

    from napari_segsuite.io import ome_zarr, store

    if io.holds_labels(path):
        return [_labels_layer(path)]
    image = io.read(path)
    node = store.open_node(Path(image.source))
    names = ome_zarr.labels_of(node) if isinstance(node, zarr.Group) else []
    return [*from_image(image), *(_labels_layer(Path(image.source) / "labels" / name) for name in names)]


def _scenes(path: Path, error: Several) -> list[LayerData]:
    """All images of a file, the first of them visible; their pixels are read when they are looked at."""
    scenes = io.list_scenes(path)
    # Series of DICOM would all be read at once, and what lies in HDF5 beside an image is often none.
    if source_of(path) in ("dicom", "hdf5") or len(scenes) > MOST_SCENES:
        do = f"Make a file of each (segsuite convert {path.name} FOLDER --scene all), and open those."
        raise InputError(error.found, error.needed, do) from error
    layers = []
    for scene in scenes:
        image = io.read(path, scene=scene.wish)
        named = replace(image, name=f"{image.name} {scene.name or scene.number}")
        layers += [(data, {**meta, "visible": meta.get("visible", True) and scene is scenes[0]}, kind) for data, meta, kind in from_image(named)]
    show_info(f"{path.name} holds {len(scenes)} images. The first is shown; the others are hidden layers.")
    return layers


def _labels_layer(path: Path) -> LayerData:
    segmentation = io.read_segmentation(path)
    for notice in segmentation.provenance.get("dicom", {}).get("lost", ()):
        show_warning(f"{path.name}: {notice}.")
    data, meta, kind = from_segmentation(segmentation)
    meta["metadata"][OURS]["source"] = str(path)
    if np.prod(data.shape, dtype=float) * np.dtype(data.dtype).itemsize <= EDITABLE_BYTES:
        array = np.asarray(data)  # painting on an array on disk would write through at once
        # Room for numbers that are painted: in 8 or 16 bits the next one could begin again at 0.
        return (array.astype(np.int32) if array.dtype.itemsize < 4 else array), meta, kind
    levels = [sliceable(level) for level in io.read(path).levels]
    return (levels, {**meta, "multiscale": True}, kind) if len(levels) > 1 else (levels[0], meta, kind)


def _image(path: Path) -> Image:
    """Read an image; where the file does not say what its axes are, show it as a stack and let the user say."""
    try:
        return io.read(path)
    except InputError as error:
        likely = re.search(r"axes='([tczyx]+)'", error.do)
        if likely is None or len(likely[1]) not in DEFAULTS:
            raise
        axes = DEFAULTS[len(likely[1])]
        show_warning(f"{error.found}. It is shown as {axes}; what the axes are can be said in the Segment dock.")
        return io.read(path, axes=axes)


def _with_suffix(path: str) -> Path:
    return Path(path) if io.module_of(Path(path)) is not None else Path(f"{path}.tif")
