"""The coordinator: a generator that hands chunks out, links what comes back and returns a `Segmentation`.

It imports no torch: with an executor of processes, all that is heavy happens there. Progress is ``yield``, the result is ``return``,
cancel is ``close()``.

1. `measure.limits`  contrast constants of the whole image, once
2. `chunk.label`     every chunk of every frame, in any order, here or in the executor
3. `link.link`       per frame: join pieces, number segments
4. `_Frame.relabel`  final labels, in place
"""

from __future__ import annotations

import concurrent.futures as cf
import importlib.metadata
import platform
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite._version import __version__
from napari_segsuite.engine import link, pixels, scratch
from napari_segsuite.engine.plan import Plan
from napari_segsuite.errors import SegsuiteError
from napari_segsuite.models import load_spec
from napari_segsuite.types import Class, Image, Model, ModelSpec, Segmentation

if TYPE_CHECKING:
    from napari_segsuite.engine.chunk import At, Labelled

IN_FLIGHT = 4
"""Chunks that are handed out and not yet back, at most."""
WAIT_S = 0.1


@dataclass(frozen=True)
class Progress:
    """How far a run is: `done` of `total` units of work, and what is being done in a few words."""

    done: int
    total: int
    message: str


Run = Generator[Progress, None, Segmentation]


