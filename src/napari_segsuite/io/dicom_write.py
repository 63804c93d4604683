"""Writing DICOM segmentations of the series that labels were made from; images are not written.

Who the patient is and which study it was is copied from the series, since the format wants it: without it the file could not lie beside the
series in an archive. Nothing else of a header is taken over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite._version import __version__
from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io import dicom_peek, dicom_segments
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.dicom_grid import laid_on
from napari_segsuite.io.dicom_headers import pydicom_reading
from napari_segsuite.io.dicom_source import COPIED, Source, source_for
from napari_segsuite.io.record import KEY, pack, segmentation_record
from napari_segsuite.types import Class, Image, Segmentation

BINARY_BYTES = 2**26
"""Segments whose frames need more than this are written as a label map: one frame per slice, however many segments there are."""

MOST_SEGMENTS = 2**16 - 1
_TEXTS = ("LO", "PN", "SH")
_TISSUE = ("85756007", "SCT", "Tissue")


def write_image(image: Image, path: Path, *, overwrite: bool) -> None:
    """Refuse: an image with a header of our making would not be what a scanner said.

    Raises
    ------
    OutputError
    """
    raise OutputError(f"{path} would be an image, and only labels are written as DICOM", "a path ending in .nii.gz, .nrrd or .mha for images")


def write_segmentation(segmentation: Segmentation, path: Path, *, overwrite: bool) -> None:
    """Write labels as a DICOM segmentation that refers to its series; with table and provenance in a private element."""
    if path.suffix.lower() != ".dcm":
        raise OutputError(f"DICOM segmentations are not written to {path.suffix} files", "a path ending in .dcm")
    source = source_for(segmentation, path)
    try:
        stored = laid_on(segmentation, source.grid, source.shape, source.path)
    except InputError as error:
        raise OutputError(error.found, error.needed, error.do) from error
    ids = [int(i) for i in np.unique(stored).tolist() if i]
    if len(ids) > MOST_SEGMENTS:
        raise OutputError(
            f"there are {len(ids)} segments in {segmentation.name!r}", f"at most {MOST_SEGMENTS}, as DICOM counts them", "Write .nii.gz."
        )
    numbered = np.searchsorted(np.array([0, *ids], stored.dtype), stored).astype(np.uint16)
    with pydicom_reading(source.path):
        data = _header(source, segmentation, ids)
    shown = _shown(numbered)
    frame_bytes = -(-source.shape[0] * source.shape[1] // 8)
    labelmap = len(shown) * frame_bytes > BINARY_BYTES
    _describe(data, source, shown, labelmap=labelmap)
    data.PixelData = _label_bytes(numbered, shown) if labelmap else _bits(numbered, shown)
    matrix = source.grid.matrix
    grid = {"first": matrix[:3, 3].tolist(), "step": matrix[:3, 2].tolist(), "slices": source.shape[2]}
    record = {**segmentation_record(segmentation), "ids": ids, "dtype": np.dtype(segmentation.labels.dtype).name, **grid}
    block = data.private_block(dicom_segments.PRIVATE[0], KEY, create=True)
    packed = pack(record)
    block.add_new(dicom_segments.PRIVATE[1], "OB", packed + b"\0" * (len(packed) % 2))
    with replacing(path, overwrite=overwrite) as part:
        data.save_as(part, enforce_file_format=True)


def _shown(numbered: NDArray[np.uint16]) -> list[tuple[int, int]]:
    """Which segment is to be seen in which slice, by segment; an empty result has an empty frame, since a file needs one."""
    pairs = [(int(number), k) for k in range(numbered.shape[2]) for number in np.unique(numbered[:, :, k]) if number]
    return sorted(pairs) or [(1, 0)]


def _bits(numbered: NDArray[np.uint16], shown: Sequence[tuple[int, int]]) -> bytes:
    """One bit per pixel and frame, one frame after the other without a gap; eight frames at a time, since these end with a whole byte."""
    packed = (
        np.packbits(np.concatenate([(numbered[:, :, k] == number).transpose().ravel() for number, k in some]), bitorder="little").tobytes()
        for some in (shown[at : at + 8] for at in range(0, len(shown), 8))
    )
    return _even(b"".join(packed))


def _label_bytes(numbered: NDArray[np.uint16], shown: Sequence[tuple[int, int]]) -> bytes:
    """The numbers of the segments, slice by slice."""
    wide: Any = np.uint8 if numbered.max() < 256 else "<u2"
    return _even(b"".join(numbered[:, :, k].transpose().astype(wide).tobytes() for k in sorted({k for _, k in shown})))


def _even(packed: bytes) -> bytes:
    return packed + b"\0" * (len(packed) % 2)


def _header(source: Source, segmentation: Segmentation, ids: Sequence[int]) -> Any:
    """Everything but the frames."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    data, now = Dataset(), datetime.now()
    data.SpecificCharacterSet = "ISO_IR 192"  # whatever the series is written in, names of classes may be in any letters
    for name in COPIED:
        if name in source.header:
            found = source.header[name]
            setattr(data, name, str(found.value or "") if found.VR in _TEXTS else found.value)
    for name in (*COPIED[:4], "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber", "PositionReferenceIndicator"):
        if name not in data:
            setattr(data, name, "")
    for name in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if not data.get(name):
            setattr(data, name, generate_uid(None))
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPInstanceUID, data.SeriesInstanceUID = generate_uid(None), generate_uid(None)
    data.Modality, data.SeriesNumber, data.InstanceNumber, data.SeriesDescription = "SEG", 1000, 1, "Segmentation"
    data.Manufacturer, data.ManufacturerModelName, data.DeviceSerialNumber, data.SoftwareVersions = KEY, KEY, "0", __version__
    data.SeriesDate = data.ContentDate = now.strftime("%Y%m%d")
    data.SeriesTime = data.ContentTime = now.strftime("%H%M%S")
    data.ContentLabel, data.ContentDescription, data.ContentCreatorName = "SEGMENTATION", "Segmentation", ""
    data.ImageType, data.SegmentsOverlap = ["DERIVED", "PRIMARY"], "NO"
    data.SegmentSequence = _segments(segmentation, ids)
    data.BurnedInAnnotation = "NO"
    data.LossyImageCompression = data.get("LossyImageCompression") or "00"
    return data


