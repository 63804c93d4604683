"""Reading MRC2014 (https://www.ccpem.ac.uk/mrc_format/mrc2014.php), the files of electron microscopes: volumes, stacks of pictures, tomograms.

Samples are as they are behind a header of 1024 bytes and another of any length; x is fastest unless the header says otherwise. Lengths are in
angstrom.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import AGAIN, reading
from napari_segsuite.io.geometry import Described, Size
from napari_segsuite.io.planes import Samples, Stored, check_samples, open_samples, to_image
from napari_segsuite.io.volume import check_scene
from napari_segsuite.types import Image

UNIT = "angstrom"

TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
"""Number of a mode -> numpy's type; 3 and 4 are complex, 101 is of half bytes."""

_HEAD = 1024
_IMOD, _SIGNED_BYTES = 1146047817, 1
_VOLUMES = range(401, 631)
"""Numbers of a space group that stand for several volumes."""


@dataclass(frozen=True)
class Header:
    """What is taken from a header; by column, row and section, and by x, y and z.

    Attributes
    ----------
    order : str
        Byte order, as numpy has it.
    shape : tuple of int
        Columns, rows, sections.
    mode : int
    start : tuple of int
        Number of the first column, row and section.
    cells : tuple of int
        Samples that `edges` are divided into.
    edges : tuple of float
    along : tuple of int
        Which of x (1), y (2) and z (3) columns, rows and sections run along.
    group : int
        Space group: 0 for pictures, 1 for a volume, from 401 on for several.
    more : int
        Length of the second header.
    origin : tuple of float
    unsigned : bool
        Whether bytes have no sign, as IMOD can say.
    """

    order: str
    shape: tuple[int, ...]
    mode: int
    start: tuple[int, ...]
    cells: tuple[int, ...]
    edges: tuple[float, ...]
    along: tuple[int, ...]
    group: int
    more: int
    origin: tuple[float, ...]
    unsigned: bool


def read(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read an MRC file as an `Image`; see `napari_segsuite.io.read`."""
    check_scene(path, scene)
    with reading(path):
        header = _header(path)
        samples, letters = _samples(header, path)
        check_samples(samples, samples.first, path.stat().st_size - samples.first)
        return to_image([Stored(partial(open_samples, samples), samples.shape, samples.dtype)], letters, _described(header), path, axes)


def read_labels(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read an MRC file whose samples are labels."""
    return read(path, axes=axes, scene=scene)


def read_record(path: Path) -> dict[str, Any]:
    """Nothing: there is no record of ours in an MRC file."""
    return {}


def _header(path: Path) -> Header:
    with path.open("rb") as file:
        data = file.read(_HEAD)
    order = {b"\x44": "<", b"\x11": ">"}.get(data[212:213], "")
    if len(data) < _HEAD or data[208:211] != b"MAP" or not order:
        raise InputError(f"file {path} does not begin like an MRC file of 2014", "a header with the word MAP", AGAIN)

    def told(form: str, at: int) -> tuple[Any, ...]:
        return struct.unpack_from(f"{order}{form}", data, at)

    stamp, flags = told("2i", 152)
    return Header(
        order, told("3i", 0), told("i", 12)[0], told("3i", 16), told("3i", 28), told("3f", 40), told("3i", 64), told("i", 88)[0],
        told("i", 92)[0], told("3f", 196), stamp == _IMOD and not flags & _SIGNED_BYTES,
    )  # fmt: skip


def _samples(header: Header, path: Path) -> tuple[Samples, str]:
    """The samples, and the letters of their axes, slowest first."""
    kind = TYPES.get(header.mode)
    if kind is None or sorted(header.along) != [1, 2, 3] or header.more < 0:
        found = f"file {path} has samples of the mode {header.mode}, axes {header.along} and a second header of {header.more} bytes"
        raise InputError(found, f"one of the modes {', '.join(map(str, TYPES))}, and each axis once", "Save it anew with its own program.")
    letters, shape = "".join("xyz"[k - 1] for k in reversed(header.along)), header.shape[::-1]
    sections = header.cells[2]
    if header.group in _VOLUMES and 0 < sections < shape[0] and shape[0] % sections == 0:
        letters, shape = f"t{letters}", (shape[0] // sections, sections, *shape[1:])
    elif shape[letters.index("z")] == 1:
        shape, letters = tuple(n for n, a in zip(shape, letters, strict=True) if a != "z"), letters.replace("z", "")
    dtype = np.dtype(f"{header.order}{'u1' if kind == 'i1' and header.unsigned else kind}")
    steps = tuple(prod(shape[k + 1 :]) * dtype.itemsize for k in range(len(shape)))
    return Samples(path, _HEAD + header.more, shape, steps, dtype), letters


def _described(header: Header) -> Described:
    sizes: dict[str, Size] = {}
    for a, edge, n in zip("xyz", header.edges, header.cells, strict=True):
        if n > 0 and edge > 0:
            sizes[a] = (edge / n, UNIT)
    if any(header.origin):
        start = dict(zip("xyz", map(float, header.origin), strict=True))
    else:
        first = dict(zip(("xyz"[k - 1] for k in header.along), header.start, strict=True))
        start = {a: first[a] * size for a, (size, _) in sizes.items()}
    return Described(sizes, start if sizes else {})
