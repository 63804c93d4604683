"""The PNG files of data sets: numbers as grey, as a palette or as colours, with our record where the format has no other place for it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.annotations.categories import from_record
from napari_segsuite.annotations.checks import check_shape
from napari_segsuite.annotations.items import place_of
from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import reading
from napari_segsuite.io.record import KEY, pack, segmentation_record, unpack_text
from napari_segsuite.types import Class, Segmentation

MODES = {"L", "P", "I", "I;16", "I;16B", "RGB"}


def write_png(pixels: NDArray[Any], path: Path, palette: NDArray[np.uint8] | None = None, record: Mapping[str, Any] | None = None) -> None:
    """Write (h, w) or (h, w, 3) integers as PNG.

    Parameters
    ----------
    palette : (256, 3) uint8, optional
        The colours that 8-bit numbers are shown in.
    record : mapping, optional
        What else belongs to the labels, as text that other programs do not see.
    """
    import PIL.Image
    from PIL.PngImagePlugin import PngInfo

    picture = PIL.Image.fromarray(np.ascontiguousarray(pixels))
    if palette is not None:
        picture.putpalette(palette.tobytes())
    told = PngInfo()
    if record is not None:
        told.add_text(KEY, base64.b64encode(pack(record)).decode())
    picture.save(path, format="PNG", pnginfo=told)


def read_png(path: Path, shape: tuple[int, int] | None = None) -> tuple[NDArray[Any], dict[str, Any]]:
    """Read the numbers of a PNG, and our record if there is one.

    Parameters
    ----------
    shape : tuple of int, optional
        What it must have.

    Raises
    ------
    InputError
        It is missing or damaged, larger than an image can be, or has another size; nothing is unpacked then.
    """
    import PIL.Image

    with reading(path), PIL.Image.open(path) as picture:
        found = picture.height, picture.width
        check_shape(found, str(path))
        if shape is not None and found != tuple(shape):
            raise InputError(f"{path} has {found[0]} x {found[1]} pixels, and its image {shape[0]} x {shape[1]}", "the same height and width")
        if picture.mode not in MODES:
            raise InputError(f"{path} is a picture of the mode {picture.mode}", "numbers, a palette or three colours")
        picture.load()
        text = picture.info.get(KEY)
        return np.asarray(picture), unpack_text(text, path) if isinstance(text, str) else {}


def record_of(flat: Segmentation) -> dict[str, Any]:
    """What the picture of labels cannot say: classes, scores, and where they lie."""
    record = segmentation_record(flat)
    table = {name: record["table"][name] for name in ("id", "class_id", "score", "status")}
    return {"format": record["format"], "classes": record["classes"], "table": table, **place_of(flat)}


def rows_of(record: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The rows of a record's table by id: class_id, score and status."""
    table = record.get("table", {})
    columns = [table.get(name, ()) for name in ("id", "class_id", "score", "status")]
    return {int(i): {"class_id": int(c), "score": float(s), "status": str(t)} for i, c, s, t in zip(*columns, strict=True)}


def classes_in(record: Mapping[str, Any], path: Path) -> tuple[Class, ...] | None:
    """The classes of a record; None where there is none."""
    return from_record(record, str(path)) if "classes" in record else None