def _segments(segmentation: Segmentation, ids: Sequence[int]) -> list[Any]:
    """One item per label: named after its class, and if this is countable with its id."""
    from pydicom.dataset import Dataset

    classes = {c.id: c for c in segmentation.classes}
    table = segmentation.segments
    class_of = dict(zip(map(int, table["id"]), map(int, table.get("class_id", table["id"])), strict=True))
    first = segmentation.classes[0] if segmentation.classes else Class(1, "object")
    told = (segmentation.provenance.get("dicom") or {}).get("segments") or {}
    plan = segmentation.provenance.get("plan")
    model = str(((plan or {}).get("model") or {}).get("name") or "")
    items = []
    for number, label in enumerate(ids or [0], 1):
        kind = classes.get(class_of.get(label, 0), first)
        known: Mapping[str, Any] = told.get(str(kind.id), {})
        item = Dataset()
        item.SegmentNumber = number
        item.SegmentLabel = f"{kind.name} {label}"[:64] if kind.countable else kind.name[:64]
        algorithm = known.get("algorithm") or (["AUTOMATIC", model] if model else ["SEMIAUTOMATIC", "not known"])
        item.SegmentAlgorithmType = algorithm[0] or "SEMIAUTOMATIC"
        if item.SegmentAlgorithmType != "MANUAL":
            item.SegmentAlgorithmName = (algorithm[1] or "not known")[:64]
        item.SegmentedPropertyCategoryCodeSequence = [_code(known.get("category") or _TISSUE)]
        item.SegmentedPropertyTypeCodeSequence = [_code(known.get("type") or _TISSUE)]
        item.RecommendedDisplayCIELabValue = dicom_segments.lab_of(kind.color)
        items.append(item)
    return items


