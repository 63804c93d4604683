"""The contrast constants of an image, once for all of it, from a bounded number of voxels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite import arrays, thresholds
from napari_segsuite.engine import pixels
from napari_segsuite.engine.plan import Plan
from napari_segsuite.errors import ModelError
from napari_segsuite.types import Image, ModelSpec

LARGEST = 2**22
"""Channels with more voxels are sampled."""
BLOCKS = 64


SATURATED = 0.05
"""Share of the voxels at the largest value from which on a channel is called saturated."""


def measured(plan: Plan, image: Image, spec: ModelSpec) -> Plan:
    """Fill in the values that become 0 and 1, per chosen channel, over the whole image with all its frames; and what is odd about the pixels.

    Raises
    ------
    ModelError
        The model asks for a method that does not exist.
    """
    method = spec.normalize.get("method")
    if method not in arrays.METHODS:
        raise ModelError(f"model {spec.name!r} asks for the normalisation {method!r}", f"one of {', '.join(arrays.METHODS)}")
    if method == "none":
        return replace(plan, limits=((0.0, 1.0),) * len(plan.channels))
    samples = [sample(image, channel) for channel in plan.channels]
    if spec.normalize.get("joint"):
        found = (_limits(np.concatenate([s.ravel() for s in samples]), spec),) * len(samples)
    else:
        found = tuple(_limits(s, spec) for s in samples)
    told = [_remark(s, _name(image, c)) for s, c in zip(samples, plan.channels, strict=True)]
    return replace(plan, limits=found, notices=tuple(dict.fromkeys((*plan.notices, *filter(None, told)))))


def _remark(values: NDArray[Any], name: str) -> str:
    """What is odd about a channel, in a sentence; nothing where nothing is."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.ravel()
    if not len(finite):
        return ""
    top, bottom = finite.max(), finite.min()
    if top == bottom:
        return f"{name} has one value only ({top:g})"
    share = np.count_nonzero(finite == top) / len(finite)
    below = finite[finite < top]
    # Labels, masks and pictures of few greys have large shares of every value; what is cut off has a peak at the end.
    if share > SATURATED and len(np.unique(below[: 2**16])) > 16 and np.count_nonzero(below == below.max()) < share * len(finite) / 3:
        return f"{name} is saturated: {100 * share:.0f} % of it has the largest value ({top:g}), and nothing can be told apart there"
    return ""


def _name(image: Image, channel: int) -> str:
    return f"channel {image.channels[channel]!r}" if len(image.channels) > 1 else "the image"


def _limits(values: NDArray[Any], spec: ModelSpec) -> tuple[float, float]:
    if spec.normalize["method"] == "otsu":
        return thresholds.otsu(values)
    if spec.normalize["method"] == "clusters":
        return thresholds.clusters(values)
    if spec.normalize["method"] == "mixture":
        return thresholds.mixture(values)
    if spec.normalize["method"] == "mean_std":
        return arrays.moments(values, float(spec.normalize.get("eps", 1e-6)))
    low, high = spec.normalize.get("values", (1.0, 99.8))
    return arrays.contrast(values, (float(low), float(high)))


def sample(image: Image, channel: int) -> NDArray[Any]:
    """Take a channel's voxels, or about `LARGEST` of them in `BLOCKS` blocks spread evenly over all axes.

    What is taken depends on the shape alone, so that a file and an array of the same pixels get the same constants.
    """
    where: list[list[slice]] = [[slice(channel, channel + 1)] if a == "c" else [slice(None)] for a in image.axes]
    shape = [1 if a == "c" else n for a, n in zip(image.axes, image.shape, strict=True)]
    if np.prod(shape, dtype=float) <= LARGEST:
        return pixels.read(image, tuple(w[0] for w in where))
    side = _side(shape)
    counts = _counts(shape, side)
    for axis, (n, s, count) in enumerate(zip(shape, side, counts, strict=True)):
        if image.axes[axis] != "c":
            starts = np.linspace(0, n - s, count).round().astype(int)
            where[axis] = [slice(int(a), int(a) + s) for a in starts]
    blocks = [pixels.read(image, tuple(w[i] for w, i in zip(where, at, strict=True))) for at in np.ndindex(*[len(w) for w in where])]
    return np.concatenate([b.ravel() for b in blocks])


def _side(shape: list[int]) -> list[int]:
    """Length of a block along each axis: a cube where the axes are long enough."""
    side, left, room = [1] * len(shape), float(LARGEST // BLOCKS), len(shape)
    for axis in sorted(range(len(shape)), key=lambda a: shape[a]):
        side[axis] = max(1, min(shape[axis], int(left ** (1 / room))))
        left, room = left / side[axis], room - 1
    return side


def _counts(shape: list[int], side: list[int]) -> list[int]:
    """How many blocks along each axis, in all about `BLOCKS`, more where there is more to see."""
    counts = [1] * len(shape)
    while np.prod(counts) < BLOCKS:
        room = [n / (s * c) for n, s, c in zip(shape, side, counts, strict=True)]
        axis = int(np.argmax(room))
        if room[axis] <= 1:
            break
        counts[axis] += 1
    return counts
