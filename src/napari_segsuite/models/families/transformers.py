"""Mask2Former of transformers (Apache licence), without weights, for planes of any size and number of channels; answers with queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from napari_segsuite.models import queries
from napari_segsuite.models.families.headed import certain

ENCODERS: Mapping[str, Mapping[str, Any]] = {
    "resnet18": {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]},
    "resnet34": {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512], "depths": [3, 4, 6, 3]},
    "resnet50": {"layer_type": "bottleneck", "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3]},
}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
HEADS = 8
"""Of every attention."""
POINTS = 4096
"""Of a mask, at which it is compared with the true one; the paper has 12544, for crops of 1024 pixels."""
SMALLEST = 4
"""Objects with fewer pixels are not learnt, as by Mask R-CNN here."""


class Universal(nn.Module):
    """Mask2Former (Cheng et al. 2022, arXiv 2112.01527).

    Parameters
    ----------
    network : Module
        transformers' ``Mask2FormerForUniversalSegmentation``.
    kinds : sequence of int
        Class ids of what is counted.
    stuff : int
        How many classes of stuff there are, whose ids are 1 and on. Where there are any, what has no class is one more class of the network.

    Notes
    -----
    In training, ``net(x)`` gives nothing, and only measures the statistics of the norms; what is learnt from comes from `losses`. Otherwise a dict
    of ``objects`` (one `instances.Objects` per tile) and of activated maps, as of such networks that others trained (`queries.read`).

    Queries look at a whole tile, and learn where in it they look: it is best no larger than the crops that they were trained on.
    """

    dims, multiple, context, core, seen = 2, (32, 32), (64, 64), (128, 128), 8
    memory_format = torch.contiguous_format

    def __init__(self, network: Any, kinds: Sequence[int], stuff: int) -> None:
        super().__init__()
        self.network = network
        self.told: Mapping[str, Any] = {"kinds": [*range(1 + stuff if stuff else 0), *kinds], "stuff": stuff}
        certain(self)

    @staticmethod
    def activation(head: object, maps: Tensor) -> Tensor:
        """Maps are probabilities already."""
        del head
        return maps

    def forward(self, x: Tensor) -> dict[str, Any]:
        if self.training:
            self.network.model.pixel_level_module.encoder(x)
            return {}
        told, shape = self.network(x), (int(x.shape[2]), int(x.shape[3]))
        return queries.read(self.told, [told.class_queries_logits, told.masks_queries_logits], shape, shape)

    def losses(self, x: Tensor, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The terms of the loss of the last layer and of those before it, already weighted.

        Parameters
        ----------
        x : (N, C, *spatial)
        target : mapping
            What ``encode`` of `codecs.objects` or `codecs.semantic` gives, stacked.
        """
        told = self.network(x, output_auxiliary_logits=True)
        kind = target["kind"] if "kind" in target else target["semantic"]
        objects = target.get("objects", torch.zeros_like(kind, dtype=torch.int32))
        truth = [self._truth(*pair) for pair in zip(objects, kind, strict=True)]
        with torch.autocast(x.device.type, enabled=False):  # the matching is done by scipy, which knows no half precision
            parts = self.network.get_loss_dict(
                masks_queries_logits=told.masks_queries_logits.float(),
                class_queries_logits=told.class_queries_logits.float(),
                mask_labels=[masks for masks, _ in truth],
                class_labels=[classes for _, classes in truth],
                auxiliary_predictions=[{name: value.float() for name, value in layer.items()} for layer in told.auxiliary_logits],
            )
        return {term: torch.stack([v for name, v in parts.items() if name.startswith(f"loss_{term}")]).sum() for term in _TERMS}

    def _truth(self, objects: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
        """Masks (n, *spatial) and the network's classes (n,) of one crop: of each class of stuff one, of each thing one."""
        ids, sizes = objects.unique(return_counts=True)
        ids = ids[(ids > 0) & (sizes >= SMALLEST)]
        masks = objects[None] == ids[:, None, None]
        first = masks.flatten(1).int().argmax(1)
        classes = [self.told["kinds"].index(int(k)) for k in kind.flatten()[first]]
        if self.told["stuff"]:
            flat = torch.where(objects > 0, 255, kind.int())
            there = [k for k in range(1 + self.told["stuff"]) if bool((flat == k).any())]
            masks = torch.cat([torch.stack([flat == k for k in there]), masks]) if there else masks
            classes = [*there, *classes]
        return masks.float(), torch.tensor(classes, dtype=torch.int64, device=objects.device)


_TERMS = ("cross_entropy", "mask", "dice")


def mask2former(
    library: Any, *, dims: int, in_channels: int, heads: Mapping[str, int], encoder: str, width: int, layers: int, queries: int, kinds: Sequence[int]
) -> Universal:
    """Build Mask2Former on a residual network.

    Parameters
    ----------
    library : module
        ``transformers``.
    heads : mapping of str to int
        ``semantic``, with one channel per class of stuff and one for the rest; or nothing.
    width : int
        Of the features, the masks and the queries, a multiple of 32; the paper has 256.
    layers : int
        Of the pixel decoder, and of the decoder of queries; the paper has 6 and 9.
    queries : int
        The most objects and areas of stuff in a tile.
    kinds : list of int
        Class ids of what is counted.
    """
    stuff = heads.get("semantic", 1) - 1
    whole = [in_channels, layers, *kinds, *(stuff + n for n in heads.values())]
    sound = all(type(n) is int and 1 <= n <= 255 for n in whole) and type(queries) is int and 1 <= queries <= 1000 and layers <= 12
    if dims != 2 or encoder not in ENCODERS or set(heads) - {"semantic"} or not (kinds or stuff) or not sound or width not in range(32, 513, 32):
        told = f"{dims} dims, {in_channels} channels, {encoder!r}, width {width}, {layers} layers, {queries} queries, classes {kinds}"
        raise ValueError(f"a Mask2Former of {told} cannot be built")
    backbone = library.ResNetConfig(num_channels=in_channels, out_features=STAGES, **ENCODERS[encoder])
    sizes = {"feature_size": width, "mask_feature_size": width, "hidden_dim": width, "encoder_layers": layers, "decoder_layers": layers + 1}
    inner = {"encoder_feedforward_dim": 4 * width, "dim_feedforward": 4 * width, "num_attention_heads": HEADS}
    labels = len(kinds) + (1 + stuff if stuff else 0)
    log = library.utils.logging
    level = log.get_verbosity()
    log.set_verbosity_error()  # it would say that no weights of others are there for this backbone
    try:
        config = library.Mask2FormerConfig(
            backbone_config=backbone, **sizes, **inner, num_queries=queries, num_labels=labels, train_num_points=POINTS, dropout=0.0
        )
        network = library.Mask2FormerForUniversalSegmentation(config)
    finally:
        log.set_verbosity(level)
    return Universal(network, kinds, stuff)
