"""COCO instances (https://cocodataset.org/#format-data): one JSON file for all images of a data set, each object as a mask of its own."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_segsuite.annotations import categories, rle
from napari_segsuite.annotations.checks import get, load, name_of, points_of, shape_of
from napari_segsuite.annotations.items import CROWD, Annotated, Part, assemble, parts_of, place_of, planar, same_classes
from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.record import KEY
from napari_segsuite.types import Class, Segmentation


def lost(segmentation: Segmentation) -> list[str]:
    """What COCO has no words for."""
    return []


def write(items: Iterable[Annotated], out: Path, *, overwrite: bool) -> None:
    """Write a data set; masks are run lengths, which are exact.

    Raises
    ------
    OutputError
        Labels are no pictures, or have other classes than the first.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    listed: list[dict[str, Any]] = []
    with replacing(out, overwrite=overwrite) as part:
        for count, (item, flat) in enumerate(flattened(items, "COCO"), start=1):
            numbers = categories.numbers_of(flat.classes, flat.provenance)
            listed = categories.to_coco(flat.classes, numbers)
            number = count if item.number is None else item.number
            images.append(image_entry(number, item.file_name, flat))
            annotations += [_entry(one, number, len(annotations) + k, flat, numbers) for k, one in enumerate(parts_of(flat), start=1)]
        document = {**HEAD, "images": images, "categories": listed, "annotations": annotations}
        part.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def write_results(items: Iterable[Annotated], out: Path, *, overwrite: bool) -> None:
    """Write only the objects, each with its score: the list that COCO's own tools compare with a data set (``COCO.loadRes``).

    Raises
    ------
    OutputError
        As in `write`; also where the images have no numbers of a data set.
    """
    found: list[dict[str, Any]] = []
    with replacing(out, overwrite=overwrite) as part:
        for item, flat in flattened(items, "COCO"):
            if item.number is None:
                raise OutputError(f"{flat.name} has no number in a data set", "--like with the COCO file it is compared with")
            numbers = categories.numbers_of(flat.classes, flat.provenance)
            entries = (_entry(one, item.number, 0, flat, numbers) for one in parts_of(flat))
            found += [{name: e[name] for name in ("image_id", "category_id", "segmentation", "bbox", "score")} for e in entries]
        part.write_text(json.dumps(found), encoding="utf-8")


def lost_in_results(segmentation: Segmentation) -> list[str]:
    """What a list of results does not hold."""
    return ["everything but the objects: names of images and classes, and the numbers of segments"]


HEAD = {"info": {"description": "written by napari-segsuite", "version": "1.0"}, "licenses": []}
"""What COCO's files begin with."""


def flattened(items: Iterable[Annotated], what: str) -> Iterator[tuple[Annotated, Segmentation]]:
    """The items of a data set with their labels as pictures, which must have the same classes in all."""
    seen: list[Annotated] = []

    def labels() -> Iterator[Segmentation]:
        for item in items:
            seen[:] = [item]
            yield planar(item.segmentation, what)

    for flat in same_classes(labels()):
        yield seen[0], flat


def image_entry(number: int, file_name: str, flat: Segmentation) -> dict[str, Any]:
    """An image as COCO lists it."""
    height, width = flat.labels.shape
    return {"id": number, "file_name": file_name, "width": int(width), "height": int(height), KEY: place_of(flat)}


def read(path: Path, images: Mapping[str, Path] | None = None) -> Iterator[Annotated]:
    """Read a data set image by image; masks may be polygons, or run lengths packed or not.

    Raises
    ------
    InputError
        The file is damaged, or says what cannot be.
    """
    document = load(path)
    classes, of = categories.from_coco(document, path)
    of_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for k, entry in enumerate(get(document, "annotations", list, str(path))):
        of_image[get(entry, "image_id", int, f"annotation {k} of {path}")].append(entry)
    for number, entry in images_of(document, path).items():
        yield _image(entry, of_image.pop(number, []), classes, of, path)
    if of_image:
        raise InputError(f"{path} has annotations of image {next(iter(of_image))}, which it does not list")


