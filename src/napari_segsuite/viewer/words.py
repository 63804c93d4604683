"""Models, errors and results in the words of the Segment dock."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from napari_segsuite.errors import SegsuiteError
from napari_segsuite.types import ModelSpec, Segmentation
from napari_segsuite.viewer.form import label
from napari_segsuite.viewer.panel import duration
from napari_segsuite.viewer.stores import ANOTHER


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


def complaint(error: SegsuiteError) -> str:
    """An error in the words of the form: what is a keyword in Python is a field here."""
    if "channels=" in error.do:
        return str(type(error)(error.found, error.needed, "Choose it under Channels."))
    if "--overwrite" in error.do:
        return str(type(error)(error.found, error.needed, ANOTHER))
    if "stack=" in error.do:
        return str(type(error)(error.found, error.needed, "Choose orthogonal or slices under Stack, or a model for volumes."))
    return str(error)


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
