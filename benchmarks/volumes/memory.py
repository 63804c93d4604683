"""Peak memory of whole runs, each in a process of its own.

Otsu's threshold, since a network's own memory depends on its tile alone and would hide what else grows. The limit is `RLIMIT_DATA`, which
counts what a process allocates, not the files that it maps. The forecast is `segsuite segment --dry-run`'s, for the same run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks.volumes.measure import child, folder, heading, row, say, verdict
from benchmarks.volumes.sources import volume

TARGET, NEAR = 1.2, 1.5
SMALL, CHUNK, TILE = (256, 512, 512), (64, 128, 128), (64, 128, 128)
"""64 chunks, so that all threads are at work at once in both: in a volume of few chunks, tiles are all done before a chunk is begun."""
LARGE, LARGE_CHUNK, LIMIT = (1024, 1024, 2048), (128, 256, 256), 2 * 2**30
MB = 1e6


def main(options: argparse.Namespace) -> dict[str, float]:
    """Print peaks."""
    with folder() as at:
        figures = _growth(at, tuple(n // 4 for n in SMALL) if options.quick else SMALL)
        if not options.quick:
            figures |= _limited(at)
    return figures


def _growth(at: Path, small: tuple[int, ...]) -> dict[str, float]:
    """Peak of a volume, and of one that is twice as long along each axis."""
    heading(f"memory: peak of a run over {' x '.join(map(str, small))} and over 8 times as much, same chunk and tile")
    chunk = [min(n, c) for n, c in zip(small, CHUNK, strict=True)]
    peaks = []
    for times in (1, 2):
        shape = [times * n for n in small]
        image = volume(at / f"{times}.zarr", shape, "uint8", tuple(chunk))
        told = child(image=str(image), out=str(at / f"{times}.ome.zarr"), chunk=chunk, tile=list(TILE))
        if "error" in told:
            row("failed", told["error"])
            return {"growth": float("nan")}
        peaks.append(told["peak_bytes"])
        row(
            " x ".join(map(str, shape)), f"{told['peak_bytes'] / MB:.0f} MB", f"{told['before_bytes'] / MB:.0f} before", f"{told['segments']} objects"
        )
    verdict("peak of 8 volumes over that of one", peaks[1] / peaks[0], TARGET)
    return {"growth": peaks[1] / peaks[0]}


def _limited(at: Path) -> dict[str, float]:
    """A volume of 4 GiB under a limit of 2 GiB, and the forecast beside what it took."""
    size = 2 * np.prod(LARGE, dtype=float)
    heading(
        f"memory: {size / 2**30:.0f} GiB of uint16 pixels under RLIMIT_DATA of {LIMIT / 2**30:.0f} GiB, chunks of {' x '.join(map(str, LARGE_CHUNK))}"
    )
    if sys.platform != "linux":
        say("left out: only Linux limits what a process allocates")
        return {}
    image = volume(at / "large.zarr", LARGE, "uint16")
    told = child(image=str(image), out=str(at / "large.ome.zarr"), chunk=list(LARGE_CHUNK), limit_bytes=LIMIT)
    if "error" in told:
        row("failed", told["error"])
        return {"limited": 0.0}
    row("finished", f"{told['peak_bytes'] / MB:.0f} MB", f"{told['cpu_s']:.0f} CPU-s", f"{told['segments']} objects")
    verdict("peak over the size of the pixels", told["peak_bytes"] / size, 0.5)
    return {"limited": 1.0}
