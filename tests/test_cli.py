"""The command line as scripts rely on it: where results go, what is printed where, and the exit code."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import napari_segsuite
from napari_segsuite import cli, evaluate, load_model, read, read_segmentation, segment, write
from napari_segsuite.arrays import as_image
from napari_segsuite.errors import MissingExtra
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Image, Segmentation

Segsuite = Callable[..., Any]
COMMAND = [sys.executable, "-m", "napari_segsuite"]


def cells(extra: int = 0) -> NDArray[np.uint16]:
    """Two bright squares, and `extra` pixels more that are bright."""
    pixels = np.full((24, 32), 100, np.uint16)
    pixels[4:10, 4:10] = 1000
    pixels[14:20, 18:26] = 900
    pixels[12, :extra] = 1000
    return pixels


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two images of two cells each in ``plates``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plates").mkdir()
    tifffile.imwrite(tmp_path / "plates" / "b.tif", cells())
    tifffile.imwrite(tmp_path / "plates" / "a.ome.tif", cells())
    return tmp_path


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# Results


@pytest.mark.parametrize("inputs", [["plates"], ["plates/*.tif"], ["plates/a.ome.tif", "plates/b.tif"], ["plates", "plates/b.tif", "plates/?.tif"]])
def test_files_patterns_and_folders_are_segmented_each_image_once(segsuite: Segsuite, folder: Path, inputs: list[str]) -> None:
    told = segsuite("segment", *inputs, "--model", "otsu", "--out", "results")
    assert (told.code, told.err) == (0, "")
    assert files(folder / "results") == ["a_labels.tif", "a_run.json", "a_segments.csv", "b_labels.tif", "b_run.json", "b_segments.csv"]
    lines = told.out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{Path('plates', 'a.ome.tif')}: 2 segments in ")
    assert lines[0].endswith(str(Path("results", "a_labels.tif")))


def test_a_result_is_labels_a_table_and_a_record(segsuite: Segsuite, folder: Path) -> None:
    segsuite("segment", "plates/b.tif", "--model", "otsu", "--out", "results")
    assert tifffile.imread(folder / "results" / "b_labels.tif").tolist() == segment(cells(), model="otsu").labels.tolist()
    lines = (folder / "results" / "b_segments.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("id,class_id,score,size,bbox_y0,bbox_y1,bbox_x0,bbox_x1,centroid_y,centroid_x,status")
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2"]
    back = read_segmentation(folder / "results" / "b_labels.tif")
    assert back.provenance["plan"]["options"]["model"] == "otsu"


def test_the_record_says_how_to_get_the_same_again(segsuite: Segsuite, folder: Path) -> None:
    segsuite("segment", "plates/b.tif", "--model", "otsu", "--min-size-px", "3", "--out", "results")
    run = json.loads((folder / "results" / "b_run.json").read_text(encoding="utf-8"))
    plan = run["plan"]
    assert plan["options"]["min_size_px"] == 3
    assert (plan["model"]["name"], plan["model"]["version"], plan["model"]["weights_sha256"]) == ("otsu", "1", "")
    assert len(plan["model"]["spec_sha256"]) == 64
    assert plan["model"]["normalize"] == {"method": "otsu"}
    [[low, high]] = plan["limits"]
    assert 100 < (low + high) / 2 < 900
    assert set(plan["model"]["tile"]) == {"size", "context", "multiple"}
    assert plan["chunk"] == [24, 32]
    assert plan["image"]["shape"] == [24, 32]
    assert plan["image"]["source"] == str(Path("plates", "b.tif"))
    assert run["device"] == "cpu"
    assert run["versions"]["napari-segsuite"] == napari_segsuite.__version__
    assert {"python", "numpy", "torch"} <= set(run["versions"])
    assert run["input"]["bytes"] == (folder / "plates" / "b.tif").stat().st_size
    assert len(run["fingerprint"]) == 16


def test_a_model_with_weights_is_recorded_by_their_sha256(segsuite: Segsuite) -> None:
    spec = json.loads(segsuite("models", "show", "nuclei", "--json").out)
    plan = napari_segsuite.resolve(as_image(cells()), napari_segsuite.Options(), napari_segsuite.load_spec("nuclei"))
    assert plan.to_json()["model"]["weights_sha256"] == spec["weights_sha256"]
    assert len(spec["weights_sha256"]) == 64


@pytest.mark.parametrize("out", ["one.tif", "new/one.ome.zarr", "one.png"])
def test_a_path_with_a_suffix_is_that_one_result(segsuite: Segsuite, folder: Path, out: str) -> None:
    told = segsuite("segment", "plates/b.tif", "--model", "otsu", "--out", out)
    assert (told.code, told.err) == (0, "")
    assert sorted(set(files(folder)) - {"plates"}) == [Path(out).parts[0]]
    assert files((folder / out).parent) in ([Path(out).name], sorted([out, "plates"]))
    back = read_segmentation(out)
    assert np.asarray(back.labels).tolist() == segment(cells(), model="otsu").labels.tolist()
    assert back.segments["id"].tolist() == [1, 2]


def test_labels_in_a_folder_can_be_ome_zarr(segsuite: Segsuite, folder: Path) -> None:
    assert segsuite("segment", "plates/b.tif", "--model", "otsu", "--out", "results", "--format", "ome-zarr").code == 0
    assert files(folder / "results") == ["b_labels.ome.zarr", "b_run.json", "b_segments.csv"]
    assert read_segmentation(folder / "results" / "b_labels.ome.zarr").segments["id"].tolist() == [1, 2]


def test_options_reach_the_run(segsuite: Segsuite, folder: Path) -> None:
    segsuite("segment", "plates/b.tif", "--model", "otsu", "--min-size-px", "40", "--out", "results")
    assert read_segmentation(folder / "results" / "b_labels.tif").segments["size"].min() > 40


def test_axes_and_scene_say_what_a_file_does_not(segsuite: Segsuite, folder: Path) -> None:
    tifffile.imwrite(folder / "plates" / "pages.tif", np.stack([cells()] * 3), photometric="minisblack", metadata=None)
    refused = segsuite("segment", "plates/pages.tif", "--model", "otsu", "--out", "results")
    assert refused.code == 1
    assert "does not say what its axes are" in refused.err
    assert segsuite("segment", "plates/pages.tif", "--model", "otsu", "--out", "results", "--axes", "tyx").code == 0
    assert read_segmentation(folder / "results" / "pages_labels.tif").axes == "tyx"
    with tifffile.TiffWriter(folder / "plates" / "two.ome.tif") as two:
        two.write(cells()[:, :20], metadata={"axes": "YX"})
        two.write(cells(), metadata={"axes": "YX", "Name": "wide"})
    assert "holds 2 images" in segsuite("segment", "plates/two.ome.tif", "--model", "otsu", "--out", "results").err
    assert segsuite("segment", "plates/two.ome.tif", "--model", "otsu", "--out", "results", "--scene", "1").code == 0
    assert read_segmentation(folder / "results" / "two_wide_labels.tif").labels.shape == (24, 32)


def test_info_names_channels_and_counts_one(segsuite: Segsuite, folder: Path) -> None:
    write(Image((np.stack([cells()] * 2),), "cyx", (1.0,) * 3, ("pixel",) * 3, (0.0,) * 3, ("DAPI", "GFP")), "two.tif")
    assert "  channels: DAPI, GFP\n" in segsuite("info", "two.tif").out
    one = cells()
    one[12:] = 100
    write(segment(one, model="otsu"), "one.tif")
    assert "  1 segment\n" in segsuite("info", "one.tif").out


def test_a_picture_that_is_packed_with_a_loss_is_told(segsuite: Segsuite, folder: Path) -> None:
    write(as_image(cells().clip(0, 255).astype(np.uint8)), "a.png")
    assert "lost: the exact values of its pixels, since .jpg packs them with a loss" in segsuite("convert", "a.png", "a.jpg").out
    assert "exact values" not in segsuite("convert", "a.png", "b.tif").out


# What is said


def test_progress_for_machines_is_one_json_object_per_line(segsuite: Segsuite, folder: Path) -> None:
    (folder / "plates" / "c.tif").write_bytes(b"nothing")
    told = segsuite("segment", "plates", "nowhere.tif", "--model", "otsu", "--out", "results", "--progress", "json")
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert {line["event"] for line in lines} == {"progress", "done", "failed"}
    assert all(0 <= line["done"] <= line["total"] and line["message"] for line in lines if line["event"] == "progress")
    ends = {Path(line["input"]).name: line for line in lines if line["event"] != "progress"}
    assert {name: line["event"] for name, line in ends.items()} == {"nowhere.tif": "failed", "a.ome.tif": "done", "b.tif": "done", "c.tif": "failed"}
    assert ends["b.tif"]["segments"] == 2
    assert ends["b.tif"]["paths"]["labels"] == str(Path("results", "b_labels.tif"))
    assert "does not begin like a TIFF" in ends["c.tif"]["error"]
    assert told.code == 1
    again = [
        json.loads(line) for line in segsuite("segment", "plates/b.tif", "--model", "otsu", "--out", "results", "--progress", "json").out.splitlines()
    ]
    assert [(line["event"], line["segments"]) for line in again] == [("skipped", None)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_that_is_gone_in_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert cli.main(["segment", "plates", "--model", "otsu", "--out", "results"]) == 0
    drawn = terminal.getvalue().split("\r")
    assert any("b.tif [" in line and "100%" in line for line in drawn)
    assert all(len(line) < shutil.get_terminal_size().columns for line in drawn)
    assert drawn[-1] == ""
    assert not drawn[-2].strip()
    assert capsys.readouterr().out.count("segments in") == 2


@pytest.mark.parametrize("command", [[], ["segment"], ["evaluate"], ["models"], ["models", "list"], ["models", "show"], ["demo"]])
def test_every_command_explains_itself(segsuite: Segsuite, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main([*command, "--help"])
    assert done.value.code == 0
    usage, what, *flags = capsys.readouterr().out.split("\n\n")
    assert usage.startswith(" ".join(["usage: segsuite", *command]))
    assert len(what) > 15
    assert flags


def test_help_says_where_progress_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["segment", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "bar: on standard error; json: one JSON object per line on standard output" in text


def test_version_and_missing_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(["--version"])
    assert (done.value.code, capsys.readouterr().out.strip()) == (0, napari_segsuite.__version__)
    with pytest.raises(SystemExit) as done:
        cli.main([])
    assert done.value.code == 2


# What a name, a stream or a reader can do wrong


@pytest.mark.parametrize("name", ["zwei Zellen #1 (ä).tif", "细胞🔬.tif", "[a].tif", "'q'.tif"])
def test_any_name_of_a_file_will_do(segsuite: Segsuite, folder: Path, name: str) -> None:
    tifffile.imwrite(folder / name, cells())
    told = segsuite("segment", name, "--model", "otsu", "--out", "results", "--progress", "json")
    assert (told.code, told.err) == (0, "")
    assert f"{Path(name).stem}_labels.tif" in files(folder / "results")
    assert read_segmentation(folder / "results" / f"{Path(name).stem}_labels.tif").provenance["plan"]["image"]["source"] == name


def test_a_name_that_a_stream_cannot_show_is_shown_with_escapes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(folder / "ü🔬.tif", cells())
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", plain)
    assert cli.main(["segment", "ü🔬.tif", "--model", "otsu", "--out", "results"]) == 0
    assert b"\\xfc\\U0001f52c.tif: 2 segments" in plain.buffer.getvalue()


def test_nobody_has_to_read_to_the_end(folder: Path) -> None:
    with subprocess.Popen([*COMMAND, "models", "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as command:
        assert command.stdout is not None
        command.stdout.close()
        assert command.stderr is not None
        assert command.stderr.read() == b""
        assert command.wait(60) == 141


@pytest.mark.skipif(os.name != "posix", reason="a shell that can close a stream")
def test_standard_output_may_be_closed(folder: Path) -> None:
    command = f"{shlex.join(COMMAND)} segment plates/b.tif --model otsu --out results >&-"
    done = subprocess.run(["sh", "-c", command], cwd=folder, stderr=subprocess.PIPE, env=environment(), timeout=60, check=True)
    assert done.stderr == b""
    assert (folder / "results" / "b_labels.tif").is_file()


def test_it_can_be_stopped_while_it_starts() -> None:
    hook = """
