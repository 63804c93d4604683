"""Which of overlapping objects stay: greedy suppression by score, in rounds, so that no decision depends on things far away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

ROUNDS = 2
"""How often objects that overlap nothing higher become final."""
FAR = 1 + (2 * ROUNDS - 1) + 1
"""How many times as far as an object reaches one must look: its voxels; in the first round whether it overlaps any, in each other one what these
overlap, and what that overlaps; and how large those are."""


def standing(
    owner: NDArray[np.integer], voxel: NDArray[np.integer], places: NDArray[np.intp], shape: Sequence[int], overlap: float, near: Sequence[int]
) -> NDArray[np.bool_]:
    """Say which objects stay.

    An object stays if it overlaps no higher one that stays. Those that overlap nothing higher stay, and what they overlap does not, and so
    again, `ROUNDS` times. What is not decided then does not stay: longer chains would let a decision depend on things far away.

    Parameters
    ----------
    owner, voxel : (m,) integer
        Pairs of an object, numbered from the lowest to the highest, and a voxel of it (flat index).
    places : (n,) intp
        Flat index of each object's middle.
    shape : d ints
        Of the region.
    overlap : float
        Part of the voxels of the smaller that two may have in common.
    near : d ints
        Objects whose middles are farther from each other do not overlap.

    Returns
    -------
    (n,) bool
    """
    count = len(places)
    member = csr_array((np.ones(len(owner), np.int32), (voxel, owner)), shape=(int(np.prod(shape)), count))
    common = (member.T @ member).tocoo()
    low, high = common.coords
    size = np.bincount(owner, minlength=count)
    middle = np.stack(np.unravel_index(places, tuple(shape)))
    over = (low < high) & (common.data > overlap * np.minimum(size[low], size[high]))
    over &= (np.abs(middle[:, low] - middle[:, high]) <= np.array(near)[:, None]).all(0)
    low, high = low[over], high[over]
    open_, chosen = np.ones(count, np.bool_), np.zeros(count, np.bool_)
    for _ in range(ROUNDS):
        fresh = open_.copy()
        fresh[low[open_[high]]] = False
        chosen |= fresh
        open_ &= ~fresh
        open_[low[fresh[high]]] = False
    return chosen
