"""What must be said of a network that does not say it itself, as flags or as a JSON file: the form."""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from napari_segsuite.errors import ModelError, OptionError

LARGEST = 2**20
ACTIVATIONS = ("softmax", "argmax", "sigmoid", "none")
LAYOUTS = ("yolov8-seg", "yolov5-seg")
"""Ways in which networks write whole objects (`whole`)."""


def _field(default: Any, help: str, *, unit: str = "", advanced: bool = False) -> Any:
    return field(default=default, metadata={"help": help, "unit": unit, "ge": None, "le": None, "advanced": advanced})


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a user says of a network; what is empty is taken from its package, where it is one."""

    axes: str = _field("", "spatial axes of the network: yx or zyx")
    channels: tuple[str, ...] = _field((), "input channels by name, in the network's order; red,green,blue also takes grey images [grey]")
    classes: tuple[str, ...] = _field((), "what the network tells apart, as ID:NAME:stuff or ID:NAME:thing")
    normalize: str = _field(
        "", "what the network wants pixels to be: percentiles:1:99.8 (these become 0 and 1), mean_std (0 and 1), none, or a gain as in scale:0.00392"
    )
    activation: str = _field(
        "",
        "what makes probabilities of its answer: softmax, argmax (softmax; the highest channel wins), sigmoid, or none if they are that already",
    )
    codec: str = _field("", "what its answer means: semantic, or the name of another codec [semantic]")
    layout: str = _field(
        "",
        "of a network that answers with boxes and prototypes of masks, how it writes them: yolov8-seg (boxes in columns), or yolov5-seg (boxes in "
        "rows, with objectness; also YOLOv7)",
    )
    outputs: tuple[str, ...] = _field(
        (), "which answer is which map of the codec, as HEAD=NUMBER or HEAD=NUMBER:CHANNEL:CHANNEL..., both from 0 [in the codec's order]"
    )
    pixel_size_um: tuple[float, ...] = _field((), "size of a pixel that the network was made for, per axis; images of known size are resampled")
    diameter_px: float | None = _field(None, "typical diameter of an object that the network was made for", unit="pixel")
    tile: tuple[int, ...] = _field((), "largest piece that the network is given, per axis [512,512 or 64,128,128]", unit="voxel", advanced=True)
    context: tuple[int, ...] = _field((), "margin of a tile whose answer is thrown away [an eighth of the tile]", unit="voxel", advanced=True)
    multiple: tuple[int, ...] = _field((), "what the sides of a tile are multiples of [16]", unit="voxel", advanced=True)
    fixed: bool = _field(False, "the network takes tiles of exactly that size", advanced=True)
    input_axes: str = _field("", "all axes of the network's input: b, c and the spatial ones [bcyx or bczyx]", advanced=True)
    unit: float = _field(1.0, "what vectors in the answer are multiplied by to be in voxels", advanced=True)
    weights: str = _field(
        "",
        "which of a package's networks: onnx, torchscript, pytorch_state_dict, monai, fold_0, or a task of TotalSegmentator [the first that needs no "
        "trust; all folds; the only task that is there]",
        advanced=True,
    )
    description: str = _field("", "what the model is for, in a sentence", advanced=True)
    licence: str = _field("", "under which licence it is", advanced=True)
    citation: str = _field("", "what to cite", advanced=True)
    trained_on: str = _field("", "what it was trained on", advanced=True)

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for f in fields(self):
            object.__setattr__(self, f.name, _plain(f.name, getattr(self, f.name), hints[f.name]))
        if self.axes not in ("", "yx", "zyx"):
            raise OptionError(f"axes is {self.axes!r}", "yx or zyx")
        if self.activation not in ("", *ACTIVATIONS):
            raise OptionError(f"activation is {self.activation!r}", ", ".join(ACTIVATIONS))
        if self.layout not in ("", *LAYOUTS):
            raise OptionError(f"layout is {self.layout!r}", ", ".join(LAYOUTS))
        normalization(self.normalize)


def read_form(path: Path) -> Form:
    """Read a form from a JSON file.

    Raises
    ------
    ModelError
        It cannot be read.
    OptionError
        A field does not exist or does not fit.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ModelError(f"form {path} has {path.stat().st_size} bytes", f"at most {LARGEST}")
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"form {path} cannot be read: {error}", "a JSON object with what is to be said of the network") from error
    known = [f.name for f in fields(Form)]
    if not isinstance(told, dict) or not set(told) <= set(known):
        wrong = ", ".join(map(repr, sorted(set(told) - set(known)))) if isinstance(told, dict) else "no JSON object"
        raise OptionError(f"form {path} has {wrong}", f"some of {', '.join(known)}")
    return Form(**told)


def overlaid(form: Form, flags: Form) -> Form:
    """A form with what the flags say on top of it."""
    said = {f.name: getattr(flags, f.name) for f in fields(Form) if getattr(flags, f.name) != f.default}
    return replace(form, **said)


def normalization(text: str) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """How the engine normalises an image for a form's ``normalize``, and the steps on tiles that follow.

    Raises
    ------
    OptionError

    Examples
    --------
    >>> normalization("percentiles:1:99")
    ({'method': 'percentiles', 'values': [1.0, 99.0], 'cut': None}, [])
    """
    name, *numbers = text.split(":")
    try:
        values = [float(n) for n in numbers]
    except ValueError:
        values = [math.nan]
    if name == "percentiles" and (not values or (len(values) == 2 and 0 <= values[0] < values[1] <= 100)):
        return {"method": "percentiles", "values": values or [1.0, 99.8], "cut": None}, []
    if name == "mean_std" and not values:
        return {"method": "mean_std", "eps": 1e-6, "cut": None}, []
    if name in ("none", "") and not values:
        return {"method": "none", "cut": None}, []
    if name == "scale" and len(values) == 1 and math.isfinite(values[0]) and values[0]:
        return {"method": "none", "cut": None}, [{"name": "scale_linear", "kwargs": {"gain": values[0]}}]
    raise OptionError(f"normalize is {text!r}", "percentiles:1:99.8, mean_std, none, or scale:0.00392 (the gain)")


def _plain(name: str, value: Any, hint: Any) -> Any:
    """The value as its field's type; lists become tuples, whole numbers real ones."""
    kinds = [a for a in typing.get_args(hint) if a is not Ellipsis]
    if typing.get_origin(hint) is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(_plain(name, v, kinds[0]) for v in value)
    elif value is None and type(None) in kinds:
        return None
    else:
        kind = float if float in kinds else hint
        if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        if kind is not float and type(value) is kind:
            return value
    raise OptionError(f"{name} is {value!r} in the form", str(hint).replace("<class '", "").replace("'>", ""))
