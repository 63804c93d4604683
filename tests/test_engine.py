"""The engine's parts: contrast constants, tiles, resampling, filling, numbering, and what is written down about a run."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage import filters, transform

from napari_segsuite import arrays, segment, thresholds
from napari_segsuite.codecs import semantic
from napari_segsuite.engine import gather, measure, scratch, tiles
from napari_segsuite.engine import run as engine
from napari_segsuite.engine.plan import Options, Plan, resolve
from napari_segsuite.errors import ModelError, OutputError
from napari_segsuite.models import load_model, load_spec
from napari_segsuite.types import Class, Head, Image, Model, ModelSpec, Prediction, Segmentation

if TYPE_CHECKING:
    from napari_segsuite.models.torch_model import TorchModel

Array = NDArray[Any]

FEW = settings(max_examples=25, deadline=None, derandomize=True)
CELL = (Class(1, "cell"),)
BOTH = (Class(1, "tissue", countable=False), Class(2, "glass", countable=False), Class(3, "cell"))


class Levels:
    """A model that takes the pixel for the class: 0 ground, 1 tissue, 2 glass, 3 cell."""

    def __init__(self, classes: Sequence[Class] = BOTH, **more: Any) -> None:
        told: dict[str, Any] = {"tile": (8, 8), "multiple": (1, 1), "context": (2, 2), "normalize": {"method": "percentiles", "values": [0, 100]}}
        self.spec = ModelSpec("levels", "yx", ("grey",), semantic.heads(classes, 2), tuple(classes), "semantic", **{**told, **more})

    def predict(self, batch: Array) -> Prediction:
        kinds = np.rint(batch[:, 0] * 3)
        return Prediction({"semantic": np.stack([kinds == k for k in range(len(self.spec.classes) + 1)], axis=1).astype(np.float32)})


def planned(image: Image, model: Model | str, **options: Any) -> Plan:
    spec = load_spec(model) if isinstance(model, str) else model.spec
    return resolve(image, Options.from_json({"model": spec.name, **options}), spec)


def segmented(image: Image, model: Model, **options: Any) -> Segmentation:
    return engine.result(engine.run(planned(image, model, **options), image, model=model))


# Contrast -----------------------------------------------------------------------------------------------------------------------------


def limits(data: Any, axes: str, model: str = "otsu", **options: Any) -> tuple[tuple[float, float], ...]:
    image = arrays.as_image(data, axes)
    spec = replace(load_spec("otsu"), normalize={"method": "percentiles", "values": [1.0, 99.0]}) if model != "otsu" else load_spec("otsu")
    return measure.measured(resolve(image, Options.from_json({"model": "otsu", **options}), spec), image, spec).limits


@pytest.mark.parametrize("largest", [2**22, 2**10])
@pytest.mark.parametrize("model", ["otsu", "percentiles"])
def test_constants_do_not_depend_on_storage_or_chunks(largest: int, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "LARGEST", largest)
    pixels = np.random.default_rng(0).gamma(2, 300, (3, 40, 50)).astype(np.uint16)
    stored = zarr.create_array({}, shape=pixels.shape, chunks=(2, 7, 50), dtype="uint16")
    stored[...] = pixels
    expected = limits(pixels, "tyx", model)
    for data in (stored, da.from_array(pixels, chunks=(1, 13, 9)), pixels.astype(">u2"), np.asfortranarray(pixels)):
        assert limits(data, "tyx", model) == expected
    assert limits(pixels, "tyx", model, chunk=(9, 9)) == expected
    assert limits(pixels, "zyx", model, stack="slices") == expected


def test_small_images_are_measured_whole_over_all_frames() -> None:
    pixels = np.arange(2000, dtype=np.float32).reshape(2, 1000, 1)
    assert limits(pixels, "tyx", "percentiles")[0] == pytest.approx(tuple(np.percentile(pixels, [1, 99])))


def test_each_chosen_channel_has_its_own_constants() -> None:
    pixels = np.stack([np.arange(400).reshape(20, 20), 1000 + 3 * np.arange(400).reshape(20, 20)]).astype(np.uint16)
    first, second = (limits(pixels, "cyx", "percentiles", channels=[name])[0] for name in "01")
    assert second == pytest.approx((1000 + 3 * first[0], 1000 + 3 * first[1]))


class Counting:
    """A large image that is not there: zeros, and a note of what was read."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.dtype, self.ndim = shape, np.dtype(np.uint8), len(shape)
        self.read: list[list[range]] = []

    def __getitem__(self, key: tuple[slice, ...]) -> Array:
        box = [range(n)[k] for k, n in zip(key, self.shape, strict=True)]
        self.read.append(box)
        return np.zeros([len(b) for b in box], np.uint8)


