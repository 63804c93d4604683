"""Labels onto the grid of a series: the same voxels in another order, direction or extent; nothing is resampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.volume import LENGTHS
from napari_segsuite.io.world import XYZ, Grid, grid_of
from napari_segsuite.types import SPATIAL, Segmentation

ON_VOXEL = 0.05
"""How far, in voxels, two grids of the same voxels may be apart anywhere: positions in DICOM and NIfTI are rounded."""


def laid_on(found: Segmentation, grid: Grid, shape: tuple[int, int, int], path: Path) -> NDArray[Any]:
    """The labels as voxels of a series.

    Parameters
    ----------
    found : Segmentation
        Of three spatial axes.
    grid : Grid
        Of the series; its matrix takes column, row and slice to millimetres.
    shape : (int, int, int)
        Columns, rows and slices of the series.
    path : Path
        Of the series, to be named.

    Returns
    -------
    (columns, rows, slices) array
        With background where the labels do not reach.

    Raises
    ------
    InputError
        The labels have other axes, or voxels that are none of the series.
    """
    if found.axes != "zyx":
        raise InputError(f"labels {found.name!r} have the axes {found.axes!r}", "zyx, as a DICOM series has", "Take one time point.")
    labels = np.asarray(found.labels)
    own = grid_of(found, XYZ, LENGTHS)
    # From column, row and slice of the series to x, y and z of the labels' array.
    over = np.linalg.inv(own.matrix) @ grid.matrix
    turn = np.rint(over[:3, :3])
    start = np.rint(over[:3, 3])
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
    away = np.abs((over[:3, :3] - turn) @ corners.T + (over[:3, 3] - start)[:, None]).max()
    if (np.abs(turn).sum(0) != 1).any() or (np.abs(turn).sum(1) != 1).any() or away > ON_VOXEL:
        size = " x ".join(f"{s:g}" for s, a in zip(found.scale, found.axes, strict=True) if a in SPATIAL)
        raise InputError(
            f"the labels {found.name!r} ({size} {found.units[-1]}) do not lie on the voxels of the series in {path}",
            "labels of that very series",
            "Resample them onto its grid with another program.",
        )
    whole = np.zeros(shape, labels.dtype)
    stored, target = [slice(0, 0)] * 3, [slice(0, 0)] * 3
    axes = [int(np.abs(turn[:, k]).argmax()) for k in range(3)]  # for each axis of the series that of the labels
    xyz = labels.transpose()
    for k, axis in enumerate(axes):
        sign, first, n = int(turn[axis, k]), int(start[axis]), xyz.shape[axis]
        # The series' index i is the labels' index first + sign * i.
        low, high = (max(0, -first), min(shape[k], n - first)) if sign > 0 else (max(0, first - n + 1), min(shape[k], first + 1))
        target[k] = slice(low, max(high, low))
        ends = first + sign * low, first + sign * (max(high, low) - 1)
        stored[axis] = slice(min(ends), max(ends) + 1) if high > low else slice(0, 0)
    part = xyz[tuple(stored)].transpose(axes)
    whole[tuple(target)] = part[tuple(slice(None, None, int(turn[axis, k])) for k, axis in enumerate(axes))]
    _check_lost(labels, whole, path)
    return whole


def _check_lost(labels: NDArray[Any], whole: NDArray[Any], path: Path) -> None:
    """Complain where labels lie outside of a series."""
    before, after = int(np.count_nonzero(labels)), int(np.count_nonzero(whole))
    if before != after:
        raise InputError(f"{before - after} of {before} labelled voxels lie outside of the series in {path}", "labels of that very series")
