"""From the pieces of all chunks to segments.

1. `contacts`   which pieces of two neighbouring chunks touch in the face between them
2. `link`       joins what belongs together, keeps of each object its largest connected part, adds the rows up, numbers the segments

The numbers follow from the segments' places alone, so that they do not depend on how, where or in which order chunks were computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from napari_segsuite.types import Class

Rows = Mapping[str, NDArray[Any]]
_HEADS = ("key", "kind", "first")


@dataclass(frozen=True, eq=False)
class Linked:
    """What to write where: final label per piece (0: dropped), and the table of one frame, not yet offset by earlier frames."""

    final: NDArray[np.int64]
    segments: dict[str, NDArray[Any]]


def contacts(near: NDArray[np.integer], far: NDArray[np.integer]) -> NDArray[np.int64]:
    """Pair the pieces that face each other across a cut.

    Parameters
    ----------
    near, far : (*face) integer
        Piece numbers on the two sides, below 2**31; 0 is background.

    Returns
    -------
    (n, 2) int64
        Each pair once.

    Examples
    --------
    >>> contacts(np.array([1, 1, 0, 2]), np.array([7, 7, 7, 0]))
    array([[1, 7]])
    """
    both = (near > 0) & (far > 0)
    # As one number per pair, which is many times faster to sort than rows.
    codes = np.unique(near[both].astype(np.int64) << 32 | far[both])
    return np.stack([codes >> 32, codes & 0xFFFFFFFF], axis=1)


def heads(tables: Iterable[Rows]) -> tuple[dict[str, NDArray[Any]], list[int]]:
    """Put those columns under each other that tell which pieces belong together; piece p of chunk k is row ``starts[k] + p - 1``."""
    found = [{name: rows[name] for name in _HEADS} for rows in tables]
    starts = np.cumsum([0] + [len(rows["key"]) for rows in found]).tolist()
    return {name: np.concatenate([rows[name] for rows in found]) for name in _HEADS}, starts


def link(
    tables: Iterable[Rows],
    pairs: NDArray[np.int64],
    classes: Sequence[Class],
    axes: str,
    min_size: int = 0,
    min_score: float = 0.0,
    head: Rows | None = None,
) -> Linked:
    """Make segments of pieces.

    Parameters
    ----------
    tables : iterable of tables
        Rows of the pieces of each chunk of a frame (`pieces.collect`). They are gone through twice, and only one is held at a time.
    pairs : (n, 2) int64
        Touching pieces, numbered from 1 (`contacts`).
    classes : sequence of Class
    axes : str
        Spatial axes of the frame.
    min_size : int
        Segments of things with fewer voxels are dropped.
    min_score : float
        Segments of things with a lower score are dropped.
    head : table, optional
        `heads` of the tables, where they are at hand.

    Returns
    -------
    Linked
        Labels: a stuff class's id, then things in the order of their keys.
    """
    head = heads(tables)[0] if head is None else head
    part = _connected(head, pairs)
    parts = _sum(tables, head, part)
    class_id, score = _judged(parts, classes)
    chosen = _largest(parts) & (((parts["size"] >= min_size) & (score >= min_score)) | (parts["key"] < 0))
    stuff = [c for c in classes if not c.countable]
    final = np.zeros(len(parts["key"]), np.int64)
    things = np.flatnonzero(chosen & (parts["key"] >= 0))
    order = np.lexsort((parts["key"][things], np.where(parts["key"][things] > 0, parts["key"][things], parts["first"][things] + 1)))
    things = things[order]
    final[things] = len(stuff) + 1 + np.arange(len(things))
    for c in stuff:
        final[parts["key"] == -c.id] = c.id
    shown = np.concatenate([np.flatnonzero(parts["key"] < 0)[np.argsort(-parts["key"][parts["key"] < 0])], things]).astype(np.intp)
    first = {"id": final[shown], "class_id": class_id[shown], "score": score[shown]}
    return Linked(final[part], first | _places(parts, shown, axes))


def _connected(rows: Rows, pairs: NDArray[np.int64]) -> NDArray[np.intp]:
    """Part number per piece: stuff by class, objects by contact between pieces of one key or, without keys, of one class."""
    key, kind = rows["key"], rows["kind"]
    count = len(key)
    a, b = pairs[:, 0] - 1, pairs[:, 1] - 1
    joined = (key[a] == key[b]) & ((key[a] > 0) | ((key[a] == 0) & (kind[a] == kind[b])))
    a, b = a[joined], b[joined]
    for value in np.unique(key[key < 0]):
        same = np.flatnonzero(key == value)
        a, b = np.concatenate([a, same[:-1]]), np.concatenate([b, same[1:]])
    graph = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(count, count))
    part: NDArray[np.intp] = connected_components(graph, directed=False)[1].astype(np.intp)
    return part


def _sum(tables: Iterable[Rows], head: Rows, part: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    """Rows of connected parts from rows of pieces."""
    count, start = int(part.max()) + 1 if len(part) else 0, 0
    # "key" and "kind" are those of the part's first piece; by the first voxel, not by the order in which chunks came.
    order = np.lexsort((head["first"], part))
    first = order[np.searchsorted(part[order], np.arange(count))]
    out = {name: column[first] for name, column in head.items()}
    for rows in tables:
        mine = part[start : start + len(rows["key"])]
        start += len(mine)
        for name, column in rows.items():
            if name not in head:
                if name not in out:
                    out[name] = np.full(count, np.iinfo(np.int64).max) if name.startswith("low_") else np.zeros(count, column.dtype)
                _combine(name).at(out[name], mine, column)
    return out


def _combine(name: str) -> np.ufunc:
    """How a column of a part comes from those of its pieces."""
    return np.minimum if name.startswith("low_") else np.maximum if name.startswith("high_") or name == "height" else np.add


def _largest(parts: Rows) -> NDArray[np.bool_]:
    """Of each object the largest connected part (of equals, the first); all that has no key."""
    key = parts["key"]
    order = np.lexsort((parts["first"], -parts["size"], key))
    chosen = np.ones(len(key), np.bool_)
    again = np.flatnonzero(key[order][1:] == key[order][:-1]) + 1
    chosen[order[again]] = False
    return chosen | (key <= 0)


def _judged(parts: Rows, classes: Sequence[Class]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Class and score of each part: an object's class is what its voxels vote for, and it is as sure as they and its centre together."""
    if not len(parts["key"]):
        return np.zeros(0, np.int64), np.zeros(0)
    votes = np.stack([parts[f"vote_{c.id}"] for c in classes])
    countable = np.array([c.countable for c in classes])
    by_vote = np.array([c.id for c in classes])[np.where(countable[:, None], votes, -1).argmax(0)]
    class_id = np.where(parts["key"] > 0, by_vote, parts["kind"]).astype(np.int64)
    mean = votes[class_id - 1, np.arange(len(class_id))] / np.maximum(parts["size"], 1) / 255
    score = np.where(parts["key"] > 0, np.sqrt(mean * parts["height"] / 255), mean)
    return class_id, np.round(score, 4).astype(np.float64)


def _places(parts: dict[str, NDArray[Any]], shown: NDArray[np.intp], axes: str) -> dict[str, NDArray[Any]]:
    """Size, bounding box and centroid columns of some parts; what was taken is dropped, since a column of a large volume takes much room."""
    table: dict[str, NDArray[Any]] = {"size": parts["size"][shown]}
    for axis, name in enumerate(axes):
        table[f"bbox_{name}0"], table[f"bbox_{name}1"] = parts.pop(f"low_{axis}")[shown], parts.pop(f"high_{axis}")[shown]
    for axis, name in enumerate(axes):
        table[f"centroid_{name}"] = parts.pop(f"sum_{axis}")[shown] / np.maximum(table["size"], 1)
    return table
