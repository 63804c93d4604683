"""The samples of volume files: one block of numbers, x fastest, as it is or compressed; looked at before anything is allocated."""

from __future__ import annotations

import bz2
import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import AGAIN, reading, size_text
from napari_segsuite.io.lazy import Opened
from napari_segsuite.types import ArrayLike

LAZY_BYTES = 2**28
"""Larger blocks that are not compressed stay on disk."""

HARMLESS_BYTES = 2**26
"""Up to this size a block may claim any compression ratio."""

MOST_FROM_ONE_BYTE = {"": 1, "gzip": 1100, "zlib": 1100, "bzip2": 50_000}
"""How many bytes one stored byte can become, per compression."""

_STEP = 2**22


@dataclass(frozen=True)
class Block:
    """Samples in a file.

    Attributes
    ----------
    path : Path
    offset : int
        First byte: of the samples where they are not compressed, else of the compressed stream.
    shape : tuple of int
        Fastest axis first.
    dtype : dtype
        As stored, with its byte order.
    packing : {'', 'gzip', 'zlib', 'bzip2'}
    skip : int
        Bytes of the unpacked stream before the first sample.
    slope, inter : float
        What samples are multiplied by, and what is added then, to be what they mean.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    packing: str = ""
    skip: int = 0
    slope: float = 1.0
    inter: float = 0.0

    @property
    def nbytes(self) -> int:
        """Size of the samples in memory, as stored."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def meant(self) -> np.dtype[Any]:
        """Type of what the samples mean: floats that hold the product where there is a factor, else as stored."""
        if (self.slope, self.inter) == (1.0, 0.0):
            return self.dtype
        return np.dtype(np.float32 if self.dtype.itemsize <= (4 if self.dtype.kind == "f" else 2) else np.float64)

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        raw = np.asarray(_mapped(self)[key] if not self.packing else _unpacked(self)[key])
        return _real(self, raw)


def check(block: Block) -> None:
    """Compare what is declared with what is there.

    Raises
    ------
    InputError
        The file cannot hold it, this computer cannot, or the shape or type is none of an image.
    """
    path, shape, nbytes = block.path, block.shape, block.nbytes
    if len(shape) < 2 or min(shape) < 1 or block.dtype.kind not in "biuf":
        found = f"file {path} declares an image of shape {shape} and type {block.dtype}"
        raise InputError(found, "at least two axes, at least 1 sample along each, and whole or real numbers", "Export it again.")
    with reading(path):
        there = block.path.stat().st_size - block.offset
    told = f"file {path} declares an image of shape {shape} and type {block.dtype}, which needs {size_text(nbytes)}"
    if not block.packing and there < nbytes:
        raise InputError(f"{told}, and holds {size_text(max(there, 0))} of it", do=AGAIN)
    if block.packing and nbytes + block.skip > max(HARMLESS_BYTES, max(there, 0) * MOST_FROM_ONE_BYTE[block.packing]):
        raise InputError(f"{told}, and is {size_text(path.stat().st_size)} long, which cannot become so much", do=AGAIN)
    if block.packing and nbytes > _memory():
        found = f"{told} when it is unpacked, more than this computer has"
        raise InputError(found, do="Store it without compression (then it stays on disk), or as OME-Zarr.")


def open_block(block: Block) -> Opened:
    """What `lazy.View` opens."""
    return block, None


def load(block: Block) -> NDArray[Any]:
    """All samples of a block, as what they mean."""
    with reading(block.path):
        return _real(block, _unpacked(block) if block.packing else np.array(_mapped(block)))


def unpacking(raw: BinaryIO, packing: str) -> Any:
    """A file that reads what is in a compressed stream."""
    if packing == "gzip":
        return gzip.GzipFile(fileobj=raw)
    return bz2.BZ2File(raw) if packing == "bzip2" else _Inflated(raw)


def pour(file: Any, data: ArrayLike, axes: str, stored: str, dtype: np.dtype[Any]) -> None:
    """Write samples, one plane in memory at a time.

    Parameters
    ----------
    file : writable binary file
    data : array
    axes : str
        Its axes.
    stored : str
        The same letters in the order of the file, fastest first.
    dtype : dtype
        To store.
    """
    depth = 3 if stored.startswith("c") else 2
    plane_axes = [a for a in axes if a in stored[:depth]]
    turn = [plane_axes.index(a) for a in reversed(stored[:depth])]
    outer = stored[depth:][::-1]
    for index in np.ndindex(*(data.shape[axes.index(a)] for a in outer)):
        at = dict(zip(outer, index, strict=True))
        plane = np.asarray(data[tuple(at.get(a, slice(None)) for a in axes)])
        file.write(np.ascontiguousarray(plane.transpose(turn), dtype).data)


@contextmanager
def gzipped(file: BinaryIO) -> Iterator[Any]:
    """A file in a file, compressed quickly; the same samples give the same bytes."""
    with gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
        yield packed


class Deflating:
    """Compresses what is written to it, as zlib does, into a file; `size` bytes of it so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._pack, self.size = file, zlib.compressobj(1), 0

    def write(self, data: Any) -> None:
        """Take more."""
        self._put(self._pack.compress(data))

    def finish(self) -> None:
        """Write what is left."""
        self._put(self._pack.flush())

    def _put(self, packed: bytes) -> None:
        self.size += len(packed)
        self._file.write(packed)


class _Inflated:
    """What a zlib stream unfolds to; its checksum is looked at where it ends."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._unfold = raw, zlib.decompressobj()

    def read(self, n: int) -> bytes:
        """At most `n` bytes more; none at the end."""
        while not self._unfold.eof:
            packed = self._unfold.unconsumed_tail or self._raw.read(_STEP)
            found = self._unfold.decompress(packed, n)
            if found:
                return found
            if not packed:
                raise EOFError("the compressed stream ends early")
        return b""


def _mapped(block: Block) -> NDArray[Any]:
    return np.memmap(block.path, block.dtype, "r", block.offset, block.shape, order="F")


def _unpacked(block: Block) -> NDArray[Any]:
    buffer = np.empty(block.nbytes, np.uint8)
    with block.path.open("rb") as raw:
        raw.seek(block.offset)
        file = unpacking(raw, block.packing)
        _drop(file, block.skip)
        at = 0
        while at < len(buffer):
            part = file.read(min(_STEP, len(buffer) - at))
            if not part:
                raise EOFError(f"the samples end after {at} of {len(buffer)} bytes")
            buffer[at : at + len(part)] = np.frombuffer(part, np.uint8)
            at += len(part)
        file.read(1)  # so that the end is met, and with it the checksum
    return buffer.view(block.dtype).reshape(block.shape, order="F")


def _drop(file: Any, n: int) -> None:
    while n:
        part = file.read(min(_STEP, n))
        if not part:
            raise EOFError("the file ends before its samples")
        n -= len(part)


def _real(block: Block, raw: NDArray[Any]) -> NDArray[Any]:
    if block.meant == block.dtype and (block.slope, block.inter) == (1.0, 0.0):
        return raw
    real: NDArray[Any] = raw.astype(block.meant) * block.meant.type(block.slope) + block.meant.type(block.inter)
    return real


def _memory() -> float:
    """Bytes of memory that this computer has, where it says."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return float("inf")