def run(plan: Plan, image: Image, *, executor: cf.Executor | None = None, model: Model | None = None) -> Run:
    """Do what the plan says.

    Parameters
    ----------
    plan : Plan
        From `resolve`.
    image : Image
        The one that the plan was made for; never modified.
    executor : Executor, optional
        Where chunks are computed; by default here. Of processes, threads or a cluster (``dask.distributed.Client.get_executor()``).
    model : Model, optional
        An object to use instead of loading the one that the plan names; only without an executor.

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
    spec = model.spec if model is not None else load_spec(plan.options.model)
    yield Progress(0, 1, "measuring contrast")
    if executor is None:
        plan = _measured(plan, image, spec)
        frames = yield from _collect(plan, image, spec, _here(plan, image, model))
    else:
        with scratch.scratch() as folder:
            far = scratch.portable(image, folder)
            plan = yield from _waited(executor.submit(_measured, plan, far, spec))
            frames = yield from _collect(plan, image, spec, _there(plan, far, folder, executor))
    return _finish(plan, image, spec, frames, time.perf_counter() - started)


def places(plan: Plan) -> list[At]:
    """List the chunks of all frames, frame by frame."""
    from napari_segsuite.engine.chunk import At

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


def _waited(future: cf.Future[Plan]) -> Generator[Progress, None, Plan]:
    try:
        while not future.done():
            cf.wait([future], WAIT_S)
            yield Progress(0, 1, "measuring contrast")
        return future.result()
    finally:
        future.cancel()


def _measured(plan: Plan, image: Image, spec: ModelSpec) -> Plan:
    from napari_segsuite.engine import measure

    return replace(plan, limits=measure.limits(image, plan, spec))


@dataclass
class _Frames:
    """Labels and rows of a run as they come in."""

    labels: NDArray[np.integer]
    tables: list[dict[str, NDArray[Any]]]
    things: int = 0
    filled: int = 0
    device: str = ""
    notices: tuple[str, ...] = ()


class _Frame:
    """The chunks of one frame until all are there."""

    def __init__(self) -> None:
        self.parts: list[Labelled] = []

    def linked(self, plan: Plan, classes: Sequence[Class]) -> tuple[link.Linked, list[int]]:
        """Join the pieces of all chunks."""
        self.parts.sort(key=lambda p: p.at.box)
        starts = np.cumsum([0] + [len(p.pieces.rows["key"]) for p in self.parts]).tolist()
        rows = link.stack([p.pieces for p in self.parts])
        return link.link(rows, self._pairs(starts), classes, plan.axes, plan.min_size, plan.min_score), starts

    def _pairs(self, starts: Sequence[int]) -> NDArray[np.int64]:
        """Touching pieces over all faces between chunks."""
        by_corner = {tuple(a for a, _ in p.at.box): k for k, p in enumerate(self.parts)}
        found = [np.zeros((0, 2), np.int64)]
        for k, part in enumerate(self.parts):
            for axis, (_, stop) in enumerate(part.at.box):
                corner = tuple(stop if a == axis else low for a, (low, _) in enumerate(part.at.box))
                if corner in by_corner:
                    other = by_corner[corner]
                    near, far = self._face(k, axis, -1, starts), self._face(other, axis, 0, starts)
                    found.append(link.contacts(near, far))
        return np.concatenate(found)

    def _face(self, k: int, axis: int, at: int, starts: Sequence[int]) -> NDArray[np.int64]:
        face = self.parts[k].pieces.labels.take(at, axis=axis).astype(np.int64)
        return np.where(face > 0, face + starts[k], 0)


def _collect(plan: Plan, image: Image, spec: ModelSpec, chunks: Iterator[Told]) -> Generator[Progress, None, _Frames]:
    """Gather chunks; relabel a frame as soon as it is complete."""
    everything = places(plan)
    total = len(everything)
    per_frame = total // max(1, int(np.prod([image.size(a) for a in plan.frames])))
    shape = tuple(n for a, n in zip(image.axes, image.shape, strict=True) if a != "c")
    frames = _Frames(np.zeros(shape, np.uint32), [])
    open_frames: dict[tuple[int, ...], _Frame] = {}
    complete: dict[tuple[int, ...], tuple[_Frame, link.Linked, list[int]]] = {}
    units = 100 * total
    for done, labelled in chunks:
        if labelled is not None:
            frames.filled += labelled.filled
            frames.device = labelled.device
            frames.notices = tuple(dict.fromkeys((*frames.notices, *labelled.notices)))
            frame = open_frames.setdefault(labelled.at.frame, _Frame())
            frame.parts.append(labelled)
            if len(frame.parts) == per_frame:
                complete[labelled.at.frame] = (frame, *frame.linked(plan, spec.classes))
                del open_frames[labelled.at.frame]
        yield Progress(min(int(100 * done), units), units, f"segmenting on {frames.device}" if frames.device else "segmenting")
        _write_in_order(plan, image, spec, frames, complete)
    return frames


def _write_in_order(plan: Plan, image: Image, spec: ModelSpec, frames: _Frames, complete: dict[tuple[int, ...], Any]) -> None:
    """Number the things of a frame after those of the frames before it, whatever order they were computed in."""
    order = list(np.ndindex(*[image.size(a) for a in plan.frames]))
    stuff = sum(not c.countable for c in spec.classes)
    while len(frames.tables) < len(order) and order[len(frames.tables)] in complete:
        at = order[len(frames.tables)]
        frame, linked, starts = complete.pop(at)
        before = frames.things
        final = np.where(linked.final > stuff, linked.final + before, linked.final)
        if final.max(initial=0) > np.iinfo(frames.labels.dtype).max:
            frames.labels = frames.labels.astype(np.uint64)
        for part, start, stop in zip(frame.parts, starts, starts[1:], strict=False):
            lut = np.concatenate([[0], final[start:stop]]).astype(frames.labels.dtype)
            frames.labels[_index(plan, image, at, part.at.box)] = lut.take(part.pieces.labels, mode="clip")
        table = dict(linked.segments)
        table["id"] = np.where(table["id"] > stuff, table["id"] + before, table["id"])
        frames.things += int((table["id"] > stuff).sum())
        frames.tables.append({**table, **{f"frame_{a}": np.full(len(table["id"]), i, np.int64) for a, i in zip(plan.frames, at, strict=True)}})


def _index(plan: Plan, image: Image, at: tuple[int, ...], box: Sequence[tuple[int, int]]) -> tuple[int | slice, ...]:
    """Where a chunk lies in the labels, which have the image's axes without channels."""
    frame, spatial = dict(zip(plan.frames, at, strict=True)), dict(zip(plan.axes, box, strict=True))
    return tuple(frame[a] if a in frame else slice(*spatial[a]) if a in spatial else 0 for a in image.axes if a != "c")


