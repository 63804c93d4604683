"""ROIs of ImageJ in a zip file, as its ROI Manager opens and saves them: one per object and plane, at its place in the stack."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.annotations.checks import points_of
from napari_segsuite.annotations.drawn import Drawn, Images, labels_of, planes_lost, record_of
from napari_segsuite.annotations.items import Annotated, Part, parts_of
from napari_segsuite.annotations.rings import Polygon, Ring, trace
from napari_segsuite.errors import InputError, MissingExtra, OutputError
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.faults import AGAIN, reading
from napari_segsuite.io.record import KEY
from napari_segsuite.types import Class

MOST = 32767
"""The largest coordinate of a ROI."""
MOST_BYTES = 2**28
"""A file in the zip unfolds to no more than this."""
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0


lost = planes_lost


def write(items: Iterable[Annotated], out: Path, *, overwrite: bool) -> None:
    """Write the labels of one image.

    Raises
    ------
    OutputError
        The image is larger than ROIs can be.
    MissingExtra
        roifile is not installed.
    """
    roifile = _library()
    (item,) = items
    found = item.segmentation
    if max(found.labels.shape[-2:]) > MOST:
        raise OutputError(f"{found.name} has shape {tuple(found.labels.shape)}; ROIs of ImageJ have places up to {MOST}", do="Write geojson.")
    classes = {c.id: c for c in found.classes}
    with replacing(out, overwrite=overwrite) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
        for one in parts_of(found):
            name = "-".join([str(one.key), *(f"{a}{p + 1}" for a, p in zip(found.axes[:-2], one.at, strict=False))])
            file.writestr(f"{name}.roi", _roi(roifile, one, found.axes, classes.get(one.class_id)).tobytes())
        file.writestr(f"{KEY}.json", json.dumps(record_of(item), ensure_ascii=False))  # ImageJ opens what ends in .roi


def read(path: Path, images: Images | None = None) -> Iterator[Annotated]:
    """Read the labels of one image: polygons, freehand and traced areas, rectangles, ovals and composites.

    Raises
    ------
    InputError
        The file is damaged, holds a line or a point, or does not say how large the image is and the image is not there.
    """
    roifile = _library()
    drawn, ours = [], None
    with reading(path), _opened(path) as file:
        for entry in file.infolist():
            if not entry.filename.lower().endswith((".roi", f"{KEY}.json")):
                continue
            if entry.file_size > MOST_BYTES:
                raise InputError(f"{entry.filename!r} in {path} would unfold to {entry.file_size} bytes", f"at most {MOST_BYTES}")
            data = file.read(entry)
            if entry.filename == f"{KEY}.json":
                ours = json.loads(data)
            else:
                drawn.append(_drawn(roifile.ImagejRoi.frombytes(data), f"{entry.filename!r} in {path}"))
    yield labels_of(drawn, ours, path, images)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(f"file {path} is no zip file ({error})", "a file that the ROI Manager saved", AGAIN) from error


def _library() -> Any:
    try:
        import roifile
    except ImportError as error:
        raise MissingExtra("reading and writing ROIs of ImageJ", "annotations") from error
    return roifile


def _roi(roifile: Any, part: Part, axes: str, kind: Class | None) -> Any:
    """An object as a polygon, or as a composite where it has holes or several pieces."""
    polygons = trace(part.mask, (part.at[-2], part.at[-1]))
    plane = dict(zip(axes[:-2], part.at, strict=False))
    rings = [ring for polygon in polygons for ring in polygon]
    roi = roifile.ImagejRoi.frompoints(rings[0].astype(np.int32), name=str(part.key))
    roi.roitype = roifile.ROI_TYPE.TRACED
    # A stack with one axis more is numbered by `position`, a hyperstack by its axes.
    if len(plane) == 1:
        roi.position = part.at[0] + 1
    roi.z_position, roi.t_position = (plane[a] + 1 if a in plane else 0 for a in "zt")
    if kind is not None:
        roi.stroke_color = bytes((255, *kind.color))
    told = {"class": _plain(kind.name if kind else ""), "score": repr(part.score), "status": _plain(part.status)}
    roi.props = "".join(f"{name}: {value}\n" for name, value in told.items())
    low = np.min([ring.min(0) for ring in rings], 0).astype(int)
    high = np.max([ring.max(0) for ring in rings], 0).astype(int)
    roi.left, roi.top, roi.right, roi.bottom = (int(v) for v in (*low, *high))
    if len(rings) > 1:
        roi.roitype = roifile.ROI_TYPE.RECT
        roi.integer_coordinates, roi.n_coordinates = None, 0
        roi.multi_coordinates = np.concatenate([_path(ring) for ring in rings]).astype(np.float32)
        roi.shape_roi_size = len(roi.multi_coordinates)
    return roi


def _plain(text: str) -> str:
    """A text on one line and in ASCII, which is all that the properties of a ROI can hold."""
    return text.encode("unicode_escape").decode("ascii")


def _path(ring: Ring) -> NDArray[np.float64]:
    steps = np.column_stack([np.full(len(ring), _LINE), ring])
    steps[0, 0] = _MOVE
    return np.append(steps.reshape(-1), _CLOSE)


def _drawn(roi: Any, where: str) -> Drawn:
    told = dict(line.split(": ", 1) for line in str(roi.props or "").splitlines() if ": " in line)
    stroke = bytes(roi.stroke_color or b"")
    color = list(stroke[1:]) if any(stroke) else None
    try:
        score = float(told.get("score", 1))
    except ValueError:
        score = 1.0
    position = max(roi.position - 1, 0)
    plane = {"z": max(roi.z_position - 1, 0), "t": max(roi.t_position - 1, 0)}
    if not roi.z_position and not roi.t_position:
        plane = {"z": position, "t": position}  # of a stack: along whichever of the two it has
    kind, status = (told.get(name, "").encode("ascii", "backslashreplace").decode("unicode_escape") for name in ("class", "status"))
    return Drawn(where, _polygons(roi, where), str(roi.name or ""), plane, kind, color, score, status)


def _polygons(roi: Any, where: str) -> list[Polygon]:
    """The outlines of a ROI; those of a composite are inside where an odd number of them is."""
    kind = roi.roitype.name
    if roi.multi_coordinates is not None:
        return [[points_of(ring, (MOST, MOST), where) for ring in roi.coordinates(multi=True)]]
    if kind == "RECT" and not roi.arc_size:
        return [[np.array([(x, y) for x, y in _box(roi)], np.float64)]]
    if kind not in ("POLYGON", "FREEHAND", "TRACED", "RECT", "OVAL"):
        raise InputError(f"{where} is of the type {kind}", "an area", "Delete it, or convert it with Edit > Selection > Line to Area.")
    if kind == "OVAL":
        angle = np.linspace(0, 2 * np.pi, 361)[:-1]
        middle, half = np.array([roi.left + roi.right, roi.top + roi.bottom]) / 2, np.array([roi.right - roi.left, roi.bottom - roi.top]) / 2
        return [[middle + half * np.column_stack([np.cos(angle), np.sin(angle)])]]
    return [[points_of(roi.coordinates(), (MOST, MOST), where)]]


def _box(roi: Any) -> Iterable[tuple[float, float]]:
    yield from ((roi.left, roi.top), (roi.right, roi.top), (roi.right, roi.bottom), (roi.left, roi.bottom))
