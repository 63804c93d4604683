"""A part of an image segmented as a run would segment it there: the same constants, the same tiles, the same decoder.

This module is imported in the child too, so nothing here may import Qt or napari.
"""

from __future__ import annotations

import concurrent.futures as cf
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.engine.plan import Plan
from napari_segsuite.engine.progress import MEASURING, WAIT_S, Progress
from napari_segsuite.errors import InputError
from napari_segsuite.types import SPATIAL, Image, ModelSpec, Segmentation
from napari_segsuite.viewer.child import Child

if TYPE_CHECKING:
    from napari_segsuite.engine.chunk import Labelled
    from napari_segsuite.engine.layout import At

LARGEST = {2: 2**22, 3: 2**20}
"""Voxels on the model's grid that are tried at most, by its number of axes: about what a processor does in the time that one waits."""
LARGEST_SEEN = 3 * 2**19
"""Voxels that a model for slices sees for a try on a volume, of which it computes each three times, and most for the context of the others."""
SMALLEST = 24
"""Length along y and x of what is tried at least."""
Range = tuple[int, int]


@dataclass(frozen=True)
class Part:
    """Where a preview lies.

    Attributes
    ----------
    box : mapping of axis to (start, stop)
        Samples of the image's finest level along every axis but ``c``.
    whole : bool
        Whether it is all of what was in view.
    """

    box: Mapping[str, Range]
    whole: bool

    def at(self, plan: Plan) -> At:
        """The same as the place of a chunk."""
        from napari_segsuite.engine.layout import At

        return At(tuple(self.box[a][0] for a in plan.frames), tuple(self.box[a] for a in plan.axes))


def part_of(plan: Plan, spec: ModelSpec, image: Image, view: Mapping[str, Range]) -> Part:
    """Decide what to segment of what is in view.

    Parameters
    ----------
    plan : Plan
    spec : ModelSpec
        As the plan runs it.
    image : Image
    view : mapping of axis to (start, stop)
        What is in view; a single sample along axes that are not displayed.

    Returns
    -------
    Part
        For a model of volumes a slab around the slice in view, on both sides as thick as the model's context; of a view that is too large, the
        middle. Of a model for slices that sees a volume along three axes, a slab half as thick.
    """
    box = dict(view)
    if "z" in plan.axes:
        z = plan.axes.index("z")
        deep = int(np.ceil(spec.context[-3] / plan.zoom[z] / (2 if plan.orthogonal else 1)))
        box["z"] = (max(view["z"][0] - deep, 0), min(view["z"][1] + deep, image.size("z")))
    if plan.orthogonal:
        part = Part(box, True)
        while _seen(plan, spec, image, part) > LARGEST_SEEN and max(b - a for a, b in (part.box[a] for a in "yx")) > SMALLEST:
            longest = max("yx", key=lambda a: part.box[a][1] - part.box[a][0])
            part = Part({**part.box, longest: _middle(part.box[longest], 0.9)}, False)
        return part
    size = np.prod([(box[a][1] - box[a][0]) * zoom for a, zoom in zip(plan.axes, plan.zoom, strict=True)])
    most = LARGEST[len(plan.axes)]
    if size <= most:
        return Part(box, True)
    share = float(np.sqrt(most / size))
    return Part({**box, **{a: _middle(box[a], share) for a in "yx"}}, False)


def segment(plan: Plan, image: Image, part: Part, child: Child) -> Generator[Progress, None, Segmentation]:
    """Segment a part of an image in the child.

    Yields
    ------
    Progress

    Returns
    -------
    Segmentation
        Of the part alone, placed where it lies.
    """
    from napari_segsuite.engine import measure
    from napari_segsuite.engine.scratch import counted, scratch
    from napari_segsuite.models import load_spec

    started, wanted = time.perf_counter(), part
    spec, at = plan.spec_of(load_spec(plan.options.model)), part.at(plan)
    yield MEASURING
    plan = measure.measured(plan, image, spec)
    if plan.orthogonal:  # its tiles are cubes that take minutes; as an image of its own, what lies around the part is one small tile
        plan, image, part = _alone(plan, spec, image, part)
        at = part.at(plan)
    with scratch() as folder, child.executor() as executor:
        near = cut(image, plan, spec, at, folder)
        counter = folder / "tiles.count"
        future = executor.submit(labelled, plan, near, at, counter)
        try:
            while not future.done():
                cf.wait([future], WAIT_S)
                done, total = counted(counter)
                yield Progress(done, max(total, 1), "segmenting what is in view")
            found = future.result()
        finally:
            future.cancel()
    result = placed(plan, image, spec, part, found, time.perf_counter() - started)
    return replace(result, provenance={**result.provenance, "preview": {axis: list(side) for axis, side in wanted.box.items()}})


