"""Models without training."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.types import Class, Head, ModelSpec, Prediction

_SIGMA = 1.0
_GREYS = (Class(1, "medium", (255, 176, 0), countable=False), Class(2, "bright", (100, 143, 255), countable=False))
_REACH = 4


class Otsu:
    """Otsu's threshold of the whole image on slightly smoothed pixels; what touches is one object.

    The threshold is found once per image and becomes 0.5 by normalisation, so that tiles cannot disagree.
    """

    spec: ClassVar[ModelSpec] = ModelSpec(
        name="otsu",
        description="Otsu's threshold and connected components: bright objects that do not touch; no training.",
        axes="any",
        channels=("grey",),
        heads=(Head("semantic", 2, "logits"),),
        classes=(Class(1, "object"),),
        codec="semantic",
        tile=(64, 512, 512),
        multiple=(1, 1, 1),
        context=(_REACH,) * 3,
        normalize={"method": "otsu"},
        licence="BSD-3-Clause",
        citation="Otsu 1979, doi:10.1109/TSMC.1979.4310076",
        trained_on="nothing",
    )

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        """Foreground as the smoothed, clipped pixel value, (N, 2, *spatial)."""
        from scipy import ndimage  # here, since describing the model must not cost what running it does

        sigma = (0, 0) + (_SIGMA,) * (batch.ndim - 2)
        # "nearest" and the cut-off at `_REACH` make a tile with its context agree exactly with the whole image.
        # All in one array: whole tiles in temporary ones would be most of the memory and half of the time of a run.
        maps = np.empty((len(batch), 2, *batch.shape[2:]), np.float32)
        foreground = maps[:, 1:]
        ndimage.gaussian_filter(batch, sigma, output=foreground, mode="nearest", radius=_REACH)
        np.clip(foreground, 0, 1, out=foreground)
        np.subtract(1, foreground, out=maps[:, :1])
        return Prediction({"semantic": maps})


class KMeans:
    """Three clusters of grey values over the whole image: dark is background, medium and bright are classes.

    In one dimension the clusters of least variance are cut by two thresholds, which is Otsu's method for three classes (Liao et al. 2001). They are
    found once per image and become 0 and 1 by normalisation, so that tiles cannot disagree.
    """

    spec: ClassVar[ModelSpec] = ModelSpec(
        name="kmeans",
        description="Three clusters of grey values (k-means): dark, medium and bright, as classes of tissue; no training.",
        axes="any",
        channels=("grey",),
        heads=(Head("semantic", 3, "logits"),),
        classes=_GREYS,
        codec="semantic",
        tile=(64, 512, 512),
        multiple=(1, 1, 1),
        context=(_REACH,) * 3,
        normalize={"method": "clusters"},
        licence="BSD-3-Clause",
        citation="Liao et al. 2001, J. Inf. Sci. Eng. 17, 713-727",
        trained_on="nothing",
    )

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        """Dark, medium and bright as 0 or 1, (N, 3, *spatial)."""
        from scipy import ndimage

        sigma = (0, 0) + (_SIGMA,) * (batch.ndim - 2)
        value = ndimage.gaussian_filter(batch, sigma, mode="nearest", radius=_REACH)
        return Prediction({"semantic": np.concatenate([value <= 0, (value > 0) & (value <= 1), value > 1], axis=1).astype(np.float32)})


class Mixture(KMeans):
    """Three kinds of grey values over the whole image, each a Gaussian of its own width and share: dark is background, the others are classes.

    Better than `kmeans` where the kinds are not equally wide or frequent, as a narrow ground below faint structures. Thresholds between them are
    found once per image (`thresholds.mixture`), so that tiles cannot disagree.
    """

    spec: ClassVar[ModelSpec] = replace(
        KMeans.spec,
        name="mixture",
        description="Three Gaussians of grey values (mixture model): dark, medium and bright of different widths, as classes; no training.",
        normalize={"method": "mixture"},
        citation="Dempster et al. 1977, doi:10.1111/j.2517-6161.1977.tb01600.x",
    )
