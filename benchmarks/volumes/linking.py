"""Joining many chunks, as a share of the run that made them.

One chunk is really decoded, and its record is written for every place of a large grid, with its rows moved there: real rows, real faces that
fit to each other. A chunk's own time is measured with the cheapest model that there is, Otsu's threshold; with a network the share is smaller.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.volumes.measure import cpu, folder, heading, row, verdict
from benchmarks.volumes.sources import SmallTiles, blobs
from benchmarks.volumes.stitching import link
from napari_segsuite.arrays import as_image
from napari_segsuite.codecs import pieces, semantic
from napari_segsuite.engine import tasks, volume
from napari_segsuite.engine.gather import Tally
from napari_segsuite.engine.layout import Layout
from napari_segsuite.engine.plan import Options, resolve
from napari_segsuite.engine.tasks import Job
from napari_segsuite.engine.work import Work
from napari_segsuite.io import label_store
from napari_segsuite.io.packed import pack

TARGET = 0.05
GRID = (10, 25, 40)


def main(options: argparse.Namespace) -> dict[str, float]:
    """Print the share."""
    n, grid = (32, (2, 3, 4)) if options.quick else (128, GRID)
    with folder() as at:
        job = _job(at, n, grid)
        layout = Layout(job.plan, job.spec)
        heading(f"linking: {layout.chunks} chunks of {n} cubed")
        chunk_s = _chunk(job, n)
        pieces_each = _records(job, layout, n)
        tally = Tally(job.plan, job.image, job.spec)
        started = time.process_time()
        link(job, tally)
        took = time.process_time() - started
        row("joining", f"{took:.2f} CPU-s", f"{1000 * took / layout.chunks:.2f} ms a chunk", f"{pieces_each} pieces each")
        row("a chunk of the run", f"{chunk_s:.3f} CPU-s", f"{tally.things} objects")
        share = took / (took + layout.chunks * chunk_s)
        verdict("share of joining", share, TARGET)
    return {"share": share, "objects": tally.things}


def _job(at: Path, n: int, grid: tuple[int, ...]) -> Job:
    model = SmallTiles((n,) * 3)
    image = as_image(np.broadcast_to(np.zeros((), np.uint8), [k * n for k in grid]))
    plan = replace(resolve(image, Options(model="otsu", chunk=(n,) * 3), model.spec), limits=((0.0, 200.0),))
    store = volume.store_of(plan, image, at / "out.ome.zarr", None)
    label_store.begin(store.path, store.version)
    work = Work(store.path, "many")
    work.make()
    return Job(plan, image, model.spec, work, store, model)


def _chunk(job: Job, n: int) -> float:
    """CPU seconds of all that is done for one chunk: its maps, its pieces, its labels with their pyramid."""
    camera = np.where(blobs((n,) * 3), np.uint8(160), np.uint8(60))
    image = as_image(camera)
    plan = replace(resolve(image, job.plan.options, job.spec), limits=job.plan.limits)
    store = volume.store_of(plan, image, job.store.path.with_name("one.ome.zarr"), None)
    label_store.begin(store.path, store.version)
    work = Work(store.path, "one")
    work.make()
    one = Job(plan, image, job.spec, work, store, job.model)

    def steps() -> None:
        layout = Layout(plan, job.spec)
        for tile in range(layout.tiles):
            tasks.predict(one, [tile])
        tasks.decode(one, 0)
        link(one, Tally(plan, image, job.spec))
        for at in np.ndindex(*store.levels[min(1, len(store.levels) - 1)].counts):
            tasks.relabel(one, at)

    return min(cpu(steps) for _ in range(3))


def _records(job: Job, layout: Layout, n: int) -> int:
    """Write the record of one chunk for all; how many pieces it has."""
    shape, inside = layout.grids.image, blobs((n,) * 3)
    foreground = np.where(inside, np.uint8(255), np.uint8(0))
    assigned = semantic.assign({"semantic": np.stack([255 - foreground, foreground])}, job.spec.classes, {}, (0, 0, 0), shape, (1.0,) * 3)
    found = pieces.collect(assigned, job.spec.classes, (0, 0, 0), shape)
    faces = {f"face{a}{side}": np.take(found.labels, -side, a) for a in range(3) for side in (0, 1)}
    behind = {f"beyond{a}": -np.take(inside, 0, a).astype(np.int64) for a in range(3)}
    records = job.work.records("chunks")
    for number in range(layout.chunks):
        corner = [a for a, _ in layout.chunk(number).box]
        rows = {name: column.copy() for name, column in found.rows.items()}
        rows["first"] += np.int64(np.ravel_multi_index(corner, shape))
        for a, low in enumerate(corner):
            rows[f"low_{a}"] += low
            rows[f"high_{a}"] += low
            rows[f"sum_{a}"] += low * rows["size"]
        (records.folder / tasks.name_of(number)).write_bytes(pack({**{f"row_{k}": v for k, v in rows.items()}, **faces, **behind}, quick=True))
    return len(found.rows["key"])
