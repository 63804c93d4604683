"""Reading LIF, the files of Leica microscopes: any number of images, each a block of samples that its XML describes.

Samples are not packed, so an image is a memory map with the steps that the XML gives. Tiles of a tile scan are images of their own, at their place:
LAS X writes a merged image beside them. So is each number along other axes than time, channel and space.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import reading
from napari_segsuite.io.geometry import Described, Size, check_plane
from napari_segsuite.io.lif_blocks import read_header
from napari_segsuite.io.markup import number_of, parsed
from napari_segsuite.io.planes import Samples, Stored, check_samples, open_samples, to_image
from napari_segsuite.io.scenes import Scene, choose
from napari_segsuite.io.units import micrometres, name_of
from napari_segsuite.types import Image

_LETTERS = {1: "x", 2: "y", 3: "z", 4: "t"}
_OTHERS = {5: "lambda", 6: "rotation", 7: "xt", 8: "t slice", 9: "excitation", 10: "tile"}
_RED, _GREEN, _BLUE = 1, 2, 3
_IMAGE = "Data/Image/ImageDescription"

Part = tuple[str, Element, dict[str, int]]
"""The name of an image, its description, and its numbers along axes that we have no letter for."""


@dataclass(frozen=True)
class Axis:
    """An axis of an image as it is stored.

    Attributes
    ----------
    name : str
        A letter of ``tczyx``, or a word for what we have no axis for.
    n : int
    step : int
        Bytes from one sample to the next.
    length, origin : float
        From the first sample to the last, and where the first is, in `unit`.
    unit : str
    """

    name: str
    n: int
    step: int
    length: float = 0.0
    origin: float = 0.0
    unit: str = ""


def read(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read a LIF file as an `Image`; see `napari_segsuite.io.read`."""
    with reading(path):
        found, blocks = _listed(path)
        _, element, at = found[choose(_scenes(found), scene, path).number]
        samples, letters = _samples(element, at, blocks, path)
        if axes is None:
            check_plane(letters, path)
        return to_image([Stored(partial(open_samples, samples), samples.shape, samples.dtype)], letters, _described(element, at), path, axes)


def scenes(path: Path) -> list[Scene]:
    """The images in a LIF file."""
    with reading(path):
        return _scenes(_listed(path)[0])


