"""How long the network waits for reading, decoding and writing while a store is made.

The network is a stand-in that takes a fixed time per tile without the processor, as one on a graphics card does: what is measured is
whether the rest is done meanwhile, and two threads are not made to share a core by the measurement.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.volumes.measure import cpu, folder, heading, row, verdict
from benchmarks.volumes.sources import SmallTiles, volume
from napari_segsuite.arrays import as_image
from napari_segsuite.engine.plan import Options, resolve
from napari_segsuite.engine.run import run
from napari_segsuite.types import ModelSpec, Prediction

TARGET = 0.1
TILE_S = 0.5


@dataclass
class Elsewhere:
    """Computes nothing here: the maps are the pixels, after a while.

    Attributes
    ----------
    tile : tuple of int
    tile_s : float
    spans : list of (float, float)
        When it was busy.
    """

    tile: tuple[int, ...]
    tile_s: float
    spans: list[tuple[float, float]] = field(default_factory=list)

    @property
    def spec(self) -> ModelSpec:
        """Otsu's, with other tiles."""
        return SmallTiles(self.tile).spec

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        """Foreground is what is bright."""
        start = time.perf_counter()
        foreground = np.clip(batch, 0, 1)
        maps = np.concatenate([1 - foreground, foreground], axis=1)
        time.sleep(max(0.0, self.tile_s - (time.perf_counter() - start)))
        self.spans.append((start, time.perf_counter()))
        return Prediction({"semantic": maps})


def main(options: argparse.Namespace) -> dict[str, float]:
    """Print the share of the time in which the network waits."""
    shape, tile, tile_s = ((32, 64, 64), (16, 32, 32), 0.02) if options.quick else ((128, 512, 512), (64, 128, 128), TILE_S)
    model = Elsewhere(tile, tile_s)
    with folder() as at:
        import zarr

        pixels = zarr.open_array(volume(at / "image.zarr", shape, "uint8", tile), mode="r")
        plan = resolve(as_image(pixels), Options(model="otsu", chunk=tile), model.spec)
        used = cpu(lambda: list(run(plan, as_image(pixels), out=at / "out.ome.zarr", model=model)))
    busy, first, last = sum(b - a for a, b in model.spans), model.spans[0][0], model.spans[-1][1]
    heading(f"overlap: {len(model.spans)} tiles that take {tile_s} s each elsewhere, three threads")
    row("from the first tile to the last", f"{last - first:.2f} s", f"busy {busy:.2f} s")
    row("all the rest together", f"{used:.2f} CPU-s", f"{used / busy:.2f} x busy")
    waits = 1 - busy / (last - first)
    verdict("share in which the network waits", waits, TARGET)
    return {"waits": waits}
