"""Thresholds of a whole channel: the values that part its voxels into dark and bright, or into three kinds.

Each gives the two values that normalisation makes 0 and 1 (`arrays.normalize`), so that tiles cannot disagree on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.arrays import EXTREME

BINS = 256
STEPS = 500
LARGEST_COUNT = 2**16
"""Integers that span more than this are put into bins like real numbers: a count per value would need as much memory as they span."""


def otsu(channel: NDArray[Any]) -> tuple[float, float]:
    """Find the two values around Otsu's threshold that become 0 and 1, the threshold itself becoming 0.5.

    A constant channel gets a threshold above it, so that nothing in it is foreground.

    Examples
    --------
    >>> low, high = otsu(np.array([0, 1, 0, 1, 9, 10, 9, 10], np.uint8))
    >>> 1 < (low + high) / 2 < 9
    True
    """
    values = channel.ravel()
    values = values[np.isfinite(values)]
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    elif len(values) and (values.dtype.kind == "f" or float(values.max()) - float(values.min()) > LARGEST_COUNT):
        values = values.astype(np.float64)
    if not len(values) or values.min() == values.max():
        top = float(values.max()) if len(values) else 0.0
        step = max(1.0, 4 * float(np.spacing(abs(top))))  # beyond 2**53 a step of 1 is lost in rounding
        return top + 0.5 * step, top + 1.5 * step
    if values.dtype.kind == "f" and (size := float(np.abs(values).max())) > EXTREME:
        low, high = otsu(values / size)
        return low * size, high * size
    from skimage import filters  # here, so that importing this module stays cheap

    bins = 1024
    threshold = float(filters.threshold_otsu(values, bins))
    if values.dtype.kind == "f":  # the middle of a bin, whose other half belongs below as well
        threshold += float(values.max() - values.min()) / bins / 2
    # Halfway to the next value above: voxels that equal the threshold are background, as in Otsu's definition.
    threshold = (threshold + float(values[values > threshold].min(initial=values.max()))) / 2
    half = min(threshold - float(values.min()), float(values.max()) - threshold)
    return threshold - half, threshold + half


def clusters(channel: NDArray[Any]) -> tuple[float, float]:
    """Find the two values that part three clusters of grey values with the least variance inside them; they become 0 and 1.

    A channel of two values has no third cluster: the upper threshold is then above all of them, and likewise both in a constant one.

    Examples
    --------
    >>> low, high = clusters(np.array([0, 1, 0, 1, 5, 6, 5, 9, 10, 9, 10], np.uint8))
    >>> 1 < low < 5, 6 < high < 9
    (True, True)
    """
    values = channel.ravel()
    values = values[np.isfinite(values)].astype(np.float64)
    # As shares of the channel's range, halved, since floats may span more than the largest float.
    bottom = float(values.min(initial=np.inf)) / 2
    size, bins = float(values.max(initial=-np.inf)) / 2 - bottom, BINS
    shares = (values / 2 - bottom) / size if size > 0 else values
    if size <= 0 or np.count_nonzero(np.histogram(shares, bins)[0]) < 3:
        low, high = otsu(channel)
        middle = low / 2 + high / 2
        return middle, max(high, middle + 4 * float(np.spacing(abs(middle))))
    from skimage import filters

    ends = filters.threshold_multiotsu(shares, classes=3, nbins=bins) + 0.5 / bins  # of bins; it gives their middle
    parts = np.digitize(shares, ends)
    means = [float(shares[parts == k].mean()) for k in range(3)]  # k-means cuts in the middle between them, whatever the bins are
    return tuple((bottom + size * (means[k] / 2 + means[k + 1] / 2)) * 2 for k in range(2))  # type: ignore[return-value]


def mixture(channel: NDArray[Any]) -> tuple[float, float]:
    """Find the two values that part three kinds of grey values, each spread like a Gaussian of its own width and share; they become 0 and 1.

    Expectation maximisation (Dempster et al. 1977, doi:10.1111/j.2517-6161.1977.tb01600.x) on the channel's histogram, from `clusters` on. Unlike
    those, a wide kind may reach far towards a narrow one, and a rare one may lie close to a frequent one.

    Examples
    --------
    >>> low, high = mixture(np.array([0, 1, 0, 1, 5, 6, 5, 9, 10, 9, 10], np.uint8))
    >>> 1 < low < 5, 6 < high < 9
    (True, True)
    """
    first = clusters(channel)
    values = channel.ravel()
    values = values[np.isfinite(values)].astype(np.float64)
    bottom = float(values.min(initial=np.inf)) / 2
    size = float(values.max(initial=-np.inf)) / 2 - bottom
    if not size > 0:
        return first
    counts, ends = np.histogram((values / 2 - bottom) / size, BINS)
    at = (ends[:-1] + ends[1:]) / 2
    start = np.digitize(at, [(v / 2 - bottom) / size for v in first])
    if any(not counts[start == k].any() for k in range(3)):
        return first
    shares, means, widths = _fit(at, counts / counts.sum(), np.eye(3)[start].T)
    cuts = [_crossing(shares[k : k + 2], means[k : k + 2], widths[k : k + 2]) for k in range(2)]
    low, high = ((bottom + size * cut) * 2 for cut in cuts)
    return (low, high) if low < high else first


def _fit(at: NDArray[Any], weight: NDArray[Any], belongs: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Share, mean and standard deviation of each kind, in the order of their means."""
    before = -np.inf
    for _ in range(STEPS):
        mass = belongs * weight
        shares = np.maximum(mass.sum(1), 1e-12)
        means = (mass * at).sum(1) / shares
        # No narrower than a bin, in which values cannot be told apart.
        widths = np.sqrt((mass * (at - means[:, None]) ** 2).sum(1) / shares + 1 / 12 / BINS**2)
        heights = _density(at, shares, means, widths)
        total = np.maximum(heights.sum(0), 1e-300)
        belongs, now = heights / total, float((weight * np.log(total)).sum())
        if now - before < 1e-9:
            break
        before = now
    order = np.argsort(means)
    return shares[order], means[order], widths[order]


def _density(at: NDArray[Any], shares: NDArray[Any], means: NDArray[Any], widths: NDArray[Any]) -> NDArray[Any]:
    """Of each kind (rows) at each value (columns), but for a factor that they share."""
    density: NDArray[Any] = (shares / widths)[:, None] * np.exp(-(((at - means[:, None]) / widths[:, None]) ** 2) / 2)
    return density


def _crossing(shares: NDArray[Any], means: NDArray[Any], widths: NDArray[Any]) -> float:
    """Where between two means the second kind becomes the likelier one; the nearer mean's end where it is so everywhere."""
    at = np.linspace(means[0], means[1], 4 * BINS + 1)
    lower, upper = _density(at, shares, means, widths)
    return float(at[np.argmax(upper > lower)] if (upper > lower).any() else at[-1])
