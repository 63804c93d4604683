"""The model that comes with the install: it is there, small, and finds what it should in images that it was not trained on."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_segsuite import evaluate, segment
from napari_segsuite.models import card, folder_of, load_spec
from napari_segsuite.synthetic import nuclei


def test_it_is_small_and_says_all_about_itself() -> None:
    folder, spec = folder_of("nuclei"), load_spec("nuclei")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12e6
    assert all((spec.licence, spec.citation, spec.trained_on))
    told = card("nuclei")
    for word in ("BBBC038", "CC0", "python -m benchmarks nuclei", "Limits", "did not help"):
        assert word in told


def test_synthetic_nuclei_are_found() -> None:
    pixels, labels = nuclei((192, 192), axes="yx", diameter_um=9, crowding=0.2, seed=3)
    scores = evaluate(segment(pixels, diameter_px=9 / 0.4), labels)
    assert scores.ap[0.5] > 0.7


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_there_is_nothing_in_an_empty_image(value: int) -> None:
    assert not segment(np.full((70, 90), value, np.uint16)).labels.any()


def test_there_is_nothing_in_noise() -> None:
    noise = np.random.default_rng(0).normal(100, 5, (256, 256)).astype(np.float32)
    assert len(segment(noise).segments["id"]) <= 2


@pytest.mark.parametrize(("kind", "least"), [("fluorescence", 0.75), ("histology", 0.55)])
def test_real_nuclei_of_the_validation_split_are_found(shared_data: Path, kind: str, least: float) -> None:
    folder = shared_data / "dsb2018"
    with (folder / "index.csv").open(newline="") as file:
        rows = [r["id"] for r in csv.DictReader(file) if r["split"] == "val" and r["modality"] == kind and r["h"] == "256"][:6]
    images = [tifffile.imread(folder / "images" / f"{name}.tif") for name in rows]
    truth = [tifffile.imread(folder / "labels" / f"{name}.tif") for name in rows]
    scores = evaluate([segment(image) for image in images], truth)
    assert scores.ap[0.5] > least
