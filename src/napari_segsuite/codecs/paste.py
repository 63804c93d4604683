"""Small square masks of boxes to the voxels that they cover: the last step of Mask R-CNN, for all boxes at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.codecs.instances import LEAST


def pasted(
    masks: NDArray[np.float32], boxes: NDArray[np.floating], shape: Sequence[int]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Interpolate each box's mask at the pixels of the box.

    Parameters
    ----------
    masks : (n, k, k) float32
        Probabilities; sample i along an axis stands for the i-th of k equal parts of the box. Outside the box they are 0.
    boxes : (n, 4) float
        x0, y0, x1, y1; pixel i lies from i to i + 1.
    shape : 2 ints

    Returns
    -------
    owner : (m,) int32
        Number of the box, ascending.
    voxel : (m, 2) int32
        y and x of the pixels where the probability is above `instances.LEAST`.
    value : (m,) float32

    Notes
    -----
    As torchvision's ``paste_masks_in_image`` (bilinear, with a border of zeros), but that boxes are not rounded to whole pixels first.
    """
    n, k = len(masks), masks.shape[-1]
    bordered = np.pad(masks, [(0, 0), (1, 1), (1, 1)]).ravel()
    low = np.clip(np.floor(boxes[:, [1, 0]]), 0, shape).astype(np.int64)
    high = np.clip(np.ceil(boxes[:, [3, 2]]), low, shape).astype(np.int64)
    size = high - low
    many = size.prod(1)
    owner = np.repeat(np.arange(n, dtype=np.int32), many)
    index = np.arange(len(owner)) - np.repeat(np.cumsum(many) - many, many)
    y, x = np.divmod(index, size[owner, 1]) if len(owner) else (index, index)
    # Along each axis first: where the rows and columns of each box lie in its mask.
    parts = []
    for axis, line in enumerate((y, x)):
        start, length = boxes[:, 1 - axis], np.maximum(boxes[:, 3 - axis] - boxes[:, 1 - axis], 1e-6)
        step = k / length
        offset = (low[:, axis] + 0.5 - start) * step + 0.5  # of the first pixel, in samples of the bordered mask
        place = np.clip(line * step[owner] + offset[owner], 0, k + 0.999999)
        first = place.astype(np.int32)
        parts.append((first, (place - first).astype(np.float32)))
        line += low[owner, axis]
    (row, down), (column, right) = parts
    at = owner.astype(np.int64) * (k + 2) ** 2 + row * (k + 2) + column
    top = bordered.take(at, mode="clip") * (1 - right) + bordered.take(at + 1, mode="clip") * right
    bottom = bordered.take(at + k + 2, mode="clip") * (1 - right) + bordered.take(at + k + 3, mode="clip") * right
    value = top * (1 - down) + bottom * down
    keep = np.flatnonzero(value >= (LEAST - 0.5) / 255)
    return owner[keep], np.stack([y[keep], x[keep]], 1).astype(np.int32), value[keep]
