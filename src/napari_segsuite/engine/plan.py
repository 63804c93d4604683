"""Intent + reality -> plan: what a user may wish (`Options`), checked once against an image and a model (`resolve`).

Nothing here imports torch, and nothing reads pixels: complaints come in milliseconds. Everything later only obeys the `Plan`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from napari_segsuite.codecs import DIRECTED
from napari_segsuite.engine.options import Options as Options
from napari_segsuite.engine.options import check
from napari_segsuite.engine.options import option as option
from napari_segsuite.engine.told import image_told, model_told
from napari_segsuite.engine.zoom import aspect_of, zoom_of
from napari_segsuite.errors import InputError, OptionError
from napari_segsuite.models import mirrored
from napari_segsuite.models.orthogonal import orthogonal_spec
from napari_segsuite.types import Image, ModelSpec

CENTERS = {"center", "distance", "probability"}
"""Maps in which the middles of objects are looked for."""
CHUNK_VOXELS = 2**25
"""A frame with more voxels than this is cut into chunks of about this many."""


@dataclass(frozen=True)
class Plan:
    """What will be done; JSON-able, and its `fingerprint` is the identity of the job.

    Attributes
    ----------
    options : Options
    image : mapping
        Name, source, shape, axes, dtype, scale, units of what was planned for.
    model : mapping
        Name, version, task, sha256 of the weights and of all else that the model is made of, its codec, how it wants pixels normalised,
        and its grid of tiles.
    axes : str
        Spatial axes that the network sees, ``"yx"`` or ``"zyx"``.
    frames : str
        Axes that are worked through one by one (``t``, and ``z`` when slices are segmented on their own).
    channels : tuple of int
        Indices along ``c``, in the model's order; ``(0,)`` for an image without channels.
    zoom : tuple of float
        Model pixels per image pixel along `axes`.
    chunk : tuple of int
        Unit of work in image voxels along `axes`.
    codec_options : mapping
        The model's, with the user's wishes on top.
    min_size : int
        Objects with fewer image voxels are left out.
    min_score : float
        Objects with a lower score are left out.
    mirror : str
        Axes along which the model sees the image mirrored.
    notices : tuple of str
        What the user should know and need not change.
    limits : tuple of (float, float)
        Values that become 0 and 1, per channel; empty until measured. Not part of the fingerprint: they follow from it.
    """

    options: Options
    image: Mapping[str, Any]
    model: Mapping[str, Any]
    axes: str
    frames: str
    channels: tuple[int, ...]
    zoom: tuple[float, ...]
    chunk: tuple[int, ...]
    codec_options: Mapping[str, Any]
    min_size: int = 0
    min_score: float = 0.0
    mirror: str = ""
    notices: tuple[str, ...] = ()
    limits: tuple[tuple[float, float], ...] = ()

    @property
    def orthogonal(self) -> bool:
        """Whether a model for slices sees a volume along its three axes."""
        return _is_orthogonal(self.options, self.axes)

    @property
    def batch(self) -> int:
        """Tiles that are handed to the model together; of three views of a cube, one tile is many slices."""
        return 1 if self.orthogonal else self.options.batch

    def spec_of(self, spec: ModelSpec) -> ModelSpec:
        """The description of the model as it is run here."""
        return orthogonal_spec(spec) if self.orthogonal else spec

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with anything that can change the result; not with the device, batch, chunk, or where the files lie."""
        told = self.to_json()
        # The model is known by its weights and description, not by the folder that it was loaded from.
        told["options"] = {k: v for k, v in told["options"].items() if k not in ("model", "device", "batch", "chunk")}
        told["image"] = {k: v for k, v in told["image"].items() if k not in ("name", "source")}
        for name in ("notices", "limits", "chunk", *([] if self.mirror else ["mirror"])):
            del told[name]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values."""
        told = {f.name: getattr(self, f.name) for f in fields(self)}
        told["options"] = self.options.to_json()
        plain: dict[str, Any] = json.loads(json.dumps(told))
        return plain


def resolve(image: Image, options: Options, spec: ModelSpec) -> Plan:
    """Check wishes against reality and decide everything that can be decided without reading a pixel.

    Parameters
    ----------
    image : Image
    options : Options
    spec : ModelSpec
        Of the model that ``options.model`` names (``models.load_spec``).

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        The image cannot be segmented by any model: an axis of length 0, a dtype that is not a number.
    OptionError
        The wishes, the image and the model do not fit together.
    """
    _check_image(image)
    check(options)
    axes, frames = _axes(image, options, spec)
    channels, notices = _channels(image, options, spec)
    aspect: tuple[float, ...] = (1.0,) * len(axes)
    if _is_orthogonal(options, axes):
        spec = orthogonal_spec(spec)
        aspect, told = aspect_of(image)
        notices += told
    _check_directions(options, spec, axes)
    zoom, more = zoom_of(image, options, spec, aspect)
    mirror = mirrored.mirrored_axes(image, spec)
    wishes = {"foreground": options.foreground, "center": options.center}
    if options.center is not None and spec.codec != "objects" and not CENTERS & {head.name for head in spec.heads}:
        more = [*more, f"center has no effect: the model {spec.name} has no map of centres"]
    if not spec.net and options.device not in ("auto", "cpu"):
        more = [*more, f"the model {spec.name} has no network and runs on the CPU: device {options.device!r} is not used"]
    return Plan(
        options=options,
        image=image_told(image),
        model=model_told(spec),
        axes=axes,
        frames=frames,
        channels=channels,
        zoom=zoom,
        chunk=_chunk(tuple(image.size(a) for a in axes), options.chunk),
        codec_options={**spec.codec_options, **{k: v for k, v in wishes.items() if v is not None}},
        min_size=_min_size(options, spec, zoom),
        min_score=float(spec.codec_options.get("min_score", 0) if options.min_score is None else options.min_score),
        mirror=mirror,
        notices=tuple(notices + more + mirrored.words(spec, mirror)),
    )


def _check_image(image: Image) -> None:
    for axis, n in zip(image.axes, image.shape, strict=True):
        if n == 0:
            raise InputError(f"axis {axis.upper()} of {image.name!r} has length 0 (shape {image.shape})", "at least 1 sample along every axis")
    dtype = np.dtype(image.data.dtype)
    if dtype.kind not in "biuf":
        raise InputError(
            f"the pixels of {image.name!r} are of type {dtype}", "integers or real numbers", "Convert them first, for example to float32."
        )
    if not all(np.isfinite(s) and s for s in image.scale):
        told = " x ".join(f"{s:g}" for s in image.scale)
        raise InputError(
            f"the voxels of {image.name!r} have the size {told} ({image.axes})", "sizes that are not 0", "Correct the scale; 1 where it is unknown."
        )
    if len(image.spatial) < 2:
        raise InputError(f"{image.name!r} has axes {image.axes!r} (shape {image.shape})", "at least y and x")


def _axes(image: Image, options: Options, spec: ModelSpec) -> tuple[str, str]:
    """Which axes the network sees, and which are worked through one by one."""
    time = "t" if "t" in image.axes else ""
    fits = spec.axes in ("any", image.spatial)
    if fits and (options.stack == "volume" or image.spatial == "yx"):
        return image.spatial, time
    if spec.axes in ("yx", "any") and image.spatial == "zyx":
        if options.stack == "slices" or image.size("z") == 1:
            return "yx", time + "z"
        if options.stack == "orthogonal":
            return "zyx", time
        raise OptionError(
            f"model {spec.name!r} is for two dimensions, and {image.name!r} is a z-stack of {image.size('z')} slices",
            do="Choose stack='orthogonal' to segment the volume by its slices along all three axes, stack='slices' to segment every slice on its "
            "own, or a model for volumes.",
        )
    if spec.axes == "zyx":
        raise OptionError(f"model {spec.name!r} is for volumes, and {image.name!r} has axes {image.axes!r}", "a z-stack, taken as a volume")
    return spec.axes, time


def _is_orthogonal(options: Options, axes: str) -> bool:
    return options.stack == "orthogonal" and axes == "zyx"


def _check_directions(options: Options, spec: ModelSpec, axes: str) -> None:
    """Refuse what would mix the directions that some maps are about."""
    if spec.codec not in DIRECTED:
        return
    if options.flips:
        found = f"model {spec.name!r} answers with {DIRECTED[spec.codec]}, of which no mean can be taken over mirrored images"
        raise OptionError(found, do="Choose flips=False.")
    if _is_orthogonal(options, axes):
        found = f"model {spec.name!r} answers with the {DIRECTED[spec.codec]} of slices, which are not those of volumes"
        raise OptionError(found, do="Choose stack='slices', or a model for volumes.")


def _channels(image: Image, options: Options, spec: ModelSpec) -> tuple[tuple[int, ...], list[str]]:
    """Pick the channels by name or number; never guess between several."""
    names = image.channels or tuple(str(i) for i in range(image.size("c")))
    have = [i for i in range(image.size("c")) if not (image.rgb and i == 3)]
    notices = ["the alpha channel is left out"] if image.rgb and image.size("c") == 4 else []
    colour = spec.channels == ("red", "green", "blue")
    if options.channels:
        chosen = tuple(_channel(str(c), names, image.name) for c in options.channels)
    elif colour and image.size("c") > 1 and not image.rgb:
        raise OptionError(_told(image, names, spec), do=f"Choose one, for example channels={names[0]!r} (--channels {names[0]!r}).")
    else:
        chosen = tuple(have)
    if len(chosen) != len(spec.channels) and not (colour and len(chosen) == 1):
        needed = "1 channel (or red, green, blue)" if colour else f"{len(spec.channels)} ({', '.join(spec.channels)})"
        wished = f"model {spec.name!r} cannot take {len(chosen)} channels ({', '.join(options.channels)})"
        found = wished if options.channels else _told(image, names, spec)
        raise OptionError(found, needed, f"Choose, for example channels={names[0]!r} (--channels {names[0]!r}).")
    return chosen, notices


def _told(image: Image, names: tuple[str, ...], spec: ModelSpec) -> str:
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"model {spec.name!r} needs {_count(spec)}; {image.name!r} has {image.size('c')} ({shown})"


def _count(spec: ModelSpec) -> str:
    return "1 channel" if spec.channels == ("red", "green", "blue") or len(spec.channels) == 1 else f"{len(spec.channels)} channels"


def _channel(wish: str, names: tuple[str, ...], image: str) -> int:
    if wish in names:
        return names.index(wish)
    if wish.isdigit() and int(wish) < len(names):
        return int(wish)
    numbers = "" if list(names) == [str(i) for i in range(len(names))] else f", or a number from 0 to {len(names) - 1}"
    raise OptionError(f"{image!r} has no channel {wish!r}", f"{'one of ' if len(names) > 1 else ''}{', '.join(names)}{numbers}")


def _min_size(options: Options, spec: ModelSpec, zoom: tuple[float, ...]) -> int:
    """The wish in image voxels, or the model's choice, which is in its own pixels."""
    if options.min_size_px is not None:
        return options.min_size_px
    return round(float(spec.codec_options.get("min_size", 0)) / float(np.prod(zoom)))


def _chunk(shape: tuple[int, ...], wish: tuple[int, ...]) -> tuple[int, ...]:
    """The wish, or the whole frame, halved along its longest axis until it is small enough."""
    if wish:
        if len(wish) != len(shape):
            raise OptionError(f"chunk has {len(wish)} numbers", f"{len(shape)}, one per spatial axis")
        return tuple(min(int(w), n) for w, n in zip(wish, shape, strict=True))
    chunk = list(shape)
    while np.prod(chunk, dtype=float) > CHUNK_VOXELS:
        longest = int(np.argmax(chunk))
        chunk[longest] = -(-chunk[longest] // 2)
    return tuple(chunk)
