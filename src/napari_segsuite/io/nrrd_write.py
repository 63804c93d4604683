"""Writing NRRD: one file, compressed by gzip, in LPS, with our record as a key."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from napari_segsuite.errors import OutputError
from napari_segsuite.io import nrrd
from napari_segsuite.io.bulk import gzipped, pour
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.record import KEY, image_record, pack, segmentation_record
from napari_segsuite.io.units import PIXEL, symbol_of
from napari_segsuite.io.volume import data_of, letters_for, order_of_file, sizes_of, stored_type
from napari_segsuite.io.world import XYZ, grid_of
from napari_segsuite.types import SPATIAL, Image, Segmentation

_KINDS = {"t": "time", "c": "list"}


def write_image(image: Image, path: Path, *, overwrite: bool) -> None:
    """Write the finest level of an image."""
    _write(image, image_record(image), path, overwrite=overwrite)


def write_segmentation(segmentation: Segmentation, path: Path, *, overwrite: bool) -> None:
    """Write labels in the smallest type that holds them, with everything else as a key of the header."""
    _write(segmentation, segmentation_record(segmentation), path, overwrite=overwrite)


def _write(thing: Image | Segmentation, record: dict[str, Any], path: Path, *, overwrite: bool) -> None:
    if path.suffix.lower() == ".nhdr":
        raise OutputError(f"{path} would be two files, a header and its samples", "a path ending in .nrrd")
    spatial = order_of_file(thing, "nrrd", nrrd.grid_in, nrrd.LENGTHS)
    stored, dtype = letters_for(thing, spatial), stored_type(thing)
    head = [*_fields(thing, stored, dtype), f"{KEY}:={base64.b64encode(pack(record)).decode()}", "", ""]
    with replacing(path, overwrite=overwrite) as part, part.open("wb") as raw:
        raw.write("\n".join(head).encode("ascii"))
        with gzipped(raw) as file:
            pour(file, data_of(thing), thing.axes, "".join(a for a in stored if a in thing.axes), dtype.newbyteorder("<"))


def _fields(thing: Image | Segmentation, stored: str, dtype: Any) -> list[str]:
    sizes = sizes_of(thing)
    grid = grid_of(thing, "".join(a for a in stored if a in SPATIAL), nrrd.LENGTHS)
    directions = [_vector(grid.matrix[:3, k]) for k in range(len(XYZ))]
    others = [a for a in stored if a not in SPATIAL]
    name = next(name for name, code in nrrd.TYPES.items() if code == dtype.str[1:])
    unit = _symbol(grid.unit)
    step = ["nan"] * len(XYZ) + [repr(grid.time[0]) if a == "t" else "nan" for a in others]
    units = [f'"{unit}"'] * len(XYZ) + [f'"{_symbol(grid.time[1])}"' if a == "t" else '""' for a in others]
    return [
        "NRRD0005",
        f"type: {name}",
        f"dimension: {len(stored)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(sizes.get(a, 1)) for a in stored)}",
        *([f"spacings: {' '.join(step)}", f"units: {' '.join(units)}"] if "t" in stored else []),
        f"space directions: {' '.join(directions + ['none'] * len(others))}",
        f"kinds: {' '.join(['domain'] * len(XYZ) + [_KINDS[a] for a in others])}",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(grid.matrix[:3, 3])}",
        *(["space units: " + " ".join([f'"{unit}"'] * len(XYZ))] if grid.unit != PIXEL else []),
    ]


def _symbol(unit: str) -> str:
    """What stands for a unit, in ASCII."""
    symbol = (symbol_of(unit) or "").replace("µ", "u")
    return symbol if symbol.isascii() else unit


def _vector(values: Any) -> str:
    return f"({','.join(repr(float(v)) for v in values)})"
