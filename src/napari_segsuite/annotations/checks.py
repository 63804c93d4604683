"""What annotation files of others may hold, looked at before it is used: every complaint names the file and the field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import reading, size_text

MOST_PIXELS = 2**30
"""An annotated image has no more pixels than this, whatever its file declares."""
MOST_BYTES = 2**31
"""Nor has a JSON file more bytes."""

T = TypeVar("T")
_KINDS: dict[Any, str] = {
    int: "a whole number",
    str: "text",
    list: "a list",
    dict: "an object",
    (int, float): "a number",
    (dict, list): "run lengths or polygons",
    (str, list): "text or a list",
}


def load(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError
    """
    with reading(path):
        if (size := path.stat().st_size) > MOST_BYTES:
            raise InputError(f"file {path} has {size_text(size)}", f"at most {size_text(MOST_BYTES)} of JSON", "Split the data set.")
        return json.loads(path.read_text(encoding="utf-8-sig"))


def get(entry: Any, name: str, kind: type[T] | tuple[type, ...], where: str) -> Any:
    """A field of an entry of a JSON file that must be there and be of a kind.

    Raises
    ------
    InputError
    """
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} is {_short(entry)}", "an object with named fields")
    if name not in entry:
        raise InputError(f"{where} has no field {name!r}", _KINDS[kind])
    value = entry[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{where} has {_short(value)} as its {name!r}", _KINDS[kind])
    return value


def shape_of(entry: Any, where: str, names: tuple[str, str] = ("height", "width")) -> tuple[int, int]:
    """The height and width that an entry declares, before anything is made of this size.

    Raises
    ------
    InputError
    """
    height, width = (int(get(entry, name, int, where)) for name in names)
    check_shape((height, width), where)
    return height, width


def check_shape(shape: tuple[int, ...], where: str) -> None:
    """Refuse a size that no image has, or that would not fit.

    Raises
    ------
    InputError
    """
    pixels = 1
    for n in shape:
        pixels *= n
    if min(shape) < 1 or pixels > MOST_PIXELS:
        raise InputError(f"{where} declares an image of {' x '.join(map(str, shape))} pixels", f"1 to {MOST_PIXELS} pixels")


def points_of(values: Any, shape: Sequence[int], where: str, least: int = 3) -> NDArray[np.float64]:
    """The corners of a polygon, from pairs or from one list of x, y, x, y, ...; those of a closed one without the repeated first.

    Raises
    ------
    InputError
        There are less than `least`, one is not a number, or lies far outside of an image of this shape.
    """
    try:
        points = np.asarray(values, np.float64)
        points = points.reshape(-1, 2) if points.ndim == 1 else points[:, :2]
    except (ValueError, TypeError, IndexError):
        raise InputError(f"{where} has {_short(values)} as a polygon", "pairs of numbers") from None
    if len(points) > 2 and (points[0] == points[-1]).all():
        points = points[:-1]
    if len(points) < least or points.shape[1] != 2:
        raise InputError(f"{where} has a polygon of {len(points)} points", f"at least {least}")
    far = 4 * max(shape) + 1000
    if not np.isfinite(points).all() or np.abs(points).max() > far:
        raise InputError(f"{where} has a polygon with points far outside of its image ({shape[-2]} x {shape[-1]} pixels)", "x and y in pixels")
    return points


def name_of(file_name: str, where: str) -> str:
    """The name, without folders and suffix, that the labels of an image are written under.

    Raises
    ------
    InputError
        It is no file name, or would lead out of its folder.

    Examples
    --------
    >>> name_of("train/cells 1.ome.tif", "image 1")
    'cells 1'
    """
    from napari_segsuite.io.geometry import stem_of

    inside(file_name, where)
    return stem_of(Path(PurePosixPath(file_name).name))


def inside(file_name: str, where: str) -> PurePosixPath:
    """A path of a file below the folder of a data set.

    Raises
    ------
    InputError
        It leads out of there.
    """
    path = PurePosixPath(file_name)
    odd = not path.name or path.is_absolute() or ".." in path.parts or re.search(r"[\\\x00-\x1f]|^[A-Za-z]:", file_name)
    if odd or path.name.startswith("."):
        raise InputError(f"{where} names its file {file_name!r}", "a file name, in folders below that of the data set", "Nothing was written.")
    return path


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
