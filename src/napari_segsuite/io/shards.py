"""Encoding blocks of labels as the files of a zarr array, each written once and by one process.

What is written is exactly what zarr writes for the same metadata (zarr 3 sharding codec with zstd and crc32c inside; zarr 2 chunks of
zstd with its checksum). Doing it here instead of through ``array[...] = block`` saves the copies and tasks of a general library: it takes
about half the processor time (``python -m benchmarks volumes``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
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

LEVEL, LOWER_LEVEL = 1, -1
"""Of zstd, in the finest level and in lower ones: on labels, higher numbers are slower and hardly smaller."""
LIMITS = {2: (1024, 1024), 3: (32, 128, 128)}
"""Longest sides of an inner chunk by the number of spatial axes: what a viewer fetches to show a part of a slice. Few slices, so that what
has just been compressed is still in the processor's cache when the next level picks its voxels of it."""
FILE_LIMITS = {2: (1024, 1024), 3: (128, 128, 128)}
"""In zarr 2, where every chunk is a file."""
Seen = Callable[[Sequence[int], NDArray[Any]], None]
"""Is shown every chunk that has just been written: its first voxel in the array, and its voxels."""
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
    effort : int
        Level of zstd.
    """

    folder: Path
    shape: tuple[int, ...]
    block: tuple[int, ...]
    inner: tuple[int, ...]
    dtype: str
    zarr_format: Literal[2, 3] = 3
    effort: int = LEVEL

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
            codecs = (ZstdCodec(level=self.effort), Crc32cCodec())
            names = list(axes)
            group.create_array(self.folder.name, chunks=self.inner, shards=self.block, compressors=codecs, dimension_names=names, **common)
        else:
            keys: Any = {"name": "v2", "separator": "/"}
            packer = Zstd(level=self.effort, checksum=True)
            group.create_array(self.folder.name, chunks=self.inner, compressors=packer, chunk_key_encoding=keys, **common)

    def write(self, at: Sequence[int], block: NDArray[Any], seen: Seen | None = None) -> None:
        """Write the block at a place of the grid.

        Parameters
        ----------
        at : d ints
        block : array
            Of the shape of `box`.
        seen : callable, optional
            Is called with each inner chunk while it is still in the processor's cache.

        Raises
        ------
        OutputError
            The disk is full, or the folder may not be written to.
        """
        block = np.ascontiguousarray(block, self.dtype)
        if self.zarr_format == 3:
            _put(self.folder.joinpath("c", *map(str, at)), self._shard(at, block, seen))
            return
        codec = Zstd(level=self.effort, checksum=True)
        for place, part, chunk in _chunks(block, block.shape, self.inner):
            _put(self._file(at, place), codec.encode(chunk))
            self._show(seen, at, place, part)

    def _shard(self, at: Sequence[int], block: NDArray[Any], seen: Seen | None) -> bytes:
        """A shard: its chunks behind each other, then their places and lengths, then the checksum of those."""
        parts, index, offset = [], [], 0
        for place, part, chunk in _chunks(block, self.block, self.inner):
            if part.ravel()[::SPARSE].any() or part.any():
                data = zstd.compress(chunk, self.effort)
                parts += [data, struct.pack("<I", google_crc32c.value(data))]
                index.append((offset, len(data) + 4))
                offset += len(data) + 4
            else:
                index.append((_MISSING, _MISSING))
            self._show(seen, at, place, part)
        table = np.array(index, "<u8").tobytes()
        return b"".join([*parts, table, struct.pack("<I", google_crc32c.value(table))])

    def _show(self, seen: Seen | None, at: Sequence[int], place: Sequence[int], part: NDArray[Any]) -> None:
        if seen is not None and part.size:
            seen([i * b + p * n for i, b, p, n in zip(at, self.block, place, self.inner, strict=True)], part)

    def _file(self, at: Sequence[int], place: Sequence[int]) -> Path:
        """Of a chunk in zarr 2, by its place in a block."""
        first = [i * b // n for i, b, n in zip(at, self.block, self.inner, strict=True)]
        return self.folder.joinpath(*[str(f + p) for f, p in zip(first, place, strict=True)])


def inner_of(block: Sequence[int], spatial: int, zarr_format: int = 3) -> tuple[int, ...]:
    """Chunks inside a block: as few equal parts per axis as the limit allows; all of it where it has no divisor near that.

    >>> inner_of((1, 256, 256, 300), 3), inner_of((131, 131, 244), 3), inner_of((4096, 2050), 2)
    ((1, 32, 128, 100), (131, 131, 122), (1024, 410))
    """
    limits = (FILE_LIMITS if zarr_format == 2 else LIMITS)[spatial]
    limits = (1,) * (len(block) - spatial) + limits
    return tuple(_part(n, limit) for n, limit in zip(block, limits, strict=True))


def _part(n: int, limit: int) -> int:
    return next((n // k for k in range(1, n + 1) if n % k == 0 and limit // 4 <= n // k <= limit), n)


def _chunks(block: NDArray[Any], shape: Sequence[int], inner: Sequence[int]) -> Iterator[tuple[tuple[int, ...], NDArray[Any], NDArray[Any]]]:
    """The chunks of a block of up to `shape`: place, what the block has of it, and that filled up with zeros where the block ends earlier."""
    for place in product(*[range(-(-n // k)) for n, k in zip(shape, inner, strict=True)]):
        part = np.ascontiguousarray(block[tuple(slice(p * k, (p + 1) * k) for p, k in zip(place, inner, strict=True))])
        missing = [k - n for k, n in zip(inner, part.shape, strict=True)]
        yield place, part, np.pad(part, [(0, n) for n in missing]) if any(missing) else part


def _put(path: Path, data: bytes) -> None:
    with writing(path):
        make_folder(path.parent)
    put(path, data)
