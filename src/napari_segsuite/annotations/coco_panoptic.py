"""COCO panoptic (https://cocodataset.org/#format-data): a JSON file, and beside it a folder of its name with a PNG of segment numbers per image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.annotations import categories
from napari_segsuite.annotations.checks import get, inside, load, name_of, shape_of
from napari_segsuite.annotations.coco import HEAD, class_of, flattened, image_entry, images_of, told_of
from napari_segsuite.annotations.items import CROWD, Annotated, Part, assemble, parts_of
from napari_segsuite.annotations.pictures import read_png, write_png
from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.ids import largest
from napari_segsuite.io.record import KEY
from napari_segsuite.io.table import table_of
from napari_segsuite.types import Class, Segmentation

MOST = 2**24 - 1
"""The largest number of a segment: red + 256 green + 65536 blue."""


def lost(segmentation: Segmentation) -> list[str]:
    """What COCO panoptic has no words for."""
    return []


def write(items: Iterable[Annotated], out: Path, *, overwrite: bool) -> None:
    """Write a data set: the file, and the folder of its name without suffix.

    Raises
    ------
    OutputError
        Labels are no pictures, have other classes than the first, or numbers above `MOST`; two images have one name.
    """
    images: list[dict[str, Any]] = []
    annotations: dict[str, dict[str, Any]] = {}
    listed: list[dict[str, Any]] = []
    with replacing(out, overwrite=overwrite) as part, replacing(out.with_suffix(""), overwrite=overwrite) as folder:
        folder.mkdir()
        for count, (item, flat) in enumerate(flattened(items, "COCO panoptic"), start=1):
            numbers = categories.numbers_of(flat.classes, flat.provenance)
            listed = categories.to_coco(flat.classes, numbers)
            name = f"{name_of(item.file_name, flat.name)}.png"
            if name in annotations:
                raise OutputError(f"two images are called {name}", "one name each")
            if (top := largest(flat.labels)) > MOST:
                raise OutputError(f"{flat.name} has a segment {top}; COCO panoptic has numbers up to {MOST}", do="Renumber it, or write coco.")
            write_png(_colours(np.asarray(flat.labels)), folder / name)
            number = count if item.number is None else item.number
            images.append(image_entry(number, item.file_name, flat))
            annotations[name] = {"image_id": number, "file_name": name, "segments_info": [_info(one, numbers) for one in parts_of(flat)]}
        document = {**HEAD, "images": images, "annotations": list(annotations.values()), "categories": listed}
        part.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def read(path: Path, images: Mapping[str, Path] | None = None) -> Iterator[Annotated]:
    """Read a data set image by image.

    Raises
    ------
    InputError
        The file or a picture is damaged or missing, or what they say does not agree.
    """
    document = load(path)
    classes, of = categories.from_coco(document, path)
    listed = images_of(document, path)
    for k, entry in enumerate(get(document, "annotations", list, str(path))):
        where = f"annotation {k} of {path}"
        number = get(entry, "image_id", int, where)
        if number not in listed:
            raise InputError(f"{where} is of image {number}, which its file does not list")
        yield _image(entry, listed[number], classes, of, path, where)


def _image(
    entry: Mapping[str, Any], image: Mapping[str, Any], classes: tuple[Class, ...], of: Mapping[int, int], path: Path, where: str
) -> Annotated:
    picture = path.with_suffix("") / inside(get(entry, "file_name", str, where), where)
    pixels, _ = read_png(picture, shape_of(image, f"image {image['file_name']!r} of {path}"))
    if pixels.ndim != 3:
        raise InputError(f"{picture} is grey", "the numbers of segments as red + 256 green + 65536 blue")
    numbers = pixels.astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
    told = {get(s, "id", int, where): s for s in get(entry, "segments_info", list, where)}
    there = table_of(numbers, "yx", ())
    unknown = set(there["id"].tolist()) ^ set(told)
    if unknown:
        raise InputError(f"{picture} and {where} disagree about segment {min(unknown)}: only one of them has it")
    parts = []
    for k, number in enumerate(there["id"].tolist()):
        y, x = (slice(int(there[f"bbox_{a}0"][k]), int(there[f"bbox_{a}1"][k])) for a in "yx")
        kind = class_of(told[number], of, f"segment {number} of {where}")
        parts.append(Part(number, numbers[y, x] == number, (y.start, x.start), kind, **told_of(told[number])))
    ours = image.get(KEY)
    place = ours if isinstance(ours, dict) and ours.get("axes") == "yx" else {"name": name_of(image["file_name"], where)}
    made = assemble(parts, numbers.shape, classes, {**place, "provenance": categories.to_provenance(of)}, image["file_name"])
    return replace(made, number=image["id"])


def _info(part: Part, numbers: Mapping[int, int]) -> dict[str, Any]:
    (y, x), (h, w) = part.at, part.mask.shape
    told = {"score": part.score, **({"status": part.status} if part.status else {})}
    box = {"area": int(part.mask.sum()), "bbox": [x, y, w, h], "iscrowd": int(part.status == CROWD)}
    return {"id": part.key, "category_id": numbers[part.class_id], **box, **told}


def _colours(labels: NDArray[Any]) -> NDArray[np.uint8]:
    numbers = labels.astype(np.uint32)
    return np.stack([numbers & 255, (numbers >> 8) & 255, numbers >> 16], -1).astype(np.uint8)
