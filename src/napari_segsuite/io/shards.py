"""Encoding blocks of labels as the files of a zarr array, each written once and by one process.

What is written is exactly what zarr writes for the same metadata (zarr 3 sharding codec with zstd and crc32c inside; zarr 2 chunks of
zstd with its checksum). Doing it here instead of through ``array[...] = block`` saves the copies and tasks of a general library: it takes
about half the processor time (``python -m benchmarks volumes``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import google_crc32c
import numpy as np
import zarr
from numcodecs import Zstd, zstd  # type: ignore[import-untyped]
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from napari_segsuite.io.commit import put
from napari_segsuite.io.faults import writing
from napari_segsuite.io.place import make_folder

LEVEL = 1
"""Of zstd: on labels, higher ones are slower and hardly smaller."""
LIMIT = {2: 1024, 3: 128}
"""Longest side of an inner chunk by the number of spatial axes: what a viewer fetches to show a part of a slice."""
SPARSE = 4099
"""Every so many voxels something is looked for in a chunk first: mostly it is there, and not everything need be looked at."""
_MISSING = 2**64 - 1


@dataclass(frozen=True)
class Grid:
    """How one level of a pyramid is cut into files.

    Attributes
    ----------
    folder : Path
        Of the zarr array.
    shape, block, inner : tuple of int
        Of the array; of a shard (zarr 3) or of what is written in one go (zarr 2); of the chunks inside.
    dtype : str
    zarr_format : {2, 3}
    """

    folder: Path
    shape: tuple[int, ...]
    block: tuple[int, ...]
    inner: tuple[int, ...]
    dtype: str
    zarr_format: Literal[2, 3] = 3

    @property
    def counts(self) -> tuple[int, ...]:
        """Blocks per axis."""
        return tuple(-(-n // b) for n, b in zip(self.shape, self.block, strict=True))

    def box(self, at: Sequence[int]) -> tuple[slice, ...]:
        """Voxels of the block at a place of the grid."""
        return tuple(slice(i * b, min((i + 1) * b, n)) for i, b, n in zip(at, self.block, self.shape, strict=True))

    def create(self, group: zarr.Group, axes: str) -> None:
        """Make the array's metadata in its group; the name is that of the folder."""
        common: dict[str, Any] = {"shape": self.shape, "dtype": np.dtype(self.dtype), "fill_value": 0}
        if self.zarr_format == 3:
            codecs = (ZstdCodec(level=LEVEL), Crc32cCodec())
            names = list(axes)
            group.create_array(self.folder.name, chunks=self.inner, shards=self.block, compressors=codecs, dimension_names=names, **common)
        else:
            keys: Any = {"name": "v2", "separator": "/"}
            packer = Zstd(level=LEVEL, checksum=True)
            group.create_array(self.folder.name, chunks=self.inner, compressors=packer, chunk_key_encoding=keys, **common)

    def write(self, at: Sequence[int], block: NDArray[Any]) -> None:
        """Write the block at a place of the grid; `block` has the shape of `box`.

        Raises
        ------
        OutputError
            The disk is full, or the folder may not be written to.
        """
        block = np.ascontiguousarray(block, self.dtype)
        if self.zarr_format == 3:
            _put(self.folder.joinpath("c", *map(str, at)), _shard(block, self.block, self.inner))
            return
        codec = Zstd(level=LEVEL, checksum=True)
        for place, chunk in _chunks(block, block.shape, self.inner):
            _put(self._file(at, place), codec.encode(chunk))

    def _file(self, at: Sequence[int], place: Sequence[int]) -> Path:
        """Of a chunk in zarr 2, by its place in a block."""
        first = [i * b // n for i, b, n in zip(at, self.block, self.inner, strict=True)]
        return self.folder.joinpath(*[str(f + p) for f, p in zip(first, place, strict=True)])


def inner_of(block: Sequence[int], spatial: int) -> tuple[int, ...]:
    """Chunks inside a block: as few equal parts per axis as the limit allows; all of it where it has no divisor near that.

    >>> inner_of((256, 300, 1), 3), inner_of((131, 131), 3), inner_of((4096, 2050), 2)
    ((128, 100, 1), (131, 131), (1024, 410))
    """
    limit = LIMIT[spatial]
    return tuple(next((n // k for k in range(1, n + 1) if n % k == 0 and limit // 4 <= n // k <= limit), n) for n in block)


def _shard(block: NDArray[Any], shape: Sequence[int], inner: Sequence[int]) -> bytes:
    """A shard: its chunks behind each other, then their places and lengths, then the checksum of those."""
    parts, index, offset = [], [], 0
    for _, chunk in _chunks(block, shape, inner):
        if not (chunk.ravel()[::SPARSE].any() or chunk.any()):
            index.append((_MISSING, _MISSING))
            continue
        data = zstd.compress(chunk, LEVEL)
        parts += [data, struct.pack("<I", google_crc32c.value(data))]
        index.append((offset, len(data) + 4))
        offset += len(data) + 4
    table = np.array(index, "<u8").tobytes()
    return b"".join([*parts, table, struct.pack("<I", google_crc32c.value(table))])


def _chunks(block: NDArray[Any], shape: Sequence[int], inner: Sequence[int]) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
    """The chunks of a block of up to `shape`, filled up with zeros where the block ends earlier."""
    for place in product(*[range(-(-n // k)) for n, k in zip(shape, inner, strict=True)]):
        chunk = block[tuple(slice(p * k, (p + 1) * k) for p, k in zip(place, inner, strict=True))]
        if chunk.shape != tuple(inner):
            chunk = np.pad(chunk, [(0, k - n) for k, n in zip(inner, chunk.shape, strict=True)])
        yield place, np.ascontiguousarray(chunk)


def _put(path: Path, data: bytes) -> None:
    with writing(path):
        make_folder(path.parent)
    put(path, data)
