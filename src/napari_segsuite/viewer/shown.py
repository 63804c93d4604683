"""The results that a dock has put into its viewer, and what can be done with the latest: look at its table, save it."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from napari.utils.notifications import show_error

from napari_segsuite.errors import SegsuiteError
from napari_segsuite.types import Segmentation
from napari_segsuite.viewer.results import fingerprint, to_layer
from napari_segsuite.viewer.words import in_form


class Shown:
    """The results that a dock has put into its viewer, and what can be done with the latest.

    Parameters
    ----------
    viewer : napari.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._made: list[tuple[weakref.ref[Layer], str, weakref.ref[Labels], tuple[int, int]]] = []
        self._latest: weakref.ref[Labels] | None = None

    def show(
        self,
        segmentation: Segmentation,
        layer: Layer,
        axes: str,
        model: str,
        *,
        replace: bool,
        levels: Sequence[Any] = (),
        into: Labels | None = None,
    ) -> str:
        """Add a result as a new layer; what to tell the user besides, in a sentence or nothing.

        Parameters
        ----------
        segmentation, layer, axes, levels
            See `to_layer`.
        model : str
        replace : bool
            The previous result of the same model for the same layer goes, unless somebody edited it.
        into : napari.layers.Labels, optional
            A layer that has shown the result while it grew and shows it from now on.
        """
        data, meta, _ = to_layer(segmentation, layer, axes, levels)
        told, old = self._previous(layer, model) if replace else ("", None)
        at = self._viewer.layers.index(old) if old is not None else None
        if old is not None:
            self._viewer.layers.remove(old)
        if into is not None:
            new = into
            into.data = data
            for name in meta.keys() - {"multiscale"}:
                setattr(into, name, meta[name])
        else:
            new = self._viewer.add_labels(data, **meta)
        if levels and not isinstance(levels[0], np.ndarray):
            new.editable = False
        if at is not None and into is None:
            self._viewer.layers.move(len(self._viewer.layers) - 1, at)
        self._made.append((weakref.ref(layer), model, weakref.ref(new), fingerprint(new)))
        self._latest = weakref.ref(new)
        return told

    def latest(self) -> Labels | None:
        """The newest result that is still in the viewer."""
        layer = self._latest() if self._latest is not None else None
        return layer if layer is not None and layer in self._viewer.layers else None

    def open_table(self) -> None:
        """Open napari's table of features on the latest result, below the image, where there is room for its columns."""
        from qtpy.QtCore import Qt

        if (layer := self.latest()) is not None:
            self._viewer.layers.selection = {layer}
        dock, _ = self._viewer.window.add_plugin_dock_widget("napari", "Features table widget")
        if dock.property("segsuite-moved") is None and not dock.isFloating():
            dock.setProperty("segsuite-moved", True)
            dock.parent().addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, dock)
        dock.show()

    def save(self, parent: Any) -> None:
        """Ask where to, and write the latest result as File > Save does."""
        from qtpy.QtWidgets import QFileDialog

        if (layer := self.latest()) is None:
            show_error("There is no result to save: it is no longer in the viewer.")
            return
        path, _ = QFileDialog.getSaveFileName(parent, "Save labels", f"{layer.name}.ome.zarr", "OME-Zarr (*.ome.zarr);;TIFF (*.tif)")
        if not path:
            return
        self._viewer.layers.selection = {layer}
        try:
            self._viewer.layers.save(path, selected=True, plugin="napari-segsuite")
        except SegsuiteError as error:
            show_error(in_form(str(error)))

    def export(self, parent: Any) -> None:
        """Open the dialog that writes Labels layers for other programs, with the latest result chosen."""
        from napari_segsuite.viewer.export import ExportDialog

        layers = [layer for layer in self._viewer.layers if isinstance(layer, Labels)]
        if not layers:
            show_error("There are no labels to export: segment an image, or open labels.")
            return
        ExportDialog(layers, self.latest() or layers[-1], parent).open()

    def _previous(self, layer: Layer, model: str) -> tuple[str, Labels | None]:
        for image, name, labels, before in reversed(self._made):
            old = labels()
            if image() is layer and name == model and old is not None and old in self._viewer.layers:
                return ("", old) if fingerprint(old) == before else (f"{old.name!r} was edited and is kept.", None)
        return "", None
