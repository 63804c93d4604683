"""What a run would take, found out in the child process. It is imported there, so it may not import Qt or napari."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.engine.plan import Plan
from napari_segsuite.types import Image, ModelSpec

MOST_VOXELS = 2**22


def appraise(plan: Plan, image: Image, spec: ModelSpec, grows: bool) -> dict[str, Any]:
    """Estimate a run (`engine.forecast.forecast`), and how much graphics memory is free; to be called in the child."""
    from napari_segsuite.engine.forecast import forecast

    told = forecast(plan, image, spec, 1, grows=grows)
    torch = sys.modules.get("torch")
    free = torch.cuda.mem_get_info()[0] if told["vram_bytes"] and torch is not None else 0
    return {**{name: told[name] for name in ("seconds", "ram_bytes", "vram_bytes", "disk_bytes", "chunks", "device")}, "vram_free": free}


class Repeated:
    """A part of an image repeated to the size of the whole: as good as the image for an estimate, and cheap to send.

    Parameters
    ----------
    part : array
    shape : tuple of int
    """

    def __init__(self, part: NDArray[Any], shape: tuple[int, ...]) -> None:
        self.part, self.shape, self.dtype, self.ndim = part, shape, part.dtype, len(shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        keys = [*key, *[slice(None)] * (self.ndim - len(key))]
        lines = [np.atleast_1d(np.arange(n)[k]) % p for n, k, p in zip(self.shape, keys, self.part.shape, strict=True)]
        found = self.part[np.ix_(*lines)]
        return found.squeeze(tuple(axis for axis, k in enumerate(keys) if not isinstance(k, slice)))


def light(image: Image) -> Image:
    """An image that can be sent at once: as it is where its pixels are read from a file, else a part of it for the whole."""
    data = image.data
    if not isinstance(data, np.ndarray) and not hasattr(data, "dask"):
        return replace(image, levels=(data,))
    size = list(data.shape)
    while np.prod(size, dtype=float) > MOST_VOXELS:
        axis = int(np.argmax([0 if a == "c" else n for a, n in zip(image.axes, size, strict=True)]))
        size[axis] = -(-size[axis] // 2)
    part = data[tuple(slice((n - s) // 2, (n - s) // 2 + s) for n, s in zip(data.shape, size, strict=True))]
    return replace(image, levels=(Repeated(np.ascontiguousarray(part), tuple(data.shape)),))
