"""A folder as transformers keeps a network: ``config.json``, ``preprocessor_config.json`` and weights; what all kinds have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_segsuite.errors import ModelError
from napari_segsuite.models.foreign.archive import inside
from napari_segsuite.models.foreign.fields import Fields, read_json
from napari_segsuite.models.foreign.form import Form, normalization
from napari_segsuite.models.foreign.segformer_net import CONFIG
from napari_segsuite.models.foreign.sources import UNPACKED

PIXELS, CARD = "preprocessor_config.json", "README.md"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The first that is there is taken."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, which transformers takes where nothing is said."""


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is a checkpoint of transformers."""
    return (folder / CONFIG).is_file() and any((folder / name).exists() for name in WEIGHTS)


def is_of(folder: Path, network: str) -> bool:
    """Whether a folder is a checkpoint of a network, by its name in transformers."""
    return is_checkpoint(folder) and config_of(folder).value("architectures", None) == [network]


def config_of(folder: Path) -> Fields:
    """What ``config.json`` says."""
    return Fields(folder / CONFIG, "", read_json(inside(folder, CONFIG, str(folder))))


def files_of(folder: Path) -> tuple[str, ...]:
    """The files that belong to the network, its weights first."""
    weights = next(name for name in WEIGHTS if (folder / name).exists())
    return (weights, CONFIG, *([PIXELS] if (folder / PIXELS).exists() else []))


def name_of(folder: Path, usual: str) -> str:
    """What to call the model: as its folder, unless that is only what an archive was unpacked into."""
    return usual if folder.name == UNPACKED else folder.name


def names_of(told: Fields) -> list[str]:
    """The classes that ``config.json`` names, in the network's order."""
    names = told.below("id2label").told
    if not names or len(names) > 255 or sorted(map(str, names)) != sorted(str(n) for n in range(len(names))):
        told.wrong("id2label", names, "names by number from 0 on, 255 at most")
    return [str(names[str(n)]) for n in range(len(names))]


def pixels_of(folder: Path) -> Fields | None:
    """What ``preprocessor_config.json`` says, where there is one."""
    if not (folder / PIXELS).exists():
        return None
    return Fields(folder / PIXELS, "", read_json(inside(folder, PIXELS, str(folder))))


def normalization_of(folder: Path, pixels: Fields | None, form: Form, channels: int) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """How the engine normalises an image, and the steps on tiles that follow: as the user says, or else as the folder does."""
    if form.normalize:
        return normalization(form.normalize)
    if pixels is None:
        raise ModelError(f"{folder} has no {PIXELS}", "this file, which says how pixels are scaled", "Say it with --normalize.")
    return {"method": "none", "cut": None}, scaled(pixels, channels)


def scaled(told: Fields, channels: int) -> list[dict[str, Any]]:
    """The steps that pixels go through: times a factor, minus a mean, by a deviation."""
    factor = told.finite("rescale_factor", told.value("rescale_factor", 1 / 255)) if told.value("do_rescale", True) else 1.0
    mean, deviation = (0.0,) * channels, (1.0,) * channels
    if told.value("do_normalize", True):
        mean, deviation = told.numbers("image_mean", channels, list(MEAN)), told.numbers("image_std", channels, list(STD))
    if not all(n > 0 for n in deviation):
        told.wrong("image_std", deviation, "numbers above 0")
    scale = {"gain": [factor / s for s in deviation], "offset": [-m / s for m, s in zip(mean, deviation, strict=True)], "axis": "c"}
    return [{"name": "scale_linear", "kwargs": scale}]


def tile_of(told: Fields | None) -> tuple[int, ...]:
    """The size that images were given in training, where it is said."""
    size = told.value("size", None) if told and told.value("do_resize", True) else None
    sizes = (size.get("height"), size.get("width")) if isinstance(size, dict) else (size, size)
    whole = tuple(n for n in sizes if isinstance(n, int) and 32 <= n <= 4096)
    return whole if len(whole) == 2 else ()
