"""Tries side by side: napari's grid with each try on the image that it is of, rather than on nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari.layers import Layer

from napari_segsuite.viewer.layers import BESIDE, OURS
from napari_segsuite.viewer.view import view_size, views

ALIKE = ("contrast_limits", "gamma", "colormap", "interpolation2d")
"""What the copies of an image have in common with it, whoever changes it."""

LETTER, MARGIN = 1.0, 20.0
"""Width of a letter in pixels of the canvas, per point of its size, and of what is left free beside the text."""
SMALLEST_PT = 5.0
"""A smaller text cannot be read."""


class Beside:
    """The grid of a viewer, in whose views lie an image and a try on it.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self.grid = getattr(viewer, "canvas", viewer).grid  # `viewer.grid` before napari 0.9
        self._copies: list[Layer] = []
        self._order: list[Layer] = []
        self._named: list[tuple[Layer, float]] = []

    def switch(self, on: bool, image: Layer | None, tries: Sequence[Layer]) -> None:
        """Switch the grid, and zoom so that each of its views shows as much as the one did."""
        camera = getattr(self._viewer, "scene", self._viewer).camera
        before = views(self._viewer)
        self.part()
        if on and image is not None and image in self._viewer.layers and image.visible and len(tries) > 1:
            self._pair(image, tries)
        self.grid.enabled = on
        camera.zoom *= max(before) / max(views(self._viewer))
        if on:
            self._name(tries)

    def part(self) -> None:
        """Take the copies of the image and the names of the tries away, and put the layers back in their order."""
        layers = self._viewer.layers
        for layer, size in self._named:
            layer.name_overlay.visible, layer.name_overlay.font_size = False, size
        self._named = []
        copies, order, self._copies, self._order = self._copies, self._order, [], []
        for layer in (layer for layer in copies if layer in layers):
            layers.unlink_layers([layer])
            layers.remove(layer)
        for k, layer in enumerate([layer for layer in order if layer in layers]):
            layers.move(layers.index(layer), k)
        if copies:
            self.grid.stride = 1

    def _name(self, tries: Sequence[Layer]) -> None:
        """Write into its view what each try is called, which is its model and settings, as small as it must be to fit."""
        width, longest = view_size(self._viewer)[1] - MARGIN, max((len(layer.name) for layer in tries), default=1)
        for layer in tries:
            overlay = layer.name_overlay
            if not overlay.visible:
                self._named.append((layer, overlay.font_size))
                overlay.font_size = min(overlay.font_size, max(SMALLEST_PT, width / longest / LETTER))
                overlay.visible = True

    def _pair(self, image: Layer, tries: Sequence[Layer]) -> None:
        """Put the image, or a copy of it, right below each try; the grid shows two layers per view, from the lowest on."""
        layers, active = self._viewer.layers, self._viewer.layers.selection.active
        self._order = list(layers)
        # Hidden ones too: napari counts them, though it shows no view in which all are hidden.
        others = [layer for layer in layers if layer is not image and not any(layer is one for one in tries)]
        data, meta, _ = image.as_layer_data_tuple()
        noted = {**meta["metadata"], OURS: {**meta["metadata"].get(OURS, {}), BESIDE: True}}
        self._copies = [
            type(image)(data, **{**meta, "metadata": noted, "name": f"{image.name} again"}) for _ in range(len(tries) - 1 + len(others) % 2)
        ]
        spare = self._copies[len(tries) - 1 :]  # the last of an odd number of others lies on it
        for layer in spare:
            layer.visible = others[-1].visible
        below = [image, *self._copies[: len(tries) - 1]]
        odd = others[-1:] if spare else []
        for layer in (*spare, *odd, *(one for pair in zip(below, tries, strict=True) for one in pair)):
            if layer in layers:
                layers.move(layers.index(layer), len(layers))
            else:
                layers.append(layer)
        layers.link_layers([image, *self._copies], ALIKE)
        self.grid.stride = 2
        layers.selection.active = active
