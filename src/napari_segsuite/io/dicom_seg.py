"""Reading DICOM segmentations: segments as classes, their bits or numbers as labels, on the grid of the image that they belong to.

A file holds only the planes in which a segment lies. Where it is one of ours, a private element tells the whole grid, the ids and the table;
else the grid reaches from the first plane to the last, until a series says how far it goes (`on_grid`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.bulk import Block
from napari_segsuite.io.dicom_grid import laid_on
from napari_segsuite.io.dicom_headers import pydicom_reading
from napari_segsuite.io.dicom_segments import Planes, Segment, planes_in
from napari_segsuite.io.faults import AGAIN
from napari_segsuite.io.geometry import PLACE, order_of, stem_of
from napari_segsuite.io.ids import smallest_dtype
from napari_segsuite.io.lazy import arrange
from napari_segsuite.io.record import segmentation_of
from napari_segsuite.io.scenes import Scene
from napari_segsuite.io.table import table_of
from napari_segsuite.io.volume import Stored, lettered
from napari_segsuite.io.world import Grid
from napari_segsuite.types import Class, Image, Segmentation

Wish = int | str | None


def read(path: Path, scene: Wish = None) -> Segmentation:
    """Read a segmentation, or one segment of it.

    Raises
    ------
    InputError
        It is damaged, its planes are no stack, or it has no segment `scene`.
    """
    with pydicom_reading(path):
        return _read(path, scene)


def scenes(path: Path) -> list[Scene]:
    """The segments of a segmentation."""
    return [Scene(one.number, one.label, ()) for one in planes_in(path).segments.values() if one.number]


def _read(path: Path, scene: Wish) -> Segmentation:
    found = planes_in(path)
    chosen = found.segments if scene is None else {one.number: one for one in [_segment(found, scene)]}
    stored, notices = _painted(found, chosen)
    letters, place = lettered(Stored(Block(path, 0, found.shape, stored.dtype), "sss", found.grid), path, None)
    _, order = order_of(letters, place["axes"])
    labels = arrange(stored, order)
    if found.record and scene is None:
        return _ours(found, labels, place)
    classes = tuple(Class(s.number, s.label, s.color, countable=False) for s in chosen.values() if s.number)
    table = table_of(labels, place["axes"], classes, {c.id: c.id for c in classes})
    told = {"segments": {str(s.number): dict(s.told) for s in chosen.values()}, "made_by": str(found.header.get("ManufacturerModelName") or "")}
    provenance = {"dicom": {**told, "source": str(path), "lost": notices}}
    return Segmentation(labels, table, classes, name=stem_of(path), provenance=provenance, **place)


def image_of(found: Segmentation, path: Path) -> Image:
    """Labels as an image."""
    fields = {name: getattr(found, name) for name in ("axes", "scale", "units", "translate", "affine", "name")}
    return Image(levels=(found.labels,), source=str(path), **fields)


def on_grid(found: Segmentation, grid: Grid, shape: tuple[int, int, int], path: Path) -> Segmentation:
    """The same labels with the voxels of a series, in its order and as far as it reaches; see `dicom_grid.laid_on`."""
    stored = laid_on(found, grid, shape, path)
    letters, place = lettered(Stored(Block(path, 0, shape, stored.dtype), "sss", grid), path, None)
    labels = arrange(stored, order_of(letters, place["axes"])[1])
    classes = {int(i): int(c) for i, c in zip(found.segments["id"].tolist(), found.segments["class_id"].tolist(), strict=True)}
    fresh = table_of(labels, place["axes"], found.classes, classes)
    rows = np.searchsorted(found.segments["id"], fresh["id"])
    known = {name: np.asarray(found.segments[name])[rows] for name in ("score", "status")}
    return replace(found, labels=labels, segments={**fresh, **known}, **place)


def _segment(found: Planes, scene: int | str) -> Segment:
    chosen = [s for s in found.segments.values() if str(scene) in (str(s.number), s.label)]
    if len(chosen) != 1:
        told = ", ".join(f"{s.number}: {s.label}" for s in list(found.segments.values())[:12])
        raise InputError(f"the segmentation {found.path} has {len(chosen) or 'no'} segment{'s' * (len(chosen) > 1)} {scene!r}", f"one of {told}")
    return chosen[0]


def _ours(found: Planes, labels: NDArray[Any], place: dict[str, Any]) -> Segmentation:
    """A segmentation as it was written: with its ids, its table and its place, where the file still says the same."""
    ids = np.array([0, *found.record["ids"]], np.uint64)
    top = int(ids.max())
    kept = np.array(ids[labels], np.dtype(found.record["dtype"]) if found.record.get("dtype") else smallest_dtype(top))
    where = {name: place[name] for name in PLACE}
    return replace(segmentation_of(kept, where, found.record), affine=place["affine"])


def _painted(found: Planes, chosen: Mapping[int, Segment]) -> tuple[NDArray[Any], list[str]]:
    """The labels as stored, (columns, rows, slices), and what they do not hold of the file."""
    import pydicom
    from pydicom.pixels.utils import iter_pixels

    highest = max([*found.segments, len(found.record.get("ids", ())), 1])
    stored = np.zeros(found.shape[::-1], np.uint8 if highest < 256 else smallest_dtype(highest))
    order = sorted(found.planes, key=lambda p: (p.segment or 0, p.index))
    wanted = [p for p in order if p.segment is None or p.segment in chosen]
    twice: dict[tuple[int, int], int] = {}
    half = float(found.header.get("MaximumFractionalValue") or 255) / 2 if found.kind == "FRACTIONAL" else 0.0
    # From memory, since from a file that ends early pydicom makes zeros.
    pixels = iter_pixels(pydicom.dcmread(found.path), indices=[p.index for p in wanted])
    for plane, frame in zip(wanted, pixels, strict=True):
        here = stored[found.slice_of(plane)]
        if plane.segment is None:
            here[...] = _numbered(found, frame, chosen)
            continue
        mask = frame > half
        for before in np.unique(here[mask]).tolist():
            if before:
                pair = (int(before), plane.segment)
                twice[pair] = twice.get(pair, 0) + int(np.count_nonzero(here[mask] == before))
        here[mask] = plane.segment
    return stored.transpose(), _losses(found, twice)


def _numbered(found: Planes, frame: NDArray[Any], chosen: Mapping[int, Segment]) -> NDArray[Any]:
    """A frame of a label map with the wanted segments alone; its padding is background."""
    told = {*found.segments, int(found.header.get("PixelPaddingValue") or 0), 0}
    unknown = [int(v) for v in np.unique(frame) if int(v) not in told]
    if unknown:
        raise InputError(f"pixels of {found.path} are of segment {unknown[0]}, which it does not describe", do=AGAIN)
    wanted = [number for number in chosen if number != int(found.header.get("PixelPaddingValue") or 0)]
    return np.where(np.isin(frame, wanted), frame, 0)


def _losses(found: Planes, twice: Mapping[tuple[int, int], int]) -> list[str]:
    told = [f"fractions in {found.path.name}: voxels of which a segment has more than half are its own"] if found.kind == "FRACTIONAL" else []
    names = {s.number: f"{s.number} {s.label!r}" for s in found.segments.values()}
    pairs = [f"{names[a]} and {names[b]} in {n}" for (a, b), n in list(twice.items())[:6]]
    more = f", and {len(twice) - 6} more pairs" if len(twice) > 6 else ""
    n = sum(twice.values())
    overlap = (
        f"segments overlap in {n} voxels ({'; '.join(pairs)}{more}), which have the label of the latter; one segment alone is read with scene=NUMBER"
    )
    return [*told, overlap] if twice else told
