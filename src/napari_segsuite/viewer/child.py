"""One warm child process in which all pixels are computed, so that the viewer stays responsive and a cancel is hard.

The child never imports Qt or napari: on Windows, torch cannot be loaded after Qt. This module is imported in the child too,
so nothing here may import them either.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from napari_segsuite.allocator import give_back, keep_memory
from napari_segsuite.errors import SegsuiteError

log = logging.getLogger(__name__)

NEEDED = ("napari_segsuite.engine.chunk", "napari_segsuite.engine.measure", "napari_segsuite.models.torch_model")
"""What the child imports ahead of the first run; the last one pulls in torch."""


class ChildDied(SegsuiteError):
    """The process that computes stopped in the middle of a run."""


class Child:
    """A process pool of one spawned process that is started early, killed without mercy, and let go when idle.

    Parameters
    ----------
    idle_s : float
        Seconds without a run after which the process ends and gives its memory back; it is started again by the next run.

    Notes
    -----
    All methods return at once and may be called from any thread.
    """

    def __init__(self, idle_s: float = 600.0) -> None:
        self.idle_s = idle_s
        self._lock = threading.RLock()
        self._pool: ProcessPoolExecutor | None = None
        self._process: BaseProcess | None = None
        self._timer: threading.Timer | None = None
        self._ready: Future[int] | None = None
        self._users = 0
        self._closed = False

    def warm(self) -> Future[int]:
        """Start the process if there is none; the future becomes its process id when it is ready to compute."""
        with self._lock:
            if self._pool is None or self._ready is None or self._broken():
                self._start()
            self._rest()
            assert self._ready is not None
            return self._ready

    @contextmanager
    def executor(self) -> Iterator[Executor]:
        """Lend the pool for a run; it is not let go before the run is over."""
        with self._lock:
            self.warm()
            self._users += 1
            self._rest()
            pool = self._pool
        assert pool is not None
        try:
            yield pool
        finally:
            with self._lock:
                self._users -= 1
                self._rest()
                if self._users == 0 and self._pool is pool and not self._broken():
                    with suppress(RuntimeError):  # it broke this moment
                        pool.submit(give_back)

    @property
    def pid(self) -> int | None:
        """Process id while the process lives."""
        process = self._process
        return process.pid if process is not None and process.is_alive() else None

    @property
    def exitcode(self) -> int | None:
        """How the latest process ended; negative for a signal, None while it lives."""
        return self._process.exitcode if self._process is not None else None

    def kill(self) -> None:
        """End the process now, whatever it is doing; what was handed in fails, and the next `warm` starts a new one."""
        with self._lock:
            pool, process = self._pool, self._process
            self._pool = self._ready = None
        if process is not None and process.is_alive():
            process.kill()
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the process for good: the viewer is gone."""
        with self._lock:
            self._closed = True
            self._stop_timer()
        self.kill()

    def explain(self, error: BaseException) -> SegsuiteError:
        """Turn what a run failed with into something for the person who reads it."""
        if isinstance(error, SegsuiteError):
            return error
        if isinstance(error, BrokenProcessPool):
            return ChildDied(
                f"the process that computes the segments stopped unexpectedly{_how(self._ending())}",
                do="Most often the memory ran out: close other programs, segment a smaller part, or choose a smaller chunk or batch "
                "under Advanced. It has been started anew; you can press Run again.",
            )
        if isinstance(error, MemoryError):
            return ChildDied("the memory ran out", do="Segment a smaller part, or choose a smaller chunk under Advanced.")
        return ChildDied(f"the run failed: {type(error).__name__}: {error}", do="The details are in the log; please report them.")

    def _ending(self) -> int | None:
        """The exit code, which is there a little late when the pool's own thread fetches it from the system at the same moment."""
        until = time.monotonic() + 0.5
        while (code := self.exitcode) is None and time.monotonic() < until:
            time.sleep(0.01)
        return code

    def _start(self) -> None:
        if self._closed:
            raise ChildDied("the process that computes the segments has been closed", do="Open the dock again.")
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin)
        with _hidden_main():  # the pool spawns inside the first submit, and only there
            self._ready = self._pool.submit(_load, NEEDED)
        self._process = next(iter(self._pool._processes.values()))
        # The pool keeps the writing end of the pipe that results come through. As long as it is open, a child that is killed in
        # the middle of a result leaves the pool's thread waiting for the rest, and with it the end of the program.
        self._pool._result_queue._writer.close()  # type: ignore[attr-defined]

    def _broken(self) -> bool:
        return self._process is None or not self._process.is_alive()

    def _rest(self) -> None:
        """Begin to count idle time when nobody uses the process."""
        self._stop_timer()
        if self._users == 0 and not self._closed and self._pool is not None:
            self._timer = threading.Timer(self.idle_s, self._let_go)
            self._timer.daemon = True
            self._timer.start()

    def _let_go(self) -> None:
        with self._lock:
            if self._users == 0:
                self.kill()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _how(exitcode: int | None) -> str:
    if exitcode is None or exitcode == 0:
        return ""
    if exitcode > 0:
        return f" (exit code {exitcode})"
    try:
        return f" (signal {signal.Signals(-exitcode).name})"
    except ValueError:
        return f" (signal {-exitcode})"


_hiding = threading.Lock()


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Hide what the program was started from while a process is spawned.

    A spawned process imports its parent's main module again: napari and Qt with it when that is napari's console script, and
    everything a user does in a script without ``if __name__ == "__main__"``, which ends in an endless chain of windows. Our
    functions live in importable modules, so the child does not need it.
    """
    main = sys.modules["__main__"]
    with _hiding:
        kept: dict[str, Any] = {name: main.__dict__[name] for name in ("__spec__", "__file__") if name in main.__dict__}
        try:
            main.__dict__.pop("__file__", None)
            main.__spec__ = None
            yield
        finally:
            main.__dict__.update(kept)


def _begin() -> None:
    """What the child does first: set up its memory, leave Ctrl-C to the parent, and never outlive it."""
    keep_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch_parent, name="watch-parent", daemon=True).start()


def _watch_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A pool's process holds both ends of its own queue, so it would wait for ever when the parent is killed.
        wait([parent.sentinel])
        os._exit(1)


def _load(modules: tuple[str, ...]) -> int:
    """Import what every run needs; a part that is not installed is for the run to complain about."""
    for module in modules:
        try:
            importlib.import_module(module)
        except (ImportError, RuntimeError, OSError):
            log.exception("could not import %s ahead of time", module)
    return os.getpid()
