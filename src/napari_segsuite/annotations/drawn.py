"""Objects that were drawn as polygons, of formats that keep them so, put together as labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.annotations import categories
from napari_segsuite.annotations.checks import check_shape
from napari_segsuite.annotations.items import Annotated, Part, assemble, place_of
from napari_segsuite.annotations.rings import Polygon, box, fill
from napari_segsuite.annotations.rle import join
from napari_segsuite.errors import InputError
from napari_segsuite.io.geometry import stem_of
from napari_segsuite.io.record import segmentation_record
from napari_segsuite.types import Class, Segmentation

Images = Mapping[str, Path]
"""Where the images of a data set are, by their names without suffixes."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A drawn object.

    Attributes
    ----------
    where : str
        What messages call it.
    polygons : list of Polygon
        What is inside of any of them is in the object.
    name : str
        In our own files, the number of its segment.
    plane : mapping of axis to int
        Where it lies along the axes ``t`` and ``z``.
    kind, color, score, status
        Name and colour of its class, and what its row says; an empty name is no class.
    """

    where: str
    polygons: list[Polygon]
    name: str = ""
    plane: Mapping[str, int] | None = None
    kind: str = ""
    color: Any = None
    score: float = 1.0
    status: str = ""


def labels_of(drawn: Sequence[Drawn], ours: Any, path: Path, images: Images | None, shape: tuple[int, ...] | None = None) -> Annotated:
    """Make labels of drawn objects.

    Parameters
    ----------
    drawn : sequence of Drawn
    ours : mapping or None
        What `record_of` gave, where the file holds it; else every object is a segment of its own.
    path : Path
        Of the file, for messages and for the name of the image.
    images : mapping of name to path, optional
    shape : tuple of int, optional
        Of the image, where the file says it.

    Raises
    ------
    InputError
        The size of the image is not known, or an object lies outside of it.
    """
    ours = ours if isinstance(ours, dict) else {}
    axes, shape = ("yx", shape) if shape is not None and not ours else _size(ours, path, images)
    classes, of = _classes(drawn, ours, path)
    parts = []
    for k, one in enumerate(drawn):
        plane = tuple((one.plane or {}).get(a, 0) for a in axes[:-2])
        if any(not 0 <= p < n for p, n in zip(plane, shape, strict=False)):
            raise InputError(f"{one.where} lies in the plane {dict(one.plane or {})}, and the image has shape {shape} (axes {axes})")
        mask, at = join([_filled(polygon, (shape[-2], shape[-1])) for polygon in one.polygons])
        key = int(one.name) if ours and one.name.isdecimal() else f"#{k}"
        parts.append(Part(key, mask, (*plane, *at), of[one.kind], one.score, one.status))
    return assemble(parts, shape, classes, {"name": stem_of(path), **ours, "axes": axes}, str(ours.get("image", path.name)))


def record_of(item: Annotated) -> dict[str, Any]:
    """What is kept of labels besides their outlines: where they lie, how large they are, their classes, and the file of the image."""
    classes = segmentation_record(item.segmentation, table=False)["classes"]
    return {**place_of(item.segmentation), "classes": classes, "image": item.file_name}


def planes_lost(segmentation: Segmentation) -> list[str]:
    """What outlines lose of a volume: nothing of its voxels."""
    return ["each object of a volume is one outline per plane, with one name"] if "z" in segmentation.axes else []


def _size(ours: Mapping[str, Any], path: Path, images: Images | None) -> tuple[str, tuple[int, ...]]:
    """Axes and shape of the image: as the file says, else of the image itself."""
    from napari_segsuite.io import read

    if "shape" in ours:
        axes, shape = ours.get("axes"), ours["shape"]
        good = isinstance(axes, str) and isinstance(shape, list) and len(axes) == len(shape) and all(type(n) is int for n in shape)
        if not good or axes not in ("yx", "zyx", "tyx", "tzyx"):
            raise InputError(f"{path} says that its image has the axes {axes!r} and the shape {shape!r}", "one length for each axis of tzyx")
        check_shape(tuple(shape), str(path))
        return axes, tuple(shape)
    image = (images or {}).get(stem_of(path))
    if image is None:
        raise InputError(f"{path} does not say how large its image is", f"an image called {stem_of(path)}", "Give the folder it is in with --images.")
    found = read(image)
    axes = found.axes.replace("c", "")
    size = tuple(found.size(a) for a in axes)
    check_shape(size, str(image))
    return axes, size


def _classes(drawn: Sequence[Drawn], ours: Mapping[str, Any], path: Path) -> tuple[tuple[Class, ...], dict[str, int]]:
    """The classes of a file, and their numbers by name; objects without a class are of none, or of the only one."""
    if "classes" in ours:
        classes = categories.from_record(ours, str(path))
    else:
        colors = {one.kind: one.color for one in drawn if one.kind}
        found = [(k, name, colors[name], True) for k, name in enumerate(sorted(colors), start=1)]
        classes, _ = categories.numbered(found or [(1, "object", None, True)], str(path))
    of = {c.name: c.id for c in classes}
    if unknown := {one.kind for one in drawn} - {*of, ""}:
        raise InputError(f"{path} has objects of the class {min(unknown)!r}", f"one of those it lists: {', '.join(of)}")
    return classes, {**of, "": classes[0].id if len(classes) == 1 and classes[0].countable else of.get("", 0)}


def _filled(polygon: Polygon, shape: tuple[int, int]) -> tuple[Any, tuple[int, int]]:
    y, x = box(polygon, shape)
    return fill([ring - np.array([x.start, y.start]) for ring in polygon], (y.stop - y.start, x.stop - x.start)), (y.start, x.start)
