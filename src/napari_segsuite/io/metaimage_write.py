"""Writing MetaImage: one file, compressed by zlib, with our record behind the samples, where no reader of the format looks."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.errors import OutputError
from napari_segsuite.io import metaimage
from napari_segsuite.io.bulk import Deflating, pour
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.record import image_record, pack, segmentation_record
from napari_segsuite.io.volume import LENGTHS, MARK, data_of, letters_for, order_of_file, sizes_of, stored_type
from napari_segsuite.io.world import XYZ, grid_of
from napari_segsuite.types import Image, Segmentation

_DIGITS = 20


def write_image(image: Image, path: Path, *, overwrite: bool) -> None:
    """Write the finest level of an image."""
    _write(image, image_record(image), path, overwrite=overwrite)


def write_segmentation(segmentation: Segmentation, path: Path, *, overwrite: bool) -> None:
    """Write labels in the smallest type that holds them, and everything else behind them."""
    _write(segmentation, segmentation_record(segmentation), path, overwrite=overwrite)


def _write(thing: Image | Segmentation, record: dict[str, Any], path: Path, *, overwrite: bool) -> None:
    if path.suffix.lower() == ".mhd":
        raise OutputError(f"{path} would be two files, a header and its samples", "a path ending in .mha")
    spatial = order_of_file(thing, "metaimage", metaimage.grid_in, LENGTHS)
    stored = ("c" if "c" in thing.axes else "") + letters_for(thing, spatial, "t")
    dtype = stored_type(thing)
    with replacing(path, overwrite=overwrite) as part, part.open("wb") as raw:
        head = _fields(thing, stored, spatial, dtype)
        raw.write(head)
        packed = Deflating(raw)
        pour(packed, data_of(thing), thing.axes, "".join(a for a in stored if a in thing.axes), dtype.newbyteorder("<"))
        packed.finish()
        raw.write(MARK + base64.b64encode(pack(record)))
        raw.seek(head.index(b"0" * _DIGITS))
        raw.write(f"{packed.size:0{_DIGITS}d}".encode())


def _fields(thing: Image | Segmentation, stored: str, spatial: str, dtype: np.dtype[Any]) -> bytes:
    """The header, with zeros where the compressed size will stand."""
    sizes, grid = sizes_of(thing), grid_of(thing, spatial, LENGTHS)
    n = len(XYZ) + ("t" in stored)
    spacing, directions, origin = np.ones(n), np.eye(n), np.zeros(n)
    spacing[:3] = np.linalg.norm(grid.matrix[:3, :3], axis=0)
    directions[:3, :3] = (grid.matrix[:3, :3] / spacing[:3]).T
    origin[:3] = grid.matrix[:3, 3]
    if n > len(XYZ):
        spacing[3], origin[3] = grid.time[0], grid.start
    lines = {
        "ObjectType": "Image", "NDims": n, "BinaryData": "True", "BinaryDataByteOrderMSB": "False", "CompressedData": "True",
        "CompressedDataSize": "0" * _DIGITS, "TransformMatrix": _told(directions), "Offset": _told(origin), "CenterOfRotation": _told(np.zeros(n)),
        "ElementSpacing": _told(spacing), "DimSize": " ".join(str(sizes.get(a, 1)) for a in stored if a != "c"),
        **({"ElementNumberOfChannels": sizes["c"]} if "c" in sizes else {}),
        "ElementType": next(name for name, code in metaimage.TYPES.items() if code == dtype.str[1:]), "ElementDataFile": "LOCAL",
    }  # fmt: skip
    return "".join(f"{name} = {value}\n" for name, value in lines.items()).encode("ascii")


def _told(values: Any) -> str:
    return " ".join(np.format_float_positional(v, trim="-") for v in np.asarray(values, float).ravel() + 0.0)
