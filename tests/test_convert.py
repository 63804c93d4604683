"""``segsuite convert`` between all formats that are read and written, and what it says is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK

from napari_segsuite.engine.lock import alone
from napari_segsuite.errors import OutputError
from napari_segsuite.io import read, read_segmentation, write
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.geometry import sized
from napari_segsuite.io.table import table_of
from napari_segsuite.types import Class, Image, Segmentation

Segsuite = Callable[..., Any]
SUFFIXES = (".tif", ".ome.zarr", ".nii.gz", ".nii", ".nrrd", ".mha")
AFFINE = np.array([[2.5, 0, 0, -72], [0, -0.8, 0.1, 126], [0, 0.1, 0.8, -90], [0, 0, 0, 1]])
PLACE: dict[str, Any] = {"axes": "zyx", "scale": (2.5, 0.8, 0.8), "units": ("millimeter",) * 3, "translate": (-72.0, 126.0, -90.0)}


def image(**more: Any) -> Image:
    return Image((np.arange(60, dtype=np.int16).reshape(3, 4, 5),), **{**PLACE, "name": "scan", **more})


def labels() -> Segmentation:
    found, classes = np.repeat(np.arange(3, dtype=np.uint8), 20).reshape(3, 4, 5), (Class(1, "liver"),)
    return Segmentation(found, table_of(found, "zyx", classes), classes, affine=AFFINE, **PLACE)


@pytest.mark.parametrize("a", SUFFIXES)
def test_an_image_goes_from_every_format_to_every_other(a: str, segsuite: Segsuite, tmp_path: Path) -> None:
    before = image(affine=AFFINE)
    source = write(before, tmp_path / f"a{a}")
    for b in SUFFIXES:
        target = tmp_path / f"b{b}"
        told = segsuite("convert", str(source), str(target))
        assert (told.code, told.err) == (0, "")
        assert ("lost: its orientation" in told.out) == (b in (".tif", ".ome.zarr"))
        back = read(target)
        assert np.array_equal(np.asarray(back.data[...]), before.data)
        assert np.array_equal(back.affine, AFFINE)  # type: ignore[arg-type]
        assert all(getattr(back, name) == getattr(before, name) for name in (*PLACE, "name"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_labels_keep_what_belongs_to_them(suffix: str, segsuite: Segsuite, tmp_path: Path) -> None:
    source = write(labels(), tmp_path / "a.nii.gz")
    assert segsuite("convert", str(source), str(tmp_path / f"b{suffix}")).code == 0
    back = read_segmentation(tmp_path / f"b{suffix}")
    assert [c.name for c in back.classes] == ["liver"]
    assert back.segments["size"].tolist() == [20, 20]
    assert np.array_equal(back.affine, AFFINE)  # type: ignore[arg-type]


def test_labels_of_others_stay_on_their_grid(segsuite: Segsuite, tmp_path: Path) -> None:
    theirs = nibabel.Nifti1Image(np.arange(60, dtype=np.float32).reshape(3, 4, 5), np.diag([-0.3, 0.7, 1.1, 1]))
    theirs.set_qform(theirs.affine, 4)
    theirs.to_filename(tmp_path / "a.nii")
    assert segsuite("convert", str(tmp_path / "a.nii"), str(tmp_path / "b.nii.gz"), "--labels").code == 0
    a, b = nibabel.load(tmp_path / "a.nii").header, nibabel.load(tmp_path / "b.nii.gz").header
    for name in ("qform_code", "sform_code", "quatern_b", "quatern_d", "srow_x", "pixdim"):
        assert np.array_equal(a[name], b[name]), name
    assert b.get_data_dtype() == np.uint8


@pytest.mark.parametrize(("sform", "qform", "unit"), [(4, 2, 2), (0, 3, 0), (0, 0, 0), (0, 0, 3), (1, 1, 2)])
@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 5)])
def test_codes_of_nifti_come_back_through_other_formats(
    sform: int, qform: int, unit: int, shape: tuple[int, ...], segsuite: Segsuite, tmp_path: Path
) -> None:
    theirs = nibabel.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), np.diag([-0.3, 0.7, 1.1, 1]))
    theirs.set_qform(theirs.affine, qform)
    theirs.set_sform(theirs.affine if sform else None, sform)
    theirs.header["xyzt_units"] = unit
    theirs.to_filename(tmp_path / "a.nii")
    a = nibabel.load(tmp_path / "a.nii").header
    for k, suffix in enumerate([".nrrd", ".mha", ".tif", ".ome.zarr"]):
        for more in ([], ["--labels"]):
            middle, last = tmp_path / f"m{k}{len(more)}{suffix}", tmp_path / f"z{k}{len(more)}.nii.gz"
            told = segsuite("convert", tmp_path / "a.nii", middle, *more)
            assert ("lost: its sform and qform with their codes" in told.out) == ((sform, qform, unit) != (1, 1, 2))
            further = tmp_path / f"f{k}{len(more)}.nrrd"
            assert segsuite("convert", middle, further).code == segsuite("convert", further, last).code == 0
            b = nibabel.load(last).header
            for name in ("qform_code", "sform_code", "quatern_b", "quatern_d", "srow_x", "srow_z", "qoffset_x", "pixdim", "dim", "xyzt_units"):
                assert np.array_equal(a[name], b[name]), (suffix, name)


def test_a_grid_that_was_changed_meanwhile_is_not_undone(segsuite: Segsuite, tmp_path: Path) -> None:
    theirs = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([-0.3, 0.7, 1.1, 1]))
    theirs.set_sform(theirs.affine, 4)
    theirs.to_filename(tmp_path / "a.nii")
    segsuite("convert", tmp_path / "a.nii", tmp_path / "b.nrrd")
    raw = (tmp_path / "b.nrrd").read_bytes()
    assert b"space origin: (" in raw
    (tmp_path / "c.nrrd").write_bytes(raw.replace(b"space origin: (", b"space origin: (9"))
    assert segsuite("convert", tmp_path / "c.nrrd", tmp_path / "c.nii").code == 0
    found = nibabel.load(tmp_path / "c.nii")
    assert int(found.header["sform_code"]) == 1
    assert found.affine[0, 3] == pytest.approx(-float(b"9" + raw.split(b"space origin: (")[1].split(b",")[0]))


@pytest.mark.parametrize("a", [".nii.gz", ".nrrd", ".ome.zarr"])
def test_other_voxel_sizes_leave_directions_and_the_first_voxel(a: str, segsuite: Segsuite, tmp_path: Path) -> None:
    source = write(image(affine=AFFINE), tmp_path / f"a{a}")
    told = segsuite("convert", source, tmp_path / "b.nii.gz", "--voxel-um", "5000,1000,2000")
    assert told.code == 0, told.err
    assert "note: its voxels are taken as 5 x 1 x 2 millimeter, as --voxel-um says; the directions of its axes" in told.out
    found = read(tmp_path / "b.nii.gz")
    lengths = np.linalg.norm(AFFINE[:3, :3], axis=0)
    wanted = AFFINE @ np.diag([*(np.array([5, 1, 2]) / lengths), 1])
    assert found.affine == pytest.approx(wanted)
    assert (found.scale, found.units) == (pytest.approx((5, 1, 2)), ("millimeter",) * 3)
    theirs = SimpleITK.ReadImage(str(tmp_path / "b.nii.gz"))
    assert theirs.GetSpacing() == pytest.approx((2, 1, 5))
    assert theirs.GetOrigin() == pytest.approx((-90, 126, -72))
    out = ["--model", "otsu", "--out", tmp_path / "out", "--stack", "volume", "--voxel-um", "5000,1000,2000"]
    assert "note: its voxels are taken as 5 x 1 x 2 millimeter, as --voxel-um says" in segsuite("segment", source, *out).out
    unsized = sized(image(affine=AFFINE, units=("pixel",) * 3), (1.0,))
    assert unsized.affine is not None
    assert np.linalg.solve(unsized.affine, [0, 0, 0, 1]) == pytest.approx(np.linalg.solve(AFFINE, [0, 0, 0, 1]))  # the same voxel


def test_what_is_lost_is_said(segsuite: Segsuite, tmp_path: Path) -> None:
    write(Image((np.ones((3, 4, 5), bool),), **{**PLACE, "units": ("micrometer",) * 3}), tmp_path / "a.ome.zarr")
    told = segsuite("convert", str(tmp_path / "a.ome.zarr"), str(tmp_path / "b.mha"))
    assert "lost: its type bool, which MetaImage does not have; it is uint8 now, with the same values" in told.out
    assert "unit" not in told.out
    assert SimpleITK.ReadImage(str(tmp_path / "b.mha")).GetSpacing() == pytest.approx((0.0008, 0.0008, 0.0025))  # in millimetres, as it takes them
    assert read(tmp_path / "b.mha").units == ("micrometer",) * 3
    write(Image((np.ones((3, 4), np.uint8),), "yx", (1.0, 1.0), ("pixel", "pixel"), (0.0, 0.0)), tmp_path / "c.tif")
    assert "lost: that the size of its voxels is not known" in segsuite("convert", tmp_path / "c.tif", tmp_path / "c.mha").out
    assert (
        "lost: its position in the world, which TIFF has no word for"
        in segsuite("convert", str(tmp_path / "a.ome.zarr"), str(tmp_path / "b.tif")).out
    )


def test_two_processes_never_write_one_file(segsuite: Segsuite, tmp_path: Path) -> None:
    source, labelled = write(image(), tmp_path / "a.nrrd"), write(labels(), tmp_path / "l.nrrd")
    for target, words in (("b.mha", ["convert", source]), ("b.csv", ["export", labelled, "--format", "csv", "--out"])):
        for more in ([], ["--overwrite"]):
            with alone(tmp_path / target):
                told = segsuite(*words, tmp_path / target, *more)
            assert (told.code, told.err) == (
                1, f"segsuite: Another process is writing {tmp_path / target}. Wait until it is done, stop it, or choose another output.\n"
            )  # fmt: skip
        assert segsuite(*words, tmp_path / target).code == 0
    with contextlib.ExitStack() as late:
        late.enter_context(pytest.raises(OutputError, match="exists already"))
        late.enter_context(replacing(tmp_path / "late", overwrite=False)).write_text("mine")
        (tmp_path / "late").write_text("theirs")
    assert (tmp_path / "late").read_text() == "theirs"
    assert {p.name for p in tmp_path.iterdir()} == {"a.nrrd", "l.nrrd", "b.mha", "b.csv", "late"}


def test_nothing_is_written_over(segsuite: Segsuite, tmp_path: Path) -> None:
    source = write(image(), tmp_path / "a.nrrd")
    before = source.read_bytes()
    assert "would be written over itself" in segsuite("convert", str(source), str(source), "--overwrite").err
    (tmp_path / "b.mha").write_text("mine")
    told = segsuite("convert", str(source), str(tmp_path / "b.mha"))
    assert (told.code, "exists already" in told.err) == (1, True)
    assert segsuite("convert", str(source), str(tmp_path / "b.mha"), "--overwrite").code == 0
    assert read(tmp_path / "b.mha").shape == (3, 4, 5)
    assert "cannot hold" in segsuite("convert", str(source), str(tmp_path / "c.png")).err
    assert source.read_bytes() == before
