"""Models without training that take touching objects apart: seeds, and the way from every voxel of the foreground to one of them.

They answer with the maps of the codec `centers`, which does the rest as for a network: a peak where a seed is, and vectors that lead there. In an
image of two axes the vectors' last component is not used.

Lengths are in voxels, for objects of about `DIAMETER` voxels: with the option ``diameter_px`` the image is resampled to that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.types import Class, Head, ModelSpec, Prediction

DIAMETER = 16.0
SMOOTHING = 1.0
"""Standard deviation of the Gaussian before the threshold."""
HOLE = 64
"""Largest hole in the foreground that is filled, in voxels."""
CONTEXT = (16, 32, 32)
"""Also the longest way to a seed that is promised; objects that are more than twice as long may be cut where tiles meet."""

HEADS = (Head("semantic", 2, "logits"), Head("center", 1, "probability"), Head("offset", 3, "vector", 8.0))
"""Those of the codec for one class, which is not imported here: describing a model must not cost what decoding does."""

OPTIONS = {"window": 1, "search": 2, "second": 2, "longest": 64}
Maps = NDArray[np.float32]


def spec_of(name: str, description: str, citation: str, **special: Any) -> ModelSpec:
    """Describe such a model; `special` are fields of the description that differ from the others'."""
    spec = ModelSpec(
        name=name, description=description, axes="any", channels=("grey",), heads=HEADS, classes=(Class(1, "object"),), codec="centers",
        codec_options=OPTIONS, diameter_px=DIAMETER, tile=(96, 384, 384), multiple=(1, 1, 1), context=CONTEXT, normalize={"method": "otsu"},
        licence="BSD-3-Clause", citation=citation, trained_on="nothing",
    )  # fmt: skip
    return replace(spec, **special)


class Seeded(ABC):
    """What these models have in common: one channel, one picture after the other."""

    def predict(self, batch: Maps) -> Prediction:
        """Maps of the codec `centers`, (N, C, *spatial)."""
        parts = [self._maps(pixels[0]) for pixels in batch]
        return Prediction({name: np.stack([part[name] for part in parts]) for name in parts[0]})

    @abstractmethod
    def _maps(self, pixels: Maps) -> dict[str, Maps]:
        """The maps (C, *spatial) of one picture."""


class Watershed(Seeded):
    """Otsu's threshold, then a watershed of the smoothed distance to the background: bright, roundish objects that touch.

    The tops of the distance are the seeds, and the foreground is divided between them by flooding its negative (Meyer 1994), as scikit-image does it.
    """

    SIGMA: ClassVar[float] = 2.0
    """Of the Gaussian on the distance; smaller numbers split more."""
    spec: ClassVar[ModelSpec] = spec_of(
        "watershed",
        "Otsu's threshold, then a watershed of the distance to the background: bright, roundish objects that touch; no training.",
        "Meyer 1994, doi:10.1016/0165-1684(94)90060-4; Otsu 1979, doi:10.1109/TSMC.1979.4310076",
    )

    def _maps(self, pixels: Maps) -> dict[str, Maps]:
        inside = foreground(pixels)
        _, seeds, target = self.divided(inside)
        return answer(inside, seeds, target)

    def divided(self, inside: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int32]]:
        """The distance to the background, the seeds, and the seed of each voxel inside (`basins`)."""
        from scipy import ndimage

        distance = ndimage.distance_transform_edt(inside) if not inside.all() else np.full(inside.shape, np.inf)
        height = smooth(np.minimum(distance, 2 * DIAMETER).astype(np.float32), self.SIGMA)
        seeds = tops(height, inside)
        return distance, seeds, basins(height, inside, seeds)


class VoronoiOtsu(Seeded):
    """Otsu's threshold, and each voxel of the foreground to the nearest spot: the brightest places of the image, smoothed by the size of an object.

    For objects that are brightest in the middle, as nuclei often are.
    """

    SIGMA: ClassVar[float] = 4.0
    """Of the Gaussian before spots are looked for; smaller numbers split more."""
    spec: ClassVar[ModelSpec] = spec_of(
        "voronoi-otsu",
        "Otsu's threshold, divided between the brightest spots (nearest spot): objects that are brightest in the middle; no training.",
        "Haase et al. 2020, doi:10.1038/s41592-019-0650-1; Otsu 1979, doi:10.1109/TSMC.1979.4310076",
    )

    def _maps(self, pixels: Maps) -> dict[str, Maps]:
        from scipy import ndimage

        inside = foreground(pixels)
        spots = tops(smooth(pixels, self.SIGMA), inside)
        if not spots.any():
            return answer(inside, spots, own(inside.shape))
        nearest = ndimage.distance_transform_edt(~spots, return_distances=False, return_indices=True)
        return answer(inside, spots, np.ravel_multi_index(tuple(nearest), inside.shape).astype(np.int32))


