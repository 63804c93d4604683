"""One loss per kind of head; every term is a mean over voxels, so that weights do not depend on the crop size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn import functional as F

from napari_segsuite.types import Head

WEIGHTS: Mapping[str, float] = {"logits": 1.0, "dice": 1.0, "probability": 10.0, "vector": 1.0, "scalar": 1.0}
"""What the terms of each kind of head count; ``dice`` is the second term of logits."""


def losses(outputs: Mapping[str, Tensor], target: Mapping[str, Tensor], heads: Sequence[Head]) -> dict[str, Tensor]:
    """Compare raw network outputs with encoded labels.

    Of vectors the errors of all components are added up, of scalars (rays of a star) their mean is taken.

    Parameters
    ----------
    outputs : mapping
        Raw output of each head, (N, channels, *spatial).
    target : mapping
        What the codec's ``encode`` gives, stacked: for each head its map, of logits (N, *spatial) class ids. ``NAME_weight``, and for vectors
        ``weight``, say how much each voxel counts, (N, 1, *spatial); without them all count the same.
    heads : sequence of Head

    Returns
    -------
    dict of scalar tensors, not yet weighted (`total`)
        By the name of the head; of logits also ``NAME dice``.
    """
    result: dict[str, Tensor] = {}
    for head in heads:
        raw, truth = outputs[head.name].float(), target[head.name]
        if head.kind == "logits":
            result[head.name] = F.cross_entropy(raw, truth.long())
            result[f"{head.name} dice"] = _dice(raw.softmax(1), truth.long())
        elif head.kind == "probability":
            result[head.name] = _heat(raw.sigmoid(), truth)
        else:
            weight = target.get(f"{head.name}_weight", target.get("weight") if head.kind == "vector" else None)
            result[head.name] = _distance(raw, truth / head.unit, weight) / (head.channels if head.kind == "scalar" else 1)
    return result


def total(parts: Mapping[str, Tensor], heads: Sequence[Head]) -> Tensor:
    """Weighted sum of the parts."""
    weights = {head.name: WEIGHTS[head.kind] for head in heads} | {f"{head.name} dice": WEIGHTS["dice"] for head in heads}
    return sum((weights[name] * value for name, value in parts.items()), start=next(iter(parts.values())) * 0)


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


def _distance(found: Tensor, truth: Tensor, weight: Tensor | None) -> Tensor:
    """Smooth L1; a weight can leave the background out, and let a small object count nearly as much as a large one."""
    error = F.smooth_l1_loss(found, truth, reduction="none", beta=0.25).sum(1, keepdim=True)
    return error.mean() if weight is None else (error * weight).sum() / weight.sum().clamp(min=1e-6)
