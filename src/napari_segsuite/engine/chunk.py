"""The work on one chunk, a pure function of the plan, the image and the chunk's place.

1. `_grids`       how the frame looks on the image's, the model's and the decoder's grid
2. `_read`        pixels of one tile, resampled to the model's grid, normalised, holes filled
3. `tiles.predict` integer maps of the chunk and of as much around it as the decoder looks at
4. ``assign``     the codec's decision per voxel
5. `pieces.collect` connected pieces of the chunk itself, with the rows of which their segments' rows are sums
"""

from __future__ import annotations

import functools
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite import arrays
from napari_segsuite.codecs import codec, pieces
from napari_segsuite.engine import pixels as stored
from napari_segsuite.engine import tiles
from napari_segsuite.engine.plan import Plan
from napari_segsuite.engine.tiles import Box
from napari_segsuite.models import load_model
from napari_segsuite.types import Image, Model, Pieces


@dataclass(frozen=True)
class At:
    """The place of a chunk: one index per frame axis, and a box along the spatial axes, in image voxels."""

    frame: tuple[int, ...]
    box: Box


@dataclass(frozen=True, eq=False)
class Labelled:
    """What comes back from a chunk.

    Attributes
    ----------
    at : At
    pieces : Pieces
    filled : int
        Pixels that were not finite and were replaced by their nearest neighbour.
    device : str
        Where the network ran.
    notices : tuple of str
    """

    at: At
    pieces: Pieces
    filled: int = 0
    device: str = "cpu"
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grids:
    """Shapes of one frame on the image's grid, the model's, and the decoder's, which is the finer of the two per axis."""

    image: tuple[int, ...]
    model: tuple[int, ...]
    decoder: tuple[int, ...]

    @property
    def factor(self) -> tuple[float, ...]:
        """Decoder voxels per model voxel."""
        return tuple(d / m for d, m in zip(self.decoder, self.model, strict=True))


def label(plan: Plan, image: Image, at: At, model: Model | None = None) -> Generator[tuple[int, int], None, Labelled]:
    """Segment one chunk.

    Parameters
    ----------
    plan : Plan
        With its limits measured.
    image : Image
    at : At
    model : Model, optional
        By default the one that the plan names, loaded once per process.

    Yields
    ------
    done, total : int
        Tiles.

    Returns
    -------
    Labelled
    """
    model = model or _model(plan.options.model, plan.options.device, plan.options.batch, plan.options.flips)
    spec = model.spec
    decode = codec(spec.codec)
    grids = _grids(plan, image)
    core = _on_decoder(at.box, grids)
    reach = decode.reach(plan.codec_options, grids.factor)
    around = tuple((max(a - r, 0), min(b + r, n)) for (a, b), r, n in zip(core, reach, grids.decoder, strict=True))
    region = _on_model(around, grids)
    reader = _Reader(plan, image, at, grids, len(spec.channels))
    maps: dict[str, NDArray[Any]] = {}
    for done, total, maps in tiles.predict(reader.read, grids.model, model, region, plan.options.batch):  # noqa: B007
        yield done, total
    if grids.decoder != grids.model or region != around:
        maps = tiles.maps_like(maps, spec.heads, grids.model, grids.decoder, region, around)
    wanted = _samples(at.box, around, grids)
    assigned = decode.assign(maps, spec.classes, plan.codec_options, [a for a, _ in around], grids.decoder, grids.factor, wanted)
    found = pieces.collect(assigned, spec.classes, [a for a, _ in at.box], grids.image)
    device = str(getattr(model, "device", "cpu"))
    return Labelled(at, found, reader.filled, device, tuple(getattr(model, "notices", ())))


@functools.lru_cache(maxsize=1)
def _model(ref: str, device: str, batch: int, flips: bool) -> Model:
    """The model of this process; a second one replaces it, so that memory does not pile up."""
    return load_model(ref, device=device, batch=batch, flips=flips)


def _grids(plan: Plan, image: Image) -> Grids:
    shape = tuple(image.size(a) for a in plan.axes)
    model = tuple(n if z == 1 else max(1, round(n * z)) for n, z in zip(shape, plan.zoom, strict=True))
    return Grids(shape, model, tuple(max(n, m) for n, m in zip(shape, model, strict=True)))


def _on_decoder(box: Box, grids: Grids) -> Box:
    """The decoder's voxels that lie under a box of image voxels."""
    return tuple(
        (a, b) if n == d else (int(arrays.nearest(d, n, a, a + 1)[0]), int(arrays.nearest(d, n, b - 1, b)[0]) + 1)
        for (a, b), n, d in zip(box, grids.image, grids.decoder, strict=True)
    )


def _on_model(box: Box, grids: Grids) -> Box:
    """The model's voxels that a box on the decoder's grid is interpolated from."""
    out = []
    for (a, b), n, d in zip(box, grids.model, grids.decoder, strict=True):
        if n == d:
            out.append((a, b))
        else:
            ends = [arrays.resampler(n, d, i, i + 1)[0] for i in (a, b - 1)]
            out.append((int(ends[0].min()), int(ends[1].max()) + 1))
    return tuple(out)


def _samples(box: Box, around: Box, grids: Grids) -> list[NDArray[np.intp] | slice] | None:
    """Where the voxels of an image box lie in the decoded region; None if they are all of it."""
    if grids.image == grids.decoder:
        if box == around:
            return None
        return [slice(a - r, b - r) for (a, b), (r, _) in zip(box, around, strict=True)]
    return [arrays.nearest(d, n, a, b) - r for (a, b), (r, _), n, d in zip(box, around, grids.image, grids.decoder, strict=True)]


class _Reader:
    """Reads boxes of one frame on the model's grid, and counts the pixels of the chunk that had to be replaced."""

    def __init__(self, plan: Plan, image: Image, at: At, grids: Grids, channels: int) -> None:
        self.plan, self.image, self.at, self.grids, self.channels = plan, image, at, grids, channels
        self.missing: NDArray[np.bool_] | None = None

    @property
    def filled(self) -> int:
        """How many pixels of the chunk's own box were not finite in a chosen channel; tiles overlap, pixels count once."""
        return 0 if self.missing is None else int(np.count_nonzero(self.missing))

    def read(self, box: Box) -> NDArray[np.float32]:
        """Normalised pixels (C, *spatial) of a box on the model's grid."""
        lines = [_line(n, m, a, b) for n, m, (a, b) in zip(self.grids.image, self.grids.model, box, strict=True)]
        have = [(a, b) for a, b, _ in lines]
        pixels = arrays.normalize(self._raw(have), self.plan.limits)
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
        """Remember which pixels of the chunk's own box are not finite."""
        mine = self.at.box
        if self.missing is None:
            self.missing = np.zeros([b - a for a, b in mine], np.bool_)
        both = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(mine, have, strict=True)]
        if all(a < b for a, b in both):
            here = tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(both, mine, strict=True))
            there = tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(both, have, strict=True))
            self.missing[here] |= bad[there]

    def _raw(self, box: list[tuple[int, int]]) -> NDArray[np.generic]:
        at = dict(zip(self.plan.frames, self.at.frame, strict=True))
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
