"""Objects over time: which segment of one frame is which of the next.

The linking is laptrack's (extra ``tracking``; Fukai and Kawaguchi 2023, doi:10.1093/bioinformatics/btac799), after Jaqaman et al. 2008
(doi:10.1038/nmeth.1237): pairs of segments whose centroids are near each other, so that the sum of squared distances is least.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, MissingExtra, OptionError
from napari_segsuite.io.table import table_of
from napari_segsuite.types import SPATIAL, Segmentation, Table

LARGEST_STEP = 1.0
"""How far an object moves at most from frame to frame where nobody says it, in its own diameters (their median)."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """Objects over time.

    Attributes
    ----------
    table : table
        One row per segment and frame: ``track`` (from 1), ``t`` (frame), ``id`` (its label in that frame), and its centroid ``z``, ``y``, ``x`` in
        voxels; ordered by track and frame.
    parents : mapping of int to int
        Track -> the track that divided into it.
    """

    table: Table
    parents: Mapping[int, int]


def track(segmentation: Segmentation, *, max_distance: float | None = None, max_gap: int = 0, divisions: bool = False) -> tuple[Segmentation, Tracks]:
    """Link the segments of a time series.

    Parameters
    ----------
    segmentation : Segmentation
        With an axis ``t``. Its numbers need not mean anything over time.
    max_distance : float, optional
        How far an object moves at most from one frame to the next, in the unit of the scale; by default its diameter (the median).
    max_gap : int
        Frames that an object may be missing in between.
    divisions : bool
        Whether objects may divide in two.

    Returns
    -------
    tracked : Segmentation
        The same segments, numbered by track: an object has one number in all frames. In memory.
    tracks : Tracks

    Raises
    ------
    InputError
        There is no axis ``t``.
    OptionError
        A wish cannot be met.
    MissingExtra
        laptrack is not installed.
    """
    if "t" not in segmentation.axes:
        raise InputError(f"{segmentation.name!r} has the axes {segmentation.axes!r}", "an axis t", "Read it with the right axes, as --axes tyx.")
    if max_gap < 0 or (max_distance is not None and not 0 < max_distance < np.inf):
        raise OptionError(f"max_distance is {max_distance!r}, max_gap {max_gap!r}", "a distance above 0 and a number of frames from 0 on")
    seen = _seen(segmentation)
    step = max_distance or LARGEST_STEP * _diameter(seen, segmentation)
    scale = dict(zip(segmentation.axes, segmentation.scale, strict=True))
    numbers, parents = _linked(seen["t"], {a: seen[a] * scale[a] for a in _spatial(segmentation)}, step, max_gap, divisions)
    found = {"track": numbers, **{name: seen[name] for name in ("t", "id", *_spatial(segmentation))}}
    order = np.lexsort((found["t"], found["track"]))
    tracks = Tracks({name: column[order] for name, column in found.items()}, parents)
    told = {"max_distance": step, "max_gap": max_gap, "divisions": divisions, "tracks": int(numbers.max(initial=0))}
    return _relabelled(segmentation, tracks, told), tracks


def _spatial(segmentation: Segmentation) -> str:
    return "".join(a for a in segmentation.axes if a in SPATIAL)


def _seen(segmentation: Segmentation) -> dict[str, NDArray[Any]]:
    """The segments of every frame: ``t``, ``id``, ``size``, and the centroid per spatial axis, in voxels."""
    where = segmentation.axes.index("t")
    stuff = [c.id for c in segmentation.classes if not c.countable]
    parts = []
    for t in range(segmentation.labels.shape[where]):
        frame = np.asarray(segmentation.labels[(slice(None),) * where + (t,)])
        table = table_of(frame, segmentation.axes.replace("t", ""), segmentation.classes)
        thing = ~np.isin(table["id"], stuff)
        parts.append(
            {"t": np.full(int(thing.sum()), t), "id": table["id"][thing], "size": table["size"][thing]}
            | {a: table[f"centroid_{a}"][thing] for a in _spatial(segmentation)}
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _diameter(seen: Mapping[str, NDArray[Any]], segmentation: Segmentation) -> float:
    """The median diameter of a disc, or ball, of each segment's size, in the unit of the scale."""
    if not len(seen["size"]):
        return 1.0
    scale = np.prod([s for a, s in zip(segmentation.axes, segmentation.scale, strict=True) if a in _spatial(segmentation)])
    size = float(np.median(seen["size"])) * float(scale)
    return float(2 * np.sqrt(size / np.pi) if len(_spatial(segmentation)) == 2 else 2 * (3 * size / (4 * np.pi)) ** (1 / 3))


