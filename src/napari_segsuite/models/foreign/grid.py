"""The tiles that a network of others is given: how large, in which steps, with how much around them that is thrown away."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from napari_segsuite.errors import OptionError
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.network import valid

LARGEST = {"yx": (512, 512), "zyx": (64, 128, 128)}
"""Tiles are as large as this where nobody says otherwise, and their context is an eighth of it."""


MOST_VOXELS = 2**24
"""A tile that a context makes larger than is usual has no more."""


def grid(axes: str, told: Mapping[str, Any], halo: tuple[int, ...], form: Form) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Tile, multiple and context: what the form says, what the package says, or what is usual.

    Parameters
    ----------
    axes : str
        Spatial.
    told : mapping
        ``axes``, ``least`` and ``step`` of the network's input.
    halo : tuple of int
        Per spatial axis; empty where it is not known.
    form : Form

    Raises
    ------
    OptionError
        Numbers are too few, or a tile would have nothing left inside its context.
    """
    for key in ("tile", "multiple", "context", "pixel_size_um"):
        if getattr(form, key) and len(getattr(form, key)) != len(axes):
            raise OptionError(f"{key} has {len(getattr(form, key))} numbers", f"{len(axes)}, one per axis of {axes}")
    sizes = {a: (n, m) for a, n, m in zip(told["axes"], told["least"], told["step"], strict=True)}
    lines = [_line(*sizes[a], LARGEST[axes][k], form, halo[k] if halo else 0, k) for k, a in enumerate(axes)]
    tile, multiple, context = (tuple(line[n] for line in lines) for n in range(3))
    if form.context and not form.tile and (min(context) < 0 or math.prod(tile) > MOST_VOXELS):
        side = int(MOST_VOXELS ** (1 / len(axes)))
        most = max((side - 3 * max(multiple)) // 2, 0)
        raise OptionError(
            f"context is {','.join(map(str, context))}, for which tiles of {' x '.join(map(str, tile))} would be needed", f"from 0 to {most}"
        )
    least = tuple(_least(c, m) for c, m in zip(context, multiple, strict=True))
    if any(n < room for n, room in zip(tile, least, strict=True)):
        texts = [" x ".join(map(str, numbers)) for numbers in (tile, context, multiple, least)]
        found = f"the tile is {texts[0]}, and a context of {texts[1]}, in steps of {texts[2]}, leaves nothing of it"
        raise OptionError(found, f"a tile of {texts[3]} at least", "Say another --tile, --context or --multiple.")
    return tile, multiple, context


def roomy(tile: Sequence[int], context: Sequence[int], multiple: Sequence[int]) -> tuple[int, ...]:
    """A tile that is no smaller, a multiple of the network's stride, and keeps something inside its context.

    >>> roomy((64, 64), (16, 16), (32, 8))
    (96, 64)
    """
    return tuple(valid(max(t, _least(c, m)), m, m) for t, c, m in zip(tile, context, multiple, strict=True))


def _least(context: int, multiple: int) -> int:
    """The smallest tile of which something is left inside a context, which is rounded up to the network's stride."""
    return 2 * (-(-context // multiple) * multiple) + multiple


def _line(least: int, step: int, usual: int, form: Form, halo: int, k: int) -> tuple[int, int, int]:
    multiple = form.multiple[k] if form.multiple else step if step and least % step == 0 else 1
    largest = least if not step else form.tile[k] if form.tile else usual
    context = form.context[k] if form.context else halo or largest // 8
    return largest if form.tile or not step else valid(max(largest, _least(context, multiple)), least, step), multiple, context
