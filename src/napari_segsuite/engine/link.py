"""From the pieces of all chunks to segments.

1. `contacts`   which pieces of two neighbouring chunks touch in the face between them
2. `link`       joins what belongs together, keeps of each object its largest connected part, adds the rows up, numbers the segments

The numbers follow from the segments' places alone, so that they do not depend on how, where or in which order chunks were computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from napari_segsuite.types import Class, Pieces

Rows = Mapping[str, NDArray[Any]]


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


def stack(parts: Sequence[Pieces]) -> dict[str, NDArray[Any]]:
    """Put the rows of all chunks under each other; piece p of chunk k is row ``offset_k + p - 1``."""
    return {name: np.concatenate([p.rows[name] for p in parts]) for name in parts[0].rows}


def link(rows: Rows, pairs: NDArray[np.int64], classes: Sequence[Class], axes: str, min_size: int = 0, min_score: float = 0.0) -> Linked:
    """Make segments of pieces.

    Parameters
    ----------
    rows : table
        Of all pieces of a frame (`pieces.collect`, `stack`).
    pairs : (n, 2) int64
        Touching pieces, numbered from 1 (`contacts`).
    classes : sequence of Class
    axes : str
        Spatial axes of the frame.
    min_size : int
        Segments of things with fewer voxels are dropped.
    min_score : float
        Segments of things with a lower score are dropped.

    Returns
    -------
    Linked
        Labels: a stuff class's id, then things in the order of their keys.
    """
    part = _connected(rows, pairs)
    parts = _sum(rows, part)
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
    return Linked(final[part], first | _places({name: column[shown] for name, column in parts.items()}, axes))


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


def _sum(rows: Rows, part: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    """Rows of connected parts from rows of pieces."""
    count = int(part.max()) + 1 if len(part) else 0
    out: dict[str, NDArray[Any]] = {}
    # "key" and "kind" are those of the part's first piece; by the first voxel, not by the order in which chunks came.
    order = np.lexsort((rows["first"], part))
    heads = order[np.searchsorted(part[order], np.arange(count))]
    for name, column in rows.items():
        if name in ("key", "kind", "first"):
            out[name] = column[heads]
        elif name.startswith("low_"):
            out[name] = np.full(count, np.iinfo(np.int64).max)
            np.minimum.at(out[name], part, column)
        elif name.startswith("high_") or name == "height":
            out[name] = np.zeros(count, column.dtype)
            np.maximum.at(out[name], part, column)
        else:
            out[name] = np.zeros(count, np.int64)
            np.add.at(out[name], part, column)
    return out


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


def _places(parts: Rows, axes: str) -> dict[str, NDArray[Any]]:
    """Size, bounding box and centroid columns."""
    table: dict[str, NDArray[Any]] = {"size": parts["size"]}
    for axis, name in enumerate(axes):
        table[f"bbox_{name}0"], table[f"bbox_{name}1"] = parts[f"low_{axis}"], parts[f"high_{axis}"]
    for axis, name in enumerate(axes):
        table[f"centroid_{name}"] = parts[f"sum_{axis}"] / np.maximum(parts["size"], 1)
    return table
