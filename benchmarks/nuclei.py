"""How good the built-in model `nuclei` is on a split of DSB2018, beside Otsu's threshold with a distance-transform watershed.

    python -m benchmarks nuclei --data DSB2018_FOLDER [--split test] [--flips] [--model nuclei]

AP = TP / (TP + FP + FN), pooled over the images of each kind of microscopy, and, as many papers have it, as the mean over its images; labels come
from `segment` with its default options.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage
from skimage import color, feature, filters, measure, segmentation

from napari_segsuite import metrics, segment
from napari_segsuite.arrays import as_image
from napari_segsuite.models import load_model

KINDS = ("fluorescence", "histology", "brightfield")
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
Labels = NDArray[np.integer]


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per kind of microscopy and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data" / "dsb2018")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--model", default="nuclei", help="name or folder")
    parser.add_argument("--flips", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args(argv)
    model = load_model(args.model, flips=args.flips)
    with (args.data / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == args.split]
    methods: dict[str, Callable[[NDArray[Any]], Any]] = {
        model.spec.name + (" --flips" if args.flips else ""): lambda image: segment(_image(image), model=model).labels,
        "otsu + watershed": otsu_watershed,
    }
    told: dict[str, Any] = {}
    _say(f"{args.split} split; columns: AP at IoU {', '.join(map(str, THRESHOLDS))}, then F1 and PQ at 0.5")
    for kind in KINDS:
        mine = [row for row in rows if row["modality"] == kind]
        truth = [tifffile.imread(args.data / "labels" / f"{row['id']}.tif") for row in mine]
        images = [tifffile.imread(args.data / "images" / f"{row['id']}.tif") for row in mine]
        for name, method in methods.items():
            found = [method(image) for image in images]
            scores = metrics.evaluate(found, truth)
            each = [metrics.evaluate([one], [true]).ap for one, true in zip(found, truth, strict=True)]
            means = {str(t): float(np.mean([ap[t] for ap in each])) for t in THRESHOLDS}
            figures = "  ".join(f"{scores.ap[t]:.3f}" for t in THRESHOLDS)
            _say(f"{kind:13} {name:18} {figures}   {scores.f1:.3f} {scores.pq:.3f}   {len(mine)} images, {scores.n_true} nuclei")
            _say(f"{'':13} {'  mean of images':18} {'  '.join(f'{means[str(t)]:.3f}' for t in THRESHOLDS)}")
            told[f"{kind}, {name}"] = {
                "ap": {str(t): scores.ap[t] for t in THRESHOLDS},
                "ap_mean_of_images": means,
                "images": len(mine),
                "n_true": scores.n_true,
                "n_pred": scores.n_pred,
            }
    if args.json:
        args.json.write_text(json.dumps(told, indent=2) + "\n")


def otsu_watershed(image: NDArray[Any]) -> Labels:
    """Threshold, distance transform, its maxima as seeds: what can be done without learning."""
    grey = color.rgb2gray(image) if image.ndim == 3 else image.astype(float)
    smooth = filters.gaussian(grey, 1)
    above = smooth > filters.threshold_otsu(smooth)
    if above.mean() > 0.5:  # dark nuclei on a bright ground
        above = ~above
    distance = ndimage.distance_transform_edt(above)
    peaks = feature.peak_local_max(filters.gaussian(distance, 1), min_distance=5, labels=measure.label(above))
    seeds = np.zeros(above.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels: Labels = segmentation.watershed(-distance, seeds, mask=above)
    return labels


def _image(pixels: NDArray[Any]) -> Any:
    return as_image(pixels)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
