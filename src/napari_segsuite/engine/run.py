"""The coordinator: a generator that hands chunks out, links what comes back and returns a `Segmentation`.

It imports no torch: with an executor of processes, all that is heavy happens there. Progress is ``yield``, the result is ``return``,
cancel is ``close()``.

1. `measure.measured`  contrast constants of the whole image, once
2. `chunk.label`     every chunk of every frame, in any order, here or in the executor
3. `link.link`       per frame: join pieces, number segments
4. `gather.Frames`   final labels and table, frame after frame
"""

from __future__ import annotations

import concurrent.futures as cf
import sys
import time
from collections.abc import Callable, Generator, Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_segsuite.engine import gather, scratch
from napari_segsuite.engine.layout import At
from napari_segsuite.engine.plan import Plan
from napari_segsuite.engine.progress import MEASURING, WAIT_S, Run, drained, waited
from napari_segsuite.engine.progress import Progress as Progress
from napari_segsuite.errors import SegsuiteError
from napari_segsuite.models import load_spec
from napari_segsuite.types import Image, Model, ModelSpec, Segmentation

if TYPE_CHECKING:
    from napari_segsuite.engine.chunk import Labelled

IN_FLIGHT = 4
"""Chunks that are handed out and not yet back, at most."""


def run(plan: Plan, image: Image, *, out: Path | None = None, executor: cf.Executor | None = None, model: Model | None = None, **more: Any) -> Run:
    """Do what the plan says.

    Parameters
    ----------
    plan : Plan
        From `resolve`.
    image : Image
        The one that the plan was made for; never modified.
    out : Path, optional
        An OME-Zarr store that the result grows in, in bounded memory; the same run again goes on where it was stopped. By default the
        result is made in memory.
    executor : Executor, optional
        Where chunks are computed; by default here. Of processes, threads or a cluster (``dask.distributed.Client.get_executor()``).
    model : Model, optional
        An object to use instead of loading the one that the plan names; only without an executor.
    **more
        With `out`: ``source``, ``overwrite``, ``version``, ``workers``, ``check`` and ``unchanged``, see `volume.run_store`.

    Yields
    ------
    Progress
        At least every 0.2 s while an executor works, and after every batch of tiles otherwise.

    Returns
    -------
    Segmentation
        On the image's grid, with the plan and what happened as its provenance.
    """
    started = time.perf_counter()
    spec = plan.spec_of(model.spec if model is not None else load_spec(plan.options.model))
    if out is not None:
        from napari_segsuite.engine.volume import run_store  # with what writing zarr needs

        return (yield from run_store(plan, image, spec, out, executor, model=model, **more))
    yield MEASURING
    if executor is None:
        plan = _measured(plan, image, spec)
        frames = yield from _collect(plan, image, spec, _here(plan, image, model))
    else:
        with scratch.scratch() as folder:
            far = scratch.portable(image, folder)
            plan = yield from waited(executor.submit(_measured, plan, far, spec), MEASURING)
            frames = yield from _collect(plan, image, spec, _there(plan, far, folder, executor))
    return frames.finish(time.perf_counter() - started)


def places(plan: Plan) -> list[At]:
    """List the chunks of all frames, frame by frame."""
    size = dict(zip(plan.image["axes"], plan.image["shape"], strict=True))
    lines = [[(a, min(a + c, size[axis])) for a in range(0, size[axis], c)] for axis, c in zip(plan.axes, plan.chunk, strict=True)]
    return [At(frame, box) for frame in np.ndindex(*[size[a] for a in plan.frames]) for box in product(*lines)]


Told = tuple[float, "Labelled | None"]
"""Chunks done so far, with fractions; and a chunk that is complete."""


def _here(plan: Plan, image: Image, model: Model | None) -> Iterator[Told]:
    """Compute chunk after chunk in this process."""
    from napari_segsuite.engine import chunk

    for k, at in enumerate(places(plan)):
        steps = chunk.label(plan, image, at, model)
        while True:
            try:
                done, total = next(steps)
            except StopIteration as stop:
                yield k + 1, stop.value
                break
            yield k + done / (total + 1), None


def _there(plan: Plan, image: Image, folder: Path, executor: cf.Executor) -> Iterator[Told]:
    """Keep a few chunks in flight; say every `WAIT_S` how far they are."""
    waiting: dict[cf.Future[Labelled], Path] = {}
    todo = enumerate(places(plan))
    done = 0
    try:
        while True:
            while len(waiting) < IN_FLIGHT and (following := next(todo, None)):
                number, at = following
                waiting[executor.submit(_drain, plan, image, at, folder / f"{number}.count")] = folder / f"{number}.count"
            if not waiting:
                return
            finished, _ = cf.wait(waiting, WAIT_S, cf.FIRST_COMPLETED)
            for future in finished:
                path = waiting.pop(future)
                path.unlink(missing_ok=True)
                done += 1
                yield done, future.result()
            parts = [scratch.counted(path) for path in waiting.values()]
            yield done + sum(a / (b + 1) for a, b in parts), None
    finally:
        for future in waiting:
            future.cancel()


def _drain(plan: Plan, image: Image, at: At, counter: Path) -> Labelled:
    """Compute one chunk in a worker, leaving word of its progress."""
    from napari_segsuite.engine import chunk

    steps = chunk.label(plan, image, at)
    while True:
        try:
            scratch.count(counter, *next(steps))
        except StopIteration as stop:
            result: Labelled = stop.value
            return result


def _measured(plan: Plan, image: Image, spec: ModelSpec) -> Plan:
    from napari_segsuite.engine import measure

    return measure.measured(plan, image, spec)


def _collect(plan: Plan, image: Image, spec: ModelSpec, chunks: Iterator[Told]) -> Generator[Progress, None, gather.Frames]:
    """Gather chunks, saying how far they are."""
    total = len(places(plan))
    frames, units, most = gather.Frames(plan, image, spec, total), 100 * total, 0
    for done, labelled in chunks:
        if labelled is not None:
            frames.add(labelled)
        device = frames.tally.device
        most = max(most, min(int(100 * done), units))  # what a chunk in flight has done is not always known
        yield Progress(most, units, f"segmenting on {device}" if device else "segmenting")
    return frames


def result(steps: Run, progress: Callable[[Progress], object] | None = None) -> Segmentation:
    """Drain a run.

    Raises
    ------
    SegsuiteError
        What went wrong, in plain words.
    """
    try:
        return drained(steps, progress)
    except _worker_died() as error:
        raise SegsuiteError(
            "the process that computed the segmentation ended unexpectedly",
            do="It may have run out of memory: choose a smaller batch or chunk. Or the script that starts processes lacks "
            "if __name__ == '__main__': around what it does, so that each of them begins the script anew.",
        ) from error


def _worker_died() -> tuple[type[Exception], ...]:
    """What an executor raises when a worker is gone; dask's is known only where dask is in use."""
    scheduler = sys.modules.get("distributed.scheduler")
    return (cf.BrokenExecutor, scheduler.KilledWorker) if scheduler is not None else (cf.BrokenExecutor,)
