"""Models, errors and results in the words of the Segment dock."""

from __future__ import annotations

from pathlib import Path

from napari_segsuite.errors import SegsuiteError
from napari_segsuite.types import ModelSpec, Segmentation
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
    told = [spec.task, {"zyx": "3D", "any": "2D and 3D"}.get(spec.axes, "2D"), spec.licence and f"licence {spec.licence}"]
    return f"{spec.description}<br><i>{', '.join(t for t in told if t)}</i>"


def complaint(error: SegsuiteError) -> str:
    """An error in the words of the form: what is a keyword in Python is a field here."""
    if "channels=" in error.do:
        return str(type(error)(error.found, error.needed, "Choose it under Channels."))
    if "--overwrite" in error.do:
        return str(type(error)(error.found, error.needed, ANOTHER))
    if "stack=" in error.do:
        return str(type(error)(error.found, error.needed, "Choose orthogonal or slices under Stack, or a model for volumes."))
    return str(error)
