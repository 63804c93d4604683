"""Where the samples of medical images lie: from a file's matrix to the fields of an `Image`, and back.

The world is that of DICOM and ITK: x grows to the patient's left, y to the back, z to the head (LPS). In the order of our axes this is
``z y x``, so a slice in napari looks as in a viewer for radiologists. NIfTI's world (RAS) is the same with x and y mirrored, which changes signs
and no digit.

A *matrix* here is (4, 4), takes indices of stored axes, fastest first, to world x, y, z, and is in the file's unit. A stored axis bears the name
of the world axis that it runs along most closely, in either direction; so no volume is shown lying on its side, and none is resampled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.geometry import Size, valid
from napari_segsuite.io.units import PIXEL
from napari_segsuite.sizes import pixel_size_um
from napari_segsuite.types import SPATIAL

Matrix = NDArray[np.float64]

XYZ = "xyz"
MIRRORED = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From RAS to LPS and back."""

SAME = 1e-4
"""How far, in samples, two grids may differ that are one: NIfTI rounds to 24 bits, and others to as few digits."""

_FLAT = 1e-6
"""Volume of a cell over that of a box with its edges, below which the axes count as lying in one plane."""


@dataclass(frozen=True)
class Grid:
    """Where the samples of a file lie.

    Attributes
    ----------
    matrix : (4, 4) float64
    unit : str
        Of the matrix: ``"millimeter"``, ...; ``"pixel"`` where nothing is known.
    time : (float, str)
        Length of a time step, and its unit.
    start : float
        Time of the first sample.
    """

    matrix: Matrix = field(default_factory=lambda: np.eye(4))
    unit: str = PIXEL
    time: Size = (1.0, PIXEL)
    start: float = 0.0


def checked(matrix: Matrix, path: Path) -> Matrix:
    """A matrix that puts every sample at a place of its own, without negative zeros.

    Raises
    ------
    InputError
        It holds what is no number, or is singular.
    """
    rows = "; ".join(" ".join(f"{v:g}" for v in row) for row in matrix[:3])
    if not np.isfinite(matrix).all():
        raise InputError(f"the affine of {path} is not made of numbers ({rows})", "12 finite numbers", "Repair its header, or export it again.")
    edges = np.linalg.norm(matrix[:3, :3], axis=0)
    if not edges.all() or abs(np.linalg.det(matrix[:3, :3] / edges)) < _FLAT:
        found = f"the affine of {path} is singular ({rows}): samples would lie on top of each other"
        raise InputError(found, "three axes that do not lie in one plane", "Repair its header, or export it again.")
    return matrix + 0.0


def names_of(matrix: Matrix, n: int = 3) -> str:
    """The letters of the first `n` stored axes: of the world axes that they run along most closely.

    >>> names_of(np.array([[0, 0, 5, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]]))
    'yzx'
    """
    along = np.abs(matrix[:3, :3]) / np.linalg.norm(matrix[:3, :3], axis=0)
    best = max(permutations(range(n)), key=lambda rows: float(sum(along[row, k] for k, row in enumerate(rows))))
    return "".join(XYZ[row] for row in best)


def is_flat(matrix: Matrix) -> bool:
    """Whether the plane of the first two axes is one of constant z, at z = 0."""
    return not matrix[2, [0, 1, 3]].any() and not matrix[:2, 2].any()


