"""Semantic, instance and panoptic segmentation of 2D and 3D images, in napari and without it.

The public names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_segsuite._version import __version__

if TYPE_CHECKING:
    from napari_segsuite.engine import segment
    from napari_segsuite.engine.plan import Options, Plan, resolve
    from napari_segsuite.engine.run import run
    from napari_segsuite.errors import SegsuiteError
    from napari_segsuite.io import list_scenes, read, read_segmentation, write
    from napari_segsuite.metrics import evaluate
    from napari_segsuite.models import list_models, load_model, load_spec
    from napari_segsuite.types import Class, Image, Segmentation

_HOME = {
    "segment": "engine", "Options": "engine.plan", "Plan": "engine.plan", "resolve": "engine.plan", "run": "engine.run",
    "SegsuiteError": "errors", "list_scenes": "io", "read": "io", "read_segmentation": "io", "write": "io", "evaluate": "metrics",
    "list_models": "models", "load_model": "models", "load_spec": "models",
    "Class": "types", "Image": "types", "Segmentation": "types",
}  # fmt: skip

__all__ = [
    "Class", "Image", "Options", "Plan", "Segmentation", "SegsuiteError", "__version__", "evaluate", "list_models", "list_scenes", "load_model",
    "load_spec", "read", "read_segmentation", "resolve", "run", "segment", "write",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
