"""How good the built-in model `nuclei-3d` is on volumes that it was not trained on, beside Otsu's threshold.

    python -m benchmarks nuclei-3d --data FOLDER [--part test] [--times 1] [--option min_score=0] [--model nuclei-3d]

AP = TP / (TP + FP + FN), pooled over the volumes of a kind. Part ``test``: what was held back of the two real volumes, the synthetic volume that
StarDist is tested with, and freshly made volumes. Part ``choose``, on which the options of the model's codec were chosen: the training parts
of the real volumes, and other freshly made volumes. Labels come from `segment`; the model is told the diameter that the nuclei of a kind have.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage
from skimage import feature, filters, measure, segmentation

from napari_segsuite import metrics, segment
from napari_segsuite.models import load_model
from napari_segsuite.training.nuclei3d import DIAMETER, SOURCES
from napari_segsuite.training.volumes import volume
from napari_segsuite.types import Model, ModelSpec, Prediction

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
SEEDS = {"test": 1001, "choose": 1002}
SYNTHETIC, SHAPE = 8, (48, 96, 96)
STARDIST = ("stardist_test_images/img3d.tif", "stardist_test_images/mask3d.tif", 15.0)
"""Image, labels, and the median extent of the nuclei along y and x."""
Labels = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Volume:
    """One annotated volume and the diameter across of its nuclei, in voxels."""

    image: NDArray[Any]
    labels: Labels
    diameter: float


@dataclass(frozen=True, eq=False)
class Changed:
    """A model with another description."""

    model: Model
    spec: ModelSpec

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        """What the model itself answers."""
        return self.model.predict(batch)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per kind of volume and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--part", default="test", choices=["test", "choose"])
    parser.add_argument("--model", default="nuclei-3d", help="name or folder")
    parser.add_argument("--times", type=float, default=1.0, help="tell the model so many times the diameter that the nuclei have")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="another value for an option of the model's codec")
    args = parser.parse_args(argv)
    model = changed(load_model(args.model), args.option)
    methods = {
        model.spec.name: lambda v: _segmented(v, model, args.times),
        "otsu": lambda v: np.asarray(segment(v.image, model="otsu").labels),
        "otsu + watershed": otsu_watershed,
    }
    _say(f"{args.part} part; columns: AP at IoU {', '.join(map(str, THRESHOLDS))}, then F1 and PQ at 0.5")
    for kind, volumes in read(args.data, args.part).items():
        for name, method in methods.items():
            scores = metrics.evaluate([method(v) for v in volumes], [v.labels for v in volumes])
            figures = "  ".join(f"{scores.ap[t]:.3f}" for t in THRESHOLDS)
            _say(f"{kind:20} {name:16} {figures}   {scores.f1:.3f} {scores.pq:.3f}   {len(volumes)} volumes, {scores.n_true} nuclei")


def changed(model: Model, options: Sequence[str]) -> Model:
    """The same model with other options of its codec, written ``name=value``."""
    told = {name: float(value) for name, value in (option.split("=") for option in options)}
    return Changed(model, replace(model.spec, codec_options={**model.spec.codec_options, **told}))


def read(data: Path, part: str) -> dict[str, list[Volume]]:
    """The annotated volumes of a part, by kind."""
    kinds = {s.name: [Volume(*s.read(data, held_back=part == "test"), s.diameter)] for s in SOURCES}
    if part == "test":
        image, labels, diameter = STARDIST
        kinds["stardist synthetic"] = [Volume(tifffile.imread(data / image), tifffile.imread(data / labels), diameter)]
    made = [volume(SHAPE, np.random.default_rng((SEEDS[part], k))) for k in range(SYNTHETIC)]
    return {**kinds, "synthetic": [Volume(image, labels, DIAMETER) for image, labels in made]}


def otsu_watershed(v: Volume) -> Labels:
    """Threshold, distance transform, its maxima as seeds, no two nearer than a quarter of the diameter: what can be done without learning."""
    smooth = filters.gaussian(v.image.astype(float), 1)
    above = smooth > filters.threshold_otsu(smooth)
    distance = filters.gaussian(ndimage.distance_transform_edt(above), 1)
    peaks = feature.peak_local_max(distance, min_distance=round(v.diameter / 4), labels=measure.label(above))
    seeds = np.zeros(above.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels: Labels = segmentation.watershed(-distance, seeds, mask=above)
    return labels


def _segmented(v: Volume, model: Model, times: float) -> Labels:
    return np.asarray(segment(v.image, model=model, diameter_px=times * v.diameter).labels)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
