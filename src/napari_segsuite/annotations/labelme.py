"""LabelMe (https://github.com/wkentaro/labelme): one JSON file per image with a polygon for each piece of an object; pieces share their group."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.annotations.checks import get, load, points_of, shape_of
from napari_segsuite.annotations.coco import told_of
from napari_segsuite.annotations.drawn import Drawn, Images, labels_of, record_of
from napari_segsuite.annotations.items import Annotated, parts_of, planar
from napari_segsuite.annotations.rings import Polygon, in_one, trace
from napari_segsuite.errors import InputError
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.faults import reading
from napari_segsuite.io.record import KEY
from napari_segsuite.types import Segmentation


def lost(segmentation: Segmentation) -> list[str]:
    """What LabelMe has no words for."""
    return ["holes as such: a line leads to each of them and back, which other programs may draw one pixel wide"]


def write(items: Iterable[Annotated], out: Path, *, overwrite: bool) -> None:
    """Write the labels of one picture.

    Raises
    ------
    OutputError
        The labels are no picture.
    """
    (item,) = items
    flat = planar(item.segmentation, "LabelMe")
    names = {c.id: c.name for c in flat.classes}
    shapes = [
        {
            "label": names[part.class_id], "points": in_one(polygon).tolist(), "group_id": part.key, "description": "", "shape_type": "polygon",
            "flags": {}, "score": part.score, "status": part.status,
        }
        for part in parts_of(flat)
        for polygon in trace(part.mask, (part.at[0], part.at[1]))
    ]  # fmt: skip
    height, width = (int(n) for n in flat.labels.shape)
    about = {"imagePath": item.file_name, "imageData": None, "imageHeight": height, "imageWidth": width}
    ours = record_of(Annotated(flat, item.file_name))
    with replacing(out, overwrite=overwrite) as part_:
        part_.write_text(json.dumps({"version": "5.5.0", "flags": {}, "shapes": shapes, **about, KEY: ours}, ensure_ascii=False), encoding="utf-8")


def read(path: Path, images: Images | None = None) -> Iterator[Annotated]:
    """Read the labels of one picture: polygons, rectangles, circles and masks.

    Raises
    ------
    InputError
        The file is damaged, or holds a line or a point.
    """
    document = load(path)
    shape = shape_of(document, str(path), ("imageHeight", "imageWidth"))
    groups: dict[Any, Drawn] = {}
    for k, one in enumerate(get(document, "shapes", list, str(path))):
        where = f"shape {k} of {path}"
        label, group = get(one, "label", str, where), one.get("group_id")
        key = (label, group) if isinstance(group, int) else k
        drawn = groups.setdefault(key, Drawn(where, [], str(group), kind=label, **told_of(one)))
        drawn.polygons.extend(_polygons(one, shape, where))
    yield labels_of(list(groups.values()), document.get(KEY), path, images, shape)


def _polygons(one: Any, shape: tuple[int, int], where: str) -> list[Polygon]:
    kind = str(one.get("shape_type") or "polygon")
    found = get(one, "points", list, where)
    if kind in ("rectangle", "circle", "mask"):
        (x0, y0), (x1, y1) = points_of(found, shape, where, 2)[:2]
        if kind == "mask":
            return _mask(one, (int(y0), int(x0)), where)
        if kind == "rectangle":
            return [[np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])]]
        angle, radius = np.linspace(0, 2 * np.pi, 361)[:-1], np.hypot(x1 - x0, y1 - y0)
        return [[np.column_stack([x0 + radius * np.cos(angle), y0 + radius * np.sin(angle)])]]
    if kind != "polygon":
        raise InputError(f"{where} is a {kind}", "a polygon, a rectangle, a circle or a mask, which have pixels")
    return [[points_of(found, shape, where)]]


def _mask(one: Any, at: tuple[int, int], where: str) -> list[Polygon]:
    import PIL.Image

    with reading(Path(where)), PIL.Image.open(io.BytesIO(base64.b64decode(get(one, "mask", str, where)))) as picture:
        return trace(np.asarray(picture) > 0, at)
