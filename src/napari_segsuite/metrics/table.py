"""The overlap table: how many voxels each true segment shares with each predicted one.

Everything that is scored follows from this table, and tables add: the tables of the blocks of a volume sum to the table of
the volume. It is sparse, so its size depends on which segments touch, not on how large their ids are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.sizes import lengths_apart
from napari_segsuite.types import ArrayLike

Ids = NDArray[np.uint64]
Sizes = NDArray[np.int64]

ROUNDING = 1e-3
"""How far from an integer a label stored as a real number may be."""

BLOCK_VOXELS = 2**24
"""About how many voxels of each array are in memory while two large ones are compared."""

WAITING_ROWS = 2**16
"""How many rows of the tables of blocks are kept before they are added up."""


class Side(NamedTuple):
    """One side of a table: the distinct `ids` (0 among them where it occurs), their `sizes`, and each table row's place in `ids`."""

    ids: Ids
    sizes: Sizes
    place: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Overlap:
    """Voxel counts of pairs of segments, as three columns sorted by `true`, then `pred`; each pair occurs once.

    Attributes
    ----------
    true, pred : (K,) uint64
        Segment ids; 0 is background and has rows like any other.
    count : (K,) int64
        Voxels with this pair of ids, at least 1.

    Examples
    --------
    >>> table = overlap(np.array([0, 7, 7, 7]), np.array([0, 0, 5, 5]))
    >>> table.true.tolist(), table.pred.tolist(), table.count.tolist()
    ([0, 7, 7], [0, 0, 5], [1, 1, 2])
    >>> (table + table).count.tolist()
    [2, 2, 4]
    """

    true: Ids
    pred: Ids
    count: Sizes

    def __add__(self, other: Overlap) -> Overlap:
        return _sum([self, other])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Overlap):
            return NotImplemented
        return all(np.array_equal(a, b) for a, b in zip(self._columns(), other._columns(), strict=True))

    __hash__ = None  # type: ignore[assignment]

    @property
    def voxels(self) -> int:
        """How many voxels were compared."""
        return int(self.count.sum())

    @cached_property
    def true_side(self) -> Side:
        """The true segments and their sizes."""
        return _side(self.true, self.count)

    @cached_property
    def pred_side(self) -> Side:
        """The predicted segments and their sizes."""
        return _side(self.pred, self.count)

    def _columns(self) -> tuple[Ids, Ids, Sizes]:
        return self.true, self.pred, self.count


def overlap(true: Any, pred: Any, *, ignore: int | None = None) -> Overlap:
    """Count the voxels that each true segment shares with each predicted one.

    Parameters
    ----------
    true, pred : array of the same shape
        Labels, 0 is background: integers of any size or byte order, bool, or real numbers within 1e-3 of an integer.
    ignore : int, optional
        Voxels where `true` has this id are left out, whatever is predicted there.

    Returns
    -------
    Overlap

    Raises
    ------
    InputError
        The shapes differ, an id is negative (and is not `ignore`), or a value is not a whole number.

    Notes
    -----
    Voxels are first gathered into runs along the last axis, then runs are sorted: time O(voxels + runs log runs).
    """
    check_shapes(true, pred)
    return _overlap(true, pred, ignore, (0,) * len(true.shape))


def overlap_blocks(true: ArrayLike, pred: ArrayLike, *, block: Sequence[int] | None = None, ignore: int | None = None) -> Overlap:
    """Do the same as `overlap` for arrays that need not fit into memory (zarr, dask), block by block.

    Parameters
    ----------
    true, pred : array-like of the same shape
    block : sequence of int, optional
        Block shape; by default some 16 million voxels in whole chunks of `true`.
    ignore : int, optional
        As in `overlap`.

    Returns
    -------
    Overlap
        Equal to that of the whole arrays.

    Raises
    ------
    InputError
        As in `overlap`; positions in the text are those in the whole array.
    """
    check_shapes(true, pred)
    size = _block(true) if block is None else tuple(block)
    merged, waiting = _sum([]), list[Overlap]()
    for corner in product(*(range(0, n, b) for n, b in zip(true.shape, size, strict=True))):
        window = tuple(slice(c, c + b) for c, b in zip(corner, size, strict=True))
        waiting.append(_overlap(true[window], pred[window], ignore, corner))
        # Merging costs the whole table, so it waits until there is as much to add as there is already.
        if sum(len(t.count) for t in waiting) > max(WAITING_ROWS, len(merged.count)):
            merged, waiting = _sum([merged, *waiting]), []
    return _sum([merged, *waiting])


def check_shapes(true: ArrayLike, pred: ArrayLike) -> None:
    """Refuse two arrays that do not cover the same voxels."""
    if tuple(true.shape) != tuple(pred.shape):
        found = f"the prediction has shape {tuple(pred.shape)} and the truth {tuple(true.shape)}"
        raise InputError(found, "the same shape", lengths_apart(true.shape, pred.shape))


