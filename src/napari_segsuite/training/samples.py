"""Training pairs in memory, and crops drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage import measure
from torch.utils.data import Dataset

from napari_segsuite import arrays
from napari_segsuite.training.augment import Augmentation, change_intensity, warped


@dataclass(frozen=True, eq=False)
class Pair:
    """An image and its labels.

    Attributes
    ----------
    image : (C, *spatial) any number type
    labels : (*spatial) integer, 0 is background
    limits : per channel, the values that become 0 and 1
    weight : float
        How often crops are drawn from it, relative to the others.
    name : str
    class_of : mapping of label to class id, optional
        Where the codec's own rule does not hold (all labels are objects of one class).
    """

    image: NDArray[Any]
    labels: NDArray[np.integer]
    limits: tuple[tuple[float, float], ...]
    weight: float = 1.0
    name: str = ""
    class_of: Mapping[int, int] | None = None


def pair(image: NDArray[Any], labels: NDArray[np.integer], percentiles: tuple[float, float], weight: float = 1.0, name: str = "") -> Pair:
    """Make a `Pair`, its contrast constants taken over the whole image as at inference."""
    limits = tuple(arrays.contrast(channel, percentiles) for channel in image)
    return Pair(image, labels, limits, weight, name)


class Crops(Dataset[dict[str, torch.Tensor]]):
    """Crop number i depends on the seed and i alone, whichever process makes it, so a resumed run sees the same crops.

    Parameters
    ----------
    pairs : sequence of Pair
    encode : callable
        Labels of a crop to target maps; also takes ``class_of``, where a pair has one.
    size : d ints
        Crop size in voxels.
    count : int
        Crops in the whole run.
    augmentation : Augmentation, or callable
        A callable gets the crop's number, for a run whose changes become milder.
    channels : int
        Channels of the network; an image with one channel is repeated.
    seed, start : int
        `start` is the first crop's number (for a resumed run).
    empty : float
        Probability of a crop with nothing but noise in it, so that the network learns to answer with nothing.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        encode: Callable[..., Mapping[str, NDArray[Any]]],
        size: Sequence[int],
        count: int,
        augmentation: Augmentation | Callable[[int], Augmentation],
        channels: int,
        seed: int = 0,
        start: int = 0,
        empty: float = 0.02,
    ) -> None:
        self.pairs, self.encode, self.size, self.count = list(pairs), encode, tuple(size), count
        self.augmentation, self.channels, self.seed, self.start, self.empty = augmentation, channels, seed, start, empty
        weights = np.array([p.weight for p in pairs])
        self.cumulative = np.cumsum(weights / weights.sum())

    def __len__(self) -> int:
        return self.count - self.start

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rng = np.random.default_rng((self.seed, self.start + index))
        if rng.random() < self.empty:
            image, labels = _nothing(self.size, self.channels, rng)
            maps = self.encode(labels)
        else:
            chosen = self.pairs[min(int(np.searchsorted(self.cumulative, rng.random())), len(self.pairs) - 1)]
            image, maps = self._crop(chosen, self._changes(self.start + index), rng)
        maps = {"image": image, **maps}
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in maps.items()}

    def _changes(self, crop: int) -> Augmentation:
        return self.augmentation if isinstance(self.augmentation, Augmentation) else self.augmentation(crop)

    def _crop(self, chosen: Pair, how: Augmentation, rng: np.random.Generator) -> tuple[NDArray[np.float32], Mapping[str, NDArray[Any]]]:
        pixels = arrays.normalize(chosen.image, chosen.limits) if chosen.image.dtype != np.float32 else chosen.image
        if len(pixels) == 1 < self.channels:
            pixels = np.broadcast_to(pixels, (self.channels, *pixels.shape[1:]))
        image, near = warped(pixels, chosen.labels, _place(chosen.labels, rng), self.size, how, rng)
        labels, class_of = _numbered(near, chosen.class_of)
        image = change_intensity(image, how, rng)
        return image, self.encode(labels) if class_of is None else self.encode(labels, class_of=class_of)


def _numbered(near: NDArray[np.int32], class_of: Mapping[int, int] | None) -> tuple[NDArray[np.int32], dict[int, int] | None]:
    """Number the parts of a crop's objects anew, as `crop_warped` does, and say which class each new number has."""
    labels = measure.label(near).astype(np.int32)
    if class_of is None:
        return labels, None
    new, first = np.unique(labels, return_index=True)
    old = near.ravel()[first]
    return labels, {int(n): class_of[int(o)] for n, o in zip(new, old, strict=True) if n}


def _place(labels: NDArray[np.integer], rng: np.random.Generator) -> tuple[float, ...]:
    """Where to cut: half of the crops anywhere, half around a random object, each object equally likely whatever its size."""
    anywhere = tuple(float(rng.uniform(0, n)) for n in labels.shape)
    top = int(labels.max())
    if rng.random() < 0.5 or top == 0:
        return anywhere
    where = np.argwhere(labels == rng.integers(1, top + 1))
    return tuple(float(x) for x in where[rng.integers(len(where))]) if len(where) else anywhere


def _nothing(size: Sequence[int], channels: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A flat ground with noise of some grain, as strong as percentile normalisation makes it look in an empty image."""
    noise = rng.standard_normal((1, *size)).astype(np.float32)
    image = rng.uniform(0, 0.8) + rng.choice([0.0, 0.05, 0.2]) * noise
    return np.repeat(image.astype(np.float32), channels, axis=0), np.zeros(tuple(size), np.int32)
