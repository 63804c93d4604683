"""DICOM series, checked with ITK: positions, Hounsfield units, and what is wrong with slices that are no volume."""

from __future__ import annotations

import importlib.util
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from napari_segsuite import cli, segment
from napari_segsuite.errors import InputError, MissingExtra
from napari_segsuite.io import list_inputs, read, read_segmentation, write
from napari_segsuite.io.dicom_headers import TAGS, frames_of
from napari_segsuite.io.dicom_pixels import _by_imagecodecs

MakeSeries = Callable[..., list[Path]]
RNG = np.random.default_rng(0)
DATA = RNG.integers(-1000, 2000, (5, 6, 7)).astype(np.int16)


def turned(order: tuple[int, ...] = (0, 1, 2)) -> Any:
    """Directions of columns, rows and slices, turned by two angles."""
    a, b = np.deg2rad(20), np.deg2rad(-9)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    found = (about_z @ about_x)[:, list(order)]
    found[:, 2] = np.cross(found[:, 0], found[:, 1])
    return found


def itk(folder: Path) -> Any:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def sample(name: str, folder: Path) -> Path:
    """A file of pydicom's own, by itself: many lie in one folder, some of them copies of one slice."""
    return Path(shutil.copy(str(get_testdata_file(name, download=False)), folder))


