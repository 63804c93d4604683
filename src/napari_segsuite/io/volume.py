"""What NIfTI, NRRD and MetaImage have in common: from stored samples, and what a file says about them, to an `Image`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.errors import InputError, SegsuiteError
from napari_segsuite.io.bulk import LAZY_BYTES, Block, check, load, open_block
from napari_segsuite.io.geometry import order_of, parse_axes, stem_of
from napari_segsuite.io.ids import largest, smallest_dtype
from napari_segsuite.io.inputs import module_of
from napari_segsuite.io.lazy import View, arrange
from napari_segsuite.io.record import KEY, affine_of
from napari_segsuite.io.world import XYZ, Grid, agree, checked, grid_of, is_flat, names_of, place_of
from napari_segsuite.types import SPATIAL, ArrayLike, Image, Segmentation

GridIn = Callable[[Path], tuple[Grid, tuple[int, ...]]]
"""What says of a file where its samples lie, and how many there are along its spatial axes."""

RECORD_BYTES = 2**28
"""A record, as stored, is never longer; a header that says so is damaged."""

MARK = f"{KEY}:".encode()
"""What our record begins with where a format keeps notes without names."""

LENGTHS = {"millimeter": 1e3}
"""What most formats know of units, in micrometres."""

TYPES = {"u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"}


@dataclass(frozen=True)
class Stored:
    """One image as its file has it.

    Attributes
    ----------
    block : Block
        Its samples.
    kinds : str
        Per stored axis, fastest first: ``s`` (space), ``t`` or ``c``.
    grid : Grid
    record : mapping
        Ours; empty in the files of others.
    lengths : mapping
        Units of length that the format knows, in micrometres (`world.grid_of`).
    rgb : bool
        Whether ``c`` is the colours of a picture.
    digits : dtype
        Type in which the format keeps its geometry.
    """

    block: Block
    kinds: str
    grid: Grid
    record: Mapping[str, Any] = field(default_factory=dict)
    lengths: Mapping[str, float] = field(default_factory=lambda: LENGTHS)
    rgb: bool = False
    digits: Any = np.float64


def to_image(stored: Stored, path: Path, axes: str | None) -> Image:
    """Make an `Image` of what a file has.

    Raises
    ------
    InputError
        The file cannot hold what it declares, its affine is no affine, or `axes` do not fit.
    """
    check(stored.block)
    letters, place = lettered(stored, path, axes)
    kept = [k for k, letter in enumerate(letters) if letter in place["axes"]]
    block = replace(stored.block, shape=tuple(stored.block.shape[k] for k in kept))
    _, order = order_of("".join(letters[k] for k in kept), place["axes"])
    lazy = not block.packing and block.nbytes > LAZY_BYTES
    data: Any = View(partial(open_block, block), block.shape, block.meant, order, path) if lazy else arrange(load(block), order)
    n = data.shape[place["axes"].index("c")] if "c" in place["axes"] else 0
    names = tuple(stored.record.get("channels", ()))
    colours = ("red", "green", "blue", "alpha")[:n] if stored.rgb else tuple(f"channel {k}" for k in range(n))
    return Image(
        levels=(data,), channels=names if len(names) == n else colours, rgb=bool(n) and bool(stored.record.get("rgb", stored.rgb)),
        name=str(stored.record.get("name") or stem_of(path)), source=str(path), **place,
    )  # fmt: skip


def lettered(stored: Stored, path: Path, axes: str | None) -> tuple[str, dict[str, Any]]:
    """The letters of the stored axes, fastest first, and the fields that put the image in its place.

    Raises
    ------
    InputError
        The affine is no affine, or `axes` do not fit.
    """
    stored = replace(stored, grid=replace(stored.grid, matrix=checked(stored.grid.matrix, path)))
    return _told(stored, path) if axes is None else _wished(stored, path, axes)


def check_scene(path: Path, scene: int | str | None) -> None:
    """Complain about the choice of an image where there is one."""
    if scene not in (None, 0, "0"):
        raise InputError(f"file {path} has no image {scene!r}; it holds one")


def stored_type(thing: Image | Segmentation) -> np.dtype[Any]:
    """The smallest type for the ids of labels; of an image its own, or the next that volume files have."""
    if isinstance(thing, Segmentation):
        top = largest(thing.labels)
        return np.dtype(np.uint8) if top < 256 else smallest_dtype(top)
    dtype: np.dtype[Any] = np.dtype(thing.data.dtype).newbyteorder("=")
    if dtype.str[1:] in TYPES:
        return dtype
    return np.dtype("u1" if dtype.kind == "b" else "f4" if dtype.itemsize < 4 else "f8")


def data_of(thing: Image | Segmentation) -> ArrayLike:
    """The samples of an image, or the labels."""
    found: ArrayLike = thing.data if isinstance(thing, Image) else thing.labels
    return found


def sizes_of(thing: Image | Segmentation) -> dict[str, int]:
    """Length of each axis."""
    return dict(zip(thing.axes, map(int, data_of(thing).shape), strict=True))


def origin_of(thing: Image | Segmentation) -> Path | None:
    """The file that an image was read from, or that labels were computed or converted from; None where that is not known or no file."""
    told: Any = thing.source if isinstance(thing, Image) else thing.provenance.get("converted_from") or planned(thing.provenance)
    return Path(told) if isinstance(told, str) and told and "://" not in told and "\0" not in told else None


def order_of_file(thing: Image | Segmentation, kind: str, grid_in: GridIn, lengths: Mapping[str, float]) -> str:
    """The order in which spatial axes are stored: that of the file it comes from, if it is of this kind and still the same grid; else xyz."""
    origin = origin_of(thing)
    if origin is None or module_of(origin) != kind or not origin.is_file():
        return XYZ
    with suppress(SegsuiteError):
        grid, box = grid_in(origin)
        spatial = names_of(grid.matrix)
        same = box == tuple(sizes_of(thing).get(a, 1) for a in spatial)
        return spatial if same and agree(grid, grid_of(thing, spatial, lengths), box) else XYZ
    return XYZ


def neighbour(path: Path, name: str) -> Path:
    """The file beside a header that holds its samples.

    Raises
    ------
    InputError
        The header names a file elsewhere, or several.
    """
    if Path(name).name != name or "\\" in name or "%" in name or name.upper().startswith("LIST"):
        found = f"the header {path} names its samples as {name!r}"
        raise InputError(found, "one file beside the header", "Save it as one file with its own program.")
    return path.with_name(name)


def letters_for(thing: Image | Segmentation, spatial: str, more: str = "tc") -> str:
    """The axes of an image in stored order, fastest first."""
    return "".join(a for a in spatial + more if a in thing.axes or a in SPATIAL)


def planned(provenance: Mapping[str, Any]) -> Any:
    """The path of the image that a plan was made for; None where provenance holds none."""
    told: Any = provenance
    for name in ("plan", "image", "source"):
        told = told.get(name) if isinstance(told, Mapping) else None
    return told


def _told(stored: Stored, path: Path) -> tuple[str, dict[str, Any]]:
    """The letters of the stored axes, and the place: of our record where the file still says the same, else of the file alone."""
    own = stored.record if stored.record.get("kind") in ("image", "segmentation") else {}
    if own:
        fields = {**{name: own[name] for name in ("axes", "scale", "units", "translate")}, "affine": affine_of(own)}
        for spatial in (names_of(stored.grid.matrix), XYZ):
            letters = _lettered(stored.kinds, spatial)
            written = grid_of(fields, spatial, stored.lengths)
            written = replace(written, matrix=written.matrix.astype(stored.digits).astype(np.float64))
            if _holds(fields["axes"], letters, stored.block.shape) and agree(stored.grid, written, box_of(stored)):
                return letters, {**fields, **{name: tuple(fields[name]) for name in ("scale", "units", "translate")}}
    flat = stored.kinds.count("s") == 2 and is_flat(stored.grid.matrix)
    spatial = names_of(stored.grid.matrix, 2) if flat else names_of(stored.grid.matrix)
    letters = _lettered(stored.kinds, spatial)
    letters_kept = [a for k, a in enumerate(letters) if not (a == "t" and "c" in letters and stored.block.shape[k] == 1)]
    wanted = "".join(a for a in "tczyx" if a in letters_kept or (a in SPATIAL and not flat))
    return letters, place_of(wanted, {a: k for k, a in enumerate(spatial)}, stored.grid)


def _wished(stored: Stored, path: Path, axes: str) -> tuple[str, dict[str, Any]]:
    """The same with the letters that a user gives, one per stored axis."""
    letters = parse_axes(axes, stored.block.shape, path)
    columns = {a: stored.kinds[:k].count("s") for k, a in enumerate(letters) if stored.kinds[k] == "s"}
    return letters, place_of("".join(a for a in "tczyx" if a in letters), columns, stored.grid)


def _lettered(kinds: str, spatial: str) -> str:
    names = iter(spatial)
    return "".join(next(names) if kind == "s" else kind for kind in kinds)


def _holds(axes: str, letters: str, shape: tuple[int, ...]) -> bool:
    """Whether what is stored can be an image of these axes: what is only here or only there has length 1."""
    return all(n == 1 for a, n in zip(letters, shape, strict=True) if a not in axes)


def box_of(stored: Stored) -> tuple[int, ...]:
    """Lengths of the three spatial axes as stored; 1 for those that are not there."""
    spatial = [n for kind, n in zip(stored.kinds, stored.block.shape, strict=True) if kind == "s"]
    return tuple([*spatial, 1, 1, 1][:3])
