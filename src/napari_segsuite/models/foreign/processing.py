"""What packages want done to the pixels before their network and to its answer after it, step by step as BioImage.IO defines it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_segsuite.errors import ModelError

Steps = Sequence[Mapping[str, Any]]
Others = Mapping[str, tuple[Tensor, str]]
"""Tensors that a step may refer to, with their axes, by name."""


def apply(steps: Steps, x: Tensor, axes: str, others: Others | None = None) -> Tensor:
    """Do all the steps.

    Parameters
    ----------
    steps : sequence of mapping
        Each with ``name`` and ``kwargs``.
    x : Tensor
        Of real numbers, with the axes `axes`.
    axes : str
        One letter each.
    others : mapping, optional
        What ``reference_tensor`` may name.
    """
    for step in steps:
        x = _STEPS[step["name"]](x, axes, step.get("kwargs", {}), others or {})
    return x


def _binarize(x: Tensor, axes: str, kwargs: Mapping[str, Any], _: Others) -> Tensor:
    return (x > _along(x, axes, kwargs, "threshold")).to(x.dtype)


def _clip(x: Tensor, axes: str, kwargs: Mapping[str, Any], _: Others) -> Tensor:
    for side, bound in (("min", torch.maximum), ("max", torch.minimum)):
        if kwargs.get(side) is not None:
            x = bound(x, _along(x, axes, kwargs, side))
        elif kwargs.get(f"{side}_percentile") is not None:
            x = bound(x, _quantile(x, axes, kwargs, kwargs[f"{side}_percentile"], "inverted_cdf"))
    return x


def _ensure_dtype(x: Tensor, _: str, kwargs: Mapping[str, Any], __: Others) -> Tensor:
    kind = np.dtype(str(kwargs.get("dtype", "float32"))).kind
    return x if kind == "f" else x.trunc() if kind in "iu" else (x != 0).to(x.dtype)


def _scale_linear(x: Tensor, axes: str, kwargs: Mapping[str, Any], _: Others) -> Tensor:
    return x * _along(x, axes, kwargs, "gain", 1.0) + _along(x, axes, kwargs, "offset", 0.0)


def _sigmoid(x: Tensor, *_: Any) -> Tensor:
    return x.sigmoid()


def _softmax(x: Tensor, axes: str, kwargs: Mapping[str, Any], _: Others) -> Tensor:
    return x.softmax(axes.index(kwargs.get("axis") or "c"))


def _fixed(x: Tensor, axes: str, kwargs: Mapping[str, Any], _: Others) -> Tensor:
    return (x - _along(x, axes, kwargs, "mean")) / (_along(x, axes, kwargs, "std") + _eps(kwargs))


def _zero_mean(x: Tensor, axes: str, kwargs: Mapping[str, Any], others: Others) -> Tensor:
    if kwargs.get("mean") is not None:
        return _fixed(x, axes, kwargs, others)
    mean, std = _moments(x, axes, kwargs)
    return (x - mean) / (std + _eps(kwargs))


def _scale_range(x: Tensor, axes: str, kwargs: Mapping[str, Any], others: Others) -> Tensor:
    told, told_axes = _reference(x, axes, kwargs, others)
    low = _quantile(told, told_axes, kwargs, kwargs.get("min_percentile", 0.0), "linear")
    high = _quantile(told, told_axes, kwargs, kwargs.get("max_percentile", 100.0), "linear")
    return (x - low) / (high - low + _eps(kwargs))


def _scale_mean_variance(x: Tensor, axes: str, kwargs: Mapping[str, Any], others: Others) -> Tensor:
    eps = _eps(kwargs)
    mean, std = _moments(x, axes, kwargs)
    to_mean, to_std = _moments(*_reference(x, axes, kwargs, others), kwargs)
    return (x - mean) / (std + eps) * (to_std + eps) + to_mean


_STEPS: Mapping[str, Callable[..., Tensor]] = {
    "binarize": _binarize,
    "clip": _clip,
    "ensure_dtype": _ensure_dtype,
    "fixed_zero_mean_unit_variance": _fixed,
    "scale_linear": _scale_linear,
    "scale_mean_variance": _scale_mean_variance,
    "scale_range": _scale_range,
    "sigmoid": _sigmoid,
    "softmax": _softmax,
    "zero_mean_unit_variance": _zero_mean,
}


def _along(x: Tensor, axes: str, kwargs: Mapping[str, Any], key: str, default: float | None = None) -> Tensor:
    """A number, or one per place along an axis."""
    values = kwargs.get(key, default)
    if not isinstance(values, list):
        return x.new_tensor(values)
    axes_told = str(kwargs.get("axes") or "")
    axis = str(kwargs.get("axis") or (axes_told if len(axes_told) == 1 else "c"))
    at = axes.index(axis) if axis in axes else -1
    if at < 0 or (len(values) > 1 and len(values) != x.shape[at]):
        raise ModelError(
            f"{key} has {len(values)} numbers for axis {axis!r} of a tensor of axes {axes!r} and shape {tuple(x.shape)}", "one per place"
        )
    return x.new_tensor(values).reshape([-1 if i == at else 1 for i in range(x.ndim)])


def _eps(kwargs: Mapping[str, Any]) -> float:
    return float(kwargs.get("eps", 1e-6))


def _over(x: Tensor, axes: str, kwargs: Mapping[str, Any]) -> tuple[int, ...]:
    """The axes that a statistic is taken over."""
    return tuple(i for i, a in enumerate(axes) if kwargs.get("axes") is None or a in kwargs["axes"])


def _moments(x: Tensor, axes: str, kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    over, exact = _over(x, axes, kwargs), x.double()
    return exact.mean(over, keepdim=True).to(x.dtype), exact.std(over, correction=0, keepdim=True).to(x.dtype)


def _quantile(x: Tensor, axes: str, kwargs: Mapping[str, Any], percent: float, method: Any) -> Tensor:
    return x.new_tensor(np.quantile(x.cpu().numpy(), percent / 100, axis=_over(x, axes, kwargs), keepdims=True, method=method))


def _reference(x: Tensor, axes: str, kwargs: Mapping[str, Any], others: Others) -> tuple[Tensor, str]:
    name = kwargs.get("reference_tensor")
    if name is None:
        return x, axes
    if name not in others:
        raise ModelError(f"a step refers to the tensor {name!r}", f"one of {', '.join(others) or 'none'}")
    return others[name]
