"""Between napari's image layers and `Image`: axes, scale, units and transforms, in both directions.

Everything works on napari's layer data tuples ``(data, meta, type)``, which writers get and readers give, and which a layer in
the viewer turns into. The axes of a layer are letters in the layer's own order, with a colour picture's ``c`` left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Layer
from napari.utils.transforms import Affine
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.inputs import source_of
from napari_segsuite.types import AXES, SPATIAL, Image

LayerData = tuple[Any, dict[str, Any], str]

OURS = "segsuite"
"""Key in a layer's metadata under which we keep what napari has no place for."""

BESIDE = "beside"
"""Key in that of a layer that only shows an image once more, and shares its pixels."""

DEFAULTS = {2: "yx", 3: "zyx", 4: "tzyx", 5: "tczyx"}
_WORDS = {"time": "t", "frame": "t", "channel": "c", "channels": "c", "depth": "z", "plane": "z", "slice": "z", "row": "y", "column": "x", "col": "x"}
_IN_MEMORY = 2**28
"""Pictures of fewer bytes are read whole where their axes have to be put in another order."""


def axes_choices(ndim: int) -> tuple[str, ...]:
    """What the axes of a layer can mean, the likeliest first; y and x are always the last two.

    >>> axes_choices(3)
    ('zyx', 'tyx', 'cyx')
    """
    leading = ["".join(p) for p in permutations("tcz", ndim - 2)] if 2 <= ndim <= 5 else []
    choices = sorted((a + "yx" for a in leading), key=lambda a: (a != DEFAULTS[ndim], "z" not in a, "c" in a and "t" not in a, _rank(a)))
    return tuple(choices)


def guess_axes(layer: Layer) -> str:
    """Say what a layer's axes are, from its axis labels, from what we noted when we read it, from its units, or from their number."""
    return axes_of(layer.ndim, {"axis_labels": layer.axis_labels, "units": layer.units, "metadata": layer.metadata})


def axes_of(ndim: int, meta: dict[str, Any]) -> str:
    """The same for a layer data tuple's `meta`.

    Raises
    ------
    InputError
        A layer of one axis, or of more than five.
    """
    letters = [_letter(str(label)) for label in meta.get("axis_labels") or ()]
    if len(letters) == ndim and len(set(letters)) == ndim and set(letters) <= set(AXES) and letters[-2:] == ["y", "x"]:
        return "".join(letters)
    noted = str(meta.get("metadata", {}).get(OURS, {}).get("axes", ""))
    if len(noted) == ndim:
        return noted
    if ndim not in DEFAULTS:
        raise InputError(f"the layer has {ndim} axes", "2 to 5", "Show or save a part of it with fewer axes.")
    if ndim == 3 and "[time]" in getattr((meta.get("units") or ("",))[0], "dimensionality", ()):
        return "tyx"
    return DEFAULTS[ndim]


def to_image(layer: Layer, axes: str | None = None) -> Image:
    """See an image layer as an `Image`; nothing is read or copied.

    Parameters
    ----------
    layer : napari.layers.Image
    axes : str, optional
        What its axes are, in the layer's order; by default `guess_axes`.

    Returns
    -------
    Image
        Its `levels` share memory with the layer. `affine` is set where the layer is rotated, sheared or has an affine.

    Raises
    ------
    InputError
        The layer has too few or too many axes.
    """
    data, meta, _ = layer.as_layer_data_tuple()
    return image_of(data, meta, axes, source=str(layer.source.path or ""))


def misread(layer: Layer | None) -> str:
    """What to say of a layer in which another reader of napari has shown a DICOM series; nothing of others."""
    path, reader = (layer.source.path, layer.source.reader_plugin) if layer is not None else (None, None)
    if not path or reader in (None, "napari-segsuite") or not _is_dicom(str(path)):
        return ""
    how = "File > Open with Plugin > Open Folder and Segsuite give" if Path(path).is_dir() else "File > Open with Plugin and Segsuite give"
    return f"This DICOM series was opened by the reader {reader!r}, which knows no lengths and no order of slices; {how} both."


@lru_cache
def _is_dicom(path: str) -> bool:
    return source_of(Path(path)) == "dicom"


def image_of(data: Any, meta: dict[str, Any], axes: str | None = None, source: str = "") -> Image:
    """The same from a layer data tuple, as writers get it."""
    rgb = bool(meta.get("rgb", False))
    levels = tuple(data) if meta.get("multiscale", False) else (data,)
    ndim = len(levels[0].shape) - rgb
    axes = axes or axes_of(ndim, meta)
    order = sorted(range(ndim), key=lambda i: AXES.index(axes[i]))
    scale, translate, units, affine = _placed(axes, order, meta)
    ordered = "".join(axes[i] for i in order)
    if rgb:
        at = sum(a in "t" for a in ordered)
        order, ordered = [*order[:at], ndim, *order[at:]], ordered[:at] + "c" + ordered[at:]
        scale, translate, units = (_with(part, at, one) for part, one in ((scale, 1.0), (translate, 0.0), (units, "pixel")))
    return Image(
        levels=tuple(reorder(level, order) for level in levels),
        axes=ordered,
        scale=scale,
        units=units,
        translate=translate,
        channels=_channels(meta, ordered, levels[0].shape, order, rgb),
        rgb=rgb,
        affine=affine,
        name=str(meta.get("name") or "image"),
        source=source or str(meta.get("metadata", {}).get(OURS, {}).get("source", "")),
    )


