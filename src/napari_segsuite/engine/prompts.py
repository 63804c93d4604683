"""Images and labels for the backends of `models.prompts`: what of an image is looked at, and how an answer gets into labels.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.engine.plan import Options, Plan, resolve
from napari_segsuite.errors import InputError, OptionError
from napari_segsuite.models.prompts import BACKENDS, Box, Candidate, Prompt, Prompter, prompter, view_of
from napari_segsuite.types import Class, Image, ModelSpec, Segmentation

OBJECT = Class(1, "object")
DEEP = 128
"""Slices of a volume that are looked at together."""
WIDE = 256
"""Length along y and x of the part of a volume that is looked at together."""


@dataclass(frozen=True, eq=False)
class Asked:
    """An image about which prompts are asked.

    Attributes
    ----------
    image : Image
    plan : Plan
        Channels, axes that are looked at together (``yx`` or ``zyx``) and axes that are not, and the constants of the intensities.
    spec : ModelSpec
        Of the backend.
    side : tuple of int
        Longest part that is looked at together, along the plan's axes.
    """

    image: Image
    plan: Plan
    spec: ModelSpec
    side: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the picture, along the plan's axes."""
        return tuple(self.image.size(a) for a in self.plan.axes)

    def view(self, prompt: Prompt) -> Box:
        """The part that is looked at for a prompt in the picture's voxels.

        Raises
        ------
        OptionError
            See `models.prompts.view_of`; or the prompt has another number of axes.
        """
        if prompt.dims != len(self.plan.axes):
            raise OptionError(f"the prompt has {prompt.dims} numbers per place", f"{len(self.plan.axes)}, one per axis of {self.plan.axes!r}")
        return view_of(self.shape, self.side, prompt)

    def pixels(self, frame: tuple[int, ...], view: Box) -> NDArray[np.float32]:
        """The pixels (C, *spatial) of a part as the backend wants them; `frame` has one index per axis that is not looked along."""
        from napari_segsuite.engine.layout import grids  # here, since docks import this module, and these import scipy
        from napari_segsuite.engine.reader import Reader

        channels = 1 if self.spec.name in BACKENDS else len(self.spec.channels)
        return Reader(self.plan, self.image, frame, view, grids(self.plan), channels).read(view)


def asked(image: Image, model: str = "geodesic", *, volume: bool = False, channels: Sequence[str] = ()) -> Asked:
    """Get ready to ask a backend about an image; of large images a sample is read, for the contrast.

    Parameters
    ----------
    image : Image
    model : str
        Name of a backend.
    volume : bool
        Whether objects of a z-stack are bodies rather than areas in a slice.
    channels : sequence of str
        By name or number; by default all, where the backend takes so many.

    Raises
    ------
    SegsuiteError
        There is no such backend, or it cannot take this image.
    """
    spec = _spec(model)
    if volume and spec.axes == "yx":
        raise OptionError(f"model {model!r} is for two dimensions", "geodesic, for volumes", "Ask about one slice after the other.")
    options = Options(model=model, channels=tuple(channels), stack="volume" if volume else "slices")
    plan = resolve(image, options, spec)
    tile = (DEEP, WIDE, WIDE) if len(plan.axes) == 3 else spec.tile[-2:]
    from napari_segsuite.engine import measure

    return Asked(image, measure.measured(plan, image, spec), spec, tuple(tile))


def _spec(model: str) -> ModelSpec:
    """A backend as a model: on the image's own grid, whatever size objects have."""
    if model in BACKENDS:
        made = prompter(model)
        channels = ("red", "green", "blue")
        how = {"method": "none", "cut": None}
        return ModelSpec(model, made.axes, channels, (), (OBJECT,), "objects", tile=(DEEP, made.side, made.side), normalize=how)
    from napari_segsuite.models import load_spec

    return replace(load_spec(model), pixel_size_um=None, diameter_px=None)


def paint(labels: Any, where: tuple[int | slice, ...], region: NDArray[np.bool_], number: int, *, over: bool = False) -> NDArray[np.bool_]:
    """Write an object into labels.

    Parameters
    ----------
    labels : integer array
        Changed in place.
    where : tuple of int and slice
        The part that the region is of.
    region : (*spatial) bool
    number : int
    over : bool
        Also where another object is.

    Returns
    -------
    (*spatial) bool
        Where it was written.
    """
    part = np.asarray(labels[where])
    mine: NDArray[np.bool_] = region if over else region & (part == 0)
    labels[where] = np.where(mine, np.asarray(number, part.dtype), part)
    return mine


