"""GeoJSON (RFC 7946) as QuPath reads and writes it: polygons in pixels of the whole image, one feature per object and plane."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_segsuite.annotations.checks import get, load, points_of
from napari_segsuite.annotations.drawn import Drawn, Images, labels_of, planes_lost, record_of
from napari_segsuite.annotations.items import Annotated, Part, parts_of
from napari_segsuite.annotations.rings import trace
from napari_segsuite.errors import InputError
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.record import KEY
from napari_segsuite.types import Class, Segmentation

NAMES = uuid.UUID("6f1e3f0a-0c0e-5b1c-9d7c-2f6c6f1d0a11")
"""What the ids of features are made from, so that the same labels give the same file."""

FAR = (2**20, 2**20)
"""How large an image may be as long as nobody has said how large it is."""

lost = planes_lost


def write(items: Iterable[Annotated], out: Path, *, overwrite: bool) -> None:
    """Write the labels of one image."""
    (item,) = items
    with replacing(out, overwrite=overwrite) as part:
        classes = {c.id: c for c in item.segmentation.classes}
        features = [_feature(one, item.segmentation, classes) for one in parts_of(item.segmentation)]
        document = {"type": "FeatureCollection", "features": features, KEY: record_of(item)}
        part.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def read(path: Path, images: Images | None = None) -> Iterator[Annotated]:
    """Read the labels of one image.

    Raises
    ------
    InputError
        The file is damaged, or does not say how large the image is and the image is not there.
    """
    document = load(path)
    features = document if isinstance(document, list) else get(document, "features", list, str(path))
    ours = None if isinstance(document, list) else document.get(KEY)
    yield labels_of([_drawn(one, f"feature {k} of {path}") for k, one in enumerate(features)], ours, path, images)


def _feature(part: Part, segmentation: Segmentation, classes: Mapping[int, Class]) -> dict[str, Any]:
    polygons = [[[*ring.tolist(), ring[0].tolist()] for ring in polygon] for polygon in trace(part.mask, (part.at[-2], part.at[-1]))]
    one = len(polygons) == 1
    plane = dict(zip(segmentation.axes[:-2], part.at, strict=False))
    geometry: dict[str, Any] = {"type": "Polygon" if one else "MultiPolygon", "coordinates": polygons[0] if one else polygons}
    if plane:
        geometry["plane"] = {"c": -1, "z": plane.get("z", 0), "t": plane.get("t", 0)}
    kind = classes.get(part.class_id)
    properties: dict[str, Any] = {"objectType": "annotation" if kind and not kind.countable else "detection", "name": str(part.key)}
    if kind is not None:
        properties["classification"] = {"name": kind.name, "color": list(kind.color)}
    if part.status:
        properties["metadata"] = {"status": part.status}
    properties["measurements"] = {"score": part.score, "size": int(part.mask.sum())}
    name = f"{segmentation.name}/{part.key}/{part.at[:-2]}"
    return {"type": "Feature", "id": str(uuid.uuid5(NAMES, name)), "geometry": geometry, "properties": properties}


def _drawn(feature: Any, where: str) -> Drawn:
    geometry = get(feature, "geometry", dict, where)
    kind, found = get(geometry, "type", str, where), get(geometry, "coordinates", list, where)
    if kind not in ("Polygon", "MultiPolygon"):
        raise InputError(f"{where} is a {kind}", "a Polygon or MultiPolygon, which have pixels", "Delete it, or draw it as an area.")
    try:
        polygons = [[points_of(ring, FAR, where) for ring in polygon] for polygon in ([found] if kind == "Polygon" else found)]
    except TypeError:
        raise InputError(f"{where} has coordinates that are no rings of points", "lists of pairs of numbers") from None
    if not polygons or not all(polygons):
        raise InputError(f"{where} has no ring", "at least one per polygon")
    properties = _inner(feature, "properties")
    classified, plane = _inner(properties, "classification"), _inner(geometry, "plane")
    score, status = _inner(properties, "measurements").get("score"), _inner(properties, "metadata").get("status", "")
    return Drawn(
        where, polygons, str(properties.get("name", "")), {a: get({a: plane.get(a, 0)}, a, int, where) for a in "tz"},
        str(classified.get("name", "")), _color(classified), float(score) if isinstance(score, (int, float)) else 1.0, str(status),
    )  # fmt: skip


def _inner(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of a feature that may be missing, or of another kind in files of older programs."""
    value = entry.get(name)
    return value if isinstance(value, Mapping) else {}


def _color(classified: Mapping[str, Any]) -> Any:
    """The colour of a class; older versions of QuPath write it as one number."""
    packed = classified.get("colorRGB")
    return [(packed >> shift) & 255 for shift in (16, 8, 0)] if isinstance(packed, int) else classified.get("color")
