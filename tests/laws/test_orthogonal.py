"""Laws of a model for slices that sees a volume along its three axes: chunks do not matter, no axis is special, and perfect maps of slices
make perfect objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from napari_segsuite import arrays, synthetic
from napari_segsuite.codecs import centers
from napari_segsuite.engine import tiles
from napari_segsuite.engine.plan import Options, resolve
from napari_segsuite.engine.run import result, run
from napari_segsuite.metrics import evaluate
from napari_segsuite.models import load_model
from napari_segsuite.models.orthogonal import Orthogonal, orthogonal_spec
from napari_segsuite.types import Class, Image, Model, ModelSpec, Prediction, Segmentation

if TYPE_CHECKING:
    from napari_segsuite.models.torch_model import TorchModel

Array = NDArray[Any]
CELL = (Class(1, "cell"),)
BOTH = (Class(1, "tissue", countable=False), Class(2, "cell"), Class(3, "debris"))
TURNS = ((1, 2, 0), (2, 0, 1))
"""The rotations of the axes; a mirror of them would transpose the slices, which a network need not answer alike."""


class Exact:
    """A model for slices that knows the answer: the perfect maps of what is bright in a slice, or of labels that are its pixels."""

    def __init__(self, labels: int = 0) -> None:
        self.labels = labels
        self.spec = ModelSpec(
            "exact", "yx", ("grey",), centers.heads(CELL, 2), CELL, "centers", tile=(128, 128), multiple=(1, 1), context=(32, 32), diameter_px=16.0,
            normalize={"method": "percentiles", "values": [0.0, 100.0]}, codec_options={"min_size": 12},
        )  # fmt: skip

    def predict(self, batch: Array) -> Prediction:
        """Perfect maps of every slice."""
        found = [np.rint(x * self.labels).astype(int) if self.labels else ndimage.label(x > 0.5)[0] for x in batch[:, 0]]
        maps = [centers.encode(slice_, CELL) for slice_ in found]
        semantic = np.stack([m["semantic"] for m in maps])
        told = {name: np.stack([m[name] for m in maps]).astype(np.float32) for name in ("center", "offset")}
        return Prediction({"semantic": np.stack([semantic == 0, semantic == 1], 1).astype(np.float32), **told})


def segmented(image: Image | Array, model: Model, **options: Any) -> Segmentation:
    """Labels by the three views, through the ordinary engine."""
    image = image if isinstance(image, Image) else arrays.as_image(image, "zyx")
    plan = resolve(image, Options.from_json({"model": model.spec.name, "stack": "orthogonal", **options}), model.spec)
    assert plan.orthogonal
    return result(run(plan, image, model=model))


def assert_identical(one: Segmentation, other: Segmentation) -> None:
    np.testing.assert_array_equal(one.labels, other.labels)
    for name, column in one.segments.items():
        np.testing.assert_array_equal(column, other.segments[name], err_msg=name)


def balls(shape: Sequence[int], scale: Sequence[float] = (1, 1, 1)) -> Array:
    """Balls of a radius of 7 that do not touch, 18 apart in micrometres, with soft edges."""
    grid = np.stack(np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, scale, strict=True)], indexing="ij"))
    nearest = (grid - 9 + 9) % 18 - 9
    return np.asarray(np.clip(7.5 - np.sqrt((nearest**2).sum(0)), 0, 1), np.float32)


CHUNKS: dict[str, tuple[tuple[int, ...], Sequence[Class], str, dict[str, Any], list[tuple[int, ...]]]] = {
    "centers": ((19, 26, 30), CELL, "centers", {}, [(19, 11, 30), (7, 19, 13)]),
    "panoptic": ((20, 29, 30), BOTH, "centers", {}, [(9, 13, 30)]),
    "by contact": ((20, 29, 30), BOTH, "semantic", {}, [(5, 29, 17)]),
    "slices that lie far apart": ((9, 27, 30), CELL, "centers", {}, [(4, 9, 30)]),
    "enlarged, mirrored": ((9, 17, 11), CELL, "centers", {"diameter_px": 6.0, "flips": True}, [(5, 17, 6)]),
    "made smaller": ((29, 30, 50), CELL, "centers", {"diameter_px": 14.0}, [(29, 7, 23)]),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_three_views_answer_the_same_in_any_chunks(name: str, untrained: Callable[..., TorchModel]) -> None:
    shape, classes, representation, wish, chunks = CHUNKS[name]
    model = untrained(2, classes, representation)
    model.flips = bool(wish.get("flips"))
    scale = 3.0 if "apart" in name else 1.0
    image = replace(arrays.as_image(np.random.default_rng(0).integers(0, 4000, shape).astype(np.uint16), "zyx"), scale=(scale, 1.0, 1.0))
    whole = segmented(image, model, **wish)
    assert len(whole.segments["id"]) > 5 or representation == "semantic", "nothing to compare"
    zoom = whole.provenance["plan"]["zoom"]
    grid = [round(n * z) for n, z in zip(shape, zoom, strict=True)]
    assert len(tiles.tiles(grid, orthogonal_spec(model.spec), tuple((0, n) for n in grid))) > 1, "one tile proves nothing"
    for chunk in chunks:
        assert_identical(segmented(image, model, chunk=chunk, **wish), whole)


def test_otsu_by_three_views_answers_the_same_in_any_chunks() -> None:
    pixels = np.random.default_rng(3).normal(size=(12, 20, 21)).cumsum(-1).astype(np.float32)
    whole = segmented(pixels, load_model("otsu"))
    for chunk in ((12, 20, 4), (5, 7, 21)):
        assert_identical(segmented(pixels, load_model("otsu"), chunk=chunk), whole)


def test_batches_do_not_change_the_result(untrained: Callable[..., TorchModel]) -> None:
    pixels = np.random.default_rng(1).random((30, 26, 25)).astype(np.float32)
    assert_identical(segmented(pixels, untrained(), batch=1), segmented(pixels, untrained(), batch=5))


def test_perfect_maps_of_slices_make_perfect_objects() -> None:
    """Touching ellipsoids turned any way: what the views say of each agrees in its middle."""
    _, labels = synthetic.nuclei((64, 64, 64), "zyx", scale_um=(0.5,) * 3, diameter_um=9.0, seed=5)
    found = segmented(labels.astype(np.float32), Exact(int(labels.max())))
    assert labels.max() >= 8
    assert evaluate(found.labels, labels).ap[0.8] == 1.0


def test_what_is_round_along_one_axis_only_is_found() -> None:
    """Rods along x: every slice across shows discs; along, bars."""
    labels = np.zeros((40, 40, 30), np.float32)
    y, z = np.ogrid[:40, :40]
    for k, (a, b) in enumerate([(10, 10), (10, 30), (30, 20)], start=1):
        labels[(z - a) ** 2 + (y - b) ** 2 <= 64] = k
    found = segmented(labels, Exact(3))
    assert evaluate(found.labels, labels.astype(int)).ap[0.8] == 1.0


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("model", [Exact(), load_model("otsu")], ids=["centers", "semantic"])
def test_a_volume_that_is_turned_gives_labels_that_are_turned(model: Model, turn: tuple[int, ...]) -> None:
    pixels = balls((40, 40, 40)) + np.random.default_rng(0).normal(0, 0.01, (40, 40, 40)).astype(np.float32)
    one, other = (np.asarray(segmented(p, model).labels) for p in (pixels, pixels.transpose(turn)))
    assert one.max() >= 8
    pairs = np.unique(np.stack([one.transpose(turn).ravel(), other.ravel()]), axis=1)  # the numbers follow the place of an object
    assert pairs.shape[1] == one.max() + 1 == other.max() + 1


@pytest.mark.parametrize("turn", TURNS)
def test_a_volume_that_is_turned_gives_maps_that_are_turned(turn: tuple[int, ...], untrained: Callable[..., TorchModel]) -> None:
    """Of a network that answers a transposed slice as it likes."""
    model = Orthogonal(untrained())
    volume = np.random.default_rng(2).random((1, 1, 16, 20, 24)).astype(np.float32)
    order = (0, 1, *(2 + axis for axis in turn))
    one, other = (model.predict(x).maps for x in (volume, np.ascontiguousarray(volume.transpose(order))))
    for head in model.spec.heads:
        wanted = one[head.name].numpy().transpose(order)
        if head.kind == "vector":
            wanted = wanted[:, list(turn)]
        np.testing.assert_allclose(other[head.name].numpy(), wanted, atol=1e-4, err_msg=head.name)


def test_it_says_how_far_a_tile_is() -> None:
    pixels = balls((40, 40, 40))
    shape, model = pixels.shape, Orthogonal(Exact())
    steps = model.steps(pixels[None, None])
    shares = list(steps)
    assert shares == sorted(set(shares))
    assert shares[-1] == 1.0
    box = tuple((0, n) for n in shape)
    told = [(done, total) for done, total, _ in tiles.predict(lambda at: pixels[None][(slice(None), *(slice(*s) for s in at))], shape, model, box, 1)]
    assert len(told) > 3
    assert told[-1] == (tiles.UNITS, tiles.UNITS)


@pytest.mark.parametrize("scale", [(3, 1, 1), (1, 1, 3), (1, 2, 1)])
@pytest.mark.parametrize("unit", ["micrometer", "pixel"])
def test_objects_are_the_same_however_far_apart_the_slices_lie(scale: tuple[float, ...], unit: str) -> None:
    shape = tuple(int(54 / s) for s in scale)
    image = replace(arrays.as_image(balls(shape, scale), "zyx"), scale=tuple(map(float, scale)), units=(unit,) * 3)
    truth = ndimage.label(balls(shape, scale) > 0.5)[0]
    found = segmented(image, Exact())
    assert found.labels.shape == shape
    assert len(found.segments["id"]) == truth.max()
    assert evaluate(found.labels, truth).ap[0.5] == 1.0
    finest = segmented(balls((54, 54, 54)), Exact())
    assert len(finest.segments["id"]) == truth.max()


def test_a_vector_is_taken_from_the_views_that_see_something() -> None:
    """Vectors of background are noise; where one view takes a voxel for background, the two others decide."""
    model = Exact()

    class Doubtful:
        spec = model.spec
        calls = 0

        def predict(self, batch: Array) -> Prediction:
            maps = dict(model.predict(batch).maps)
            if self.calls % 3 == 0:  # the view along z sees nothing
                maps["semantic"] = np.stack([np.ones_like(batch[:, 0]), np.zeros_like(batch[:, 0])], 1)
                maps["offset"] = np.full_like(maps["offset"], 40.0)
            self.calls += 1
            return Prediction(maps)

    pixels = balls((40, 40, 40))
    sure, doubtful = segmented(pixels, model, min_score=0), segmented(pixels, Doubtful(), min_score=0)
    assert evaluate(doubtful.labels, np.asarray(sure.labels)).ap[0.9] == 1.0