class Blobs(Seeded):
    """Bright blobs of one size, found as tops of the Laplacian of a Gaussian (Marr and Hildreth 1980; Lindeberg 1998 for its scale).

    A blob is what has at least `SHARE` of its top's response. No threshold of the image is involved, so that weak blobs are found beside bright ones.
    """

    SIGMA: ClassVar[float] = DIAMETER / 2 / np.sqrt(2)
    """Where the response of a disk of `DIAMETER` is greatest in 2D."""
    LEAST, SHARE = 0.05, 0.25
    """Of the contrast of the image; of the top."""
    spec: ClassVar[ModelSpec] = spec_of(
        "blobs",
        "Laplacian of a Gaussian: bright blobs of one size, weak ones beside bright ones (give the diameter); no training.",
        "Lindeberg 1998, doi:10.1023/A:1008045108935",
        normalize={"method": "percentiles"},
    )

    def _maps(self, pixels: Maps) -> dict[str, Maps]:
        from scipy import ndimage

        response = -(self.SIGMA**2) * ndimage.gaussian_laplace(pixels, self.SIGMA, mode="nearest", truncate=3.0)
        positive = response > 0
        seeds = tops(response, response > self.LEAST)
        target = basins(response, positive, seeds)
        inside = positive & seeds.ravel()[target] & (response >= self.SHARE * response.ravel()[target])
        return answer(inside, seeds, target)


def foreground(pixels: Maps) -> NDArray[np.bool_]:
    """Above Otsu's threshold, with holes filled that are too small to be ground."""
    from scipy import ndimage

    inside: NDArray[np.bool_] = smooth(pixels, SMOOTHING) > 0.5
    holes, _ = ndimage.label(~inside)
    small = np.bincount(holes.ravel()) <= HOLE
    small[0] = False
    return inside | small[holes]


def tops(height: Maps, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels inside that nothing around them exceeds; of a plateau the first one in the array's order."""
    from skimage.measure import label
    from skimage.morphology import local_maxima

    found = label(local_maxima(height) & inside, connectivity=height.ndim).ravel()
    first = np.unique(found, return_index=True)[1][int(found.min() == 0) :]
    marked = np.zeros(height.shape, np.bool_)
    marked.ravel()[first] = True
    return marked


def basins(height: Maps, inside: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The seed that each voxel inside belongs to, as a flat index, by a watershed of the negative height; elsewhere the voxel itself."""
    from skimage.segmentation import watershed

    at = np.flatnonzero(seeds)
    markers = np.zeros(height.shape, np.int32)
    markers.ravel()[at] = np.arange(1, len(at) + 1)
    label = watershed(-height, markers, mask=inside)
    return np.where(label > 0, np.concatenate([[0], at]).astype(np.int32)[label], own(height.shape))


def own(shape: tuple[int, ...]) -> NDArray[np.int32]:
    return np.arange(np.prod(shape), dtype=np.int32).reshape(shape)


def smooth(pixels: Maps, sigma: float) -> Maps:
    from scipy import ndimage

    smoothed: Maps = ndimage.gaussian_filter(pixels, sigma, mode="nearest", truncate=3.0)
    return smoothed


def answer(inside: NDArray[np.bool_], peaks: NDArray[np.bool_], target: NDArray[np.int32]) -> dict[str, Maps]:
    """The codec's maps of one tile: foreground, peaks, and the way from each voxel to its target (a flat index)."""
    offset = np.zeros((3, *inside.shape), np.float32)
    for axis, to in enumerate(np.unravel_index(target, inside.shape)):
        line = np.arange(inside.shape[axis]).reshape([-1 if a == axis else 1 for a in range(inside.ndim)])
        offset[axis] = np.where(inside, to - line, 0)
    return {"semantic": np.stack([~inside, inside]).astype(np.float32), "center": peaks[None].astype(np.float32), "offset": offset}
