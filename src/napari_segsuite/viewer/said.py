"""What a user says of an object, in voxels of a layer's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from napari_segsuite.models.prompts import Prompt

Sides = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Said:
    """What a user says: places in voxels of a layer's data, without its channels.

    Attributes
    ----------
    points : tuple of tuple of float
    marks : tuple of bool
        Per point: True lies on the object.
    boxes : tuple of sides
        Start and stop along each axis; None for one that is too small to be meant. Of several the last is meant.
    """

    points: tuple[tuple[float, ...], ...] = ()
    marks: tuple[bool, ...] = ()
    boxes: tuple[Sides | None, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.points) or any(box is not None for box in self.boxes)

    def here(self, axes: str, frame: dict[str, int]) -> tuple[list[int], list[int]]:
        """The numbers of the points and of the boxes that lie where some axes have these values.

        Parameters
        ----------
        axes : str
            Of the places.
        frame : mapping of axis to int
        """
        rest = [(axes.index(a), k) for a, k in frame.items()]
        points = [n for n, point in enumerate(self.points) if all(round(point[i]) == k for i, k in rest)]
        boxes = [n for n, box in enumerate(self.boxes) if box is not None and all(box[i][0] <= k < box[i][1] for i, k in rest)]
        return points, boxes

    def prompt(self, axes: str, looked: str, frame: dict[str, int]) -> Prompt:
        """The same as a prompt.

        Parameters
        ----------
        axes : str
            Of the places.
        looked : str
            Those that the backend looks along.
        frame : mapping of axis to int
            Where the others are; places elsewhere are left out.
        """
        at = [axes.index(a) for a in looked]
        points, boxes = self.here(axes, frame)
        box = self.boxes[boxes[-1]] if boxes else None
        return Prompt(
            tuple(tuple(self.points[n][i] for i in at) for n in points),
            tuple(self.marks[n] for n in points),
            None if box is None else tuple(box[i] for i in at),
        )

    def lacking(self, axes: str, frame: dict[str, int]) -> str:
        """Why it does not say yet where an object is, in a sentence."""
        points, boxes = self.here(axes, frame)
        if points and not boxes:
            return "So far only background is said here: click on the object too."
        counts = {"point": len(self.points), "box": sum(box is not None for box in self.boxes)}
        told = [f"{n} {name}{'' if n == 1 else 'es' if name == 'box' else 's'}" for name, n in counts.items() if n]
        return f"In other slices: {', '.join(told)}." if told else ""


def box_of(low: Sequence[float], high: Sequence[float]) -> Sides | None:
    """The voxels between two opposite corners of a rectangle; None if it is smaller than a voxel.

    >>> box_of((2.0, 0.5, 0.5), (2.0, 4.5, 3.5))
    ((2.0, 3.0), (1.0, 5.0), (1.0, 4.0))
    """
    sides = []
    for a, b in zip(low, high, strict=True):
        flat = b - a < 1e-6  # along the axes that the rectangle does not reach along
        if not flat and b - a < 1:
            return None
        sides.append((float(floor(a + 0.5)), float(floor(a + 0.5)) + 1) if flat else (float(a) + 0.5, float(b) + 0.5))
    return tuple(sides)
