"""What happens when a write cannot be finished: a clear error, the old file as it was, and nothing new under the name."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_segsuite.errors import InputError, OutputError, SegsuiteError
from napari_segsuite.io import commit, read, read_segmentation, write, write_result
from napari_segsuite.io.faults import size_text, told
from napari_segsuite.types import Segmentation

Make = Callable[..., Segmentation]
NAMES = ("a.tif", "a.ome.zarr", "a.png", "a.nii.gz")
every_format = pytest.mark.parametrize("name", NAMES)

# Labels that do something to the process when the writer asks for their last row.
HEADER = """
import os, resource, signal, sys
import numpy as np
from napari_segsuite.errors import SegsuiteError
from napari_segsuite.io import write
from napari_segsuite.types import Class, Segmentation

class Labels:
    dtype, shape = np.dtype(np.uint16), (600, 700)
    reads = 0
    def __getitem__(self, key):
        Labels.reads += 1
        event(Labels.reads)
        return np.random.default_rng(0).integers(0, 9, self.shape).astype(np.uint16)[key]
    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[...])

def attempt(path, overwrite=True):
    segments = {"id": np.zeros(0, np.int64)}
    segmentation = Segmentation(Labels(), segments, (Class(1, "cell"),), "yx", (1.0, 1.0), ("pixel",) * 2, (0.0, 0.0))
    try:
        write(segmentation, path, overwrite=overwrite)
    except SegsuiteError as error:
        print(type(error).__name__, error)