@given(st.lists(st.integers(1, 20000), min_size=2, max_size=4))
@FEW
@example([1, 10**9])
@example([3, 200, 50000, 50000])
@example([10**5, 2, 2, 2])
def test_what_is_read_of_a_large_image_is_bounded_and_spread_evenly(shape: list[int]) -> None:
    image = arrays.as_image(Counting(tuple(shape)), "tzyx"[-len(shape) :])
    values = measure.sample(image, 0)
    assert len(values.ravel()) <= 2 * measure.LARGEST
    assert len(image.data.read) <= 4 * measure.BLOCKS
    if np.prod(shape, dtype=float) <= measure.LARGEST:
        assert values.size == np.prod(shape)
        return
    assert values.size >= measure.LARGEST / 8
    for axis, n in enumerate(shape):
        seen = [(box[axis][0], box[axis][-1]) for box in image.data.read]
        assert all(0 <= a <= b < n for a, b in seen)
        if len(set(seen)) > 1:
            assert min(seen)[0] == 0
            assert max(b for _, b in seen) == n - 1


def test_a_sample_stands_for_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(1).normal(100, 10, (8, 200, 200)).astype(np.float32)
    whole = limits(pixels, "zyx", "percentiles")[0]
    monkeypatch.setattr(measure, "LARGEST", 2**14)
    assert limits(pixels, "zyx", "percentiles")[0] == pytest.approx(whole, abs=1)


def test_a_method_that_does_not_exist_is_told() -> None:
    image = arrays.as_image(np.zeros((8, 8)))
    spec = replace(load_spec("otsu"), normalize={"method": "magic"})
    with pytest.raises(
        ModelError, match=r"Model 'otsu' asks for the normalisation 'magic'\. Needed: one of percentiles, otsu, clusters, mixture, mean_std, none\."
    ):
        measure.measured(resolve(image, Options(model="otsu"), spec), image, spec)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float16, np.float32, np.float64])
def test_otsu_agrees_with_scikit_image(dtype: type) -> None:
    rng = np.random.default_rng(2)
    values: Array = np.concatenate([rng.normal(40, 6, 3000), rng.normal(100, 9, 1000)]).astype(dtype)
    low, high = thresholds.otsu(values)
    theirs = values > filters.threshold_otsu(values.astype(np.float32) if dtype == np.float16 else values, 1024)
    assert np.mean(((values.astype(float) - low) / (high - low) > 0.5) != theirs) < 0.002


@pytest.mark.parametrize("span", [2**16, 2**23])
def test_otsu_of_integers_far_apart_takes_no_memory_for_what_lies_between(span: int) -> None:
    values = np.array([0, 1, 2, span, span + 1], np.uint64)
    tracemalloc.start()
    low, high = thresholds.otsu(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 2 < (low + high) / 2 < span
    assert peak < 10e6


def test_otsu_of_yes_and_no() -> None:
    low, high = thresholds.otsu(np.array([[True, False], [False, False]]))
    assert 0 < (low + high) / 2 < 1


@pytest.mark.parametrize("value", [0, 1, 2**53 + 2, 2**63])
def test_the_constants_of_a_constant_image_are_two(value: int) -> None:
    low, high = arrays.contrast(np.full(9, value, np.uint64), (1, 99.8))
    assert low < high
    normal = arrays.normalize(np.full((1, 3, 3), value, np.uint64), [(low, high)])
    assert np.isfinite(normal).all()
    assert (normal == 0).all()


def test_what_is_not_finite_stays_recognisable() -> None:
    pixels = np.array([[[0, 5, 10, np.inf, -np.inf, np.nan, 1000]]], np.float32)
    np.testing.assert_array_equal(arrays.normalize(pixels, [(0, 10)]), [[[0, 0.5, 1, np.nan, np.nan, np.nan, 4]]])


# Resampling ---------------------------------------------------------------------------------------------------------------------------


def resampled(values: Array, n_out: int) -> Array:
    return arrays.resample(values, *arrays.resampler(len(values), n_out, 0, n_out), 0)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32 - 1))