import sys
class Stop:
    def find_spec(name, path=None, target=None):
        if name == "napari_segsuite.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Stop)
from napari_segsuite.__main__ import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", hook], capture_output=True, text=True, env=environment(), timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "segsuite: stopped before anything was done\n")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["plates/b.tif", "--out", "new.tif", "--format", "ome-zarr"], "--format ome-zarr is for a folder, and --out new.tif is one file"),
        (["", "--out", "results"], "An input is empty."),
        (["plates/b.tif", "--out", "results", "--channels", "7"], "'b' has no channel '7'. Needed: 0."),
    ],
)
def test_a_wish_that_cannot_be_meant_is_refused(segsuite: Segsuite, folder: Path, wrong: list[str], told: str) -> None:
    found = segsuite("segment", *wrong, "--model", "otsu")
    assert found.code == 1
    assert told in found.err
    assert not list(folder.rglob("*_labels*"))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--out", ""], "argument --out: is empty"),
        (["--out", "results.csv"], "'results.csv' is neither a folder nor a path ending in .ome.zarr, .tif, .png, .nii.gz or .dcm"),
        (["--out", "new.tif/"], "'new.tif/' ends like a folder and like a file"),
        (["--out", "results", "--min-sc", "0.5"], "unrecognized arguments: --min-sc 0.5"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused(folder: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], told: str) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["segment", "plates/b.tif", "--model", "otsu", *wrong])
    assert stop.value.code == 2
    assert told in capsys.readouterr().err
    assert files(folder) == ["plates"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_pipe_is_not_waited_for(segsuite: Segsuite, folder: Path) -> None:
    os.mkfifo(folder / "pipe.tif")
    found = segsuite("segment", "pipe.tif", "--model", "otsu", "--out", "results")
    assert found.code == 1
    assert "pipe.tif is a pipe, a socket or a device. Needed: a file, which can be read more than once." in found.err


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(napari_segsuite.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


# Evaluating


@pytest.fixture
def scored(folder: Path) -> Path:
    """Predictions as we write them in ``found``, truths as others do in ``truth``."""
    (folder / "truth").mkdir()
    for name, labels in {"a": [1, 1, 0, 2], "b": [0, 3, 3, 0]}.items():
        true = np.repeat(np.array([labels], np.uint16), 4, 0)
        tifffile.imwrite(folder / "truth" / f"{name}.tif", true)
        found = np.where(true == 2, 0, true)
        tifffile.imwrite(folder / f"{name}.tif", found)
        napari_segsuite.io.write_result(read_segmentation(folder / f"{name}.tif"), folder / "found", name)
    return folder


def test_folders_are_compared_by_stem(segsuite: Segsuite, scored: Path) -> None:
    told = segsuite("evaluate", "found", "truth", "--json")
    scores = json.loads(told.out)
    assert (told.code, told.err, told.out.count("\n")) == (0, "", 1)
    assert list(scores["ap"]) == ["0.5", "0.55", "0.6", "0.65", "0.7", "0.75", "0.8", "0.85", "0.9", "0.95"]
    assert {"ap", "f1", "pq", "sq", "rq", "dice", "n_true", "n_pred"} <= set(scores)
    assert (scores["n_true"], scores["n_pred"], scores["ap"]["0.95"], scores["sq"]) == (3, 2, 2 / 3, 1.0)
    assert scores["f1"] == scores["pq"] == scores["rq"] == 0.8
    assert scores["dice"] == pytest.approx(2 * 16 / (16 + 20))
    assert [image["name"] for image in scores["per_image"]] == ["a_labels.tif", "b_labels.tif"]


def test_files_are_compared(segsuite: Segsuite, scored: Path) -> None:
    assert json.loads(segsuite("evaluate", "found/a_labels.tif", "truth/a.tif", "--json").out)["ap"]["0.5"] == 0.5
    assert segsuite("evaluate", "truth/a.tif", "truth/a.tif").out.startswith("AP 1.000 at IoU 0.5")


def test_images_and_their_results_may_share_a_folder(segsuite: Segsuite, folder: Path) -> None:
    segsuite("segment", "plates", "--model", "otsu", "--out", "plates")
    assert segsuite("segment", "plates", "--model", "otsu", "--out", "plates").out.count("already done") == 2
    assert json.loads(segsuite("evaluate", "plates", "plates", "--json").out)["images"] == 2


def test_negative_ids_of_a_truth_can_be_left_out(segsuite: Segsuite, scored: Path) -> None:
    tifffile.imwrite(scored / "ignored.tif", np.repeat(np.array([[1, 1, 0, -1]], np.int16), 4, 0))
    refused = segsuite("evaluate", "found/a_labels.tif", "ignored.tif")
    assert refused.code == 1
    assert "negative" in refused.err
    assert json.loads(segsuite("evaluate", "found/a_labels.tif", "ignored.tif", "--json", "--ignore-label", "-1").out)["f1"] == 1.0


# Models, demo and Python


def test_models_are_listed_and_shown(segsuite: Segsuite) -> None:
    listed = json.loads(segsuite("models", "list", "--json").out)
    lines = segsuite("models", "list").out.splitlines()
    assert len({line.index(model["description"]) for line, model in zip(lines, listed, strict=True)}) == 1, "columns line up"
    shown = segsuite("models", "show", "nuclei").out
    assert not any(sign in shown.partition("# nuclei")[0] for sign in '[]{}"')
    assert all(len(line) <= 100 for line in shown.partition("# nuclei")[0].splitlines())
    assert [model["name"] for model in listed] == [line.split()[0] for line in segsuite("models", "list").out.splitlines()]
    assert {"nuclei", "otsu"} <= {model["name"] for model in listed}
    assert all({"task", "axes", "channels", "licence", "citation", "trained_on", "weights_sha256"} <= set(model) for model in listed)
    shown = segsuite("models", "show", "otsu").out
    assert "  licence      BSD-3-Clause" in shown
    assert "  finds        instance: object (objects)" in shown
    assert "Otsu's threshold of the whole image" in shown
    assert json.loads(segsuite("models", "show", "otsu", "--json").out)["card"]


def test_an_unknown_model_is_named_with_those_there_are(segsuite: Segsuite, folder: Path) -> None:
    for words in (["models", "show", "nope"], ["models", "show", "nope", "--json"], ["segment", "plates", "--model", "nope", "--out", "results"]):
        told = segsuite(*words)
        assert (told.code, told.out) == (1, "")
        assert told.err.startswith("segsuite: There is no model 'nope'. Needed: one of ")
        assert "otsu" in told.err
    assert segsuite("models", "show", "Nucleii").err.endswith("Did you mean 'nuclei'?\n")
    assert not (folder / "results").exists()


def test_demo_segments_a_picture_that_came_with_the_install(segsuite: Segsuite, folder: Path) -> None:
    told = segsuite("demo", "--out", "shown")
    assert (told.code, told.err) == (0, "")
    paths = {name: Path(path) for name, path in (line.split(maxsplit=1) for line in told.out.splitlines()[1:])}
    assert set(paths) == {"labels", "segments", "run", "image", "overlay"}
    assert all(path.is_file() for path in paths.values())
    assert files(folder / "shown") == sorted(path.name for path in paths.values())
    back = read_segmentation(paths["labels"])
    assert f"{len(back.segments['id'])} nuclei in the haematoxylin of a real picture of tissue" in told.out
    assert len(back.segments["id"]) > 50


def test_demo_says_what_is_missing_to_show_it(segsuite: Segsuite, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    told = segsuite("demo", "--view", "--out", "shown")
    assert told == (1, "", f"segsuite: {MissingExtra('showing results in napari', 'gui')}\n")
    assert not (folder / "shown").exists()


def test_python_offers_the_same(folder: Path) -> None:
    path = folder / "plates" / "b.tif"
    of_path, of_text, of_image, of_array = (segment(x, model="otsu") for x in (path, str(path), read(path), cells()))
    for found in (of_path, of_text, of_image, of_array):
        assert isinstance(found, Segmentation)
        assert found.labels.tolist() == of_path.labels.tolist()
    assert isinstance(read(path), Image)
    written = write(of_path, folder / "labels.tif")
    assert evaluate(read_segmentation(written), of_array).f1 == 1.0
    assert segment(cells(), model=load_model("otsu")).labels.tolist() == of_path.labels.tolist()


def test_the_model_that_came_with_the_install_finds_nuclei() -> None:
    # The bound is loose, to be tightened when the weights are final.
    pixels, truth = nuclei((192, 192), "yx", crowding=0.15, seed=3)
    scores = evaluate(segment(pixels).labels, truth)
    assert scores.n_true > 15
    assert scores.ap[0.5] > 0.5


def test_an_output_that_is_nearly_a_file_is_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the finger is no folder full of results; a folder of such a name can be had."""
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, np.eye(20, dtype=np.uint8))
    with pytest.raises(SystemExit) as stop:
        cli.main(["segment", str(image), "--model", "otsu", "--out", str(tmp_path / "q.nii.gzz")])
    assert stop.value.code == 2
    assert "ends nearly like .nii.gz" in capsys.readouterr().err
    written, train = "of a kind that is not written", ["train", "--images", "i", "--labels", "l", "--out"]
    asked = ((["segment", image, "--out"], written), (["export", image, "--format", "voc", "--out"], written), (train, "and a folder is needed"))
    for words, why in asked:
        with pytest.raises(SystemExit) as stop:
            cli.main([*map(str, words), str(tmp_path / "x.foo")])
        assert stop.value.code == 2
        assert f"x.foo' ends in .foo like a file {why}; for a folder write '{tmp_path / 'x.foo'}/'" in capsys.readouterr().err
    assert cli.main(["export", str(image), "--format", "geojson", "--out", str(tmp_path / "x.json")]) == 1
    assert "x.json does not end in .geojson" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"a.tif"}
    assert cli.main(["segment", str(image), "--model", "otsu", "--out", f"{tmp_path / 'q.nii.gzz'}/"]) == 0
    assert cli.main(["segment", str(image), "--model", "otsu", "--out", str(tmp_path / "results.v2")]) == 0


def test_the_command_line_speaks_of_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((9, 20, 20), np.uint8), metadata={"axes": "ZYX"})
    assert cli.main(["segment", str(tmp_path / "stack.tif"), "--model", "nuclei", "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "--stack slices" in told
    assert "stack='" not in told
