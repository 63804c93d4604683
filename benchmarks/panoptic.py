"""Short trainings of panoptic models through ``segsuite train``, and PQ, SQ and RQ of each class on what they never saw.

    python -m benchmarks panoptic neurons --out FOLDER [--steps 400] [--net resunet-tiny] [--codec boundaries]

- neurons   electron microscopy of a fly's brain: membrane (stuff) and neurites (things) in a volume of 50 slices, slices 0 to 39 for
            training, 40 to 49 for the figures
- mixed     synthetic: two kinds of ground (stuff), round and long cells (things), drawn so that every pixel's truth is known; pictures of other
            seeds for the figures
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from napari_segsuite import evaluate, io, segment
from napari_segsuite.arrays import as_image
from napari_segsuite.cli import main as segsuite
from napari_segsuite.training.classes import parse
from napari_segsuite.training.data import Sample, read_data
from napari_segsuite.training.options import TrainOptions

Case = tuple[str, NDArray[Any], NDArray[Any], dict[int, int], bool]
"""Name, pixels, labels, the class of each label, and whether it is trained on."""
CLASSES = {
    "neurons": ("1:membrane:stuff", "2:neurite:thing"),
    "mixed": ("1:tissue:stuff", "2:fibre:stuff", "3:round:thing", "4:long:thing"),
}
USUAL = {"neurons": ("boundaries", ["--crop", "24,64,64"]), "mixed": ("centers", [])}
"""Codec, and what else is wished of the training."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(CLASSES))
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, required=True, help="gets the images as a user would have them, and the model; the same again goes on")
    parser.add_argument("--net", default="resunet-tiny")
    parser.add_argument("--codec")
    parser.add_argument("--steps", default="400")
    parser.add_argument("--batch", default="4")
    args = parser.parse_args(argv)
    codec, more = USUAL[args.task]
    folder, codec = args.out / args.task, args.codec or codec
    for *case, trained_on in mixed() if args.task == "mixed" else neurons(args.data):
        keep(folder / ("train" if trained_on else "test"), args.task, *case)
    told = ["--task", "panoptic", "--classes", ",".join(CLASSES[args.task])]
    model = folder / f"{args.net}-{codec}-{args.steps}"
    given = ["--images", folder / "train" / "images", "--labels", folder / "train" / "labels", "--out", model]
    started = time.process_time()
    wishes = ["--net", args.net, "--codec", codec, "--steps", args.steps, "--batch", args.batch, "--progress", "none", *more]
    if segsuite(["train", *map(str, [*given, *told, *wishes])]):
        sys.exit("the model could not be trained")
    seconds = time.process_time() - started
    sys.stdout.write(
        f"{args.task}: {args.net}, codec {codec}, {args.steps} steps in {seconds:.0f} CPU s\n" + figures(args.task, folder / "test", model)
    )


def figures(task: str, folder: Path, model: Path) -> str:
    """PQ, SQ and RQ of each class, over all images of a folder."""
    classes = tuple(parse(CLASSES[task], "panoptic"))
    where = {part: str(folder / part) for part in ("images", "labels")}
    samples = read_data(TrainOptions(**where, task="panoptic", classes=CLASSES[task])).samples
    found = [segment(tifffile.imread(folder / "images" / f"{sample.name}.tif"), str(model)) for sample in samples]
    scores = evaluate(found, [sample.truth(classes) for sample in samples])
    lines = [
        f"  {c.name:9} PQ {c.objects.pq:.3f} = SQ {c.objects.sq:.3f} x RQ {c.objects.rq:.3f}, IoU of its pixels {c.region.iou:.3f}\n"
        for c in scores.classes
    ]
    return f"{len(samples)} images not trained on\n" + "".join(lines)


def keep(folder: Path, task: str, name: str, pixels: NDArray[Any], labels: NDArray[Any], class_of: dict[int, int]) -> None:
    """Write a case as a user would have it: labels with the table that says which class each has."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / "images" / f"{name}.tif", pixels, metadata={"axes": "ZYX"[-pixels.ndim :]}, photometric="minisblack")
    there = {int(i): class_of[int(i)] for i in np.unique(labels) if i}
    truth = Sample(name, as_image(pixels), labels.astype(np.int32), there).truth(tuple(parse(CLASSES[task], "panoptic")))
    io.write(truth, folder / "labels" / f"{name}.ome.zarr", overwrite=True)


def neurons(data: Path) -> Iterator[Case]:
    """0 is membrane in the file, and each neurite has a number."""
    pixels, labels = (tifffile.imread(data / "em_neurons3d_gala" / f"train_{part}.tif") for part in ("image", "labels"))
    numbers = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    told = np.where(labels == 0, 1, numbers + 1).astype(np.uint16)
    class_of = {int(i): 1 if i == 1 else 2 for i in np.unique(told)}
    yield "low", pixels[:40], told[:40], class_of, True
    yield "high", pixels[40:], told[40:], class_of, False


def mixed(size: int = 192) -> Iterator[Case]:
    """Twelve pictures to train on, six for the figures."""
    for seed in range(18):
        yield f"m{seed:02}", *drawn(size, seed), seed < 12


def drawn(size: int, seed: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16], dict[int, int]]:
    """A picture with its truth: tissue and fibres on empty ground, with bright round and dim long cells on all of it, which do not overlap."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:size, :size]
    fields = [ndimage.gaussian_filter(rng.normal(size=(size, size)), sigma) for sigma in (24, (4, 30))]
    ground = np.where(fields[1] > 0.7 * fields[1].std(), 2, np.where(fields[0] > 0, 1, 0))
    labels, level = ground.astype(np.uint16), np.array([0.1, 0.25, 0.35])[ground] + 0.05 * np.sin(y / 3) * (ground == 2)
    kinds: list[int] = []
    for _ in range(150):
        turn, long = rng.uniform(0, np.pi), rng.random() < 0.5
        a, b = (rng.uniform(14, 20), rng.uniform(3.5, 5)) if long else (r := rng.uniform(6, 9), r * rng.uniform(0.85, 1))
        v, u = y - rng.uniform(0, size), x - rng.uniform(0, size)
        inside = ((v * np.cos(turn) + u * np.sin(turn)) / a) ** 2 + ((u * np.cos(turn) - v * np.sin(turn)) / b) ** 2 < 1
        if inside.sum() > 40 and (labels[inside] <= 2).all():
            kinds.append(int(long))
            labels[inside] = 2 + len(kinds)
            level = np.where(inside, rng.uniform(0.5, 0.65) if long else rng.uniform(0.8, 1), level)
    noisy = rng.poisson(60 * np.clip(ndimage.gaussian_filter(level, 0.8), 0.02, None)) / 60
    return (1000 * noisy).astype(np.uint16), labels, {1: 1, 2: 2} | {k: 3 + long for k, long in enumerate(kinds, start=3)}


if __name__ == "__main__":
    main()
