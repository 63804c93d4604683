"""What tells an input from another or a later one, so that nothing is gone on with that belongs to something else."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.engine import measure
from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import reading
from napari_segsuite.io.place import exists, from_there, is_remote, place, service
from napari_segsuite.types import Image

_METADATA = ("zarr.json", ".zattrs", ".zarray", ".zgroup", ".zmetadata")


def identity(path: Path, scene: int | str | None) -> dict[str, Any]:
    """What tells a file, and the image in it, from another or a later one: name, scene, bytes, and when it last changed.

    Of a zarr folder its chunks count. Its metadata is compared as part of the plan, and labels may be written into it meanwhile.
    """
    if is_remote(path):
        return _remote_identity(path, scene)
    with reading(path):
        files = [path] if not path.is_dir() else [p for p in path.rglob("*") if _is_chunk(p, path)]
        stats = [file.stat() for file in files]
    changed = max((s.st_mtime_ns for s in stats), default=0)
    return {"name": path.name, "scene": scene, "bytes": sum(s.st_size for s in stats), "changed_ns": changed}


def _remote_identity(path: Path, scene: int | str | None) -> dict[str, Any]:
    """The same of what lies at a URL; what its files are known by there (size, ETag or time) instead of when they changed."""
    total, size = 0, 0
    found: dict[str, dict[str, Any]] = {}
    with suppress(OSError), from_there(path):  # of a web server that lists nothing, only the name tells, and what the plan knows
        fs, root = service(path)
        found = fs.find(root, detail=True)
    for name in sorted(found):
        parts = name[len(service(path)[1]) :].strip("/").split("/")
        if parts[-1] in _METADATA or "labels" in parts:
            continue
        told = found[name]
        known = next((told[key] for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created") if key in told), "")
        total = zlib.crc32(repr((parts, told.get("size"), str(known))).encode(), total)
        size += int(told.get("size") or 0)
    return {"name": path.name, "scene": scene, "bytes": size, "changed": total}


def check_unchanged(before: Mapping[str, Any], now: Mapping[str, Any], source: Path | str, *, grown: bool) -> None:
    """Refuse to call a result one of an input whose identity is another than when it was begun.

    Parameters
    ----------
    before, now : mapping
    source : Path or str
    grown : bool
        Whether chunks of the result lie on disk, which may be of either.

    Raises
    ------
    InputError
    """
    if before != now:
        again = "Do it again, with --overwrite," if grown else "Do it again"
        raise InputError(f"file {source} changed while it was segmented", do=f"{again} when nothing writes to it any more.")


def check_image_unchanged(image: Image, before: Mapping[str, Any]) -> None:
    """The same of an image that a result on disk was made of; pixels in memory are those that it began with."""
    if not isinstance(image.data, np.ndarray):
        check_unchanged(before, identity_of(image), image.source or image.name, grown=True)


def file_of(image: Image) -> Path | None:
    """The file or store that the pixels of an image are still read from; None where they are in memory or come from elsewhere."""
    data = image.data
    on_disk = not isinstance(data, np.ndarray) and not hasattr(data, "dask") and image.source and exists(place(image.source))
    return place(image.source) if on_disk else None


def identity_of(image: Image) -> dict[str, Any]:
    """What an image is known by: its pixels where they are in memory, else its file.

    Of lazy arrays without a file, and of one of several images in a file, the same samples are looked at as for contrast: a change that none of
    them meets is not noticed.
    """
    from napari_segsuite.io import holds_several

    data = image.data
    if isinstance(data, np.ndarray):
        total = 0
        for at in np.ndindex(*data.shape[:-2]):
            total = zlib.crc32(np.ascontiguousarray(data[at]).data, total)
        return {"pixels": total}
    path = file_of(image)
    known = {} if path is None else identity(path, None)
    if path is not None and not holds_several(path):  # of which one it is, its size and time say nothing
        return known
    samples = [np.ascontiguousarray(measure.sample(image, channel)) for channel in range(image.size("c"))]
    return known | {"sample": [zlib.crc32(sample.data) for sample in samples]}


def _is_chunk(path: Path, store: Path) -> bool:
    return path.is_file() and path.name not in _METADATA and "labels" not in path.relative_to(store).parts