def same_as_itk(folder: Path) -> bool:
    """Whether values, and the world positions of corners, are those that ITK gives."""
    image, theirs = read(folder), itk(folder)
    world = theirs.TransformIndexToPhysicalPoint
    size = theirs.GetSize()
    matrix = image.affine if image.affine is not None else np.diag([*image.scale, 1.0])
    if image.affine is None:
        matrix[:3, 3] = image.translate
    values = SimpleITK.GetArrayFromImage(theirs)
    for at in [(0, 0, 0), (size[0] - 1, 0, 0), (0, size[1] - 1, 0), (0, 0, size[2] - 1), (1, 2, 3)]:
        # Which of our voxels lies there, whatever our axes are called.
        ours = np.linalg.solve(matrix, [*world([int(i) for i in at])[::-1], 1])[:3]
        if not np.allclose(ours, np.rint(ours), atol=1e-4) or image.data[tuple(int(i) for i in np.rint(ours))] != values[at[::-1]]:
            return False
    return sorted(np.asarray(image.data).ravel().tolist()) == sorted(values.ravel().tolist())


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1)])
def test_a_series_lies_where_itk_says_whatever_its_files_are_called(order: tuple[int, ...], make_series: MakeSeries, tmp_path: Path) -> None:
    make_series(tmp_path / "ct", DATA, directions=turned(order), order=(3, 0, 4, 1, 2))
    image = read(tmp_path / "ct")
    assert same_as_itk(tmp_path / "ct")
    assert (image.axes, image.units, image.name, image.source) == ("zyx", ("millimeter",) * 3, "ct", str(tmp_path / "ct"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bits=st.sampled_from([8, 12, 16]), signed=st.booleans(), slope=st.sampled_from([1, 2, 0.5, 1.25, -1]), inter=st.sampled_from([0, -1024, 0.5, 1])
)
def test_values_are_what_slope_and_intercept_make_of_them(
    bits: int, signed: bool, slope: float, inter: float, make_series: MakeSeries, tmp_path: Path
) -> None:
    allocated = 8 if bits == 8 else 16
    low = -(2 ** (bits - 1)) if signed else 0
    meant = RNG.integers(low, low + 2**bits, (2, 3, 4))
    # What is above the stored bits belongs to somebody else, as overlays did.
    stored = (meant & (2**bits - 1)) | (RNG.integers(0, 2 ** (allocated - bits), meant.shape) << bits)

    def change(header: Dataset, k: int) -> None:
        header.BitsStored, header.HighBit, header.PixelRepresentation = bits, bits - 1, int(signed)
        header.RescaleSlope, header.RescaleIntercept = slope, inter

    shutil.rmtree(tmp_path / "ct", ignore_errors=True)
    make_series(tmp_path / "ct", stored.astype(f"u{allocated // 8}"), change=change)
    data = np.asarray(read(tmp_path / "ct").data)
    assert np.array_equal(data, meant * slope + inter)
    assert (data.dtype.kind == "f") == (slope * 1.0 % 1 != 0 or inter * 1.0 % 1 != 0)


def test_each_slice_has_a_slope_of_its_own(make_series: MakeSeries, tmp_path: Path) -> None:
    def change(header: Dataset, k: int) -> None:
        header.RescaleSlope, header.RescaleIntercept = 0.1 * (k + 1), 0

    make_series(tmp_path / "pet", DATA, change=change)
    image = read(tmp_path / "pet")
    assert image.data.dtype == np.float32
    assert np.allclose(image.data, DATA * (0.1 * np.arange(1, 6))[:, None, None], rtol=1e-6)


def test_only_headers_are_read_at_first_and_only_slices_that_are_asked_for(make_series: MakeSeries, tmp_path: Path) -> None:
    files = make_series(tmp_path / "ct", DATA)
    image = read(tmp_path / "ct")
    for file in files[:2] + files[3:]:
        file.write_bytes(b"")
    view = pickle.loads(pickle.dumps(image.data))
    assert np.array_equal(view[2, 1:4], DATA[2, 1:4])
    with pytest.raises(InputError, match=r"IM0003 cannot be read"):
        view[3]


def test_a_gantry_that_was_tilted_is_in_the_affine(make_series: MakeSeries, tmp_path: Path) -> None:
    directions = np.eye(3)
    directions[1, 2] = 0.3
    make_series(tmp_path / "ct", DATA, directions=directions)
    image = read(tmp_path / "ct")
    assert image.affine is not None
    assert np.allclose(image.affine[:3, 0], (3.0, 0.9, 0.0))
    assert np.allclose(image.scale[0], np.hypot(3.0, 0.9))


def test_any_file_stands_for_its_series(make_series: MakeSeries, tmp_path: Path) -> None:
    files = make_series(tmp_path / "ct", DATA)
    assert all(np.array_equal(read(file).data, DATA) for file in files[:2])
    assert list_inputs([tmp_path / "ct"]) == list_inputs(files) == list_inputs([tmp_path / "ct" / "*"]) == [tmp_path / "ct"]
    assert list_inputs([tmp_path]) == [tmp_path / "ct"]
    # Beside another series, its first file stands for it.
    more = make_series(tmp_path / "more", DATA)
    for file in more:
        file.rename(tmp_path / "ct" / f"b{file.name}")
    assert list_inputs(files) == [files[0]]
    assert len(list_inputs([tmp_path / "ct" / "*"])) == 2
    assert list_inputs([tmp_path / "ct"]) == [tmp_path / "ct"]
    assert np.array_equal(read(files[3]).data, DATA)


def test_several_series_are_listed_and_one_is_chosen(make_series: MakeSeries, tmp_path: Path) -> None:
    make_series(tmp_path / "a" / "one", DATA)
    second = make_series(tmp_path / "a" / "two", DATA[:3] + 1, change=lambda header, k: setattr(header, "SeriesDescription", "lung"))
    uid = frames_of(second[0])[0].file.series
    with pytest.raises(InputError, match=r"holds 2 DICOM images") as caught:
        read(tmp_path / "a")
    assert all(word in str(caught.value) for word in ("'thorax', CT, 5 slices of 7 x 6", "'lung', CT, 3 slices", uid, "scene="))
    chosen = read(tmp_path / "a", scene=uid)
    assert np.array_equal(chosen.data, DATA[:3] + 1)
    assert Path(chosen.source) == second[0]
    assert np.array_equal(read(tmp_path / "a", scene="lung").data, DATA[:3] + 1)
    with pytest.raises(InputError, match="has no image 'heart'"):
        read(tmp_path / "a", scene="heart")


def test_a_localizer_in_the_series_is_another_image(make_series: MakeSeries, tmp_path: Path) -> None:
    def change(header: Dataset, k: int) -> None:
        if k == 2:
            header.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    files = make_series(tmp_path / "ct", DATA, change=change)
    with pytest.raises(InputError, match=r"4 slices of 7 x 6: .*:0; 1: .*1 slice of 7 x 6: .*:1"):
        read(tmp_path / "ct")
    assert read(files[2]).shape == (6, 1, 7)
    with pytest.raises(InputError, match=r"(?i)slices are missing .* 1 between IM0001 at z = -69\.1 mm and IM0003 at z = -63\.1 mm"):
        read(files[1])


@pytest.mark.parametrize("gone", [(2,), (1, 3), (2, 3)])
def test_missing_slices_are_named(gone: tuple[int, ...], make_series: MakeSeries, tmp_path: Path) -> None:
    files = make_series(tmp_path / "ct", np.repeat(DATA, 2, 0))
    for k in gone:
        files[k].unlink()
    with pytest.raises(InputError, match=rf"(?i)slices are missing in the series of {10 - len(gone)} ") as caught:
        read(tmp_path / "ct")
    assert files[gone[0] - 1].name in str(caught.value)
    assert files[gone[-1] + 1].name in str(caught.value)
    assert "Needed: slices 3 mm apart" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda h, k: setattr(h, "ImagePositionPatient", [0, 0, (0, 1, 2, 3, 4.4)[k]]),
            r"are 1 to 1\.4 mm apart, the latter between IM0003 at z = 3",
        ),
        (lambda h, k: setattr(h, "ImagePositionPatient", [0, 0.5 * (k == 2), k]), r"do not lie on one line: IM0002 at z = 2 mm is 0\.5 mm away"),
        (
            lambda h, k: setattr(h, "PixelSpacing", [1 + 0.5 * (k == 4), 1]),
            r"(?i)pixels are \(1.0, 1.0\) mm large in IM0000 and \(1.5, 1.0\) mm in IM0004",
        ),
        (
            lambda h, k: setattr(h, "ImagePositionPatient", [0, 0, max(k, 1)]),
            r"(?i)slices IM0000 at z = 1 mm and IM0001 at z = 1 mm .* lie at one position",
        ),
        (lambda h, k: setattr(h, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), r"directions of rows and columns in .*IM0000 are 1 0 0 1 0 0"),
        (lambda h, k: setattr(h, "ImageOrientationPatient", [1, 0, 0, 0, 1]), r"ImageOrientationPatient of .*6 numbers"),
        (lambda h, k: setattr(h, "RescaleSlope", 0), r"RescaleSlope of .*IM0000 is 0"),
        (lambda h, k: setattr(h, "BitsStored", 17), r"stores 17 of 16 bits"),
        (lambda h, k: setattr(h, "Rows", 60000), r"reading its pixels failed"),
        (lambda h, k: (setattr(h, "Rows", 60000), setattr(h, "Columns", 60000)), r"which need 7\.2 GB"),
        (lambda h, k: setattr(h, "NumberOfFrames", 10**9), r"declares 1000000000 frames"),
        (lambda h, k: h.__setattr__("ModalityLUTSequence", [Dataset()]), r"looked up in a table"),
        (lambda h, k: h.__delattr__("PixelData"), r"reading its pixels failed"),
    ],
)
def test_what_is_no_volume_says_why(change: Any, complaint: str, make_series: MakeSeries, tmp_path: Path) -> None:
    make_series(tmp_path / "ct", DATA, change=change)
    with pytest.raises(InputError, match=complaint):
        np.asarray(read(tmp_path / "ct").data)


