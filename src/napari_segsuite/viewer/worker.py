"""Drives a run in a thread and tells the dock what happens, in the dock's own thread and at most ten times a second."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QTimer

from napari_segsuite.errors import SegsuiteError

if TYPE_CHECKING:
    from napari_segsuite.engine.run import Progress
    from napari_segsuite.viewer.child import Child

log = logging.getLogger(__name__)

R = TypeVar("R")

INTERVAL_S = 0.1

_TICKING: set[Callable[[], None]] = set()
"""What timers may still call. Python's collector, when it finds a dock that nobody needs any more, empties the functions around it before Qt
deletes the timer, and calling an emptied function ends the process."""


class Job(Generic[R]):
    """A run on its way: what it said last, and how it ended.

    The thread writes the attributes and the dock reads them when its timer ticks; no signal of ours crosses from one to the
    other, so a dock that is closed in the middle of a run is never called back.
    """

    def __init__(self, run: Generator[Progress, None, R]) -> None:
        self.latest: Progress | None = None
        self.result: R | None = None
        self.error: Exception | None = None
        self.finished = threading.Event()
        self.cancelled = threading.Event()
        self.asked_to_quit: Callable[[], bool] = lambda: False
        self._run = run

    def cancel(self) -> None:
        """Ask the run to end; it does so at its next step, and nobody is told any more."""
        self.cancelled.set()

    def work(self) -> None:
        """Do the run to its end, whatever that is; to be called in a thread of its own."""
        try:
            while not self.cancelled.is_set():
                if self.asked_to_quit():
                    self.cancelled.set()
                    return
                self.latest = next(self._run)
        except StopIteration as end:
            self.result = end.value
        except Exception as error:
            self.error = error
            if not self.cancelled.is_set():
                # What is said for users needs no traceback; their terminal may show the log.
                log.error("the run failed: %s", error, exc_info=None if isinstance(error, SegsuiteError) else error)
        finally:
            self._run.close()
            self.finished.set()


class _Named(functools.partial[Any]):
    """A function that napari's list of running tasks shows by a name."""

    def __repr__(self) -> str:
        return str(self.keywords.get("name", "a run"))


def _work(job: Job[Any], *, name: str) -> None:
    job.work()


def start(
    run: Generator[Progress, None, R],
    *,
    on_progress: Callable[[Progress], None],
    on_done: Callable[[R], None],
    on_error: Callable[[Exception], None],
    name: str,
    parent: QObject,
) -> Job[R]:
    """Drive a run in a thread, with a bar in napari's activity dock.

    Parameters
    ----------
    run : generator
        Yields `Progress` and returns the result.
    on_progress, on_done, on_error : callable
        Called in the thread of `parent`, until `parent` is deleted or the job is cancelled.
    name : str
        What napari calls the task in its activity dock, and when it asks whether to close.
    parent : QObject
        Who wants to know.

    Returns
    -------
    Job
    """
    job = Job(run)
    worker = create_worker(_Named(_work, job, name=name), _start_thread=False, _progress={"total": 0, "desc": name})
    job.asked_to_quit = lambda: bool(worker.abort_requested)  # when napari closes
    timer = QTimer(parent)
    timer.setInterval(int(INTERVAL_S * 1000))
    told: list[Progress] = []

    def tick() -> None:
        over, latest = job.finished.is_set(), job.latest
        if over or job.cancelled.is_set():
            timer.stop()
            timer.deleteLater()
            _TICKING.discard(tick)
        if job.cancelled.is_set():
            return
        if latest is not None and latest not in told[-1:]:
            told[:] = [latest]
            on_progress(latest)
        if not over:
            _show(worker.pbar, latest)
        elif job.error is not None:
            on_error(job.error)
        else:
            on_done(job.result)  # type: ignore[arg-type]

    _TICKING.add(tick)
    parent.destroyed.connect(functools.partial(_forget, tick))
    timer.timeout.connect(tick)
    timer.start()
    worker.start()
    return job


def _forget(tick: Callable[[], None], *_: Any) -> None:
    _TICKING.discard(tick)


def give_up(child: Child, jobs: list[Job[Any]], closers: Sequence[Callable[[], object]], *_: Any) -> None:
    """End all that a dock has begun, because it is gone, and call what lets go of the rest."""
    for job in jobs:
        job.cancel()
    jobs.clear()
    child.close()
    for close in closers:
        close()


def _show(bar: Any, progress: Progress | None) -> None:
    """Move napari's bar; only ever from the main thread, since napari aborts the process otherwise."""
    if progress is None or progress.total <= 0:
        return
    if bar.total != progress.total:
        bar.total = progress.total
    if progress.done != bar.n:
        bar.update(progress.done - bar.n)
