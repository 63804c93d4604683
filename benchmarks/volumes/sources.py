"""Synthetic volumes of any size from one small block that fits to itself on all sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import ndimage

from napari_segsuite.models.classical import Otsu
from napari_segsuite.types import ModelSpec, Prediction

ABOVE = 0.045
"""Smooth noise above this is an object: a tenth of the voxels, about 60 objects in 128 cubed."""


def blobs(shape: Sequence[int], seed: int = 0) -> NDArray[np.bool_]:
    """Irregular objects, a tenth of all voxels; what leaves a block on one side comes in on the other."""
    noise = np.random.default_rng(seed).standard_normal(tuple(shape)).astype(np.float32)
    above: NDArray[np.bool_] = ndimage.gaussian_filter(noise, 3, mode="wrap") > ABOVE * (1 if len(shape) == 3 else 3)
    return above


def pixels(shape: Sequence[int], dtype: str, seed: int = 0) -> NDArray[Any]:
    """The same as a camera would see them."""
    rng = np.random.default_rng(seed)
    return np.clip(60 + 100 * blobs(shape, seed) + rng.normal(0, 6, tuple(shape)), 0, 255).astype(dtype)


def repeated(block: NDArray[Any], box: Sequence[slice]) -> NDArray[Any]:
    """A box of the endless array that a block is repeated to."""
    return block[np.ix_(*[np.arange(s.start, s.stop) % n for s, n in zip(box, block.shape, strict=True)])]


def boxes(shape: Sequence[int], size: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Where the blocks of an array lie, and in which order."""
    for at in product(*[range(-(-n // k)) for n, k in zip(shape, size, strict=True)]):
        yield at, tuple(slice(i * k, min((i + 1) * k, n)) for i, k, n in zip(at, size, shape, strict=True))


def volume(path: Path, shape: Sequence[int], dtype: str, block: Sequence[int] = (64, 256, 256)) -> Path:
    """Write pixels block by block to a zarr array."""
    one = pixels(block, dtype)
    array = zarr.create_array(path, shape=tuple(shape), dtype=dtype, chunks=tuple(block))
    for _, box in boxes(shape, block):
        array[box] = repeated(one, box)
    return path


@dataclass(frozen=True)
class SmallTiles:
    """Otsu's threshold in smaller tiles, as a network has them.

    Attributes
    ----------
    tile : tuple of int
    """

    tile: tuple[int, ...]
    device: ClassVar[str] = "cpu"

    @property
    def spec(self) -> ModelSpec:
        """Otsu's, with other tiles."""
        from dataclasses import replace

        return replace(Otsu.spec, tile=self.tile)

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        """As Otsu does."""
        return Otsu().predict(batch)
