"""Networks of segmentation-models-pytorch (MIT licence): planes, any number of channels, weights drawn by chance.

Of each network the encoder and the decoder are taken; the heads are ours. Where its library makes a voxel's answer depend on the size of
the tile that it lies in, the same is done with what lies around the voxel instead; each place says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from napari_segsuite.models.families.headed import Headed, check

RESNETS, TRANSFORMERS = ("resnet18", "resnet34", "resnet50"), ("mit_b0", "mit_b1", "mit_b2")
"""Encoders: He et al. 2016; Xie et al. 2021 (SegFormer's)."""
RATES = (2, 4, 6)
"""Of DeepLab's dilated convolutions, at a 16th of the image. The usual 12, 24, 36 are for crops of 513 pixels: on ours they would look beyond
the border everywhere (Chen et al. 2017, arXiv 1706.05587, section 3.3)."""
POOLED = 8
"""Half of the window, at a 16th of the image, whose mean DeepLab sees at each place: with a crop of 128 pixels all of it, as in the paper."""


class Body(nn.Module):
    """An encoder and a decoder."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.encoder, self.decoder = found.encoder, found.decoder

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.decoder(self.encoder(x))
        return features


def deeplabv3plus(library: Any, *, dims: int, in_channels: int, heads: Mapping[str, int], encoder: str, width: int) -> Headed:
    """Build DeepLabV3+ (Chen et al. 2018, arXiv 1802.02611); with centre and offset heads it is Panoptic-DeepLab's network with one decoder
    (Cheng et al. 2020, arXiv 1911.10194).

    The mean over the image is one over a window, as a tile is no image; and what is enlarged does not move with the tile's size.
    """
    _check(dims, in_channels, heads, encoder, width, RESNETS)
    about: dict[str, Any] = {"encoder_output_stride": 16, "decoder_channels": width, "decoder_atrous_rates": RATES}
    body = Body(library.DeepLabV3Plus(encoder, encoder_weights=None, in_channels=in_channels, **about))
    body.decoder.aspp[0].convs[-1][0] = _mean(POOLED)
    body.decoder.up.align_corners = False
    return Headed(body, width, heads, multiple=(16, 16), context=128, core=(1024, 1024), zoom=4)


def fpn(library: Any, *, dims: int, in_channels: int, heads: Mapping[str, int], encoder: str, width: int) -> Headed:
    """Build a feature pyramid with the semantic branch of Panoptic FPN (Kirillov et al. 2019, arXiv 1901.02446).

    Its branches have BatchNorm instead of GroupNorm, whose statistics would be those of the tile.
    """
    _check(dims, in_channels, heads, encoder, width, (*RESNETS, *TRANSFORMERS))
    if width % 32:
        raise ValueError(f"the width of an fpn is {width}, not a multiple of 32")
    about = {"decoder_pyramid_channels": 2 * width, "decoder_segmentation_channels": width}
    body = Body(library.FPN(encoder, encoder_weights=None, in_channels=in_channels, **about))
    for branch in body.decoder.seg_blocks:
        branch.block = nn.Sequential(*(part for block in branch.block for part in _steady(block, width)))
    return Headed(body, width, heads, multiple=(32, 32), context=128, core=(1024, 1024), zoom=4)


def segformer(library: Any, *, dims: int, in_channels: int, heads: Mapping[str, int], encoder: str, width: int) -> Headed:
    """Build SegFormer (Xie et al. 2021, arXiv 2105.15203). Attention sees all of the tile, which is therefore small."""
    _check(dims, in_channels, heads, encoder, width, TRANSFORMERS)
    body = Body(library.Segformer(encoder, encoder_weights=None, in_channels=in_channels, decoder_segmentation_channels=width))
    return Headed(body, width, heads, multiple=(32, 32), context=64, core=(384, 384), zoom=4)


def unetplusplus(library: Any, *, dims: int, in_channels: int, heads: Mapping[str, int], encoder: str, width: int) -> Headed:
    """Build UNet++ (Zhou et al. 2018, arXiv 1807.10165): the one of these that decodes at the resolution of the image."""
    _check(dims, in_channels, heads, encoder, width, RESNETS)
    widths = [8 * width, 4 * width, 3 * width, 2 * width, width]
    body = Body(library.UnetPlusPlus(encoder, encoder_weights=None, in_channels=in_channels, decoder_channels=widths))
    return Headed(body, width, heads, multiple=(32, 32), context=128, core=(768, 768))


def _check(dims: Any, in_channels: Any, heads: Any, encoder: Any, width: Any, encoders: tuple[str, ...]) -> None:
    check(dims, (2,), in_channels, heads, [width, 8 * width])
    if encoder not in encoders:
        raise ValueError(f"there is no encoder {encoder!r} for it, only {', '.join(encoders)}")


def _mean(half: int) -> nn.Module:
    """The mean of a window around each pixel, or of what the border leaves of it; an axis at a time."""
    size = 2 * half + 1
    rows = nn.AvgPool2d((size, 1), 1, (half, 0), count_include_pad=False)
    return nn.Sequential(rows, nn.AvgPool2d((1, size), 1, (0, half), count_include_pad=False))


def _steady(block: Any, width: int) -> list[nn.Module]:
    """A convolution with its norm and rectifier, and the enlarging behind it, so that neither knows the size of the tile."""
    convolution, norm, rectifier = block.block
    del norm
    parts = [nn.Sequential(convolution, nn.BatchNorm2d(width), rectifier)]
    return [*parts, nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)] if block.upsample else [*parts]