def from_image(image: Image) -> list[LayerData]:
    """Show an `Image` as layers: one per channel, or a single one for a colour picture."""
    kept = [i for i, a in enumerate(image.axes) if a != "c"]
    noted = {"axes": "".join(image.axes[i] for i in kept), "source": image.source}
    where = placement(image.axes, image.scale, image.translate, image.units, image.affine)
    meta: dict[str, Any] = {"name": image.name, "metadata": {OURS: noted}, **where}
    levels = list(image.levels)
    if image.rgb:
        levels, meta["rgb"] = [reorder(level, [*kept, image.axes.index("c")]) for level in levels], True
    elif image.size("c") > 1:
        levels, meta["channel_axis"] = [sliceable(level) for level in levels], image.axes.index("c")
        meta["name"] = [f"{image.name} {c}" for c in image.channels] or None
        meta["metadata"] = [{OURS: {**noted, "channel": c}} for c in image.channels] or [{OURS: noted}] * image.size("c")
    elif "c" in image.axes:
        levels = [sliceable(level)[(slice(None),) * image.axes.index("c") + (0,)] for level in levels]
    meta["multiscale"] = len(levels) > 1
    return [(levels if len(levels) > 1 else levels[0], meta, "image")]


def placement(
    axes: str, scale: Sequence[float], translate: Sequence[float], units: Sequence[str], affine: NDArray[np.float64] | None
) -> dict[str, Any]:
    """Give napari's words for where samples lie, for the axes other than ``c``."""
    kept = [i for i, a in enumerate(axes) if a != "c"]
    told: dict[str, Any] = {
        "scale": tuple(float(scale[i]) for i in kept),
        "translate": tuple(float(translate[i]) for i in kept),
        "units": tuple(_known(units[i]) for i in kept),
        "axis_labels": tuple(axes[i] for i in kept),
    }
    if affine is None:
        return told
    # napari applies `scale` first: it keeps the sample size, and its `affine` does the rest of the whole transform.
    spatial = [k for k, i in enumerate(kept) if axes[i] in SPATIAL]
    told["translate"] = tuple(0.0 if k in spatial else v for k, v in enumerate(told["translate"]))
    whole = np.eye(len(kept) + 1)
    whole[np.ix_([*spatial, -1], [*spatial, -1])] = affine @ np.diag([*(1 / told["scale"][k] for k in spatial), 1.0])
    told["affine"] = whole
    return told


def _placed(
    axes: str, order: list[int], meta: dict[str, Any]
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[str, ...], NDArray[np.float64] | None]:
    """Scale, translate and units in the order of an `Image`, and the whole spatial transform where these are not enough."""
    n = len(axes)
    scale = np.broadcast_to(np.asarray(meta["scale"], float) if meta.get("scale") is not None else 1.0, n)
    translate = np.broadcast_to(np.asarray(meta["translate"], float) if meta.get("translate") is not None else 0.0, n)
    units = tuple(str(u) for u in meta.get("units") or ("pixel",) * n)
    spatial = [i for i in order if axes[i] in SPATIAL]
    whole = _whole(n, scale, translate, meta)
    plain = np.eye(n + 1)
    plain[range(n), range(n)], plain[:n, -1] = scale, translate
    affine = None if np.array_equal(whole, plain) else whole[np.ix_([*spatial, n], [*spatial, n])]
    return tuple(float(scale[i]) for i in order), tuple(float(translate[i]) for i in order), tuple(units[i] for i in order), affine


def _whole(n: int, scale: NDArray[np.float64], translate: NDArray[np.float64], meta: dict[str, Any]) -> NDArray[np.float64]:
    first = np.asarray(Affine(scale=scale, translate=translate, rotate=meta.get("rotate"), shear=meta.get("shear"), ndim=n).affine_matrix)
    then = np.asarray(meta["affine"], float) if meta.get("affine") is not None else np.eye(n + 1)
    whole: NDArray[np.float64] = then @ first
    return whole


def _channels(meta: dict[str, Any], axes: str, shape: tuple[int, ...], order: list[int], rgb: bool) -> tuple[str, ...]:
    if "c" not in axes:
        return ()
    n = int(shape[order[axes.index("c")]])
    if rgb:
        return ("red", "green", "blue", "alpha")[:n]
    noted = tuple(str(c) for c in meta.get("metadata", {}).get(OURS, {}).get("channels", ()))
    return noted if len(noted) == n else tuple(str(i) for i in range(n))


def _letter(label: str) -> str:
    word = label.strip().lower()
    return _WORDS.get(word, word)


def _rank(axes: str) -> list[int]:
    return [AXES.index(a) for a in axes]


def _with(values: tuple[Any, ...], at: int, value: Any) -> tuple[Any, ...]:
    return (*values[:at], value, *values[at:])


def reorder(level: Any, order: list[int]) -> Any:
    """Put the axes of an array in another order without reading it, where that can be."""
    if order == list(range(len(order))):
        return level
    return (sliceable(level)).transpose(order)


def sliceable(level: Any) -> Any:
    """An array that can be cut and transposed without being read: what cannot be transposed and is too large to read becomes dask."""
    if hasattr(level, "transpose"):
        return level
    if np.prod(level.shape, dtype=float) * np.dtype(level.dtype).itemsize < _IN_MEMORY:
        return np.asarray(level)
    import dask.array as da

    chunks = getattr(level, "chunks", None) or (*(1 for _ in level.shape[:-2]), *level.shape[-2:])
    return da.from_array(level, chunks=chunks, name=False)


def _known(unit: str) -> str:
    """A unit that napari knows; it raises for others."""
    import pint

    try:
        pint.get_application_registry().parse_units(unit)
    except (pint.errors.UndefinedUnitError, pint.errors.DefinitionSyntaxError, ValueError, TypeError):
        return "pixel"
    return unit
