"""Other ways to find components by blocks: dask-image's `label`, and what Cellpose does for images that are too large for one network call.

A way is made by a function that imports what it needs, so that the time of importing is not counted; it raises ImportError or
RuntimeError where something is missing. A way takes the foreground, writes labels and answers where: the path of a zarr array.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_segsuite.io.shards import Grid

Way = Callable[[NDArray[np.bool_], Grid], Path]


def labels_at(path: Path) -> NDArray[Any]:
    """What a way has written."""
    array: Any = zarr.open_array(path, mode="r")
    return np.asarray(array[:])


def kept(truth: NDArray[Any], labels: NDArray[Any]) -> int:
    """How many objects of `truth` have one label that no other object has, in arrays of the same foreground."""
    inside = truth > 0
    pairs = np.unique(np.stack([truth[inside], labels[inside]]).astype(np.int64), axis=1)
    counts = [np.bincount(side)[side] for side in pairs]
    return int(np.count_nonzero((counts[0] == 1) & (counts[1] == 1) & (pairs[1] > 0)))


def dask_image() -> Way:
    """`dask_image.ndmeasure.label`, written to the same kind of store as ours; what it finds is the same whatever the blocks."""
    import dask
    import dask.array as da
    from dask_image import ndmeasure

    def way(foreground: NDArray[np.bool_], grid: Grid) -> Path:
        with dask.config.set(scheduler="synchronous"):
            labels, _ = ndmeasure.label(da.from_array(foreground, chunks=grid.block))
            da.store(labels.astype(np.uint32), _Target(grid), lock=False)
        return grid.folder

    return way


@dataclass
class _Target:
    """A store as what dask writes into."""

    grid: Grid

    def __setitem__(self, box: tuple[slice, ...], block: NDArray[Any]) -> None:
        self.grid.write([s.start // n for s, n in zip(box, self.grid.block, strict=True)], block)


def cellpose() -> Way:
    """Cellpose's `contrib.distributed_segmentation.distributed_eval`, all of it but the network.

    In its place the components of the block stand, by cc3d; their time counts for Cellpose, as our labelling counts for ours. Blocks
    have no overlap (Cellpose makes it twice the diameter, which is given as 0): what is merged is merged by their faces. Tasks run in
    this process one after the other, and `zarr.open` takes the mode by its place again, as it did before zarr 3.

    Theirs are thus `process_block` with `remove_overlaps`, `bounding_boxes_in_global_coordinates`, `global_segment_ids` and
    `block_faces`, the zarr array in between, `determine_merge_relabeling` with `adjacent_faces`, `block_face_adjacency_graph` and
    `shrink_labels`, the relabelling by dask into a zarr array, and `merge_all_boxes`.
    """
    import cc3d
    import dask

    theirs = _distributed_segmentation()

    def components(foreground: NDArray[np.bool_], crop: tuple[slice, ...], *_: object) -> NDArray[np.uint32]:
        found: NDArray[np.uint32] = cc3d.connected_components(foreground[crop], connectivity=6, out_dtype=np.uint32)
        return found

    def way(foreground: NDArray[np.bool_], grid: Grid) -> Path:
        path = grid.folder.parent / "cellpose.zarr"
        with contextlib.ExitStack() as stack:
            # It makes folders where it is called, named by the second, and prints each block.
            stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory(dir=grid.folder.parent))))
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(dask.config.set(scheduler="synchronous"))
            stack.enter_context(mock.patch.multiple(theirs, read_preprocess_and_segment=components, zarr=SimpleNamespace(open=_open)))
            theirs.distributed_eval(foreground, grid.block, os.fspath(path), eval_kwargs={"diameter": 0}, cluster=_Here())
        return path

    return way


def _distributed_segmentation() -> ModuleType:
    with warnings.catch_warnings():  # a new Python finds escapes in its strings that are none
        warnings.simplefilter("ignore")
        import cellpose.contrib.distributed_segmentation as theirs

        module: ModuleType = theirs
        return module


def _open(path: str, mode: Any = "r", **about: Any) -> Any:
    return zarr.open(path, mode=mode, **about)


class _Here:
    """What `distributed_eval` wants of a cluster, without any other process."""

    @property
    def client(self) -> _Here:
        """Itself."""
        return self

    def map(self, task: Callable[..., Any], *columns: Sequence[Any], **same: Any) -> list[Any]:
        """Do all tasks."""
        return [task(*values, **same) for values in zip(*columns, strict=True)]

    def gather(self, results: list[Any]) -> list[Any]:
        """Nothing is left to wait for."""
        return results
