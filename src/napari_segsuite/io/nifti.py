"""Reading NIfTI-1 and -2: headers by nibabel, samples from disk where they are not compressed.

Which affine counts is as in nibabel and ITK: sform where its code is above 0, else qform where its code is; else only the sample sizes are known.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.errors import InputError, MissingExtra
from napari_segsuite.io.bulk import Block, unpacking
from napari_segsuite.io.faults import AGAIN, reading
from napari_segsuite.io.geometry import valid
from napari_segsuite.io.record import unpack_text
from napari_segsuite.io.units import PIXEL
from napari_segsuite.io.volume import MARK, RECORD_BYTES, Stored, check_scene, to_image
from napari_segsuite.io.world import MIRRORED, Grid
from napari_segsuite.types import Image

LENGTHS = {"meter": 1e6, "millimeter": 1e3, "micrometer": 1.0}
"""Units of length that NIfTI knows, in micrometres."""

LENGTH_CODES = {1: "meter", 2: "millimeter", 3: "micrometer"}
TIME_CODES = {8: "second", 16: "millisecond", 24: "microsecond"}
"""What the low three bits of `xyzt_units` say, and the next three."""

_KINDS = "ssstc"
_LABEL = 1002
_PAIR = {".hdr": ".img"}


def read(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read a NIfTI file as an `Image`; see `napari_segsuite.io.read`."""
    check_scene(path, scene)
    header, record = _opened(path)
    with _nibabel(path):
        stored = _stored(path, header, record)
    return to_image(stored, path, axes)


def read_labels(path: Path, *, axes: str | None = None) -> Image:
    """Read a NIfTI file whose samples are labels."""
    return read(path, axes=axes)


def read_record(path: Path) -> dict[str, Any]:
    """The record that we put into a NIfTI file; empty for the files of others."""
    return _opened(path)[1]


def hints_at_labels(path: Path) -> str:
    """What a header says that labels have and images need not; empty where there is nothing."""
    return "its header has the intent 'label'" if int(header_of(path)["intent_code"]) == _LABEL else ""


def header_of(path: Path) -> Any:
    """The header of a file, as nibabel has it."""
    return _opened(path)[0]


def grid_in(header: Any) -> Grid:
    """Where a header says that the samples lie."""
    code = int(header["xyzt_units"])
    length, time = LENGTH_CODES.get(code & 7, ""), TIME_CODES.get(code & 56, "")
    placed = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    sizes = [float(v) for v in header["pixdim"][1:5]]
    matrix = MIRRORED @ header.get_best_affine() if placed else np.diag([*sizes[:3], 1.0])
    # Millimetres where nothing is said, as every reader takes it; but samples of size 1 without a place are samples of unknown size.
    unknown = not length and not placed and sizes[:3] == [1.0, 1.0, 1.0]
    return Grid(
        matrix,
        PIXEL if unknown else length or "millimeter",
        valid((sizes[3], time or PIXEL)) if len(header.get_data_shape()) > 3 else (1.0, PIXEL),
        float(header["toffset"]),
    )


def _stored(path: Path, header: Any, record: dict[str, Any]) -> Stored:
    shape = tuple(int(n) for n in header.get_data_shape())
    if len(shape) > 5 and set(shape[5:]) == {1}:
        shape = shape[:5]
    if not 2 <= len(shape) <= 5:
        raise InputError(
            f"file {path} declares an image of shape {shape}", "2 to 5 axes: x, y, z, time and channels", "Split it, or export it again."
        )
    slope, inter = (default if v is None else float(v) for v, default in zip(header.get_slope_inter(), (1.0, 0.0), strict=True))
    dtype, offset, kinds = header.get_data_dtype(), int(header.get_data_offset()), _KINDS[: len(shape)]
    rgb = dtype.names is not None
    if rgb and "c" in kinds:
        raise InputError(f"file {path} has channels and colours (shape {shape})", "one of them", "Split the file by channel.")
    if rgb:
        shape, dtype, kinds = (dtype.itemsize, *shape), np.dtype(np.uint8), "c" + kinds
    data = path.with_suffix(_PAIR[path.suffix.lower()]) if path.suffix.lower() in _PAIR else path
    packed = _is_packed(path)
    block = Block(data, 0 if packed else offset, shape, dtype, "gzip" if packed else "", offset if packed else 0, slope, inter)
    return Stored(block, kinds, grid_in(header), record, LENGTHS, rgb, np.float32 if header.sizeof_hdr == 348 else np.float64)


