"""From a path to the module that reads it, by its name and its first bytes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from napari_segsuite.errors import InputError
from napari_segsuite.io.dicom_peek import MOST_PEEKED, is_too_large
from napari_segsuite.io.faults import check_is_there, reading
from napari_segsuite.io.inputs import check_extra, known, source_of
from napari_segsuite.io.kinds import check_kind
from napari_segsuite.io.place import is_remote


def slices_of(path: Path, files: str, scene: int | str | None) -> Any:
    """The module that reads folders of slices."""
    if scene is not None:
        raise InputError(f"scene={scene!r} chooses an image in a file, and the files of {path} are one image along {files!r}", "one of the two")
    check_is_there(path)
    return importlib.import_module("napari_segsuite.io.slices")


def reader_of(path: Path) -> Any:
    """The module that reads what is at a path.

    Raises
    ------
    InputError, MissingExtra
        There is nothing, or nothing that can be read.
    """
    check_is_there(path)
    with reading(path):
        name = source_of(path)
    if not is_remote(path) and path.is_file():
        check_kind(path, name)
    if name is None:
        if path.is_dir():
            if is_too_large(path):
                found = f"folder {path} is no zarr store, and no DICOM series was found among the first {MOST_PEEKED} files and folders below it"
                raise InputError(found, "the folder of one series, a zarr store, or an image file")
            do = "Give one of its files; or, if they are the slices of one image, say so: files='z' (--files z)."
            raise InputError(f"folder {path} is neither a DICOM series nor a zarr store", "one of these, or an image file", do)
        raise InputError(f"file {path} is not a kind of file that can be read", f"a file ending in {known()}, a DICOM series, or a zarr folder")
    if name not in ("ome_zarr", "dicom") and path.is_dir():
        raise InputError(f"{str(path)!r} is a folder", "an image file")
    if is_remote(path) and name != "ome_zarr":
        raise InputError(f"{path} is a file at a URL, of which only parts can be read where it is a zarr store", do="Copy it to a disk first.")
    check_extra(path)
    return importlib.import_module(f"napari_segsuite.io.{name}")
