"""NRRD and MetaImage, checked with ITK and pynrrd: what they read of ours, and what we read of theirs."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_segsuite import cli
from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io import holds_labels, read, read_segmentation, write
from napari_segsuite.types import Image, Segmentation

MakeImage = Callable[..., Image]
MakeLabels = Callable[..., Segmentation]
each_format = pytest.mark.parametrize("suffix", [".nrrd", ".mha"])


def oblique(order: tuple[int, ...] = (0, 1, 2)) -> Any:
    """An ITK image with turned axes and a marked voxel at (1, 2, 4)."""
    a, b = np.deg2rad(20), np.deg2rad(-9)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    data = np.zeros((7, 6, 5), np.int16)
    data[4, 2, 1] = 7
    image = SimpleITK.GetImageFromArray(data)
    image.SetSpacing([(0.8, 0.9, 3.0)[k] for k in order])
    image.SetDirection((about_z @ about_x)[:, list(order)].ravel().tolist())
    image.SetOrigin((-90.5, 126.25, -72.1))
    return image


def same_place(one: Any, other: Any) -> bool:
    return all(np.allclose(getattr(one, f"Get{name}")(), getattr(other, f"Get{name}")(), atol=1e-12) for name in ("Spacing", "Direction", "Origin"))


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
def test_a_voxel_that_itk_marked_keeps_its_world_position(suffix: str, packed: bool, order: tuple[int, ...], tmp_path: Path) -> None:
    theirs = oblique(order)
    SimpleITK.WriteImage(theirs, str(tmp_path / f"a{suffix}"), packed)
    image = read(tmp_path / f"a{suffix}")
    (at,) = np.argwhere(image.data == 7)
    assert np.allclose((image.affine @ [*at, 1])[:3], theirs.TransformIndexToPhysicalPoint((1, 2, 4))[::-1], atol=1e-9)
    assert (image.axes, image.units) == ("zyx", ("millimeter",) * 3)
    assert np.allclose(image.scale, (3.0, 0.9, 0.8))


@each_format
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
def test_itk_finds_our_labels_on_the_grid_of_their_image(suffix: str, order: tuple[int, ...], tmp_path: Path) -> None:
    theirs = oblique(order)
    theirs[1:4, 1:4, 1:5] = 900
    SimpleITK.WriteImage(theirs, str(tmp_path / f"a{suffix}"))
    out = tmp_path / f"a_labels{suffix}"
    assert cli.main(["segment", str(tmp_path / f"a{suffix}"), "--model", "otsu", "--out", str(out), "--progress", "none"]) == 0
    found = SimpleITK.ReadImage(str(out))
    assert same_place(found, theirs)
    assert (found.GetSize(), found.GetPixelIDTypeAsString()) == (theirs.GetSize(), "8-bit unsigned integer")
    assert (found[2, 2, 2], found[0, 0, 0]) == (1, 0)
    assert holds_labels(out)
    assert read_segmentation(out).provenance["plan"]["options"]["model"] == "otsu"


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    axes=st.sampled_from(["yx", "zyx", "tyx", "cyx", "tzyx", "czyx", "tczyx"]),
    dtype=st.sampled_from(["u1", "i2", ">u2", "f4", "f8", "u8"]),
    unit=st.sampled_from(["millimeter", "micrometer", "nanometer", "pixel"]),
    linear=st.none() | hnp.arrays(np.float64, (3, 3), elements=st.floats(-3, 3)),
    start=st.tuples(*[st.floats(-1e3, 1e3)] * 3),
    suffix=st.sampled_from([".nii", ".nii.gz", ".nrrd", ".mha"]),
)
def test_reading_gives_back_what_was_written(
    axes: str, dtype: str, unit: str, linear: Any, start: Any, suffix: str, make_image: MakeImage, tmp_path: Path
) -> None:
    n = sum(a in "zyx" for a in axes)
    affine = None
    if linear is not None:
        affine = np.eye(n + 1)
        affine[:-1, :-1] = linear[:n, :n] + np.eye(n) * 7
        affine[:-1, -1] = start[:n]
    where = iter(start)
    units = tuple(unit if a in "zyx" else "second" if a == "t" else "pixel" for a in axes)
    translate = tuple(next(where) if a in "zyx" else 0.0 for a in axes)
    shape = tuple({"t": 2, "c": 3, "z": 4, "y": 1, "x": 6}[a] for a in axes)
    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    image = make_image(pixels, axes, units=units, translate=translate, affine=affine)
    back = read(write(image, tmp_path / f"a{suffix}", overwrite=True))
    assert np.array_equal(back.data, pixels)
    assert back.data.dtype == pixels.dtype.newbyteorder("=")
    for name in ("axes", "scale", "units", "translate", "channels", "name"):
        assert getattr(back, name) == getattr(image, name), name
    assert (back.affine is None) == (affine is None)
    assert affine is None or np.array_equal(back.affine, affine)


@each_format
def test_labels_keep_classes_table_and_provenance(suffix: str, make_segmentation: MakeLabels, tmp_path: Path) -> None:
    found = make_segmentation()
    back = read_segmentation(write(found, tmp_path / f"a{suffix}"))
    assert (back.classes, back.provenance, back.units, back.axes) == (found.classes, found.provenance, found.units, "yx")
    assert all(np.array_equal(back.segments[name], found.segments[name]) for name in found.segments)


def test_pynrrd_reads_ours(make_image: MakeImage, tmp_path: Path) -> None:
    pixels = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    affine = np.array([[3, 0, 0, 5.0], [0, 0.1, 0.7, 6], [0, -0.7, 0.1, 7], [0, 0, 0, 1]])
    image = make_image(pixels, "tzyx", units=("second", *["micrometer"] * 3), scale=(2.5, 3, 1, 1), affine=affine)
    data, header = nrrd.read(str(write(image, tmp_path / "a.nrrd")))
    assert np.array_equal(data, pixels.transpose(3, 2, 1, 0)[..., :])
    assert np.array_equal(header["space directions"][:3, ::-1][::-1], affine[:3, :3].T)
    assert header["space origin"].tolist() == [7, 6, 5]
    assert (header["space units"], header["kinds"][3]) == (["um"] * 3, "time")


@pytest.mark.parametrize(("space", "sign"), [("left-posterior-superior", (1, 1, 1)), ("RAS", (1, -1, -1)), ("left-anterior-superior", (1, -1, 1))])
def test_worlds_of_nrrd(space: str, sign: tuple[int, ...], tmp_path: Path) -> None:
    data = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    header = {"space": space, "space directions": np.diag([0.5, 0.6, 2]), "space origin": [1.0, 2.0, 3.0], "encoding": "bzip2", "endian": "big"}
    nrrd.write(str(tmp_path / "a.nrrd"), data.astype(">f4"), header)
    image = read(tmp_path / "a.nrrd")
    assert np.array_equal(image.data, data.T)
    assert image.translate == tuple(v * s for v, s in zip((3.0, 2.0, 1.0), sign, strict=True))
    assert np.allclose(np.diag(image.affine)[:3] if image.affine is not None else image.scale, np.array([2, 0.6, 0.5]) * sign)


def test_axes_of_nrrd(tmp_path: Path) -> None:
    data = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    directions = np.array([[np.nan] * 3, [1.0, 0, 0], [0, 1.0, 0], [0, 0, 2.0]])
    nrrd.write(str(tmp_path / "a.nrrd"), data, {"space": "LPS", "space directions": directions, "kinds": ["vector", "domain", "domain", "domain"]})
    assert (read(tmp_path / "a.nrrd").axes, read(tmp_path / "a.nrrd").shape) == ("czyx", (2, 5, 4, 3))
    nrrd.write(str(tmp_path / "b.nrrd"), data[0], {"spacings": [0.5, 0.5, 3.0]})
    image = read(tmp_path / "b.nrrd")
    assert (image.scale, image.units, image.affine) == ((3.0, 0.5, 0.5), ("pixel",) * 3, None)
    nrrd.write(str(tmp_path / "c.nrrd"), data)
    with pytest.raises(InputError, match="are not those of an image"):
        read(tmp_path / "c.nrrd")


def test_channels_and_time_of_metaimage(make_image: MakeImage, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((3, 4, 5, 6)).astype(np.float32)
    theirs = SimpleITK.ReadImage(str(write(make_image(pixels, "czyx"), tmp_path / "a.mha")))
    assert np.array_equal(SimpleITK.GetArrayFromImage(theirs), np.moveaxis(pixels, 0, -1))
    SimpleITK.WriteImage(theirs, str(tmp_path / "b.mha"))
    assert np.array_equal(read(tmp_path / "b.mha").data, pixels)
    theirs = SimpleITK.ReadImage(str(write(make_image(pixels, "tzyx"), tmp_path / "t.mha")))
    assert np.array_equal(SimpleITK.GetArrayFromImage(theirs), pixels)


HEADS = {
    ".nrrd": b"NRRD0005\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 30 30 30\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
    b"kinds: domain domain domain\nendian: little\nencoding: gzip\nspace origin: (0,0,0)\n\n",
    ".mha": b"ObjectType = Image\nNDims = 3\nBinaryData = True\nElementByteOrderMSB = False\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\n"
    b"ElementSpacing = 1 1 1\nDimSize = 30 30 30\nElementType = MET_SHORT\nElementDataFile = LOCAL\n",
}


@pytest.mark.parametrize(
    ("suffix", "old", "new", "complaint"),
    [
        (".nrrd", b"NRRD0005", b"JUNK0005", "does not begin like an NRRD file"),
        (".nrrd", b"(1,0,0)", b"(1,nan,0)", "are not those of an image|not made of numbers"),
        (".nrrd", b"(0,1,0)", b"(1,0,0)", "is singular"),
        (".nrrd", b"30 30 30", b"30000 30000 30000", "which cannot become so much"),
        (".nrrd", b"30 30 30", b"30 30 0", "declares an image of shape"),
        (".nrrd", b"30 30 30", b"30 30", "2 sizes for 3 dimensions"),
        (".nrrd", b"short", b"block", "are of type 'block'"),
        (".nrrd", b"gzip", b"hex", "encoding 'hex'"),
        (".nrrd", b"endian: little\n", b"", "does not say its byte order"),
        (".nrrd", b"type: short\n", b"", "does not say its type"),
        (".nrrd", b"endian: little\n", b"endian: little\ndata file: ../../etc/passwd\n", "Needed: one file beside the header"),
        (".nrrd", b"(0,0,1)", b"(0,0,x)", "cannot be read: reading its header failed"),
        (".mha", b"ObjectType", b"\x89PNG\r\n\x1a\n", "is a PNG file, and its name ends in .mha"),
        (".mha", b"Offset = 0 0 0", b"Offset = 0 nan 0", "is not made of numbers"),
        (".mha", b"0 1 0 0 0 1", b"1 0 0 0 0 1", "is singular"),
        (".mha", b"ElementSpacing = 1 1 1", b"ElementSpacing = 1 0 1", "is singular"),
        (".mha", b"30 30 30", b"30000 30000 30000", r"needs 54000\.0 GB, and holds"),
        (".mha", b"30 30 30", b"30 30 -30", "declares an image of shape"),
        (".mha", b"MET_SHORT", b"MET_OTHER", "are 'MET_OTHER'"),
        (".mha", b"LOCAL", b"/etc/passwd", "Needed: one file beside the header"),
        (".mha", b"ElementDataFile = LOCAL\n", b"", "not whole"),
        (".mha", b"Offset = 0 0 0", b"Offset = 0 0", "Offset has 2|offset has 2"),
    ],
)
def test_a_damaged_file_is_named(suffix: str, old: bytes, new: bytes, complaint: str, tmp_path: Path) -> None:
    samples = np.arange(27_000, dtype="<i2").tobytes()
    path, head = tmp_path / f"a{suffix}", HEADS[suffix]
    after = gzip.compress(samples) if suffix == ".nrrd" else samples
    path.write_bytes(head + after)
    assert read(path).shape == (30, 30, 30)
    assert old in head
    path.write_bytes(head.replace(old, new, 1) + after)
    with pytest.raises(InputError, match=complaint) as caught:
        read(path)
    assert re.search(r"a\.(nrrd|mha)", str(caught.value))


@each_format
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.95])
def test_a_truncated_file_is_named(suffix: str, share: float, tmp_path: Path) -> None:
    SimpleITK.WriteImage(
        SimpleITK.GetImageFromArray(np.random.default_rng(0).integers(0, 2**15, (20, 20, 20)).astype(np.int16)), tmp_path / f"a{suffix}"
    )
    whole = (tmp_path / f"a{suffix}").read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=rf"a{suffix}"):
        read(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_two_files_are_not_written(suffix: str, make_segmentation: MakeLabels, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="would be two files"):
        write(make_segmentation(), tmp_path / f"a{suffix}")


def test_real_scans_go_through_every_format(shared_data: Path, tmp_path: Path) -> None:
    for name in ("brain1_image", "prostate_phantom_subvolume"):
        path = shared_data / "mr_nrrd_pyradiomics" / f"{name}.nrrd"
        image, (data, header) = read(path), nrrd.read(str(path))
        assert np.array_equal(image.data, data.T)
        again = nrrd.read_header(str(write(image, tmp_path / f"{name}.nrrd")))
        assert np.array_equal(again["space directions"], header["space directions"])
        assert np.array_equal(again["space origin"], header["space origin"])
        for suffix in (".mha", ".nii.gz"):
            back = SimpleITK.ReadImage(str(write(image, tmp_path / f"{name}{suffix}")))
            theirs = SimpleITK.ReadImage(str(path))
            assert np.allclose(back.GetOrigin(), theirs.GetOrigin(), atol=1e-4)
            assert np.allclose(back.GetDirection(), theirs.GetDirection(), atol=1e-6)
            assert np.array_equal(SimpleITK.GetArrayFromImage(back), SimpleITK.GetArrayFromImage(theirs))
    labels = read_segmentation(shared_data / "mr_nrrd_pyradiomics" / "prostate_phantom_subvolume-label.nrrd")
    assert labels.segments["id"].tolist() == [1, 7, 8, 9]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".nii", ".nrrd", ".mha"]),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3),
    share=st.sampled_from([1.0, 1.0, 0.9, 0.3]),
)
def test_flipped_bytes_give_a_result_or_an_error_that_names_the_file(
    suffix: str, flips: list[tuple[int, int]], share: float, make_segmentation: MakeLabels, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = bytearray(write(make_segmentation(), tmp_path / f"a{suffix}", overwrite=True).read_bytes())
    for at, value in flips:
        raw[at % len(raw)] = value
    path = tmp_path / f"b{suffix}"
    path.write_bytes(raw[: int(len(raw) * share)])
    told = []
    for reader in (read, read_segmentation):
        try:
            reader(path)
        except InputError as error:
            told.append(str(error))
    assert all(str(path) in text for text in told)
    assert capfd.readouterr().err == ""
