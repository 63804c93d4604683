"""The codec `objects` beside torchvision's last steps of Mask R-CNN, on the same boxes and masks: CPU seconds per megapixel, AP, agreement.

No network is asked: each true object of the validation images of DSB2018 (``--data``) that have 520 x 696 pixels, or of synthetic nuclei where
that folder is absent, becomes some detections, as a network gives them: boxes that are off by a few percent, masks of 28 x 28 values with noise,
and scores, the best for the one that is least off.

- ours           masks pasted for all boxes at once, suppression by masks, labels and the rows of the table
- torchvision    ``ops.nms`` (IoU 0.5), ``paste_masks_in_image``, a threshold of 0.5, and labels painted by score; no table

Both work through the images one by one: torchvision's masks need memory for every object times every pixel.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import nms

from benchmarks._encoded import NUCLEI, SMALLEST, Labels, clocked, truths
from benchmarks.decoding import THRESHOLDS, say
from napari_segsuite import metrics
from napari_segsuite.codecs import instances, objects, pieces
from napari_segsuite.codecs.paste import pasted
from napari_segsuite.engine import link

SIDE = 28
Found = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""Boxes (x0, y0, x1, y1), scores, masks."""
Decoder = Callable[[Found, tuple[int, ...]], Labels]


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line per number of detections of each object."""
    torch.set_num_threads(1)
    truth = truths(__doc__, argv)
    pixels = sum(labels.size for labels in truth) / 1e6
    say(f"{len(truth)} images, {sum(len(np.unique(t)) - 1 for t in truth)} objects, {pixels:.2f} megapixels; CPU seconds, one thread")
    for each in (1, 3, 10):
        found = [detections(labels, each, seed) for seed, labels in enumerate(truth)]
        done = {name: clocked(partial(every, decode, found, truth), 3) for name, decode in DECODERS.items()}
        seconds, results = ({name: pair[k] for name, pair in done.items()} for k in (0, 1))
        for name, labels in results.items():
            ap, agrees = metrics.evaluate(labels, truth).ap, metrics.evaluate(results["ours"], labels).ap[0.5]
            told = " / ".join(f"{ap[t]:.3f}" for t in THRESHOLDS)
            ratio = seconds[name] / seconds["ours"]
            say(
                f"{each:3} of each  {name:12} {seconds[name] / pixels:.4f} s/Mpx  {ratio:6.1f} x ours  AP {told}  ours beside it: AP 0.5 {agrees:.3f}"
            )


def every(decode: Decoder, found: Sequence[Found], truth: Sequence[Labels]) -> list[Labels]:
    """Labels of all images."""
    return [decode(one, labels.shape) for one, labels in zip(found, truth, strict=True)]


def detections(labels: Labels, each: int, seed: int) -> Found:
    """What a network would say of each true object, several times."""
    rng, boxes, scores, masks = np.random.default_rng(seed), [], [], []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is None:
            continue
        true = np.array([place[1].start, place[0].start, place[1].stop, place[0].stop], float)
        size = np.tile(true[2:] - true[:2], 2)
        for _ in range(each):
            off = rng.normal(0, 0.05, 4)
            box = true + off * size
            at = [a + (np.arange(SIDE) + 0.5) / SIDE * max(b - a, 1e-3) - 0.5 for a, b in ((box[1], box[3]), (box[0], box[2]))]
            mask = ndimage.map_coordinates((labels == number).astype(np.float32), np.meshgrid(*at, indexing="ij"), order=1)
            boxes.append(box)
            masks.append(np.clip(mask + rng.normal(0, 0.1, mask.shape), 0, 1))
            scores.append(1 / (1 + 2 * np.abs(off).sum()))
    return np.array(boxes, np.float32), np.array(scores, np.float32), np.array(masks, np.float32)


def ours(found: Found, shape: tuple[int, ...]) -> Labels:
    """Labels and the whole table, as a run computes them."""
    boxes, scores, masks = found
    owner, voxel, value = pasted(masks, boxes, shape)
    listed = instances.listed(shape, scores, np.ones(len(scores), np.uint8), owner, voxel, value)
    options: dict[str, Any] = {"center": 0.05, "longest": 128}
    origin = (0,) * len(shape)
    assigned = objects.assign({"objects": listed}, NUCLEI, options, origin, shape, (1.0,) * len(shape))
    parts = pieces.collect(assigned, NUCLEI, origin, shape)
    linked = link.link([parts.rows], np.zeros((0, 2), np.int64), NUCLEI, "yx", SMALLEST)
    return np.concatenate([[0], linked.final]).astype(np.uint32).take(parts.labels, mode="clip")


def theirs(found: Found, shape: tuple[int, ...]) -> Labels:
    """Labels by torchvision."""
    boxes, scores, masks = (torch.from_numpy(part) for part in found)
    stay = nms(boxes, scores, 0.5)
    full = paste_masks_in_image(masks[stay][:, None], boxes[stay], shape)[:, 0] >= 0.5
    labels = np.zeros(shape, np.uint32)
    for number, mask in reversed(list(enumerate(full.numpy(), start=1))):  # the best last
        labels[mask] = number
    return labels


DECODERS: dict[str, Decoder] = {"ours": ours, "torchvision": theirs}

if __name__ == "__main__":
    main(sys.argv[1:])
