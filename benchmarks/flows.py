"""The codec `flows` beside Cellpose 4, on the same flows: CPU seconds per megapixel, AP, and how far the two agree, in one run.

No network is asked: the flows are encoded from the true labels of the validation images of DSB2018 (``--data``) that have 520 x 696
pixels, or of synthetic nuclei where that folder is absent, and then blurred and made noisy. Blurring has a standard deviation of 1 pixel;
noise is Gaussian, of the given standard deviation in each component of vectors of length 1 and 0.3 times that in the foreground's probability.

- ours           the `flows` codec with its defaults, and the rows of the table
- cellpose       Cellpose 4's ``compute_masks``, without its quality check (``flow_threshold=0``), on the processor

Time is taken on all maps put side by side as one image, AP is pooled over the single images; objects of less than 15 pixels, which Cellpose
drops by default, are not counted for either. The same with one synthetic volume. Then each decodes the exact flows that the other encodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy import ndimage

from benchmarks._encoded import NUCLEI, Labels, clocked, compare, noise, ours, scored, side_by_side, truths
from benchmarks.decoding import Maps, say
from napari_segsuite.codecs import flows
from napari_segsuite.synthetic import nuclei

NOISES = {
    "blurred alone": (0.0, 0.0),
    "noise 0.3": (0.3, 0.0),
    "noise 0.6": (0.6, 0.0),
    "noise 0.3, blurred by 2": (0.3, 2.0),
    "noise 0.4, blurred by 4": (0.4, 4.0),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per noise and decoder, then what encoding takes and whether each reads the other's flows."""
    import torch

    torch.set_num_threads(1)
    truth = truths(__doc__, argv)
    seconds, encoded = clocked(lambda: [flows.encode(labels, NUCLEI) for labels in truth], 1)
    theirs, targets = clocked(lambda: [cellpose_targets(labels) for labels in truth], 1)
    volume = nuclei((48, 128, 128), "zyx", seed=1)[1].astype(np.int64)
    pixels = sum(labels.size for labels in truth) / 1e6
    say(f"{len(truth)} images, {sum(len(np.unique(t)) - 1 for t in truth)} objects, {pixels:.2f} megapixels; CPU seconds, one thread")
    say(f"encoding: ours {seconds / pixels:.3f} s/Mpx, cellpose {theirs / pixels:.3f} s/Mpx, {theirs / seconds:.1f} x ours")
    decoders = {"ours": partial(ours, "flows"), "cellpose": cellpose}
    for name, (amount, blur) in NOISES.items():
        spoiled = [spoilt(maps, amount, blur, seed) for seed, maps in enumerate(encoded)]
        compare(name, decoders, spoiled, truth, side_by_side(spoiled))
        spoiled = [spoilt(flows.encode(volume, NUCLEI), amount, blur, 0)]
        compare(f"3D, {name}", decoders, spoiled, [volume], spoiled[0])
    say("exact flows of the other: " + scored("ours", [ours("flows", maps) for maps in targets], truth))
    say("exact flows of the other: " + scored("cellpose", [cellpose(integers(m)) for m in encoded], truth))


def integers(encoded: Maps) -> Maps:
    """Encoded labels as the maps that decoders get."""
    inside = encoded["semantic"] > 0
    return {"semantic": np.stack([~inside, inside]) * np.uint8(255), "flow": np.rint(encoded["flow"] * 8).astype(np.int16)}


def spoilt(encoded: Maps, amount: float, blur: float, seed: int) -> Maps:
    """The maps of a network that is unsure at outlines and wrong elsewhere."""
    rng, shape = np.random.default_rng(seed), encoded["semantic"].shape
    inside = np.clip(ndimage.gaussian_filter((encoded["semantic"] > 0).astype(float), 1) + noise(shape, 0.3 * amount, blur, rng), 0, 1)
    vectors = np.stack([ndimage.gaussian_filter(c / flows.FLOW_UNIT, 1) + noise(shape, amount, blur, rng) for c in encoded["flow"]])
    return {
        "semantic": np.rint(255 * np.stack([1 - inside, inside])).astype(np.uint8),
        "flow": np.clip(np.rint(64 * vectors), -32768, 32767).astype(np.int16),
    }


def cellpose(maps: Maps) -> Labels:
    """Cellpose's dynamics; its flows are unit vectors times 5."""
    from cellpose.dynamics import compute_masks

    flow, inside = 5 / 64 * maps["flow"].astype(np.float32), maps["semantic"][1].astype(np.float32) / 255 - 0.5
    return np.asarray(compute_masks(flow, inside, cellprob_threshold=0.0, flow_threshold=0.0, do_3D=flow.ndim == 4))


def cellpose_targets(labels: Labels) -> Maps:
    """What Cellpose encodes labels as, as the maps that decoders get."""
    from cellpose.dynamics import labels_to_flows

    target = labels_to_flows([labels.astype(np.int32)])[0]
    return integers({"semantic": target[0] > 0, "flow": flows.FLOW_UNIT * target[2:]})


if __name__ == "__main__":
    main()
