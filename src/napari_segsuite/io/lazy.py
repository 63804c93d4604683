"""Arrays that stay on disk until they are indexed, seen in our axis order and native byte order."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.io.faults import reading

Order = tuple[int | None, ...]
"""For each axis of the view the stored axis it shows, or None for an added axis of length 1."""


Opened = tuple[Any, Callable[[], object] | None]
"""An open array, and what closes the file behind it."""


class View:
    """An array on disk in another axis order; opened on first use, and anew in every process it is sent to.

    Parameters
    ----------
    open_array : callable without arguments
        Opens what is stored, and says how to close it; importable by name (`functools.partial` of a module's function), so that it can
        be pickled.
    shape : tuple of int
        Stored shape.
    dtype : dtype
        Stored type; the view's is the same in native byte order.
    order : tuple of int or None
    path : Path
        What to name when reading fails.
    chunks : tuple of int, optional
        Shape of the pieces in which it is stored, where reading a part of one costs as much as all of it.
    """

    def __init__(
        self, open_array: Callable[[], Opened], shape: tuple[int, ...], dtype: np.dtype[Any], order: Order, path: Path,
        chunks: tuple[int, ...] | None = None,
    ) -> None:  # fmt: skip
        self._open, self._stored_shape, self._order, self._path = open_array, shape, order, path
        self._array: Any = None
        self.dtype = dtype.newbyteorder("=")
        self.shape = tuple(1 if i is None else shape[i] for i in order)
        self.chunks = None if chunks is None else tuple(1 if i is None else min(chunks[i], shape[i]) for i in order)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Size in memory if all of it were read."""
        return self.size * self.dtype.itemsize

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        """Read what integers, slices and an ellipsis point at."""
        keys = _full(key, self.ndim)
        stored: list[Any] = [slice(None)] * len(self._stored_shape)
        for axis, one in zip(self._order, keys, strict=True):
            if axis is not None:
                # As a slice even for one index, so that every stored axis is still there when they are put in order.
                stored[axis] = slice(one, one + 1 or None) if isinstance(one, int) else one
        with reading(self._path, f"region {text_of(keys)}"):
            if self._array is None:
                self._array, close = self._open()
                if close is not None:
                    weakref.finalize(self, close)
            found = np.asarray(self._array[tuple(stored)])
        return arrange(found, self._order)[tuple(_rest(axis, one) for axis, one in zip(self._order, keys, strict=True))]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all of it."""
        found = self[...]
        return found if dtype is None else found.astype(dtype, copy=False)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{self._path.name}: {self.shape} {self.dtype}, on disk>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None}


def arrange(array: NDArray[Any], order: Order) -> NDArray[Any]:
    """Put the axes of an array in another order, add axes of length 1, and give it native byte order.

    >>> arrange(np.zeros((5, 6, 3), ">u2"), (None, 2, 0, 1)).shape
    (1, 3, 5, 6)
    """
    added = tuple(k for k, i in enumerate(order) if i is None)
    moved = np.expand_dims(array.transpose([i for i in order if i is not None]), added)
    return moved.astype(moved.dtype.newbyteorder("="), copy=False)


def _full(key: Any, ndim: int) -> tuple[int | slice, ...]:
    given = key if isinstance(key, tuple) else (key,)
    if Ellipsis in given:
        at = given.index(Ellipsis)
        given = (*given[:at], *[slice(None)] * (ndim - len(given) + 1), *given[at + 1 :])
    given = (*given, *[slice(None)] * (ndim - len(given)))
    if len(given) != ndim or not all(isinstance(k, (int, np.integer, slice)) for k in given):
        raise IndexError(f"an array on disk of {ndim} axes takes integers and slices, not {key!r}")
    return tuple(k if isinstance(k, slice) else int(k) for k in given)


def _rest(axis: int | None, one: int | slice) -> int | slice:
    """What is left to do after the stored axes were cut."""
    if axis is None:
        return one
    return 0 if isinstance(one, int) else slice(None)


def text_of(keys: tuple[Any, ...]) -> str:
    """Say which part is meant.

    >>> text_of((3, slice(None), slice(0, 5)))
    '[3, :, 0:5]'
    """
    shown = (f"{k.start}:{k.stop}" if isinstance(k, slice) and k != slice(None) else ":" if isinstance(k, slice) else str(k) for k in keys)
    return f"[{', '.join(shown)}]"
