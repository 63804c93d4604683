"""Small exact operations on arrays: contrast constants and resampling by scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.types import AXES, Image

METHODS = ("percentiles", "otsu", "clusters", "mixture", "mean_std", "none")
"""Ways to find the two values of a channel that become 0 and 1."""
FAR = 1e30
"""Where normalised pixels are cut off for models that want them whole; squares of them are not infinite in float32 networks yet."""
FILLED_PX = 8
"""So far a value stands in for pixels that have none."""
EXTREME = 1e150
"""Values beyond this are scaled down before their differences and squares are computed, which would be infinite."""


def contrast(channel: NDArray[Any], percentiles: tuple[float, float]) -> tuple[float, float]:
    """Find the values that become 0 and 1: two percentiles of a channel, with a floor on their distance.

    Parameters
    ----------
    channel : array of numbers
        All of it or a sample (`sample`); values that are not finite are left out.
    percentiles : (float, float)

    Returns
    -------
    low, high : float
        ``high > low`` always: a nearly constant channel is not stretched until its noise looks like signal. For integers the
        distance is at least 1; for floats at least a millionth of the largest magnitude.

    Examples
    --------
    >>> contrast(np.array([0, 0, 10, 20], np.uint8), (0, 100))
    (0.0, 20.0)
    >>> contrast(np.full(5, 7, np.uint16), (1, 99.8))
    (7.0, 8.0)
    """
    values = channel.ravel().astype(np.float64, copy=False)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    if (size := float(np.abs(values).max())) > EXTREME:
        low, high = contrast(values / size, percentiles)
        return low * size, high * size
    low, high = (float(v) for v in np.percentile(values, percentiles))
    if high <= low:  # signal in fewer voxels than the percentile leaves out
        low, high = min(low, float(np.median(values))), float(values.max())
    integer = np.issubdtype(channel.dtype, np.integer) or channel.dtype == bool
    floor = 1.0 if integer else max(1e-6 * max(abs(low), abs(high)), float(np.finfo(np.float32).tiny) * 1e6)
    return low, max(high, low + floor, float(np.nextafter(low, np.inf)))  # beyond 2**53 a floor of 1 is lost in rounding


def moments(channel: NDArray[Any], eps: float) -> tuple[float, float]:
    """Find the values that become 0 and 1 when the mean becomes 0 and the standard deviation 1.

    Parameters
    ----------
    channel : array of numbers
        All of it or a sample; values that are not finite are left out.
    eps : float
        Added to the standard deviation.

    Examples
    --------
    >>> moments(np.array([0, 2], np.uint8), 0)
    (1.0, 2.0)
    """
    values = channel.ravel().astype(np.float64, copy=False)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    if (size := float(np.abs(values).max())) > EXTREME:
        low, high = moments(values / size, eps)
        return low * size, high * size
    mean = float(values.mean())
    return mean, max(mean + float(values.std()) + eps, float(np.nextafter(mean, np.inf)))


def normalize(pixels: NDArray[Any], limits: Sequence[tuple[float, float]], cut: float = 4) -> NDArray[np.float32]:
    """Scale (C, *spatial) pixels so that each channel's limits become 0 and 1; beyond them nothing is cut off below `cut`.

    Returns
    -------
    (C, *spatial) float32, finite wherever the input is, and NaN elsewhere
    """
    out = np.empty(pixels.shape, np.float32)
    for c, (low, high) in enumerate(limits):
        plane = pixels[c].astype(np.float64, copy=False) if pixels.dtype.itemsize > 2 else pixels[c].astype(np.float32)
        if max(abs(low), abs(high)) > EXTREME:
            plane, low, high = plane / 8, low / 8, high / 8
        plane = plane - low
        plane /= high - low
        np.clip(plane, -cut, cut, out=out[c])
        if pixels.dtype.kind == "f":
            out[c][~np.isfinite(pixels[c])] = np.nan  # an infinity is a fault of the pixel, not a bright one
    return out


def fill(pixels: NDArray[np.float32]) -> int:
    """Replace what is not finite by the nearest finite value of its channel, in place; by 0 where there is none within `FILLED_PX`.

    Parameters
    ----------
    pixels : (C, *spatial) float32
        Normalised, so that 0 is dark.

    Returns
    -------
    int
        How many values were replaced.
    """
    bad = ~np.isfinite(pixels)
    count = int(np.count_nonzero(bad))
    for channel, missing in zip(pixels, bad, strict=True):
        if missing.all():
            channel[...] = 0
        elif missing.any():
            from scipy import ndimage  # here, since the dock imports this module and most images lack nothing

            far, nearest = ndimage.distance_transform_edt(missing, return_indices=True)
            # Carried on without end, what lies at the border of a region without pixels would become an object as large as the region.
            channel[missing] = np.where(far[missing] <= FILLED_PX, channel[tuple(i[missing] for i in nearest)], 0)
    return count


def resampler(n_in: int, n_out: int, start: int, stop: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Say from what samples ``start:stop`` of an axis are mixed that is resampled from `n_in` to `n_out` samples.

    Linear interpolation when enlarging; when shrinking, a triangle as wide as the step, which averages what it leaves out. How a
    sample is mixed depends on its place in the whole axis only, so that any partition gives the same numbers.

    Returns
    -------
    index : (stop - start, k) int
        Input samples.
    weights : (stop - start, k) float32
        Their shares; each row sums to 1.

    Examples
    --------
    >>> index, weights = resampler(4, 2, 0, 2)
    >>> index.tolist(), weights.tolist()
    ([[0, 0, 1, 2], [1, 2, 3, 3]], [[0.125, 0.375, 0.375, 0.125], [0.125, 0.375, 0.375, 0.125]])
    """
    step = n_in / n_out
    width = max(1.0, step)
    middle = (np.arange(start, stop) + 0.5) * step - 0.5
    index = np.floor(middle - width).astype(np.intp)[:, None] + 1 + np.arange(int(np.ceil(2 * width)))[None]
    weight = np.clip(1 - np.abs(index - middle[:, None]) / width, 0, None)
    weight /= weight.sum(1, keepdims=True)
    return np.clip(index, 0, n_in - 1), weight.astype(np.float32)


