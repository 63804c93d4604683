"""Reading HDF5: any dataset of numbers with two to five axes is an image; several in one file are told apart by their paths.

What the axes are is taken from the tags of ilastik and vigra, from the labels of dimensions, or from three sample sizes that stand beside a volume.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import reading
from napari_segsuite.io.geometry import Described, Size, unsaid
from napari_segsuite.io.lazy import Opened
from napari_segsuite.io.planes import MOST_EMPTY, Stored, check_extent, forwards, to_image
from napari_segsuite.io.scenes import Scene, choose
from napari_segsuite.types import AXES, Image

if TYPE_CHECKING:
    import h5py

_SIZES = {"element_size_um": "micrometer", "resolution": "nanometer"}
"""Attributes with the size of a sample along z, y and x, and their unit: of Fiji and PlantSeg, and of CREMI."""

_OFFSETS = {"resolution": "offset"}


def read(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read an HDF5 file as an `Image`; see `napari_segsuite.io.read`."""
    with reading(path), opened(path) as file:
        name = choose(_scenes(file), scene, path).name
        array = dataset(file, name, path)
        sized = next(((word, unit) for word, unit in _SIZES.items() if np.shape(array.attrs.get(word)) == (3,)), None)
        letters = axes or _axes(array, path, volume=sized is not None)
        described = _described(array, letters, *sized) if sized else Described()
        return to_image([Stored(partial(open_dataset, path, name), array.shape, array.dtype, array.chunks)], letters, described, path, axes)


def scenes(path: Path) -> list[Scene]:
    """The datasets in an HDF5 file that can be images."""
    with reading(path), opened(path) as file:
        return _scenes(file)


def read_labels(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read an HDF5 file whose samples are labels."""
    return read(path, axes=axes, scene=scene)


def read_record(path: Path) -> dict[str, Any]:
    """Nothing: there is no record of ours in an HDF5 file."""
    return {}


def open_dataset(path: Path, name: str) -> Opened:
    """What `lazy.View` opens."""
    import h5py

    file = h5py.File(path, "r")
    return _Dataset(file[name]), file.close


class _Dataset:
    """A dataset that can be read backwards too."""

    def __init__(self, array: h5py.Dataset) -> None:
        self._array = array

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        """A part, all axes of which are there."""
        box, rest = forwards(key, self._array.shape)
        return np.asarray(self._array[box])[rest]


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An open file."""
    import h5py

    with h5py.File(path, "r") as file:
        yield file


def dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """A dataset of a file whose samples are in it.

    Raises
    ------
    InputError
        They are in other files, or there are far more than the file can hold.
    """
    array = file[name]
    if array.external or array.is_virtual or array.file.filename != file.filename:
        raise InputError(f"dataset {name!r} of {path} lies in other files", "one that lies in the file itself", "Copy it into one file.")
    # What was never written takes no room, and is the fill value.
    check_extent(array.shape, array.dtype, max(array.id.get_storage_size(), path.stat().st_size // MOST_EMPTY), path)
    return array


def _scenes(file: h5py.File) -> list[Scene]:
    """Paths and shapes of what can be images; links to elsewhere are not followed."""
    found: dict[str, tuple[int, ...]] = {}

    def look(name: str, node: Any) -> None:
        shape = getattr(node, "shape", None) or ()
        if 2 <= len(shape) <= len(AXES) and min(shape) > 0 and min(shape[-2:]) > 1 and node.dtype.kind in "biuf":
            found[name] = shape

    file.visititems(look)
    return [Scene(k, name, shape) for k, (name, shape) in enumerate(found.items())]


def _axes(array: h5py.Dataset, path: Path, *, volume: bool) -> str:
    """What a dataset says that its axes are."""
    tags = array.attrs.get("axistags")
    if tags is not None:
        return "".join(str(axis["key"]) for axis in json.loads(tags)["axes"])
    labels = "".join(dimension.label[:1].lower() for dimension in array.dims)
    if len(labels) == array.ndim and set(labels) <= set(AXES):
        return labels
    if array.ndim == 2 or (volume and array.ndim == 3):
        return "zyx"[-array.ndim :]
    raise unsaid(array.shape, f"dataset {array.name!r} of {path}")


def _described(array: h5py.Dataset, letters: str, word: str, unit: str) -> Described:
    sizes: dict[str, Size] = {a: (float(size), unit) for a, size in zip("zyx", array.attrs[word], strict=True) if a in letters}
    offset = array.attrs.get(_OFFSETS.get(word, ""))
    start = dict(zip("zyx", map(float, offset), strict=True)) if np.shape(offset) == (3,) else {}
    return Described(sizes, start)
