"""Training: crops that depend on their number alone, geometry, targets, the loop and its checkpoints."""

from __future__ import annotations

import functools
import json
import os
import pickle
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_segsuite.codecs import centers, targets
from napari_segsuite.models.nets import ResUNet
from napari_segsuite.models.torch_model import precision_of
from napari_segsuite.training import losses
from napari_segsuite.training.augment import Augmentation, change_intensity, crop_warped
from napari_segsuite.training.fit import Average, Progress, Schedule, fit
from napari_segsuite.training.recipe import Course
from napari_segsuite.training.samples import Crops, pair
from napari_segsuite.types import Class

Array = NDArray[Any]

FEW = settings(max_examples=25, deadline=None, derandomize=True)
CELL = (Class(1, "cell"),)
HEADS = centers.heads(CELL, 2)
ENCODE = functools.partial(centers.encode, classes=CELL)
STILL = Augmentation(zoom=(1.0, 1.0), rotate=False, flip=False, elastic=1.0, invert=0, intensity=0)


# Targets ------------------------------------------------------------------------------------------------------------------------------


@given(st.sampled_from([(1, 1), (9, 7), (1, 20), (5, 6, 4)]), st.integers(1, 6), st.integers(0, 2**32 - 1))
@FEW
def test_medoids_against_brute_force(shape: tuple[int, ...], count: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, count + 1, shape) * 7
    ids, points, sizes = targets.medoids(labels)
    assert ids.tolist() == sorted(set(labels.ravel().tolist()) - {0})
    for i, point, size in zip(ids, points, sizes, strict=True):
        inside = np.argwhere(labels == i)
        median = np.sort(inside, axis=0)[len(inside) // 2]
        distance = ((inside - median) ** 2).sum(1)
        assert size == len(inside)
        assert point.tolist() == inside[distance.argmin()].tolist()  # argwhere is in the array's order, and argmin takes the first


def test_heat_is_a_bump_of_height_one_per_point_and_the_larger_where_they_meet() -> None:
    points = np.array([[5, 5], [5, 9], [0, 0]])
    sigmas = np.array([[1.5, 1.5], [2.0, 2.0], [1.5, 3.0]])
    heat = targets.heat((12, 14), points, sigmas)
    grid = np.indices((12, 14))
    full = np.stack([np.exp(-0.5 * (((grid.T - p) / s) ** 2).sum(-1).T) for p, s in zip(points, sigmas, strict=True)]).max(0)
    assert heat == pytest.approx(np.where(full > 0.012, full, heat), abs=1e-6)  # cut off at three sigmas
    assert heat.max() == 1
    assert (heat[tuple(points.T)] == 1).all()


def test_the_width_of_a_bump_follows_the_size_and_the_sampling() -> None:
    wide = targets.sigmas(np.array([1, 400, 10**6]), (1.0, 1.0))
    assert wide[:, 0].tolist() == pytest.approx([1.5, 2.4, 4.0])
    flat = targets.sigmas(np.array([1000]), (5.0, 1.0, 1.0))[0]
    assert flat[0] * 5 == pytest.approx(flat[1]) == pytest.approx(flat[2])


# Crops --------------------------------------------------------------------------------------------------------------------------------


def scene(shape: tuple[int, ...], seed: int = 0) -> tuple[Array, Array]:
    """Blobs whose brightness is their label, so that image and labels can be compared."""
    rng = np.random.default_rng(seed)
    seeds = np.zeros(shape, np.int32)
    at = rng.integers(0, shape, (9, len(shape)))
    seeds[tuple(at.T)] = np.arange(1, 10)
    distance, nearest = ndimage.distance_transform_edt(seeds == 0, return_indices=True)
    labels = np.where(distance < 8, seeds[tuple(nearest)], 0).astype(np.int32)
    return labels[None].astype(np.float32), labels


def crop(image: Array, labels: Array, center: tuple[float, ...], size: tuple[int, ...], seed: int = 0, **how: Any) -> tuple[Array, Array]:
    return crop_warped(image, labels, center, size, replace(STILL, **how), np.random.default_rng(seed))


def assert_same_partition(found: Array, expected: Array) -> None:
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


@pytest.mark.parametrize("size", [(16, 16), (15, 17), (16, 9), (1, 1)])
def test_without_a_change_a_crop_is_a_piece_of_the_image(size: tuple[int, int]) -> None:
    image, labels = scene((60, 70))
    pixels, truth = crop(image, labels, (30.7, 33.2), size)
    low = [30 - size[0] // 2, 33 - size[1] // 2]
    at = (slice(low[0], low[0] + size[0]), slice(low[1], low[1] + size[1]))
    assert pixels[0] == pytest.approx(image[0][at], abs=1e-3)
    assert_same_partition(truth, _parts(labels[at]))


def _parts(labels: Array) -> Array:
    """Connected parts of each label: what one crop shows of an object in two places are two objects."""
    out = np.zeros(labels.shape, np.int32)
    for i in np.unique(labels[labels > 0]):
        part = ndimage.label(labels == i, np.ones([3] * labels.ndim))[0]
        out[part > 0] = part[part > 0] + out.max()
    return out


def test_a_crop_of_a_volume_too() -> None:
    image, labels = scene((14, 20, 22))
    pixels, truth = crop(image, labels, (7, 10, 11), (6, 8, 10))
    at = (slice(4, 10), slice(6, 14), slice(6, 16))
    assert pixels[0] == pytest.approx(image[0][at], abs=1e-3)
    assert_same_partition(truth, _parts(labels[at]))


def test_mirrors_and_right_angles_move_voxels_onto_voxels() -> None:
    image, labels = scene((60, 60), 1)
    square = image[0, 20:40, 20:40]
    turned = {np.rot90(m, k).tobytes() for m in (square, square[::-1]) for k in range(4)}
    assert len(turned) == 8
    seen = set()
    for seed in range(60):
        pixels, truth = crop(image, labels, (30, 30), (20, 20), seed, flip=True, rotate=True, exact=1.0)
        clean = np.rint(pixels[0])
        assert np.abs(pixels[0] - clean).max() < 1e-3
        assert clean.astype(np.float32).tobytes() in turned
        seen.add(clean.astype(np.float32).tobytes())
        assert_same_partition(truth, _parts(clean.astype(int)))
    assert seen == turned


@given(st.sampled_from([(24, 20), (10, 12, 14)]), st.integers(0, 2**32 - 1))
@FEW
def test_image_and_labels_stay_aligned_under_any_change(size: tuple[int, ...], seed: int) -> None:
    """Brightness is the label: away from outlines, where the image is interpolated, both must agree."""
    image, labels = scene((60, 70) if len(size) == 2 else (20, 30, 30), seed % 7)
    how = Augmentation(zoom=(0.5, 2.0), elastic=1.3, invert=0, intensity=0)
    center = tuple(np.random.default_rng(seed).uniform(0, labels.shape))
    pixels, truth = crop_warped(image, labels, center, size, how, np.random.default_rng(seed))
    assert pixels.shape == (1, *size)
    assert truth.shape == size
    assert pixels.dtype == np.float32
    assert truth.dtype == np.int32
    clean = np.abs(pixels[0] - np.rint(pixels[0])) < 1e-3
    levels = np.rint(pixels[0]).astype(int)
    inner = clean & (ndimage.minimum_filter(levels, 3) == ndimage.maximum_filter(levels, 3))
    assert ((truth > 0) == (levels > 0))[inner].all()
    for i in np.unique(truth[truth > 0]):
        assert len(np.unique(levels[inner & (truth == i)])) <= 1


@given(st.integers(0, 2**32 - 1))
@FEW
def test_labels_lie_where_the_image_lies_to_a_hundredth_of_a_voxel(seed: int) -> None:
    """The image is its own coordinate and the labels are stripes of six: the coordinates in a stripe tell where its outline was put."""
    ramp = np.broadcast_to(np.arange(120, dtype=np.float32), (1, 110, 120))
    how = Augmentation(zoom=(0.6, 1.7), elastic=1.3, invert=0, intensity=0)
    pixels, truth = crop_warped(ramp, (ramp[0] // 6).astype(np.int32) + 1, (55.3, 60.2), (32, 28), how, np.random.default_rng(seed))
    for i in range(1, truth.max() + 1):
        low, high = pixels[0][truth == i].min(), pixels[0][truth == i].max()
        stripe = np.floor((low + high + 1) / 12)
        assert 6 * stripe - 0.51 <= low <= high <= 6 * stripe + 5.51


def test_beyond_the_border_a_crop_is_mirrored() -> None:
    image, labels = scene((20, 24), 2)
    pixels, _ = crop(image, labels, (2, 22), (16, 16))
    mirrored = np.pad(image[0], 40, mode="reflect")
    assert pixels[0] == pytest.approx(mirrored[40 - 6 : 40 + 10, 40 + 14 : 40 + 30], abs=1e-3)


def test_zoom_magnifies() -> None:
    labels = np.zeros((80, 80), np.int32)
    labels[36:44, 36:44] = 1
    for zoom in (0.5, 1.0, 2.0):
        truth = crop(labels[None].astype(np.float32), labels, (40, 40), (64, 64), zoom=(zoom, zoom))[1]
        assert (truth > 0).sum() == pytest.approx(64 * zoom**2, rel=0.3)


@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([(20, 24), (8, 12, 10)]))
@FEW
def test_intensity_changes_keep_shape_type_and_grey(seed: int, grey: bool, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    image = rng.random((1 if grey else 3, *shape)).astype(np.float32)
    image = np.broadcast_to(image, (3, *shape)) if grey else image
    kept = image.copy()
    out = change_intensity(image, Augmentation(intensity=0.8, invert=0.3), np.random.default_rng(seed))
    assert out.shape == image.shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(image, kept)
    if grey:
        assert np.abs(out - out[:1]).max() < 1e-6
    again = change_intensity(image, Augmentation(intensity=0.8, invert=0.3), np.random.default_rng(seed))
    np.testing.assert_array_equal(out, again)


def crops(count: int, start: int = 0, seed: int = 3, size: tuple[int, int] = (24, 24), how: Any = None) -> Crops:
    pairs = [pair((100 + 50 * scene((60, 70), k)[0]).astype(np.uint16), scene((60, 70), k)[1], (1, 99.8), weight=k + 1.0) for k in range(2)]
    return Crops(pairs, ENCODE, size, count, how or Augmentation(), 1, seed, start)


def every(data: Crops) -> list[dict[str, torch.Tensor]]:
    """All crops; a data set ends where an index is beyond it."""
    iterable: Any = data
    return list(iterable)


def test_a_crop_depends_on_its_number_and_the_seed_alone() -> None:
    whole = crops(8)
    assert len(whole) == 8
    for start in (0, 3):
        part = crops(20, start)
        for k in range(2):
            assert all(torch.equal(part[k][name], value) for name, value in whole[start + k].items())
    assert not torch.equal(whole[0]["image"], whole[1]["image"])
    assert not torch.equal(whole[0]["image"], crops(8, seed=4)[0]["image"])
    assert len(every(crops(5, 3))) == 2


def test_crops_have_everything_that_the_losses_need() -> None:
    for sample in every(crops(6)):
        assert {name: (tuple(v.shape), v.dtype) for name, v in sample.items()} == {
            "image": ((1, 24, 24), torch.float32),
            "semantic": ((24, 24), torch.uint8),
            "center": ((1, 24, 24), torch.float32),
            "offset": ((2, 24, 24), torch.float32),
            "weight": ((1, 24, 24), torch.float32),
        }
        assert all(v.isfinite().all() for v in sample.values())


def test_images_are_drawn_by_their_weight_and_changes_by_the_crops_number() -> None:
    asked: list[int] = []

    def how(number: int) -> Augmentation:
        asked.append(number)
        return STILL

    flat = [pair(np.full((1, 30, 30), v, np.float32), np.zeros((30, 30), int), (0, 100), weight=w) for v, w in ((0.25, 1.0), (0.75, 3.0))]
    data = Crops(flat, ENCODE, (4, 4), 400, how, 2, 0, 100, empty=0)
    values = [float(sample["image"].mean()) for sample in every(data)]
    assert asked == list(range(100, 400))
    assert np.mean(np.array(values) > 0.5) == pytest.approx(0.75, abs=0.08)
    assert data[0]["image"].shape == (2, 4, 4)


def test_some_crops_hold_nothing() -> None:
    data = Crops(crops(1).pairs, ENCODE, (8, 8), 40, STILL, 3, empty=1.0)
    assert not any(sample["semantic"].any() for sample in every(data))
    assert all(sample["image"].shape == (3, 8, 8) for sample in every(data))


# Losses -------------------------------------------------------------------------------------------------------------------------------


def test_the_right_answer_costs_nothing_and_every_mistake_something() -> None:
    labels = scene((30, 30))[1]
    truth = {name: torch.from_numpy(np.ascontiguousarray(value))[None] for name, value in ENCODE(labels).items()}
    inside = truth["semantic"][:, None].float()
    right = {
        "semantic": 40 * torch.cat([1 - inside, inside], 1) - 20,
        "center": torch.logit(truth["center"].clamp(1e-6, 1 - 1e-6)),
        "offset": truth["offset"] / centers.OFFSET_UNIT,
    }
    best = losses.losses(right, truth, HEADS)
    assert all(float(value) < 1e-4 for value in best.values()), best
    assert float(losses.total(best, HEADS)) < 1e-3
    for head, terms in {"semantic": ("semantic", "semantic dice"), "center": ("center",), "offset": ("offset",)}.items():
        wrong = losses.losses({**right, head: -right[head]}, truth, HEADS)
        assert {name for name, value in wrong.items() if value > 0.01} == set(terms)


# The loop -----------------------------------------------------------------------------------------------------------------------------

SHORT = Schedule(steps=6, batch=2, rate=5e-3, warmup=2, decay=2, checkpoint=2)


def small_net(seed: int = 0) -> ResUNet:
    torch.manual_seed(seed)
    return ResUNet(2, 1, {h.name: h.channels for h in centers.heads(CELL, 2)}, (4, 8), (1, 1))


def train(folder: Path, schedule: Schedule = SHORT, net: ResUNet | None = None, how: Any = None) -> Generator[Progress, None, None]:
    made = net or small_net()
    return fit(made, functools.partial(crops, how=how), schedule, folder, HEADS, workers=0, layout=made.memory_format)


def checkpoint(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "checkpoint.pt", weights_only=True)
    return state


def assert_same_state(one: Any, other: Any, where: str = "") -> None:
    """Every bit of every tensor."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for name in one:
            assert_same_state(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for k, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same_state(a, b, f"{where}.{k}")
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, where


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    told = list(train(folder))
    assert [p.step for p in told] == [1, 2, 3, 4, 5, 6]
    assert checkpoint(folder)["optimizer"]["param_groups"][0]["lr"] == SHORT.rate * SHORT.factor(5)
    return folder


@pytest.mark.parametrize("stops", [(2,), (3,), (1, 3, 5), (6,)])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_by_bit(stops: tuple[int, ...], uninterrupted: Path, tmp_path: Path) -> None:
    for stop in stops:
        steps = train(tmp_path)
        while next(steps).step < stop:
            pass
        steps.close()  # what was done since the last checkpoint is lost, and done again
    rest = [p.step for p in train(tmp_path, net=small_net(seed=9))]  # whatever the weights were before
    assert rest == list(range(stops[-1] // 2 * 2 + 1, 7))
    assert_same_state(checkpoint(tmp_path), checkpoint(uninterrupted))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 6


def test_half_precision_is_used_only_where_the_processor_has_it(tmp_path: Path) -> None:
    seen = set[torch.dtype]()
    net = small_net()
    net.stem.register_forward_hook(lambda _module, _inputs, output: seen.add(output.dtype))
    next(train(tmp_path, net=net))
    assert seen == {precision_of(torch.device("cpu"))}


@pytest.mark.parametrize("method", torch.multiprocessing.get_all_start_methods())
def test_crops_can_be_made_in_other_processes(method: str) -> None:
    data = Crops(crops(1).pairs, ENCODE, (8, 8), 4, Course(polish=1, fine=2, broad=3), 3)
    assert pickle.loads(pickle.dumps(data))[3]["image"].equal(data[3]["image"])
    loader = torch.utils.data.DataLoader(data, 2, num_workers=1, multiprocessing_context=method)
    for batch, first in zip(loader, (0, 2), strict=True):
        assert batch["image"].equal(torch.stack([data[first]["image"], data[first + 1]["image"]]))


def test_a_run_is_reproducible_and_its_seed_matters(uninterrupted: Path, tmp_path: Path) -> None:
    list(train(tmp_path / "again"))
    assert_same_state(checkpoint(tmp_path / "again"), checkpoint(uninterrupted))
    list(train(tmp_path / "other", net=small_net(seed=1)))
    with pytest.raises(AssertionError):
        assert_same_state(checkpoint(tmp_path / "other"), checkpoint(uninterrupted))


class Stopping:
    """A file at whose third write somebody presses Ctrl-C."""

    def __init__(self, file: Any) -> None:
        self.file, self.writes = file, 0

    def write(self, data: Any) -> int:
        self.writes += 1
        if self.writes == 3:
            raise KeyboardInterrupt
        return int(self.file.write(data))

    def flush(self) -> None:
        self.file.flush()


@pytest.mark.parametrize("when", ["while torch writes it", "while it is written", "before it is on disk"])
def test_a_checkpoint_cut_off_in_the_middle_leaves_the_one_before(
    when: str, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = train(tmp_path)
    while next(steps).step < 3:
        pass
    before = (tmp_path / "checkpoint.pt").read_bytes()
    really = torch.save

    def half(state: Any, file: Any) -> None:
        really(state, file)
        file.truncate(1000)
        raise KeyboardInterrupt

    def within(state: Any, file: Any) -> None:
        really(state, Stopping(file))  # torch fails at closing its archive then, and hides what had stopped it

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    stops = {
        "while torch writes it": (torch, "save", within),
        "while it is written": (torch, "save", half),
        "before it is on disk": (os, "fsync", stop),
    }
    monkeypatch.setattr(*stops[when])
    with pytest.raises(KeyboardInterrupt):
        next(steps)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.part"))
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert checkpoint(tmp_path)["step"] == 2
    list(train(tmp_path))
    assert_same_state(checkpoint(tmp_path), checkpoint(uninterrupted))


def test_a_finished_run_is_not_gone_on_with_and_can_be_prolonged(tmp_path: Path) -> None:
    plateau = replace(SHORT, decay=0)
    list(train(tmp_path / "short", plateau))
    assert list(train(tmp_path / "short", plateau)) == []
    longer = replace(plateau, steps=8)
    assert [p.step for p in train(tmp_path / "short", longer)] == [7, 8]
    list(train(tmp_path / "long", longer))
    assert_same_state(checkpoint(tmp_path / "short"), checkpoint(tmp_path / "long"))


def test_the_loss_goes_down(tmp_path: Path) -> None:
    schedule = Schedule(steps=50, batch=4, rate=1e-2, warmup=5, decay=10, averaging=0.9, checkpoint=50)
    told = [float(losses.total({k: torch.tensor(v) for k, v in p.parts.items()}, HEADS)) for p in train(tmp_path, schedule, how=STILL)]
    assert np.mean(told[-8:]) < 0.6 * np.mean(told[:4])
    assert all(np.isfinite(told))


def test_a_step_whose_gradient_is_not_finite_changes_nothing_and_many_end_the_run(tmp_path: Path) -> None:
    class Poisoned(Crops):
        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            sample = super().__getitem__(index)
            if self.start + index >= 4:
                sample["center"] = sample["center"] * float("nan")
            return sample

    def make(count: int, start: int) -> Crops:
        plain = crops(count, start)
        return Poisoned(plain.pairs, ENCODE, (24, 24), count, STILL, 1, 3, start)

    net = small_net()
    schedule = Schedule(steps=40, batch=2, warmup=1, checkpoint=100)
    steps = fit(net, make, schedule, tmp_path, HEADS, workers=0)
    assert next(steps).parts
    assert next(steps).parts
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    assert not next(steps).parts
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    with pytest.raises(FloatingPointError, match="the loss is not finite since 21 steps"):
        list(steps)


def test_the_schedule_rises_stays_and_falls() -> None:
    plan = Schedule(steps=100, warmup=10, decay=20)
    factors = [plan.factor(k) for k in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[:10] == sorted(factors[:10])
    assert set(factors[10:81]) == {1.0}
    assert factors[80:] == sorted(factors[80:], reverse=True)
    assert factors[90] == pytest.approx(0.51)
    assert 0.02 < factors[99] < 0.04
    assert plan.factor(100) == pytest.approx(0.02)
    assert all(0 < f <= 1 for f in factors)
    assert Schedule(steps=5, warmup=0, decay=0).factor(0) == 1


def test_the_average_starts_short_and_becomes_long() -> None:
    net = torch.nn.Linear(2, 2, bias=False)
    torch.nn.init.zeros_(net.weight)
    average = Average(net, 0.9)
    value = 0.0
    with torch.no_grad():
        for step in range(200):
            net.weight.fill_(float(step))
            average.update(net, step)
            decay = min(0.9, (1 + step) / (10 + step))
            value = decay * value + (1 - decay) * step
    assert float(average.state["weight"].mean()) == pytest.approx(value, rel=1e-4)
    assert 185 < value < 199
