"""What the Prompts dock shows: image, model, tools, buttons, and where objects go."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from napari.layers import Labels
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_segsuite.engine.progress import Progress
from napari_segsuite.errors import SegsuiteError
from napari_segsuite.models import load_spec
from napari_segsuite.models.prompts import BACKENDS
from napari_segsuite.viewer.clicks import BACKGROUND, BOX, OBJECT
from napari_segsuite.viewer.panel import Column, quiet_label
from napari_segsuite.viewer.pickers import LayerPicker, narrow

NEW = "new layer"
LIGHT = "Grows from the click until the border is sharpest. Needs no weights; 2D and 3D."
HINTS = {
    "": "Choose what the mouse says, then click in the image.",
    OBJECT: "Click on an object. More clicks on it say more; T changes to its background.",
    BACKGROUND: "Click on what does not belong to the object. T changes back.",
    BOX: "Draw a box around an object with the mouse.",
}


class PromptsPanel(QObject):
    """Only shows; the dock decides.

    Parameters
    ----------
    layer : LayerPicker
    why_not : callable
        Why a Labels layer cannot take objects; nothing if it can.
    """

    changed = Signal()
    used = Signal(str)

    def __init__(self, layer: LayerPicker, why_not: Callable[[Labels], str]) -> None:
        super().__init__()
        self._why_not = why_not
        self.layer, self.models, self.targets = layer, QComboBox(), QComboBox()
        self._layers: list[Labels] = []
        self._of: tuple[weakref.ref[Labels], str] | None = None
        for box in (self.models, self.targets):
            narrow(box)
        self.card, self.hints, self.status = quiet_label(), quiet_label(), quiet_label()
        self.volume = QCheckBox("Bodies in 3D")
        self.volume.setToolTip("<p>Find the object in the slices above and below as well, rather than in this slice alone.</p>")
        self.tools = {OBJECT: QPushButton("Object"), BACKGROUND: QPushButton("Background"), BOX: QPushButton("Box")}
        for name, button in self.tools.items():
            button.setCheckable(True)
            button.setToolTip(f"<p>{HINTS[name]}</p>")
            button.clicked.connect(lambda _, name=name: self.used.emit(name))
        self.accept, self.following = QPushButton("Accept"), QPushButton("Other answer")
        self.undo, self.clear = QPushButton("Undo"), QPushButton("Clear")
        self.accept.setToolTip("<p>Put the outlined object into the Labels layer (Enter).</p>")
        self.following.setToolTip("<p>Where several objects may be meant, outline the next one (N).</p>")
        self.undo.setToolTip("<p>Take the last accepted object out again; what was there comes back.</p>")
        self.clear.setToolTip("<p>Forget these points and this box (Escape); those in other slices stay.</p>")
        self.over = QCheckBox("Paint over other objects")
        self.over.setToolTip("<p>Otherwise a new object only gets what belongs to none yet.</p>")
        self.models.currentIndexChanged.connect(self._model_changed)
        self.volume.toggled.connect(self.changed)
        self.hint("")

    def lay_into(self, dock: QWidget) -> None:
        """Put everything into a dock."""
        inner = QWidget()
        inside = QVBoxLayout(inner)
        inside.setContentsMargins(6, 6, 6, 6)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Image", self.layer)
        form.addRow("Model", self.models)
        form.addRow(self.card)
        form.addRow("", self.volume)
        form.addRow("Objects to", self.targets)
        inside.addLayout(form)
        for widgets in (tuple(self.tools.values()), (self.accept, self.following), (self.undo, self.clear)):
            row = QHBoxLayout()
            for widget in widgets:
                row.addWidget(widget)
            inside.addLayout(row)
            if widgets[0] is self.tools[OBJECT]:
                inside.addWidget(self.hints)
        inside.addWidget(self.over)
        inside.addWidget(self.status)
        inside.addStretch(1)
        outer = QVBoxLayout(dock)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Column(inner))

    def fill(self, names: Sequence[str]) -> str:
        """Offer these models; the chosen one stays, where it is there. Else its name is returned."""
        before = self.model()
        self.models.blockSignals(True)
        self.models.clear()
        self.models.addItems(list(names))
        self.models.setCurrentIndex(max(self.models.findText(before), 0))
        self.models.blockSignals(False)
        self._tell()
        return before if before not in names else ""

    def model(self) -> str:
        """The chosen model."""
        return str(self.models.currentText())

    def offer(self, layers: Sequence[Labels]) -> None:
        """Offer the Labels layers that fit; the chosen one stays, where it is there."""
        before = self.target()
        self._layers = [layer for layer in layers if not self._why_not(layer)]
        self.targets.blockSignals(True)
        self.targets.clear()
        self.targets.addItems([NEW, *(layer.name for layer in self._layers)])
        for k, layer in enumerate(self._layers, 1):
            self.targets.setItemData(k, f"<p>{escape(layer.name)}</p>", Qt.ItemDataRole.ToolTipRole)
        self.targets.blockSignals(False)
        self.choose(before)
        if self._of is not None and self._of not in [(weakref.ref(layer), layer.name) for layer in self._layers]:
            self.say("")

    def target(self) -> Labels | None:
        """The layer that objects go to; None for a new one."""
        at = self.targets.currentIndex() - 1
        return self._layers[at] if 0 <= at < len(self._layers) else None

    def choose(self, layer: Labels | None) -> None:
        """Choose a layer that objects go to."""
        found = [k for k, one in enumerate(self._layers) if one is layer]
        self.targets.setCurrentIndex(found[0] + 1 if found else 0)

    def tool(self, name: str) -> None:
        """Show what the mouse says now."""
        for other, button in self.tools.items():
            button.setChecked(other == name)

    def hint(self, tool: str) -> None:
        """Say what to do."""
        self.hints.setText(HINTS[tool])

    def say(self, text: str, *, bad: bool = False, of: Labels | None = None) -> None:
        """Say what has happened, or what does not fit; of a layer, as long as it is offered and keeps its name."""
        self._of = (weakref.ref(of), of.name) if of is not None else None
        self.status.setText(text)
        self.status.warn(bad)

    def forget_complaint(self) -> None:
        """Take back what did not fit: something has changed since then."""
        if self.status.bad:
            self.say("")

    def busy(self, text: str) -> None:
        """Say what is being waited for; nothing when that is over."""
        if text:
            self.say(text)

    def progress(self, progress: Progress) -> None:
        """Say what a model is doing."""
        self.busy(f"{progress.message[:1].upper()}{progress.message[1:]}...")

    def allow(self, *, accept: bool, following: bool, undo: bool) -> None:
        """Enable what can be done now."""
        for button, on in ((self.accept, accept), (self.following, following), (self.undo, undo)):
            button.setEnabled(on)

    def allow_volume(self, possible: bool) -> None:
        """Offer bodies where the image and the model have them."""
        if not possible:
            self.volume.setChecked(False)
        self.volume.setVisible(possible)

    def _model_changed(self) -> None:
        self._tell()
        self.changed.emit()

    def _tell(self) -> None:
        """Say what the model is."""
        name = self.model()
        try:
            text = LIGHT if name in BACKENDS else load_spec(name).description if name else ""
        except SegsuiteError as error:
            text = str(error)
        self.card.setText(f"<i>{escape(text)}</i>")


def called(function: Callable[[], None], *_: Any) -> None:
    """Call without what a signal brings along."""
    function()
