"""Law 2: a chunked result equals the whole, to the last bit of labels and table, for any chunk size.

Two halves: a codec decodes a region, with `reach` around it, as it decodes the whole frame; and the engine's maps, pieces and links do
not depend on the cuts. The maps here are adversarial: ties everywhere, plateaus in the centre map, offsets that are saturated or lead
out of the frame; and networks that were never trained.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_segsuite import arrays, codecs
from napari_segsuite.engine import tiles
from napari_segsuite.engine.plan import Options, resolve
from napari_segsuite.engine.run import result, run
from napari_segsuite.models import load_model
from napari_segsuite.types import Class, Head, Image, Model, ModelSpec, Prediction, Segmentation

if TYPE_CHECKING:
    from napari_segsuite.models.torch_model import TorchModel

Array = NDArray[Any]

FEW = settings(max_examples=25, deadline=None, derandomize=True)
CELL = (Class(1, "cell"),)
BOTH = (Class(1, "tissue", countable=False), Class(2, "cell"), Class(3, "debris"))
NEAR: dict[str, dict[str, Any]] = {
    "semantic": {},
    "centers": {"longest": 5, "second": 2, "search": 3, "window": 2, "center": 0.1},
    "flows": {"steps": 4, "search": 2, "window": 2, "smooth": 2, "least": 2},
    "boundaries": {"steps": 2, "level": 2, "search": 4, "merge": 0.3, "center": 0.1, "smooth": 1},
    "stars": {"longest": 2.5, "window": 1, "smooth": 0, "overlap": 0.2, "center": 0.1},
}
"""Options with which the decoders look at most 16 voxels far, so that small frames have an inside and an outside."""


# Codec --------------------------------------------------------------------------------------------------------------------------------


def adversarial(shape: Sequence[int], classes: int, seed: int) -> dict[str, Array]:
    """Integer maps, of all codecs, as no network gives them: few different values, in patches, vectors up to the end of their range."""
    rng = np.random.default_rng(seed)
    coarse = int(rng.integers(1, 6))

    def patches(values: Array, channels: int) -> Array:
        small = rng.choice(values, (channels, *[-(-n // coarse) for n in shape]))
        for axis, n in enumerate(shape, start=1):
            small = small.repeat(coarse, axis).take(np.arange(n), axis)
        return small

    heights = rng.choice([np.array([0, 255]), np.array([100, 101]), np.arange(256)][rng.integers(3)], 4)
    lengths = [np.array([-32768, 32767, 0]), np.array([-43, -4, 4, 3, 20]), np.arange(-80, 81)][rng.integers(3)]
    center = np.where(rng.random((1, *shape)) < 0.1, rng.integers(0, 256), patches(heights, 1))
    return {
        "semantic": patches(np.array([0, 127, 128, 255]), classes + 1).astype(np.uint8),
        "center": center.astype(np.uint8),
        "offset": patches(lengths, len(shape)).astype(np.int16),
        "flow": patches(lengths, len(shape)).astype(np.int16),
        "boundary": patches(heights, 1).astype(np.uint8),
        "probability": center.astype(np.uint8),
        "rays": patches(np.array([0, 20, 30, 36, 255]), 32 if len(shape) == 2 else 96).astype(np.uint8),
        "distance": np.where(rng.random((1, *shape)) < rng.choice([0, 0.03]), center, ramps(shape, rng) if seed % 2 else center).astype(np.uint8),
    }


def ramps(shape: Sequence[int], rng: np.random.Generator) -> Array:
    """Slopes that go up and down along a diagonal, in as many steps as decoders follow and more."""
    slope, period = rng.integers(-2, 3, len(shape)), int(rng.integers(4, 20))
    along = np.tensordot(slope, np.indices(shape), 1)[None] % period
    return np.asarray(np.minimum(along, period - along) * rng.integers(1, 13))


def decoded(
    name: str, maps: dict[str, Array], classes: Sequence[Class], box: tiles.Box, margin: Sequence[int], shape: Sequence[int], factor: Sequence[float]
) -> list[Array]:
    """What is decided for the voxels of `box` by a decoder that sees `margin` around it: class, global name, height of the centre, scores."""
    around = [(max(a - m, 0), min(b + m, n)) for (a, b), m, n in zip(box, margin, shape, strict=True)]
    at = tuple(slice(a, b) for a, b in around)
    seen = {key: np.ascontiguousarray(m[(slice(None), *at)]) for key, m in maps.items()}
    wanted = [slice(a - r, b - r) for (a, b), (r, _) in zip(box, around, strict=True)]
    got = codecs.codec(name).assign(seen, classes, NEAR[name], [a for a, _ in around], shape, factor, wanted)
    assert got.shape == tuple(b - a for a, b in box)
    return [got.inside, got.kind, got.keys[got.number], got.heights[got.number], *got.scores]


def assert_a_region_is_decoded_as_in_the_whole(
    name: str, shape: Sequence[int], classes: Sequence[Class], factor: Sequence[float], seed: int, margin: Sequence[int] | None = None
) -> None:
    maps = adversarial(shape, len(classes), seed)
    rng = np.random.default_rng(seed + 1)
    low = [int(rng.integers(0, n)) for n in shape]
    box = tuple((a, int(rng.integers(a + 1, n + 1))) for a, n in zip(low, shape, strict=True))
    reach = margin or codecs.codec(name).reach(NEAR[name], factor)
    part = decoded(name, maps, classes, box, reach, shape, factor)
    whole = decoded(name, maps, classes, box, shape, shape, factor)
    for one, other in zip(part, whole, strict=True):
        np.testing.assert_array_equal(one, other)


GRIDS: list[tuple[tuple[int, ...], tuple[float, ...]]] = [
    ((64, 70), (1.0, 1.0)),
    ((80, 61), (1.7, 1.0)),
    ((30, 90), (1.0, 2.5)),
    ((30, 34, 36), (1.0, 1.0, 1.0)),
    ((1, 64, 50), (1.0, 1.0, 1.0)),
]
"""Frames, and how many voxels of theirs are one of the model's."""


