"""From frames to volumes: which belong together, in what order they lie, and whether any is missing or there twice.

Slices are put in order by their positions along the normal of their plane, never by name or number. What is not a stack of parallel planes at
one distance is an error that names the files: space is never closed up, and no slice is left out or made up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.dicom_headers import Frame, frames_of
from napari_segsuite.io.dicom_planes import check_directions, check_instances, matrix_of, normal_of, twice
from napari_segsuite.io.geometry import Size
from napari_segsuite.io.units import PIXEL
from napari_segsuite.io.world import Grid

Volumes = tuple[tuple[Frame, ...], ...]
"""Frames by moment, then along the normal."""

SAME_PLACE = 0.01
"""Share of a pixel's size: planes that are closer lie at one position."""

REGULAR_TIME = 0.1
"""The same of the time between two volumes."""

_APART = ("EchoNumbers", "EchoTime", "ImageType")
_PARALLEL = 1e-3


@dataclass(frozen=True)
class Series:
    """The frames of one image: a series of slices, or that part of it which is parallel and of one kind.

    Attributes
    ----------
    key : str
        What it is chosen by: its series UID; where the series holds several images, with a colon and a number.
    frames : tuple of Frame
        In any order.
    """

    key: str
    frames: tuple[Frame, ...]

    @property
    def files(self) -> list[Path]:
        """The files that it lies in."""
        return list(dict.fromkeys(frame.file.path for frame in self.frames))

    def __str__(self) -> str:
        first = self.frames[0].file
        traits = "".join(f", {name} {value}" for name, value in sorted(self.frames[0].traits.items()) if name in _APART[:2])
        n = len(self.frames)
        size = f"{n} {'slice' if n == 1 else 'slices'} of {first.columns} x {first.rows}"
        return f"{first.description or 'no description'!r}, {first.modality}, {size}{traits}: {self.key}"


@dataclass(frozen=True)
class Stack:
    """Frames in order.

    Attributes
    ----------
    frames : tuple of tuple of Frame
        By time, then along the normal.
    grid : Grid
        Its matrix takes column, row and slice to millimetres, LPS.
    placed : bool
        Whether the files say where in the patient it lies.
    """

    frames: Volumes
    grid: Grid
    placed: bool = True


def images_in(files: Sequence[Path]) -> list[Series]:
    """The images in a list of files, by series number; what is no image is left out.

    Raises
    ------
    InputError
        A file is damaged.
    """
    groups: dict[Hashable, list[Frame]] = defaultdict(list)
    planes: dict[Hashable, list[NDArray[Any]]] = defaultdict(list)
    for path in files:
        for frame in frames_of(path):
            file = frame.file
            alone = file.instance or str(file.path) if file.count > 1 or not frame.placed else ""
            kind = (file.series or path.parent, alone, file.rows, file.columns, file.samples, frame.traits.get("StackID", ""))
            groups[kind, _plane(frame, planes[kind])].append(frame)
    by_series: dict[str, list[list[Frame]]] = defaultdict(list)
    for frames in groups.values():
        by_series[frames[0].file.series or str(frames[0].file.path.parent)] += _split(frames)
    found = []
    for uid, parts in by_series.items():
        parts.sort(key=lambda frames: (-len(frames), str(frames[0].file.path)))
        found += [Series(uid if len(parts) == 1 else f"{uid}:{k}", tuple(frames)) for k, frames in enumerate(parts)]
    return sorted(found, key=lambda one: (one.frames[0].file.number, one.key))


def check_none_apart(images: Sequence[Series], path: Path) -> None:
    """Complain about slices that would be an image of their own only because they are of another size than their series, or have no position.

    Raises
    ------
    InputError
        Names the files.
    """
    most = max(images, key=lambda one: len(one.frames))
    odd = [f for one in images if one is not most for f in one.frames if _strays(f, most.frames[0])]
    if len(most.frames) < 2 or not odd:
        return
    first = most.frames[0].file
    told = ", ".join(f"{f.file.path.name} ({_lacks(f)})" for f in odd[:4]) + (f" and {len(odd) - 4} more" if len(odd) > 4 else "")
    found = f"{told} in {path} cannot be put among the other {len(most.frames)} slices of their series, which are {first.columns} x {first.rows}"
    do = f"Export the series again, or put these files into a folder of their own; without them, it is scene={most.key!r} (--scene {most.key})."
    raise InputError(found, "slices of one size, each with its position", do)


def _strays(frame: Frame, first: Frame) -> bool:
    """Whether a slice is of the series and the kind of another, and cannot lie in one volume with it."""
    file, other = frame.file, first.file
    if (file.series, file.kind, file.count, other.count) != (other.series, other.kind, 1, 1) or not other.series or not first.placed:
        return False
    same_size = (file.rows, file.columns) == (other.rows, other.columns)
    return not frame.placed or (not same_size and np.allclose(frame.orientation or (), first.orientation or (), atol=_PARALLEL))


def _lacks(frame: Frame) -> str:
    return f"{frame.file.columns} x {frame.file.rows}" if frame.placed else "no position"


