"""Folders of good and bad files: what is good is written, each that failed is named once, and the exit code is 1."""

from __future__ import annotations

import gzip
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile

from napari_segsuite.errors import InputError
from napari_segsuite.io import dicom_peek, label_store, read, readers

Segsuite = Callable[..., Any]
SCAN = np.zeros((5, 20, 24), np.int16)
SCAN[:, 3:9, 4:12] = 500


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_series: Callable[..., Any]) -> Path:
    """A working directory with a folder ``mixed``: three good images and five bad ones."""
    monkeypatch.chdir(tmp_path)
    make_series(Path("mixed/scan"), SCAN)
    for gap in make_series(Path("mixed/gap"), SCAN)[2:4]:
        gap.unlink()
    for cut in make_series(Path("mixed/cut"), SCAN)[1:2]:
        cut.write_bytes(cut.read_bytes()[:-200])
    nibabel.Nifti1Image(SCAN.T, np.diag([0.8, 0.9, 3, 1])).to_filename("mixed/good.nii.gz")
    Path("mixed/cropped.nii.gz").write_bytes(gzip.compress(gzip.decompress(Path("mixed/good.nii.gz").read_bytes())[:-500]))
    tifffile.imwrite("mixed/cells.tif", SCAN[0].astype(np.uint16))
    Path("mixed/short.tif").write_bytes(Path("mixed/cells.tif").read_bytes()[:-100])
    Path("mixed/text.tif").write_text("no image")
    return tmp_path


@pytest.mark.parametrize("more", [[], ["--format", "ome-zarr"]])
def test_what_is_good_is_written_and_what_failed_is_named_once(folder: Path, segsuite: Segsuite, more: list[str]) -> None:
    told = segsuite("segment", "mixed", "--model", "otsu", "--out", "out", *more)
    bad = ["mixed/cropped.nii.gz", "mixed/cut", "mixed/gap", "mixed/short.tif", "mixed/text.tif"]
    assert told.code == 1
    assert told.err.splitlines()[0] == "segsuite: 5 failed:"
    assert sorted(line.split(": ")[0].strip() for line in told.err.splitlines()[1:]) == bad
    assert sorted(line.removesuffix(": failed") for line in told.out.splitlines() if line.endswith(": failed")) == bad
    # Of a store whose image cannot be read to the end, what could be read is kept for the same command to go on.
    whole = [path for path in Path("out").glob("*_labels.*") if not label_store.is_unfinished(path)]
    assert sorted(path.name.split("_labels")[0] for path in whole) == ["cells", "good", "scan"]
    assert sorted(path.name for path in Path("out").glob("*_run.json")) == ["cells_run.json", "good_run.json", "scan_run.json"]
    again = segsuite("segment", "mixed", "--model", "otsu", "--out", "out", *more)
    assert (again.code, again.err, again.out.count("already done")) == (1, told.err, 3)


def test_an_extra_that_is_missing_is_told_once(folder: Path, segsuite: Segsuite, monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("nibabel", "pydicom") else known(name))
    for k in range(6):
        shutil.copy("mixed/good.nii.gz", f"mixed/{k}.nii.gz")
    told = segsuite("segment", "mixed", "--model", "otsu", "--out", "out", "--progress", "json")
    assert told.code == 1
    head, *lines = told.err.splitlines()
    assert head == "segsuite: 13 failed:"
    assert [line for line in lines if "pip install" in line] == [
        "  mixed/0.nii.gz, mixed/1.nii.gz, mixed/2.nii.gz, mixed/3.nii.gz, ...: Each of these 11 inputs needs an optional package that is not "
        'installed. Install it with: pip install "napari-segsuite[medical]".'
    ]
    assert len(lines) == 3
    assert [json.loads(line)["event"] for line in told.out.splitlines() if "event" in line].count("failed") == 13


def test_a_huge_folder_is_looked_at_for_a_while(segsuite: Segsuite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(30):
        (tmp_path / f"f{k:02d}").mkdir()
        (tmp_path / f"f{k:02d}" / "notes").write_text("nothing")
    monkeypatch.setattr(dicom_peek, "MOST_PEEKED", 40)
    monkeypatch.setattr(readers, "MOST_PEEKED", 40)
    opened: list[Path] = []
    monkeypatch.setattr(dicom_peek, "class_of", lambda path: opened.append(path))
    told = segsuite("info", tmp_path)
    assert told.code == 1
    assert "no DICOM series was found among the first 40 files and folders below it. Needed: the folder of one series" in told.err
    assert 0 < len({*opened}) <= 40
    monkeypatch.setattr(dicom_peek, "MOST_PEEKED", 100)
    assert "is neither a DICOM series nor a zarr store" in segsuite("info", tmp_path).err


def test_a_series_is_never_read_in_part_because_there_is_much_beside_it(
    make_series: Callable[..., list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_series(tmp_path / "a" / "one", np.zeros((4, 5, 6), np.uint16))
    make_series(tmp_path / "a" / "two", np.zeros((4, 5, 6), np.uint16))
    monkeypatch.setattr(dicom_peek, "MOST_FILES", 6)
    with pytest.raises(InputError, match=r"has more than 6 files and folders below it\. Give the folder of one series\."):
        read(tmp_path / "a")
