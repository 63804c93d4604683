"""Components of a volume found by chunks, beside labelling the whole array at once.

Every way reads the same compressed maps of 128 cubed (background and foreground as uint8) and writes the same labels to the same kind of
store. The floor is two passes of cc3d over the whole array, reading and writing: what labelling twice costs where everything fits in memory.
Ours also makes the table: sizes, boxes, centroids and scores.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.volumes import peers
from benchmarks.volumes.measure import cpu, fastest, folder, heading, row, say, verdict
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
        few = _on_eight_chunks(at / "few", n, rounds=1 if options.quick else 3)
    return {"ratio": ours / floor, "ours": counts["ours"], "whole": counts.get("cc3d on the whole array", -1), **few}


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
    found = tasks.joined(job, 0)
    tasks.keep_numbers(job, 0, np.asarray(found.starts, np.int64), tally.number((), found))
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


def _on_eight_chunks(at: Path, n: int, rounds: int) -> dict[str, float]:
    """Beside ways that take minutes for more: the least time of some rounds, and how many objects come out whole and alone."""
    ways: dict[str, Callable[[Job], Path]] = {"ours, 8 chunks": _own}
    for name, made in {"dask-image, 8 chunks": peers.dask_image, "Cellpose's merge, 8 chunks": peers.cellpose}.items():
        try:
            ways[name] = _from_foreground(made())
        except (ImportError, RuntimeError) as error:
            row(name, f"cannot be imported ({error})")
    jobs = {name: _job(at / str(k), (2 * n,) * 3, n) for k, name in enumerate(ways)}
    written: dict[str, Path] = {}
    calls = {name: lambda name=name, way=way: written.update({name: way(jobs[name])}) for name, way in ways.items()}  # type: ignore[misc]
    took = fastest(calls, rounds)
    truth, count = ndimage.label(_read(next(iter(jobs.values()))))
    figures = {"few": float(count)}
    for name, path in written.items():
        labels = peers.labels_at(path)
        found, right = np.unique(labels[labels > 0]).size, peers.kept(truth, labels)
        row(name, f"{took[name]:.2f} CPU-s", f"{took[name] / took['ours, 8 chunks']:.2f} x ours", f"{found} objects", f"{right} of {count} right")
        figures |= {f"{name.split(',')[0]}, found": found, f"{name.split(',')[0]}, right": right}
    return figures


def _from_foreground(way: peers.Way) -> Callable[[Job], Path]:
    def whole(job: Job) -> Path:
        job.store.create()
        return way(_read(job), job.store.levels[0])

    return whole


def _own(job: Job) -> Path:
    _ours(job)
    return job.store.levels[0].folder