def read_labels(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read a LIF file whose samples are labels."""
    return read(path, axes=axes, scene=scene)


def read_record(path: Path) -> dict[str, Any]:
    """Nothing: there is no record of ours in a LIF file."""
    return {}


def _listed(path: Path) -> tuple[list[Part], dict[str, tuple[int, int]]]:
    """The images of a file, and where its blocks of samples lie."""
    text, blocks = read_header(path)
    return [one for name, element in _elements(parsed(text, path)) for one in _parts(name, element)], blocks


def _scenes(found: list[Part]) -> list[Scene]:
    return [Scene(k, name, tuple(a.n for a in _counted(axes_of(element)))) for k, (name, element, _) in enumerate(found)]


def axes_of(element: Element) -> list[Axis]:
    """The axes of an image without its channels, the slowest first."""
    found = []
    for one in element.findall(f"{_IMAGE}/Dimensions/DimensionDescription"):
        number = int(one.attrib["DimID"])
        name = _LETTERS.get(number) or _OTHERS.get(number, f"axis {number}")
        length, origin = (number_of(one.get(word)) for word in ("Length", "Origin"))
        found.append(Axis(name, int(one.attrib["NumberOfElements"]), int(one.attrib["BytesInc"]), length, origin, one.get("Unit", "")))
    return sorted(found, key=lambda axis: -axis.step)


def _elements(parent: Element, name: str = "") -> Iterator[tuple[str, Element]]:
    """All images of a file with their names, which begin with the names of the folders that they are in."""
    for child in parent.findall("Element" if not name else "Children/Element"):
        # The outermost element is the file.
        own = child.get("Name", "") if not name else f"{name}/{child.get('Name', '')}"
        if child.find(f"{_IMAGE}/Dimensions/DimensionDescription") is not None:
            yield own.partition("/")[2] or own, child
        yield from _elements(child, own or "/")


def _parts(name: str, element: Element) -> Iterator[Part]:
    """One image for each number along axes that we have no letter for."""
    others = [axis for axis in axes_of(element) if len(axis.name) > 1 and axis.n > 1]
    for at in product(*(range(axis.n) for axis in others)):
        numbers = {axis.name: k for axis, k in zip(others, at, strict=True)}
        yield " ".join([name, *(f"{word} {k}" for word, k in numbers.items())]), element, numbers


def _counted(axes: list[Axis]) -> list[Axis]:
    """The axes that are axes of ours: y and x, and others of more than one sample."""
    return [axis for axis in axes if axis.name in ("y", "x") or (len(axis.name) == 1 and axis.n > 1)]


def _samples(element: Element, at: dict[str, int], blocks: dict[str, tuple[int, int]], path: Path) -> tuple[Samples, str]:
    """Where the samples of an image are, and its axes.

    Raises
    ------
    InputError
        They are not there, or of a kind that is not known.
    """
    axes = axes_of(element)
    dtype, starts = _channels(element, path)
    steps = {b - a for a, b in pairwise(starts)}
    if len(steps) > 1:
        raise InputError(f"the channels of an image in {path} do not lie at equal steps ({starts})", do="Save it anew with LAS X.")
    kept = _counted(axes) + ([Axis("c", len(starts), steps.pop())] if steps else [])
    letters = "".join(axis.name for axis in kept)
    memory = element.find("Memory")
    begin, room = blocks.get(memory.get("MemoryBlockID", "") if memory is not None else "", (0, 0))
    first = starts[0] + sum(axis.step * at[axis.name] for axis in axes if axis.name in at)
    samples = Samples(path, begin + first, tuple(a.n for a in kept), tuple(a.step for a in kept), dtype)
    check_samples(samples, begin, room)
    return samples, letters


def _channels(element: Element, path: Path) -> tuple[np.dtype[Any], list[int]]:
    """Type of the samples, and first byte of each channel; colours from red to blue."""
    told = element.findall(f"{_IMAGE}/Channels/ChannelDescription")
    types = {(int(one.get("DataType", 0)), int(one.attrib["Resolution"])) for one in told}
    widths = {1 if bits <= 8 else 2 if bits <= 16 else 4 if bits <= 32 else 8 for _, bits in types}
    kinds = {kind for kind, _ in types}
    if len(widths) != 1 or len(kinds) != 1 or not kinds <= {0, 1} or max(bits for _, bits in types) > 64:
        found = f"the channels of an image in {path} have samples of the kinds and bits {sorted(types)}"
        raise InputError(found, "one kind, of at most 64 bits", "Split it by channel with LAS X.")
    ordered = sorted(told, key=lambda one: int(one.get("ChannelTag", 0)) if _is_coloured(told) else int(one.get("BytesInc", 0)))
    return np.dtype(f"<{'uf'[kinds.pop()]}{widths.pop()}"), [int(one.get("BytesInc", 0)) for one in ordered]


def _is_coloured(told: list[Element]) -> bool:
    return sorted(int(one.get("ChannelTag", 0)) for one in told) == [_RED, _GREEN, _BLUE]


def _described(element: Element, at: dict[str, int]) -> Described:
    """Sizes, position and channels of an image."""
    sizes: dict[str, Size] = {}
    start: dict[str, float] = {}
    for axis in _counted(axes_of(element)):
        unit = name_of(axis.unit)
        if axis.n > 1 and axis.length:
            size, origin = abs(axis.length) / (axis.n - 1), axis.origin
            if unit == "meter":
                size, origin, unit = micrometres(size), micrometres(origin), "micrometer"
            sizes[axis.name], start[axis.name] = (size, unit), origin
    tiles = element.findall("Data/Image/Attachment[@Name='TileScanInfo']/Tile")
    if at.get("tile", len(tiles)) < len(tiles):
        start |= {a: micrometres(number_of(tiles[at["tile"]].get(f"Pos{a.upper()}"))) for a in "yx" if a in start}
    told = element.findall(f"{_IMAGE}/Channels/ChannelDescription")
    coloured = _is_coloured(told)
    names = [_name(one) for one in sorted(told, key=lambda one: int(one.get("BytesInc", 0)))]
    return Described(sizes, start, tuple(names) if len(set(names)) == len(names) and not coloured else (), coloured)


def _name(channel: Element) -> str:
    """The dye of a channel, else the colours that it is shown in."""
    dyes = [one.findtext("Value") for one in channel.findall("ChannelProperty") if one.findtext("Key") == "DyeName"]
    return next((dye for dye in dyes if dye), channel.get("LUTName", ""))
