"""What a user may wish: one dataclass, from which the form, the command line's flags, the JSON and the reference page are made."""

from __future__ import annotations

import functools
import os
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np

from napari_segsuite.errors import OptionError

_DEVICE = re.compile(r"auto|cpu|(cuda|mps|xpu)(:\d{1,3})?")


def option(default: Any, help: str, *, unit: str = "", ge: float | None = None, le: float | None = None, advanced: bool = False) -> Any:
    """Declare a field of `Options`: one place for its default, its words, its unit and its bounds."""
    metadata = {"help": help, "unit": unit, "ge": ge, "le": le, "advanced": advanced}
    return field(default=default, metadata=metadata)


class Wishes:
    """What the dataclasses of wishes have in common. Their fields are made by `option`.

    The same wish is the same value however it is said: 10 is 10.0 where a real number is meant, channel 0 is channel ``"0"``, a
    list is a tuple, one channel is a tuple of one. Whether a wish makes sense is found out by `check` and `check_fields`.
    """

    def __post_init__(self) -> None:
        for name, hint in _hints(self).items():
            object.__setattr__(self, name, _plain(getattr(self, name), hint))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Make options from a mapping of plain values, refusing names that do not exist."""
        known = {f.name for f in _fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise OptionError(f"there is no option {', '.join(map(repr, unknown))}", f"some of {', '.join(sorted(known))}")
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        values = {f.name: getattr(self, f.name) for f in _fields(type(self))}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


@dataclass(frozen=True, kw_only=True)
class Options(Wishes):
    """What a user may wish. The form, the command line flags, the JSON and the reference page are made from these fields."""

    model: str = option("nuclei", "name of a model in the list, or a folder with model.json and weights.safetensors")
    channels: tuple[str, ...] = option((), "names or numbers of the image's channels to use, in the model's order; empty: the model's choice")
    diameter_px: float | None = option(
        None, "typical diameter of an object in the image; the image is resampled so that it fits the model", unit="pixel", ge=1, le=4096
    )
    stack: Literal["volume", "slices", "orthogonal"] = option(
        "volume",
        "how a z-stack is segmented: as one volume, every slice on its own, or as one volume by a model for slices that sees it along all three axes",
    )
    min_size_px: int | None = option(
        None, "objects with fewer voxels than this are left out; empty: as the model was tuned", unit="voxel", ge=0, le=10**9
    )
    min_score: float | None = option(None, "objects with a lower score than this are left out; empty: as the model was tuned", ge=0, le=1)
    foreground: float | None = option(None, "least probability of an object's voxels; empty: as the model was tuned", ge=0.05, le=0.95)
    center: float | None = option(
        None, "least height of an object's centre; lower finds more objects; empty: as the model was tuned", ge=0.02, le=0.95, advanced=True
    )
    flips: bool = option(False, "average the maps of the mirrored image: a little better, 4 times (3D: 8 times) slower", advanced=True)
    device: str = option(
        "auto", "where the network runs: auto, cpu, cuda, cuda:1, mps; several share the tiles: cuda:0,cuda:1 or cuda:all", advanced=True
    )
    batch: int = option(4, "tiles that a graphics card computes together; less needs less memory", ge=1, le=256, advanced=True)
    chunk: tuple[int, ...] = option((), "size of the pieces in which a large image is worked through, per spatial axis", unit="voxel", advanced=True)


@functools.cache
def hints(kind: type = Options) -> dict[str, Any]:
    """The types of the fields of `Options`, or of another kind of wishes, by name."""
    return typing.get_type_hints(kind)


def check(options: Options) -> None:
    """Complain about a wish that no image and no model could meet.

    Raises
    ------
    OptionError
        A value of another type than the field's, or out of its bounds.
    """
    check_fields(options)
    if any(c < 1 for c in options.chunk):
        raise OptionError(f"chunk is {options.chunk}", "at least 1 voxel along every axis")
    check_device(options.device, several=True)


def check_fields(wishes: Wishes) -> None:
    """Complain about a value of another type than its field's, or out of its bounds.

    Raises
    ------
    OptionError
    """
    for f in _fields(type(wishes)):
        value, low, high, hint = getattr(wishes, f.name), f.metadata["ge"], f.metadata["le"], _hints(wishes)[f.name]
        if not _fits(value, hint) or (value is not None and low is not None and not low <= value <= high):
            raise OptionError(f"{f.name} is {value!r}", _needed(f, hint))


def check_device(device: str, *, several: bool = False) -> None:
    """Complain about a name that no device has, and about several where one is needed."""
    names = device.split(",") if several and device != "cuda:all" else ["cuda" if several and device == "cuda:all" else device]
    if not all(_DEVICE.fullmatch(name.strip()) for name in names):
        raise OptionError(f"device is {device!r}", "auto, cpu, cuda, cuda:1 or mps" + (", or several such as cuda:0,cuda:1" if several else ""))


def _hints(wishes: Any) -> dict[str, Any]:
    kind: Any = type(wishes)
    return hints(kind)


def _fields(kind: Any) -> tuple[Field[Any], ...]:
    return fields(kind)


def _plain(value: Any, hint: Any) -> Any:
    """The value as its field holds it, where it can be meant for it; any other value as it is, for `check` to complain about."""
    kinds = _kinds(hint)
    if typing.get_origin(hint) is tuple:
        several = value if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1 else (value,)
        return value if value is None else tuple(_plain(v, kinds[0]) for v in several)
    if isinstance(value, bool) or value is None:
        return value
    if float in kinds and isinstance(value, Real):
        return float(value)
    if int in kinds and isinstance(value, Integral):
        return int(value)
    if bool in kinds and isinstance(value, np.bool_):
        return bool(value)
    if str in kinds and isinstance(value, (Integral, os.PathLike)):
        return str(value)
    return value


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    kinds = _kinds(hint)
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(type(v) is kinds[0] for v in value)
    return type(value) in kinds


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The types that a hint allows; of a tuple, those of its elements."""
    args = tuple(a for a in typing.get_args(hint) if a is not Ellipsis)
    return args if typing.get_origin(hint) in (typing.Union, types.UnionType, tuple) else (hint,)


def _needed(f: Field[Any], hint: Any) -> str:
    unit = f" {f.metadata['unit']}" if f.metadata["unit"] else ""
    if f.metadata["ge"] is not None:
        whole = "whole " if int in _kinds(hint) else ""
        return f"a {whole}number from {f.metadata['ge']} to {f.metadata['le']}{unit}"
    if typing.get_origin(hint) is Literal:
        return " or ".join(repr(a) for a in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return "whole numbers, one per spatial axis" if int in _kinds(hint) else "names or numbers of channels"
    return "True or False" if hint is bool else "a text"
