"""The labels of a run while it is on its way: what its finished chunks hold, as a pyramid that a viewer can look at.

Objects are not linked yet, so a voxel shows a number made of what its object is called everywhere (`colour_numbers`): it has one colour
in all chunks that see it. Records never change once they are there, so nothing is read twice that is still remembered.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.codecs import runs
from napari_segsuite.engine.layout import Layout
from napari_segsuite.engine.plan import Plan
from napari_segsuite.engine.tiles import Box
from napari_segsuite.engine.work import Work
from napari_segsuite.errors import InputError
from napari_segsuite.io.label_store import LabelStore
from napari_segsuite.types import ModelSpec

MOST_BYTES = 2**28
"""What is remembered of the chunks that were looked at."""
LOOK_S = 0.3
"""After this long, `Growing.look` leaves the rest of what is new for the next time."""
MOST_LOWEST = 2**26
"""A lowest level with more voxels than this, of an image that has no pyramid, is not kept in memory."""
NUMBERS = 2**31 - 1


class Window:
    """A part of an array that is read when its values are asked for, not when it is cut.

    napari cuts a stack to what is in view before it takes a slice of it; of an array that reads when it is cut, it would read all slices.

    Parameters
    ----------
    read : callable
        Gives the values of a box of the whole array.
    dtype : dtype
    box : sequence of (int, int)
        The part, along every axis of the whole array.
    axes : sequence of int, optional
        Those that it still has, in its own order; along the others it is one voxel long.
    """

    def __init__(self, read: Callable[[Box], NDArray[Any]], dtype: Any, box: Sequence[tuple[int, int]], axes: Sequence[int] | None = None) -> None:
        self._read, self._box = read, tuple(box)
        self._axes = tuple(range(len(self._box)) if axes is None else axes)
        self.dtype = np.dtype(dtype)
        self.shape: tuple[int, ...] = tuple(self._box[a][1] - self._box[a][0] for a in self._axes)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in memory if all of it were read."""
        return int(self.size * self.dtype.itemsize)

    def transpose(self, order: Sequence[int]) -> Window:
        """The same with its axes in another order."""
        return Window(self._read, self.dtype, self._box, [self._axes[k] for k in order])

    def __getitem__(self, key: Any, /) -> Any:
        """Cut by integers, slices and an ellipsis; a slice with steps is read at once."""
        keys, box, axes = _whole_key(key, self.ndim), list(self._box), []
        for axis, one, n in zip(self._axes, keys, self.shape, strict=True):
            start = self._box[axis][0]
            if isinstance(one, slice):
                low, high, step = one.indices(n)
                if step != 1:
                    return np.asarray(self)[key]
                box[axis] = (start + low, start + max(low, high))
                axes.append(axis)
            elif not -n <= one < n:
                raise IndexError(f"index {one} is out of bounds for an axis of length {n}")
            else:
                box[axis] = (start + one % n, start + one % n + 1)
        return Window(self._read, self.dtype, box, axes)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read it."""
        found = self._read(self._box)
        gone = tuple(a for a in range(len(self._box)) if a not in self._axes)
        kept = [a for a in range(len(self._box)) if a in self._axes]
        picked = found.squeeze(gone).transpose([kept.index(a) for a in self._axes])
        return picked if dtype is None else picked.astype(dtype, copy=False)

    def __len__(self) -> int:
        return self.shape[0]


def on_disk(array: Any) -> Window:
    """A zarr array as a `Window`."""
    return Window(lambda box: np.asarray(array[tuple(slice(a, b) for a, b in box)]), array.dtype, [(0, n) for n in array.shape])


class Growing:
    """The labels of a run that is on its way.

    Parameters
    ----------
    work : Work
        Its records.
    plan : Plan
        That it was begun with.
    spec : ModelSpec
    store : LabelStore
        What it writes.

    Attributes
    ----------
    levels : tuple of arrays
        uint32, finest first. The last is a plain array that `look` fills, since napari reads all of it again and again; the others are read
        from the records when they are looked at. What is not computed yet is 0.
    done : set of int
        Chunks that are in them.
    total : int
        Chunks that there will be.
    """

    def __init__(self, work: Work, plan: Plan, spec: ModelSpec, store: LabelStore) -> None:
        self._records, self._layout, self._store = {k: work.records(k) for k in ("chunks", "labels")}, Layout(plan, spec), store
        self._stuff = max((c.id for c in spec.classes), default=0)
        self._steps = steps(store)
        self._seen: OrderedDict[tuple[int, int], NDArray[np.uint32]] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()
        self.total, self.done = self._layout.chunks, set[int]()
        lowest = store.levels[-1].shape
        self._lowest: NDArray[np.uint32] | None = np.zeros(lowest, np.uint32) if prod(lowest) <= MOST_LOWEST else None
        windows = [self._window(level) for level in range(len(store.levels))]
        self.levels: tuple[Any, ...] = (*windows[:-1], windows[-1] if self._lowest is None else self._lowest)

    @property
    def finished(self) -> int:
        """How many chunks are there, also of those that were not looked at yet."""
        return len(self._records["chunks"].names()) or len(self.done)

    def look(self) -> bool:
        """Take in chunks that were finished meanwhile; whether there were any."""
        if len(self.done) == self.total:
            return False
        until, last = time.monotonic() + LOOK_S, len(self._store.levels) - 1
        new = sorted({int(name) for name in self._records["chunks"].names()} - self.done)
        for number in new:
            if self._lowest is not None:
                corner, part = self._corner(last, number), self._part(last, number, remember=False)
                self._lowest[tuple(slice(a, a + n) for a, n in zip(corner, part.shape, strict=True))] = part
            self.done.add(number)
            if time.monotonic() > until:
                break
        return bool(new)

    def _window(self, level: int) -> Window:
        return Window(lambda box: self._read(level, box), np.uint32, [(0, n) for n in self._store.levels[level].shape])

    def _read(self, level: int, box: Box) -> NDArray[np.uint32]:
        """Put a box of a level together from the chunks that are done."""
        out = np.zeros([b - a for a, b in box], np.uint32)
        blocks, step = self._store.levels[0].block, self._steps[level]
        touched = [range(a * f // c, ((b - 1) * f) // c + 1) for (a, b), f, c in zip(box, step, blocks, strict=True)]
        for at in product(*touched) if out.size else ():
            number = int(np.ravel_multi_index(at, self._layout.chunk_shape))
            if number in self.done:
                corner, part = self._corner(level, number), self._part(level, number)
                low = [max(a, c) for (a, _), c in zip(box, corner, strict=True)]
                high = [min(b, c + n) for (_, b), c, n in zip(box, corner, part.shape, strict=True)]
                if all(a < b for a, b in zip(low, high, strict=True)):
                    to = tuple(slice(a - o, b - o) for a, b, (o, _) in zip(low, high, box, strict=True))
                    out[to] = part[tuple(slice(a - c, b - c) for a, b, c in zip(low, high, corner, strict=True))]
        return out

    def _corner(self, level: int, number: int) -> list[int]:
        """The first voxel of a level that lies in a chunk."""
        box = self._store.levels[0].box(np.unravel_index(number, self._layout.chunk_shape))  # type: ignore[arg-type]
        return [-(-s.start // f) for s, f in zip(box, self._steps[level], strict=True)]

    def _part(self, level: int, number: int, *, remember: bool = True) -> NDArray[np.uint32]:
        """A chunk at a level; nothing where its record is gone, because the run has finished meanwhile."""
        with self._lock:
            if (level, number) in self._seen:
                self._seen.move_to_end((level, number))
                return self._seen[level, number]
        try:
            part = self._made(level, number)
        except InputError:
            return np.zeros((0,) * len(self._steps[level]), np.uint32)
        if remember:
            self._remember((level, number), part)
        return part

    def _remember(self, which: tuple[int, int], part: NDArray[np.uint32]) -> None:
        with self._lock:
            if which not in self._seen:
                self._seen[which] = part
                self._bytes += part.nbytes
            while self._bytes > MOST_BYTES and len(self._seen) > 1:
                self._bytes -= self._seen.popitem(last=False)[1].nbytes

    def _made(self, level: int, number: int) -> NDArray[np.uint32]:
        name, at = f"{number:09d}", np.unravel_index(number, self._layout.chunk_shape)
        found = self._records["labels"].get(name, ("lengths", "piece") if level == 0 else (f"level{level}",))
        rows = self._records["chunks"].get(name, ("row_key", "row_first"))
        numbers = colour_numbers({"key": rows["row_key"], "first": rows["row_first"]}, number // self._layout.chunks_per_frame, self._stuff)
        if level == 0:
            block = self._store.levels[0].box(at)  # type: ignore[arg-type]
            return runs.painted(numbers.take(found["piece"], mode="clip"), found["lengths"], [s.stop - s.start for s in block])
        return numbers.take(found[f"level{level}"], mode="clip")


def steps(store: LabelStore) -> list[tuple[int, ...]]:
    """By how much each level of a store is coarser than the finest."""
    whole = [(1,) * len(store.axes)]
    for factors in store.factors:
        whole.append(tuple(a * b for a, b in zip(whole[-1], factors, strict=True)))
    return whole


def coarse(store: LabelStore, at: Sequence[int], pieces: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What the lower levels will show of a chunk (`LabelStore.thinned`), as ``level1``, ``level2``, ...

    Parameters
    ----------
    store : LabelStore
    at : sequence of int
        Place of the chunk among the blocks of the finest level.
    pieces : array
        Its voxels, without the axes that are worked through one by one.
    """
    block = pieces.reshape((1,) * (len(at) - pieces.ndim) + pieces.shape)
    corner = [s.start for s in store.levels[0].box(at)]
    picked = [block[tuple(slice(-a % f, None, f) for a, f in zip(corner, step, strict=True))] for step in steps(store)[1:]]
    return {f"level{k}": part for k, part in enumerate(picked, 1)}


