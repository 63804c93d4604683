"""The table of segments, against scikit-image's region properties and by hand."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from skimage.measure import regionprops

from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io import blocks, write
from napari_segsuite.io.table import columns_of, read_table, table_of, write_table
from napari_segsuite.types import Class, Segmentation

CELL = (Class(1, "cell"),)
labelled = hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=3, max_side=9), elements=st.integers(0, 6))


@given(labelled)
@settings(max_examples=25, deadline=None)
def test_agrees_with_region_properties(labels: NDArray[Any]) -> None:
    axes = "zyx"[-labels.ndim :]
    found = table_of(labels, axes, CELL)
    regions = regionprops(labels)
    assert tuple(found) == columns_of(axes)
    assert found["id"].tolist() == [r.label for r in regions]
    assert found["size"].tolist() == [int(r.area) for r in regions]
    for k, a in enumerate(axes):
        assert found[f"bbox_{a}0"].tolist() == [r.bbox[k] for r in regions]
        assert found[f"bbox_{a}1"].tolist() == [r.bbox[k + labels.ndim] for r in regions]
        assert found[f"centroid_{a}"] == pytest.approx([r.centroid[k] for r in regions])


@given(labelled, st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_does_not_depend_on_the_chunks(labels: NDArray[Any], height: int, width: int) -> None:
    stored = zarr.array(labels, chunks=(height, width, 2)[: labels.ndim])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_ELEMENTS", 8)
        cut = table_of(stored, "zyx"[-labels.ndim :], CELL)
    whole = table_of(labels, "zyx"[-labels.ndim :], CELL)
    assert all(np.array_equal(cut[name], whole[name]) for name in whole)


@pytest.mark.parametrize("ids", [(5, 50_000_000), (2**31, 2**53 + 1), (2**63, 2**64 - 1)])
def test_huge_ids_stay_exact_and_cost_no_memory(ids: tuple[int, int]) -> None:
    labels = np.zeros((40, 50), np.uint64)
    labels[3:5, 4:9], labels[30:33, 40:41] = ids
    tracemalloc.start()
    found = table_of(labels, "yx", CELL)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found["id"].tolist() == list(ids)
    assert found["size"].tolist() == [10, 3]
    assert peak < 2**20


def test_ids_of_different_blocks_are_not_joined_as_floats() -> None:
    labels = np.zeros((2, 4), np.uint64)
    labels[0], labels[1] = 3, 2**64 - 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_ELEMENTS", 4)
        assert table_of(labels, "yx", CELL)["id"].tolist() == [3, 2**64 - 1]


def test_classes_follow_the_ids_of_stuff() -> None:
    kinds = (Class(1, "soil", countable=False), Class(2, "root", countable=False), Class(3, "seed"))
    labels = np.array([[1, 2, 7, 8]])
    assert table_of(labels, "yx", kinds)["class_id"].tolist() == [1, 2, 3, 3]
    assert table_of(labels, "yx", kinds, {8: 2})["class_id"].tolist() == [1, 2, 3, 2]
    two_kinds = (Class(1, "round"), Class(2, "long"))
    assert table_of(labels, "yx", two_kinds)["class_id"].tolist() == [0, 0, 0, 0], "which of several countable classes is not known"


def test_csv_can_be_read_by_people_and_by_numpy(tmp_path: Path) -> None:
    write_table(table_of(np.array([[0, 7, 7], [0, 0, 7]]), "yx", CELL), tmp_path / "t.csv")
    lines = (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()
    assert lines == [
        "id,class_id,score,size,bbox_y0,bbox_y1,centroid_y,bbox_x0,bbox_x1,centroid_x,status",
        "7,1,1.0,3,0,2,0.3333333333333333,1,3,1.6666666666666667,",
    ]
    assert np.genfromtxt(tmp_path / "t.csv", delimiter=",", names=True)["centroid_x"] == 1.6666666666666667


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no column 'id' (its first line is '')"),
        ("a,b\n1,2\n", "has no column 'id' (its first line is 'a,b')"),
        ("id,size\n1,2\n3\n", "Line 3 of {path} has 1 fields. Needed: 2, as in the header."),
        ("id,size\n1,many\n", "File {path} cannot be read: reading failed (ValueError: column 'size' holds something else than numbers)"),
    ],
)
def test_a_damaged_table_is_named(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_table(tmp_path / "t.csv")
    assert complaint.format(path=tmp_path / "t.csv") in str(caught.value)


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr", ".png", ".nii.gz"])
def test_columns_of_different_lengths_are_named(make_segmentation: Callable[..., Segmentation], tmp_path: Path, suffix: str) -> None:
    found = make_segmentation()
    broken = replace(found, segments={**found.segments, "score": np.ones(7)})
    with pytest.raises(OutputError, match=r"different lengths \(id 2, class_id 2, score 7, .*one row per segment; look at score\."):
        write(broken, tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())
