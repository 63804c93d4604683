"""Pixels as a network wants them: cut out, resampled to the model's grid, normalised, holes filled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_segsuite import arrays
from napari_segsuite.engine import pixels as stored
from napari_segsuite.engine.layout import Grids
from napari_segsuite.engine.plan import Plan
from napari_segsuite.engine.tiles import Box
from napari_segsuite.types import Image


class Reader:
    """Reads boxes of one frame on the model's grid, and counts the pixels that had to be replaced.

    Parameters
    ----------
    plan : Plan
        With its limits measured.
    image : Image
    frame : tuple of int
        One index per frame axis.
    own : Box
        Image voxels in which replaced pixels are counted; tiles overlap, and a pixel shall count once.
    grids : Grids
    channels : int
        Of the network.
    """

    def __init__(self, plan: Plan, image: Image, frame: tuple[int, ...], own: Box, grids: Grids, channels: int) -> None:
        self.plan, self.image, self.frame, self.own, self.grids, self.channels = plan, image, frame, own, grids, channels
        self.missing: NDArray[np.bool_] | None = None

    @property
    def filled(self) -> int:
        """How many of the own pixels were not finite in a chosen channel."""
        return 0 if self.missing is None else int(np.count_nonzero(self.missing))

    @property
    def where(self) -> dict[str, list[int]]:
        """First and last-but-one index of these, per axis of the image; empty where there are none."""
        if not self.filled or self.missing is None:
            return {}
        found = {a: [at, at + 1] for a, at in zip(self.plan.frames, self.frame, strict=True)}
        for axis, at, (start, _) in zip(self.plan.axes, np.nonzero(self.missing), self.own, strict=True):
            found[axis] = [start + int(at.min()), start + int(at.max()) + 1]
        return found

    def read(self, box: Box) -> NDArray[np.float32]:
        """Normalised pixels (C, *spatial) of a box on the model's grid."""
        lines = [_line(n, m, a, b) for n, m, (a, b) in zip(self.grids.image, self.grids.model, box, strict=True)]
        have = [(a, b) for a, b, _ in lines]
        pixels = arrays.normalize(self._raw(have), self.plan.limits, arrays.FAR if self.plan.model["normalize"].get("cut", 4) is None else 4)
        finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(pixels))
        if not finite.all():
            self._note(~finite, have)
            arrays.fill(pixels)
        for axis, (_, _, mix) in enumerate(lines, start=1):
            if mix is not None:
                pixels = arrays.resample(pixels, *mix, axis)
        # A grey image goes through a colour network as a colour picture without colour.
        return np.repeat(pixels, self.channels, axis=0) if len(pixels) == 1 < self.channels else pixels

    def _note(self, bad: NDArray[np.bool_], have: list[tuple[int, int]]) -> None:
        """Remember which of the own pixels are not finite."""
        if self.missing is None:
            self.missing = np.zeros([b - a for a, b in self.own], np.bool_)
        both = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(self.own, have, strict=True)]
        if all(a < b for a, b in both):
            here = tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(both, self.own, strict=True))
            there = tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(both, have, strict=True))
            self.missing[here] |= bad[there]

    def _raw(self, box: list[tuple[int, int]]) -> NDArray[np.generic]:
        at = dict(zip(self.plan.frames, self.frame, strict=True))
        spatial = dict(zip(self.plan.axes, box, strict=True))
        planes = []
        for channel in self.plan.channels:
            index = tuple(channel if a == "c" else at[a] if a in at else slice(*spatial[a]) if a in spatial else 0 for a in self.image.axes)
            planes.append(stored.read(self.image, index))
        return np.stack(planes)


def _line(n: int, m: int, start: int, stop: int) -> tuple[int, int, tuple[NDArray[np.intp], NDArray[np.float32]] | None]:
    """Input range of one axis, and how its samples are mixed from it; None where nothing is resampled."""
    if n == m:
        return start, stop, None
    index, weights = arrays.resampler(n, m, start, stop)
    first = int(index.min())
    return first, int(index.max()) + 1, (index - first, weights)
