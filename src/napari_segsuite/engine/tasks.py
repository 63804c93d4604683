"""What workers do for a run over a large volume: pure functions of the job and a number, whose results are records on disk.

1. `predict`   tiles -> integer maps
2. `decode`    maps around a chunk -> its pieces, their rows, its faces
3. `relabel`   pieces and final numbers -> blocks of the result and of the first level below it
4. `shrink`    blocks of one level -> blocks of the next

Doing one again writes the same bytes again.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.codecs import pieces
from napari_segsuite.engine import growing, join, tiles
from napari_segsuite.engine.layout import Layout
from napari_segsuite.engine.plan import Plan
from napari_segsuite.engine.work import Work
from napari_segsuite.io.label_store import LabelStore
from napari_segsuite.io.packed import pack
from napari_segsuite.types import Image, Model, ModelSpec

_PREDICTING = threading.Lock()
"""One network at a time in a process: others read, decode and write meanwhile."""


@dataclass(frozen=True)
class Job:
    """All that a worker must know.

    Attributes
    ----------
    plan : Plan
        With its limits measured.
    image : Image
        Cheap to send: pixels by path.
    spec : ModelSpec
    work : Work
    store : LabelStore
    model : Model, optional
        Instead of the one that the plan names; not for other processes.
    """

    plan: Plan
    image: Image
    spec: ModelSpec
    work: Work
    store: LabelStore
    model: Model | None = None


def predict(job: Job, numbers: Sequence[int]) -> None:
    """Compute the maps of tiles of one shape."""
    from napari_segsuite.engine import chunk
    from napari_segsuite.engine.reader import Reader

    layout, own = _layout(job), chunk.model_of(job.plan, job.model)
    places = [layout.tile(number) for number in numbers]
    boxes = [layout.grids.own(tile.core) for _, tile in places]
    readers = [Reader(job.plan, job.image, frame, box, layout.grids, len(job.spec.channels)) for (frame, _), box in zip(places, boxes, strict=True)]
    multiple = job.spec.multiple[-len(job.plan.axes) :]
    pixels = np.stack([tiles.padded(r.read(tile.seen), multiple) for r, (_, tile) in zip(readers, places, strict=True)])
    with _PREDICTING:
        answer = own.predict(pixels).maps
        maps = {head.name: tiles.quantize(head, answer[head.name]) for head in job.spec.heads}
    # What there is to say comes before the tiles: whoever finds those does not compute them again, and would never hear of it.
    device, notices = chunk.told(own)
    told = {"device": device, "notices": list(notices)}
    job.work.note(hashlib.sha256(repr(told).encode()).hexdigest()[:16], told)
    for k, (number, (_, tile), reader) in enumerate(zip(numbers, places, readers, strict=True)):
        if reader.filled:
            job.work.note(f"filled-{number}", {"filled": reader.filled})
        inner = tuple(slice(a - s, b - s) for (a, b), (s, _) in zip(tile.core, tile.seen, strict=True))
        job.work.records("tiles").put(name_of(number), pack({name: values[k][(slice(None), *inner)] for name, values in maps.items()}), firm=False)


def decode(job: Job, number: int) -> None:
    """Make the pieces of a chunk; its record in ``chunks`` comes last and stands for all of it."""
    from napari_segsuite.engine import chunk

    layout = _layout(job)
    at, cells = layout.chunk(number), layout.grids
    around = cells.around(at.box, layout.reach)
    maps = _maps(job, layout, at.frame, cells.on_model(around))
    # One voxel more at the far sides, so that linking can see whether the neighbour there answers the same.
    wider = tuple((a, min(b + 1, n)) for (a, b), n in zip(at.box, cells.image, strict=True))
    assigned = chunk.assign(job.plan, job.spec, wider, around, maps)
    del maps
    size = [b - a for a, b in at.box]
    behind = {f"beyond{axis}": plane for axis, plane in pieces.planes_behind(assigned, size).items()}
    found = pieces.collect(pieces.cropped(assigned, size), job.spec.classes, [a for a, _ in at.box], cells.image)
    faces: dict[str, NDArray[Any]] = {f"face{axis}{side}": np.take(found.labels, -side, axis) for axis in range(len(size)) for side in (0, 1)}
    # Small copies for who looks at the whole while it grows: it need not unpack all of this for them.
    views = growing.coarse(job.store, np.unravel_index(number, layout.chunk_shape), found.labels)  # type: ignore[arg-type]
    small = found.labels.astype(np.min_scalar_type(len(found.rows["key"])))  # half of the bytes to compress, or a quarter
    job.work.records("labels").put(name_of(number), pack({"labels": small, **views}))
    rows = {f"row_{name}": column for name, column in found.rows.items()}
    job.work.records("chunks").put(name_of(number), pack({**rows, **faces, **behind}))


def relabel(job: Job, at: tuple[int, ...]) -> None:
    """Write the blocks under one block of the first lower level, and that block."""
    store, layout = job.store, _layout(job)
    if len(store.levels) == 1:
        store.levels[0].write(at, _final(job, layout, at))
    else:
        lower = _empty(store, 1, at)
        for place in store.above(1, at):
            block = _final(job, layout, place)
            store.levels[0].write(place, block)
            store.shrink_into(1, at, [(place, block)], lower)
        store.levels[1].write(at, lower)
    job.work.records("blocks").put(block_name(min(1, len(store.levels) - 1), at), b"")


def shrink(job: Job, level: int, at: tuple[int, ...]) -> None:
    """Write one block of a lower level from those of the level above it."""
    store = job.store
    lower = _empty(store, level, at)
    for place in store.above(level, at):
        store.shrink_into(level, at, [(place, store.read(level - 1, place))], lower)
    store.levels[level].write(at, lower)
    job.work.records("blocks").put(block_name(level, at), b"")


class StoredPart:
    """A chunk on disk, as `join.join` wants it."""

    def __init__(self, job: Job, layout: Layout, number: int) -> None:
        self._records, self._name = job.work.records("chunks"), name_of(number)
        self.box = layout.chunk(number).box

    @property
    def rows(self) -> Mapping[str, NDArray[Any]]:
        """Rows of its pieces."""
        found = self._records.get(self._name)
        return {name.removeprefix("row_"): column for name, column in found.items() if name.startswith("row_")}

    def first(self, axis: int) -> NDArray[np.int32]:
        """Its first plane."""
        return self._records.get(self._name, (f"face{axis}0",))[f"face{axis}0"]

    def last(self) -> list[tuple[NDArray[np.int32], NDArray[np.int64] | None]]:
        """Its last planes, and what it answers for the planes behind them; read in one go."""
        axes = range(len(self.box))
        found = self._records.get(self._name, [f"{kind}{axis}{end}" for axis in axes for kind, end in (("face", "1"), ("beyond", ""))])
        return [(found[f"face{axis}1"], found.get(f"beyond{axis}")) for axis in axes]


def joined(job: Job, frame: int) -> join.Joined:
    """Link the chunks of a frame (by its number)."""
    layout = _layout(job)
    first = frame * layout.chunks_per_frame
    parts = [StoredPart(job, layout, first + k) for k in range(layout.chunks_per_frame)]
    return join.join(parts, job.plan, job.spec.classes)


def name_of(number: int) -> str:
    """Name of a record."""
    return f"{number:09d}"


def block_name(level: int, at: Sequence[int]) -> str:
    """Name of the record of a finished block."""
    return "-".join(map(str, (level, *at)))


def _final(job: Job, layout: Layout, place: tuple[int, ...]) -> NDArray[Any]:
    """A block of the result: the pieces of a chunk with their final numbers, in the axes of the result."""
    number = int(np.ravel_multi_index(place, layout.chunk_shape))
    frame, k = divmod(number, layout.chunks_per_frame)
    folder = job.work.records("frames").folder
    starts = np.load(folder / f"{frame}.starts.npy", mmap_mode="r")
    numbers = np.load(folder / f"{frame}.npy", mmap_mode="r")[starts[k] : starts[k + 1]]
    lut = np.concatenate([[0], numbers]).astype(job.store.levels[0].dtype)
    labels = job.work.records("labels").get(name_of(number))["labels"]
    out = lut.take(labels, mode="clip")
    return out.reshape((1,) * (len(place) - out.ndim) + out.shape)


def _empty(store: LabelStore, level: int, at: Sequence[int]) -> NDArray[Any]:
    grid = store.levels[level]
    return np.zeros([s.stop - s.start for s in grid.box(at)], grid.dtype)


def _maps(job: Job, layout: Layout, frame: tuple[int, ...], region: tiles.Box) -> dict[str, NDArray[Any]]:
    """Put the maps of a region together from those of its tiles."""
    size = [b - a for a, b in region]
    heads = job.spec.heads
    maps = {h.name: np.empty((h.channels, *size), np.int16 if h.kind == "vector" else np.uint8) for h in heads}
    for number in layout.tiles_over(frame, region):
        _, tile = layout.tile(number)
        for name, values in job.work.records("tiles").get(name_of(number)).items():
            tiles.paste(maps[name], values, tile.core, tile.core, region)
    return maps


_LAYOUTS: dict[str, Layout] = {}


def _layout(job: Job) -> Layout:
    """The layout of a job, made once per process."""
    if job.work.token not in _LAYOUTS:
        _LAYOUTS.clear()
        _LAYOUTS[job.work.token] = Layout(job.plan, job.spec)
    return _LAYOUTS[job.work.token]
