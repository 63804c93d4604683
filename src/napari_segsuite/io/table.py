"""The table of segments: computed from labels, and written to and read from CSV without losing a bit.

Columns, in this order: ``id``, ``class_id``, ``score`` (0..1), ``size`` (voxels); then for each axis ``a`` of the labels
``bbox_a0``, ``bbox_a1`` (half-open) and ``centroid_a`` (voxels); then ``status``. Further columns are kept behind them.
Types: ids, sizes and boxes int64 (ids uint64 where int64 is too small), scores and centroids float64, status text.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io.blocks import Region, pieces
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.faults import reading
from napari_segsuite.io.ids import negative
from napari_segsuite.types import ArrayLike, Class, Table

_INTEGERS = ("id", "class_id", "size", "bbox_")
_FLOATS = ("score", "centroid_")


def columns_of(axes: str) -> tuple[str, ...]:
    """Names of the columns for labels with these axes, in order.

    >>> columns_of("x")
    ('id', 'class_id', 'score', 'size', 'bbox_x0', 'bbox_x1', 'centroid_x', 'status')
    """
    per_axis = [name for a in axes for name in (f"bbox_{a}0", f"bbox_{a}1", f"centroid_{a}")]
    return ("id", "class_id", "score", "size", *per_axis, "status")


def check_table(table: Table) -> None:
    """Complain of columns of different lengths, which are no table.

    Raises
    ------
    OutputError
        Names them.
    """
    lengths = {name: len(column) for name, column in table.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {n}" for name, n in lengths.items())
        usual = max(lengths.values(), key=list(lengths.values()).count)
        odd = ", ".join(name for name, n in lengths.items() if n != usual)
        raise OutputError(f"the columns of the table of segments are of different lengths ({told})", f"one row per segment; look at {odd}")


def tidy(table: Table) -> dict[str, NDArray[Any]]:
    """The same table with every known column in its one type, which is how it comes back from any file."""
    return {name: _typed(name, np.asarray(column)) for name, column in table.items()}


def table_of(labels: ArrayLike, axes: str, classes: Sequence[Class], class_of: Mapping[int, int] | None = None) -> dict[str, NDArray[Any]]:
    """Compute the table of segments from labels, in one pass and in memory that does not grow with the largest id.

    Parameters
    ----------
    labels : array of integers
        In memory or on disk; read chunk by chunk. 0 is background.
    axes : str
        One letter per axis of `labels`.
    classes : sequence of Class
        Ids up to the number of stuff classes are those classes; other segments are of the countable class, where there is just one.
    class_of : mapping of segment id to class id, optional
        Overrules `classes` for the segments it names.

    Returns
    -------
    table
        One row per id that occurs, ordered by id. ``score`` is 1, ``status`` is empty.

    Raises
    ------
    InputError
        An id is negative.

    Examples
    --------
    >>> table = table_of(np.array([[0, 7, 7], [0, 0, 7]]), "yx", [Class(1, "cell")])
    >>> {name: column.tolist() for name, column in table.items() if name in ("id", "size", "bbox_x0", "bbox_x1", "centroid_x")}
    {'id': [7], 'size': [3], 'bbox_x0': [1], 'bbox_x1': [3], 'centroid_x': [1.6666666666666667]}
    """
    ids, rows = _merged([_measured(block, region) for region, block in pieces(labels)], len(axes))
    if len(ids) and ids[0] < 0:
        raise negative(int(ids[0]), rows["low"][0].tolist())
    class_id = _classes_of(ids, classes, class_of or {})
    table: dict[str, NDArray[Any]] = {"id": ids, "class_id": class_id, "score": np.ones(len(ids)), "size": rows["size"]}
    for k, a in enumerate(axes):
        table |= {f"bbox_{a}0": rows["low"][:, k], f"bbox_{a}1": rows["high"][:, k], f"centroid_{a}": rows["sum"][:, k] / np.maximum(rows["size"], 1)}
    return tidy({**table, "status": np.full(len(ids), "", dtype=np.str_)})


def write_table(table: Table, path: Path, *, overwrite: bool = False) -> None:
    """Write a table as CSV: a header, one line per segment, floats with all their digits."""
    check_table(table)
    with replacing(path, overwrite=overwrite) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*(_texts(column) for column in tidy(table).values()), strict=True))


def read_table(path: Path) -> dict[str, NDArray[Any]]:
    """Read a table that `write_table` wrote, or that another program wrote with at least a column ``id``.

    Raises
    ------
    InputError
        The file is missing, has no column ``id``, or a line has another number of fields than the header.
    """
    with reading(path):
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
        header, rows = (lines[0], [row for row in lines[1:] if row]) if lines else ([], [])
        if "id" not in header:
            raise InputError(f"file {path} has no column 'id' (its first line is {','.join(header)[:80]!r})", "a table of segments with a header")
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header):
                raise InputError(f"line {number} of {path} has {len(row)} fields", f"{len(header)}, as in the header")
        return {name: _parsed(name, [row[k] for row in rows]) for k, name in enumerate(header)}


def _measured(block: NDArray[Any], region: Region) -> dict[str, NDArray[Any]]:
    """Size, box and coordinate sums of the ids in one block; everything adds up over blocks.

    Counted over runs of equal ids along the last axis, of which there are several times fewer than voxels.
    """
    starts, lengths, values = _runs(block)
    # All blocks in one integer type: numpy would join int64 and uint64 as float64.
    ids, which = np.unique(values.astype(np.uint64 if block.dtype == np.uint64 else np.int64), return_inverse=True)
    order = np.argsort(which, kind="stable")
    first = np.searchsorted(which[order], np.arange(len(ids)))
    low, high = np.zeros((len(ids), block.ndim), np.int64), np.zeros((len(ids), block.ndim), np.int64)
    total = np.zeros((len(ids), block.ndim))
    for k, axis in enumerate(np.unravel_index(starts, block.shape) if len(ids) else ()):
        begin = axis + region[k].start
        end = begin + (lengths if k == block.ndim - 1 else 1)
        low[:, k] = np.minimum.reduceat(begin[order], first)
        high[:, k] = np.maximum.reduceat(end[order], first)
        total[:, k] = np.bincount(which, (begin + end - 1) * lengths / 2, len(ids))
    return {"id": ids, "size": np.bincount(which, lengths, len(ids)).astype(np.int64), "low": low, "high": high, "sum": total}


def _runs(block: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[Any]]:
    """Where runs of one id begin in the flat block, how long they are, and the id; without background."""
    begins = np.ones(block.shape, bool)
    if block.size:
        begins[..., 1:] = block[..., 1:] != block[..., :-1]
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=block.size)
    values = np.ascontiguousarray(block).reshape(-1)[starts]
    there = values != 0
    return starts[there], lengths[there], values[there]


def _merged(parts: list[dict[str, NDArray[Any]]], ndim: int) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Put the rows of all blocks together by id."""
    parts = [part for part in parts if len(part["id"])]
    if not parts:
        zero = np.zeros((0, ndim), np.int64)
        return np.zeros(0, np.int64), {"size": np.zeros(0, np.int64), "low": zero, "high": zero, "sum": zero.astype(np.float64)}
    ids, inverse = np.unique(np.concatenate([part["id"] for part in parts]), return_inverse=True)
    rows = {name: np.concatenate([part[name] for part in parts]) for name in ("size", "low", "high", "sum")}
    low, high = np.full((len(ids), ndim), np.iinfo(np.int64).max), np.zeros((len(ids), ndim), np.int64)
    size, total = np.zeros(len(ids), np.int64), np.zeros((len(ids), ndim))
    np.minimum.at(low, inverse, rows["low"])
    np.maximum.at(high, inverse, rows["high"])
    np.add.at(size, inverse, rows["size"])
    np.add.at(total, inverse, rows["sum"])
    return ids, {"size": size, "low": low, "high": high, "sum": total}


