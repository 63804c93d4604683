"""OME-Zarr labels that come into being block by block: made empty, filled by many processes at once, and called finished by one last write.

Until then the store's group says that it is not finished, and has no OME-Zarr metadata that a reader could take it for a result by.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_segsuite.io import ngff, ome_zarr_write, pyramid
from napari_segsuite.io.commit import put_attributes, sync_file
from napari_segsuite.io.faults import writing
from napari_segsuite.io.ome_zarr import TABLE
from napari_segsuite.io.place import is_folder, is_remote, make_folder, names_in, remove, store_at
from napari_segsuite.io.record import FORMAT, KEY, UNFINISHED, segmentation_record
from napari_segsuite.io.shards import LEVEL, LOWER_LEVEL, Grid, inner_of
from napari_segsuite.io.table import tidy
from napari_segsuite.types import SPATIAL, Segmentation


@dataclass(frozen=True)
class LabelStore:
    """Where and how a pyramid of labels is stored.

    Attributes
    ----------
    path : Path
    axes : str
    levels : tuple of Grid
        Finest first. A block of a level is made of whole blocks of the level above it.
    factors : tuple of tuples of int
        How much each level shrinks the one above it.
    version : {'0.4', '0.5'}
    inside : bool
        Whether it lies in the ``labels`` group of an image.
    """

    path: Path
    axes: str
    levels: tuple[Grid, ...]
    factors: tuple[pyramid.Factors, ...]
    version: str
    inside: bool = False

    def create(self) -> None:
        """Make the arrays; what an earlier run wrote into them stays."""
        with writing(self.path):
            group = zarr.open_group(store_at(self.path), mode="r+")
            for grid in self.levels:
                if grid.folder.name not in group:
                    grid.create(group, self.axes)

    def above(self, level: int, at: Sequence[int]) -> list[tuple[int, ...]]:
        """The blocks of the level above that a block is made of."""
        fine, coarse = self.levels[level - 1], self.levels[level]
        sides = []
        for s, f, b, count in zip(coarse.box(at), self.factors[level - 1], fine.block, fine.counts, strict=True):
            sides.append(range(s.start * f // b, min(-(-s.stop * f // b), count)))
        return list(product(*sides))

    def write(self, level: int, at: Sequence[int], block: NDArray[Any], lower: NDArray[Any] | None, first: Sequence[int] = ()) -> None:
        """Write a block of a level, and put every n-th voxel of it where it belongs in a block of the next level.

        Parameters
        ----------
        level, at
            Which block.
        block : array
        lower : array, optional
            Of the next level.
        first : d ints
            The first voxel of `lower` in its level.
        """

        def pick(into: NDArray[Any], start: Sequence[int], chunk: NDArray[Any]) -> None:
            self._put(level + 1, start, self._thin(level + 1, start, chunk), into, first)

        self.levels[level].write(at, block, partial(pick, lower) if lower is not None else None)

    def thinned(self, level: int, at: Sequence[int]) -> tuple[NDArray[Any], tuple[int, ...]]:
        """Room for every n-th voxel of a block of the level above, to be filled by `write`, and which voxel of this level is its first."""
        grid, factors = self.levels[level - 1], self.factors[level - 1]
        sides = [(-(-s.start // f), -(-s.stop // f)) for s, f in zip(grid.box(at), factors, strict=True)]
        return np.empty([b - a for a, b in sides], grid.dtype), tuple(a for a, _ in sides)

    def put_into(self, level: int, at: Sequence[int], place: Sequence[int], thin: NDArray[Any], lower: NDArray[Any]) -> None:
        """Put what this level has of a block of the level above (`thinned`) where it belongs in a block of this level."""
        self._put(level, [s.start for s in self.levels[level - 1].box(place)], thin, lower, [s.start for s in self.levels[level].box(at)])

    def _put(self, level: int, start: Sequence[int], thin: NDArray[Any], lower: NDArray[Any], first: Sequence[int]) -> None:
        """Put what this level has of some voxels, of which the first is `start` in the level above, where it belongs."""
        sides = [-(-s // f) - o for s, f, o in zip(start, self.factors[level - 1], first, strict=True)]
        np.copyto(lower[tuple(slice(a, a + n) for a, n in zip(sides, thin.shape, strict=True))], thin, casting="unsafe")

    def _thin(self, level: int, start: Sequence[int], block: NDArray[Any]) -> NDArray[Any]:
        """A view of every n-th voxel; perhaps of a wider type, which is to be cast to that of the block."""
        factors = self.factors[level - 1]
        picked = tuple(slice(-s % f, None, f) for s, f in zip(start, factors, strict=True))
        if block.dtype == "<u4" and block.flags.c_contiguous and factors[-1] == 2 and picked[-1].start == 0 and block.shape[-1] % 2 == 0:
            # Two voxels read as one number, whose lower half is the first of them: faster than every second one.
            return block.view("<u8")[picked[:-1]]
        return block[picked]

    def finish(self, segmentation: Segmentation) -> None:
        """Write the table and, last of all, the metadata that makes the store a result."""
        with writing(self.path):
            group = zarr.open_group(store_at(self.path), mode="r+")
            segments = tidy(segmentation.segments)
            remove(self.path / TABLE)  # of a run that was killed while it wrote it
            ome_zarr_write.write_labels_table(group, segments)
            told = ngff.image_label(segments, segmentation.classes, inside=self.inside, version=self.version)
            scales = ome_zarr_write.scales_of(segmentation, [grid.shape for grid in self.levels], "nearest", self.version)
            ome = {"multiscales": [scales], "image-label": told}
            self._sync()
            put_attributes(self.path, {**ngff.wrapped(ome, self.version), KEY: segmentation_record(segmentation, table=False)})
        if self.inside:
            ome_zarr_write.register(self.path, self.version)

    def _sync(self) -> None:
        """Force to the disk what zarr wrote, which forces nothing, before the store is called a result."""
        if is_remote(self.path):
            return
        made = [grid.folder / name for grid in self.levels for name in ("zarr.json", ".zarray", ".zattrs")]
        for file in (*made, *(self.path / TABLE).rglob("*")):
            if file.is_file():
                sync_file(file)


def plan_store(path: Path, axes: str, shape: Sequence[int], block: Sequence[int], *, version: str | None = None, dtype: str = "uint32") -> LabelStore:
    """Decide how labels will be stored, without touching the disk except to look at the image that they belong to.

    Parameters
    ----------
    path : Path
        A store of its own, or ``IMAGE/labels/NAME``.
    axes, shape
        Of the labels.
    block : sequence of int
        What is written in one go, per axis.
    version : str, optional
        Of OME-Zarr, ``"0.5"`` by default; inside an image that of the image.
    dtype : str
    """
    parent = ome_zarr_write.parent_of(path)
    if parent is not None:
        version, factors = ome_zarr_write.like_image(parent, axes, version, shape)
    else:
        version, factors = version or ome_zarr_write.DEFAULT_VERSION, pyramid.plan_factors(axes, shape)
    spatial = sum(a in SPATIAL for a in axes)
    levels, size, number = [], tuple(shape), ngff.check_version(version)
    for k in range(len(factors) + 1):
        size = pyramid.shrunk(size, factors[k - 1]) if k else size
        own = tuple(min(b, n) for b, n in zip(block, size, strict=True))
        levels.append(Grid(path / str(k), size, own, inner_of(own, spatial, number), dtype, number, LOWER_LEVEL if k else LEVEL))
    return LabelStore(path, axes, tuple(levels), tuple(factors), version, parent is not None)


def of_type(store: LabelStore, dtype: str) -> LabelStore:
    """The same store with another type of ids."""
    return replace(store, levels=tuple(replace(grid, dtype=dtype) for grid in store.levels))


def finest(store: LabelStore) -> zarr.Array[Any]:
    """The finest level, for reading."""
    return zarr.open_array(store_at(store.levels[0].folder, read_only=True), mode="r")


def version_of(path: Path) -> str | None:
    """Version of OME-Zarr of a store that is there."""
    numbers = {number: version for version, number in ngff.VERSIONS.items()}
    return numbers[2] if (path / ".zgroup").is_file() else numbers[3] if (path / "zarr.json").is_file() else None


def sweep(store: LabelStore) -> None:
    """Delete files of levels that a killed process had not finished."""
    for grid in store.levels if not is_remote(store.path) else ():
        for folder, _, names in os.walk(grid.folder):
            for name in names:
                if name.startswith(".") and name not in (".zarray", ".zattrs"):
                    with suppress(OSError):
                        (Path(folder) / name).unlink()


def begin(path: Path, version: str) -> None:
    """Make the group of a store that is not finished."""
    with writing(path):
        if path.parent.name == "labels" and ome_zarr_write.parent_of(path):
            ome_zarr_write.prepare_parent(path, version)
        make_folder(path.parent)
        group = zarr.open_group(store_at(path), mode="a", zarr_format=ngff.check_version(version))
        group.update_attributes({KEY: {"format": FORMAT, "kind": UNFINISHED}})


def is_unfinished(path: Path) -> bool:
    """Whether there is a store at `path` that a run has not finished, or has hardly begun."""
    if _is_empty(path):
        return True
    try:
        attributes = zarr.open_group(store_at(path, read_only=True), mode="r").attrs.asdict()
    except (OSError, ValueError, KeyError):
        return False
    record = attributes.get(KEY)
    return isinstance(record, dict) and record.get("kind") == UNFINISHED


def _is_empty(path: Path) -> bool:
    """Whether a folder is all that there is, or a group with nothing in it: a run was killed right at its beginning."""
    if not is_folder(path):
        return False
    names = {name for name in names_in(path) if not (name.endswith(".partial") or name == ".segsuite")}
    return not names or (names <= {"zarr.json", ".zgroup"} and "attributes" not in _text(path / "zarr.json").replace('"attributes": {}', ""))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
