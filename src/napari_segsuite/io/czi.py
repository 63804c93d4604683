"""Reading CZI, the files of ZEISS microscopes: mosaics of tiles, pyramids, scenes.

Tiles are put where the file says, in the order in which it says that they overlap, without blending; what no tile covers is 0. A scene is an image,
and so is each phase, rotation, illumination and view of it.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from napari_segsuite.errors import InputError
from napari_segsuite.io.czi_pixels import OUTER, Level, open_level, plane_of
from napari_segsuite.io.czi_tiles import Tile, read_directory
from napari_segsuite.io.faults import reading
from napari_segsuite.io.geometry import Described, Size
from napari_segsuite.io.markup import number_of, parsed
from napari_segsuite.io.planes import Stored, check_extent, to_image
from napari_segsuite.io.scenes import Scene, choose
from napari_segsuite.io.units import micrometres
from napari_segsuite.types import Image

IMAGES = "SHRIVB"
"""Dimensions that are no axes of an image: scenes, phases, rotations, illuminations, views and blocks."""

_ABOUT = "Metadata/Information/Image/Dimensions"

Key = tuple[int, ...]


def read(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read a CZI file as an `Image`; see `napari_segsuite.io.read`."""
    with reading(path):
        images, root = _listed(path)
        key = list(images)[choose(_scenes(images, root), scene, path).number]
        levels = images[key]
        if isinstance(levels, InputError):
            raise levels
        stored = [Stored(partial(open_level, one), one.shape, one.dtype, one.chunks) for one in levels]
        return to_image(stored, levels[0].letters, _described(root, key, levels[0]), path, axes)


def scenes(path: Path) -> list[Scene]:
    """The images in a CZI file."""
    with reading(path):
        return _scenes(*_listed(path))


