"""Writing TIFF: OME-XML where it knows the pixel type, our record in a private tag, one plane in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import OutputError
from napari_segsuite.io import tiff_meta
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.ids import largest, smallest_dtype
from napari_segsuite.io.record import image_record, pack, segmentation_record
from napari_segsuite.io.tiff import TAG
from napari_segsuite.types import ArrayLike, Image, Segmentation

BIG_BYTES = 2**31
"""Larger files are BigTIFF, since offsets in a classic one end at 4 GB and many readers at half of it."""

_OME_TYPES = {"bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"}
_TYPES = _OME_TYPES | {"uint64", "int64", "float16"}


def write_image(image: Image, path: Path, *, overwrite: bool) -> None:
    """Write the finest level of an image as OME-TIFF."""
    planes_first = image.axes.replace("c", "") + "c" if image.rgb else image.axes
    order = tuple(image.axes.index(a) for a in planes_first)
    axes = planes_first.upper().replace("C", "S") if image.rgb else planes_first.upper()
    dtype = np.dtype(image.data.dtype).newbyteorder("=")
    if dtype.name not in _TYPES:
        raise OutputError(f"TIFF has no pixels of type {dtype}", "integers, booleans or floats of at most 64 bits", "Convert the image first.")
    told = {"channels": image.channels if "c" in image.axes and not image.rgb else (), "name": image.name}
    _write(path, image.data, order, dtype, axes, _sizes(image), image_record(image), told, rgb=image.rgb, overwrite=overwrite)


def write_segmentation(segmentation: Segmentation, path: Path, *, overwrite: bool) -> None:
    """Write labels, and everything else that a `Segmentation` holds, as one OME-TIFF."""
    labels = segmentation.labels
    order = tuple(range(len(segmentation.axes)))
    told = {"channels": (), "name": segmentation.name}
    dtype, record = smallest_dtype(largest(labels)), segmentation_record(segmentation)
    _write(path, labels, order, dtype, segmentation.axes.upper(), _sizes(segmentation), record, told, rgb=False, overwrite=overwrite)


def _write(
    path: Path, data: ArrayLike, order: tuple[int, ...], dtype: np.dtype[Any], axes: str, sizes: Mapping[str, tuple[float, str]],
    record: Mapping[str, Any], told: Mapping[str, Any], *, rgb: bool, overwrite: bool,
) -> None:  # fmt: skip
    import tifffile

    shape = tuple(data.shape[i] for i in order)
    ome = dtype.name in _OME_TYPES
    metadata = {"axes": axes, **(tiff_meta.ome_metadata(sizes, told["channels"], told["name"]) if ome else {})}
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    tag = (TAG, 7, None, pack(record), True)  # 7: bytes without a meaning to others
    planes: Any = _planes(data, order, dtype, 3 if rgb else 2)
    if not ome and shape[-1] == 1:  # tifffile drops a last axis of length 1 and then finds planes of another shape than it asked for
        planes = np.stack(list(planes)).reshape(shape)
    with replacing(path, overwrite=overwrite) as part:
        tifffile.imwrite(
            part, planes, shape=shape, dtype=dtype, photometric="rgb" if rgb else "minisblack", ome=ome,
            compression="zlib", bigtiff=nbytes > BIG_BYTES, metadata=metadata, extratags=[tag], **tiff_meta.resolution(sizes),
        )  # fmt: skip


def _planes(data: ArrayLike, order: tuple[int, ...], dtype: np.dtype[Any], plane_axes: int) -> Iterator[NDArray[Any]]:
    """The image plane by plane in its stored order, so that one plane at a time is in memory."""
    outer = order[:-plane_axes]
    kept = sorted(order[-plane_axes:])
    for index in np.ndindex(*(data.shape[i] for i in outer)):
        key: list[Any] = [slice(None)] * len(order)
        for axis, at in zip(outer, index, strict=True):
            key[axis] = at
        # The view gives one name to types that C has several names for, which tifffile takes for several types.
        plane = np.asarray(data[tuple(key)]).astype(dtype, copy=False).view(dtype)
        yield np.ascontiguousarray(plane.transpose([kept.index(i) for i in order[-plane_axes:]]))


def _sizes(thing: Image | Segmentation) -> dict[str, tuple[float, str]]:
    return {a: (float(s), u) for a, s, u in zip(thing.axes, thing.scale, thing.units, strict=True) if a != "c"}
