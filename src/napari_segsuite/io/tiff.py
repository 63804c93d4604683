"""Reading TIFF in its dialects: OME-TIFF, ImageJ hyperstacks, LSM, tifffile's own, and plain pages.

1. `_series_of` picks the one image that is meant; several without a choice is an error, never the first.
2. `tiff_check` compares what the file declares with what is there, before anything is allocated.
3. `_stored_axes` names the stored axes; where the file does not say and it matters, the user must (`axes`).
4. Small images are read at once; large ones stay on disk as a `View`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_segsuite.errors import InputError
from napari_segsuite.io import tiff_meta
from napari_segsuite.io.faults import reading
from napari_segsuite.io.geometry import Described, Size, channel_names, check_plane, fields_of, order_of, parse_axes, stem_of
from napari_segsuite.io.lazy import Opened, Order, View, arrange
from napari_segsuite.io.record import affine_of, unpack
from napari_segsuite.io.scenes import Scene, choose
from napari_segsuite.io.tiff_check import check_chain, check_series
from napari_segsuite.io.units import PIXEL
from napari_segsuite.types import Image

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

TAG = 65123
"""Private tag that holds our record (`record.pack`)."""

LAZY_BYTES = 2**28
"""Larger images stay on disk."""

AMBIGUOUS = range(2, 6)
_LIKELY = {3: ["tyx", "cyx", "zyx"], 4: ["tzyx", "czyx", "tcyx"], 5: ["tzcyx", "tczyx"]}
"""Pages of unknown meaning are taken as a z-stack, except this few: they are as likely channels or samples."""

_PREVIEWS = {"thumbnail", "label", "macro", "overview"}


def read(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read a TIFF as an `Image`; see `napari_segsuite.io.read`."""
    with _opened(path) as tif:
        index, series = _series_of(tif, path, scene)
        check_series(tif, series, path)
        record = record_of(tif, path)
        # Resolution tags say less than our record, and not in its units.
        described = tiff_meta.describe(tif, series, index) if series.kind == "ome" or not record else Described()
        stored = parse_axes(axes, series.shape, path) if axes else _stored_axes(tif, series, described, record, path)
        letters, order = order_of(stored, record.get("axes"))
        levels = tuple(_level(path, series, index, k, order) for k in range(len(_levels(series))))
    described = _with_record(described, record)
    n = levels[0].shape[letters.index("c")] if "c" in letters else 0
    return Image(
        levels=levels, channels=channel_names(n, described), rgb=described.rgb and "c" in letters, affine=affine_of(record),
        name=record.get("name") or stem_of(path), source=str(path), **fields_of(letters, described),
    )  # fmt: skip


def scenes(path: Path) -> list[Scene]:
    """The images in a TIFF, without previews."""
    with _opened(path) as tif:
        return _scenes(tif)[0]


