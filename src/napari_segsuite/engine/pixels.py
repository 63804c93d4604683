"""Reading pixels of an image, which may lie on disk and be damaged or missing there."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, SegsuiteError
from napari_segsuite.io.faults import AGAIN, patiently
from napari_segsuite.io.place import from_there
from napari_segsuite.types import Image


def read(image: Image, index: tuple[int | slice, ...]) -> NDArray[Any]:
    """Read a part of the finest level.

    Parameters
    ----------
    image : Image
        With numpy, dask or zarr data.
    index : tuple of int or slice
        One per axis.

    Raises
    ------
    InputError
        What is stored cannot be decoded: a damaged chunk, a file that is gone. Or what computes the pixels fails.

    Notes
    -----
    A disk that does not answer for a moment is asked again (`faults.patiently`).
    """
    try:
        with from_there(image.source):
            return patiently(lambda: np.asarray(image.data[index]))
    except (SegsuiteError, MemoryError):
        raise
    except Exception as error:  # the pixels of a dask array come out of the code of others, which raises what it likes
        where = ", ".join(f"{axis}={_told(i)}" for axis, i in zip(image.axes, index, strict=True))
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        do = AGAIN if image.source else "What computes this array failed there; try to compute that part by itself."
        raise InputError(f"pixels of {image.source or image.name} at {where} cannot be read ({why})", do=do) from error


def missing(image: Image) -> list[str]:
    """What to tell of chunks that a zarr image on disk does not have: empty ones need not be stored, but lost ones look the same."""
    if not hasattr(type(image.data), "nchunks_initialized"):  # of the type, since asking the array lists all its chunks
        return []
    from napari_segsuite.io.store import missing_chunks  # with zarr, which is there already if the image is one of its arrays

    lost, total = 0, 0
    with suppress(OSError), from_there(image.source):  # of a web server that lists nothing, nothing can be told
        lost, total = missing_chunks(image.data)
    return [f"{lost} of {total} chunks of {image.name!r} are not stored and were taken as {image.data.fill_value}"] if lost else []


def _told(index: int | slice) -> str:
    if not isinstance(index, slice):
        return str(index)
    return "all" if index.start is None else f"{index.start}:{index.stop}"
