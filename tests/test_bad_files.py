"""What is damaged, missing or does not fit, and places that cannot be written to: an error in plain words, and never half a result."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Picture

import napari_segsuite
from napari_segsuite import Options, load_spec, read_segmentation, resolve, segment, write
from napari_segsuite.arrays import as_image
from napari_segsuite.errors import SegsuiteError
from napari_segsuite.io import label_store
from napari_segsuite.types import Image

Array = NDArray[Any]
Segsuite = Callable[..., Any]

CELLS = np.zeros((24, 32), bool)
CELLS[4:10, 4:10] = CELLS[14:20, 18:26] = True


def cells(dtype: Any = np.uint16, low: float = 10, high: float = 100) -> Array:
    """Two bright squares."""
    return np.where(CELLS, high, low).astype(dtype)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder: Path) -> set[str]:
    """All names below a folder, hidden ones too."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def complaint(segsuite: Segsuite, *words: object) -> str:
    """What a run says that must fail: on standard error, about one input, with nothing left behind."""
    before = everything(Path())
    told = segsuite("segment", *words, "--out", "out")
    assert told.code == 1
    assert everything(Path()) == before
    head, line = told.err.splitlines()
    assert head == "segsuite: 1 failed:"
    assert told.out == f"{words[0]}: failed\n"
    assert line.startswith(f"  {words[0]}: ")
    return str(line).removeprefix(f"  {words[0]}: ")


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        (("--channels", "DAPI"), "'five' has no channel 'DAPI'. Needed: one of channel 0, channel 1, or a number from 0 to 1."),
        (("--channels", "2"), "'five' has no channel '2'. Needed: one of channel 0, channel 1, or a number from 0 to 1."),
        ((), "Model 'otsu' needs 1 channel; 'five' has 2 (channel 0, channel 1). Needed: 1 (grey). "),
        (("--channels", "0,1"), "Model 'otsu' cannot take 2 channels (0, 1). Needed: 1 (grey). "),
        (("--channels", "0", "--chunk", "8,8"), "Chunk has 2 numbers. Needed: 3, one per spatial axis."),
        (("--channels", "0", "--diameter-px", "9"), "Model 'otsu' does not resample, so --diameter-px 9.0 has no effect. Leave --diameter-px empty."),
        (("--channels", "0", "--model", "nuclei"), "Model 'nuclei' is for two dimensions, and 'five' is a z-stack of 3 slices. Choose "),
        (("--axes", "yx"), "axes='yx' names 2 axes, and five.tif has 5 (shape (2, 2, 3, 24, 32)). Needed: one letter of tczyx per axis."),
        (("--scene", "4"), "File five.tif has no image 4. Needed: one of 0: "),
    ],
)  # fmt: skip
def test_a_wish_that_does_not_fit_the_image_is_refused(segsuite: Segsuite, folder: Path, wish: tuple[str, ...], text: str) -> None:
    tifffile.imwrite("five.tif", np.zeros((2, 2, 3, 24, 32), np.uint8), metadata={"axes": "TCZYX"}, ome=True)
    assert complaint(segsuite, "five.tif", "--model", "otsu", *wish).startswith(text)


def test_a_device_that_is_not_there_is_refused(segsuite: Segsuite, folder: Path) -> None:
    tifffile.imwrite("a.tif", cells())
    tifffile.imwrite("b.tif", cells())
    for more in ([], ["--dry-run"]):
        told = segsuite("segment", "a.tif", "b.tif", "--device", "cuda:77", "--out", "out", *more)
        assert (told.code, told.out) == (1, "")
        assert told.err.startswith("segsuite: Device 'cuda:77' is not available here. Needed: auto, cpu, cuda, cuda:1 or mps.")
        assert len(told.err.splitlines()) == 1
        assert segsuite("segment", "a.tif", "--model", "otsu", "--device", "cuda:77", "--out", "out", *more).err == told.err
    assert everything(Path()) == {"a.tif", "b.tif"}
    with pytest.raises(SegsuiteError, match="Device 'cuda:77' is not available here"):
        segment(cells(), model="otsu", device="cuda:77")


