"""Weights in files of PyTorch, which are pickles: read as numbers only, whatever else is in them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_segsuite.errors import ModelError
from napari_segsuite.models.foreign.fields import line

NESTED = ("state_dict", "model")
"""Where in a file the weights may be, beside at its top."""


def state(path: Path) -> dict[str, Tensor]:
    """The weights in a file of PyTorch, read as numbers only.

    Raises
    ------
    ModelError
        It holds objects that are no numbers, or no weights.
    """
    return weights_in(read_numbers(path), path)


def read_numbers(path: Path) -> Any:
    """What ``torch.save`` wrote, as long as it is tensors and plain values.

    Raises
    ------
    ModelError
    """
    try:
        return torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except Exception as error:
        # What torch says of this advises to switch the protection off.
        why = "it is damaged, or holds more than numbers" if "weights_only" in str(error) else line(error)
        raise ModelError(f"{path} cannot be read as numbers only: {why}", "a state dict, as torch.save(network.state_dict(), path)") from error


def weights_in(told: Any, path: Path, places: tuple[str, ...] = NESTED) -> dict[str, Tensor]:
    """The weights in what was read, which may lie below one of `places`; without what parallel training puts before their names.

    Raises
    ------
    ModelError
    """
    inner = next((told[key] for key in places if isinstance(told, Mapping) and isinstance(told.get(key), Mapping)), told)
    if not isinstance(inner, Mapping) or not inner or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in inner.items()):
        keys = ", ".join(map(str, list(inner)[:5])) if isinstance(inner, Mapping) else type(inner).__name__
        raise ModelError(f"{path} holds {keys or 'nothing'}", "weights by their names")
    prefix = "module." if all(key.startswith("module.") for key in inner) else ""
    return {key.removeprefix(prefix): value for key, value in inner.items()}


def checkpoint(path: Path) -> Mapping[str, Any]:
    """What nnU-Net stored of a training: tensors, plain values, and single numbers of numpy; nothing else is read.

    Raises
    ------
    ModelError
    """
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    allowed = [np.dtype, *kinds, *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core"))]
    with torch.serialization.safe_globals(allowed):  # type: ignore[arg-type]
        told = read_numbers(path)
    if not isinstance(told, Mapping):
        raise ModelError(f"{path} holds {type(told).__name__}", "a checkpoint of nnU-Net v2")
    return told
