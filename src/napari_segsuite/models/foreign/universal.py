"""Checkpoints of transformers that answer with queries, for all tasks: what Mask2Former and OneFormer have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from napari_segsuite.models.foreign.network import valid
from napari_segsuite.models.foreign.swin_net import BACKBONE

STRIDE = 32
AXES = "bcyx"


def described(folder: Path, form: Form, maker: str, kwargs: Mapping[str, Any]) -> Described:
    """Describe a checkpoint of such a network.

    Parameters
    ----------
    folder : Path
    form : Form
        What the user says.
    maker : str
        What the network is called, such as ``Mask2Former``.
    kwargs : mapping
        What it is built with.

    Raises
    ------
    ModelError
        Names the file, the field, what was found and what is needed.
    OptionError
        Which classes are things is not said, or what the user says does not fit.
    """
    told = pretrained.config_of(folder)
    pixels, names = pretrained.pixels_of(folder), [plain(name, n) for n, name in enumerate(pretrained.names_of(told))]
    for name in ("codec", "activation", "outputs", "layout"):
        if getattr(form, name):
            raise OptionError(f"{name} is {getattr(form, name)!r}", f"nothing: what a {maker} answers with is known")
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
        texts={"description": f"{maker}, {len(names)} classes."},
    )
    classes = form.classes or _classes(told, pixels, names)
    kind = maker.lower()
    net = {"name": f"transformers_{kind}", "kwargs": {**kwargs, "num_labels": len(names)}, "objects": _kinds(classes, names)}
    files = pretrained.files_of(folder)
    return Described(folder, pretrained.name_of(folder, kind), draft, Form(classes=classes), net, files, pretrained.CARD)


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