def test_copies_of_slices_are_named(make_series: MakeSeries, tmp_path: Path) -> None:
    files = make_series(tmp_path / "ct", DATA)
    shutil.copy(files[1], tmp_path / "ct" / "copy")
    with pytest.raises(InputError, match=r"(?i)files IM0001 and copy in .* are copies of one slice at z = -69\.1 mm"):
        read(tmp_path / "ct")


def test_different_files_of_one_uid_are_named(make_series: MakeSeries, tmp_path: Path) -> None:
    def twins(header: Dataset, k: int) -> None:
        header.SOPInstanceUID = f"1.2.{max(k, 1)}"

    def stacked_twins(header: Dataset, k: int) -> None:
        twins(header, k)
        header.ImagePositionPatient = [0, 0, max(k, 1)]

    for change in (twins, stacked_twins, lambda h, k: (twins(h, k), h.pop("ImagePositionPatient"))):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        files = make_series(folder, DATA, change=change)
        with pytest.raises(InputError, match=r"(?i)files IM0000 and IM0001 in .* bear one SOPInstanceUID \(1\.2\.1\), and are not the same"):
            read(files[0])


def test_one_uid_in_all_files_is_what_some_programs_leave(make_series: MakeSeries, tmp_path: Path) -> None:
    """Their positions tell the slices apart; a segmentation of them refers to the series, and to no slice."""
    files = make_series(tmp_path / "ct", DATA, change=lambda header, k: setattr(header, "SOPInstanceUID", "1.2.3"))
    image = read(files[0])
    np.testing.assert_array_equal(np.asarray(image.data), np.asarray(read(make_series(tmp_path / "other", DATA)[0]).data))
    found = segment(tmp_path / "ct", model="otsu")
    write(found, tmp_path / "seg.dcm")
    np.testing.assert_array_equal(read_segmentation(tmp_path / "seg.dcm").labels, found.labels)
    assert "1.2.3" not in str(pydicom.dcmread(tmp_path / "seg.dcm").PerFrameFunctionalGroupsSequence)


