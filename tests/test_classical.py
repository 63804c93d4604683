"""Models without training: what they separate, on which axes, and that chunks, tiles and pixel sizes do not change what they mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.cluster import vq

from napari_segsuite import load_model, segment
from napari_segsuite.arrays import clusters
from napari_segsuite.codecs import centers
from napari_segsuite.models import CLASSICAL, card, load_spec, seeded
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Class

SEEDED = ["watershed", "voronoi-otsu", "blobs"]
PLACES: list[tuple[list[tuple[int, ...]], tuple[int, ...]]] = [
    ([(30, 20), (30, 33), (60, 70)], (90, 90)),
    ([(20, 20, 20), (20, 20, 33), (20, 50, 50)], (40, 64, 64)),
]
"""Two that touch and one apart, of radius 8."""


def disks(centres: list[tuple[int, ...]], radius: float, shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """Bright disks or balls, brighter towards their middle, on a dark ground."""
    grid = np.indices(shape)
    distance = np.min([np.sqrt(((grid - np.reshape(c, (-1, *[1] * len(shape)))) ** 2).sum(0)) for c in centres], axis=0)
    picture: NDArray[np.uint16] = np.where(distance <= radius, 1000 - 240 * distance / radius, 100).astype(np.uint16)
    return picture


@pytest.mark.parametrize("name", SEEDED)
@pytest.mark.parametrize(("centres", "shape"), PLACES, ids=["2D", "3D"])
def test_what_touches_is_taken_apart(name: str, centres: list[tuple[int, ...]], shape: tuple[int, ...]) -> None:
    picture = disks(centres, 8, shape)
    found = segment(picture, model=name, min_size_px=20)
    assert len(found.segments["id"]) == 3
    assert len({int(np.asarray(found.labels)[c]) for c in centres} - {0}) == 3
    assert segment(picture, model="otsu", min_size_px=20).segments["id"].tolist() == [1, 2]


@pytest.mark.parametrize("name", SEEDED)
def test_the_diameter_says_how_large_objects_are(name: str) -> None:
    centres = [(60, 40), (60, 67), (130, 150)]
    picture = disks([(y, x) for y, x in centres], 16, (180, 180))
    found = segment(picture, model=name, diameter_px=32.0, min_size_px=20)
    assert len(found.segments["id"]) == 3
    assert np.median(found.segments["size"]) == pytest.approx(np.pi * 16**2, rel=0.35)


@pytest.mark.parametrize("name", [*SEEDED, "kmeans"])
@pytest.mark.parametrize(("shape", "axes", "chunk"), [((120, 110), "yx", (37, 50)), ((20, 44, 50), "zyx", (9, 30, 31))])
def test_chunks_do_not_change_the_answer(name: str, shape: tuple[int, ...], axes: str, chunk: tuple[int, ...], tmp_path: Path) -> None:
    picture = nuclei(shape, axes, seed=3)[0]
    model: Any = load_model(name)
    model.spec = replace(model.spec, tile=(44, 90, 90))  # several of them
    whole = segment(picture, model=model, axes=axes, min_size_px=5)
    parts = segment(picture, model=model, axes=axes, min_size_px=5, chunk=chunk, out=tmp_path / "a.ome.zarr")
    assert len(whole.segments["id"]) >= 2
    np.testing.assert_array_equal(np.asarray(whole.labels), np.asarray(parts.labels))
    for column, values in whole.segments.items():
        np.testing.assert_array_equal(values, parts.segments[column])


@pytest.mark.parametrize("name", SEEDED)
@pytest.mark.parametrize("axes", ["yx", "zyx"])
def test_tiles_do_not_cut_objects_that_are_as_large_as_was_said(name: str, axes: str) -> None:
    """Where tiles meet, each sees enough of what lies in the other."""
    centres, shape = PLACES[len(axes) - 2]
    picture = np.pad(disks(centres, 8, shape), 30 if len(axes) == 2 else 12, mode="edge")
    model: Any = load_model(name)
    whole = np.asarray(segment(picture, model=model, min_size_px=20).labels)
    model.spec = replace(model.spec, tile=(56, 96, 96))
    np.testing.assert_array_equal(np.asarray(segment(picture, model=model, min_size_px=20).labels), whole)


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("pixels", [np.zeros((40, 40), np.uint8), np.full((40, 40), 7, np.float32), np.full((3, 5), 255, np.uint16)])
def test_nothing_is_found_where_nothing_is(name: str, pixels: NDArray[Any]) -> None:
    found = segment(pixels, model=name)
    assert not np.asarray(found.labels).any()
    assert not len(found.segments["id"])


@pytest.mark.parametrize("name", CLASSICAL)
def test_each_says_what_it_is(name: str) -> None:
    spec = load_spec(name)
    assert (spec.name, spec.axes, spec.trained_on) == (name, "any", "nothing")
    assert all([spec.licence, spec.citation, spec.description, card(name)])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.int32])
def test_clusters_are_those_of_k_means(kind: type[np.generic]) -> None:
    """Against scipy's k-means, from means that are already near."""
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(m, s, n) for m, s, n in ((20, 6, 5000), (90, 10, 3000), (200, 12, 1000))]).clip(0, 255).astype(kind)
    low, high = clusters(values)
    means, _ = vq.kmeans(values.astype(float), np.array([20.0, 90.0, 200.0]))
    assert (low, high) == pytest.approx((means[:2].mean(), means[1:].mean()), abs=2)


def test_heads_are_those_of_the_codec() -> None:
    assert centers.heads((Class(1, "object"),), 3) == seeded.HEADS


def test_clusters_become_classes() -> None:
    picture = np.full((60, 60), 10, np.uint8)
    picture[:, 20:40], picture[:, 40:] = 100, 250
    labels = np.asarray(segment(picture, model="kmeans").labels)
    assert [labels[:, x].max() for x in (5, 30, 55)] == [labels[:, x].min() for x in (5, 30, 55)] == [0, 1, 2]


@pytest.mark.parametrize("values", [[0, 0, 255], [5, 5], [], [np.nan, 1.0, 2.0, 3.0], [-1e308, 0, 1e308], [2**62, 2**62 + 2**20, 2**63 - 1]])
def test_clusters_of_odd_channels_are_two_finite_values_in_their_order(values: list[float]) -> None:
    low, high = clusters(np.array(values))
    assert np.isfinite([low, high]).all()
    assert low < high
