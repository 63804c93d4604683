"""Labels are refused where an image is wanted, in every format that says what it holds; whatever takes labels goes on taking them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest
import tifffile

from napari_segsuite import read, segment, write
from napari_segsuite.errors import InputError
from napari_segsuite.training.data import read_data
from napari_segsuite.training.options import TrainOptions

Segsuite = Callable[..., Any]
SCAN = np.zeros((4, 20, 24), np.int16)
SCAN[:, 3:9, 4:12] = 500
REFUSED = "holds labels, which are the result of a segmentation and not an image. Needed: the image that they were made from"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("out", ["a.dcm", "a.nii.gz", "a.nrrd", "a.mha", "a.tif", "a.ome.zarr"])
def test_labels_are_no_image_and_stay_labels(out: str, folder: Path, segsuite: Segsuite, make_series: Callable[..., Any]) -> None:
    make_series(folder / "ct", SCAN)
    assert segsuite("segment", "ct", "--model", "otsu", "--out", out).code == 0
    before = set(folder.iterdir())
    for more in ([], ["--dry-run"]):
        told = segsuite("segment", out, "--model", "otsu", "--out", "again", *more)
        assert told.code == 1
        assert REFUSED + ("" if out == "a.dcm" else ", ct. ") in told.err + told.out
    with pytest.raises(InputError, match="holds labels"):
        segment(out, "otsu")
    assert set(folder.iterdir()) == before
    assert segsuite("convert", out, "b.nii.gz").code == 0
    assert segsuite("info", out).out.startswith(f"{out}: segmentation\n")
    assert segsuite("evaluate", out, "b.nii.gz").code == 0
    assert segsuite("export", out, "--out", "table.csv", "--format", "csv").code == 0


def test_pictures_and_label_images_inside_a_store_too(folder: Path, segsuite: Segsuite) -> None:
    tifffile.imwrite("a.tif", SCAN[0])
    write(read("a.tif"), "a.ome.zarr")
    assert segsuite("segment", "a.tif", "--model", "otsu", "--out", "b.png").code == 0
    assert segsuite("segment", "a.ome.zarr", "--model", "otsu", "--out", "a.ome.zarr/labels/cells").code == 0
    for labels in ("b.png", "a.ome.zarr/labels/cells", "a.ome.zarr/labels"):
        told = segsuite("segment", labels, "--model", "otsu", "--out", "again")
        assert told.code == 1
        assert "holds labels" in told.err
    assert segsuite("segment", "a.ome.zarr", "--model", "otsu", "--out", "again").code == 0
    with pytest.raises(InputError, match="holds labels"):
        read_data(TrainOptions(images="b.png", labels="a.tif"))


def test_a_header_that_only_hints_at_labels_is_told(folder: Path, segsuite: Segsuite) -> None:
    image = nibabel.Nifti1Image(SCAN.T, np.eye(4))
    image.header.set_intent("label")
    image.to_filename("a.nii")
    nrrd.write("b.nrrd", SCAN.T, {"Segment0_ID": "liver"})
    for name in ("a.nii", "b.nrrd"):
        told = segsuite("segment", name, "--model", "otsu", "--out", f"{name}.tif")
        assert told.code == 0
        assert f"note: {name} may hold labels and no image: its header " in told.out
