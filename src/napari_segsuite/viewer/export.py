"""The dialog that writes a Labels layer for data sets and other programs, and says before what will be missing there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari.layers import Labels
from napari.utils.notifications import show_info
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QDialog, QDialogButtonBox, QFileDialog, QFormLayout, QHBoxLayout, QLineEdit, QPushButton, QVBoxLayout

from napari_segsuite.annotations import FORMATS, Annotated, export, lost
from napari_segsuite.errors import SegsuiteError
from napari_segsuite.types import Segmentation
from napari_segsuite.viewer.panel import quiet_label
from napari_segsuite.viewer.pickers import narrow
from napari_segsuite.viewer.results import segmentation_of
from napari_segsuite.viewer.words import in_form

LEFT_OUT = ("coco-results",)
"""What needs more than a layer, and is for the command line."""


class ExportDialog(QDialog):
    """Choose labels, a format and a file; see what gets lost; write.

    Parameters
    ----------
    layers : sequence of napari.layers.Labels
    chosen : napari.layers.Labels
        The one to begin with.
    parent : QWidget, optional
    """

    def __init__(self, layers: Sequence[Labels], chosen: Labels, parent: Any = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Export labels")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setMinimumWidth(460)
        self.layers, self.format, self.target, self.browse = QComboBox(), QComboBox(), QLineEdit(), QPushButton("Browse...")
        narrow(self.layers)
        for layer in layers:
            self.layers.addItem(layer.name, layer)
        self.layers.setCurrentIndex(list(layers).index(chosen))
        for name in (n for n in FORMATS if n not in LEFT_OUT):
            self.format.addItem(f"{FORMATS[name].title} ({FORMATS[name].suffix or 'a folder'})", name)
        self.overwrite = QCheckBox("Replace what is there")
        self.lost, self.complaint = quiet_label(), quiet_label(bad=True)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.write = self.buttons.addButton("Export", QDialogButtonBox.ButtonRole.AcceptRole)
        self._lay_out()
        self.layers.currentIndexChanged.connect(self._look)
        self.format.currentIndexChanged.connect(self._look)
        self.target.textChanged.connect(self._ready)
        self.browse.clicked.connect(self._browse)
        self.buttons.accepted.connect(self.export)
        self.buttons.rejected.connect(self.reject)
        self._look()

    def export(self) -> None:
        """Write what is chosen; the dialog stays open where that fails, and says why."""
        found, target = self._segmentation(), Path(self.target.text().strip()).expanduser()
        if found is None:
            return
        try:
            path = export([Annotated(found, f"{found.name}.tif")], target, self.format.currentData(), overwrite=self.overwrite.isChecked())
        except SegsuiteError as error:
            self._complain(in_form(str(error), f"tick {self.overwrite.text()!r}"))
            return
        show_info(f"{found.name} is written to {path}.")
        self.accept()

    def _look(self) -> None:
        """Say what the chosen format cannot hold of the chosen labels, and give the path its suffix."""
        name, found = self.format.currentData(), self._segmentation()
        text = self.target.text().strip()
        if text:
            self.target.setText(str(Path(text).with_suffix(FORMATS[name].suffix)))
        self._complain("")
        if found is not None:
            told = lost(found, name)
            self.lost.setText("\n".join(["Not in the file:", *(f"  \u2022 {one}" for one in told)]) if told else "Nothing gets lost.")
        self._ready()

    def _segmentation(self) -> Segmentation | None:
        data, meta, _ = self.layers.currentData().as_layer_data_tuple()
        try:
            return segmentation_of(data, meta)
        except SegsuiteError as error:
            self._complain(str(error))
            return None

    def _ready(self) -> None:
        self.write.setEnabled(bool(self.target.text().strip()))

    def _complain(self, text: str) -> None:
        self.complaint.setText(text)
        self.complaint.setVisible(bool(text))

    def _browse(self) -> None:
        told = FORMATS[self.format.currentData()]
        start = self.target.text().strip() or f"{self.layers.currentText()}{told.suffix}"
        options = QFileDialog.Option.DontConfirmOverwrite
        path, _ = QFileDialog.getSaveFileName(self, "Export labels", start, f"{told.title} (*{told.suffix})", options=options)
        if path:
            self.target.setText(path if path.lower().endswith(told.suffix) else f"{path}{told.suffix}")

    def _lay_out(self) -> None:
        where = QHBoxLayout()
        where.addWidget(self.target)
        where.addWidget(self.browse)
        self.target.setPlaceholderText("file or folder to write")
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for label, part in (("Labels", self.layers), ("Format", self.format), ("Save to", where), ("", self.overwrite)):
            form.addRow(label, part)
        outer = QVBoxLayout(self)
        outer.addLayout(form)
        for part in (self.lost, self.complaint, self.buttons):
            outer.addWidget(part)
