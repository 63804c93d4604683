"""Driving a run in a thread: progress and the end arrive in the main thread, a cancel ends it, errors are kept."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Generator
from itertools import pairwise
from typing import Any

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_segsuite.engine.run import Progress
from napari_segsuite.errors import InputError
from napari_segsuite.viewer.worker import Job, start


def counting(n: int, *, pause: float = 0.01, closed: list[str] | None = None) -> Generator[Progress, None, str]:
    try:
        for k in range(n):
            time.sleep(pause)
            yield Progress(k, n, "counting")
    finally:
        if closed is not None:
            closed.append("closed")
    return "counted"


def failing() -> Generator[Progress, None, str]:
    yield Progress(0, 2, "trying")
    raise InputError("the image is torn")


class Heard:
    """What a dock would be told, and in which thread."""

    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self.result: Any = None
        self.error: Exception | None = None
        self.threads: set[int] = set()

    def start(self, run: Generator[Progress, None, Any], parent: QWidget) -> Job[Any]:
        return start(run, on_progress=self._progress, on_done=self._done, on_error=self._error, name="counting sheep", parent=parent)

    def _progress(self, progress: Progress) -> None:
        self.threads.add(threading.get_ident())
        self.progress.append(progress)

    def _done(self, result: Any) -> None:
        self.threads.add(threading.get_ident())
        self.result = result

    def _error(self, error: Exception) -> None:
        self.error = error


@pytest.fixture
def dock(qtbot: QtBot) -> QWidget:
    widget = QWidget()
    qtbot.addWidget(widget)
    return widget


def test_progress_and_result_arrive_in_the_main_thread_at_most_ten_times_a_second(dock: QWidget, qtbot: QtBot) -> None:
    heard = Heard()
    began = time.monotonic()
    heard.start(counting(60), dock)
    qtbot.waitUntil(lambda: heard.result == "counted", timeout=20_000)
    assert heard.threads == {threading.get_ident()}
    assert 1 < len(heard.progress) <= 10 * (time.monotonic() - began) + 2
    assert [p.done for p in heard.progress] == sorted(p.done for p in heard.progress)


def test_ten_thousand_steps_with_warnings_do_not_hold_the_window(dock: QWidget, qtbot: QtBot) -> None:
    def warning() -> Generator[Progress, None, str]:
        for k in range(10_000):
            if k % 100 == 0:
                warnings.warn("a library is unhappy", stacklevel=1)
            yield Progress(k, 10_000, "counting")
        return "counted"

    heard, ticks = Heard(), list[float]()
    timer = QTimer(interval=10)
    timer.timeout.connect(lambda: ticks.append(time.monotonic()))
    timer.start()
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        heard.start(warning(), dock)
        qtbot.waitUntil(lambda: heard.result == "counted", timeout=20_000)
    timer.stop()
    assert len(heard.progress) <= 10 * (time.monotonic() - began) + 2
    assert max(b - a for a, b in pairwise([began, *ticks])) < 1.0


def test_an_error_is_told_once(dock: QWidget, qtbot: QtBot) -> None:
    heard = Heard()
    heard.start(failing(), dock)
    qtbot.waitUntil(lambda: heard.error is not None, timeout=20_000)
    assert str(heard.error) == "The image is torn."
    assert heard.result is None


def test_a_cancelled_run_is_closed_and_nobody_is_told(dock: QWidget, qtbot: QtBot) -> None:
    heard, closed = Heard(), list[str]()
    job = heard.start(counting(10_000, closed=closed), dock)
    qtbot.waitUntil(lambda: len(heard.progress) > 0, timeout=20_000)
    job.cancel()
    assert job.finished.wait(1)
    qtbot.wait(300)
    assert closed == ["closed"]
    assert (heard.result, heard.error) == (None, None)


def test_a_dock_that_is_deleted_in_the_middle_is_not_called(qtbot: QtBot) -> None:
    heard, dock = Heard(), QWidget()
    job = heard.start(counting(100), dock)
    qtbot.waitUntil(lambda: len(heard.progress) > 0, timeout=20_000)
    dock.deleteLater()
    assert job.finished.wait(20)
    qtbot.wait(300)
    assert heard.result is None


def test_a_run_without_steps_has_a_result_too(dock: QWidget, qtbot: QtBot) -> None:
    heard = Heard()
    heard.start(counting(0), dock)
    qtbot.waitUntil(lambda: heard.result == "counted", timeout=20_000)


FORGOTTEN = """
import gc, os, time
from qtpy.QtWidgets import QApplication, QWidget
from napari_segsuite.engine.progress import Progress
from napari_segsuite.viewer.worker import start

class Dock(QWidget):
    def __init__(self):
        super().__init__()
        self.itself = self
        self.job = start(steps(), on_progress=self.hear, on_done=self.hear, on_error=print, name="a run", parent=self)

    def hear(self, told):
        pass

def steps():
    for k in range(100):
        time.sleep(0.01)
        yield Progress(k, 100, "counting")

app = QApplication([])
for _ in range(12):
    Dock().deleteLater()
    until = time.monotonic() + 0.25
    while time.monotonic() < until:
        gc.collect()
        app.processEvents()
print("alive", flush=True)
os._exit(0)  # threads still count
"""


def test_a_dock_that_python_has_forgotten_before_qt_deletes_it_does_not_end_the_process() -> None:
    told = subprocess.run(
        [sys.executable, "-c", FORGOTTEN],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
    )
    assert (told.returncode, told.stdout) == (0, "alive\n"), told.stderr[-2000:]
