"""Files from microscopes and other programs, where the folder of real data is there."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_segsuite.errors import InputError
from napari_segsuite.io import list_inputs, read, read_segmentation, write

AMBIGUOUS = {"io_samples/membrane_2d_timelapse.tif"}


def test_every_tiff_has_the_shape_that_the_list_of_files_says(shared_data: Path) -> None:
    with (shared_data / "MANIFEST.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"].endswith(".tif") and row["shape"]]
    seen = 0
    for row in rows[:40] + [row for row in rows[40:] if not row["path"].startswith(("dsb2018", "models"))]:
        if row["path"] in AMBIGUOUS:
            continue
        image = read(shared_data / row["path"])
        stored = "x".join(
            str(n) for n in (np.moveaxis(np.empty(image.shape), 0, -1).shape if "c" in image.axes and image.shape[0] == 3 else image.shape)
        )
        assert (stored, str(image.data.dtype)) == (row["shape"], row["dtype"]), row["path"]
        seen += 1
    assert seen > 55


@pytest.mark.parametrize(
    ("path", "axes", "scale", "channels"),
    [
        ("io_samples/hela-cells.tif", "cyx", (1, 0.0514931, 0.0514931), ("channel 0", "channel 1", "channel 2")),
        ("io_samples/hela-cells-8bit.tif", "cyx", (1, 0.0514931, 0.0514931), ("red", "green", "blue")),
        ("io_samples/instanseg_Fluorescence_example.tif", "cyx", (1, 1, 1), ("channel 0", "channel 1")),
        ("io_samples/instanseg_HE_example.tif", "cyx", (1, 0.50008, 0.50008), ("red", "green", "blue")),
        ("nuclei3d_gonuclear/1135_image.ome.tif", "zyx", (0.28371837, 0.12678642, 0.12678642), ()),
        ("phase_c2c12/images.tif", "tyx", (1, 1, 1), ()),
        ("stardist_test_images/histo_he.jpg", "cyx", (1, 1, 1), ("red", "green", "blue")),
        ("ngff/cardiomyocyte_B03_mip_v04.ome.zarr", "czyx", (1, 1, 0.65, 0.65), ("DAPI", "nanog", "Lamin B1")),
        ("ngff/cardiomyocyte_B03_mip_v05_sharded_DERIVED.ome.zarr", "czyx", (1, 1, 1.3, 1.3), ("DAPI", "nanog", "Lamin B1")),
        ("ngff/cardiomyocyte_B03_mip_v04.ome.zarr/labels/nuclei", "zyx", (1, 0.65, 0.65), ()),
    ],
)
def test_sizes_and_channels(path: str, axes: str, scale: tuple[float, ...], channels: tuple[str, ...], shared_data: Path) -> None:
    image = read(shared_data / path)
    assert (image.axes, image.channels) == (axes, channels)
    assert image.scale == pytest.approx(scale, rel=1e-5)
    assert all(
        u == ("micrometer" if s != 1 or "ngff" in path else "pixel") for a, s, u in zip(axes, image.scale, image.units, strict=True) if a in "zyx"
    )


def test_the_two_versions_of_one_store_show_the_same_pixels(shared_data: Path) -> None:
    """Level 0 of the derived store is level 1 of the real one, whose multiscale starts at path "1"."""
    old = read(shared_data / "ngff" / "cardiomyocyte_B03_mip_v04.ome.zarr")
    new = read(shared_data / "ngff" / "cardiomyocyte_B03_mip_v05_sharded_DERIVED.ome.zarr")
    assert [level.shape[-1] for level in old.levels] == [1280, 640, 320]
    assert np.array_equal(np.asarray(old.levels[1][0]), np.asarray(new.levels[0][0]))


def test_a_series_of_unknown_axes_must_be_told(shared_data: Path) -> None:
    path = shared_data / "io_samples" / "membrane_2d_timelapse.tif"
    with pytest.raises(InputError, match="does not say what its axes are"):
        read(path)
    assert read(path, axes="tyx").shape == (5, 256, 256)


def test_a_colour_series_of_tiles_is_decoded(shared_data: Path) -> None:
    image = read(shared_data / "io_samples" / "instanseg_HE_example.tif")
    assert image.rgb
    assert image.shape == (3, 1484, 1380)
    assert 100 < float(np.asarray(image.data).mean()) < 240, "a bright stained section"


def test_labels_of_others_go_through_every_format(shared_data: Path, tmp_path: Path) -> None:
    found = read_segmentation(shared_data / "stardist_test_images" / "mask2d.tif")
    labels = tifffile.imread(shared_data / "stardist_test_images" / "mask2d.tif")
    assert found.segments["id"].tolist() == np.unique(labels)[1:].tolist()
    for name in ("a.tif", "a.ome.zarr", "a.png"):
        back = read_segmentation(write(found, tmp_path / name))
        assert np.array_equal(np.asarray(back.labels), labels)
        assert all(np.array_equal(back.segments[c], found.segments[c]) for c in found.segments)


def test_labels_in_a_real_store_get_a_table(shared_data: Path) -> None:
    found = read_segmentation(shared_data / "ngff" / "cardiomyocyte_B03_mip_v04.ome.zarr")
    assert len(found.segments["id"]) == 3006
    assert (found.name, found.units) == ("nuclei", ("micrometer",) * 3)


def test_a_folder_of_stores_and_one_of_pictures(shared_data: Path) -> None:
    assert [p.name[-10:] for p in list_inputs([str(shared_data / "ngff")])] == ["4.ome.zarr", "D.ome.zarr", "zarr3.zarr"]
    assert len(list_inputs([str(shared_data / "stardist_test_images")])) == 5
