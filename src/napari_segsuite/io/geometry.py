"""From what a file says about its axes to the fields of an `Image`: order ``t c z y x``, one size and unit per axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, OptionError
from napari_segsuite.io.lazy import Order
from napari_segsuite.io.units import PIXEL
from napari_segsuite.sizes import um_in, voxel_text
from napari_segsuite.types import AXES, SPATIAL, Image, Segmentation

PLACE = ("axes", "scale", "units", "translate")
"""The fields that an `Image` and a `Segmentation` share, which put them in their place."""

Placed = TypeVar("Placed", Image, Segmentation)

Size = tuple[float, str]
"""Length of one sample and its unit."""


@dataclass(frozen=True)
class Described:
    """What a file says about one image, axis by axis.

    Attributes
    ----------
    sizes : mapping of axis letter to (float, unit)
    translate : mapping of axis letter to float
    channels : tuple of str
    rgb : bool
    name : str
    """

    sizes: Mapping[str, Size] = field(default_factory=dict)
    translate: Mapping[str, float] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    rgb: bool = False
    name: str = ""


def parse_axes(axes: str, shape: tuple[int, ...], path: Path) -> str:
    """Check axes that a user names for a stored array, and return them in lower case.

    >>> parse_axes("ZYX", (3, 4, 5), Path("a.tif"))
    'zyx'
    """
    letters = axes.lower()
    if len(letters) != len(shape):
        raise InputError(f"axes={axes!r} names {len(letters)} axes, and {path} has {len(shape)} (shape {shape})", "one letter of tczyx per axis")
    if len(set(letters)) != len(letters) or not set(letters) <= set(AXES):
        raise InputError(f"axes={axes!r} cannot be understood", "each of the letters t, c, z, y, x at most once")
    if not {"y", "x"} <= set(letters):
        raise InputError(f"axes={axes!r} has no y and x", "at least y and x")
    return letters


def check_plane(letters: str, path: Path) -> None:
    """Complain of a slice along z or of a line in time: only the user knows what such axes should be taken for.

    Raises
    ------
    InputError
    """
    if {"y", "x"} <= set(letters):
        return
    across = next((a for a in reversed(letters) if a in "zt"), "")
    likely = letters.replace(across, "y") if across and "y" not in letters else "yx"
    raise InputError(f"the axes of the image in {path} are {', '.join(letters)}", "y and x", f"Say what they are with axes={likely!r}.")


def unsaid(shape: tuple[int, ...], what: str) -> InputError:
    """The complaint about an array that does not say what its axes are."""
    example = {3: "zyx", 4: "czyx", 5: "tczyx"}.get(len(shape), "zyx")
    found = f"{what} of shape {shape} does not say what its axes are"
    return InputError(found, "axes", f"Give them, for example with axes={example!r} (--axes {example}).")


def order_of(stored: str, wanted: str | None = None) -> tuple[str, Order]:
    """Say how stored axes become ours: the letters in the order ``tczyx``, and for each the stored axis (None: an added one).

    >>> order_of("yxc"), order_of("yx", "zyx")
    (('cyx', (2, 0, 1)), ('zyx', (None, 0, 1)))
    """
    letters = wanted if wanted and set(wanted) >= set(stored) else "".join(a for a in AXES if a in stored)
    return letters, tuple(stored.index(a) if a in stored else None for a in letters)


def fields_of(axes: str, described: Described) -> dict[str, Any]:
    """The fields of an `Image` or a `Segmentation` that put it in its place."""
    sizes = [valid(described.sizes.get(a)) if a != "c" else (1.0, PIXEL) for a in axes]
    return {
        "axes": axes,
        "scale": tuple(s for s, _ in sizes),
        "units": tuple(u for _, u in sizes),
        "translate": tuple(float(described.translate.get(a, 0.0)) for a in axes),
    }


def channel_names(n: int, described: Described) -> tuple[str, ...]:
    """Names for `n` channels: those that a file tells, else colours or numbers.

    >>> channel_names(2, Described(channels=("DAPI", ""))), channel_names(3, Described(rgb=True))
    (('DAPI', 'channel 1'), ('red', 'green', 'blue'))
    """
    told = described.channels or (("red", "green", "blue", "alpha") if described.rgb else ())
    return tuple(told[k] if k < len(told) and told[k] else f"channel {k}" for k in range(n))


def sized(image: Placed, voxel_um: Sequence[float]) -> Placed:
    """The same image or labels with voxels of another size.

    Parameters
    ----------
    image : Image or Segmentation
    voxel_um : sequence of float
        Along its spatial axes, or one number for all of them, in micrometres.

    Returns
    -------
    Image or Segmentation
        With its first voxel where it was, in the unit of length that it has, else in micrometres. Where an affine says how the axes lie in the
        world, they keep their directions.

    Raises
    ------
    OptionError
        They are not as many, or no sizes.
    """
    spatial = "".join(a for a in image.axes if a in SPATIAL)
    n = len(spatial)
    sizes = tuple(voxel_um) * n if len(voxel_um) == 1 else tuple(voxel_um)
    if len(sizes) != n or not all(isfinite(size) and size > 0 for size in sizes):
        told = ", ".join(f"{size:g}" for size in voxel_um)
        raise OptionError(f"voxel_um is {told}, and {image.name} has the spatial axes {spatial}", f"{n} numbers above 0, or one")
    if image.affine is not None:
        return _resized(image, image.affine, spatial, sizes)
    size_of = dict(zip(spatial, sizes, strict=True))
    units = tuple("micrometer" if a in size_of and not um_in(u) else u for a, u in zip(image.axes, image.units, strict=True))
    named = zip(image.axes, image.scale, units, strict=True)
    scale = tuple(float(f"{size_of[a] / um_in(unit):.14g}") if a in size_of else s for a, s, unit in named)
    before = zip(image.axes, image.translate, image.scale, image.units, scale, strict=True)
    # A position in pixels is that of the same pixel.
    moved = tuple(at if a not in size_of or um_in(unit) else at / old * new for a, at, old, unit, new in before)
    return replace(image, scale=scale, units=units, translate=moved)


def kept(thing: Image | Segmentation) -> str:
    """What to say where `sized` met an affine; empty where there is none."""
    if thing.affine is None:
        return ""
    size = voxel_text(thing.scale, thing.axes, thing.units)
    return f"its voxels are taken as {size}, as voxel_um says; the directions of its axes and the place of its first voxel stay those of the file"


def _resized(image: Placed, affine: NDArray[np.float64], spatial: str, sizes: tuple[float, ...]) -> Placed:
    """The same with an affine whose edges have these lengths in micrometres; the unit stays, if it is one of length."""
    units = [image.units[image.axes.index(a)] for a in spatial]
    unit = units[0] if len(set(units)) == 1 and um_in(units[0]) else "micrometer"
    whole = np.array(affine, np.float64)
    whole[:-1] *= np.array([(um_in(u) or 1.0) / um_in(unit) for u in units])[:, None]
    before = whole[:-1, :-1].copy()
    lengths = dict(zip(spatial, (size / um_in(unit) for size in sizes), strict=True))
    whole[:-1, :-1] *= np.array([lengths[a] for a in spatial]) / np.linalg.norm(before, axis=0)
    if not all(map(um_in, units)):  # a place in voxels, which are of another size now
        whole[:-1, -1] = whole[:-1, :-1] @ np.linalg.solve(before, whole[:-1, -1])
    start = dict(zip(spatial, whole[:-1, -1].tolist(), strict=True))
    scale = tuple(lengths.get(a, s) for a, s in zip(image.axes, image.scale, strict=True))
    named = tuple(unit if a in lengths else u for a, u in zip(image.axes, image.units, strict=True))
    moved = tuple(start.get(a, at) for a, at in zip(image.axes, image.translate, strict=True))
    return replace(image, affine=whole, scale=scale, units=named, translate=moved)


def valid(size: Size | None) -> Size:
    """A sample size that can be: one pixel where it is missing, zero, negative or not a number."""
    if size is None or not isfinite(size[0]) or size[0] <= 0:
        return 1.0, PIXEL
    return float(size[0]), size[1]


def stem_of(path: Path) -> str:
    """The name of a file without any of the suffixes that say its format; numbers, with which names of DICOM files end, are none.

    >>> stem_of(Path("plates/a.b.ome.tif")), stem_of(Path("c.ome.zarr")), stem_of(Path("d.nii.gz")), stem_of(Path("CT.1.2.840"))
    ('a.b', 'c', 'd', 'CT.1.2.840')
    """
    stem = path.stem if path.suffix and not path.suffix[1:].isdecimal() else path.name
    ends = ".nii" if path.suffix.lower() == ".gz" else ".ome"
    return stem[: -len(ends)] if stem.lower().endswith(ends) else stem