def _classes_of(ids: NDArray[Any], classes: Sequence[Class], named: Mapping[int, int]) -> NDArray[np.int64]:
    stuff = {c.id for c in classes if not c.countable}
    things = [c.id for c in classes if c.countable]
    other = things[0] if len(things) == 1 else 0
    return np.array([named.get(i, i if i in stuff else other) for i in ids.tolist()], np.int64)


def _typed(name: str, column: NDArray[Any]) -> NDArray[Any]:
    if name.startswith(_FLOATS):
        return column.astype(np.float64, copy=False)
    if name.startswith(_INTEGERS) and column.dtype.kind in "biuf":
        large = column.dtype.kind == "u" and bool(len(column)) and int(column.max()) > np.iinfo(np.int64).max
        return column.astype(np.uint64 if large else np.int64, copy=False)
    if column.dtype.kind in "bi":
        return column.astype(np.int64)
    if column.dtype.kind == "f":
        return column.astype(np.float64)
    return column if column.dtype.kind == "u" else column.astype(np.str_)


def _texts(column: NDArray[Any]) -> list[str]:
    return [repr(v) if isinstance(v, float) else str(v) for v in column.tolist()]


def _parsed(name: str, texts: list[str]) -> NDArray[Any]:
    kinds: tuple[type, ...] = (int, float, str) if texts else (float,)
    if name == "status":
        kinds = (str,)
    elif name.startswith((*_INTEGERS, *_FLOATS)):
        kinds = (int,) if name.startswith(_INTEGERS) else (float,)
    for kind in kinds:
        try:
            values = [kind(text) for text in texts]
        except ValueError:
            continue
        return _typed(name, np.array(values, dtype=_dtype(kind, values)))
    raise ValueError(f"column {name!r} holds something else than numbers")


def _dtype(kind: type, values: list[Any]) -> Any:
    if kind is int:
        return np.uint64 if values and max(values) > np.iinfo(np.int64).max else np.int64
    return np.float64 if kind is float else np.str_
