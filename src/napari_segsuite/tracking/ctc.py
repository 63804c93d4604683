"""The layout of the Cell Tracking Challenge (celltrackingchallenge.net): a folder with a label image per frame and a text file of tracks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.faults import reading, writing
from napari_segsuite.io.table import table_of
from napari_segsuite.tracking import Tracks
from napari_segsuite.types import Class, Segmentation

KINDS = (("res_track.txt", r"mask(\d+)\.tif"), ("man_track.txt", r"man_track(\d+)\.tif"))
"""File of tracks and names of frames: of results, and of the truth."""
LARGEST = 2**16 - 1


def write_ctc(tracked: Segmentation, tracks: Tracks, folder: Path, *, overwrite: bool = False) -> Path:
    """Write ``mask000.tif``, ... and ``res_track.txt``.

    Parameters
    ----------
    tracked, tracks
        As `track` gives them. A track with gaps becomes several, each the child of the one before, since the layout knows no gaps.
    folder : Path
        New or empty, unless it may be overwritten.

    Raises
    ------
    OutputError
        There are more than 65535 pieces of tracks, or the folder holds something.
    """
    pieces = _pieces(tracks)
    if len(pieces) > LARGEST:
        raise OutputError(f"{len(pieces)} tracks do not fit into the layout of the Cell Tracking Challenge", f"at most {LARGEST}", "Write OME-Zarr.")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise OutputError(f"folder {folder} is not empty", do="Choose another --out, or allow it to be replaced (--overwrite).")
    stuff = sum(not c.countable for c in tracked.classes)
    where, frames = tracked.axes.index("t"), tracked.labels.shape[tracked.axes.index("t")]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for kind, names in KINDS[:1]:
            for old in (p for p in folder.iterdir() if p.name == kind or re.fullmatch(names, p.name)):
                old.unlink()
    digits = max(3, len(str(frames - 1)))
    for t in range(frames):
        table = np.zeros(int(tracks.table["track"].max(initial=0)) + stuff + 1, np.uint16)
        for number, (track, begin, end, _) in enumerate(pieces, start=1):
            if begin <= t <= end:
                table[track + stuff] = number
        frame = np.asarray(tracked.labels[(slice(None),) * where + (t,)])
        with replacing(folder / f"mask{t:0{digits}}.tif", overwrite=True) as part:
            tifffile.imwrite(part, table[frame], compression="zlib", photometric="minisblack")
    lines = [f"{number} {begin} {end} {parent}" for number, (_, begin, end, parent) in enumerate(pieces, start=1)]
    with replacing(folder / KINDS[0][0], overwrite=True) as part:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return folder


def read_ctc(folder: Path) -> tuple[Segmentation, Tracks]:
    """Read results (``res_track.txt``) or truth (``man_track.txt``).

    Raises
    ------
    InputError
        A file is missing or damaged, or a line of tracks does not fit the frames; it is named.
    """
    found = next(((folder / name, pattern) for name, pattern in KINDS if (folder / name).is_file()), None)
    if found is None:
        raise InputError(f"folder {folder} has neither {KINDS[0][0]} nor {KINDS[1][0]}", "a folder in the layout of the Cell Tracking Challenge")
    numbered = sorted((int(m[1]), p) for p in folder.iterdir() if (m := re.fullmatch(found[1], p.name)))
    if not numbered or [n for n, _ in numbered] != list(range(len(numbered))):
        raise InputError(f"folder {folder} has the frames {[n for n, _ in numbered][:8]}", "frames from 0 on, none missing")
    frames = []
    for _, path in numbered:
        with reading(path):
            frames.append(tifffile.imread(path))
        if frames[-1].shape != frames[0].shape or frames[-1].dtype.kind not in "iu":
            needed = f"whole numbers of shape {frames[0].shape}, as in the first frame"
            raise InputError(f"frame {path} has the shape {frames[-1].shape} and the type {frames[-1].dtype}", needed)
    labels = np.stack(frames)
    axes = "tyx" if labels.ndim == 3 else "tzyx"
    parents = _parents(found[0], labels)
    classes = (Class(1, "object"),)
    place: dict[str, Any] = {"scale": (1.0,) * labels.ndim, "units": ("pixel",) * labels.ndim, "translate": (0.0,) * labels.ndim}
    segmentation = Segmentation(labels, table_of(labels, axes, classes), classes, axes, name=folder.name, **place)
    return segmentation, Tracks(_rows(labels, axes), parents)


def _pieces(tracks: Tracks) -> list[tuple[int, int, int, int]]:
    """Track, first frame, last frame and parent (a number of this list, from 1) of each part of a track that has no gap."""
    pieces: list[tuple[int, int, int, int]] = []
    last: dict[int, int] = {}
    numbers, frames = tracks.table["track"], tracks.table["t"]
    for number in np.unique(numbers).tolist():
        seen = np.unique(frames[numbers == number])
        for k, part in enumerate(np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1)):
            pieces.append((number, int(part[0]), int(part[-1]), len(pieces) if k else -tracks.parents.get(number, 0)))
        last[number] = len(pieces)
    return [(n, a, b, p if p >= 0 else last.get(-p, 0)) for n, a, b, p in pieces]


def _parents(path: Path, labels: NDArray[Any]) -> dict[int, int]:
    """Track -> parent, from lines of label, first frame, last frame and parent."""
    with reading(path):
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    parents = {}
    for k, line in enumerate((text for text in lines if text.strip()), start=1):
        words = line.split()
        if len(words) != 4 or not all(w.isdecimal() for w in words):
            raise InputError(f"line {k} of {path} is {line[:60]!r}", "four whole numbers: label, first frame, last frame, parent")
        number, begin, end, parent = map(int, words)
        if not 0 <= begin <= end < len(labels):
            raise InputError(f"line {k} of {path} says frames {begin} to {end}", f"frames from 0 to {len(labels) - 1}")
        if parent:
            parents[number] = parent
    return parents


def _rows(labels: NDArray[Any], axes: str) -> dict[str, NDArray[Any]]:
    parts = []
    for t, frame in enumerate(labels):
        table = table_of(frame, axes[1:], (Class(1, "object"),))
        parts.append({**table, "t": np.full(len(table["id"]), t)})
    columns = {"track": "id", "t": "t", "id": "id", **{a: f"centroid_{a}" for a in axes[1:]}}
    found = {name: np.concatenate([part[column] for part in parts]) for name, column in columns.items()}
    order = np.lexsort((found["t"], found["track"]))
    return {name: column[order] for name, column in found.items()}
