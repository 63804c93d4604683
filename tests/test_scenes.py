"""Files of several images: one or all of them, on the command line and in Python, and what results are called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from napari_segsuite import list_scenes, read, read_segmentation, segment
from napari_segsuite.errors import SegsuiteError
from napari_segsuite.io.scenes import Scene, find, titles

Segsuite = Callable[..., Any]
CZI = Path(__file__).parent / "data" / "czi" / "scenes.czi"


def cells(n: int) -> NDArray[np.uint8]:
    """Bright squares in a row."""
    found = np.full((16, 12 * n + 4), 20, np.uint8)
    for k in range(n):
        found[4:12, 12 * k + 4 : 12 * k + 12] = 200
    return found


def several(folder: Path, kind: str) -> Path:
    """A file of two images, of which the first has one cell and the second two."""
    path = folder / f"two.{kind}"
    if kind == "ome.tif":
        with tifffile.TiffWriter(path) as tif:
            for n, name in ((1, "left"), (2, "right")):
                tif.write(cells(n), metadata={"axes": "YX", "Name": name})
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["left"], file["right"] = cells(1), cells(2)
    else:
        group = zarr.open_group(path, mode="w")
        for n, name in ((1, "left"), (2, "right")):
            array = group.create_array(name, shape=cells(n).shape, dtype="u1", dimension_names=("y", "x"))
            array[...] = cells(n)
    return path


KINDS = ("ome.tif", "h5", "ome.zarr")


@pytest.mark.parametrize("kind", KINDS)
def test_results_say_which_image_they_are_of(segsuite: Segsuite, tmp_path: Path, kind: str) -> None:
    path, out = several(tmp_path, kind), tmp_path / "out"
    told = segsuite("segment", path, "--model", "otsu", "--out", out)
    assert told.code == 1
    assert all(word in told.err for word in ("holds 2 images", "--scene all", "--scene left" if kind == "ome.zarr" else "--scene 0"))
    for wish in ("right", "1", "left"):
        assert segsuite("segment", path, "--scene", wish, "--model", "otsu", "--out", out).code == 0
    assert sorted(p.name for p in out.glob("*_labels.tif")) == ["two_left_labels.tif", "two_right_labels.tif"]
    assert [len(read_segmentation(out / f"two_{name}_labels.tif").segments["id"]) for name in ("left", "right")] == [1, 2]
    told = segsuite("segment", path, "--scene", "all", "--model", "otsu", "--out", out)
    assert told.out.splitlines() == [f"{path} ({name}): already done, {out / f'two_{name}_labels.tif'}" for name in ("left", "right")]


def test_all_images_of_all_files_are_done_at_once(segsuite: Segsuite, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    several(tmp_path / "in", "h5")
    several(tmp_path, "ome.tif").rename(tmp_path / "in" / "b.ome.tif")
    tifffile.imwrite(tmp_path / "in" / "one.tif", cells(3))
    told = segsuite("segment", tmp_path / "in", "--scene", "all", "--model", "otsu", "--out", tmp_path / "out", "--progress", "json")
    assert (told.code, told.err) == (0, "")
    done = [line for line in map(json.loads, told.out.splitlines()) if line["event"] == "done"]
    stems = ["b_left", "b_right", "one", "two_left", "two_right"]
    assert [Path(one["paths"]["labels"]).name for one in done] == [f"{stem}_labels.tif" for stem in stems]
    path = tmp_path / "in" / "two.h5"
    told = segsuite("segment", path, "--scene", "all", "--model", "otsu", "--out", tmp_path / "one.tif")
    assert "There are 2 inputs and one output" in told.err
    told = segsuite("segment", path, "--scene", "all", "--model", "otsu", "--out", tmp_path / "out", "--dry-run")
    assert [Path(json.loads(line)["out"]).name for line in told.out.splitlines()] == ["two_left_labels.tif", "two_right_labels.tif"]


@pytest.mark.parametrize("kind", KINDS)
def test_all_images_are_converted_into_a_folder(segsuite: Segsuite, tmp_path: Path, kind: str) -> None:
    path = several(tmp_path, kind)
    told = segsuite("convert", path, tmp_path / "one.nrrd", "--scene", "all")
    assert (told.code, "There are 2 images in" in told.err, "a folder as OUT" in told.err) == (1, True, True)
    told = segsuite("convert", path, tmp_path / "out", "--scene", "all", "--format", "nrrd")
    assert (told.code, told.err) == (0, "")
    assert [read(tmp_path / "out" / f"two_{name}.nrrd").shape for name in ("left", "right")] == [(16, 16), (16, 28)]
    assert segsuite("convert", path, tmp_path / "out", "--scene", "left", "--labels").code == 0
    assert read_segmentation(tmp_path / "out" / "two_left.tif").segments["id"].tolist() == [20, 200]
    assert segsuite("convert", path, tmp_path / "right.png", "--scene", "right").code == 0
    assert np.array_equal(read(tmp_path / "right.png").data, cells(2))
    assert "--format nrrd is for a folder" in segsuite("convert", path, tmp_path / "a.tif", "--format", "nrrd").err


def test_one_image_that_fails_does_not_stop_the_others(segsuite: Segsuite, tmp_path: Path) -> None:
    path = several(tmp_path, "h5")
    with h5py.File(path, "r+") as file:
        file["middle"] = np.zeros((4, 5, 6, 3), np.uint8)
    told = segsuite("convert", path, tmp_path / "out", "--scene", "all")
    assert told.code == 1
    assert f"segsuite: 1 failed:\n  {path} (middle): Dataset '/middle'" in told.err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"two_left.tif", "two_right.tif"}
    told = segsuite("info", path, "--scene", "all")
    assert "0: left, 16 y x 16 x, uint8" in told.out
    assert "1: middle (4, 5, 6, 3): Dataset '/middle'" in told.out


@pytest.mark.parametrize("kind", KINDS)
def test_info_lists_several_images(segsuite: Segsuite, tmp_path: Path, kind: str) -> None:
    path = several(tmp_path, kind)
    told = segsuite("info", path)
    assert told.code == 0
    assert told.out.splitlines()[0] == f"{path}: 2 images"
    assert [line.split()[1] for line in told.out.splitlines()[1:3]] == ["left", "right"]
    assert [one["name"] for one in json.loads(segsuite("info", path, "--json").out)["images"]] == ["left", "right"]


def test_labels_of_others_are_compared_and_exported_too(segsuite: Segsuite, tmp_path: Path) -> None:
    """Whatever reading complains of can be said to every command that reads."""
    labels = np.zeros((4, 6, 7), np.uint8)
    labels[:, 1:3, 1:3], labels[:, 4, 4] = 1, 2
    tifffile.imwrite(tmp_path / "a.tif", labels, photometric="minisblack", metadata=None)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["raw"], file["labels"] = labels * 9, labels
    told = segsuite("evaluate", tmp_path / "a.tif", tmp_path / "a.tif")
    assert (told.code, "--axes zyx" in told.err) == (1, True)
    told = segsuite("evaluate", tmp_path / "a.tif", tmp_path / "b.h5", "--axes", "zyx", "--scene", "labels", "--json")
    assert (told.code, json.loads(told.out)["ap"]["0.95"]) == (0, 1.0)
    for source, more in (("a.tif", []), ("b.h5", ["--scene", "labels"])):
        told = segsuite("export", tmp_path / source, "--format", "csv", "--out", tmp_path / f"{source}.csv", "--axes", "zyx", *more)
        assert (told.code, told.err) == (0, "")
        assert len((tmp_path / f"{source}.csv").read_text().splitlines()) == 3


def test_scenes_are_listed_and_segmented_in_python(tmp_path: Path) -> None:
    path = several(tmp_path, "h5")
    assert [(one.number, one.name, one.shape) for one in list_scenes(CZI)] == [(0, "left", (12, 24)), (1, "right", (12, 24))]
    assert [read(CZI, scene=one.wish).shape for one in list_scenes(CZI)] == [(12, 24)] * 2
    assert [one.name for one in list_scenes(CZI.with_name("planes.czi"))] == ["S0"]
    assert [len(segment(path, model="otsu", scene=name).segments["id"]) for name in ("left", "right")] == [1, 2]
    segment(CZI, model="otsu", scene="left", out=tmp_path / "a.ome.zarr")
    segment(CZI, model="otsu", scene="left", out=tmp_path / "a.ome.zarr")
    with pytest.raises(SegsuiteError, match="exists already"):
        segment(CZI, model="otsu", scene="right", out=tmp_path / "a.ome.zarr")


def test_a_path_in_a_file_may_begin_with_a_slash(tmp_path: Path, segsuite: Segsuite) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"], file["other"] = cells(1), cells(2)
    assert np.array_equal(read(tmp_path / "a.h5", scene="/volumes/raw").data, cells(1))
    assert segsuite("segment", tmp_path / "a.h5", "--scene", "/volumes/raw", "--model", "otsu", "--out", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "a_volumes-raw_labels.tif").is_file()


def test_a_number_is_never_taken_for_the_name_of_another() -> None:
    named = [Scene(0, "1", (2, 2)), Scene(1, "0", (2, 2)), Scene(2, "same", ()), Scene(3, "same", ())]
    assert [find(named, wish) for wish in (0, "0", 1, "1", 2, "2")] == [named[k] for k in (0, 1, 1, 0, 2, 2)]
    assert find(named, "same") is None
    assert titles(named) == ["0", "1", "2", "3"]
    assert titles([Scene(0, "x" * 200, ()), Scene(1, "b/../c", ())]) == ["x" * 80, "b-..-c"]


def test_one_image_of_a_file_is_not_taken_for_another_of_its_size(tmp_path: Path) -> None:
    """Also where they were read before, so that nobody says which of them it is."""
    first, second = (read(CZI, scene=k) for k in (0, 1))
    out = tmp_path / "cells.ome.zarr"
    assert len(segment(first, model="otsu", out=out).segments["id"]) == 1
    assert len(segment(first, model="otsu", out=out).segments["id"]) == 1
    with pytest.raises(SegsuiteError, match="overwrite"):
        segment(second, model="otsu", out=out)
    made = segment(second, model="otsu", out=out, overwrite=True)
    np.testing.assert_array_equal(made.labels, segment(second, model="otsu").labels)


def test_a_number_that_is_the_name_of_another_image_is_asked_about(tmp_path: Path, segsuite: Segsuite) -> None:
    with tifffile.TiffWriter(path := tmp_path / "numbered.ome.tif", ome=True) as tif:
        for n in (1, 2):
            tif.write(cells(n), metadata={"axes": "YX", "Name": str(n)})
    told = segsuite("segment", path, "--model", "otsu", "--scene", "1", "--out", tmp_path / "out")
    assert told.code == 1
    assert "1 is the number of one image in" in told.err
    assert "the name of another" in told.err
    assert segsuite("segment", path, "--model", "otsu", "--scene", "all", "--out", tmp_path / "out").code == 0
    assert [len(segment(path, model="otsu", scene=wish).segments["id"]) for wish in (1, "1")] == [2, 1]


def labels_of_two(folder: Path) -> Path:
    """A file of two label images."""
    with tifffile.TiffWriter(path := folder / "labels.ome.tif", ome=True) as tif:
        for n, name in ((1, "left"), (2, "right")):
            tif.write((cells(n) > 99).astype(np.uint16), metadata={"axes": "YX", "Name": name})
    return path


def test_all_label_images_of_a_file_are_exported(tmp_path: Path, segsuite: Segsuite) -> None:
    path, out = labels_of_two(tmp_path), tmp_path / "out"
    assert segsuite("export", path, "--format", "geojson", "--scene", "all", "--out", out).code == 0
    assert sorted(p.name for p in out.iterdir()) == ["labels_left.geojson", "labels_right.geojson"]
    assert segsuite("export", path, "--format", "coco", "--scene", "all", "--out", tmp_path / "all.json").code == 0
    assert len(json.loads((tmp_path / "all.json").read_text())["images"]) == 2


def test_one_label_image_of_a_file_is_compared(tmp_path: Path, segsuite: Segsuite) -> None:
    path = labels_of_two(tmp_path)
    told = segsuite("evaluate", path, path, "--scene", "right", "--json")
    assert (told.code, json.loads(told.out)["n_pred"]) == (0, 1)
    told = segsuite("evaluate", path, path, "--scene", "all")
    assert told.code != 0
    assert "Scene is 'all'" in told.err
    assert "number or name of one image" in told.err
