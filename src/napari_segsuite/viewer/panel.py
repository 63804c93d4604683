"""The part of the Segment dock below the form: complaints, Run and Cancel, how far it is, and what came out."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from napari_segsuite.engine.run import Progress


ON_DARK, ON_LIGHT = "#e0a030", "#8f4f00"
"""Amber on a dark ground, and what is as well seen on a light one: at least 4.5 times as light or as dark as those of napari."""
LONGEST = 34
"""Letters of a word that fit into a line of a dock as narrow as it can be."""


class Panel(QWidget):
    """Only shows; the dock decides."""

    def __init__(self) -> None:
        super().__init__()
        self.complaint, self.notice, self.status = quiet_label(bad=True), quiet_label(), quiet_label()
        self.cost, self.warning = quiet_label(), quiet_label(bad=True)
        self._before: int | None = None
        self.fix = QPushButton("Segment every slice on its own")
        self.run, self.attempt, self.cancel = QPushButton("Run"), QPushButton("Try on view"), QPushButton("Cancel")
        self.run.setDefault(True)
        self.attempt.setToolTip("<p>Segment only what is in view now, to see at once what this model and these settings do.</p>")
        self.compare = QCheckBox("Compare tries")
        self.compare.setToolTip("<p>Tries with other models or settings stay beside each other; a new one else takes the place of those before.</p>")
        self.side_by_side = QPushButton("Side by side")
        self.side_by_side.setToolTip("<p>Switch napari's grid on or off: every layer in a view of its own.</p>")
        self.side_by_side.setCheckable(True)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(10)
        self.counts = quiet_label()
        self.replace = QCheckBox("Replace previous result")
        self.replace.setToolTip("<p>The previous result of the same model for the same image goes when the new one comes, unless it was edited.</p>")
        self.table, self.save, self.export = QPushButton("Table"), QPushButton("Save..."), QPushButton("Export...")
        self.table.setToolTip("<p>Show the segments as a table: class, score, size, box and centre of each.</p>")
        self.save.setToolTip("<p>Write the labels with their table as OME-Zarr or TIFF.</p>")
        self.export.setToolTip("<p>Write any Labels layer for data sets and other programs: COCO, Pascal VOC, QuPath, ImageJ, surfaces, tables.</p>")
        self._lay_out()
        self.complain("")
        self.estimate("")
        self.end("")
        self.results(False)

    def complain(self, text: str, notice: str = "", *, fix: bool = False) -> None:
        """Say what does not fit, and what is good to know."""
        for label, words in ((self.complaint, text), (self.notice, notice)):
            label.setText(words)
            label.setVisible(bool(words))
        self.fix.setVisible(fix)

    def estimate(self, text: str, warning: str = "") -> None:
        """Say what a run would take, and what of that is not there."""
        for label, words in ((self.cost, text), (self.warning, warning)):
            label.setText(words)
            label.setVisible(bool(words))

    def ready(self, possible: bool, attempt: bool) -> None:
        """Allow or forbid to start a run, and to try it on what is in view."""
        self.run.setEnabled(possible)
        self.run.setToolTip("" if possible else self.complaint.text() or self.notice.text())
        self.attempt.setEnabled(attempt)

    def begin(self, notice: str = "") -> None:
        """A run has started; nothing is known about it yet, and what was said about its beginning is past."""
        self.complain("", notice)
        self.estimate("")
        self._before = None
        self.bar.setRange(0, 0)
        self.bar.setVisible(True)
        self.counts.setText("Getting ready...")
        self.counts.setVisible(True)
        self.cancel.setEnabled(True)
        self.status.setVisible(False)
        self.run.setEnabled(False)
        self.attempt.setEnabled(False)

    def progress(self, progress: Progress, elapsed: float) -> None:
        """Show how far a run is after `elapsed` seconds."""
        # An empty bar looks as if nothing happened; until the first step is done it moves by itself.
        self.bar.setRange(0, progress.total if progress.done > 0 else 0)
        self.bar.setValue(progress.done)
        if self._before is None and progress.total > 1:
            self._before = progress.done
        self.counts.setText(counts(progress, elapsed, self._before or 0))

    def end(self, text: str) -> None:
        """No run is on its way."""
        self.bar.setVisible(False)
        self.counts.setVisible(False)
        self.cancel.setEnabled(False)
        self.status.setText(text)
        self.status.setVisible(bool(text))

    def results(self, there: bool) -> None:
        """Offer what can be done with a result."""
        for button in (self.table, self.save):
            button.setEnabled(there)

    def _lay_out(self) -> None:
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 4, 0, 4)
        outer.setSpacing(6)
        for part in (self.complaint, self.fix, self.notice, self.cost, self.warning, row(self.run, self.attempt, self.cancel)):
            outer.addWidget(part)
        for part in (self.bar, self.counts, self.status, row(self.compare, self.side_by_side)):
            outer.addWidget(part)
        outer.addWidget(row(self.table, self.save, self.export))
        outer.addWidget(self.replace)


class Column(QScrollArea):
    """Scrolls up and down only, and is never narrower than what is in it."""

    def __init__(self, inner: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(inner)
        inner.installEventFilter(self)

    def sizeHint(self) -> QSize:
        """Wide enough for the title of the dock, where there is room."""
        return QSize(max(310, self.minimumSizeHint().width()), 640)

    def minimumSizeHint(self) -> QSize:
        """Room for the content and the scroll bar beside it."""
        width = self.widget().minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width()
        return QSize(width, 320)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Ask for another width when rows come and go."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))


class Quiet(QLabel):
    """A text that wraps, never widens the dock, and can be copied; a warning has a colour that is seen in napari's theme, whichever that is."""

    def __init__(self) -> None:
        super().__init__()
        self.bad = False
        self.setObjectName("quiet")  # a style for all labels would be one for its tooltip too
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)

    def setText(self, text: str) -> None:
        """Say something; a word that no line has room for, such as a path, is whole in the tooltip."""
        super().setText(text)
        long = any(len(word) > LONGEST for word in text.split())
        self.setToolTip(f"<p>{text if '<i>' in text else escape(text)}</p>" if long else "")

    def warn(self, bad: bool) -> None:
        """Say whether this is something that does not fit."""
        self.bad = bad
        self._tint()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            self._tint()

    def _tint(self) -> None:
        above = self.parentWidget()
        text = above.palette().color(QPalette.ColorRole.WindowText) if above is not None else QColor("white")
        style = f"QLabel#quiet {{ color: {ON_LIGHT if text.lightness() < 128 else ON_DARK}; }}" if self.bad else ""
        if style != self.styleSheet():
            self.setStyleSheet(style)


