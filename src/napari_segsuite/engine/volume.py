"""A run whose result grows on disk: bounded memory, any number of workers, and nothing is done twice when it is started again.

1. `_label`    tiles and chunks, in any order, by any executor (`schedule.Labelling`)
2. `_link`     frame by frame: join pieces, number segments
3. `_write`    the result and its pyramid, block by block
4. `_close`    the table and the metadata that call it a result

Everything that is done is a record on disk (`work.Work`), written atomically. Who starts the same run again begins with what is there.
"""

from __future__ import annotations

import concurrent.futures as cf
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.engine import scratch, tasks
from napari_segsuite.engine.gather import Tally
from napari_segsuite.engine.layout import Layout, chunk_of
from napari_segsuite.engine.plan import Plan
from napari_segsuite.engine.progress import MEASURING, Progress, Run, waited, watched
from napari_segsuite.engine.schedule import Labelling, Pool, Task
from napari_segsuite.engine.tasks import Job, block_name, name_of
from napari_segsuite.engine.work import INPUT, Begun, Work, before, begin_job, finish, locked
from napari_segsuite.errors import OptionError, SegsuiteError
from napari_segsuite.io import faults, label_store, read_segmentation
from napari_segsuite.io.label_store import LabelStore
from napari_segsuite.types import Image, Model, ModelSpec

SHARE = {"label": 0.9, "link": 0.02, "write": 0.08}
"""Rough share of the time, for the progress bar."""


def run_store(
    plan: Plan,
    image: Image,
    spec: ModelSpec,
    out: Path,
    executor: cf.Executor | None,
    *,
    model: Model | None = None,
    source: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    version: str | None = None,
    workers: int = 3,
    check: bool = False,
    unchanged: Callable[[], object] = bool,
) -> Run:
    """Segment into an OME-Zarr store.

    Parameters
    ----------
    plan : Plan
    image : Image
    spec : ModelSpec
    out : Path
        A store of its own, or ``IMAGE.ome.zarr/labels/NAME``.
    executor : Executor, optional
        By default threads of this process: one reads, one computes maps, one decodes or writes.
    model : Model, optional
        An object to use instead of loading the one that the plan names; only without an executor.
    source : mapping, optional
        Identity of the input, by which an unfinished run over it is known again.
    overwrite : bool
        Replace a finished result once the new one is finished, and forget an unfinished one of other wishes.
    version : str, optional
        Of OME-Zarr.
    workers : int
        How many tasks the executor works on at once; about twice as many are handed out.
    check : bool
        Compute a crop once more in one piece and compare (`self_check`).
    unchanged : callable
        Asked before the result is called finished; raises if the input changed meanwhile, and the store stays unfinished.

    Yields
    ------
    Progress

    Returns
    -------
    Segmentation
        With labels on disk.
    """
    started = time.perf_counter()
    plan, source = replace(plan, chunk=chunk_of(plan)), dict(source or {})
    if workers < 1:
        raise OptionError(f"workers is {workers}", "a whole number from 1 on")
    store = store_of(plan, image, out, version or (label_store.version_of(out) if label_store.is_unfinished(out) else None))
    yield MEASURING
    with locked(out, store.version, plan, source, overwrite=overwrite) as (begun, mine), _hands(executor, workers) as hands:
        work, plan, far = yield from _begun(begun, plan, image, spec, out, source, hands, here=executor is None)
        job = Job(plan, far, spec, work, store_of(plan, image, out, store.version), model)
        steps = _done(job, image, Pool(hands, 2 * workers), check, 1 if executor is None else 2 * workers)
        job, tally, checked = yield from watched(steps, mine)
        unchanged()
        _close(job, tally, started, {**({INPUT: source} if source else {}), **checked}, resumed=begun is not None)
    return read_segmentation(out)


def _close(job: Job, tally: Tally, started: float, more: Mapping[str, Any], *, resumed: bool) -> None:
    """Call the store a result, with what is to be known of how it was made, and delete what only the run needed."""
    if resumed:
        label_store.sweep(job.store)
    told = tally.segmentation(np.zeros((), np.uint8), time.perf_counter() - started)
    job.store.finish(replace(told, provenance={**told.provenance, **more}))
    finish(job.store.path)