def _finish(plan: Plan, image: Image, spec: ModelSpec, frames: _Frames, seconds: float) -> Segmentation:
    keep = [i for i, a in enumerate(image.axes) if a != "c"]
    axes = "".join(image.axes[i] for i in keep)
    return Segmentation(
        labels=frames.labels,
        segments=_join(plan, spec, frames.tables, axes),
        classes=spec.classes,
        axes=axes,
        scale=tuple(image.scale[i] for i in keep),
        units=tuple(image.units[i] for i in keep),
        translate=tuple(image.translate[i] for i in keep),
        affine=image.affine,
        name=f"{image.name} {spec.name}",
        provenance={
            "plan": plan.to_json(), "fingerprint": plan.fingerprint, "limits": [list(pair) for pair in plan.limits], "device": frames.device,
            "filled": frames.filled, "notices": [*plan.notices, *frames.notices, *_told(frames.filled), *pixels.missing(image)],
            "seconds": round(seconds, 3),
            "tile": {"size": list(spec.tile), "context": list(spec.context), "multiple": list(spec.multiple)}, "versions": _versions(),
        },
    )  # fmt: skip


def _told(filled: int) -> list[str]:
    were = "1 pixel was" if filled == 1 else f"{filled} pixels were"
    return [f"{were} not finite (NaN or infinite) and took the value of the nearest that is, or 0 where there is none"] if filled else []


def _join(plan: Plan, spec: ModelSpec, tables: Sequence[dict[str, NDArray[Any]]], axes: str) -> dict[str, NDArray[Any]]:
    """One table of all frames, columns in the documented order; a stuff class is one segment over all frames."""
    rows = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    for axis in plan.frames:
        at = rows.pop(f"frame_{axis}")
        rows |= {f"bbox_{axis}0": at, f"bbox_{axis}1": at + 1, f"centroid_{axis}": at.astype(float)}
    rows = _merge_stuff(rows, sum(not c.countable for c in spec.classes), axes)
    names = ["id", "class_id", "score", "size", *(f"bbox_{a}{i}" for a in axes for i in (0, 1)), *(f"centroid_{a}" for a in axes)]
    out: dict[str, NDArray[Any]] = {}
    for name in names:
        out[name] = rows[name] if name in rows else np.zeros(len(rows["id"]), np.int64) + (name[-1] == "1")
    out["status"] = np.full(len(out["id"]), "new")
    return out


def _merge_stuff(rows: dict[str, NDArray[Any]], stuff: int, axes: str) -> dict[str, NDArray[Any]]:
    """Add up the rows of a stuff class from all frames."""
    is_stuff = rows["id"] <= stuff
    if not is_stuff.any():
        return rows
    merged: list[dict[str, Any]] = []
    for i in np.unique(rows["id"][is_stuff]):
        mine = {name: column[rows["id"] == i] for name, column in rows.items()}
        weight = mine["size"] / mine["size"].sum()
        combine: dict[str, Callable[[NDArray[Any]], Any]] = {"size": np.sum, "id": np.min, "class_id": np.min}
        for name in rows:
            if name.startswith("bbox_"):
                combine[name] = np.min if name.endswith("0") else np.max
        merged.append({name: combine[name](v) if name in combine else float((v * weight).sum()) for name, v in mine.items()})
    return {name: np.concatenate([np.array([m[name] for m in merged], column.dtype), column[~is_stuff]]) for name, column in rows.items()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "napari-segsuite": __version__}
    for name in ("numpy", "torch", "scipy", "scikit-image"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def result(steps: Run, progress: Callable[[Progress], object] = lambda _: None) -> Segmentation:
    """Drain a run.

    Raises
    ------
    SegsuiteError
        What went wrong, in plain words.
    """
    while True:
        try:
            progress(next(steps))
        except StopIteration as stop:
            value: Segmentation = stop.value
            return value
        except _worker_died() as error:
            raise SegsuiteError(
                "the process that computed the segmentation ended unexpectedly", do="It may have run out of memory: choose a smaller batch or chunk."
            ) from error


def _worker_died() -> tuple[type[Exception], ...]:
    """What an executor raises when a worker is gone; dask's is known only where dask is in use."""
    scheduler = sys.modules.get("distributed.scheduler")
    return (cf.BrokenExecutor, scheduler.KilledWorker) if scheduler is not None else (cf.BrokenExecutor,)
