"""What a run would take: time, memory and disk, from one tile that is really computed and from counting the rest."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from napari_segsuite.engine import tiles
from napari_segsuite.engine.layout import At, Layout, chunk_of
from napari_segsuite.engine.plan import Plan
from napari_segsuite.types import Image, ModelSpec

DECODING_BYTES = 40
"""Working memory of the decoder per voxel that it looks at, beyond the maps; measured (``python -m benchmarks volumes``)."""
BASE_BYTES = 450 * 2**20
"""What a process with torch and a small network has in memory before any pixel."""
BARE_BYTES = 150 * 2**20
"""The same without torch."""
PLAIN_BYTES = 14
"""Working memory of a model without a network per voxel of the tile and channel of its answer, while another tile is read; measured."""
NETWORK_BYTES = 22
"""Working memory of a network per voxel of its tile and channel of its finest level, in 2D and 3D at most; measured."""
WRITE_S = 8e-9
"""Seconds per voxel for joining and writing labels with their pyramid; measured likewise."""
PACKED = 0.15
"""Records on disk per byte of maps, and labels per byte of labels, after compression, at most in what was measured."""


def forecast(plan: Plan, image: Image, spec: ModelSpec, workers: int = 1, *, grows: bool = True) -> dict[str, Any]:
    """Estimate a run.

    Parameters
    ----------
    plan : Plan
    image : Image
    spec : ModelSpec
    workers : int
        That work at once.
    grows : bool
        Whether the result is a store on disk.

    Returns
    -------
    dict
        ``seconds``; ``ram_bytes`` (all workers together), ``vram_bytes`` (0 where no graphics card is used), ``disk_bytes`` (at its peak),
        ``tiles``, ``chunks``, ``device``, ``fingerprint`` and ``plan``.
    """
    plan = replace(plan, chunk=chunk_of(plan)) if grows else plan
    layout = Layout(plan, spec)
    trial = _trial(plan, image, layout)
    voxels = prod(layout.grids.image) * prod(layout.frames)
    seconds = trial["tile_s"] * layout.tiles / workers + trial["decode_s"] * _decoded(layout) / workers + WRITE_S * voxels
    disk = PACKED * (4 * voxels * 2.2 + _map_bytes(spec) * _band(layout)) if grows else 0
    return {
        "seconds": round(seconds, 1),
        "ram_bytes": int(_ram(layout, spec, workers, grows)),
        "vram_bytes": int(trial["vram_bytes"]),
        "disk_bytes": int(disk),
        "tiles": layout.tiles,
        "chunks": layout.chunks,
        "device": trial["device"],
        "fingerprint": plan.fingerprint,
        "plan": plan.to_json(),
    }


def _trial(plan: Plan, image: Image, layout: Layout) -> dict[str, Any]:
    """Compute a tile in the middle twice (the first time warms up), and decode it."""
    from napari_segsuite.engine import chunk, measure
    from napari_segsuite.engine.reader import Reader

    model = chunk.model_of(plan)
    plan = measure.measured(plan, image, model.spec)
    frame, tile = layout.tile(int(np.ravel_multi_index([n // 2 for n in layout.tile_shape], layout.tile_shape)))
    own = layout.grids.own(tile.core)
    torch = sys.modules.get("torch")
    card = torch is not None and str(getattr(model, "device", "")).startswith("cuda")
    took, multiple = 0.0, model.spec.multiple[-len(plan.axes) :]
    for _ in range(2):
        if torch is not None and card:
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        pixels = tiles.padded(Reader(plan, image, frame, own, layout.grids, len(model.spec.channels)).read(tile.seen), multiple)
        answer = model.predict(pixels[None])
        maps: dict[str, Any] = {name: value[0] for name, value in tiles.answered(model.spec, answer, (1, *pixels.shape)).items()}
        if answer.objects:
            maps["objects"] = answer.objects[0]
        took = time.perf_counter() - started
    vram = torch.cuda.max_memory_allocated() * plan.batch if torch is not None and card else 0
    return {
        "tile_s": took,
        "decode_s": _decoding(plan, layout, maps, pixels.shape[1:]),
        "vram_bytes": vram,
        "device": str(getattr(model, "device", "cpu")),
    }


def _decoding(plan: Plan, layout: Layout, maps: dict[str, Any], shape: tuple[int, ...]) -> float:
    """Seconds per voxel of decoding, from the maps of one tile taken for those of a small frame of its own."""
    from napari_segsuite.engine import chunk

    small = {**plan.image, "axes": plan.axes, "shape": list(shape)}
    alone = replace(plan, image=small, frames="", zoom=(1.0,) * len(shape), chunk=tuple(shape))
    started = time.perf_counter()
    chunk.decode(alone, layout.spec, At((), tuple((0, n) for n in shape)), maps)
    return float((time.perf_counter() - started) / prod(shape))


def _decoded(layout: Layout) -> int:
    """Voxels that are decoded in all, with what chunks decode of their neighbours."""
    # Per axis, since everything about boxes is separable.
    d = len(layout.chunk_lines)
    sides = []
    for axis, lines in enumerate(layout.chunk_lines):
        boxes = [tuple(side if a == axis else (0, 1) for a in range(d)) for side in lines]
        seen = [layout.grids.around(layout.wider(box), layout.reach)[axis] for box in boxes]
        sides.append(sum(b - a for a, b in seen))
    return prod(sides) * prod(layout.frames)


def _map_bytes(spec: ModelSpec) -> int:
    return sum(h.channels * (2 if h.kind == "vector" else 1) for h in spec.heads)


def _region(layout: Layout) -> int:
    """Voxels of the largest region that a chunk is decoded from."""
    return prod(min(c + 1 + 2 * r, n) for c, r, n in zip(layout.plan.chunk, layout.reach, layout.grids.decoder, strict=True))


def _band(layout: Layout) -> int:
    """Voxels whose maps are on disk at once: a layer of chunks and what they need around it."""
    shape, chunk = layout.grids.model, layout.plan.chunk
    return int(prod(shape) / shape[0] * min(shape[0], chunk[0] + 1 + 2 * layout.reach[0] + layout.spec.tile[-len(shape)]))


def _ram(layout: Layout, spec: ModelSpec, workers: int, grows: bool) -> float:
    """Bytes of all workers: the process, a tile in the network, a region in the decoder, and in memory the labels."""
    tile = prod(min(t, n) for t, n in zip(spec.tile[-len(layout.plan.axes) :], layout.grids.model, strict=True))
    answer = sum(h.channels for h in spec.heads) or 1
    width = max(spec.net.get("kwargs", {}).get("widths", (16,))[0], answer)
    base, network = (BASE_BYTES, NETWORK_BYTES * width * tile) if spec.net else (BARE_BYTES, PLAIN_BYTES * answer * tile)
    each = base + network + (_map_bytes(spec) + DECODING_BYTES) * _region(layout)
    whole = 0 if grows else 8 * prod(layout.grids.image) * prod(layout.frames)
    return workers * each + whole
