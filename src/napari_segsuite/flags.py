"""The flags of the command line: made from the dataclasses of wishes, and read so that a mistake is told before anything is done."""

from __future__ import annotations

import argparse
import csv
import difflib
import io
import re
import types as python_types
import typing
from collections.abc import Collection, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from napari_segsuite.engine.options import Options, hints
from napari_segsuite.errors import SegsuiteError
from napari_segsuite.io.inputs import MODULES, UNWRITTEN, module_of

_ENDING = re.compile(r"\.[a-z]{2}[a-z0-9]{0,3}", re.IGNORECASE)
"""What looks like the ending of a file: .foo, and not .v2, .5 or .A01."""

_METAVARS = {str: "NAME", int: "INTEGER", float: "NUMBER"}


def command(commands: Any, name: str, what: str) -> Any:
    """Add a command, or what can be done with one."""
    return commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.", allow_abbrev=False)


def options_of(args: argparse.Namespace) -> Options:
    """Collect the flags that are fields of `Options`."""
    return Options(**{f.name: getattr(args, f.name) for f in fields(Options)})


def add_options(parser: argparse.ArgumentParser, kind: Any = Options, needed: Sequence[str] = ()) -> None:
    """Add one flag per field of `Options`, or of other wishes, of which some must be given: ``diameter_px`` becomes ``--diameter-px``."""
    usual, more = parser.add_argument_group("what to do"), parser.add_argument_group("for special cases")
    for f in fields(kind):
        group = more if f.metadata["advanced"] else usual
        told = _flag(hints(kind)[f.name], f.metadata["unit"]) | ({"required": True} if f.name in needed else {})
        group.add_argument(f"--{f.name.replace('_', '-')}", dest=f.name, default=f.default, help=_help(f), **told)


def add_reading(parser: Any) -> None:
    """Add what there is to say of how a file is read."""
    parser.add_argument("--axes", help="what the stored axes are, where a file does not say: letters of tczyx")
    told = "number or name of the image in files that hold several; of DICOM series the UID; all: each of them"
    parser.add_argument("--scene", metavar="NAME", help=told)
    parser.add_argument("--files", choices=["z", "t", "c"], help="a folder is one image: its files are slices (z), time points (t) or channels (c)")
    told = "size of a voxel in micrometres, where a file does not say or is wrong; one number for all axes alike"
    parser.add_argument("--voxel-um", type=_reals, default=(), metavar="Z,Y,X", help=told)


def reading_of(args: argparse.Namespace) -> dict[str, Any]:
    """Collect them, as `io.read` takes them."""
    return {"axes": args.axes, "scene": scene_of(args), "files": args.files, "voxel_um": args.voxel_um}


def scene_of(args: argparse.Namespace) -> int | str | None:
    """The image that is meant, as `io.read` takes it."""
    scene: str | None = args.scene
    return int(scene) if scene and scene.isdecimal() else scene


def _flag(hint: Any, unit: str) -> dict[str, Any]:
    """What argparse must know of a field's type."""
    inner = [a for a in typing.get_args(hint) if a is not python_types.NoneType]
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(hint) is typing.Literal:
        return {"choices": inner}
    if typing.get_origin(hint) is tuple:
        return {"type": {str: _names, int: _numbers, float: _reals}[inner[0]], "metavar": f"{_METAVARS[inner[0]]},..."}
    kind = inner[0] if inner else hint
    return {"type": kind, "metavar": unit.upper() or _METAVARS[kind]}


def _names(text: str) -> tuple[str, ...]:
    """Names between commas; one that holds a comma itself, or spaces at its ends, stands in double quotes.

    >>> _names('DAPI, "GFP, 488 nm"')
    ('DAPI', 'GFP, 488 nm')
    """
    return tuple(name for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True) for name in row if name)


