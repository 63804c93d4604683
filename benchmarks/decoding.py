"""Decoders of the same predicted maps: CPU seconds per megapixel and AP, in one run.

The maps are those that the model `nuclei` predicts for the validation images of DSB2018 (``--data``) that
have 520 x 696 pixels, or for synthetic nuclei where that folder is
absent. Every decoder gets the same foreground, centre and offset maps:

- ours           the `centers` codec with its cleaning, and the rows of the table
- cellpose       Cellpose 4's ``compute_masks`` on the offsets' directions, without its quality check (``flow_threshold=0``)
- watershed      scikit-image's watershed from the same peaks on the inverted centre map
- argmin         Panoptic-DeepLab's ``group_pixels``: the distance of every pixel to every peak
- floor          reading the maps and writing labels once

Time is taken on all maps put side by side as one image, AP is pooled over the single images, after
objects below the model's ``min_size`` and ``min_score`` were dropped (ours does so within its time, for the others it is not counted).
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import watershed

from napari_segsuite import arrays, metrics
from napari_segsuite.codecs import centers, pieces
from napari_segsuite.codecs.places import maxima
from napari_segsuite.engine import link, tiles
from napari_segsuite.models import load_model

Maps = dict[str, NDArray[Any]]
THRESHOLDS = (0.5, 0.7, 0.9)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per decoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data" / "dsb2018")
    parser.add_argument("--images", type=int, default=12)
    args = parser.parse_args(argv)
    import torch

    torch.set_num_threads(1)
    model = load_model("nuclei", device="cpu")
    cases = [(maps_of(model, image), truth) for image, truth in (real(args.data, args.images) if args.data.is_dir() else synthetic(args.images))]
    objects = sum(len(np.unique(truth)) - 1 for _, truth in cases)
    options = dict(model.spec.codec_options)
    decoders: dict[str, Callable[[Maps], NDArray[np.integer]]] = {
        "ours": lambda m: ours(m, model.spec.classes, options),
        "cellpose": lambda m: cellpose(m, options),
        "watershed": lambda m: seeded(m, options),
        "argmin": lambda m: argmin(m, options),
        "floor": floor,
    }
    base = 0.0
    large = _mosaic([maps for maps, _ in cases])
    megapixels = large["center"].size / 1e6
    say(f"{len(cases)} images, {objects} objects, {megapixels:.2f} megapixels side by side; CPU seconds per megapixel, one thread, best of 3")
    for name, decode in decoders.items():
        seconds = _timed(decode, large, 3 if name != "argmin" else 1)
        base = base or seconds
        found = [decode(maps) if name == "ours" else cleaned(decode(maps), maps, options) for maps, _ in cases]
        scores = metrics.evaluate(found, [truth for _, truth in cases])
        figures = "  ".join(f"AP{t} {scores.ap[t]:.3f}" for t in THRESHOLDS) if name != "floor" else ""
        say(f"{name:10} {seconds / megapixels:8.4f} s/Mpx  {seconds / base:7.1f} x ours  {figures}")


def maps_of(model: Any, image: NDArray[Any]) -> Maps:
    """Predict the integer maps of a (C, Y, X) image."""
    values = model.spec.normalize["values"]
    pixels = arrays.normalize(image, [arrays.contrast(channel, (values[0], values[1])) for channel in image])
    pixels = np.repeat(pixels, 3, axis=0) if len(pixels) == 1 else pixels
    shape = image.shape[1:]

    def read(box: tiles.Box) -> NDArray[np.float32]:
        return pixels[(slice(None), *[slice(a, b) for a, b in box])]

    maps: Maps = {}
    for _, _, maps in tiles.predict(read, shape, model, tuple((0, n) for n in shape), 1):  # noqa: B007
        pass
    return maps


def ours(maps: Maps, classes: Any, options: dict[str, Any]) -> NDArray[np.integer]:
    """Labels and the whole table, as a run computes them."""
    shape = maps["center"].shape[1:]
    found = pieces.collect(centers.assign(maps, classes, options, (0, 0), shape, (1.0, 1.0)), classes, (0, 0), shape)
    linked = link.link([found.rows], np.zeros((0, 2), np.int64), classes, "yx", int(options.get("min_size", 0)), float(options.get("min_score", 0)))
    lut = np.concatenate([[0], linked.final]).astype(np.uint32)
    return lut.take(found.labels, mode="clip")


def cellpose(maps: Maps, options: dict[str, Any]) -> NDArray[np.integer]:
    """Cellpose's dynamics on the offsets' directions; its flows are unit vectors times 5."""
    from cellpose.dynamics import compute_masks

    offset = maps["offset"].astype(np.float32)
    flow = 5 * offset / np.maximum(np.sqrt((offset**2).sum(0, keepdims=True)), 1)
    probability = maps["semantic"][1].astype(np.float32) / 255 - options.get("foreground", 0.5)
    masks: NDArray[np.integer] = compute_masks(flow, probability, cellprob_threshold=0.0, flow_threshold=0.0)
    return np.asarray(masks)


def seeded(maps: Maps, options: dict[str, Any]) -> NDArray[np.integer]:
    """Watershed from the same peaks."""
    peaks, thing = _peaks(maps, options)
    markers = np.zeros(thing.shape, np.int32)
    markers.ravel()[peaks] = np.arange(1, len(peaks) + 1)
    labels: NDArray[np.integer] = watershed(255 - maps["center"][0], markers, mask=thing)
    return labels


def argmin(maps: Maps, options: dict[str, Any]) -> NDArray[np.integer]:
    """Every foreground pixel to the nearest of all peaks."""
    peaks, thing = _peaks(maps, options)
    labels = np.zeros(thing.shape, np.int32)
    if not len(peaks):
        return labels
    places = np.stack(np.unravel_index(peaks, thing.shape), 1).astype(np.float32)
    inside = np.argwhere(thing)
    landed = inside + maps["offset"][:, thing].T / centers.EIGHTHS
    blocks = np.array_split(landed.astype(np.float32), max(1, len(landed) // 10_000))
    labels[thing] = 1 + np.concatenate([((block[:, None] - places[None]) ** 2).sum(-1).argmin(1) for block in blocks])
    return labels


def floor(maps: Maps) -> NDArray[np.integer]:
    """One pass over the maps."""
    return (maps["semantic"][1] > maps["center"][0]).astype(np.int32) + (maps["offset"][0] > maps["offset"][1])


def _peaks(maps: Maps, options: dict[str, Any]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    o = {**centers.DEFAULTS, **options}
    thing = centers.kinds(maps["semantic"], o["foreground"]) > 0
    return maxima(maps["center"][0], max(1, round(255 * o["center"])), [int(o["window"])] * 2), thing


def cleaned(labels: NDArray[np.integer], maps: Maps, options: dict[str, Any]) -> NDArray[np.integer]:
    """Drop objects by size and by the score that ours gives: the root of mean foreground times highest centre."""
    flat = labels.ravel()
    size = np.maximum(np.bincount(flat), 1)
    mean = np.bincount(flat, maps["semantic"][1].ravel()) / size / 255
    height = np.zeros(len(size), np.uint8)
    np.maximum.at(height, flat, maps["center"][0].ravel())
    keep = (size >= int(options.get("min_size", 0))) & (np.sqrt(mean * height / 255) >= options.get("min_score", 0))
    return np.where(keep[labels], labels, 0)


def _timed(decode: Callable[[Maps], NDArray[np.integer]], maps: Maps, times: int) -> float:
    decode({name: value[:, :64, :64] for name, value in maps.items()})
    best = np.inf
    for _ in range(times):
        start = time.process_time()
        decode(maps)
        best = min(best, time.process_time() - start)
    return best


def _mosaic(maps: Sequence[Maps]) -> Maps:
    """All images beside each other, as one large image has them: several megapixels."""
    h = max(m["center"].shape[1] for m in maps)
    columns = 1 + int(np.sqrt(len(maps)) / 2)
    rows = []
    for at in range(0, len(maps), columns):
        row = [_grown(m, h, m["center"].shape[2]) for m in maps[at : at + columns]]
        rows.append({name: np.concatenate([m[name] for m in row], axis=2) for name in maps[0]})
    w = max(r["center"].shape[2] for r in rows)
    rows = [_grown(r, h, w) for r in rows]
    return {name: np.concatenate([r[name] for r in rows], axis=1) for name in maps[0]}


def _grown(maps: Maps, h: int, w: int) -> Maps:
    """Add background below and to the right."""
    _, y, x = maps["center"].shape
    grown = {name: np.pad(value, ((0, 0), (0, h - y), (0, w - x))) for name, value in maps.items()}
    grown["semantic"][0, y:], grown["semantic"][0, :, x:] = 255, 255
    return grown


def real(folder: Path, count: int) -> list[tuple[NDArray[Any], NDArray[np.integer]]]:
    """Pixels (1, Y, X) and labels of the validation images of DSB2018 that have 520 x 696 pixels."""
    import tifffile

    with (folder / "index.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == "val" and r["modality"] == "fluorescence"]
    rows = [r for r in rows if (r["h"], r["w"]) == ("520", "696")][:count]
    return [(tifffile.imread(folder / "images" / f"{r['id']}.tif")[None], tifffile.imread(folder / "labels" / f"{r['id']}.tif")) for r in rows]


def synthetic(count: int) -> list[tuple[NDArray[Any], NDArray[np.integer]]]:
    """Pixels (1, Y, X) and labels of made nuclei."""
    from napari_segsuite.synthetic import nuclei

    return [(pixels[None], labels) for pixels, labels in (nuclei((512, 512), axes="yx", seed=seed) for seed in range(count))]


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
