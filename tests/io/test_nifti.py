"""NIfTI, checked with nibabel: what it reads of ours, and what we read of its files; and with files of other programs."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from napari_segsuite import cli, segment
from napari_segsuite.errors import InputError, MissingExtra, OutputError
from napari_segsuite.io import bulk, holds_labels, list_inputs, read, read_segmentation, write
from napari_segsuite.types import Image, Segmentation

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
GEOMETRY = (
    "sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "xyzt_units",
)  # fmt: skip
MakeImage = Callable[..., Image]
MakeLabels = Callable[..., Segmentation]


def turned(degrees: float, spacing: tuple[float, float, float], origin: tuple[float, float, float], order: tuple[int, ...] = (0, 1, 2)) -> Any:
    """An affine whose axes are turned about z and then about x, with its stored axes in another order."""
    a = np.deg2rad(degrees)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(a / 3), -np.sin(a / 3)], [0, np.sin(a / 3), np.cos(a / 3)]])
    affine = np.eye(4)
    affine[:3, :3] = (about_z @ about_x @ np.diag(spacing))[:, list(order)]
    affine[:3, 3] = origin
    return affine


def saved(path: Path, data: Any, affine: Any, kind: Any = nibabel.Nifti1Image, **codes: int) -> Path:
    image = kind(data, affine)
    image.set_sform(affine, codes.get("sform", 1))
    image.set_qform(affine, codes.get("qform", 0))
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
    return path


def world(image: Any, index: tuple[int, ...]) -> Any:
    """World position (z, y, x) of a sample, by what the image says."""
    spatial = [k for k, a in enumerate(image.axes) if a in "zyx"]
    at = np.array([index[k] for k in spatial], float)
    if image.affine is None:
        return np.array([image.translate[k] for k in spatial]) + at * [image.scale[k] for k in spatial]
    return (image.affine @ [*at, 1])[:-1]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr"])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1), (1, 0, 2)])
def test_a_marked_voxel_keeps_its_world_position(order: tuple[int, ...], suffix: str, tmp_path: Path) -> None:
    affine = turned(20, (0.8, 0.9, 3.0), (-90, 126, -72), order)
    data = np.zeros((5, 6, 7), np.int16)
    data[1, 2, 4] = 7
    kind = nibabel.Nifti1Pair if suffix == ".hdr" else nibabel.Nifti1Image
    image = read(saved(tmp_path / f"a{suffix}", data, affine, kind))
    (at,) = np.argwhere(image.data == 7)
    expected = (LPS @ nibabel.load(tmp_path / f"a{suffix}").affine @ [1, 2, 4, 1])[2::-1]
    assert image.axes == "zyx"
    assert np.allclose(world(image, tuple(at)), expected, atol=1e-9)
    assert image.units == ("millimeter",) * 3
    assert np.allclose(image.scale, (3.0, 0.9, 0.8), rtol=1e-6), "each axis bears the name of the world axis along which it runs"


def test_axes_of_time_and_channels(tmp_path: Path) -> None:
    data = np.arange(4 * 5 * 6 * 3, dtype=np.int16).reshape(4, 5, 6, 3)
    saved(tmp_path / "t.nii.gz", data, np.eye(4))
    image = read(tmp_path / "t.nii.gz")
    assert (image.axes, image.units) == ("tzyx", ("second", *["millimeter"] * 3))
    assert np.array_equal(image.data, data.transpose(3, 2, 1, 0))
    assert np.array_equal(read(tmp_path / "t.nii.gz", axes="xyzc").data, image.data)
    assert read(tmp_path / "t.nii.gz", axes="xyzc").axes == "czyx"
    saved(tmp_path / "c.nii", data[:, :, :, None], np.eye(4))
    assert read(tmp_path / "c.nii").axes == "czyx"
    saved(tmp_path / "p.nii", data[:, :, 0, 0], np.eye(4))
    assert read(tmp_path / "p.nii").axes == "yx"
    saved(tmp_path / "q.nii", data[:, :, 0, 0], turned(0, (1, 1, 1), (0, 0, 30)))
    assert (read(tmp_path / "q.nii").axes, read(tmp_path / "q.nii").translate[0]) == ("zyx", 30.0)
    with pytest.raises(InputError, match="has no image 1; it holds one"):
        read(tmp_path / "c.nii", scene=1)


def test_precedence_of_sform_and_qform(tmp_path: Path) -> None:
    a, b = turned(10, (1, 2, 3), (1, 2, 3)), turned(0, (2, 2, 2), (9, 9, 9))
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.uint8), a)
    for sform, qform, wins in [(1, 1, a), (0, 1, b), (2, 0, a), (0, 0, None)]:
        image.set_qform(b, qform)
        image.set_sform(a, sform)
        image.to_filename(tmp_path / "a.nii")
        found = read(tmp_path / "a.nii")
        if wins is None:
            assert (found.affine, found.translate) == (None, (0.0, 0.0, 0.0))
            assert found.scale == (2.0, 2.0, 2.0)
        else:
            assert np.allclose(world(found, (1, 2, 2)), (LPS @ wins @ [2, 2, 1, 1])[2::-1], atol=1e-5)


@pytest.mark.parametrize("dtype", ["<i2", ">i2", ">f4", "<u8"])
def test_byte_order_and_scaling(dtype: str, tmp_path: Path) -> None:
    data = np.arange(60).reshape(3, 4, 5).astype(dtype)
    header = nibabel.Nifti1Header(endianness=dtype[0])
    header.set_data_dtype(dtype)
    nibabel.Nifti1Image(data, np.eye(4), header).to_filename(tmp_path / "a.nii")
    image = read(tmp_path / "a.nii")
    assert image.data.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(image.data, data.T)
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = np.array([0.5, -1024], f"{dtype[0]}f4").tobytes()
    (tmp_path / "b.nii").write_bytes(raw)
    image = read(tmp_path / "b.nii")
    assert image.data.dtype == (np.float64 if dtype == "<u8" else np.float32)
    assert np.allclose(image.data, np.asarray(nibabel.load(tmp_path / "b.nii").dataobj).T)


def test_large_files_stay_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(-1000, 1000, (7, 6, 5, 2)).astype(">i2")
    saved(tmp_path / "a.nii", data, turned(0, (1, 1, 2), (0, 0, 0), (2, 0, 1)))
    whole = read(tmp_path / "a.nii").data
    monkeypatch.setattr("napari_segsuite.io.volume.LAZY_BYTES", 0)
    lazy = read(tmp_path / "a.nii").data
    assert "on disk" in repr(lazy)
    assert np.array_equal(lazy[1, 2:4, ::2, 3], whole[1, 2:4, ::2, 3])
    assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(lazy))), whole)


def test_colours(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3)).astype(np.uint8)
    saved(tmp_path / "a.nii.gz", colours.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0], np.eye(4))
    image = read(tmp_path / "a.nii.gz")
    assert (image.axes, image.rgb, image.channels) == ("czyx", True, ("red", "green", "blue"))
    assert np.array_equal(image.data, colours.transpose(3, 2, 1, 0))
    back = read(write(image, tmp_path / "b.nii.gz"))
    assert (back.rgb, back.channels) == (True, image.channels)
    assert np.array_equal(back.data, image.data)


def test_what_other_programs_see_of_ours(make_image: MakeImage, make_segmentation: MakeLabels, tmp_path: Path) -> None:
    affine = np.array([[3, 0, 0, 5.0], [0, 0, 0.5, 6], [0, -0.7, 0, 7], [0, 0, 0, 1]])
    image = make_image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), "zyx", units=("millimeter",) * 3, affine=affine)
    found = nibabel.load(write(image, tmp_path / "a.nii"))
    for code in ("sform_code", "qform_code"):
        assert int(found.header[code]) == 1
    assert np.allclose((LPS @ found.get_sform() @ [4, 3, 2, 1])[2::-1], (affine @ [2, 3, 4, 1])[:3], atol=1e-5)
    assert np.allclose(found.get_sform(), found.get_qform(), atol=1e-5)
    assert np.array_equal(np.asarray(found.dataobj), image.data.T)
    assert found.header.get_xyzt_units()[0] == "mm"
    for top, dtype in [(200, np.uint8), (300, np.uint16), (70_000, np.uint32), (2**40, np.uint64)]:
        labels = np.zeros((3, 4, 5), np.uint64)
        labels[1, 2, 3] = top
        written = write(make_segmentation(labels, "zyx"), tmp_path / "l.nii.gz", overwrite=True)
        seen = nibabel.load(written)
        assert seen.get_data_dtype() == dtype
        assert int(np.asarray(seen.dataobj)[3, 2, 1]) == top
        assert holds_labels(written)


def test_labels_keep_classes_table_and_provenance(make_segmentation: MakeLabels, tmp_path: Path) -> None:
    found = make_segmentation()
    back = read_segmentation(write(found, tmp_path / "a.nii.gz"))
    assert (back.classes, back.provenance, back.units, back.axes) == (found.classes, found.provenance, found.units, "yx")
    assert all(np.array_equal(back.segments[name], found.segments[name]) for name in found.segments)


def test_a_place_corrected_elsewhere_counts(make_image: MakeImage, tmp_path: Path) -> None:
    path = write(make_image(np.zeros((3, 4, 5), np.uint8), "zyx"), tmp_path / "a.nii")
    other = nibabel.load(path)
    moved = nibabel.Nifti1Image(np.asarray(other.dataobj), LPS @ np.diag([2.0, 3, 4, 1]), other.header)
    moved.to_filename(tmp_path / "b.nii")
    assert read(tmp_path / "b.nii").scale == (4.0, 3.0, 2.0)


@pytest.mark.parametrize(("sform", "qform"), [(1, 2), (0, 1), (2, 0), (0, 0), (4, 1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
def test_labels_lie_on_the_grid_of_their_image_bit_for_bit(order: tuple[int, ...], sform: int, qform: int, tmp_path: Path) -> None:
    data = np.full((8, 9, 10), 100, np.int16)
    data[2:5, 2:5, 2:7] = 900
    source = saved(tmp_path / "ct.nii.gz", data, turned(17, (0.7, 0.8, 2.5), (-80.1, 33.3, 1e3), order), sform=sform, qform=qform)
    out = tmp_path / "ct_labels.nii.gz"
    assert cli.main(["segment", str(source), "--model", "otsu", "--out", str(out), "--progress", "none"]) == 0
    a, b = nibabel.load(source), nibabel.load(out)
    for name in (*GEOMETRY, "pixdim", "dim"):
        assert np.array_equal(a.header[name], b.header[name]), name
    assert np.array_equal(a.affine, b.affine)
    assert b.get_data_dtype() == np.uint8
    seen = np.asarray(b.dataobj)
    assert (seen[3, 3, 4], seen[0, 0, 0]) == (1, 0)
    assert np.array_equal(read(out).data, segment(read(source), model="otsu").labels)


@pytest.mark.parametrize("thick", [1.0, 3.0])
@pytest.mark.parametrize(("sform", "qform"), [(1, 2), (0, 1), (2, 0), (0, 0), (4, 1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (1, 2, 0)])
def test_so_do_those_of_a_plane(order: tuple[int, ...], sform: int, qform: int, thick: float, tmp_path: Path) -> None:
    data = np.full((12, 14), 100, np.int16)
    data[2:5, 2:7] = 900
    flat = order[2] == 2
    source = saved(tmp_path / "a.nii", data, turned(0, (0.7, 0.8, thick), (-80.1, 33.3, 0 if flat else 12.5), order), sform=sform, qform=qform)
    out = tmp_path / "a_labels.nii.gz"
    assert cli.main(["segment", str(source), "--model", "otsu", "--out", str(out), "--progress", "none"]) == 0
    a, b = nibabel.load(source), nibabel.load(out)
    for name in (*GEOMETRY, "pixdim", "dim"):
        assert np.array_equal(a.header[name], b.header[name]), name
    seen = np.asarray(b.dataobj)
    assert (seen[3, 4], seen[0, 0]) == (1, 0)
    assert np.array_equal(read(out).data, segment(read(source), model="otsu").labels)


@pytest.mark.parametrize("shear", [1e-3, 0.4])
@pytest.mark.parametrize("shape", [(8, 9, 10), (8, 9, 10, 1)])
def test_axes_that_are_not_at_right_angles_are_kept_as_they_are(shear: float, shape: tuple[int, ...], tmp_path: Path) -> None:
    data = np.full(shape, 100, np.int16)
    data[2:5, 2:5, 2:7] = 900
    affine = np.array([[0.7, shear, 0, -80.1], [0, 0.8, 0, 33.3], [0, shear, 2.5, 1e3], [0, 0, 0, 1]])
    source = saved(tmp_path / "a.nii", data, affine)
    image = read(source)
    assert np.allclose(world(image, (0,) * (image.data.ndim - 3) + (5, 2, 1)), (LPS @ affine @ [1, 2, 5, 1])[2::-1], atol=1e-3)
    out = tmp_path / "a_labels.nii.gz"
    assert cli.main(["segment", str(source), "--model", "otsu", "--out", str(out), "--progress", "none"]) == 0
    a, b = nibabel.load(source), nibabel.load(out)
    assert all(np.array_equal(a.header[name], b.header[name]) for name in GEOMETRY)
    assert np.asarray(b.dataobj).reshape(shape)[3, 3, 4].item() == 1


def damaged(name: str) -> bytes:
    """A file with one thing wrong."""
    whole = nibabel.Nifti1Image(np.arange(27_000, dtype=np.int32).reshape(30, 30, 30), np.eye(4))
    if name in ("flat", "unknown"):  # the sizes of samples count where there is no sform
        whole.set_sform(np.eye(4), 0)
        whole.set_qform(np.eye(4), int(name == "flat"))
        whole.header.set_xyzt_units("mm", "sec")
    raw = bytearray(whole.to_bytes())
    put: dict[str, tuple[int, bytes]] = {
        "flat": (80, np.zeros(1, "<f4").tobytes()),
        "unknown": (80, np.zeros(3, "<f4").tobytes()),
        "nan": (280, np.array([np.nan], "<f4").tobytes()),
        "singular": (280, np.zeros(3, "<f4").tobytes()),
        "huge": (42, np.array([32767] * 3, "<i2").tobytes()),
        "none": (42, np.array([0], "<i2").tobytes()),
        "negative": (42, np.array([-4], "<i2").tobytes()),
        "magic": (0, b"JUNK"),
        "type": (70, np.array([9999], "<i2").tobytes()),
        "complex": (70, np.array([1792], "<i2").tobytes()),
        "offset": (108, np.array([3e9], "<f4").tobytes()),
        "end": (344, b"xx1\0"),
    }
    at, value = put[name]
    raw[at : at + len(value)] = value
    return bytes(raw)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("flat", r"have the size 0 x 1 x 1 \(x, y, z\)\. Needed: sizes that are not 0"),
        ("nan", "is not made of numbers"),
        ("singular", "is singular"),
        ("huge", r"declares an image of shape \(32767, 32767, 32767\) and type int32, which needs 140[0-9.]+ GB"),
        ("none", "declares an image of shape"),
        ("negative", "declares an image of shape"),
        ("magic", "does not begin like a NIfTI file"),
        ("type", "the header of .* cannot be used"),
        ("complex", "and type complex128"),
        ("offset", "of it|ends|end of|cannot become"),
        ("end", "the header of .* cannot be used"),
    ],
)
def test_a_damaged_file_is_named(name: str, complaint: str, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    path.write_bytes(gzip.compress(damaged(name)) if packed else damaged(name))
    with pytest.raises(InputError, match=f"(?i){complaint}") as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_sizes_of_0_without_any_place_are_not_known(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(damaged("unknown"))
    image = read(tmp_path / "a.nii")
    assert (image.scale, image.units) == ((1.0,) * 3, ("pixel",) * 3)


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.3, 0.6, 0.999])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_truncated_file_is_named(suffix: str, share: float, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 2**15, (20, 20, 20)).astype(np.int16)
    whole = saved(tmp_path / f"a{suffix}", data, np.eye(4)).read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"truncated or damaged|does not begin"):
        read(tmp_path / f"a{suffix}")


def test_bits_that_flipped_in_a_compressed_file_are_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 2**15, (20, 20, 20)).astype(np.int16), np.eye(4))
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 1  # in the checksum, which a reader meets only behind the last sample
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"(?i)CRC check failed"):
        read(path)


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bulk, "_memory", lambda: 1e6)
    path = saved(tmp_path / "a.nii.gz", np.zeros((100, 100, 100), np.int16), np.eye(4))
    assert path.stat().st_size < 20_000
    with pytest.raises(InputError, match=r"needs 2\.0 MB when it is unpacked, more than this computer has\. Store it without compression"):
        read(path)


def test_what_cannot_be_written_is_said(make_segmentation: MakeLabels, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OutputError, match="would be two files"):
        write(make_segmentation(), tmp_path / "a.hdr")
    with pytest.raises(SystemExit):
        cli.main(["segment", "a.tif", "--out", str(tmp_path / "a.gz")])
    assert "neither a folder nor a path ending in" in capsys.readouterr().err


def test_without_nibabel_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, make_segmentation: MakeLabels, tmp_path: Path) -> None:
    saved(tmp_path / "a.nii", np.zeros((3, 4, 5), np.uint8), np.eye(4))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for act in (lambda: read(tmp_path / "a.nii"), lambda: write(make_segmentation(), tmp_path / "b.nii")):
        with pytest.raises(MissingExtra, match=r'pip install "napari-segsuite\[medical\]"'):
            act()


def test_folders_and_names(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii", "a_labels.nii.gz"):
        saved(tmp_path / name, np.zeros((3, 4, 5), np.uint8), np.eye(4))
    assert [p.name for p in list_inputs([tmp_path])] == ["a.nii.gz", "b.nii"]
    assert read(tmp_path / "a.nii.gz").name == "a"


def test_real_scans_give_the_same_to_nibabel_and_back(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ct_totalsegmentator"
    for name in ("ct_sm", "dicom_seg_model"):
        image = read(folder / f"{name}.nii.gz")
        a, b = nibabel.load(folder / f"{name}.nii.gz"), nibabel.load(write(replace(image, name="x"), tmp_path / f"{name}.nii.gz"))
        assert np.array_equal(image.data.T, np.asarray(a.dataobj))
        assert np.array_equal(np.asarray(a.dataobj), np.asarray(b.dataobj))
        assert all(np.array_equal(a.header[field], b.header[field]) for field in GEOMETRY)
    found = read_segmentation(folder / "ct_sm_seg_model.nii.gz")
    assert len(found.segments["id"]) == 41
    assert found.affine is not None