def _describe(data: Any, source: Source, shown: Sequence[tuple[int, int]], *, labelmap: bool) -> None:
    """The frames of the file: what they are of, where they lie, and which images they were made from."""
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    deep = labelmap and len(data.SegmentSequence) > 255
    data.SOPClassUID = _class_of(labelmap=labelmap)
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    data.SegmentationType = "LABELMAP" if labelmap else "BINARY"
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = (16 if deep else 8) if labelmap else 1
    data.HighBit = data.BitsStored - 1
    data.Columns, data.Rows = source.shape[:2]
    organization = _item(DimensionOrganizationUID=generate_uid(None))
    data.DimensionOrganizationSequence = [organization]
    pointers = [] if labelmap else [(0x0062000B, 0x0062000A)]
    data.DimensionIndexSequence = [
        _item(DimensionOrganizationUID=organization.DimensionOrganizationUID, DimensionIndexPointer=tag, FunctionalGroupPointer=group)
        for tag, group in [*pointers, (0x00200032, 0x00209113)]
    ]
    matrix = source.grid.matrix
    edges = np.linalg.norm(matrix[:3, :2], axis=0)
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=_ds(*(matrix[:3, :2] / edges).transpose().ravel()))]
    distance = _ds(source.thickness)[0]
    shared.PixelMeasuresSequence = [_item(PixelSpacing=_ds(edges[1], edges[0]), SliceThickness=distance, SpacingBetweenSlices=distance)]
    data.SharedFunctionalGroupsSequence = [shared]
    frames = [(None, k) for k in sorted({k for _, k in shown})] if labelmap else shown
    data.NumberOfFrames = len(frames)
    data.PerFrameFunctionalGroupsSequence = [_frame(source, number, k) for number, k in frames]
    instances = list(dict.fromkeys(r[:2] for r in source.references if r))
    if instances and source.series:
        items = [_item(ReferencedSOPClassUID=kind, ReferencedSOPInstanceUID=uid) for kind, uid in instances]
        data.ReferencedSeriesSequence = [_item(SeriesInstanceUID=source.series, ReferencedInstanceSequence=items)]


def _class_of(*, labelmap: bool) -> str:
    """The storage class of a segmentation."""
    return dicom_peek.SEGMENTATIONS[labelmap]


def _frame(source: Source, number: int | None, k: int) -> Any:
    """What is said of one frame; `number` is None where it shows all segments."""
    frame = _item(
        FrameContentSequence=[_item(DimensionIndexValues=[k + 1] if number is None else [number, k + 1])],
        PlanePositionSequence=[_item(ImagePositionPatient=_ds(*source.positions[k]))],
    )
    if number is not None:
        frame.SegmentIdentificationSequence = [_item(ReferencedSegmentNumber=number)]
    if source.references[k]:
        kind, uid, index = source.references[k]
        purpose = [_code(("121322", "DCM", "Source image for image processing operation"))]
        image = _item(ReferencedSOPClassUID=kind, ReferencedSOPInstanceUID=uid, PurposeOfReferenceCodeSequence=purpose)
        image.SpatialLocationsPreserved = "YES"
        if index:
            image.ReferencedFrameNumber = index
        derivation = [_code(("113076", "DCM", "Segmentation"))]
        frame.DerivationImageSequence = [_item(SourceImageSequence=[image], DerivationCodeSequence=derivation)]
    return frame


def _item(**attributes: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    return item


def _code(told: Sequence[str]) -> Any:
    value, scheme, meaning = told
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _ds(*values: float) -> list[Any]:
    """Numbers as decimal strings, which have at most 16 characters."""
    from pydicom.valuerep import DSfloat

    return [DSfloat(float(v) + 0.0, auto_format=True) for v in values]
