"""Where the tiles and chunks of a run lie, and which tiles a chunk needs. Numbers and boxes only: nothing here reads a pixel.

Three grids are involved: the image's, the model's (resampled where the plan says so) and the decoder's, the finer of the two per axis.
Everything is separable: what holds for a box follows from its sides, so that nothing here grows with the number of chunks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from napari_segsuite import arrays
from napari_segsuite.codecs import codec
from napari_segsuite.engine import tiles
from napari_segsuite.engine.plan import Plan
from napari_segsuite.engine.tiles import Box, Tile
from napari_segsuite.types import ModelSpec

Side = tuple[int, int]
STORED_VOXELS = 2**24
"""A chunk of a result on disk has about this many voxels where none is wished."""
ROUND = 64
"""Chunks that are not a whole frame long are a multiple of this, so that files have even parts."""


@dataclass(frozen=True)
class At:
    """The place of a chunk: one index per frame axis, and a box along the spatial axes, in image voxels."""

    frame: tuple[int, ...]
    box: Box


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

    def on_decoder(self, box: Box) -> Box:
        """The decoder's voxels that lie under a box of image voxels."""
        return tuple(
            (a, b) if n == d else (int(arrays.nearest(d, n, a, a + 1)[0]), int(arrays.nearest(d, n, b - 1, b)[0]) + 1)
            for (a, b), n, d in zip(box, self.image, self.decoder, strict=True)
        )

    def around(self, box: Box, reach: Sequence[int]) -> Box:
        """The decoder's voxels that a box of image voxels is decoded from."""
        core = self.on_decoder(box)
        return tuple((max(a - r, 0), min(b + r, n)) for (a, b), r, n in zip(core, reach, self.decoder, strict=True))

    def on_model(self, box: Box) -> Box:
        """The model's voxels that a box on the decoder's grid is interpolated from."""
        out = []
        for (a, b), n, d in zip(box, self.model, self.decoder, strict=True):
            if n == d:
                out.append((a, b))
            else:
                ends = [arrays.resampler(n, d, i, i + 1)[0] for i in (a, b - 1)]
                out.append((int(ends[0].min()), int(ends[1].max()) + 1))
        return tuple(out)

    def samples(self, box: Box, around: Box) -> list[NDArray[np.intp] | slice] | None:
        """Where the voxels of an image box lie in the decoded region; None if they are all of it."""
        if self.image == self.decoder:
            if box == around:
                return None
            return [slice(a - r, b - r) for (a, b), (r, _) in zip(box, around, strict=True)]
        return [arrays.nearest(d, n, a, b) - r for (a, b), (r, _), n, d in zip(box, around, self.image, self.decoder, strict=True)]

    def own(self, core: Box) -> Box:
        """The image voxels that a box of the model's grid answers for; boxes that share no voxel there share none here."""
        return tuple((-(-a * n // m), -(-b * n // m)) for (a, b), n, m in zip(core, self.image, self.model, strict=True))


def grids(plan: Plan) -> Grids:
    """The three grids of a plan's frames."""
    size = dict(zip(plan.image["axes"], plan.image["shape"], strict=True))
    shape = tuple(int(size[a]) for a in plan.axes)
    model = tuple(n if z == 1 else max(1, round(n * z)) for n, z in zip(shape, plan.zoom, strict=True))
    return Grids(shape, model, tuple(max(n, m) for n, m in zip(shape, model, strict=True)))


def chunk_of(plan: Plan) -> tuple[int, ...]:
    """The wished chunk, or the whole frame halved until it is small enough for a worker's memory."""
    if plan.options.chunk:
        return plan.chunk
    size = dict(zip(plan.image["axes"], plan.image["shape"], strict=True))
    chunk = [int(size[a]) for a in plan.axes]
    while np.prod(chunk, dtype=float) > STORED_VOXELS:
        longest = int(np.argmax(chunk))
        chunk[longest] = -(-chunk[longest] // (2 * ROUND)) * ROUND
    return tuple(chunk)


class Layout:
    """The tiles and chunks of a run, by number: frame after frame, in the order of the voxels.

    Parameters
    ----------
    plan : Plan
    spec : ModelSpec
    """

    def __init__(self, plan: Plan, spec: ModelSpec) -> None:
        self.plan, self.spec, self.grids = plan, spec, grids(plan)
        size = dict(zip(plan.image["axes"], plan.image["shape"], strict=True))
        self.frames = tuple(int(size[a]) for a in plan.frames)
        self.reach = codec(spec.codec).reach(plan.codec_options, self.grids.factor)

    @cached_property
    def chunk_lines(self) -> list[list[Side]]:
        """Per axis, the sides of the chunks."""
        return [[(a, min(a + c, n)) for a in range(0, n, c)] for n, c in zip(self.grids.image, self.plan.chunk, strict=True)]

    @cached_property
    def tile_lines(self) -> list[list[tuple[Side, Side]]]:
        """Per axis, what the tiles answer for and what they see."""
        return tiles.lines(self.grids.model, self.spec)

    def wider(self, box: Box) -> Box:
        """A box and one voxel more at its far sides: a chunk also decodes those, so that linking can see whether its neighbour answers the same."""
        return tuple((a, min(b + 1, n)) for (a, b), n in zip(box, self.grids.image, strict=True))

    @cached_property
    def needs(self) -> list[list[Side]]:
        """Per axis and chunk, the first tile that it needs and the one after the last."""
        out = []
        for axis, lines in enumerate(self.chunk_lines):
            seen = [self.grids.around(self.wider(self._probe(axis, side)), self.reach) for side in lines]
            boxes = [self.grids.on_model(box)[axis] for box in seen]
            cores = [core for core, _ in self.tile_lines[axis]]
            touched = [[k for k, (a, b) in enumerate(cores) if a < stop and b > start] for start, stop in boxes]
            out.append([(ks[0], ks[-1] + 1) for ks in touched])
        return out

    @cached_property
    def users(self) -> list[list[Side]]:
        """Per axis and tile, the first chunk that needs it and the one after the last."""
        out = []
        for needs, line in zip(self.needs, self.tile_lines, strict=True):
            first, last = [a for a, _ in needs], [b for _, b in needs]  # both ascend
            out.append([(bisect_right(last, k), bisect_right(first, k)) for k in range(len(line))])
        return out

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Chunks per frame axis and spatial axis."""
        return (*self.frames, *[len(line) for line in self.chunk_lines])

    @property
    def tile_shape(self) -> tuple[int, ...]:
        """Tiles per frame axis and spatial axis."""
        return (*self.frames, *[len(line) for line in self.tile_lines])

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return prod(self.chunk_shape)

    @property
    def tiles(self) -> int:
        """How many tiles there are."""
        return prod(self.tile_shape)

    @property
    def chunks_per_frame(self) -> int:
        """How many chunks a frame has; chunk k is of frame ``k // chunks_per_frame``."""
        return prod(len(line) for line in self.chunk_lines)

    def chunk(self, number: int) -> At:
        """Place of a chunk."""
        frame, at = self._split(number, self.chunk_shape)
        return At(frame, tuple(line[i] for line, i in zip(self.chunk_lines, at, strict=True)))

    def tile(self, number: int) -> tuple[tuple[int, ...], Tile]:
        """Frame and place of a tile."""
        frame, at = self._split(number, self.tile_shape)
        picked = [line[i] for line, i in zip(self.tile_lines, at, strict=True)]
        return frame, Tile(tuple(core for core, _ in picked), tuple(seen for _, seen in picked))

    def tiles_of(self, number: int) -> list[int]:
        """The tiles that a chunk needs."""
        frame, at = self._split(number, self.chunk_shape)
        sides = [need[i] for need, i in zip(self.needs, at, strict=True)]
        return self.tiles_in(frame, sides)

    def tiles_over(self, frame: tuple[int, ...], region: Box) -> list[int]:
        """The tiles that a box on the model's grid is made of."""
        sides = []
        for line, (start, stop) in zip(self.tile_lines, region, strict=True):
            touched = [k for k, ((a, b), _) in enumerate(line) if a < stop and b > start]
            sides.append((touched[0], touched[-1] + 1))
        return self.tiles_in(frame, sides)

    def tiles_in(self, frame: tuple[int, ...], sides: Sequence[Side]) -> list[int]:
        """Numbers of a box of tiles."""
        return [int(np.ravel_multi_index((*frame, *at), self.tile_shape)) for at in product(*[range(a, b) for a, b in sides])]

    def chunks_with(self, tile: int) -> tuple[int | slice, ...]:
        """The chunks that need a tile, as an index into an array of `chunk_shape`."""
        frame, at = self._split(tile, self.tile_shape)
        return (*frame, *[slice(*users[i]) for users, i in zip(self.users, at, strict=True)])

    def _split(self, number: int, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        at = tuple(int(i) for i in np.unravel_index(number, tuple(shape)))
        return at[: len(self.frames)], at[len(self.frames) :]

    def _probe(self, axis: int, side: Side) -> Box:
        return tuple(side if a == axis else (0, 1) for a in range(len(self.grids.image)))
