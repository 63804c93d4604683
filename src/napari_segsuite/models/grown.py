"""Models without training whose outlines are not a threshold of the whole image: regions that grow from seeds, and edges.

Seeds, maps and sizes are those of `models.seeded`.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.models.seeded import SMOOTHING, Maps, Seeded, Watershed, answer, basins, foreground, own, smooth, spec_of, tops
from napari_segsuite.types import ModelSpec


class RegionGrowing(Seeded):
    """Regions that grow from the brightest places, downhill and as far as a share of their own brightness, until they meet.

    Each region has a threshold of its own (half of its top's height above the ground), so that dim objects beside bright ones keep their size, where
    one threshold for the whole image loses the dim ones or swells the bright ones. What stands out no further than noise does is no object, as in
    Rose's criterion (Rose 1948, doi:10.1364/JOSA.38.000196): contrast over the noise that is left at the size of an object.
    """

    SIGMA: ClassVar[float] = 2.0
    """Of the Gaussian before seeds are looked for; smaller numbers split more."""
    LEAST, SHARE, RISE = 0.15, 0.5, 1.2
    """Least height of a seed, as a share of the image's contrast; brightness that still belongs to a region, as a share of its seed's; how much
    brighter a seed is than the highest pass to a brighter one."""
    STANDS: ClassVar[float] = 9.0
    """Least height of a region's top above the darkest ground near it, in standard deviations of the noise in the smoothed image. Both are extremes
    of it in noise alone, where they are 6 to 8 apart; if its voxels depend on each other, further."""
    GROUND: ClassVar[tuple[int, ...]] = (9, 33, 33)
    """Where ground is looked for, in voxels; with the Gaussian before it no further than `seeded.CONTEXT`, and so for the noise."""
    spec: ClassVar[ModelSpec] = spec_of(
        "region-growing",
        "Regions that grow from the brightest places down to half of their brightness: dim objects beside bright ones; no training.",
        "Adams and Bischof 1994, doi:10.1109/34.295913",
        normalize={"method": "percentiles"},
    )

    def _maps(self, pixels: Maps) -> dict[str, Maps]:
        value = smooth(pixels, SMOOTHING)
        height = smooth(pixels, self.SIGMA)
        candidates = value > self.LEAST * self.SHARE
        seeds = self._seeds(height)
        target = basins(height, candidates, seeds)
        above = np.full(height.size, -np.inf, np.float32)
        np.maximum.at(above, target.ravel(), (height - self._least(pixels, value, height)).ravel())
        seeds &= above.reshape(height.shape) >= 0
        inside = candidates & seeds.ravel()[target] & (value >= self.SHARE * height.ravel()[target])
        return answer(inside, seeds, target)

    def _least(self, pixels: Maps, value: Maps, height: Maps) -> Maps:
        """How high a top must be, smoothed for seeds, to be further above the ground near it than the tops of noise are.

        How strong white noise is shows in the details between the two scales of smoothing; it is known how much of it each leaves.
        """
        from scipy import ndimage

        n = pixels.ndim
        left, in_details = _left_of_noise(pixels.shape, SMOOTHING, self.SIGMA)
        around = partial(ndimage.gaussian_filter, sigma=(3, 8, 8)[-n:], mode="nearest", truncate=3.0)
        power = around((value - height) ** 2) / around(in_details)
        ground = ndimage.minimum_filter(smooth(pixels, 2 * self.SIGMA), self.GROUND[-n:], mode="nearest")
        return np.asarray(ground + self.STANDS * np.sqrt(power * left), np.float32)

    def _seeds(self, height: Maps) -> NDArray[np.bool_]:
        """Tops that rise above the highest pass to a higher one by the factor `RISE`."""
        from skimage.morphology import reconstruction

        level = np.log(np.maximum(height, self.LEAST))
        filled = reconstruction(level - np.log(self.RISE), level).astype(np.float32)
        return tops(filled, filled > np.log(self.LEAST) - np.log(self.RISE) / 2)


class Edges(Watershed):
    """Objects up to their strongest edge: a watershed of the gradient, flooded from inside each object and from the ground between them.

    Where the objects are comes from Otsu's threshold and the distance to the ground, as in `watershed`. Where they end is the ridge of the gradient's
    magnitude, so that neither glow nor an uneven ground moves an outline; it lies within `BAND` voxels of the threshold's.
    """

    BAND: ClassVar[int] = 3
    spec: ClassVar[ModelSpec] = spec_of(
        "edges",
        "Objects up to their strongest edge (watershed of the gradient), touching ones taken apart by distance; no training.",
        "Beucher and Lantuejoul 1979, Workshop on Image Processing, Rennes; Meyer 1994, doi:10.1016/0165-1684(94)90060-4",
    )

    def _maps(self, pixels: Maps) -> dict[str, Maps]:
        from scipy import ndimage
        from skimage.segmentation import watershed

        core = foreground(pixels)
        if not core.any():
            return answer(core, core, own(core.shape))
        depth, seeds, parts = self.divided(core)
        away = ndimage.distance_transform_edt(~core) > self.BAND
        markers = np.where((depth > self.BAND) | seeds, parts + 2, 0).astype(np.int32)
        markers[away] = 1
        steep = ndimage.gaussian_gradient_magnitude(pixels, 1.0, mode="nearest", truncate=3.0)
        found = watershed(steep, markers)
        return answer(found > 1, seeds, np.where(found > 1, found - 2, own(core.shape)).astype(np.int32))


def _left_of_noise(shape: tuple[int, ...], fine: float, coarse: float) -> tuple[Maps, Maps]:
    """Variance of white noise of variance 1 after smoothing at the coarse scale, and in what is between the two; larger at the ends of an axis."""
    parts = [[_weights(n, sigma) for sigma in (fine, coarse)] for n in shape]
    ways = ([np.einsum("ij,ij->i", pair[a], pair[b], dtype=np.float32) for pair in parts] for a, b in ((0, 0), (1, 1), (0, 1)))
    of_fine, of_coarse, of_both = (reduce(np.multiply.outer, lines) for lines in ways)
    return of_coarse, of_fine + of_coarse - 2 * of_both


def _weights(n: int, sigma: float) -> Maps:
    """What `smooth` does along an axis of n voxels, as weights: (n, n), from column to row."""
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter1d(np.eye(n, dtype=np.float32), sigma, axis=0, mode="nearest", truncate=3.0))