@pytest.mark.parametrize("k", [0, 2, 4])
@pytest.mark.parametrize("lack", ["size", "position", "orientation"])
def test_a_slice_that_fits_not_into_its_series_is_named(lack: str, k: int, make_series: MakeSeries, segsuite: Any, tmp_path: Path) -> None:
    def change(header: Dataset, n: int) -> None:
        if n == k and lack == "size":
            header.Columns, header.PixelData = 5, header.PixelData[: 5 * header.Rows * 2]
        elif n == k:
            del header[f"Image{lack.capitalize()}Patient"]

    files = make_series(tmp_path / "ct", DATA, change=change)
    told = rf"(?i)IM000{k} \({'5 x 6' if lack == 'size' else 'no position'}\) in .*ct cannot be put among the other 4 slices of their series"
    for path in (tmp_path / "ct", files[k], files[1]):
        with pytest.raises(InputError, match=told):
            read(path)
    # Every file named by itself, as a shell does with *, is still one refusal per image and not a result.
    told = segsuite("segment", *files, "--model", "otsu", "--out", tmp_path / "out")
    assert (told.code, list((tmp_path / "out").glob("*"))) == (1, [])
    key = frames_of(files[1])[0].file.series + ":0"
    if k != 2:
        assert len(read(tmp_path / "ct", scene=key).data) == 4


