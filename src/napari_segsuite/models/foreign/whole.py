"""Networks of others that answer with boxes and prototypes of masks: how their tensors are laid out, and how objects are read from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_segsuite.codecs import codec, prototypes
from napari_segsuite.codecs.instances import Objects
from napari_segsuite.errors import ModelError, OptionError
from napari_segsuite.models.foreign.draft import Draft, classes_of, spec_of
from napari_segsuite.models.foreign.form import LAYOUTS, Form
from napari_segsuite.models.foreign.grid import grid
from napari_segsuite.types import ModelSpec

SIDE, STRIDE = 640, 32
"""Of a tile, and what its sides are multiples of, where a file takes any size."""
CONTEXT = (64, 128)
"""Least and largest margin of a tile where nobody says: an eighth of the tile, but never more than a quarter."""
SCORE = 0.25
"""Score of the objects that are wanted where nobody says, as is usual for these networks; `segment` can ask for another."""
CLASSES = 255


class Layout(NamedTuple):
    """Where a box's numbers are: in rows or in columns of the answer; middle, size, sure or not that anything is there, classes, mask."""

    columns: bool
    objectness: bool

    @property
    def before(self) -> int:
        """Numbers before those of the classes."""
        return 5 if self.objectness else 4


BOXES: Mapping[str, Layout] = {"yolov8-seg": Layout(True, False), "yolov5-seg": Layout(False, True)}


def completed(form: Form) -> Form:
    """A form with what goes without saying for its layout.

    Raises
    ------
    OptionError
        Something else was said, or the layout is missing.
    """
    if not form.layout:
        if form.codec == "objects":
            raise OptionError("the codec is objects", f"how the network writes them: --layout, one of {', '.join(LAYOUTS)}")
        return form
    only = (("codec", ("objects",)), ("axes", ("yx",)), ("activation", ("none",)), ("input_axes", ("bcyx",)), ("outputs", ()))
    for name, right in only:
        if (found := getattr(form, name)) and found not in right:
            raise OptionError(f"{name} is {found!r} with the layout {form.layout}", " or ".join(right) or "nothing")
    return replace(
        form,
        codec="objects",
        axes="yx",
        activation="none",
        channels=form.channels or ("red", "green", "blue"),
        tile=form.tile or (SIDE, SIDE),
        multiple=form.multiple or (STRIDE, STRIDE),
    )


def finished(draft: Draft, form: Form, shapes: Sequence[Sequence[int]], net: Mapping[str, Any], name: str) -> ModelSpec:
    """The description of the model, once it is known what shapes the network answers with.

    Raises
    ------
    ModelError, OptionError
        They are not those of the layout, or the classes are not those of the network.
    """
    if draft.outputs:
        raise OptionError(f"layout is {form.layout}", "a network alone: a package says itself what it answers with")
    numbers, masks = _both(shapes, form.layout)
    count = shapes[numbers][1 if BOXES[form.layout].columns else 2] - BOXES[form.layout].before - shapes[masks][1]
    if not 1 <= count <= CLASSES:
        told = " and ".join(str(tuple(shapes[n])) for n in (numbers, masks))
        needed = f"{_written(form.layout)}, of 1 to {CLASSES} classes"
        raise ModelError(f"the network answers with {told}, which leaves room for {count} classes", needed, "Say another --layout.")
    classes = classes_of(form, count, {"channels": ()})
    if len(classes) != count or not all(c.countable for c in classes):
        raise OptionError(f"the classes are {', '.join(form.classes)}", f"{count} things, in the network's order, since it tells so many apart")
    grids, longest = grids_of(draft, form)
    objects = {"layout": form.layout, "answers": [numbers, masks], "kinds": [c.id for c in classes]}
    options = {"center": SCORE, "longest": longest}
    return spec_of(draft, form, {**net, "input": draft.input, "objects": objects}, name, codec("objects").heads(classes, 2), classes, grids, options)


def grids_of(draft: Draft, form: Form) -> tuple[tuple[tuple[int, ...], ...], int]:
    """Tile, multiple and context, and how far an object may reach: what is farther may be cut by the border of its tile."""
    fixed = not any(step for axis, step in zip(draft.input["axes"], draft.input["step"], strict=True) if axis in draft.axes)
    form = replace(form, multiple=()) if fixed else form
    tile = grid(draft.axes, draft.input, (), replace(form, context=(1,) * len(draft.axes)))[0]
    low, high = CONTEXT
    halo = tuple(min(max(side // 8, low), high, side // 4) for side in tile)
    grids = grid(draft.axes, draft.input, halo, form)
    return grids, max(*grids[2], 1)


def read(told: Mapping[str, Any], answers: Sequence[Tensor], size: Sequence[int], shape: Sequence[int]) -> dict[str, Any]:
    """What a network answered, as ``objects``: one list per tile.

    Parameters
    ----------
    told : mapping
        ``layout``, ``answers`` (which of them), ``kinds`` (the class id of each class of the network).
    answers : sequence of Tensor
    size, shape : 2 ints
        Of the network's input and of the tile, which may be smaller.

    Raises
    ------
    ModelError
        The answers are not what the layout says, or not finite.
    """
    layout = BOXES[told["layout"]]
    if max(told["answers"]) >= len(answers):
        raise ModelError(f"the network answers with {len(answers)} tensors", f"{max(told['answers']) + 1} at least")
    table, masks = (answers[n] for n in told["answers"])
    kinds = np.array(told["kinds"], np.uint8)
    rows = table.ndim == masks.ndim - 1 == 3 and layout.before + len(kinds) + masks.shape[1]
    if not rows or table.shape[1 if layout.columns else 2] != rows or len(table) != len(masks) or 0 in masks.shape:
        shapes = f"{tuple(table.shape)} and {tuple(masks.shape)}"
        raise ModelError(f"the network answers with tensors of shape {shapes}", f"{_written(told['layout'])}, of {len(kinds)} classes")
    if not bool(table.isfinite().all() and masks.isfinite().all()):
        raise ModelError("the network's answer is not finite", do="Try another normalisation.")
    tables, several = (value.float().cpu().numpy() for value in (table.mT if layout.columns else table, masks))
    return {"objects": [_objects(layout, *pair, kinds, size, shape) for pair in zip(tables, several, strict=True)]}


def _objects(
    layout: Layout, table: NDArray[np.float32], masks: NDArray[np.float32], kinds: NDArray[np.uint8], size: Sequence[int], shape: Sequence[int]
) -> Objects:
    end = layout.before + len(kinds)
    scores = table[:, layout.before : end]
    if layout.objectness:
        scores = scores * table[:, 4:5]
    return prototypes.objects(prototypes.boxes(table[:, :4], scores, table[:, end:], kinds), masks, size, shape)


def _both(shapes: Sequence[Sequence[int]], layout: str) -> tuple[int, int]:
    """Which of the answers are the boxes and the prototypes."""
    found = [[n for n, shape in enumerate(shapes) if len(shape) == axes] for axes in (3, 4)]
    if not all(found):
        raise ModelError(f"the network answers with {', '.join(str(tuple(shape)) for shape in shapes)}", _written(layout))
    return found[0][0], found[1][0]


def _written(layout: str) -> str:
    middle = "4 + classes + k, boxes" if BOXES[layout].columns else "boxes, 5 + classes + k"
    return f"for {layout} boxes of shape (1, {middle}) and prototypes of shape (1, k, height, width)"
