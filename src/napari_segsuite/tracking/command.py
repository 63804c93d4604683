"""``segsuite track``: labels of a time series in, the same labels numbered by object out, with a table of tracks."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.engine.lock import alone
from napari_segsuite.errors import OptionError, OutputError
from napari_segsuite.flags import output, where
from napari_segsuite.io import module_of, read_segmentation, write
from napari_segsuite.io.geometry import stem_of
from napari_segsuite.io.table import write_table
from napari_segsuite.terminal import say
from napari_segsuite.tracking import Tracks, track
from napari_segsuite.tracking.ctc import write_ctc


def add_track(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("labels", type=where, metavar="LABELS", help="labels with an axis t: a file, or a store")
    parser.add_argument("--out", type=output, required=True, help="a path ending in .ome.zarr or .tif, or with --format ctc a folder")
    parser.add_argument("--format", choices=["ctc"], help="ctc: the layout of the Cell Tracking Challenge, mask000.tif, ... and res_track.txt")
    parser.add_argument("--axes", help="what the stored axes are, where a file does not say, as tyx")
    parser.add_argument(
        "--max-distance", type=float, metavar="UNIT", help="how far an object moves at most per frame, in the unit of the scale [its diameter]"
    )
    parser.add_argument("--max-gap", type=int, default=0, metavar="FRAMES", help="frames that an object may be missing in between [0]")
    parser.add_argument("--divisions", action="store_true", help="objects may divide in two")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.set_defaults(command=_track)


def _parents(tracks: Tracks) -> NDArray[np.int64]:
    """The parent of each row's track; 0 where there is none."""
    return np.array([tracks.parents.get(int(number), 0) for number in tracks.table["track"]], np.int64)


def _track(args: argparse.Namespace) -> int:
    if (args.format == "ctc") == (module_of(args.out) is not None):
        raise OptionError(f"the output is {args.out}", "a folder for --format ctc, else a path ending in .ome.zarr or .tif")
    beside = args.out.with_name(f"{stem_of(args.out)}_tracks.csv")
    if args.format != "ctc" and beside.exists() and not args.overwrite:
        raise OutputError(f"{beside} exists already", do="Choose another --out, or allow it to be replaced (--overwrite).")
    with alone(args.out):
        return _tracked(args, beside)


def _tracked(args: argparse.Namespace, beside: Path) -> int:
    segmentation = read_segmentation(args.labels, axes=args.axes)
    tracked, tracks = track(segmentation, max_distance=args.max_distance, max_gap=args.max_gap, divisions=args.divisions)
    count, divided = int(tracks.table["track"].max(initial=0)), len(set(tracks.parents.values()))
    if args.format == "ctc":
        paths: list[Path] = [write_ctc(tracked, tracks, args.out, overwrite=args.overwrite)]
    else:
        paths = [Path(write(tracked, args.out, overwrite=args.overwrite)), beside]
        write_table({**tracks.table, "parent": _parents(tracks)}, beside, overwrite=args.overwrite)
    more = f", {divided} of them divided" if args.divisions else ""
    say(f"{args.labels}: {count} objects in {tracked.labels.shape[tracked.axes.index('t')]} frames{more}, {', '.join(map(str, paths))}")
    return 0
