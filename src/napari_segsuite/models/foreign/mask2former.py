"""Mask2Former (Cheng et al. 2022, arXiv 2112.01527) as Hugging Face's transformers keeps it: a folder with ``config.json`` and weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_segsuite.errors import OptionError
from napari_segsuite.models.classes import read_class
from napari_segsuite.models.foreign import pretrained
from napari_segsuite.models.foreign.described import Described, interface, ordered, plain
from napari_segsuite.models.foreign.draft import Draft, channels_of
from napari_segsuite.models.foreign.fields import Fields
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.grid import LARGEST
from napari_segsuite.models.foreign.mask2former_net import BACKBONE, NETWORK, OTHER, SWIN_OTHER, SWIN_WHOLE, WHOLE, arguments
from napari_segsuite.models.foreign.network import valid

STRIDE = 32
AXES = "bcyx"


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is a checkpoint of Mask2Former."""
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
        Which classes are things is not said, or what the user says does not fit.
    """
    told = pretrained.config_of(folder)
    kwargs = arguments(Fields(told.path, "", _taken(told)))
    pixels, names = pretrained.pixels_of(folder), [plain(name, n) for n, name in enumerate(pretrained.names_of(told))]
    for name in ("codec", "activation", "outputs", "layout"):
        if getattr(form, name):
            raise OptionError(f"{name} is {getattr(form, name)!r}", "nothing: what a Mask2Former answers with is known")
    if ordered(form, "yx") != "yx":
        raise OptionError(f"input_axes is {form.input_axes!r}", AXES)
    channels = kwargs[BACKBONE]["num_channels"]
    normalize, steps = pretrained.normalization_of(folder, pixels, form, channels)
    # Always one size: parts of this Swin Transformer change for good when they are given less than a window.
    tile = [valid(n, STRIDE, STRIDE) for n in form.tile or pretrained.tile_of(pixels) or LARGEST["yx"]]
    sides = {**{a: (n, 0) for a, n in zip("yx", tile, strict=False)}, "c": (channels, 0)}
    draft = Draft(
        axes="yx",
        channels=channels_of(form, ("red", "green", "blue"), channels),
        normalize=normalize,
        input={**interface(AXES, sides), "steps": steps},
        outputs=(),
        halo=(),
        texts={"description": f"Mask2Former, {len(names)} classes."},
    )
    classes = form.classes or _classes(told, pixels, names)
    net = {"name": "transformers_mask2former", "kwargs": {**kwargs, "num_labels": len(names)}, "objects": _kinds(classes, names)}
    files = pretrained.files_of(folder)
    return Described(folder, pretrained.name_of(folder, "mask2former"), draft, Form(classes=classes), net, files, pretrained.CARD)


def _taken(told: Fields) -> dict[str, Any]:
    """The entries that say what the network is, with those of its backbone, which must be a Swin Transformer."""
    swin = told.below(BACKBONE)
    if swin.value("model_type", None) != "swin":
        swin.wrong("model_type", swin.value("model_type", None), "'swin'")
    backbone = {key: swin.told[key] for key in (*SWIN_WHOLE, *SWIN_OTHER) if key in swin.told}
    return {**{key: told.told[key] for key in (*WHOLE, *OTHER) if key in told.told}, BACKBONE: backbone}


def _classes(told: Fields, pixels: Fields | None, names: Sequence[str]) -> tuple[str, ...]:
    """The classes as a form writes them, stuff first, where the files say which are things."""
    stuff: set[int] | None = None
    for fields in [f for f in (pixels, told) if f and stuff is None]:
        if fields.told.get("label_ids_to_fuse") is not None:
            stuff = _ids(fields, "label_ids_to_fuse", len(names))
        elif isinstance(fields.told.get("metadata"), dict) and "thing_ids" in fields.told["metadata"]:
            stuff = set(range(len(names))) - _ids(fields.below("metadata"), "thing_ids", len(names))
    if stuff is None:
        needed = "--classes ID:NAME:KIND for those that are wanted, stuff first"
        example = ",".join(f"{k}:{name}:thing" for k, name in enumerate(names[:2], 1))
        found = f"{told.path} does not say which of its classes are things ({', '.join(names)})"
        raise OptionError(found, needed, f"Say it, for example --classes {example}.")
    order = sorted(range(len(names)), key=lambda n: (n not in stuff, n))
    return tuple(f"{k}:{names[n]}:{'stuff' if n in stuff else 'thing'}" for k, n in enumerate(order, 1))


def _ids(fields: Fields, key: str, count: int) -> set[int]:
    found = fields.value(key)
    if not isinstance(found, list) or not all(type(n) is int and 0 <= n < count for n in found):
        fields.wrong(key, found, f"numbers of classes, 0 to {count - 1}")
    return set(found)


def _kinds(classes: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Which class of ours each class of the network is (0: one that is not wanted), and how many of ours are stuff."""
    kinds = [0] * len(names)
    wished = [read_class(text, True) for text in classes]
    for one in wished:
        places = [n for n, name in enumerate(names) if name.casefold() == one.name.casefold() and not kinds[n]]
        if not places:
            raise OptionError(f"classes has {one.name!r}", f"names of the network's classes, each once: {', '.join(names)}")
        kinds[places[0]] = one.id
    return {"layout": "queries", "kinds": kinds, "stuff": sum(not one.countable for one in wished)}
