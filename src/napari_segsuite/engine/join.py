"""From the pieces of a frame's chunks to its segments, and what was seen at the seams on the way.

Chunks are looked at one after the other, each with the faces of those before it: what is kept of all is their rows and the pairs that touch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.engine import link
from napari_segsuite.engine.plan import Plan
from napari_segsuite.engine.tiles import Box
from napari_segsuite.types import Class

SMALLEST_CUT = {1: 8, 2: 32}
"""Voxels that an object must have in a face before its edge there is looked at, by the number of the face's axes."""
STRAIGHT = 0.8
"""Share of an object's voxels in a face that have another object right behind it, from which on it looks cut off."""


class Part(Protocol):
    """The pieces of one chunk."""

    @property
    def box(self) -> Box:
        """Place in the frame."""
        ...

    @property
    def rows(self) -> Mapping[str, NDArray[Any]]:
        """See `codecs.pieces.collect`."""
        ...

    def first(self, axis: int) -> NDArray[np.int32]:
        """Piece numbers in the first plane along an axis."""
        ...

    def last(self) -> Sequence[tuple[NDArray[np.int32], NDArray[np.int64] | None]]:
        """Per axis, piece numbers in the last plane, and what the chunk would answer for the plane behind it (`names`), if it was asked."""
        ...


@dataclass(frozen=True, eq=False)
class _Table:
    """What joining needs to know of a chunk's pieces: names, keys and kinds, and how many pieces come before."""

    name: NDArray[np.int64]
    key: NDArray[np.int64]
    kind: NDArray[np.uint8]
    start: int


