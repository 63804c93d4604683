"""Random changes that a microscope, a stain or a user's hand could have made, in two and three dimensions.

All randomness comes from the generator that is passed in: the same seed gives the same crop on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure
from torch.nn import functional as F

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """How far the changes go; probabilities are per crop.

    Attributes
    ----------
    zoom : (float, float)
        Range of magnification, drawn evenly on a logarithmic scale.
    rotate, flip : bool
        Any angle in the last two axes; mirrors along every axis.
    elastic : float
        Largest size difference between the crop's axes, as a factor (1.15: up to 15 %).
    invert : float
        Probability of dark objects on a bright ground becoming bright ones on a dark ground and the other way round.
    intensity : float
        Probability of each of gain and bias, gamma, noise, blur, uneven light and low resolution.
    exact : float
        Probability that a crop is only mirrored and turned by right angles, which moves no outline by a part of a voxel.
    """

    zoom: tuple[float, float] = (0.6, 1.7)
    rotate: bool = True
    flip: bool = True
    elastic: float = 1.2
    invert: float = 0.05
    intensity: float = 0.35
    exact: float = 0.0


def crop_warped(
    image: Floats, labels: NDArray[np.integer], center: Sequence[float], size: Sequence[int], how: Augmentation, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.int32]]:
    """Cut a crop around `center` with a random mirror, turn and magnification in one interpolation, and number its objects anew.

    Parameters
    ----------
    image : (C, *spatial) float32
    labels : (*spatial) integer
    center : d floats, voxels
    size : d ints, voxels

    Returns
    -------
    image : (C, *size) float32, linear interpolation, mirrored beyond the border
    labels : (*size) int32, nearest, renumbered
    """
    out, near = warped(image, labels, center, size, how, rng)
    # An object and its mirror image are two objects, and so are the two ends of one that the crop cuts in the middle.
    return out, measure.label(near).astype(np.int32)


def warped(
    image: Floats, labels: NDArray[np.integer], center: Sequence[float], size: Sequence[int], how: Augmentation, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.int32]]:
    """Do the same as `crop_warped`, but leave every label its number (below 2**31)."""
    d = labels.ndim
    matrix = _matrix(d, how, rng)
    half = [int(np.ceil(np.abs(matrix[a]) @ (np.asarray(size) / 2))) + 2 for a in range(d)]
    low = [int(np.floor(c)) - h for c, h in zip(center, half, strict=True)]
    # As odd or even as the crop, so that without a change voxels lie on voxels and nothing is interpolated.
    high = [int(np.floor(c)) + h + n % 2 for c, h, n in zip(center, half, size, strict=True)]
    pixels, truth = _region(image, labels, low, high)
    theta = _theta(matrix, size, pixels.shape[1:])
    grid = F.affine_grid(theta, [1, 1, *size], align_corners=False)
    out = F.grid_sample(torch.from_numpy(pixels)[None], grid, "bilinear", "reflection", align_corners=False)[0].numpy()
    ids, local = np.unique(truth, return_inverse=True)
    as_float = torch.from_numpy(local.reshape(truth.shape).astype(np.float32))
    near = F.grid_sample(as_float[None, None], grid, "nearest", "reflection", align_corners=False)[0, 0].numpy()
    # Of real numbers that are sampled, small ones are exact.
    return out, ids.astype(np.int32)[near.astype(np.int32)]


def change_intensity(image: Floats, how: Augmentation, rng: np.random.Generator) -> Floats:
    """Vary light, contrast, sharpness and noise of a normalised (C, *spatial) crop."""
    chance = how.intensity
    grey = bool((image[:1] == image).all())
    if rng.random() < how.invert:
        image = 1 - image
    if rng.random() < chance:
        image = _gamma(image, float(np.exp(rng.uniform(np.log(0.5), np.log(2.0)))))
    if rng.random() < chance:
        image = _uneven_light(image, rng)
    if rng.random() < chance:
        sigma = rng.uniform(0.4, 1.6)
        image = ndimage.gaussian_filter(image, (0,) + (sigma,) * (image.ndim - 1))
    elif rng.random() < chance * 0.4:
        image = _low_resolution(image, int(rng.integers(2, 4)))
    if rng.random() < chance:
        image = image + _noise(image, grey, rng)
    if not grey and rng.random() < 0.6:
        image = _stain(image, rng)
    if rng.random() < 2 * chance:
        image = image * np.float32(np.exp(rng.uniform(np.log(0.5), np.log(1.6)))) + np.float32(rng.uniform(-0.12, 0.12))
    return np.ascontiguousarray(image, np.float32)


def _matrix(d: int, how: Augmentation, rng: np.random.Generator) -> NDArray[np.float64]:
    """Crop coordinates to image coordinates (both from their centres)."""
    exact = rng.random() < how.exact
    zoom = 1.0 if exact else np.exp(rng.uniform(*np.log(how.zoom)))
    stretch = np.ones(d) if exact else np.exp(rng.uniform(-0.5, 0.5, d) * np.log(how.elastic))
    matrix = np.diag(stretch / zoom)
    if how.flip:
        matrix = matrix @ np.diag(rng.choice([-1.0, 1.0], d))
    if how.rotate:
        angle = rng.integers(4) * np.pi / 2 if exact else rng.uniform(0, 2 * np.pi)
        turn = np.eye(d)
        turn[-2:, -2:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        matrix = matrix @ turn
    return matrix


def _region(image: Floats, labels: NDArray[np.integer], low: Sequence[int], high: Sequence[int]) -> tuple[Floats, NDArray[np.integer]]:
    """Cut ``low:high``, mirrored where it reaches beyond the image."""
    for axis, (a, b) in enumerate(zip(low, high, strict=True)):
        n = labels.shape[axis]
        index = np.abs((np.arange(a, b) + n - 1) % max(2 * n - 2, 1) - (n - 1))
        image = image.take(index, axis=axis + 1)
        labels = labels.take(index, axis=axis)
    return np.ascontiguousarray(image, np.float32), labels


def _theta(matrix: NDArray[np.float64], size: Sequence[int], region: Sequence[int]) -> torch.Tensor:
    """The same map in torch's normalised coordinates, whose axes run from last to first."""
    scaled = matrix * np.asarray(size)[None] / np.asarray(region)[:, None]
    theta = np.zeros((1, len(size), len(size) + 1), np.float32)
    theta[0, :, :-1] = scaled[::-1, ::-1]
    return torch.from_numpy(theta)


