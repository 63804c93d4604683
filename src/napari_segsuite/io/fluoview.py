"""Reading OIF and OIB, the files of Olympus FluoView microscopes: a TIFF per plane, and what they are in files of settings.

An OIF is a file of settings with a folder ``NAME.oif.files`` beside it, an OIB the same in one compound file. A plane says in its name which it is:
``s_C001Z002T003.tif``. Where there is more than time, channel and depth (as bands of wavelengths), each number of that is an image; so are the
reference images of line scans, which are only had on request.
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.compound import MAGIC, Compound
from napari_segsuite.io.faults import AGAIN, reading
from napari_segsuite.io.geometry import Described, Size, check_plane
from napari_segsuite.io.lazy import Opened
from napari_segsuite.io.markup import number_of
from napari_segsuite.io.planes import Box, Kept, Planes, Stored, check_extent, to_image
from napari_segsuite.io.scenes import Scene, choose
from napari_segsuite.io.units import name_of
from napari_segsuite.types import Image

Settings = Mapping[str, Mapping[str, str]]

_MOST = 2**24
"""A file of settings has fewer bytes."""

_PLANE = re.compile(r"s_((?:[A-Z]\d+)+)(-R\d+)?\.tif", re.IGNORECASE)
_COUNTED = "tcz"
_INFO, _ABOUT = "OibInfo.txt", "OibSaveInfo"


@dataclass(frozen=True)
class Acquired:
    """One image.

    Attributes
    ----------
    name : str
    letters : str
        Axes that count planes, of ``tcz``.
    numbers : tuple of tuple of int
        Along each of them, those that there are.
    planes : mapping
        Numbers along these axes -> name of the TIFF.
    reference : bool
    """

    name: str
    letters: str
    numbers: tuple[tuple[int, ...], ...]
    planes: Mapping[tuple[int, ...], str]
    reference: bool


class Files:
    """The files of an acquisition by their names, wherever they are.

    Attributes
    ----------
    main : mapping
        The settings of the whole.
    names : list of str
    """

    def __init__(self, path: Path, closing: ExitStack) -> None:
        with path.open("rb") as file:
            packed = file.read(len(MAGIC)) == MAGIC
        if packed:
            compound, lock = Compound(closing.enter_context(path.open("rb"))), Lock()
            info = settings(compound.read(_INFO)).get(_ABOUT, {})
            streams = {told.rpartition("/")[2]: key for key, told in info.items() if key in compound.streams}

            def read(name: str) -> bytes:
                with lock:
                    return compound.read(streams[name])

            self.read: Callable[[str], bytes] = read
            self.names, self.main = sorted(streams), settings(compound.read(info.get("MainFileName", "")))
        else:
            folder = path.with_name(f"{path.name}.files")
            if not folder.is_dir():
                raise InputError(f"there is no folder {folder.name} beside {path}", "both, as they were saved", "Copy them into one folder.")
            self.read = lambda name: (folder / name).read_bytes()
            self.names, self.main = sorted(p.name for p in folder.iterdir() if p.is_file()), settings(path.read_bytes())


def read(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read an OIF or OIB file as an `Image`; see `napari_segsuite.io.read`."""
    with reading(path), ExitStack() as closing:
        files = Files(path, closing)
        images = _images(files)
        shown, every = _scenes(images, files, path)
        one = images[choose(shown, scene, path, every).number]
        stored, letters = _stored(one, files, path)
        if axes is None:
            check_plane(letters, path)
        return to_image([stored], letters, _described(one, files, letters), path, axes)


def scenes(path: Path) -> list[Scene]:
    """The images in an OIF or OIB file, without those that line scans refer to."""
    with reading(path), ExitStack() as closing:
        files = Files(path, closing)
        return _scenes(_images(files), files, path)[0]


