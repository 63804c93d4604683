"""The benchmarks of large volumes run in small, and count tilings as the ones that they stand for do."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

volumes = import_module("benchmarks.volumes")
tiling = import_module("benchmarks.volumes.tiling")


def quick(name: str) -> dict[str, float]:
    figures: dict[str, float] = import_module(f"benchmarks.volumes.{name}").main(volumes.parsed(["--quick"]))
    return figures


def test_every_part_is_there_and_named_in_the_help() -> None:
    for name in volumes.PARTS:
        assert callable(import_module(f"benchmarks.volumes.{name}").main)
        assert f"- {name} " in volumes.__doc__
    assert isinstance(volumes.parsed([]), argparse.Namespace)


@pytest.fixture(scope="module")
def stitching() -> dict[str, float]:
    return quick("stitching")


if find_spec("cc3d") is not None:  # only benchmarks need it; that chunks equal the whole is tested elsewhere

    def test_chunks_give_as_many_objects_as_the_whole(stitching: dict[str, float]) -> None:
        assert stitching["ours"] == stitching["whole"] > 10
        assert stitching["ours, found"] == stitching["ours, right"] == stitching["few"] > 10


@pytest.mark.parametrize(
    ("peer", "share", "needs"), [("dask-image", 1, "dask_image"), ("Cellpose's merge", 0.5, "cellpose dask_image dask_jobqueue yaml cc3d")]
)
def test_others_find_the_same_objects_or_most(stitching: dict[str, float], peer: str, share: float, needs: str) -> None:
    if missing := [name for name in needs.split() if find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    assert share * stitching["few"] <= stitching[f"{peer}, right"] <= stitching["few"]


def test_labels_are_written_and_shrunk(capsys: pytest.CaptureFixture[str]) -> None:
    figures = quick("writing")
    assert figures["pyramid"] > 1
    assert figures["ours"] > 0
    assert "zarr-python, sharded" in capsys.readouterr().out


def test_synthetic_chunks_are_joined_across_their_faces() -> None:
    figures = quick("linking")
    assert figures["objects"] > 10
    assert 0 < figures["share"] < 1


def test_the_network_is_watched() -> None:
    assert 0 <= quick("overlap")["waits"] < 1


def test_a_run_in_a_process_of_its_own_tells_its_peak() -> None:
    figures = quick("memory")
    assert 0.5 < figures["growth"] < 2


@pytest.mark.parametrize(("shape", "published"), [((4096, 4096), 3.516), ((128, 512, 512), 4.594), ((512, 512), 1.0)])
def test_tilings_of_others_are_counted_as_published(shape: tuple[int, ...], published: float) -> None:
    assert tiling.nnunet(shape, tiling.PEERS[len(shape)], 0.5) == pytest.approx(published, abs=1e-3)


def test_the_formula_of_nnunet_is_what_it_does() -> None:
    pytest.importorskip("nnunetv2", exc_type=ImportError)
    for shape, window in (((4096, 4096), (512, 512)), ((128, 512, 512), (64, 128, 128)), ((100, 333), (64, 100))):
        assert tiling.nnunet_itself(shape, window, 0.5) == pytest.approx(tiling.nnunet(shape, window, 0.5))


@pytest.mark.parametrize(("dims", "shape", "tile"), [(2, (4096, 4096), (1536, 1536)), (3, (128, 512, 512), (128, 280, 280))])
def test_tiles_that_fit_the_image_waste_little(dims: int, shape: tuple[int, ...], tile: tuple[int, ...]) -> None:
    from dataclasses import replace

    context, multiple = {2: ((64, 64), (16, 16)), 3: ((16, 24, 24), (8, 8, 8))}[dims]
    spec = replace(tiling.small_model(dims).spec, tile=tile, context=context, multiple=multiple)
    assert tiling.ours(shape, spec) < {2: 1.13, 3: 1.2}[dims]


def test_sources_fit_to_themselves(tmp_path: Path) -> None:
    import zarr

    sources: Any = import_module("benchmarks.volumes.sources")
    one = sources.pixels((8, 16, 16), "uint8")
    whole = np.asarray(zarr.open_array(sources.volume(tmp_path / "v.zarr", (12, 32, 20), "uint8", (8, 16, 16)), mode="r")[:])
    np.testing.assert_array_equal(whole, np.tile(one, (2, 2, 2))[:12, :32, :20])