def colour_numbers(rows: Mapping[str, NDArray[Any]], frame: int, stuff: int) -> NDArray[np.uint32]:
    """What to show for the pieces of a chunk; entry 0 is background.

    Parameters
    ----------
    rows : mapping
        ``key`` and ``first`` of `codecs.pieces.collect`.
    frame : int
        Its number: the same key in another frame is another object.
    stuff : int
        Largest class id.

    Returns
    -------
    array
        The class id of stuff; of an object 31 bits that follow from its key, or, where it has none, of a piece from its first voxel.
    """
    key, first = (rows[name].astype(np.int64) for name in ("key", "first"))
    seed = np.where(key > 0, key, ~first).astype(np.uint64) + np.uint64(frame * 0x9E3779B97F4A7C15 % 2**64)
    numbers = stuff + 1 + (_mixed(seed) % np.uint64(NUMBERS - stuff - 1)).astype(np.int64)
    return np.concatenate([[0], np.where(key < 0, -key, numbers)]).astype(np.uint32)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers that differ in all bits where the given ones differ in one (the finish of MurmurHash3)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        x = (x ^ (x >> np.uint64(33))) * np.uint64(factor)
    return x ^ (x >> np.uint64(33))


def _whole_key(key: Any, ndim: int) -> list[int | slice]:
    given = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in given:
        at = given.index(Ellipsis)
        given[at : at + 1] = [slice(None)] * (ndim - len(given) + 1)
    given += [slice(None)] * (ndim - len(given))
    return [one if isinstance(one, slice) else int(one) for one in given]
