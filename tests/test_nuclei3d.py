"""The built-in model for volumes: it is there, small, better than a threshold, the same however a volume is cut, and can be made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_segsuite import evaluate, segment
from napari_segsuite.models import card, folder_of, load_model, load_spec
from napari_segsuite.training import nuclei3d
from napari_segsuite.training.volumes import volume


def test_it_is_small_and_says_all_about_itself() -> None:
    folder, spec = folder_of("nuclei-3d"), load_spec("nuclei-3d")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6e6
    assert all((spec.description, spec.licence, spec.citation, spec.trained_on))
    told = card("nuclei-3d")
    for word in ("MIT", "GoNuclear", "QCANet", "python -m benchmarks nuclei-3d", "held back", "Limits", "did not help"):
        assert word in told


def test_what_is_shipped_is_what_the_recipe_says() -> None:
    spec, recipe = load_spec("nuclei-3d"), nuclei3d.spec()
    assert (spec.axes, spec.task, spec.diameter_px) == ("zyx", "instance", 16.0)
    assert (spec.net, spec.heads, spec.codec_options, spec.normalize) == (recipe.net, recipe.heads, recipe.codec_options, recipe.normalize)
    assert (spec.tile, spec.context, spec.multiple) == (recipe.tile, recipe.context, recipe.multiple)


def test_synthetic_nuclei_are_found_better_than_by_a_threshold_and_alike_in_chunks() -> None:
    image, labels = volume((28, 72, 72), np.random.default_rng(5))
    found = segment(image, model="nuclei-3d")
    scores, threshold = evaluate(found, labels), evaluate(segment(image, model="otsu"), labels)
    assert scores.ap[0.5] > 0.5
    assert scores.ap[0.5] > threshold.ap[0.5] + 0.1
    chunked = segment(image, model="nuclei-3d", chunk=(16, 72, 40))
    np.testing.assert_array_equal(chunked.labels, found.labels)


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_there_is_nothing_in_an_empty_volume(value: int) -> None:
    assert not segment(np.full((12, 40, 44), value, np.uint16), model="nuclei-3d").labels.any()


def test_there_is_nothing_in_noise() -> None:
    noise = np.random.default_rng(0).normal(100, 5, (32, 96, 96)).astype(np.float32)
    assert len(segment(noise, model="nuclei-3d").segments["id"]) <= 2


@pytest.mark.parametrize("source", nuclei3d.SOURCES, ids=lambda source: source.name)
def test_real_nuclei_that_were_held_back_are_found(shared_data: Path, source: nuclei3d.Source) -> None:
    image, labels = source.read(shared_data, held_back=True)
    found = segment(image, model="nuclei-3d", diameter_px=source.diameter)
    assert evaluate(found, labels).ap[0.5] > evaluate(segment(image, model="otsu"), labels).ap[0.5]


def test_nothing_that_was_held_back_is_trained_on(shared_data: Path) -> None:
    for source in nuclei3d.SOURCES:
        parts = [source.read(shared_data, held_back)[1].shape[source.axis] for held_back in (False, True)]
        assert parts[0] == source.cut
        assert min(parts) > 20
    assert [pair.labels.shape for pair in nuclei3d.read_pairs(shared_data)] == [(48, 68, 68), (51, 120, 64)]
    assert len(nuclei3d.read_shapes(shared_data)) > 10


def test_the_recipe_makes_a_model_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuclei3d, "CROP", (8, 24, 24))
    nuclei3d.main(["--out", str(tmp_path / "run"), "--steps", "2", "--volumes", "1"])
    nuclei3d.main(["--out", str(tmp_path / "run"), "--export", str(tmp_path / "model")])
    assert load_model(str(tmp_path / "model"), device="cpu").spec.name == "nuclei-3d"
