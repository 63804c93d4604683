"""What is told of a model: for what it is, what it takes, how good it is, under which licence, and where it lies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from napari_segsuite.models import CLASSICAL, card, folder_of
from napari_segsuite.types import ModelSpec
from napari_segsuite.viewer.catalogue import origin

NETWORKS = {
    "onnx": "a network of others, as ONNX",
    "torchscript": "a network of others, as TorchScript: a program that you said you trust",
    "pt2": "a network of others, as torch.export: a program that you said you trust",
    "pytorch_state_dict": "a network of others, with Python code that you said you trust",
}
DIMENSIONS = {"yx": "2D: images, series, slices of stacks", "zyx": "3D: z-stacks", "any": "2D and 3D"}


def card_of(spec: ModelSpec) -> str:
    """The model's card in Markdown: what can be looked up, line by line, then what its makers wrote."""
    lines = "  \n".join(f"**{name}:** {safe(text)}" for name, text in facts(spec).items() if text)
    return "\n\n".join(filter(None, [f"## {safe(spec.name)}", safe(spec.description), lines, written(spec)]))


def facts(spec: ModelSpec) -> Mapping[str, str]:
    """What a description says, name by name; empty where it says nothing."""
    counted = ", ".join(c.name for c in spec.classes if c.countable)
    stuff = ", ".join(c.name for c in spec.classes if not c.countable)
    told = {
        "From": "; ".join(filter(None, [origin(spec.name), NETWORKS.get(spec.net.get("name", ""), "")])),
        "Answers with": "; ".join(filter(None, [counted and f"objects ({counted})", stuff and f"kinds of pixels ({stuff})"])),
        "Takes": f"{DIMENSIONS[spec.axes]} ({'zyx or yx' if spec.axes == 'any' else spec.axes})",
        "Channels": _channels(spec),
        "Pixel size": f"{' x '.join(f'{s:g}' for s in spec.pixel_size_um)} um; images of known size are resampled to it"
        if spec.pixel_size_um
        else "",
        "Diameter": f"{spec.diameter_px:g} pixels; give that of your objects, and the image is resampled" if spec.diameter_px else "",
        "Resampling": "" if spec.pixel_size_um or spec.diameter_px else "none: it sees your pixels as they are",
        "Trained on": spec.trained_on,
        "Licence": spec.licence or "not said: ask its makers before you publish",
        "Please cite": spec.citation,
        "Version": spec.version,
    }
    return told | _place(spec)


def written(spec: ModelSpec) -> str:
    """What its makers wrote, without the title; nothing if that is the description again."""
    text = re.sub(r"\A#[^\n]*\n+", "", card(spec.name).strip())
    if spec.name in CLASSICAL:
        text = re.sub(r"\s+", " ", text.replace("\n\n", "\0")).replace("\0", "\n\n")
    return f"---\n\n{text}" if text.strip(" .\n") != spec.description.strip(" .") and text else ""


def safe(text: str) -> str:
    """Words of strangers as Markdown that shows them as they are, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|&~])", r"\\\1", " ".join(text.split()))


def _channels(spec: ModelSpec) -> str:
    colour = spec.channels == ("red", "green", "blue")
    return f"{len(spec.channels)}: {', '.join(spec.channels)}{'; one grey channel will do' if colour else ''}"


def _place(spec: ModelSpec) -> dict[str, str]:
    if spec.name in CLASSICAL:
        return {"Lies in": "the program; it has no weights"}
    folder = folder_of(spec.name)
    return {"Lies in": f"{folder} ({_size(folder)})"}


def _size(folder: Path) -> str:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
