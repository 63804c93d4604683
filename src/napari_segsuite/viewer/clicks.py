"""The layers in which a user says which object is meant: points on it and beside it, a box around it; and the outline of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Labels, Layer, Points, Shapes
from napari.utils.colormaps import CyclicLabelColormap
from napari.utils.notifications import show_info
from napari.utils.transforms import Affine
from numpy.typing import NDArray

from napari_segsuite.types import Image
from napari_segsuite.viewer.results import laid_on
from napari_segsuite.viewer.said import Said, Sides, box_of

OBJECT, BACKGROUND, BOX = "object", "background", "box"
COLORS = {OBJECT: (0.2, 1.0, 0.3, 1.0), BACKGROUND: (1.0, 0.25, 0.2, 1.0)}
OUTLINE = (0.1, 0.9, 1.0, 1.0)
LEFT = "segsuite left"
"""Key in the metadata of a layer with what was not accepted, for the image that it is about."""
PLACE = ("scale", "translate", "rotate", "shear", "affine")
MEANS = "means"
"""Column of the points' features that says what each is."""


class Clicks:
    """The layers of a dock in its viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    changed : callable
        Called when something else is said.
    keys : mapping of key to callable
        Bound to both layers.
    """

    def __init__(self, viewer: Any, changed: Callable[[], None], keys: dict[str, Callable[[], None]]) -> None:
        self._viewer, self._changed, self._keys = viewer, changed, keys
        self._image: Layer | None = None
        self._axes = ""
        self._where: dict[str, Any] = {}
        self.points: Points | None = None
        self.shapes: Shapes | None = None
        self.outline: Labels | None = None

    def on(self, layer: Layer, axes: str, image: Image) -> None:
        """Say something of an image from now on; what was said of another one and not accepted stays with that."""
        where = laid_on([], image.axes.replace("c", ""), image, layer, axes)[1]
        if layer is not self._image or axes != self._axes:
            self.leave()
        elif not _alike(where, self._where):  # it was moved, and what was said of it goes along
            if (outline := self._there(self.outline)) is not None:
                self._viewer.layers.remove(outline)
            self.outline = None
            for one in self._all():
                _lay(one, where)
        self._image, self._axes, self._where = layer, axes, where

    def tool(self, name: str) -> None:
        """Let the mouse say something of this kind."""
        if name == BOX:
            self._activate(self._shapes(), "add_rectangle")
        else:
            points = self._points()
            points.selected_data = set()
            points.feature_defaults = {MEANS: name}
            points.current_face_color = np.array(COLORS[name])
            self._activate(points, "add")

    def said(self) -> Said:
        """What is said now."""
        points: tuple[tuple[float, ...], ...] = ()
        marks: tuple[bool, ...] = ()
        boxes: tuple[Sides | None, ...] = ()
        if (layer := self._there(self.points)) is not None and len(layer.data):
            points = tuple(tuple(map(float, point)) for point in layer.data)
            marks = tuple(str(means) != BACKGROUND for means in layer.features[MEANS])
        if (layer := self._there(self.shapes)) is not None:
            boxes = tuple(box_of(np.min(corners, 0), np.max(corners, 0)) for corners in layer.data)
        return Said(points, marks, boxes)

    def forget(self, points: Iterable[int], boxes: Iterable[int]) -> None:
        """Forget some of what was said, by their numbers."""
        for layer, numbers in ((self._there(self.points), set(points)), (self._there(self.shapes), set(boxes))):
            if layer is not None and numbers:
                with layer.events.data.blocker(self._edited):
                    layer.selected_data = numbers
                    layer.remove_selected()
        self.hide()

    def hide(self) -> None:
        """Show no outline."""
        if (layer := self._there(self.outline)) is not None:
            layer.visible = False

    def show(self, region: NDArray[np.bool_], start: tuple[int, ...]) -> None:
        """Outline an object.

        Parameters
        ----------
        region : bool array
            With the axes of the layer's data, without its channels.
        start : tuple of int
            Where its first voxel lies.
        """
        places = np.nonzero(region)
        low = [max(int(line.min()) - 1, 0) for line in places]
        cut = region[tuple(slice(a, int(line.max()) + 2) for a, line in zip(low, places, strict=True))].astype(np.uint8)
        step = Affine(scale=self._where["scale"], rotate=self._where["rotate"], shear=self._where["shear"], ndim=cut.ndim).linear_matrix
        moved = tuple(float(v) for v in np.asarray(self._where["translate"]) + step @ (np.array(start) + low))
        layer = self._there(self.outline)
        if layer is None:
            colors = CyclicLabelColormap(colors=[np.zeros(4), OUTLINE])  # a table of single labels has to be compiled, for seconds in a new napari
            meta = {**self._where, "translate": moved}
            layer = self.outline = self._add(Labels(cut, name="Prompt outline", colormap=colors, opacity=1.0, **meta))
            layer.editable = False
        else:
            layer.data, layer.translate = cut, moved
        layer.contour = 2 if max(cut.shape) > 24 else 1
        layer.visible = True

    def drop_outside(self) -> bool:
        """Take away points and boxes that lie outside the image, and tell whether there were any."""
        if self._image is None:
            return False
        shape = self._image.level_shapes[0] if self._image.multiscale else self._image.data.shape
        size = np.array([n for n, a in zip(shape, self._axes, strict=False) if a != "c"])
        found = False
        for layer in (self._there(self.points), self._there(self.shapes)):
            ends = [np.atleast_2d(one) for one in layer.data] if layer is not None else []
            outside = {k for k, at in enumerate(ends) if ((at.max(0) < -0.5) | (at.min(0) >= size - 0.5)).any()}
            if outside:
                found = True
                self.forget(*((outside, ()) if layer is self.points else ((), outside)))
        return found

    def leave(self) -> None:
        """Take the layers away, but for those in which something is said of an image that is still there, and that was not accepted."""
        image = self._there(self._image)
        for layer in (self._there(self.points), self._there(self.shapes)):
            if image is not None and layer is not None and len(layer.data):
                self.let_go(layer)
                for key in self._keys:
                    layer.bind_key(key, None, overwrite=True)
                layer.metadata = {**layer.metadata, LEFT: image.unique_id}
                show_info(f"What was not accepted stays in layer {layer.name!r}.")
        self.points, self.shapes = (None if layer is not None and LEFT in layer.metadata else layer for layer in (self.points, self.shapes))
        self.close()

    def close(self) -> None:
        """Take the layers away."""
        for layer in self._all():
            self.let_go(layer)
            self._viewer.layers.remove(layer)
        self.points = self.shapes = self.outline = None

    def deafen(self) -> None:
        """Hear no more of any layer. Calls nothing of Qt."""
        for layer in (self.points, self.shapes):
            if layer is not None:
                self.let_go(layer)

    def let_go(self, layer: Any) -> None:
        """Hear no more of a layer. Calls nothing of Qt."""
        with suppress(ValueError, RuntimeError, AttributeError):
            layer.events.data.disconnect(self._edited)

    def own(self, layer: Layer) -> bool:
        """Whether a layer is one of these."""
        return any(layer is one for one in (self.points, self.shapes, self.outline))

    def raise_to_top(self) -> None:
        """Put what is said above a new layer, and let the mouse go on with it."""
        active = self._viewer.layers.selection.active
        for layer in (self.outline, self.shapes, self.points):
            if (there := self._there(layer)) is not None:
                self._viewer.layers.move(self._viewer.layers.index(there), len(self._viewer.layers))
        kept = [layer for layer in (self._there(self.points), self._there(self.shapes)) if layer is not None and layer.mode != "pan_zoom"]
        if kept and active not in kept:
            self._viewer.layers.selection.active = kept[0]

    def _points(self) -> Points:
        if (layer := self._there(self.points) or self._left(Points)) is None:
            blank = {MEANS: np.zeros(0, object)}
            empty = np.zeros((0, len(self._where["scale"])))
            made = Points(empty, name="Prompts", features=blank, size=self._reach() / 40, border_color="white", **self._where)
            made.canvas_size_limits = (0, 13)  # napari draws a point of size 0 at the origin where there is none
            layer = self._add(self._ready(made))
        self.points = layer
        return layer

    def _shapes(self) -> Shapes:
        if (layer := self._there(self.shapes) or self._left(Shapes)) is None:
            colors, size = {"edge_color": "yellow", "face_color": "transparent"}, max(1.0, self._reach() / 500)
            made = Shapes(ndim=len(self._where["scale"]), name="Prompt box", edge_width=size, **colors, **self._where)
            layer = self._add(self._ready(made))
        if self._dragged not in layer.mouse_drag_callbacks:
            layer.mouse_drag_callbacks.append(self._dragged)
        self.shapes = layer
        return layer

    def _reach(self) -> float:
        """The longer side of the image, in voxels."""
        return 600.0 if self._image is None else float(max(self._image.extent.data[1][-2:])) + 1

    def _left(self, kind: type[Layer]) -> Any:
        """The layer that was left behind on this image, to go on with; None if there is none."""
        for layer in self._viewer.layers:
            if isinstance(layer, kind) and self._image is not None and layer.metadata.get(LEFT) == self._image.unique_id:
                layer.metadata = {name: value for name, value in layer.metadata.items() if name != LEFT}
                _lay(layer, self._where)
                return self._ready(layer)
        return None

    def _ready(self, layer: Any) -> Any:
        for key, function in self._keys.items():
            layer.bind_key(key, partial(_pressed, function), overwrite=True)
        layer.events.data.connect(self._edited)
        return layer

    def _add(self, layer: Any) -> Any:
        """Add a layer without taking the mouse from the one that has it."""
        active = self._viewer.layers.selection.active
        self._viewer.add_layer(layer)
        if active is not None and active in self._viewer.layers:
            self._viewer.layers.selection.active = active
        return layer

    def _activate(self, layer: Any, mode: str) -> None:
        layer.visible = True
        self._viewer.layers.selection.active = layer
        layer.mode = mode

    def _all(self) -> list[Any]:
        return [layer for layer in (self.points, self.shapes, self.outline) if self._there(layer) is not None]

    def _there(self, layer: Any) -> Any:
        return layer if layer is not None and layer in self._viewer.layers else None

    def _edited(self, event: Any = None) -> None:
        self._changed()

    def _dragged(self, layer: Any, event: Any) -> Iterator[None]:
        """A box is ready when the mouse is released; in a slice only the last one counts."""
        yield
        while event.type == "mouse_move":
            yield
        if len(layer.data) > 1:
            corners = [np.asarray(one) for one in layer.data]
            flat = np.ptp(corners[-1], axis=0) < 1e-6
            before = {k for k, one in enumerate(corners[:-1]) if np.allclose(one[:, flat], corners[-1][:1, flat], atol=0.5)}
            self.forget((), before)
        self._changed()


def _pressed(function: Callable[[], None], _: Any) -> None:
    function()


def _lay(layer: Layer, where: dict[str, Any]) -> None:
    """Put a layer where another lies."""
    for name in PLACE:
        setattr(layer, name, where[name])


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in PLACE)
