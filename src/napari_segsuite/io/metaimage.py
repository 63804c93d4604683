"""Reading MetaImage (``.mha``, and ``.mhd`` with its samples beside it), the format of ITK (https://itk.org/Wiki/ITK/MetaIO/Documentation)."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.errors import InputError
from napari_segsuite.io.bulk import Block
from napari_segsuite.io.faults import AGAIN, reading
from napari_segsuite.io.record import unpack_text
from napari_segsuite.io.units import PIXEL
from napari_segsuite.io.volume import MARK, RECORD_BYTES, Stored, box_of, check_scene, neighbour, to_image
from napari_segsuite.io.world import Grid
from napari_segsuite.types import Image

TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4", "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8", "MET_LONG": "i4", "MET_ULONG": "u4",
}  # fmt: skip
"""What the format calls its types -> what numpy does; the first of each is what is written."""

_LINE = 2**16
_LINES = 1000

Fields = Mapping[str, str]


def read(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read a MetaImage file as an `Image`; see `napari_segsuite.io.read`."""
    check_scene(path, scene)
    return to_image(_stored(path), path, axes)


def read_labels(path: Path, *, axes: str | None = None) -> Image:
    """Read a MetaImage file whose samples are labels."""
    return read(path, axes=axes)


def read_record(path: Path) -> dict[str, Any]:
    """The record that we put behind the samples; empty for the files of others."""
    return dict(_stored(path).record)


def grid_in(path: Path) -> tuple[Grid, tuple[int, ...]]:
    """Where the samples of a file lie, and how many there are along its spatial axes."""
    stored = _stored(path)
    return stored.grid, box_of(stored)


def _header(path: Path) -> tuple[dict[str, str], int]:
    """The fields of a header, names in lower case, and where it ends."""
    fields: dict[str, str] = {}
    with reading(path), path.open("rb") as file:
        for _ in range(_LINES):
            name, is_there, value = file.readline(_LINE).decode("utf-8", "replace").partition("=")
            if not is_there or not name.strip().isidentifier():
                break
            fields[name.strip().lower()] = value.strip()
            if name.strip().lower() == "elementdatafile":
                return fields, file.tell()
    raise InputError(f"the header of {path} is not one of a MetaImage, or not whole", "NAME = VALUE lines up to ElementDataFile", AGAIN)


def _stored(path: Path) -> Stored:
    fields, end = _header(path)
    with reading(path, "its header"):
        missing = [name for name in ("NDims", "DimSize", "ElementType") if name.lower() not in fields]
        if missing:
            raise InputError(f"the header of {path} does not say its {', '.join(missing)}", do=AGAIN)
        n, sizes = int(fields["ndims"]), tuple(int(v) for v in fields["dimsize"].split())
        if len(sizes) != n or n not in (2, 3, 4):
            raise InputError(f"the header of {path} has {len(sizes)} sizes for {n} dimensions", "the same, from 2 to 4", AGAIN)
        channels = int(fields.get("elementnumberofchannels", 1))
        kinds = ("c" if channels > 1 else "") + "ssst"[:n]
        block = _block(fields, sizes if channels == 1 else (channels, *sizes), path, end)
        return Stored(block, kinds, _grid(fields, n), _record_behind(block, fields, path))


def _block(fields: Fields, shape: tuple[int, ...], path: Path, end: int) -> Block:
    code = TYPES.get(fields["elementtype"].upper().removesuffix("_ARRAY"))
    if code is None or not _is_true(fields.get("binarydata", "True")):
        found = f"the samples of {path} are {fields['elementtype']!r}, binary: {fields.get('binarydata', 'True')}"
        raise InputError(found, f"binary, and one of {', '.join(TYPES)}", "Save it anew with its own program.")
    big = _is_true(fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "False")))
    dtype = np.dtype(f"{'>' if big else '<'}{code}")
    named = fields["elementdatafile"]
    data, offset = (path, end) if named.upper() == "LOCAL" else (neighbour(path, named), 0)
    skip = int(fields.get("headersize", 0))
    packing = "zlib" if _is_true(fields.get("compresseddata", "False")) else ""
    if skip < 0 and not packing:
        offset, skip = data.stat().st_size - prod(shape) * dtype.itemsize, 0
    return Block(data, offset + max(skip, 0), shape, dtype, packing)


def _grid(fields: Fields, n: int) -> Grid:
    """Spacing, directions and origin as one matrix; each direction is a row of `TransformMatrix`."""
    spacing = _numbers(fields, ("elementspacing", "elementsize"), [1.0] * n)
    directions = np.array(_numbers(fields, ("transformmatrix", "rotation", "orientation"), np.eye(n).ravel().tolist())).reshape(n, n)
    origin = _numbers(fields, ("offset", "position", "origin"), [0.0] * n)
    matrix, m = np.eye(4), min(n, 3)
    matrix[:m, :m] = directions[:m, :m].T * np.array(spacing[:m])
    matrix[:m, 3] = origin[:m]
    if n == 4:
        return Grid(matrix, "millimeter", (spacing[3], PIXEL), origin[3])
    return Grid(matrix, "millimeter")


def _record_behind(block: Block, fields: Fields, path: Path) -> dict[str, Any]:
    if block.path != path:
        return {}
    size = int(fields.get("compresseddatasize", 0)) if block.packing else block.nbytes
    if not 0 < block.offset + size < path.stat().st_size:
        return {}
    with path.open("rb") as file:
        file.seek(block.offset + size)
        if file.read(len(MARK)) != MARK:
            return {}
        return unpack_text(file.read(RECORD_BYTES), path)


def _numbers(fields: Fields, names: tuple[str, ...], default: list[float]) -> list[float]:
    told = next((fields[name] for name in names if name in fields), None)
    numbers = default if told is None else [float(v) for v in told.split()]
    if len(numbers) != len(default):
        raise ValueError(f"{names[0]} has {len(numbers)} numbers instead of {len(default)}")
    return numbers


def _is_true(text: str) -> bool:
    return text.strip().lower() in ("true", "t", "yes", "1")
