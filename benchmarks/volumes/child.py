"""A process of its own that segments one volume into a store and tells as JSON what that took."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from benchmarks.volumes.measure import peak_bytes
from benchmarks.volumes.sources import SmallTiles
from napari_segsuite.allocator import keep_memory
from napari_segsuite.arrays import as_image
from napari_segsuite.engine.forecast import forecast
from napari_segsuite.engine.plan import Options, resolve
from napari_segsuite.engine.run import result, run
from napari_segsuite.models import load_spec


def main(
    image: str, out: str, *, chunk: list[int], model: str = "otsu", tile: list[int] | None = None, limit_bytes: int = 0, torch: bool = False
) -> dict[str, Any]:
    """Segment and measure.

    Parameters
    ----------
    image, out : str
        A zarr array, and the store to write.
    chunk : list of int
    model : str
    tile : list of int, optional
        Other tiles than the model's own; for models without a network.
    limit_bytes : int
        Of what the process may allocate (``RLIMIT_DATA``); 0 for no limit.
    torch : bool
        Whether to have torch in the process although the model needs none, as a run with a network has.
    """
    keep_memory()  # as the command line does
    if limit_bytes:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
    if torch:
        import torch as _  # noqa: F401
    given = SmallTiles(tuple(tile)) if tile else None
    spec = given.spec if given else load_spec(model)
    pixels = as_image(zarr.open_array(Path(image), mode="r"))
    plan = resolve(pixels, Options(model=model, chunk=tuple(chunk), device="cpu"), spec)
    told = forecast(plan, pixels, spec, workers=1, grows=True) if not given and not limit_bytes else {"ram_bytes": 0}
    before, started, cpu = peak_bytes(), time.perf_counter(), time.process_time()
    found = result(run(plan, pixels, out=Path(out), model=given))
    return {
        "wall_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
        "before_bytes": before,
        "forecast_bytes": told["ram_bytes"],
        "peak_bytes": peak_bytes(),
        "voxels": int(np.prod(pixels.shape)),
        "segments": len(found.segments["id"]),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(**json.loads(sys.argv[1]))) + "\n")
