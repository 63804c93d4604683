"""The work on one chunk, a pure function of the plan, the image and the chunk's place.

1. `Reader`         pixels of one tile, resampled to the model's grid, normalised, holes filled
2. `tiles.predict`  integer maps of the chunk and of as much around it as the decoder looks at
3. `decode`         the codec's decision per voxel, and the connected pieces of the chunk itself
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from napari_segsuite.codecs import codec, pieces
from napari_segsuite.engine import tiles
from napari_segsuite.engine.layout import At as At
from napari_segsuite.engine.layout import Grids, grids
from napari_segsuite.engine.plan import Plan
from napari_segsuite.engine.reader import Reader
from napari_segsuite.engine.tiles import Box
from napari_segsuite.models import load_model
from napari_segsuite.models.mirrored import Mirrored
from napari_segsuite.models.orthogonal import Orthogonal
from napari_segsuite.types import Image, Model, ModelSpec, Pieces


@dataclass(frozen=True, eq=False)
class Labelled:
    """What comes back from a chunk.

    Attributes
    ----------
    at : At
    pieces : Pieces
    filled : int
        Pixels that were not finite and were replaced.
    where : mapping
        First and last-but-one index of these, per axis.
    device : str
        Where the network ran.
    notices : tuple of str
    """

    at: At
    pieces: Pieces
    filled: int = 0
    device: str = "cpu"
    notices: tuple[str, ...] = ()
    where: Mapping[str, Sequence[int]] = field(default_factory=dict)


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
        Parts of tiles.

    Returns
    -------
    Labelled
    """
    model = model_of(plan, model)
    spec, cells = model.spec, grids(plan)
    region = cells.on_model(seen(plan, spec, at, cells))
    reader = Reader(plan, image, at.frame, at.box, cells, len(spec.channels))
    maps: dict[str, Any] = {}
    for done, total, maps in tiles.predict(reader.read, cells.model, model, region, plan.batch):  # noqa: B007
        yield done, total
    return Labelled(at, decode(plan, spec, at, maps), reader.filled, *told(model), reader.where)


def seen(plan: Plan, spec: ModelSpec, at: At, cells: Grids) -> Box:
    """The box on the decoder's grid that a chunk is decoded from."""
    return cells.around(at.box, codec(spec.codec).reach(plan.codec_options, cells.factor))


def decode(plan: Plan, spec: ModelSpec, at: At, maps: Mapping[str, Any]) -> Pieces:
    """Make pieces of the integer maps of what a chunk needs, on the model's grid."""
    cells = grids(plan)
    assigned = assign(plan, spec, at.box, seen(plan, spec, at, cells), maps)
    return pieces.collect(assigned, spec.classes, [a for a, _ in at.box], cells.image)


def assign(plan: Plan, spec: ModelSpec, box: Box, around: Box, maps: Mapping[str, Any]) -> pieces.Assigned:
    """Decide for the image voxels of a box, from maps of what `around` on the decoder's grid is interpolated from."""
    cells = grids(plan)
    region = cells.on_model(around)
    if cells.decoder != cells.model or region != around:
        maps = tiles.maps_like(maps, spec.heads, cells.model, cells.decoder, region, around)
    origin, wanted = [a for a, _ in around], cells.samples(box, around)
    assigned: pieces.Assigned = codec(spec.codec).assign(maps, spec.classes, plan.codec_options, origin, cells.decoder, cells.factor, wanted)
    return assigned


def told(model: Model) -> tuple[str, tuple[str, ...]]:
    """Where a model ran, and what it has to say about that."""
    return str(getattr(model, "device", "cpu")), tuple(getattr(model, "notices", ()))


def model_of(plan: Plan, model: Model | None = None) -> Model:
    """The model that a plan names, loaded once per process, or a given one; as the plan runs it."""
    o = plan.options
    model = model or _model(o.model, o.device, o.batch, o.flips, plan.model["spec_sha256"])
    return Orthogonal(model) if plan.orthogonal else Mirrored(model, plan.mirror) if plan.mirror else model


@functools.lru_cache(maxsize=1)
def _model(ref: str, device: str, batch: int, flips: bool, spec_sha256: str) -> Model:
    """The model of this process; a second one replaces it, so that memory does not pile up, and so does another one of the same name."""
    return load_model(ref, device=device, batch=batch, flips=flips)