def _done(job: Job, image: Image, pool: Pool, check: bool, decoding: int) -> Generator[Progress, None, tuple[Job, Tally, dict[str, Any]]]:
    """All steps but the last; no task is left that writes, however they end."""
    try:
        yield from _label(job, pool, decoding)
        tally, job = yield from _link(job, image, pool.executor)
        yield from _write(job, pool)
        checking = Progress(999, 1000, "checking a crop")
        return job, tally, (yield from waited(pool.executor.submit(_checked, job), checking)) if check else {}
    finally:
        # After a Ctrl-C nothing is waited for: what is on its way may be killed, since records are whole or not there.
        pool.stop(0 if isinstance(sys.exception(), KeyboardInterrupt) else 60)


def store_of(plan: Plan, image: Image, out: Path, version: str | None) -> LabelStore:
    """How the result of a plan will be stored."""
    keep = [i for i, a in enumerate(image.axes) if a != "c"]
    axes = "".join(image.axes[i] for i in keep)
    chunk = dict(zip(plan.axes, plan.chunk, strict=True))
    return label_store.plan_store(out, axes, [image.shape[i] for i in keep], [chunk.get(a, 1) for a in axes], version=version)


@contextmanager
def _hands(executor: cf.Executor | None, workers: int) -> Iterator[cf.Executor]:
    """The executor, which is not ended at the end; or threads of our own, which are, but not waited for after a Ctrl-C."""
    if executor is not None:
        yield executor
        return
    threads = cf.ThreadPoolExecutor(workers)
    try:
        yield threads
    finally:
        threads.shutdown(wait=not isinstance(sys.exception(), KeyboardInterrupt), cancel_futures=True)


def _begun(
    begun: Begun | None, plan: Plan, image: Image, spec: ModelSpec, out: Path, source: Mapping[str, Any], hands: cf.Executor, *, here: bool
) -> Generator[Progress, None, tuple[Work, Plan, Image]]:
    """Go on with what is there, or write down what will be done."""
    pixels = Work(out, "pixels")
    pixels.make()
    far = image if here else scratch.portable(image, pixels.folder)
    if begun is not None:
        work = Work(out, begun.token)
        work.make()
        # The chunks are those that the run began with: what is done is cut that way, and the result does not depend on it.
        return work, replace(plan, limits=begun.plan.limits, chunk=begun.plan.chunk), far
    plan = yield from waited(hands.submit(_measured, plan, far, spec), MEASURING)
    return begin_job(out, plan, source), plan, far


def _measured(plan: Plan, image: Image, spec: ModelSpec) -> Plan:
    from napari_segsuite.engine import measure

    return measure.measured(plan, image, spec)


def _checked(job: Job) -> dict[str, Any]:
    from napari_segsuite.engine.self_check import self_check

    labels = label_store.finest(job.store)
    return {"self_check": self_check(job.plan, job.image, job.spec, labels, job.model)}


def _label(job: Job, pool: Pool, decoding: int) -> Generator[Progress, None, None]:
    """Compute all chunks that are not there yet."""
    layout = Layout(job.plan, job.spec)
    done = job.work.numbers("chunks")
    order = Labelling(layout, done, job.work.numbers("tiles"), job.plan.batch)
    total, had = layout.chunks, len(done)
    computed = 0
    while not order.finished:
        while pool.room and (task := _following(job, order, pool, decoding)):
            pool.hand_out(task)
        if pool.idle:  # too much has failed
            break
        for task in pool.wait():
            if task.kind == "predict":
                order.predicted(task.number)
                computed += len(task.number)
            else:
                for tile in order.decoded(task.number[0]):
                    job.work.records("tiles").drop(name_of(tile))
        new = order.count - had
        share = had + (new + min(computed * total / layout.tiles, total - had)) / 2
        yield _progress("label", share / total, f"segmenting: {order.count} of {total} chunks")
    _check(pool, "chunk", job.work.store)


