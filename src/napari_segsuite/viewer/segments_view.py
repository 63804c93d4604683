"""The parts of the Segments dock: the classes, the filters, the selected segment, and what can be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import isnan
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGroupBox,
    QPushButton,
    QSpinBox,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_segsuite.types import Class
from napari_segsuite.viewer.panel import Column, quiet_label, row, short
from napari_segsuite.viewer.pickers import narrow, one_line

TALLEST, ROW = 160, 20
"""Pixels of the list of classes, which is only as tall as it is long, and at least of a row in it."""
FEW = 20_000
"""Segments that get new colours within half a second."""
Wishes = tuple[set[int], float, float, bool]
"""Hidden classes, least score, least size, and whether segments have the colours of their classes."""
ID = Qt.ItemDataRole.UserRole


class SegmentsView:
    """Only shows; the dock decides.

    Parameters
    ----------
    dock : QWidget
        What the parts are laid out in.
    orders : sequence of str
        In which segments can be gone through.
    """

    def __init__(self, dock: QWidget, orders: Sequence[str]) -> None:
        self.title, self.told, self.one = quiet_label(), quiet_label(), quiet_label()
        self.list = QTreeWidget()
        self.list.setHeaderLabels(["Class", "Segments"])
        self.list.setRootIsDecorated(False)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.list.setFixedHeight(TALLEST)
        self.list.setAccessibleName("Classes")
        one_line(self.list)
        self.by_class, self.mark = QCheckBox("Colour by class"), QCheckBox("Mark it in white")
        self.mark.setChecked(True)
        self.score, self.size = QDoubleSpinBox(), QSpinBox()
        self.score.setRange(0, 1)
        self.score.setSingleStep(0.05)
        self.size.setRange(0, 2**31 - 1)
        self.size.setSingleStep(10)
        self.size.setSuffix(" voxels")
        self.kind, self.order = QComboBox(), QComboBox()
        self.order.addItems(list(orders))
        narrow(self.kind)
        narrow(self.order)
        self.change, self.change_all, self.undo = (QPushButton(t) for t in ("Change", "Change all shown", "Undo"))
        self.previous, self.next = QPushButton("Previous"), QPushButton("Next")
        self.copy, self.update_table, self.add = (QPushButton(t) for t in ("Copy shown", "Update table", "Add class..."))
        self.step, self.gap, self.divisions = QDoubleSpinBox(), QSpinBox(), QCheckBox("Objects may divide")
        self.step.setRange(0, 1e9)
        self.step.setSpecialValueText("its diameter")
        self.gap.setRange(0, 1000)
        self.gap.setSuffix(" frames")
        self.track = QPushButton("Track")
        self._tips()
        self._lay_out(dock)

    def explain(self, why: str, name: str = "") -> None:
        """Say which layer this is about, or why there is nothing to show."""
        self.title.setText(why or short(name))
        self.title.setToolTip("" if why else name)
        if why:
            self.told.setText("")
            self.one.setText("")

    def allow(self, *, table: bool, layer: bool, undo: bool) -> None:
        """Say what can be done: with a table, with any Labels layer, after a correction."""
        for part in (self.shown, self.selection, self.copy, self.add):
            part.setEnabled(table)
        self.update_table.setEnabled(layer)
        self.undo.setEnabled(undo)

    def over_time(self, unit: str | None) -> None:
        """Offer tracking, with distances in this unit; None where there is no time."""
        self.time.setVisible(unit is not None)
        self.step.setSuffix(f" {unit}" if unit not in (None, "pixel") else "")

    def classes(self, classes: Sequence[Class], counts: Mapping[int, int]) -> None:
        """List classes with the numbers of their segments; what is not shown stays so."""
        hidden, chosen = self.hidden(), self.kind.currentData()
        before = [part.blockSignals(True) for part in (self.list, self.kind)]
        self.list.clear()
        self.kind.clear()
        for c in classes:
            item = QTreeWidgetItem(self.list, [c.name if c.countable else f"{c.name} (stuff)", str(counts.get(c.id, 0))])
            item.setData(0, ID, c.id)
            item.setIcon(0, icon(c))
            item.setCheckState(0, Qt.CheckState.Unchecked if c.id in hidden else Qt.CheckState.Checked)
            item.setToolTip(0, f"<p>{escape(c.name)}</p><p>Ticked: shown. Double-click for another colour.</p>")
            if c.countable:
                self.kind.addItem(icon(c), c.name, c.id)
        if none := sum(n for k, n in counts.items() if k not in [c.id for c in classes]):
            QTreeWidgetItem(self.list, ["no class", str(none)]).setData(0, ID, 0)
        rows = (self.list.topLevelItemCount() + 1) * max(self.list.sizeHintForRow(0), ROW)
        self.list.setFixedHeight(min(TALLEST, rows + ROW // 2) if classes else TALLEST)
        self.kind.setCurrentIndex(max(0, self.kind.findData(chosen)))
        for part, blocked in zip((self.list, self.kind), before, strict=True):
            part.blockSignals(blocked)
        for button in (self.change, self.change_all):
            button.setEnabled(self.kind.count() > 0)

    def hidden(self) -> set[int]:
        """Class ids that are not ticked."""
        items = [self.list.topLevelItem(k) for k in range(self.list.topLevelItemCount())]
        return {int(item.data(0, ID)) for item in items if item.data(0, Qt.ItemDataRole.CheckStateRole) is not None and not item.checkState(0).value}

    def filters(self) -> tuple[set[int], float, float]:
        """What is left out: hidden classes, least score, least size."""
        return self.hidden(), self.score.value(), self.size.value()

    def marks(self, total: int) -> bool:
        """Whether the selected segment is marked: if it is wanted, and there are few enough to be coloured anew at every step."""
        return self.mark.isChecked() and total <= FEW

    def wishes(self) -> Wishes:
        """What is asked for now, to be asked for again when the layer is turned to again."""
        return (*self.filters(), self.by_class.isChecked())

    def ask(self, wishes: Wishes | None, classes: Sequence[Class], counts: Mapping[int, int]) -> None:
        """Ask for this; None for everything in colours of its own, as of a layer that was not looked at before."""
        hidden, score, size, by_class = wishes or (set(), 0.0, 0, False)
        parts = (self.list, self.score, self.size, self.by_class)
        before = [part.blockSignals(True) for part in parts]
        self.list.clear()
        self.score.setValue(score)
        self.size.setValue(int(size))
        self.by_class.setChecked(by_class)
        self.classes(classes, counts)
        for item in (self.list.topLevelItem(k) for k in range(self.list.topLevelItemCount())):
            if item.data(0, ID) in hidden:
                item.setCheckState(0, Qt.CheckState.Unchecked)
        for part, blocked in zip(parts, before, strict=True):
            part.blockSignals(blocked)

    def chosen(self) -> int:
        """The class id to give."""
        return int(self.kind.currentData())

    def choose(self, class_id: int) -> None:
        """Choose the class to give."""
        self.kind.setCurrentIndex(self.kind.findData(class_id))

    def say(self, text: str) -> None:
        """Say how many segments are shown."""
        self.told.setText(text)

    def selected(self, number: int, entry: Mapping[str, Any] | None) -> None:
        """Tell what is known of the selected segment."""
        if entry is None:
            self.one.setText(f"{number} is no segment in the table: pick one with napari's colour picker (key 5), or press Next.")
            return
        parts = [short(str(entry.get("class") or f"class {entry['class_id']}")), f"{int(entry['size'])} voxels"]
        if "score" in entry:
            parts.append("no score" if isnan(entry["score"]) else f"score {entry['score']:.2f}")
        if entry.get("status"):
            parts.append(str(entry["status"]))
        self.one.setText(f"{number}: {', '.join(parts)}")

    def _tips(self) -> None:
        for part, text in (
            (self.score, "Segments without a score are shown, whatever is asked for here."),
            (self.by_class, "All segments of a class in its colour; else each in a colour of its own."),
            (self.change, "Give the selected segment this class."),
            (self.change_all, "Give all segments that are shown this class."),
            (self.undo, "Take the last change of classes back."),
            (self.copy, "Copy the segments that are shown into a new layer; this one stays as it is."),
            (self.update_table, "Measure all segments again, after painting. Classes, scores and states are kept; new segments have no score."),
            (self.add, "Note a class that the model does not know."),
            (self.step, "How far an object moves at most from one frame to the next."),
            (self.gap, "How many frames an object may be missing in between."),
            (self.track, "Find out which object is which over time: a new layer in which each has one number, and a layer of tracks."),
            (self.next, "Select the next segment that is shown, and move the view to it."),
            (self.previous, "Select the segment before, and move the view to it."),
        ):
            part.setToolTip(f"<p>{text}</p>")

    def _lay_out(self, dock: QWidget) -> None:
        self.shown, self.selection = QGroupBox("Shown"), QGroupBox("Selected segment")
        form = QFormLayout(self.shown)
        form.addRow(self.list)
        form.addRow(self.by_class)
        form.addRow("Score at least", self.score)
        form.addRow("Size at least", self.size)
        form.addRow(self.told)
        inside = QFormLayout(self.selection)
        inside.addRow(self.one)
        inside.addRow(row(self.previous, self.next))
        inside.addRow("In order of", self.order)
        inside.addRow(self.mark)
        inside.addRow("Class", self.kind)
        inside.addRow(row(self.change, self.change_all, self.undo))
        self.time = QGroupBox("Over time")
        below = QFormLayout(self.time)
        below.addRow("Longest step", self.step)
        below.addRow("Missing at most", self.gap)
        below.addRow(row(self.divisions, self.track))
        inner = QWidget()
        column = QVBoxLayout(inner)
        for part in (self.title, self.shown, self.selection, self.time, row(self.copy, self.update_table, self.add)):
            column.addWidget(part)
        column.addStretch(1)
        outer = QVBoxLayout(dock)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Column(inner))


def icon(this: Class) -> QIcon:
    """A square in the colour of a class."""
    pixels = QPixmap(12, 12)
    pixels.fill(QColor(*this.color))
    return QIcon(pixels)
