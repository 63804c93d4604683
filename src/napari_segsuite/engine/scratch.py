"""A folder that lives as long as a run: pixels for other processes to map, and one progress counter per chunk.

Plain files work the same with every executor and operating system, and what a killed process leaves is deleted with the folder.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.errors import OutputError
from napari_segsuite.io.faults import writing
from napari_segsuite.io.place import is_remote, store_at
from napari_segsuite.types import Image

LARGEST_PICKLE = 2**20
TRIES = 10


@dataclass(frozen=True)
class Stored:
    """An array in a ``.npy`` file, opened in the process that reads it; pickles as its path."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, key: Any) -> Any:
        return np.load(self.path, mmap_mode="r", allow_pickle=False)[key]


@contextlib.contextmanager
def scratch() -> Generator[Path, None, None]:
    """Make a folder and delete it whatever happens.

    A run in another process may still hold files open for a moment after it was killed, on Windows; what cannot be deleted
    then is left to the system's temporary folder.
    """
    folder = Path(tempfile.mkdtemp(prefix="segsuite-"))
    try:
        yield folder
    finally:
        for _ in range(TRIES):  # a worker that has not heard of the end yet may put a file there while it is being emptied
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.02)


def portable(image: Image, folder: Path) -> Image:
    """Make an image cheap to send: lazy arrays that can be pickled stay what they are, all others go to a file, plane by plane."""
    return replace(image, levels=(_portable(image.data, folder / "pixels.npy"),))


def count(path: Path, done: int, total: int) -> None:
    """Leave word of how far a chunk is; replaced whole, so that a reader never sees half of it.

    Raises
    ------
    FileNotFoundError
        The folder is gone: the run is over, and nobody waits for this chunk.
    """
    part = path.with_suffix(".part")
    try:
        part.write_text(f"{done} {total}")
        os.replace(part, path)
    except FileNotFoundError:
        raise
    except OSError:  # a full disk; on Windows, the coordinator reading just now: the next word will do
        return


def counted(path: Path) -> tuple[int, int]:
    """Read what `count` left; (0, 0) before the first word."""
    try:
        done, total = path.read_text().split()
    except (OSError, ValueError):
        return 0, 0
    return int(done), int(total)


def _portable(data: Any, path: Path) -> Any:
    if isinstance(data, Stored) or (not isinstance(data, np.ndarray) and _small(data)):
        return data
    dtype = np.dtype(data.dtype).newbyteorder("=")
    if is_remote(path):
        return _uploaded(data, path.with_suffix(".zarr"), dtype)
    header = {"descr": dtype.str, "fortran_order": False, "shape": tuple(data.shape)}
    size = int(np.prod(data.shape)) * dtype.itemsize
    with _room(path, size):
        file = path.open("wb")
    with file:  # not a memory map: a full disk would end the process instead of raising
        with _room(path, size):
            np.lib.format.write_array_header_1_0(file, header)
        for at in np.ndindex(*data.shape[:-2]):
            plane = np.ascontiguousarray(data[at], dtype)
            with _room(path, size):
                file.write(plane.data)
                file.flush()
    return Stored(str(path), tuple(data.shape), dtype)


def _uploaded(data: Any, path: Path, dtype: np.dtype[Any]) -> Any:
    """The same at a URL, as a zarr array of one plane per chunk, since other machines read it from there."""
    import zarr

    with writing(path):
        plane = (1,) * (data.ndim - 2) + tuple(data.shape[-2:])
        array = zarr.create_array(store_at(path), shape=data.shape, dtype=dtype, chunks=plane, overwrite=True)
        for at in np.ndindex(*data.shape[:-2]):
            array[at] = np.ascontiguousarray(data[at], dtype)
    return array


@contextlib.contextmanager
def _room(path: Path, size: int) -> Generator[None, None, None]:
    """Say in plain words that the folder is full or not writable."""
    try:
        yield
    except OSError as error:
        mine = path.is_relative_to(tempfile.gettempdir())
        found = f"the {'temporary ' if mine else ''}folder {path.parent} cannot take {size / 1e9:.2g} GB of pixels: {error}"
        raise OutputError(found, do="Free some space, or set TMPDIR." if mine else "Free some space.") from error


def _small(data: Any) -> bool:
    try:
        return len(pickle.dumps(data)) < LARGEST_PICKLE
    except (pickle.PicklingError, TypeError, AttributeError, ValueError, NotImplementedError):
        return False
