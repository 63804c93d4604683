"""Pascal VOC (http://host.robots.ox.ac.uk/pascal/VOC/): a folder with pictures of the class and of the object of every pixel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.annotations.categories import numbered
from napari_segsuite.annotations.checks import name_of
from napari_segsuite.annotations.coco import flattened
from napari_segsuite.annotations.items import Annotated, Part, assemble, scored
from napari_segsuite.annotations.pictures import classes_in, read_png, record_of, rows_of, write_png
from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.faults import reading
from napari_segsuite.io.ids import largest
from napari_segsuite.io.table import table_of
from napari_segsuite.types import Class, Segmentation

VOID = 255
KINDS, OBJECTS = "SegmentationClass", "SegmentationObject"
NAMES = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person",
    "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip
"""The classes of Pascal VOC, from 1."""


def palette() -> NDArray[np.uint8]:
    """The colours of VOC's numbers, (256, 3): their bits, spread over red, green and blue from the highest bit down.

    >>> palette()[[1, 8, 255]].tolist()
    [[128, 0, 0], [64, 0, 0], [224, 224, 192]]
    """
    number = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for k in range(8):
        for channel in range(3):
            colors[:, channel] |= (((number >> (3 * k + channel)) & 1) << (7 - k)).astype(np.uint8)
    return colors


def lost(segmentation: Segmentation) -> list[str]:
    """What VOC has no words for."""
    told = ["the colours of its classes, which in VOC follow from their numbers; napari-segsuite finds them again"]
    if scored(segmentation):
        told.append("its scores, which VOC has no place for; napari-segsuite finds them again")
    return told


def write(items: Iterable[Annotated], out: Path, *, overwrite: bool) -> None:
    """Write a data set: the pictures, a list of their names, and the names of the classes in ``labelmap.txt``.

    Raises
    ------
    OutputError
        Labels are no pictures, have other classes than the first, or more than 254 of them or of objects; two images have one name.
    """
    colors, names = palette(), []
    with replacing(out, overwrite=overwrite) as folder:
        for inner in (KINDS, OBJECTS, "ImageSets/Segmentation"):
            (folder / inner).mkdir(parents=True)
        classes: tuple[Class, ...] = ()
        for item, flat in flattened(items, "Pascal VOC"):
            classes, name = flat.classes, name_of(item.file_name, flat.name)
            if name in names:
                raise OutputError(f"two images are called {name}", "one name each")
            names.append(name)
            kinds, objects, record = _pictures(flat)
            write_png(kinds, folder / KINDS / f"{name}.png", colors)
            write_png(objects, folder / OBJECTS / f"{name}.png", colors, {**record, "image": item.file_name})
        lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
        lines += [f"{c.name.replace(':', ' ')}:{','.join(str(v) for v in colors[c.id])}::" for c in classes]
        (folder / "labelmap.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
        (folder / "ImageSets/Segmentation/trainval.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def read(path: Path, images: Mapping[str, Path] | None = None) -> Iterator[Annotated]:
    """Read a data set image by image; without pictures of objects, its classes are stuff.

    Raises
    ------
    InputError
        A picture is missing or damaged, or an object has several classes.
    """
    found = sorted((path / KINDS).glob("*.png"))
    if not found:
        raise InputError(f"folder {path} has no pictures in {KINDS}", f"a folder with {KINDS} and {OBJECTS}")
    singly = (path / OBJECTS).is_dir()
    named = _named(path)
    top = 0
    if named is None and not _is_ours(path, found[0]):
        top = max(int(np.where(p == VOID, 0, p).max(initial=0)) for p in (read_png(one)[0] for one in found))
        named = NAMES if top <= len(NAMES) else [f"class {k}" for k in range(1, top + 1)]
    for one in found:
        yield _image(one, path / OBJECTS / one.name if singly else None, named or [])


def _pictures(flat: Segmentation) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]:
    """Class and object of each pixel; objects have the numbers of their segments, or those of their rows where these are too large."""
    labels, ids = np.asarray(flat.labels), np.asarray(flat.segments["id"])
    if len(ids) >= VOID or max(c.id for c in flat.classes) >= VOID:
        raise OutputError(f"{flat.name} has {len(ids)} segments and {len(flat.classes)} classes", "at most 254 for Pascal VOC", "Write coco instead.")
    row = np.searchsorted(ids, labels)
    there = labels != 0
    row[~there] = 0
    numbers = ids if largest(labels) < VOID else np.arange(1, len(ids) + 1)
    kinds, objects = np.zeros(labels.shape, np.uint8), np.zeros(labels.shape, np.uint8)
    kinds[there] = np.asarray(flat.segments["class_id"])[row[there]]
    objects[there] = numbers[row[there]]
    return kinds, objects, {**record_of(flat), "objects": [int(n) for n in numbers]}


def _is_ours(path: Path, first: Path) -> bool:
    objects = path / OBJECTS / first.name
    return objects.is_file() and bool(read_png(objects)[1])


def _named(path: Path) -> list[str] | None:
    """The names of the classes in ``labelmap.txt``, from 1."""
    listed = path / "labelmap.txt"
    if not listed.is_file():
        return None
    with reading(listed):
        lines = [line.split(":")[0].strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#")]
    return lines[1:] if lines and lines[0] == "background" else lines


def _image(kinds_at: Path, objects_at: Path | None, named: list[str]) -> Annotated:
    kinds, _ = read_png(kinds_at)
    objects, record = read_png(objects_at, (kinds.shape[0], kinds.shape[1])) if objects_at else (kinds, {})
    if kinds.ndim != 2 or objects.ndim != 2:
        raise InputError(f"{kinds_at} or its picture of objects is in colours", "pictures with a palette, or grey", "Save it with its palette.")
    listed = [(k, name, None, objects_at is not None) for k, name in enumerate(named, start=1)]
    classes = classes_in(record, kinds_at) or numbered(listed, str(kinds_at))[0]
    numbers = dict(zip(record.get("objects", ()), record.get("table", {}).get("id", ()), strict=False))
    rows, known = rows_of(record), {c.id for c in classes}
    void = kinds == VOID
    labels = np.where(void | (objects == VOID), 0, objects)
    there = table_of(labels, "yx", ())
    parts = []
    for k, number in enumerate(there["id"].tolist()):
        y, x = (slice(int(there[f"bbox_{a}0"][k]), int(there[f"bbox_{a}1"][k])) for a in "yx")
        mask = labels[y, x] == number
        found = np.unique(kinds[y, x][mask]).tolist()
        if len(found) != 1 or found[0] not in known:
            raise InputError(f"object {number} of {objects_at or kinds_at} has the classes {found}", f"one of 1 to {len(classes)}")
        told = rows.get(numbers.get(number, -1), {})
        parts.append(Part(numbers.get(number, number), mask, (y.start, x.start), found[0], told.get("score", 1.0), told.get("status", "")))
    notes = [f"{int(void.sum())} void pixels, which are background now"] if void.any() else []
    alone = int(((labels == 0) & (kinds != 0) & ~void).sum())
    notes += [f"{alone} pixels with a class that belong to no object"] if alone else []
    return assemble(parts, labels.shape, classes, {"name": kinds_at.stem, **record}, str(record.get("image", f"{kinds_at.stem}.jpg")), notes)
