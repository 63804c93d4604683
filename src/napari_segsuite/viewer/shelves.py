"""The parts of the Models dock: the list, the card or the page to add one, the buttons, and what is being done."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QSplitter,
    QStackedWidget,
    QTextBrowser,
    QTreeWidget,
    QVBoxLayout,
    QWidget,
)

from napari_segsuite.engine.progress import Progress
from napari_segsuite.viewer.panel import quiet_label
from napari_segsuite.viewer.pickers import one_line


class Card(QTextBrowser):
    """Words of strangers: loads nothing that they name, and opens no link but to the web."""

    def __init__(self) -> None:
        super().__init__()
        self.setOpenLinks(False)
        self.anchorClicked.connect(self._open)

    def loadResource(self, kind: int, name: QUrl) -> Any:
        """No pictures: a path in a card could lead to another computer."""
        return None

    def _open(self, url: QUrl) -> None:
        if url.scheme() in ("http", "https"):
            QDesktopServices.openUrl(url)


class Shelves(QWidget):
    """Only shows; the dock decides."""

    def __init__(self) -> None:
        super().__init__()
        self.names, self.text, self.stack = QTreeWidget(), Card(), QStackedWidget()
        self.add, self.check, self.remove, self.use = (QPushButton(t) for t in ("Add...", "Check", "Remove", "Use in Segment"))
        self.buttons = (self.add, self.check, self.remove, self.use)
        self.bar, self.cancel, self.status = QProgressBar(), QPushButton("Cancel"), quiet_label()
        self.status.setTextFormat(Qt.TextFormat.PlainText)
        self.names.setHeaderHidden(True)
        self.names.setColumnCount(2)
        self.names.setRootIsDecorated(False)
        self.names.setIndentation(12)
        self.names.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.names.setAccessibleName("Models")
        one_line(self.names)
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(10)
        self.add.setToolTip("<p>Add a model that others made, or that you have trained: a file, a folder or a URL.</p>")
        self.use.setToolTip("<p>Choose this model in the Segment dock.</p>")
        self.end("")

    def put(self, dock: QWidget, page: QWidget) -> None:
        """Lay everything out in a dock, with the page to add a model behind the card."""
        front = QWidget()
        column = QVBoxLayout(front)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.text, 1)
        column.addLayout(_row(*self.buttons))
        self.stack.addWidget(front)
        self.stack.addWidget(page)
        split = QSplitter(Qt.Orientation.Vertical)
        split.addWidget(self.names)
        split.addWidget(self.stack)
        split.setSizes([210, 430])
        split.setChildrenCollapsible(False)
        inside = QVBoxLayout(self)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addWidget(split, 1)
        inside.addLayout(_row(self.bar, self.cancel))
        inside.addWidget(self.status)
        outer = QVBoxLayout(dock)
        outer.setContentsMargins(6, 6, 6, 6)
        outer.addWidget(self)

    def turn_to(self, *, adding: bool) -> None:
        """Show the page to add a model, or the card of the chosen one."""
        self.stack.setCurrentIndex(int(adding))

    def allow(self, *, add: bool, check: bool, remove: bool, use: bool, why_not_check: str, why_not_remove: str) -> None:
        """Say which buttons can be pressed, and why others cannot."""
        for button, possible in zip(self.buttons, (add, check, remove, use), strict=True):
            button.setEnabled(possible)
        self.check.setToolTip(f"<p>{why_not_check or 'Run the test that its makers gave with it, and say how far their answer is from ours.'}</p>")
        self.remove.setToolTip(f"<p>{why_not_remove or 'Delete this model from your folder of models.'}</p>")

    def begin(self, words: str) -> None:
        """Something has been started."""
        self.bar.setRange(0, 0)
        self._busy(True)
        self._say(f"{words[:1].upper()}{words[1:]}...")

    def progress(self, progress: Progress) -> None:
        """Show how far it is, where that is known."""
        self.bar.setRange(0, progress.total)
        self.bar.setValue(progress.done)
        self._say(f"{progress.message[:1].upper()}{progress.message[1:]}...")

    def end(self, text: str, *, bad: bool = False) -> None:
        """Nothing is being done."""
        self._busy(False)
        self._say(text, bad=bad)

    def _busy(self, busy: bool) -> None:
        self.bar.setVisible(busy)
        self.cancel.setVisible(busy)

    def _say(self, text: str, *, bad: bool = False) -> None:
        self.status.warn(bad)
        self.status.setText(text)
        self.status.setVisible(bool(text))


def _row(*parts: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for part in parts:
        row.addWidget(part)
    return row