"""


def run(code: str, *arguments: str) -> str:
    """Run code after `HEADER` in a process of its own; what it printed."""
    command = [sys.executable, "-c", HEADER + textwrap.dedent(code), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, -9), done.stderr
    return done.stdout


@every_format
def test_what_is_there_is_not_replaced_unless_asked(name: str, make_segmentation: Make, tmp_path: Path) -> None:
    path = write(make_segmentation(), tmp_path / name)
    kind = "Folder" if path.is_dir() else "File"
    with pytest.raises(OutputError) as caught:
        write(make_segmentation(np.ones((5, 6), np.uint8)), path)
    assert str(caught.value) == f"{kind} {path} exists already. Choose another name, or allow it to be replaced (overwrite=True, --overwrite)."
    assert read_segmentation(path).labels.shape == (30, 40)
    write(make_segmentation(np.ones((5, 6), np.uint8)), path, overwrite=True)
    assert read_segmentation(path).labels.shape == (5, 6)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@every_format
def test_a_folder_that_is_not_there_is_named(name: str, make_segmentation: Make, tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError) as caught:
            write(make_segmentation(), folder / name)
        assert str(caught.value) == f"There is no folder {folder} for {name}. Make the folder first, or choose another."
    assert not (tmp_path / "missing").exists()


@every_format
def test_a_source_that_fails_while_writing_leaves_the_old_file(name: str, make_segmentation: Make, tmp_path: Path) -> None:
    path = write(make_segmentation(), tmp_path / name)
    segmentation = make_segmentation()

    class Failing:
        dtype, shape, reads = np.dtype(np.uint16), (30, 40), 0

        def __getitem__(self, key: Any) -> Any:
            self.reads += 1
            if self.reads > 1:
                raise InputError("chunk (0, 0) is damaged")
            return np.asarray(segmentation.labels)[key]

        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            return np.asarray(self[...])

    with pytest.raises(InputError, match="is damaged"):
        write(replace(segmentation, labels=Failing()), path, overwrite=True)
    assert np.array_equal(np.asarray(read_segmentation(path).labels), segmentation.labels)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes and users are set as POSIX has them")
@every_format
def test_a_full_disk_leaves_the_old_file(name: str, make_segmentation: Make, tmp_path: Path) -> None:
    path = write(make_segmentation(), tmp_path / name)
    code = """
    def event(n): pass
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    attempt(sys.argv[1])
    """
    assert run(code, str(path)).startswith(f"OutputError File {path} would be larger than this file system or user may write.")
    assert read_segmentation(path).segments["id"].tolist() == [1, 5]
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes and users are set as POSIX has them")
@every_format
def test_a_folder_that_may_not_be_written_to_is_named(
    name: str, make_segmentation: Make, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.getbasetemp()
    for folder in (tmp_path, base, base.parent, *([base.parent.parent] if "PYTEST_XDIST_WORKER" in os.environ else [])):
        folder.chmod(0o755)  # so that another user comes as far as the folder that this is about
    locked = tmp_path / "locked"
    locked.mkdir()
    path = write(make_segmentation(), locked / name)
    code = """
    def event(n): pass
    attempt(sys.argv[2])  # every module is loaded before the rights are given up
    if os.geteuid() == 0:
        os.setuid(65534)
    attempt(sys.argv[1])
    """
    locked.chmod(0o555)
    try:
        said = run(code, str(path), str(tmp_path / name))
    finally:
        locked.chmod(0o755)
    assert said == f"OutputError Folder {locked} may not be written to, so {name} was not saved. Choose another folder.\n"
    assert read_segmentation(path).segments["id"].tolist() == [1, 5]


@pytest.mark.skipif(os.name != "posix", reason="a process is killed as POSIX does it")
@pytest.mark.parametrize("moment", [1, 2])
@every_format
def test_a_killed_process_leaves_the_old_file(name: str, moment: int, make_segmentation: Make, tmp_path: Path) -> None:
    path = write(make_segmentation(), tmp_path / name)
    code = """
    def event(n):
        if n == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
    attempt(sys.argv[1])
    print("survived")
    """
    assert run(code, str(path), str(moment)) == ""
    assert read_segmentation(path).segments["id"].tolist() == [1, 5]
    left = [p for p in tmp_path.iterdir() if p != path]
    assert all(p.name.startswith(f".{name}.part-") for p in left)
    for old in left:
        os.utime(old, (0, 0))
    write(make_segmentation(), path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == [name], "what a dead process left is swept away"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "The disk is full: {path} could not be written ("),
        (errno.EROFS, "Folder {folder} may not be written to, so a.tif was not saved. Choose another folder."),
        (errno.EFBIG, "File {path} would be larger than this file system or user may write."),
        (errno.EIO, "File {path} could not be written (OSError: [Errno 5] Input/output error)."),
    ],
)
def test_what_the_system_says_is_put_in_words(number: int, text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    assert str(told(OSError(number, os.strerror(number)), path)).startswith(text.format(path=path, folder=tmp_path))


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Small files of several kinds, as bytes."""
    folder = tmp_path_factory.mktemp("whole")
    pixels = np.random.default_rng(0).integers(0, 255, (8, 30, 40)).astype(np.uint16)
    tifffile.imwrite(folder / "plain.tif", pixels)
    tifffile.imwrite(folder / "tiles.tif", pixels, compression="zlib", tile=(16, 16), byteorder=">")
    tifffile.imwrite(folder / "a.ome.tif", pixels, compression="zlib", metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "imagej.tif", pixels, imagej=True, metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"})
    PIL.Image.fromarray(pixels[0].astype(np.uint8)).save(folder / "a.png")
    PIL.Image.fromarray(pixels[0].astype(np.uint8)).save(folder / "a.jpg")
    write(read(folder / "imagej.tif"), folder / "ours.tif")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_give_a_result_or_a_clear_error(data: st.DataObject, whole_files: dict[str, bytes], tmp_path: Path) -> None:
    name = data.draw(st.sampled_from(sorted(whole_files)))
    damaged = bytearray(whole_files[name])
    positions = st.integers(0, 400) | st.integers(0, len(damaged) - 1)
    for at, value in data.draw(st.lists(st.tuples(positions, st.integers(0, 255)), min_size=1, max_size=4)):
        damaged[min(at, len(damaged) - 1)] = value
    (tmp_path / name).write_bytes(damaged)
    for reader in (read, read_segmentation):
        with contextlib.suppress(SegsuiteError):
            reader(tmp_path / name)


def test_sizes_are_written_for_people() -> None:
    assert [size_text(n) for n in (0, 150, 2500, 3.2e6, 37.2e9)] == ["0 bytes", "150 bytes", "2.5 kB", "3.2 MB", "37.2 GB"]


def test_suffixes_that_cannot_be_written_are_named(make_segmentation: Make, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"The suffix of '.*a\.xyz' is not a kind of file that can be written\. Needed: a path ending in \.tif"):
        write(make_segmentation(), tmp_path / "a.xyz")
    with pytest.raises(OutputError, match=r"Files ending in \.mrc are read, and not written"):
        write(make_segmentation(), tmp_path / "a.mrc")
    (tmp_path / "a.tif").mkdir()
    with pytest.raises(OutputError, match=r"'.*a\.tif' is a folder\. Needed: a file name"):
        write(make_segmentation(), tmp_path / "a.tif", overwrite=True)


def test_long_and_strange_names_work(make_segmentation: Make, tmp_path: Path) -> None:
    for stem in ("ü 細胞 #1 50%", "a" * 240):
        for suffix in (".tif", ".ome.zarr"):
            path = write(make_segmentation(), tmp_path / f"{stem}{suffix}")
            assert read(path).shape == (30, 40)


def test_a_result_is_three_files_and_the_last_says_that_it_is_whole(make_segmentation: Make, tmp_path: Path) -> None:
    paths = write_result(make_segmentation(), tmp_path / "out", "well 1")
    assert {k: p.name for k, p in paths.items()} == {"labels": "well 1_labels.tif", "segments": "well 1_segments.csv", "run": "well 1_run.json"}
    assert read_segmentation(paths["labels"]).provenance == {"model": "otsu"}
    with pytest.raises(OutputError, match=r"well 1_labels\.tif exists already"):
        write_result(make_segmentation(), tmp_path / "out", "well 1")
    stores = write_result(make_segmentation(), tmp_path / "out", "well 2", format="ome-zarr")
    assert stores["labels"].name == "well 2_labels.ome.zarr"
    with pytest.raises(OutputError, match=r"Format 'nii' is not known\. Needed: tif, ome-zarr or png\."):
        write_result(make_segmentation(), tmp_path / "out", "well 3", format="nii")
    (tmp_path / "out" / "well 1_run.json").write_text("{", encoding="utf-8")
    with pytest.raises(OutputError, match="'labels' has axes"):
        write_result(make_segmentation(np.ones((2, 3, 4), np.uint8), "zyx"), tmp_path / "out", "well 1", format="png", overwrite=True)
    assert not (tmp_path / "out" / "well 1_run.json").exists(), "a result that could not be replaced whole does not look finished"


def test_a_swap_that_fails_brings_the_old_folder_back(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "old").touch()

    def lose_the_new_one() -> None:
        with commit.replacing(tmp_path / "store", overwrite=True) as part:
            part.mkdir()
            part.rename(tmp_path / "elsewhere")

    with pytest.raises(OutputError):
        lose_the_new_one()
    assert (tmp_path / "store" / "old").exists()
