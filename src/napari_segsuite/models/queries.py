"""Networks that answer with queries, each with logits of its class and of its mask, as Mask2Former does: to objects and a map of stuff.

As in the paper (Cheng et al. 2022, arXiv 2112.01527): a query of a thing is an object, as sure as its class is probable times the mean probability
of its mask where that is above a half; stuff is the sum over all queries of the class's probability times the mask's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_segsuite.codecs import instances
from napari_segsuite.codecs.instances import LEAST, Objects
from napari_segsuite.codecs.prototypes import ROOM, SURE
from napari_segsuite.errors import ModelError

TINY = 1e-12


def read(told: Mapping[str, Any], answers: Sequence[Tensor], size: Sequence[int], shape: Sequence[int]) -> dict[str, Any]:
    """What a network answered, as ``objects`` (one list per tile) and ``semantic`` (N, stuff + 1, *spatial).

    Parameters
    ----------
    told : mapping
        ``kinds`` (the class id of each class of the network, 0 where it is not wanted) and ``stuff`` (how many of the ids are stuff, from 1 on).
    answers : sequence of Tensor
        Logits of classes (N, queries, classes + 1), the last of none, and of masks (N, queries, height, width).
    size, shape : 2 ints
        Of the network's input and of the tile, which may be smaller.

    Raises
    ------
    ModelError
        The answers have other shapes, or are not finite.
    """
    check([tuple(answer.shape) for answer in answers], told)
    if not all(bool(answer.isfinite().all()) for answer in answers):
        raise ModelError("the network's answer is not finite", do="Try another normalisation.")
    kinds, objects, maps = torch.tensor(told["kinds"], device=answers[0].device), [], []
    for logits, coarse in zip(*(answer.float() for answer in answers), strict=True):
        probability = logits.softmax(-1)[:, :-1]
        masks = F.interpolate(coarse[None], tuple(size), mode="bilinear", align_corners=False)[0].sigmoid()
        objects.append(_objects(probability, masks, kinds, told["stuff"], shape))
        if told["stuff"]:
            maps.append(_semantic(probability, masks[:, : shape[0], : shape[1]], kinds, told["stuff"]))
    return {"objects": objects, **({"semantic": torch.stack(maps)} if maps else {})}


def _objects(probability: Tensor, masks: Tensor, kinds: Tensor, stuff: int, shape: Sequence[int]) -> Objects:
    """The queries whose most probable class is a thing."""
    best, which = probability.max(1)
    score = best * mean_inside(masks)
    kind = kinds[which]
    those = ((kind > stuff) & (score >= SURE)).nonzero()[:, 0]
    those = those[score[those].argsort(descending=True, stable=True)]
    seen = masks[those, : shape[0], : shape[1]]
    listed = seen >= (LEAST - 0.5) / 255
    room = int((listed.sum((1, 2)).cumsum(0) <= ROOM * shape[0] * shape[1]).sum())  # the worst of more are left out
    seen, listed, those = seen[:room], listed[:room], those[:room]
    where = listed.nonzero().cpu().numpy()
    value = seen[listed].cpu().numpy()
    return instances.listed(shape, score[those].cpu().numpy(), kind[those].cpu().numpy().astype(np.uint8), where[:, 0], where[:, 1:], value)


def mean_inside(masks: Tensor) -> Tensor:
    """Mean probability of each mask where it is above a half; 0 where it is nowhere.

    >>> mean_inside(torch.tensor([[[0.5, 0.75, 1.0]], [[0.0, 0.25, 0.5]]]))
    tensor([0.8750, 0.0000])
    """
    inside = masks > 0.5
    return (masks * inside).sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)


def _semantic(probability: Tensor, masks: Tensor, kinds: Tensor, stuff: int) -> Tensor:
    """Stuff, and before it all else: more than a half of what that and the best stuff have together where it is the most probable."""
    claimed = torch.einsum("qc,qyx->cyx", probability, masks)
    wanted = torch.stack([claimed[kinds == k].sum(0) for k in range(1, stuff + 1)])
    other = claimed[(kinds == 0) | (kinds > stuff)]
    rest = other.amax(0) if len(other) else torch.zeros_like(wanted[0])
    ground = rest / (rest + wanted.amax(0)).clamp_min(TINY)
    return torch.cat([ground[None], wanted / claimed.sum(0).clamp_min(1)])


def check(shapes: Sequence[tuple[int, ...]], told: Mapping[str, Any]) -> None:
    """Refuse answers of other shapes.

    Raises
    ------
    ModelError
    """
    fits = len(shapes) == 2 and len(shapes[0]) == 3 and len(shapes[1]) == 4 and shapes[0][:2] == shapes[1][:2]
    if not fits or shapes[0][2] != len(told["kinds"]) + 1 or 0 in shapes[1]:
        needed = f"(n, queries, {len(told['kinds']) + 1}) for the classes and none, and (n, queries, height, width)"
        raise ModelError(f"the network answers with tensors of shape {', '.join(map(str, shapes))}", needed)
