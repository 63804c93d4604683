"""Which part of a layer is in view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from napari.layers import Layer
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.viewer.preview import Range, nothing_in_view


def in_view(viewer: Any, layer: Layer, axes: str) -> Mapping[str, Range]:
    """The samples of a layer's finest level that are in the canvas.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    layer : napari.layers.Image
    axes : str
        What its axes are, in its own order.

    Returns
    -------
    mapping of axis to (start, stop)
        For every axis but ``c``; one sample along axes that are not displayed.

    Raises
    ------
    InputError
        The canvas shows a volume, other axes than y and x, or nothing of the layer.
    """
    dims = viewer.dims
    shown = [d - (dims.ndim - layer.ndim) for d in dims.displayed]
    if dims.ndisplay != 2 or {axes[d] if d >= 0 else "" for d in shown} != {"y", "x"}:
        raise InputError(
            "the canvas does not show a slice along y and x", "one, since what is in view is a rectangle in it", "Switch to 2D and the usual axes."
        )
    point, sides = np.asarray(dims.point, float), _sides(viewer)
    ends = [layer.world_to_data(_at(point, dims.displayed, corner)) for corner in product(*sides)]
    middle = layer.world_to_data(_at(point, dims.displayed, tuple(sum(side) / 2 for side in sides)))
    shape = layer.level_shapes[0] if layer.multiscale else layer.data.shape
    box: dict[str, Range] = {}
    for d, axis in enumerate(axes):
        bounds = (min(e[d] for e in ends), max(e[d] for e in ends)) if d in shown else (middle[d], middle[d])
        low, high = (int(np.floor(bound + 0.5)) for bound in bounds)
        start, stop = max(low, 0), min(high + 1, int(shape[d]))
        if axis == "c":
            continue
        if start >= stop:
            raise nothing_in_view(layer.name)
        box[axis] = (start, stop)
    return box


def shown(viewer: Any, layer: Layer, axes: str, looked: str) -> dict[str, int]:
    """The shown index along each of a layer's axes."""
    dims = viewer.dims
    first = dims.ndim - layer.ndim
    if looked == "yx" and (dims.ndisplay != 2 or {axes[d - first] for d in dims.displayed if d >= first} != {"y", "x"}):
        raise InputError("the canvas does not show a slice along y and x", "one, to click in", "Switch to 2D and the usual axes.")
    middle = layer.world_to_data(dims.point[first:])
    shape = layer.level_shapes[0] if layer.multiscale else layer.data.shape
    return {a: min(max(int(x + 0.5), 0), int(n) - 1) for a, x, n in zip(axes, middle, shape, strict=False)}


def look_at(viewer: Any, layer: Layer, place: Sequence[float]) -> None:
    """Move the view to a place in a layer's voxels; how much is seen stays as it is."""
    world = layer.data_to_world(place)
    offset = viewer.dims.ndim - len(world)
    for axis, value in enumerate(world):
        viewer.dims.set_point(axis + offset, value)
    centre = [float(world[axis - offset]) for axis in viewer.dims.displayed if axis >= offset]
    camera = getattr(viewer, "scene", viewer).camera  # `viewer.camera` before napari 0.9
    camera.center = centre if len(centre) == 3 else (0.0, *centre)


def _sides(viewer: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    """World coordinates of the canvas's ends along the two displayed axes."""
    camera = getattr(viewer, "scene", viewer).camera  # `viewer.camera` before napari 0.9
    half = view_size(viewer) / (2 * camera.zoom)
    (y, x), (h, w) = camera.center[-2:], half
    return (y - h, y + h), (x - w, x + w)


def view_size(viewer: Any) -> NDArray[np.float64]:
    """Height and width of a view of napari's grid, or of the whole canvas, in its pixels."""
    size: NDArray[np.float64] = np.asarray(viewer.canvas.size if hasattr(viewer, "canvas") else viewer._canvas_size, float) / views(viewer)
    return size


def views(viewer: Any) -> tuple[int, int]:
    """How many views napari's grid has now, down and across; (1, 1) where it is off."""
    modern = hasattr(viewer, "canvas")  # since napari 0.9
    grid = viewer.canvas.grid if modern else viewer.grid
    rows, columns = grid.actual_shape(viewer.layers if modern else len(viewer.layers)) if grid.enabled else (1, 1)
    return int(rows), int(columns)


def _at(point: np.ndarray[Any, Any], displayed: tuple[int, ...], corner: tuple[float, ...]) -> np.ndarray[Any, Any]:
    moved = point.copy()
    moved[list(displayed)] = corner
    return moved
