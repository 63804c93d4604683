"""Editors that know more than their field's type: which models there are, which channels an image has, which layers are open."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from napari.layers import Image as ImageLayer
from napari.layers import Layer
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QFont
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QHeaderView, QTreeWidget, QWidget

from napari_segsuite.types import ModelSpec
from napari_segsuite.viewer.catalogue import catalogue, grouped, origin
from napari_segsuite.viewer.layers import BESIDE, OURS, axes_choices, guess_axes

AUTO = "auto"
FOLDER = "Choose a folder..."
TOOLTIP = Qt.ItemDataRole.ToolTipRole
WORDS = {"t": "time", "c": "channels", "z": "z-stack"}


class ModelPicker(QComboBox):
    """The models that are listed, under headings by what they answer with, and any folder with a model in it.

    Attributes
    ----------
    instead : str
        What to say of a chosen model that is gone; nothing as soon as somebody chooses.
    """

    changed = Signal()

    def __init__(self, specs: Sequence[ModelSpec]) -> None:
        super().__init__()
        narrow(self)
        self._listed: tuple[str, ...] = ()
        self._before = self.instead = ""
        self.fill(specs)
        self.activated.connect(self._chosen)

    def fill(self, specs: Sequence[ModelSpec]) -> None:
        """Offer these; a chosen one that was listed and is no more gives way to the first, and a folder stays."""
        before, gone = self._before, self._before in self._listed and self._before not in [spec.name for spec in specs]
        groups = grouped(specs)
        self._listed = tuple(spec.name for _, group in groups for spec in group)
        self.blockSignals(True)
        self.clear()
        for title, group in groups:
            self._head(title)
            for spec in group:
                self.addItem(spec.name)
                self.setItemData(self.count() - 1, f"<p>{escape(spec.description)}</p><p>{origin(spec.name).capitalize()}.</p>", TOOLTIP)
        self._head("Others")
        self.addItem(FOLDER)
        self.blockSignals(False)
        if wanted := "".join(self._listed[:1]) if gone or not self._before else self._before:
            self.set_value(wanted)
        if gone:
            self.instead = f"Model {before!r} is no longer there: {self.value()!r} is chosen in its place."

    def value(self) -> str:
        return self._before

    def set_value(self, value: str) -> None:
        if self.findText(value) < 0:
            self.insertItem(self.count() - 1, value)
        self.setCurrentText(value)
        if value != self._before:
            self._before, self.instead = value, ""
            self.changed.emit()

    def showPopup(self) -> None:
        """See whether models were added beside napari before the list opens."""
        catalogue.look()
        super().showPopup()

    def _head(self, title: str) -> None:
        """A line that cannot be chosen."""
        self.addItem(title)
        item = self.model().item(self.count() - 1)
        item.setFlags(Qt.ItemFlag.NoItemFlags)
        item.setFont(bold(item.font()))

    def _chosen(self, _: int) -> None:
        chosen = self.currentText()
        if chosen == FOLDER:
            chosen = QFileDialog.getExistingDirectory(self, "Folder with model.json and weights.safetensors") or self._before
        self.instead = ""
        self.set_value(chosen)


class AxesPicker(QComboBox):
    """What the axes of a layer can be."""

    def __init__(self) -> None:
        super().__init__()
        narrow(self)
        self.setToolTip("<p>What the axes of the layer are, in its own order; y and x are the last two.</p>")

    def value(self) -> str:
        """One letter per axis of the layer; nothing without a layer."""
        return str(self.currentData() or "")

    def follow(self, layer: Layer | None) -> None:
        """Offer what the axes of another layer can be; nobody is told."""
        self.blockSignals(True)
        self.clear()
        for axes in axes_choices(layer.ndim) if layer is not None else ():
            leading = " + ".join(WORDS[a] for a in axes[:-2])
            self.addItem(f"{leading or 'image'} ({axes})", axes)
        if layer is not None and self.count():
            self.setCurrentIndex(max(0, self.findData(guess_axes(layer))))
        self.blockSignals(False)


class ChannelPicker(QWidget):
    """A box per channel that the model wants, each with the channels that the image has; ``auto`` leaves it to the model."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._boxes: list[QComboBox] = []
        self._names: tuple[str, ...] = ()
        self._wanted = 1
        self._grow(1)

    def value(self) -> tuple[str, ...]:
        return tuple(str(box.currentData()) for box in self._boxes if box.currentData() is not None)

    def set_value(self, value: Sequence[str]) -> None:
        self._grow(max(self._wanted, len(value)))
        for box, name in zip(self._boxes, [*value, *[None] * len(self._boxes)], strict=False):
            if name is not None and box.findData(name) < 0:
                box.addItem(name, name)
            box.setCurrentIndex(0 if name is None else box.findData(name))

    def set_choices(self, names: Sequence[str], wanted: int) -> None:
        """Offer the channels of another image; a choice is kept where the image has it."""
        if (tuple(names), wanted) == (self._names, self._wanted):
            return
        kept = [c if c in names else None for c in (box.currentData() for box in self._boxes)]
        self._names, self._wanted = tuple(names), wanted
        self._grow(wanted)
        for box, chosen in zip(self._boxes, [*kept, *[None] * wanted], strict=False):
            box.blockSignals(True)
            box.clear()
            for name in (None, *names):
                box.addItem(AUTO if name is None else name, name)
            box.setCurrentIndex(box.findData(chosen) if chosen is not None else 0)
            box.blockSignals(False)
        self.changed.emit()

    def _grow(self, wanted: int) -> None:
        while len(self._boxes) > wanted:
            self._boxes.pop().deleteLater()
        while len(self._boxes) < wanted:
            box = QComboBox()
            for name in (None, *self._names):
                box.addItem(AUTO if name is None else name, name)
            box.currentIndexChanged.connect(lambda _: self.changed.emit())
            box.setToolTip(self.toolTip())
            narrow(box)
            self.layout().addWidget(box)
            self._boxes.append(box)


