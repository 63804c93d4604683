"""Objects over time: who is who whatever their numbers are, gaps, divisions, and the layout of the Cell Tracking Challenge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_segsuite import Segmentation, read_segmentation, write
from napari_segsuite.cli import main
from napari_segsuite.errors import InputError, OptionError, OutputError
from napari_segsuite.io.table import table_of
from napari_segsuite.tracking import track
from napari_segsuite.tracking.ctc import read_ctc, write_ctc
from napari_segsuite.types import Class

CELLS = (Class(1, "cell"),)


def movie(labels: NDArray[Any], classes: tuple[Class, ...] = CELLS, of: dict[int, int] | None = None, size: float = 0.5) -> Segmentation:
    axes = "tyx" if labels.ndim == 3 else "tzyx"
    scale = (60.0, *(size,) * (labels.ndim - 1))
    units = ("second", *("micrometer",) * (labels.ndim - 1))
    return Segmentation(labels, table_of(labels, axes, classes, of), classes, axes, scale, units, (0.0,) * labels.ndim, name="movie")


def walk(frames: int, seed: int, dims: int = 2) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Discs that move a little: their true numbers, and others that mean nothing over time."""
    rng = np.random.default_rng(seed)
    grid = np.indices((20,) * (dims - 2) + (60, 80))
    start = np.array([[*(10,) * (dims - 2), y, x] for y, x in ((10, 12), (12, 40), (40, 20), (42, 60))], float)
    true = np.zeros((frames, *grid.shape[1:]), np.int32)
    for t in range(frames):
        for k, place in enumerate(start, start=1):
            middle = place + t * np.array([*(0,) * (dims - 2), (-1) ** k, 1.5])
            true[t][((grid - middle.reshape(-1, *[1] * dims)) ** 2).sum(0) <= 16] = k
    other = np.stack([np.concatenate([[0], rng.permutation(4) + 1 + 10 * int(rng.integers(0, 5))])[frame] for frame in true])
    return true, other.astype(np.int32)


@given(st.integers(2, 8), st.integers(0, 99), st.sampled_from([2, 3]))
@settings(max_examples=12, deadline=None)
def test_objects_keep_one_number_whatever_their_labels_are(frames: int, seed: int, dims: int) -> None:
    true, other = walk(frames, seed, dims)
    found, tracks = track(movie(other))
    pairs = np.unique(np.stack([true.ravel(), np.asarray(found.labels).ravel()]), axis=1)
    assert pairs.shape[1] == 5, "one number per object, and background"
    assert (found.labels > 0).sum() == (other > 0).sum()
    assert len(tracks.table["t"]) == 4 * frames
    assert not tracks.parents
    assert found.segments["id"].tolist() == [1, 2, 3, 4]
    assert found.segments["score"].tolist() == [1, 1, 1, 1]


def test_distances_are_in_the_unit_of_the_scale() -> None:
    _, other = walk(5, 1)
    step = np.hypot(1, 1.5) * 0.5
    assert len(track(movie(other), max_distance=1.1 * step)[0].segments["id"]) == 4
    assert len(track(movie(other), max_distance=0.9 * step)[0].segments["id"]) == 20


def test_an_object_that_was_missed_is_found_again_if_gaps_are_allowed() -> None:
    _, other = walk(6, 2)
    missed = other[2, 12 + 2, 40 + 3]
    other[2][other[2] == missed] = 0
    assert len(track(movie(other))[0].segments["id"]) == 5
    found, tracks = track(movie(other), max_gap=1, max_distance=4)
    assert len(found.segments["id"]) == 4
    assert sorted(np.unique(tracks.table["track"], return_counts=True)[1].tolist()) == [5, 6, 6, 6]
    missed = other[3, 12 + 3, 40 + 4]
    other[3][other[3] == missed] = 0
    assert len(track(movie(other), max_gap=1, max_distance=4)[0].segments["id"]) == 5, "two frames are more than one"
    assert len(track(movie(other), max_gap=2, max_distance=4)[0].segments["id"]) == 4


def dividing() -> NDArray[np.int32]:
    labels = np.zeros((6, 40, 40), np.int32)
    for t in range(6):
        for k, (y, x) in enumerate([(20, 20)] if t < 3 else [(20 - 2 * (t - 2), 17), (20 + 2 * (t - 2), 23)], start=1):
            labels[t, y - 2 : y + 3, x - 2 : x + 3] = k
    return labels


def test_divisions_name_the_parent() -> None:
    found, tracks = track(movie(dividing()), divisions=True, max_distance=4)
    assert len(found.segments["id"]) == 3
    assert tracks.parents == {2: 1, 3: 1}
    assert not track(movie(dividing()), max_distance=4)[1].parents


def test_classes_stay_and_stuff_is_no_track() -> None:
    _, other = walk(3, 4)
    classes = (Class(1, "ground", countable=False), Class(2, "a"), Class(3, "b"))
    labels = np.where(other > 0, other + 1, 1).astype(np.int32)
    of = {1: 1, **{int(i): 2 + int(i) % 2 for i in np.unique(labels[labels > 1])}}
    found, _ = track(movie(labels, classes, of))
    assert (np.asarray(found.labels) == 1).sum() == (labels == 1).sum()
    assert found.segments["class_id"][0] == 1
    assert set(found.segments["class_id"][1:].tolist()) <= {2, 3}
    assert len(found.segments["id"]) == 5


