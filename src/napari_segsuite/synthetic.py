"""Nuclei that were never alive: images with a known truth in 2D, 3D and over time, from a seed.

The pictures are made the way a microscope makes them: bodies with texture, blurred by the optics (more along z), photons
counted, a camera's offset and noise added. They are for trying things out, for tests and for demonstrations, not for training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_segsuite.errors import OptionError

SCALE_UM = {"z": 1.0, "y": 0.4, "x": 0.4}
"""Default sample sizes: slices lie further apart than pixels, as on most microscopes."""
BLUR_UM = {"z": 0.9, "y": 0.3, "x": 0.3}
OFFSET, PHOTONS, READ_NOISE = 100.0, 350.0, 6.0
"""Camera counts: the offset, what a bright nucleus adds, and the standard deviation of reading out."""


@dataclass(frozen=True)
class _Body:
    """One ellipsoid: `center` (um), `shape` maps a distance from it to the unit ball, `reach` (um) bounds it."""

    center: NDArray[np.float64]
    step: NDArray[np.float64]
    shape: NDArray[np.float64]
    reach: float
    brightness: float


def nuclei(
    shape: tuple[int, ...],
    axes: str = "zyx",
    *,
    scale_um: tuple[float, ...] | None = None,
    diameter_um: float = 8.0,
    crowding: float = 0.35,
    speed_um: float = 0.6,
    seed: int = 0,
) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Make an image of touching nuclei and its true labels.

    Parameters
    ----------
    shape : tuple of int
        Samples along each of `axes`.
    axes : str
        ``"yx"``, ``"zyx"``, ``"tyx"`` or ``"tzyx"``.
    scale_um : tuple of float, optional
        Sample size along the spatial axes in micrometres; by default 1.0 along z, 0.4 along y and x.
    diameter_um : float
        Mean diameter in micrometres; single nuclei differ from it by a quarter.
    crowding : float
        Part of the space that nuclei take, 0 to about 0.5; from 0.2 on many touch.
    speed_um : float
        How far a nucleus moves from frame to frame, in micrometres.
    seed : int
        The same seed gives the same image.

    Returns
    -------
    pixels : uint16 array
    labels : int32 array
        0 is background; a nucleus keeps its number over time. Numbers are 1 to n without gaps.

    Raises
    ------
    OptionError
        `axes` are not among the four, or `shape` or `scale_um` do not follow them.

    Examples
    --------
    >>> pixels, labels = nuclei((64, 64), "yx", seed=1)
    >>> pixels.shape, pixels.dtype.name, bool(labels.any())
    ((64, 64), 'uint16', True)
    """
    spatial = axes.removeprefix("t")
    scale = np.array(scale_um if scale_um is not None else [SCALE_UM[a] for a in spatial if a in SCALE_UM])
    if axes not in ("yx", "zyx", "tyx", "tzyx") or len(shape) != len(axes) or len(scale) != len(spatial):
        found = f"axes {axes!r}, shape {shape} and scale_um {scale_um} do not fit together"
        raise OptionError(found, "axes yx, zyx, tyx or tzyx, and a number for each")
    frame = shape[-len(spatial) :]
    rng = np.random.default_rng(seed)
    bodies = _place(np.array(frame) * scale, diameter_um, crowding, speed_um, rng)
    frames = [_draw(bodies, t, frame, scale, spatial, rng) for t in range(shape[0] if axes[0] == "t" else 1)]
    pixels, labels = (np.stack(list(part)).reshape(shape) for part in zip(*frames, strict=True))
    return pixels, _renumber(labels)


def _place(extent: NDArray[np.float64], diameter: float, crowding: float, speed: float, rng: np.random.Generator) -> list[_Body]:
    """Throw centres into the space, none too near to another, until it is crowded enough or has no room."""
    ndim, radius = len(extent), diameter / 2
    volume = np.pi * radius**2 if ndim == 2 else 4 / 3 * np.pi * radius**3
    wanted = max(1, round(crowding * float(np.prod(extent + radius)) / volume))
    centers = np.empty((0, ndim))
    for _ in range(30 * wanted):
        center = rng.uniform(-radius / 2, extent + radius / 2)
        if (np.linalg.norm(centers - center, axis=1) > 0.85 * diameter).all():
            centers = np.vstack([centers, center])
        if len(centers) == wanted:
            break
    return [_body(center, radius, speed, rng) for center in centers]


def _body(center: NDArray[np.float64], radius: float, speed: float, rng: np.random.Generator) -> _Body:
    ndim = len(center)
    radii = radius * rng.uniform(0.8, 1.25, ndim)
    turn = np.linalg.qr(rng.normal(size=(ndim, ndim)))[0]
    return _Body(center, rng.normal(0, speed / np.sqrt(ndim), ndim), (turn / radii).T, float(radii.max()), rng.uniform(0.45, 1.0))


def _draw(
    bodies: list[_Body], t: int, frame: tuple[int, ...], scale: NDArray[np.float64], spatial: str, rng: np.random.Generator
) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """One frame: where two bodies overlap, a voxel belongs to the one it is deeper in."""
    depth = np.ones(frame)
    labels = np.zeros(frame, np.int32)
    light = np.zeros(frame)
    for number, body in enumerate(bodies, 1):
        center = body.center + t * body.step
        window = _window(center, body.reach, frame, scale)
        away = _distance(center, body, window, scale)
        mine = away < depth[window]
        depth[window][mine] = away[mine]
        labels[window][mine] = number
        light[window][mine] = body.brightness
    return _expose(light * _texture(frame, scale, rng), scale, spatial, rng), labels


def _window(center: NDArray[np.float64], reach: float, frame: tuple[int, ...], scale: NDArray[np.float64]) -> tuple[slice, ...]:
    low = np.clip(np.floor((center - reach) / scale), 0, frame).astype(int)
    high = np.clip(np.ceil((center + reach) / scale) + 1, 0, frame).astype(int)
    return tuple(slice(int(a), int(max(a, b))) for a, b in zip(low, high, strict=True))


def _distance(center: NDArray[np.float64], body: _Body, window: tuple[slice, ...], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from a body's centre in its own radii: 1 on its surface."""
    grid = np.meshgrid(*(np.arange(w.start, w.stop) * s - c for w, s, c in zip(window, scale, center, strict=True)), indexing="ij")
    unit = np.tensordot(body.shape, np.stack(grid), axes=1)
    away: NDArray[np.float64] = np.sqrt((unit**2).sum(0))
    return away


def _texture(frame: tuple[int, ...], scale: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Chromatin: brighter and darker clumps of about a micrometre around 1."""
    clumps = ndimage.gaussian_filter(rng.normal(size=frame), 0.7 / scale)
    texture: NDArray[np.float64] = np.clip(1 + 0.25 * clumps / max(float(clumps.std()), 1e-12), 0.2, None)
    return texture


def _expose(light: NDArray[np.float64], scale: NDArray[np.float64], spatial: str, rng: np.random.Generator) -> NDArray[np.uint16]:
    blurred = ndimage.gaussian_filter(light, [BLUR_UM[a] / s for a, s in zip(spatial, scale, strict=True)])
    counts = rng.poisson(PHOTONS * blurred + 15) + rng.normal(OFFSET, READ_NOISE, light.shape)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)


def _renumber(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Close the gaps that bodies leave which lie outside or wholly inside others."""
    present = np.unique(labels)
    rank = np.zeros(int(labels.max()) + 1, np.int32)
    rank[present[present > 0]] = np.arange(1, int((present > 0).sum()) + 1)
    renumbered: NDArray[np.int32] = rank[labels]
    return renumbered
