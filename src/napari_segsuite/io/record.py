"""What a format has no words for, as JSON beside its own words: classes, affine, provenance, the table; exact both ways.

The record is public truth's companion, not its rival: what a format can say itself (sizes, units, names) is read from there.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import AGAIN
from napari_segsuite.io.table import tidy
from napari_segsuite.types import Class, Image, Segmentation, Table

KEY = "napari-segsuite"
"""Name under which formats with named attributes keep the record."""

FORMAT = 1
MAX_BYTES = 2**30
"""An unpacked record is never larger than this; a small file cannot make us allocate more."""

UNFINISHED = "unfinished segmentation"
"""The kind of record that a store has while a run writes it."""

DEFAULT_CLASSES = (Class(1, "object"),)
"""What labels of unknown origin are said to show."""


def image_record(image: Image) -> dict[str, Any]:
    """The record of an image."""
    return {"format": FORMAT, "kind": "image", **_place(image), "channels": list(image.channels), "rgb": image.rgb, **_nifti(image)}


def segmentation_record(segmentation: Segmentation, *, table: bool = True) -> dict[str, Any]:
    """The record of a segmentation; the table is left out where the format stores it by itself."""
    classes = [{"id": c.id, "name": c.name, "color": list(c.color), "countable": c.countable} for c in segmentation.classes]
    record = {"format": FORMAT, "kind": "segmentation", **_place(segmentation), "classes": classes, "provenance": dict(segmentation.provenance)}
    record |= _nifti(segmentation)
    return {**record, "table": {name: column.tolist() for name, column in tidy(segmentation.segments).items()}} if table else record


def segmentation_of(labels: Any, place: Mapping[str, Any], record: Mapping[str, Any], segments: Table | None = None) -> Segmentation:
    """Make a segmentation from labels, the fields that say where it lies, and a record.

    Parameters
    ----------
    labels : array of integers
    place : mapping
        ``axes``, ``scale``, ``units`` and ``translate``.
    record : mapping
        As `segmentation_record` made it.
    segments : table, optional
        The table where the record has none.
    """
    stored = record.get("table")
    table = segments if segments is not None else tidy({name: _column(name, values) for name, values in (stored or {}).items()})
    return Segmentation(
        labels=labels, segments=table, classes=classes_of(record), affine=affine_of(record), name=str(record.get("name", "labels")),
        provenance=dict(record.get("provenance", {})), **place,
    )  # fmt: skip


def classes_of(record: Mapping[str, Any]) -> tuple[Class, ...]:
    """The classes that a record lists; `DEFAULT_CLASSES` where it lists none."""
    if "classes" not in record:
        return DEFAULT_CLASSES
    return tuple(Class(int(c["id"]), str(c["name"]), _color(c["color"]), bool(c["countable"])) for c in record["classes"])


def check_finished(record: Mapping[str, Any], path: Path) -> None:
    """Complain about labels that a run has not finished.

    Raises
    ------
    InputError
    """
    if record.get("kind") == UNFINISHED:
        found = f"the labels in {path} are not finished: the run that writes them is on its way, or was stopped"
        raise InputError(found, do="Run the same command again to go on; `segsuite info` tells how far it is.")


def affine_of(record: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """The affine that a record holds, if it does."""
    rows = record.get("affine")
    return None if rows is None else np.array(rows, np.float64)


def pack(record: Mapping[str, Any]) -> bytes:
    """Write a record as compressed JSON."""
    return zlib.compress(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(), 6)


def unpack_text(text: str | bytes, path: Path) -> dict[str, Any]:
    """The same of what formats that hold only text have: base64 of it.

    Raises
    ------
    InputError
    """
    try:
        packed = base64.b64decode(text)
    except ValueError as error:
        raise InputError(f"the record of classes and segments in {path} is damaged ({error})", do=AGAIN) from error
    return unpack(packed, path)


def unpack(packed: bytes, path: Path) -> dict[str, Any]:
    """Read what `pack` wrote into the file at `path`.

    Raises
    ------
    InputError
        It is damaged, larger than `MAX_BYTES`, or written by a version with another format.
    """
    try:
        unfold = zlib.decompressobj()
        text = unfold.decompress(packed, MAX_BYTES)
        record = json.loads(text)
        number = record["format"]
    except (zlib.error, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"the record of classes and segments in {path} is damaged ({type(error).__name__})", do=AGAIN) from error
    if unfold.unconsumed_tail or number != FORMAT:
        raise InputError(f"the record in {path} has format {number!r}", str(FORMAT), "Read it with the version of napari-segsuite that wrote it.")
    return dict(record)


def _place(thing: Image | Segmentation) -> dict[str, Any]:
    affine = None if thing.affine is None else np.asarray(thing.affine, np.float64).tolist()
    place = {"axes": thing.axes, "scale": _floats(thing.scale), "units": list(thing.units), "translate": _floats(thing.translate)}
    return {"name": thing.name, **place, "affine": affine}


def _nifti(thing: Image | Segmentation) -> dict[str, Any]:
    """What is to be written again if this becomes a NIfTI file, where it comes from one."""
    from napari_segsuite.io.nifti_grid import grid_told

    told = grid_told(thing)
    return {} if told is None else {"nifti": told}


def _floats(values: tuple[float, ...]) -> list[float]:
    return [float(v) for v in values]


def _color(values: Any) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in values)
    return red, green, blue


def _column(name: str, values: list[Any]) -> NDArray[Any]:
    if not values and name == "status":
        return np.array([], np.str_)
    if values and isinstance(values[0], int) and not isinstance(values[0], bool):
        return np.array(values, np.uint64 if max(values) > np.iinfo(np.int64).max else np.int64)
    return np.array([math.nan if v is None else v for v in values])