def read_labels(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read a TIFF whose pixels are labels."""
    return read(path, axes=axes, scene=scene)


def read_record(path: Path) -> dict[str, Any]:
    """The record that we put into a TIFF; empty for the files of others."""
    with _opened(path) as tif:
        return record_of(tif, path)


def record_of(tif: TiffFile, path: Path) -> dict[str, Any]:
    """The record in an open TIFF; empty where there is none."""
    tag = tif.pages.first.tags.get(TAG)
    return unpack(tag.value, path) if tag is not None and isinstance(tag.value, bytes) else {}


@contextmanager
def _opened(path: Path) -> Iterator[TiffFile]:
    import tifffile

    with reading(path):
        check_chain(path)
        with tifffile.TiffFile(path) as tif:
            tiff_meta.check_xml(tif, path)
            yield tif


def _series_of(tif: TiffFile, path: Path, scene: int | str | None) -> tuple[int, TiffPageSeries]:
    """The one series that is meant, with its number."""
    images, every = _scenes(tif)
    index = choose(images, scene, path, every).number
    return index, tif.series[index]


def _scenes(tif: TiffFile) -> tuple[list[Scene], list[Scene]]:
    """The images, and everything that can be had by its number."""
    found = [(Scene(i, one.name, one.shape), one) for i, one in enumerate(tif.series)]
    images = [s for s, one in found if s.name.lower() not in _PREVIEWS and not one.keyframe.is_reduced and not one.keyframe.is_mask]
    every = [s for s, _ in found]
    return images or every, every


def _stored_axes(tif: TiffFile, series: TiffPageSeries, described: Described, record: dict[str, Any], path: Path) -> str:
    """Our letters for the stored axes; an error where the file leaves open what matters."""
    axes = series.axes.upper()
    unknown = [a for a in axes if a not in "TCZYXS"]
    if "S" in axes and "C" in axes:
        raise InputError(f"file {path} has channels and colours (axes {axes}, shape {series.shape})", "one of them", "Split the file by channel.")
    axes = axes.replace("S", "C")
    if record or not unknown:
        if series.kind == "lsm":
            check_plane(axes.lower(), path)
        return axes.lower()
    free = [a for a in "ZT" if a not in axes]
    n = series.shape[axes.index(unknown[0])]
    if len(unknown) > 1 or unknown[0] not in "IQ" or not free or n in AMBIGUOUS or series.shape[-1] in AMBIGUOUS:
        one = sorted({axes.replace(unknown[0], a).lower() for a in "CZT" if a not in axes})
        likely = one if len(unknown) == 1 else _LIKELY.get(len(axes), [])
        found = f"file {path} does not say what its axes are (shape {series.shape})"
        if not likely:
            raise InputError(found, "at most the five axes t, c, z, y and x", "Split the file.")
        needed = f"axes, for example {' or '.join(repr(a) for a in likely)}"
        raise InputError(found, needed, f"Give them with axes={likely[-1]!r} (--axes {likely[-1]}).")
    return axes.replace(unknown[0], free[0]).lower()


def _levels(series: TiffPageSeries) -> list[TiffPageSeries]:
    """The series and those of its pyramid levels that are smaller images of the same kind."""
    keep = [series]
    for level in series.levels[1:]:
        if level.dtype == series.dtype and level.axes == series.axes and all(a <= b for a, b in zip(level.shape, keep[-1].shape, strict=True)):
            keep.append(level)
    return keep


def _level(path: Path, series: TiffPageSeries, index: int, level: int, order: Order) -> Any:
    one = _levels(series)[level]
    if one.nbytes <= LAZY_BYTES:
        return arrange(one.asarray(), order)
    return View(partial(open_level, path, index, level), tuple(one.shape), np.dtype(one.dtype or "u1"), order, path)


def open_level(path: Path, index: int, level: int) -> Opened:
    """Open one level of one series on disk: memory-mapped where it lies in one piece, else as a zarr array of its tiles."""
    import tifffile
    import zarr

    tif = tifffile.TiffFile(path)
    one = _levels(tif.series[index])[level]
    if one.dataoffset is not None and int(one.keyframe.compression) == 1 and one.dtype is not None:
        tif.close()
        kind = np.dtype(one.dtype).newbyteorder(tif.byteorder)
        return np.memmap(path, kind, "r", one.dataoffset, tuple(one.shape)), None
    number = list(tif.series[index].levels).index(one)
    return zarr.open_array(tif.series[index].aszarr(level=number), mode="r"), tif.close


def _with_record(described: Described, record: dict[str, Any]) -> Described:
    """What the file says in public, completed by what only our record can say."""
    if record.get("kind") not in ("image", "segmentation"):
        return described
    own = {a: (float(s), str(u)) for a, s, u in zip(record["axes"], record["scale"], record["units"], strict=True)}
    public = {a: size for a, size in described.sizes.items() if size != (1.0, PIXEL) and not _agree(size, own.get(a))}
    return Described(
        sizes={**own, **public},
        translate=dict(zip(record["axes"], record["translate"], strict=True)),
        channels=tuple(record.get("channels", ())) or described.channels, rgb=bool(record.get("rgb", described.rgb)),
    )  # fmt: skip


def _agree(public: Size, own: Size | None) -> bool:
    """Whether two sizes differ by no more than the digits that OME-XML leaves out."""
    return own is not None and public[1] == own[1] and isclose(public[0], own[0], rel_tol=1e-6)
