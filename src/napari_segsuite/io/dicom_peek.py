"""What is DICOM, told from a few bytes, before pydicom is loaded: its files often have no suffix, and a series is a folder of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from napari_segsuite.errors import InputError

SUFFIXES = (".dcm", ".dicom", ".ima")
"""What the names of DICOM files end with, if anything."""

PICTURES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".nii", ".gz", ".nrrd", ".mha", ".mhd", ".zarr", ".csv", ".json")
"""Suffixes of files that are not looked into."""

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Storage classes of segmentations: with a bit or fraction per segment, and label maps."""

DIRECTORY = "1.2.840.10008.1.3.10"
"""Storage class of a DICOMDIR, the list of what lies on a medium."""

MOST_FILES = 20_000
"""A tree of folders with more files and folders is not taken for a series."""

MOST_PEEKED = 5_000
"""So many files and folders of a tree are gone through to find a first DICOM file."""

_NO_FILES = ("/proc", "/sys", "/dev")

_HEAD = 1024
_CLASS = b"\x02\x00\x02\x00UI"


def class_of(path: Path) -> str | None:
    """The storage class that a DICOM file begins with; empty where it does not say, None where it does not begin like one."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(_HEAD)
        if head[128:132] == b"DICM":
            _, found, rest = head.partition(_CLASS)
            return rest[2 : 2 + int.from_bytes(rest[:2], "little")].rstrip(b"\0 ").decode("ascii", "replace") if found else ""
    return None


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM segmentation."""
    return class_of(path) in SEGMENTATIONS


def holds_dicom(path: Path) -> bool:
    """Whether this is a DICOM file, or a folder with DICOM files in it or below, other than segmentations."""
    if not path.is_dir():
        return path.is_file() and class_of(path) is not None
    return any(_may_be_image(file) for file in _below(path, MOST_PEEKED) if file is not None)


def is_too_large(folder: Path) -> bool:
    """Whether a folder has more below it than is gone through for a first DICOM file."""
    return any(file is None for file in _below(folder, MOST_PEEKED))


def is_series_folder(path: Path) -> bool:
    """Whether DICOM files other than segmentations lie in this very folder."""
    return any(_may_be_image(file) for file in _in(path))


def files_in(folder: Path) -> list[Path]:
    """The DICOM files in a folder, sorted, without DICOMDIR; where it has none but segmentations, those below it as well.

    Raises
    ------
    InputError
        There are too many files below it: without some of them a series would not be whole.
    """
    found = []
    for file in _in(folder) if is_series_folder(folder) else _below(folder, MOST_FILES):
        if file is None:
            raise InputError(f"folder {folder} has more than {MOST_FILES} files and folders below it", do="Give the folder of one series.")
        if file.suffix.lower() in SUFFIXES or class_of(file) not in (None, DIRECTORY):
            found.append(file)
    return found


def _may_be_image(file: Path) -> bool:
    kind = class_of(file)
    return kind not in (*SEGMENTATIONS, DIRECTORY) and (kind is not None or file.suffix.lower() in SUFFIXES)


def _in(folder: Path) -> Iterator[Path]:
    """Files of a folder that may be DICOM by their name (no suffix, one of numbers, or one that is usual), or begin like it in spite of it."""
    with suppress(OSError):
        for file in sorted(folder.iterdir()):
            suffix = file.suffix.lower()
            if file.name.startswith(".") or not file.is_file():
                continue
            if suffix in SUFFIXES or not suffix[1:].isalpha() or (suffix not in PICTURES and class_of(file) is not None):
                yield file


def _below(folder: Path, most: int) -> Iterator[Path | None]:
    """The same of a folder and all below it, but for zarr stores and hidden folders; None where there is more than `most`, and no more then."""
    seen = 0
    for here, folders, files in os.walk(folder):
        if here in _NO_FILES:
            folders[:] = []
            continue
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.lower().endswith(".zarr"))
        seen += len(files) + 1
        if seen > most:
            yield None
            return
        yield from _in(Path(here))
