"""What the benchmarks of codecs have in common: maps that are encoded from true labels and then spoilt, and decoders of them side by side."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks import decoding
from benchmarks.decoding import THRESHOLDS, Maps, say
from napari_segsuite import metrics
from napari_segsuite.codecs import codec, pieces
from napari_segsuite.engine import link
from napari_segsuite.types import Class

Labels = NDArray[np.integer]
NUCLEI = (Class(1, "nucleus"),)
SMALLEST = 15
"""Objects of fewer voxels are not counted."""


def truths(about: str | None, argv: Sequence[str] | None) -> list[Labels]:
    """Labels of the pictures that the command line asks for."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data" / "dsb2018")
    parser.add_argument("--images", type=int, default=12)
    args = parser.parse_args(argv)
    pictures = decoding.real(args.data, args.images) if args.data.is_dir() else decoding.synthetic(args.images)
    return [labels.astype(np.int64) for _, labels in pictures]


def noise(shape: Sequence[int], amount: float, blur: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Gaussian noise of this standard deviation, of a grain as coarse as wished."""
    values = rng.normal(size=tuple(shape))
    values = ndimage.gaussian_filter(values, blur) if blur else values
    spoilt: NDArray[np.float64] = amount * values / values.std()
    return spoilt


def ours(name: str, maps: Maps, **options: Any) -> Labels:
    """Labels and the whole table, as a run computes them."""
    shape = maps["semantic"].shape[1:]
    origin, same = (0,) * len(shape), (1.0,) * len(shape)
    found = pieces.collect(codec(name).assign(maps, NUCLEI, options, origin, shape, same), NUCLEI, origin, shape)
    linked = link.link([found.rows], np.zeros((0, 2), np.int64), NUCLEI, "zyx"[-len(shape) :], SMALLEST)
    lut = np.concatenate([[0], linked.final]).astype(np.uint32)
    return lut.take(found.labels, mode="clip")


def compare(
    name: str, decoders: Mapping[str, Callable[[Maps], Labels]], maps: Sequence[Maps], truth: Sequence[Labels], large: Maps, times_each: int = 3
) -> None:
    """Print time (on `large`, the best of so many) and AP of all decoders, and the AP of the first if the result of each other were the truth."""
    megapixels = large["semantic"][0].size / 1e6
    done = {word: clocked(partial(decode, large), times_each) for word, decode in decoders.items()}
    times = {word: seconds / megapixels for word, (seconds, _) in done.items()}
    found = {word: [done[word][1] if m is large else decode(m) for m in maps] for word, decode in decoders.items()}
    first = next(iter(decoders))
    for word, labels in found.items():
        seconds = times[word]
        say(f"{name:27} {scored(word, labels, truth)}  {seconds:.4f} s/Mpx  {seconds / times[first]:5.1f} x {first}")
        if word != first:
            say(f"{name:27} {scored(f'{first} against {word}', found[first], labels)}")


def clocked(work: Callable[[], Any], times: int) -> tuple[float, Any]:
    """Least CPU seconds of so many times, and the answer."""
    best, answer = np.inf, None
    for _ in range(times):
        start = time.process_time()
        answer = work()
        best = min(best, time.process_time() - start)
    return best, answer


def side_by_side(maps: Sequence[Maps]) -> Maps:
    """Images of one size as one large image."""
    columns = 1 + int(np.sqrt(len(maps)) / 2)
    rows = [maps[at : at + columns] for at in range(0, len(maps) // columns * columns, columns)]
    return {name: np.concatenate([np.concatenate([m[name] for m in row], axis=2) for row in rows], axis=1) for name in maps[0]}


def scored(word: str, found: Sequence[Labels], truth: Sequence[Labels]) -> str:
    """AP of labels, after small objects were dropped from both sides, as a part of a line."""
    kept = [[np.where(np.bincount(labels.ravel())[labels] >= SMALLEST, labels, 0).astype(np.int64) for labels in side] for side in (found, truth)]
    scores = metrics.evaluate(*kept)
    return f"{word:10} " + "  ".join(f"AP{t} {scores.ap[t]:.3f}" for t in THRESHOLDS)
