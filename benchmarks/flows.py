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

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks import decoding
from benchmarks.decoding import THRESHOLDS, Maps
from napari_segsuite import metrics
from napari_segsuite.codecs import flows, pieces
from napari_segsuite.engine import link
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Class

Labels = NDArray[np.integer]
NUCLEI = (Class(1, "nucleus"),)
SMALLEST = 15
NOISES = {
    "blurred alone": (0.0, 0.0),
    "noise 0.3": (0.3, 0.0),
    "noise 0.6": (0.6, 0.0),
    "noise 0.3, blurred by 2": (0.3, 2.0),
    "noise 0.4, blurred by 4": (0.4, 4.0),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per noise and decoder, then what encoding takes and whether each reads the other's flows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data" / "dsb2018")
    parser.add_argument("--images", type=int, default=12)
    args = parser.parse_args(argv)
    import torch

    torch.set_num_threads(1)
    pictures = decoding._real(args.data, args.images) if args.data.is_dir() else decoding._synthetic(args.images)
    truth = [labels.astype(np.int64) for _, labels in pictures]
    seconds, encoded = _clocked(lambda: [flows.encode(labels, NUCLEI) for labels in truth], 1)
    theirs, targets = _clocked(lambda: [cellpose_targets(labels) for labels in truth], 1)
    volume = nuclei((48, 128, 128), "zyx", seed=1)[1].astype(np.int64)
    pixels = sum(labels.size for labels in truth) / 1e6
    decoding._say(f"{len(truth)} images, {sum(len(np.unique(t)) - 1 for t in truth)} objects, {pixels:.2f} megapixels; CPU seconds, one thread")
    decoding._say(f"encoding: ours {seconds / pixels:.3f} s/Mpx, cellpose {theirs / pixels:.3f} s/Mpx, {theirs / seconds:.1f} x ours")
    for name, (amount, blur) in NOISES.items():
        spoiled = [spoilt(maps, amount, blur, seed) for seed, maps in enumerate(encoded)]
        compare(name, spoiled, truth, _mosaic(spoiled))
        spoiled = [spoilt(flows.encode(volume, NUCLEI), amount, blur, 0)]
        compare(f"3D, {name}", spoiled, [volume], spoiled[0])
    decoding._say("exact flows of the other: " + _scored("ours", [ours(maps) for maps in targets], truth))
    decoding._say("exact flows of the other: " + _scored("cellpose", [cellpose(integers(m)) for m in encoded], truth))


def compare(name: str, maps: Sequence[Maps], truth: Sequence[Labels], large: Maps) -> None:
    """Print time (on `large`) and AP of both decoders, and the AP of ours if Cellpose's result were the truth."""
    megapixels = large["flow"][0].size / 1e6
    times = [_clocked(partial(decode, large), 3)[0] / megapixels for decode in (ours, cellpose)]
    found = [[decode(m) for m in maps] for decode in (ours, cellpose)]
    for word, labels, seconds in zip(("ours", "cellpose"), found, times, strict=True):
        decoding._say(f"{name:27} {_scored(word, labels, truth)}  {seconds:.4f} s/Mpx  {seconds / times[0]:5.1f} x ours")
    decoding._say(f"{name:27} {_scored('ours against cellpose', *found)}")


def integers(encoded: Maps) -> Maps:
    """Encoded labels as the maps that decoders get."""
    inside = encoded["semantic"] > 0
    return {"semantic": np.stack([~inside, inside]) * np.uint8(255), "flow": np.rint(encoded["flow"] * 8).astype(np.int16)}


def spoilt(encoded: Maps, amount: float, blur: float, seed: int) -> Maps:
    """The maps of a network that is unsure at outlines and wrong elsewhere."""
    rng = np.random.default_rng(seed)

    def noise() -> NDArray[np.float64]:
        values = rng.normal(size=encoded["semantic"].shape)
        values = ndimage.gaussian_filter(values, blur) if blur else values
        return amount * values / values.std()

    inside = np.clip(ndimage.gaussian_filter((encoded["semantic"] > 0).astype(float), 1) + 0.3 * noise(), 0, 1)
    vectors = np.stack([ndimage.gaussian_filter(c / flows.FLOW_UNIT, 1) + noise() for c in encoded["flow"]])
    return {
        "semantic": np.rint(255 * np.stack([1 - inside, inside])).astype(np.uint8),
        "flow": np.clip(np.rint(64 * vectors), -32768, 32767).astype(np.int16),
    }


def ours(maps: Maps) -> Labels:
    """Labels and the whole table, as a run computes them."""
    shape = maps["flow"].shape[1:]
    origin, same = (0,) * len(shape), (1.0,) * len(shape)
    found = pieces.collect(flows.assign(maps, NUCLEI, {}, origin, shape, same), NUCLEI, origin, shape)
    linked = link.link([found.rows], np.zeros((0, 2), np.int64), NUCLEI, "zyx"[-len(shape) :], SMALLEST)
    lut = np.concatenate([[0], linked.final]).astype(np.uint32)
    return lut.take(found.labels, mode="clip")


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


def _clocked(work: Callable[[], Any], times: int) -> tuple[float, Any]:
    best, answer = np.inf, None
    for _ in range(times):
        start = time.process_time()
        answer = work()
        best = min(best, time.process_time() - start)
    return best, answer


def _mosaic(maps: Sequence[Maps]) -> Maps:
    """Images of one size beside each other."""
    columns = 1 + int(np.sqrt(len(maps)) / 2)
    rows = [maps[at : at + columns] for at in range(0, len(maps) // columns * columns, columns)]
    return {name: np.concatenate([np.concatenate([m[name] for m in row], axis=2) for row in rows], axis=1) for name in maps[0]}


def _scored(word: str, found: Sequence[Labels], truth: Sequence[Labels]) -> str:
    kept = [[np.where(np.bincount(labels.ravel())[labels] >= SMALLEST, labels, 0).astype(np.int64) for labels in side] for side in (found, truth)]
    scores = metrics.evaluate(*kept)
    return f"{word:10} " + "  ".join(f"AP{t} {scores.ap[t]:.3f}" for t in THRESHOLDS)


if __name__ == "__main__":
    main()
