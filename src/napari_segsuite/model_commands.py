"""``segsuite models list | show | add | join | check | remove``."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from napari_segsuite.flags import add_options, command
from napari_segsuite.terminal import say, shower
from napari_segsuite.types import ModelSpec


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with models."""
    models = parser.add_subparsers(required=True, metavar="ACTION")
    listing = command(models, "list", "all models that came with the install or were added")
    listing.add_argument("--json", action="store_true", help="print a JSON list")
    listing.set_defaults(command=_models_list)
    show = command(models, "show", "everything about one model, with its card")
    show.add_argument("name", metavar="NAME", help="one of `segsuite models list`, or a folder with model.json")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.set_defaults(command=_models_show)
    _add_models_of_others(models)


def _add_models_of_others(models: Any) -> None:
    from napari_segsuite.models.foreign.form import Form

    trust = "it may run code of its own; see SECURITY.md"
    add = command(models, "add", "add a model that others made: of BioImage.IO, MONAI, nnU-Net, StarDist, Cellpose, SAM, transformers, or a network")
    add.add_argument(
        "source",
        metavar="PATH_OR_URL",
        help="folder or zip file of a package, its description (.yaml), a network (.onnx, .pt, .pt2, Cellpose), or a folder with model.json; here or "
        "at an http(s) address",
    )
    add.add_argument("--name", help="what to call it [as it calls itself]")
    add.add_argument("--trust", action="store_true", help=trust)
    add.add_argument("--form", type=Path, metavar="FILE", help="what follows as a JSON file [NET.json beside NET.onnx, if it is there]")
    add.add_argument("--sha256", default="", help="what the file must have, else it is refused")
    add.add_argument("--overwrite", action="store_true", help="replace the model of this name")
    add_options(add, Form)
    add.set_defaults(command=_models_add)
    check = command(models, "check", "run a model's own test, and say how far it is from what its makers got")
    check.add_argument("source", metavar="NAME", help="a model that was added, or a BioImage.IO package that was not (path or URL)")
    check.add_argument("--tolerance", type=float, default=1e-4, help="exit code 1 if any difference is larger [0.0001]")
    check.add_argument("--weights", default="", help="of a package that was not added, which of its networks: onnx, torchscript, pytorch_state_dict")
    check.add_argument("--trust", action="store_true", help=f"of a package that was not added: {trust}")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(command=_models_check)
    remove = command(models, "remove", "delete a model that was added")
    remove.add_argument("name", metavar="NAME", help="one of `segsuite models list`")
    remove.set_defaults(command=_models_remove)
    join = command(models, "join", "make one model of several: the mean of what they answer")
    join.add_argument("sources", nargs="+", metavar="MODEL", help="two or more of `segsuite models list`, or folders with model.json")
    join.add_argument("--name", required=True, help="what to call it")
    join.add_argument("--overwrite", action="store_true", help="replace the model of this name")
    join.set_defaults(command=_models_join)


def _models_list(args: argparse.Namespace) -> int:
    from napari_segsuite.models import list_models

    specs = list_models()
    if args.json:
        say(json.dumps([_told(spec) for spec in specs], indent=2))
    else:
        wide = max(len(spec.name) for spec in specs)
        for spec in specs:
            say(f"{spec.name:{wide}}  {spec.task:8}  {spec.axes:3}  {spec.description}")
    return 0


def _models_show(args: argparse.Namespace) -> int:
    from napari_segsuite.models import card, load_spec

    spec = load_spec(args.name)
    if args.json:
        say(json.dumps({**_told(spec), "card": card(args.name)}, indent=2))
        return 0
    say("\n".join(_lines(spec)))
    say(f"\n{card(args.name)}".rstrip())
    return 0


def _lines(spec: ModelSpec) -> list[str]:
    """What a model is, for people; all there is to know of it is in the JSON."""
    wide = max(shutil.get_terminal_size().columns, 60)
    lines = textwrap.wrap(f"{spec.name} {spec.version}: {spec.description}", wide)
    for name, text in _about(spec).items():
        if text:
            lines += textwrap.wrap(text, wide, initial_indent=f"  {name:12} ", subsequent_indent=" " * 15, break_on_hyphens=False)
    return lines


def _about(spec: ModelSpec) -> dict[str, str]:
    kinds = {"yx": "images (2D)", "zyx": "volumes (3D)", "any": "images and volumes (2D and 3D)"}
    also = "; one channel is taken as grey" if spec.channels == ("red", "green", "blue") else ""
    contrast = " ".join([str(spec.normalize.get("method", "")), *(f"{value:g}" for value in spec.normalize.get("values", ()))])
    return {
        "finds": f"{spec.task}: " + ", ".join(f"{c.name} ({'objects' if c.countable else 'area'})" for c in spec.classes),
        "takes": f"{kinds[spec.axes]} of {_counted(len(spec.channels), 'channel')} ({', '.join(spec.channels)}){also}",
        "object size": f"about {spec.diameter_px:.3g} pixels across; others with --diameter-px" if spec.diameter_px else "",
        "pixel size": f"{' x '.join(f'{n:g}' for n in spec.pixel_size_um)} micrometres; images are resampled to it" if spec.pixel_size_um else "any",
        "contrast": contrast,
        "maps": ", ".join(f"{h.name} ({h.kind}, {_counted(h.channels, 'channel')})" for h in spec.heads) + f"; decoded by {spec.codec}",
        "tiles": f"{_sizes(spec.tile)}, of which {_sizes(spec.context)} at each side are thrown away",
        "network": str(spec.net.get("name", "")) or "none: no training",
        "trained on": spec.trained_on,
        "licence": spec.licence,
        "citation": spec.citation,
        "sha256": spec.weights_sha256,
    }


def _sizes(numbers: Sequence[int]) -> str:
    return " x ".join(map(str, numbers))


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _models_add(args: argparse.Namespace) -> int:
    from napari_segsuite.models.foreign.form import Form
    from napari_segsuite.models.foreign.store import add

    said = Form(**{f.name: getattr(args, f.name) for f in fields(Form)})
    more = {"form": args.form, "name": args.name or "", "trusted": args.trust, "overwrite": args.overwrite, "sha256": args.sha256}
    with shower("auto") as show:
        spec = add(args.source, said, **more, show=lambda done, total: show.progress(args.source, done, total, "downloading"))
    say(f"added {spec.name}: {spec.task}, {spec.axes}, classes {', '.join(c.name for c in spec.classes)}; use it with --model {spec.name}")
    return 0


def _models_check(args: argparse.Namespace) -> int:
    from napari_segsuite.models.foreign.check import check

    with shower("auto") as show:
        told = check(
            args.source, tolerance=args.tolerance, weights=args.weights, trusted=args.trust,
            show=lambda done, total: show.progress(args.source, done, total, "downloading"),
        )  # fmt: skip
    say(json.dumps({**asdict(told), "good": told.good}) if args.json else str(told))
    return 0 if told.good else 1


def _models_remove(args: argparse.Namespace) -> int:
    from napari_segsuite.models.foreign.store import remove

    remove(args.name)
    say(f"removed {args.name}")
    return 0


def _models_join(args: argparse.Namespace) -> int:
    from napari_segsuite.models.foreign.join import join

    spec = join(args.sources, args.name, overwrite=args.overwrite)
    say(f"added {spec.name}: {spec.description} Use it with --model {spec.name}")
    return 0


def _told(spec: Any) -> dict[str, Any]:
    return {"name": spec.name, "task": spec.task, **asdict(spec)}
