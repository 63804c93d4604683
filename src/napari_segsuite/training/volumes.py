"""Fluorescence volumes of nuclei that were never alive, for training: bodies, their stain, the optics, the camera.

Truth by construction, as in Svoboda et al. 2009 (doi:10.1002/cyto.a.20714), but much simpler: a body is an ellipsoid with waves on its
surface, or has the shape of a label of a real volume; what is seen of it is blurred more along z than across, weakened with depth, counted
in photons and read out with noise. Lengths are in voxels of the last two axes; slices lie `Look.step` of them apart.

All randomness comes from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from napari_segsuite.training.shapes import GRID, REACH, Floats

SMALLEST = 0.12
"""What is left of a nucleus after others were drawn over it is still one from this part of the mean volume on."""


@dataclass(frozen=True)
class Look:
    """What the nuclei of one volume have in common, and how they were imaged; lengths in voxels of the last two axes.

    Attributes
    ----------
    step : float
        Distance of two slices.
    diameter, spread : float
        Mean diameter, and the standard deviation of its logarithm.
    crowding : float
        Part of the space that nuclei fill where there is room for it.
    near, clumps : float
        Least distance of two middles in sums of radii; part of the nuclei that are put beside another one.
    slender, waves : float
        Standard deviation of the logarithm of the half axes; height of the waves on the surface, in radii.
    uneven, texture, rim, nucleoli : float
        Differences in brightness between nuclei, inside them, from the middle to the surface, and part of the nuclei with dark spots.
    gap : float
        Unstained outermost part of a nucleus, in radii.
    haze, ground, specks : float
        Light from out of focus, uneven background, bright specks per 100 000 voxels.
    blur, blur_z : float
        Width of the point-spread function across and along z.
    fading : float
        How often the light falls to 1/e from the first slice to the last; negative from the last to the first.
    photons, noise : float
        Photons from a nucleus' voxel; noise of reading out, in photons.
    """

    step: float
    diameter: float
    spread: float
    crowding: float
    near: float
    clumps: float
    slender: float
    waves: float
    uneven: float
    texture: float
    rim: float
    nucleoli: float
    gap: float
    haze: float
    ground: float
    specks: float
    blur: float
    blur_z: float
    fading: float
    photons: float
    noise: float


def look(rng: np.random.Generator) -> Look:
    """Draw how a volume looks: from few bright nuclei in the dark to dense tissue of which little is to be seen."""
    return Look(
        step=float(np.exp(rng.uniform(0, np.log(3.2)))),
        diameter=rng.uniform(12, 20),
        spread=rng.uniform(0.05, 0.25),
        crowding=float(rng.choice([0.05, 0.2, 0.4, 0.6])),
        near=rng.uniform(0.75, 1.05),
        clumps=rng.uniform(0, 0.7),
        slender=rng.uniform(0.03, 0.25),
        waves=rng.uniform(0, 0.1),
        uneven=rng.uniform(0, 0.45),
        texture=rng.uniform(0, 0.45),
        rim=rng.uniform(-0.5, 0.4),
        nucleoli=float(rng.choice([0, 0, 0.5, 1])),
        gap=float(rng.choice([0, 0, 0.06, 0.12])),
        haze=rng.uniform(0, 0.8),
        ground=rng.uniform(0, 0.35),
        specks=float(rng.choice([0, 0, 1, 6])),
        blur=rng.uniform(0.5, 1.5),
        blur_z=rng.uniform(0.8, 3.5),
        fading=rng.normal(0, 0.6),
        photons=float(np.exp(rng.uniform(np.log(4), np.log(300)))),
        noise=rng.uniform(0, 3),
    )


@dataclass(frozen=True, eq=False)
class _Body:
    """A nucleus: `inverse` turns a way from its `middle` into its own radii; a distance below 1 there is inside."""

    middle: NDArray[np.float64]
    inverse: Floats
    reach: float
    waves: Floats
    phases: Floats
    height: float
    shape: Floats | None

    def away(self, own: Floats) -> Floats:
        """Distance from the middle, 1 on the surface, of places (3, *spatial) in own radii."""
        if self.shape is not None:
            at = (own / REACH + 1) * ((GRID - 1) / 2)
            inside: Floats = ndimage.map_coordinates(self.shape, at, order=1, mode="nearest")
            return 1 - inside
        far = np.sqrt((own**2).sum(0))
        along = np.tensordot(self.waves, own / np.maximum(far, 1e-3), 1)
        surface = 1 + self.height * np.cos(along + self.phases[:, None, None, None]).mean(0)
        return np.asarray(far / surface, np.float32)


def volume(
    shape: tuple[int, int, int], rng: np.random.Generator, how: Look | None = None, real: Sequence[Floats] = ()
) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Make a volume and its true labels.

    Parameters
    ----------
    shape : three ints
        Voxels along z, y, x.
    rng : numpy Generator
    how : Look, optional
        Drawn by `look` where it is not given.
    real : sequence of arrays
        Shapes as from `shapes`; half of the nuclei then have one of them.

    Returns
    -------
    image : (z, y, x) uint16
    labels : (z, y, x) int32
        0 is background, nuclei are 1 to n.

    Examples
    --------
    >>> image, labels = volume((12, 48, 48), np.random.default_rng(0))
    >>> image.shape, image.dtype.name, bool(labels.any())
    ((12, 48, 48), 'uint16', True)
    """
    how = how or look(rng)
    bodies = [_body(middle, radius, how, real, rng) for middle, radius in _places(shape, how, rng)]
    labels, light = _draw(shape, bodies, how, rng)
    return _expose(light, how, rng), _whole(labels, how)


