"""Reading labels from single files: with what was written into them, else with what lies beside them, else with what they show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import reading
from napari_segsuite.io.geometry import PLACE
from napari_segsuite.io.ids import from_pixels
from napari_segsuite.io.inputs import sidecars_of
from napari_segsuite.io.record import classes_of, segmentation_of
from napari_segsuite.io.table import read_table, table_of
from napari_segsuite.types import Image, Segmentation, Table

FEW_GREYS, SHARE_ALIKE, ROUGH = 6, 0.75, 0.15
"""Of a mask with soft edges: it has more values than this besides 0; fewer than this part of its greys have a neighbour of their own value, as nearly
all pixels of real labels have; and they differ from the median around them by less than this part of the largest."""


def read_segmentation(path: Path, module: Any, axes: str | None = None, **scene: int | str) -> Segmentation:
    """Read a labels file with the module of its kind; see `napari_segsuite.io.read_segmentation`."""
    record: dict[str, Any] = module.read_record(path)
    image: Image = module.read_labels(path, axes=axes, **scene)
    place = {name: getattr(image, name) for name in PLACE}
    if "c" in image.axes:
        raise InputError(f"file {path} has several channels or colours (axes {image.axes!r}, shape {image.shape})", "one number per pixel for labels")
    labels = from_pixels(np.asarray(image.data), str(path))
    if record.get("kind") == "segmentation":
        return replace(segmentation_of(labels, place, record), affine=image.affine)
    _check_sharp(labels, path)
    run, table = _beside(path)
    fresh = table_of(labels, image.axes, classes_of(run))
    provenance = {name: value for name, value in run.items() if name != "classes"}
    told = {**run, "name": image.name, "provenance": provenance}
    return replace(segmentation_of(labels, place, told, fresh if table is None else _joined(fresh, table)), affine=image.affine)


def _check_sharp(labels: NDArray[Any], path: Path) -> None:
    """Refuse a mask with soft edges, as drawing programs, resampling and JPEG make them: its greys would be taken for objects.

    The pixels of an object have neighbours of their own number; the greys of an edge hardly have, and yet change little from one to the next.

    Raises
    ------
    InputError
    """
    if labels.dtype != np.uint8 or labels.ndim < 2:
        return
    counts = np.bincount(labels.ravel(), minlength=256)
    greys = np.flatnonzero(counts[1:]) + 1
    if len(greys) <= FEW_GREYS:
        return
    from scipy import ndimage

    top = int(np.argmax(counts[1:])) + 1
    planes = labels.reshape(-1, *labels.shape[-2:])
    plane = planes[int(np.argmax([np.count_nonzero((p > 0) & (p != top)) for p in planes]))]
    soft = (plane > 0) & (plane != top)
    wide = np.pad(plane, 1)
    around = np.stack([wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:]])
    alike = (around == plane).any(0) | ~around.any(0)  # or it is alone
    if not soft.any() or alike[soft].mean() >= SHARE_ALIKE:
        return
    rough = np.abs(plane[soft].astype(float) - ndimage.median_filter(plane, 3)[soft]).mean() / float(greys[-1])
    if rough < ROUGH:
        found = f"the labels in {path} look like a mask with soft edges: {len(greys) - 1} greys between 0 and {greys[-1]} that run into each other"
        do = "Draw or export it without smoothing and not as JPEG, or threshold it first."
        raise InputError(found, "one number per object, with sharp edges", do)


def _beside(path: Path) -> tuple[dict[str, Any], Table | None]:
    """Classes and provenance, and the table, from the files beside the labels, as far as they are there."""
    beside = sidecars_of(path)
    run: dict[str, Any] = {}
    if beside["run"].is_file():
        with reading(beside["run"]):
            run = dict(json.loads(beside["run"].read_text(encoding="utf-8")))
    return run, read_table(beside["segments"]) if beside["segments"].is_file() else None


def _joined(fresh: Table, stored: Table) -> Table:
    """The stored table if it is about these labels; else theirs, with what is known of the segments that both have."""
    same = np.array_equal(fresh["id"], stored["id"]) and ("size" not in stored or np.array_equal(fresh["size"], stored["size"]))
    if same:
        return {**fresh, **stored}
    row_of = {int(i): k for k, i in enumerate(stored["id"].tolist())}
    rows = np.array([row_of.get(int(i), -1) for i in fresh["id"].tolist()], np.int64)
    known = {name: stored[name] for name in ("class_id", "score", "status") if name in stored and len(stored[name])}
    return {**fresh, **{name: np.where(rows >= 0, column[rows], fresh[name]) for name, column in known.items()}}
