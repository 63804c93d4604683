"""Plates: every well by one command, results by the wells' names or inside the plate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_segsuite import Image, read, read_segmentation, segment, write
from napari_segsuite.cli import main
from napari_segsuite.io.plates import fields_of_plate, name_of_field
from napari_segsuite.synthetic import nuclei

WELLS = {"A/01": 2, "A/02": 1, "B/01": 1}


def plate(path: Path, version: str) -> Path:
    """A plate of three wells, one of which has two fields."""
    for k, (well, fields) in enumerate(WELLS.items()):
        for field in range(fields):
            pixels, _ = nuclei((60 + 4 * k, 70 + 4 * field), "yx", seed=10 * k + field)
            image = Image((pixels,), "yx", (0.5, 0.5), ("micrometer",) * 2, (0.0, 0.0))
            made = write(image, path.with_name("one.ome.zarr"), **({"version": version} if version == "0.4" else {}))
            (path / well).mkdir(parents=True, exist_ok=True)
            shutil.move(str(made), str(path / well / str(field)))
    told = {
        "plate": {"wells": [{"path": w, "rowIndex": ord(w[0]) - 65, "columnIndex": int(w[2:]) - 1} for w in WELLS], "name": "p", "version": version}
    }
    told["plate"] |= {"rows": [{"name": "A"}, {"name": "B"}], "columns": [{"name": "01"}, {"name": "02"}]}
    wells = {w: {"well": {"images": [{"path": str(f)} for f in range(n)], "version": version}} for w, n in WELLS.items()}
    for where, what in {"": told, "A": {}, "B": {}, **wells}.items():
        group = zarr.open_group(path / where, mode="a", zarr_format=2 if version == "0.4" else 3)
        group.attrs.update(what if version == "0.4" else {"ome": {"version": version, **what}} if what else {})
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_every_well_is_segmented_by_one_command(version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = plate(tmp_path / "p.ome.zarr", version)
    fields = fields_of_plate(where)
    assert [name_of_field(f) for f in fields] == ["p_A01_0", "p_A01_1", "p_A02_0", "p_B01_0"]
    assert main(["segment", str(where), "--model", "otsu", "--out", str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").glob("*_labels.tif")) == [f"{name_of_field(f)}_labels.tif" for f in fields]
    for field in fields:
        found = read_segmentation(tmp_path / "out" / f"{name_of_field(field)}_labels.tif")
        np.testing.assert_array_equal(np.asarray(found.labels), np.asarray(segment(read(field), "otsu").labels))
        assert found.scale == (0.5, 0.5)
    capsys.readouterr()
    assert main(["segment", str(where), "--model", "otsu", "--out", str(tmp_path / "out"), "--progress", "json"]) == 0
    assert {json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()} == {"skipped"}, "what is done is not done again"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_can_lie_in_each_field_of_the_plate(version: str, tmp_path: Path) -> None:
    where = plate(tmp_path / "p.ome.zarr", version)
    before = [np.asarray(read(f).data).copy() for f in fields_of_plate(where)]
    assert main(["segment", str(where), "--model", "otsu", "--out", str(where / "labels" / "cells")]) == 0
    for field, pixels in zip(fields_of_plate(where), before, strict=True):
        found = read_segmentation(field / "labels" / "cells")
        np.testing.assert_array_equal(np.asarray(found.labels), np.asarray(segment(pixels, "otsu").labels))
        np.testing.assert_array_equal(np.asarray(read(field).data), pixels)
    assert not (where / "labels").exists()
    assert len(fields_of_plate(where)) == 4, "labels are no wells"


def test_one_well_can_be_chosen_and_a_lost_one_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = plate(tmp_path / "p.ome.zarr", "0.5")
    assert main(["segment", str(where), "--scene", "A/02/0", "--model", "otsu", "--out", str(tmp_path / "one")]) == 0
    assert [p.name for p in (tmp_path / "one").glob("*_labels.tif")] == ["p_A02_0_labels.tif"]
    for scene, count in (("A/01", 2), ("A", 3), ("B", 1)):
        assert main(["segment", str(where), "--scene", scene, "--model", "otsu", "--out", str(tmp_path / scene.replace("/", ""))]) == 0
        assert len(list((tmp_path / scene.replace("/", "")).glob("*_labels.tif"))) == count
    assert main(["segment", str(where / "B" / "01" / "0"), "--model", "otsu", "--out", str(tmp_path / "two")]) == 0
    assert [p.name for p in (tmp_path / "two").glob("*_labels.tif")] == ["p_B01_0_labels.tif"]
    capsys.readouterr()
    assert main(["info", str(where), "--scene", "A/02/0"]) == 0
    assert "64 y x 70 x" in capsys.readouterr().out
    shutil.rmtree(where / "A" / "02" / "0")
    assert main(["segment", str(where), "--model", "otsu", "--out", str(tmp_path / "out")]) == 1
    assert "A/02/0" in capsys.readouterr().err
    assert len(list((tmp_path / "out").glob("*_labels.tif"))) == 3, "the others are there"


def test_a_well_that_is_gone_is_named_and_one_without_its_list_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = plate(tmp_path / "p.ome.zarr", "0.4")
    shutil.rmtree(where / "B" / "01")
    (where / "A" / "01" / ".zattrs").unlink()
    assert main(["segment", str(where), "--model", "otsu", "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "1 failed" in told
    assert "B/01" in told
    assert sorted(p.name for p in (tmp_path / "out").glob("*_labels.tif")) == ["p_A01_0_labels.tif", "p_A01_1_labels.tif", "p_A02_0_labels.tif"]


def test_fields_of_other_plates_are_no_place_for_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = plate(tmp_path / "p.ome.zarr", "0.5"), plate(tmp_path / "q.ome.zarr", "0.5")
    assert main(["segment", str(one), str(other), "--model", "otsu", "--out", str(one / "labels" / "cells")]) == 1
    assert "8 inputs and one output" in capsys.readouterr().err
