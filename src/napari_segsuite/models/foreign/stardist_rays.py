"""The rays of StarDist's stars, and how long other rays are inside of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull


def directions(dims: int, count: int, squeezed: Sequence[float] = ()) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
    """The rays (n, d) of a star of StarDist, and between which of them its faces lie (m, d).

    Round the circle from the last axis on; in volumes a golden spiral on the sphere, squeezed as objects are and brought to a length of 1, with the
    faces of the sphere.
    """
    if dims == 2:
        angle, number = 2 * np.pi * np.arange(count) / count, np.arange(count)
        return np.stack([np.sin(angle), np.cos(angle)], 1), np.stack([number, (number + 1) % count], 1)
    angle, z = (3 - np.sqrt(5)) * np.pi * np.arange(count), np.linspace(-1, 1, count)
    around = np.sqrt(1 - z**2)
    sphere = np.stack([z, around * np.sin(angle), around * np.cos(angle)], 1)
    rays = sphere / np.asarray(squeezed or (1, 1, 1), float)
    return rays / np.linalg.norm(rays, axis=1, keepdims=True), ConvexHull(sphere).simplices


def turned(rays: NDArray[np.float64], faces: NDArray[np.integer], to: NDArray[np.float64]) -> NDArray[np.float64]:
    """How long other rays are until they leave a star: the reciprocals of their lengths are sums of those of the star's rays.

    A ray that weights a, b, c of three rays lead to leaves through the face between their ends after 1 / (a / A + b / B + c / C), where A, B and C
    are their lengths; so in the plane with two.

    Returns
    -------
    (k, n) float array
        Weights of the star's rays; of no rows where all rays are the same.
    """
    if rays.shape == to.shape and np.allclose(rays, to, atol=1e-6):
        return np.zeros((0, len(rays)))
    parts = np.einsum("mij,kj->kmi", np.linalg.inv(rays[faces].transpose(0, 2, 1)), to)
    through = parts.min(2).argmax(1)  # the face that lies around the ray
    weights = np.zeros((len(to), len(rays)))
    np.put_along_axis(weights, faces[through], np.maximum(parts[np.arange(len(to)), through], 0), 1)
    return weights