def _following(job: Job, order: Labelling, pool: Pool, decoding: int) -> Task | None:
    """The next task: a chunk as soon as it can be decoded, since that frees its tiles."""
    while True:
        if pool.count("decode") < decoding and (chunk := order.next_chunk()) is not None:
            return Task("decode", (chunk,), tasks.decode, (job, chunk))
        if order.queued:
            numbers = order.next_tiles()
            return Task("predict", tuple(numbers), tasks.predict, (job, numbers))
        if not order.look_further():
            return None


def _link(job: Job, image: Image, hands: cf.Executor) -> Generator[Progress, None, tuple[Tally, Job]]:
    """Number the segments of all frames, and decide the type of their ids."""
    layout, tally = Layout(job.plan, job.spec), Tally(job.plan, image, job.spec)
    for told in job.work.notes():
        tally.note(int(told.get("filled", 0)), str(told.get("device", "")), told.get("notices", ()), told.get("where"))
    frames, largest = list(np.ndindex(*layout.frames)), 0
    for k, at in enumerate(frames):
        found = yield from waited(hands.submit(tasks.joined, job, k), _progress("link", k / len(frames), "joining the chunks"))
        final = tally.number(at, found)
        largest = max(largest, int(final.max(initial=0)))
        tasks.keep_numbers(job, k, np.asarray(found.starts, np.int64), final)
    store = label_store.of_type(job.store, "uint64" if largest > np.iinfo(np.uint32).max else "uint32")
    store.create()
    return tally, replace(job, store=store)


def _write(job: Job, pool: Pool) -> Generator[Progress, None, None]:
    """Write the result: the finest level with the next, then each level from the one above."""
    done, levels = job.work.records("blocks").names(), job.store.levels
    first = min(1, len(levels) - 1)
    total = sum(int(np.prod(grid.counts)) * (8 if k == first else 1) for k, grid in enumerate(levels) if k >= first)
    written = 0
    for level in range(first, len(levels)):
        todo = _blocks(job, level, first, done)
        weight = 8 if level == first else 1
        written += weight * sum(block_name(level, at) in done for at in product(*map(range, levels[level].counts)))
        for _ in _all(pool, todo):
            written += weight
            yield _progress("write", min(written / total, 1.0), "writing the labels")
        _check(pool, "block", job.work.store)


def _blocks(job: Job, level: int, first: int, done: set[str]) -> Iterator[Task]:
    for at in product(*map(range, job.store.levels[level].counts)):
        if block_name(level, at) not in done:
            call: tuple[Callable[..., Any], tuple[Any, ...]] = (tasks.relabel, (job, at)) if level == first else (tasks.shrink, (job, level, at))
            yield Task("block", (level, *at), *call)


def _all(pool: Pool, todo: Iterator[Task]) -> Iterator[Task]:
    """Do independent tasks; gives each when it is done."""
    while True:
        while pool.room and (task := next(todo, None)):
            pool.hand_out(task)
        if pool.idle:
            return
        yield from pool.wait()


def _check(pool: Pool, what: str, out: Path) -> None:
    """Complain about tasks that failed.

    Raises
    ------
    SegsuiteError
        The first reason; what is finished stays, and starting again goes on.
    """
    if not pool.failed:
        return
    task, error = pool.failed[0]
    kept = f" The earlier result is kept as {before(out)} until the new one is finished." if before(out).exists() else ""
    if isinstance(error, OSError):
        error = faults.told(error, out)
    if isinstance(error, SegsuiteError):
        raise type(error)(error.found, error.needed, f"{error.do}{kept}") from error
    where = ", ".join(map(str, task.number))
    found = f"{what} {where} failed: {type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
    raise SegsuiteError(found, do=f"What is finished is kept; start the same run again to go on.{kept}") from error


def _progress(stage: str, share: float, message: str) -> Progress:
    earlier = {"label": 0.0, "link": SHARE["label"], "write": SHARE["label"] + SHARE["link"]}[stage]
    return Progress(round(1000 * (earlier + SHARE[stage] * share)), 1000, message)
