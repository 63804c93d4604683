"""Reading Imaris 5.5 files (``.ims``): HDF5 with a volume per resolution, time point and channel, and what they are in attributes of letters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise, product, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import AGAIN, reading
from napari_segsuite.io.geometry import Described, Size
from napari_segsuite.io.hdf5 import dataset, opened
from napari_segsuite.io.lazy import Opened
from napari_segsuite.io.markup import number_of
from napari_segsuite.io.planes import Stored, forwards, to_image
from napari_segsuite.io.units import PIXEL, name_of
from napari_segsuite.io.volume import check_scene
from napari_segsuite.types import Image

if TYPE_CHECKING:
    import h5py

_INFO = "DataSetInfo"


@dataclass(frozen=True)
class Level:
    """One resolution of an image.

    Attributes
    ----------
    path : Path
    number : int
        From 0, the finest.
    shape : tuple of int
        Of t, c, z, y, x.
    dtype : dtype
    chunks : tuple of int
    """

    path: Path
    number: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]

    def at(self, t: int, c: int) -> str:
        """Path of a volume."""
        return f"DataSet/ResolutionLevel {self.number}/TimePoint {t}/Channel {c}"

    @property
    def counted(self) -> tuple[int, ...]:
        """The axes of more than one sample, and y and x."""
        return tuple(k for k, n in enumerate(self.shape) if n > 1 or k > 2)


def read(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read an Imaris file as an `Image`; see `napari_segsuite.io.read`."""
    check_scene(path, scene)
    with reading(path), opened(path) as file:
        levels = _levels(file, path)
        kept = levels[0].counted
        letters = "".join("tczyx"[k] for k in kept)
        stored = [
            Stored(partial(open_level, one, kept), tuple(one.shape[k] for k in kept), one.dtype, tuple(one.chunks[k] for k in kept)) for one in levels
        ]
        return to_image(stored, letters, _described(file, levels[0]), path, axes)


def read_labels(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read an Imaris file whose samples are labels."""
    return read(path, axes=axes, scene=scene)


def read_record(path: Path) -> dict[str, Any]:
    """Nothing: there is no record of ours in an Imaris file."""
    return {}


def open_level(level: Level, kept: tuple[int, ...]) -> Opened:
    """What `lazy.View` opens: a level with those of its axes that are kept."""
    import h5py

    file = h5py.File(level.path, "r")
    return _Volumes(file, level, kept), file.close


class _Volumes:
    """Volumes by time and channel as one array."""

    def __init__(self, file: h5py.File, level: Level, kept: tuple[int, ...]) -> None:
        self._file, self._level, self._kept = file, level, kept

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        """A part, all axes of which are there."""
        given = dict(zip(self._kept, key, strict=True))
        t, c, *inside = (given.get(k, slice(None)) for k in range(5))
        times, channels = (range(*one.indices(n)) for one, n in zip((t, c), self._level.shape, strict=False))
        box, rest = forwards(tuple(inside), self._level.shape[2:])  # stored volumes are padded to whole chunks
        parts = [[self._file[f"{self._level.at(time, channel)}/Data"][box][rest] for channel in channels] for time in times]
        whole = np.array(parts, self._level.dtype)
        return whole.reshape([whole.shape[k] for k in self._kept])


def _levels(file: h5py.File, path: Path) -> list[Level]:
    """The resolutions, finest first.

    Raises
    ------
    InputError
        A volume is missing, or one is smaller than it should be.
    """
    if "DataSet/ResolutionLevel 0" not in file or f"{_INFO}/Image" not in file:
        raise InputError(f"file {path} holds no image as Imaris 5.5 writes it", "a group DataSet/ResolutionLevel 0", AGAIN)
    levels: list[Level] = []
    for number in takewhile(lambda k: f"DataSet/ResolutionLevel {k}" in file, range(64)):
        group = file[f"DataSet/ResolutionLevel {number}"]
        times = sum(name.startswith("TimePoint ") for name in group)
        channels = sum(name.startswith("Channel ") for name in group["TimePoint 0"])
        first = group["TimePoint 0/Channel 0"]
        size = tuple(int(_text(first, f"ImageSize{a}") or _text(file[f"{_INFO}/Image"], a)) for a in "ZYX")
        level = Level(path, number, (times, channels, *size), np.dtype(first["Data"].dtype), (1, 1, *(first["Data"].chunks or size)))
        for t, c in product(range(times), range(channels)):
            _check(dataset(file, f"{level.at(t, c)}/Data", path), level, path)
        if levels and (level.dtype != levels[0].dtype or level.shape[:2] != levels[0].shape[:2]):
            break
        levels.append(level)
    return levels


def _check(array: h5py.Dataset, level: Level, path: Path) -> None:
    fits = array.ndim == 3 and all(0 < n <= there for n, there in zip(level.shape[2:], array.shape, strict=True))
    if not fits or array.dtype != level.dtype or array.dtype.kind not in "iuf":
        found = f"dataset {array.name!r} of {path} has the shape {array.shape} and type {array.dtype}"
        raise InputError(found, f"at least {level.shape[2:]}, {level.dtype}", AGAIN)


def _text(node: Any, name: str) -> str:
    """An attribute, which is stored as an array of letters; empty where it is not there."""
    value = node.attrs.get(name)
    return b"".join(np.atleast_1d(value).astype("S1").tolist()).decode("latin-1").strip() if value is not None else ""


def _described(file: h5py.File, level: Level) -> Described:
    about = file[f"{_INFO}/Image"]
    unit = name_of(_text(about, "Unit") or "um")
    sizes: dict[str, Size] = {}
    start: dict[str, float] = {}
    for k, a in enumerate("xyz"):
        low, high = (number_of(_text(about, f"{end}{k}")) for end in ("ExtMin", "ExtMax"))
        n = level.shape[4 - k]
        if high > low and unit != PIXEL:  # from the outer side of the first sample to that of the last
            sizes[a] = ((high - low) / n, unit)
            start[a] = low + (high - low) / n / 2
    if step := _interval(file):
        sizes["t"] = (step, "second")
    names = tuple(_text(file[where], "Name") if (where := f"{_INFO}/Channel {c}") in file else "" for c in range(level.shape[1]))
    return Described(sizes, start, names)


def _interval(file: h5py.File) -> float:
    """Seconds between time points, if they are equally far apart to a tenth of a second; else 0."""
    about = file.get(f"{_INFO}/TimeInfo")
    told = list(takewhile(bool, (_text(about, f"TimePoint{k}") for k in range(1, 100_000)))) if about is not None else []
    try:
        moments = [datetime.fromisoformat(one) for one in told]
    except ValueError:
        return 0.0
    steps = [(b - a).total_seconds() for a, b in pairwise(moments)]
    return float(np.mean(steps)) if steps and max(steps) - min(steps) < 0.1 else 0.0
