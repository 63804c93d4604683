"""Training: of the models that come with the install (recipes), and of models for a user's own images (`train`)."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_segsuite.engine.progress import Progress
    from napari_segsuite.training.job import Trained as Trained


def train(
    images: str | PathLike[str],
    labels: str | PathLike[str],
    out: str | PathLike[str],
    *,
    overwrite: bool = False,
    show: Callable[[Progress], object] | None = None,
    **options: Any,
) -> Trained:
    """Train a model for images of one's own.

    Parameters
    ----------
    images, labels : str or path
        A folder of images and a folder of label files of the same names (with or without ``_labels``), or one file each; 2D or 3D, with any
        number of channels and time points. They are held in memory.
    out : str or path
        The model's folder. It looks like a model only when all is done; the same call again goes on from the last checkpoint.
    overwrite : bool
        Replace another training or model there.
    show : callable, optional
        Called with the `Progress` after every step.
    **options
        Fields of `training.options.TrainOptions`: ``task``, ``steps``, ...

    Returns
    -------
    Trained
        With the ``model``'s folder, what was ``held_back``, and the ``figures`` there.

    Raises
    ------
    SegsuiteError
        What was found, what is needed, what to do.
    """
    from napari_segsuite.engine.progress import drained
    from napari_segsuite.training.job import run
    from napari_segsuite.training.options import TrainOptions

    return drained(run(TrainOptions.from_json({"images": images, "labels": labels, **options}), Path(out), overwrite=overwrite), show)


def __getattr__(name: str) -> Any:
    if name != "Trained":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from napari_segsuite.training.job import Trained

    return Trained
