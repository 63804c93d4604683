"""The line before Run that says what a run would take, against what this computer has free."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_segsuite.engine.plan import Plan
from napari_segsuite.types import Image, ModelSpec
from napari_segsuite.viewer.appraise import appraise, light
from napari_segsuite.viewer.child import Child
from napari_segsuite.viewer.panel import duration

log = logging.getLogger(__name__)

INTERVAL_MS = 100
PATIENCE_S = 5.0
"""An estimate that nobody wants any more and that has taken longer than this is ended with its process; one that has just begun is not:
what takes its time then is loading torch and the model, which comes next anyway."""
Asked = tuple[Plan, bool]


class Forecaster(QObject):
    """Finds out in the child process what a run would take, one plan at a time, and never lets anybody wait for it.

    Parameters
    ----------
    child : Child
    parent : QObject
    """

    changed = Signal()

    def __init__(self, child: Child, parent: QObject) -> None:
        super().__init__(parent)
        self._child = child
        self._wanted: tuple[Asked, Image, ModelSpec] | None = None
        self._known: tuple[Asked, Mapping[str, Any] | None] | None = None
        self._running: tuple[Asked, Future[dict[str, Any]]] | None = None
        self._began = 0.0
        self._timer = QTimer(self, interval=INTERVAL_MS)
        self._timer.timeout.connect(self._tick)

    def ask(self, plan: Plan, image: Image, spec: ModelSpec, *, grows: bool) -> None:
        """Want an estimate; `changed` is emitted when there is one. Only while nothing else is computed."""
        self._wanted = ((plan, grows), image, spec)
        if self._running is not None and self._running[0] != (plan, grows):
            self._end_old()
        if not self._known or self._known[0] != (plan, grows):
            self._known = None
            self._timer.start()

    def drop(self) -> None:
        """Want no estimate any more; one that is being computed will not be shown."""
        self._wanted = None
        self._timer.stop()

    def make_way(self) -> None:
        """Want no estimate, because a run begins that needs the process."""
        self.drop()
        self._end_old()

    def _end_old(self) -> None:
        if self._running is not None and not self._running[1].done() and time.monotonic() - self._began > PATIENCE_S:
            self._running = None
            self._child.kill()

    def words(self, out: Path | None, share: float = 1.0) -> tuple[str, str]:
        """What is known, and a warning where it does not fit; `share` of the work is left to do."""
        if self._wanted is None:
            return "", ""
        if self._known is None:
            return "Estimating time and memory...", ""
        return words(self._known[1], free_of(out, self._known[1]), share) if self._known[1] is not None else ("", "")

    def _tick(self) -> None:
        if self._running is not None:
            asked, future = self._running
            if not future.done():
                return
            self._running = None
            if self._wanted is not None and self._wanted[0] == asked:
                self._known = asked, _result(future)
        if self._wanted is None or self._known is not None:
            self._timer.stop()
            self.changed.emit()
            return
        asked, image, spec = self._wanted
        future = Future()
        self._running, self._began = (asked, future), time.monotonic()
        threading.Thread(target=_find_out, args=(self._child, *asked, image, spec, future), name="forecast", daemon=True).start()


def words(told: Mapping[str, Any], free: Mapping[str, float], share: float = 1.0) -> tuple[str, str]:
    """Put an estimate into words, and what does not fit.

    >>> words({"seconds": 90, "ram_bytes": 2e9, "disk_bytes": 3e9, "vram_bytes": 0}, {"ram": 8e9, "disk": 1e9})[1]
    'It may not fit: about 3.0 GB on disk are needed and 1.0 GB are free. Save to another disk.'
    """
    rows = [("ram", "of memory", "Choose a smaller chunk under Advanced, or close other programs."), ("disk", "on disk", "Save to another disk."),
            ("vram", "on the graphics card", "Choose a smaller batch under Advanced.")]  # fmt: skip
    needs = [(float(told[f"{key}_bytes"]), float(free.get(key, 0)), where, do) for key, where, do in rows if told[f"{key}_bytes"]]
    parts = [f"{_size(need)} {where} ({_size(there)} free)" for need, there, where, _ in needs]
    short = [f"about {_size(need)} {where} are needed and {_size(there)} are free. {do}" for need, there, where, do in needs if need > there]
    left = "" if share >= 1 else " for what is left"
    seconds = told["seconds"] * share
    text = f"{'A few seconds' if seconds < 5 else f'About {duration(seconds)}'}{left}, {', '.join(parts)}."
    return text, " ".join(f"It may not fit: {one}" for one in short)


def _size(nbytes: float) -> str:
    """An estimate needs no more than this."""
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 5e7 else "less than 0.1 GB"


def free_of(out: Path | None, told: Mapping[str, Any] | None) -> dict[str, float]:
    """Bytes that are free: of memory, on the disk of `out`, on the graphics card as the child has told."""
    import psutil  # comes with napari

    free = {"ram": float(psutil.virtual_memory().available), "vram": float((told or {}).get("vram_free", 0))}
    if out is not None:
        free["disk"] = float(shutil.disk_usage(next(p for p in (out, *out.parents) if p.exists())).free)
    return free


def _find_out(child: Child, plan: Plan, grows: bool, image: Image, spec: ModelSpec, future: Future[dict[str, Any]]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        with child.executor() as executor:
            future.set_result(executor.submit(appraise, plan, light(image), spec, grows).result())
    except Exception as error:  # noqa: BLE001 - without an estimate the run is as possible as before; told in the log
        future.set_exception(error)


def _result(future: Future[dict[str, Any]]) -> dict[str, Any] | None:
    if future.cancelled():
        return None
    if error := future.exception():
        log.info("no estimate could be made: %s", error)
        return None
    return future.result()
