"""Objects whose number is painted in several separate places: a mask without numbers, or a number given twice."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from skimage import measure

RARE = 0.01
"""Up to this part of the objects nothing is said: a stray voxel or two is how people paint."""


def pieces(labels: NDArray[np.int32], things: Collection[int]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Number the separate pieces of objects.

    Parameters
    ----------
    labels : (*spatial) int32
    things : collection of int
        The labels that are objects. Others count as background.

    Returns
    -------
    (*spatial) int32
        0, or 1 to n. Voxels of one piece touch each other by a face, an edge or a corner.
    (n,) int
        The label of each piece.
    """
    objects = np.where(np.isin(labels, list(things)), labels, 0)
    found: NDArray[np.int32] = measure.label(objects, connectivity=objects.ndim).astype(np.int32)
    numbers, first = np.unique(found.ravel(), return_index=True)
    return found, objects.ravel()[first[numbers > 0]]


def split(labels: NDArray[np.int32], class_of: Mapping[int, int], things: Collection[int]) -> tuple[NDArray[np.int32], dict[int, int]]:
    """Make each piece of a thing an object of its own; stuff stays as it is.

    Parameters
    ----------
    labels : (*spatial) int32
    class_of : mapping of label to class id
    things : collection of int
        The labels that are objects.

    Returns
    -------
    (*spatial) int32, dict of label to class id
        Stuff has its numbers, which are the lowest, and pieces those after.
    """
    found, label_of = pieces(labels, things)
    stuff = {label: kind for label, kind in class_of.items() if label not in things}
    low = max(stuff, default=0)
    parted: NDArray[np.int32] = np.where(found > 0, found + low, np.where(np.isin(labels, list(stuff)), labels, 0)).astype(np.int32)
    return parted, stuff | {low + 1 + k: class_of[int(label)] for k, label in enumerate(label_of)}


def notice(samples: Iterable[tuple[str, NDArray[np.int32], Collection[int]]]) -> str:
    """Say how many objects lie in pieces, where they are more than a few.

    Parameters
    ----------
    samples : iterable of tuple
        Name, labels and the labels that are objects, per image.

    Returns
    -------
    str
        Empty where all is well.
    """
    total, apart, most = 0, 0, (1, 0, "")
    for name, labels, things in samples:
        label_of, counts = np.unique(pieces(labels, things)[1], return_counts=True)
        total, apart = total + len(counts), apart + int((counts > 1).sum())
        if len(counts) and counts.max() > most[0]:
            most = (int(counts.max()), int(label_of[counts.argmax()]), name)
    if apart <= RARE * total:
        return ""
    return (
        f"{apart} of {total} objects lie in several separate pieces (one of {most[2]} in {most[0]}): a mask without a number for each object, or "
        "numbers that were given twice. With --split every piece is an object"
    )
