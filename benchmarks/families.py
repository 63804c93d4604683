"""Short trainings of networks by their names on real data, through ``segsuite train``, and how good the models are on images that they never saw.

    python -m benchmarks families --data DATA --out FOLDER --task nuclei fpn resunet-small [--steps 300] [--codec flows]

Tasks:

- nuclei   instances in planes: the fluorescence images of DSB2018's training split; AP on its validation split
- organs   six classes in the slices of a CT (labels of TotalSegmentator, not of people); Dice on blocks of slices that lie apart from those
           trained on, in the same patient
- volume   instances in a volume: GoNuclear 1135, slices 0 to 69; AP on slices 70 to 99

The trainings are short, so they say that a network learns, not which of them is better in the end.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_segsuite import evaluate, segment
from napari_segsuite.cli import main as segsuite

VOXEL_UM = {"Z": 0.284, "Y": 0.127, "X": 0.127}
"""Of the volume."""
Case = tuple[str, NDArray[Any], NDArray[Any], bool]
"""Name, pixels, labels, and whether it is trained on."""
ORGANS = {"bone": [*range(25, 34), *range(75, 79), *range(92, 118)], "muscle": [*range(80, 90)], "bowel": [18, 19, 20], "liver": [5],
          "kidney": [2, 3], "spleen": [1]}  # fmt: skip
"""Classes, and the numbers of TotalSegmentator that belong to each."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="+", metavar="NET", help="what segsuite train --net takes; A+B: the mean of two that were trained before")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, required=True, help="gets the images as a user would have them, and the models; the same again goes on")
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--steps", default="300")
    parser.add_argument("--batch", default="")
    parser.add_argument("--codec", default="", help="instead of the one that the task has by itself")
    args = parser.parse_args(argv)
    read, wishes = TASKS[args.task]
    folder = args.out / args.task
    tests = [case for case in read(args.data) if not _kept(case, folder)]
    for net in args.nets:
        if "+" in net:
            _report(_joined(net.split("+"), args, folder), f"{args.task} {net}", tests, args.task)
            continue
        model = folder / "-".join(filter(None, (net, args.codec, args.steps)))
        given = ["--images", folder / "images", "--labels", folder / "labels", "--out", model]
        more = ["--net", net, "--steps", args.steps, "--progress", "none", *wishes]
        more += [word for flag in ("batch", "codec") if getattr(args, flag) for word in (f"--{flag}", getattr(args, flag))]
        started = time.process_time()
        if segsuite(["train", *map(str, [*given, *more])]):
            sys.exit(f"{net} could not be trained")
        trained = time.process_time() - started
        _report(model, f"{args.task} {net} {args.codec}: {args.steps} steps in {trained:.0f} CPU s", tests, args.task)


def _joined(nets: Sequence[str], args: argparse.Namespace, folder: Path) -> Path:
    """The mean of networks that were trained before by the same words."""
    from napari_segsuite.models.foreign.join import join

    os.environ["SEGSUITE_MODELS"] = str(folder / "joined")
    name = "-".join(nets)
    join([str(folder / "-".join(filter(None, (net, args.codec, args.steps)))) for net in nets], name, overwrite=True)
    return folder / "joined" / name


def _report(model: Path, what: str, tests: Sequence[Case], task: str) -> None:
    found = [segment(pixels, str(model)).labels for _, pixels, _, _ in tests]
    told = _figures(found, [labels for _, _, labels, _ in tests], task)
    sys.stdout.write(f"{what}; {len(tests)} images not trained on: {told}\n")
    sys.stdout.flush()


def _kept(case: Case, folder: Path) -> bool:
    """Write a case that is trained on as a user would have it; whether it is one."""
    name, pixels, labels, trained_on = case
    if trained_on:
        for part, array in (("images", pixels), ("labels", labels)):
            path = folder / part / f"{name}.ome.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            sizes = {f"PhysicalSize{axis}": size for axis, size in VOXEL_UM.items()} if array.ndim == 3 else {}
            tifffile.imwrite(path, array, ome=True, compression="zlib", metadata={"axes": "ZYX"[-array.ndim :], **sizes})
    return trained_on


def _figures(found: Sequence[Any], truth: Sequence[Any], task: str) -> str:
    if task != "organs":
        scores = evaluate(found, truth)
        ap = ", ".join(f"AP {scores.ap[t]:.3f} at {t:g}" for t in (0.5, 0.75))
        return f"{ap} ({scores.n_true} true, {scores.n_pred} found)"
    both = [(np.stack([np.asarray(f) == k for f in found]), np.stack([t == k for t in truth])) for k in range(1, len(ORGANS) + 1)]
    dice = [2 * (f & t).sum() / max(f.sum() + t.sum(), 1) for f, t in both]
    return f"Dice {np.mean(dice):.3f} ({', '.join(f'{name} {d:.2f}' for name, d in zip(ORGANS, dice, strict=True))})"


def nuclei(data: Path) -> Iterator[Case]:
    """DSB2018's fluorescence images, without the test split."""
    with (data / "dsb2018" / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["modality"] == "fluorescence" and row["split"] != "test"]
    for row in rows:
        pixels, labels = (tifffile.imread(data / "dsb2018" / part / f"{row['id']}.tif") for part in ("images", "labels"))
        yield row["id"][:12], pixels, labels, row["split"] == "train"


def organs(data: Path) -> Iterator[Case]:
    """Slices of a CT; of every twelve, three are tested, and one on either side is left out."""
    pixels, numbers = (_nifti(data / "ct_totalsegmentator" / f"ct_full{part}.nii.gz") for part in ("", "_seg_model3mm"))
    labels = np.zeros(numbers.shape, np.uint8)
    for k, members in enumerate(ORGANS.values(), start=1):
        labels[np.isin(numbers, members)] = k
    for z in range(len(pixels)):
        if z % 12 not in (4, 8):
            yield f"z{z:03}", pixels[z].astype(np.int16), labels[z], z % 12 not in (5, 6, 7)


def volume(data: Path) -> Iterator[Case]:
    """A volume of nuclei, its first 70 slices and the others."""
    pixels, labels = (tifffile.imread(data / "nuclei3d_gonuclear" / f"1135_{part}.ome.tif") for part in ("image", "labels"))
    yield "low", pixels[:70], labels[:70].astype(np.uint16), True
    yield "high", pixels[70:], labels[70:].astype(np.uint16), False


def _nifti(path: Path) -> NDArray[Any]:
    """The voxels of a NIfTI file as (z, y, x), by the fields dim, datatype and vox_offset of its header."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, np.int16, 3, 42)
    kind = {2: np.uint8, 4: np.int16, 8: np.int32}[int(np.frombuffer(raw, np.int16, 1, 70)[0])]
    start = int(np.frombuffer(raw, np.float32, 1, 108)[0])
    return np.frombuffer(raw, kind, int(np.prod(shape)), start).reshape(shape[::-1])


CLASSES = ["--task", "semantic", "--classes", ",".join(f"{k}:{name}" for k, name in enumerate(ORGANS, start=1))]
TASKS: dict[str, tuple[Callable[[Path], Iterator[Case]], list[str]]] = {"nuclei": (nuclei, []), "organs": (organs, CLASSES), "volume": (volume, [])}


if __name__ == "__main__":
    main()