def read_labels(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read an OIF or OIB file whose pixels are labels."""
    return read(path, axes=axes, scene=scene)


def read_record(path: Path) -> dict[str, Any]:
    """Nothing: there is no record of ours in such a file."""
    return {}


def settings(data: bytes) -> dict[str, dict[str, str]]:
    """What a file of settings says, by section and key; values without their quotes.

    Raises
    ------
    ValueError
        It is no such file.
    """
    text = data[:_MOST].decode("utf-16" if data.startswith(b"\xff\xfe") else "utf-8", "replace")
    if not text.lstrip().startswith("["):
        raise ValueError("its settings do not begin with a section")
    found: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = found.setdefault(line[1:-1], {})
        elif "=" in line:
            key, _, value = line.partition("=")
            section.setdefault(key, value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value)
    return found


def open_planes(path: Path, one: Acquired, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Opened:
    """What `lazy.View` opens."""
    closing = ExitStack()
    files, kept = Files(path, closing), Kept()

    def region(at: tuple[int, ...], box: Box) -> NDArray[Any]:
        top, bottom, left, right = box
        name = one.planes.get(tuple(numbers[k] for numbers, k in zip(one.numbers, at, strict=True)))
        if name is None:  # a plane that the acquisition never came to
            return np.zeros((bottom - top, right - left), dtype)
        plane = kept.get(name, partial(_plane, files, name))
        if (plane.shape, plane.dtype) != (shape[-2:], dtype):
            raise ValueError(f"plane {name} has the shape {plane.shape} and type {plane.dtype}, and others {shape[-2:]} and {dtype}")
        return plane[top:bottom, left:right]

    return Planes(shape, dtype, region), closing.close


def _plane(files: Files, name: str) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(files.read(name)), name=name) as tif:
        page = tif.pages.first
        check_extent(page.shape, np.dtype(page.dtype or "u1"), tif.filehandle.size, Path(name))
        found: NDArray[Any] = page.asarray()
    return found.astype(found.dtype.newbyteorder("="), copy=False)


def _images(files: Files) -> list[Acquired]:
    """The images that the names of planes tell of; those that others refer to come last."""
    groups: defaultdict[tuple[str, tuple[tuple[str, int], ...]], dict[tuple[tuple[str, int], ...], str]] = defaultdict(dict)
    for name in files.names:
        if match := _PLANE.fullmatch(name):
            told = [(letter.lower(), int(number)) for letter, number in re.findall(r"([A-Za-z])(\d+)", match[1])]
            others = tuple((letter, number) for letter, number in told if letter not in _COUNTED)
            groups[(match[2] or "").upper(), others][tuple(sorted((a, n) for a, n in told if a in _COUNTED))] = name
    return [_acquired(*key, planes) for key, planes in sorted(groups.items())]


def _acquired(mark: str, others: tuple[tuple[str, int], ...], planes: Mapping[tuple[tuple[str, int], ...], str]) -> Acquired:
    found = {a: sorted({n for key in planes for b, n in key if a == b}) for a in _COUNTED}
    letters = "".join(a for a in _COUNTED if len(found[a]) > 1)
    by_number = {tuple(dict(key).get(a, found[a][0]) for a in letters): name for key, name in planes.items()}
    name = " ".join([mark.replace("-", "reference ") or "image", *(f"{letter.upper()}{number}" for letter, number in others)])
    return Acquired(name, letters, tuple(tuple(found[a]) for a in letters), by_number, bool(mark))


def _scenes(images: list[Acquired], files: Files, path: Path) -> tuple[list[Scene], list[Scene]]:
    """The images, and everything that can be had by its number."""
    if not images:
        raise InputError(f"file {path} has no planes among its {len(files.names)} files", "planes such as s_C001Z001.tif", AGAIN)
    every = [Scene(k, one.name, tuple(map(len, one.numbers))) for k, one in enumerate(images)]
    return [scene for scene, one in zip(every, images, strict=True) if not one.reference] or every, every


def _stored(one: Acquired, files: Files, path: Path) -> tuple[Stored, str]:
    """An image on disk, and its axes; the first plane says what all are like."""
    first = _plane(files, next(iter(one.planes.values())))
    if first.ndim != 2:
        raise InputError(f"the planes of {path} have the shape {first.shape}", "rows and columns", "Export it as OME-TIFF.")
    shape = (*map(len, one.numbers), *first.shape)
    check_extent(shape, first.dtype, len(one.planes) * first.nbytes, path)
    order = files.main.get("Axis Parameter Common", {}).get("AxisOrder", "XY").lower()
    inner = order[1::-1] if not one.reference and order[:1] == "x" and order[1:2] in tuple("ztc") else "yx"
    return Stored(partial(open_planes, path, one, shape, first.dtype), shape, first.dtype), one.letters + inner


def _described(one: Acquired, files: Files, letters: str) -> Described:
    """Sizes and channels: of the settings of a plane where it has some, else of the whole."""
    plane = _beside(files, one, (0,) * len(one.letters)).get("Image Parameters") or files.main.get("Reference Image Parameter", {})
    sizes: dict[str, Size] = {}
    for a, word in (("x", "Width"), ("y", "Height")):
        size, unit = _number(plane.get(f"{word}ConvertValue")), name_of(plane.get(f"{word}Unit"))
        if size > 0 and unit.endswith("meter"):
            sizes[a] = (size, unit)
    axis = {told.get("AxisCode"): told for name, told in files.main.items() if re.fullmatch(r"Axis \d Parameters Common", name)}
    if "z" in letters and (step := abs(_number(axis.get("Z", {}).get("Interval")))) > 0:
        unit = name_of(axis["Z"].get("PixUnit"))
        sizes["z"] = (step / 1000, "micrometer") if unit == "nanometer" else (step, unit)
    if "t" in one.letters and (step := _interval(one, files)) > 0:
        sizes["t"] = (step, "second")
    return Described(sizes, channels=tuple(_channel(files.main, n) for n in dict(zip(one.letters, one.numbers, strict=True)).get("c", ())))


def _channel(main: Settings, number: int) -> str:
    told = main.get(f"Channel {number} Parameters", {})
    return next((name for word in ("DyeName", "CH Name") if (name := told.get(word, "")) not in ("", "None")), "")


def _interval(one: Acquired, files: Files) -> float:
    """Seconds from one time point to the next, on average."""
    codes = {told.get("AxisCode"): name.split()[1] for name, told in files.main.items() if re.fullmatch(r"Axis \d Parameters Common", name)}
    k = one.letters.index("t")
    ends = [_beside(files, one, tuple(at if j == k else 0 for j in range(len(one.letters)))) for at in (0, len(one.numbers[k]) - 1)]
    moments = [_number(told.get(f"Axis {codes.get('T')} Parameters", {}).get("AbsPositionValue")) for told in ends]
    return (moments[1] - moments[0]) / 1000 / (len(one.numbers[k]) - 1)


def _beside(files: Files, one: Acquired, at: tuple[int, ...]) -> Settings:
    """The settings of a plane; nothing where there are none."""
    name = one.planes.get(tuple(numbers[k] for numbers, k in zip(one.numbers, at, strict=True)), "")
    with suppress(OSError, ValueError, KeyError):
        return settings(files.read(f"{name[:-4]}.pty"))
    return {}


def _number(text: str | None) -> float:
    """A number, which in some countries has a comma.

    >>> _number("0,207.0"), _number("500.0"), _number(None)
    (0.207, 500.0, 0.0)
    """
    return number_of(re.sub(r"^(-?\d+),(\d+)(\.0)?$", r"\1.\2", text) if text else None)