def _around(plan: Plan, spec: ModelSpec, image: Image, part: Part) -> dict[str, Range]:
    """A part with what a model for slices sees around it; of the slab, half of that belongs to it."""
    box = dict(part.box)
    for axis, context, zoom in zip(plan.axes, spec.context[-3:], plan.zoom, strict=True):
        more = int(np.ceil(context / zoom / (2 if axis == "z" else 1)))
        box[axis] = (max(box[axis][0] - more, 0), min(box[axis][1] + more, image.size(axis)))
    return box


def _seen(plan: Plan, spec: ModelSpec, image: Image, part: Part) -> float:
    """The voxels on the model's grid that a model for slices sees for a part."""
    box = _around(plan, spec, image, part)
    return float(np.prod([(box[a][1] - box[a][0]) * zoom for a, zoom in zip(plan.axes, plan.zoom, strict=True)]))


def _alone(plan: Plan, spec: ModelSpec, image: Image, part: Part) -> tuple[Plan, Image, Part]:
    """A part and what lies around it as an image of its own, with the plan for it and where the part lies in it."""
    from napari_segsuite.engine import pixels

    box = _around(plan, spec, image, part)
    near = pixels.read(image, tuple(slice(*box[a]) if a != "c" else slice(0, n) for a, n in zip(image.axes, image.shape, strict=True)))
    own = replace(moved(image, Part(box, True)), levels=(np.ascontiguousarray(near),))
    told = {**plan.image, "shape": list(own.shape), "translate": list(own.translate)}
    inside = {a: (start - box[a][0], stop - box[a][0]) for a, (start, stop) in part.box.items()}
    return replace(plan, image=told, chunk=tuple(own.size(a) for a in plan.axes)), own, Part(inside, part.whole)


def labelled(plan: Plan, image: Image, at: At, counter: Path) -> Labelled:
    """Segment one box, leaving word of its progress; to be called in the child."""
    from napari_segsuite.engine import chunk
    from napari_segsuite.engine.scratch import count

    steps = chunk.label(plan, image, at)
    while True:
        try:
            count(counter, *next(steps))
        except StopIteration as stop:
            result: Labelled = stop.value
            return result


