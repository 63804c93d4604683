"""What all formats of annotations are about: an image's labels as single objects, and objects put together as labels."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io.ids import smallest_dtype
from napari_segsuite.io.record import affine_of, segmentation_record
from napari_segsuite.io.table import table_of
from napari_segsuite.types import Class, Segmentation

CROWD = "crowd"
"""The status of a segment that is a group of objects which nobody told apart."""

PLACE = ("name", "axes", "scale", "units", "translate", "affine")
"""What formats with room for it keep of where labels lie."""


@dataclass(frozen=True, eq=False)
class Annotated:
    """The labels of one image of a data set.

    Attributes
    ----------
    segmentation : Segmentation
    file_name : str
        Of the image, below the folder of the data set.
    notes : tuple of str
        What could not be taken from a file, as phrases.
    number : int, optional
        Of the image in a COCO file; counted from 1 where there is none.
    """

    segmentation: Segmentation
    file_name: str
    notes: tuple[str, ...] = ()
    number: int | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """A segment in one plane.

    Attributes
    ----------
    key : hashable
        Parts with the same key are one segment; if it is an integer, it becomes the segment's id where that can be.
    mask : (h, w) bool
        A box around it.
    at : tuple of int
        Where the box begins, one number per axis of the labels.
    class_id : int
    score : float
    status : str
    """

    key: Hashable
    mask: NDArray[np.bool_]
    at: tuple[int, ...]
    class_id: int
    score: float = 1.0
    status: str = ""


def parts_of(segmentation: Segmentation) -> Iterator[Part]:
    """Go through the segments of labels, plane by plane."""
    row_of = {int(i): k for k, i in enumerate(segmentation.segments["id"].tolist())}
    table = {name: np.asarray(segmentation.segments[name]).tolist() for name in ("class_id", "score", "status")}
    for plane in np.ndindex(tuple(segmentation.labels.shape[:-2])):
        labels = np.asarray(segmentation.labels[plane])
        boxes = table_of(labels, "yx", ())
        for k, number in enumerate(boxes["id"].tolist()):
            if number not in row_of:
                raise OutputError(f"{segmentation.name} has a segment {number} that is not in its table", do="Save it anew from napari.")
            y, x = (slice(int(boxes[f"bbox_{a}0"][k]), int(boxes[f"bbox_{a}1"][k])) for a in "yx")
            told = {name: column[row_of[number]] for name, column in table.items()}
            score = 1.0 if np.isnan(told["score"]) else float(told["score"])  # none of the formats has a word for unknown ones
            yield Part(number, labels[y, x] == number, (*plane, y.start, x.start), int(told["class_id"]), score, str(told["status"]))


def scored(segmentation: Segmentation) -> bool:
    """Whether a score says anything: one that is neither 1 nor unknown."""
    scores = np.asarray(segmentation.segments["score"])
    return bool(((scores != 1) & ~np.isnan(scores)).any())


def planar(segmentation: Segmentation, what: str) -> Segmentation:
    """Take labels of one plane; refuse those that a format for pictures cannot hold.

    Raises
    ------
    OutputError
        They have several planes, or a segment without a class.
    """
    axes, shape = segmentation.axes, tuple(segmentation.labels.shape)
    if any(n > 1 for n in shape[:-2]):
        found = f"{segmentation.name} has axes {axes!r} and shape {shape}, and {what} is about pictures"
        raise OutputError(found, "labels of one plane", "Write geojson, roi-zip or a mesh, or save the planes one by one.")
    classless = np.asarray(segmentation.segments["id"])[~np.isin(segmentation.segments["class_id"], [c.id for c in segmentation.classes])]
    if len(classless):
        found = f"segment {classless[0]} of {segmentation.name} has no class"
        raise OutputError(found, "one of " + ", ".join(c.name for c in segmentation.classes), "Choose one in the Segments dock.")
    if len(shape) == 2:
        return segmentation
    kept: dict[str, Any] = {name: tuple(getattr(segmentation, name)[-2:]) for name in ("scale", "units", "translate")}
    return replace(segmentation, labels=np.asarray(segmentation.labels)[(0,) * (len(shape) - 2)], axes="yx", affine=None, **kept)


def assemble(
    parts: Sequence[Part], shape: tuple[int, ...], classes: Sequence[Class], place: Mapping[str, Any], file_name: str, notes: Sequence[str] = ()
) -> Annotated:
    """Put parts together as labels.

    Where several lie on one pixel, the one with the highest score is seen, and of equal ones the smallest.

    Parameters
    ----------
    parts : sequence of Part
        Inside of the image.
    shape : tuple of int
    classes : sequence of Class
        Stuff first; parts of stuff get the number of their class.
    place : mapping
        As `place_of` gives it; what is not in there is in pixels from 0.
    file_name, notes
        As of `Annotated`.
    """
    stuff = {c.id for c in classes if not c.countable}
    ids = _numbers([p for p in parts if p.class_id not in stuff], max(stuff, default=0))
    number_of = [p.class_id if p.class_id in stuff else ids[p.key] for p in parts]
    labels = np.zeros(shape, smallest_dtype(max(number_of, default=0)))
    told: dict[int, Part] = {}
    covered = 0
    for k in sorted(range(len(parts)), key=lambda k: (parts[k].score, -int(parts[k].mask.sum()))):
        part, number = parts[k], number_of[k]
        (y, x), (h, w) = part.at[-2:], part.mask.shape
        view = labels[part.at[:-2]][y : y + h, x : x + w]
        covered += int(((view != 0) & (view != number) & part.mask).sum())
        view[part.mask] = number
        told[number] = part
    axes = str(place.get("axes", "tzyx"[-len(shape) :]))
    table = table_of(labels, axes, classes, {number: part.class_id for number, part in told.items()})
    table["score"] = np.array([told[i].score for i in table["id"].tolist()], np.float64)
    table["status"] = np.array([told[i].status for i in table["id"].tolist()], np.str_)
    hidden = len(told) - len(table["id"])
    more = [f"{covered} pixels belong to several objects; each went to the one with the highest score, or to the smallest"] if covered else []
    more += [f"{hidden} objects are hidden below others, or have no pixel"] if hidden else []
    return Annotated(Segmentation(labels, table, tuple(classes), **_placed(place, axes)), file_name, (*notes, *more))


def place_of(segmentation: Segmentation) -> dict[str, Any]:
    """Where labels lie, as JSON keeps it."""
    record = segmentation_record(segmentation, table=False)
    return {**{name: record[name] for name in PLACE}, "shape": [int(n) for n in segmentation.labels.shape]}


def same_classes(items: Sequence[Segmentation] | Iterator[Segmentation]) -> Iterator[Segmentation]:
    """Hand on labels as long as all have the classes of the first.

    Raises
    ------
    OutputError
    """
    first: Segmentation | None = None
    for one in items:
        first = first or one
        if one.classes != first.classes:
            names = [", ".join(f"{c.id} {c.name}" for c in s.classes) for s in (first, one)]
            found = f"{first.name} has the classes {names[0]}, and {one.name} has {names[1]}"
            raise OutputError(found, "the same in all results of a data set", "Write them as data sets of their own.")
        yield one


def _numbers(things: Sequence[Part], least: int) -> dict[Hashable, int]:
    """Ids of things: their keys where these are integers above those of stuff, else counted from there."""
    keys = list(dict.fromkeys(p.key for p in things))
    if all(isinstance(key, int) and least < key < 2**64 for key in keys):
        return {key: key for key in keys if isinstance(key, int)}
    return {key: least + 1 + k for k, key in enumerate(keys)}


def _placed(place: Mapping[str, Any], axes: str) -> dict[str, Any]:
    n = len(axes)
    try:
        placed: dict[str, Any] = {
            "axes": axes,
            "scale": tuple(float(v) for v in place.get("scale", (1.0,) * n)),
            "units": tuple(str(v) for v in place.get("units", ("pixel",) * n)),
            "translate": tuple(float(v) for v in place.get("translate", (0.0,) * n)),
            "affine": affine_of(place),
            "name": str(place.get("name", "labels")),
            "provenance": dict(place.get("provenance", {})),
        }
    except (TypeError, ValueError) as error:
        raise InputError(f"what the file says about where {place.get('name')!r} lies is damaged ({error})") from error
    if any(len(placed[name]) != n for name in ("scale", "units", "translate")):
        raise InputError(f"what the file says about where {place.get('name')!r} lies does not fit {n} axes")
    return placed