def _gamma(image: Floats, gamma: float) -> Floats:
    low, high = image.min(), image.max()
    span = max(float(high - low), 1e-6)
    bent: Floats = ((image - low) / span) ** np.float32(gamma) * span + low
    return bent


def _uneven_light(image: Floats, rng: np.random.Generator) -> Floats:
    """Multiply by and add a smooth field, as from an uneven lamp or out-of-focus light."""
    shape = image.shape[1:]
    coarse = rng.normal(size=(2,) + (4,) * len(shape)).astype(np.float32)
    fields = F.interpolate(torch.from_numpy(coarse)[None], size=shape, mode="bilinear" if len(shape) == 2 else "trilinear")[0].numpy()
    uneven: Floats = (image * np.exp(0.25 * fields[:1]) + 0.08 * fields[1:]).astype(np.float32)
    return uneven


def _low_resolution(image: Floats, factor: int) -> Floats:
    mode = "bilinear" if image.ndim == 3 else "trilinear"
    small = F.avg_pool2d(torch.from_numpy(image)[None], factor) if image.ndim == 3 else F.avg_pool3d(torch.from_numpy(image)[None], factor)
    return F.interpolate(small, size=image.shape[1:], mode=mode)[0].numpy()


def _noise(image: Floats, grey: bool, rng: np.random.Generator) -> Floats:
    """Read-out noise plus noise that grows with the root of the signal; the same in the copies of a grey image."""
    shape = (1, *image.shape[1:]) if grey else image.shape
    signal = np.sqrt(np.clip(image[:1] if grey else image, 0, None))
    noise = rng.standard_normal(shape, np.float32)
    return noise * np.float32(rng.uniform(0, 0.06)) + noise * signal * np.float32(rng.uniform(0, 0.1))


def _stain(image: Floats, rng: np.random.Generator) -> Floats:
    """Vary a colour picture as another stain or white balance would: mix, scale and sometimes drop the colour."""
    if rng.random() < 0.15:
        return np.broadcast_to(image.mean(0, keepdims=True), image.shape)
    c = len(image)
    mix = np.eye(c, dtype=np.float32) + rng.normal(0, 0.12, (c, c)).astype(np.float32)
    mix /= mix.sum(1, keepdims=True)
    gain = np.exp(rng.normal(0, 0.15, c)).astype(np.float32)
    # White stays white: stains absorb, so the change is made on the light that is missing.
    return 1 - np.tensordot(mix * gain[:, None], 1 - image, 1)
