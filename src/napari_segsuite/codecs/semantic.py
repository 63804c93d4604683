"""The `semantic` codec: the class of every voxel; countable classes become objects where their voxels touch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.codecs.pieces import Assigned, Pick, Voxels, pick, voxels
from napari_segsuite.types import Class, Head

DEFAULTS: Mapping[str, Any] = {"foreground": 0.5}


def heads(classes: Sequence[Class], dims: int) -> tuple[Head, ...]:
    """Name the maps that a network must produce for `classes` (background comes first)."""
    return (Head("semantic", len(classes) + 1, "logits"),)


def encode(
    labels: NDArray[np.integer],
    classes: Sequence[Class],
    class_of: Mapping[int, int] | None = None,
    sampling: Sequence[float] | None = None,
) -> dict[str, NDArray[Any]]:
    """Turn labels into the map that a perfect network would give.

    Parameters
    ----------
    labels : (*spatial) integer
        0 is background.
    classes : sequence of Class
    class_of : mapping of label to class id, optional
        By default labels are objects of the first countable class, or class ids themselves if none is countable.
    sampling : ignored
        Here so that codecs are interchangeable.

    Returns
    -------
    dict
        ``semantic`` (*spatial) uint8 class ids.
    """
    return {"semantic": class_ids(labels, classes, class_of)}


def reach(options: Mapping[str, Any], factor: Sequence[float]) -> tuple[int, ...]:
    """How far from a voxel the decoder looks, per axis: not at all."""
    return (0,) * len(factor)


def assign(
    maps: Mapping[str, NDArray[Any]],
    classes: Sequence[Class],
    options: Mapping[str, Any],
    origin: Sequence[int],
    shape: Sequence[int],
    factor: Sequence[float],
    at: Pick | None = None,
) -> Assigned:
    """Give the voxels of a region their classes; objects are found by contact afterwards.

    Parameters
    ----------
    maps : mapping
        ``semantic`` (C, *spatial) uint8 probabilities.
    at : one slice or index array per axis, optional
        Which voxels of the region are wanted; all by default.

    Returns
    -------
    Assigned
    """
    kind = kinds(maps["semantic"], {**DEFAULTS, **options}["foreground"])
    found = voxels(kind > 0, at)
    number, none = np.zeros(len(found.inside), np.int32), np.zeros(1, np.int64)
    return Assigned(found.shape, found.inside, pick(kind, found.where), number, none, none.astype(np.uint8), scores(maps["semantic"], found))


def scores(semantic: NDArray[np.uint8], found: Voxels) -> list[NDArray[np.uint8]]:
    """Probability of each class without background, at the voxels that were found."""
    return [pick(probability, found.where) for probability in semantic[1:]]


def kinds(semantic: NDArray[np.uint8], foreground: float) -> NDArray[np.uint8]:
    """Class id per voxel: the most probable class where background has at most ``1 - foreground``, the lower id of equals.

    Parameters
    ----------
    semantic : (C, *spatial) uint8
        Probabilities, background first, 255 is 1.

    Returns
    -------
    (*spatial) uint8

    Examples
    --------
    >>> kinds(np.array([[200, 90, 0], [55, 100, 100], [0, 65, 155]], np.uint8), 0.5)
    array([0, 1, 2], dtype=uint8)
    """
    best, kind = semantic[1], np.ones(semantic.shape[1:], np.uint8)
    for k in range(2, len(semantic)):
        better = semantic[k] > best
        kind[better] = k
        best = np.maximum(best, semantic[k])
    kind *= semantic[0] <= round(255 * (1 - foreground))
    return kind


def class_ids(labels: NDArray[np.integer], classes: Sequence[Class], class_of: Mapping[int, int] | None) -> NDArray[np.uint8]:
    """Class id of every labelled voxel (see `encode`)."""
    countable = [c.id for c in classes if c.countable]
    if class_of is None and countable:
        return np.where(labels > 0, np.uint8(min(countable)), np.uint8(0))
    ids, which = np.unique(labels, return_inverse=True)
    chosen = [0 if i == 0 else int(i) if class_of is None else class_of[int(i)] for i in ids]
    return np.array(chosen, np.uint8)[which].reshape(labels.shape)