class LayerPicker(QComboBox):
    """The image layers of a viewer, followed as they come, go and change their names; it holds layers, not names.

    Parameters
    ----------
    layers : napari.components.LayerList
    """

    changed = Signal()

    def __init__(self, layers: Any) -> None:
        super().__init__()
        self.setAccessibleName("Image layer")
        narrow(self)
        self._layers = layers
        self._shown: list[Layer] = []
        self._current: Layer | None = None
        self._links = [layers.events.inserted, layers.events.removed, layers.events.reordered]
        for event in self._links:
            event.connect(self.refresh)
        self.activated.connect(self._chosen)
        self.refresh()

    def value(self) -> Layer | None:
        """The chosen layer."""
        return self._current

    def set_value(self, layer: Layer | None) -> None:
        """Choose a layer."""
        if layer is not None and layer in self._shown:
            self.setCurrentIndex(self._shown.index(layer))
        if layer is not self._current:
            self._current = layer
            self.changed.emit()

    def refresh(self, event: Any = None) -> None:
        """Look at the viewer again."""
        now = [layer for layer in (plain(x) for x in self._layers) if isinstance(layer, ImageLayer) and BESIDE not in layer.metadata.get(OURS, {})]
        for layer in self._shown:
            if layer not in now:
                layer.events.name.disconnect(self._renamed)
        for layer in now:
            if layer not in self._shown:
                layer.events.name.connect(self._renamed)
        self._shown = now
        self._renamed()
        active = plain(self._layers.selection.active)
        fallback = active if active in now else (now[-1] if now else None)
        self.set_value(self._current if self._current in now else fallback)

    def close_links(self) -> None:
        """Let go of the viewer and its images; its events would otherwise reach a deleted widget. Calls nothing of Qt."""
        for event in self._links:
            event.disconnect(self.refresh)
        for layer in self._shown:
            layer.events.name.disconnect(self._renamed)
        self._links, self._shown, self._layers, self._current = [], [], [], None

    def _renamed(self, event: Any = None) -> None:
        self.blockSignals(True)
        self.clear()
        for layer in self._shown:
            self.addItem(layer.name)
            self.setItemData(self.count() - 1, f"<p>{escape(layer.name)}</p>", TOOLTIP)
        if self._current in self._shown:
            self.setCurrentIndex(self._shown.index(self._current))
        self.blockSignals(False)

    def _chosen(self, index: int) -> None:
        self.set_value(self._shown[index])


def plain(thing: Any) -> Any:
    """The object itself where napari hands a plugin a proxy: only the same object compares as the same layer."""
    return getattr(thing, "__wrapped__", thing)


def bold(font: QFont) -> QFont:
    """The same font, bold: for headings."""
    font.setBold(True)
    return font


def italic(font: QFont) -> QFont:
    """The same font, italic: for what is told beside a name."""
    font.setItalic(True)
    return font


def narrow(box: QComboBox) -> None:
    """Let a box be narrower than its longest entry, which would widen the dock."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)


def one_line(tree: QTreeWidget) -> None:
    """Give the first of two columns all room that the second leaves, with an ellipsis in what is longer than that."""
    head = tree.header()
    head.setStretchLastSection(False)
    head.setMinimumSectionSize(24)
    for column, mode in enumerate((QHeaderView.ResizeMode.Stretch, QHeaderView.ResizeMode.ResizeToContents)):
        head.setSectionResizeMode(column, mode)
    tree.setTextElideMode(Qt.TextElideMode.ElideMiddle)
    tree.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