@given(
    st.sampled_from(sorted(NEAR)),
    st.sampled_from(GRIDS),
    st.sampled_from([CELL, BOTH]),
    st.integers(0, 2**32 - 2),
)
@settings(FEW, max_examples=60)
def test_a_region_with_reach_around_it_is_decoded_as_in_the_whole(
    name: str, grid: tuple[Sequence[int], Sequence[float]], classes: Sequence[Class], seed: int
) -> None:
    assert_a_region_is_decoded_as_in_the_whole(name, grid[0], classes, grid[1], seed)


@pytest.mark.parametrize(
    ("name", "far", "margins"),
    [
        ("centers", 5 + 2 + 3 + 2 + 4, (1, 4, 8)),
        ("flows", 2 * 4 + 2 + 2 + 2, (1, 4, 7, 9)),
        ("stars", 5 * 2 + 1 + 0, (1, 3, 4, 5)),
        ("boundaries", 3 * 2 + 4 + 2 + 1 + 3, (1, 3, 5)),
    ],
)
def test_a_reach_that_is_too_small_is_found_out(name: str, far: int, margins: Sequence[int]) -> None:
    """The test above can fail: with a third of the reach, or with each of its parts left out, some example differs."""
    reach = codecs.codec(name).reach(NEAR[name], (1.0, 1.0))
    assert reach == (far, far)
    for margin in margins:
        caught = 0
        for seed in range(40):
            try:
                assert_a_region_is_decoded_as_in_the_whole(name, (64, 70), CELL, (1.0, 1.0), seed, (margin, margin))
            except AssertionError:
                caught += 1
        assert caught, f"no example noticed a margin of {margin}"


# Engine -------------------------------------------------------------------------------------------------------------------------------


class Through:
    """A model that answers with its input: each channel of the image is a map. Whatever maps one wants go through the engine."""

    def __init__(self, dims: int, classes: Sequence[Class], representation: str = "centers", **options: Any) -> None:
        heads = codecs.codec(representation).heads(classes, dims)
        axes = "zyx"[-dims:]
        self.spec = ModelSpec(
            "through",
            axes,
            tuple(f"{h.name} {k}" for h in heads for k in range(h.channels)),
            heads,
            tuple(classes),
            representation,
            tile=(7, 16, 16)[-dims:],
            multiple=(1, 1, 1)[-dims:],
            context=(0, 3, 3)[-dims:],
            diameter_px=10.0,
            normalize={"method": "percentiles", "values": [0.0, 100.0]},
            codec_options={**NEAR[representation], **options},
        )

    def predict(self, batch: Array) -> Prediction:
        """Channels as maps; vectors from -1 to 1 times 8 voxels."""
        maps, at = {}, 0
        for head in self.spec.heads:
            value = batch[:, at : at + head.channels]
            maps[head.name] = (2 * value - 1) * 8 if head.kind == "vector" else value
            at += head.channels
        return Prediction(maps)


