"""What a file is by its first bytes, so that one whose name says something else is told as that, and not as damaged."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from napari_segsuite.errors import InputError
from napari_segsuite.io.geometry import stem_of

_HEAD = 1024
_NIFTI = (348, 540)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    name : str
    module : str
        Of this package that reads it; empty where none does.
    suffix : str
        What the names of such files end with.
    do : str
        What to do with a file that no module reads.
    """

    name: str
    module: str = ""
    suffix: str = ""
    do: str = ""


_UNPACK = "Unpack it first."
_GZIP = Kind("a gzip file", "gzip", ".nii.gz", _UNPACK)
_NEITHER = "Give an image file."

_STARTS: tuple[tuple[bytes, Kind], ...] = (
    (b"II*\0", Kind("a TIFF file", "tiff", ".tif")),
    (b"MM\0*", Kind("a TIFF file", "tiff", ".tif")),
    (b"II+\0", Kind("a TIFF file", "tiff", ".tif")),
    (b"MM\0+", Kind("a TIFF file", "tiff", ".tif")),
    (b"\x89PNG\r\n\x1a\n", Kind("a PNG file", "raster", ".png")),
    (b"\xff\xd8\xff", Kind("a JPEG file", "raster", ".jpg")),
    (b"GIF8", Kind("a GIF file", "raster", ".gif")),
    (b"NRRD000", Kind("an NRRD file", "nrrd", ".nrrd")),
    (b"ZISRAWFILE", Kind("a CZI file", "czi", ".czi")),
    (b"\xda\xce\xbe\x0a", Kind("an ND2 file", "nd2", ".nd2")),
    (b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file", "hdf5", ".h5")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind("a compound file, as OIB files are", "fluoview", ".oib")),
    (b"\xff\xfe[\0", Kind("a file of settings, as OIF files are", "fluoview", ".oif")),
    (b"\x1f\x8b\x08", _GZIP),
    (b"PK\3\4", Kind("a ZIP archive", do=_UNPACK)),
    (b"BZh", Kind("a bzip2 file", do=_UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", do=_UNPACK)),
    (b"Rar!\x1a\x07", Kind("a RAR archive", do=_UNPACK)),
    (b"\xfd7zXZ\0", Kind("an xz file", do=_UNPACK)),
    (b"%PDF-", Kind("a PDF", do=_NEITHER)),
    (b"\x93NUMPY", Kind("a NumPy file", do="Open it in Python, where arrays are images too, or save it as TIFF.")),
)

_TESTS: tuple[tuple[Callable[[bytes], bool], Kind], ...] = (
    (lambda head: head[128:132] == b"DICM", Kind("a DICOM file", "dicom", ".dcm")),
    (lambda head: head[:4] == b"\x70\0\0\0" and head[8:9] == b"\x2a", Kind("a LIF file", "lif", ".lif")),
    (lambda head: head[208:211] == b"MAP" and head[212:213] in (b"\x44", b"\x11"), Kind("an MRC file", "mrc", ".mrc")),
    (lambda head: _is_nifti(head), Kind("a NIfTI file that is not compressed", "nifti", ".nii")),
    (lambda head: head[:10].lower() == b"objecttype" or head[:5].lower() == b"ndims", Kind("a MetaImage", "metaimage", ".mha")),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", Kind("a WebP file", "raster", ".webp")),
    (lambda head: head[:2] == b"BM" and head[6:10] == bytes(4), Kind("a BMP file", "raster", ".bmp")),
    (lambda head: head[257:262] == b"ustar", Kind("a tar archive", do=_UNPACK)),
    (
        lambda head: head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")),
        Kind("a web page, as servers answer with in the place of a file", do="Get the file again."),
    ),
)

_ALSO = {"imaris": {"hdf5"}}
"""Modules that read files which begin like those of others."""


def kinds_of(path: Path) -> list[Kind]:
    """What a file begins like; several where its first bytes can be read as more than one (a DICOM file may begin like a TIFF)."""
    head = b""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(_HEAD)
    return [kind for start, kind in _STARTS if head.startswith(start)] + [kind for test, kind in _TESTS if test(head)]


def check_kind(path: Path, module: str | None) -> None:
    """Refuse a file that is of another kind than its name says; one that begins like none that is known is left for its reader to judge.

    Parameters
    ----------
    path : Path
    module : str or None
        What would read it by its name, if anything.

    Raises
    ------
    InputError
        Says what it is, and what to call it.
    """
    packed = module == "nifti" and path.suffix.lower() == ".gz"
    own = {"gzip"} if packed else {module, *_ALSO.get(module or "", ())}
    found = kinds_of(path)
    if not found or any(kind.module in own for kind in found):
        return
    kind = found[0]
    said = f"and its name ends in {''.join(path.suffixes[-2:] if packed else path.suffixes[-1:])}" if path.suffix else "which its name does not say"
    if not kind.module or (kind is _GZIP and module != "nifti"):
        raise InputError(f"file {path} is {kind.name}, {said}", do=kind.do)
    raise InputError(f"file {path} is {kind.name}, {said}", f"a name that ends in {kind.suffix}", f"Rename it to {stem_of(path)}{kind.suffix}.")


def _is_nifti(head: bytes) -> bool:
    sizes = {struct.unpack(f"{order}i", head[:4])[0] for order in "<>"} if len(head) >= 4 else set()
    return bool(sizes & set(_NIFTI)) and (head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2"))
