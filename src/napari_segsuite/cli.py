"""The command line, ``segsuite COMMAND``; flags are made from the dataclasses of wishes."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import typing
import warnings
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

if typing.TYPE_CHECKING:
    from napari_segsuite.batch import Batch, Done

from napari_segsuite._version import __version__
from napari_segsuite.annotation_commands import add_export, add_import
from napari_segsuite.convert import add_convert
from napari_segsuite.errors import MissingExtra, OptionError, SegsuiteError
from napari_segsuite.flags import add_options, add_reading, command, folder, in_flags, options_of, output, reading_of, scene_of, where
from napari_segsuite.model_commands import add_models
from napari_segsuite.terminal import SIGNAL, complain, say, shower, stoppable
from napari_segsuite.tracking.command import add_track

_PROGRESS = (
    "bar: on standard error; json: one JSON object per line on standard output, whose 'event' is progress, done, skipped or failed; "
    "auto: a bar if standard error is a terminal, else none [auto]"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, or 1 with what failed on standard error, or 128 and the signal that stopped it."""
    args = _parser().parse_args(argv)
    for library in ("tifffile", "roifile"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # they tell of damaged files before our error does
    if argv is None and not sys.warnoptions:
        warnings.simplefilter("ignore")  # of the libraries below, for their programmers
    try:
        with stoppable():
            return int(args.command(args))
    except SegsuiteError as error:
        complain(in_flags(str(error)))
        return 1
    except KeyboardInterrupt as stop:
        complain("stopped; what was finished before is complete, and the same command goes on")
        return SIGNAL + int(stop.args[0] if stop.args else 2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="segsuite", allow_abbrev=False, description="Segment microscopy and medical images in 2D and 3D.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_segment(commands)
    _add_train(commands)
    _add_evaluate(commands)
    add_models(command(commands, "models", "list models, show one, add, join, check or remove some"))
    add_convert(command(commands, "convert", "write an image or labels in another format, and say what that cannot hold"))
    add_track(command(commands, "track", "number the objects of a time series by which is which, and write their tracks"))
    add_export(command(commands, "export", "write results as annotations: for data sets, other programs, as surfaces or as a table"))
    add_import(command(commands, "import", "make labels to train on of annotations of others"))
    about = command(commands, "info", "what an image or a result is, and how far a run is")
    about.add_argument("path", type=where, metavar="PATH", help="a file or a zarr store")
    add_reading(about)
    about.add_argument("--json", action="store_true", help="print one JSON object")
    about.set_defaults(command=_info)
    demo = command(commands, "demo", "segment a picture that comes with the install")
    demo.add_argument("--out", type=folder, default=Path("segsuite-demo"), help="folder for the results [segsuite-demo]")
    demo.add_argument("--view", action="store_true", help="show the result in napari")
    demo.set_defaults(command=_demo)
    return parser


def _add_segment(commands: Any) -> None:
    segment = command(commands, "segment", "segment files, patterns or folders")
    segment.add_argument("inputs", nargs="+", metavar="INPUT", help="files, patterns such as 'plates/*.tif', or folders (of DICOM files: one image)")
    segment.add_argument("--out", type=output, required=True, help="a folder; or, for one input, a path ending in .ome.zarr, .tif, ...")
    segment.add_argument("--format", choices=["tif", "ome-zarr"], help="of the labels in a folder [tif]")
    add_reading(segment)
    segment.add_argument("--overwrite", action="store_true", help="do again what is done, and replace results that were made with other options")
    segment.add_argument("--zarr-version", choices=["0.5", "0.4"], help="version of OME-Zarr [0.5; inside an image's store, that of the image]")
    segment.add_argument("--workers", type=int, metavar="N", help="processes on this machine that work at once (for .ome.zarr results)")
    segment.add_argument("--scheduler", metavar="ADDRESS", help="dask scheduler whose workers compute (for .ome.zarr results), as tcp://node1:8786")
    segment.add_argument("--self-check", action="store_true", help="compute a crop once more in one piece, and say how far it is the same")
    segment.add_argument("--dry-run", action="store_true", help="print what would be done, and what it would take, as JSON; write nothing")
    segment.add_argument("--progress", choices=["auto", "bar", "json", "none"], default="auto", help=_PROGRESS)
    add_options(segment)
    segment.set_defaults(command=_segment)


def _add_train(commands: Any) -> None:
    from napari_segsuite.training.options import TrainOptions

    train = command(commands, "train", "train a model on images and labels of one's own")
    train.add_argument("--out", type=folder, required=True, help="folder for the model; the same command again goes on, or says that it is done")
    train.add_argument("--overwrite", action="store_true", help="begin anew, and replace another training or model")
    train.add_argument("--progress", choices=["auto", "bar", "json", "none"], default="auto", help=_PROGRESS)
    add_options(train, TrainOptions, needed=("images", "labels"))
    train.set_defaults(command=_train)


def _add_evaluate(commands: Any) -> None:
    evaluate = command(commands, "evaluate", "compare results with the truth")
    evaluate.add_argument("pred", type=where, metavar="PRED", help="labels: a file, or a folder of files")
    evaluate.add_argument("true", type=where, metavar="TRUTH", help="labels of the same shape: a file, or a folder with files of the same names")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.add_argument("--axes", help="what the stored axes of the labels are, where their files do not say: letters of tczyx")
    evaluate.add_argument("--scene", metavar="NAME", help="number or name of the image in files that hold several")
    evaluate.add_argument("--ignore-label", type=int, metavar="ID", help="voxels with this id in the truth are left out")
    evaluate.set_defaults(command=_evaluate)


def _segment(args: argparse.Namespace) -> int:
    from napari_segsuite.batch import Batch, segment_all
    from napari_segsuite.cluster import check_workers, executor

    wishes = {"version": args.zarr_version, "check": args.self_check, **reading_of(args)}
    batch = Batch(args.out, options_of(args), args.format or "tif", args.overwrite, **wishes)
    if batch.single and args.format:
        raise OptionError(f"--format {args.format} is for a folder, and --out {args.out} is one file", "a folder as --out, or no --format")
    if not batch.grows and (args.workers is not None or args.scheduler is not None or args.zarr_version):
        raise OptionError("--workers, --scheduler and --zarr-version are for OME-Zarr results", "--out NAME.ome.zarr, or --format ome-zarr")
    if args.dry_run:
        check_workers(args.workers, args.scheduler)
        return _dry_run(args, batch)
    failures = []
    with executor(args.workers, args.scheduler) as (hands, at_once), shower(args.progress) as show:
        batch = replace(batch, executor=hands, workers=at_once, elsewhere=args.scheduler is not None)
        for done in segment_all(args.inputs, batch, show.progress):
            show.line(json.dumps(done.to_json()) if args.progress == "json" else str(done))
            if done.error:
                failures.append(done)
    if failures:
        complain(f"{len(failures)} failed:\n" + "\n".join(_summary(failures)))
    return 1 if failures else 0


def _summary(failures: Sequence[Done]) -> list[str]:
    """Each failed input with its reason; those for which one extra is missing together, since it is one thing to do."""
    lacking: dict[str, list[Done]] = {}
    for one in failures:
        lacking.setdefault(one.extra or one.source, []).append(one)
    lines = []
    for group in lacking.values():
        if len(group) == 1 or not group[0].extra:
            lines += [f"  {one.source}: {in_flags(one.error)}" for one in group]
        else:
            named = ", ".join(one.source for one in group[:4]) + (", ..." if len(group) > 4 else "")
            lines.append(f"  {named}: {MissingExtra(f'each of these {len(group)} inputs', group[0].extra)}")
    return lines


def _train(args: argparse.Namespace) -> int:
    from napari_segsuite.training import train
    from napari_segsuite.training.options import TrainOptions

    wishes = {f.name: getattr(args, f.name) for f in fields(TrainOptions)}
    with shower(args.progress) as show:
        found = train(**wishes, out=args.out, overwrite=args.overwrite, show=lambda p: show.progress(str(args.out), p.done, p.total, p.message))
        show.line(json.dumps(found.to_json()) if args.progress == "json" else str(found))
    return 0


def _dry_run(args: argparse.Namespace, batch: Batch) -> int:
    from napari_segsuite.batch import forecasts

    failures = 0
    with shower("none" if args.progress == "json" else args.progress) as show:
        show.progress("forecast", 0, 1, "computing one tile to see how long it takes")
        for told in forecasts(args.inputs, batch, args.workers or 1):
            show.line(json.dumps(told))
            failures += "error" in told
    return 1 if failures else 0


def _info(args: argparse.Namespace) -> int:
    from napari_segsuite.info import info, text

    told = info(args.path, **reading_of(args))
    say(json.dumps(told) if args.json else text(told))
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from napari_segsuite.io import holds_several, read, read_segmentation
    from napari_segsuite.io.scenes import ALL
    from napari_segsuite.metrics import evaluate
    from napari_segsuite.pairing import pairs

    found = pairs(args.pred, args.true)
    # Labels have no negative ids, but the pixels of a truth may, where they are to be left out.
    pixels = args.ignore_label is not None and args.ignore_label < 0
    wish = {"axes": args.axes, "scene": scene_of(args)}
    if wish["scene"] == ALL:
        do = "Make a file of each (segsuite convert FILE FOLDER --scene all), and compare folders."
        raise OptionError("scene is 'all', and one image is compared with one", "the number or name of one image", do)
    scores = evaluate(
        (read_segmentation(p, axes=args.axes, scene=wish["scene"] if wish["scene"] is not None and holds_several(p) else None) for p, _ in found),
        (read(t, **wish).data[...] if pixels else read_segmentation(t, **wish) for _, t in found),
        names=[p.name for p, _ in found],
        ignore_label=args.ignore_label,
    )
    say(json.dumps(scores.to_json()) if args.json else str(scores))
    return 0


def _demo(args: argparse.Namespace) -> int:
    import importlib.util

    from napari_segsuite.batch import demo

    if args.view and importlib.util.find_spec("napari") is None:
        raise MissingExtra("showing results in napari", "gui")
    with shower("auto") as show:
        done = demo(args.out, show.progress)
    say(f"{done.segments} nuclei in the haematoxylin of a real picture of tissue, {done.seconds:.1f} s on {done.device}")
    say("\n".join(f"  {name:9} {path}" for name, path in done.paths.items()))
    if args.view:
        # By name, since this half must not know the viewer's; it is there with the extra [gui].
        importlib.import_module("napari_segsuite.viewer.show").show(done.paths["image"], done.paths["labels"])
    return 0
