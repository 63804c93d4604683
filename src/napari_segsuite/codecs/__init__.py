"""Representations in two directions: labels to target maps, maps to a segmentation."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

NAMES = ("semantic", "centers", "flows", "boundaries", "stars", "objects")
DIRECTED = {"stars": "rays", "objects": "whole objects"}
"""Codecs of what a mirror, or a slice, has otherwise or of what has no mean: no mirrored averaging, and no volumes with a model for slices."""


def codec(name: str) -> ModuleType:
    """Load a codec by its name: a module with ``heads``, ``encode``, ``reach`` and ``assign``."""
    if name not in NAMES:
        from napari_segsuite.errors import ModelError

        raise ModelError(f"there is no codec {name!r}", f"one of {', '.join(NAMES)}")
    return import_module(f"napari_segsuite.codecs.{name}")
