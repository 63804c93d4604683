"""Reading compound files (OLE2), which hold files of their own: what is needed of it to get at these by their names.

Written after what Microsoft publishes of the format ([MS-CFB]): sectors, a table that says of each which one comes next, and a list of names.
Small streams lie in sectors of their own inside of one stream. Whatever a damaged table says, no chain is longer than the file.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

_HEAD, _ENTRY, _SMALL = 512, 128, 64
_SHIFTS = {3: 9, 4: 12}
_LAST = 0xFFFFFFFA
_STREAM, _ROOT = 2, 5

Table = NDArray[np.uint32]


@dataclass(frozen=True)
class Stream:
    """A file in a compound file: its first sector, and its length."""

    start: int
    size: int


class Compound:
    """An open compound file.

    Parameters
    ----------
    file : binary file
        Is read from as long as this is used.

    Attributes
    ----------
    streams : dict of str to Stream
        By name, without the storages that they lie in.

    Raises
    ------
    ValueError
        It is none, or damaged.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._length = file, file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(_HEAD)
        major, order, shift = struct.unpack_from("<HHH", head, 26) if len(head) == _HEAD and head.startswith(MAGIC) else (0, 0, 0)
        if order != 0xFFFE or _SHIFTS.get(major) != shift:
            raise ValueError("it does not begin like a compound file")
        self._sector = 1 << shift
        tables, first = struct.unpack_from("<II", head, 44)
        self._cutoff, small = struct.unpack_from("<II", head, 56)
        self._next = self._table(self._listed(head, *struct.unpack_from("<II", head, 68))[:tables])
        entries = self._chained(first, self._length)
        root, self.streams = _named(entries)
        self._small_next = self._numbers(self._chained(small, self._length))
        self._small = self._chained(root.start, root.size)

    def read(self, name: str) -> bytes:
        """What is in a stream.

        Raises
        ------
        ValueError
            It is not there as far as it should be.
        """
        stream = self.streams.get(name)
        if stream is None:
            raise ValueError(f"it has no stream {name!r}")
        if stream.size >= self._cutoff:
            found = self._chained(stream.start, stream.size)
        else:
            at = _followed(self._small_next, stream.start, -(-stream.size // _SMALL), len(self._small) // _SMALL)
            found = b"".join(self._small[_SMALL * k : _SMALL * (k + 1)] for k in at)[: stream.size]
        if len(found) != stream.size:
            raise ValueError(f"its stream {name!r} has {len(found)} of {stream.size} bytes")
        return found

    def _listed(self, head: bytes, at: int, count: int) -> list[int]:
        """The sectors that the table lies in: 109 are named in the head, the others in a chain of sectors."""
        found = list(struct.unpack_from("<109I", head, 76))
        for _ in range(min(count, self._length // self._sector)):
            numbers = self._numbers(self._sectors([at])).tolist()
            if not numbers:
                break
            found += numbers[:-1]
            at = numbers[-1]
        return [sector for sector in found if sector < _LAST]

    def _table(self, sectors: list[int]) -> Table:
        return self._numbers(self._sectors(sectors[: self._length // self._sector]))

    def _chained(self, start: int, size: int) -> bytes:
        """What is in a chain of sectors, of which no more than `size` bytes are needed."""
        there = self._length // self._sector
        return self._sectors(_followed(self._next, start, -(-size // self._sector), there))[:size]

    def _sectors(self, numbers: list[int]) -> bytes:
        parts = []
        for number in numbers:
            self._file.seek((number + 1) * self._sector)
            parts.append(self._file.read(self._sector))
        return b"".join(parts)

    @staticmethod
    def _numbers(data: bytes) -> Table:
        return np.frombuffer(data[: len(data) // 4 * 4], "<u4")


def _followed(table: Table, start: int, wanted: int, there: int) -> list[int]:
    """The numbers of a chain, as many as are wanted; a chain cannot be longer than what is there."""
    found: list[int] = []
    at = start
    while len(found) < wanted and at < min(len(table), _LAST):
        found.append(at)
        if len(found) > there:
            raise ValueError("a chain of its sectors runs in a circle")
        at = int(table[at])
    return found


def _named(entries: bytes) -> tuple[Stream, dict[str, Stream]]:
    """The stream of small streams, and the streams by their names."""
    root, found = Stream(_LAST, 0), {}
    for at in range(0, len(entries) - _ENTRY + 1, _ENTRY):
        length, kind = struct.unpack_from("<HB", entries, at + 64)
        stream = Stream(*struct.unpack_from("<II", entries, at + 116))
        if kind == _ROOT:
            root = stream
        elif kind == _STREAM:
            found[entries[at : at + min(max(length - 2, 0), 62)].decode("utf-16-le", "replace")] = stream
    return root, found
