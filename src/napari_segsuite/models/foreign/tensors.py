"""The inputs and outputs in a description of BioImage.IO, versions 0.4 and 0.5."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from napari_segsuite.models.foreign.archive import is_url, safe_name
from napari_segsuite.models.foreign.fields import Fields

AXES_04 = "bitczyx"
LETTERS = {"batch": "b", "channel": "c", "time": "t", "index": "i"}
STEPS = {
    "binarize", "clip", "ensure_dtype", "fixed_zero_mean_unit_variance", "scale_linear", "scale_mean_variance", "scale_range", "sigmoid", "softmax",
    "zero_mean_unit_variance",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A file that a description names: where it lies in the package, or where on the web; what its sha256 must be, if that is said."""

    path: str
    url: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Tensor:
    """An input or output.

    Attributes
    ----------
    name : str
    axes : str
        One letter of ``bitczyx`` each.
    least, step : tuple of int
        Possible sizes per axis: ``least + n * step``; a step of 0 means that size only. For outputs all 1.
    channels : tuple of str
        Their names, where there are any.
    halo : tuple of int
        Per axis, what of an output is not to be trusted at its borders.
    steps : tuple of mapping
        ``name`` and ``kwargs`` of what is done before or after the network; axes as letters.
    test : Source, optional
    span : (float, float), optional
        Least and largest value, where both are said.
    """

    name: str
    axes: str
    least: tuple[int, ...]
    step: tuple[int, ...]
    channels: tuple[str, ...] = ()
    halo: tuple[int, ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()
    test: Source | None = None
    span: tuple[float, float] | None = None


def read_tensor(told: Fields, old: bool, steps: str, number: int) -> Tensor:
    name = told.text("name") if old else told.text("id", ("input" if steps == "preprocessing" else "output") if number == 0 else ...)
    tensor = (_tensor_04 if old else _tensor_05)(told, name, steps == "preprocessing")
    key = "name" if old else "id"
    done = tuple(_step(f, f.text(key), tensor.axes) for f in told.many(steps, []))
    return Tensor(name, tensor.axes, tensor.least, tensor.step, tensor.channels, tensor.halo, done, tensor.test, _span(told, old))


def _tensor_04(told: Fields, name: str, is_input: bool) -> Tensor:
    axes = told.text("axes")
    if not axes or not set(axes) <= set(AXES_04) or len(set(axes)) != len(axes):
        told.wrong("axes", axes, f"different letters of {AXES_04}")
    shape = told.value("shape")
    least = step = (1,) * len(axes)
    if is_input or isinstance(shape, list):
        low, more = (shape, [0] * len(axes)) if isinstance(shape, list) else (told.below("shape").value("min"), told.below("shape").value("step"))
        for key, numbers in (("shape", low), ("shape", more)):
            if not isinstance(numbers, list) or len(numbers) != len(axes):
                told.wrong(key, numbers, f"{len(axes)} numbers, one per axis of {axes!r}")
        least = tuple(told.whole("shape", n, 1) for n in low)
        step = tuple(told.whole("shape", n) for n in more)
    else:
        _check_reference(told.below("shape"), axes)
    halo = told.value("halo", [0] * len(axes))
    if not isinstance(halo, list) or len(halo) != len(axes):
        told.wrong("halo", halo, f"{len(axes)} numbers")
    return Tensor(name, axes, least, step, (), tuple(told.whole("halo", n) for n in halo))


def _check_reference(told: Fields, axes: str) -> None:
    """An output's shape as multiples of an input's: as many numbers as axes, and the batch stays what it was."""
    scale, offset = told.value("scale"), told.value("offset")
    for key, numbers in (("scale", scale), ("offset", offset)):
        if not isinstance(numbers, list) or len(numbers) != len(axes):
            told.wrong(key, numbers, f"{len(axes)} numbers, one per axis of {axes!r}")
    if "b" in axes and (told.as_number("scale", scale[axes.index("b")]), told.as_number("offset", offset[axes.index("b")])) != (1, 0):
        told.wrong("offset", offset, "1 times the input's batch and nothing more: the offset of axis 'b' is 0")


def _tensor_05(told: Fields, name: str, is_input: bool) -> Tensor:
    axes, least, step, halo = "", [], [], []
    channels: tuple[str, ...] = ()
    for f in told.many("axes"):
        kind = f.text("type")
        letter = LETTERS.get(kind, "") or f.text("id", "x")
        if kind not in (*LETTERS, "space") or letter not in AXES_04 or letter in axes or len(letter) != 1:
            f.wrong("id", letter, f"an axis of type batch, channel, time, index or space, and no two the same (so far {axes!r})")
        axes += letter
        low, more = _size_05(f, kind) if is_input else (1, 1)
        least.append(low)
        step.append(more)
        halo.append(f.whole("halo", f.value("halo", 0)))
        if kind == "channel":
            names = f.value("channel_names", [])
            channels = tuple(str(n) for n in names) if isinstance(names, list) else ()
    tests = source_of(told, "test_tensor") if told.value("test_tensor", None) is not None else None
    return Tensor(name, axes, tuple(least), tuple(step), channels, tuple(halo), (), tests)


def _size_05(told: Fields, kind: str) -> tuple[int, int]:
    """Least size and step of an input's axis."""
    if kind == "channel":
        return max(1, len(told.value("channel_names", []) or [1])), 0
    size = told.value("size", {"min": 1, "step": 1} if kind == "batch" else ...)
    if size is None and kind == "batch":
        return 1, 1
    if isinstance(size, int):
        return told.whole("size", size, 1), 0
    if isinstance(size, dict) and "min" in size:
        return told.whole("size.min", size["min"], 1), told.whole("size.step", size.get("step", 1), 1)
    if isinstance(size, dict) and "axis_id" in size:
        return 1, 1  # as large as another axis, which says what that may be
    told.wrong("size", size, "a whole number, or min and step")


def _step(told: Fields, name: str, axes: str) -> Mapping[str, Any]:
    """A step before or after the network, its axes as letters of the tensor's."""
    if name not in STEPS:
        told.wrong("name" if "name" in told.told else "id", name, f"one of {', '.join(sorted(STEPS))}")
    kwargs = dict(told.below("kwargs").told) if told.value("kwargs", None) is not None else {}
    if kwargs.get("axes") is not None:
        wished = kwargs["axes"]
        letters = [LETTERS.get(str(a), str(a)) for a in wished] if isinstance(wished, (list, str)) else []
        if not letters or not set(letters) <= set(axes):
            told.wrong("kwargs.axes", wished, f"axes of {axes!r}")
        kwargs["axes"] = "".join(letters)
    if kwargs.get("axis") is not None:
        kwargs["axis"] = LETTERS.get(str(kwargs["axis"]), str(kwargs["axis"]))
        if kwargs["axis"] not in axes:
            told.wrong("kwargs.axis", kwargs["axis"], f"an axis of {axes!r}")
    if kwargs.pop("mode", None) == "per_dataset" and "axes" in kwargs:
        kwargs["axes"] += "b"
    for key in ("gain", "offset", "eps", "min", "max", "mean", "std", "threshold", "min_percentile", "max_percentile"):
        if kwargs.get(key) is not None:
            found = kwargs[key]
            kwargs[key] = [told.as_number(f"kwargs.{key}", v) for v in found] if isinstance(found, list) else told.as_number(f"kwargs.{key}", found)
    return {"name": name, "kwargs": kwargs}


def _span(told: Fields, old: bool) -> tuple[float, float] | None:
    """The range of a tensor's values."""
    data = told.value("data", {})
    found = told.value("data_range", None) if old else data.get("range") if isinstance(data, dict) else None
    if not isinstance(found, list) or len(found) != 2 or any(n is None for n in found):
        return None
    return told.as_number("data_range", found[0]), told.as_number("data_range", found[1])


def with_tests(told: Fields, tensors: tuple[Tensor, ...], key: str) -> tuple[Tensor, ...]:
    names = told.value(key, [])
    if not isinstance(names, list) or len(names) not in (0, len(tensors)):
        told.wrong(key, names, f"{len(tensors)} files, as there are tensors")
    made: list[Source | None] = [named(told, key, name) for name in names] or [None] * len(tensors)
    return tuple(Tensor(t.name, t.axes, t.least, t.step, t.channels, t.halo, t.steps, test, t.span) for t, test in zip(tensors, made, strict=True))


def source_of(told: Fields, key: str) -> Source:
    """A file with its sha256, or its bare name."""
    found = told.value(key)
    if isinstance(found, dict):
        f = told.below(key)
        return named(f, "source", f.value("source"), str(f.value("sha256", "") or ""))
    return named(told, key, found)


def named(told: Fields, key: str, name: Any, sha256: str = "") -> Source:
    if not isinstance(name, str) or not name:
        told.wrong(key, name, "the name of a file, or a URL")
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        told.wrong("sha256", sha256, "64 hexadecimal digits")
    url = name if is_url(name) else ""
    path = PurePosixPath(unquote(urlsplit(name).path)).name or "file" if url else name
    return Source(safe_name(path, f"{told.path}, field {told.name(key)!r}"), url, sha256.lower())
