"""One loss per head; every term is a mean over voxels, so that weights do not depend on the crop size."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

WEIGHTS: Mapping[str, float] = {"semantic": 1.0, "dice": 1.0, "center": 10.0, "offset": 1.0}


def losses(outputs: Mapping[str, Tensor], target: Mapping[str, Tensor], offset_unit: float) -> dict[str, Tensor]:
    """Compare raw network outputs with encoded labels.

    Parameters
    ----------
    outputs : mapping
        ``semantic`` (N, C, *spatial) logits and, where the codec has them, ``center`` (N, 1, *spatial) logits and
        ``offset`` (N, d, *spatial) in units of `offset_unit` voxels.
    target : mapping
        What the codec's ``encode`` gives, stacked.

    Returns
    -------
    dict of scalar tensors, not yet weighted by `WEIGHTS`
    """
    logits, truth = outputs["semantic"].float(), target["semantic"].long()
    result = {"semantic": F.cross_entropy(logits, truth), "dice": _dice(logits.softmax(1), truth)}
    if "center" in outputs:
        result["center"] = _heat(outputs["center"].float().sigmoid(), target["center"])
    if "offset" in outputs:
        result["offset"] = _offset(outputs["offset"].float(), target["offset"] / offset_unit, target["weight"])
    return result


def total(parts: Mapping[str, Tensor]) -> Tensor:
    """Weighted sum of the parts."""
    return sum((WEIGHTS[name] * value for name, value in parts.items()), start=next(iter(parts.values())) * 0)


def _dice(probability: Tensor, truth: Tensor) -> Tensor:
    """1 - mean soft Dice over the classes without background, pooled over the batch."""
    onehot = F.one_hot(truth, probability.shape[1]).movedim(-1, 1).to(probability.dtype)
    over = [0, *range(2, probability.ndim)]
    both = (probability * onehot).sum(over)[1:]
    either = (probability + onehot).sum(over)[1:]
    return 1 - ((2 * both + 1) / (either + 1)).mean()


def _heat(probability: Tensor, heat: Tensor) -> Tensor:
    """Squared error in which a peak counts 21 times as much as the empty background."""
    return ((1 + 20 * heat) * (probability - heat) ** 2).mean()


def _offset(offset: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Smooth L1 over object voxels; `weight` lets a small object count nearly as much as a large one."""
    error = F.smooth_l1_loss(offset, truth, reduction="none", beta=0.25).sum(1, keepdim=True)
    return (error * weight).sum() / weight.sum().clamp(min=1e-6)