def prompted(
    image: Any, prompts: Sequence[Prompt], model: str = "geodesic", *, axes: str | None = None, channels: Sequence[str] = (), device: str = "auto"
) -> Segmentation:
    """Segment one object per prompt.

    Parameters
    ----------
    image : Image, array or path
        2D, or a z-stack, in which the prompts' places have three numbers; a model for slices looks at the slice that they lie in.
    prompts : sequence of Prompt
    model : str
        ``"geodesic"``, which needs no weights, or a SAM that was added.
    axes : str, optional
        One letter of ``zyx`` and ``c`` per dimension of an array.
    channels : sequence of str
        By name or number; by default all, where the model takes so many.
    device : str
        Where a network runs.

    Returns
    -------
    Segmentation
        Object k is that of prompt k - 1. Where two would overlap, the first stays; a prompt that nothing is found for, or nothing but what
        those before it have, has no object, and ``provenance["notices"]`` says so.

    Raises
    ------
    SegsuiteError
        What was found, what is needed, what to do.

    Examples
    --------
    >>> picture = np.zeros((64, 64)); picture[10:30, 12:40] = 1
    >>> found = prompted(picture, [Prompt(points=((20, 20),))])
    >>> found.segments["id"].tolist(), bool(abs(found.segments["size"][0] - 560) < 60)
    ([1], True)
    """
    from napari_segsuite.engine import image_of

    found = image if isinstance(image, Image) else image_of(image, axes)
    if "t" in found.axes:
        raise InputError(f"{found.name!r} has axes {found.axes!r}", "one image or z-stack", "Take a frame of it.")
    if not all(prompt.says_where for prompt in prompts):
        raise OptionError("a prompt has no point on the object and no box", "one at least")
    backend = prompter(model, device=device)
    volume = found.size("z") > 1 and backend.axes == "any"
    ask = asked(found, model, volume=volume, channels=channels)
    spatial = "".join(a for a in found.axes if a != "c")
    labels = np.zeros([found.size(a) for a in spatial], np.int32)
    scores, notices = _painted(labels, prompts, backend, ask, spatial)
    return _segmentation(found, spatial, labels, scores, {"model": model, "prompts": [told(prompt) for prompt in prompts], "notices": notices})


def _segmentation(image: Image, axes: str, labels: NDArray[np.int32], scores: NDArray[np.float64], provenance: Mapping[str, Any]) -> Segmentation:
    """Labels of an image as a result; `scores` has one per prompt."""
    from napari_segsuite.io.table import table_of

    table = table_of(labels, axes, (OBJECT,))
    kept = [image.axes.index(a) for a in axes]
    return Segmentation(
        labels,
        {**table, "score": scores[table["id"] - 1]},
        (OBJECT,),
        axes,
        tuple(image.scale[i] for i in kept),
        tuple(image.units[i] for i in kept),
        tuple(image.translate[i] for i in kept),
        affine=image.affine,
        provenance=provenance,
    )


def index(axes: str, plan: Plan, frame: Sequence[int], view: Box) -> tuple[int | slice, ...]:
    """Where a part of a picture lies in an array with these axes."""
    at: Mapping[str, int | slice] = {**dict(zip(plan.frames, frame, strict=True)), **{a: slice(*v) for a, v in zip(plan.axes, view, strict=True)}}
    return tuple(at[a] for a in axes)


def told(prompt: Prompt) -> dict[str, Any]:
    """A prompt as plain values."""
    box = None if prompt.box is None else [list(side) for side in prompt.box]
    return {"points": [list(point) for point in prompt.points], "marks": list(prompt.marks), "box": box}


def _painted(
    labels: NDArray[np.int32], prompts: Sequence[Prompt], backend: Prompter, ask: Asked, spatial: str
) -> tuple[NDArray[np.float64], list[str]]:
    """Paint an object per prompt where those before left room; the scores, and what is to be said."""
    scores, notices = np.ones(len(prompts)), []
    seen: dict[Any, Any] = {}
    for k, prompt in enumerate(prompts):
        frame, prompt = _framed(prompt, ask.plan, spatial)
        view = ask.view(prompt)
        best = _best(backend, ask, seen, frame, view, prompt)
        if best is None:
            notices.append(f"prompt {k + 1} has no object: nothing with a border is found there")
        elif paint(labels, index(spatial, ask.plan, frame, view), best.region, k + 1).any():
            scores[k] = best.score
        else:
            notices.append(f"prompt {k + 1} has no object: all that is found there belongs to the prompts before")
    return scores, notices


def _framed(prompt: Prompt, plan: Plan, axes: str) -> tuple[tuple[int, ...], Prompt]:
    """The slice that a prompt lies in, and the prompt in that slice."""
    if prompt.dims == len(plan.axes):
        return (0,) * len(plan.frames), prompt
    if prompt.dims != len(axes):
        raise OptionError(f"the prompt has {prompt.dims} numbers per place", f"{len(axes)}, one per axis of {axes!r}")
    own, others = ([axes.index(a) for a in letters] for letters in (plan.axes, plan.frames))
    frames = {tuple(round(point[i]) for i in others) for point in prompt.points}
    if prompt.box is not None:
        frames.add(tuple(int(prompt.box[i][0]) for i in others))
    if len(frames) != 1:
        raise OptionError("the places of a prompt lie in several slices", f"places in one slice, since model {plan.options.model!r} is for slices")
    points = tuple(tuple(point[i] for i in own) for point in prompt.points)
    return frames.pop(), Prompt(points, prompt.marks, None if prompt.box is None else tuple(prompt.box[i] for i in own))


def _best(backend: Prompter, ask: Asked, seen: dict[Any, Any], frame: tuple[int, ...], view: Box, prompt: Prompt) -> Candidate | None:
    """The likeliest answer; what was looked at last is kept in `seen`."""
    if (frame, view) not in seen:
        seen.clear()
        seen[frame, view] = backend.look(ask.pixels(frame, view))
    answers = backend.answer(seen[frame, view], prompt.moved([-a for a, _ in view]))
    return answers[0] if answers else None
