"""Law: what is seen of a run on its way is what its finished chunks hold, at every level of the pyramid; objects have one number everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_segsuite import arrays
from napari_segsuite.codecs import runs
from napari_segsuite.engine import growing
from napari_segsuite.engine.growing import Growing, Window, colour_numbers
from napari_segsuite.engine.plan import Options, Plan, resolve
from napari_segsuite.engine.progress import Run
from napari_segsuite.engine.run import result, run
from napari_segsuite.engine.volume import store_of
from napari_segsuite.engine.work import Work, read_job
from napari_segsuite.io import pyramid
from napari_segsuite.models import load_spec
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Image, Model, ModelSpec

if TYPE_CHECKING:
    from napari_segsuite.models.torch_model import TorchModel

CASES: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ("yx", (70, 93), (32, 25), {}),
    ("zyx", (18, 40, 45), (7, 16, 21), {}),
    ("tzyx", (3, 8, 40, 41), (5, 20, 17), {}),
    ("zyx", (6, 60, 50), (25, 30), {"stack": "slices"}),
]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pyramids also of small images."""
    monkeypatch.setattr(pyramid, "SMALL_VOXELS", 2**9)


def planned(axes: str, shape: Sequence[int], chunk: tuple[int, ...], options: dict[str, Any]) -> tuple[Plan, Image, ModelSpec]:
    image, spec = arrays.as_image(nuclei(tuple(shape), axes, seed=4)[0], axes), load_spec("otsu")
    return resolve(image, Options(model="otsu", chunk=chunk, min_size_px=0, **options), spec), image, spec


def opened(plan: Plan, image: Image, spec: ModelSpec, out: Path) -> Growing:
    job = read_job(out)
    assert job is not None
    return Growing(Work(out, job.token), job.plan, spec, store_of(job.plan, image, out, None))


def until(steps: Run, chunks: int, out: Path) -> None:
    """Let a run go on until so many chunks are done, or all."""
    for progress in steps:
        if progress.message.startswith("joining"):
            return
        job = read_job(out)
        if job is not None and len(Work(out, job.token).records("chunks").names()) >= chunks:
            return


def full(levels: Sequence[Any]) -> list[NDArray[Any]]:
    return [np.asarray(level) for level in levels]


def strides(fine: Sequence[int], coarse: Sequence[int]) -> tuple[int, ...]:
    return tuple(2 ** round(np.log2(a / b)) for a, b in zip(fine, coarse, strict=True))


@pytest.mark.parametrize(("axes", "shape", "chunk", "options"), CASES)
def test_every_level_shows_every_nth_voxel_of_the_pieces_that_are_there(
    axes: str, shape: tuple[int, ...], chunk: tuple[int, ...], options: dict[str, Any], tmp_path: Path
) -> None:
    plan, image, spec = planned(axes, shape, chunk, options)
    steps = run(plan, image, out=tmp_path / "a.ome.zarr")
    until(steps, 4, tmp_path / "a.ome.zarr")
    steps.close()
    seen = opened(plan, image, spec, tmp_path / "a.ome.zarr")
    assert not any(level.any() for level in full(seen.levels))
    assert seen.look()
    assert 4 <= len(seen.done) < seen.total
    levels = full(seen.levels)
    assert len(levels) > 1
    assert isinstance(seen.levels[-1], np.ndarray)
    for level in levels:
        steps_between = strides(shape, level.shape)
        np.testing.assert_array_equal(level, levels[0][tuple(slice(None, None, f) for f in steps_between)])
    records, layout = seen._records, seen._layout
    expected = np.zeros(shape, bool)
    for number in seen.done:
        at = layout.chunk(number)
        stored = records["labels"].get(f"{number:09d}", ("piece", "lengths"))
        pieces = runs.painted(**stored, shape=[b - a for a, b in at.box])
        expected[(*at.frame, *[slice(a, b) for a, b in at.box])] = pieces > 0
    np.testing.assert_array_equal(levels[0] > 0, expected)


@pytest.mark.parametrize(("axes", "shape", "chunk", "options"), CASES)
def test_what_is_seen_when_all_chunks_are_there_is_the_result_but_for_the_numbers(
    axes: str, shape: tuple[int, ...], chunk: tuple[int, ...], options: dict[str, Any], tmp_path: Path
) -> None:
    plan, image, spec = planned(axes, shape, chunk, options)
    steps = run(plan, image, out=tmp_path / "a.ome.zarr")
    until(steps, 10**6, tmp_path / "a.ome.zarr")
    seen = opened(plan, image, spec, tmp_path / "a.ome.zarr")
    while seen.look():
        pass
    levels = full(seen.levels)
    found = np.asarray(result(steps).labels)
    np.testing.assert_array_equal(levels[0] > 0, found > 0)
    pairs = np.unique(np.stack([levels[0].ravel(), found.ravel()]), axis=1)
    assert len(pairs[0]) == len(np.unique(pairs[0]))  # each number is a part of one object
    assert not np.asarray(seen.levels[0]).any() or len(seen._seen) > 0  # after the run, only what is remembered is there, and no error