def _places(shape: Sequence[int], how: Look, rng: np.random.Generator) -> list[tuple[NDArray[np.float64], float]]:
    """Middles and radii, none too near to another, until it is crowded enough or there is no room."""
    extent = np.array(shape) * (how.step, 1, 1)
    radius = how.diameter / 2
    wanted = max(1, round(how.crowding * float(np.prod(extent + radius)) / (4 / 3 * np.pi * radius**3)))
    middles, radii = np.zeros((0, 3)), np.zeros(0)
    for _ in range(20 * wanted):
        mine = radius * float(np.exp(rng.normal(0, how.spread)))
        middle = rng.uniform(-radius / 2, extent + radius / 2)
        if len(radii) and rng.random() < how.clumps:
            other = rng.integers(len(radii))
            way = rng.normal(size=3)
            middle = middles[other] + way / np.linalg.norm(way) * (mine + radii[other]) * how.near * 1.03
        if (np.linalg.norm(middles - middle, axis=1) >= how.near * (radii + mine)).all() and (
            np.abs(middle - extent / 2) < extent / 2 + radius
        ).all():
            middles, radii = np.vstack([middles, middle]), np.append(radii, mine)
        if len(radii) == wanted:
            break
    return list(zip(middles, radii.tolist(), strict=True))


def _body(middle: NDArray[np.float64], radius: float, how: Look, real: Sequence[Floats], rng: np.random.Generator) -> _Body:
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    axes = np.exp(rng.normal(0, how.slender, 3))
    half = radius * axes / np.prod(axes) ** (1 / 3)
    shape = real[int(rng.integers(len(real)))] if len(real) and rng.random() < 0.5 else None
    waves = rng.normal(0, 2.5, (6, 3)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, 6).astype(np.float32)
    reach = float(half.max()) * (1.6 if shape is not None else 1 + 2 * how.waves)
    return _Body(middle, (turn / half).T.astype(np.float32), reach, waves, phases, 2 * how.waves, shape)


