"""Time and peak memory over the size of a volume, with one chunk and one tile for all, and the forecasts beside them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.volumes.measure import child, folder, heading, row, say
from benchmarks.volumes.sources import volume

SIZES = ((64, 256, 256), (64, 512, 512), (128, 512, 512), (128, 1024, 1024), (256, 1024, 1024))
QUICK = ((16, 64, 64), (32, 64, 64))
CHUNK, QUICK_CHUNK = (64, 256, 256), (16, 32, 32)


def main(options: argparse.Namespace) -> dict[str, float]:
    """Print a table; draw it if wished."""
    sizes, chunk = (QUICK, QUICK_CHUNK) if options.quick else (SIZES, CHUNK)
    heading(f"curve: Otsu's threshold in chunks of {' x '.join(map(str, chunk))}, three threads")
    row("volume", "CPU-s", "ns / voxel", "peak MB", "forecast MB", "objects")
    found = []
    with folder() as at:
        for k, shape in enumerate(sizes):
            image = volume(at / f"{k}.zarr", shape, "uint8")
            told = child(image=str(image), out=str(at / f"{k}.ome.zarr"), chunk=list(chunk))
            if "error" in told:
                row(" x ".join(map(str, shape)), told["error"])
                continue
            found.append(told)
            _row(shape, told)
    if options.plot and found:
        _plot(options.plot, found)
    ratios = [told["forecast_bytes"] / told["peak_bytes"] for told in found]
    if ratios:
        say(f"forecast of memory over what was used: {min(ratios):.2f} to {max(ratios):.2f} (wanted: 0.67 to 1.5)")
    return {"sizes": len(found), "worst_forecast": max((max(r, 1 / r) for r in ratios), default=float("nan"))}


def _row(shape: tuple[int, ...], told: dict[str, Any]) -> None:
    each = 1e9 * told["cpu_s"] / told["voxels"]
    peak, forecast = told["peak_bytes"] / 1e6, told["forecast_bytes"] / 1e6
    row(" x ".join(map(str, shape)), f"{told['cpu_s']:.1f}", f"{each:.0f}", f"{peak:.0f}", f"{forecast:.0f}", f"{told['segments']}")


def _plot(path: Path, found: list[dict[str, Any]]) -> None:
    """Time and memory over voxels, on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    voxels = np.array([told["voxels"] for told in found]) / 1e6
    left.loglog(voxels, [told["cpu_s"] for told in found], "o-")
    left.set_ylabel("CPU seconds")
    right.loglog(voxels, [told["peak_bytes"] / 2**20 for told in found], "o-", label="run")
    right.loglog(voxels, voxels * 1e6 / 2**20, "--", color="grey", label="the pixels")
    right.set_ylabel("peak memory, MiB")
    right.legend()
    for axes in (left, right):
        axes.set_xlabel("million voxels")
        axes.grid(alpha=0.3, which="both")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
