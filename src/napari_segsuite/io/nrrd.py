"""Reading NRRD (http://teem.sourceforge.net/nrrd/format.html): attached and detached headers; samples as they are, or compressed by gzip or bzip2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.errors import InputError
from napari_segsuite.io.bulk import Block
from napari_segsuite.io.faults import AGAIN, reading
from napari_segsuite.io.geometry import Size
from napari_segsuite.io.record import KEY, unpack_text
from napari_segsuite.io.units import PIXEL, name_of
from napari_segsuite.io.volume import RECORD_BYTES, Stored, box_of, check_scene, neighbour, to_image
from napari_segsuite.io.world import MIRRORED, Grid, Matrix
from napari_segsuite.types import Image

LENGTHS = {"meter": 1e6, "centimeter": 1e4, "millimeter": 1e3, "micrometer": 1.0, "nanometer": 1e-3}
"""Units of length that are written as such, in micrometres; the format takes any text."""

_TYPES = {
    "i1": "signed char|int8|int8_t", "u1": "uchar|unsigned char|uint8|uint8_t", "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t", "i4": "int|signed int|int32|int32_t", "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t", "f4": "float", "f8": "double",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
}  # fmt: skip
TYPES = {name: code for code, names in _TYPES.items() for name in names.split("|")}
"""What the format calls its types -> what numpy does."""

_WORLDS = {
    "right-anterior-superior": MIRRORED, "ras": MIRRORED, "left-anterior-superior": np.diag([1.0, -1.0, 1.0, 1.0]),
    "las": np.diag([1.0, -1.0, 1.0, 1.0]),
}  # fmt: skip
_PACKINGS = {"raw": "", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_VECTOR = re.compile(r"\([^()]*\)|none", re.IGNORECASE)
_COUNTED = {"domain", "space", "???", "none"}

Fields = Mapping[str, str]


def read(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read an NRRD file as an `Image`; see `napari_segsuite.io.read`."""
    check_scene(path, scene)
    return to_image(_stored(path), path, axes)


def read_labels(path: Path, *, axes: str | None = None) -> Image:
    """Read an NRRD file whose samples are labels."""
    return read(path, axes=axes)


def read_record(path: Path) -> dict[str, Any]:
    """The record that we put into an NRRD file; empty for the files of others."""
    return _record_of(_header(path)[0], path)


def hints_at_labels(path: Path) -> str:
    """What a header says that labels have and images need not; empty where there is nothing."""
    return "its header describes segments, as 3D Slicer writes them" if "segment0_id" in _header(path)[0] else ""


def grid_in(path: Path) -> tuple[Grid, tuple[int, ...]]:
    """Where the samples of a file lie, and how many there are along its spatial axes."""
    stored = _stored(path)
    return stored.grid, box_of(stored)


def _record_of(fields: Fields, path: Path) -> dict[str, Any]:
    return unpack_text(fields[KEY], path) if KEY in fields else {}


def _header(path: Path) -> tuple[dict[str, str], int]:
    """The fields and keys of a header, names in lower case, and where it ends."""
    fields: dict[str, str] = {}
    with reading(path), path.open("rb") as file:
        magic = file.readline(16)
        if not re.fullmatch(rb"NRRD000[1-5]\r?\n", magic):
            raise InputError(f"file {path} does not begin like an NRRD file", "a first line from NRRD0001 to NRRD0005", AGAIN)
        while line := file.readline(RECORD_BYTES):
            text = line.decode("utf-8", "replace").rstrip()
            if not text:
                break
            if not text.startswith("#"):
                name, _, value = text.partition(":")
                fields[name.strip().lower()] = value.removeprefix("=").strip()
        return fields, file.tell()


def _stored(path: Path) -> Stored:
    fields, end = _header(path)
    with reading(path, "its header"):
        missing = [name for name in ("type", "dimension", "sizes", "encoding") if name not in fields]
        if missing:
            raise InputError(f"the header of {path} does not say its {', '.join(missing)}", do=AGAIN)
        sizes = tuple(int(n) for n in fields["sizes"].split())
        if len(sizes) != int(fields["dimension"]):
            raise InputError(f"the header of {path} has {len(sizes)} sizes for {fields['dimension']} dimensions", do=AGAIN)
        vectors = _vectors(fields, len(sizes))
        kinds = _kinds(fields, vectors, path)
        grid = _grid(fields, kinds, vectors, len(sizes))
        rgb = "color" in fields.get("kinds", "").lower()
        return Stored(_block(fields, sizes, path, end), kinds, grid, _record_of(fields, path), LENGTHS, rgb)


