"""Mask R-CNN of torchvision (BSD licence), without weights, for planes of any size and number of channels; answers with whole objects.

With classes of stuff it has a second head on the finest level of its feature pyramid, as Panoptic FPN has (Kirillov et al. 2019, arXiv 1901.02446).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_segsuite.codecs import instances
from napari_segsuite.codecs.instances import Objects
from napari_segsuite.codecs.paste import pasted

ENCODERS = ("resnet18", "resnet34", "resnet50")
LEVELS = 5
"""Levels of the pyramid, each with anchors of twice the size of those of the one before."""
SMALLEST = 4
"""Objects with fewer pixels are not learnt: a box needs some."""
MOST = 1000
"""Objects per tile: a tile full of small nuclei has hundreds."""


class Detector(nn.Module):
    """Mask R-CNN (He et al. 2017, arXiv 1703.06870).

    Parameters
    ----------
    parts : Module
        torchvision's ``MaskRCNN``, of which the backbone, the region proposals and the heads are taken: it would resize its images.
    kinds : sequence of int
        Class ids of what is counted.
    heads : mapping of str to int
        ``semantic``, with one channel per class of stuff and one for the rest; or nothing.

    Notes
    -----
    In training, ``net(x)`` gives nothing, and only measures the statistics of the norms; what is learnt from comes from `losses`. Otherwise a
    dict of ``objects`` (one `instances.Objects` per tile) and of raw head outputs.
    """

    dims, multiple, context, core, seen = 2, (32, 32), (128, 128), (768, 768), 32
    memory_format = torch.contiguous_format

    def __init__(self, parts: Any, kinds: Sequence[int], heads: Mapping[str, int]) -> None:
        super().__init__()
        self.kinds = tuple(kinds)
        self.backbone, self.rpn, self.roi_heads = parts.backbone, parts.rpn, parts.roi_heads
        self.heads = nn.ModuleDict({name: nn.Conv2d(self.backbone.out_channels, n, 1) for name, n in heads.items()})

    def forward(self, x: Tensor) -> dict[str, Any]:
        features = self.backbone(x)
        if self.training:
            return {}
        found, _ = self._detect(x, features)
        return {**self._maps(features), "objects": [self._objects(one, (int(x.shape[2]), int(x.shape[3]))) for one in found]}

    def losses(self, x: Tensor, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The terms of the loss, already weighted.

        Parameters
        ----------
        x : (N, C, *spatial)
        target : mapping
            What ``codecs.objects.encode`` gives, stacked.
        """
        features = self.backbone(x)
        _, parts = self._detect(x, features, [self._truth(*pair) for pair in zip(target["objects"], target["kind"], strict=True)])
        for name, raw in self._maps(features).items():
            ground = target["kind"].long() * (target["kind"] < min(self.kinds, default=256))
            parts[name] = F.cross_entropy(raw, ground)
        return parts

    def _detect(self, x: Tensor, features: dict[str, Tensor], truth: list[dict[str, Tensor]] | None = None) -> tuple[list[Any], dict[str, Tensor]]:
        images = import_module("torchvision.models.detection.image_list").ImageList(x, [(int(x.shape[2]), int(x.shape[3]))] * len(x))
        proposals, first = self.rpn(images, features, truth)
        found, second = self.roi_heads(features, proposals, images.image_sizes, truth)
        return found, {**first, **second}

    def _maps(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        finest = features["0"]
        raw = {name: head(finest) for name, head in self.heads.items()}
        return {name: F.interpolate(value, scale_factor=4.0, mode="bilinear", align_corners=False) for name, value in raw.items()}

    def _truth(self, objects: Tensor, kind: Tensor) -> dict[str, Tensor]:
        """Boxes, classes and masks of one crop."""
        ids, sizes = objects.unique(return_counts=True)
        ids = ids[(ids > 0) & (sizes >= SMALLEST)]
        masks = objects[None] == ids[:, None, None]
        boxes = torch.zeros((len(ids), 4), device=objects.device)
        labels = torch.zeros(len(ids), dtype=torch.int64, device=objects.device)
        for k, mask in enumerate(masks):
            y, x = mask.nonzero(as_tuple=True)
            boxes[k] = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])
            labels[k] = 1 + self.kinds.index(int(kind[y[0], x[0]]))
        return {"boxes": boxes, "labels": labels, "masks": masks.to(torch.uint8)}

    def _objects(self, found: Mapping[str, Tensor], shape: tuple[int, int]) -> Objects:
        masks, boxes, scores, labels = (found[name].float().cpu().numpy() for name in ("masks", "boxes", "scores", "labels"))
        owner, voxel, value = pasted(masks[:, 0], boxes, shape)
        kind = np.array([0, *self.kinds], np.uint8)[labels.astype(np.intp)]
        return instances.listed(shape, scores, kind, owner, voxel, value)


def maskrcnn(
    library: Any, *, dims: int, in_channels: int, heads: Mapping[str, int], encoder: str, width: int, layers: int, kinds: Sequence[int], smallest: int
) -> Detector:
    """Build Mask R-CNN on a feature pyramid, with norms that learn, since no weights are there to keep.

    Parameters
    ----------
    library : module
        ``torchvision.models.detection``.
    width, layers : int
        Of the convolutions that make the masks, which take most of the time; the paper has 4 of 256.
    kinds : list of int
        Class ids of what is counted.
    smallest : int
        Side of the smallest anchors; there are those of 1, 2, 4, 8, 16 times that, at strides of 4 to 64 pixels.
    """
    whole = [in_channels, smallest, width // 2, layers, *kinds, *heads.values()]
    if dims != 2 or encoder not in ENCODERS or not kinds or set(heads) - {"semantic"} or not all(type(n) is int and 1 <= n <= 255 for n in whole):
        raise ValueError(f"a Mask R-CNN of {dims} dims, {in_channels} channels, {encoder!r}, classes {kinds}, anchors {smallest} cannot be built")
    backbone = library.backbone_utils.resnet_fpn_backbone(backbone_name=encoder, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5)
    first = backbone.body.conv1
    if in_channels != first.in_channels:
        backbone.body.conv1 = nn.Conv2d(in_channels, first.out_channels, 7, 2, 3, bias=False)
    sides = tuple((smallest * 2**k,) for k in range(LEVELS))
    anchors = library.anchor_utils.AnchorGenerator(sides, ((0.5, 1.0, 2.0),) * LEVELS)
    masks = library.mask_rcnn.MaskRCNNHeads(backbone.out_channels, (width,) * layers, 1)
    parts = library.MaskRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=500,
        rpn_pre_nms_top_n_test=2 * MOST,
        rpn_post_nms_top_n_test=2 * MOST,
        box_batch_size_per_image=128,
        box_predictor=library.faster_rcnn.FastRCNNPredictor(1024, 1 + len(kinds)),
        mask_head=masks,
        mask_predictor=library.mask_rcnn.MaskRCNNPredictor(width, width, 1 + len(kinds)),
        box_detections_per_img=MOST,
    )
    return Detector(cast("nn.Module", parts), kinds, heads)