def test_a_device_that_a_model_makes_no_use_of_is_told() -> None:
    image = as_image(cells())
    for device, told in (("cuda", True), ("mps", True), ("cpu", False), ("auto", False)):
        for model, without in (("otsu", True), ("nuclei", False)):
            notices = resolve(image, Options(model=model, device=device), load_spec(model)).notices
            said = f"the model {model} has no network and runs on the CPU: device {device!r} is not used" in notices
            assert said == (told and without)


# Files


def whole_or_refused(segsuite: Segsuite, name: str, whole: Array) -> str:
    """Segment a damaged file: its pixels are all there and the result is right, or the error is about this file."""
    before = everything(Path())
    assert "out" not in before
    told = segsuite("segment", name, "--model", "otsu", "--out", "out")
    if told.code:
        assert everything(Path()) == before
        assert told.err.startswith(f"segsuite: 1 failed:\n  {name}: ")
        assert name in told.err.splitlines()[1].removeprefix(f"  {name}: ")
        assert len(told.err.splitlines()) == 2
        return str(told.err)
    assert told.err == ""
    stem = name.partition(".")[0]
    assert np.array_equal(np.asarray(read_segmentation(Path("out", f"{stem}_labels.tif")).labels), whole)
    return ""


def write_file(name: str) -> Array:
    """Write an image that does not compress to nothing, and return its labels."""
    pixels = np.where(np.kron(np.eye(4, dtype=bool), np.ones((8, 8), bool)), 200, 20).astype(np.uint8)
    pixels += np.random.default_rng(0).integers(0, 9, pixels.shape, np.uint8)
    if name.endswith(".zarr"):
        write(as_image(pixels), name)
    elif name == "zlib.tif":
        tifffile.imwrite(name, pixels, compression="zlib")
    else:
        write(as_image(pixels), name) if name.endswith(".png") else tifffile.imwrite(name, pixels)
    return np.asarray(segment(pixels, model="otsu").labels)


PARTS = (0, 0.01, 0.3, 0.6, 0.9, 0.99)


@pytest.mark.parametrize("name", ["plain.tif", "zlib.tif", "picture.png"])
def test_a_file_that_ends_too_early_is_refused(segsuite: Segsuite, folder: Path, name: str) -> None:
    whole = write_file(name)
    data = Path(name).read_bytes()
    assert whole_or_refused(segsuite, name, whole) == ""
    for part in PARTS:
        Path(name).write_bytes(data[: int(part * len(data))])
        shutil.rmtree("out", ignore_errors=True)
        told = whole_or_refused(segsuite, name, whole)
        assert told or part > 0.8


@pytest.mark.parametrize("file", ["0/c/0/0", "0/zarr.json", "zarr.json"])
def test_a_store_whose_files_end_too_early_is_refused(segsuite: Segsuite, folder: Path, file: str) -> None:
    whole = write_file("store.ome.zarr")
    path = Path("store.ome.zarr", file)
    data = path.read_bytes()
    for part in PARTS:
        path.write_bytes(data[: int(part * len(data))])
        assert whole_or_refused(segsuite, "store.ome.zarr", whole)
    path.write_bytes(data)
    assert whole_or_refused(segsuite, "store.ome.zarr", whole) == ""


def test_chunks_that_are_missing_from_a_store_are_told(segsuite: Segsuite, folder: Path) -> None:
    array = zarr.create_array("store.zarr", shape=(24, 32), dtype="u2", chunks=(12, 16))
    array[...] = cells()
    whole = segsuite("segment", "store.zarr", "--model", "otsu", "--out", "whole")
    assert "note" not in whole.out
    Path("store.zarr", "c", "1", "1").unlink()
    told = segsuite("segment", "store.zarr", "--model", "otsu", "--out", "out")
    assert told.code == 0
    assert "store.zarr: 1 segment in " in told.out
    assert told.out.endswith("note: 1 of 4 chunks of 'store' are not stored and were taken as 0\n")