def test_nothing_is_tracked_where_nothing_is() -> None:
    found, tracks = track(movie(np.zeros((3, 9, 9), np.uint8)))
    assert not found.labels.any()
    assert not len(tracks.table["t"])


@pytest.mark.parametrize("dims", [2, 3])
def test_the_layout_of_the_challenge_goes_there_and_back(dims: int, tmp_path: Path) -> None:
    _, other = walk(4, 5, dims)
    found, tracks = track(movie(other))
    folder = write_ctc(found, tracks, tmp_path / "res")
    assert sorted(p.name for p in folder.iterdir()) == [*(f"mask{t:03}.tif" for t in range(4)), "res_track.txt"]
    assert (folder / "res_track.txt").read_text() == "1 0 3 0\n2 0 3 0\n3 0 3 0\n4 0 3 0\n"
    back, again = read_ctc(folder)
    np.testing.assert_array_equal(back.labels, found.labels)
    for name, column in tracks.table.items():
        np.testing.assert_allclose(again.table[name], tracks.table["track"] if name == "id" else column)


def test_divisions_and_gaps_in_the_layout_of_the_challenge(tmp_path: Path) -> None:
    found, tracks = track(movie(dividing()), divisions=True, max_distance=4)
    assert (write_ctc(found, tracks, tmp_path / "a") / "res_track.txt").read_text() == "1 0 2 0\n2 3 5 1\n3 3 5 1\n"
    assert read_ctc(tmp_path / "a")[1].parents == {2: 1, 3: 1}
    labels = dividing()
    labels[3:] = 0
    labels[4:, 18:23, 18:23] = 1
    found, tracks = track(movie(labels), max_gap=2)
    assert (write_ctc(found, tracks, tmp_path / "b") / "res_track.txt").read_text() == "1 0 2 0\n2 4 5 1\n", "a gap is a child of itself"


@pytest.mark.parametrize(
    ("text", "told"),
    [("1 0 9 0\n", "frames 0 to 9"), ("1 0 x 0\n", "Line 1"), ("1 0\n", "four whole numbers"), ("1 2 1 0\n", "frames 2 to 1")],
)
def test_damaged_tracks_are_named(text: str, told: str, tmp_path: Path) -> None:
    found, tracks = track(movie(walk(3, 6)[1]))
    folder = write_ctc(found, tracks, tmp_path / "res")
    (folder / "res_track.txt").write_text(text)
    with pytest.raises(InputError, match=told):
        read_ctc(folder)


def test_missing_and_strange_frames_are_named(tmp_path: Path) -> None:
    found, tracks = track(movie(walk(3, 6)[1]))
    folder = write_ctc(found, tracks, tmp_path / "res")
    with pytest.raises(OutputError, match="is not empty"):
        write_ctc(found, tracks, folder)
    tifffile.imwrite(folder / "mask001.tif", np.zeros((3, 3), np.uint8))
    with pytest.raises(InputError, match=r"mask001\.tif has the shape"):
        read_ctc(folder)
    (folder / "mask001.tif").unlink()
    with pytest.raises(InputError, match="none missing"):
        read_ctc(folder)
    with pytest.raises(InputError, match="neither res_track"):
        read_ctc(tmp_path)


def test_what_cannot_be_tracked_says_why() -> None:
    still = movie(walk(2, 1)[1])
    with pytest.raises(OptionError, match="max_distance is -1"):
        track(still, max_distance=-1)
    plane = Segmentation(still.labels[0], still.segments, CELLS, "yx", (1.0, 1.0), ("pixel",) * 2, (0.0, 0.0))
    with pytest.raises(InputError, match="Needed: an axis t"):
        track(plane)


def test_the_command_writes_labels_and_tracks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    true, other = walk(4, 7)
    write(movie(other), tmp_path / "cells.ome.tif")
    assert main(["track", str(tmp_path / "cells.ome.tif"), "--out", str(tmp_path / "out.ome.tif")]) == 0
    assert "4 objects in 4 frames" in capsys.readouterr().out
    found = read_segmentation(tmp_path / "out.ome.tif")
    assert found.scale == (60.0, 0.5, 0.5)
    assert found.provenance["tracking"]["tracks"] == 4
    assert np.unique(np.stack([true.ravel(), np.asarray(found.labels).ravel()]), axis=1).shape[1] == 5
    assert (tmp_path / "out_tracks.csv").read_text().splitlines()[0] == "track,t,id,y,x,parent"
    assert main(["track", str(tmp_path / "cells.ome.tif"), "--out", str(tmp_path / "out.ome.tif")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["track", str(tmp_path / "cells.ome.tif"), "--out", str(tmp_path / "ctc"), "--format", "ctc"]) == 0
    np.testing.assert_array_equal(read_ctc(tmp_path / "ctc")[0].labels, found.labels)
    assert main(["track", str(tmp_path / "cells.ome.tif"), "--out", str(tmp_path / "folder")]) == 1