def output(text: str) -> Path:
    """A path of a folder, or of a file of a kind that is written; one that is neither is asked about."""
    path = named(text)
    if path.suffix.lower() in (".csv", ".json", ".txt", ".npy", ".gz", ".h5") and module_of(path) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a folder nor a path ending in .ome.zarr, .tif, .png, .nii.gz or .dcm")
    known = {suffix for module, suffixes in MODULES.items() if module not in UNWRITTEN for suffix in suffixes}
    if module_of(path) is None and not _is_folder(path, text) and (meant := _nearly("".join(path.suffixes[-2:]), known)):
        raise argparse.ArgumentTypeError(f"{text!r} ends nearly like {meant}; for a folder of this name write '{text}/'")
    if module_of(path) is None:
        check_folder(path, text)
    if module_of(path) not in (None, "ome_zarr") and text.endswith(("/", "\\")):
        raise argparse.ArgumentTypeError(f"{text!r} ends like a folder and like a file")
    return path


def folder(text: str) -> Path:
    """A path of a folder: not one that ends like a file, unless a slash says that it is meant."""
    path = named(text)
    check_folder(path, text, "and a folder is needed")
    return path


def named(text: str) -> Path:
    """A path; never nothing, as from a variable that is not set, which would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; '.' is the current folder")
    return where(text)


def check_folder(path: Path, text: str, why: str = "of a kind that is not written") -> None:
    """Complain of a path that ends like a file, unless a slash or a folder that is there says that it is none."""
    if _ENDING.fullmatch(path.suffix) and not _is_folder(path, text):
        raise argparse.ArgumentTypeError(f"{text!r} ends in {path.suffix} like a file {why}; for a folder write '{text}/'")


def _is_folder(path: Path, text: str) -> bool:
    """Whether a path is of a folder that is there, or says by a slash that it is meant to be one."""
    return text.endswith(("/", "\\")) or path.is_dir()


def _nearly(suffix: str, known: Collection[str]) -> str:
    """The suffix that this one may have been meant for; nothing where it is like none of them.

    >>> _nearly(".nii.gzz", {".nii.gz", ".tif"}), _nearly(".tfi", {".nii.gz", ".tif"}), _nearly(".v2", {".nii.gz", ".tif"})
    ('.nii.gz', '.tif', '')
    """
    return next(iter(difflib.get_close_matches(suffix.lower(), sorted(known), 1, 0.75)), "")


def in_flags(text: str) -> str:
    """An error as the command line says it: what is a keyword in Python is a flag here.

    >>> in_flags("Choose stack='slices', or channels=('DAPI',).")
    'Choose --stack slices, or --channels DAPI.'
    >>> in_flags("Choose one, as scene=0 (--scene 0).")
    'Choose one, as --scene 0.'
    """
    names = "|".join([*(f.name for f in fields(Options)), "files", "voxel_um"])
    value = r"'[^']*'|\([^()]*\)|[\w.]+"
    told = re.sub(rf"\b(?:{names}|axes|scene)=(?:{value}) \((--[^()]*)\)", r"\1", text)  # which says both
    told = re.sub(rf"\b({names})=({value})", lambda m: _flagged(m[1], m[2].strip("()")), told)
    return re.sub(rf"\b(?:{names})\b", lambda m: f"--{m[0].replace('_', '-')}" if "_" in m[0] else m[0], told)


def _flagged(name: str, value: str) -> str:
    words = ",".join(part.strip().strip("'\"") for part in value.split(",") if part.strip())
    return f"--{name.replace('_', '-')} {words}"


def where(text: str) -> Path:
    """A path, or a URL of a kind that can be reached."""
    from napari_segsuite.io.place import place

    try:
        return place(text)
    except SegsuiteError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.replace(",", " ").split())
        if not numbers:
            raise ValueError("nothing")
        return numbers
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not whole numbers like 32,256,256") from None


def _reals(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers like 0.5,0.5") from None


def _help(f: Field[Any]) -> str:
    bounds = f" ({f.metadata['ge']:.15g} to {f.metadata['le']:.15g})" if f.metadata["ge"] is not None and f.metadata["le"] is not None else ""
    default = "" if f.default in (None, (), False, "") else f" [{f.default}]"
    return f"{f.metadata['help']}{bounds}{default}".replace("%", "%%")
