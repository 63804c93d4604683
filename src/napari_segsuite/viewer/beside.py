"""Tries side by side: napari's grid with each try on the image that it is of, rather than on nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari.layers import Layer

from napari_segsuite.viewer.layers import BESIDE, OURS
from napari_segsuite.viewer.view import views

ALIKE = ("contrast_limits", "gamma", "colormap", "interpolation2d")
"""What the copies of an image have in common with it, whoever changes it."""


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

    def switch(self, on: bool, image: Layer | None, tries: Sequence[Layer]) -> None:
        """Switch the grid, and zoom so that each of its views shows as much as the one did."""
        camera = getattr(self._viewer, "scene", self._viewer).camera
        before = views(self._viewer)
        self.part()
        if on and image is not None and image in self._viewer.layers and image.visible and len(tries) > 1:
            self._pair(image, tries)
        self.grid.enabled = on
        camera.zoom *= max(before) / max(views(self._viewer))

    def part(self) -> None:
        """Take the copies of the image away, and put the layers back in their order."""
        layers = self._viewer.layers
        copies, order, self._copies, self._order = self._copies, self._order, [], []
        for layer in (layer for layer in copies if layer in layers):
            layers.unlink_layers([layer])
            layers.remove(layer)
        for k, layer in enumerate([layer for layer in order if layer in layers]):
            layers.move(layers.index(layer), k)
        if copies:
            self.grid.stride = 1

    def _pair(self, image: Layer, tries: Sequence[Layer]) -> None:
        """Put the image, or a copy of it, right below each try; the grid shows two layers per view, from the lowest on."""
        layers, active = self._viewer.layers, self._viewer.layers.selection.active
        self._order = list(layers)
        others = [layer for layer in layers if layer.visible and layer is not image and not any(layer is one for one in tries)]
        data, meta, _ = image.as_layer_data_tuple()
        noted = {**meta["metadata"], OURS: {**meta["metadata"].get(OURS, {}), BESIDE: True}}
        self._copies = [
            type(image)(data, **{**meta, "metadata": noted, "name": f"{image.name} again"}) for _ in range(len(tries) - 1 + len(others) % 2)
        ]
        spare = self._copies[len(tries) - 1 :]  # below which the last of an odd number of others lies
        below = [image, *self._copies[: len(tries) - 1]]
        for layer in (*spare, *(one for pair in zip(below, tries, strict=True) for one in pair)):
            if layer in layers:
                layers.move(layers.index(layer), len(layers))
            else:
                layers.append(layer)
        layers.link_layers([image, *self._copies], ALIKE)
        self.grid.stride = 2
        layers.selection.active = active