def picture(shape: Sequence[int], channels: int, seed: int) -> Array:
    """Patches of few values, channels first, with 0 and 1 in each channel."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((channels, *[-(-n // 3) for n in shape]))
    for axis, n in enumerate(shape, start=1):
        coarse = coarse.repeat(3, axis).take(np.arange(n), axis)
    mixed = np.where(rng.random(coarse.shape) < 0.2, rng.random(coarse.shape), np.round(coarse * 4) / 4)
    flat = mixed.reshape(channels, -1)
    flat[:, 0], flat[:, -1] = 0, 1
    return mixed.astype(np.float32)


def segmented(image: Image, model: Model, **options: Any) -> Segmentation:
    plan = resolve(image, Options.from_json({"model": model.spec.name, **options}), model.spec)
    return result(run(plan, image, model=model))


def grown(image: Image, model: Model, **options: Any) -> Segmentation:
    """The same into a store on disk, read back whole."""
    plan = resolve(image, Options.from_json({"model": model.spec.name, **options}), model.spec)
    with tempfile.TemporaryDirectory() as folder:
        found = result(run(plan, image, model=model, out=Path(folder) / "labels.ome.zarr"))
        return replace(found, labels=np.asarray(found.labels))


def assert_identical(one: Segmentation, other: Segmentation) -> None:
    """Every bit of the labels, every cell of the table."""
    assert one.labels.dtype == other.labels.dtype
    np.testing.assert_array_equal(one.labels, other.labels)
    assert list(one.segments) == list(other.segments)
    for name, column in one.segments.items():
        # An empty column of text has a length that a file does not keep.
        assert column.dtype == other.segments[name].dtype or column.dtype.kind == other.segments[name].dtype.kind == "U", name
        np.testing.assert_array_equal(column, other.segments[name], err_msg=name)
    assert one.provenance["fingerprint"] == other.provenance["fingerprint"]
    assert one.provenance["limits"] == other.provenance["limits"]


@st.composite
def cuts(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A frame and a chunk for it, at most about 60 chunks."""
    d = draw(st.sampled_from((2, 2, 3)))
    shape = draw(st.tuples(*[st.integers(1, 45 if d == 2 else 12)] * d))
    chunk = tuple(draw(st.integers(max(1, -(-n // (7 if d == 2 else 3))), n)) for n in shape)
    return shape, chunk


@given(
    st.sampled_from(["centers", "flows", "boundaries", "stars"]),
    cuts(),
    st.sampled_from([CELL, BOTH]),
    st.sampled_from([None, 4.0, 7.0, 15.0]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@FEW
@example("centers", ((9, 8), (1, 1)), BOTH, None, True, 1)
@example("centers", ((5, 6, 7), (1, 2, 3)), CELL, 7.0, False, 2)
def test_any_maps_are_segmented_the_same_in_any_chunks(
    name: str, cut: tuple[tuple[int, ...], tuple[int, ...]], classes: Sequence[Class], diameter: float | None, orphans: bool, seed: int
) -> None:
    shape, chunk = cut
    model = Through(len(shape), classes, name, orphans=orphans)
    image = arrays.as_image(picture(shape, len(model.spec.channels), seed), "c" + "zyx"[-len(shape) :])
    wish = {"diameter_px": diameter, "min_size_px": 2, "channels": [str(i) for i in range(image.size("c"))]}
    whole = segmented(image, model, **wish)
    assert_identical(segmented(image, model, chunk=chunk, **wish), whole)
    stored = grown(image, model, chunk=chunk, **wish)
    assert_identical(stored, whole)
    assert stored.provenance.get("seams", {}).get("agreement") in (None, 1.0)


NETS: dict[str, tuple[tuple[int, ...], str, Sequence[Class], dict[str, Any], list[tuple[int, ...]]]] = {
    "2D": ((53, 61), "yx", CELL, {}, [(53, 61), (17, 61), (30, 19), (64, 7)]),
    "2D, panoptic": ((50, 40), "yx", BOTH, {}, [(13, 17)]),
    "2D, by contact": ((50, 40), "yx", BOTH, {"representation": "semantic"}, [(13, 17), (50, 1)]),
    "2D, along flows": ((53, 61), "yx", BOTH, {"representation": "flows"}, [(17, 61), (30, 19)]),
    "2D, enlarged": ((40, 33), "yx", CELL, {"diameter_px": 6.0}, [(11, 33), (13, 14)]),
    "2D, made smaller": ((80, 67), "yx", CELL, {"diameter_px": 23.0}, [(80, 20), (31, 37)]),
    "2D, mirrored": ((40, 33), "yx", CELL, {"flips": True}, [(11, 20)]),
    "time": ((3, 30, 31), "tyx", BOTH, {}, [(30, 12)]),
    "slices": ((3, 30, 31), "zyx", CELL, {"stack": "slices"}, [(12, 30)]),
    "3D": ((15, 26, 29), "zyx", CELL, {}, [(15, 13, 29), (4, 11, 17)]),
    "3D, along flows": ((15, 26, 29), "zyx", CELL, {"representation": "flows"}, [(4, 11, 17)]),
    "2D, from boundaries": ((53, 61), "yx", BOTH, {"representation": "boundaries"}, [(17, 61), (30, 19)]),
    "3D, from boundaries": ((15, 26, 29), "zyx", CELL, {"representation": "boundaries"}, [(4, 11, 17)]),
    "2D, of stars": ((53, 61), "yx", BOTH, {"representation": "stars"}, [(17, 61), (30, 19)]),
    "3D, of stars": ((15, 26, 29), "zyx", CELL, {"representation": "stars"}, [(4, 11, 17)]),
    "3D, enlarged": ((9, 17, 15), "zyx", BOTH, {"diameter_px": 7.0}, [(4, 17, 6)]),
    "3D over time": ((2, 13, 14, 15), "tzyx", CELL, {}, [(6, 9, 15)]),
}


@pytest.mark.parametrize("name", NETS)
def test_a_network_answers_the_same_in_any_chunks(name: str, untrained: Callable[..., TorchModel]) -> None:
    shape, axes, classes, told, chunks = NETS[name]
    wish = dict(told)
    dims = 3 if "z" in axes and wish.get("stack") != "slices" else 2
    model = untrained(dims, classes, wish.pop("representation", "centers"))
    model.flips = bool(wish.get("flips"))
    pixels = np.random.default_rng(0).integers(0, 4000, shape).astype(np.uint16)
    image = arrays.as_image(pixels, axes)
    whole = segmented(image, model, **wish)
    assert len(whole.segments["id"]) > 5, "nothing to compare"
    grid = [round(n * 10.0 / wish.get("diameter_px", 10.0)) for n in shape[-dims:]]
    assert len(tiles.tiles(grid, model.spec, tuple((0, n) for n in grid))) > 1, "one tile proves nothing"
    for chunk in chunks:
        assert_identical(segmented(image, model, chunk=chunk, **wish), whole)
        assert_identical(grown(image, model, chunk=chunk, **wish), whole)


def test_batches_do_not_change_the_result(untrained: Callable[..., TorchModel]) -> None:
    image = arrays.as_image(np.random.default_rng(1).random((90, 70)).astype(np.float32))
    model = untrained()
    one = segmented(image, model, batch=1)
    for batch in (2, 7):
        assert_identical(segmented(image, model, batch=batch), one)


OTSU: dict[str, tuple[tuple[int, ...], str, dict[str, Any], list[tuple[int, ...]]]] = {
    "2D": ((60, 71), "yx", {}, [(60, 9), (7, 11), (1, 71)]),
    "3D": ((9, 20, 21), "zyx", {}, [(9, 20, 4), (2, 7, 5), (1, 5, 21)]),
    "time and channels": ((2, 2, 20, 30), "tcyx", {"channels": ["1"]}, [(6, 7)]),
    "slices over time": ((2, 3, 20, 21), "tzyx", {"stack": "slices"}, [(20, 5)]),
    "least size": ((60, 71), "yx", {"min_size_px": 20}, [(7, 11)]),
}


@pytest.mark.parametrize("name", OTSU)
def test_otsu_answers_the_same_in_any_chunks_and_tiles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape, axes, wish, chunks = OTSU[name]
    model = load_model("otsu")
    pixels = np.random.default_rng(3).normal(size=shape).cumsum(-1).astype(np.float32)
    image = arrays.as_image(pixels, axes)
    whole = segmented(image, model, **wish)
    assert len(whole.segments["id"]) > 3
    for chunk in chunks:
        assert_identical(segmented(image, model, chunk=chunk, **wish), whole)
        assert_identical(grown(image, model, chunk=chunk, **wish), whole)
    small = ModelSpec(**{**{f: getattr(model.spec, f) for f in model.spec.__dataclass_fields__}, "tile": (9, 13, 13)})
    monkeypatch.setattr(type(model), "spec", small)  # its maps do not even depend on the tiles
    np.testing.assert_array_equal(segmented(image, load_model("otsu"), chunk=chunks[0], **wish).labels, whole.labels)


@pytest.mark.parametrize("axes", ["yx", "tyx", "zyx"])
def test_numpy_dask_and_zarr_give_the_same(axes: str, untrained: Callable[..., TorchModel]) -> None:
    shape = (3, 30, 31)[-len(axes) :]
    pixels = np.random.default_rng(4).integers(0, 255, shape).astype(np.uint8)
    model = untrained(3 if axes == "zyx" else 2, BOTH)
    whole = segmented(arrays.as_image(pixels, axes), model)
    stored = zarr.create_array({}, shape=shape, chunks=(2, 11, 7)[-len(axes) :], dtype="uint8")
    stored[...] = pixels
    lazy = da.from_array(pixels, chunks=(1, 8, 9)[-len(axes) :])
    for data in (lazy, stored, np.asfortranarray(pixels), pixels.astype(">i4"), pixels[..., ::-1].copy()[..., ::-1]):
        other = segmented(arrays.as_image(data, axes), model, chunk=(2, 13, 12)[-(3 if axes == "zyx" else 2) :])
        np.testing.assert_array_equal(other.labels, whole.labels)
        for name, column in whole.segments.items():
            np.testing.assert_array_equal(other.segments[name], column)


# Maps ---------------------------------------------------------------------------------------------------------------------------------


@given(st.sampled_from([(40, 60), (40, 41), (300, 450), (7, 49), (1, 5)]), st.integers(0, 2**32 - 1))
@FEW
def test_maps_on_a_finer_grid_do_not_depend_on_the_cut(lengths: tuple[int, int], seed: int) -> None:
    n, m = lengths
    rng = np.random.default_rng(seed)
    heads = (Head("p", 1, "probability"), Head("v", 2, "vector"))
    shape, to = (n, 9), (m, 12)
    maps: dict[str, Array] = {"p": rng.integers(0, 256, (1, *shape)).astype(np.uint8), "v": rng.integers(-32768, 32768, (2, *shape)).astype(np.int16)}
    whole = tiles.maps_like(maps, heads, shape, to, tuple((0, k) for k in shape), tuple((0, k) for k in to))
    corner = [int(rng.integers(0, k)) for k in to]
    want = tuple((a, int(rng.integers(a + 1, k + 1))) for a, k in zip(corner, to, strict=True))
    have = []
    for (a, b), small, large in zip(want, shape, to, strict=True):
        index = arrays.resampler(small, large, a, b)[0]
        have.append((int(index.min()), int(index.max()) + 1))
    part = {name: value[:, have[0][0] : have[0][1], have[1][0] : have[1][1]] for name, value in maps.items()}
    got = tiles.maps_like(part, heads, shape, to, tuple(have), want)
    for name, value in got.items():
        np.testing.assert_array_equal(value, whole[name][:, want[0][0] : want[0][1], want[1][0] : want[1][1]])


def test_tiles_give_a_region_what_they_give_the_whole() -> None:
    """`predict` on any region is the crop of `predict` on the frame, also for a model that answers differently at each place in a tile."""

    class Local(Through):
        def predict(self, batch: Array) -> Prediction:
            ramp = np.add.outer(*[np.linspace(0, 0.3, n, dtype=np.float32) for n in batch.shape[2:]])
            return super().predict(np.clip(batch * 0.5 + ramp, 0, 1))

    model, shape = Local(2, CELL), (45, 38)
    pixels = picture(shape, 5, 5)

    def read(box: tiles.Box) -> NDArray[np.float32]:
        return pixels[:, box[0][0] : box[0][1], box[1][0] : box[1][1]]

    whole = _maps(partial(tiles.predict, read, shape, model, ((0, 45), (0, 38)), 3))
    for rows, columns in product([(0, 45), (11, 12), (20, 45)], [(0, 1), (15, 31)]):
        got = _maps(partial(tiles.predict, read, shape, model, (rows, columns), 2))
        for name, value in got.items():
            np.testing.assert_array_equal(value, whole[name][:, slice(*rows), slice(*columns)])


def _maps(steps: Callable[[], Any]) -> dict[str, Array]:
    maps: dict[str, Array] = {}
    for _, _, maps in steps():  # noqa: B007
        pass
    return maps
