"""Models without training on the fluorescence images of a split of DSB2018, on noise and on synthetic volumes, beside scikit-image's functions.

    python -m benchmarks classical --data DSB2018_FOLDER [--split val] [--quick]

AP = TP / (TP + FP + FN), pooled; default options. CPU seconds per million voxels, of all threads, on the same pictures.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.nuclei import THRESHOLDS, otsu_watershed
from benchmarks.volumes.measure import cpu
from napari_segsuite import metrics, segment
from napari_segsuite.models import CLASSICAL, load_model
from napari_segsuite.synthetic import nuclei

Array = NDArray[Any]
NOISE: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "Poisson, mean 1": lambda rng, shape: rng.poisson(1, shape).astype(np.uint8),
    "Poisson, mean 100": lambda rng, shape: rng.poisson(100, shape).astype(np.uint16),
    "Gaussian": lambda rng, shape: rng.normal(100, 10, shape).astype(np.float32),
    "Gaussian, smoothed by 1": lambda rng, shape: ndimage.gaussian_filter(rng.normal(100, 10, shape), 1).astype(np.float32),
    "integers, 0 to 255": lambda rng, shape: rng.integers(0, 256, shape).astype(np.uint8),
    "three greys": lambda rng, shape: rng.integers(99, 102, shape).astype(np.uint8),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data" / "dsb2018")
    parser.add_argument("--split", default="val", choices=["train", "val", "test"])
    parser.add_argument("--quick", action="store_true", help="one small volume alone, to show that it works")
    args = parser.parse_args(argv)
    if not args.quick:
        with (args.data / "index.csv").open(newline="") as file:
            names = [row["id"] for row in csv.DictReader(file) if row["split"] == args.split and row["modality"] == "fluorescence"]
        read = [[tifffile.imread(args.data / kind / f"{name}.tif") for name in names] for kind in ("images", "labels")]
        _table(f"{args.split} split of DSB2018, fluorescence: {len(names)} images", *read)
        _noise()
    shape = (16, 48, 48) if args.quick else (64, 160, 160)
    pairs = [nuclei(shape, "zyx", seed=seed) for seed in range(1 if args.quick else 4)]
    _table(f"synthetic nuclei, {len(pairs)} volumes of {' x '.join(map(str, shape))}", [p for p, _ in pairs], [t for _, t in pairs])


def _table(title: str, images: Sequence[Array], truth: Sequence[Array]) -> None:
    sys.stdout.write(f"\n# {title}\n{'':24}{'  '.join(f'AP {t}' for t in THRESHOLDS)}   CPU-s / million voxels\n")
    methods: dict[str, Callable[[Array], Any]] = {name: partial(_ours, name) for name in CLASSICAL if _finds_objects(name)}
    if images[0].ndim == 2:
        methods["scikit-image, watershed"] = otsu_watershed
    for name, method in methods.items():
        method(images[0])  # what happens once in a process
        found: list[Any] = []
        seconds = cpu(lambda: found.extend(method(image) for image in images))  # noqa: B023  called at once
        ap = metrics.evaluate(found, list(truth)).ap
        per = 1e6 * seconds / sum(t.size for t in truth)
        sys.stdout.write(f"{name:24}{'   '.join(f'{ap[t]:.3f}' for t in THRESHOLDS)}   {per:.2f}\n")
        sys.stdout.flush()


def _noise() -> None:
    """How many segments each method finds where there are none."""
    names = [name for name in CLASSICAL if _finds_objects(name)]
    sys.stdout.write(f"\n# segments in pictures of 256 x 256 pixels of noise\n{'':24}{'  '.join(f'{name:>14}' for name in names)}\n")
    for kind, make in NOISE.items():
        picture = make(np.random.default_rng(0), (256, 256))
        counts = [len(segment(picture, model=name).segments["id"]) for name in names]
        sys.stdout.write(f"{kind:24}{'  '.join(f'{count:14}' for count in counts)}\n")


def _finds_objects(name: str) -> bool:
    return load_model(name).spec.task == "instance" and name != "superpixels"


def _ours(name: str, image: Array) -> Any:
    return segment(image, model=name, axes="zyx" if image.ndim == 3 and image.shape[-1] > 4 else None).labels
