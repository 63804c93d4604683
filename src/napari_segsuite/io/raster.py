"""Reading and writing PNG, JPEG and their like: one picture, 8 or 16 bits, grey, RGB(A) or palette."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.faults import reading
from napari_segsuite.io.geometry import Described, fields_of, stem_of
from napari_segsuite.io.ids import largest
from napari_segsuite.io.record import KEY, affine_of, image_record, pack, segmentation_record, unpack
from napari_segsuite.types import Image, Segmentation

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_COLOURS = ("red", "green", "blue", "alpha")
_AS_THEY_ARE = {"1", "L", "I", "I;16", "I;16B", "I;16L", "F", "RGB", "RGBA"}
_LOSSY = {".jpg", ".jpeg", ".webp", ".gif"}
_DEEP = {(16, 2), (16, 6)}
"""Bit depth and colour type of the PNGs that Pillow would silently cut to 8 bits."""


def read(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read one picture as an `Image`; see `napari_segsuite.io.read`."""
    if scene not in (None, 0, "0"):
        raise InputError(f"file {path} has no image {scene!r}; it is one picture")
    with _opened(path) as picture:
        record = _record_of(picture, path)
        pixels = _deep(path) if _is_deep(path) else _pixels(picture)
    return _image(pixels, record, path, axes)


def read_labels(path: Path, *, axes: str | None = None) -> Image:
    """Read one picture whose pixels are labels: of a palette picture the numbers of its colours, not the colours."""
    with _opened(path) as picture:
        record = _record_of(picture, path)
        pixels = np.asarray(picture) if picture.mode == "P" else _pixels(picture)
    return _image(pixels, record, path, axes)


def _image(pixels: NDArray[Any], record: dict[str, Any], path: Path, axes: str | None) -> Image:
    rgb = pixels.ndim == 3
    letters = "cyx" if rgb else "yx"
    if axes is not None and axes.lower() not in (letters, "yxc" if rgb else "yx"):
        raise InputError(f"axes={axes!r} does not fit {path}, a {'colour' if rgb else 'grey'} picture", repr(letters))
    sizes = {a: (float(s), str(u)) for a, s, u in zip(*(record.get(name, ()) for name in ("axes", "scale", "units")), strict=True)}
    described = Described(sizes=sizes, translate=dict(zip(record.get("axes", ""), record.get("translate", ()), strict=True)))
    data = np.moveaxis(pixels, -1, 0) if rgb else pixels
    names = tuple(record.get("channels", ())) or _COLOURS[: len(data)] if rgb else ()
    return Image(
        levels=(data,), channels=names, rgb=rgb, affine=affine_of(record), name=str(record.get("name") or stem_of(path)), source=str(path),
        **fields_of(letters, described),
    )  # fmt: skip


def read_record(path: Path) -> dict[str, Any]:
    """The record that we put into a PNG; empty for the files of others."""
    with _opened(path) as picture:
        return _record_of(picture, path)


def write_image(image: Image, path: Path, *, overwrite: bool) -> None:
    """Write a two-dimensional image of 8 or 16 bits, or an RGB(A) one of 8 bits."""
    pixels = np.asarray(image.data)
    fits = (image.axes == "yx" and pixels.dtype in (np.uint8, np.uint16, bool)) or (image.axes == "cyx" and image.rgb and pixels.dtype == np.uint8)
    if not fits or (path.suffix.lower() in _LOSSY and pixels.dtype != np.uint8):
        found = f"a {path.suffix} file cannot hold {image.name!r} (axes {image.axes!r}, shape {image.shape}, {pixels.dtype})"
        raise OutputError(found, "one grey or RGB picture of 8 bits, for .png also 16", "Write .tif or .ome.zarr instead.")
    _write(np.moveaxis(pixels, 0, -1) if image.rgb else pixels, pack(image_record(image)), path, overwrite=overwrite)


def write_segmentation(segmentation: Segmentation, path: Path, *, overwrite: bool) -> None:
    """Write two-dimensional labels with ids up to 65535 as PNG, with everything else in a text chunk."""
    if path.suffix.lower() != ".png":
        raise OutputError(f"a {path.suffix} file does not keep labels exactly", ".png, .tif or .ome.zarr", "Choose another suffix.")
    top = largest(segmentation.labels)
    if segmentation.axes != "yx" or top > np.iinfo(np.uint16).max:
        found = f"{segmentation.name!r} has axes {segmentation.axes!r} and ids up to {top}; PNG holds two dimensions and ids up to 65535"
        raise OutputError(found, do="Write .tif or .ome.zarr instead.")
    labels = np.asarray(segmentation.labels).astype(np.uint8 if top < 256 else np.uint16)
    _write(labels, pack(segmentation_record(segmentation)), path, overwrite=overwrite)


def _write(pixels: NDArray[Any], packed: bytes, path: Path, *, overwrite: bool) -> None:
    import PIL.Image
    from PIL.PngImagePlugin import PngInfo

    PIL.Image.init()
    kind = PIL.Image.registered_extensions()[path.suffix.lower()]
    options: dict[str, Any] = {}
    if kind == "PNG":
        # As plain text, since readers refuse compressed text that unfolds to more than a megabyte.
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text(KEY, base64.b64encode(packed).decode())
    with replacing(path, overwrite=overwrite) as part:
        PIL.Image.fromarray(np.ascontiguousarray(pixels)).save(part, format=kind, **options)


@contextmanager
def _opened(path: Path) -> Iterator[Picture]:
    import PIL.Image

    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        try:
            with PIL.Image.open(path) as picture:
                yield picture
        except PIL.Image.DecompressionBombError as error:
            found = f"file {path} declares more pixels than a picture file may have ({error})"
            raise InputError(found, do="If it is real, convert it to TIFF or OME-Zarr.") from error


def _pixels(picture: Picture) -> NDArray[Any]:
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise InputError(f"file {getattr(picture, 'filename', '')} has {frames} frames", "one picture", "Convert it to TIFF.")
    if picture.mode in ("LA", "La"):
        picture = picture.convert("L")
    elif picture.mode not in _AS_THEY_ARE:
        transparent = picture.mode == "PA" or (picture.mode == "P" and "transparency" in picture.info)
        picture = picture.convert("RGBA" if transparent else "RGB")
    pixels = np.asarray(picture)
    if picture.mode == "I" and picture.format == "PNG":  # older Pillows open 16-bit grey as 32-bit
        return pixels.astype(np.uint16)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _is_deep(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(26)
    return head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) == 26 and (head[24], head[25]) in _DEEP


def _deep(path: Path) -> NDArray[Any]:
    """Decode a 16-bit colour PNG, which Pillow cannot."""
    import imagecodecs

    return np.asarray(imagecodecs.png_decode(path.read_bytes()))


def _record_of(picture: Picture, path: Path) -> dict[str, Any]:
    picture.load()  # text may also stand behind the pixels
    text = picture.info.get(KEY)
    return unpack(base64.b64decode(text), path) if isinstance(text, str) else {}
