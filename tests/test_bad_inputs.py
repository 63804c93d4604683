"""Pixels of any type, range, size and layout give a right result, or, where they are no image, an error in plain words."""

from __future__ import annotations

import functools
import itertools
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from napari_segsuite import evaluate, read_segmentation, segment
from napari_segsuite.arrays import as_image
from napari_segsuite.cli import main
from napari_segsuite.errors import InputError, SegsuiteError
from napari_segsuite.io.overlay import overlay
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Class

Array = NDArray[Any]

MODELS = ("otsu", "nuclei")
CELLS = np.zeros((24, 32), bool)
CELLS[4:10, 4:10] = CELLS[14:20, 18:26] = True


def cells(dtype: Any = np.uint16, low: float = 10, high: float = 100) -> Array:
    """Two bright squares."""
    return np.where(CELLS, high, low).astype(dtype)


@functools.cache
def found() -> Array:
    """The labels that `cells` have."""
    labels = np.asarray(segment(cells(), model="otsu").labels)
    assert [int((labels == i).sum() - CELLS[box].sum()) in range(-4, 9) for i, box in ((1, np.s_[:12]), (2, np.s_[12:]))] == [True, True]
    return labels


KINDS = ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64", "longdouble")
VIEWS: dict[str, Callable[[Array], Array]] = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "Fortran order": np.asfortranarray,
    "mirrored twice": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "every second pixel of more": lambda a: np.repeat(np.repeat(a, 2, 0), 2, 1)[::2, ::2],
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_type_of_the_pixels_does_not_matter(kind: str) -> None:
    assert np.array_equal(segment(cells(kind), model="otsu").labels, found())
    assert np.array_equal(segment(cells(np.dtype(kind).newbyteorder(">")), model="otsu").labels, found())


def test_yes_and_no_are_pixels_too() -> None:
    assert np.array_equal(segment(CELLS, model="otsu").labels, found())


@pytest.mark.parametrize(("low", "high"), [(-100.0, -50.0), (0.1, 0.2), (1e-40, 3e-40), (1e30, 2e30), (-1.7e308, 1.7e308)])
def test_the_range_of_the_pixels_does_not_matter(low: float, high: float) -> None:
    assert np.array_equal(segment(cells(np.float64, low, high), model="otsu").labels, found())


@pytest.mark.parametrize("view", VIEWS)
def test_how_pixels_lie_in_memory_does_not_matter_and_they_are_not_touched(view: str) -> None:
    pixels = VIEWS[view](cells(np.float32))
    pixels.flags.writeable = False
    before = pixels.tobytes()
    assert np.array_equal(segment(pixels, model="otsu").labels, found())
    assert pixels.tobytes() == before


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "value",
    [
        np.uint8(0),
        np.uint8(1),
        np.uint16(65535),
        np.float32(-5),
        np.float64(0.1),
        np.float64(-1e308),
        np.True_,
        np.int64(-(2**40)),
        np.uint64(2**64 - 1),
    ],
)
def test_a_constant_image_holds_nothing(model: str, value: Any) -> None:
    segment(np.zeros((8, 8), np.uint8), model=model)  # loads it
    started = time.process_time()
    answer = segment(np.full((40, 50), value), model=model)
    assert time.process_time() - started < 5
    assert not answer.labels.any()
    assert len(answer.segments["id"]) == 0
    (told,) = answer.provenance["notices"]
    assert told.startswith("the image has one value only (")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("chunk", [(), (7, 9)])
def test_a_pixel_that_is_no_number_is_replaced_and_told(value: float, chunk: tuple[int, ...]) -> None:
    pixels = cells(np.float32)
    pixels[12, 12] = value
    answer = segment(pixels, model="otsu", chunk=chunk)
    assert np.array_equal(answer.labels, found())
    assert answer.provenance["filled"] == 1
    assert any("not finite (NaN or infinite)" in notice for notice in answer.provenance["notices"])


