"""A model whose own files say all that is needed of it; and what the formats that do so have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_segsuite.errors import OptionError
from napari_segsuite.models.foreign.draft import Draft
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.types import SPATIAL

RGB = (("r", "g", "b"), ("red", "green", "blue"))
NO_CLASS = ("background", "_background_")


@dataclass(frozen=True)
class Described:
    """What a folder says of its model.

    Attributes
    ----------
    folder : Path
        That `files` are relative to.
    name : str
    draft : Draft
    said : Form
        What its files say; the user's form is said on top of it.
    net : mapping
        What `network.opened` must know, without the files.
    files : tuple of str
        Those that belong to the model, the network's own first.
    card : str
        The file that tells people about it; empty where there is none.
    """

    folder: Path
    name: str
    draft: Draft
    said: Form
    net: Mapping[str, Any]
    files: tuple[str, ...]
    card: str = ""


@dataclass(frozen=True)
class Parted:
    """What a folder says of several models that are parts of one.

    Attributes
    ----------
    name : str
    parts : tuple of Described
        In the order in which they are computed (`parts.Parts`).
    """

    name: str
    parts: tuple[Described, ...]


def interface(axes: str, sides: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """A network's input: its axes, and per spatial axis the least size and the step between sizes."""
    both = [sides.get(a, (1, 1) if a == "b" else (1, 0)) for a in axes]
    return {"axes": axes, "least": [n for n, _ in both], "step": [m for _, m in both]}


def ordered(form: Form, axes: str) -> str:
    """A network's spatial axes in its order, where the user may say another order.

    Raises
    ------
    OptionError
        They are not the axes that the network has.
    """
    spatial = "".join(a for a in SPATIAL if a in axes)
    if form.axes not in ("", spatial) or (form.input_axes and sorted(form.input_axes) != sorted("bc" + spatial)):
        raise OptionError(f"axes is {form.axes!r}, input_axes is {form.input_axes!r}", f"{spatial}, and the letters of bc{spatial}")
    return "".join(a for a in form.input_axes if a in SPATIAL) or axes


def classes_of(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The part of a form that names the channels of a semantic answer; the background may be any of them, or none.

    >>> classes_of(["liver", "background"])
    {'classes': ('1:liver:stuff',), 'outputs': ('semantic=0:1:0',)}
    >>> classes_of(["sky", "tree"])
    {'classes': ('1:sky:stuff', '2:tree:stuff')}
    """
    empty = [n for n, name in enumerate(names) if name.strip().casefold() in NO_CLASS and len(names) > 1][:1]
    order = [*empty, *(n for n in range(len(names)) if n not in empty)]
    written = tuple(f"{k}:{plain(names[n], n)}:stuff" for k, n in enumerate(order[len(empty) :], 1))
    if order == sorted(order):
        return {"classes": written}
    return {"classes": written, "outputs": (":".join(["semantic=0", *map(str, order)]),)}


def coloured(names: Sequence[str]) -> tuple[str, ...]:
    """Names of channels; those of a colour picture as they are called here, so that the model takes grey images as well."""
    return RGB[1] if tuple(name.strip().casefold() for name in names) in RGB else tuple(names)


def plain(name: str, number: int) -> str:
    """A class's name as it can be written in a form."""
    return " ".join(name.replace(":", " ").split())[:100] or f"class {number}"
