"""The masks of a SAM: of a grid of points over a tile (Kirillov et al. 2023, section 5 and appendix B), as objects; and how a picture gets in.

A picture is enlarged until its longest side is the network's, and filled with zeros at the far ends, as transformers does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_segsuite.codecs import instances, prototypes
from napari_segsuite.codecs.instances import LEAST, Objects
from napari_segsuite.codecs.prototypes import ROOM
from napari_segsuite.errors import ModelError

SURE = 0.7
"""Masks with a lower predicted IoU are left out at once; which of the others are wanted is for the codec to say."""
OFFSET = 1.0
"""By how much the threshold of a mask's logits is moved to see how stable it is."""
BATCH, FEW = 64, 16
"""Points that are asked, and masks that are enlarged, at a time."""
OVERLAP = 0.7
"""Of two masks whose boxes have more than this in common, as intersection over union, the worse is left out."""


class Automatic(nn.Module):
    """Asks a SAM with a grid of points and keeps the masks that are sure, stable and no repetition.

    Parameters
    ----------
    network : Module
        ``SamModel`` of transformers.
    points : int
        Along each side.
    stability : float
        Least stability: the IoU of the masks at logits above and below the threshold.
    """

    def __init__(self, network: nn.Module, points: int, stability: float) -> None:
        super().__init__()
        self.network, self.points, self.stability = network, points, stability

    @property
    def side(self) -> int:
        """Of the pictures that the network takes."""
        return int(self.network.config.vision_config.image_size)  # type: ignore[union-attr, arg-type]

    def embedding(self, x: Tensor) -> Tensor:
        """What the network sees in scaled pictures (N, C, *spatial); the costly part."""
        found: Tensor = self.network.get_image_embeddings(fitted(x, self.side))  # type: ignore[operator]
        return found

    def ask(self, embedding: Tensor, points: Tensor | None, marks: Tensor | None, boxes: Tensor | None, several: bool) -> tuple[Tensor, Tensor]:
        """Logits (n, masks, h, w) and predicted IoU (n, masks) of n prompts, x before y in pixels of the network's picture."""
        answer = self.network(
            image_embeddings=embedding,
            input_points=None if points is None else points[None],
            input_labels=None if marks is None else marks[None],
            input_boxes=None if boxes is None else boxes[None],
            multimask_output=several,
        )
        return answer.pred_masks[0], answer.iou_scores[0]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Coarse logits (1, n, h, w) of the masks that stay, best first, and their predicted IoU (1, n)."""
        if len(x) != 1:
            raise ModelError(f"a SAM was given {len(x)} tiles", "one at a time")
        size = tuple(x.shape[2:])
        embedding = self.embedding(x)
        grid = points_on(self.points, inner(size, self.side), x.device)
        logits, scores, boxes = [], [], []
        for part in grid.split(BATCH):
            masks, sure = self.ask(embedding, part[:, None], torch.ones(len(part), 1, dtype=torch.long, device=x.device), None, True)
            masks, sure = masks.flatten(0, 1), sure.flatten()
            masks, sure = masks[sure > SURE], sure[sure > SURE]
            for few, theirs in zip(masks.split(FEW), sure.split(FEW), strict=True):
                stable, box = measured(enlarged(few, size, self.side))
                keep = stable > self.stability
                logits.append(few[keep])
                scores.append(theirs[keep])
                boxes.append(box[keep])
        if not logits:
            return [x.new_zeros(1, 0, 1, 1), x.new_zeros(1, 0)]
        stay = single(torch.cat(boxes), torch.cat(scores))
        return [torch.cat(logits)[stay][None], torch.cat(scores)[stay][None]]


def inner(size: Sequence[int], side: int) -> tuple[int, int]:
    """How large a picture is in the network's, whose longest side it fills.

    >>> inner((100, 200), 64), inner((64, 64), 64)
    ((32, 64), (64, 64))
    """
    scale = side / max(size)
    return int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)


def fitted(x: Tensor, side: int) -> Tensor:
    """Pictures brought to the network's size."""
    size = inner(x.shape[2:], side)
    if size != tuple(x.shape[2:]):
        x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
    return F.pad(x, (0, side - size[1], 0, side - size[0]))