def resample(pixels: NDArray[Any], index: NDArray[np.intp], weights: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Resample one axis with what `resampler` said, `index` counted from the first sample of `pixels`.

    The terms of a sample are added one by one in their order, which a matrix product does not promise: sums of other partitions
    would differ in their last bits.
    """
    shape = [1] * pixels.ndim
    shape[axis] = len(index)
    out = np.zeros([len(index) if a == axis else n for a, n in enumerate(pixels.shape)], np.float32)
    for at, weight in zip(index.T, weights.T, strict=True):
        out += pixels.take(at, axis) * weight.reshape(shape)
    return out


def mirror(n: int, size: int) -> NDArray[np.intp]:
    """Which of `n` samples stands where in `size` of them, when what lacks at the end is mirrored, more than once if need be.

    >>> mirror(3, 6).tolist()
    [0, 1, 2, 1, 0, 1]
    """
    index = np.arange(size) % max(2 * n - 2, 1)
    return np.where(index < n, index, 2 * n - 2 - index).astype(np.intp)


def nearest(n_in: int, n_out: int, start: int, stop: int) -> NDArray[np.intp]:
    """Input sample that lies under each of the samples ``start:stop`` of an axis resampled from `n_in` to `n_out` samples."""
    return np.minimum(((2 * np.arange(start, stop) + 1) * n_in) // (2 * n_out), n_in - 1).astype(np.intp)


def as_image(data: Any, axes: str | None = None, *, name: str = "image") -> Image:
    """Wrap an array.

    Parameters
    ----------
    data : array
        numpy, dask or zarr, or anything that numpy makes an array of.
    axes : str, optional
        One letter per dimension, in any order; by default ``yx``, ``zyx``, ``tzyx`` or ``tczyx`` by the number of dimensions, or
        ``yxc`` for uint8 with a last axis of 3 or 4.

    Returns
    -------
    Image
        With axes in the order ``tczyx`` and unknown sample sizes.

    Raises
    ------
    InputError
        `axes` does not fit the array.

    Examples
    --------
    >>> as_image(np.zeros((6, 5, 3), np.uint8)).axes
    'cyx'
    """
    array = data if all(hasattr(data, a) for a in ("shape", "dtype", "ndim")) else np.asarray(data)
    colour = axes is None and array.ndim == 3 and array.dtype == np.uint8 and array.shape[-1] in (3, 4) and min(array.shape[:2]) > 4
    told = axes or ("yxc" if colour else {2: "yx", 3: "zyx", 4: "tzyx", 5: "tczyx"}.get(array.ndim, ""))
    if len(told) != array.ndim or len(set(told)) != len(told) or not set(told) <= set(AXES):
        raise InputError(
            f"an array of shape {tuple(array.shape)} does not have the axes {told!r}",
            f"{array.ndim} different letters of {AXES!r}",
            "Say what the axes are, for example axes='zyx'.",
        )
    order = sorted(range(array.ndim), key=lambda i: AXES.index(told[i]))
    if order != list(range(array.ndim)):
        array = np.asarray(array).transpose(order)
    told = "".join(told[i] for i in order)
    channels = tuple(["red", "green", "blue", "alpha"][: array.shape[told.index("c")]]) if colour else ()
    if "c" in told and not channels:
        channels = tuple(str(i) for i in range(array.shape[told.index("c")]))
    n = array.ndim
    return Image((array,), told, (1.0,) * n, ("pixel",) * n, (0.0,) * n, channels, rgb=colour, name=name)
