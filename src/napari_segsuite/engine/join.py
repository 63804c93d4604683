"""From the pieces of a frame's chunks to its segments, and what was seen at the seams on the way.

Chunks are looked at one after the other, each with the faces of those before it: what is kept of all is their rows and the pairs that touch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def face(self, axis: int, side: int) -> NDArray[np.int32]:
        """Piece numbers in the first (side 0) or last (-1) plane along an axis."""
        ...

    def beyond(self, axis: int) -> NDArray[np.int64] | None:
        """What the chunk would answer for the plane behind its last one (`names` of its pieces), if it was asked."""
        ...


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
    tables = [part.rows for part in parts]
    starts = np.cumsum([0] + [len(rows["key"]) for rows in tables]).tolist()
    rows = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    seams, pairs = Seams(), [np.zeros((0, 2), np.int64)]
    number = {tuple(a for a, _ in part.box): k for k, part in enumerate(parts)}
    for k, part in enumerate(parts):
        for axis, (_, stop) in enumerate(part.box):
            corner = tuple(stop if a == axis else low for a, (low, _) in enumerate(part.box))
            if corner in number:
                other = number[corner]
                near, far = _global(part.face(axis, -1), starts[k]), _global(parts[other].face(axis, 0), starts[other])
                found = link.contacts(near, far)
                pairs.append(found)
                _look(seams, near, far, found, rows, part.beyond(axis), (axis, part.box))
    linked = link.link(rows, np.concatenate(pairs), classes, plan.axes, plan.min_size, plan.min_score)
    return Joined(linked, starts, seams)


def names(rows: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """What the pieces of a table belong to: an object's key, or minus the class where there is no object; entry 0 is background."""
    own = np.where(rows["key"] != 0, rows["key"], -rows["kind"].astype(np.int64))
    return np.concatenate([[0], own]).astype(np.int64)


def _global(face: NDArray[np.int32], start: int) -> NDArray[np.int64]:
    return np.where(face > 0, face.astype(np.int64) + start, 0)


def _look(
    seams: Seams,
    near: NDArray[np.int64],
    far: NDArray[np.int64],
    touching: NDArray[np.int64],
    rows: Mapping[str, NDArray[Any]],
    beyond: NDArray[np.int64] | None,
    where: tuple[int, Box],
) -> None:
    """Count what one face shows."""
    own = names(rows)
    name, behind = own[near], own[far]
    key = rows["key"]
    a, b = touching[:, 0] - 1, touching[:, 1] - 1
    seams.faces += 1
    seams.touching += sum(int((key[np.unique(side[side > 0]) - 1] >= 0).sum()) for side in (near, far))
    seams.pairs += int(((key[a] == key[b]) & ((key[a] > 0) | ((key[a] == 0) & (rows["kind"][a] == rows["kind"][b])))).sum())
    if beyond is not None:
        either = (beyond != 0) | (behind != 0)
        seams.looked += int(either.sum())
        seams.agreed += int((beyond == behind)[either].sum())
    for one, mine, others in ((near, name, behind), (far, behind, name)):
        cut = _straight(one, mine, others)
        seams.straight += len(cut)
        seams.examples = [*seams.examples, *(_voxel(one, piece, where) for piece in cut[: 10 - len(seams.examples)])]


def _straight(pieces: NDArray[np.int64], mine: NDArray[np.int64], others: NDArray[np.int64]) -> list[int]:
    """Pieces of objects that end at the face although most of what is behind it is another object."""
    least = SMALLEST_CUT.get(pieces.ndim, SMALLEST_CUT[2])
    number, index, count = np.unique(pieces, return_inverse=True, return_counts=True)
    flat, one, other = index.ravel(), mine.ravel(), others.ravel()
    same = np.bincount(flat, one == other, len(number))
    different = np.bincount(flat, (one != other) & (other > 0), len(number))
    object_ = np.bincount(flat, one > 0, len(number)) > 0
    cut = (number > 0) & object_ & (count >= least) & (same == 0) & (different >= STRAIGHT * count)
    return [int(n) for n in number[cut]]


def _voxel(pieces: NDArray[np.int64], piece: int, where: tuple[int, Box]) -> list[int]:
    """A voxel of a piece in the face, in the frame's coordinates."""
    axis, box = where
    at = [int(i) for i in np.argwhere(pieces == piece)[0]]
    at.insert(axis, box[axis][1] - box[axis][0])
    return [i + low for i, (low, _) in zip(at, box, strict=True)]
