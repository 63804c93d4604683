"""Cityscapes (https://www.cityscapes-dataset.com): per image two pictures, of classes and of objects, and a JSON file of polygons."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.annotations.categories import numbered, numbers_of, to_provenance
from napari_segsuite.annotations.checks import name_of
from napari_segsuite.annotations.coco import flattened
from napari_segsuite.annotations.items import CROWD, Annotated, Part, assemble, parts_of, scored
from napari_segsuite.annotations.pictures import classes_in, read_png, record_of, rows_of, write_png
from napari_segsuite.annotations.rings import in_one, trace
from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.table import table_of
from napari_segsuite.types import Segmentation

MOST = 999
"""Objects of a class in one image."""

CLASSES = (
    "7 road 128,64,128;8 sidewalk 244,35,232;9 parking 250,170,160;10 rail track 230,150,140;11 building 70,70,70;12 wall 102,102,156;"
    "13 fence 190,153,153;14 guard rail 180,165,180;15 bridge 150,100,100;16 tunnel 150,120,90;17 pole 153,153,153;18 polegroup 153,153,153;"
    "19 traffic light 250,170,30;20 traffic sign 220,220,0;21 vegetation 107,142,35;22 terrain 152,251,152;23 sky 70,130,180;4 static 0,0,0;"
    "5 dynamic 111,74,0;6 ground 81,0,81;24 person 220,20,60;25 rider 255,0,0;26 car 0,0,142;27 truck 0,0,70;28 bus 0,60,100;"
    "29 caravan 0,0,90;30 trailer 0,0,110;31 train 0,80,100;32 motorcycle 0,0,230;33 bicycle 119,11,32"
)
"""The classes of Cityscapes with number and colour; those from 24 on have objects. What has lower numbers, or none, is void."""

_THINGS = range(24, 34)


def official() -> list[tuple[int, str, Any, bool]]:
    """The classes of Cityscapes: number, name, colour, and whether they have objects."""
    found = []
    for line in CLASSES.split(";"):
        number, name, color = line.partition(" ")[0], line.partition(" ")[2].rpartition(" ")[0], line.rpartition(" ")[2]
        found.append((int(number), name, [int(v) for v in color.split(",")], int(number) in _THINGS))
    return found


def lost(segmentation: Segmentation) -> list[str]:
    """What Cityscapes has no words for."""
    told = ["the numbers of its segments, which are class x 1000 and a number of its own there; napari-segsuite finds them again"]
    crowds = [k for k, s in zip(segmentation.segments["class_id"].tolist(), segmentation.segments["status"].tolist(), strict=True) if s == CROWD]
    if len(crowds) > len(set(crowds)):
        told.append("which group of objects is which, where a class has several: they are one")
    if scored(segmentation):
        told.append("its scores, which Cityscapes has no place for; napari-segsuite finds them again")
    return told


def write(items: Iterable[Annotated], out: Path, *, overwrite: bool) -> None:
    """Write a data set as a folder; classes that are called as those of Cityscapes get their numbers there, if all are.

    Raises
    ------
    OutputError
        Labels are no pictures, have other classes than the first, or more than 999 objects of a class; two images have one name.
    """
    names: set[str] = set()
    with replacing(out, overwrite=overwrite) as folder:
        folder.mkdir()
        for item, flat in flattened(items, "Cityscapes"):
            name = name_of(item.file_name, flat.name).removesuffix("_leftImg8bit")
            if name in names:
                raise OutputError(f"two images are called {name}", "one name each")
            names.add(name)
            numbers = _numbers(flat)
            objects = _objects(flat, numbers)
            kinds = _pixels(flat, {i: n // 1000 if n >= 1000 else n for i, n in objects.items()}).astype(np.uint8)
            record = {**record_of(flat), "objects": {str(n): i for i, n in objects.items()}, "numbers": numbers, "image": item.file_name}
            write_png(kinds, folder / f"{name}_gtFine_labelIds.png")
            write_png(_pixels(flat, objects), folder / f"{name}_gtFine_instanceIds.png", record=record)
            text = json.dumps(_polygons(flat), ensure_ascii=False)
            (folder / f"{name}_gtFine_polygons.json").write_text(text, encoding="utf-8")


def read(path: Path, images: Mapping[str, Path] | None = None) -> Iterator[Annotated]:
    """Read a data set image by image, from the pictures of objects in a folder and those below it.

    Raises
    ------
    InputError
        A picture is missing or damaged, or holds the number of no class.
    """
    found = sorted(path.rglob("*_gtFine_instanceIds.png"))
    if not found:
        raise InputError(f"folder {path} has no picture that ends in _gtFine_instanceIds.png", "the folder gtFine of Cityscapes, or a part of it")
    for one in found:
        yield _image(one)


def _numbers(flat: Segmentation) -> dict[int, int]:
    """The number of each class."""
    theirs = {name: number for number, name, _, things in official()}
    things = {name: things for _, name, _, things in official()}
    if all(c.name in theirs and things[c.name] == c.countable for c in flat.classes):
        return {c.id: theirs[c.name] for c in flat.classes}
    numbers = numbers_of(flat.classes, flat.provenance)
    if max(numbers.values()) > 65:
        raise OutputError(f"{flat.name} has a class with the number {max(numbers.values())}", "at most 65 for Cityscapes", "Write coco instead.")
    return numbers


def _objects(flat: Segmentation, numbers: Mapping[int, int]) -> dict[int, int]:
    """The number of each segment: of its class, or class x 1000 + a number from 0; groups of objects have the number of their class too."""
    countable = {c.id for c in flat.classes if c.countable}
    seen: Counter[int] = Counter()
    found = {}
    columns = (flat.segments[name].tolist() for name in ("id", "class_id", "status"))
    for number, kind, status in zip(*columns, strict=True):
        single = kind in countable and status != CROWD
        found[number] = numbers[kind] * 1000 + seen[kind] if single else numbers[kind]
        seen[kind] += single
    if seen and max(seen.values()) > MOST:
        kind, count = seen.most_common(1)[0]
        name = next(c.name for c in flat.classes if c.id == kind)
        raise OutputError(f"{flat.name} has {count} objects of the class {name}", f"at most {MOST} for Cityscapes", "Write coco instead.")
    return found


def _pixels(flat: Segmentation, numbers: Mapping[int, int]) -> NDArray[np.uint16]:
    labels = np.asarray(flat.labels)
    ids, which = np.unique(labels, return_inverse=True)
    return np.array([numbers.get(int(i), 0) for i in ids], np.uint16)[which].reshape(labels.shape)


def _polygons(flat: Segmentation) -> dict[str, Any]:
    names = {c.id: c.name for c in flat.classes}
    height, width = (int(n) for n in flat.labels.shape)
    objects = [
        {"label": f"{names[part.class_id]}{'group' if part.status == CROWD else ''}", "polygon": in_one(polygon).tolist()}
        for part in parts_of(flat)
        for polygon in trace(part.mask, (part.at[0], part.at[1]))
    ]
    return {"imgHeight": height, "imgWidth": width, "objects": objects}


def _image(path: Path) -> Annotated:
    name = path.name.removesuffix("_gtFine_instanceIds.png")
    pixels, record = read_png(path)
    if pixels.ndim != 2:
        raise InputError(f"{path} is in colours", "numbers of objects, in 16 bits")
    classes, of = numbered(official(), str(path))
    if told := classes_in(record, path):
        classes, of = told, {int(number): int(k) for k, number in record.get("numbers", {}).items()}
    countable = {c.id for c in classes if c.countable}
    things = {k for k, kind in of.items() if kind in countable}
    numbers, rows = record.get("objects", {}), rows_of(record)
    labels = pixels.astype(np.int64)
    void = (labels < 4) & ~np.isin(labels, list(of))
    there = table_of(np.where(void, 0, labels), "yx", ())
    parts = []
    for k, number in enumerate(there["id"].tolist()):
        y, x = (slice(int(there[f"bbox_{a}0"][k]), int(there[f"bbox_{a}1"][k])) for a in "yx")
        kind = number // 1000 if number >= 1000 else number
        if kind not in of:
            raise InputError(f"{path} has the number {number}", f"numbers of classes ({', '.join(map(str, sorted(of)))}), or 1000 times these")
        row = rows.get(int(numbers.get(str(number), -1)), {})
        status = row.get("status", CROWD if kind in things and number < 1000 else "")
        key = int(numbers.get(str(number), number)) if record else number
        parts.append(Part(key, labels[y, x] == number, (y.start, x.start), of[kind], row.get("score", 1.0), status))
    notes = [f"{int((void & (labels > 0)).sum())} void pixels, which are background now"] if (void & (labels > 0)).any() else []
    place = {"name": name, **record, "provenance": {} if record else to_provenance(of)}
    return assemble(parts, labels.shape, classes, place, str(record.get("image", f"{name}_leftImg8bit.png")), notes)