@dataclass
class Seams:
    """What was seen where chunks meet.

    Attributes
    ----------
    faces : int
        Planes between two chunks.
    touching, pairs : int
        Pieces of things that reach one of them, counted per face; pairs that face each other and are one object.
    looked, agreed : int
        Voxels right behind a face which both chunks decoded and which one of them found to be something; on how many they agree.
    straight : int
        Objects that look cut off: they end at a face, with another object of their kind behind most of it.
    examples : list
        Where the first few of those are, as (z, y, x) of a voxel.
    """

    faces: int = 0
    touching: int = 0
    pairs: int = 0
    looked: int = 0
    agreed: int = 0
    straight: int = 0
    examples: list[list[int]] = field(default_factory=list)

    def add(self, other: Seams) -> None:
        """Add up."""
        for name in ("faces", "touching", "pairs", "looked", "agreed", "straight"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.examples = [*self.examples, *other.examples][:10]

    def warnings(self) -> list[str]:
        """What a user should look at."""
        told = []
        if self.straight:
            what = "1 segment looks" if self.straight == 1 else f"{self.straight} segments look"
            at = ", ".join(map(str, self.examples[0]))
            told.append(f"{what} cut off where chunks meet (for example at {at}): are objects larger than the model was made for?")
        if self.agreed < self.looked:
            told.append(
                f"neighbouring chunks disagree on {self.looked - self.agreed} of {self.looked} voxels: are objects larger than the model allows?"
            )
        return told

    def to_json(self) -> dict[str, Any]:
        """As plain values, with the agreement as a share (None where nothing was compared)."""
        agreement = round(self.agreed / self.looked, 6) if self.looked else None
        told = {"faces": self.faces, "touching": self.touching, "pairs": self.pairs, "compared_voxels": self.looked, "agreement": agreement}
        return {**told, "straight_edges": self.straight, "examples": self.examples}


@dataclass(frozen=True, eq=False)
class Joined:
    """The segments of a frame.

    Attributes
    ----------
    linked : link.Linked
    starts : list of int
        Chunk k's pieces are ``linked.final[starts[k] : starts[k + 1]]``.
    seams : Seams
    """

    linked: link.Linked
    starts: list[int]
    seams: Seams


def join(parts: Sequence[Part], plan: Plan, classes: Sequence[Class]) -> Joined:
    """Link the chunks of one frame.

    Parameters
    ----------
    parts : sequence of Part
        All chunks of the frame, in the order of their boxes.
    plan : Plan
    classes : sequence of Class
    """
    tables = _Tables(parts)
    rows, starts = link.heads(tables)
    seams, pairs = Seams(), [np.zeros((0, 2), np.int64)]
    number = {tuple(a for a, _ in part.box): k for k, part in enumerate(parts)}

    def table(k: int) -> _Table:
        key, kind = (rows[name][starts[k] : starts[k + 1]] for name in ("key", "kind"))
        return _Table(names({"key": key, "kind": kind}), key, kind, starts[k])

    for k, part in enumerate(parts):
        corners = [tuple(stop if a == axis else low for a, (low, _) in enumerate(part.box)) for axis, (_, stop) in enumerate(part.box)]
        planes = part.last() if any(corner in number for corner in corners) else ()
        for axis, (corner, (near, beyond)) in enumerate(zip(corners, planes, strict=False)):
            if corner in number:
                other = number[corner]
                far = parts[other].first(axis)
                found = link.contacts(near, far)
                pairs.append(found + np.array([starts[k], starts[other]]))
                _look(seams, (near, far), (table(k), table(other)), found, beyond, (axis, part.box))
    linked = link.link(tables, np.concatenate(pairs), classes, plan.axes, plan.min_size, plan.min_score, rows)
    return Joined(linked, starts, seams)


class _Tables:
    """The rows of one part after the other, read anew each time."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[Mapping[str, NDArray[Any]]]:
        return (part.rows for part in self._parts)


def names(rows: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """What the pieces of a table belong to: an object's key, or minus the class where there is no object; entry 0 is background."""
    own = np.where(rows["key"] != 0, rows["key"], -rows["kind"].astype(np.int64))
    return np.concatenate([[0], own]).astype(np.int64)


def _look(
    seams: Seams,
    planes: tuple[NDArray[np.int32], NDArray[np.int32]],
    tables: tuple[_Table, _Table],
    touching: NDArray[np.integer],
    beyond: NDArray[np.int64] | None,
    where: tuple[int, Box],
) -> None:
    """Count what one face shows: the planes on its two sides, as numbers of the pieces in `tables`."""
    (near, far), (mine, theirs) = planes, tables
    name, behind = mine.name[near], theirs.name[far]
    a, b = touching[:, 0] - 1, touching[:, 1] - 1
    one = mine.key[a] == theirs.key[b]
    seams.faces += 1
    seams.touching += sum(_things_in(side, t) for side, t in zip(planes, tables, strict=True))
    seams.pairs += int((one & ((mine.key[a] > 0) | ((mine.key[a] == 0) & (mine.kind[a] == theirs.kind[b])))).sum())
    if beyond is not None:
        either = (beyond != 0) | (behind != 0)
        seams.looked += int(either.sum())
        seams.agreed += int((beyond == behind)[either].sum())
    for pieces, own, others in ((near, name, behind), (far, behind, name)):
        cut = _straight(pieces, own, others)
        seams.straight += len(cut)
        seams.examples = [*seams.examples, *(_voxel(pieces, piece, where) for piece in cut[: 10 - len(seams.examples)])]


def _things_in(plane: NDArray[np.int32], table: _Table) -> int:
    """How many pieces of things reach a plane."""
    there = np.bincount(plane.ravel(), minlength=len(table.key) + 1)[1:] > 0
    return int((there & (table.key >= 0)).sum())


def _straight(pieces: NDArray[np.integer], mine: NDArray[np.int64], others: NDArray[np.int64]) -> list[int]:
    """Pieces of objects that end at the face although most of what is behind it is another object."""
    least = SMALLEST_CUT.get(pieces.ndim, SMALLEST_CUT[2])
    flat, one, other = pieces.ravel(), mine.ravel(), others.ravel()
    count = np.bincount(flat)
    same = np.bincount(flat, one == other)
    different = np.bincount(flat, (one != other) & (other > 0))
    object_ = np.bincount(flat, one > 0) > 0
    cut = object_ & (count >= least) & (same == 0) & (different >= STRAIGHT * count)
    return [int(n) for n in np.flatnonzero(cut) if n > 0]


def _voxel(pieces: NDArray[np.integer], piece: int, where: tuple[int, Box]) -> list[int]:
    """A voxel of a piece in the face, in the frame's coordinates."""
    axis, box = where
    at = [int(i) for i in np.argwhere(pieces == piece)[0]]
    at.insert(axis, box[axis][1] - box[axis][0])
    return [i + low for i, (low, _) in zip(at, box, strict=True)]
