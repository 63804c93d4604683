"""Models, errors and results in the words of the docks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error

from napari_segsuite.engine.plan import Options
from napari_segsuite.errors import SegsuiteError
from napari_segsuite.types import ModelSpec, Segmentation
from napari_segsuite.viewer.form import label
from napari_segsuite.viewer.panel import duration
from napari_segsuite.viewer.stores import ANOTHER

FIELDS = {f.name: f"{'Advanced > ' if f.metadata['advanced'] else ''}{label(f.name)}" for f in fields(Options)}
"""What the form calls the options."""


def outcome(segmentation: Segmentation, took: float, out: Path | None) -> str:
    """What a run has found, where it is, and what was seen where its chunks meet."""
    from napari_segsuite.info import seams_text

    count, device, seams = len(segmentation.segments["id"]), segmentation.provenance.get("device", ""), segmentation.provenance.get("seams")
    found = f"{count} segment{'' if count == 1 else 's'} in {duration(took)}"
    told = f"{found}{f' on {device}' if device else ''}{f', saved in {out.name}' if out else ''}."
    return f"{told} Seams: {seams_text(seams)}." if seams else told


def sentence(words: str) -> str:
    """Words as a sentence."""
    return f"{words[:1].upper()}{words[1:]}."


def card(spec: ModelSpec) -> str:
    """What a model is, in two lines."""
    size = f"{' x '.join(f'{n:g}' for n in spec.pixel_size_um)} um" if spec.pixel_size_um else ""
    across = f"{spec.diameter_px:g} px across" if spec.diameter_px and not size else ""
    channels = "1 channel" if len(spec.channels) == 1 else f"{len(spec.channels)} channels ({', '.join(spec.channels)})"
    dimensions = {"zyx": "3D", "any": "2D and 3D"}.get(spec.axes, "2D")
    told = [spec.task, dimensions, channels, size, across, f"licence {spec.licence}" if spec.licence else ""]
    return f"{escape(spec.description)}<br><i>{escape(', '.join(t for t in told if t))}</i>"


def complaint(error: SegsuiteError, replace: str = "") -> str:
    """An error in the words of the form: what is a keyword in Python, or a flag on the command line, is a field here.

    Parameters
    ----------
    error : SegsuiteError
    replace : str, optional
        What the user can do here to replace something that is there already; by default nothing but to choose another name.
    """
    if "channels=" in error.do:
        return str(type(error)(error.found, error.needed, "Choose it under Channels."))
    if "--overwrite" in error.do and not replace:
        return str(type(error)(error.found, error.needed, ANOTHER))
    if "stack='orthogonal'" in error.do:
        return in_form(str(type(error)(error.found, error.needed, "Choose orthogonal or slices under Stack, or a model for volumes.")))
    return in_form(str(error), replace)


def telling(method: Callable[[Any], None]) -> Callable[..., None]:
    """Make a method of a dock show what went wrong as a sentence; arguments that a signal brings along are left out."""

    @wraps(method)
    def call(self: Any, *_: Any) -> None:
        try:
            method(self)
        except SegsuiteError as error:
            show_error(complaint(error))

    return call


def in_form(text: str, replace: str = "") -> str:
    """A message that was written for Python and the command line, as the docks say it.

    >>> in_form("Device 'mps' is not available here. Choose device='auto' or 'cpu' (--device cpu).")
    "Device 'mps' is not available here. Choose auto or cpu under Advanced > Device."
    >>> in_form("File a.json exists already. Choose another name, or allow it to be replaced (overwrite=True, --overwrite).")
    'File a.json exists already. Choose another name.'
    """
    told = re.sub(r", or allow it to be replaced \([^()]*\)", f", or {replace}" if replace else "", text)
    told = re.sub(r"Say so with: segsuite models add .* --trust", "Add it again in the Models dock, which asks", told)
    told = told.replace("with `segsuite models add`", "in the Models dock")
    told = re.sub(r" \((?:\w+=[^()]*)?--[^()]*\)", "", told)
    told = re.sub(r"\bChoose flips=False", f"Switch off {FIELDS['flips']}", told)
    names = "|".join(FIELDS)
    told = re.sub(rf"\b({names})='([^']*)'((?: or '[^']*')*)", lambda m: f"{m[2]}{m[3].replace(chr(39), '')} under {FIELDS[m[1]]}", told)
    told = re.sub(rf"\b({names})=[\w.]*\w", lambda m: FIELDS[m[1]], told)
    return re.sub(rf"\b({'|'.join(name for name in FIELDS if '_' in name)})\b", lambda m: FIELDS[m[1]], told)


def in_fields(error: SegsuiteError) -> str:
    """An error of adding a model in the words of its page: what is a flag on the command line is a field here.

    >>> in_fields(SegsuiteError("a model 'a' came with the install", "another name", "Give it one with --name."))
    "A model 'a' came with the install. Needed: another name. Give it one under Name."
    """
    told = str(error).replace("replace that one with --overwrite", "tick --overwrite")
    told = re.sub(r"with (--[a-z])", r"under \1", told).replace(", or in a form (--form)", "")
    told, example, flags = told.partition("for example ")
    told += example + flags.replace(" --", ", --")
    names = {"overwrite": "Replace a model of this name", "sha256": "SHA-256"}
    return re.sub(r"--([a-z][a-z0-9-]*)", lambda m: names.get(m[1], label(m[1].replace("-", "_"))), told)
