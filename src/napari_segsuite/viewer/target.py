"""Where to save: in memory as a layer, or in a store on disk that the result grows in."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QToolButton, QWidget

from napari_segsuite.engine.plan import Plan
from napari_segsuite.types import Image, ModelSpec
from napari_segsuite.viewer import stores
from napari_segsuite.viewer.pickers import narrow

MEMORY = "memory only"
HELP = (
    "An OME-Zarr store that the result grows in, in little memory: it can be stopped and gone on with, and larger than this computer's "
    "memory. A store of its own (NAME.ome.zarr), or STORE/labels/NAME inside the image's. Empty: the result is made in memory."
)


class TargetPicker(QWidget):
    """A path to type, to choose among what is offered, or to look for; empty for memory.

    Until somebody chooses, it follows what suits the image.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.auto = True
        self.done, self.total = 0, 0
        self._offered: list[Path] = []
        self.box, self.browse = QComboBox(), QToolButton()
        self.box.setEditable(True)
        self.box.setCompleter(None)
        self.box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.box.setAccessibleName("Save to")
        self.box.lineEdit().setPlaceholderText(MEMORY)
        narrow(self.box)
        self.browse.setText("...")
        self.browse.setToolTip("<p>Choose a folder and a name.</p>")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.box, 1)
        layout.addWidget(self.browse)
        self.box.activated.connect(self._picked)
        self.box.lineEdit().textChanged.connect(self._typed)
        self.browse.clicked.connect(self._browse)
        self._list()
        self._show(None)

    def value(self) -> Path | None:
        """The chosen path."""
        text = self.box.currentText().strip()
        return Path(text).expanduser().absolute() if text else None

    def set_value(self, path: Path | None) -> None:
        """Choose a path, or memory."""
        self.auto = False
        self._show(path)
        self.changed.emit()

    def follow(self) -> None:
        """Choose what suits the image again."""
        self.auto = True

    def settle(self, plan: Plan, image: Image, spec: ModelSpec) -> tuple[Path | None, str]:
        """The path for a plan's result, and what is good to know about it.

        Raises
        ------
        OutputError
            It cannot be written there.
        """
        offered, self.done, self.total = stores.offers(image, spec), 0, 0
        large = stores.voxels(image) > stores.LARGE_VOXELS
        if offered != self._offered:
            self._offered = offered
            self._list()
        if self.auto:
            wanted = stores.begun(offered, plan, spec) or (offered[0] if offered and large else None)
            self._show(stores.free(wanted, plan, spec) if wanted is not None else None)
        path = self.value()
        if path is None:
            told = "A result of this size may not fit in memory: choose a store under Save to, which it grows in on disk." if large else ""
            return None, told
        self.done, self.total = stores.examine(path, plan, spec)
        return path, f"Goes on where it stopped: {self.done} of {self.total} chunks are done." if self.total else ""

    def _show(self, path: Path | None) -> None:
        text = str(path or "")
        if text != self.box.currentText() or not text:
            self.box.blockSignals(True)
            self.box.lineEdit().blockSignals(True)
            self.box.setEditText(text)
            self.box.lineEdit().blockSignals(False)
            self.box.blockSignals(False)
        self._tell()

    def _tell(self) -> None:
        text = self.box.currentText()
        self.box.setToolTip(f"<p>{text}</p><p>{HELP}</p>" if text else f"<p>{HELP}</p>")

    def _list(self) -> None:
        text = self.box.currentText() if self.box.count() else ""
        self.box.blockSignals(True)
        self.box.lineEdit().blockSignals(True)
        self.box.clear()
        self.box.addItem(MEMORY)
        for path in self._offered:
            self.box.addItem(str(path))
            self.box.setItemData(self.box.count() - 1, str(path), 3)  # Qt.ToolTipRole
        self.box.setEditText(text)
        self.box.lineEdit().blockSignals(False)
        self.box.blockSignals(False)

    def _picked(self, index: int) -> None:
        self.set_value(self._offered[index - 1] if index else None)

    def _typed(self, _: str) -> None:
        self.auto = False
        self._tell()
        self.changed.emit()

    def _browse(self) -> None:
        start = self.value() or (self._offered[0] if self._offered else Path.home() / "labels.ome.zarr")
        ask = QFileDialog.Option.DontConfirmOverwrite
        chosen, _ = QFileDialog.getSaveFileName(self, "Store for the result", str(start), "OME-Zarr (*.ome.zarr)", options=ask)
        if chosen:
            path = Path(chosen)
            self.set_value(path if path.suffix.lower() == ".zarr" else path.with_name(f"{path.name}.ome.zarr"))
