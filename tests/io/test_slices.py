"""A folder of slices is one image, the same as if it had come in one file; what is missing or does not belong is named."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Picture

from napari_segsuite import SegsuiteError, read, read_segmentation, segment
from napari_segsuite.errors import InputError, OptionError
from napari_segsuite.io import slices
from napari_segsuite.io.geometry import sized
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Image

Array = NDArray[Any]


def put(folder: Path, planes: Array, name: str = "s{:03d}.tif") -> Path:
    """Write each plane to a file of its own."""
    folder.mkdir()
    for k, plane in enumerate(planes):
        path = folder / name.format(k)
        if path.suffix == ".png":
            Picture.fromarray(plane).save(path)
        else:
            tifffile.imwrite(path, plane, compression="zlib", photometric="minisblack")
    return folder


@pytest.fixture(scope="module")
def volume() -> Array:
    return nuclei((12, 40, 50), "zyx", seed=3)[0].astype(np.uint16)


@pytest.mark.parametrize("name", ["s{:03d}.tif", "cells z{} ch1.tif", "{}.png"])
def test_slices_in_the_order_of_their_numbers_are_the_volume(name: str, volume: Array, tmp_path: Path) -> None:
    folder = put(tmp_path / "stack", volume, name)
    (folder / "notes.txt").write_text("not a slice")
    (folder / ".hidden.tif").write_bytes(b"not a slice either")
    image = read(folder, files="z", voxel_um=(0.5, 0.25, 0.25))
    assert (image.axes, image.shape, image.scale, image.name) == ("zyx", volume.shape, (0.5, 0.25, 0.25), "stack")
    assert image.units == ("micrometer",) * 3
    np.testing.assert_array_equal(np.asarray(image.data), volume)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image)).data[3, 4:9], volume[3, 4:9])


@given(parts=st.data())
def test_any_part_is_that_of_the_volume(parts: Any, volume: Array, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "parts"
    image = read(folder if folder.is_dir() else put(folder, volume), files="z")
    keys = tuple(parts.draw(st.one_of(st.integers(0, n - 1), st.slices(n))) for n in volume.shape)
    if all(isinstance(key, int) or (key.step or 1) > 0 for key in keys):
        np.testing.assert_array_equal(image.data[keys], volume[keys])


def test_what_is_too_large_to_keep_is_read_in_parts(volume: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = read(put(tmp_path / "stack", volume), files="z")
    monkeypatch.setattr(slices, "KEPT_BYTES", 100)
    np.testing.assert_array_equal(image.data[2:5, 7, ::2], volume[2:5, 7, ::2])
    monkeypatch.setattr(slices, "KEPT_BYTES", 2 * volume[0].nbytes)
    image = read(tmp_path / "stack", files="z")
    np.testing.assert_array_equal(np.asarray(image.data), volume)


def test_time_points_channels_and_colours(volume: Array, tmp_path: Path) -> None:
    folder = put(tmp_path / "many", volume[:3], "c{}.tif")
    assert read(folder, files="t").axes == "tyx"
    dyes = read(folder, files="c")
    assert (dyes.axes, dyes.channels) == ("cyx", ("c0", "c1", "c2"))
    stacks = put(tmp_path / "stacks", volume.reshape(3, 4, 40, 50), "t{}.tif")
    movie = read(stacks, files="t", axes="zyx")
    assert (movie.axes, movie.shape) == ("tzyx", (3, 4, 40, 50))
    np.testing.assert_array_equal(np.asarray(movie.data), volume.reshape(3, 4, 40, 50))
    colours = np.random.default_rng(0).integers(0, 255, (5, 16, 17, 3)).astype(np.uint8)
    picture = read(put(tmp_path / "rgb", colours, "{}.png"), files="z")
    assert (picture.axes, picture.rgb) == ("czyx", True)
    np.testing.assert_array_equal(np.asarray(picture.data), colours.transpose(3, 0, 1, 2))


def test_it_is_segmented_converted_and_told_as_one_file_is(volume: Array, segsuite: Callable[..., Any], tmp_path: Path) -> None:
    folder = put(tmp_path / "stack", volume)
    how = ("--files", "z", "--voxel-um", "0.5,0.25,0.25")
    done = segsuite("segment", folder, *how, "--model", "otsu", "--out", tmp_path / "out")
    assert done.code == 0, done
    found = read_segmentation(tmp_path / "out" / "stack_labels.tif")
    np.testing.assert_array_equal(found.labels, segment(volume, model="otsu").labels)
    assert (found.scale, found.units) == ((0.5, 0.25, 0.25), ("micrometer",) * 3)
    assert "already done" in segsuite("segment", folder, *how, "--model", "otsu", "--out", tmp_path / "out").out
    (folder / "s003.tif").write_bytes((folder / "s004.tif").read_bytes())
    again = segsuite("segment", folder, *how, "--model", "otsu", "--out", tmp_path / "out")
    assert (again.code, "is there already" in again.err) == (1, True), again
    tifffile.imwrite(folder / "s003.tif", volume[3])
    assert segsuite("convert", folder, tmp_path / "v.ome.zarr", *how).code == 0
    whole = read(tmp_path / "v.ome.zarr")
    np.testing.assert_array_equal(np.asarray(whole.data), volume)
    assert whole.scale == (0.5, 0.25, 0.25)
    told = segsuite("info", folder, *how).out
    assert "12 z x 40 y x 50 x, uint16, voxel 0.5 x 0.25 x 0.25 micrometer" in told
    assert "12 files" in told
    grown = segsuite("segment", folder, *how, "--model", "otsu", "--out", tmp_path / "g.ome.zarr", "--chunk", "8,32,32", "--workers", "1")
    assert grown.code == 0, grown
    np.testing.assert_array_equal(np.asarray(read_segmentation(tmp_path / "g.ome.zarr").labels) > 0, np.asarray(found.labels) > 0)


def test_labels_in_slices_are_labels_of_the_volume(tmp_path: Path, segsuite: Callable[..., Any]) -> None:
    truth = nuclei((8, 40, 50), "zyx", seed=5)[1].astype(np.uint16)
    folder = put(tmp_path / "truth", truth, "{}_labels.png")
    found = read_segmentation(folder, files="z")
    np.testing.assert_array_equal(found.labels, truth)
    assert found.segments["id"].tolist() == [i for i in np.unique(truth).tolist() if i]
    assert segsuite("convert", folder, tmp_path / "t.tif", "--files", "z", "--labels", "--voxel-um", "0.3").code == 0
    back = read_segmentation(tmp_path / "t.tif")
    assert back.scale == (0.3,) * 3
    np.testing.assert_array_equal(back.labels, truth)


def removed(folder: Path) -> None:
    (folder / "s005.tif").unlink()


def smaller(folder: Path) -> None:
    tifffile.imwrite(folder / "s007.tif", np.zeros((40, 49), np.uint16))


def of_another_type(folder: Path) -> None:
    tifffile.imwrite(folder / "s007.tif", np.zeros((40, 50), np.uint8))


def of_another_kind(folder: Path) -> None:
    Picture.fromarray(np.zeros((40, 50), np.uint8)).save(folder / "cover.png")


def cut_off(folder: Path) -> None:
    (folder / "s002.tif").write_bytes((folder / "s002.tif").read_bytes()[:60])


def deep(folder: Path) -> None:
    tifffile.imwrite(folder / "s000.tif", np.zeros((9, 40, 50), np.uint16), metadata={"axes": "ZYX"})


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (removed, r"Files are missing in folder .*, by their numbers: 1 between s004\.tif and s006\.tif"),
        (smaller, r"s000\.tif is 40 x 50 uint16 and s007\.tif is 40 x 49 uint16\. Needed: pictures of one shape"),
        (of_another_type, r"s007\.tif is 40 x 50 uint8"),
        (of_another_kind, r"files ending in \.png and \.tif\. Needed: one kind"),
        (cut_off, r"s002\.tif"),
        (deep, r"s000\.tif has 9 slices itself"),
        (emptied, "holds no pictures"),
    ],
)
def test_what_does_not_belong_is_named(spoil: Callable[[Path], None], told: str, volume: Array, tmp_path: Path) -> None:
    spoil(put(tmp_path / "stack", volume))
    with pytest.raises(InputError, match=told):
        read(tmp_path / "stack", files="z")


@pytest.mark.parametrize(
    "names",
    [("z-2", "z-1", "z0", "z1"), ("z0.25", "z0.5", "z0.75", "z1.0"), ("cell-8", "cell-9", "cell-10", "cell-11"), ("3h 1", "3h 2", "4h 3", "4h 4")],
)  # fmt: skip
def test_numbers_are_signed_and_decimal_where_they_are(names: tuple[str, ...], volume: Array, tmp_path: Path) -> None:
    folder = put(tmp_path / "stack", volume[:4], "{}.tif")
    for k, name in enumerate(names):
        (folder / f"{k}.tif").rename(folder / f"{name}.tif")
    np.testing.assert_array_equal(np.asarray(read(folder, files="z").data), volume[:4])


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("i_z0_c0", "i_z0_c1", "i_z1_c0", "i_z1_c1"), r"differ in 2 numbers, such as i_z0_c0\.tif and i_z1_c1\.tif"),
        (("a1", "a2", "a3", "Thumbs"), r"Thumbs\.tif is not called as the others are, such as a"),
    ],
)
def test_names_that_are_no_row_of_numbers_are_refused(names: tuple[str, ...], told: str, volume: Array, tmp_path: Path) -> None:
    folder = put(tmp_path / "stack", volume[:4], "{}.tif")
    for k, name in enumerate(names):
        (folder / f"{k}.tif").rename(folder / f"{name}.tif")
    with pytest.raises(InputError, match=told):
        read(folder, files="z")


def test_pixels_of_other_sizes_are_no_slices_of_one_image(volume: Array, tmp_path: Path) -> None:
    folder = put(tmp_path / "stack", volume[:3])
    tifffile.imwrite(folder / "s001.tif", volume[1], resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    with pytest.raises(InputError, match=r"s001\.tif says another size of its pixels than s000\.tif"):
        read(folder, files="z")


def test_a_position_stays_where_it_is_when_voxels_get_a_size() -> None:
    pixels = np.zeros((4, 5), np.uint8)
    for unit, scale, at, moved, size in (
        ("nanometer", 40.0, 400.0, 400.0, 500.0),
        ("micrometer", 2.0, 7.0, 7.0, 0.5),
        ("pixel", 1.0, 3.0, 1.5, 0.5),
        ("millimeter", 1.0, 2.0, 2.0, 0.0005),
    ):
        image = Image((pixels,), axes="yx", scale=(scale, scale), units=(unit, unit), translate=(at, -at), name="a")
        found = sized(image, (0.5,))
        assert found.scale == (size, size)
        assert found.units == ("micrometer" if unit == "pixel" else unit,) * 2  # programs for medical images take numbers as millimetres
        assert found.translate == pytest.approx((moved, -moved))


def test_numbers_that_follow_no_rule_are_only_an_order(volume: Array, tmp_path: Path) -> None:
    folder = put(tmp_path / "stack", volume[:4], "at{}.tif")
    for old, new in (("at1", "at17"), ("at2", "at38"), ("at3", "at40")):
        (folder / f"{old}.tif").rename(folder / f"{new}.tif")
    np.testing.assert_array_equal(np.asarray(read(folder, files="z").data), volume[:4])


def test_wishes_that_do_not_fit_are_refused(volume: Array, segsuite: Callable[..., Any], tmp_path: Path) -> None:
    folder = put(tmp_path / "stack", volume)
    with pytest.raises(InputError, match="scene=1 chooses an image in a file"):
        read(folder, files="z", scene=1)
    with pytest.raises(InputError, match="one of z, t, c"):
        read(folder, files="y")
    for sizes in ((1.0, 2.0), (0.0,), (float("nan"), 1.0, 1.0)):
        with pytest.raises(OptionError, match="has the spatial axes zyx"):
            read(folder, files="z", voxel_um=sizes)
    with pytest.raises(SegsuiteError, match=r"Folder .*stack is neither a DICOM series nor a zarr store.*files='z'"):
        read(folder)
    assert "say so: --files z." in segsuite("info", folder).err
    assert "is no folder" in segsuite("segment", folder / "s000.tif", "--files", "z", "--out", tmp_path / "o", "--model", "otsu").err
    assert "No folder at" in segsuite("segment", tmp_path / "nowhere", "--files", "z", "--out", tmp_path / "o", "--model", "otsu").err
