"""Models without training: what they separate, on which axes, and that chunks, tiles and pixel sizes do not change what they mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster import vq
from sklearn.mixture import GaussianMixture

from napari_segsuite import load_model, segment
from napari_segsuite.codecs import centers
from napari_segsuite.models import CLASSICAL, card, load_spec, seeded
from napari_segsuite.synthetic import nuclei
from napari_segsuite.thresholds import clusters, mixture
from napari_segsuite.types import Class

SEEDED = ["watershed", "voronoi-otsu", "blobs", "region-growing", "edges"]
TOUCHING = [name for name in SEEDED if name != "region-growing"]
"""Those that take apart what nothing but its outline says to be two."""
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


@pytest.mark.parametrize("name", TOUCHING)
@pytest.mark.parametrize(("centres", "shape"), PLACES, ids=["2D", "3D"])
def test_what_touches_is_taken_apart(name: str, centres: list[tuple[int, ...]], shape: tuple[int, ...]) -> None:
    picture = disks(centres, 8, shape)
    found = segment(picture, model=name, min_size_px=20)
    assert len(found.segments["id"]) == 3
    assert len({int(np.asarray(found.labels)[c]) for c in centres} - {0}) == 3
    assert segment(picture, model="otsu", min_size_px=20).segments["id"].tolist() == [1, 2]


@pytest.mark.parametrize("name", TOUCHING)
def test_the_diameter_says_how_large_objects_are(name: str) -> None:
    centres = [(60, 40), (60, 67), (130, 150)]
    picture = disks([(y, x) for y, x in centres], 16, (180, 180))
    found = segment(picture, model=name, diameter_px=32.0, min_size_px=20)
    assert len(found.segments["id"]) == 3
    assert np.median(found.segments["size"]) == pytest.approx(np.pi * 16**2, rel=0.35)


@pytest.mark.parametrize("name", [*SEEDED, "kmeans", "mixture", "superpixels"])
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


@pytest.mark.parametrize("name", [name for name in CLASSICAL if name != "superpixels"])
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


@pytest.mark.parametrize("shares", [(0.7, 0.2, 0.1), (0.97, 0.02, 0.01), (0.2, 0.5, 0.3)])
def test_the_mixture_is_that_of_scikit_learn(shares: tuple[float, ...]) -> None:
    """Its thresholds are where the most probable kind changes, of kinds that are not equally wide."""
    rng = np.random.default_rng(8)
    values = np.concatenate([rng.normal(m, s, int(40000 * p)) for m, s, p in zip((20, 90, 190), (4, 25, 12), shares, strict=True)])
    model = GaussianMixture(3, means_init=np.array([[20], [90], [190]]), tol=1e-7, max_iter=500).fit(values[:, None])
    at = np.linspace(20, 190, 5000)
    kind = np.argsort(np.argsort(model.means_[:, 0]))[model.predict(at[:, None])]
    expected = [at[np.flatnonzero(kind == k)[-1]] for k in (0, 1)]
    assert mixture(values) == pytest.approx(expected, abs=2)


def test_a_narrow_ground_below_faint_wide_structures_is_a_kind_of_its_own() -> None:
    """What `mixture` is for: k-means moves its threshold into the wide kind."""
    rng = np.random.default_rng(1)
    picture = rng.normal(10, 1, (100, 100))
    picture[:, 60:] = rng.normal(30, 6, (100, 40))
    picture[:20, 60:] = rng.normal(100, 6, (20, 40))
    faint = np.zeros(picture.shape, bool)
    faint[20:, 60:] = True
    found = {name: np.asarray(segment(picture, model=name).labels) == 1 for name in ("kmeans", "mixture")}
    iou = {name: (f & faint).sum() / (f | faint).sum() for name, f in found.items()}
    assert iou["mixture"] > 0.95


@pytest.mark.parametrize("values", [[0, 0, 255], [5, 5], [], [np.nan, 1.0, 2.0, 3.0], [-1e308, 0, 1e308], [2**62, 2**62 + 2**20, 2**63 - 1]])
def test_a_mixture_of_odd_channels_is_two_finite_values_in_their_order(values: list[float]) -> None:
    low, high = mixture(np.array(values))
    assert np.isfinite([low, high]).all()
    assert low < high


def test_dim_objects_beside_bright_ones_keep_their_size() -> None:
    """Region growing has a threshold per object: Otsu's loses the dim ones."""
    picture = disks([(30, 30)], 8, (90, 90))
    dim = disks([(60, 60)], 8, (90, 90))
    picture = np.maximum(picture, 100 + (dim - 100) // 4)
    assert len(segment(picture, model="otsu", min_size_px=20).segments["id"]) == 1
    found = segment(picture, model="region-growing", min_size_px=20)
    bright, weak = (found.segments["size"][found.segments["id"] == np.asarray(found.labels)[p]] for p in ((30, 30), (60, 60)))
    assert weak == pytest.approx(bright, rel=0.1)


@pytest.mark.parametrize(("centres", "shape"), PLACES, ids=["2D", "3D"])
def test_regions_grow_until_they_meet_in_a_dimmer_line(centres: list[tuple[int, ...]], shape: tuple[int, ...]) -> None:
    picture = disks(centres, 8, shape).astype(float)
    sharp = 100 + (picture - 100) ** 2 / 900
    found = segment(sharp, model="region-growing", min_size_px=20)
    assert len(found.segments["id"]) == 3
    assert len({int(np.asarray(found.labels)[c]) for c in centres} - {0}) == 3
    assert len(segment(picture, model="region-growing", min_size_px=20).segments["id"]) == 2, "a pass that is nearly as bright is no border"


NOISE: dict[str, Any] = {
    "Poisson 1": lambda rng, shape: rng.poisson(1, shape).astype(np.uint8),
    "Poisson 100": lambda rng, shape: rng.poisson(100, shape).astype(np.uint16),
    "Gaussian": lambda rng, shape: rng.normal(100, 10, shape).astype(np.float32),
    "smoothed": lambda rng, shape: ndimage.gaussian_filter(rng.normal(100, 10, shape), 0.7).astype(np.float32),
    "integers": lambda rng, shape: rng.integers(0, 256, shape).astype(np.uint8),
    "three greys": lambda rng, shape: rng.integers(99, 102, shape).astype(np.uint8),
    "speckle": lambda rng, shape: rng.gamma(1, 50, shape).astype(np.float32),
}


@pytest.mark.parametrize("kind", NOISE)
@pytest.mark.parametrize("shape", [(160, 200), (16, 64, 64)], ids=["2D", "3D"])
def test_noise_alone_is_no_object(kind: str, shape: tuple[int, ...]) -> None:
    """Once in a while one, as extremes are; but what stands out by three times the noise of a pixel is one."""
    noise = NOISE[kind](np.random.default_rng(7), shape)
    assert len(segment(noise, model="region-growing").segments["id"]) <= 1
    middle = tuple(n // 2 for n in shape)
    found = segment(noise + 3 * noise.std() * (disks([middle], 8, shape) > 100), model="region-growing")
    assert len(found.segments["id"]) <= 2
    assert np.asarray(found.labels)[middle]


def test_edges_do_not_follow_a_ground_that_rises() -> None:
    """The outline lies where the step is, though the threshold of the whole image lies elsewhere on either side."""
    x = np.linspace(0, 150, 120)
    picture = np.tile(x, (80, 1)) + 100
    truth = np.zeros(picture.shape, bool)
    for column in (20, 60, 100):
        truth |= disks([(40, column)], 9, picture.shape) > 100
    picture = picture + 400 * truth
    blurred = ndimage.gaussian_filter(picture, 1.5)
    iou = {}
    for name in ("edges", "watershed"):
        found = np.asarray(segment(blurred, model=name, min_size_px=20).labels) > 0
        iou[name] = (found & truth).sum() / (found | truth).sum()
    assert iou["edges"] > max(0.9, iou["watershed"])


@pytest.mark.parametrize(("shape", "axes"), [((100, 130), "yx"), ((40, 48, 50), "zyx")])
def test_superpixels_divide_all_of_the_image_and_keep_to_its_edges(shape: tuple[int, ...], axes: str) -> None:
    picture, truth = nuclei(shape, axes, seed=2)
    found = segment(picture, model="superpixels", axes=axes)
    labels = np.asarray(found.labels)
    assert (labels == 0).mean() < 1e-4
    cells = int(np.prod([-(-n // 16) for n in shape]))
    assert 0.9 * cells <= len(found.segments["id"]) <= cells
    inside = np.bincount(labels.ravel(), weights=(truth > 0).ravel()) / np.maximum(np.bincount(labels.ravel()), 1)
    grid = np.ravel_multi_index(np.meshgrid(*[np.arange(n) // 16 for n in shape], indexing="ij"), [-(-n // 16) for n in shape])
    of_grid = np.bincount(grid.ravel(), weights=(truth > 0).ravel()) / np.bincount(grid.ravel())
    # How much of the image lies in parts that are of one kind: each part judged by the kind that it has most of.
    pure, pure_grid = (np.maximum(share, 1 - share)[of.ravel()].mean() for share, of in ((inside, labels), (of_grid, grid)))
    assert pure > max(0.85, pure_grid + 0.05)


def test_tiles_have_the_same_superpixels() -> None:
    picture = nuclei((200, 260), "yx", seed=4)[0]
    model: Any = load_model("superpixels")
    whole = np.asarray(segment(picture, model=model).labels)
    model.spec = replace(model.spec, tile=(96, 128, 128))
    parts = np.asarray(segment(picture, model=model).labels)
    assert len(np.unique(parts)) == len(np.unique(whole))
    assert (parts == whole).mean() > 0.97