def place_of(axes: str, columns: Mapping[str, int], grid: Grid) -> dict[str, Any]:
    """The fields of an `Image` that put it in its place.

    Parameters
    ----------
    axes : str
        Of the image.
    columns : mapping of str to int
        The column of the matrix for each spatial letter; a letter without one counts samples.
    grid : Grid

    Returns
    -------
    dict
        ``axes``, ``scale``, ``units``, ``translate`` and ``affine``, which is None where scale and translate are enough.
    """
    spatial = [a for a in axes if a in SPATIAL]
    known = len({columns.get(a) for a in spatial}) == len(spatial) and all(a in columns for a in spatial)
    rows = [XYZ.index(a) for a in spatial]
    whole = np.eye(len(spatial) + 1)
    if known and (len(spatial) == 3 or is_flat(grid.matrix)):
        whole[:-1] = grid.matrix[np.ix_(rows, [*(columns[a] for a in spatial), 3])]
    edges = np.linalg.norm(grid.matrix[:3, :3], axis=0)
    sizes = {a: valid((float(edges[columns[a]]), grid.unit)) for a in spatial if a in columns} | {"t": valid(grid.time)}
    starts = dict(zip(spatial, whole[:-1, -1].tolist(), strict=True)) | {"t": grid.start}
    plain = not known or np.array_equal(whole[:-1, :-1], np.diag([sizes[a][0] for a in spatial]))
    told = [sizes.get(a, (1.0, PIXEL)) for a in axes]
    return {
        "axes": axes,
        "scale": tuple(size for size, _ in told),
        "units": tuple(unit for _, unit in told),
        "translate": tuple(float(starts.get(a, 0.0)) for a in axes),
        "affine": None if plain else whole,
    }


def grid_of(thing: Any, letters: str, known: Mapping[str, float]) -> Grid:
    """Where the samples of an image or of labels lie, in words that a format has.

    Parameters
    ----------
    thing : Image, Segmentation, or mapping
        The fields of `place_of`.
    letters : str
        The stored order of the three spatial axes, fastest first.
    known : mapping of str to float
        Units of length that the format knows, in micrometres; other lengths become millimetres.
    """
    told: Mapping[str, Any] = thing if isinstance(thing, Mapping) else vars(thing)
    axes, units, affine = told["axes"], told["units"], told["affine"]
    scale, translate = (dict(zip(axes, map(float, told[name]), strict=True)) for name in ("scale", "translate"))
    spatial = [a for a in axes if a in SPATIAL]
    whole = np.diag([*(scale[a] for a in spatial), 1.0]) if affine is None else np.asarray(affine, np.float64)
    if affine is None:
        whole[:-1, -1] = [translate[a] for a in spatial]
    matrix = np.eye(4)
    rows = [XYZ.index(a) for a in spatial]
    matrix[np.ix_(rows, [*(letters.index(a) for a in spatial), 3])] = whole[:-1]
    for a in set(XYZ) - set(spatial):  # an axis that the image does not have
        matrix[:3, letters.index(a)] = np.eye(3)[XYZ.index(a)]
    factors, unit = _in_one_unit(tuple(units[axes.index(a)] for a in spatial), known)
    matrix[rows] *= np.array(factors)[:, None]
    time = (scale["t"], str(units[axes.index("t")])) if "t" in axes else (1.0, PIXEL)
    return Grid(matrix, unit, time, translate.get("t", 0.0))


def agree(one: Grid, other: Grid, shape: tuple[int, ...]) -> bool:
    """Whether two grids are the same but for rounding, at every corner of an image of this shape."""
    if (one.unit != other.unit and PIXEL not in (one.unit, other.unit)) or abs(one.time[0] - other.time[0]) > SAME * abs(one.time[0]):
        return False
    corners = np.array([(*corner, 1.0) for corner in np.ndindex(2, 2, 2)]) * [*(max(n - 1, 1) for n in shape), 1]
    size = np.linalg.norm(one.matrix[:3, :3], axis=0).min()
    apart = np.abs((one.matrix - other.matrix) @ corners.T).max()
    return bool(apart <= SAME * size + 1e-6 * np.abs(one.matrix).max())


def _in_one_unit(units: tuple[str, ...], known: Mapping[str, float]) -> tuple[list[float], str]:
    if len(set(units)) == 1 and units[0] in known:
        return [1.0] * len(units), units[0]
    lengths = [pixel_size_um("x", (1.0,), (unit,)) for unit in units]
    if any(length is None for length in lengths):
        return [1.0] * len(units), PIXEL
    return [length[0] / 1000 for length in lengths if length], "millimeter"
