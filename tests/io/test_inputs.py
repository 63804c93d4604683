"""What files, patterns and folders on the command line mean, and what opening the package costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_segsuite.errors import InputError
from napari_segsuite.io import list_inputs, read


@pytest.fixture
def plates(tmp_path: Path) -> Path:
    folder = tmp_path / "plates"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.tif", "a.tif", "a_labels.tif", "a_segments.csv", "c.PNG", "notes.txt", ".hidden.tif", "deep/d.tif"):
        (folder / name).touch()
    for name in ("e.ome.zarr", "a_labels.ome.zarr", "e.ome.zarr/0"):
        (folder / name).mkdir()
    (folder / "e.ome.zarr" / "thumb.png").touch()
    return folder


def test_a_folder_stands_for_its_images_without_our_results(plates: Path) -> None:
    assert [p.name for p in list_inputs([str(plates)])] == ["a.tif", "b.tif", "c.PNG", "e.ome.zarr"]


def test_a_pattern_stands_for_what_matches(plates: Path) -> None:
    assert [p.name for p in list_inputs([f"{plates}/*.tif"])] == ["a.tif", "b.tif"]
    assert [p.name for p in list_inputs([f"{plates}/*_labels.*"])] == ["a_labels.ome.zarr", "a_labels.tif"]
    assert [p.name for p in list_inputs([f"{plates}/**"])] == ["a.tif", "b.tif", "c.PNG", "d.tif", "e.ome.zarr"]


def test_files_and_stores_stand_for_themselves_once(plates: Path) -> None:
    asked = [plates / "e.ome.zarr", plates / "a_labels.tif", plates / "b.tif"]
    assert list_inputs([*asked, plates / "b.tif"]) == asked
    assert list_inputs([*asked, plates / "e.ome.zarr"]) == asked


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].tif").touch()
    assert list_inputs([str(tmp_path / "a[1].tif")]) == [tmp_path / "a[1].tif"]


def test_a_folder_that_another_program_marked_as_a_zarr_group_is_still_a_folder(plates: Path) -> None:
    (plates / "zarr.json").write_text('{"attributes": {}, "zarr_format": 3, "node_type": "group"}', encoding="utf-8")
    assert [p.name for p in list_inputs([str(plates)])] == ["a.tif", "b.tif", "c.PNG", "e.ome.zarr"]


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ("{plates}/*.lif", "No image matches '{plates}/*.lif'. Needed: files ending in .tif"),
        ("{plates}/x.tif", "No file at {plates}/x.tif. Check the path."),
        ("{plates}/empty", "Folder {plates}/empty holds no image that can be read. Needed: files ending in .tif"),
    ],
)
def test_what_is_missing_is_named(asked: str, complaint: str, plates: Path) -> None:
    (plates / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        list_inputs([asked.format(plates=plates)])
    assert str(caught.value).startswith(complaint.format(plates=plates))


@pytest.mark.skipif(os.name == "nt", reason="making a link takes rights here")
def test_a_link_to_a_folder_above_it_does_not_double_files(plates: Path) -> None:
    (plates / "deep" / "again").symlink_to(plates, target_is_directory=True)
    (plates / "other.tif").symlink_to(plates / "a.tif")
    (plates / "self.tif").symlink_to("self.tif")
    assert sorted(p.name for p in list_inputs([f"{plates}/**/*.tif"])) == ["a.tif", "b.tif", "d.tif", "other.tif", "self.tif"]
    with pytest.raises(InputError, match=r"No file at .*self\.tif\. Check the path"):
        list_inputs([plates / "self.tif"])


def test_nothing_at_all_is_an_error() -> None:
    with pytest.raises(InputError, match="No input is given"):
        list_inputs([])


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("x.tif", "No file at {path}. Check the path."),
        ("notes.txt", "File {path} is not a kind of file that can be read. Needed: a file ending in .tif, "),
        ("deep", "Folder {path} is neither a DICOM series nor a zarr store."),
        ("deep.tif", "'{path}' is a folder. Needed: an image file."),
    ],
)
def test_what_cannot_be_read_is_named(name: str, complaint: str, plates: Path) -> None:
    (plates / "deep.tif").mkdir()
    with pytest.raises(InputError) as caught:
        read(plates / name)
    assert str(caught.value).startswith(complaint.format(path=plates / name))


def test_a_name_that_cannot_be_a_path_is_an_error(tmp_path: Path) -> None:
    for name in ("a\0b.tif", "long" * 2000 + ".tif"):
        with pytest.raises(InputError, match=r"is not a path that can be opened|No file at"):
            read(tmp_path / name)


def test_importing_io_loads_no_file_library() -> None:
    watch = (
        "import sys, napari_segsuite.io; print({'zarr', 'tifffile', 'PIL', 'torch', 'skimage', 'scipy', 'imagecodecs', 'napari'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", watch], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "set()"
