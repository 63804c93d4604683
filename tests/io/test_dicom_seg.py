"""DICOM segmentations, checked with highdicom and with files that dcmqi made: segments, grid, references."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
from highdicom._standard_utils import check_required_attributes, get_iod_module_map, get_sop_class_iod_map
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from napari_segsuite import cli
from napari_segsuite.convert import convert
from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io import dicom_write, holds_labels, list_inputs, read, read_segmentation, write
from napari_segsuite.io.dicom_segments import lab_of, rgb_of
from napari_segsuite.io.table import table_of
from napari_segsuite.types import Class, Segmentation

MakeSeries = Callable[..., list[Path]]
CLASSES = (Class(1, "liver", (200, 10, 30), countable=False), Class(2, "lesion", (9, 8, 7)))
RNG = np.random.default_rng(0)
SCAN = RNG.integers(-1000, 2000, (5, 6, 7)).astype(np.int16)
AXES = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Sagittal: columns run to the back, rows to the feet."""


def labels_of(image: Any, labels: Any, **more: Any) -> Segmentation:
    """Labels on the grid of an image, and where they come from."""
    place = {name: getattr(image, name) for name in ("axes", "scale", "units", "translate", "affine")}
    told = {"provenance": {"plan": {"image": {"source": image.source}, "model": {"name": "otsu"}}}, "classes": CLASSES, **place, **more}
    return Segmentation(labels=labels, segments=table_of(labels, told["axes"], told["classes"]), **told)


