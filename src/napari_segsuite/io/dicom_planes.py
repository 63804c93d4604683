"""Parallel planes at one distance on one line: where they lie, or what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from filecmp import cmp
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.dicom_headers import Frame

REGULAR = 0.02
"""Share of the distance between two slices by which any may be away from its place on the grid."""


def matrix_of(frames: tuple[Frame, ...], path: Path) -> NDArray[np.float64]:
    """From column, row and slice to millimetres, LPS, of slices in order.

    Raises
    ------
    InputError
        Slices are missing, or not at one distance, or not on one line, or of pixels of different sizes.
    """
    _check_same(frames, path)
    first = frames[0]
    along, (down, right) = np.array(first.orientation), first.spacing or (1.0, 1.0)
    at = np.array([f.position for f in frames])
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 3] = along[:3] * right, along[3:] * down, at[0]
    if len(frames) == 1:
        matrix[:3, 2] = normal_of(first) * (first.thickness or 1.0)
        return matrix
    _check_distances(frames, path)
    matrix[:3, 2] = (at[-1] - at[0]) / (len(at) - 1)
    away = np.linalg.norm(at - (at[0] + np.arange(len(at))[:, None] * matrix[:3, 2]), axis=1)
    if away.max() > REGULAR * np.linalg.norm(matrix[:3, 2]):
        k = int(away.argmax())
        found = f"the slices of {path} do not lie on one line: {_told(frames[k])} is {away[k]:.3g} mm away from it"
        raise InputError(found, "slices of one scan", "Put the files of each scan into a folder of its own.")
    return matrix


def check_instances(frames: Sequence[Frame], path: Path) -> None:
    """Complain about files that are not the same and bear one SOPInstanceUID, which is to tell all files in the world apart.

    Where all files of a series bear one, a program has written it into all of them, as some do to make them anonymous; their positions still tell
    them apart.

    Raises
    ------
    InputError
    """
    bearers: dict[str, Path] = {}
    if len(frames) > 2 and not tell_apart(frames):
        return
    for file in {f.file.path: f.file for f in frames if f.file.instance}.values():
        other = bearers.setdefault(file.instance, file.path)
        if other != file.path and not cmp(other, file.path, shallow=False):
            found = f"files {other.name} and {file.path.name} in {path} bear one SOPInstanceUID ({file.instance}), and are not the same"
            do = "Export them again; or if one is a changed copy of the other, put it into a folder of its own."
            raise InputError(found, "a UID of its own for every file", do)


def tell_apart(frames: Sequence[Frame]) -> bool:
    """Whether the SOPInstanceUIDs of a series say more than nothing."""
    return len({f.file.path for f in frames}) == 1 or len({f.file.instance for f in frames}) > 1


def twice(places: list[list[Frame]], path: Path) -> InputError:
    """What to say of several slices at one position."""
    place = max(places, key=len)
    one, other = place[0], place[1]
    doubled = sum(len(p) > 1 for p in places)
    more = f"; so it is at {doubled} of {len(places)} positions" if doubled > 1 else ""
    if one.file.instance and one.file.instance == other.file.instance and one.index == other.index:
        found = f"files {one.file.path.name} and {other.file.path.name} in {path} are copies of one slice at {_where(one)}{more}"
        return InputError(found, "every slice once", "Delete the copies, or put one of each into a folder of their own.")
    differ = [name for name in sorted({*one.traits, *other.traits}) if one.traits.get(name) != other.traits.get(name)]
    told = f" (they differ in {', '.join(differ)})" if differ else ""
    found = f"slices {_told(one)} and {_told(other)} in {path} lie at one position{told}{more}"
    return InputError(found, "one slice per position, or the same moments at all of them", "Put the files of one volume into a folder of their own.")


def height(frame: Frame) -> float:
    """Where a frame lies along the normal of its plane, in millimetres."""
    return float(np.dot(normal_of(frame), np.array(frame.position)))


def normal_of(frame: Frame) -> NDArray[np.float64]:
    """The direction in which slices are counted."""
    along = np.array(frame.orientation)
    return np.cross(along[:3], along[3:])


def check_directions(frame: Frame) -> None:
    """Complain about what is no plane."""
    along = np.array(frame.orientation)
    lengths, across = np.linalg.norm(along.reshape(2, 3), axis=1), abs(along[:3] @ along[3:])
    if not np.isfinite(along).all() or not np.isfinite(frame.position or ()).all() or np.abs(lengths - 1).max() > 0.01 or across > 0.01:
        found = f"the directions of rows and columns in {frame.file.path} are {' '.join(f'{v:g}' for v in along)}, at {frame.position}"
        raise InputError(found, "two directions of length 1 at right angles, and a position", "Export it again.")


def _check_same(frames: tuple[Frame, ...], path: Path) -> None:
    """Slices whose pixels are of different sizes are no volume."""
    first = frames[0]
    for frame in frames:
        if not np.allclose(frame.spacing or (1.0, 1.0), first.spacing or (1.0, 1.0), rtol=1e-4):
            sizes = f"{first.spacing} mm large in {first.file.path.name} and {frame.spacing} mm in {frame.file.path.name}"
            found = f"pixels are {sizes}, of one series in {path}"
            raise InputError(found, "one size", "Put the files of each into a folder of its own.")


def _check_distances(frames: tuple[Frame, ...], path: Path) -> None:
    """Complain about slices that are missing or lie anywhere."""
    gaps = np.diff([height(f) for f in frames])
    least = gaps.min()
    steps = gaps / least
    if steps.max() <= 1 + 2 * REGULAR:
        return
    holes = [k for k in range(len(gaps)) if round(steps[k]) > 1]
    whole = bool((np.abs(steps - np.rint(steps)) <= 2 * REGULAR * steps).all())
    shown = [(frames[k], frames[k + 1], round(steps[k]) - 1) for k in holes[:4]]
    more = f", and {len(holes) - 4} more gaps" if len(holes) > 4 else ""
    if whole and 2 * len(holes) <= len(gaps):
        told = "; ".join(f"{n} between {_told(one)} and {_told(other)}" for one, other, n in shown)
        found = f"slices are missing in the series of {len(frames)} in {path}: {told}{more}"
        do = "Copy or export the series again; if it is what there is, put the slices before and after the gap into folders of their own."
        raise InputError(found, f"slices {least:.4g} mm apart", do)
    widest = int(gaps.argmax())
    between = f"{_told(frames[widest])} and {_told(frames[widest + 1])}"
    found = f"the slices of {path} are {least:.4g} to {gaps.max():.4g} mm apart, the latter between {between}"
    raise InputError(found, "one distance", "Resample the series, or put the files of each distance into a folder of its own.")


def _told(frame: Frame) -> str:
    number = f" (frame {frame.index + 1})" if frame.file.count > 1 else ""
    return f"{frame.file.path.name}{number} at {_where(frame)}"


def _where(frame: Frame) -> str:
    """The position of a slice along the world axis that its normal follows most closely."""
    k = int(np.abs(normal_of(frame)).argmax())
    return f"{'xyz'[k]} = {frame.position[k]:.6g} mm" if frame.position else "no position"