def _overlap(true: Any, pred: Any, ignore: int | None, corner: tuple[int, ...]) -> Overlap:
    shape = tuple(true.shape)
    flat_true, flat_pred = _flat(true, "truth"), _flat(pred, "prediction")
    starts, lengths = _runs(flat_true, flat_pred)
    where = _Where(starts, shape, corner)
    t, p = _whole(flat_true[starts], "truth", where), _whole(flat_pred[starts], "prediction", where)
    if ignore is not None:
        keep = t != ignore
        t, p, lengths, where = t[keep], p[keep], lengths[keep], _Where(starts[keep], shape, corner)
    return _collect(_ids(t, "truth", where), _ids(p, "prediction", where), lengths)


@dataclass(frozen=True, eq=False)
class _Where:
    """Places of runs in the whole array, to name one in an error."""

    starts: NDArray[np.intp]
    shape: tuple[int, ...]
    corner: tuple[int, ...]

    def at(self, run: int) -> tuple[int, ...]:
        inside = np.unravel_index(int(self.starts[run]), self.shape)
        return tuple(int(i) + c for i, c in zip(inside, self.corner, strict=True))


def _flat(labels: Any, side: str) -> NDArray[Any]:
    flat = np.asarray(labels).ravel()
    if flat.dtype.kind not in "biuf":
        raise InputError(f"the {side} is of type {flat.dtype}", "integer labels, 0 for background")
    return flat


def _runs(true: NDArray[Any], pred: NDArray[Any]) -> tuple[NDArray[np.intp], Sizes]:
    """Starts and lengths of the stretches of voxels in which neither side changes."""
    change = np.empty(len(true), bool)
    change[:1] = True
    np.not_equal(true[1:], true[:-1], out=change[1:])
    change[1:] |= pred[1:] != pred[:-1]
    starts = np.flatnonzero(change)
    return starts, np.diff(starts, append=len(true)).astype(np.int64, copy=False)


def _whole(values: NDArray[Any], side: str, where: _Where) -> NDArray[Any]:
    """Round real numbers that stand for integers; leave integers as they are."""
    if values.dtype.kind != "f":
        return values
    values = values.astype(np.float64, copy=False)
    rounded: NDArray[np.float64] = np.rint(values)
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(values - rounded) <= ROUNDING) | (rounded >= 2.0**64)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise InputError(
            f"the {side} has non-integer values ({values[at]:.6g} at {where.at(at)}): is it a probability map?",
            "integer labels, 0 for background",
        )
    return rounded


def _ids(values: NDArray[Any], side: str, where: _Where) -> Ids:
    if values.dtype.kind in "if" and (negative := values < 0).any():
        at = int(np.argmax(negative))
        raise InputError(
            f"the {side} has negative ids ({int(values[at])} at {where.at(at)})",
            "ids from 0, which is background",
            f"If {int(values[at])} marks voxels of the truth that are to be left out, say ignore_label={int(values[at])}.",
        )
    return values.astype(np.uint64, copy=False)


def _collect(true: Ids, pred: Ids, count: Sizes) -> Overlap:
    """Sort rows by pair and add up those of equal pairs."""
    order = np.lexsort((pred, true))
    true, pred, count = true[order], pred[order], count[order]
    first = np.ones(len(true), bool)
    first[1:] = (true[1:] != true[:-1]) | (pred[1:] != pred[:-1])
    starts = np.flatnonzero(first)
    return Overlap(true[starts], pred[starts], np.add.reduceat(count, starts) if len(starts) else count)


def _sum(tables: Sequence[Overlap]) -> Overlap:
    empty = Overlap(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))
    columns = zip(*(t._columns() for t in (empty, *tables)), strict=True)
    true, pred, count = (np.concatenate(column) for column in columns)
    return _collect(true, pred, count)


def _side(column: Ids, count: Sizes) -> Side:
    ids, place = np.unique(column, return_inverse=True)
    sizes = np.zeros(len(ids), np.int64)
    np.add.at(sizes, place, count)
    return Side(ids, sizes, place)


def _block(array: ArrayLike) -> tuple[int, ...]:
    """The whole shape, halved along its longest axis until it is small enough, then filled up to whole chunks."""
    block = [max(1, n) for n in array.shape]
    while np.prod(block, dtype=float) > BLOCK_VOXELS:
        longest = int(np.argmax(block))
        block[longest] = -(-block[longest] // 2)
    return tuple(-(-b // c) * c for b, c in zip(block, _chunk(array), strict=True))


def _chunk(array: ArrayLike) -> tuple[int, ...]:
    """Chunk shape of a zarr (``chunks``) or dask (``chunksize``) array; single voxels for others."""
    chunk = getattr(array, "chunksize", None) or getattr(array, "chunks", None) or (1,) * len(array.shape)
    return tuple(max(1, int(c)) for c in chunk)