def images_of(document: Any, path: Path) -> dict[int, Mapping[str, Any]]:
    """The images that a COCO file lists, by their numbers."""
    found: dict[int, Mapping[str, Any]] = {}
    for k, entry in enumerate(get(document, "images", list, str(path))):
        where = f"image {k} of {path}"
        number = get(entry, "id", int, where)
        name_of(get(entry, "file_name", str, where), where)
        if number in found:
            raise InputError(f"{where} has the id {number}, as another one has")
        found[number] = entry
    return found


def class_of(entry: Any, of: Mapping[int, int], where: str) -> int:
    """The class of an annotation."""
    number = get(entry, "category_id", int, where)
    if number not in of:
        raise InputError(f"{where} is of category {number}, which its file does not list", f"one of {', '.join(map(str, sorted(of)))}")
    return of[number]


def told_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Score and status of an annotation, as far as it says them."""
    score = entry.get("score", 1.0)
    good = isinstance(score, (int, float)) and 0 <= score <= 1
    return {"score": float(score) if good else 1.0, "status": CROWD if entry.get("iscrowd") else str(entry.get("status", ""))}


def _entry(part: Part, image: int, number: int, flat: Segmentation, numbers: Mapping[int, int]) -> dict[str, Any]:
    height, width = (int(n) for n in flat.labels.shape)
    (y, x), (h, w) = part.at, part.mask.shape
    counts = rle.pack(rle.encode(part.mask, (y, x), (height, width)))
    told = {"segment_id": part.key, "score": part.score, **({"status": part.status} if part.status else {})}
    return {
        "id": number, "image_id": image, "category_id": numbers[part.class_id], "segmentation": {"size": [height, width], "counts": counts},
        "area": int(part.mask.sum()), "bbox": [x, y, w, h], "iscrowd": int(part.status == CROWD), **told,
    }  # fmt: skip


def _image(entry: Mapping[str, Any], found: Sequence[Any], classes: tuple[Class, ...], of: Mapping[int, int], path: Path) -> Annotated:
    where = f"image {entry['file_name']!r} of {path}"
    shape = shape_of(entry, where)
    ours = entry.get(KEY)
    place = ours if isinstance(ours, dict) and ours.get("axes") == "yx" else {"name": name_of(entry["file_name"], where)}
    keyed = bool(found) and all(isinstance(a.get("segment_id"), int) and a["segment_id"] > 0 for a in found)
    parts = []
    for k, one in enumerate(found):
        told = f"annotation {one.get('id', k)} of {path}"
        mask, at = _mask(get(one, "segmentation", (dict, list), told), shape, told)
        parts.append(Part(one["segment_id"] if keyed else f"#{k}", mask, at, class_of(one, of, told), **told_of(one)))
    made = assemble(parts, shape, classes, {**place, "provenance": categories.to_provenance(of)}, entry["file_name"])
    return replace(made, number=entry["id"])


def _mask(value: Any, shape: tuple[int, int], where: str) -> rle.Box:
    """The pixels of an object."""
    if isinstance(value, dict):
        return _runs(value, shape, where)
    if not value:
        raise InputError(f"{where} has an empty list as its 'segmentation'", "at least one polygon")
    return rle.join([rle.fill(points_of(one, shape, where), shape) for one in value])


def _runs(value: Mapping[str, Any], shape: tuple[int, int], where: str) -> rle.Box:
    if get(value, "size", list, where) != list(shape):
        raise InputError(f"{where} has a mask of size {value['size']}, and its image has {list(shape)}", "the same height and width")
    counts = get(value, "counts", (str, list), where)
    try:
        return rle.decode(rle.unpack(counts) if isinstance(counts, str) else [int(n) for n in counts], shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{where} cannot be unfolded: {error}", "run lengths that add up to the image, in 'counts'") from error
