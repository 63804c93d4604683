"""Components of a volume found by chunks, beside labelling the whole array at once.

Every way reads the same compressed maps of 128 cubed (background and foreground as uint8) and writes the same labels to the same kind of
store. The floor is two passes of cc3d over the whole array, reading and writing: what labelling twice costs where everything fits in memory.
Ours also makes the table: sizes, boxes, centroids and scores.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.volumes.measure import cpu, folder, heading, row, say, verdict
from benchmarks.volumes.sources import SmallTiles, blobs, boxes, repeated
from napari_segsuite.arrays import as_image
from napari_segsuite.engine import tasks, volume
from napari_segsuite.engine.gather import Tally
from napari_segsuite.engine.layout import Layout
from napari_segsuite.engine.plan import Options, resolve
from napari_segsuite.engine.tasks import Job
from napari_segsuite.engine.work import Work
from napari_segsuite.io import label_store
from napari_segsuite.io.packed import pack, unpack
from napari_segsuite.io.shards import Grid

TARGET = 1.15
PERIOD = 160
"""The volume repeats itself after this many voxels, which is not a multiple of a chunk: objects lie across faces in many ways."""


def main(options: argparse.Namespace) -> dict[str, float]:
    """Print CPU seconds and counts."""
    n, side = (64, 2) if options.quick else (128, 5)
    shape = (n * side,) * 3
    heading(f"stitching: {np.prod(shape) / 1e6:.0f} million voxels in chunks of {n} cubed")
    with folder() as at:
        job = _job(at, shape, n)
        steps, counts = _ours(job), {}
        counts["ours"] = int(steps.pop("segments"))
        ours = sum(steps.values())
        say("    ours in " + ", ".join(f"{name} {took:.2f}" for name, took in steps.items()) + " CPU-s")
        others: dict[str, Callable[[], int]] = {"cc3d on the whole array": lambda: _whole(job)}
        took = {"ours": ours}
        for name, other in others.items():
            try:
                took[name] = cpu(lambda other=other, name=name: counts.update({name: other()}))  # type: ignore[misc]
            except ImportError as error:
                row(name, f"not installed ({error.name})")
        floor = _floor(job) if "cc3d on the whole array" in took else float("nan")
        for name, seconds in took.items():
            row(name, f"{seconds:.2f} CPU-s", f"{seconds / ours:.2f} x ours", f"{counts[name]} objects")
        verdict("ours over two passes of cc3d and I/O", ours / floor, TARGET)
        _beside_dask_image(at / "small", n)
    return {"ratio": ours / floor, "ours": counts["ours"], "whole": counts.get("cc3d on the whole array", -1)}


def _job(at: Path, shape: tuple[int, ...], n: int) -> Job:
    """A run whose maps are there already: one tile per chunk."""
    model = SmallTiles((n,) * 3)
    spec = replace(model.spec, context=(0, 0, 0))
    image = as_image(np.broadcast_to(np.zeros((), np.uint8), shape))
    # One tile of the grid is one chunk where there is no context; a chunk that is not at the border needs nothing of its neighbours but a plane.
    plan = replace(resolve(image, Options(model="otsu", chunk=(n,) * 3), spec), limits=((0.0, 1.0),))
    store = volume.store_of(plan, image, at / "out.ome.zarr", None)
    label_store.begin(store.path, store.version)
    work = Work(store.path, at.name)
    work.make()
    block = blobs((PERIOD,) * 3)
    layout = Layout(plan, spec)
    for number in range(layout.tiles):
        inside = repeated(block, [slice(*side) for side in layout.tile(number)[1].core])
        foreground = np.where(inside, np.uint8(255), np.uint8(0))
        work.records("tiles").put(tasks.name_of(number), pack({"semantic": np.stack([255 - foreground, foreground])}))
    return Job(plan, image, spec, work, store)


def _ours(job: Job) -> dict[str, float]:
    """CPU seconds of each step; and how many segments there are."""
    layout, steps = Layout(job.plan, job.spec), {"decoding": 0.0, "joining": 0.0, "writing": 0.0}
    for number in range(layout.chunks):
        steps["decoding"] += cpu(lambda number=number: tasks.decode(job, number))  # type: ignore[misc]
    tally = Tally(job.plan, job.image, job.spec)
    steps["joining"] = cpu(lambda: link(job, tally))
    job = replace(job, store=replace(job.store, levels=job.store.levels[:1], factors=()))
    for at in np.ndindex(*job.store.levels[0].counts):
        steps["writing"] += cpu(lambda at=at: tasks.relabel(job, at))  # type: ignore[misc]
    return {**steps, "segments": float(tally.things)}


def link(job: Job, tally: Tally) -> None:
    """What a run does between labelling and writing, for its only frame."""
    found, frames = tasks.joined(job, 0), job.work.records("frames").folder
    np.save(frames / "0.npy", tally.number((), found))
    np.save(frames / "0.starts.npy", np.asarray(found.starts, np.int64))
    job.store.create()


def _read(job: Job) -> NDArray[np.bool_]:
    """The whole foreground, from the same records."""
    layout = Layout(job.plan, job.spec)
    whole = np.empty(layout.grids.image, np.bool_)
    for number in range(layout.tiles):
        maps = unpack((job.work.records("tiles").folder / tasks.name_of(number)).read_bytes())["semantic"]
        np.greater_equal(maps[1], 128, out=whole[tuple(slice(*side) for side in layout.tile(number)[1].core)])
    return whole


def _write(job: Job, labels: NDArray[Any]) -> None:
    grid = job.store.levels[0]
    for at, box in boxes(labels.shape, grid.block):
        grid.write(at, labels[box])


def _whole(job: Job) -> int:
    import cc3d

    labels, count = cc3d.connected_components(_read(job), connectivity=6, return_N=True)
    _write(job, labels)
    return int(count)


def _floor(job: Job) -> float:
    """CPU seconds of reading, two passes of cc3d, and writing."""
    import cc3d

    whole: list[NDArray[Any]] = []
    seconds = cpu(lambda: whole.append(_read(job)))
    for _ in range(2):
        seconds += cpu(lambda: whole.append(cc3d.connected_components(whole[0], connectivity=6)))
    return seconds + cpu(lambda: _write(job, whole[1]))


def _beside_dask_image(at: Path, n: int) -> None:
    """On 8 chunks alone, since it takes minutes for more."""
    at.mkdir()
    job, found = _job(at, (2 * n,) * 3, n), [0]
    try:
        theirs = cpu(lambda: found.append(_dask_image(job)))
    except ImportError as error:
        row("dask-image, 8 chunks", f"not installed ({error.name})")
        return
    steps = _ours(job)
    count = int(steps.pop("segments"))
    ratio = theirs / sum(steps.values())
    row("dask-image, 8 chunks", f"{theirs:.2f} CPU-s", f"{ratio:.2f} x ours", f"{found[-1]} objects ({count})")


def _dask_image(job: Job) -> int:
    import dask
    import dask.array as da
    from dask_image import ndmeasure

    n = job.plan.chunk[0]
    with dask.config.set(scheduler="synchronous"):
        labels, count = ndmeasure.label(da.from_array(_read(job), chunks=(n,) * 3))
        _, found = dask.compute(da.store(labels.astype(np.uint32), _Target(job.store.levels[0]), lock=False, compute=False), count)
        return int(found)


@dataclass
class _Target:
    """A store as what dask writes into."""

    grid: Grid

    def __setitem__(self, box: tuple[slice, ...], block: NDArray[Any]) -> None:
        self.grid.write([s.start // n for s, n in zip(box, self.grid.block, strict=True)], block)