def _block(fields: Fields, sizes: tuple[int, ...], path: Path, end: int) -> Block:
    packing = _PACKINGS.get(fields["encoding"].lower())
    code = TYPES.get(fields["type"].lower())
    if packing is None or code is None:
        found = f"the samples of {path} are of type {fields['type']!r} with the encoding {fields['encoding']!r}"
        raise InputError(found, f"numbers, and one of the encodings {', '.join(_PACKINGS)}", "Save it anew with its own program.")
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "").lower())
    if order is None and code[1] != "1":
        raise InputError(f"the header of {path} does not say its byte order", "endian: little or big", AGAIN)
    named = fields.get("data file", fields.get("datafile"))
    data, offset = (path, end) if named is None else (neighbour(path, named), 0)
    lines, skip = (int(fields.get(f"{one} skip", fields.get(f"{one}skip", 0))) for one in ("line", "byte"))
    if lines or skip < -1 or (skip and packing and skip < 0):
        raise InputError(f"the header of {path} skips {lines} lines and {skip} bytes", "no lines", "Save it anew with its own program.")
    dtype = np.dtype(f"{order or '|'}{code}")
    if skip < 0:
        offset = data.stat().st_size - prod(sizes) * dtype.itemsize
    return Block(data, offset if packing or skip < 0 else offset + skip, sizes, dtype, packing, skip if packing else 0)


def _vectors(fields: Fields, n: int) -> list[list[float] | None]:
    """The direction of each axis; None for those that are not in space."""
    found = [_numbers(one) if one.startswith("(") else None for one in _VECTOR.findall(fields.get("space directions", ""))]
    if found and len(found) != n:
        raise ValueError(f"{len(found)} directions for {n} axes")
    return [None if v is None or not any(map(isfinite, v)) else v for v in found] or [None] * n


def _kinds(fields: Fields, vectors: list[list[float] | None], path: Path) -> str:
    """What each axis is: ``s``, ``t`` or ``c``."""
    told = fields.get("kinds", "").lower().split() or ["???"] * len(vectors)
    placed = any(v is not None for v in vectors)
    kinds = ""
    for kind, vector in zip(told, vectors, strict=True):
        in_time = kind == "time" or (vector is not None and len(vector) > 3 and not any(vector[:3]))
        counted = kind in _COUNTED and (vector is not None or not placed)
        kinds += "t" if in_time else "s" if counted or (vector is not None) else "c"
    if kinds.count("s") not in (2, 3) or kinds.count("t") > 1 or kinds.count("c") > 1:
        found = f"the axes of {path} (kinds {' '.join(told)}, sizes {fields['sizes']}) are not those of an image"
        raise InputError(found, "two or three in space, at most one in time and one of channels", "Split the file.")
    return kinds


def _grid(fields: Fields, kinds: str, vectors: list[list[float] | None], n: int) -> Grid:
    matrix = np.eye(4)
    space, origin = fields.get("space", "").lower(), _numbers(fields.get("space origin", ""))
    spacings = [float(v) for v in fields.get("spacings", "").split()] or [float("nan")] * n
    quoted = re.findall(r'"([^"]*)"', fields.get("space units", "")) or re.findall(r'"([^"]*)"', fields.get("units", ""))
    unit = next((name_of(u) for u in quoted if name_of(u) != PIXEL), "millimeter" if space else PIXEL)
    spatial = [k for k, kind in enumerate(kinds) if kind == "s"]
    for column, k in enumerate(spatial):
        vector = vectors[k]
        if vector is not None:
            matrix[:, column] = 0
            matrix[: len(vector[:3]), column] = vector[:3]
        elif isfinite(spacings[k]) and spacings[k] > 0:
            matrix[column, column] = spacings[k]
    if len(spatial) == 2:
        matrix[:3, 2] = _across(matrix)
    matrix[: len(origin[:3]), 3] = origin[:3]
    return Grid(_world(space) @ matrix, unit, _step(kinds, vectors, spacings, fields), 0.0)


def _across(matrix: Matrix) -> Any:
    """The third axis of a plane: one unit long, at right angles to it."""
    normal = np.cross(matrix[:3, 0], matrix[:3, 1])
    length = np.linalg.norm(normal)
    return normal / length if length else np.array([0.0, 0, 1])


def _step(kinds: str, vectors: list[list[float] | None], spacings: list[float], fields: Fields) -> Size:
    if "t" not in kinds:
        return 1.0, PIXEL
    k = kinds.index("t")
    vector, units = vectors[k], re.findall(r'"([^"]*)"', fields.get("units", ""))
    step = vector[3] if vector is not None and len(vector) > 3 else spacings[k]
    return (step, name_of(units[k]) if len(units) > k else PIXEL) if isfinite(step) and step > 0 else (1.0, PIXEL)


def _world(space: str) -> Matrix:
    """From the world of a file to LPS; worlds without a body are taken as they are."""
    return _WORLDS.get(space.removesuffix("-time"), np.eye(4))


def _numbers(text: str) -> list[float]:
    return [float(v) for v in text.strip("() ").split(",")] if text else []
