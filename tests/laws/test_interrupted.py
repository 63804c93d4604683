"""Law 3 for whole files: stopped or killed anywhere and started again gives what an uninterrupted run gives, and nothing is done twice.

The real command runs in processes of their own. They are killed each time before they touch a file in the folder of results: before it
is made, opened, forced to the disk, renamed or deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_segsuite import read_segmentation
from napari_segsuite.errors import InputError
from napari_segsuite.io import label_store
from napari_segsuite.synthetic import nuclei

NAMES = ("a", "b")
FORMS = ("tif", "ome-zarr")
STOPS = [
    (signal.SIGINT, "tif", 7), (signal.SIGTERM, "tif", 11), (signal.SIGINT, "ome-zarr", 61),
    *(pytest.param(number, form, 1, marks=pytest.mark.slow) for number in (signal.SIGINT, signal.SIGTERM) for form in FORMS),
]  # fmt: skip
"""By which signal a run is stopped, and before which touches of a file; with --run-slow before each of them."""
WORDS = ["segment", "images", "--model", "otsu", "--out"]
Forked = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two images in ``images``."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for seed, name in enumerate(NAMES):
        tifffile.imwrite(f"images/{name}.tif", nuclei((48, 40), "yx", seed=seed)[0])
    return tmp_path


def told(path: Path) -> Any:
    """What a file of a result says, but for when and where it was made."""
    if path.suffix == ".csv":
        return path.read_bytes()
    if path.suffix == ".json":
        run = json.loads(path.read_text(encoding="utf-8"))
        return {name: value for name, value in run.items() if name != "seconds"}
    back = read_segmentation(path)
    return np.asarray(back.labels).tobytes(), {name: column.tolist() for name, column in back.segments.items()}


def visible(out: Path) -> dict[str, Path]:
    """What looks finished; a store that is not says so, and nobody can read it as a result."""
    found = {path.name: path for path in out.iterdir() if not path.name.startswith(".")} if out.is_dir() else {}
    grown = {
        name for name, path in found.items() if path.suffix == ".zarr" and (label_store.is_unfinished(path) or not (path / "zarr.json").exists())
    }
    for name in grown:
        with pytest.raises(InputError):
            read_segmentation(found[name])
    return {name: path for name, path in found.items() if name not in grown}


def hidden(out: Path) -> list[str]:
    return [name for _, folders, files in os.walk(out) for name in (*folders, *files) if name.startswith(".")]


def check_no_half(out: Path, whole: dict[str, Any]) -> set[str]:
    """Whatever has its name is whole, and where the record is, all is. Returns the files of finished results."""
    found = visible(out)
    assert {name: told(path) for name, path in found.items()} == {name: whole[name] for name in found}
    finished = {name for n in NAMES if f"{n}_run.json" in found for name in whole if name.startswith(f"{n}_")}
    assert finished <= set(found)
    return finished


if os.name == "posix":

    @pytest.mark.parametrize(("form", "every"), [("tif", 3), ("ome-zarr", 47), *(pytest.param(f, 1, marks=pytest.mark.slow) for f in FORMS)])
    def test_killed_anywhere_and_started_again_is_as_if_uninterrupted(forked: Forked, folder: Path, form: str, every: int) -> None:
        count = forked(*WORDS, "whole", "--format", form, watch=Path("whole"))
        assert (count.code, count.err) == (0, "")
        whole = {name: told(path) for name, path in visible(Path("whole")).items()}
        assert len(whole) == 6
        assert count.events > 20
        for at in range(1, count.events + 1, every):
            out = Path(f"killed{at}")
            assert forked(*WORDS, out, "--format", form, watch=out, at=at).code == -signal.SIGKILL
            times = {path.name: path.stat().st_mtime_ns for path in visible(out).values()}
            finished = check_no_half(out, whole)
            again = forked(*WORDS, out, "--format", form)
            assert (again.code, again.err) == (0, "")
            assert again.out.count("already done") == len(finished) // 3
            assert {name: visible(out)[name].stat().st_mtime_ns for name in finished} == {name: times[name] for name in finished}
            assert check_no_half(out, whole) == set(whole)

    @pytest.mark.parametrize(("number", "form", "every"), STOPS)
    def test_stopped_anywhere_nothing_half_written_is_left(forked: Forked, folder: Path, number: signal.Signals, form: str, every: int) -> None:
        count = forked(*WORDS, "whole", "--format", form, watch=Path("whole"))
        whole = {name: told(path) for name, path in visible(Path("whole")).items()}
        for at in range(1, count.events + 1, every):
            out = Path(f"stopped{at}")
            stopped = forked(*WORDS, out, "--format", form, watch=out, at=at, signal=number)
            assert stopped.code == 128 + number
            assert stopped.err == "segsuite: stopped; what was finished before is complete, and the same command goes on\n"
            if form == "tif":
                assert hidden(out) == []
            check_no_half(out, whole)
            assert forked(*WORDS, out, "--format", form).code == 0
            assert check_no_half(out, whole) == set(whole)

    def test_ctrl_c_stops_in_the_middle_of_an_image(folder: Path) -> None:
        tifffile.imwrite("images/b.tif", np.tile(nuclei((64, 64), "yx")[0], (32, 32)))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-m", "napari_segsuite", *WORDS, "out", "--chunk", "64,64", "--progress", "json"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as command:
            assert command.stdout is not None
            assert command.stderr is not None
            for line in command.stdout:
                event = json.loads(line)
                if event["input"].endswith("b.tif") and event["done"] > event["total"] / 50:
                    command.send_signal(signal.SIGINT)
                    break
            rest = [json.loads(line) for line in command.stdout]
            assert all(event["event"] == "progress" for event in rest)
            assert command.stderr.read().startswith("segsuite: stopped; ")
            assert command.wait(100) == 130
        assert sorted(visible(Path("out"))) == ["a_labels.tif", "a_run.json", "a_segments.csv"]
        assert hidden(Path("out")) == []

    def test_a_result_that_is_replaced_is_never_mixed_with_the_new_one(forked: Forked, folder: Path) -> None:
        """The record goes first and comes last: while anything is replaced, nothing looks finished."""
        other = ["--min-size-px", "150"]
        count = [forked(*WORDS, out, *wish, watch=Path(out)).events for out, wish in (("old", []), ("new", other))][1]
        old, new = ({name: told(path) for name, path in visible(Path(out)).items()} for out in ("old", "new"))
        assert all(old[name] != new[name] for name in old)
        for at in range(1, count + 1, 4):
            out = Path(f"mixed{at}")
            shutil.copytree("old", out)
            forked(*WORDS, out, *other, "--overwrite", watch=out, at=at)
            found = {name: told(path) for name, path in visible(out).items()}
            for name in NAMES:
                mine = {file: value for file, value in found.items() if file.startswith(f"{name}_")}
                assert f"{name}_run.json" not in mine or mine in ({f: old[f] for f in mine}, {f: new[f] for f in mine})
                assert f"{name}_run.json" not in mine or len(mine) == 3
            assert forked(*WORDS, out, *other, "--overwrite").code == 0
            assert check_no_half(out, new) == set(new)