def quiet_label(*, bad: bool = False) -> Quiet:
    """A text for the user; `bad` where it is always about something that does not fit."""
    label = Quiet()
    label.warn(bad)
    return label


def short(name: str, most: int = 60) -> str:
    """A name that a text has room for: of a long one, its ends, in which names of a series differ.

    >>> short("a rather long name", 11)
    'a ra...name'
    """
    return name if len(name) <= most else f"{name[: (most - 2) // 2]}...{name[-((most - 3) // 2) :]}"


def counts(progress: Progress, elapsed: float, before: int = 0) -> str:
    """Put progress into words; `before` was done when it began, by a run that was stopped.

    >>> from napari_segsuite.engine.run import Progress
    >>> counts(Progress(100, 400, "segmenting"), 20.0)
    'Segmenting: 25 %, about 1 min left'
    >>> counts(Progress(300, 400, "segmenting: 3 of 4 chunks"), 20.0, 200)
    'Segmenting: 3 of 4 chunks, 75 %, about 20 s left'
    """
    told = f"{progress.message[:1].upper()}{progress.message[1:]}"
    if progress.done <= 0 or progress.total <= 0:
        return f"{told}..."
    told = f"{told}{',' if ':' in told else ':'} {100 * progress.done // progress.total} %"
    if progress.done >= progress.total or progress.done <= before or elapsed < 1:
        return told
    return f"{told}, about {duration(elapsed * (progress.total - progress.done) / (progress.done - before))} left"


def duration(seconds: float) -> str:
    """Put a time into words.

    >>> [duration(s) for s in (0.42, 7, 60, 3700)]
    ['0.4 s', '7 s', '1 min', '1 h 2 min']
    """
    if seconds < 5:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def row(*buttons: QAbstractButton) -> QWidget:
    """Put buttons side by side."""
    line = QWidget()
    layout = QHBoxLayout(line)
    layout.setContentsMargins(0, 0, 0, 0)
    for button in buttons:
        layout.addWidget(button)
    return line