def stacked(series: Series, path: Path) -> Stack:
    """Put the frames of an image in order.

    Raises
    ------
    InputError
        Slices are missing, there more than once, not at one distance or not on one line; moments are not at one distance.
    """
    frames = series.frames
    check_instances(frames, path)
    if not all(f.placed for f in frames):
        return _without_place(frames)
    check_directions(frames[0])
    places = _places(frames)
    repeats = max(map(len, places))
    if repeats == 1:
        volumes: Volumes = (tuple(one for (one,) in places),)
        step: Size = (1.0, PIXEL)
    else:
        ordered = _in_time(places)
        if ordered is None:
            raise twice(places, path)
        volumes, step = ordered
        _check_moments(volumes, path)
    return Stack(volumes, Grid(matrix_of(volumes[0], path), "millimeter", step))


def _plane(frame: Frame, known: list[NDArray[Any]]) -> int:
    """The number of the first known plane that a frame is parallel to."""
    if frame.orientation is None:
        return -1
    along = np.array(frame.orientation)
    for k, other in enumerate(known):
        if np.allclose(along, other, atol=_PARALLEL):
            return k
    known.append(along)
    return len(known) - 1


def _places(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames by position, in order along the normal."""
    normal = normal_of(frames[0])
    heights = np.array([f.position for f in frames]) @ normal
    close = SAME_PLACE * min(frames[0].spacing or (1.0, 1.0))
    places: list[list[Frame]] = []
    last = -np.inf
    for k in np.argsort(heights, kind="stable").tolist():
        if heights[k] - last > close:
            places.append([])
        places[-1].append(frames[k])
        last = heights[k]
    return places


def _split(frames: list[Frame]) -> list[list[Frame]]:
    """Images that lie on top of each other: other echoes or kinds of the same slices."""
    if not all(f.placed for f in frames) or max(map(len, _places(frames))) == 1:
        return [frames]
    for name in _APART:
        parts = _by(frames, lambda f, name=name: f.traits.get(name, ""))  # type: ignore[misc]
        if len(parts) > 1 and all(_is_clear(part) for part in parts):
            return parts
    if _in_time(_places(frames)) is None:
        parts = _by(frames, lambda f: f.traits.get("AcquisitionNumber", ""))
        if len(parts) > 1 and all(_is_clear(part) for part in parts):
            return parts
    return [frames]


def _is_clear(frames: list[Frame]) -> bool:
    places = _places(frames)
    return max(map(len, places)) == 1 or _in_time(places) is not None


def _by(frames: list[Frame], key: Callable[[Frame], str]) -> list[list[Frame]]:
    found: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        found[key(frame)].append(frame)
    return list(found.values())


def _in_time(places: list[list[Frame]]) -> tuple[Volumes, Size] | None:
    """The same slices at several moments: volumes in order, and the time between them; None where nothing tells moments apart."""
    n = len(places[0])
    if n == 1 or {len(place) for place in places} != {n}:
        return None
    for name in ("TemporalPositionIdentifier", "TriggerTime", "AcquisitionTime"):
        if any(name not in f.times or len({g.times[name] for g in place}) != n for place in places for f in place):
            continue
        ordered = [sorted(place, key=lambda f: f.times[name]) for place in places]
        volumes = tuple(tuple(place[t] for place in ordered) for t in range(n))
        # Numbers order the volumes; how far they are apart, a clock says.
        clock = next((c for c in ("TriggerTime", "AcquisitionTime") if all(len({f.times.get(c) for f in place}) == n for place in ordered)), None)
        if clock is None:
            return volumes, (1.0, PIXEL)
        moments = [volume[0].times[clock] for volume in volumes]
        return volumes, ((moments[-1] - moments[0]) / (n - 1), "second")
    return None


def _check_moments(volumes: Volumes, path: Path) -> None:
    for clock in ("TriggerTime", "AcquisitionTime"):
        moments = [volume[0].times.get(clock) for volume in volumes]
        known = [m for m in moments if m is not None]
        if len(set(known)) == len(volumes):
            steps = np.diff(known)
            if np.abs(steps - steps.mean()).max() > REGULAR_TIME * abs(steps.mean()):
                told = ", ".join(f"{m - known[0]:g}" for m in known[:8]) + (", ..." if len(known) > 8 else "")
                found = f"the {len(volumes)} volumes of the series in {path} were not taken at one distance in time (seconds {told})"
                raise InputError(
                    found, "one time step", "Put the files of each volume, or of a stretch with one time step, into a folder of its own."
                )
            return


def _without_place(frames: Sequence[Frame]) -> Stack:
    """A picture without a patient around it: a radiograph, a photograph, an ultrasound film."""
    first = frames[0]
    matrix = np.eye(4)
    if first.spacing:
        matrix[0, 0], matrix[1, 1] = first.spacing[1], first.spacing[0]
    unit = "millimeter" if first.spacing else PIXEL
    step = first.file.frame_time
    time = (step, "millisecond") if step and step > 0 else (1.0, PIXEL)
    ordered = sorted(frames, key=lambda f: f.index)
    return Stack(tuple((f,) for f in ordered), Grid(matrix, unit, time), placed=False)
