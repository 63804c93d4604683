"""How good a segmentation is: one sparse, additive overlap table, and every score from it. Needs numpy, and scipy below IoU 0.5."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_segsuite.metrics.objects import Matching as Matching
    from napari_segsuite.metrics.objects import matching as matching
    from napari_segsuite.metrics.objects import matching_by_class as matching_by_class
    from napari_segsuite.metrics.scores import THRESHOLDS as THRESHOLDS
    from napari_segsuite.metrics.scores import ClassScores as ClassScores
    from napari_segsuite.metrics.scores import Scores as Scores
    from napari_segsuite.metrics.scores import evaluate as evaluate
    from napari_segsuite.metrics.table import Overlap as Overlap
    from napari_segsuite.metrics.table import overlap as overlap
    from napari_segsuite.metrics.table import overlap_blocks as overlap_blocks
    from napari_segsuite.metrics.voxels import Partition as Partition
    from napari_segsuite.metrics.voxels import Region as Region
    from napari_segsuite.metrics.voxels import foreground as foreground
    from napari_segsuite.metrics.voxels import partition as partition
    from napari_segsuite.metrics.voxels import regions_by_class as regions_by_class

_HOME = {
    "Matching": "objects", "matching": "objects", "matching_by_class": "objects",
    "THRESHOLDS": "scores", "ClassScores": "scores", "Scores": "scores", "evaluate": "scores",
    "Overlap": "table", "overlap": "table", "overlap_blocks": "table",
    "Partition": "voxels", "Region": "voxels", "foreground": "voxels", "partition": "voxels", "regions_by_class": "voxels",
}  # fmt: skip

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