def _linked(
    frames: NDArray[Any], places: Mapping[str, NDArray[Any]], step: float, gap: int, divisions: bool
) -> tuple[NDArray[np.int64], dict[int, int]]:
    """The track of each segment, from 1 in the order in which they begin, and of each track that came from a division its parent."""
    try:
        pandas: Any = import_module("pandas")
        laptrack: Any = import_module("laptrack")
    except ImportError as error:
        raise MissingExtra("tracking", "tracking") from error
    count = len(frames)
    if not count:
        return np.zeros(0, np.int64), {}
    linker = laptrack.LapTrack(
        cutoff=step**2, gap_closing_cutoff=step**2 if gap else False,
        gap_closing_max_frame_count=gap + 1,  # which is counted from the last frame before to the first behind
        splitting_cutoff=step**2 if divisions else False, merging_cutoff=False,
    )  # fmt: skip
    rows = pandas.DataFrame({"frame": frames, "row": np.arange(count), **places})
    found, splits, _ = linker.predict_dataframe(rows, list(places), only_coordinate_cols=False)
    old = np.empty(count, np.int64)
    old[found["row"].to_numpy()] = found["track_id"].to_numpy()
    first = {int(k): row for row, k in reversed(list(enumerate(old.tolist())))}
    new = {k: n for n, (_, k) in enumerate(sorted((row, k) for k, row in first.items()), start=1)}
    pairs = zip(splits["child_track_id"], splits["parent_track_id"], strict=True) if len(splits) else ()
    return np.array([new[int(k)] for k in old], np.int64), {new[int(child)]: new[int(parent)] for child, parent in pairs}


def _relabelled(segmentation: Segmentation, tracks: Tracks, told: Mapping[str, Any]) -> Segmentation:
    """The same segments by the numbers of their tracks, which come after those of stuff."""
    from skimage.util import map_array

    where = segmentation.axes.index("t")
    stuff = np.array([c.id for c in segmentation.classes if not c.countable], np.uint32)
    labels = np.zeros(segmentation.labels.shape, np.uint32)
    rows = tracks.table
    for t in range(labels.shape[where]):
        at = (slice(None),) * where + (t,)
        here = rows["t"] == t
        ids, numbers = (np.concatenate([stuff, rows[name][here].astype(np.uint32) + extra]) for name, extra in (("id", 0), ("track", len(stuff))))
        frame = np.asarray(segmentation.labels[at])
        labels[at] = map_array(frame, ids.astype(frame.dtype), numbers) if len(ids) else 0
    table = table_of(labels, segmentation.axes, segmentation.classes, _classes(segmentation, tracks, len(stuff)))
    if "score" in segmentation.segments:
        table["score"] = _scores(segmentation, tracks, table["id"] - len(stuff))
    provenance = {"tracking": dict(told), "of": dict(segmentation.provenance)}
    return replace(segmentation, labels=labels, segments=table, name=f"{segmentation.name} tracked", provenance=provenance)


def _scores(segmentation: Segmentation, tracks: Tracks, numbers: NDArray[Any]) -> NDArray[np.float64]:
    """The mean score of each track's segments; 1 for numbers that are no tracks."""
    of = dict(zip(np.asarray(segmentation.segments["id"]).tolist(), np.asarray(segmentation.segments["score"]).tolist(), strict=True))
    own = np.array([of.get(label, 1.0) for label in tracks.table["id"].tolist()])
    count = np.bincount(tracks.table["track"], minlength=1)
    total = np.bincount(tracks.table["track"], weights=own, minlength=1)
    return np.array([total[n] / count[n] if 0 < n < len(count) and count[n] else 1.0 for n in numbers.astype(int).tolist()])


def _classes(segmentation: Segmentation, tracks: Tracks, first: int) -> dict[int, int]:
    """The class that most of a track's segments have."""
    of = dict(zip(np.asarray(segmentation.segments["id"]).tolist(), np.asarray(segmentation.segments["class_id"]).tolist(), strict=True))
    votes: dict[int, list[int]] = {}
    for number, label in zip(tracks.table["track"].tolist(), tracks.table["id"].tolist(), strict=True):
        votes.setdefault(number, []).append(of.get(label, 0))
    return {number + first: max(sorted(set(kinds)), key=kinds.count) for number, kinds in votes.items()}
