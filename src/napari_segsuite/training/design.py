"""From the data to a network: its size, where it pools, how large crops and tiles are, what the codec is told of the objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from skimage import measure

from napari_segsuite.codecs import codec
from napari_segsuite.codecs.stars import LONGEST
from napari_segsuite.errors import ModelError, OptionError
from napari_segsuite.models import load_model
from napari_segsuite.models.families import SIZES as OTHERS
from napari_segsuite.models.families.detection import Detector
from napari_segsuite.models.families.transformers import Universal
from napari_segsuite.models.nets import Net, ResUNet, build
from napari_segsuite.models.torch_model import TorchModel
from napari_segsuite.training.data import Data, Sample
from napari_segsuite.training.options import TrainOptions
from napari_segsuite.types import Head, ModelSpec

NORMALIZE = (1.0, 99.8)
WIDTHS: Mapping[tuple[str, int], Mapping[str, list[int]]] = {
    ("resunet-tiny", 2): {"widths": [16, 32, 64, 128], "blocks": [1, 1, 1, 1]},
    ("resunet-small", 2): {"widths": [24, 48, 96, 192], "blocks": [1, 2, 2, 2]},
    ("resunet-base", 2): {"widths": [32, 64, 128, 256, 320], "blocks": [1, 2, 2, 2, 2]},
    ("resunet-tiny", 3): {"widths": [8, 16, 32, 64], "blocks": [1, 1, 1, 1]},
    ("resunet-small", 3): {"widths": [8, 32, 64, 128], "blocks": [1, 2, 2, 2]},
    ("resunet-base", 3): {"widths": [16, 48, 96, 192, 256], "blocks": [1, 2, 2, 2, 2]},
}
CROP = {2: (128, 128), 3: (32, 64, 64)}
CORE = {2: (1024, 1024), 3: (96, 192, 192)}
"""About what a tile keeps when its context is thrown away."""
NARROWEST = 4
"""No level of the network sees a crop with fewer voxels along an axis that it pools."""


@dataclass(frozen=True)
class Objects:
    """How large the things are, in voxels of the last two axes.

    Attributes
    ----------
    diameter : float, optional
        Median, of the circle or ball with the same content; None where there are no things.
    longest : float
        Extent along the longest axis that one in a hundred exceeds.
    smallest : float
        Content in voxels that one in fifty is below.
    count : int
    """

    diameter: float | None
    longest: float
    smallest: float
    count: int


def objects_of(samples: Sequence[Sample], data: Data) -> Objects:
    """Measure the things of some samples."""
    things = [c.id for c in data.classes if c.countable]
    sizes, extents = [], []
    for sample in samples:
        for region in measure.regionprops(sample.labels):
            if sample.class_of[region.label] in things:
                sizes.append(float(region.area))
                d = len(data.axes)
                extents.append(max(region.bbox[d + a] - region.bbox[a] for a in range(d)))
    if not sizes:
        return Objects(None, 0, 0, 0)
    content = np.array(sizes) * np.prod(data.aspect)
    diameters = 2 * np.sqrt(content / np.pi) if len(data.axes) == 2 else np.cbrt(6 * content / np.pi)
    return Objects(float(np.median(diameters)), float(np.percentile(extents, 99)), float(np.percentile(sizes, 2)), len(sizes))


@dataclass(frozen=True, eq=False)
class Design:
    """A network with its weights before the training, and all that is decided before it.

    Attributes
    ----------
    net : ResUNet or Headed
    spec : ModelSpec
        Without its weights' sha256, and with the codec's options before they are tuned.
    crop : tuple of int
    objects : Objects
        Of what is trained on.
    notices : tuple of str
    """

    net: Net
    spec: ModelSpec
    crop: tuple[int, ...]
    objects: Objects
    notices: tuple[str, ...]


def design(options: TrainOptions, data: Data, train: Sequence[Sample], name: str) -> Design:
    """Decide on everything that follows from wishes and data; weights are drawn from torch's generator.

    Raises
    ------
    OptionError
        A wished crop does not fit into the images, or the network.
    ModelError
        The model to begin with is of another kind.
    """
    objects = objects_of(train, data)
    start = _start(options, data)
    heads = codec(options.codec_name).heads(data.classes, len(data.axes))
    shape = [int(n) for n in np.median([sample.labels.shape for sample in train], axis=0)]
    usual = _usual(objects, shape, len(data.axes))
    called = start.spec.net["name"] if start is not None else (options.net_name or "resunet").partition("-")[0]
    kwargs = _kwargs(options, data, heads, start, options.crop or usual, objects)
    net = build(called, kwargs)
    notices = list(data.notices)
    if start is not None:
        notices += _begin(net, start)
    lengths = _codec_options(options.codec_name, objects)
    context, tile = grid(net, lengths.get("longest", 0))
    if isinstance(net, Universal):  # which learns where in a tile to look
        usual = tuple(min(n, s) for n, s in zip(tile, shape, strict=True))
    crop = _crop(options, net.multiple, usual, train)
    if options.batch == 1 and crop == net.multiple:  # of one number there is no variance
        found = f"crop is {crop} with 1 crop per step, of which the network's deepest level sees a single voxel"
        raise OptionError(found, "two at least", "Choose a larger --batch or --crop.")
    spec = ModelSpec(
        name=name,
        axes=data.axes,
        channels=start.spec.channels if start is not None else data.channels,
        heads=heads,
        classes=data.classes,
        codec=options.codec_name,
        codec_options=lengths,
        pixel_size_um=data.pixel_size_um,
        diameter_px=objects.diameter,
        tile=tile,
        multiple=net.multiple,
        context=context,
        normalize={"method": "percentiles", "values": list(NORMALIZE)},
        net={"name": called, "kwargs": kwargs},
    )
    if isinstance(net, ResUNet) and objects.longest > 2 * min(net.reach):
        seen = f"objects are up to {objects.longest:.0f} voxels long, and the network sees {min(net.reach)} far"
        notices.append(f"{seen}: with smaller images it may do better")
    return Design(net, spec, crop, objects, tuple(notices))


def strides(aspect: Sequence[float], size: Sequence[int], levels: int) -> list[tuple[int, ...]]:
    """Where to pool, by the rule of nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).

    An axis is pooled where its voxels are less than twice as long as the shortest at that level, and where enough of a crop is left.

    Examples
    --------
    >>> strides((5, 1, 1), (16, 128, 128), 4)
    [(1, 2, 2), (1, 2, 2), (2, 2, 2)]
    """
    length, left, found = list(aspect), list(size), []
    for _ in range(levels - 1):
        step = tuple(2 if a < 2 * min(length) and n >= 2 * NARROWEST else 1 for a, n in zip(length, left, strict=True))
        if max(step) == 1:
            break
        found.append(step)
        length = [a * s for a, s in zip(length, step, strict=True)]
        left = [n // s for n, s in zip(left, step, strict=True)]
    return found


def grid(net: Net, longest: int = 0) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Context and tile of a network, per axis: multiples of its stride.

    In a plane the context is all that the network can see. In volumes that would be most of every tile; there it is a quarter, which is where
    most of what it sees comes from (Luo et al. 2016, arXiv 1701.04128), as in the model `nuclei-3d`. Networks of other libraries say themselves
    how far they look so that it matters, and how much a tile may keep; whoever answers with whole objects must see those that reach `longest`
    beyond it. Results do not depend on chunks either way: tiles lie on one grid.
    """
    part = 1 if net.dims == 2 else 4
    wanted, core = ([-(-r // part) for r in net.reach], CORE[net.dims]) if isinstance(net, ResUNet) else (net.context, net.core)
    least = longest + net.seen if isinstance(net, Detector | Universal) and longest else 0
    context = tuple(-(-max(c, least) // m) * m for c, m in zip(wanted, net.multiple, strict=True))
    tile = tuple(2 * c + -(-n // m) * m for c, n, m in zip(context, core, net.multiple, strict=True))
    return context, tile


def _usual(objects: Objects, shape: Sequence[int], dims: int) -> tuple[int, ...]:
    """A crop that shows a few objects and is no larger than the usual image."""
    longest = min(max(objects.diameter or 0, 0) * (4 if dims == 2 else 3), 256 if dims == 2 else 96)
    return tuple(int(min(max(n, longest if a else n), s)) for a, (n, s) in enumerate(zip(CROP[dims], shape, strict=True)))


def _crop(options: TrainOptions, multiple: Sequence[int], usual: Sequence[int], train: Sequence[Sample]) -> tuple[int, ...]:
    """The wished crop where it fits, else the usual one; a multiple of the network's stride."""
    if not options.crop:
        return tuple(max(n // m, 1) * m for n, m in zip(usual, multiple, strict=True))
    wrong = [n for n, m in zip(options.crop, multiple, strict=True) if n % m]
    if wrong:
        raise OptionError(f"crop is {options.crop}", f"multiples of {', '.join(map(str, multiple))}, the strides of the network")
    for sample in train:
        if any(n > s for n, s in zip(options.crop, sample.labels.shape, strict=True)):
            found = f"crop is {options.crop}, and image {sample.name} has {sample.labels.shape} voxels"
            raise OptionError(found, "a crop that fits into every image", "Leave --crop away, or train without the small images.")
    return tuple(options.crop)


def _kwargs(
    options: TrainOptions, data: Data, heads: Sequence[Head], start: TorchModel | None, crop: Sequence[int], objects: Objects
) -> dict[str, Any]:
    """What the network is built with: as the model to begin with, or by its size and the shape of the voxels."""
    outputs, things = {head.name: head.channels for head in heads}, [c.id for c in data.classes if c.countable]
    if start is not None:
        own = {"kinds": things} if "kinds" in start.spec.net["kwargs"] else {}
        return {**start.spec.net["kwargs"], "heads": outputs, **own}
    more: dict[str, Any] = {"kinds": things} if options.detects else {}
    if options.family == "maskrcnn":
        # The middle one of five sizes of anchors is that of usual objects; no smaller ones than the network can see.
        more["smallest"] = int(np.clip(2 ** round(np.log2((objects.diameter or 32) / 2)), 8, 64))
    if len(crop) != len(data.axes):
        raise OptionError(f"crop has {len(crop)} numbers", f"{len(data.axes)}, one per spatial axis ({', '.join(data.axes)})")
    return {"dims": len(data.axes), "in_channels": len(data.channels), "heads": outputs, **_size(options.net_name, data, crop), **more}


def _size(name: str | None, data: Data, crop: Sequence[int]) -> dict[str, Any]:
    """What a network of this name is built with: its widths as far down as it can pool, and where it pools, where it lets itself be told."""
    d = len(data.axes)
    size = {**WIDTHS, **OTHERS}.get((name or "resunet-small", d))
    if size is None:
        raise OptionError(f"network {name} is for planes, and the images have the axes {data.axes}", "a network for volumes", "Choose another --net.")
    lists = {key: value for key, value in size.items() if isinstance(value, list)}
    if not lists:
        return dict(size)
    told = "widths" in lists
    levels = min(map(len, lists.values()))
    pools = strides(data.aspect, crop, levels) if told else strides((1,) * d, (max(min(crop), 2 * NARROWEST),) * d, levels)
    cut = {key: list(value[: len(pools) + 1]) if key in lists else value for key, value in size.items()}
    return {**cut, "strides": [list(s) for s in pools]} if told else cut


def _start(options: TrainOptions, data: Data) -> TorchModel | None:
    """The model to begin with, which must be a network of ours for such images."""
    if options.init is None:
        return None
    model = load_model(options.init, device="cpu")
    if not isinstance(model, TorchModel) or not isinstance(model.net, Net):
        raise ModelError(f"model {options.init!r} has no weights to begin with", "a model that was trained")
    spec = model.spec
    if spec.axes != data.axes:
        raise ModelError(f"model {options.init!r} is for axes {spec.axes}, and the images have {data.axes}", "the same axes", "Leave --init away.")
    repeated = spec.channels == ("red", "green", "blue") and len(data.channels) == 1
    if len(spec.channels) != len(data.channels) and not repeated:
        found = f"model {options.init!r} takes {len(spec.channels)} channels ({', '.join(spec.channels)}), and the images have {len(data.channels)}"
        raise ModelError(found, "as many channels", "Leave --init away, or give images with these channels.")
    kwargs = spec.net["kwargs"]
    wished = {**WIDTHS, **OTHERS}.get((options.net_name or "", len(data.axes)))
    told = {name: kwargs.get(name) for name in wished or ()}
    if wished is not None and (spec.net["name"], told) != ((options.net_name or "").partition("-")[0], dict(wished)):
        found = f"model {options.init!r} is {_told(spec.net['name'], told)}"
        raise ModelError(found, f"{_told(options.net, wished)} for --net {options.net}", "Leave --net away: the network is that of --init.")
    return model


def _told(name: str | None, sizes: Mapping[str, Any]) -> str:
    return f"{name} with " + ", ".join(f"{key} {value}" for key, value in sizes.items())


def _begin(net: Net, start: TorchModel) -> list[str]:
    """Copy all weights that have a place in the network; what is told of the heads that begin anew."""
    theirs, own = start.net.state_dict(), net.state_dict()
    fits = {name: value for name, value in theirs.items() if name in own and own[name].shape == value.shape}
    net.load_state_dict({**own, **fits})
    new = sorted({name.split(".")[1] for name in own if name not in fits})
    return [f"{', '.join(new)} of {start.spec.name} did not fit and begins anew"] if new else []


def _codec_options(name: str, objects: Objects) -> dict[str, Any]:
    """Lengths that the decoder works with, from the size of the objects."""
    if objects.diameter is None:
        return {}
    longest = int(np.clip(np.ceil(0.75 * objects.longest), 16, 400))
    lengths: dict[str, dict[str, Any]] = {
        "centers": {"window": window(objects.diameter, 0.2), "longest": longest},
        "boundaries": {"smooth": min(window(objects.diameter, 0.1), 3), "steps": longest, "search": longest},
        "objects": {"longest": longest},
        "stars": {"window": window(objects.diameter, 0.1), "longest": min(longest, LONGEST)},
    }
    return lengths.get(name, {})


def window(diameter: float, part: float) -> int:
    """Half-width of the window in which a centre is the highest, as a part of the diameter."""
    return int(np.clip(round(part * diameter), 1, 12))
