"""A folder of pictures as one image: they are its slices, its time points or its channels, in the order of the numbers in their names."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import reading
from napari_segsuite.io.geometry import PLACE, stem_of
from napari_segsuite.io.ids import from_pixels
from napari_segsuite.io.inputs import OURS, module_of
from napari_segsuite.io.lazy import Opened, View
from napari_segsuite.io.place import is_remote
from napari_segsuite.io.planes import Kept
from napari_segsuite.io.record import classes_of, segmentation_of
from napari_segsuite.io.table import table_of
from napari_segsuite.io.units import PIXEL
from napari_segsuite.types import AXES, Image, Segmentation

ALONG = {"z": "slices", "t": "time points", "c": "channels"}
"""Axis -> what its files are."""
KINDS = ("tiff", "raster")
"""Modules whose files may be slices."""
_NUMBER = r"\d+(?:\.\d+)?"
KEPT_BYTES = 2**28
"""Of pictures that are kept after reading."""


@dataclass(frozen=True)
class Files:
    """Pictures of one shape and type as one array, which stays in its files.

    Attributes
    ----------
    paths : tuple of Path
        In order.
    along : str
        The axis that they lie along.
    at : int
        Which of the array's that is.
    axes : str, optional
        What the stored axes of each file are, where it does not say.
    shape : tuple of int
        Of each picture, without the axis that they lie along.
    dtype : dtype
        In native byte order.
    labels : bool
        Whether their pixels are labels.
    """

    paths: tuple[Path, ...]
    along: str
    at: int
    axes: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    labels: bool = False


def read(folder: Path, along: str, *, axes: str | None = None, labels: bool = False) -> Image:
    """Read the pictures in a folder as one image.

    Parameters
    ----------
    folder : Path
        Of TIFF files, or of pictures of one kind (PNG, ...). Other files, hidden ones and our own results are passed over.
    along : {'z', 't', 'c'}
        What one picture after the other is.
    axes : str, optional
        What the stored axes of each file are, where it does not say.
    labels : bool
        Whether their pixels are labels.

    Returns
    -------
    Image
        It stays on disk until it is indexed. The size of a slice, which no file knows, is 1 pixel.

    Raises
    ------
    InputError
        It is no such folder; the files are of several kinds, shapes or types; one is missing by its number, or damaged.
    """
    if along not in ALONG:
        raise InputError(f"files along {along!r}", f"one of {', '.join(ALONG)}")
    paths = files_of(folder, along, labels=labels)
    first = _read(paths[0], axes, labels)
    if first.size(along) > 1:
        found = f"file {paths[0]} has {first.size(along)} {ALONG[along]} itself (axes {first.axes})"
        raise InputError(found, f"one of them per file, to make an image of the {len(paths)} files in {folder}")
    first = _without(first, along)
    heads = [_head(path) for path in paths]
    if odd := next((k for k, head in enumerate(heads) if head != heads[0]), None):
        told = [f"{paths[k].name} is {' x '.join(map(str, heads[k][0]))} {heads[k][1]}" for k in (0, odd)]
        if heads[odd][:2] == heads[0][:2]:
            raise InputError(f"in folder {folder}, {paths[odd].name} says another size of its pixels than {paths[0].name}", "the same in all files")
        raise InputError(f"in folder {folder}, {told[0]} and {told[1]}", "pictures of one shape and type")
    letters = "".join(a for a in AXES if a in {*first.axes, along})
    at = letters.index(along)
    stored = Files(tuple(paths), along, at, axes, first.shape, np.dtype(first.data.dtype), labels)
    shape = (*first.shape[:at], len(paths), *first.shape[at:])
    data = View(partial(open_files, stored), shape, stored.dtype, tuple(range(len(shape))), folder, (*first.shape[:at], 1, *first.shape[at:]))
    new = {"scale": 1.0, "units": PIXEL, "translate": 0.0}
    made: dict[str, Any] = {name: (*getattr(first, name)[:at], value, *getattr(first, name)[at:]) for name, value in new.items()}
    names = tuple(stem_of(path) for path in paths) if along == "c" else first.channels
    return replace(first, levels=(data,), axes=letters, channels=names, name=folder.name, source=str(folder), **made)


def read_segmentation(folder: Path, along: str, axes: str | None = None) -> Segmentation:
    """Read the labels in a folder as those of one image; see `read`."""
    image = read(folder, along, axes=axes, labels=True)
    if "c" in image.axes:
        raise InputError(f"the files of {folder} have several channels or colours (axes {image.axes!r})", "one number per pixel for labels")
    labels = from_pixels(np.asarray(image.data), str(folder))
    place = {name: getattr(image, name) for name in PLACE}
    return segmentation_of(labels, place, {"name": image.name}, table_of(labels, image.axes, classes_of({})))


def files_of(folder: Path, along: str, *, labels: bool = False) -> list[Path]:
    """The pictures in a folder, in the order of the numbers in their names.

    Raises
    ------
    InputError
        There are none, or of several kinds; one is missing by its number.
    """
    if is_remote(folder) or not folder.is_dir():
        raise InputError(f"{folder} is no folder on a disk", f"a folder whose files are {ALONG[along]}")
    with reading(folder):
        found = [p for p in folder.iterdir() if module_of(p) in KINDS and p.is_file() and not p.name.startswith(".")]
    found = [p for p in found if labels or not stem_of(p).endswith(OURS)]
    if not found:
        raise InputError(f"folder {folder} holds no pictures", f"TIFF, PNG or other pictures as {ALONG[along]}")
    suffixes = sorted({p.suffix.lower() for p in found})
    if len(suffixes) > 1:
        raise InputError(f"folder {folder} holds files ending in {' and '.join(suffixes)}", "one kind", "Put what belongs together into a folder.")
    return sorted(found, key=lambda p: _parts(p.stem)) if along == "c" else _in_order(found, folder)


def open_files(stored: Files) -> Opened:
    """What `lazy.View` opens."""
    return _Pictures(stored), None


class _Pictures:
    """The files as one array, of which the last read ones are kept, unless they are so large that parts of them are read."""

    def __init__(self, stored: Files) -> None:
        self._stored, self._kept = stored, Kept(KEPT_BYTES)

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        at = self._stored.at
        rest = (*key[:at], *key[at + 1 :])
        parts = [self._part(k, rest) for k in range(*key[at].indices(len(self._stored.paths)))]
        if not parts:
            size = [len(range(*one.indices(n))) for one, n in zip(rest, self._stored.shape, strict=True)]
            return np.zeros((*size[:at], 0, *size[at:]), self._stored.dtype)
        return np.stack(parts, at)

    def _part(self, k: int, region: tuple[slice, ...]) -> NDArray[Any]:
        stored = self._stored
        if prod(stored.shape) * stored.dtype.itemsize > KEPT_BYTES:
            return np.asarray(self._image(k).data[region])
        return self._kept.get(k, lambda: np.asarray(self._image(k).data))[region]

    def _image(self, k: int) -> Image:
        stored = self._stored
        image = _without(_read(stored.paths[k], stored.axes, stored.labels), stored.along)
        if image.shape != stored.shape or np.dtype(image.data.dtype) != stored.dtype:
            raise InputError(f"file {stored.paths[k]} is {image.shape} {image.data.dtype}", f"{stored.shape} {stored.dtype}, as the first file")
        return image


def _read(path: Path, axes: str | None, labels: bool) -> Image:
    module = importlib.import_module(f"napari_segsuite.io.{module_of(path)}")
    found: Image = (module.read_labels if labels else module.read)(path, axes=axes)
    return found


def _without(image: Image, axis: str) -> Image:
    """The same without an axis of length 1, where it has that."""
    if axis not in image.axes:
        return image
    at = image.axes.index(axis)
    kept: dict[str, Any] = {name: (*getattr(image, name)[:at], *getattr(image, name)[at + 1 :]) for name in ("scale", "units", "translate")}
    key = (*[slice(None)] * at, 0)
    channels = () if axis == "c" else image.channels
    return replace(image, levels=(image.data[key],), axes=image.axes.replace(axis, ""), channels=channels, affine=None, **kept)


def _head(path: Path) -> tuple[tuple[int, ...], str, str]:
    """Shape, type and resolution of a picture as its file declares them."""
    with reading(path):
        if module_of(path) == "tiff":
            from tifffile import TiffFile

            with TiffFile(path) as tif:
                page = tif.pages.first
                sizes = tuple(page.tags[name].value for name in ("XResolution", "YResolution", "ResolutionUnit") if name in page.tags)
                return tuple(page.shape), f"{page.dtype}", str(sizes)
        import PIL.Image

        with PIL.Image.open(path) as picture:
            return (picture.height, picture.width), picture.mode, ""


def _parts(name: str) -> list[tuple[int, int, str]]:
    """What names are put in order by: numbers by their value.

    >>> sorted(["a10", "a9", "a010b"], key=_parts)
    ['a9', 'a10', 'a010b']
    """
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.findall(r"\d+|\D+", name)]


def _in_order(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Put files in the order of the number in which their names differ, whole or decimal, which may be negative.

    Raises
    ------
    InputError
        Names differ in something else, or in several numbers; or one is missing by its number.
    """
    signs = len({re.sub(_NUMBER, "0", p.stem) for p in paths}) > 1  # where some names have a dash and others none, it is a sign
    pattern = "-?" + _NUMBER if signs else _NUMBER
    texts = Counter(re.sub(pattern, "0", p.stem) for p in paths)
    usual = next(iter(sorted(texts, key=lambda text: -texts[text])))
    if odd := [p.name for p in paths if re.sub(pattern, "0", p.stem) != usual]:
        like = next(p.name for p in paths if re.sub(pattern, "0", p.stem) == usual)
        found = f"in folder {folder}, {odd[0]} is not called as the others are, such as {like}"
        raise InputError(found, "names that differ in a number only", "Put what does not belong into another folder.")
    numbers = [tuple(map(Decimal, re.findall(pattern, p.stem))) for p in paths]
    changing = [k for k in range(len(numbers[0])) if len({row[k] for row in numbers}) > 1]
    alone = [k for k in changing if len({row[k] for row in numbers}) == len(paths)]
    if len(paths) > 1 and not alone:
        order = sorted(paths, key=lambda p: _parts(p.stem))
        found = f"the names in folder {folder} differ in {len(changing) or 'no'} numbers, such as {order[0].name} and {order[-1].name}"
        raise InputError(found, "one number that is different in each", "Put the files of each channel or position into a folder of its own.")
    by = alone[-1] if alone else 0
    rows = sorted(zip(numbers, paths, strict=True), key=lambda pair: pair[0][by] if alone else Decimal(0))
    if alone:
        _check_numbers([row[by] for row, _ in rows], [path for _, path in rows], folder)
    return [path for _, path in rows]


def _check_numbers(numbers: Sequence[Decimal], paths: Sequence[Path], folder: Path) -> None:
    """Complain about a file that is missing by its number: what is left out would be taken for closer together."""
    steps = [b - a for a, b in pairwise(numbers)]
    if len(steps) < 2 or any(step % min(steps) for step in steps):
        return
    least = min(steps)
    holes = [k for k, step in enumerate(steps) if step != least]
    if not holes or 2 * len(holes) > len(steps):
        return
    shown = [f"{int(steps[k] / least) - 1} between {paths[k].name} and {paths[k + 1].name}" for k in holes[:4]]
    told = "; ".join([*shown, "..."] if len(holes) > 4 else shown)
    do = "Copy them too; or, if it is what there is, number the files anew, or put those before and after the gap into folders of their own."
    raise InputError(f"files are missing in folder {folder}, by their numbers: {told}", "all of them", do)
