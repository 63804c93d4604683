"""OME-Zarr metadata, versions 0.4 and 0.5, as plain values: no store and no pixels here.

A version 0.5 keeps everything under the attribute ``ome`` of a zarr 3 group; 0.4 keeps it at the top of a zarr 2 group.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from napari_segsuite.errors import InputError, OptionError
from napari_segsuite.io.geometry import Described
from napari_segsuite.io.units import PIXEL, is_named, name_of
from napari_segsuite.types import AXES, SPATIAL, Class, Table

VERSIONS: dict[str, Literal[2, 3]] = {"0.4": 2, "0.5": 3}
"""Version of OME-Zarr -> zarr format."""

MOST_PROPERTIES = 20_000
"""With more segments, colours and properties per segment are left out: as JSON they would slow down every reader."""

_KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_COLOURS = ("FFFFFF", "00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")
_GIVE = "Give them with axes, for example axes='zyx'."
_GOLDEN = 0.618033988749895


def check_version(version: str) -> Literal[2, 3]:
    """The zarr format of a version of OME-Zarr."""
    if version not in VERSIONS:
        raise OptionError(f"OME-Zarr version {version!r} cannot be written", " or ".join(map(repr, VERSIONS)))
    return VERSIONS[version]


def ome_of(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a group's attributes that is OME-Zarr's."""
    ome = attributes.get("ome")
    return ome if isinstance(ome, Mapping) else attributes