def enlarged(logits: Tensor, size: Sequence[int], side: int) -> Tensor:
    """Coarse logits (n, h, w) of the network's picture on the grid of a picture of this size."""
    height, width = inner(size, side)
    whole = F.interpolate(logits[:, None].float(), (side, side), mode="bilinear", align_corners=False)[..., :height, :width]
    return F.interpolate(whole, tuple(size), mode="bilinear", align_corners=False)[:, 0]


def points_on(count: int, size: Sequence[int], device: torch.device) -> Tensor:
    """The middles of count x count equal parts of a picture, (n, 2), x before y, row by row."""
    line = torch.linspace(1 / (2 * count), 1 - 1 / (2 * count), count, device=device)
    return torch.stack([line.repeat(count) * size[1], line.repeat_interleave(count) * size[0]], -1)


def measured(masks: Tensor) -> tuple[Tensor, Tensor]:
    """How stable masks (n, h, w) of logits are, and their boxes (n, 4): first and last x0, y0, x1, y1; zeros where a mask is empty."""
    inside, outside = ((masks > level).sum((1, 2)) for level in (OFFSET, -OFFSET))
    stable = torch.where(outside > 0, inside / outside.clamp_min(1), 0.0)
    found = masks > 0
    sides = []
    for lines in (found.any(1), found.any(2)):
        n = lines.shape[1]
        first, last = lines.int().argmax(1), n - 1 - lines.flip(1).int().argmax(1)
        sides.append(torch.where(lines.any(1)[:, None], torch.stack([first, last], 1), 0))
    (x0, x1), (y0, y1) = (side.unbind(1) for side in sides)
    return stable, torch.stack([x0, y0, x1, y1], 1)


def single(boxes: Tensor, scores: Tensor) -> Tensor:
    """Which masks stay, best first: those whose box has not too much in common with a better one that stays."""
    corners = boxes.cpu().numpy().astype(np.float64)
    score = scores.float().cpu().numpy()
    kind, mix = np.ones(len(score), np.uint8), np.zeros((len(score), 0), np.float32)
    stay = prototypes.suppressed(prototypes.Boxes(corners, score, kind, mix), OVERLAP)
    return torch.from_numpy(stay).to(scores.device)


def read(told: Mapping[str, Any], answers: Sequence[Tensor], size: Sequence[int], shape: Sequence[int]) -> dict[str, Any]:
    """What a network answered, as ``objects``: one list per tile.

    Parameters
    ----------
    told : mapping
        ``side`` of the network's pictures; ``longest``: masks that reach farther from their middle are no objects but what is around them.
    answers : sequence of Tensor
        See `Automatic`.
    size, shape : 2 ints
        Of the tile, twice.
    """
    del size
    if not all(bool(answer.isfinite().all()) for answer in answers):
        raise ModelError("the network's answer is not finite", do="Try another normalisation.")
    logits, scores = answers
    return {"objects": [_objects(*pair, told["longest"], shape, told["side"]) for pair in zip(logits, scores, strict=True)]}


def _objects(logits: Tensor, scores: Tensor, longest: int, shape: Sequence[int], side: int) -> Objects:
    owner, voxel, value, room = [], [], [], ROOM * shape[0] * shape[1]
    sure = scores.float().cpu().numpy()
    for k, coarse in enumerate(logits):
        mask = enlarged(coarse[None], shape, side)[0].sigmoid()
        where = (mask > 0.5).nonzero()
        if not len(where) or bool(((where - where.float().mean(0)).abs() > longest).any()):
            continue
        those = mask >= (LEAST - 0.5) / 255
        places = those.nonzero().cpu().numpy()
        room -= len(places)
        if room < 0:  # the worst of more are left out
            break
        owner.append(np.full(len(places), k))
        voxel.append(places)
        value.append(mask[those].cpu().numpy())
    if not owner:
        return instances.none(shape)
    kinds = np.ones(len(sure), np.uint8)
    return instances.listed(shape, sure, kinds, np.concatenate(owner), np.concatenate(voxel), np.concatenate(value))
