"""The scripts in examples/ run, and print what they are there to show."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

# What each must print, line after line; other lines may stand between.
SHOWN = {
    "evaluate": [r"^one image: AP 1\.000 at IoU 0\.5", r"^sparse .*AP at IoU 0\.5 1\.00", r"^crowded .*AP at IoU 0\.5 0\.\d+", r"^pooled "],
    "own_model": [r"^2\d blobs, 28 true nuclei$", r"^the same in chunks: True$"],
    "segment_array": [r"^instance segmentation, labels \(256, 256\) uint32$", r"^29 objects, columns: id, class_id, score, size, bbox_y0, "],
    "segment_file_and_save": [
        r"^26 objects, median area \d\d\.\d um2 with pixels of 0\.4 micrometer$",
        r"\(0\.4, 0\.4\), made with otsu, equal: True$",
    ],
    "segment_volume_in_chunks": [r"in 27 chunks: (\d+) and \1 objects$", r"^equal labels: True$", r"^equal tables: True$"],
    "time_series": [r"^after  0 minutes: \d+ objects", r"^after 20 minutes: \d+ objects", r"none twice: True; they are not tracks$"],
    "use_run_with_executor": [r"100 % segmenting on cpu$", r"^\d+ objects$", r"cancelled on its way$", r"^equal without the pool: True$"],
}


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_example_shows_what_it_is_for(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    for pattern in SHOWN[name]:
        at = next((i for i, line in enumerate(printed) if re.search(pattern, line)), None)
        assert at is not None, f"{pattern} is not in {printed}"
        printed = printed[at + 1 :]


def test_examples_write_only_into_their_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "segment_file_and_save.py"), run_name="__main__")
    assert [path.name for path in tmp_path.iterdir()] == ["example-results"]
    assert {path.name for path in (tmp_path / "example-results").iterdir()} == {"cells.ome.tif", "cells_labels.ome.zarr", "cells_segments.csv"}
