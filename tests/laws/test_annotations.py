"""Law 7 for annotations: read(write(s)) == s, as far as a format has words for it; outlines that are filled are what was traced."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from napari_segsuite.annotations import FORMATS, Annotated, export, format_of, read_annotations, rings, rle
from napari_segsuite.io.table import table_of
from napari_segsuite.types import Class, Segmentation

FEW = settings(max_examples=15, deadline=None)
READABLE = tuple(name for name, one in FORMATS.items() if one.readable)
PLANES = ("geojson", "roi-zip")
STATUSES = {name: ("", "new") if name == "cityscapes" else ("", "new", "crowd") for name in READABLE}
"""Groups of one class are one in Cityscapes."""
masks = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00:\r\n"), min_size=1, max_size=6).map(str.strip).filter(bool)
colors = st.tuples(*[st.integers(0, 255)] * 3)


@st.composite
def segmentations(draw: st.DrawFn, axes: str = "yx", statuses: tuple[str, ...] = ("", "new", "crowd")) -> Segmentation:
    """Labels of up to two classes of stuff and two of things, whose objects have holes, lie in pieces and touch."""
    countable = sorted(draw(st.lists(st.booleans(), min_size=1, max_size=4)))
    names = draw(st.lists(texts, min_size=len(countable), max_size=len(countable), unique=True))
    classes = tuple(Class(k, name, draw(colors), c) for k, (name, c) in enumerate(zip(names, countable, strict=True), start=1))
    stuff, things = [c.id for c in classes if not c.countable], [c.id for c in classes if c.countable]
    ids = [0, *stuff, *([len(stuff) + 1, 9, 200, 253] if things else [])]
    shape = draw(st.tuples(*[st.integers(1, 3)] * (len(axes) - 2), st.integers(1, 9), st.integers(1, 9)))
    labels = draw(hnp.arrays(np.uint16, shape, elements=st.sampled_from(ids)))
    class_of = {i: i if i in stuff else draw(st.sampled_from(things)) for i in ids[1:]}
    table = table_of(labels, axes, classes, class_of)
    table["score"] = draw(hnp.arrays(np.float64, len(table["id"]), elements=st.floats(0, 1)))
    table["status"] = np.array([draw(st.sampled_from(statuses)) for _ in table["id"]], np.str_)
    n = len(axes)
    place: dict[str, Any] = {"scale": draw(st.tuples(*[st.floats(1e-3, 1e3)] * n)), "units": ("micrometer",) * n, "translate": (0.5,) * n}
    return Segmentation(labels, table, classes, axes, name=draw(texts), **place)


def there_and_back(items: list[Annotated], name: str) -> list[Annotated]:
    with tempfile.TemporaryDirectory() as folder:
        out = export(iter(items), Path(folder) / f"a b{FORMATS[name].suffix}", name)
        if items[0].segmentation.segments["id"].size or name != "coco-panoptic":
            assert format_of(out) == name
        return list(read_annotations(out, name))


def check_same(found: Segmentation, before: Segmentation) -> None:
    assert np.array_equal(found.labels, before.labels)
    assert found.classes == before.classes
    for name in ("axes", "scale", "units", "translate", "name"):
        assert getattr(found, name) == getattr(before, name), name
    for name, column in before.segments.items():
        assert found.segments[name].tolist() == column.tolist(), name


@pytest.mark.parametrize("name", READABLE)
@FEW
@given(data=st.data())
def test_what_is_read_is_what_was_written(name: str, data: st.DataObject) -> None:
    before = data.draw(segmentations(data.draw(st.sampled_from(["yx", "zyx", "tyx", "tzyx"])) if name in PLANES else "yx", STATUSES[name]))
    (found,) = there_and_back([Annotated(before, "images/cells 1.tif")], name)
    assert (found.file_name, found.notes) == ("images/cells 1.tif", ())
    check_same(found.segmentation, before)


@pytest.mark.parametrize("name", [name for name in READABLE if FORMATS[name].several])
@FEW
@given(data=st.data())
def test_a_data_set_has_several_images(name: str, data: st.DataObject) -> None:
    first = data.draw(segmentations(statuses=STATUSES[name]))
    labels = np.flip(np.pad(first.labels, ((0, 2), (1, 0))))
    table = table_of(labels, "yx", first.classes, dict(zip(first.segments["id"].tolist(), first.segments["class_id"].tolist(), strict=True)))
    both = [first, replace(first, labels=labels, segments=table, name="other")]
    items = [Annotated(one, f"{k}.png") for k, one in enumerate(both)]
    for item, before in zip(there_and_back(items, name), both, strict=True):
        check_same(item.segmentation, before)


@FEW
@given(masks)
def test_outlines_that_are_filled_are_what_was_traced(mask: NDArray[np.bool_]) -> None:
    polygons = rings.trace(mask, (3, 2))
    shape = (mask.shape[0] + 5, mask.shape[1] + 4)
    whole = np.pad(mask, ((3, 2), (2, 2)))
    assert np.array_equal(rings.fill([ring for polygon in polygons for ring in polygon], shape), whole)
    parts = [rings.fill(polygon, shape) for polygon in polygons]
    assert len(parts) == ndimage.label(mask)[1]
    assert all(ndimage.label(part)[1] == 1 for part in parts)
    for polygon, part in zip(polygons, parts, strict=True):
        assert [rings.area(ring) > 0 for ring in polygon] == [True] + [False] * (len(polygon) - 1)
        assert all(len({*map(tuple, ring.tolist())}) == len(ring) for ring in polygon)  # no ring meets itself
        assert np.array_equal(rings.fill([rings.in_one(polygon)], shape), part)


def unfolded(box: rle.Box, shape: tuple[int, int]) -> NDArray[np.bool_]:
    whole = np.zeros(shape, bool)
    (y, x), (h, w) = box[1], box[0].shape
    whole[y : y + h, x : x + w] = box[0]
    return whole


@FEW
@given(masks, st.integers(0, 3), st.integers(0, 3))
def test_runs_are_those_of_coco(mask: NDArray[np.bool_], above: int, left: int) -> None:
    theirs = pytest.importorskip("pycocotools.mask")
    whole = np.pad(mask, ((above, 1), (left, 0)))
    shape = whole.shape
    counts = rle.encode(mask, (above, left), shape)
    assert rle.pack(counts).encode() == theirs.encode(np.asfortranarray(whole, np.uint8))["counts"]
    assert np.array_equal(unfolded(rle.decode(rle.unpack(rle.pack(counts)), shape), shape), whole)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # of pycocotools, with numpy 2
@FEW
@given(hnp.arrays(np.float64, st.tuples(st.integers(3, 8), st.just(2)), elements=st.floats(-5, 40).map(lambda v: round(v, 2))))
def test_polygons_are_filled_as_coco_fills_them(points: NDArray[np.float64]) -> None:
    theirs = pytest.importorskip("pycocotools.mask")
    shape = (23, 31)
    expected = theirs.decode(theirs.frPyObjects([points.reshape(-1).tolist()], *shape))[..., 0]
    assert np.array_equal(unfolded(rle.fill(points, shape), shape), expected)


@pytest.mark.parametrize("axes", ["zyx", "tzyx"])
@pytest.mark.parametrize("name", PLANES)
def test_an_object_of_a_volume_is_one_segment_again(name: str, axes: str) -> None:
    labels = np.zeros((2,) * (len(axes) - 2) + (5, 6), np.uint8)
    labels[..., 1:4, 2:5] = 7
    before = Segmentation(
        labels, table_of(labels, axes, (Class(1, "cell"),)), (Class(1, "cell"),), axes, (1.0,) * len(axes), ("pixel",) * len(axes), (0.0,) * len(axes)
    )
    (found,) = there_and_back([Annotated(before, "a.tif")], name)
    check_same(found.segmentation, before)
