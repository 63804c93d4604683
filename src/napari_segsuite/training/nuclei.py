"""The recipe of the built-in model `nuclei`: which data, which network, how long.

Run ``python -m napari_segsuite.training.nuclei --data DSB2018_FOLDER --out FOLDER``; the same command again goes on.
"""

from __future__ import annotations

import argparse
import csv
import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import torch

from napari_segsuite.codecs import centers
from napari_segsuite.models import load_model
from napari_segsuite.models.folder import save
from napari_segsuite.models.nets import ResUNet
from napari_segsuite.training.augment import Augmentation
from napari_segsuite.training.fit import Schedule, fit
from napari_segsuite.training.samples import Crops, Pair, pair
from napari_segsuite.types import Class, ModelSpec

CLASSES = (Class(1, "nucleus", (255, 127, 14)),)
NORMALIZE = (1.0, 99.8)
CODEC_OPTIONS: dict[str, float] = {"center": 0.2, "window": 7, "min_size": 24, "min_score": 0.75}
DIAMETER = 24.0
"""Median diameter in pixels of the training nuclei at their own magnification."""
CROP = (256, 256)
NET = {"dims": 2, "in_channels": 3, "widths": [16, 32, 64, 128, 256], "blocks": [1, 2, 2, 2, 2]}
BROAD = Augmentation()
POLISH = Augmentation(zoom=(0.8, 1.25), elastic=1.05, intensity=0.2, exact=0.5)
FINE = Augmentation(intensity=0.05, invert=0.0, exact=1.0)
"""Broad changes teach what is common to all nuclei; milder ones later, and hardly any at the very end, teach where exactly outlines are:
how bright a voxel must be to count depends on the light, the contrast and the sharpness that the other changes vary."""
SHARE = {"fluorescence": 0.72, "histology": 0.2, "brightfield": 0.08}
"""Share of the crops per kind of microscopy; within a kind an image counts by a power of its number of nuclei."""
CROWD = 0.5
"""That power: 0 makes images equal, 1 nuclei."""


@dataclass(frozen=True)
class Course:
    """Which changes a crop gets, by its number; an object, not a function, so that it can be sent to another process.

    Attributes
    ----------
    polish, fine : int
        Numbers of the first crop with milder changes, and of the first with hardly any.
    broad : int
        After `polish`, one crop in so many still gets the broad ones; 0 for none.
    """

    polish: int
    fine: int
    broad: int = 0

    def __call__(self, crop: int) -> Augmentation:
        if crop < self.polish or (self.broad and crop % self.broad == 0):
            return BROAD
        return POLISH if crop < self.fine else FINE


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
        tile=(1024, 1024),
        multiple=net().multiple,
        context=(64, 64),
        normalize={"method": "percentiles", "values": list(NORMALIZE)},
        net={"name": "resunet", "kwargs": {**NET, "heads": {head.name: head.channels for head in centers.heads(CLASSES, 2)}}},
        licence="BSD-3-Clause; training data CC0",
        citation="Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7 (training data: BBBC038)",
        trained_on="BBBC038 stage1_train with community corrections, 435 images",
    )


def export(run: Path, folder: Path) -> None:
    """Write the averaged weights of a run's checkpoint as a model folder."""
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    save(spec(), state["average"], folder)


def main(argv: Sequence[str] | None = None) -> None:
    """Train and print one line every 20 steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--decay", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=Schedule.rate)
    parser.add_argument("--polish", type=int, default=1250, help="last steps, with milder changes to the crops")
    parser.add_argument("--fine", type=int, default=0, help="last of these steps, with hardly any changes")
    parser.add_argument("--broad", type=int, default=0, help="of the last steps' crops, one in so many still gets the broad changes")
    parser.add_argument("--crowd", type=float, default=CROWD, help="an image counts by its number of nuclei to this power")
    parser.add_argument("--init", help="begin with the weights of this model (name or folder)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--export", type=Path, help="write the run in --out as a model folder, and do not train")
    args = parser.parse_args(argv)
    if args.export:
        export(args.out, args.export)
        return
    torch.manual_seed(args.seed)
    pairs = read_pairs(args.data, "train", args.crowd)
    encode = functools.partial(centers.encode, classes=CLASSES)

    def crops(count: int, start: int) -> Crops:
        course = Course(count - max(args.polish, args.fine) * Schedule.batch, count - args.fine * Schedule.batch, args.broad)
        return Crops(pairs, encode, CROP, count, course, 3, args.seed, start)

    schedule = Schedule(steps=args.steps, decay=args.decay, rate=args.rate)
    network = net()
    if args.init:
        network.load_state_dict(load_model(args.init, device="cpu").net.state_dict())  # type: ignore[attr-defined]
    for done in fit(network, crops, schedule, args.out, centers.OFFSET_UNIT, args.device, layout=network.memory_format):
        if done.step % 20 == 0:
            parts = " ".join(f"{name} {value:.4f}" for name, value in done.parts.items())
            sys.stdout.write(f"step {done.step} {parts} {done.seconds:.0f} s\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