def _draw(shape: Sequence[int], bodies: Sequence[_Body], how: Look, rng: np.random.Generator) -> tuple[NDArray[np.int32], Floats]:
    """Labels and emitted light: where two bodies overlap, a voxel belongs to the one it is deeper in."""
    step = np.array([how.step, 1, 1])
    depth = np.ones(tuple(shape), np.float32)
    labels = np.zeros(tuple(shape), np.int32)
    light = np.zeros(tuple(shape), np.float32)
    for number, body in enumerate(bodies, 1):
        low = np.clip(np.floor((body.middle - body.reach) / step), 0, shape).astype(int)
        high = np.clip(np.ceil((body.middle + body.reach) / step) + 1, low, shape).astype(int)
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        lines = [np.arange(a, b) * s - m for a, b, s, m in zip(low, high, step, body.middle, strict=True)]
        own = np.tensordot(body.inverse, np.stack(np.meshgrid(*lines, indexing="ij")).astype(np.float32), 1)
        away = body.away(own)
        mine = away < depth[window]
        depth[window][mine] = away[mine]
        labels[window][mine] = number
        light[window][mine] = _stain(own, away, how, rng)[mine]
    return labels, light * _texture(shape, how, rng)


def _stain(own: Floats, away: Floats, how: Look, rng: np.random.Generator) -> Floats:
    """Brightness inside one nucleus: brighter or darker towards the surface, dark nucleoli, perhaps an unstained rim."""
    stain = float(np.exp(rng.normal(0, how.uneven))) * (1 + how.rim * (away**2 - 0.5))
    if rng.random() < how.nucleoli:
        for _ in range(rng.integers(1, 4)):
            spot = rng.uniform(-0.45, 0.45, 3).astype(np.float32)[:, None, None, None]
            stain = np.where(((own - spot) ** 2).sum(0) < rng.uniform(0.15, 0.35) ** 2, 0.35 * stain, stain)
    return np.asarray(np.where(away < 1 - how.gap, stain, 0.1 * stain), np.float32)


def _texture(shape: Sequence[int], how: Look, rng: np.random.Generator) -> Floats:
    """Chromatin: brighter and darker clumps of some voxels around 1."""
    size = rng.uniform(0.8, 2.5)
    clumps = ndimage.gaussian_filter(rng.standard_normal(tuple(shape), np.float32), (size / how.step, size, size))
    texture: Floats = np.clip(1 + how.texture * clumps / max(float(clumps.std()), 1e-6), 0.1, None).astype(np.float32)
    return texture


def _expose(light: Floats, how: Look, rng: np.random.Generator) -> NDArray[np.uint16]:
    """What the camera reads: haze and background added, blurred, weakened with depth, photons counted."""
    wide = how.diameter * np.array([1 / how.step, 0.7, 0.7])
    haze = how.haze * ndimage.gaussian_filter(light, wide)
    coarse = ndimage.gaussian_filter(rng.standard_normal(light.shape, np.float32), wide / 2)
    ground = how.ground * np.clip(0.5 + 0.5 * coarse / max(float(coarse.std()), 1e-6), 0, None)
    for place in rng.integers(0, light.shape, (rng.poisson(how.specks * light.size / 1e5), 3)):
        light[tuple(place)] += rng.uniform(5, 40)
    fading = np.exp(-how.fading * np.linspace(0, 1, len(light)))[:, None, None]
    seen = ndimage.gaussian_filter((light + haze + ground) * fading, (how.blur_z / how.step, how.blur, how.blur))
    gain = rng.uniform(1, 20)
    counts = gain * (rng.poisson(how.photons * np.clip(seen, 0, None)) + rng.normal(0, how.noise, light.shape)) + rng.uniform(50, 300)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)


def _whole(labels: NDArray[np.int32], how: Look) -> NDArray[np.int32]:
    """Every connected piece that is large enough is a nucleus; what is smaller goes to the background. Numbers are 1 to n."""
    pieces = measure.label(labels)
    sizes = np.bincount(pieces.ravel())
    least = SMALLEST * np.pi / 6 * how.diameter**3 / how.step
    kept = sizes >= least
    kept[0] = False
    rank = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    renumbered: NDArray[np.int32] = rank[pieces]
    return renumbered
