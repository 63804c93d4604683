"""The network of Cellpose 4 (Pachitariu et al. 2025, Cellpose-SAM, doi:10.1101/2025.04.28.651001), out of its weights' shapes.

SAM's image encoder (Kirillov et al. 2023, arXiv 2304.02643; decomposed relative positions as in Li et al. 2022, arXiv 2112.01526) with small
patches and attention over the whole tile, and a linear layer from each patch to its pixels. Parts are called as in the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_segsuite.models.foreign.cellpose_net import OUTPUTS
from napari_segsuite.models.foreign.fields import Fields

FIRST = "encoder.patch_embed.proj.weight"
"""The array that tells a file of Cellpose 4."""
SIZES = ("channels", "patch", "tokens", "width", "head", "hidden", "features")
MOST = {"channels": 3, "patch": 32, "tokens": 128, "width": 2048, "head": 256, "hidden": 8192, "features": 1024}
DEEPEST, LONGEST = 64, 1023
EPS = 1e-6
"""Of all norms, as in SAM."""


def arguments(told: Fields) -> dict[str, Any]:
    """What the network is built with, after seeing that it fits together.

    Parameters
    ----------
    told : Fields
        ``channels`` that an image has; sizes of a ``patch`` (pixels), of a tile (``tokens`` along an axis), of what is known of a token (``width``),
        of a ``head``, of the layer between (``hidden``) and of ``features``; ``positions``, how many relative ones each block knows along an axis.

    Raises
    ------
    ModelError
        Names the entry.
    """
    told.only({*SIZES, "positions"})
    made: dict[str, Any] = {key: told.whole(key, told.value(key), 1) for key in SIZES}
    for key, most in MOST.items():
        if made[key] > most:
            told.wrong(key, made[key], f"{most} at most")
    if made["width"] % made["head"]:
        told.wrong("head", made["head"], f"a divisor of the width, {made['width']}")
    made["positions"] = told.value("positions")
    good = isinstance(made["positions"], list) and 1 <= len(made["positions"]) <= DEEPEST
    if not good or not all(type(n) is int and 1 <= n <= LONGEST for n in made["positions"]):
        told.wrong("positions", made["positions"], f"1 to {DEEPEST} whole numbers from 1 to {LONGEST}")
    return made


def shapes_in(weights: Mapping[str, Tensor], wrong: Any) -> dict[str, Any]:
    """What the network of some weights is built with, all but the image's channels; `wrong` as in `cellpose_net.shapes_in`."""
    depth = 0
    while f"encoder.blocks.{depth}.attn.rel_pos_h" in weights:
        depth += 1
    first = "encoder.blocks.0"
    axes = {FIRST: 4, "encoder.pos_embed": 4, f"{first}.attn.rel_pos_h": 2, f"{first}.mlp.lin1.weight": 2, "encoder.neck.0.weight": 4, "W2": 4}
    for name, count in axes.items():
        if name not in weights or weights[name].ndim != count:
            wrong(name, tuple(weights[name].shape) if name in weights else None, f"an array of {count} axes, as in a network of Cellpose 4 on SAM")
    patch, outputs = int(weights[FIRST].shape[-1]), int(weights["W2"].shape[1])
    if outputs != OUTPUTS:
        wrong("W2", tuple(weights["W2"].shape), f"{OUTPUTS} outputs: two of the flow, and being in an object")
    return {
        "patch": patch,
        "tokens": int(weights["encoder.pos_embed"].shape[1]),
        "width": int(weights[FIRST].shape[0]),
        "head": int(weights[f"{first}.attn.rel_pos_h"].shape[1]),
        "hidden": int(weights[f"{first}.mlp.lin1.weight"].shape[0]),
        "features": int(weights["encoder.neck.0.weight"].shape[0]),
        "positions": [int(weights[f"encoder.blocks.{n}.attn.rel_pos_h"].shape[0]) for n in range(depth)],
    }


class CPSAM(nn.Module):
    """Images (N, 3, y, x) of `tokens` times `patch` pixels along both axes to (N, 3, y, x)."""

    def __init__(self, patch: int, tokens: int, width: int, head: int, hidden: int, features: int, positions: list[int]) -> None:
        super().__init__()
        self.patch = patch
        self.encoder = _Encoder(patch, tokens, width, head, hidden, features, positions)
        self.out = nn.Conv2d(features, OUTPUTS * patch**2, 1)
        self.W2 = nn.Parameter(torch.eye(OUTPUTS * patch**2).reshape(-1, OUTPUTS, patch, patch), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(self.out(self.encoder(x)), self.W2, stride=self.patch)


class _Encoder(nn.Module):
    def __init__(self, patch: int, tokens: int, width: int, head: int, hidden: int, features: int, positions: list[int]) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(MOST["channels"], width, patch, patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, tokens, width))
        self.blocks = nn.ModuleList(_Block(width, head, hidden, count) for count in positions)
        first, second = nn.Conv2d(width, features, 1, bias=False), nn.Conv2d(features, features, 3, padding=1, bias=False)
        self.neck = nn.Sequential(first, _Norm(features), second, _Norm(features))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed.proj(x).permute(0, 2, 3, 1) + self.pos_embed  # type: ignore[operator]
        for block in self.blocks:
            x = block(x)
        answer: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return answer


class _Block(nn.Module):
    def __init__(self, width: int, head: int, hidden: int, positions: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attn, self.mlp = _Attention(width, head, positions), nn.Module()
        self.mlp.lin1, self.mlp.lin2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        answer: Tensor = x + self.mlp.lin2(F.gelu(self.mlp.lin1(self.norm2(x))))  # type: ignore[operator]
        return answer


class _Attention(nn.Module):
    """Of all tokens to all, with a part that knows how far apart they are along y and x."""

    def __init__(self, width: int, head: int, positions: int) -> None:
        super().__init__()
        self.head, self.qkv, self.proj = head, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.rel_pos_h, self.rel_pos_w = (nn.Parameter(torch.zeros(positions, head)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        n, height, width, _ = x.shape
        query, key, value = self.qkv(x).reshape(n, height * width, 3, -1, self.head).permute(2, 0, 3, 1, 4)
        asked = query.unflatten(2, (height, width))
        along_y = torch.einsum("nkyxc,yjc->nkyxj", asked, _between(self.rel_pos_h, height))
        along_x = torch.einsum("nkyxc,xjc->nkyxj", asked, _between(self.rel_pos_w, width))
        far = (along_y[..., :, None] + along_x[..., None, :]).flatten(4).flatten(2, 3)
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=far)
        answer: Tensor = self.proj(found.transpose(1, 2).reshape(n, height, width, -1))
        return answer


def _between(known: Tensor, count: int) -> Tensor:
    """What is known of each pair of `count` places (count, count, c); interpolated where it is known for another number of them."""
    if len(known) != 2 * count - 1:
        known = F.interpolate(known.T[None], size=2 * count - 1, mode="linear")[0].T
    place = torch.arange(count, device=known.device)
    return known[place[:, None] - place[None, :] + count - 1]


class _Norm(nn.Module):
    """Over the channels of each pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], self.weight, self.bias, EPS).permute(0, 3, 1, 2)
