"""Objects out of clicks and boxes without any weights: regions that grow from the click until their border is sharpest.

From the places on the object a geodesic distance is computed, in which a step costs the more the less a voxel looks like the place that was
clicked (as in GeoS, Criminisi, Sharp and Blake 2008). The regions that are nearer than some distance lie in each other, and the one is taken
whose border has the greatest mean contrast (as in the region growing of Hojjatoleslami and Kittler 1998) and which is compact. Several windows
around the click are tried, from fine to coarse, since nobody says how large the object is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.models.prompts import Box, Candidate, Prompt
from napari_segsuite.models.prompts.nested import Levels, boxes, levels, roundness

SIGMA = 1.0
"""Of the Gaussian before all else."""
STEP = 0.1
"""What a step costs where nothing changes, beside 1 where the picture is as different as in nine tenths of the window."""
REACH = {2: (32, 64, 128, 256), 3: (12, 24, 48, 96)}
"""Half the widths of the windows around the places that are tried, by the number of axes."""
FAR = {2: (512, 1024), 3: ()}
"""Those of windows that are tried where no smaller one has an object in it that ends in it."""
ROOM = {2: 132**2, 3: 50**3}
"""Voxels of a window that are computed with; larger windows are coarser."""
BETTER = 1.5
"""By how much the border in a larger window must be sharper to be preferred."""
SMALLEST, LARGEST = 12, 0.9
"""Voxels that an object has at least, and the part of a window that it may fill."""
LEAST = 1e-5
"""Contrast of a border, of the largest value in the window, that is more than rounding."""
CERTAIN = 16.0
"""Contrast of a border whose noise averages out over its length, in units of what is left of the noise, that is more than chance: growing takes the
weakest of many voxels, so that in noise alone it is about 2 to 8."""
PASSES = 2
"""The second grows from the inner half of what the first has found, so that a side which is far from the click is not too far."""
Place = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture that was looked at: smooth, and of even noise."""

    picture: NDArray[np.float32]


class Geodesic:
    """The backend without weights, in 2D and 3D, for grey and colour pictures."""

    name = "geodesic"
    axes = "any"
    side = 2048

    def look(self, pixels: NDArray[np.float32]) -> Seen:
        """Smooth a picture (C, *spatial); of grey ones the square root is taken, which makes the noise of photons even."""
        from scipy import ndimage

        values = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        if len(values) == 1:
            values = np.sqrt(values - values.min())
        return Seen(np.stack([ndimage.gaussian_filter(channel, SIGMA, mode="nearest", truncate=3.0) for channel in values]))

    def answer(self, state: Seen, prompt: Prompt) -> list[Candidate]:
        """The best region of each window, best first; where it took the far ones, those whose border may be chance come last."""
        shape = state.picture.shape[1:]
        found: list[tuple[float, Grown]] = []
        looked_far = False
        for view, stride, far in _windows(shape, prompt):
            if far and any(one.certainty >= CERTAIN and one.ends for _, one in found):
                break
            looked_far = looked_far or far
            if best := _grown(state.picture, view, stride, prompt, mean=far):
                found.append((best.score / BETTER ** len(found), best))
        found.sort(key=lambda one: (looked_far and one[1].certainty >= CERTAIN, one[0]), reverse=True)
        distinct: list[Candidate] = []
        for weight, one in found:
            if not any(_alike(one.region, other.region) for other in distinct):
                distinct.append(Candidate(one.region, min(weight / (found[0][0] or 1.0), 1.0)))
        return distinct


@dataclass(frozen=True, eq=False)
class Grown:
    """What was found in a window.

    Attributes
    ----------
    region : (*spatial) bool
    score : float
        How sharp its border is, and how compact it is.
    certainty : float
        See `CERTAIN`.
    ends : bool
        Whether all of it is in the window, as far as can be said: it does not reach an end behind which there is more of the picture.
    """

    region: NDArray[np.bool_]
    score: float
    certainty: float
    ends: bool