@FEW
@example(1, 7, 0)
@example(7, 1, 0)
@example(299, 300, 0)
def test_resampling_keeps_a_constant_and_does_not_depend_on_the_partition(n: int, m: int, seed: int) -> None:
    index, weights = arrays.resampler(n, m, 0, m)
    assert weights.sum(1) == pytest.approx(np.ones(m), abs=1e-6)
    assert weights.min() >= 0
    assert index.min() >= 0
    assert index.max() < n
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 3)).astype(np.float32)
    whole = resampled(values, m)
    a = int(rng.integers(0, m))
    b = int(rng.integers(a + 1, m + 1))
    part_index, part_weights = arrays.resampler(n, m, a, b)
    first, stop = int(part_index.min()), int(part_index.max()) + 1
    np.testing.assert_array_equal(arrays.resample(values[first:stop], part_index - first, part_weights, 0), whole[a:b])


@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
@FEW
def test_enlarging_is_linear_interpolation(n: int, factor: int, seed: int) -> None:
    values = np.random.default_rng(seed).random(n)
    for m in (n * factor, n * factor + 1):
        theirs = ndimage.map_coordinates(values, [(np.arange(m) + 0.5) * n / m - 0.5], order=1, mode="nearest")
        assert resampled(values, m) == pytest.approx(theirs, abs=1e-5)
    theirs = transform.resize(values[:, None], (n * factor, 1), order=1, mode="edge", anti_aliasing=False)[:, 0]
    assert resampled(values, n * factor) == pytest.approx(theirs, abs=1e-5)


def test_making_smaller_averages_and_keeps_places() -> None:
    ramp = np.arange(60, dtype=np.float32)
    for m in (30, 20, 7):
        middles = (np.arange(m) + 0.5) * 60 / m - 0.5
        assert resampled(ramp, m)[1:-1] == pytest.approx(middles[1:-1], abs=0.01)
    checkered = np.tile([0.0, 1.0], 30).astype(np.float32)
    assert resampled(checkered, 15)[1:-1] == pytest.approx(0.5, abs=1e-6)  # every other voxel would give only zeros or ones
    np.testing.assert_array_equal(resampled(ramp, 60), ramp)


