"""What is looked at before a TIFF is decoded: tifffile reads what is left of a damaged file, and says so only in its log."""

from __future__ import annotations

import os
import re
import struct
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import AGAIN, size_text

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

HARMLESS_BYTES = 2**26
"""Up to this size an image may claim any compression ratio."""

MOST_FROM_ONE_BYTE = {1: 1, 5: 4096, 8: 1100, 32946: 1100, 32773: 128}
"""How many bytes one stored byte can become, per compression scheme; others: `MOST`."""

MOST = 50_000

MOST_PAGES = 2**18
"""All pages are looked at before the first pixel is read; with more than these that takes minutes."""

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of one value, per type of a tag."""


class _Bytes:
    """The numbers in a TIFF, in its byte order and width; every read beyond the end is an error that names the page."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(8)
        self._order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        magic = struct.unpack(f"{self._order}H", head[2:4])[0] if self._order and len(head) == 8 else 0
        if magic not in (42, 43):
            raise InputError(f"file {path} does not begin like a TIFF ({size_text(self.size)} long)", do=AGAIN)
        self.big = magic == 43
        self.entry = 20 if self.big else 12

    def number(self, at: int, kind: str, page: int) -> int:
        """Read one number: ``H`` is short, ``n`` a directory's length, ``o`` an offset."""
        code = {"H": "H", "n": "Q" if self.big else "H", "o": "Q" if self.big else "I"}[kind]
        width = struct.calcsize(f"{self._order}{code}")
        check_end(at + width, self.size, page, self._path)
        self._file.seek(at)
        value: int = struct.unpack(f"{self._order}{code}", self._file.read(width))[0]
        return value


def check_chain(path: Path) -> None:
    """Follow the chain of pages from the header to its end.

    Raises
    ------
    InputError
        The file is no TIFF, it has too many pages, or the chain or a tag of the first page leads beyond its end, or the chain in a circle.
    """
    with path.open("rb") as opened:
        file = _Bytes(opened, path)
        at = file.number(8 if file.big else 4, "o", 0)
        seen: set[int] = set()
        while at:
            if len(seen) >= MOST_PAGES:
                found = f"file {path} has more than {MOST_PAGES} pages, which takes too long to look through"
                raise InputError(found, "fewer", "Convert it to OME-Zarr with the program that wrote it, or split it.")
            if at in seen:
                raise InputError(f"the pages of file {path} point in a circle after page {len(seen)}", do=AGAIN)
            n, page = file.number(at, "n", len(seen)), len(seen)
            seen.add(at)
            first = at + (8 if file.big else 2)
            if page == 0:
                _check_tags(file, first, n, path)
            at = file.number(first + n * file.entry, "o", page)


def _check_tags(file: _Bytes, at: int, n: int, path: Path) -> None:
    """Notice a description that was cut off: tifffile would take the pages without it."""
    width = 8 if file.big else 4
    for entry in range(at, at + n * file.entry, file.entry):
        nbytes = _TYPE_SIZES.get(file.number(entry + 2, "H", 0), 0) * file.number(entry + 4, "o", 0)
        if nbytes > width:
            check_end(file.number(entry + 4 + width, "o", 0) + nbytes, file.size, 0, path)


def check_series(tif: TiffFile, series: TiffPageSeries, path: Path) -> None:
    """Compare what is declared with what is stored; a few bytes must not make us allocate gigabytes.

    Raises
    ------
    InputError
    """
    size = path.stat().st_size
    if not series.shape or 0 in series.shape or series.dtype is None:
        raise InputError(f"file {path} holds an image of shape {series.shape}", "at least 1 sample along every axis, of a known type")
    page = series.keyframe
    ratio = MOST_FROM_ONE_BYTE.get(int(page.compression), MOST)
    if series.nbytes > max(HARMLESS_BYTES, size * ratio) or (ratio == 1 and series.nbytes > max(size * 8, 4096)):
        found = f"file {path} is {size_text(size)} long and declares an image of shape {series.shape}, which would need {size_text(series.nbytes)}"
        raise InputError(found, do=AGAIN)
    pieces = prod(page.chunked)
    if series.nbytes > HARMLESS_BYTES and len(page.dataoffsets) < pieces:
        found = f"the pages of file {path} (shape {page.shape}) should be stored in {pieces} pieces each, and {len(page.dataoffsets)} are there"
        raise InputError(found, do=AGAIN)
    _check_description(tif, series, path)
    if series.dataoffset is not None:
        check_end(series.dataoffset + series.nbytes, size, 0, path)
        return
    for number, one in enumerate(series.pages):
        if one is None:
            raise InputError(f"page {number} of {len(series.pages)} is missing from file {path}", do=AGAIN)
        end = max((at + n for at, n in zip(one.dataoffsets, one.databytecounts, strict=True)), default=0)
        check_end(end, one.parent.filehandle.size, number, path)


def _check_description(tif: TiffFile, series: TiffPageSeries, path: Path) -> None:
    """Notice when a description and the pages contradict each other, of which tifffile believes the one or the other without a word."""
    pages = len(tif.pages)
    shape = " x ".join(map(str, series.keyframe.shape))
    if tif.is_ome and series.kind != "ome":
        declared = dict(re.findall(r'\bSize([XYZCT])="(\d+)"', tif.ome_metadata or ""))
        told = ", ".join(f"{declared[a]} {a.lower()}" for a in "TCZYX" if a in declared)
        raise InputError(f"the OME-XML of file {path} ({told}) does not fit its {pages} pages (of {shape})", do=AGAIN)
    if series.kind not in ("ome", "imagej"):
        images = int((tif.imagej_metadata or {}).get("images", 1)) if tif.is_imagej else 1
        if images > pages:
            raise InputError(f"ImageJ's description in file {path} declares {images} planes, and {pages} are there", do=AGAIN)
        return
    # Of several images the planes of all count; files of a set have theirs elsewhere too, and ImageJ describes more than 4 GB by one page.
    planes = sum(prod(one.shape) // max(prod(one.keyframe.shape), 1) for one in tif.series)
    elsewhere = any(page is not None and page.parent is not tif for page in (series.pages[0], series.pages[-1]))
    extra = planes < pages and tif.pages[-1].aspage().shape == series.keyframe.shape
    lacking = planes > pages and series.kind == "imagej" and pages > 1
    if not elsewhere and (extra or lacking):
        who = "the OME-XML of" if series.kind == "ome" else "ImageJ's description in"
        found = (
            f"{who} file {path} describes {planes} planes (axes {series.axes}, shape {series.shape}), and the file holds {pages} pages (of {shape})"
        )
        raise InputError(found, "as many of each", "Export it again, or correct its description, which is the first page's tag ImageDescription.")


def check_end(end: int, size: int, page: int, path: Path) -> None:
    """Complain when something of a page lies beyond the end of its file."""
    if end > size:
        raise InputError(f"file {path} is truncated: page {page} should reach to byte {end}, and the file ends at {size}", do=AGAIN)