class Near:
    """A whole image of which only a box is at hand.

    Parameters
    ----------
    data : array
        The box.
    origin : tuple of int
        Where its first sample lies.
    shape : tuple of int
        Of the whole.
    """

    def __init__(self, data: Any, origin: tuple[int, ...], shape: tuple[int, ...]) -> None:
        self.data, self.origin, self.shape, self.dtype, self.ndim = data, origin, shape, data.dtype, len(shape)

    def __getitem__(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        moved: list[int | slice] = []
        for k, o, n in zip(key, self.origin, self.data.shape, strict=True):
            start, stop = (k, k + 1) if not isinstance(k, slice) else (k.start, k.stop)
            if not o <= start <= stop <= o + n:
                raise IndexError(f"{start}:{stop} is not in {o}:{o + n}")  # a mistake here, never a user's
            moved.append(slice(start - o, stop - o) if isinstance(k, slice) else k - o)
        return np.asarray(self.data[tuple(moved)])


def cut(image: Image, plan: Plan, spec: ModelSpec, at: At, folder: Path) -> Image:
    """Read what a box is segmented from: its tiles with their context; cheap to send, since it lies in a file."""
    from napari_segsuite.engine import pixels
    from napari_segsuite.engine.scratch import portable

    spatial, frame = dict(zip(plan.axes, needed(plan, spec, at), strict=True)), dict(zip(plan.frames, at.frame, strict=True))
    sides = {**spatial, **{a: (k, k + 1) for a, k in frame.items()}, "c": (min(plan.channels), max(plan.channels) + 1)}
    box = [sides.get(a, (0, n)) for a, n in zip(image.axes, image.shape, strict=True)]
    read = pixels.read(image, tuple(slice(*side) for side in box))
    data = portable(replace(image, levels=(np.ascontiguousarray(read),)), folder).data
    return replace(image, levels=(Near(data, tuple(start for start, _ in box), image.shape),))


def needed(plan: Plan, spec: ModelSpec, at: At) -> tuple[Range, ...]:
    """The image voxels, along the plan's axes, that a box is segmented from."""
    from napari_segsuite import arrays
    from napari_segsuite.engine.layout import Layout
    from napari_segsuite.engine.tiles import tiles

    layout = Layout(plan, spec)
    grids = layout.grids
    seen = [tile.seen for tile in tiles(grids.model, spec, grids.on_model(grids.around(at.box, layout.reach)))]
    box = []
    for axis, (n, m) in enumerate(zip(grids.image, grids.model, strict=True)):
        start, stop = min(s[axis][0] for s in seen), max(s[axis][1] for s in seen)
        if n != m:
            index = arrays.resampler(n, m, start, stop)[0]
            start, stop = int(index.min()), int(index.max()) + 1
        box.append((start, stop))
    return tuple(box)


def placed(plan: Plan, image: Image, spec: ModelSpec, part: Part, found: Labelled, seconds: float) -> Segmentation:
    """The box as a segmentation of its own, whose table is in its own voxels."""
    from napari_segsuite.engine import gather
    from napari_segsuite.engine.layout import At

    here = moved(image, part)
    shape = tuple(b - a for a, b in found.at.box)
    own = replace(plan, image={**plan.image, "shape": list(here.shape), "translate": list(here.translate)}, chunk=shape)
    frames = gather.Frames(own, here, spec, 1)
    frames.add(replace(found, at=At((0,) * len(plan.frames), tuple((0, n) for n in shape))))
    result = frames.finish(seconds)
    table = dict(result.segments)
    for axis, (start, _) in zip(plan.axes, found.at.box, strict=True):
        for name in (f"bbox_{axis}0", f"bbox_{axis}1", f"centroid_{axis}"):
            table[name] = table[name] - start
    return replace(result, segments=table)


def moved(image: Image, part: Part) -> Image:
    """The part of the image as an image in its place; of its pixels only their type is there."""
    shape = tuple(n if a == "c" else part.box[a][1] - part.box[a][0] for a, n in zip(image.axes, image.shape, strict=True))
    start = {a: side[0] for a, side in part.box.items()}
    translate = tuple(t + s * start.get(a, 0) for a, t, s in zip(image.axes, image.translate, image.scale, strict=True))
    affine = image.affine
    if affine is not None:
        step = np.eye(len(affine))
        step[:-1, -1] = [start[a] for a in image.axes if a in SPATIAL]
        affine = affine @ step
    nothing = np.broadcast_to(np.zeros((), image.data.dtype), shape)
    return replace(image, levels=(nothing,), translate=translate, affine=affine)


def caveat(plan: Plan, part: Part) -> str:
    """How a preview may differ from what a run gives there."""
    nearly = "Nearly as a run" if plan.orthogonal else "As a run"
    cropped = "" if part.whole else "Only the middle of the view was segmented, since it is large. "
    slab = f"{part.box['z'][1] - part.box['z'][0]} slices" if "z" in plan.axes else ""
    edge = f"edge of the view{f' or of the {slab} around it' if slab else ''}"
    cuts = "objects that it cuts are counted and scored by what is visible of them, and small ones may be missing."
    return f"{cropped}{nearly} gives there, up to the {edge}: {cuts}"


def _middle(side: Range, share: float) -> Range:
    start, stop = side
    size = max(1, int((stop - start) * share))
    first = start + (stop - start - size) // 2
    return first, first + size


def nothing_in_view(name: str) -> InputError:
    """What to say of an image that is not in view."""
    return InputError(f"nothing of {name!r} is in view", "a part of it in the canvas", "Move there, or press the house button (Reset view).")
