"""Named arrays in one run of bytes: compressed, each with a checksum, and a folder of such records that is written atomically.

Records are what a run over a large volume leaves behind while it works. One that is there is whole: it is written beside its name, forced
to the disk, and takes its name in one rename.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import lz4, zstd  # type: ignore[import-untyped]
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.commit import put
from napari_segsuite.io.place import names_in, read_range

MAGIC = b"segs1\n"
_HEAD = struct.Struct("<6sII")
_METHODS = {"zstd": zstd, "lz4": lz4}


def pack(arrays: Mapping[str, NDArray[Any]], *, quick: bool = False) -> bytes:
    """Compress arrays behind a header that says where each is, with CRC-32 checksums of header and arrays.

    Parameters
    ----------
    arrays : mapping of name to array
    quick : bool
        LZ4 instead of zstd of level 1: faster, and more bytes; for what is read soon, once.

    Examples
    --------
    >>> unpack(pack({"a": np.arange(3), "b": np.zeros((0, 2))}))["a"]
    array([0, 1, 2])
    """
    method = "lz4" if quick else "zstd"
    entries, parts, at = [], [], 0
    for name, array in arrays.items():
        flat = np.ascontiguousarray(array)
        data = _METHODS[method].compress(flat, 1) if flat.nbytes else b""
        entries.append([name, flat.dtype.str, list(array.shape), at, len(data), zlib.crc32(data), method])
        parts.append(data)
        at += len(data)
    header = json.dumps(entries).encode()
    return b"".join([_HEAD.pack(MAGIC, len(header), zlib.crc32(header)), header, *parts])


def unpack(packed: bytes, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read what `pack` made, or those of its arrays that are named.

    Raises
    ------
    ValueError
        The bytes are damaged or truncated.
    """
    magic, length, checksum = _HEAD.unpack_from(packed) if len(packed) >= _HEAD.size else (b"", 0, 0)
    header = packed[_HEAD.size : _HEAD.size + length]
    if magic != MAGIC or zlib.crc32(header) != checksum:
        raise ValueError("the header is damaged")
    out: dict[str, NDArray[Any]] = {}
    for name, kind, shape, at, size, crc, method in json.loads(header):
        if names is not None and name not in names:
            continue
        data = packed[_HEAD.size + length + at : _HEAD.size + length + at + size]
        if len(data) != size or zlib.crc32(data) != crc:
            raise ValueError(f"array {name!r} is damaged")
        out[name] = np.frombuffer(_METHODS[method].decompress(data) if size else b"", kind).reshape(shape)
    return out


class Records:
    """A folder of records by name; cheap to send to other processes, and safe to use from many at once.

    Parameters
    ----------
    folder : Path
        Must be there: a record is never put into a folder that somebody deleted, because then nobody waits for it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, data: bytes, *, firm: bool = True) -> None:
        """Write a record whole or not at all; the same name again replaces it. If `firm`, it survives a power cut from here on.

        Raises
        ------
        OutputError
            The disk is full, the folder is gone or may not be written to.
        """
        put(self.folder / name, data, firm=firm)

    def get(self, name: str, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
        """Read the arrays of a record.

        Raises
        ------
        InputError
            It is missing or damaged; a damaged one is deleted, so that it is computed anew.
        """
        path = self.folder / name
        try:
            return unpack(path.read_bytes(), names)
        except OSError as error:  # which may pass: nothing is deleted for it
            raise InputError(f"record {path} cannot be read ({error})", do="Start the same run again.") from error
        except ValueError as error:
            self.drop(name)
            found = f"record {path} was damaged ({error}) and has been deleted"
            raise InputError(found, do="Start the same run again: it is computed anew.") from error

    def names(self) -> set[str]:
        """Names of the records that are there."""
        return {name for name in names_in(self.folder) if not name.startswith(".")}

    def put_numbers(self, name: str, numbers: NDArray[np.int64]) -> None:
        """Write whole numbers that are read in parts (`get_numbers`)."""
        self.put(name, np.ascontiguousarray(numbers, "<i8").tobytes())

    def get_numbers(self, name: str, start: int, stop: int) -> NDArray[np.int64]:
        """Read a stretch of what `put_numbers` wrote.

        Raises
        ------
        InputError
            It is missing, or shorter than that.
        """
        path = self.folder / name
        try:
            found = np.frombuffer(read_range(path, 8 * start, 8 * stop), "<i8").astype(np.int64, copy=False)
        except (OSError, ValueError) as error:
            raise InputError(f"record {path} cannot be read ({error})", do="Start the same run again.") from error
        if len(found) != stop - start:
            raise InputError(f"record {path} is truncated", do="Start the same run again.")
        return found

    def drop(self, name: str) -> None:
        """Delete a record, if it is there."""
        with suppress(OSError):
            (self.folder / name).unlink(missing_ok=True)