@pytest.mark.parametrize(
    "command",
    ["evaluate l.ome.zarr l.ome.zarr", "convert l.ome.zarr new.tif", "convert i.ome.zarr new.tif", "convert i.ome.zarr new.ome.zarr",
     "export l.ome.zarr --format geojson --out new.geojson", "segment i.ome.zarr --model otsu --out new", "track l.ome.zarr --out new.tif"],
)  # fmt: skip
def test_a_damaged_chunk_is_told_by_every_command(command: str, segsuite: Segsuite, folder: Path) -> None:
    movie = np.stack([cells(), cells()])
    image = Image((movie,), axes="tyx", scale=(1.0,) * 3, units=("second", "pixel", "pixel"), translate=(0.0,) * 3)
    write(image, "i.ome.zarr")
    write(segment(image, model="otsu"), "l.ome.zarr")
    for chunk in (p for name in ("i.ome.zarr", "l.ome.zarr") for p in Path(name, "0", "c").rglob("*") if p.is_file()):
        data = bytearray(chunk.read_bytes())
        data[len(data) // 2] ^= 255
        chunk.write_bytes(data)
    told = segsuite(*command.split())
    assert told.code == 1, told
    assert "cannot be read: reading " in told.err
    assert ".ome.zarr" in told.err
    assert not [p for p in folder.rglob("new*") if p.is_file()]


@functools.cache
def intact(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_file(name)
        return Path(name).read_bytes()


@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), name=st.sampled_from(["zlib.tif", "picture.png"]))
@settings(max_examples=40, deadline=None)
def test_any_byte_may_be_wrong(at: float, flip: int, name: str) -> None:
    """A result or an error, of whatever the file now says; no other exception, warning or endless run."""
    data = bytearray(intact(name))
    data[int(at * len(data))] ^= flip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        with contextlib.suppress(SegsuiteError):
            assert segment(path, model="otsu").labels.ndim >= 2