def _alike(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether two regions are the same but for a tenth."""
    return bool((one & other).sum() > 0.9 * (one | other).sum())


def _windows(shape: Sequence[int], prompt: Prompt) -> list[tuple[Box, int, bool]]:
    """Parts of the picture around the places, each with the stride at which it is small enough, and whether it is one of the `FAR`.

    With a box, there is only one around that.
    """
    if prompt.box is not None:
        reaches = [(4 + int(0.1 * max(b - a for a, b in prompt.box)), False)]
    else:
        reaches = [(reach, far) for near, far in ((REACH, False), (FAR, True)) for reach in near[len(shape)]]
    windows: list[tuple[Box, int, bool]] = []
    for reach, far in reaches:
        view = tuple((max(low - reach, 0), min(high + reach, n)) for (low, high), n in zip(prompt.bounds(), shape, strict=True))
        stride = 1
        while np.prod([-(-(b - a) // stride) for a, b in view]) > ROOM[len(shape)]:
            stride += 1
        if view not in [one for one, *_ in windows]:
            windows.append((view, stride, far))
    return windows


def _grown(picture: NDArray[np.float32], view: Box, stride: int, prompt: Prompt, *, mean: bool = False) -> Grown | None:
    """The best region of one window; where it is coarse, of means rather than of single voxels, if that is wanted."""
    from scipy import ndimage

    cut = picture[(slice(None), *(slice(a, b) for a, b in view))]
    if mean and stride > 1:
        cut = ndimage.uniform_filter(cut, (1, *[stride] * (cut.ndim - 1)), mode="nearest")
    cut = cut[(slice(None), *[slice(None, None, stride)] * (cut.ndim - 1))]
    own = [tuple(_clip(point, view, stride)) for point in prompt.points]
    clicked = [place for place, mark in zip(own, prompt.marks, strict=True) if mark]
    rivals = [place for place, mark in zip(own, prompt.marks, strict=True) if not mark and place not in clicked]
    allowed = np.ones(cut.shape[1:], np.bool_)
    if prompt.box is not None:
        ends = [(max(round((a - v[0]) / stride), 0), max(round((b - v[0]) / stride), 1)) for (a, b), v in zip(prompt.box, view, strict=True)]
        inside = tuple(slice(a, max(b, a + 1)) for a, b in ends)
        allowed[:] = False
        allowed[inside] = True
        clicked = clicked or [_middle(inside, cut.shape[1:])]
    open_ends = [(a > 0, b < n) for (a, b), n in zip(view, picture.shape[1:], strict=True)]
    best, certainty, inner = None, 0.0, list[Place]()
    for _ in range(PASSES):
        found = levels(_field(cut, clicked, inner, rivals, allowed), cut, open_ends)
        quality = found.contrast * roundness(found)
        if prompt.box is not None:
            quality = quality * _filling(found, inside)
        fits = (found.area >= max(SMALLEST / stride**allowed.ndim, 1)) & (found.area <= LARGEST * allowed.size)
        if not fits.any():
            break
        level = int(np.where(fits, quality, -1.0).argmax())
        certainty = float(found.contrast[level] * np.sqrt(found.border[level])) / _noise(cut)
        best, region = float(quality[level]), ndimage.binary_fill_holes(found.rank <= level)
        inner = _inner(region)
    if best is None or best <= LEAST * float(np.abs(cut).max()):
        return None
    for place in rivals:
        region[place] = False
    whole = np.zeros(picture.shape[1:], np.bool_)
    whole[tuple(slice(a, b) for a, b in view)] = _finer(region, stride, [b - a for a, b in view])
    cut_off = any(region.take(end, axis).any() for axis, both in enumerate(open_ends) for end, more in zip((0, -1), both, strict=True) if more)
    return Grown(whole, best, certainty, not cut_off)


def _noise(cut: NDArray[np.float32]) -> float:
    """By how much neighbours differ where nothing changes, as a standard deviation: from the median, of which borders are no large part."""
    steps = [float(np.median(np.sqrt((np.diff(cut, axis=axis) ** 2).sum(0)))) for axis in range(1, cut.ndim) if cut.shape[axis] > 1]
    return max(steps, default=0.0) / 0.6745 or float(np.finfo(np.float32).tiny)


def _field(
    cut: NDArray[np.float32], clicked: Sequence[Place], seeds: Sequence[Place], rivals: Sequence[Place], allowed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Geodesic distance from the seeds, and from the ways between them; infinite where a rival is nearer."""
    from skimage.graph import MCP_Geometric

    costs = _costs(cut, clicked)
    sources = [*clicked, *seeds]
    if len(clicked) > 1:
        ways = MCP_Geometric(costs)
        ways.find_costs([clicked[0]])
        sources += [tuple(place) for other in clicked[1:] for place in ways.traceback(other)]
    field: NDArray[np.float64] = MCP_Geometric(costs).find_costs(list(dict.fromkeys(sources)))[0]
    field = np.where(allowed, field, np.inf)
    if rivals:
        other = MCP_Geometric(_costs(cut, rivals)).find_costs(list(rivals))[0]
        field = np.where(other < field, np.inf, field)
        for place in clicked:
            field[place] = 0.0
    return field


def _inner(region: NDArray[np.bool_]) -> list[Place]:
    """The inner half of a region, from where all sides of its border are about equally far."""
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(np.pad(region, 1))[(slice(1, -1),) * region.ndim]
    return [tuple(place) for place in np.argwhere(depth > depth.max() / 2).tolist()]


def _costs(cut: NDArray[np.float32], places: Sequence[Place]) -> NDArray[np.float64]:
    """What a step onto each voxel costs: how much it differs from the most similar of the places."""
    looks = [cut.reshape(len(cut), -1)[:, int(np.ravel_multi_index(place, cut.shape[1:]))] for place in places]
    far = [np.sqrt(((cut - look.reshape(-1, *[1] * (cut.ndim - 1))) ** 2).sum(0)) for look in looks]
    least = np.minimum.reduce(far)
    unit = float(np.percentile(least, 90)) or 1.0
    costs: NDArray[np.float64] = (least / unit).astype(np.float64) + STEP
    return costs


def _filling(found: Levels, inside: tuple[slice, ...]) -> NDArray[np.float64]:
    """How well the box of each region agrees with a box: intersection over union, squared."""
    ends = boxes(found)
    low, high = (np.array([getattr(side, end) for side in inside]) for end in ("start", "stop"))
    own = np.maximum(ends[..., 1] + 1 - ends[..., 0], 0).prod(1)
    common = np.maximum(np.minimum(ends[..., 1] + 1, high) - np.maximum(ends[..., 0], low), 0).prod(1)
    share: NDArray[np.float64] = common / np.maximum(own + (high - low).prod() - common, 1)
    return share**2


def _clip(point: Sequence[float], view: Box, stride: int) -> list[int]:
    """The voxel of a window that a place lies in, or the nearest one."""
    places = [int(np.floor(x + 0.5)) for x in point]
    return [min(max(p - a, 0), b - a - 1) // stride for p, (a, b) in zip(places, view, strict=True)]


def _middle(inside: tuple[slice, ...], shape: Sequence[int]) -> Place:
    return tuple(min((side.start + side.stop) // 2, n - 1) for side, n in zip(inside, shape, strict=True))


def _finer(region: NDArray[np.bool_], stride: int, shape: Sequence[int]) -> NDArray[np.bool_]:
    """A coarse region on the fine grid: linear between the voxels, so that its border is smooth."""
    if stride == 1:
        return region
    from scipy import ndimage

    places = np.meshgrid(*(np.arange(n) / stride for n in shape), indexing="ij", sparse=True)
    coarse = region.astype(np.float32)
    fine = ndimage.map_coordinates(coarse, np.broadcast_arrays(*places), order=1, mode="nearest")
    smooth: NDArray[np.bool_] = fine > 0.5
    return smooth
