"""The series that labels belong to: what a DICOM segmentation has to say of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.errors import OutputError
from napari_segsuite.io import dicom, dicom_peek, dicom_segments
from napari_segsuite.io.dicom_headers import header_of, pydicom_reading
from napari_segsuite.io.dicom_planes import tell_apart
from napari_segsuite.io.dicom_stack import stacked
from napari_segsuite.io.inputs import source_of
from napari_segsuite.io.volume import origin_of, planned
from napari_segsuite.io.world import Grid
from napari_segsuite.types import Image, Segmentation

COPIED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientIdentityRemoved", "DeidentificationMethod", "StudyInstanceUID",
    "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber", "FrameOfReferenceUID", "PositionReferenceIndicator",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip
"""What is taken over of the series: what the modules Patient, General Study and Frame of Reference want, and whether pixels were ever lossy."""


@dataclass(frozen=True)
class Source:
    """The series that labels belong to.

    Attributes
    ----------
    path : Path
    header : Dataset
        Of one of its files.
    series : str
        Its UID.
    grid : Grid
        Its matrix takes column, row and slice to millimetres.
    shape : (int, int, int)
        Columns, rows, slices.
    positions : tuple of tuple of float
        Of the slices, as their files have them.
    references : tuple of tuple
        Per slice the image that it is: class UID, instance UID, frame number from 1 (0 in a file of one frame); empty where it is not known.
    thickness : float
        Of a slice, or from one to the next.
    """

    path: Path
    header: Any
    series: str
    grid: Grid
    shape: tuple[int, int, int]
    positions: tuple[tuple[float, ...], ...]
    references: tuple[tuple[Any, ...], ...]
    thickness: float


def check_source(image: Image, path: Path) -> None:
    """Complain now, and not after the work, when labels of this image could not be written as a segmentation.

    Raises
    ------
    OutputError
    """
    if not image.source or source_of(Path(image.source)) != "dicom":
        raise OutputError(f"{path} would be a DICOM segmentation, and {image.source or image.name} is no DICOM series", "another --out, as .nii.gz")
    _source(Path(image.source))


def source_for(segmentation: Segmentation, path: Path) -> Source:
    """The series that labels were made from: where their provenance says so, and it is still there.

    Raises
    ------
    OutputError
        There is none.
    """
    told = segmentation.provenance
    named = told.get("series"), origin_of(segmentation), planned(told), (told.get("dicom") or {}).get("source")
    for one in named:
        where = Path(one) if one else None
        if where is not None and "\0" not in str(one) and where.exists() and source_of(where) == "dicom":
            return _source(where)
    do = "Say which with: segsuite convert LABELS OUT.dcm --series FOLDER."
    raise OutputError(f"{path} would be a DICOM segmentation, and no DICOM series is known that {segmentation.name!r} belongs to", "a series", do)


def _source(path: Path) -> Source:
    if path.is_file() and dicom_peek.is_segmentation(path):
        with pydicom_reading(path):
            return _same_as(path)
    series = dicom.series_of(path)
    stack = stacked(series, path)
    frames = stack.frames[0]
    if len(stack.frames) > 1 or not stack.placed:
        what = f"has {len(stack.frames)} moments" if stack.placed else "does not say where in the patient it lies"
        raise OutputError(f"the series in {path} {what}, and a DICOM segmentation is of one volume", "another format, as .ome.zarr or .tif")
    known = tell_apart(frames)
    references = tuple((f.file.kind, f.file.instance, f.index + 1 if f.file.count > 1 else 0) if known else () for f in frames)
    first = frames[0].file
    positions = tuple(tuple(f.position or ()) for f in frames)
    step = float(np.linalg.norm(stack.grid.matrix[:3, 2]))
    header = header_of(first.path, COPIED)
    return Source(path, header, first.series, stack.grid, (first.columns, first.rows, len(frames)), positions, references, step)


def _same_as(path: Path) -> Source:
    """What a segmentation refers to, for another one of the same series."""
    found = dicom_segments.planes_in(path)
    matrix = found.grid.matrix
    positions = [tuple((matrix[:3, 3] + k * matrix[:3, 2]).tolist()) for k in range(found.shape[2])]
    references: list[tuple[Any, ...]] = [()] * found.shape[2]
    frames = found.header.PerFrameFunctionalGroupsSequence
    for plane in found.planes:
        k = found.slice_of(plane)
        positions[k] = plane.position
        for derived in frames[plane.index].get("DerivationImageSequence") or ():
            for image in derived.get("SourceImageSequence") or ():
                number = image.get("ReferencedFrameNumber") or 0
                references[k] = (str(image.ReferencedSOPClassUID), str(image.ReferencedSOPInstanceUID), int(number))
    listed = found.header.get("ReferencedSeriesSequence")
    series = str(listed[0].SeriesInstanceUID) if listed else ""
    step = float(np.linalg.norm(matrix[:3, 2]))
    return Source(path, found.header, series, found.grid, found.shape, tuple(positions), tuple(references), step)