@pytest.mark.parametrize("model", MODELS)
def test_an_image_without_any_number_holds_nothing(model: str) -> None:
    answer = segment(np.full((20, 30), np.nan, np.float32), model=model)
    assert not answer.labels.any()
    assert answer.provenance["filled"] == 600


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("out", [None, "a.ome.zarr"])
def test_a_block_without_any_number_is_empty_and_named_and_the_rest_is_as_without_it(model: str, out: str | None, tmp_path: Path) -> None:
    """As the corners of a stitched image: nothing at its border may run on into what nobody has seen."""
    pixels = nuclei((96, 96), "yx", seed=1)[0].astype(np.float32)
    holed = np.full((96, 160), np.nan, np.float32)
    holed[:, :96] = pixels
    answer = segment(holed, model, chunk=(48, 80), **({"out": tmp_path / out} if out else {}))
    labels, alone = np.asarray(answer.labels), np.asarray(segment(pixels, model).labels)
    assert not labels[:, 96 + 8 + 4 :].any()  # a value stands in for 8 pixels, and a model smooths over some
    assert (labels[:, :80] > 0).sum() == pytest.approx((alone[:, :80] > 0).sum(), rel=0.02)
    assert answer.provenance["filled"] == 96 * 64
    (told,) = answer.provenance["notices"]
    assert told.startswith("6144 pixels were not finite (NaN or infinite), within y=0:96, x=96:160: the nearest value within 8 pixels stands in")


def test_one_missing_pixel_changes_nothing_that_the_network_sees_elsewhere(untrained: Callable[..., Any]) -> None:
    """And where it sees it, the answer is that for the pixel beside it."""
    model = untrained(classes=(Class(1, "tissue", countable=False),), representation="semantic", normalize={"method": "none"})
    pixels = np.random.default_rng(0).random((60, 70)).astype(np.float32)
    holed, filled = pixels.copy(), pixels.copy()
    holed[30, 35] = np.nan
    filled[30, 35] = pixels[29, 35]
    whole, found, stood_in = (np.asarray(segment(p, model).labels) for p in (pixels, holed, filled))
    reach = max(model.net.reach)
    near = np.zeros(pixels.shape, bool)
    near[30 - reach : 31 + reach, 35 - reach : 36 + reach] = True
    assert near.mean() < 0.5
    np.testing.assert_array_equal(found[~near], whole[~near])
    assert any(np.array_equal(found, other) for other in (stood_in, *beside(pixels, model)))


def beside(pixels: Array, model: Any) -> list[Array]:
    """The labels with the value of each of the other neighbours in the place of a pixel."""
    answers = []
    for dy, dx in ((1, 0), (0, -1), (0, 1)):
        other = pixels.copy()
        other[30, 35] = pixels[30 + dy, 35 + dx]
        answers.append(np.asarray(segment(other, model).labels))
    return answers


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (3, 3), (17, 1)])
def test_the_smallest_images_have_a_result_of_their_shape(model: str, shape: tuple[int, ...]) -> None:
    answer = segment(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape), model=model)
    assert answer.labels.shape == shape
    assert answer.labels.max(initial=0) == len(answer.segments["id"])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 20), (1, 20, 1), (20, 1, 1), (2, 1, 3)])
def test_the_smallest_volumes_too(shape: tuple[int, ...]) -> None:
    assert segment(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape), model="otsu").labels.shape == shape


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.float32]), hnp.array_shapes(min_dims=2, max_dims=4, max_side=6), elements={"allow_subnormal": False}
    )
)
@settings(max_examples=40, deadline=None)
def test_any_array_has_a_result_of_its_shape(pixels: Array) -> None:
    answer = segment(pixels, "otsu", axes="tzyx"[-pixels.ndim :])
    assert answer.labels.shape == pixels.shape
    assert set(np.unique(answer.labels).tolist()) - {0} == set(answer.segments["id"].tolist())


def test_a_network_for_volumes_takes_the_smallest_ones() -> None:
    for shape in ((1, 1, 1), (1, 1, 20), (1, 20, 1), (3, 3, 3)):
        assert segment(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape), model="nuclei-3d").labels.shape == shape


def test_an_alpha_channel_is_left_out_and_told() -> None:
    grey = nuclei((48, 48), "yx", seed=1)[0]
    picture = np.dstack([(grey / grey.max() * 255).astype(np.uint8)] * 3)
    alpha = np.random.default_rng(0).integers(0, 256, (48, 48, 1)).astype(np.uint8)
    answer = segment(np.concatenate([picture, alpha], -1), "nuclei")
    assert answer.provenance["notices"] == ["the alpha channel is left out"]
    assert np.array_equal(answer.labels, segment(picture, "nuclei").labels)


