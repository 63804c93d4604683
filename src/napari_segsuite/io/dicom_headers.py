"""The headers of DICOM files: what they say of each frame, without the pixels, and without who the patient is.

A file of one slice and a multi-frame file end up the same: as frames, each with its position, scaling and times.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.errors import InputError, MissingExtra
from napari_segsuite.io.dicom_peek import DIRECTORY, SEGMENTATIONS, class_of
from napari_segsuite.io.dicom_values import numbers, times_of
from napari_segsuite.io.faults import AGAIN, reading

TAGS = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality", "Rows", "Columns", "NumberOfFrames",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope",
    "RescaleIntercept", "ModalityLUTSequence", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing",
    "SliceThickness", "SpacingBetweenSlices", "FrameTime", "TemporalPositionIdentifier", "TriggerTime", "AcquisitionDate", "AcquisitionTime",
    "AcquisitionDateTime", "EchoNumbers", "EchoTime", "ImageType", "AcquisitionNumber", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "GridFrameOffsetVector", "DoseGridScaling",
)  # fmt: skip
"""What is read of a header."""

TRAITS = ("StackID", "EchoNumbers", "EchoTime", "ImageType", "AcquisitionNumber")
"""What slices at one position differ in, where they are not moments of one."""

MOST_FRAMES = 10**6
_QUIET = logging.NullHandler()
_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence", "ImageOrientationPatient": "PlaneOrientationSequence", "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence", "SpacingBetweenSlices": "PixelMeasuresSequence", "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence", "StackID": "FrameContentSequence", "TemporalPositionIndex": "FrameContentSequence",
    "FrameAcquisitionDateTime": "FrameContentSequence", "FrameReferenceDateTime": "FrameContentSequence", "EffectiveEchoTime": "MREchoSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
}  # fmt: skip
"""Where multi-frame files keep what others have at the top."""


@dataclass(frozen=True)
class File:
    """What a DICOM file says of all its frames.

    Attributes
    ----------
    path : Path
    kind, instance, series : str
        Storage class, SOP instance UID and series instance UID.
    number : int
        Of the series.
    description, modality, photometric : str
    rows, columns, samples, count : int
        Size of a frame, samples per pixel, and frames.
    allocated, stored, high : int
        Bits of a sample.
    signed : bool
    frame_time : float or None
        Milliseconds from one frame to the next.
    syntax : str
        UID of the encoding; empty where the file does not say.
    """

    path: Path
    kind: str
    instance: str
    series: str
    number: int
    description: str
    modality: str
    photometric: str
    rows: int
    columns: int
    samples: int
    count: int
    allocated: int
    stored: int
    high: int
    signed: bool
    frame_time: float | None = None
    syntax: str = ""


@dataclass(frozen=True)
class Frame:
    """One plane of pixels, and where it lies.

    Attributes
    ----------
    file : File
    index : int
        Which of its frames, from 0.
    position : (3,) tuple or None
        Of the first pixel's centre: x, y, z (LPS), in millimetres.
    orientation : (6,) tuple or None
        Directions along which columns and rows are counted.
    spacing : (float, float) or None
        From row to row, and from column to column, in millimetres.
    thickness : float or None
        From slice to slice as the header says; of the slice where it does not.
    slope, inter : float
    times : mapping
        Moments by the name of the attribute that gives them, in seconds; of ``TemporalPositionIdentifier`` the number.
    traits : mapping
        See `TRAITS`.
    """

    file: File
    index: int
    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, ...] | None = None
    thickness: float | None = None
    slope: float = 1.0
    inter: float = 0.0
    times: Mapping[str, float] = field(default_factory=dict)
    traits: Mapping[str, str] = field(default_factory=dict)

    @property
    def placed(self) -> bool:
        """Whether the file says where in the patient it lies."""
        return self.position is not None and self.orientation is not None


def frames_of(path: Path) -> tuple[Frame, ...]:
    """The frames of a file; empty for what is DICOM and no image, or a segmentation.

    Raises
    ------
    InputError
        It is missing, damaged, or no DICOM file.
    MissingExtra
    """
    with reading(path):
        told = path.stat()
    return _frames(path, told.st_mtime_ns, told.st_size)


@lru_cache(maxsize=20_000)
def _frames(path: Path, changed: int, size: int) -> tuple[Frame, ...]:
    """The same, once for a file that does not change: the files of a series are asked for one by one."""
    kind = class_of(path)
    if kind in (*SEGMENTATIONS, DIRECTORY):
        return ()
    with pydicom_reading(path):
        data = header_of(path, TAGS)
        if not all(data.get(name) for name in ("Rows", "Columns", "BitsAllocated")):
            _check_whole(path, kind or str(data.get("SOPClassUID") or ""))
            return ()
        return tuple(_framed(_file(path, data), data, size))


def _check_whole(path: Path, kind: str) -> None:
    """Refuse what should be an image and has no rows and columns: its header was cut off, and a series must not lose a slice by that."""
    import pydicom

    name = str(pydicom.uid.UID(kind).name)
    if not kind or name.endswith("Image Storage"):
        raise InputError(f"the header of {path} ends before it says how large the picture is ({name or 'of an unknown kind'})", do=AGAIN)


def header_of(path: Path, tags: tuple[str, ...] | None = None) -> Any:
    """The header of a file, without the pixels; only the named attributes where they are named."""
    import pydicom

    with pydicom_reading(path):
        forced = class_of(path) is None
        data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags) if tags else None, force=forced)
        if forced and not data.get("SOPClassUID"):
            raise InputError(f"file {path} does not begin like a DICOM file", "'DICM' at byte 128, or a header that says what it is", AGAIN)
        return data


def kind_of(path: Path) -> str:
    """What a DICOM file is, in words."""
    with pydicom_reading(path):
        told = header_of(path, ("SOPClassUID",)).get("SOPClassUID")
        name = str(getattr(told, "name", ""))
        return name if name and name != told else "something unknown"


@contextmanager
def pydicom_reading(path: Path, part: str = "") -> Iterator[None]:
    """Turn what pydicom raises into an `InputError`, and keep it from warning of the same."""
    try:
        from pydicom.errors import BytesLengthException, InvalidDicomError
    except ImportError as error:
        raise MissingExtra(f"reading and writing DICOM ({path.name})", "medical") from error
    logging.getLogger("pydicom").addHandler(_QUIET)  # where nobody else listens, Python would print what it logs
    with reading(path, part), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (BytesLengthException, InvalidDicomError, NotImplementedError) as error:
            told = str(error).partition("\n")[0][:200]
            raise InputError(f"file {path} cannot be read as DICOM: {told}", do=AGAIN) from error


def _file(path: Path, data: Any) -> File:
    def number(name: str, default: int) -> int:
        found = numbers(data, name, 1, path)
        return default if found is None else int(found[0])

    stored = number("BitsStored", number("BitsAllocated", 8))
    frame_time = numbers(data, "FrameTime", 1, path)
    return File(
        path, _uid(data, "SOPClassUID"), _uid(data, "SOPInstanceUID"), str(data.get("SeriesInstanceUID") or ""),
        number("SeriesNumber", 0), str(data.get("SeriesDescription") or "").strip(), str(data.get("Modality") or ""),
        str(data.get("PhotometricInterpretation") or "MONOCHROME2"), number("Rows", 0), number("Columns", 0), number("SamplesPerPixel", 1),
        max(number("NumberOfFrames", 1), 1), number("BitsAllocated", 8), stored, number("HighBit", stored - 1),
        bool(number("PixelRepresentation", 0)), frame_time[0] if frame_time else None, str(data.file_meta.get("TransferSyntaxUID", "")),
    )  # fmt: skip


def _uid(data: Any, name: str) -> str:
    """What a file is or is called; programs that take out names blank it in the header, and leave it in front of that."""
    return str(data.get(name) or data.file_meta.get(f"MediaStorage{name}") or "")


def _framed(file: File, data: Any, size: int) -> Iterator[Frame]:
    """The frames of a file, each by its functional groups, then those that all share, then the top of the header."""
    if data.get("ModalityLUTSequence"):
        raise InputError(f"the values of {file.path} are to be looked up in a table (ModalityLUTSequence)", "a slope and an intercept")
    least = file.count * 8 if file.count > 1 else 0  # even what is compressed needs a header per frame
    if file.count > MOST_FRAMES or least > size:
        raise InputError(f"file {file.path} declares {file.count} frames and has {size} bytes", do=AGAIN)
    per_frame, shared = data.get("PerFrameFunctionalGroupsSequence") or (), (data.get("SharedFunctionalGroupsSequence") or [{}])[0]
    if per_frame and len(per_frame) != file.count:
        raise InputError(f"file {file.path} declares {file.count} frames and describes {len(per_frame)}", do=AGAIN)
    offsets = data.get("GridFrameOffsetVector")
    for k in range(file.count):
        known = _Known((per_frame[k] if per_frame else {}, shared), data)
        frame = _frame(file, k, known)
        yield frame if "DoseGridScaling" not in data else _of_dose(frame, data, offsets)


class _Known:
    """The attributes of one frame, wherever they stand."""

    def __init__(self, groups: tuple[Any, ...], data: Any) -> None:
        self._groups, self._data = groups, data

    def get(self, name: str) -> Any:
        """The value of an attribute; None where there is none."""
        for group in self._groups:
            items = group.get(_GROUPS.get(name, "")) if name in _GROUPS else None
            if items and items[0].get(name) is not None:
                return items[0].get(name)
        return self._data.get(name)


def _frame(file: File, index: int, known: _Known) -> Frame:
    def one(name: str) -> float | None:
        found = numbers(known, name, 1, file.path)
        return found[0] if found else None

    slope, inter = one("RescaleSlope"), one("RescaleIntercept")
    if slope == 0:
        raise InputError(f"the attribute RescaleSlope of {file.path} is 0", "a number by which values are multiplied", AGAIN)
    return Frame(
        file, index,
        numbers(known, "ImagePositionPatient", 3, file.path), numbers(known, "ImageOrientationPatient", 6, file.path),
        numbers(known, "PixelSpacing", 2, file.path) or numbers(known, "ImagerPixelSpacing", 2, file.path),
        one("SpacingBetweenSlices") or one("SliceThickness"), 1.0 if slope is None else slope, inter or 0.0, times_of(known, file.path),
        {name: str(value) for name in TRAITS if (value := known.get(name)) not in (None, "")} | _echo(known),
    )  # fmt: skip


def _echo(known: _Known) -> dict[str, str]:
    found = known.get("EffectiveEchoTime")
    return {} if found is None else {"EchoTime": str(found)}


def _of_dose(frame: Frame, data: Any, offsets: Any) -> Frame:
    """A plane of a dose, whose planes are counted from the first along the normal, and whose values have a factor of their own."""
    scaling = numbers(data, "DoseGridScaling", 1, frame.file.path)
    told = [float(v) for v in offsets] if frame.file.count > 1 and hasattr(offsets, "__iter__") else [0.0]
    if frame.position is None or frame.orientation is None or len(told) != frame.file.count:
        raise InputError(f"the planes of the dose in {frame.file.path} have no positions", do=AGAIN)
    normal = np.cross(frame.orientation[:3], frame.orientation[3:])
    at = np.array(frame.position) + normal * (told[frame.index] - told[0])
    return replace(frame, position=tuple(at.tolist()), slope=scaling[0] if scaling else 1.0)
