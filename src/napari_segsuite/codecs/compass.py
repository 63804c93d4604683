"""The rays of stars: their directions, and between which of them each voxel around a middle lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

RAYS: Mapping[int, int] = {2: 32, 3: 96}
"""How many rays a star has in the plane and in space, as in the two articles."""


def rays(dims: int) -> NDArray[np.float64]:
    """Directions (n, d): evenly round the circle from the last axis on, or a golden spiral on the sphere from end to end of the first axis."""
    count = RAYS[dims]
    if dims == 2:
        angle = 2 * np.pi * np.arange(count) / count
        return np.stack([np.sin(angle), np.cos(angle)], 1)
    angle, z = (3 - np.sqrt(5)) * np.pi * np.arange(count), np.linspace(-1, 1, count)
    around = np.sqrt(1 - z**2)
    return np.stack([z, around * np.sin(angle), around * np.cos(angle)], 1)


@dataclass(frozen=True, eq=False)
class Compass:
    """All voxels that rays can lead to, the nearest first.

    Attributes
    ----------
    step : (m, d) int32
        Where they are, seen from the star's middle.
    distance : (m,) float64
        How far, in model voxels.
    between : (m, d) int16
        The rays that each lies between.
    weight : (m, d) float64
        How much of each ray, in model voxels, leads there.
    """

    step: NDArray[np.int32]
    distance: NDArray[np.float64]
    between: NDArray[np.int16]
    weight: NDArray[np.float64]


@lru_cache(maxsize=4)
def compass_of(factor: tuple[float, ...], longest: float) -> Compass:
    """Make the compass of a grid with so many voxels per model voxel."""
    wide = [int(longest * f) for f in factor]
    step = np.stack([c.ravel() for c in np.meshgrid(*[np.arange(-w, w + 1) for w in wide], indexing="ij")], 1)
    place = step / np.asarray(factor)
    distance = np.sqrt((place**2).sum(1))
    order = np.argsort(distance, kind="stable")
    order = order[distance[order] <= longest]
    step, place, distance = step[order], place[order], distance[order]
    directions = rays(len(factor))
    # The middle and the ends of all rays have one triangulation: cones from the middle to the faces of the hull.
    cones = Delaunay(np.vstack([directions, np.zeros(len(factor))]))
    faces = np.sort(cones.simplices, 1)[:, :-1]
    which = np.maximum(cones.find_simplex(place / np.maximum(2 * distance, 1)[:, None]), 0)
    weight = np.einsum("mij,mj->mi", np.linalg.inv(directions[faces].transpose(0, 2, 1))[which], place)
    return Compass(step.astype(np.int32), distance, faces[which].astype(np.int16), weight)