def test_a_voxel_size_that_a_model_needs_and_nobody_knows_is_told(untrained: Callable[..., Any]) -> None:
    model, pixels = untrained(pixel_size_um=(0.5, 0.5)), nuclei((48, 48), "yx", seed=1)[0]
    (told,) = segment(pixels, model).provenance["notices"]
    assert told.startswith("the model is made for voxels of 0.5 x 0.5 um, and the size of these is not known, so they are taken as they are")
    known = replace(as_image(pixels), scale=(500.0, 500.0), units=("nanometer",) * 2)
    assert segment(known, model).provenance["notices"] == []
    assert segment(pixels, untrained()).provenance["notices"] == []


def test_five_dimensions_are_frames_of_a_channel() -> None:
    pixels = np.zeros((2, 2, 3, 24, 32), np.uint16)
    pixels[:, 1] = cells()
    pixels[:, 0] = 7
    answer = segment(pixels, "otsu", channels=1)
    assert (answer.axes, answer.labels.shape) == ("tzyx", (2, 3, 24, 32))
    assert len(answer.segments["id"]) == 4
    assert np.array_equal(answer.labels[0, 1] > 0, found() > 0)


@pytest.mark.parametrize(
    "pixels", [cells(np.float32) * np.nan, np.where(CELLS, np.inf, cells()), np.full((4, 5), 3.0), CELLS, cells(), np.ones((1, 1))]
)
def test_any_picture_of_a_result_can_be_drawn(pixels: Array) -> None:
    picture = overlay(as_image(pixels), segment(pixels, model="otsu"))
    assert picture.dtype == np.uint8
    assert picture.shape == (*pixels.shape, 3)


def scaled(pixels: Array) -> dict[str, Array]:
    """The same picture in other numbers."""
    real = pixels.astype(np.float64)
    return {
        "8 bits of 16": (real / real.max() * 255).astype(np.uint16), "12 bits of 16": (real * 4).astype(np.uint16),
        "0 to 1": (real / real.max()).astype(np.float32), "half precision": (real / real.max()).astype(np.float16),
        "negative": real - 5000, "up to 1e30": real * 1e27, "below 1e-30": real * 1e-33,
    }  # fmt: skip


def test_a_network_finds_the_same_in_any_range_of_numbers() -> None:
    pixels = nuclei((96, 96), "yx", seed=1)[0]
    whole = np.asarray(segment(pixels, "nuclei").labels)
    for name, other in scaled(pixels).items():
        answer = segment(other, "nuclei")
        scores = evaluate(answer.labels, whole)
        assert scores.ap[0.8] == 1, name
        assert np.isfinite(answer.provenance["limits"]).all()


@pytest.mark.parametrize("noise", [0, 0.5, 5])
def test_one_bright_pixel_in_a_blank_image_does_not_make_its_noise_to_objects(noise: float) -> None:
    pixels = np.random.default_rng(0).normal(100, noise, (200, 200)).round().astype(np.uint16)
    pixels[50, 60] = 1000
    assert len(segment(pixels, "nuclei").segments["id"]) == 0


