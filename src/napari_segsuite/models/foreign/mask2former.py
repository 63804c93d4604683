"""Mask2Former (Cheng et al. 2022, arXiv 2112.01527) as Hugging Face's transformers keeps it: a folder with ``config.json`` and weights."""

from __future__ import annotations

from pathlib import Path

from napari_segsuite.models.foreign import pretrained, universal
from napari_segsuite.models.foreign.described import Described
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.mask2former_net import NETWORK, OTHER, WHOLE, arguments
from napari_segsuite.models.foreign.swin_net import taken


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is a checkpoint of Mask2Former."""
    return pretrained.is_of(folder, NETWORK)


def read(folder: Path, form: Form) -> Described:
    """Read a checkpoint (`universal.described`)."""
    kwargs = arguments(taken(pretrained.config_of(folder), {**WHOLE, **OTHER}))
    return universal.described(folder, form, "Mask2Former", kwargs)
