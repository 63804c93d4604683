"""SAM (Segment Anything, Kirillov et al. 2023, arXiv 2304.02643) as Hugging Face's transformers keeps it: a folder with ``config.json`` and weights.

As its makers keep it: `sam_file`.

Asked with a grid of points per tile it is a model like any other (`sam_masks`); asked with a user's points and boxes it is a backend of
`models.prompts` (`sam_prompts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_segsuite.errors import ModelError, OptionError
from napari_segsuite.models.foreign import pretrained, sam_file
from napari_segsuite.models.foreign.described import Described, interface, ordered
from napari_segsuite.models.foreign.draft import Draft, channels_of, classes_of, spec_of
from napari_segsuite.models.foreign.fields import Fields
from napari_segsuite.models.foreign.form import Form, normalization
from napari_segsuite.models.foreign.network import SUFFIXES
from napari_segsuite.models.foreign.sam_net import NETWORK, arguments, taken
from napari_segsuite.models.foreign.whole import grids_of
from napari_segsuite.models.prompts import SAM
from napari_segsuite.types import ModelSpec

AXES = "bcyx"
POINTS, STABILITY = 32, 0.95
"""Points along each side of a tile, and how stable a mask must be, as in the paper."""
SCORE = 0.88
"""Predicted IoU of the masks that are wanted where nobody says another, as in the paper."""


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is a checkpoint of SAM."""
    return pretrained.is_checkpoint(folder) and pretrained.config_of(folder).value("architectures", None) == [NETWORK]


def read(folder: Path, form: Form) -> Described:
    """Read a checkpoint.

    Parameters
    ----------
    folder : Path
    form : Form
        What the user says.

    Raises
    ------
    ModelError
        Names the file, the field, what was found and what is needed.
    OptionError
        What the user says does not fit.
    """
    told = pretrained.config_of(folder)
    kwargs = arguments(Fields(told.path, "", taken(told)))
    name, files = pretrained.name_of(folder, "sam"), pretrained.files_of(folder)
    return described(folder, name, kwargs, pretrained.pixels_of(folder), form, files, pretrained.CARD)


def read_file(path: Path, form: Form) -> Described:
    """Read a file of weights as its makers, and micro-sam, store it.

    Parameters
    ----------
    path : Path
    form : Form
        What the user says.

    Raises
    ------
    ModelError
        Names the file, the array, what was found and what is needed.
    OptionError
        What the user says does not fit.
    """
    if (kind := sam_file.kind(path)) != sam_file.SAM:
        raise ModelError(f"{path} is {kind}", "a SAM with a vision transformer (ViT-B, ViT-L or ViT-H), or one of these that was trained on")
    kwargs = arguments(Fields(path, "", sam_file.parts_in(sam_file.loaded(path), path)))
    name = path.stem if path.suffix.lower() in SUFFIXES else path.name
    return described(path.parent, name, kwargs, None, form, (path.name,))


def described(
    folder: Path, name: str, kwargs: Mapping[str, Any], pixels: Fields | None, form: Form, files: Sequence[str], card: str = ""
) -> Described:  # fmt: skip
    """What there is to say of a SAM, wherever its weights lie.

    Parameters
    ----------
    folder : Path
    name : str
    kwargs : mapping
        What the network is built with, by its three parts.
    pixels : Fields, optional
        How pixels are scaled; as in the paper where nothing is said.
    form : Form
        What the user says.
    files : sequence of str
        The files of the network, its weights first.
    card : str

    Raises
    ------
    OptionError
        What the user says does not fit.
    """
    for field in ("codec", "activation", "outputs", "layout", "multiple"):
        if getattr(form, field):
            raise OptionError(f"{field} is {getattr(form, field)!r}", "nothing: what a SAM takes and answers with is known")
    if len(form.classes) > 1 or any(not text.endswith(":thing") and text.count(":") > 1 for text in form.classes):
        raise OptionError(f"the classes are {', '.join(form.classes)}", "one class of things: a SAM tells no kinds apart")
    if ordered(form, "yx") != "yx":
        raise OptionError(f"input_axes is {form.input_axes!r}", AXES)
    normalize, steps = _pixels(pixels, form)
    side = kwargs["vision_config"]["image_size"]
    draft = Draft(
        axes="yx",
        channels=channels_of(form, ("red", "green", "blue"), 3),
        normalize=normalize,
        input={**interface(AXES, {"c": (3, 0), "y": (1, 1), "x": (1, 1)}), "steps": steps},  # a tile of any size is enlarged to the network's
        outputs=(),
        halo=(),
        texts={"description": "Segment Anything (SAM): masks of a grid of points; also answers points and boxes."},
    )
    net = {"name": SAM, "kwargs": kwargs, "objects": {"layout": "masks", "points": POINTS, "stability": STABILITY, "side": side}}
    said = Form(tile=(side, side), classes=("1:object:thing",))
    return Described(folder, name, draft, said, net, tuple(files), card)


def finished(draft: Draft, form: Form, shapes: Sequence[Sequence[int]], net: Mapping[str, Any], name: str) -> ModelSpec:
    """The description of the model; what the network answers with needs no trying."""
    del shapes
    classes = classes_of(form, 1, {"channels": ()})
    form = Form(**{**vars(form), "codec": "objects"})
    grids, longest = grids_of(draft, form)
    told = {**net, "input": draft.input, "objects": {**net["objects"], "longest": longest}}
    return spec_of(draft, form, told, name, (), classes, grids, {"center": SCORE, "longest": longest})


def _pixels(told: Fields | None, form: Form) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """How the image is brought to 0..255, by constants of all of it, and the steps of the files on top of that."""
    pixels = told or Fields(Path(pretrained.PIXELS), "", {})
    wish = normalization(form.normalize or "percentiles:1:99.8")
    method = wish[0]["method"]
    if method not in ("percentiles", "none") or wish[1]:
        raise OptionError(f"normalize is {form.normalize!r}", "percentiles:1:99.8 (these become 0 and 255), or none for pixels of 0..255")
    steps = pretrained.scaled(pixels, 3)
    if method == "none":
        return wish[0], steps
    # Colours of a colour picture are stretched together, so that they stay what they are.
    brought = [{"name": "clip", "kwargs": {"min": 0.0, "max": 1.0}}, {"name": "scale_linear", "kwargs": {"gain": 255.0}}]
    return {**wish[0], "joint": True}, [*brought, *steps]
