"""Labels that are written block by block: every level holds every n-th voxel of the one above it, whatever the blocks."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_segsuite.io import label_store, pyramid, shards

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=20, deadline=None)
@given(
    shape=SHAPES,
    parts=st.tuples(*[st.integers(1, 3)] * 3),
    version=st.sampled_from(["0.4", "0.5"]),
    dtype=st.sampled_from(["uint32", "uint64"]),
    seed=st.integers(0, 9),
)
def test_each_level_has_every_nth_voxel_of_the_one_above(shape: tuple[int, ...], parts: tuple[int, ...], version: str, dtype: str, seed: int) -> None:
    rng, block = np.random.default_rng(seed), [-(-n // k) for n, k in zip(shape, parts, strict=True)]
    labels = rng.integers(1, 2**31, shape).astype(dtype) * (rng.random(shape) < rng.choice([0.0, 0.01, 0.9]))
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(pyramid, "SMALL_VOXELS", 100)
        patch.setattr(shards, "LIMITS", {3: (3, 8, 8)})
        store = label_store.plan_store(Path(folder) / "a.ome.zarr", "zyx", shape, block, version=version, dtype=dtype)
        label_store.begin(store.path, store.version)
        store.create()
        thin: dict[Any, Any] = {}
        for level in range(1, len(store.levels)):
            for at in np.ndindex(*store.levels[level].counts):
                box = store.levels[level].box(at)
                lower, first = np.empty([s.stop - s.start for s in box], dtype), [s.start for s in box]
                for fine in store.above(level, at):
                    if level == 1:
                        store.write(0, fine, labels[store.levels[0].box(fine)], lower, first)
                    else:
                        store.put_into(level, at, fine, thin[level - 1, fine], lower)
                more = level + 1 < len(store.levels)
                thin[level, at], corner = store.thinned(level + 1, at) if more else (None, ())
                store.write(level, at, lower, thin[level, at], corner)
        if len(store.levels) == 1:
            for at in np.ndindex(*store.levels[0].counts):
                store.write(0, at, labels[store.levels[0].box(at)], None)
        expected = labels
        for grid, factors in zip(store.levels, (*store.factors, (1, 1, 1)), strict=True):
            np.testing.assert_array_equal(zarr.open_array(grid.folder, mode="r")[...], expected)
            expected = expected[tuple(slice(None, None, f) for f in factors)]
