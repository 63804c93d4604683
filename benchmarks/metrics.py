"""AP at ten thresholds: CPU time of stardist and cellpose over ours, on the same labels in one run, after checking that all agree."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import MissingExtra
from napari_segsuite.metrics import THRESHOLDS, matching, overlap

Labels = NDArray[np.int32]
Count = Callable[[Labels, Labels], list[int]]

FIELDS = {"1024 x 1024": (1024, 1024), "2048 x 2048": (2048, 2048), "64 x 256 x 256": (64, 256, 256)}
PITCH = 32
REPEATS = 3


def main() -> None:
    """Print one line per field."""
    rows: list[tuple[str, ...]] = [("field", "objects", "ours, CPU-s", "stardist / ours", "cellpose / ours")]
    for name, shape in FIELDS.items():
        true, pred = field(shape)
        ours, *peers = time_each([count_ours, *find_peers()], true, pred)
        rows.append((name, str(int(true.max())), f"{ours:.4f}", *(f"{peer / ours:.1f}" for peer in peers)))
    sys.stdout.writelines("  ".join(f"{cell:>16}" for cell in row) + "\n" for row in rows)


def time_each(counts: list[Count], true: Labels, pred: Labels) -> list[float]:
    """Least CPU-seconds of each over a few rounds; the first round compiles, warms caches and compares the answers."""
    answers = [count(true, pred) for count in counts]
    if answers != [answers[0]] * len(answers):
        raise AssertionError(f"the implementations count differently: {answers}")
    rounds = [[_spend(count, true, pred) for count in counts] for _ in range(REPEATS)]
    return [min(column) for column in zip(*rounds, strict=True)]


def count_ours(true: Labels, pred: Labels) -> list[int]:
    """TP per threshold, from one table and one matching."""
    found = matching(overlap(true, pred))
    return [found.at(t).tp for t in THRESHOLDS]


def find_peers() -> list[Count]:
    """The same from stardist and cellpose."""
    try:
        cellpose, stardist = import_module("cellpose.metrics"), import_module("stardist.matching")
    except (ImportError, RuntimeError) as error:
        raise MissingExtra("comparing with stardist and cellpose", "bench") from error

    def count_stardist(true: Labels, pred: Labels) -> list[int]:
        return [int(m.tp) for m in stardist.matching(true, pred, thresh=THRESHOLDS)]

    def count_cellpose(true: Labels, pred: Labels) -> list[int]:
        found: list[Any] = cellpose.average_precision(true, pred, threshold=list(THRESHOLDS))[1].tolist()
        return [int(tp) for tp in found]

    return [count_stardist, count_cellpose]


def field(shape: tuple[int, ...], seed: int = 0) -> tuple[Labels, Labels]:
    """Balls on a jittered grid; the prediction moves and resizes each, and misses one in ten on either side."""
    rng = np.random.default_rng(seed)
    true, pred = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    grid = np.stack(np.meshgrid(*(np.arange(PITCH // 2, n, PITCH) for n in shape), indexing="ij"), -1)
    for middle in grid.reshape(-1, len(shape)):
        centre, radius = middle + rng.integers(-4, 5, len(shape)), rng.integers(6, 14)
        for labels, moved, grown in ((true, 0, 0), (pred, rng.integers(-2, 3, len(shape)), rng.integers(-2, 3))):
            if rng.random() < 0.9:
                paint(labels, centre + moved, int(radius + grown))
    return true, pred


def paint(labels: Labels, centre: NDArray[np.int64], radius: int) -> None:
    """Add a ball with the next id, over what is there."""
    window = tuple(slice(max(0, int(c) - radius), int(c) + radius + 1) for c in centre)
    patch = labels[window]
    distance = sum((i + s.start - c) ** 2 for i, s, c in zip(np.indices(patch.shape), window, centre, strict=True))
    patch[distance < radius**2] = labels.max() + 1


def _spend(count: Count, true: Labels, pred: Labels) -> float:
    started = time.process_time()
    count(true, pred)
    return time.process_time() - started
