"""Interactive segmentation: points and boxes in, one object out; what every backend has in common.

A backend looks at a picture once and then answers any number of prompts about it::

    state = backend.look(pixels)
    best, *others = backend.answer(state, Prompt(points=((40.0, 52.0),)))

Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import OptionError

BACKENDS = {"geodesic": "napari_segsuite.models.prompts.geodesic:Geodesic"}
"""Backends without weights: name -> class."""
SAM = "transformers_sam"
"""What the network of a model that answers prompts is called in its description (``spec.net["name"]``)."""

Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Prompt:
    """What a user says of one object.

    Attributes
    ----------
    points : tuple of tuple of float
        Places in voxels of the picture, in the order of its axes; the middle of the first voxel is 0.
    marks : tuple of bool
        Per point: True lies on the object, False on something else. By default all lie on it.
    box : tuple of (float, float), optional
        Start and stop of the object along each axis, in voxels; voxel k lies from k to k + 1.
    """

    points: tuple[tuple[float, ...], ...] = ()
    marks: tuple[bool, ...] = ()
    box: tuple[tuple[float, float], ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(tuple(float(x) for x in point) for point in self.points))
        object.__setattr__(self, "marks", tuple(bool(m) for m in self.marks) or (True,) * len(self.points))
        if self.box is not None:
            object.__setattr__(self, "box", tuple((float(a), float(b)) for a, b in self.box))
        sizes = {len(point) for point in self.points} | ({len(self.box)} if self.box is not None else set())
        numbers = [x for point in self.points for x in point] + [x for side in self.box or () for x in side]
        if len(sizes) > 1 or not all(map(math.isfinite, numbers)) or len(self.marks) != len(self.points):
            raise OptionError(f"the prompt is {self}", "finite places with as many numbers as the image has axes, and one mark per point")
        if self.box is not None and any(a >= b for a, b in self.box):
            raise OptionError(f"the box is {self.box}", "a start before the stop along every axis")

    @property
    def says_where(self) -> bool:
        """Whether there is a point on the object, or a box around it."""
        return any(self.marks) or self.box is not None

    @property
    def dims(self) -> int:
        """How many axes its places have; 0 where there is none."""
        return len(self.points[0]) if self.points else len(self.box or ())

    def moved(self, by: Sequence[float]) -> Prompt:
        """The same in another picture, `by` voxels further on."""
        points = tuple(tuple(x + d for x, d in zip(point, by, strict=True)) for point in self.points)
        box = None if self.box is None else tuple((a + d, b + d) for (a, b), d in zip(self.box, by, strict=True))
        return Prompt(points, self.marks, box)

    def bounds(self) -> Box:
        """The smallest box of whole voxels with all places in it."""
        sides = []
        for axis in range(self.dims):
            ends = [math.floor(point[axis] + 0.5) for point in self.points]
            ends += [math.floor(self.box[axis][0]), math.ceil(self.box[axis][1]) - 1] if self.box is not None else []
            sides.append((min(ends), max(ends) + 1))
        return tuple(sides)


@dataclass(frozen=True, eq=False)
class Candidate:
    """One answer to a prompt.

    Attributes
    ----------
    region : (*spatial) bool
        The voxels of the object.
    score : float
        How sure the backend is, 0..1; comparable within one answer only, unless the backend says otherwise.
    """

    region: NDArray[np.bool_]
    score: float


class Prompter(Protocol):
    """What answers prompts.

    Attributes
    ----------
    name : str
    axes : str
        ``"yx"``, or ``"any"`` for one that takes volumes too.
    side : int
        Length along y and x, in voxels, that it looks at together.
    """

    name: str
    axes: str
    side: int

    def look(self, pixels: NDArray[np.float32]) -> Any:
        """Prepare a picture (C, *spatial), which is done once, for `answer`."""
        ...

    def answer(self, state: Any, prompt: Prompt) -> list[Candidate]:
        """The objects that a prompt may mean, the likeliest first; none where nothing is found."""
        ...


def prompter(name: str, *, device: str = "auto") -> Prompter:
    """The backend of a name: one without weights, or a model that was added and answers prompts.

    Raises
    ------
    ModelError
        There is no such model, or its files are damaged.
    OptionError
        It is none that answers prompts.
    """
    if name in BACKENDS:
        module, _, kind = BACKENDS[name].partition(":")
        found: Prompter = getattr(import_module(module), kind)()
        return found
    from napari_segsuite.models import load_spec

    if load_spec(name).net.get("name") != SAM:
        others = ", ".join(names())
        raise OptionError(f"model {name!r} cannot be asked with points and boxes", f"one of {others}", "Add a SAM with `segsuite models add`.")
    made: Prompter = import_module("napari_segsuite.models.foreign.sam_prompts").load(name, device=device)
    return made


def names() -> list[str]:
    """The backends that there are: those without weights, then the models that were added and answer prompts."""
    from napari_segsuite.models import list_models

    return [*BACKENDS, *(spec.name for spec in list_models() if spec.net.get("name") == SAM)]


def view_of(shape: Sequence[int], side: Sequence[int], prompt: Prompt) -> Box:
    """The part of a picture to look at for a prompt.

    Parameters
    ----------
    shape : d ints
        Of the picture.
    side : d ints
        Longest part that is looked at together.
    prompt : Prompt

    Returns
    -------
    Box
        All of an axis that is not longer. Of others a part that begins at a multiple of a quarter of `side`, so that prompts near each other
        share it; as far from the prompt's places as can be.

    Raises
    ------
    OptionError
        The places lie outside the picture, or too far from each other.
    """
    box = []
    for n, most, (low, high) in zip(shape, side, prompt.bounds(), strict=True):
        if high <= 0 or low >= n:
            raise OptionError(f"the prompt lies at {low} to {high - 1} along an axis of {n} voxels", "places inside the image")
        low, high = max(low, 0), min(high, n)
        if high - low > most:
            raise OptionError(f"the places of the prompt are {high - low} voxels from each other", f"at most {most}")
        step = max(most // 4, 1)
        start = min(max(((low + high) // 2 - most // 2) // step * step, high - most, 0), low)
        box.append((0, n) if n <= most else (min(start, n - most), min(start, n - most) + most))
    return tuple(box)
