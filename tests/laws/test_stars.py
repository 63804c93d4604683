"""Laws of the codec `stars`: what of an object comes back, which stars suppress which, and what has directions.

That a region is decoded as in the whole, and any maps in any chunks, is tested with the other codecs in test_chunks.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_segsuite import arrays, metrics
from napari_segsuite.codecs import pieces, stars, suppress
from napari_segsuite.codecs.compass import RAYS, compass_of, rays
from napari_segsuite.engine.plan import Options, resolve
from napari_segsuite.engine.tiles import quantize
from napari_segsuite.errors import OptionError
from napari_segsuite.models.torch_model import TorchModel
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Class

if TYPE_CHECKING:
    from napari_segsuite.codecs.pieces import Assigned

Array = NDArray[Any]
CELL = (Class(1, "cell"),)
FEW = settings(max_examples=15, deadline=None, derandomize=True)


def perfect(labels: Array) -> dict[str, Array]:
    """The maps of a network that makes no mistake, as the integers that decoding gets."""
    encoded = stars.encode(labels, CELL)
    maps = {head.name: quantize(head, np.asarray(encoded[head.name], np.float32)) for head in stars.heads(CELL, labels.ndim)[1:]}
    return {"semantic": np.stack([labels == 0, labels > 0]) * np.uint8(255), **maps}


def assigned(maps: Mapping[str, Array], **options: Any) -> Assigned:
    shape = maps["semantic"].shape[1:]
    return stars.assign(maps, CELL, options, (0,) * len(shape), shape, (1.0,) * len(shape))


def painted(found: pieces.Assigned) -> Array:
    out = np.zeros(int(np.prod(found.shape)), np.int64)
    out[found.inside] = found.keys[found.number]
    return out.reshape(found.shape)


def ellipses(shape: Sequence[int], seed: int) -> Array:
    """Ellipses (ellipsoids), up to three times as long as wide, that touch where they would overlap."""
    rng, grid = np.random.default_rng(seed), np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for i in range(1, 20):
        turn = np.linalg.qr(rng.normal(size=(len(shape),) * 2))[0]
        away = np.tensordot(turn, grid - rng.uniform(0, shape).reshape(-1, *[1] * len(shape)), 1)
        radii = rng.uniform(4, 7) * np.array([1, *rng.uniform(1, 3, len(shape) - 1)])
        inside = ((away / radii.reshape(-1, *[1] * len(shape))) ** 2).sum(0) <= 1
        if (labels[inside] > 0).mean() < 0.2:
            labels[inside & (labels == 0)] = i
    return labels


@pytest.mark.parametrize(("shape", "expected"), [((160, 160), {0.5: 0.95, 0.7: 0.9, 0.9: 0.7}), ((32, 48, 48), {0.5: 0.9, 0.7: 0.75, 0.9: 0.2})])
def test_touching_ellipses_come_back_but_for_what_rays_cut_off(shape: tuple[int, ...], expected: dict[float, float]) -> None:
    truth = [ellipses(shape, seed).astype(np.int64) for seed in range(2)]
    scores = metrics.evaluate([painted(assigned(perfect(labels))) for labels in truth], truth)
    assert {t: scores.ap[t] >= least for t, least in expected.items()} == dict.fromkeys(expected, True), scores.ap


def test_of_what_is_not_star_convex_a_part_is_lost() -> None:
    y, x = np.mgrid[:40, :40]
    ring = (np.abs(np.hypot(y - 20, x - 20) - 13) <= 3).astype(np.int32)
    found = painted(assigned(perfect(ring)))
    assert 0.3 < np.unique(found, return_counts=True)[1][1:].max() / ring.sum() < 0.7
    assert not found[ring == 0].any()


@given(st.sampled_from([(1, 1), (1, 9), (7, 5), (3, 4, 5)]))
@FEW
def test_the_smallest_objects_come_back(shape: tuple[int, ...]) -> None:
    """Single voxels, and an object that is all of the image."""
    labels = np.ones(shape, np.int32)
    assert (painted(assigned(perfect(labels))) > 0).all()
    alone = np.pad(np.ones((1,) * len(shape), np.int32), 4)
    np.testing.assert_array_equal(painted(assigned(perfect(alone))) > 0, alone > 0)


def test_rays_end_half_a_voxel_behind_the_object() -> None:
    labels = np.zeros((21, 31), np.int32)
    labels[5:16, 5:26] = 7
    labels[5:16, 26:30] = 8  # another object ends it as background does
    encoded = stars.encode(labels, CELL)
    lengths = stars.LONGEST * encoded["rays"][:, 10, 15] ** 2
    assert lengths[[0, 8, 16, 24]] == pytest.approx([10.5, 5.5, 10.5, 5.5], abs=1e-4)
    assert (encoded["rays"][:, labels == 0] == 0).all()
    assert encoded["probability"][0, 10, 15] == encoded["probability"].max() == 1
    assert (encoded["rays_weight"] > 0).all()
    assert encoded["rays_weight"][0][labels == 0].max() < encoded["rays_weight"][0][labels > 0].min()


@pytest.mark.parametrize("factor", [(1.0, 1.0), (1.0, 2.5), (1.0, 1.0, 1.0), (0.7, 1.3, 1.0)])
def test_every_voxel_lies_between_rays_that_lead_to_it(factor: tuple[float, ...]) -> None:
    compass, directions = compass_of(factor, 6.0), rays(len(factor))
    assert len(directions) == RAYS[len(factor)]
    assert np.abs((directions**2).sum(1) - 1).max() < 1e-12
    led = np.einsum("mi,mij->mj", compass.weight, directions[compass.between])
    np.testing.assert_allclose(led * factor, compass.step, atol=1e-9)
    assert compass.weight.min() > -1e-9
    assert (np.diff(compass.distance) >= 0).all()


def suppressed_slowly(maps: Mapping[str, Array], o: Mapping[str, Any]) -> set[int]:
    """Greedy suppression as in StarDist, star by star: flat indices of the middles that stay."""
    shape = maps["semantic"].shape[1:]
    thing = maps["semantic"][0] <= 127
    directions = rays(2)
    heights = np.where(thing, maps["probability"][0].astype(int), 0)
    around = np.pad(heights, 1)
    index = np.arange(heights.size).reshape(shape)
    candidates = []
    for y, x in np.argwhere(heights >= max(1, round(255 * o["center"]))).tolist():
        window = around[y : y + 3, x : x + 3]
        if heights[y, x] == window.max() and window.ravel()[:4].max() < heights[y, x]:
            candidates.append((-heights[y, x], int(index[y, x]), (y, x)))
    kept: list[tuple[tuple[int, int], set[tuple[int, int]]]] = []
    for _, _, (y, x) in sorted(candidates):
        ends = np.clip(128 * (maps["rays"][:, y, x] / 255) ** 2 + o["wide"], 0.5, o["longest"])[:, None] * directions
        star = {(int(a), int(b)) for a, b in np.argwhere(thing)[_in_polygon(np.argwhere(thing) - (y, x), ends)]}
        near = [other for (v, u), other in kept if max(abs(v - y), abs(u - x)) <= o["longest"]]
        if not any(len(star & other) > o["overlap"] * min(len(star), len(other)) for other in near):
            kept.append(((y, x), star))
    return {int(index[place]) for place, _ in kept}


def _in_polygon(places: Array, ends: Array) -> Array:
    """Which places lie in one of the triangles from the middle to two neighbouring ends."""
    inside = np.zeros(len(places), np.bool_)
    for one, other in zip(ends, np.roll(ends, -1, 0), strict=True):
        a, b = np.linalg.solve(np.stack([one, other], 1), places.T.astype(float))
        inside |= (a >= -1e-9) & (b >= -1e-9) & (a + b <= 1 + 1e-9)
    return inside


@given(st.integers(0, 2**32 - 1))
@settings(FEW, max_examples=6)
def test_the_same_stars_stay_as_in_greedy_suppression(seed: int) -> None:
    """With rounds enough it is the same; the rounds that there are find no others, and leave out the ends of long chains."""
    rng = np.random.default_rng(seed)
    shape, o = (13, 14), {"center": 0.3, "overlap": 0.3, "longest": 6, "wide": 0.25, "window": 1, "smooth": 0}
    maps: dict[str, Array] = {
        "semantic": (rng.random(shape) < [[[0.1]], [[2]]]).astype(np.uint8) * np.uint8(255),
        "probability": (rng.permutation(13 * 14).reshape(1, *shape) + 60).astype(np.uint8),
        "rays": np.repeat(np.repeat(rng.integers(25, 55, (32, 7, 7)), 2, 1), 2, 2)[:, :13, :14].astype(np.uint8),
    }
    usual, greedy = set((assigned(maps, **o).keys[1:] - 1).tolist()), suppressed_slowly(maps, o)
    assert usual <= greedy
    assert len(usual) >= len(greedy) - 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suppress, "ROUNDS", 20)
        assert set((assigned(maps, **o).keys[1:] - 1).tolist()) == greedy


def test_a_voxel_belongs_to_the_highest_star_that_it_is_in() -> None:
    maps: dict[str, Array] = {"semantic": np.zeros((2, 9, 20), np.uint8), "probability": np.zeros((1, 9, 20), np.uint8)}
    maps["semantic"][1] = 255
    maps["rays"] = np.full((32, 9, 20), round(255 * np.sqrt(6 / 128)), np.uint8)
    maps["probability"][0, 4, 5], maps["probability"][0, 4, 13] = 200, 250
    found = painted(assigned(maps, wide=0, smooth=0))
    left, right = 1 + 4 * 20 + 5, 1 + 4 * 20 + 13
    assert found[4].tolist() == [*[left] * 8, *[right] * 11, 0]  # the root of 6 is rounded down
    assert assigned(maps, wide=0, smooth=0).heights.tolist() == [0, 200, 250]


def test_what_has_directions_is_not_averaged_over_mirrors_or_views(untrained: Callable[..., TorchModel]) -> None:
    model = untrained(2, CELL, "stars")
    with pytest.raises(OptionError, match="rays, of which no mean can be taken over mirrored images"):
        resolve(arrays.as_image(np.zeros((20, 20))), Options(flips=True), model.spec)
    with pytest.raises(OptionError, match="Choose flips=False"):
        TorchModel(model.spec, model.net, device="cpu", flips=True)
    with pytest.raises(OptionError, match="not those of volumes"):
        resolve(arrays.as_image(np.zeros((9, 20, 20)), "zyx"), Options(stack="orthogonal"), model.spec)
    assert resolve(arrays.as_image(np.zeros((9, 20, 20)), "zyx"), Options(stack="slices"), model.spec).codec_options


def test_crowded_nuclei_come_back() -> None:
    labels = nuclei((160, 160), "yx", seed=2)[1].astype(np.int64)
    found = metrics.evaluate([painted(assigned(perfect(labels)))], [labels])
    assert found.ap[0.7] > 0.97
