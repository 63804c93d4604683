"""Superpixels: the image in small, even parts that keep to its edges."""

from __future__ import annotations

from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.models.seeded import OPTIONS, Maps, Seeded, answer, smooth, spec_of
from napari_segsuite.types import ModelSpec

STEP = 16
"""Between the seeds of two parts, in voxels. Tiles begin at multiples of it, so that all of them have the seeds at the same places of the image."""
WEIGHT = 0.15
"""Difference of brightness, as a share of the image's contrast, that counts as much as one step of the grid."""
ROUNDS = 6


class Superpixels(Seeded):
    """Superpixels (SLIC): clusters of voxels that are near each other and alike, about 16 voxels across; in volumes supervoxels.

    k-means of place and brightness, begun on a grid, where a voxel chooses among the clusters of its own cell and the cells around it (Achanta et al.
    2012; the neighbourhood as in Ren et al. 2015, arXiv 1509.04232). All of the image is divided, but for single voxels where tiles meet: for drafts
    that are merged or painted by hand, and for counting what belongs to what in parts of equal size.
    """

    spec: ClassVar[ModelSpec] = spec_of(
        "superpixels",
        "Superpixels (SLIC): all of the image in small parts of about equal size that keep to its edges; no training.",
        "Achanta et al. 2012, doi:10.1109/TPAMI.2012.120",
        normalize={"method": "percentiles"},
        multiple=(STEP,) * 3,
        tile=(128, 384, 384),
        context=(2 * STEP, 3 * STEP, 3 * STEP),  # what lies further away hardly moves a cluster
        # The voxel at a seed may belong to a neighbour; what belongs to a cell beyond the image's end lands at that end.
        codec_options={**OPTIONS, "second": 0, "search": STEP},
    )

    def _maps(self, pixels: Maps) -> dict[str, Maps]:
        value = smooth(pixels, 1.0) / WEIGHT
        shape = tuple(-(-n // STEP) for n in value.shape)
        # A part's name is its cell's first voxel: unlike the middle, it lies inside of the image for all cells that reach into it.
        grid = np.stack(np.meshgrid(*[np.arange(n) * STEP for n in shape], indexing="ij")).reshape(value.ndim, -1)
        middle = [np.minimum(at + STEP // 2, n - 1) for at, n in zip(grid, value.shape, strict=True)]
        centre = np.concatenate([np.stack(middle) / STEP, value[tuple(middle)][None]]).astype(np.float32)
        for _ in range(ROUNDS):
            centre = _means(value, _nearest(value, centre, shape), centre)
        belongs = _connected(_nearest(value, centre, shape))
        seeds = np.zeros(value.shape, np.bool_)
        seeds[tuple(grid)] = True
        flat = np.ravel_multi_index(tuple(grid), value.shape).astype(np.int32)
        return answer(np.ones(value.shape, np.bool_), seeds, flat[belongs])


def _nearest(value: Maps, centre: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The cluster that is nearest in place and brightness, of the voxel's own cell and those around it."""
    places = [np.arange(n) for n in value.shape]
    best = np.full(value.shape, np.inf, np.float32)
    belongs = np.zeros(value.shape, np.int64)
    for shift in product((-1, 0, 1), repeat=value.ndim):
        cells = [np.clip(at // STEP + s, 0, n - 1) for at, s, n in zip(places, shift, shape, strict=True)]
        cluster = np.ravel_multi_index(np.meshgrid(*cells, indexing="ij", sparse=True), shape)
        away = (value - centre[-1][cluster]) ** 2
        for axis, at in enumerate(places):
            line = (at / np.float32(STEP)).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(value.ndim)])
            away += (line - centre[axis][cluster]) ** 2
        nearer = away < best
        best[nearer], belongs[nearer] = away[nearer], cluster[nearer]
    return belongs


def _means(value: Maps, belongs: NDArray[np.int64], before: NDArray[np.float32]) -> NDArray[np.float32]:
    """Place, in steps, and brightness of each cluster; of one that lost all its voxels as before."""
    where = belongs.ravel()
    count = np.bincount(where, minlength=before.shape[1])
    now = before.copy()
    lines = [
        np.broadcast_to(np.arange(n).reshape([-1 if a == axis else 1 for a in range(value.ndim)]), value.shape) for axis, n in enumerate(value.shape)
    ]
    for row, (values, unit) in enumerate([*((line, STEP) for line in lines), (value, 1)]):
        total = np.bincount(where, weights=values.ravel(), minlength=before.shape[1])
        now[row] = np.where(count > 0, total / np.maximum(count, 1) / unit, before[row])
    return now


def _connected(belongs: NDArray[np.int64]) -> NDArray[Any]:
    """Give what lies apart from the largest piece of its cluster to the nearest piece that is kept."""
    from scipy import ndimage
    from skimage.measure import label

    pieces = label(belongs, background=-1, connectivity=1)
    count = np.bincount(pieces.ravel())
    owner = np.zeros(len(count), np.int64)
    owner[pieces.ravel()] = belongs.ravel()
    order = np.lexsort((count, owner))[1:] if count[0] == 0 else np.lexsort((count, owner))
    last = np.append(owner[order][1:] != owner[order][:-1], True)
    kept = np.zeros(len(count), np.bool_)
    kept[order[last]] = True
    nearest = ndimage.distance_transform_edt(~kept[pieces], return_distances=False, return_indices=True)
    joined: NDArray[np.int64] = belongs[tuple(nearest)]
    return joined
