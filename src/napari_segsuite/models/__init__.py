"""Models by name: ``load_spec`` knows all about one without torch, ``load_model`` makes it run.

A reference is the name of a built-in or classical model or of one that the user added (`models.foreign.store`), or a folder with ``model.json``.
"""

from __future__ import annotations

import difflib
import logging
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from napari_segsuite.errors import ModelError
from napari_segsuite.types import Model, ModelSpec

log = logging.getLogger(__name__)
CLASSICAL = {
    "otsu": "napari_segsuite.models.classical:Otsu",
    "kmeans": "napari_segsuite.models.classical:KMeans",
    "mixture": "napari_segsuite.models.classical:Mixture",
    "superpixels": "napari_segsuite.models.superpixels:Superpixels",
    "watershed": "napari_segsuite.models.seeded:Watershed",
    "voronoi-otsu": "napari_segsuite.models.seeded:VoronoiOtsu",
    "blobs": "napari_segsuite.models.seeded:Blobs",
    "region-growing": "napari_segsuite.models.grown:RegionGrowing",
    "edges": "napari_segsuite.models.grown:Edges",
}
"""Models without weights: name -> class."""


def list_models() -> list[ModelSpec]:
    """Describe every model that came with the install or was added; one that was added and is damaged is left out, with a warning."""
    from napari_segsuite.models.foreign.home import installed

    specs = [load_spec(name) for name in [*builtin(), *CLASSICAL]]
    for name, folder in installed().items():
        try:
            specs.append(load_spec(name))
        except ModelError as error:
            log.warning("the model in %s is left out: %s", folder, error)
    return specs


def load_spec(ref: str) -> ModelSpec:
    """Describe a model without loading torch or its weights.

    Raises
    ------
    ModelError
        There is no such model, or its description is damaged.
    """
    if ref in CLASSICAL:
        classical: Any = _class(CLASSICAL[ref])
        spec: ModelSpec = classical.spec
        return spec
    from napari_segsuite.models.folder import read_spec

    return read_spec(folder_of(ref))


def load_model(ref: str, *, device: str = "auto", batch: int = 4, flips: bool = False) -> Model:
    """Load a model, ready to predict.

    Parameters
    ----------
    ref : str
        Name or folder.
    device : str
        ``auto`` takes CUDA, then Apple's MPS, then the CPU. Several, with commas between or ``cuda:all``, share the tiles.
    batch : int
        Tiles that a GPU computes at a time; halved by itself when memory runs out.
    flips : bool
        Average over mirrored inputs.
    """
    if ref in CLASSICAL:
        model: Model = _class(CLASSICAL[ref])()
        return model
    from napari_segsuite.models.folder import load
    from napari_segsuite.models.together import Spread, devices

    models = [load(folder_of(ref), device=name, batch=batch, flips=flips) for name in devices(device)]
    return models[0] if len(models) == 1 else Spread(models)


def check_device(ref: str, device: str) -> None:
    """Find out that a device is not there before anything is read for it, though models without a network make no use of it.

    Raises
    ------
    OptionError, ModelError
        As `load_model`.
    """
    if device in ("auto", "cpu"):
        return
    from napari_segsuite.models.together import devices
    from napari_segsuite.models.torch_model import pick_device

    for name in devices(device):
        pick_device(name)


def card(ref: str) -> str:
    """The model's card in Markdown: data, licence, figures, limits; empty where it has none."""
    if ref in CLASSICAL:
        return (_class(CLASSICAL[ref]).__doc__ or "").strip()
    path = folder_of(ref) / "card.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def folder_of(ref: str) -> Path:
    """Find the folder that a name or path stands for."""
    from napari_segsuite.models.foreign.home import installed

    named = {**installed(), **builtin()}
    if ref in named:
        return named[ref]
    path = Path(ref).expanduser()
    if (path / "model.json").is_file():
        return path
    names = ", ".join([*named, *CLASSICAL])
    near = difflib.get_close_matches(ref.casefold(), [*named, *CLASSICAL], 1, 0.75)
    do = f"Did you mean {near[0]!r}?" if near else ""
    raise ModelError(f"there is no model {ref!r}", f"one of {names}, or a folder with model.json and weights.safetensors", do)


def builtin() -> dict[str, Path]:
    """The models in the package: name -> folder."""
    root = Path(str(resources.files("napari_segsuite") / "models" / "builtin"))
    return {path.parent.name: path.parent for path in sorted(root.glob("*/model.json"))}


def _class(dotted: str) -> type:
    module, name = dotted.split(":")
    found: type = getattr(import_module(module), name)
    return found
