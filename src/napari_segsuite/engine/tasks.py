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

from napari_segsuite.codecs import instances, pieces, runs
from napari_segsuite.engine import growing, join, tiles
from napari_segsuite.engine.layout import At, Layout
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
    """Compute the maps of tiles of one shape, as many at once as the model takes."""
    from napari_segsuite.engine import chunk

    own, start = chunk.model_of(job.plan, job.model), 0
    while start < len(numbers):
        together = numbers[start : start + tiles.at_once(own)]
        _predict(job, own, together)
        start += len(together)


def _predict(job: Job, own: Model, numbers: Sequence[int]) -> None:
    """Compute the maps of some tiles together."""
    from napari_segsuite.engine import chunk
    from napari_segsuite.engine.reader import Reader

    layout = _layout(job)
    places = [layout.tile(number) for number in numbers]
    boxes = [layout.grids.own(tile.core) for _, tile in places]
    readers = [Reader(job.plan, job.image, frame, box, layout.grids, len(job.spec.channels)) for (frame, _), box in zip(places, boxes, strict=True)]
    multiple = job.spec.multiple[-len(job.plan.axes) :]
    pixels = np.stack([tiles.padded(r.read(tile.seen), multiple) for r, (_, tile) in zip(readers, places, strict=True)])
    with _PREDICTING:
        answer = own.predict(pixels)
        maps = tiles.answered(job.spec, answer, pixels.shape)
    # What there is to say comes before the tiles: whoever finds those does not compute them again, and would never hear of it.
    device, notices = chunk.told(own)
    told = {"device": device, "notices": list(notices)}
    job.work.note(hashlib.sha256(repr(told).encode()).hexdigest()[:16], told)
    for k, (number, (_, tile), reader) in enumerate(zip(numbers, places, readers, strict=True)):
        if reader.filled:
            job.work.note(f"filled-{number}", {"filled": reader.filled, "where": reader.where})
        inner = tuple(slice(a - s, b - s) for (a, b), (s, _) in zip(tile.core, tile.seen, strict=True))
        record = {name: values[k][(slice(None), *inner)] for name, values in maps.items()}
        if answer.objects:
            record |= instances.packed(instances.answered(answer.objects[k], tile.core, tile.seen, layout.grids.model))
        job.work.records("tiles").put(name_of(number), pack(record), firm=False)


def decode(job: Job, number: int) -> None:
    """Make the pieces of a chunk; its record in ``chunks`` comes last and stands for all of it."""
    layout = _layout(job)
    at = layout.chunk(number)
    assigned, beyond = _decided(job, layout, at)
    found = pieces.outline(assigned, job.spec.classes, [a for a, _ in at.box], layout.grids.image)
    piece = found.piece.astype(np.min_scalar_type(len(found.rows["key"])))  # a half of the bytes to write, or a quarter
    labels = runs.painted(piece, found.lengths, found.shape)
    faces = {f"face{axis}{side}": np.take(labels, -side, axis).astype(np.int32) for axis in range(labels.ndim) for side in (0, 1)}
    # Small copies for who looks at the whole while it grows: it need not unpack all of this for them.
    views = growing.coarse(job.store, np.unravel_index(number, layout.chunk_shape), labels)  # type: ignore[arg-type]
    lengths = found.lengths.astype(np.min_scalar_type(found.lengths.max()))
    job.work.records("labels").put(name_of(number), pack({"lengths": lengths, "piece": piece, **views}))
    rows = {f"row_{name}": column for name, column in found.rows.items()}
    behind = {f"beyond{axis}": plane for axis, plane in beyond.items()}
    job.work.records("chunks").put(name_of(number), pack({**rows, **faces, **behind}, quick=True))


def _decided(job: Job, layout: Layout, at: At) -> tuple[pieces.Assigned, dict[int, NDArray[np.int64]]]:
    """What the codec decides for the voxels of a chunk and, per axis, for the plane right behind it."""
    size = [b - a for a, b in at.box]
    wider = layout.wider(at.box)
    if any(layout.reach):  # the planes need nearly all that the chunk needs
        assigned = _assign(job, layout, at.frame, wider)
        return pieces.cropped(assigned, size), pieces.planes_behind(assigned, size)
    # Each by itself, so that nothing need be read of the chunks at the edges and corners.
    beyond: dict[int, NDArray[np.int64]] = {}
    for axis, ((_, stop), (_, end)) in enumerate(zip(at.box, wider, strict=True)):
        if end > stop:
            plane = _assign(job, layout, at.frame, tuple((stop, end) if a == axis else side for a, side in enumerate(at.box)))
            beyond |= pieces.planes_behind(plane, [0 if a == axis else n for a, n in enumerate(size)])
    return _assign(job, layout, at.frame, at.box), beyond


