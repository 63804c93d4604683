"""How large a grid and its voxels are: in micrometres, and in the words of Python's prompt, of ``segsuite info`` and of messages."""

from __future__ import annotations

from collections.abc import Sequence

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
