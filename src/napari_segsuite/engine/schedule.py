"""Which task comes next, how many are handed out at once, and what happens when one fails."""

from __future__ import annotations

import concurrent.futures as cf
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_segsuite.engine.layout import Layout
from napari_segsuite.errors import SegsuiteError

TRIES = 3
"""How often a task is handed out that fails for a reason that may pass."""
MOST_FAILURES = 3
"""After this many tasks have failed for good, no new one is begun."""
WAIT_S = 0.1


@dataclass(frozen=True)
class Task:
    """A call to be made by a worker.

    Attributes
    ----------
    kind : str
    number : tuple of int
        What it is about.
    function, arguments
        The call; both can be pickled.
    """

    kind: str
    number: tuple[int, ...]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass
class Pool:
    """Tasks that are handed out.

    Attributes
    ----------
    executor : Executor
    most : int
        At once.
    failed : list of (Task, exception)
        Given up.
    """

    executor: cf.Executor
    most: int
    failed: list[tuple[Task, BaseException]] = field(default_factory=list)
    _out: dict[cf.Future[Any], tuple[Task, int]] = field(default_factory=dict)

    @property
    def room(self) -> bool:
        """Whether another task may be handed out."""
        return len(self._out) < self.most and len(self.failed) < MOST_FAILURES

    @property
    def idle(self) -> bool:
        """Whether nothing is handed out."""
        return not self._out

    def count(self, kind: str) -> int:
        """Tasks of a kind that are handed out."""
        return sum(task.kind == kind for task, _ in self._out.values())

    def hand_out(self, task: Task, tries: int = 1) -> None:
        """Give a task to a worker."""
        self._out[self.executor.submit(task.function, *task.arguments)] = task, tries

    def wait(self) -> Iterator[Task]:
        """Wait a moment; give the tasks that are done by then.

        Raises
        ------
        BrokenExecutor
            The workers are gone.
        """
        done, _ = cf.wait(self._out, WAIT_S, cf.FIRST_COMPLETED)
        for future in done:
            task, tries = self._out.pop(future)
            error = future.exception()
            if error is None:
                yield task
            elif isinstance(error, cf.BrokenExecutor):
                raise error
            elif tries < TRIES and not isinstance(error, SegsuiteError):
                self.hand_out(task, tries + 1)
            else:
                self.failed.append((task, error))

    def stop(self, patience_s: float = 60) -> None:
        """Take back what no worker has begun, and wait for what one has, so that it does not write any more after this."""
        # Only for what has begun: a pool whose processes were killed never says of a cancelled future that it is over.
        cf.wait([future for future in self._out if not future.cancel()], patience_s)


class Labelling:
    """The order of tiles and chunks: a chunk when its tiles are there, and a tile's maps only as long as a chunk needs them.

    Parameters
    ----------
    layout : Layout
    done : set of int
        Chunks that are finished.
    have : set of int
        Tiles whose maps are there.
    batch : int
        Tiles that are computed together.
    """

    def __init__(self, layout: Layout, done: set[int], have: set[int], batch: int) -> None:
        self.layout, self.have, self.batch = layout, have, batch
        self.done = np.zeros(layout.chunk_shape, np.bool_)
        self.done.ravel()[sorted(done)] = True
        self._numbers = np.arange(layout.chunks).reshape(layout.chunk_shape)
        self._chunks = (k for k in range(layout.chunks) if k not in done)
        self._missing: dict[int, set[int]] = {}
        self._ready: deque[int] = deque()
        self._queue: deque[int] = deque()
        self._known: set[int] = set()

    @property
    def count(self) -> int:
        """Chunks that are done."""
        return int(self.done.sum())

    @property
    def finished(self) -> bool:
        """Whether all chunks are done."""
        return bool(self.done.all())

    def next_chunk(self) -> int | None:
        """A chunk that can be decoded now."""
        return self._ready.popleft() if self._ready else None

    @property
    def queued(self) -> bool:
        """Whether there are tiles to be handed out."""
        return bool(self._queue)

    def next_tiles(self) -> list[int]:
        """The next tiles of one shape, to be computed together."""
        group = [self._queue.popleft()]
        while self._queue and len(group) < self.batch and self._size(self._queue[0]) == self._size(group[0]):
            group.append(self._queue.popleft())
        return group

    def look_further(self) -> bool:
        """Take up another chunk, unless all are taken up or one waits to be decoded that nobody may decode just now."""
        chunk = None if self._ready else next(self._chunks, None)
        if chunk is None:
            return False
        missing = {tile for tile in self.layout.tiles_of(chunk) if tile not in self.have}
        self._queue.extend(sorted(missing - self._known))
        self._known |= missing
        self._missing[chunk] = missing
        self._if_ready(chunk)
        return True

    def predicted(self, tiles: Sequence[int]) -> None:
        """Note that tiles are there."""
        for tile in tiles:
            self.have.add(tile)
            self._known.discard(tile)
            for chunk in self._numbers[self.layout.chunks_with(tile)].ravel().tolist():
                if chunk in self._missing:
                    self._missing[chunk].discard(tile)
                    self._if_ready(chunk)

    def decoded(self, chunk: int) -> list[int]:
        """Note that a chunk is done; gives the tiles that no chunk needs any more."""
        self.done.ravel()[chunk] = True
        spent = [t for t in self.layout.tiles_of(chunk) if t in self.have and self.done[self.layout.chunks_with(t)].all()]
        self.have.difference_update(spent)
        return spent

    def _if_ready(self, chunk: int) -> None:
        if not self._missing[chunk]:
            del self._missing[chunk]
            self._ready.append(chunk)

    def _size(self, number: int) -> tuple[int, ...]:
        return tuple(b - a for a, b in self.layout.tile(number)[1].seen)
