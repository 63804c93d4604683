"""Where a result can be saved: what is offered, and what is said about a bad choice before Run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_segsuite import arrays, io
from napari_segsuite.engine.plan import Options, Plan, resolve
from napari_segsuite.engine.run import result, run
from napari_segsuite.errors import OutputError
from napari_segsuite.models import load_spec
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Image
from napari_segsuite.viewer import stores

SPEC = load_spec("otsu")


@pytest.fixture(scope="module")
def image() -> Image:
    return arrays.as_image(nuclei((60, 70), "yx", seed=1)[0], "yx", name="cells")


def planned(image: Image, **options: Any) -> Plan:
    return resolve(image, Options(model="otsu", **{"chunk": (32, 32), **options}), SPEC)


def said(path: Path, plan: Plan) -> str:
    with pytest.raises(OutputError) as caught:
        stores.examine(path, plan, SPEC)
    return str(caught.value)


def begin(image: Image, out: Path, chunks: int = 2, **options: Any) -> None:
    steps = run(planned(image, **options), image, out=out)
    for progress in steps:
        if f"{chunks} of" in progress.message:
            break
    steps.close()


def test_nothing_there_is_fine_and_nothing_is_made(image: Image, tmp_path: Path) -> None:
    assert stores.examine(tmp_path / "deep" / "in" / "a.ome.zarr", planned(image), SPEC) == (0, 0)
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_of_the_same_job_is_gone_on_with_whatever_the_chunks(image: Image, tmp_path: Path) -> None:
    begin(image, tmp_path / "a.ome.zarr")
    assert stores.examine(tmp_path / "a.ome.zarr", planned(image), SPEC) == (2, 6)
    assert stores.examine(tmp_path / "a.ome.zarr", planned(image, chunk=(64, 64), device="cpu"), SPEC) == (2, 6)


def test_one_of_other_options_is_not(image: Image, tmp_path: Path) -> None:
    begin(image, tmp_path / "a.ome.zarr", min_size_px=7)
    told = said(tmp_path / "a.ome.zarr", planned(image))
    assert "holds an unfinished run with other options (min_size_px 7 instead of None). Choose another name under Save to." in told


def test_a_finished_one_of_the_same_or_of_other_options(image: Image, tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    result(run(planned(image), image, out=out))
    assert said(out, planned(image)).startswith("a.ome.zarr holds the result of these options already.")
    assert said(out, planned(image, min_size_px=7)) == f"Store {out} exists already. Choose another name under Save to."


def test_what_belongs_to_others_is_named(image: Image, tmp_path: Path) -> None:
    plan = planned(image)
    io.write(image, tmp_path / "image.ome.zarr")
    (tmp_path / "notes.zarr").mkdir()
    (tmp_path / "notes.zarr" / "diary.txt").write_text("mine")
    (tmp_path / "file.ome.zarr").write_text("")
    assert "holds an image, which labels must not replace" in said(tmp_path / "image.ome.zarr", plan)
    assert "is not a zarr store, so it is not replaced" in said(tmp_path / "notes.zarr", plan)
    assert "is a file" in said(tmp_path / "file.ome.zarr", plan)
    assert "lies inside another store" in said(tmp_path / "image.ome.zarr" / "mine", plan)
    assert "Needed: one that ends in .ome.zarr, or STORE/labels/NAME" in said(tmp_path / "a.tif", plan)
    assert "is not a path that can be written" in said(tmp_path / ("a" * 300 + ".zarr"), plan)
    other = resolve(Image((np.zeros((2, 9, 9)),), "zyx", (1.0,) * 3, ("pixel",) * 3, (0.0,) * 3), Options(model="otsu"), SPEC)
    assert "the labels have axes 'zyx'" in said(tmp_path / "image.ome.zarr" / "labels" / "a", other).lower()
    assert stores.examine(tmp_path / "image.ome.zarr" / "labels" / "a", plan, SPEC) == (0, 0)


def test_a_name_is_found_that_is_free(image: Image, tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    begin(image, out, min_size_px=7)
    begin(image, tmp_path / "a_2.ome.zarr")
    assert stores.free(out, planned(image, min_size_px=7), SPEC) == out
    assert stores.free(out, planned(image), SPEC) == tmp_path / "a_2.ome.zarr"
    assert stores.free(out, planned(image, min_score=0.5), SPEC) == tmp_path / "a_3.ome.zarr"


def test_only_a_run_of_the_same_plan_is_found_by_itself(image: Image, tmp_path: Path) -> None:
    paths = [tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr"]
    assert stores.begun(paths, planned(image), SPEC) is None
    begin(image, paths[0], min_size_px=7)
    assert stores.begun(paths, planned(image), SPEC) is None
    begin(image, paths[1])
    assert stores.begun(paths, planned(image), SPEC) == paths[1]


@pytest.mark.parametrize(
    ("source", "beside"),
    [
        ("x/cells.tif", "x/cells_otsu.ome.zarr"),
        ("x/cells.ome.tiff", "x/cells_otsu.ome.zarr"),
        ("x/plate.zarr/A/1/0", "x/plate_A_1_0_otsu.ome.zarr"),
        ("x/t1.5.png", "x/t1.5_otsu.ome.zarr"),
    ],
)
def test_a_store_beside_the_file_is_offered(image: Image, source: str, beside: str) -> None:
    assert stores.offers(replace(image, source=source), SPEC) == [Path(beside)]
    assert stores.offers(image, SPEC) == []
    assert stores.offers(replace(image, source="https://here.org/a.zarr"), SPEC) == []
