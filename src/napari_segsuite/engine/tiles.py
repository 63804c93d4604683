"""Maps of a region, computed on the canonical grid of tiles.

The grid belongs to the frame and the model: it is anchored at the frame's origin, and neither chunks, workers nor memory move it.
A tile is computed with its context around it, and the context's maps are thrown away; only the border of the frame has none.
Therefore every voxel's maps are the same bits whoever computes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product, takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.arrays import mirror
from napari_segsuite.codecs import instances
from napari_segsuite.codecs.centers import EIGHTHS
from napari_segsuite.codecs.instances import Objects
from napari_segsuite.errors import ModelError
from napari_segsuite.types import Head, Model, ModelSpec, Prediction

Box = tuple[tuple[int, int], ...]
"""``(start, stop)`` per axis."""
Told = tuple[int, int, dict[str, Any]]
UNITS = 100
"""Of work per tile."""


@dataclass(frozen=True)
class Tile:
    """A piece of the canonical grid: the voxels it answers for, and what the network sees for that."""

    core: Box
    seen: Box


def tiles(shape: Sequence[int], spec: ModelSpec, region: Box) -> list[Tile]:
    """List the tiles of a frame of `shape` that a region needs, in the frame's order.

    Parameters
    ----------
    shape : d ints
        Of the frame on the model's grid.
    spec : ModelSpec
    region : Box
        On the same grid.
    """
    d = len(shape)
    lines = [_line(*numbers) for numbers in zip(shape, spec.tile[-d:], spec.context[-d:], spec.multiple[-d:], region, strict=True)]
    return [Tile(tuple(core for core, _ in t), tuple(seen for _, seen in t)) for t in product(*lines)]


def lines(shape: Sequence[int], spec: ModelSpec) -> list[list[tuple[tuple[int, int], tuple[int, int]]]]:
    """The cuts of a whole frame, per axis: what each tile answers for, and what it sees."""
    d = len(shape)
    numbers = zip(shape, spec.tile[-d:], spec.context[-d:], spec.multiple[-d:], strict=True)
    return [_line(n, tile, context, multiple, (0, n)) for n, tile, context, multiple in numbers]


def _line(n: int, tile: int, context: int, multiple: int, wanted: tuple[int, int]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The cuts of one axis: as few and as even as the largest tile allows, starting at multiples of the network's stride."""
    context = -(-context // multiple) * multiple
    core = n if n <= tile else _core(n, tile, context, multiple)
    starts = [s for s in range(0, n, core) if s < wanted[1] and min(s + core, n) > wanted[0]]
    return [((s, min(s + core, n)), (max(s - context, 0), min(s + core + context, n))) for s in starts]


def _core(n: int, tile: int, context: int, multiple: int) -> int:
    """Even cores whose tiles, with the context on both sides (two tiles: on one), are not larger than `tile`."""
    half = -(-n // (2 * multiple)) * multiple
    if half + context <= tile:
        return half
    most = max((tile - 2 * context) // multiple, 1) * multiple
    return -(-n // (-(-n // most) * multiple)) * multiple


def predict(read: Callable[[Box], NDArray[np.float32]], shape: Sequence[int], model: Model, region: Box, batch: int) -> Iterator[Told]:
    """Compute the integer maps of a region.

    Parameters
    ----------
    read : callable
        Box on the model's grid to normalised (C, *spatial) float32 pixels.
    shape : d ints
        Of the frame on the model's grid.
    model : Model
    region : Box
    batch : int
        Tiles of one shape that are handed to the model together.

    Yields
    ------
    done, total, maps
        After each batch, and where the model tells it in between; a tile is `UNITS`. The maps are complete after the last: (C, *region) uint8
        for probabilities, int16 in 1/8 voxel for vectors; ``objects`` of models that answer with those.
    """
    todo = tiles(shape, model.spec, region)
    size = [b - a for a, b in region]
    maps = {h.name: np.zeros((h.channels, *size), np.int16 if h.kind == "vector" else np.uint8) for h in model.spec.heads}
    done, whole = 0, list[Objects]()
    while done < len(todo):
        together = _alike(todo[done : done + min(batch, at_once(model))])
        multiple = model.spec.multiple[-len(size) :]
        pixels = np.stack([padded(read(tile.seen), multiple) for tile in together])
        answer = yield from _answers(model, pixels, done, len(todo), maps)
        for name, values in answered(model.spec, answer, pixels.shape).items():
            for tile, value in zip(together, values, strict=True):
                paste(maps[name], value, tile.core, tile.seen, region)
        whole += [instances.answered(found, tile.core, tile.seen, shape) for tile, found in zip(together, answer.objects, strict=False)]
        done += len(together)
        yield UNITS * done, UNITS * len(todo), maps | of_region(whole, region) if whole else maps


def _answers(model: Model, pixels: NDArray[np.float32], done: int, total: int, maps: dict[str, Any]) -> Generator[Told, None, Prediction]:
    """Ask a model; one that answers in steps says in between how far it is."""
    if not hasattr(model, "steps"):
        return model.predict(pixels)
    steps = model.steps(pixels)
    while True:
        try:
            part = next(steps)
        except StopIteration as stop:
            answer: Prediction = stop.value
            return answer
        yield int(UNITS * (done + part * len(pixels))), UNITS * total, maps


def of_region(objects: Sequence[Objects], region: Box) -> dict[str, Any]:
    """What tiles answered, in the coordinates of a region, as one of its maps."""
    size = [b - a for a, b in region]
    return {"objects": instances.together([instances.moved(found, [-a for a, _ in region], size) for found in objects], size)}


def at_once(model: Model) -> int:
    """Tiles that a model computes together; several gain nothing on a processor, and take the memory of as many."""
    return int(getattr(model, "batch", 1))


def answered(spec: ModelSpec, answer: Prediction, shape: Sequence[int]) -> dict[str, NDArray[Any]]:
    """The integer maps (N, C, *spatial) in what a model answered about tiles of a `shape` (N, channels, *spatial).

    Raises
    ------
    ModelError
        A map is missing, has another shape, or holds what is no number: rounded, that would be background without a word.
    """
    maps: dict[str, NDArray[Any]] = {}
    for head in spec.heads:
        value, needed = answer.maps.get(head.name), (shape[0], head.channels, *shape[2:])
        if value is None or tuple(value.shape) != needed:
            found = f"a map {head.name!r} of shape {tuple(value.shape)}" if value is not None else f"no map {head.name!r}"
            raise ModelError(f"model {spec.name!r} answered with {found}", f"a map {head.name!r} of shape {needed}")
        if not is_finite(value):
            raise ModelError(
                f"model {spec.name!r} answered with values that are no numbers (NaN or infinite), in its map {head.name!r}",
                do="Choose device='cpu' (--device cpu), which computes with more digits, or another model.",
            )
        maps[head.name] = quantize(head, value)
    return maps


def is_finite(value: Any) -> bool:
    """Whether there is no NaN and no infinity among numbers (numpy or torch, on any device); no copy of them is made."""
    if not math.prod(value.shape):
        return True
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "f" or bool(np.isfinite(value.min()) and np.isfinite(value.max()))  # which a NaN passes on to
    return not value.is_floating_point() or all(math.isfinite(end) for end in map(float, value.aminmax()))


def quantize(head: Head, value: Any) -> NDArray[Any]:
    """Round activated maps (numpy or torch, on any device) to the integers that decoding works with."""
    scale, low, high = (EIGHTHS, -32768, 32767) if head.kind == "vector" else (255, 0, 255)
    kind = "int16" if head.kind == "vector" else "uint8"
    if isinstance(value, np.ndarray):
        scaled: NDArray[Any] = value * scale
        np.clip(np.rint(scaled, out=scaled), low, high, out=scaled)
        return scaled.astype(kind)
    import torch

    tensor = (value * scale).round_().clamp_(low, high).to(getattr(torch, kind)).cpu().numpy()
    result: NDArray[Any] = tensor
    return result


def _alike(todo: Sequence[Tile]) -> list[Tile]:
    """The leading tiles that have one shape."""
    shapes = [tuple(b - a for a, b in tile.seen) for tile in todo]
    return [tile for tile, _ in takewhile(lambda pair: pair[1] == shapes[0], zip(todo, shapes, strict=True))]


def padded(pixels: NDArray[np.float32], multiple: Sequence[int]) -> NDArray[np.float32]:
    """Mirror the end of each axis until it is a multiple of what the network needs."""
    for axis, m in enumerate(multiple, start=1):
        n = pixels.shape[axis]
        extra = -n % m
        if extra:
            pixels = pixels.take(mirror(n, n + extra), axis=axis)
    return np.ascontiguousarray(pixels)


def paste(target: NDArray[Any], value: NDArray[Any], core: Box, have: Box, region: Box) -> None:
    """Copy what a tile answers for (`core`) from its maps, which cover the box `have`, into those of a region."""
    low = [max(c[0], r[0]) for c, r in zip(core, region, strict=True)]
    high = [min(c[1], r[1]) for c, r in zip(core, region, strict=True)]
    to = tuple(slice(a - r[0], b - r[0]) for a, b, r in zip(low, high, region, strict=True))
    source = tuple(slice(a - s[0], b - s[0]) for a, b, s in zip(low, high, have, strict=True))
    target[(slice(None), *to)] = value[(slice(None), *source)]


def maps_like(maps: Mapping[str, Any], heads: Sequence[Head], shape: Sequence[int], to: Sequence[int], have: Box, want: Box) -> dict[str, Any]:
    """Bring maps from the model's grid to a finer one: probabilities by linear interpolation, vectors from the nearest voxel.

    Parameters
    ----------
    maps : mapping
        Integer maps of the box `have` on a grid of `shape`.
    heads : sequence of Head
    shape, to : d ints
        The frame on the model's grid, and on the finer one.
    have, want : Box
        Where the maps lie on the model's grid; what is wanted on the finer one.
    """
    from napari_segsuite import arrays

    out: dict[str, Any] = {}
    if "objects" in maps:
        lines = [arrays.nearest(n, m, *w) - h[0] if n != m else np.arange(*w) - h[0] for n, m, h, w in zip(shape, to, have, want, strict=True)]
        out["objects"] = instances.enlarged(maps["objects"], lines, [b - a for a, b in want])
    for head in heads:
        value: NDArray[Any] = maps[head.name]
        for axis, (n, m, h, w) in enumerate(zip(shape, to, have, want, strict=True), start=1):
            if n == m:
                value = value[(slice(None),) * axis + (slice(w[0] - h[0], w[1] - h[0]),)]
            elif head.kind == "vector":
                value = value.take(arrays.nearest(n, m, *w) - h[0], axis=axis)
            else:
                index, weights = arrays.resampler(n, m, *w)
                value = arrays.resample(value, index - h[0], weights, axis)
        if head.kind == "vector":
            ratio = np.array([m / n for n, m in zip(shape, to, strict=True)]).reshape(-1, *[1] * len(shape))
            # A model for two and three axes answers with three components, of which the last one is not used in 2D.
            out[head.name] = np.clip(np.rint(value[: len(shape)] * ratio), -32768, 32767).astype(np.int16)
        else:
            out[head.name] = np.rint(value).astype(np.uint8)
    return out
