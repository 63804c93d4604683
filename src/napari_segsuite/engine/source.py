"""What tells an input from another or a later one, so that nothing is gone on with that belongs to something else."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.engine import measure
from napari_segsuite.io.faults import reading
from napari_segsuite.types import Image

_METADATA = ("zarr.json", ".zattrs", ".zarray", ".zgroup", ".zmetadata")


def identity(path: Path, scene: int | str | None) -> dict[str, Any]:
    """What tells a file, and the image in it, from another or a later one: name, scene, bytes, and when it last changed.

    Of a zarr folder its chunks count. Its metadata is compared as part of the plan, and labels may be written into it meanwhile.
    """
    with reading(path):
        files = [path] if not path.is_dir() else [p for p in path.rglob("*") if _is_chunk(p, path)]
        stats = [file.stat() for file in files]
    changed = max((s.st_mtime_ns for s in stats), default=0)
    return {"name": path.name, "scene": scene, "bytes": sum(s.st_size for s in stats), "changed_ns": changed}


def identity_of(image: Image) -> dict[str, Any]:
    """What an image is known by: its pixels where they are in memory, else its file.

    Of lazy arrays without a file the same samples are looked at as for contrast: a change that none of them meets is not noticed.
    """
    data = image.data
    if isinstance(data, np.ndarray):
        total = 0
        for at in np.ndindex(*data.shape[:-2]):
            total = zlib.crc32(np.ascontiguousarray(data[at]).data, total)
        return {"pixels": total}
    if not hasattr(data, "dask") and image.source and Path(image.source).exists():
        return identity(Path(image.source), None)
    samples = [np.ascontiguousarray(measure.sample(image, channel)) for channel in range(image.size("c"))]
    return {"sample": [zlib.crc32(sample.data) for sample in samples]}


def _is_chunk(path: Path, store: Path) -> bool:
    return path.is_file() and path.name not in _METADATA and "labels" not in path.relative_to(store).parts
