"""A model for slices on volumes: what is decided before, what is said, and how good it is with the model that comes with the install."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_segsuite import load_spec, read, segment, synthetic
from napari_segsuite.arrays import as_image
from napari_segsuite.engine.plan import Options, Plan, resolve
from napari_segsuite.errors import OptionError
from napari_segsuite.metrics import evaluate
from napari_segsuite.models.folder import _check_grid
from napari_segsuite.models.orthogonal import orthogonal_spec
from napari_segsuite.types import Image, ModelSpec

UM = ("micrometer",) * 3


def stack(shape: tuple[int, ...] = (8, 20, 20), scale: tuple[float, ...] = (1.0, 1.0, 1.0), units: tuple[str, ...] = ("pixel",) * 3) -> Image:
    return replace(as_image(np.zeros(shape, np.uint8), "zyx"), scale=scale, units=units, name="stack")


def planned(image: Image, spec: ModelSpec | None = None, **wish: Any) -> Plan:
    spec = spec or load_spec("nuclei")
    return resolve(image, Options.from_json({"model": spec.name, "stack": "orthogonal", **wish}), spec)


def test_the_model_for_volumes_that_nuclei_becomes() -> None:
    spec = orthogonal_spec(load_spec("nuclei"))
    assert (spec.axes, spec.tile, spec.context, spec.multiple) == ("zyx", (224,) * 3, (32,) * 3, (16,) * 3)
    assert [(h.name, h.channels) for h in spec.heads] == [("semantic", 2), ("center", 1), ("offset", 3)]
    assert spec.diameter_px == 24
    assert spec.codec_options["min_size"] == 88, "the ball whose cross-section is 24 pixels"


@pytest.mark.parametrize(
    ("tile", "context", "multiple", "becomes"),
    [
        ((1024, 1024), (64, 64), (16, 16), (224, 32, 16)),
        ((256, 128), (8, 40), (4, 6), (128, 32, 12)),
        ((96, 96), (200, 200), (32, 32), (288, 100, 32)),
        ((1, 1), (0, 0), (1, 1), (1, 0, 1)),
    ],
)
def test_tiles_are_cubes_with_something_inside_their_context(
    tile: tuple[int, int], context: tuple[int, int], multiple: tuple[int, int], becomes: tuple[int, int, int]
) -> None:
    spec = orthogonal_spec(replace(load_spec("nuclei"), tile=tile, context=context, multiple=multiple, pixel_size_um=(0.2, 0.8)))
    assert (spec.tile, spec.context, spec.multiple) == tuple((n,) * 3 for n in becomes)
    assert spec.pixel_size_um == pytest.approx((0.4,) * 3)
    _check_grid(spec)


@pytest.mark.parametrize(
    ("scale", "units", "wish", "zoom"),
    [
        ((3.0, 1.0, 1.0), UM, {}, (3, 1, 1)),
        ((0.75, 0.25, 0.25), UM, {"diameter_px": 48}, (1.5, 0.5, 0.5)),
        ((2000.0, 0.5, 0.5), ("nanometer", "micrometer", "micrometer"), {}, (4, 1, 1)),
        ((1.0, 2.0, 2.0), UM, {}, (1, 2, 2)),
        ((1.02, 1.0, 1.0), UM, {}, (1, 1, 1)),
        ((-3.0, 1.0, 1.0), ("pixel",) * 3, {}, (3, 1, 1)),
    ],
)
def test_voxels_become_cubes(scale: tuple[float, ...], units: tuple[str, ...], wish: dict[str, Any], zoom: tuple[float, ...]) -> None:
    plan = planned(stack(scale=scale, units=units), **wish)
    assert plan.zoom == pytest.approx(zoom)
    assert not any("taken as cubes" in notice for notice in plan.notices)


@pytest.mark.parametrize(
    ("scale", "units"),
    [((1.0, 1.0, 1.0), ("pixel",) * 3), ((5.0, 0.3, 0.3), ("pixel", "micrometer", "micrometer"))],
)
def test_a_volume_of_unknown_voxels_is_taken_as_it_is_and_says_so(scale: tuple[float, ...], units: tuple[str, ...]) -> None:
    plan = planned(stack(scale=scale, units=units))
    assert plan.zoom == (1, 1, 1)
    assert plan.notices == ("the voxels are taken as cubes, since their sizes are not known",)


def test_the_notice_says_by_how_much_along_which_axis() -> None:
    assert planned(stack(scale=(3.0, 1.0, 1.0), units=UM)).notices == ("resampled by 3 x 1 x 1 (z, y, x) for voxels that are cubes",)


def test_a_model_with_a_pixel_size_is_given_it_along_every_axis() -> None:
    spec = replace(load_spec("nuclei"), pixel_size_um=(0.5, 0.5))
    assert planned(stack(scale=(2.0, 0.25, 0.25), units=UM), spec).zoom == pytest.approx((4, 0.5, 0.5))


def test_too_much_resampling_is_refused_in_words() -> None:
    with pytest.raises(OptionError, match=r"means resampling 'stack' by 20 x 1 x 1 \(z, y, x\)\. Needed: a factor from 0.03125 to 16"):
        planned(stack(scale=(20.0, 1.0, 1.0), units=UM))


@pytest.mark.parametrize(
    ("image", "axes", "frames"),
    [
        (stack(), "zyx", ""),
        (as_image(np.zeros((3, 8, 20, 20), np.uint8), "tzyx"), "zyx", "t"),
        (as_image(np.zeros((20, 20), np.uint8)), "yx", ""),
        (stack((1, 20, 20)), "yx", "z"),
    ],
)
def test_what_is_no_stack_is_segmented_as_ever(image: Image, axes: str, frames: str) -> None:
    plan, spec = planned(image), load_spec("nuclei")
    assert (plan.axes, plan.frames) == (axes, frames)
    assert plan.orthogonal is (axes == "zyx")
    assert plan.spec_of(spec) == (orthogonal_spec(spec) if plan.orthogonal else spec)


def test_both_choices_are_named_to_who_made_none() -> None:
    with pytest.raises(OptionError) as caught:
        planned(stack(), stack="volume")
    assert "Choose stack='orthogonal' " in str(caught.value)
    assert "stack='slices' " in str(caught.value)


def test_a_model_for_volumes_needs_no_views() -> None:
    with pytest.raises(OptionError, match="is for volumes"):
        planned(stack(), orthogonal_spec(load_spec("nuclei")))


def test_it_is_another_job_than_any_other_way() -> None:
    image, spec = stack(), load_spec("otsu")
    found = {resolve(image, Options(model="otsu", stack=way), spec).fingerprint for way in ("volume", "slices", "orthogonal")}
    assert len(found) == 3
    plan = planned(image)
    assert plan.model["tile"]["size"] == [224] * 3
    assert (plan.min_size, plan.batch) == (88, 1)


def test_nuclei_finds_nuclei_in_volumes_however_far_apart_the_slices_lie() -> None:
    counts, scores = [], []
    for n, step in ((54, 0.35), (18, 1.05)):
        pixels, truth = synthetic.nuclei((n, 54, 54), "zyx", scale_um=(step, 0.35, 0.35), diameter_um=8.0, crowding=0.25, seed=3)
        found = segment(replace(as_image(pixels, "zyx"), scale=(step, 0.35, 0.35), units=UM), "nuclei", stack="orthogonal")
        counts.append(len(found.segments["id"]))
        scores.append(evaluate(found.labels, truth).ap[0.5])
    assert min(scores) > 0.8, scores
    assert abs(counts[0] - counts[1]) <= 1, counts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"),
    [("nuclei3d_gonuclear/1135", 0.36), ("nuclei3d_mouse_embryo_qcanet/16cell", 0.88)],
)
def test_nuclei_is_better_than_otsu_on_real_volumes(name: str, least: float, shared_data: Path) -> None:
    image = read(shared_data / f"{name}_image.ome.tif")
    truth = np.asarray(read(shared_data / f"{name}_labels.ome.tif").data).astype(int)
    otsu, views = (
        evaluate(segment(image, model, **wish).labels, truth).ap[0.5] for model, wish in (("otsu", {}), ("nuclei", {"stack": "orthogonal"}))
    )
    assert views > least
    assert views > otsu + 0.2
