"""Zarr stores on disk: opened so that nothing outside the folder is read, arrays made so that a flipped bit is noticed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import AGAIN, check_is_there, reading, size_text
from napari_segsuite.io.lazy import text_of
from napari_segsuite.io.place import has_metadata, is_remote, store_at

MOST_CHUNK_BYTES = 2**32
"""A chunk that unfolds to more than this is not read: codecs allocate all of it at once."""


class Confined(LocalStore):
    """A read-only folder whose links may not lead out of it."""

    def __init__(self, root: Path | str, *, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)
        self._real = Path(root).resolve()

    async def get(self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read a key, unless it leads out."""
        self._check(key)
        return self._bounded(key, await super().get(key, prototype, byte_range), whole=byte_range is None)

    def get_sync(self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read a key, unless it leads out."""
        self._check(key)
        return self._bounded(key, super().get_sync(key, prototype=prototype, byte_range=byte_range), whole=byte_range is None)

    async def get_partial_values(self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]) -> list[Buffer | None]:
        """Read parts of keys, unless one leads out."""
        wanted = list(key_ranges)
        for key, _ in wanted:
            self._check(key)
        return await super().get_partial_values(prototype, wanted)

    def _check(self, key: str) -> None:
        if not (self.root / key).resolve().is_relative_to(self._real):
            raise InputError(f"link {self.root / key} leads out of {self.root}", "all of it inside", "Copy what it points to.")

    def _bounded(self, key: str, found: Buffer | None, *, whole: bool) -> Buffer | None:
        """Refuse a chunk of zstd that says it unfolds to more than any chunk may: the decoder would allocate all of that."""
        nbytes = _unfolded(found.as_numpy_array()[:18].tobytes()) if found is not None and whole else 0
        if nbytes > MOST_CHUNK_BYTES:
            raise InputError(
                f"chunk {self.root / key} declares that it unfolds to {size_text(nbytes)}", f"at most {size_text(MOST_CHUNK_BYTES)}", AGAIN
            )
        return found


def _unfolded(head: bytes) -> int:
    """How many bytes a frame of zstd says it holds (RFC 8878, section 3.1.1.1); 0 for anything else, and where it does not say."""
    if head[:4] != b"\x28\xb5\x2f\xfd" or len(head) < 5:
        return 0
    single, size = head[4] >> 5 & 1, (0, 2, 4, 8)[head[4] >> 6]
    at = 5 + (not single) + (0, 1, 2, 4)[head[4] & 3]
    return int.from_bytes(head[at : at + size], "little")  # sizes of one byte, and the 256 that are added to those of two, do not matter here


class Array(zarr.Array[Any]):
    """An array whose damage is told with the name of its store, whoever reads it."""

    where: Path

    def __getitem__(self, selection: Any) -> Any:
        """Read a part."""
        with reading(self.where, f"region {text_of(selection)}" if isinstance(selection, tuple) else "its voxels"):
            return super().__getitem__(selection)


def named(array: zarr.Array[Any], path: Path) -> Array:
    """The same array, which knows what it is called."""
    made = Array(array._async_array)
    object.__setattr__(made, "where", path)  # arrays of zarr are frozen
    return made


def open_node(path: Path) -> zarr.Group | zarr.Array[Any]:
    """Open a zarr group or array for reading.

    Raises
    ------
    InputError
        There is nothing, or nothing that zarr can read.
    """
    check_is_there(path)
    with reading(path):
        if not is_remote(path) and not path.is_dir():
            raise InputError(f"{str(path)!r} is a file", "a zarr folder")
        if not has_metadata(path):
            raise InputError(f"folder {path} is not a zarr group or array: it has no zarr.json, .zgroup or .zarray")
        store = store_at(path, read_only=True) if is_remote(path) else Confined(path)
        # Consolidated metadata may be older than what it describes.
        return zarr.open(store=store, mode="r", use_consolidated=False) if _is_group(path) else zarr.open_array(store, mode="r")


def child(group: zarr.Group, name: str, path: Path) -> zarr.Group | zarr.Array[Any]:
    """Open what lies at `name` in a group.

    Raises
    ------
    InputError
        It is missing, damaged, or outside the store.
    """
    with reading(path, f"{name!r}"):
        if name.strip("/") not in {"", "."} and ".." in Path(name).parts:
            raise InputError(f"store {path} refers to {name!r}, which leads out of it", "paths inside the store")
        try:
            return group[name.strip("/")]
        except KeyError as error:
            raise InputError(f"store {path} refers to {name!r}, which is not in it", do=AGAIN) from error


def check_array(array: zarr.Array[Any], path: Path) -> None:
    """Refuse an array whose chunks would take more memory than any real ones."""
    nbytes = int(np.prod(array.chunks, dtype=float)) * array.dtype.itemsize
    if nbytes > MOST_CHUNK_BYTES:
        raise InputError(f"store {path} declares chunks of shape {array.chunks}, which would need {size_text(nbytes)} each", "smaller")
    if array.dtype.kind not in "biufc":
        raise InputError(f"store {path} holds values of type {array.dtype}", "numbers")


def check_complete(array: zarr.Array[Any], path: Path) -> None:
    """Complain when chunks are missing from an array that was written with all of them."""
    missing, total = missing_chunks(array)
    if missing:
        raise InputError(f"{missing} of {total} chunks are missing from {path}", do=AGAIN)


def missing_chunks(array: zarr.Array[Any]) -> tuple[int, int]:
    """How many files of an array are not there, and how many there would be: one per chunk, or per shard."""
    there, total = array.nchunks_initialized, array.nchunks
    if array.shards is not None:
        # zarr counts all chunks that a shard has room for, also those beyond the end of the array.
        there //= int(np.prod([s // c for s, c in zip(array.shards, array.chunks, strict=True)]))
        total = int(np.prod([-(-n // s) for n, s in zip(array.shape, array.shards, strict=True)]))
    return total - there, total


def make_array(
    group: zarr.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], chunks: tuple[int, ...], axes: str, *, every_chunk: bool = False
) -> zarr.Array[Any]:
    """Make an array whose chunks carry a checksum.

    Parameters
    ----------
    axes : str
        Names of its dimensions; empty for a column.
    every_chunk : bool
        Also store chunks that are all zero, so that a lost chunk can be told from an empty one.
    """
    common: dict[str, Any] = {"shape": shape, "dtype": dtype.newbyteorder("="), "chunks": chunks, "fill_value": 0}
    config: Any = {"write_empty_chunks": every_chunk}
    if group.metadata.zarr_format == 3:
        codecs = (ZstdCodec(level=1), Crc32cCodec())
        return group.create_array(name, compressors=codecs, dimension_names=list(axes) or None, config=config, **common)
    from numcodecs import Zstd  # type: ignore[import-untyped]

    keys: Any = {"name": "v2", "separator": "/"}
    return group.create_array(name, compressors=Zstd(level=1, checksum=True), chunk_key_encoding=keys, config=config, **common)


def _is_group(path: Path) -> bool:
    if (path / ".zarray").is_file():
        return False
    return (path / ".zgroup").is_file() or json.loads((path / "zarr.json").read_text(encoding="utf-8")).get("node_type") == "group"