def read_labels(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read a CZI file whose pixels are labels."""
    return read(path, axes=axes, scene=scene)


def read_record(path: Path) -> dict[str, Any]:
    """Nothing: there is no record of ours in a CZI file."""
    return {}


def _listed(path: Path) -> tuple[dict[Key, list[Level] | InputError], Element]:
    """The images of a file, and its metadata."""
    tiles, text = read_directory(path)
    return {key: _tried(found, path) for key, found in sorted(_images(tiles).items())}, parsed(text, path) if text else Element("ImageDocument")


def _scenes(images: dict[Key, list[Level] | InputError], root: Element) -> list[Scene]:
    names = _names(list(images), root)
    shapes = [() if isinstance(levels, InputError) else levels[0].shape for levels in images.values()]
    return [Scene(n, names[key], shape) for n, (key, shape) in enumerate(zip(images, shapes, strict=True))]


def _images(tiles: list[Tile]) -> dict[Key, list[Tile]]:
    """The tiles of each image."""
    found: defaultdict[Key, list[Tile]] = defaultdict(list)
    for tile in tiles:
        found[tuple(tile.start.get(name, 0) for name in IMAGES)].append(tile)
    return found


def _names(keys: list[Key], root: Element) -> dict[Key, str]:
    """What to call each image: its scene, and the numbers along what else there is several of."""
    told = {one.get("Index"): one.get("Name") for one in root.findall(f"{_ABOUT}/S/Scenes/Scene")}
    several = [k for k, name in enumerate(IMAGES) if name != "S" and len({key[k] for key in keys}) > 1]
    return {key: " ".join([told.get(str(key[0])) or f"S{key[0]}", *(f"{IMAGES[k]}{key[k]}" for k in several)]) for key in keys}


def _tried(tiles: list[Tile], path: Path) -> list[Level] | InputError:
    """The resolutions of an image, or why it is none: the others can be read all the same."""
    try:
        return _levels(tiles, path)
    except InputError as error:
        return error


def _levels(tiles: list[Tile], path: Path) -> list[Level]:
    """The resolutions of an image, finest first.

    Raises
    ------
    InputError
        Its tiles are not those of one image.
    """
    by_factor: defaultdict[float, list[Tile]] = defaultdict(list)
    for tile in tiles:
        by_factor[tile.factor].append(tile)
    factors = sorted(by_factor)
    finest = by_factor[factors[0]]
    planes = {plane_of(tile) for tile in finest}
    missing = {plane_of(tile) for tile in tiles} - planes
    if missing or len({tile.samples for tile in tiles}) > 1:
        what = f"{len(missing)} of its planes only at a lower resolution" if missing else "both grey and coloured tiles"
        raise InputError(f"file {path} holds {what}", "an image of one kind", "Split it by channel with ZEN.")
    ends = [(t.start["Y"], t.start["Y"] + t.size[0], t.start["X"], t.start["X"] + t.size[1]) for t in finest]
    tops, bottoms, lefts, rights = zip(*ends, strict=True)
    outer = tuple(range(min(numbers), max(numbers) + 1) for numbers in zip(*planes, strict=True))
    box = (min(tops), max(bottoms), min(lefts), max(rights))
    levels = [Level(path, tuple(by_factor[f]), box, outer) for f in factors if {plane_of(t) for t in by_factor[f]} == planes]
    _check(levels[0], path)
    return levels


def _check(level: Level, path: Path) -> None:
    """Refuse what cannot be an image, before anything is allocated."""
    check_extent(level.shape, level.dtype, sum(tile.nbytes for tile in level.tiles), path)
    if level.coloured and len(level.outer[OUTER.index("C")]) > 1:
        raise InputError(f"file {path} has channels and colours (shape {level.shape})", "one of them", "Split the file by channel with ZEN.")


def _described(root: Element, key: Key, level: Level) -> Described:
    """Sizes, position and channels of an image."""
    metres = {one.get("Id", "").lower(): number_of(one.findtext("Value")) for one in root.findall("Metadata/Scaling/Items/Distance")}
    sizes: dict[str, Size] = {a: (micrometres(size), "micrometer") for a, size in metres.items() if a in "zyx" and size > 0}
    sizes |= {a: (sizes[a][0] * level.factor, "micrometer") for a in "yx" if a in sizes}
    if (step := _interval(root)) > 0:
        sizes["t"] = (step, "second")
    listed = root.findall(f"{_ABOUT}/Channels/Channel")
    names = tuple(one.get("Name") or "" for one in listed)
    channels = tuple(names[k] if 0 <= k < len(names) else "" for k in level.outer[OUTER.index("C")])
    return Described(sizes, _position(root, key, level, sizes), () if level.coloured else channels, level.coloured)


def _interval(root: Element) -> float:
    """Seconds from one time point to the next: as they were, else as the experiment was set up; 0 where that is not said."""
    step = number_of(root.findtext(f"{_ABOUT}/T/Positions/Interval/Increment"))
    wished = root.find(".//TimeSeriesSetup/Interval/TimeSpan")
    if step > 0 or wished is None:
        return step
    factor = {"ms": 1e-3, "s": 1.0}.get(wished.findtext("DefaultUnitFormat") or "", 0.0)
    return factor * number_of(wished.findtext("Value"))


def _position(root: Element, key: Key, level: Level, sizes: dict[str, Size]) -> dict[str, float]:
    """Where the first pixel lies: by the stage position of the middle of the scene, else by the pixels of the whole file."""
    if not {"y", "x"} <= set(sizes):
        return {}
    told = next((one for one in root.findall(f"{_ABOUT}/S/Scenes/Scene") if one.get("Index") == str(key[0])), None)
    text = told.findtext("CenterPosition") if told is not None else None
    centre = dict(zip("xy", map(number_of, (text or "").split(",")), strict=False))
    if len(centre) == 2:
        return {a: centre[a] - (n - 1) / 2 * sizes[a][0] for a, n in zip("yx", level.size, strict=True)}
    return {a: level.box[2 * k] / level.factor * sizes[a][0] for k, a in enumerate("yx")}