def test_moments_are_an_axis_and_echoes_are_images(make_series: MakeSeries, tmp_path: Path) -> None:
    def at(header: Dataset, k: int) -> None:
        header.ImagePositionPatient = [0, 0, float(k % 2)]

    def moment(header: Dataset, k: int) -> None:
        at(header, k)
        header.AcquisitionDate, header.AcquisitionTime = "20260101", f"1200{(20, 25, 30)[2 - k // 2]:02d}.5"

    six = np.concatenate([DATA, DATA[:1] + 1])
    make_series(tmp_path / "moments", six, change=moment)
    image = read(tmp_path / "moments")
    assert (image.axes, image.scale[0], image.units[0]) == ("tzyx", 5.0, "second")
    assert np.array_equal(image.data, six.reshape(3, 2, 6, 7)[::-1])
    assert np.array_equal(image.data[1, :, 2:4, 5], six.reshape(3, 2, 6, 7)[1, :, 2:4, 5])
    make_series(tmp_path / "late", six, change=lambda h, k: (moment(h, k), setattr(h, "AcquisitionTime", f"12{(0, 1, 5)[k // 2]:02d}00")))
    with pytest.raises(InputError, match=r"3 volumes .* not taken at one distance in time \(seconds 0, 60, 300\)"):
        read(tmp_path / "late")
    make_series(tmp_path / "echoes", six, change=lambda h, k: (at(h, k), setattr(h, "EchoNumbers", k // 2)))
    with pytest.raises(InputError, match=r"holds 3 DICOM images .*EchoNumbers 0.*EchoNumbers 2"):
        read(tmp_path / "echoes")


def test_a_film_and_photographs(tmp_path: Path) -> None:
    film = read(sample("examples_ybr_color.dcm", tmp_path))
    assert (film.axes, film.shape, film.rgb, film.units[0]) == ("tcyx", (30, 3, 240, 320), True, "millisecond")
    theirs = pydicom.dcmread(tmp_path / "examples_ybr_color.dcm").pixel_array
    assert np.array_equal(film.data[7], theirs[7].transpose(2, 0, 1))
    assert np.array_equal(film.data[7:9, 1, 3:5], theirs[7:9, 3:5, :, 1])
    palette = read(sample("examples_palette.dcm", tmp_path))
    assert (palette.axes, palette.shape, palette.rgb, palette.data.dtype) == ("cyx", (3, 350, 800), True, np.uint8)
    frames = sample("SC_rgb_rle_2frame.dcm", tmp_path)
    with pytest.raises(InputError, match=r"2 frames, and does not say whether they are slices or moments"):
        read(frames)
    assert read(frames, axes="cxyt").shape == (2, 3, 100, 100)


@pytest.mark.parametrize("name", ["MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm"])
def test_encodings_of_one_picture_are_one_picture(name: str, tmp_path: Path) -> None:
    theirs = pydicom.dcmread(str(get_testdata_file("MR_small.dcm", download=False))).pixel_array
    assert np.array_equal(read(sample(name, tmp_path)).data[0], theirs)


@pytest.mark.skipif(importlib.util.find_spec("imagecodecs") is None, reason="imagecodecs is absent")
def test_what_pydicom_cannot_decode_imagecodecs_does(tmp_path: Path) -> None:
    theirs = pydicom.dcmread(str(get_testdata_file("MR_small.dcm", download=False))).pixel_array
    for name in ("MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm"):
        (frame,) = frames_of(sample(name, tmp_path))
        raw = _by_imagecodecs(frame, "jpegls" if "ls" in name else "jpeg2k")
        assert np.array_equal(raw.astype(np.int16), theirs)
    # 12 bits in JPEG, and JPEG without loss: no decoder that pydicom comes with does these.
    extended, other = (np.asarray(read(sample(name, tmp_path)).data).astype(int) for name in ("JPGExtended.dcm", "JPEG2000.dcm"))
    assert np.abs(extended - other).mean() < 5
    lossless = read(sample("SC_rgb_jpeg_gdcm.dcm", tmp_path))
    plain = pydicom.dcmread(str(get_testdata_file("SC_rgb_rle.dcm", download=False))).pixel_array
    assert np.array_equal(lossless.data, plain.transpose(2, 0, 1))


def test_without_a_decoder_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (frame,) = frames_of(Path(str(get_testdata_file("MR_small_jpeg_ls_lossless.dcm", download=False))))
    monkeypatch.setattr("napari_segsuite.io.dicom_pixels.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"napari-segsuite\[codecs\]"):
        _by_imagecodecs(frame, "jpegls")


@pytest.mark.parametrize("name", ["reportsi.dcm", "waveform_ecg.dcm", "rtplan.dcm", "rtstruct.dcm"])
def test_what_is_no_image_is_called_by_its_name(name: str, tmp_path: Path) -> None:
    path = Path(shutil.copy(str(get_testdata_file(name, download=False)), tmp_path))
    with pytest.raises(InputError, match=r"holds no image, but .*(SR|ECG|RT)"):
        read(path)


def test_a_medium_is_read_by_its_folder() -> None:
    listing = Path(str(get_testdata_file("DICOMDIR", download=False)))
    with pytest.raises(InputError, match=r"is a DICOMDIR, .*Read the folder"):
        read(listing)
    with pytest.raises(InputError, match=r"holds \d+ DICOM images"):
        read(listing.parent / "98892003")
    assert read(listing.parent / "98892001" / "CT5N" / "2062").axes == "zyx"


def test_nobody_is_named_in_what_is_read(make_series: MakeSeries, tmp_path: Path) -> None:
    make_series(tmp_path / "ct", DATA)
    image = read(tmp_path / "ct")
    assert not re.search("Doe|4711|1970", repr(pickle.dumps(image.data)) + repr(vars(image)))
    assert not any(name.startswith("Patient") for name in TAGS)


def test_a_series_is_one_input_and_its_labels_lie_on_it(make_series: MakeSeries, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_series(tmp_path / "ct", DATA, directions=turned((1, 2, 0)))
    out = tmp_path / "out"
    assert cli.main(["segment", *map(str, sorted((tmp_path / "ct").iterdir())), "--model", "otsu", "--out", str(out), "--progress", "none"]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["ct_labels.tif", "ct_run.json", "ct_segments.csv"]
    image, labels = read(tmp_path / "ct"), read_segmentation(out / "ct_labels.tif")
    assert (labels.axes, labels.labels.shape, labels.scale) == (image.axes, image.shape, image.scale)
    assert np.array_equal(labels.affine, image.affine)
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "ct")]) == 0
    assert "5 files" in capsys.readouterr().out


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    share=st.sampled_from([1.0, 1.0, 0.97, 0.5, 0.1]),
    name=st.sampled_from(["CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "liver_1frame.dcm"]),
)
def test_flipped_bytes_give_a_result_or_an_error_that_names_the_file(
    flips: list[tuple[int, int]], share: float, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = bytearray(Path(str(get_testdata_file(name, download=False))).read_bytes())
    for at, value in flips:
        raw[at % min(len(raw), 4000)] = value
    path = tmp_path / "a.dcm"
    path.write_bytes(raw[: int(len(raw) * share)])
    told = []
    for reader in (lambda p: np.asarray(read(p).data), read_segmentation):
        try:
            reader(path)
        except (InputError, MissingExtra) as error:
            told.append(str(error))
    assert all(path.name in text or "negative id" in text for text in told)
    assert capfd.readouterr().err == ""


def test_real_series_are_what_itk_reads(shared_data: Path) -> None:
    for name in ("dicom_ct_head_slicer", "ct_totalsegmentator/dicom_jpeg2000", "dicom_seg_dcmqi/ct-3slice"):
        image, theirs = read(shared_data / name), itk(shared_data / name)
        assert np.array_equal(image.data, SimpleITK.GetArrayFromImage(theirs))
        assert image.affine is None
        assert image.scale == theirs.GetSpacing()[::-1]
        assert image.translate == theirs.GetOrigin()[::-1]
    one, many = (read(shared_data / "dicom_seg_dcmqi" / "23x38x3" / kind) for kind in ("image", "multiframe"))
    assert np.array_equal(one.data, many.data)
    assert (one.scale, one.translate, one.units) == (many.scale, many.translate, many.units)


@pytest.mark.parametrize("length", [150, 200, 400])
def test_a_slice_whose_header_was_cut_off_is_named_and_not_left_out(length: int, make_series: MakeSeries, tmp_path: Path) -> None:
    files = make_series(tmp_path / "s", DATA)
    files[-1].write_bytes(files[-1].read_bytes()[:length])
    with pytest.raises(InputError, match=re.escape(files[-1].name)):
        read(files[0].parent)


def test_slices_may_be_called_as_other_files_are(make_series: MakeSeries, tmp_path: Path) -> None:
    files = make_series(tmp_path / "s", DATA)
    expected = np.asarray(read(files[0].parent).data)
    for file in files:
        file.rename(file.with_name(f"{file.stem}.txt"))
    (files[0].parent / "notes.txt").write_text("of somebody")
    (found,) = list_inputs([files[0].parent])
    np.testing.assert_array_equal(np.asarray(read(found).data), expected)