def test_a_file_that_declares_more_than_it_holds_is_refused_before_anything_is_allocated(segsuite: Segsuite, folder: Path) -> None:
    tags = {256: 200000, 257: 200000, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: 200000, 279: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    Path("huge.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4))
    assert "would need 80.0 GB" in complaint(segsuite, "huge.tif", "--model", "otsu")
    zarr.create_array("chunks.zarr", shape=(10**6, 10**6), dtype="u2", chunks=(10**5, 10**5))
    assert "would need 20.0 GB each" in complaint(segsuite, "chunks.zarr", "--model", "otsu")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("empty.zarr", "Axis Y of 'empty' has length 0 (shape (0, 5)). Needed: at least 1 sample along every axis."),
        ("complex.zarr", "The pixels of 'complex' are of type complex64. Needed: integers or real numbers."),
        ("complex.tif", "The pixels of 'complex' are of type complex64. Needed: integers or real numbers."),
        ("nothing.tif", "No file at nothing.tif. Check the path."),
        ("nothing*.tif", "No image matches 'nothing*.tif'. Needed: files ending in .tif, "),
        ("folder", "Folder folder holds no image that can be read. Needed: files ending in .tif, "),
        ("folder.tif", "Folder folder.tif holds no image that can be read. Needed: files ending in .tif, "),
        ("notes.txt", "File notes.txt is not a kind of file that can be read. Needed: a file ending in .tif, "),
        ("x" * 300 + ".tif", "This is not a path that can be opened: "),
        ("group.zarr", "Store group.zarr holds no image. Needed: an OME-Zarr group with 'multiscales', or an array."),
        ("animated.gif", "File animated.gif has 2 frames. Needed: one picture."),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(segsuite: Segsuite, folder: Path, name: str, text: str) -> None:
    for kind in ("folder", "folder.tif"):
        Path(kind).mkdir()
    Path("notes.txt").write_text("")
    zarr.create_array("empty.zarr", shape=(0, 5), dtype="u2", chunks=(1, 5))
    zarr.create_array("complex.zarr", shape=(5, 5), dtype="c8", chunks=(5, 5))
    zarr.open_group("group.zarr", mode="w")
    tifffile.imwrite("complex.tif", cells(np.complex64))
    frames = [Picture.fromarray(cells(np.uint8, 10, high)) for high in (100, 200)]
    frames[0].save("animated.gif", save_all=True, append_images=frames[1:])
    assert complaint(segsuite, name, "--model", "otsu").startswith(text)


# Outputs

PROTECTED = Path("/proc") if Path("/proc/self").is_dir() else Path("/System")


@pytest.mark.parametrize("out", ["file", "file/below/more", str(PROTECTED / "results"), str(PROTECTED / "one.tif")])
def test_a_place_that_cannot_be_written_to_is_told_before_any_work(segsuite: Segsuite, folder: Path, out: str) -> None:
    Path("file").write_text("precious")
    tifffile.imwrite("a.tif", cells())
    told = segsuite("segment", "a.tif", "--model", "otsu", "--out", out, "--progress", "json")
    assert (told.code, told.out) == (1, "")
    assert told.err.startswith("segsuite: Folder ")
    assert str(Path(out).parent if out.endswith(".tif") else Path(out)) in told.err
    assert told.err.endswith(("Choose another --out.\n", "Choose another --out, or free the folder.\n"))
    assert Path("file").read_text() == "precious"


if os.name == "posix":

    def test_a_disk_that_gets_full_leaves_no_half_result(segsuite: Segsuite, forked: Callable[..., Any], folder: Path) -> None:
        tifffile.imwrite("a.tif", np.tile(np.pad(np.full((3, 3), 200, np.uint8), 2), (30, 30)))
        words = ["segment", "a.tif", "--model", "otsu", "--out"]
        assert segsuite(*words, "whole").code == 0
        sizes = {path.name: path.stat().st_size for path in Path("whole").iterdir()}
        table = sizes["a_segments.csv"]
        assert sizes["a_labels.tif"] < table
        cases = [
            (500, [*words, "labels"]),
            (500, [*words, "one.tif"]),
            (500, [*words, "one.ome.zarr"]),
            (500, [*words, "zarr", "--format", "ome-zarr"]),
            (table - 1, [*words, "table"]),
        ]
        for limit, case in cases:
            told = forked(*case, limit=limit)
            assert (told.code, told.out) == (1, "a.tif: failed\n")
            assert told.err.startswith("segsuite: 1 failed:\n  a.tif: ")
            assert len(told.err.splitlines()) == 2
            assert any(word in told.err for word in ("larger than this file system or user may write", "disk is full", "could not be written"))
        grown = [folder / "one.ome.zarr", folder / "zarr" / "a_labels.ome.zarr"]
        inside = {p for store in grown for p in everything(store)}
        assert all(label_store.is_unfinished(store) for store in grown)
        assert [p for p in everything(folder) if Path(p).name.startswith(".") and Path(p).name not in {Path(i).name for i in inside}] == []
        assert {p.name for p in folder.iterdir()} - {"whole", "a.tif"} <= {"labels", "table", "zarr", "one.ome.zarr"}
        assert everything(folder / "labels") == set()
        assert everything(folder / "table") == {"a_labels.tif"}
        # With room again, the same command completes what is there.
        assert segsuite(*words, "table").code == segsuite(*words, "one.ome.zarr").code == 0
        np.testing.assert_array_equal(np.asarray(read_segmentation(grown[0]).labels), tifffile.imread("whole/a_labels.tif"))
        assert Path("table", "a_segments.csv").read_bytes() == Path("whole", "a_segments.csv").read_bytes()


if Path("/dev/full").exists():

    def test_output_that_cannot_be_printed_is_told(folder: Path) -> None:
        tifffile.imwrite("a.tif", cells())
        environment = {**os.environ, "PYTHONPATH": str(Path(napari_segsuite.__file__).parents[1])}
        with open("/dev/full", "w") as full:
            command = [sys.executable, "-m", "napari_segsuite", "segment", "a.tif", "--model", "otsu", "--out", "out"]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, timeout=100, check=False)
        found = "segsuite: Standard output cannot be written to: No space left on device. What was finished before is complete.\n"
        assert (done.returncode, done.stderr) == (1, found)
        assert sorted(everything(Path("out"))) == ["a_labels.tif", "a_run.json", "a_segments.csv"]
