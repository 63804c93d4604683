"""Shapes of real objects, taken out of label volumes so that synthetic ones can have them too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

Floats = NDArray[np.float32]

GRID, REACH = 25, 2.0
"""Samples of a shape along each axis, and how far they go from its middle, in its own radii."""


def shapes(labels: NDArray[np.integer], step: float = 1.0, least: int = 300) -> list[Floats]:
    """Take the shapes of whole objects out of a label volume.

    Parameters
    ----------
    labels : (z, y, x) integer
    step : float
        Distance of two slices in voxels of the last two axes.
    least : int
        Smaller objects, in voxels, are left out, and so are those at the border.

    Returns
    -------
    list of (GRID, GRID, GRID) float32
        Distance to the surface in radii of the ball of the same volume, positive inside, from -`REACH` to `REACH` radii around the middle.
    """
    found = []
    for region in measure.regionprops(labels):
        low, high = np.array(region.bbox[:3]), np.array(region.bbox[3:])
        if region.area >= least and (low > 0).all() and (high < labels.shape).all():
            found.append(_shape(np.pad(region.image, 3), step))
    return found


def _shape(inside: NDArray[np.bool_], step: float) -> Floats:
    """Signed distances of one object on a grid in its own radii."""
    sampling = (step, 1.0, 1.0)
    signed = ndimage.distance_transform_edt(inside, sampling) - ndimage.distance_transform_edt(~inside, sampling)
    signed = ndimage.gaussian_filter(signed, 1 / np.array(sampling))  # labels are steps, surfaces are not
    radius = (3 / (4 * np.pi) * inside.sum() * step) ** (1 / 3)
    middle = np.argwhere(inside).mean(0)
    line = np.linspace(-REACH, REACH, GRID) * radius
    grid = np.stack(np.meshgrid(*[m + line / s for m, s in zip(middle, sampling, strict=True)], indexing="ij"))
    sampled = ndimage.map_coordinates(signed, grid, order=1, mode="nearest") / radius
    # Beyond the cut-out nothing is inside, however near its border is.
    beyond = np.sqrt((np.stack(np.meshgrid(*[line] * 3, indexing="ij")) ** 2).sum(0)) / radius
    limited: Floats = np.minimum(sampled, 2.2 - beyond).astype(np.float32)
    return limited