def strictly(path: Path) -> Any:
    """What highdicom reads of a file, if it finds nothing wrong with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return highdicom.seg.segread(path)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 99), ids=st.sampled_from([(1,), (1, 2, 3), (2, 7, 70000), ()]), labelmap=st.booleans(), sagittal=st.booleans(),
    width=st.sampled_from([3, 7, 8]),
)  # fmt: skip
def test_reading_gives_back_what_was_written(
    seed: int, ids: tuple[int, ...], labelmap: bool, sagittal: bool, width: int, make_series: MakeSeries, tmp_path_factory: Any, monkeypatch: Any
) -> None:
    folder = tmp_path_factory.mktemp("a")
    make_series(folder / "ct", SCAN[:, :, :width], directions=AXES if sagittal else None)
    monkeypatch.setattr(dicom_write, "BINARY_BYTES", -1 if labelmap else 2**26)
    image, rng = read(folder / "ct"), np.random.default_rng(seed)
    labels = rng.choice([0, 0, *ids], image.shape).astype(np.uint32)
    labels[:, :, rng.integers(0, image.shape[2])] = 0
    found = labels_of(image, labels)
    path = write(found, folder / "a.dcm")
    back = read_segmentation(path)
    assert np.array_equal(back.labels, labels)
    assert (back.labels.dtype, back.classes, back.provenance, back.axes, back.units) == (labels.dtype, CLASSES, found.provenance, "zyx", image.units)
    assert back.segments.keys() == found.segments.keys()
    assert all(np.array_equal(back.segments[name], found.segments[name]) for name in found.segments)
    assert np.allclose(back.scale, image.scale, rtol=1e-12)
    assert np.allclose(back.translate, image.translate)
    assert np.allclose(back.affine, image.affine) if sagittal else back.affine is None
    theirs = strictly(path)
    assert theirs.segmentation_type.value == ("LABELMAP" if labelmap else "BINARY")
    assert theirs.number_of_segments == max(len(np.unique(labels[labels > 0])), 1)
    assert (read(path).axes, np.array_equal(read(path).data, labels), holds_labels(path)) == ("zyx", True, True)


@pytest.mark.parametrize("labelmap", [False, True])
def test_highdicom_finds_the_same_segments_in_the_same_slices(labelmap: bool, make_series: MakeSeries, tmp_path: Path, monkeypatch: Any) -> None:
    files = make_series(tmp_path / "ct", SCAN, order=(2, 0, 4, 1, 3))
    monkeypatch.setattr(dicom_write, "BINARY_BYTES", -1 if labelmap else 2**26)
    labels = RNG.choice([0, 1, 2, 5], SCAN.shape).astype(np.uint8)
    found = labels_of(read(tmp_path / "ct"), labels)
    theirs = strictly(write(found, tmp_path / "a.dcm"))
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    pixels = theirs.get_pixels_by_source_instance(uids, combine_segments=True, segment_numbers=[1, 2, 3])
    assert np.array_equal(np.array([0, 1, 2, 5])[pixels], labels)
    assert [(s.segment_label, s.algorithm_type.value) for s in map(theirs.get_segment_description, (1, 2, 3))] == [
        ("liver", "AUTOMATIC"), ("lesion 2", "AUTOMATIC"), ("lesion 5", "AUTOMATIC"),
    ]  # fmt: skip
    whole = theirs.get_volume(combine_segments=True)  # highdicom counts slices the other way
    assert np.array_equal(np.array([0, 1, 2, 5])[whole.array], labels[::-1])
    assert np.allclose(whole.affine[:3, 3], pydicom.dcmread(files[-1]).ImagePositionPatient)


@pytest.mark.parametrize("labelmap", [False, True])
def test_the_file_has_all_that_the_standard_wants(labelmap: bool, make_series: MakeSeries, tmp_path: Path, monkeypatch: Any) -> None:
    make_series(tmp_path / "ct", SCAN)
    monkeypatch.setattr(dicom_write, "BINARY_BYTES", -1 if labelmap else 2**26)
    data = pydicom.dcmread(write(labels_of(read(tmp_path / "ct"), (SCAN > 0).astype(np.uint8)), tmp_path / "a.dcm"))
    source = pydicom.dcmread(next((tmp_path / "ct").iterdir()))
    modules = get_iod_module_map()[get_sop_class_iod_map()[data.SOPClassUID]]
    wanted = [m["key"] for m in modules if m["usage"] == "M" or m["key"] in ("frame-of-reference", "common-instance-reference")]
    assert len(wanted) > 10
    for module in wanted:
        # Functional groups are there for all frames together or for each, which the check does not know.
        check_required_attributes(data, module, recursive="functional-groups" not in module)
    for name in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert data[name].value == source[name].value
    assert data.SeriesInstanceUID != source.SeriesInstanceUID
    # Nothing else of the patient: neither what the format does not ask for, nor in our record.
    assert {e.keyword for e in data if e.tag.group == 0x0010} == {"PatientName", "PatientID", "PatientBirthDate", "PatientSex"}


def test_names_in_any_letters(make_series: MakeSeries, tmp_path: Path) -> None:
    def change(header: Dataset, k: int) -> None:
        header.SpecificCharacterSet, header.PatientName = "ISO_IR 100", "Müller^Jürgen"

    make_series(tmp_path / "ct", SCAN, change=change)
    classes = (Class(1, "ήπαρ", countable=False),)
    path = write(labels_of(read(tmp_path / "ct"), (SCAN > 0).astype(np.uint8), classes=classes), tmp_path / "a.dcm")
    data = strictly(path)
    assert (str(data.PatientName), data.get_segment_description(1).segment_label) == ("Müller^Jürgen", "ήπαρ")


def test_a_series_without_names_of_its_own_has_a_segmentation_too(make_series: MakeSeries, tmp_path: Path) -> None:
    def change(header: Dataset, k: int) -> None:
        header.StudyInstanceUID = header.SeriesInstanceUID = header.PatientName = header.PatientID = ""

    make_series(tmp_path / "ct", SCAN, change=change)
    path = write(labels_of(read(tmp_path / "ct"), (SCAN > 0).astype(np.uint8)), tmp_path / "a.dcm")
    assert np.array_equal(read_segmentation(path).labels, SCAN > 0)
    assert strictly(path).StudyInstanceUID


def test_a_voxel_keeps_its_place_and_its_source(make_series: MakeSeries, tmp_path: Path) -> None:
    files = make_series(tmp_path / "ct", SCAN, directions=AXES)
    image = read(tmp_path / "ct")
    labels = np.zeros(image.shape, np.uint8)
    labels[2, 3, 4] = 1
    path = write(labels_of(image, labels), tmp_path / "a.dcm")
    world = (image.affine @ [2, 3, 4, 1])[:3][::-1]
    data = pydicom.dcmread(path)
    (frame,) = data.PerFrameFunctionalGroupsSequence
    ((row, column),) = np.argwhere(data.pixel_array.reshape(data.Rows, data.Columns))
    along = np.array(data.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient)
    down, right = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    at = np.array(frame.PlanePositionSequence[0].ImagePositionPatient) + along[:3] * right * column + along[3:] * down * row
    assert np.allclose(at, world)
    (named,) = frame.DerivationImageSequence[0].SourceImageSequence
    (source,) = [f for f in map(pydicom.dcmread, files) if f.SOPInstanceUID == named.ReferencedSOPInstanceUID]
    assert source.ImagePositionPatient == frame.PlanePositionSequence[0].ImagePositionPatient
    assert len(data.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 5
    (at_home,) = np.argwhere(read_segmentation(path).labels)
    assert at_home.tolist() == [2, 3, 4]


@pytest.mark.parametrize("flip", [(), (0,), (1, 2), (0, 1, 2)])
def test_labels_of_another_format_go_back_on_their_series(flip: tuple[int, ...], make_series: MakeSeries, tmp_path: Path) -> None:
    make_series(tmp_path / "ct", SCAN)
    labels = RNG.choice([0, 1, 4], SCAN.shape).astype(np.uint8)
    labels[0] = labels[-1] = 0
    lps = np.array([[0.8, 0, 0, -90.5], [0, 0.9, 0, 126.25], [0, 0, 3, -72.1], [0, 0, 0, 1]])
    # Without the empty slices at the ends, and along other directions, as other programs write them.
    part, lps[2, 3] = labels[1:-1].transpose(), lps[2, 3] + 3
    for axis in flip:
        lps[:3, 3] += lps[:3, axis] * (part.shape[axis] - 1)
        lps[:3, axis] *= -1
    nibabel.Nifti1Image(np.flip(part, flip), np.diag([-1.0, -1, 1, 1]) @ lps).to_filename(tmp_path / "labels.nii.gz")
    assert convert(tmp_path / "labels.nii.gz", tmp_path / "a.dcm", labels=True, series=tmp_path / "ct") == []
    back = read_segmentation(tmp_path / "a.dcm")
    assert np.array_equal(back.labels, labels)
    assert np.allclose(back.translate, read(tmp_path / "ct").translate)
    with pytest.raises(OutputError, match="no DICOM series is known that 'labels' belongs to"):
        convert(tmp_path / "labels.nii.gz", tmp_path / "b.dcm", labels=True)


def test_labels_that_are_not_of_the_series_are_refused(make_series: MakeSeries, tmp_path: Path) -> None:
    make_series(tmp_path / "ct", SCAN)
    make_series(tmp_path / "thin", SCAN, spacing=(0.8, 0.9, 1.0))
    make_series(tmp_path / "short", SCAN[:3])
    found = labels_of(read(tmp_path / "ct"), np.ones(SCAN.shape, np.uint8))
    for folder, complaint in (("thin", "do not lie on the voxels"), ("short", "84 of 210 labelled voxels lie outside")):
        with pytest.raises(OutputError, match=complaint):
            write(replace(found, provenance={"series": str(tmp_path / folder)}), tmp_path / "a.dcm")
    assert not (tmp_path / "a.dcm").exists()


def test_what_cannot_be_written_says_so_before_the_work(make_series: MakeSeries, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_series(tmp_path / "ct", SCAN)
    image = read(tmp_path / "ct")
    with pytest.raises(OutputError, match="only labels are written as DICOM"):
        write(image, tmp_path / "a.dcm")
    write(image, tmp_path / "ct.nrrd")
    assert cli.main(["segment", str(tmp_path / "ct.nrrd"), "--model", "otsu", "--out", str(tmp_path / "a.dcm"), "--progress", "none"]) == 1
    assert "is no DICOM series" in capsys.readouterr().err
    assert cli.main(["segment", str(tmp_path / "ct"), "--model", "otsu", "--out", str(tmp_path / "a.dcm"), "--progress", "none"]) == 0
    assert strictly(tmp_path / "a.dcm").get_segment_description(1).segment_label == "object 1"
    assert read_segmentation(tmp_path / "a.dcm").provenance["plan"]["options"]["model"] == "otsu"
    moments = make_series(tmp_path / "moving", SCAN[:4], change=moment)
    with pytest.raises(OutputError, match="has 2 moments"):
        write(labels_of(read(moments[0]), np.ones(read(moments[0]).shape, np.uint8)), tmp_path / "b.dcm")


def moment(header: Dataset, k: int) -> None:
    header.ImagePositionPatient, header.AcquisitionTime = [0, 0, k % 2], f"12000{k // 2}"


def theirs_of(folder: Path, masks: Any, kind: str, **more: Any) -> Path:
    """A segmentation that highdicom writes: masks (z, y, x, segments) or labels (z, y, x)."""
    sources = sorted((pydicom.dcmread(f) for f in folder.iterdir()), key=lambda s: s.ImagePositionPatient[2])
    for source in sources:
        source.AccessionNumber = source.StudyID = source.StudyDate = source.StudyTime = source.ReferringPhysicianName = ""
        source.PositionReferenceIndicator = ""
    segments = [
        highdicom.seg.SegmentDescription(k, f"organ {k}", codes.SCT.Organ, codes.SCT.Liver, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL)
        for k in range(1, more.pop("n") + 1)
    ]
    theirs = highdicom.seg.Segmentation(
        sources, masks, kind, segments, highdicom.UID(), 7, highdicom.UID(), 1, "maker", "model", "1", "2", omit_empty_frames=True, **more
    )
    theirs.save_as(folder.parent / "theirs.dcm")
    return folder.parent / "theirs.dcm"


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_what_highdicom_writes_is_read_with_its_names(kind: str, make_series: MakeSeries, tmp_path: Path) -> None:
    make_series(tmp_path / "ct", SCAN)
    labels = RNG.choice([0, 1, 2], SCAN.shape).astype(np.uint8)
    labels[0], labels[3] = 0, 0
    masks: Any = labels if kind != "FRACTIONAL" else np.stack([labels == 1, labels == 2], -1) * 0.6 + np.stack([labels == 2, labels == 1], -1) * 0.3
    path = theirs_of(tmp_path / "ct", masks, kind, n=2, **({"fractional_type": "PROBABILITY"} if kind == "FRACTIONAL" else {}))
    found = read_segmentation(path)
    assert [c.name for c in found.classes] == ["organ 1", "organ 2"]
    assert found.task == "semantic"
    assert found.segments["class_id"].tolist() == [1, 2]
    # The first slice holds nothing, and is known only from the series.
    assert np.array_equal(found.labels, labels[1:])
    assert any("more than half" in one for one in found.provenance["dicom"]["lost"]) == (kind == "FRACTIONAL")
    assert convert(path, tmp_path / "whole.nii.gz", series=tmp_path / "ct") == [f"lost: {one}" for one in found.provenance["dicom"]["lost"]]
    assert np.array_equal(read_segmentation(tmp_path / "whole.nii.gz").labels, labels)
    # Written again, it keeps its codes and what it refers to, even where the series is gone.
    again = pydicom.dcmread(write(found, tmp_path / "again.dcm"))
    before = pydicom.dcmread(path)
    told = {s.SegmentNumber: s.SegmentedPropertyTypeCodeSequence for s in before.SegmentSequence}  # in a label map the background is one too
    assert all(s.SegmentedPropertyTypeCodeSequence == told[s.SegmentNumber] for s in again.SegmentSequence)
    assert again.SegmentSequence[0].SegmentAlgorithmType == "MANUAL"
    named = {
        i.ReferencedSOPInstanceUID for frame in before.PerFrameFunctionalGroupsSequence for i in frame.DerivationImageSequence[0].SourceImageSequence
    }
    assert {i.ReferencedSOPInstanceUID for i in again.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == named
    assert np.array_equal(read_segmentation(tmp_path / "again.dcm").labels, found.labels)


def test_overlapping_segments_are_a_loss_that_is_named(make_series: MakeSeries, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_series(tmp_path / "ct", SCAN)
    masks = np.stack([SCAN > 0, SCAN > 500], -1)
    path = theirs_of(tmp_path / "ct", masks, "BINARY", n=2)
    both = int(np.count_nonzero(SCAN > 500))
    assert np.array_equal(read_segmentation(path).labels, (SCAN > 0).astype(int) + (SCAN > 500))
    for scene in (1, "organ 1"):
        assert np.array_equal(read_segmentation(path, scene=scene).labels, SCAN > 0)
    assert np.array_equal(read(path, scene="organ 2").data, 2 * (SCAN > 500))
    assert cli.main(["convert", str(path), str(tmp_path / "a.nrrd")]) == 0
    assert f"lost: segments overlap in {both} voxels (1 'organ 1' and 2 'organ 2' in {both})" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"has no segment 'spleen'\. Needed: one of 1: organ 1, 2: organ 2"):
        read_segmentation(path, scene="spleen")


def test_segmentations_are_no_images_and_images_no_segmentations(make_series: MakeSeries, tmp_path: Path) -> None:
    files = make_series(tmp_path / "ct", SCAN)
    (tmp_path / "labels").mkdir()
    path = write(labels_of(read(tmp_path / "ct"), (SCAN > 0).astype(np.uint8)), tmp_path / "labels" / "a_labels.dcm")
    assert list_inputs([path]) == [path]
    with pytest.raises(InputError, match="holds no image"):
        list_inputs([tmp_path / "labels"])
    path.rename(tmp_path / "ct" / "a.dcm")
    assert np.array_equal(read(tmp_path / "ct").data, SCAN)
    assert np.array_equal(read(files[0]).data, SCAN)
    with pytest.raises(InputError, match="holds an image, and no labels"):
        read_segmentation(tmp_path / "ct")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: setattr(d, "SegmentationType", "OTHER"), "is of type 'OTHER'"),
        (lambda d: setattr(d, "NumberOfFrames", 99), "declares 99.* frames and describes 5"),
        (lambda d: d.SegmentSequence.clear(), "show segment 1, which it does not describe"),
        (lambda d: d.PerFrameFunctionalGroupsSequence[1].__delattr__("PlanePositionSequence"), "(?i)frame 2 .* does not say where it lies"),
        (lambda d: d.SharedFunctionalGroupsSequence[0].__delattr__("PixelMeasuresSequence"), "does not say where in the patient"),
        (lambda d: setattr(d, "PixelData", b"\0\0"), "cannot be read"),
        (lambda d: d.__delitem__((0x0099, 0x1001)), None),
    ],
)
def test_damaged_segmentations_say_why(change: Any, complaint: str | None, make_series: MakeSeries, tmp_path: Path) -> None:
    make_series(tmp_path / "ct", SCAN)
    path = write(labels_of(read(tmp_path / "ct"), np.ones(SCAN.shape, np.uint8)), tmp_path / "a.dcm")
    data = pydicom.dcmread(path)
    change(data)
    data.save_as(path)
    if complaint is None:
        assert [(c.id, c.name) for c in read_segmentation(path).classes] == [(1, "liver")]
        return
    with pytest.raises(InputError, match=complaint):
        read_segmentation(path)


@given(color=st.tuples(*[st.integers(0, 255)] * 3))
def test_colours_come_back(color: tuple[int, int, int]) -> None:
    assert rgb_of(lab_of(color)) == color


def test_files_of_dcmqi_are_what_their_nrrds_hold(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "dicom_seg_dcmqi"
    for name, truth in (
        ("liver.dcm", "liver_seg"),
        ("sparse-labelmap-noppv.dcm", "sparse_labelmap_noppv_seg"),
        ("23x38x3/seg/label.seg", "23x38x3/nrrd/label"),
    ):
        found, (data, header) = read_segmentation(folder / name), nrrd.read(str(folder / f"{truth}.nrrd"))
        assert np.array_equal(found.labels, data.T)
        assert np.allclose(found.translate[::-1], header["space origin"], atol=1e-4)
    liver = read_segmentation(folder / "liver.dcm")
    assert np.count_nonzero(liver.labels) == 107_098
    assert (liver.classes[0].name, liver.classes[0].color) == ("Liver", (221, 130, 101))
    padded, (data, _) = read_segmentation(folder / "sparse-labelmap-ppv5.dcm"), nrrd.read(str(folder / "sparse_labelmap_ppv5_seg.nrrd"))
    assert np.array_equal(padded.labels, data.T % 5)  # where nothing is said, the padding is 5 there
    overlaps = [read_segmentation(folder / "partial_overlaps.dcm", scene=k).labels for k in range(1, 6)]
    parts = [nrrd.read(str(folder / f"partial_overlaps-{k}.nrrd"))[0].T for k in (1, 2, 3)]
    assert [np.count_nonzero(one) for one in overlaps] == [np.count_nonzero(parts[p] == k) for p, k in ((0, 1), (1, 2), (2, 3), (0, 4), (0, 5))]
    assert convert(folder / "liver.dcm", tmp_path / "a.dcm", series=folder / "ct-3slice") == []
    assert np.count_nonzero(strictly(tmp_path / "a.dcm").pixel_array) == 107_098


def test_organs_of_a_real_scan_go_there_and_back(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ct_totalsegmentator"
    theirs = nibabel.load(folder / "dicom_seg_model.nii.gz")
    convert(folder / "dicom_seg_model.nii.gz", tmp_path / "a.dcm", labels=True, series=folder / "dicom_jpeg2000")
    convert(tmp_path / "a.dcm", tmp_path / "b.nii.gz")
    ours = nibabel.load(tmp_path / "b.nii.gz")
    both = [nibabel.as_closest_canonical(one) for one in (theirs, ours)]
    assert np.array_equal(*(np.asarray(one.dataobj) for one in both))
    assert np.allclose(both[0].affine, both[1].affine, atol=1e-3)
    assert strictly(tmp_path / "a.dcm").number_of_segments == 31


def test_segments_are_converted_one_by_one_and_segmented_never(make_series: MakeSeries, segsuite: Callable[..., Any], tmp_path: Path) -> None:
    make_series(tmp_path / "ct", SCAN)
    path = theirs_of(tmp_path / "ct", np.stack([SCAN > 0, SCAN > 500], -1), "BINARY", n=2)
    told = segsuite("convert", path, tmp_path / "out", "--scene", "all", "--format", "nrrd")
    assert (told.code, told.err) == (0, "")
    for name, mask in (("organ-1", SCAN > 0), ("organ-2", SCAN > 500)):
        assert np.array_equal(read_segmentation(tmp_path / "out" / f"theirs_{name}.nrrd").labels > 0, mask)
    told = segsuite("segment", path, "--scene", "all", "--model", "otsu", "--out", tmp_path / "out")
    assert told.err.startswith("segsuite: 1 failed:")