def _assign(job: Job, layout: Layout, frame: tuple[int, ...], box: tiles.Box) -> pieces.Assigned:
    """Decide for the image voxels of a box, from the maps on disk."""
    from napari_segsuite.engine import chunk

    around = layout.grids.around(box, layout.reach)
    return chunk.assign(job.plan, job.spec, box, around, _maps(job, layout, frame, layout.grids.on_model(around)))


def relabel(job: Job, at: tuple[int, ...]) -> None:
    """Write the blocks under one block of the first lower level, and that block."""
    store, layout = job.store, _layout(job)
    if len(store.levels) == 1:
        store.levels[0].write(at, _final(job, layout, at))
        job.work.records("blocks").put(block_name(0, at), b"")
        return
    lower = _empty(store, 1, at)
    first = [s.start for s in store.levels[1].box(at)]
    for place in store.above(1, at):
        store.write(0, place, _final(job, layout, place), lower, first)
    _finish(job, 1, at, lower)


def shrink(job: Job, level: int, at: tuple[int, ...]) -> None:
    """Write one block of a lower level from what those of the level above it left for it."""
    lower = _empty(job.store, level, at)
    for place in job.store.above(level, at):
        job.store.put_into(level, at, place, job.work.records("blocks").get(block_name(level - 1, place))["thin"], lower)
    _finish(job, level, at, lower)


def _finish(job: Job, level: int, at: tuple[int, ...], block: NDArray[Any]) -> None:
    """Write a block; its record holds what the next level has of it, so that no block is read again."""
    store, record = job.store, b""
    if level + 1 < len(store.levels):
        thin, first = store.thinned(level + 1, at)
        store.write(level, at, block, thin, first)
        record = pack({"thin": thin}, quick=True)
    else:
        store.write(level, at, block, None)
    job.work.records("blocks").put(block_name(level, at), record)


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


def keep_numbers(job: Job, frame: int, starts: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
    """Write the final numbers of a frame's pieces, and where those of each chunk begin."""
    records = job.work.records("frames")
    records.put_numbers(f"{frame}-starts", starts)
    records.put_numbers(f"{frame}-numbers", numbers)


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
    frames = job.work.records("frames")
    first, last = frames.get_numbers(f"{frame}-starts", k, k + 2).tolist()
    numbers = frames.get_numbers(f"{frame}-numbers", first, last)
    lut = np.concatenate([[0], numbers]).astype(job.store.levels[0].dtype)
    found = job.work.records("labels").get(name_of(number), ("lengths", "piece"))
    return runs.painted(lut.take(found["piece"], mode="clip"), found["lengths"], [s.stop - s.start for s in job.store.levels[0].box(place)])


def _empty(store: LabelStore, level: int, at: Sequence[int]) -> NDArray[Any]:
    """A block to be filled: every one of its voxels is one of a block above it."""
    grid = store.levels[level]
    return np.empty([s.stop - s.start for s in grid.box(at)], grid.dtype)


def _maps(job: Job, layout: Layout, frame: tuple[int, ...], region: tiles.Box) -> dict[str, Any]:
    """Put the maps of a region together from those of its tiles."""
    size = [b - a for a, b in region]
    heads = job.spec.heads
    numbers = layout.tiles_over(frame, region)
    whole = job.spec.codec == "objects"
    if len(numbers) == 1 and layout.tile(numbers[0])[1].core == region and not whole:
        return job.work.records("tiles").get(name_of(numbers[0]))
    found: list[instances.Objects] = []
    maps: dict[str, Any] = {h.name: np.empty((h.channels, *size), np.int16 if h.kind == "vector" else np.uint8) for h in heads}
    for number in numbers:
        _, tile = layout.tile(number)
        record = job.work.records("tiles").get(name_of(number))
        for name in maps:
            tiles.paste(maps[name], record[name], tile.core, tile.core, region)
        if whole:
            found.append(instances.unpacked(record, layout.grids.model))
    return maps | tiles.of_region(found, region) if whole else maps


_LAYOUTS: dict[str, Layout] = {}


def _layout(job: Job) -> Layout:
    """The layout of a job, made once per process."""
    if job.work.token not in _LAYOUTS:
        _LAYOUTS.clear()
        _LAYOUTS[job.work.token] = Layout(job.plan, job.spec)
    return _LAYOUTS[job.work.token]
