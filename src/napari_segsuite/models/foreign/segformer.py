"""SegFormer (Xie et al. 2021, arXiv 2105.15203) as Hugging Face's transformers keeps it: a folder with ``config.json`` and weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_segsuite.errors import ModelError
from napari_segsuite.models.foreign.archive import inside
from napari_segsuite.models.foreign.described import Described, classes_of, interface, ordered
from napari_segsuite.models.foreign.draft import Draft, channels_of
from napari_segsuite.models.foreign.fields import Fields, read_json
from napari_segsuite.models.foreign.form import Form, normalization
from napari_segsuite.models.foreign.grid import LARGEST, roomy
from napari_segsuite.models.foreign.segformer_net import CONFIG, FEW, NETWORK, ONE, arguments
from napari_segsuite.models.foreign.sources import UNPACKED

PIXELS, CARD = "preprocessor_config.json", "README.md"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The first that is there is taken."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, which transformers takes where nothing is said."""


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is a checkpoint of transformers."""
    return (folder / CONFIG).is_file() and any((folder / name).exists() for name in WEIGHTS)


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
    """
    told = Fields(folder / CONFIG, "", read_json(inside(folder, CONFIG, str(folder))))
    if told.value("architectures", None) != [NETWORK]:
        told.wrong("architectures", told.value("architectures", None), f"['{NETWORK}']")
    kwargs = arguments(Fields(told.path, "", {key: told.told[key] for key in (*ONE, *FEW) if key in told.told}))
    names = _classes(told)
    channels = kwargs["num_channels"]
    axes = ordered(form, "yx")
    stride = math.prod(kwargs["strides"])
    pixels = _pixels(folder)
    normalize, steps = _normalization(folder, pixels, form, channels)
    tile = _tile(pixels) or LARGEST["yx"]
    context = tuple(n // 8 for n in tile)
    letters = form.input_axes or "bc" + axes
    draft = Draft(
        axes="yx",
        channels=channels_of(form, ("red", "green", "blue"), channels),
        normalize=normalize,
        input={**interface(letters, {**dict.fromkeys(axes, (stride, stride)), "c": (channels, 0)}), "steps": steps},
        outputs=({"axes": letters, "steps": [], "channels": tuple(names), "activation": "argmax" if len(names) > 1 else "sigmoid"},),
        halo=(),
        texts={"description": f"SegFormer, {len(names)} classes."},
    )
    sizes: dict[str, Any] = {"tile": roomy(tile, context, (stride, stride)), "context": context}
    said = Form(**{**sizes, **classes_of(names)})
    weights = next(name for name in WEIGHTS if (folder / name).exists())
    net = {"name": "segformer", "kwargs": {**kwargs, "num_labels": len(names)}}
    return Described(
        folder,
        "segformer" if folder.name == UNPACKED else folder.name,
        draft,
        said,
        net,
        (weights, CONFIG, *([PIXELS] if pixels is not None else [])),
        CARD,
    )


def _classes(told: Fields) -> list[str]:
    names = told.below("id2label").told
    if not names or len(names) > 255 or sorted(map(str, names)) != sorted(str(n) for n in range(len(names))):
        told.wrong("id2label", names, "names by number from 0 on, 255 at most")
    return [str(names[str(n)]) for n in range(len(names))]


def _pixels(folder: Path) -> Fields | None:
    if not (folder / PIXELS).exists():
        return None
    return Fields(folder / PIXELS, "", read_json(inside(folder, PIXELS, str(folder))))


def _normalization(folder: Path, pixels: Fields | None, form: Form, channels: int) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    if form.normalize:
        return normalization(form.normalize)
    if pixels is None:
        raise ModelError(f"{folder} has no {PIXELS}", "this file, which says how pixels are scaled", "Say it with --normalize.")
    return {"method": "none", "cut": None}, _scaled(pixels, channels)


def _scaled(told: Fields, channels: int) -> list[dict[str, Any]]:
    """The steps that pixels go through: times a factor, minus a mean, by a deviation."""
    factor = told.finite("rescale_factor", told.value("rescale_factor", 1 / 255)) if told.value("do_rescale", True) else 1.0
    mean, deviation = (0.0,) * channels, (1.0,) * channels
    if told.value("do_normalize", True):
        mean, deviation = told.numbers("image_mean", channels, list(MEAN)), told.numbers("image_std", channels, list(STD))
    if not all(n > 0 for n in deviation):
        told.wrong("image_std", deviation, "numbers above 0")
    scale = {"gain": [factor / s for s in deviation], "offset": [-m / s for m, s in zip(mean, deviation, strict=True)], "axis": "c"}
    return [{"name": "scale_linear", "kwargs": scale}]


def _tile(told: Fields | None) -> tuple[int, ...]:
    """The size that images were given in training, where it is said."""
    size = told.value("size", None) if told and told.value("do_resize", True) else None
    sizes = (size.get("height"), size.get("width")) if isinstance(size, dict) else (size, size)
    whole = tuple(n for n in sizes if isinstance(n, int) and 32 <= n <= 4096)
    return whole if len(whole) == 2 else ()
