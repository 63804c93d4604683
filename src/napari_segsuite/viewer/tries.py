"""The tries on what was in view, as layers beside the image: one in the place of another, or several to compare."""

from __future__ import annotations

import weakref
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from napari.utils.transforms import Affine
from qtpy.QtWidgets import QAbstractButton

from napari_segsuite.engine.plan import Options, Plan
from napari_segsuite.types import Image, ModelSpec, Segmentation
from napari_segsuite.viewer.beside import Beside
from napari_segsuite.viewer.form import label
from napari_segsuite.viewer.layers import LayerData
from napari_segsuite.viewer.panel import short
from napari_segsuite.viewer.preview import Part, part_of
from napari_segsuite.viewer.results import fingerprint, to_layer
from napari_segsuite.viewer.view import in_view

ALIKE = ("device", "batch", "chunk")
"""Options that do not change what comes out."""


@dataclass(frozen=True)
class _Made:
    """A try that was shown."""

    image: weakref.ref[Layer]
    settings: dict[str, Any]
    labels: weakref.ref[Labels]
    before: tuple[int, int]


class Tries:
    """The tries that a dock has put into its viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._made: list[_Made] = []
        self._beside = Beside(viewer)

    def part(self, plan: Plan, spec: ModelSpec, image: Image, layer: Layer, axes: str) -> Part:
        """What to segment of what is in view.

        Raises
        ------
        InputError
            Nothing that could be segmented is in view.
        """
        return part_of(plan, plan.spec_of(spec), image, in_view(self._viewer, layer, axes))

    def show(self, segmentation: Segmentation, layer: Layer, axes: str, plan: Plan, part: Part, *, compare: bool) -> str:
        """Add a try as a new layer; what to tell the user besides, in a sentence or nothing.

        Parameters
        ----------
        segmentation : Segmentation
            Of the part.
        layer, axes
            What it was made from.
        plan : Plan
        part : Part
        compare : bool
            Whether tries with other models or settings stay. One with the same settings never does, unless it was edited.
        """
        settings = settings_of(plan.options)
        self._beside.part()
        edited = self._clear(layer, settings if compare else None)
        data, meta, _ = lying(to_layer(segmentation, layer, axes), layer, axes, part)
        meta["name"] = f"{short(layer.name, 24)} {plan.model['name']} preview{told(settings)}"
        new = self._viewer.add_labels(data, **meta)
        self._made.append(_Made(weakref.ref(layer), settings, weakref.ref(new), fingerprint(new)))
        if self._beside.grid.enabled:
            self._switch(True)
        return edited

    def follow(self, button: QAbstractButton) -> None:
        """Let a button switch napari's grid, which it follows when it is switched elsewhere."""
        grid = self._beside.grid
        button.setChecked(grid.enabled)
        button.clicked.connect(self._switch)

        def switched(event: Any = None) -> None:
            with suppress(RuntimeError):  # the dock is gone, and its button with it
                button.setChecked(grid.enabled)
            if not grid.enabled:
                self._beside.part()

        grid.events.enabled.connect(switched)

    def _switch(self, on: bool) -> None:
        """Switch the grid; with it, each of the tries on the image that was tried last lies on that."""
        image = self._made[-1].image() if self._made else None
        tries = [made.labels() for made in self._made if made.image() is image]
        self._beside.switch(on, image, [labels for labels in tries if labels is not None and labels in self._viewer.layers and labels.visible])

    def _clear(self, layer: Layer, settings: dict[str, Any] | None) -> str:
        """Remove the tries on a layer, or only those with these settings; those that were edited stay."""
        edited = ""
        for made in list(self._made):
            labels = made.labels()
            if labels is None or labels not in self._viewer.layers:
                self._made.remove(made)
            elif made.image() is layer and settings in (None, made.settings):
                self._made.remove(made)
                if fingerprint(labels) == made.before:
                    self._viewer.layers.remove(labels)
                else:
                    edited = f"{labels.name!r} was edited and is kept."
        return edited


def settings_of(options: Options) -> dict[str, Any]:
    """What two tries must have in common to be the same try."""
    return {name: value for name, value in options.to_json().items() if name not in ALIKE}


def told(settings: dict[str, Any]) -> str:
    """The settings besides the model that are not left to it, in a few words for a layer's name.

    >>> told(settings_of(Options(model="otsu", min_size_px=50)))
    ' (min size 50)'
    """
    wished = {f.name: settings[f.name] for f in fields(Options) if f.name in settings and f.name != "model"}
    usual = settings_of(Options())
    words = [f"{label(name).lower()} {_word(value)}" for name, value in wished.items() if value != usual[name]]
    return f" ({', '.join(words)})" if words else ""


def lying(data: LayerData, layer: Layer, axes: str, part: Part) -> LayerData:
    """Move what lies on a layer to where the part of it lies that was segmented."""
    array, meta, kind = data
    kept = [a for a in axes if a != "c"]
    if "rotate" not in meta:  # the layer has become something else, and the segmentation knows its own place
        return data
    step = Affine(scale=meta["scale"], rotate=meta["rotate"], shear=meta["shear"], ndim=len(kept)).linear_matrix
    start = np.array([part.box[a][0] for a in kept], float)
    return array, {**meta, "translate": tuple(float(v) for v in np.asarray(meta["translate"]) + step @ start)}, kind


def _word(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "on" if value is True else f"{value:g}" if isinstance(value, float) else str(value)
