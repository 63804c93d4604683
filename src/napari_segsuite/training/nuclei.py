"""The recipe of the built-in model `nuclei`: which data, which network, how long.

Run ``python -m napari_segsuite.training.nuclei --data DSB2018_FOLDER --out FOLDER``; the same command again goes on.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from napari_segsuite.codecs import centers
from napari_segsuite.models.nets import ResUNet
from napari_segsuite.training import recipe
from napari_segsuite.training.fit import Schedule
from napari_segsuite.training.samples import Pair, pair
from napari_segsuite.types import Class, ModelSpec

CLASSES = (Class(1, "nucleus", (255, 127, 14)),)
NORMALIZE = (1.0, 99.8)
CODEC_OPTIONS: dict[str, float] = {"center": 0.2, "window": 7, "min_size": 24, "min_score": 0.75}
DIAMETER = 24.0
"""Median diameter in pixels of the training nuclei at their own magnification."""
CROP = (256, 256)
NET = {"dims": 2, "in_channels": 3, "widths": [16, 32, 64, 128, 256], "blocks": [1, 2, 2, 2, 2]}
SHARE = {"fluorescence": 0.72, "histology": 0.2, "brightfield": 0.08}
"""Share of the crops per kind of microscopy; within a kind an image counts by a power of its number of nuclei."""
CROWD = 0.5
"""That power: 0 makes images equal, 1 nuclei."""


def read_pairs(data: Path, split: str, crowd: float = CROWD) -> list[Pair]:
    """Read one split of the folder: ``index.csv``, ``images/`` and ``labels/``; all that has not a colour is one channel."""
    with (data / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    weights = {row["id"]: max(int(row["n"]), 4) ** crowd for row in rows}
    sums = {kind: sum(weights[row["id"]] for row in rows if row["modality"] == kind) for kind in SHARE}
    pairs = []
    for row in rows:
        image = tifffile.imread(data / "images" / f"{row['id']}.tif")
        labels = tifffile.imread(data / "labels" / f"{row['id']}.tif")
        channels = np.moveaxis(image, -1, 0) if image.ndim == 3 else image[None]
        weight = SHARE[row["modality"]] * float(weights[row["id"]]) / sums[row["modality"]]
        pairs.append(pair(channels, labels, NORMALIZE, weight, row["id"]))
    return pairs


def net() -> ResUNet:
    """The network with freshly drawn weights."""
    heads = {head.name: head.channels for head in centers.heads(CLASSES, 2)}
    return ResUNet(heads=heads, **NET)  # type: ignore[arg-type]


def spec() -> ModelSpec:
    """Everything about the model but its weights; the codec's options were chosen on the validation split."""
    return ModelSpec(
        name="nuclei",
        version="1",
        description="Nuclei in fluorescence, histology and brightfield images, 2D.",
        axes="yx",
        channels=("red", "green", "blue"),
        heads=centers.heads(CLASSES, 2),
        classes=CLASSES,
        codec="centers",
        codec_options=CODEC_OPTIONS,
        diameter_px=DIAMETER,
        tile=(2112, 2112),
        multiple=net().multiple,
        context=(64, 64),
        normalize={"method": "percentiles", "values": list(NORMALIZE)},
        net={"name": "resunet", "kwargs": {**NET, "heads": {head.name: head.channels for head in centers.heads(CLASSES, 2)}}},
        licence="BSD-3-Clause; training data CC0",
        citation="Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7 (training data: BBBC038)",
        trained_on="BBBC038 stage1_train with community corrections, 435 images",
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train and print one line every 20 steps."""
    flags = recipe.parser(__doc__, Schedule(), polish=1250)
    flags.add_argument("--data", type=Path, required=True)
    flags.add_argument("--crowd", type=float, default=CROWD, help="an image counts by its number of nuclei to this power")
    changes = (recipe.BROAD, recipe.POLISH, recipe.FINE)
    recipe.run(recipe.Recipe(net, spec, lambda args: read_pairs(args.data, "train", args.crowd), CROP, changes, Schedule()), flags.parse_args(argv))


if __name__ == "__main__":
    main()
