"""What a DICOM segmentation says of its segments and planes, before its pixels are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.dicom_headers import header_of, pydicom_reading
from napari_segsuite.io.dicom_values import numbers
from napari_segsuite.io.faults import AGAIN
from napari_segsuite.io.record import KEY, unpack
from napari_segsuite.io.world import Grid

PRIVATE = (0x0099, 0x01)
"""Group and element of our record."""

ON_GRID = 0.05
"""Share of the distance between slices by which a plane may be away from its place."""

MOST_SLICES = 2**16
_CODES = {"category": "SegmentedPropertyCategoryCodeSequence", "type": "SegmentedPropertyTypeCodeSequence"}


@dataclass(frozen=True)
class Segment:
    """One of the things that a file tells apart.

    Attributes
    ----------
    number : int
    label : str
    color : tuple of int
    told : mapping
        What else is said of it and kept: codes of ``category`` and ``type`` (value, scheme, meaning), ``algorithm`` (type, name).
    """

    number: int
    label: str
    color: tuple[int, int, int]
    told: Mapping[str, Any]


@dataclass(frozen=True)
class Plane:
    """A frame: what it shows (None: numbers of segments), and where it lies."""

    index: int
    segment: int | None
    position: tuple[float, ...]


@dataclass(frozen=True)
class Planes:
    """A segmentation without its pixels.

    Attributes
    ----------
    path : Path
    header : Dataset
    kind : str
        ``BINARY``, ``FRACTIONAL`` or ``LABELMAP``.
    segments : mapping of number to Segment
    planes : tuple of Plane
    grid : Grid
        Its matrix takes column, row and slice to millimetres.
    shape : (int, int, int)
        Columns, rows, slices.
    record : mapping
        Ours; empty in the files of others.
    """

    path: Path
    header: Any
    kind: str
    segments: Mapping[int, Segment]
    planes: tuple[Plane, ...]
    grid: Grid
    shape: tuple[int, int, int]
    record: Mapping[str, Any]

    def slice_of(self, plane: Plane) -> int:
        """The slice that a plane is."""
        matrix = self.grid.matrix[:3]
        return round(float(np.linalg.solve(matrix[:, :3], np.array(plane.position) - matrix[:, 3])[2]))


def planes_in(path: Path) -> Planes:
    """What a segmentation says of itself, without its pixels.

    Raises
    ------
    InputError
    """
    with pydicom_reading(path):
        data = header_of(path)
        kind = str(data.get("SegmentationType") or "")
        if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
            raise InputError(f"the segmentation {path} is of type {kind!r}", "BINARY, FRACTIONAL or LABELMAP")
        segments = {s.number: s for s in (_described(item, path) for item in data.get("SegmentSequence") or ())}
        record = _record(data, path)
        planes, shared = _planes(data, path, labelmap=kind == "LABELMAP")
        missing = sorted({p.segment for p in planes if p.segment is not None} - set(segments))
        if missing:
            raise InputError(f"frames of {path} show segment {missing[0]}, which it does not describe", do=AGAIN)
        grid, slices = _grid(planes, shared, record, path)
        return Planes(path, data, kind, segments, planes, grid, (int(data.Columns), int(data.Rows), slices), record)


def _record(data: Any, path: Path) -> dict[str, Any]:
    """Our record in a private element; empty in the files of others."""
    try:
        packed = data.private_block(PRIVATE[0], KEY)[PRIVATE[1]].value
    except KeyError:
        return {}
    return unpack(bytes(packed).rstrip(b"\0") if not isinstance(packed, bytes) else packed, path)


def _described(item: Any, path: Path) -> Segment:
    number = numbers(item, "SegmentNumber", 1, path)
    if number is None:
        raise InputError(f"a segment of {path} has no number", do=AGAIN)
    told: dict[str, Any] = {name: code for name, tag in _CODES.items() if (code := _code(item.get(tag)))}
    told["algorithm"] = [str(item.get("SegmentAlgorithmType") or ""), str(item.get("SegmentAlgorithmName") or "")]
    lab = item.get("RecommendedDisplayCIELabValue")
    color = rgb_of(lab) if lab is not None and len(lab) == 3 else (255, 127, 14)
    return Segment(int(number[0]), str(item.get("SegmentLabel") or f"segment {int(number[0])}"), color, told)


def _code(items: Any) -> list[str]:
    if not items:
        return []
    return [str(items[0].get(name) or "") for name in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")]


def rgb_of(lab: Sequence[int]) -> tuple[int, int, int]:
    """Red, green and blue (0 to 255) of a colour as DICOM has it: CIELab in 16 bits.

    >>> rgb_of((41661, 41167, 40792))
    (221, 130, 101)
    """
    from skimage.color import lab2rgb

    light, a, b = (float(v) / 65535 for v in lab)
    red, green, blue = (round(float(v) * 255) for v in lab2rgb([light * 100, a * 255 - 128, b * 255 - 128]))
    return red, green, blue


def lab_of(color: Sequence[int]) -> list[int]:
    """The inverse of `rgb_of`.

    >>> rgb_of(lab_of((221, 130, 101)))
    (221, 130, 101)
    """
    from skimage.color import rgb2lab

    light, a, b = (float(v) for v in rgb2lab(np.array(color) / 255))
    return [round(v * 65535) for v in (light / 100, (a + 128) / 255, (b + 128) / 255)]


def _planes(data: Any, path: Path, *, labelmap: bool) -> tuple[tuple[Plane, ...], dict[str, tuple[float, ...]]]:
    """The frames, and what they have in common: directions of rows and columns, sample sizes."""
    shared = (data.get("SharedFunctionalGroupsSequence") or [{}])[0]
    frames = data.get("PerFrameFunctionalGroupsSequence") or ()
    count = numbers(data, "NumberOfFrames", 1, path)
    if not frames or count is None or len(frames) != int(count[0]):
        raise InputError(f"the segmentation {path} declares {count[0] if count else 'no'} frames and describes {len(frames)}", do=AGAIN)

    def group(frame: Any, name: str) -> Any:
        items = frame.get(name) or shared.get(name)
        return items[0] if items else {}

    planes = []
    for k, frame in enumerate(frames):
        position = numbers(group(frame, "PlanePositionSequence"), "ImagePositionPatient", 3, path)
        segment = None if labelmap else numbers(group(frame, "SegmentIdentificationSequence"), "ReferencedSegmentNumber", 1, path)
        if position is None or (segment is None and not labelmap):
            raise InputError(
                f"frame {k + 1} of the segmentation {path} does not say {'where it lies' if position is None else 'what it shows'}", do=AGAIN
            )
        planes.append(Plane(k, None if segment is None else int(segment[0]), position))
    told: dict[str, tuple[float, ...]] = {}
    for group_name, name, n in (
        ("PlaneOrientationSequence", "ImageOrientationPatient", 6), ("PixelMeasuresSequence", "PixelSpacing", 2),
        ("PixelMeasuresSequence", "SpacingBetweenSlices", 1), ("PixelMeasuresSequence", "SliceThickness", 1),
    ):  # fmt: skip
        found = {numbers(group(frame, group_name), name, n, path) for frame in frames}
        if len(found) > 1:
            raise InputError(f"frames of the segmentation {path} differ in {name}", "one grid", "Split it.")
        value = found.pop()
        if value is not None:
            told[name] = value
    if "ImageOrientationPatient" not in told or "PixelSpacing" not in told:
        raise InputError(f"the segmentation {path} does not say where in the patient it lies", "PixelSpacing and ImageOrientationPatient")
    return tuple(planes), told


def _grid(planes: Sequence[Plane], told: Mapping[str, tuple[float, ...]], record: Mapping[str, Any], path: Path) -> tuple[Grid, int]:
    """The grid that the planes lie on, and its number of slices; our record tells both of planes that are not there."""
    along, (down, right) = np.array(told["ImageOrientationPatient"]), told["PixelSpacing"]
    normal = np.cross(along[:3], along[3:])
    at = np.array(sorted({p.position for p in planes}, key=lambda position: float(np.dot(position, normal))))
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 3] = along[:3] * right, along[3:] * down, at[0]
    if "first" in record:
        matrix[:3, 2], matrix[:3, 3], slices = record["step"], record["first"], int(record["slices"])
    else:
        matrix[:3, 2], slices = _step(at, normal, told, path)
    if not 1 <= slices <= MOST_SLICES:
        raise InputError(f"the planes of the segmentation {path} span {slices} slices", f"at most {MOST_SLICES}", AGAIN)
    return Grid(matrix, "millimeter"), slices


def _step(at: NDArray[Any], normal: NDArray[Any], told: Mapping[str, tuple[float, ...]], path: Path) -> tuple[NDArray[Any], int]:
    """From one slice to the next, and how many there are, from planes of which some may be missing."""
    said = [told[name][0] for name in ("SpacingBetweenSlices", "SliceThickness") if told.get(name, (0.0,))[0] > 0]
    if len(at) == 1:
        return normal * (said[0] if said else 1.0), 1
    gaps = np.diff(at @ normal)
    for distance in [*said[:1], float(gaps.min())]:
        steps = gaps / distance
        if np.abs(steps - np.rint(steps)).max() <= ON_GRID and np.rint(steps).min() >= 1:
            n = int(np.rint(steps).sum())
            return (at[-1] - at[0]) / n, n + 1
    told_gaps = f"{gaps.min():.4g} to {gaps.max():.4g} mm"
    raise InputError(f"the planes of the segmentation {path} are {told_gaps} apart", "planes at one distance, of which some may be missing")