def _opened(path: Path) -> tuple[Any, dict[str, Any]]:
    """The header, and our record in its extensions."""
    with _nibabel(path), reading(path), path.open("rb") as raw:
        from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
        from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader

        file = unpacking(raw, "gzip") if _is_packed(path) else raw
        start = _read(file, 348)
        size = struct.unpack("<i", start[:4])[0] if len(start) == 348 else 0
        if size in (540, struct.unpack("<i", struct.pack(">i", 540))[0]):
            start += _read(file, 540 - 348)
        elif size not in (348, struct.unpack("<i", struct.pack(">i", 348))[0]):
            found = f"file {path} does not begin like a NIfTI file ({len(start)} bytes of its header were found)"
            raise InputError(found, "a header of 348 or 540 bytes", AGAIN)
        pair = path.suffix.lower() in _PAIR
        kinds: Any = {348: (Nifti1Header, Nifti1PairHeader), 540: (Nifti2Header, Nifti2PairHeader)}
        header = kinds[len(start)][pair](start)
        _check_sizes(kinds[len(start)][pair](start, check=False), header, path)
        after = b"" if pair else _read(file, min(max(int(header.get_data_offset()) - len(start), 0), RECORD_BYTES))
    return header, _record_in(after, header.endianness, path)


def _check_sizes(stored: Any, header: Any, path: Path) -> None:
    """Notice sizes of 0, of which nibabel makes 1 without a word; where all are, and nothing else says where samples lie, they are not known."""
    if int(stored["sform_code"]) > 0:
        return
    sizes = [float(v) for v in stored["pixdim"][1 : 1 + min(max(int(stored["dim"][0]), 0), 3)]]
    if any(sizes) == all(sizes):
        if not any(sizes) and int(stored["qform_code"]) <= 0:
            header["xyzt_units"] = int(header["xyzt_units"]) & 56  # without the unit of length
            return
        if all(sizes):
            return
    told = " x ".join(f"{v:g}" for v in sizes)
    raise InputError(f"the samples of {path} have the size {told} (x, y, z)", "sizes that are not 0", "Repair its header, or export it again.")


def _record_in(extensions: bytes, order: str, path: Path) -> dict[str, Any]:
    """Our record among the extensions: each is its length, what it is, and its bytes; four bytes before all say whether there are any."""
    at = 4
    while extensions[:1] not in (b"", b"\0") and at + 8 <= len(extensions):
        size = struct.unpack(f"{order}i", extensions[at : at + 4])[0]
        if size < 8:
            break
        body = extensions[at + 8 : at + size]
        if body.startswith(MARK):
            return unpack_text(body[len(MARK) :].rstrip(b"\0"), path)
        at += size
    return {}


@contextmanager
def _nibabel(path: Path) -> Iterator[None]:
    """Turn what nibabel raises into an `InputError`, and keep it from logging the same."""
    try:
        from nibabel.spatialimages import HeaderDataError
    except ImportError as error:
        raise MissingExtra(f"reading and writing NIfTI ({path.name})", "medical") from error
    logger = logging.getLogger("nibabel.global")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    except (HeaderDataError, OverflowError, ValueError) as error:
        told = str(error).partition("\n")[0][:200]
        raise InputError(f"the header of {path} cannot be used: {told}", "a NIfTI header", AGAIN) from error
    finally:
        logger.disabled = before


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _read(file: Any, n: int) -> bytes:
    """Read `n` bytes, or as many as there are."""
    parts = []
    while n and (part := file.read(n)):
        parts.append(part)
        n -= len(part)
    return b"".join(parts)