def test_a_file_that_is_mapped_into_memory_is_read_and_not_touched(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", nuclei((96, 96), "yx", seed=1)[0].astype(np.float32))
    before = (tmp_path / "a.npy").read_bytes()
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    for model in MODELS:  # warnings are errors here, also torch's about arrays that are read-only
        assert np.array_equal(segment(mapped, model).labels, segment(np.array(mapped), model).labels)
    assert (tmp_path / "a.npy").read_bytes() == before


# Arrays that are no images


@pytest.mark.parametrize(
    ("array", "axes", "text"),
    [
        (np.zeros((0, 5)), None, "Axis Y of 'image' has length 0 (shape (0, 5)). Needed: at least 1 sample along every axis."),
        (np.zeros((0, 9, 9), np.uint8), None, "Axis Z of 'image' has length 0 (shape (0, 9, 9)). Needed: at least 1 sample along every axis."),
        (np.zeros((5, 5), complex), None, "The pixels of 'image' are of type complex128. Needed: integers or real numbers. "),
        (np.zeros((5, 5), object), None, "The pixels of 'image' are of type object. Needed: integers or real numbers. "),
        (np.zeros((5, 5), "M8[s]"), None, "The pixels of 'image' are of type datetime64[s]. Needed: integers or real numbers. "),
        (np.zeros((5, 5), "U3"), None, "The pixels of 'image' are of type <U3. Needed: integers or real numbers. "),
        (np.zeros((5, 5), [("a", int)]), None, "The pixels of 'image' are of type [('a', '<i8')]. Needed: integers or real numbers. "),
        (np.zeros(5), None, "An array of shape (5,) does not have the axes ''. Needed: "),
        (np.zeros((2,) * 6), None, "An array of shape (2, 2, 2, 2, 2, 2) does not have the axes ''. Needed: 6 different letters of 'tczyx'. "),
        (np.zeros((5, 5)), "yy", "An array of shape (5, 5) does not have the axes 'yy'. Needed: 2 different letters of 'tczyx'. "),
        (np.zeros((5, 5)), "tz", "'image' has axes 'tz' (shape (5, 5)). Needed: at least y and x."),
        (np.zeros((3, 9, 9)), "cyx", "Model 'otsu' needs 1 channel; 'image' has 3 (0, 1, 2). Needed: 1 (grey). "),
        (None, None, "The pixels of 'image' are of type object. Needed: integers or real numbers. "),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_in_words(array: Any, axes: str | None, text: str) -> None:
    with pytest.raises(SegsuiteError) as caught:
        segment(array, "otsu", axes=axes)
    assert str(caught.value).startswith(text)


def test_a_constant_channel_among_good_ones_is_told() -> None:
    pixels, _ = nuclei((64, 80), "yx", seed=1)
    image = replace(as_image(np.stack([pixels, np.full_like(pixels, 7), pixels]), "cyx"), channels=("DAPI", "GFP", "RFP"))
    found = segment(image, "nuclei", channels=("DAPI", "GFP", "RFP"))
    assert found.provenance["notices"] == ["channel 'GFP' has one value only (7)"]


def test_saturated_pixels_are_told_and_few_greys_are_not() -> None:
    pixels, labels = nuclei((64, 80), "yx", seed=1)
    bright = np.minimum(pixels.astype(float), np.percentile(pixels, 80)).astype(pixels.dtype)
    (told,) = segment(bright, "otsu").provenance["notices"]
    assert re.match(r"the image is saturated: 2\d % of it has the largest value", told)
    for fine in (pixels, (labels > 0).astype(np.uint8), labels, (pixels / pixels.max() * 5).astype(np.uint8)):
        assert not segment(fine, "otsu").provenance["notices"]


@pytest.mark.parametrize("scale", [(0.0, 1.0), (float("nan"), 1.0), (float("inf"), 1.0)])
def test_a_size_that_no_voxel_has_is_refused(scale: tuple[float, float]) -> None:
    image = replace(as_image(np.eye(20)), scale=scale, units=("micrometer", "micrometer"))
    with pytest.raises(InputError, match=r"The voxels of 'image' have the size .* Needed: sizes that are not 0\."):
        segment(image, "otsu")


@pytest.mark.parametrize("order", list(itertools.permutations("tzyx"))[::3])
def test_axes_may_come_in_any_order(order: tuple[str, ...]) -> None:
    """A phantom whose axes are told apart by their lengths."""
    pixels, _ = nuclei((6, 20, 30), "zyx", seed=1)
    series = np.stack([pixels, pixels[:, ::-1]])
    expected = segment(series, "otsu", axes="tzyx")
    found = segment(series.transpose(["tzyx".index(a) for a in order]), "otsu", axes="".join(order))
    assert found.axes == "tzyx"
    np.testing.assert_array_equal(np.asarray(found.labels), np.asarray(expected.labels))


@pytest.mark.parametrize("name", ["a #1 ü😀.tif", "%20.tif", "it's [1].tif", "x" * 200 + ".tif", " spaces .tif"])
def test_files_may_have_any_name(name: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / name, nuclei((64, 80), "yx", seed=1)[0])
    assert main(["segment", str(tmp_path / name), "--model", "otsu", "--out", str(tmp_path / "out")]) == 0
    assert len(read_segmentation(tmp_path / "out" / f"{name[:-4]}_labels.tif").segments["id"])


def test_a_path_may_be_long_and_may_be_written_as_an_address(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d" * 100] * 3)
    deep.mkdir(parents=True)
    tifffile.imwrite(deep / "a.tif", nuclei((64, 80), "yx", seed=1)[0])
    assert main(["segment", f"file://{deep / 'a.tif'}", "--model", "otsu", "--out", str(deep / "out")]) == 0
    assert len(str(deep)) > 260
    assert len(read_segmentation(deep / "out" / "a_labels.tif").segments["id"])
