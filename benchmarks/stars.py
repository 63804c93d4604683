"""The codec `stars` beside StarDist, on the same stars: CPU seconds per megapixel, AP, and how far the two agree, in one run.

No network is asked: the stars are encoded from the true labels of the validation images of DSB2018 (``--data``) that have 520 x 696
pixels, or of synthetic nuclei where that folder is absent, and then made noisy. Probabilities are blurred (with a standard deviation of 1
pixel) before; noise is Gaussian, of the given standard deviation in probabilities, and as a part of its length in each ray.

- ours           the `stars` codec with its defaults and rays as long as these objects need, and the rows of the table
- stardist       StarDist's ``non_maximum_suppression`` with the same two thresholds, and ``polygons_to_label``

Time is taken on all maps put side by side as one image, AP is pooled over the single images. The same with one small synthetic volume, and what
encoding takes, beside ``star_dist``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks._encoded import NUCLEI, Labels, clocked, compare, noise, ours, scored, side_by_side, truths
from benchmarks.decoding import Maps, say
from napari_segsuite.codecs import stars
from napari_segsuite.codecs.compass import RAYS
from napari_segsuite.synthetic import nuclei

NOISES = {
    "blurred alone": (0.0, 0.0),
    "noise 0.1": (0.1, 0.0),
    "noise 0.2": (0.2, 0.0),
    "noise 0.1, blurred by 2": (0.1, 2.0),
    "noise 0.15, blurred by 4": (0.15, 4.0),
}
LONGEST = {2: 64, 3: 16}
"""The longest ray of ours, by the number of axes."""
IN_SPACE = ("noise 0.1, blurred by 2",)
"""Those that are tried in 3D too, where StarDist takes minutes."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print what encoding takes and how much of the truth is star-convex, then one line per noise and decoder."""
    truth = truths(__doc__, argv)
    volume = nuclei((24, 64, 64), "zyx", seed=1)[1].astype(np.int64)
    pixels = sum(labels.size for labels in truth) / 1e6
    say(f"{len(truth)} images, {sum(len(np.unique(t)) - 1 for t in truth)} objects, {pixels:.2f} megapixels; CPU seconds, one thread")
    encoded, solid = encoding("2D", truth), encoding("3D", [volume])
    decoders = {"ours": own, "stardist": stardist}
    for name, (amount, blur) in NOISES.items():
        spoiled = [spoilt(maps, amount, blur, seed) for seed, maps in enumerate(encoded)]
        compare(name, decoders, spoiled, truth, side_by_side(spoiled))
        if name in IN_SPACE:
            spoiled = [spoilt(solid[0], amount, blur, 0)]
            compare(f"3D, {name}", decoders, spoiled, [volume], spoiled[0], 1)


def encoding(name: str, truth: Sequence[Labels]) -> list[Maps]:
    """Encode, and print how long that takes and what a perfect network would score."""
    voxels = sum(labels.size for labels in truth) / 1e6
    seconds, encoded = clocked(lambda: [stars.encode(labels, NUCLEI) for labels in truth], 1)
    theirs, _ = clocked(lambda: [stardist_rays(labels) for labels in truth], 1)
    say(f"{name}, encoding: ours {seconds / voxels:.3f} s/M, stardist's rays {theirs / voxels:.3f} s/M, {theirs / seconds:.1f} x ours")
    exact = [spoilt(maps, 0, 0, 0, 0) for maps in encoded]
    for word, decode in {"ours": own, "stardist": stardist}.items():
        say(f"{name}, there and back         {scored(word, [decode(maps) for maps in exact], truth)}")
    return encoded


def spoilt(encoded: Maps, amount: float, blur: float, seed: int, unsure: float = 1) -> Maps:
    """The maps of a network that is unsure at outlines and wrong elsewhere."""
    rng, shape = np.random.default_rng(seed), encoded["semantic"].shape

    def spoil(values: NDArray[np.floating]) -> NDArray[np.uint8]:
        blurred = ndimage.gaussian_filter(values, unsure) if unsure else values
        return np.rint(255 * np.clip(blurred + (noise(shape, amount, blur, rng) if amount else 0), 0, 1)).astype(np.uint8)

    inside = spoil((encoded["semantic"] > 0).astype(float))
    # Maps have roots: half of the error.
    rays = [ray * (1 + (noise(shape, amount / 2, blur, rng) if amount else 0)) for ray in encoded["rays"]]
    return {
        "semantic": np.stack([255 - inside, inside]),
        "probability": spoil(encoded["probability"][0].astype(float))[None],
        "rays": np.stack([np.rint(255 * np.clip(ray, 0, 1)).astype(np.uint8) for ray in rays]),
    }


def own(maps: Maps) -> Labels:
    """The codec."""
    return ours("stars", maps, longest=LONGEST[maps["semantic"].ndim - 1])


def stardist(maps: Maps) -> Labels:
    """StarDist's suppression and drawing."""
    from stardist.geometry import polygons_to_label, polyhedron_to_label
    from stardist.nms import non_maximum_suppression, non_maximum_suppression_3d
    from stardist.rays3d import Rays_GoldenSpiral

    probability = maps["probability"][0].astype(np.float32) / 255
    lengths = np.moveaxis(stars.LONGEST * (maps["rays"].astype(np.float32) / 255) ** 2, 0, -1)
    thresholds = {"prob_thresh": stars.DEFAULTS["center"], "nms_thresh": stars.DEFAULTS["overlap"], "b": None}
    if probability.ndim == 2:
        points, scores, found = non_maximum_suppression(lengths, probability, **thresholds)
        return np.asarray(polygons_to_label(found, points, prob=scores, shape=probability.shape))
    rays = Rays_GoldenSpiral(RAYS[3])
    points, scores, found = non_maximum_suppression_3d(lengths, probability, rays, **thresholds)
    return np.asarray(polyhedron_to_label(found, points, rays, prob=scores, shape=probability.shape, verbose=False))


def stardist_rays(labels: Labels) -> NDArray[np.float32]:
    """StarDist's distances."""
    from stardist.geometry import star_dist, star_dist3D
    from stardist.rays3d import Rays_GoldenSpiral

    lengths = star_dist(labels) if labels.ndim == 2 else star_dist3D(labels, Rays_GoldenSpiral(RAYS[3]))
    return np.asarray(lengths)


if __name__ == "__main__":
    main()
