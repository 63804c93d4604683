"""When a dock is closed: napari takes its widget out of the window and keeps it for who knows how long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from napari.utils.notifications import show_info
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication, QWidget

from napari_segsuite.viewer.worker import Job


class _Closing(QObject):
    """Hears when a widget is taken out of its window, which a dock that is moved, hidden or floating never is."""

    def __init__(self, widget: QWidget, closed: Callable[[], object]) -> None:
        super().__init__(widget)
        self._closed = closed
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ParentChange and watched.parent() is None:
            self._closed()
        return False


def when_gone(dock: QWidget, end: Callable[..., object], jobs: Sequence[Job[Any]] = (), leave: Callable[[], object] | None = None) -> None:
    """Call something when a dock is closed, deleted, or the program quits; maybe several times.

    Parameters
    ----------
    dock : QWidget
    end : callable
        Must not call into the dock, which may be half gone.
    jobs : sequence of Job
        What the dock has begun; that it is not finished is told when the dock is closed.
    leave : callable, optional
        Called first when the dock is closed in a window that stays.
    """

    def closed() -> None:
        running = any(not job.finished.is_set() for job in jobs)
        if leave is not None:
            leave()
        end()
        if running:
            show_info("The run was stopped, since its dock was closed.")

    dock.destroyed.connect(end)
    QApplication.instance().aboutToQuit.connect(end)
    _Closing(dock, closed)
