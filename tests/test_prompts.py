"""Prompts: what a prompt is, what is looked at for it, and the backend without weights, also from Python."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_segsuite.engine.prompts import paint, prompted
from napari_segsuite.errors import OptionError
from napari_segsuite.models.prompts import Prompt, names, prompter, view_of
from napari_segsuite.models.prompts.geodesic import Geodesic
from napari_segsuite.models.prompts.nested import boxes, levels
from napari_segsuite.synthetic import nuclei

Array = NDArray[Any]


def middle(inside: Array) -> tuple[int, ...]:
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[(slice(1, -1),) * inside.ndim]
    return tuple(int(n) for n in np.unravel_index(depth.argmax(), inside.shape))


def iou(one: Array, other: Array) -> float:
    return float((one & other).sum() / (one | other).sum())


def disc(shape: tuple[int, ...], at: tuple[float, ...], radius: float) -> Array:
    return np.asarray(sum((line - c) ** 2 for line, c in zip(np.indices(shape), at, strict=True)) <= radius**2)


def picture(inside: Array, noise: float = 5, seed: int = 0) -> Array:
    return (20 + 60 * inside + np.random.default_rng(seed).normal(0, noise, inside.shape)).astype(np.float32)


def test_a_prompt_says_what_is_wrong_with_it() -> None:
    assert Prompt(((1, 2), (3, 4))).marks == (True, True)
    assert not Prompt(((1, 2),), (False,)).says_where
    assert Prompt(box=((1, 5), (2, 6))).moved((-1, 2)).box == ((0, 4), (4, 8))
    for wrong in (
        {"points": ((1, 2), (1, 2, 3))},
        {"points": ((1, np.nan),)},
        {"points": ((1, 2),), "marks": (True, False)},
        {"box": ((5, 5), (0, 1))},
    ):
        with pytest.raises(OptionError):
            Prompt(**wrong)


sides = st.integers(1, 400)


@given(st.tuples(sides, sides), st.tuples(st.integers(8, 90), st.integers(8, 90)), st.data())
def test_the_view_holds_the_prompt_and_is_no_larger_than_allowed(shape: tuple[int, int], most: tuple[int, int], data: st.DataObject) -> None:
    points = [tuple(data.draw(st.integers(0, n - 1)) for n in shape)]
    points.append(tuple(min(n - 1, p + data.draw(st.integers(0, 7))) for p, n in zip(points[0], shape, strict=True)))
    view = view_of(shape, most, Prompt(tuple(points)))
    for (a, b), n, m, *places in zip(view, shape, most, *points, strict=True):
        assert 0 <= a <= min(places) <= max(places) < b <= n
        assert b - a == min(n, m)


def test_places_outside_or_too_far_from_each_other_are_refused() -> None:
    with pytest.raises(OptionError, match="lies at 50 to 50 along an axis of 40"):
        view_of((40, 40), (64, 64), Prompt(((50, 3),)))
    with pytest.raises(OptionError, match="at most 64"):
        view_of((400, 400), (64, 64), Prompt(((3, 3), (300, 3))))


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.booleans())
def test_nested_regions_are_measured_as_one_would_one_by_one(seed: int, volume: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = (5, 6, 4) if volume else (9, 8)
    field = rng.integers(0, 9, shape).astype(float)
    field[rng.random(shape) < 0.1] = np.inf
    values = rng.random((2, *shape)).astype(np.float32)
    found, ends = levels(field, values), boxes(levels(field, values))
    for j, height in enumerate(np.unique(np.quantile(field[np.isfinite(field)], np.linspace(0, 1, 257)))):
        inside = field <= height
        np.testing.assert_array_equal(found.rank <= j, inside)
        assert found.area[j] == inside.sum()
        pairs, steps = 0, np.zeros(2)
        for axis in range(inside.ndim):
            a, b = (inside.take(range(k, inside.shape[axis] - 1 + k), axis) for k in (0, 1))
            pairs += (a != b).sum()
            steps += [((-np.diff(v, axis=axis)) * (a.astype(int) - b)).sum() for v in values]
        assert found.border[j] == max(pairs, 1)
        assert found.contrast[j] == pytest.approx(np.sqrt((steps**2).sum()) / max(pairs, 1), abs=1e-5)
        places = np.nonzero(inside)
        assert ends[j].tolist() == [[line.min(), line.max()] for line in places]


@pytest.mark.parametrize("radius", [6, 12, 40, 110])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_click_finds_a_disc_of_any_size_bright_or_dark(radius: int, sign: int) -> None:
    inside = disc((400, 420), (190, 200), radius)
    state = Geodesic().look(sign * picture(inside)[None])
    best, *_ = Geodesic().answer(state, Prompt(((190 + radius // 4, 200 - radius // 4),)))
    assert iou(best.region, inside) > (0.7 if radius < 10 else 0.88)
    assert best.score == 1


@pytest.mark.parametrize("noise", [5, 60])
def test_a_click_finds_what_is_wider_than_most_and_noisier_than_its_border(noise: float) -> None:
    inside = np.zeros((1200, 1200), bool)
    inside[200:1000, 200:1000] = True
    state = Geodesic().look(picture(inside, noise)[None])
    best, *_ = Geodesic().answer(state, Prompt(((600, 640),)))
    assert iou(best.region, inside) > 0.9
    assert best.score == 1


def test_more_points_and_a_box_say_more() -> None:
    left, right = disc((120, 160), (60, 60), 22), disc((120, 160), (60, 96), 22)
    state = Geodesic().look(picture(left | right, 3)[None])
    backend = Geodesic()
    alone = backend.answer(state, Prompt(((60, 55), (60, 105)), (True, False)))[0].region
    assert alone[60, 55]
    assert not alone[60, 105]
    assert iou(alone, left) > 0.75
    both = backend.answer(state, Prompt(((60, 55), (60, 100))))[0].region
    assert iou(both, left | right) > 0.85
    boxed = backend.answer(state, Prompt(box=((37, 84), (37, 84))))[0].region
    assert iou(boxed, left) > 0.8
    outside = np.ones(boxed.shape, bool)
    outside[37:84, 37:84] = False
    assert not boxed[outside].any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(5, 4), (1, 40), (30, 33)]))
def test_any_picture_gets_an_answer_that_obeys_the_prompt(seed: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.normal(0, 1, (rng.integers(1, 4), *shape)).astype(np.float32)
    if seed % 3 == 0:
        pixels[:] = 7
    points = tuple(tuple(int(rng.integers(0, n)) for n in shape) for _ in range(3))
    marks = tuple(points[k] in points[:2] for k in range(3))  # no place is both
    for candidate in Geodesic().answer(Geodesic().look(pixels), Prompt(points, marks)):
        assert candidate.region.shape == shape
        assert candidate.region[points[0]]
        assert candidate.region[points[1]]
        assert not any(candidate.region[p] for p, mark in zip(points, marks, strict=True) if not mark)


def test_nuclei_in_a_volume_are_bodies() -> None:
    pixels, truth = nuclei((24, 96, 96), "zyx", crowding=0.2, seed=1)
    ids = [i for i in np.unique(truth)[1:] if (truth == i).sum() > 500][:3]
    found = prompted(pixels, [Prompt((middle(truth == i),)) for i in ids])
    assert (found.axes, found.labels.shape) == ("zyx", (24, 96, 96))
    assert np.mean([iou(found.labels == k, truth == i) for k, i in enumerate(ids, 1)]) > 0.5


def test_real_nuclei_are_found(shared_data: Path) -> None:
    folder = shared_data / "dsb2018"
    with (folder / "index.csv").open(newline="") as file:
        name = next(row["id"] for row in csv.DictReader(file) if (row["split"], row["modality"], row["n"]) == ("val", "fluorescence", "28"))
    pixels, truth = (tifffile.imread(folder / kind / f"{name}.tif") for kind in ("images", "labels"))
    ids = np.unique(truth)[1:13]
    clicked = prompted(pixels, [Prompt((middle(truth == i),)) for i in ids])
    sides = [ndimage.find_objects((truth == i).astype(int))[0] for i in ids]
    boxed = prompted(pixels, [Prompt(box=tuple((s.start, s.stop) for s in side)) for side in sides])
    assert np.mean([iou(clicked.labels == k, truth == i) for k, i in enumerate(ids, 1)]) > 0.7
    assert np.mean([iou(boxed.labels == k, truth == i) for k, i in enumerate(ids, 1)]) > 0.8


def test_objects_of_python_lie_on_the_grid_of_the_image(tmp_path: Path) -> None:
    from napari_segsuite import Image, write

    inside = disc((80, 90), (40, 30), 12)
    path = write(Image((picture(inside),), "yx", (0.5, 0.25), ("micrometer",) * 2, (3, 4)), tmp_path / "a.tif")
    found = prompted(str(path), [Prompt(((40, 30),)), Prompt(((40, 34),))])
    assert (found.scale, found.units) == ((0.5, 0.25), ("micrometer",) * 2)
    assert found.segments["id"][0] == 1
    assert found.segments["size"][0] == (found.labels == 1).sum()
    assert found.provenance["prompts"][1] == {"points": [[40.0, 34.0]], "marks": [True], "box": None}
    for prompts, told in (([Prompt(((1, 2),), (False,))], "no point on the object"), ([Prompt(((1, 2, 3),))], "3 numbers per place")):
        with pytest.raises(OptionError, match=told):
            prompted(picture(inside), prompts)


def test_a_prompt_without_an_object_is_told() -> None:
    found = prompted(picture(disc((80, 90), (40, 30), 12)), [Prompt(((40, 30),))] * 2)
    assert found.segments["id"].tolist() == [1]
    assert found.provenance["notices"] == ["prompt 2 has no object: all that is found there belongs to the prompts before"]
    empty = prompted(np.full((50, 50), 7.3, np.float32), [Prompt(((20, 20),)), Prompt(box=((5, 15), (5, 15)))])
    assert not empty.labels.any()
    assert [notice.split(":")[0] for notice in empty.provenance["notices"]] == ["prompt 1 has no object", "prompt 2 has no object"]


def test_painting_takes_nothing_from_others_unless_it_is_asked() -> None:
    labels = np.zeros((3, 6, 6), np.uint16)
    labels[1, 2:4, 2:4] = 7
    region = np.ones((3, 3), bool)
    assert paint(labels, (1, slice(1, 4), slice(1, 4)), region, 8).sum() == 5
    assert (labels == 7).sum() == 4
    assert paint(labels, (1, slice(1, 4), slice(1, 4)), region, 9, over=True).all()
    assert (labels == 7).sum() == 0
    assert not labels[[0, 2]].any()


def test_backends_are_listed_by_name() -> None:
    assert names()[0] == prompter("geodesic").name == "geodesic"
