"""How large a grid and its voxels are: in micrometres, and in the words of Python's prompt, of ``segsuite info`` and of messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def size_text(shape: Sequence[int], axes: str) -> str:
    """Say how many samples there are along each axis.

    >>> size_text((60, 256, 512), "zyx")
    '60 z x 256 y x 512 x'
    """
    return " x ".join(f"{n} {a}" for n, a in zip(shape, axes, strict=True))


def voxel_text(scale: Sequence[float], axes: str, units: Sequence[str]) -> str:
    """Say how large a voxel is, along the spatial axes.

    >>> voxel_text((1.5, 0.29, 0.26, 0.26), "tzyx", ("second", "micrometer", "micrometer", "micrometer"))
    '0.29 x 0.26 x 0.26 micrometer'
    >>> voxel_text((1, 0.26, 0.26), "zyx", ("pixel", "micrometer", "micrometer"))
    '1 pixel x 0.26 micrometer x 0.26 micrometer'
    """
    told = [(s, u) for s, a, u in zip(scale, axes, units, strict=True) if a in "zyx"]
    if len({u for _, u in told}) > 1:
        return " x ".join(f"{s:g} {u}" for s, u in told)
    return " x ".join(f"{s:g}" for s, _ in told) + f" {units[-1]}"


SAME = 0.02
"""By how much sizes of voxels may differ, as a share, that are the same: files keep few digits of them."""


def voxels_apart(one: Any, other: Any) -> str:
    """The sizes of voxels of two things that should lie on one grid, in words, where both are known and differ; else nothing.

    Parameters
    ----------
    one, other
        With ``axes``, ``scale`` and ``units``.
    """
    sizes = [pixel_size_um(of.axes, of.scale, of.units) for of in (one, other)]
    first, second = (np.abs(size or ()) for size in sizes)
    if not first.size or first.shape != second.shape or np.allclose(first, second, rtol=SAME, atol=0):
        return ""
    return " and ".join(voxel_text(of.scale, of.axes, of.units) for of in (one, other))


def lengths_apart(one: Sequence[int], other: Sequence[int]) -> str:
    """What may have happened where two shapes are not the same, as a sentence; nothing where they have nothing to do with each other.

    >>> lengths_apart((64, 81), (32, 41)), lengths_apart((64, 81), (64, 80)), lengths_apart((64, 81), (10, 99))
    ('One looks like a level of the pyramid of the other, 2 x 2 times smaller.', 'They differ by one, as rounded levels of a pyramid do.', '')
    """
    if len(one) != len(other) or not all((*one, *other)):
        return ""
    large, small = (one, other) if np.prod(one, dtype=float) >= np.prod(other, dtype=float) else (other, one)
    if all(abs(a - b) <= 1 for a, b in zip(large, small, strict=True)):
        return "They differ by one, as rounded levels of a pyramid do."
    times = [max(1, round(a / b)) for a, b in zip(large, small, strict=True)]
    if all(b in (a // k, -(-a // k)) for a, b, k in zip(large, small, times, strict=True)):
        return f"One looks like a level of the pyramid of the other, {' x '.join(map(str, times))} times smaller."
    return ""


_UM = {
    "picometer": 1e-6, "angstrom": 1e-4, "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4,
    "decimeter": 1e5, "meter": 1e6, "inch": 25400.0,
}  # fmt: skip


def um_in(unit: str) -> float:
    """Micrometres in a unit of length; 0 where it is none.

    >>> um_in("nanometer"), um_in("pixel")
    (0.001, 0.0)
    """
    return _UM.get(unit, 0.0)


def pixel_size_um(axes: str, scale: Sequence[float], units: Sequence[str]) -> tuple[float, ...] | None:
    """Sample size along the spatial axes in micrometres, or None where a unit is not a length.

    >>> pixel_size_um("tyx", (1, 500, 500), ("second", "nanometer", "nanometer"))
    (0.5, 0.5)
    """
    sizes = [s * _UM.get(u, np.nan) for a, s, u in zip(axes, scale, units, strict=True) if a in "zyx"]
    return tuple(float(s) for s in sizes) if np.isfinite(sizes).all() else None