def test_an_object_with_a_key_has_one_number_in_all_chunks(untrained: Callable[..., TorchModel], tmp_path: Path) -> None:
    model: Model = untrained(2)
    image = arrays.as_image(np.random.default_rng(0).random((90, 80)).astype(np.float32), "yx")
    plan = resolve(image, Options(chunk=(32, 32), min_size_px=0, min_score=0), model.spec)
    out = tmp_path / "a.ome.zarr"
    steps = run(plan, image, out=out, model=model)
    until(steps, 10**6, out)
    seen = opened(plan, image, model.spec, out)
    while seen.look():
        pass
    level = np.asarray(seen.levels[0])
    found = np.asarray(result(steps).labels)
    keyed = {(a, b) for a, b in zip(level.ravel().tolist(), found.ravel().tolist(), strict=True) if b}
    across = [b for b in np.unique(found)[1:] if len({(y // 32, x // 32) for y, x in np.argwhere(found == b)}) > 1]
    assert len(across) > 3
    assert len(keyed) == len({b for _, b in keyed})


def test_a_lowest_level_that_is_large_stays_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, image, spec = planned(*CASES[0])
    steps = run(plan, image, out=tmp_path / "a.ome.zarr")
    until(steps, 10**6, tmp_path / "a.ome.zarr")
    steps.close()
    expected = opened(plan, image, spec, tmp_path / "a.ome.zarr")
    monkeypatch.setattr(growing, "MOST_LOWEST", 10)
    seen = opened(plan, image, spec, tmp_path / "a.ome.zarr")
    assert expected.look()
    assert seen.look()
    assert isinstance(seen.levels[-1], Window)
    np.testing.assert_array_equal(np.asarray(seen.levels[-1]), expected.levels[-1])


def test_what_is_remembered_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, image, spec = planned(*CASES[1])
    out = tmp_path / "a.ome.zarr"
    steps = run(plan, image, out=out)
    until(steps, 10**6, out)
    steps.close()
    monkeypatch.setattr(growing, "MOST_BYTES", 20_000)
    seen = opened(plan, image, spec, out)
    while seen.look():
        pass
    first = np.asarray(seen.levels[0])
    assert sum(part.nbytes for part in seen._seen.values()) == seen._bytes <= 20_000
    np.testing.assert_array_equal(np.asarray(seen.levels[0]), first)


@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_window_is_cut_as_an_array_is(data: st.DataObject) -> None:
    array = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    reads: list[Any] = []

    def read(box: Any) -> NDArray[Any]:
        reads.append(box)
        return array[tuple(slice(a, b) for a, b in box)]

    order = data.draw(st.permutations(range(3)))
    window = Window(read, array.dtype, [(0, n) for n in array.shape]).transpose(order)
    plain = array.transpose(order)
    for _ in range(2):
        key = tuple(
            data.draw(st.one_of(st.integers(-n, n - 1), st.builds(slice, st.none() | st.integers(-n, n), st.none() | st.integers(-n, n))))
            for n in plain.shape
            if n
        )[: plain.ndim]
        if 0 in plain.shape:
            break
        window, plain = window[key], plain[key]
        assert (window.shape, window.ndim, window.size) == (plain.shape, plain.ndim, plain.size)
        assert not reads
    np.testing.assert_array_equal(np.asarray(window), plain)
    if plain.ndim:
        np.testing.assert_array_equal(np.asarray(window[..., ::2]), plain[..., ::2])


@given(st.lists(st.integers(-3, 2**40), min_size=1, max_size=30), st.integers(0, 5))
def test_numbers_are_31_bits_and_never_a_class(keys: list[int], frame: int) -> None:
    rows = {"key": np.array(keys), "first": np.arange(len(keys))}
    numbers = colour_numbers(rows, frame, 3)
    assert numbers[0] == 0
    for key, number in zip(keys, numbers[1:].tolist(), strict=True):
        assert number == -key if key < 0 else 3 < number < 2**31
    again = colour_numbers(rows, frame, 3)
    np.testing.assert_array_equal(numbers, again)