def wrapped(ome: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Put OME-Zarr metadata where its version wants it."""
    return {"ome": {"version": version, **ome}} if version == "0.5" else dict(ome)


def multiscale(
    axes: str, units: Sequence[str], levels: Sequence[tuple[str, Sequence[float], Sequence[float]]], *, name: str, method: str, version: str
) -> dict[str, Any]:
    """Describe a pyramid.

    Parameters
    ----------
    axes, units
        As in `Image`.
    levels : sequence of (path, scale, translate)
        Finest first.
    name, method : str
        What it shows; how the lower levels were made.
    version : str
    """
    described = [{"name": a, "type": _KINDS[a], **({"unit": u} if is_named(u) else {})} for a, u in zip(axes, units, strict=True)]
    datasets = [{"path": path, "coordinateTransformations": _transformations(scale, translate)} for path, scale, translate in levels]
    told = {"name": name, "axes": described, "datasets": datasets, "type": method}
    return {"version": "0.4", **told} if version == "0.4" else told


def axes_of(scales: Mapping[str, Any], ndim: int) -> tuple[str, dict[str, str]]:
    """Our letters for the axes of a multiscale, and the unit of each.

    Raises
    ------
    InputError
        An axis is none of time, channel and space, or there are more of a kind than we have letters for.
    """
    listed = scales.get("axes", list(AXES)[-ndim:] if "axes" not in scales and ndim == 5 else None)
    if listed is None or len(listed) != ndim:
        raise InputError(f"the OME-Zarr metadata lists the axes {listed!r} for an array of {ndim} axes", do=_GIVE)
    entries = [{"name": a} if isinstance(a, str) else a for a in listed]
    names = [str(e.get("name", "")).lower() for e in entries]
    kinds = [e.get("type") or _KINDS.get(n, "") for e, n in zip(entries, names, strict=True)]
    letters = _letters(names, kinds)
    return letters, {a: name_of(e.get("unit")) for a, e in zip(letters, entries, strict=True)}


def placed(scales: Mapping[str, Any], letters: str, units: Mapping[str, str]) -> Described:
    """Scale and translation of the finest level: its own transformations, then those of the whole multiscale."""
    scale, translate = np.ones(len(letters)), np.zeros(len(letters))
    steps = [*scales["datasets"][0].get("coordinateTransformations", []), *scales.get("coordinateTransformations", [])]
    for step in steps:
        kind = step.get("type")
        if kind not in ("scale", "translation", "identity") or (kind != "identity" and len(step.get(kind, ())) != len(letters)):
            found = f"the OME-Zarr metadata has a transformation that cannot be used ({str(step)[:80]})"
            raise InputError(found, "scale and translation, one number per axis")
        if kind == "scale":
            scale, translate = scale * np.array(step["scale"], float), translate * np.array(step["scale"], float)
        elif kind == "translation":
            translate = translate + np.array(step["translation"], float)
    sizes = {a: (float(s), units.get(a, PIXEL)) for a, s in zip(letters, scale, strict=True)}
    return Described(sizes=sizes, translate={a: float(v) for a, v in zip(letters, translate, strict=True)}, name=str(scales.get("name") or ""))


def channel_names(ome: Mapping[str, Any], n: int) -> tuple[str, ...]:
    """Names of `n` channels from the ``omero`` part, numbered where it has none."""
    listed = (ome.get("omero") or {}).get("channels") or []
    names = [str(c.get("label") or "") for c in listed[:n]] + [""] * (n - len(listed))
    return tuple(name or f"channel {k}" for k, name in enumerate(names))


def omero(channels: Sequence[str], limits: Sequence[tuple[float, float]], dtype: np.dtype[Any], *, rgb: bool, version: str) -> dict[str, Any]:
    """The ``omero`` part: a name, a colour and a contrast window per channel."""
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "iu" else (0, 1)
    colours = ("FF0000", "00FF00", "0000FF", "FFFFFF") if rgb else _COLOURS if len(channels) > 1 else ("FFFFFF",)
    listed = [
        {"label": name, "color": colours[k % len(colours)], "active": True,
         "window": {"min": float(min(low, a)), "max": float(max(high, b)), "start": float(a), "end": float(b)}}
        for k, (name, (a, b)) in enumerate(zip(channels, limits, strict=True))
    ]  # fmt: skip
    return {"channels": listed, **({"version": "0.4"} if version == "0.4" else {})}


def image_label(segments: Table, classes: Sequence[Class], *, inside: bool, version: str) -> dict[str, Any]:
    """The ``image-label`` part: a colour and the row of the table per segment, and where the image is.

    Stuff has the colour of its class. Things get a colour of their own, so that neighbours can be told apart.
    """
    told: dict[str, Any] = {"version": "0.4"} if version == "0.4" else {}
    if inside:
        told["source"] = {"image": "../../"}
    ids = [int(i) for i in segments["id"]] if "id" in segments else []
    if not ids or len(ids) > MOST_PROPERTIES:
        return told
    stuff = {c.id: c.color for c in classes if not c.countable}
    names = {c.id: c.name for c in classes}
    told["colors"] = [{"label-value": i, "rgba": [*(stuff.get(i) or _hue(i)), 255]} for i in ids]
    told["properties"] = [{"label-value": i, **row} for i, row in zip(ids, _rows(segments, names), strict=True)]
    return told


def _rows(segments: Table, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """The table row by row, with the name of the class, without what is not a number (JSON has no word for it)."""
    columns = {name: column.tolist() for name, column in segments.items() if name != "id"}
    rows = [{name: values[k] for name, values in columns.items() if values[k] == values[k]} for k in range(len(segments["id"]))]
    return [{"class": names[row["class_id"]], **row} if row.get("class_id") in names else row for row in rows]


def _letters(names: Sequence[str], kinds: Sequence[str]) -> str:
    if set(names) <= set(AXES) and len(set(names)) == len(names):
        return "".join(names)
    space = [k for k, kind in enumerate(kinds) if kind == "space"]
    letters = {k: {"time": "t", "channel": "c"}.get(kind, "?") for k, kind in enumerate(kinds)}
    letters |= dict(zip(space, SPATIAL[-len(space) :] if space else "", strict=False))
    found = "".join(letters.values())
    if "?" in found or len(set(found)) != len(found) or len(space) < 2:
        raise InputError(f"the OME-Zarr metadata has axes {', '.join(names)}", "time, channel and two or three of space", _GIVE)
    return found


def _transformations(scale: Sequence[float], translate: Sequence[float]) -> list[dict[str, Any]]:
    moved = [{"type": "translation", "translation": [float(v) for v in translate]}] if any(translate) else []
    return [{"type": "scale", "scale": [float(v) for v in scale]}, *moved]


def _hue(number: int) -> tuple[int, int, int]:
    """A colour for a segment: steps of the golden angle keep consecutive ids far apart."""
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1.0, 0.65 + 0.3 * (number % 3) / 2, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)
