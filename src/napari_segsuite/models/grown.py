"""Models without training whose outlines are not a threshold of the whole image: regions that grow from seeds, and edges.

Seeds, maps and sizes are those of `models.seeded`.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.models.seeded import Maps, Seeded, Watershed, answer, basins, foreground, own, smooth, spec_of, tops
from napari_segsuite.types import ModelSpec


class RegionGrowing(Seeded):
    """Regions that grow from the brightest places, downhill and as far as a share of their own brightness, until they meet.

    Each region has a threshold of its own (half of its top's height above the ground), so that dim objects beside bright ones keep their size, where
    one threshold for the whole image loses the dim ones or swells the bright ones.
    """

    SIGMA: ClassVar[float] = 2.0
    """Of the Gaussian before seeds are looked for; smaller numbers split more."""
    LEAST, SHARE, RISE = 0.15, 0.5, 1.2
    """Least height of a seed, as a share of the image's contrast; brightness that still belongs to a region, as a share of its seed's; how much
    brighter a seed is than the highest pass to a brighter one."""
    spec: ClassVar[ModelSpec] = spec_of(
        "region-growing",
        "Regions that grow from the brightest places down to half of their brightness: dim objects beside bright ones; no training.",
        "Adams and Bischof 1994, doi:10.1109/34.295913",
        normalize={"method": "percentiles"},
    )

    def _maps(self, pixels: Maps) -> dict[str, Maps]:
        value = smooth(pixels, 1.0)
        height = smooth(pixels, self.SIGMA)
        candidates = value > self.LEAST * self.SHARE
        seeds = self._seeds(height)
        target = basins(height, candidates, seeds)
        inside = candidates & seeds.ravel()[target] & (value >= self.SHARE * height.ravel()[target])
        return answer(inside, seeds, target)

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
