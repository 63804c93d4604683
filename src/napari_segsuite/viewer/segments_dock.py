"""The Segments dock: the classes of a result, which segments are shown and in what colours, and corrections of their classes."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import numpy as np
from napari.layers import Labels
from napari.utils.notifications import show_info
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog, QInputDialog, QTreeWidgetItem, QWidget

from napari_segsuite.errors import SegsuiteError
from napari_segsuite.tracking import track
from napari_segsuite.viewer.closing import when_gone
from napari_segsuite.viewer.layers import guess_axes
from napari_segsuite.viewer.links import Links
from napari_segsuite.viewer.pickers import plain
from napari_segsuite.viewer.results import as_placed, from_segmentation, segmentation_of
from napari_segsuite.viewer.segments import ClassEdit, Segments, tracked_layers, update
from napari_segsuite.viewer.segments_view import SegmentsView, Wishes
from napari_segsuite.viewer.view import look_at
from napari_segsuite.viewer.words import telling

ORDERS = {"number": "index", "score, lowest first": "score", "size, smallest first": "size"}


class SegmentsDock(QWidget):
    """Plugins > Segsuite > Segments; napari hands its viewer over."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = plain(napari_viewer)
        self._layer: weakref.ref[Labels] | None = None
        self._own: weakref.WeakKeyDictionary[Labels, Any] = weakref.WeakKeyDictionary()
        self._done: weakref.WeakKeyDictionary[Labels, list[ClassEdit]] = weakref.WeakKeyDictionary()
        self._wishes: weakref.WeakKeyDictionary[Labels, Wishes] = weakref.WeakKeyDictionary()
        self._below: weakref.WeakKeyDictionary[Labels, int] = weakref.WeakKeyDictionary()
        self._painted: weakref.WeakSet[Labels] = weakref.WeakSet()  # those whose tables do not know all that was painted
        self._links = Links()
        self._marked = -1
        self.view = SegmentsView(self, list(ORDERS))
        self._connect()
        self._follow()

    @property
    def layer(self) -> Labels | None:
        """The Labels layer that the dock is about: the last one that was selected and is still there."""
        layer = self._layer() if self._layer is not None else None
        return layer if layer is not None and layer in self._viewer.layers else None

    @telling
    def refresh(self) -> None:
        """Read the layer's table again and show what it says."""
        segments = self._segments()
        self.view.over_time(self._time())
        self.view.allow(table=segments is not None, layer=self.layer is not None, undo=bool(self._edits()))
        self._list(segments)
        self._show_selected()

    @telling
    def recolor(self) -> None:
        """Show what the filters leave, in the colours that are asked for."""
        segments = self._segments()
        if segments is None:
            return
        layer = segments.layer
        shown = segments.shown(*self.view.filters())
        self._own.setdefault(layer, layer.colormap)
        layer.colormap = segments.colors(
            shown,
            by_class=self.view.by_class.isChecked(),
            own=self._own[layer],
            marked=layer.selected_label if self.view.marks(len(segments.ids)) else 0,
        )
        self._say(segments)

    @telling
    def change(self) -> None:
        """Give the selected segment the class that is chosen."""
        if (segments := self._segments()) is not None:
            self._apply(segments, segments.correction([segments.layer.selected_label], self.view.chosen()))

    @telling
    def change_shown(self) -> None:
        """Give all segments that are shown the class that is chosen."""
        if (segments := self._segments()) is not None:
            self._apply(segments, segments.correction(segments.shown(*self.view.filters()).tolist(), self.view.chosen()))

    @telling
    def undo(self) -> None:
        """Take the last correction of classes back, of segments that are still there."""
        if (segments := self._segments()) is not None and (edits := self._edits()):
            self._write(segments, edits.pop().inverse.only(set(segments.ids.tolist())))

    @telling
    def step(self) -> None:
        """Go to the next segment in the chosen order, of those that are shown."""
        self._go(+1)

    @telling
    def step_back(self) -> None:
        """Go to the one before."""
        self._go(-1)

    @telling
    def copy(self) -> None:
        """Copy what is shown into a layer of its own."""
        segments = self._segments()
        if segments is None:
            return
        layer, shown = segments.layer, segments.shown(*self.view.filters())
        data, meta, _ = from_segmentation(segments.only(shown))
        self._viewer.add_labels(data, **{**meta, **as_placed(layer, list(range(layer.ndim))), "name": f"{layer.name} part"})
        show_info(f"{len(shown)} segments were copied.")

    @telling
    def track(self) -> None:
        """Number the objects by which is which over time, in a layer of its own, with their tracks."""
        segments = self._segments()
        if segments is None:
            return
        data, meta, _ = segments.layer.as_layer_data_tuple()
        step, gap, divisions = self.view.step.value() or None, self.view.gap.value(), self.view.divisions.isChecked()
        tracked, tracks = track(segmentation_of(data, meta), max_distance=step, max_gap=gap, divisions=divisions)
        for layer in tracked_layers(tracked, tracks, segments.layer):
            self._viewer.add_layer(layer)
        show_info(f"{len(tracked.segments['id'])} objects over time.")

    @telling
    def update_table(self) -> None:
        """Make the table anew, after painting or for labels without one."""
        if (layer := self.layer) is not None:
            self._below[layer] = update(layer)
            there = set(Segments(layer).ids.tolist())
            self._done[layer] = [edit for edit in self._edits() if edit.only(there).ids]
            self._seen()

    @telling
    def add_class(self) -> None:
        """Ask for a name and note a new class."""
        segments = self._segments()
        if segments is None:
            return
        name, wanted = QInputDialog.getText(self, "Segsuite", "Name of the new class of objects")
        if wanted:
            added = segments.add_class(name)
            self._seen()
            self.view.choose(added.id)

    def pick_color(self, item: QTreeWidgetItem) -> None:
        """Ask for another colour of a class."""
        segments = self._segments()
        if segments is None:
            return
        this = next((c for c in segments.classes if c.id == item.data(0, Qt.ItemDataRole.UserRole)), None)
        if this is None:
            return
        color = QColorDialog.getColor(QColor(*this.color), self, f"Colour of {this.name}")
        if color.isValid():
            segments.change_class(replace(this, color=(color.red(), color.green(), color.blue())))
            self._seen()

    def _apply(self, segments: Segments, edit: ClassEdit) -> None:
        if edit.ids:
            self._edits().append(edit)
            self._write(segments, edit)
        many = f"{len(edit.ids)} segment{'s' * (len(edit.ids) != 1)} changed."
        show_info(many if edit.ids else "Nothing changed: the class was this one already.")

    def _write(self, segments: Segments, edit: ClassEdit) -> None:
        painted = segments.layer in self._painted
        segments.apply(edit)
        if painted:  # which a correction of classes does not measure
            self._painted.add(segments.layer)
        self._seen()

    def _seen(self) -> None:
        self.refresh()
        self.recolor()

    def _edits(self) -> list[ClassEdit]:
        layer = self.layer
        return self._done.setdefault(layer, []) if layer is not None else []

    def _segments(self) -> Segments | None:
        """The table of the layer, if it has one; else the dock says why not."""
        layer = self.layer
        if layer is None:
            self.view.explain("Select a Labels layer.")
            return None
        try:
            segments = Segments(layer)
        except SegsuiteError as error:
            self.view.explain(str(error))
            return None
        self.view.explain("", layer.name)
        return segments

    def _time(self) -> str | None:
        """The unit of lengths in the layer, if it has an axis of time."""
        layer = self.layer
        if layer is None or "t" not in guess_axes(layer):
            return None
        return str(layer.units[-1])

    def _list(self, segments: Segments | None) -> None:
        counts = segments.counts() if segments is not None else {}
        self.view.classes(segments.classes if segments is not None else (), counts)
        if segments is not None:
            self._say(segments)

    def _say(self, segments: Segments) -> None:
        below = self._below.get(segments.layer, 0)
        left_out = f" {below:,} voxels have numbers below 0, which are no segments, and are left out." if below else ""
        painted = " The labels were painted on since they were measured: press 'Update table'." if segments.layer in self._painted else ""
        self.view.say(f"{segments.counted(*self.view.filters())}{left_out}{painted}")

    def _was_painted(self, *_: Any) -> None:
        if (layer := self.layer) is not None:
            self._painted.add(layer)
            self.refresh()

    def _was_measured(self, *_: Any) -> None:
        if (layer := self.layer) is not None:
            self._painted.discard(layer)
        self.refresh()

    def _show_selected(self, *_: Any) -> None:
        segments = self._segments()
        if segments is not None:
            number = int(segments.layer.selected_label)
            self.view.selected(number, segments.row(number))
            if self.view.marks(len(segments.ids)) and number != self._marked:
                self._marked = number  # first, since a new colormap tells of the selected label once more
                self.recolor()

    def _go(self, step: int) -> None:
        segments = self._segments()
        if segments is None:
            return
        shown = segments.shown(*self.view.filters())
        by = segments.column(ORDERS[self.view.order.currentText()])
        listed = segments.ids[np.lexsort((segments.ids, by))]
        listed = listed[np.isin(listed, segments.objects) & np.isin(listed, shown)]
        if not len(listed):
            return
        at = np.flatnonzero(listed == segments.layer.selected_label)
        # Until one of them is selected, the first or the last is next.
        place = (int(at[0]) + step) % len(listed) if len(at) else (0 if step > 0 else -1)
        segments.layer.selected_label = number = int(listed[place])
        row, axes = segments.row(number), guess_axes(segments.layer)
        if row is not None and all(f"centroid_{a}" in row for a in axes):
            look_at(self._viewer, segments.layer, [row[f"centroid_{a}"] for a in axes])

    def _follow(self, *_: Any) -> None:
        """Turn to the Labels layer that was selected."""
        active = self._viewer.layers.selection.active
        if isinstance(active, Labels) and active is not self.layer:
            if (before := self.layer) is not None:
                self._wishes[before] = self.view.wishes()
                self._links.leave(self._show_selected, before.events.selected_label)
                self._links.leave(self._was_measured, before.events.features)
                self._links.leave(self._was_painted, before.events.paint)
                self._links.leave(self.refresh, before.events.name)
            self._layer, self._marked = weakref.ref(active), int(active.selected_label)
            self._links.hear(self._show_selected, active.events.selected_label)
            self._links.hear(self._was_measured, active.events.features)
            self._links.hear(self._was_painted, active.events.paint)
            self._links.hear(self.refresh, active.events.name)
            segments = self._segments()
            told = (segments.classes, segments.counts()) if segments is not None else ((), {})
            self.view.ask(self._wishes.get(active), *told)
        self.refresh()

    def _connect(self) -> None:
        view = self.view
        for button, slot in (
            (view.change, self.change), (view.change_all, self.change_shown), (view.undo, self.undo), (view.next, self.step),
            (view.previous, self.step_back), (view.track, self.track), (view.copy, self.copy), (view.update_table, self.update_table),
            (view.add, self.add_class),
        ):  # fmt: skip
            button.clicked.connect(slot)
        view.list.itemChanged.connect(self.recolor)
        view.list.itemDoubleClicked.connect(self.pick_color)
        view.by_class.toggled.connect(self.recolor)
        view.mark.toggled.connect(self.recolor)
        view.score.valueChanged.connect(self.recolor)
        view.size.valueChanged.connect(self.recolor)
        self._links.hear(self._follow, self._viewer.layers.selection.events.active, self._viewer.layers.events.removed)
        when_gone(self, self._links.close)
