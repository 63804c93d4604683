"""The codec `boundaries` beside scikit-image's watershed, on the same maps: CPU seconds per megapixel, AP, and how far they agree, in one run.

No network is asked: the maps are encoded from the true labels of the validation images of DSB2018 (``--data``) that have 520 x 696
pixels, or of synthetic nuclei where that folder is absent, and then blurred (with a standard deviation of 1 pixel) and made noisy (Gaussian,
of the given standard deviation).

- ours           the `boundaries` codec with lengths like those that a training chooses for objects of this size, and the rows of the table
- same seeds     scikit-image's ``watershed`` on the same heights, from the tops that ours found: that was done before and is not counted
- thresholds     as in NucMM (Lin et al. 2021): what is deep inside and no outline is labelled, and the distance map is flooded from there

Time is taken on all maps put side by side as one image, AP is pooled over the single images. The same with one synthetic volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from benchmarks._encoded import NUCLEI, Labels, clocked, compare, noise, ours, side_by_side, truths
from benchmarks.decoding import Maps, say
from napari_segsuite.codecs import boundaries
from napari_segsuite.codecs.semantic import kinds
from napari_segsuite.synthetic import nuclei

NOISES = {
    "blurred alone": (0.0, 0.0),
    "noise 0.1": (0.1, 0.0),
    "noise 0.2": (0.2, 0.0),
    "noise 0.1, blurred by 2": (0.1, 2.0),
    "noise 0.15, blurred by 4": (0.15, 4.0),
}
OPTIONS = {2: {"smooth": 3, "steps": 32, "search": 32}, 3: {"smooth": 1, "steps": 16, "search": 16}}
"""By the number of axes."""
DEEP, OUTLINE = 0.5, 0.5
"""Least distance map and largest boundary map of a seed."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per noise and decoder, and what encoding takes."""
    truth = truths(__doc__, argv)
    volume = nuclei((48, 128, 128), "zyx", seed=1)[1].astype(np.int64)
    seconds, encoded = clocked(lambda: [boundaries.encode(labels, NUCLEI) for labels in truth], 1)
    pixels = sum(labels.size for labels in truth) / 1e6
    say(f"{len(truth)} images, {sum(len(np.unique(t)) - 1 for t in truth)} objects, {pixels:.2f} megapixels; CPU seconds, one thread")
    say(f"encoding: {seconds / pixels:.3f} s/Mpx")
    for name, (amount, blur) in NOISES.items():
        spoiled = [spoilt(maps, amount, blur, seed) for seed, maps in enumerate(encoded)]
        both(name, spoiled, truth, side_by_side(spoiled))
        spoiled = [spoilt(boundaries.encode(volume, NUCLEI), amount, blur, 0)]
        both(f"3D, {name}", spoiled, [volume], spoiled[0])


def both(name: str, maps: Sequence[Maps], truth: Sequence[Labels], large: Maps) -> None:
    """Compare with seeds that ours found beforehand, for each of the maps."""
    seeds = {id(m["semantic"]): tops(m) for m in [*maps, large]}
    options = OPTIONS[truth[0].ndim]
    decoders = {
        "ours": partial(ours, "boundaries", **options),
        "same seeds": lambda m: flooded(m, *seeds[id(m["semantic"])]),
        "thresholds": thresholds,
    }
    compare(name, decoders, maps, truth, large)


def spoilt(encoded: Maps, amount: float, blur: float, seed: int) -> Maps:
    """The maps of a network that is unsure at outlines and wrong elsewhere."""
    rng, shape = np.random.default_rng(seed), encoded["semantic"].shape

    def unsure(values: NDArray[Any]) -> NDArray[np.uint8]:
        blurred = ndimage.gaussian_filter(values.astype(float), 1)
        return np.rint(255 * np.clip(blurred + noise(shape, amount, blur, rng), 0, 1)).astype(np.uint8)

    inside = unsure(encoded["semantic"] > 0)
    return {
        "semantic": np.stack([255 - inside, inside]),
        "boundary": unsure(encoded["boundary"][0])[None],
        "distance": unsure(encoded["distance"][0])[None],
    }


def tops(maps: Maps) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """The seeds that ours finds, and the heights that it floods."""
    shape = maps["semantic"].shape[1:]
    d = len(shape)
    found = boundaries.assign(maps, NUCLEI, OPTIONS[d], (0,) * d, shape, (1.0,) * d)
    markers = np.zeros(shape, np.int32)
    markers.ravel()[found.keys[1:] - 1] = np.arange(1, len(found.keys))
    thing = kinds(maps["semantic"], 0.5) > 0
    return markers, boundaries._heights(maps, thing, [OPTIONS[d]["smooth"]] * d)[(slice(1, -1),) * d]


def flooded(maps: Maps, markers: NDArray[np.int32], heights: NDArray[Any]) -> Labels:
    """The watershed from given seeds, and nothing else."""
    labels: Labels = watershed(-heights, markers, connectivity=heights.ndim, mask=heights > 0)
    return labels


def thresholds(maps: Maps) -> Labels:
    """Seeds by thresholds, and the watershed from there."""
    thing = kinds(maps["semantic"], 0.5) > 0
    distance = maps["distance"][0]
    seeds, _ = ndimage.label(thing & (distance >= 255 * DEEP) & (maps["boundary"][0] < 255 * OUTLINE))
    labels: Labels = watershed(255 - distance, seeds, mask=thing)
    return labels


if __name__ == "__main__":
    main()