@given(st.integers(1, 200), st.integers(1, 200))
@FEW
def test_nearest_takes_the_sample_under_the_middle(n: int, m: int) -> None:
    expected = [int((i + 0.5) * n // m) for i in range(m)]
    np.testing.assert_array_equal(arrays.nearest(n, m, 0, m), expected)
    np.testing.assert_array_equal(arrays.nearest(n, m, m // 2, m), expected[m // 2 :])


@pytest.mark.parametrize(("diameter", "grid"), [(5.0, (60, 80)), (20.0, (15, 20)), (10.2, (30, 40))])
def test_a_model_sees_the_image_at_its_own_scale(diameter: float, grid: tuple[int, int]) -> None:
    class Looking(Levels):
        seen: set[tuple[int, ...]] = set()

        def predict(self, batch: Array) -> Prediction:
            self.seen.add(batch.shape[2:])
            return Prediction({"semantic": np.concatenate([1 - batch, batch], axis=1)})

    model = Looking(CELL, diameter_px=10.0, tile=(90, 90))
    pixels = np.zeros((30, 40), np.uint8)
    pixels[3:13, 5:25], pixels[20:28, 30:40] = 1, 1
    found = segmented(arrays.as_image(pixels), model, diameter_px=diameter)
    assert model.seen == {grid}
    assert found.labels.shape == (30, 40)
    truth = ndimage.label(pixels)[0]
    if diameter < 11:
        np.testing.assert_array_equal(found.labels, np.where(found.labels > 0, truth, 0))
        assert np.mean((found.labels > 0) == (truth > 0)) > 0.9
    assert bool(planned(arrays.as_image(pixels), model, diameter_px=diameter).notices) == (diameter != 10.2)


def test_physical_sizes_set_the_scale() -> None:
    model = Levels(CELL, pixel_size_um=(0.5, 0.25))
    image = replace(arrays.as_image(np.zeros((30, 40))), scale=(1000.0, 250.0), units=("nanometer", "nanometer"))
    assert planned(image, model).zoom == (2.0, 1.0)
    assert planned(replace(image, units=("pixel", "pixel")), model).zoom == (1.0, 1.0)


# Tiles --------------------------------------------------------------------------------------------------------------------------------


@st.composite
def grids(draw: st.DrawFn) -> tuple[tuple[int, ...], ModelSpec]:
    d = draw(st.sampled_from((2, 3)))
    multiple = draw(st.tuples(*[st.sampled_from((1, 2, 4, 16))] * d))
    context = draw(st.tuples(*[st.integers(0, 20)] * d))
    room = draw(st.tuples(*[st.integers(0, 60)] * d))
    tile = tuple(2 * (-(-c // m) * m) + m + r for c, m, r in zip(context, multiple, room, strict=True))
    shape = draw(st.tuples(*[st.integers(1, 300 if d == 2 else 90)] * d))
    return shape, replace(load_spec("otsu"), tile=tile, multiple=multiple, context=context)


@given(grids(), st.integers(0, 2**32 - 1))
@settings(FEW, max_examples=60)
def test_the_cores_of_tiles_cover_the_frame_exactly_and_none_is_too_large(grid: tuple[tuple[int, ...], ModelSpec], seed: int) -> None:
    shape, spec = grid
    everything = tuple((0, n) for n in shape)
    found = tiles.tiles(shape, spec, everything)
    covered = np.zeros(shape, np.uint8)
    for tile in found:
        covered[tuple(slice(*c) for c in tile.core)] += 1
        for (a, b), (s, e), n, m, c, t in zip(tile.core, tile.seen, shape, spec.multiple, spec.context, spec.tile, strict=True):
            assert a % m == 0
            assert s % m == 0
            assert s <= max(a - c, 0) <= a < b <= min(b + c, n) <= e <= n
            assert e - s <= t
    assert (covered == 1).all()
    rng = np.random.default_rng(seed)
    low = [int(rng.integers(0, n)) for n in shape]
    region = tuple((a, int(rng.integers(a + 1, n + 1))) for a, n in zip(low, shape, strict=True))
    touched = [t for t in found if all(a < d and c < b for (a, b), (c, d) in zip(t.core, region, strict=True))]
    assert tiles.tiles(shape, spec, region) == touched


def test_tiles_are_as_few_as_their_size_allows() -> None:
    spec = replace(load_spec("otsu"), tile=(1, 512, 512), multiple=(1, 16, 16), context=(0, 64, 64))
    for n, count in ((512, 1), (513, 2), (896, 2), (897, 3), (1152, 3), (1153, 4), (4096, 11)):
        assert len(tiles.tiles((n, 512), spec, ((0, n), (0, 512)))) == count, n


def test_a_frame_is_mirrored_up_to_what_the_network_needs() -> None:
    pixels = np.arange(10, dtype=np.float32).reshape(1, 2, 5)
    out = tiles.padded(pixels, (4, 4))
    np.testing.assert_array_equal(out, np.pad(pixels, ((0, 0), (0, 2), (0, 3)), mode="reflect"))
    single = tiles.padded(np.full((1, 1, 1), 7, np.float32), (4, 8))
    assert single.shape == (1, 4, 8)
    assert (single == 7).all()


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_maps_become_integers_by_rounding_and_never_wrap(kind: str) -> None:
    torch = pytest.importorskip("torch") if kind == "torch" else None
    wrap = torch.tensor if torch is not None else np.array
    probability = tiles.quantize(Head("p", 1, "probability"), wrap([0.0, 0.5, 1.0, 1.01, -0.2, 0.2]))
    assert probability.dtype == np.uint8
    assert probability.tolist() == [0, 128, 255, 255, 0, 51]
    vector = tiles.quantize(Head("v", 1, "vector"), wrap([0.0, 1.0, -1.06, 1e9, -1e9]))
    assert vector.dtype == np.int16
    assert vector.tolist() == [0, 8, -8, 32767, -32768]


def test_chunks_cover_all_frames_exactly() -> None:
    image = arrays.as_image(np.zeros((2, 3, 10, 11)), "tzyx")
    plan = planned(image, "otsu", chunk=(4, 5), stack="slices")
    covered = np.zeros((2, 3, 10, 11), int)
    for at in engine.places(plan):
        covered[at.frame][tuple(slice(*b) for b in at.box)] += 1
    assert (covered == 1).all()


# Filling ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [(), (7, 30), (5, 5)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_take_their_neighbours_value_and_count_once(chunk: tuple[int, ...], bad: float) -> None:
    whole = np.zeros((30, 30), np.float32)
    whole[4:14, 3:20], whole[20:26, 8:22] = 3, 1
    holed = whole.copy()
    holed[8, 8:10] = holed[23, 15] = holed[0, 0] = bad
    model = Levels(context=(3, 3))
    found = segmented(arrays.as_image(holed), model, chunk=chunk)
    np.testing.assert_array_equal(found.labels, segmented(arrays.as_image(whole), model).labels)
    assert found.provenance["filled"] == 4
    assert found.provenance["notices"] == [
        "4 pixels were not finite (NaN or infinite), within y=0:24, x=0:16: the nearest value within 8 pixels stands in for them, "
        "and where there is none they are dark"
    ]


def test_a_pixel_missing_in_two_channels_counts_once_and_channels_not_chosen_do_not_count() -> None:
    pixels = np.random.default_rng(0).random((3, 20, 20))
    pixels[0, 3, 3] = pixels[1, 3, 3] = pixels[1, 5, 5] = pixels[2, 7, 7] = np.nan
    model = Levels()
    model.spec = replace(model.spec, channels=("a", "b"))
    image = arrays.as_image(pixels, "cyx")
    assert segmented(image, model, channels=["0", "1"], chunk=(6, 6)).provenance["filled"] == 2


def test_fill_takes_the_nearest_of_its_own_channel() -> None:
    pixels = np.array([[[1, np.nan, np.nan, np.nan, 5]], [[np.nan] * 5], [[np.inf, 2, 3, 4, 5]]], np.float32)
    assert arrays.fill(pixels) == 3 + 5 + 1
    np.testing.assert_array_equal(pixels[:, 0, [0, 1, 3, 4]], [[1, 1, 5, 5], [0, 0, 0, 0], [2, 2, 4, 5]])


# Tables -------------------------------------------------------------------------------------------------------------------------------


def assert_table_fits(found: Segmentation) -> None:
    """Recompute every column that follows from the labels."""
    table = found.segments
    names = [f"bbox_{a}{i}" for a in found.axes for i in (0, 1)] + [f"centroid_{a}" for a in found.axes]
    assert list(table) == ["id", "class_id", "score", "size", *names, "status"]
    assert table["id"].tolist() == np.unique(found.labels[found.labels > 0]).tolist()
    for row, i in enumerate(table["id"]):
        at = np.argwhere(found.labels == i)
        assert table["size"][row] == len(at)
        for k, a in enumerate(found.axes):
            assert (table[f"bbox_{a}0"][row], table[f"bbox_{a}1"][row]) == (at[:, k].min(), at[:, k].max() + 1)
            assert table[f"centroid_{a}"][row] == pytest.approx(at[:, k].mean(), abs=1e-6)
    stuff = sum(not c.countable for c in found.classes)
    assert ((table["id"] <= stuff) == (table["class_id"] <= stuff)).all()
    assert (table["id"] == table["class_id"])[table["id"] <= stuff].all()


@pytest.mark.parametrize(
    ("axes", "wish"), [("yx", {}), ("tyx", {}), ("zyx", {"stack": "slices"}), ("tzyx", {"stack": "slices"}), ("tcyx", {"channels": ["1"]})]
)
def test_the_table_fits_the_labels(axes: str, wish: dict[str, Any]) -> None:
    shape = {"t": 3, "c": 2, "z": 2, "y": 24, "x": 17}
    pixels = ndimage.zoom(np.random.default_rng(3).integers(0, 4, [shape[a] for a in axes]), 1, order=0)
    pixels = pixels.repeat(2, -1).repeat(2, -2)[..., :24, :17]
    found = segmented(arrays.as_image(pixels.astype(np.uint8), axes), Levels(), chunk=(9, 8), **wish)
    assert_table_fits(found)
    assert len(found.segments["id"]) > 10
    assert (found.segments["score"] == 1).all()


def test_stuff_is_one_segment_over_all_frames_and_things_are_numbered_on() -> None:
    pixels = np.zeros((3, 8, 8), np.uint8)
    pixels[0, :2], pixels[2, 6:, :3] = 1, 1  # tissue in the first and the last frame
    pixels[1, 0, 0] = 2
    pixels[0, 4:6, 1:3] = pixels[0, 4:6, 5:7] = pixels[1, 4, 4] = pixels[2, 0, :] = 3
    found = segmented(arrays.as_image(pixels, "tyx"), Levels())
    assert_table_fits(found)
    table = found.segments
    assert table["id"].tolist() == [1, 2, 3, 4, 5, 6]
    assert table["class_id"].tolist() == [1, 2, 3, 3, 3, 3]
    assert table["size"].tolist() == [22, 1, 4, 4, 1, 8]
    assert (table["bbox_t0"].tolist(), table["bbox_t1"].tolist()) == ([0, 1, 0, 0, 1, 2], [3, 2, 1, 1, 2, 3])
    np.testing.assert_array_equal(found.labels > 0, pixels > 0)


def test_the_score_of_stuff_is_the_mean_over_its_voxels() -> None:
    class Doubting(Levels):
        """Surer the nearer a pixel is to a class."""

        def predict(self, batch: Array) -> Prediction:
            doubt = np.abs(3 * batch - np.rint(3 * batch))
            return Prediction({"semantic": (super().predict(batch).maps["semantic"] * (1 - doubt)).astype(np.float32)})

    pixels = np.zeros((2, 8, 8), np.float32)
    pixels[0, :6], pixels[1, 0], pixels[1, 7, 7] = 1, 1.4, 3
    found = segmented(arrays.as_image(pixels, "tyx"), Doubting(), chunk=(3, 8))
    assert found.segments["size"].tolist() == [56, 1]
    assert found.segments["score"] == pytest.approx([(48 + 8 * 0.6) / 56, 1], abs=1e-3)


def test_least_size_counts_things_and_never_stuff() -> None:
    pixels = np.zeros((12, 12), np.uint8)
    pixels[0, 0], pixels[4:6, 4:6], pixels[8:11, 8:11] = 1, 3, 3
    model = Levels()
    assert segmented(arrays.as_image(pixels), model).segments["size"].tolist() == [1, 4, 9]
    assert segmented(arrays.as_image(pixels), model, min_size_px=5, chunk=(5, 5)).segments["size"].tolist() == [1, 9]
    assert segmented(arrays.as_image(pixels), model, min_size_px=9).labels.max() == 3


@pytest.mark.parametrize(("before", "dtype"), [(2**32 - 1 - 2 - 5, np.uint32), (2**32 - 1 - 2 - 4, np.uint64)])
def test_more_objects_than_32_bits_can_number_get_64(before: int, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `before` things had been found in earlier frames; the fifth here gets the number ``2 + before + 5``."""

    class Later(gather.Frames):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.tally.things = before

    monkeypatch.setattr(gather, "Frames", Later)
    pixels = np.zeros((2, 8, 8), np.uint8)
    pixels[0, 0, ::2] = pixels[1, 3, 3] = 3
    pixels[1, 7] = 1
    found = segmented(arrays.as_image(pixels, "tyx"), Levels(), chunk=(3, 3))
    assert found.labels.dtype == dtype
    assert found.segments["id"].tolist() == [1, *range(before + 3, before + 8)]
    np.testing.assert_array_equal(np.unique(found.labels), [0, 1, *range(before + 3, before + 8)])
    np.testing.assert_array_equal(found.labels > 0, pixels > 0)


# What is written down -----------------------------------------------------------------------------------------------------------------


def test_the_provenance_says_what_was_done() -> None:
    pixels = np.random.default_rng(5).integers(0, 4, (20, 20)).astype(np.uint8)
    image = replace(arrays.as_image(pixels, name="cells"), source="cells.tif", scale=(0.5, 0.5), units=("micrometer",) * 2, translate=(3.0, 4.0))
    plan = planned(image, "otsu", chunk=(7, 7))
    found = engine.result(engine.run(plan, image))
    told = found.provenance
    assert json.loads(json.dumps(told)) == told
    assert told["plan"]["image"]["source"] == "cells.tif"
    assert told["plan"]["options"] == plan.options.to_json()
    assert told["fingerprint"] == plan.fingerprint
    assert told["limits"] == told["plan"]["limits"] == [list(limits(pixels, "yx")[0])]
    assert told["tile"] == {"size": [64, 512, 512], "context": [4, 4, 4], "multiple": [1, 1, 1]}
    assert (told["device"], told["filled"], told["notices"]) == ("cpu", 0, [])
    assert {"napari-segsuite", "numpy", "torch", "python"} <= set(told["versions"])
    assert told["seconds"] > 0
    assert (found.axes, found.scale, found.units, found.translate) == ("yx", (0.5, 0.5), ("micrometer",) * 2, (3.0, 4.0))
    assert found.name == "cells otsu"


def test_segment_is_the_same_in_one_call() -> None:
    pixels = np.random.default_rng(6).integers(0, 4, (20, 20)).astype(np.uint8)
    one = segment(pixels, model="otsu", min_size_px=3)
    other = segmented(arrays.as_image(pixels), load_model("otsu"), min_size_px=3)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.provenance["fingerprint"] == other.provenance["fingerprint"]


BASE = {"min_size_px": 3, "foreground": 0.4}
SAME: dict[str, Callable[[Image], tuple[Image, dict[str, Any]]]] = {
    "nothing": lambda i: (i, {}),
    "device": lambda i: (i, {"device": "cpu"}),
    "batch": lambda i: (i, {"batch": 9}),
    "chunk": lambda i: (i, {"chunk": [5, 5]}),
    "name": lambda i: (replace(i, name="other"), {}),
    "place of the file": lambda i: (replace(i, source="moved.tif"), {}),
    "dask instead of numpy": lambda i: (replace(i, levels=(da.from_array(i.data),)), {}),
    "other pixels": lambda i: (replace(i, levels=(i.data + 1,)), {}),
}
OTHER: dict[str, Callable[[Image], tuple[Image, dict[str, Any]]]] = {
    "least size": lambda i: (i, {"min_size_px": 4}),
    "foreground": lambda i: (i, {"foreground": 0.41}),
    "flips": lambda i: (i, {"flips": True}),
    "diameter": lambda i: (i, {"diameter_px": 20.0}),
    "shape": lambda i: (replace(i, levels=(i.data[:-1],)), {}),
    "type": lambda i: (replace(i, levels=(i.data.astype(np.float32),)), {}),
    "scale": lambda i: (replace(i, scale=(1.0, 2.0)), {}),
}


def fingerprint(change: Callable[[Image], tuple[Image, dict[str, Any]]], model: Model) -> str:
    image, more = change(arrays.as_image(np.zeros((20, 30), np.uint8), name="a"))
    return planned(image, model, **{**BASE, **more}).fingerprint


@pytest.mark.parametrize("name", SAME)
def test_the_fingerprint_stays_with_what_cannot_change_the_result(name: str) -> None:
    model = Levels(diameter_px=10.0)
    assert fingerprint(SAME[name], model) == fingerprint(SAME["nothing"], model)
    assert len(fingerprint(SAME[name], model)) == 16


@pytest.mark.parametrize("name", OTHER)
def test_the_fingerprint_changes_with_what_can(name: str) -> None:
    model = Levels(diameter_px=10.0)
    assert fingerprint(OTHER[name], model) != fingerprint(SAME["nothing"], model)


@pytest.mark.parametrize(
    "more",
    [
        {"version": "2"}, {"weights_sha256": "ab"}, {"tile": (16, 16)}, {"context": (3, 3)}, {"codec_options": {"foreground": 0.3, "min_size": 1}},
        {"normalize": {"method": "otsu"}}, {"diameter_px": 12.0}, {"net": {"name": "resunet", "kwargs": {}}},
    ],
)  # fmt: skip
def test_the_fingerprint_changes_with_the_model(more: dict[str, Any]) -> None:
    told = {"diameter_px": 10.0, **more}
    wish = {"diameter_px": 20.0}
    assert fingerprint(lambda i: (i, wish), Levels(**told)) != fingerprint(lambda i: (i, wish), Levels(diameter_px=10.0))


def test_the_fingerprint_does_not_depend_on_what_was_measured_or_on_the_order_of_words() -> None:
    image = arrays.as_image(np.zeros((20, 30), np.uint8))
    plan = planned(image, Levels(codec_options={"a": 1, "b": 2}))
    assert replace(plan, limits=((0.0, 1.0),), notices=("x",)).fingerprint == plan.fingerprint
    assert planned(image, Levels(codec_options={"b": 2, "a": 1})).fingerprint == plan.fingerprint


# A run --------------------------------------------------------------------------------------------------------------------------------


def test_progress_is_told_after_every_batch_and_ends_at_its_total() -> None:
    image = arrays.as_image(np.zeros((40, 8), np.uint8))
    told: list[engine.Progress] = []
    model = Levels()
    engine.result(engine.run(planned(image, model, batch=1, chunk=(20, 8)), image, model=model), told.append)
    assert told[0] == engine.Progress(0, 1, "measuring contrast")
    done = [p.done for p in told[1:]]
    assert done == sorted(done)
    assert done[-1] == told[-1].total == 200
    assert len(done) >= 2 + len(tiles.tiles((40, 8), model.spec, ((0, 40), (0, 8))))
    assert any(d % 100 for d in done), "only whole chunks are told"
    assert told[-1].message == "segmenting on cpu"


def test_closing_a_run_stops_it() -> None:
    image = arrays.as_image(np.zeros((40, 40), np.uint8))
    calls: list[int] = []

    class Noted(Levels):
        def predict(self, batch: Array) -> Prediction:
            calls.append(len(batch))
            return super().predict(batch)

    steps = engine.run(planned(image, Noted(), batch=1), image, model=Noted())
    next(steps)
    next(steps)
    steps.close()
    assert sum(calls) == 1


def test_a_network_says_its_notices_in_the_provenance(untrained: Callable[..., TorchModel]) -> None:
    model = untrained()
    model.notices.append("something to know")
    found = segmented(arrays.as_image(np.random.default_rng(0).random((40, 30))), model, chunk=(20, 30))
    assert found.provenance["notices"] == ["something to know"]


# Scratch ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", ">u2", "<i4", ">f4", "f8", "?"])
def test_pixels_in_a_file_are_the_same_pixels(dtype: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2 if dtype == "?" else 100, (2, 3, 7, 5)).astype(dtype)
    for data in (pixels, np.asfortranarray(pixels), pixels[:, ::-1]):
        far = scratch.portable(arrays.as_image(data, "tcyx"), tmp_path).data
        assert isinstance(far, scratch.Stored)
        assert (far.shape, far.dtype) == (data.shape, data.dtype.newbyteorder("="))
        np.testing.assert_array_equal(far[1, :, 2:5], data[1, :, 2:5])
        assert scratch.portable(replace(arrays.as_image(data, "tcyx"), levels=(far,)), tmp_path).data is far


def test_a_temporary_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"The temporary folder .* cannot take 4e-09 GB of pixels: .* Free some space, or set TMPDIR\."):
        scratch.portable(arrays.as_image(np.zeros((2, 2), np.uint8)), tmp_path / "gone")


def test_counters(tmp_path: Path) -> None:
    path = tmp_path / "3.count"
    assert scratch.counted(path) == (0, 0)
    scratch.count(path, 2, 9)
    assert scratch.counted(path) == (2, 9)
    assert [p.name for p in tmp_path.iterdir()] == ["3.count"]
    with pytest.raises(FileNotFoundError):
        scratch.count(tmp_path / "gone" / "3.count", 1, 2)


def test_the_scratch_folder_goes_whatever_happens() -> None:
    folders: list[Path] = []

    def work() -> None:
        with scratch.scratch() as folder:
            folders.append(folder)
            (folder / "file").write_text("x")
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert not folders[0].exists()
