"""Many files: what is finished is not done again, what fails is named and does not stop the rest, what is there is not lost."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_segsuite import read, read_segmentation, segment, write
from napari_segsuite.arrays import as_image
from napari_segsuite.batch import Batch, Done, segment_all
from napari_segsuite.engine.options import Options
from napari_segsuite.errors import InputError, SegsuiteError
from napari_segsuite.io import write_result
from napari_segsuite.pairing import pairs, stem

Segsuite = Callable[..., Any]


def cells() -> NDArray[np.uint16]:
    """Two bright squares."""
    pixels = np.full((24, 32), 100, np.uint16)
    pixels[4:10, 4:10] = 1000
    pixels[14:20, 18:26] = 900
    return pixels


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with an image ``a.tif`` of two cells."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("a.tif", cells())
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def times(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def segmented(*inputs: str, out: str = "out", **wishes: Any) -> list[Done]:
    more = {name: wishes.pop(name) for name in ("format", "overwrite", "axes", "scene") if name in wishes}
    return list(segment_all(inputs, Batch(Path(out), Options(model="otsu", **wishes), **more), lambda *_: None))


# What is there already


@pytest.mark.parametrize("out", ["out", "one.tif", "one.ome.zarr"])
def test_the_same_command_again_does_nothing(folder: Path, out: str) -> None:
    assert [done.event for done in segmented("a.tif", out=out)] == ["done"]
    before = times(folder)
    [done] = segmented("a.tif", out=out)
    assert str(done) == f"a.tif: already done, {done.paths['labels']}"
    assert times(folder) == before


def test_from_another_folder_it_is_the_same_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmented("a.tif")
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    assert [done.event for done in segmented(str(folder / "a.tif"), out="../out")] == ["skipped"]


@pytest.mark.parametrize("wish", [{"batch": 1}, {"chunk": (8, 8)}, {"device": "cpu"}])
def test_how_it_is_computed_makes_no_other_result(folder: Path, wish: dict[str, Any]) -> None:
    segmented("a.tif")
    assert [done.event for done in segmented("a.tif", **wish)] == ["skipped"]


@pytest.mark.parametrize(
    ("again", "why"),
    [
        ({"min_size_px": 50}, "made with other options (min_size_px None instead of 50)"),
        ({"model": "nuclei"}, "made with other options (model 'otsu' instead of 'nuclei')"),
        ({}, "made from another input, or from this one before it changed"),
    ],
)
@pytest.mark.parametrize("out", ["out", "one.tif", "one.ome.zarr"])
def test_another_result_is_not_replaced_without_a_word(folder: Path, out: str, again: dict[str, Any], why: str) -> None:
    segmented("a.tif", out=out)
    if not again:
        shutil.copy("a.tif", "other.tif")
        pixels = cells()
        pixels[0, 0] = 1
        tifffile.imwrite("a.tif", pixels)
        os.utime("a.tif", ns=(1, 1))  # older than the result, as a file copied from elsewhere may be
    before = contents(folder)
    [done] = list(segment_all(["a.tif"], Batch(Path(out), Options(**{"model": "otsu", **again})), lambda *_: None))
    labels = Path(out) if out != "out" else Path("out", "a_labels.tif")
    assert done.error == f"Result {labels} is there already, {why}. Choose another output, or allow it to be replaced (--overwrite)."
    assert contents(folder) == before


@pytest.mark.parametrize("out", ["out", "one.tif", "one.ome.zarr"])
def test_with_overwrite_it_is_replaced(folder: Path, out: str) -> None:
    segmented("a.tif", out=out)
    [done] = segmented("a.tif", out=out, min_size_px=40, overwrite=True)
    assert (done.event, done.segments) == ("done", 1)
    assert read_segmentation(done.paths["labels"]).segments["size"].min() > 40
    [done] = segmented("a.tif", out=out, min_size_px=40)
    assert done.event == "skipped"


@pytest.mark.parametrize("kind", ["a_labels.tif", "a_segments.csv", "a_run.json"])
def test_what_somebody_else_put_there_is_not_touched(folder: Path, kind: str) -> None:
    (folder / "out").mkdir()
    (folder / "out" / kind).write_text("{}")
    [done] = segmented("a.tif")
    assert done.error.startswith(f"Result {Path('out', kind)} is there already, made by something else.")
    assert contents(folder / "out") == {kind: b"{}"}


@pytest.mark.parametrize("lost", [["a_run.json"], ["a_run.json", "a_segments.csv"], ["a_segments.csv"], ["a_labels.tif"]])
def test_a_result_of_which_a_part_is_missing_is_made_whole(folder: Path, lost: list[str]) -> None:
    segmented("a.tif")
    whole = contents(folder / "out")
    for name in lost:
        (folder / "out" / name).unlink()
    assert [done.event for done in segmented("a.tif")] == ["done"]
    again = contents(folder / "out")
    assert list(again) == list(whole)
    assert again["a_segments.csv"] == whole["a_segments.csv"]
    assert tifffile.imread("out/a_labels.tif").tolist() == segment(cells(), model="otsu").labels.tolist()


def test_another_image_of_the_same_file_is_another_result(folder: Path) -> None:
    with tifffile.TiffWriter("two.ome.tif") as two:
        for pixels in (cells(), cells().T.copy().T):
            two.write(pixels, metadata={"axes": "YX"})
    segmented("two.ome.tif", scene=0, out="one.tif")
    assert "made from another input" in segmented("two.ome.tif", scene=1, out="one.tif")[0].error


def test_labels_written_into_the_store_of_their_image_do_not_change_it(folder: Path) -> None:
    write(as_image(cells()), "image.ome.zarr")
    assert [done.event for done in segmented("image.ome.zarr", out="image.ome.zarr/labels/cells")] == ["done"]
    assert [done.event for done in segmented("image.ome.zarr", out="image.ome.zarr/labels/cells")] == ["skipped"]
    assert np.array_equal(np.asarray(read("image.ome.zarr").data), cells())
    assert read_segmentation("image.ome.zarr").segments["id"].tolist() == [1, 2]


def test_an_input_that_changes_meanwhile_gives_no_result(folder: Path) -> None:
    def meddle(source: str, *_: object) -> None:
        tifffile.imwrite(source, cells() + 1)

    [done] = list(segment_all(["a.tif"], Batch(Path("out"), Options(model="otsu")), meddle))
    assert done.error == "File a.tif changed while it was segmented. Do it again when nothing writes to it any more."
    assert not (folder / "out").exists()


# What fails


def test_what_fails_is_named_and_the_rest_is_done(segsuite: Segsuite, folder: Path) -> None:
    Path("damaged.tif").write_bytes(Path("a.tif").read_bytes()[:400])
    tifffile.imwrite("z.tif", cells())
    told = segsuite("segment", "gone.tif", "*.tif", "nothing/*.png", "--model", "otsu", "--out", "out")
    assert told.code == 1
    head, *rest = told.err.splitlines()
    assert head == "segsuite: 3 failed:"
    assert [line.split(":")[0] for line in rest] == ["  gone.tif", "  nothing/*.png", "  damaged.tif"]
    assert rest[0] == "  gone.tif: No file at gone.tif. Check the path."
    assert "No image matches 'nothing/*.png'" in rest[1]
    assert "is truncated" in rest[2]
    assert [line.split(": ")[1].split(" in ")[0] for line in told.out.splitlines()] == ["failed", "failed", "2 segments", "failed", "2 segments"]
    assert sorted(p.name for p in Path("out").iterdir() if p.suffix == ".tif") == ["a_labels.tif", "z_labels.tif"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "The memory of this computer is not enough for it. Choose a smaller --batch or --chunk, or a part of the image."),
        (RuntimeError("CUDA error: gone\nmore\nlines"), "Computing it failed: CUDA error: gone. Try --device cpu, or a smaller --batch."),
    ],
)
def test_what_a_driver_raises_is_told_in_a_line(folder: Path, error: Exception, text: str) -> None:
    tifffile.imwrite("b.tif", cells())

    def fail(source: str, *_: object) -> None:
        if source == "a.tif":
            raise error

    done = list(segment_all(["a.tif", "b.tif"], Batch(Path("out"), Options(model="otsu")), fail))
    assert [(d.event, d.error) for d in done] == [("failed", text), ("done", "")]
    assert sorted(p.name for p in Path("out").iterdir()) == ["b_labels.tif", "b_run.json", "b_segments.csv"]


APART = "Segment them one by one, each with an --out of its own."
INSIDE = "lies inside a zarr store. Needed: a path outside, or STORE/labels/NAME in the store of an image. Choose another --out."


@pytest.mark.parametrize(
    ("inputs", "out", "text"),
    [
        (["a.tif", "a.png"], "out", "Inputs a.tif and a.png would both be written to {out}a_labels.tif. {apart}"),
        (["a.tif", "b/a.tif"], "out", "Inputs a.tif and {b}a.tif would both be written to {out}a_labels.tif. {apart}"),
        (["a.tif", "a.png"], "one.tif", "There are 2 inputs and one output, one.tif. Needed: a folder as --out."),
        (["a.tif"], "a.tif", "The result a.tif would be written over the input a.tif. Choose another --out."),
        (["a.tif"], "b/../a.tif", "The result {b}../a.tif would be written over the input a.tif. Choose another --out."),
        (["c_labels.tif"], ".", "The result c_labels.tif would be written over the input c_labels.tif. Choose another --out."),
        (["s.zarr"], "s.zarr", "The result s.zarr would be written over the input s.zarr. Choose another --out."),
        (["s.zarr"], "s.zarr/x", f"Output {{s}}x {INSIDE}"),
        (["a.tif"], "new.zarr/labels/x", f"Output {{new}}x {INSIDE}"),
        (["a.tif"], "a.jpg", "A .jpg file does not keep labels exactly. Needed: .png, .tif or .ome.zarr. Choose another --out."),
        (["a.tif"], "a.tif/below", "Folder {below} cannot be made, since a.tif is a file. Choose another --out."),
        (["a.tif"], "b/folder.tif", "'{b}folder.tif' is a folder. Needed: a file name. Choose another --out."),
    ],
)  # fmt: skip
def test_an_output_that_cannot_be_is_told_before_any_work(folder: Path, inputs: list[str], out: str, text: str) -> None:
    Path("b", "folder.tif").mkdir(parents=True)
    for name in ("a.png", "b/a.tif", "c_labels.tif"):
        write(as_image(cells().astype(np.uint8)), name)
    write(as_image(cells()), "s.zarr")
    before = contents(folder)
    with pytest.raises(SegsuiteError) as caught:
        segmented(*inputs, out=out)
    s = os.sep
    assert str(caught.value) == text.format(
        out=f"out{s}", b=f"b{s}", s=f"s.zarr{s}", new=f"new.zarr{s}labels{s}", below=f"a.tif{s}below", apart=APART
    )
    assert contents(folder) == before


@pytest.mark.parametrize("wish", [{"foreground": 7}, {"model": "nope"}, {"device": "gpu"}])
def test_a_wish_that_cannot_be_met_is_told_once_before_any_work(folder: Path, wish: dict[str, Any]) -> None:
    with pytest.raises(SegsuiteError):
        list(segment_all(["a.tif"], Batch(Path("out"), Options(**{"model": "otsu", **wish})), lambda *_: None))
    assert contents(folder) == {"a.tif": Path("a.tif").read_bytes()}


def test_a_new_folder_is_made_with_those_above_it(folder: Path) -> None:
    assert segmented("a.tif", out="new/folder/one.tif")[0].event == "done"
    assert segmented("a.tif", out="new/other/results")[0].event == "done"


def test_reading_a_result_changes_nothing_in_the_input(folder: Path) -> None:
    before = Path("a.tif").read_bytes(), Path("a.tif").stat().st_mtime_ns
    segmented("a.tif")
    assert (Path("a.tif").read_bytes(), Path("a.tif").stat().st_mtime_ns) == before


def test_done_says_what_happened() -> None:
    done = Done("a.tif", {"labels": Path("a_labels.tif")}, 1, 0.25, "cpu", ("resampled",))
    assert str(done) == "a.tif: 1 segment in 0.2 s, a_labels.tif\n  note: resampled"
    assert str(replace(done, segments=2)).startswith("a.tif: 2 segments")
    assert json.loads(json.dumps(done.to_json()))["event"] == "done"
    assert [str(Done("a.tif", error="x")), Done("a.tif", error="x").event] == ["a.tif: failed", "failed"]


# Pairs to evaluate


@pytest.fixture
def pairing(folder: Path) -> Callable[[str], None]:
    labels = segment(cells(), model="otsu")

    def make(name: str) -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if path.name == "ours":
            write_result(labels, path.parent, "x")
        else:
            write(labels, path)

    return make


def test_stems_are_without_suffixes_and_our_ending() -> None:
    names = ["a.tif", "a.ome.tif", "a_labels.ome.zarr", "a.b_labels.tif", "a labels.png"]
    assert [stem(Path(name)) for name in names] == ["a", "a", "a", "a.b", "a labels"]


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (["p/a.tif", "t/a.tif"], ["a.tif a.tif"]),
        (["p/b.tif", "p/a.tif", "t/a.png", "t/b.ome.zarr"], ["a.tif a.png", "b.tif b.ome.zarr"]),
        (["p/ours", "t/x.ome.tif"], ["x_labels.tif x.ome.tif"]),
        (["p/ours", "p/x.tif", "t/x_labels.png"], ["x_labels.tif x_labels.png"]),
    ],
)
def test_labels_and_truth_are_paired_by_stem(pairing: Callable[[str], None], there: list[str], found: list[str]) -> None:
    for name in there:
        pairing(name)
    assert [f"{p.name} {t.name}" for p, t in pairs(Path("p"), Path("t"))] == found


@pytest.mark.parametrize(
    ("there", "text"),
    [
        (["p/a.tif"], "No file at t. Check the path."),
        (["t/a.tif"], "No file at p. Check the path."),
        (["p/a.tif", "t"], "One of p and t is a file, and the other a folder. Needed: two files, or two folders."),
        (
            ["p/a.tif", "t/b.tif", "t/a.tif"],
            "There are files in only one of p and t: 'b'. Needed: the same names in both, with or without '_labels'.",
        ),
        (["p/a.tif", "t/a.tif", "t/a.png"], "Files {t}a.png and {t}a.tif have one name. Needed: one file per name."),
        (["p/a.tif", "t/notes.txt"], "Folder t holds no image that can be read."),
    ],
)
def test_what_cannot_be_paired_is_named(pairing: Callable[[str], None], there: list[str], text: str) -> None:
    for name in there:
        if name == "t":
            shutil.copy("a.tif", "t")
        elif name.endswith(".txt"):
            Path("t").mkdir()
            Path(name).write_text("")
        else:
            pairing(name)
    with pytest.raises(InputError) as caught:
        pairs(Path("p"), Path("t"))
    assert str(caught.value).startswith(text.format(t=f"t{os.sep}"))
