"""One click in the middle of each object, and one box around it: how well the backend without weights finds the objects of DSB2018.

    python -m benchmarks prompts --data DSB2018_FOLDER [--split val] [--modality fluorescence] [--every 1] [--quick]

Mean intersection over union of the first answer, part of the objects above 0.5, and mean of the best of all answers that the dock offers;
milliseconds of processor time per prompt, and the longest time of one. In the last line the
objects that the model `nuclei` finds by itself, taken under each click.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from napari_segsuite import segment
from napari_segsuite.models.prompts import Prompt, prompter
from napari_segsuite.synthetic import nuclei

Array = NDArray[Any]


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per kind of prompt."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data" / "dsb2018")
    parser.add_argument("--split", default="val", choices=["train", "val", "test"])
    parser.add_argument("--modality", default="fluorescence", choices=["fluorescence", "histology", "brightfield"])
    parser.add_argument("--every", type=int, default=1, help="take every so many-th image only")
    parser.add_argument("--quick", action="store_true", help="one synthetic image, to show that it works")
    args = parser.parse_args(argv)
    if args.quick:
        pairs, title = [nuclei((128, 128), "yx", crowding=0.2, seed=1)], "one synthetic image"
    else:
        with (args.data / "index.csv").open(newline="") as file:
            rows = [row["id"] for row in csv.DictReader(file) if (row["split"], row["modality"]) == (args.split, args.modality)][:: args.every]
        pairs = [tuple(tifffile.imread(args.data / kind / f"{name}.tif") for kind in ("images", "labels")) for name in rows]
        title = f"{args.split} split of DSB2018, {args.modality}: {len(rows)} images"
    sys.stdout.write(
        f"# {title}, {sum(len(np.unique(t)) - 1 for _, t in pairs)} objects\n{'':16}mean IoU   over 0.5   best answer   ms CPU   longest s\n"
    )
    for kind in ("click", "box"):
        _line(f"geodesic, {kind}", [row for pair in pairs for row in _asked(*pair, kind)])
    if not args.quick:
        _line("nuclei, click", [row for pair in pairs for row in _automatic(*pair)])


def _line(name: str, rows: list[tuple[float, float, float, float]]) -> None:
    first, best, cpu, wall = np.array(rows).T
    sys.stdout.write(f"{name:16}{first.mean():8.3f}{(first > 0.5).mean():11.3f}{best.mean():14.3f}{1e3 * cpu.mean():9.0f}{wall.max():12.2f}\n")
    sys.stdout.flush()


def _asked(pixels: Array, truth: Array, kind: str) -> list[tuple[float, float, float, float]]:
    """Per object: IoU of the first answer and of the best, and what it cost."""
    backend = prompter("geodesic")
    state = backend.look(np.asarray(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels[..., :3], -1, 0), np.float32))
    rows = []
    for number, sides in enumerate(ndimage.find_objects(truth), 1):
        if sides is None:
            continue
        inside = truth == number
        prompt = Prompt((middle(truth[sides] == number, sides),)) if kind == "click" else Prompt(box=tuple((s.start, s.stop) for s in sides))
        cpu, wall = time.process_time(), time.perf_counter()
        found = backend.answer(state, prompt)
        took = time.process_time() - cpu, time.perf_counter() - wall
        scores = [iou(one.region, inside) for one in found] or [0.0]
        rows.append((scores[0], max(scores), *took))
    return rows


def _automatic(pixels: Array, truth: Array) -> list[tuple[float, float, float, float]]:
    """Per object: IoU of the segment of a model that lies under the click."""
    labels = np.asarray(segment(pixels, model="nuclei", device="cpu").labels)
    rows = []
    for number, sides in enumerate(ndimage.find_objects(truth), 1):
        if sides is not None:
            under = labels[middle(truth[sides] == number, sides)]
            score = iou(labels == under, truth == number) if under else 0.0
            rows.append((score, score, 0.0, 0.0))
    return rows


def middle(inside: Array, sides: Sequence[slice]) -> tuple[int, ...]:
    """The voxel that is farthest from the border of an object, which was cut out of an image."""
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[(slice(1, -1),) * inside.ndim]
    return tuple(int(n) + s.start for n, s in zip(np.unravel_index(depth.argmax(), inside.shape), sides, strict=True))


def iou(one: Array, other: Array) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())
