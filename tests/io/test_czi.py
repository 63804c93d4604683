"""CZI: files that ZEISS's own library wrote (tests/data/czi), and the same with tiles that its writer does not make."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io import read, read_segmentation, write

DATA = Path(__file__).parents[1] / "data" / "czi"
DIRECTORY, ENTRY, DIMENSION = 84, 32, 20
"""Where the header says where the directory is; lengths of what is in that."""


def planes() -> NDArray[Any]:
    t, c, z, y, x = np.indices((2, 2, 3, 16, 24))
    return (10000 * t + 5000 * c + 1000 * z + 24 * y + x).astype(np.uint16)


def mosaic(first: int) -> NDArray[Any]:
    """Two tiles, the second on top of the first; nothing at two corners."""
    whole = np.zeros((12, 24), np.uint8)
    whole[:10, :14], whole[2:, 10:] = first, first + 10
    return whole


def entries(data: bytes) -> list[int]:
    """Where each tile is described in the directory."""
    (at,) = struct.unpack_from("<q", data, DIRECTORY)
    (count,) = struct.unpack_from("<i", data, at + 32)
    found, here = [], at + 32 + 128
    for _ in range(count):
        found.append(here)
        here += ENTRY + DIMENSION * struct.unpack_from("<i", data, here + 28)[0]
    return found


def with_dimension(data: bytearray, entry: int, name: str, start: int, size: int, stored: int) -> None:
    """Say anew where a tile lies along a dimension."""
    for k in range(struct.unpack_from("<i", data, entry + 28)[0]):
        here = entry + ENTRY + DIMENSION * k
        if data[here : here + 1] == name.encode():
            struct.pack_into("<iifi", data, here + 4, start, size, 0.0, stored)


def with_pixels(data: bytearray, entry: int, packed: bytes, packing: int) -> None:
    """Let a tile have other bytes, in a segment at the end of the file."""
    (count,) = struct.unpack_from("<i", data, entry + 28)
    struct.pack_into("<q", data, entry + 6, len(data))
    struct.pack_into("<i", data, entry + 18, packing)
    told = bytes(data[entry : entry + ENTRY + DIMENSION * count])
    body = (struct.pack("<iiq", 0, 0, len(packed)) + told).ljust(256, b"\0") + packed
    data += struct.pack("<16sqq", b"ZISRAWSUBBLOCK", len(body), len(body)) + body


def test_planes_of_every_kind_have_their_values_sizes_and_names() -> None:
    image = read(DATA / "planes.czi")
    assert np.array_equal(image.data, planes())
    assert (image.axes, image.channels, image.rgb, image.data.dtype) == ("tczyx", ("DAPI", "GFP"), False, np.uint16)
    assert np.allclose(image.scale, (2.5, 1, 1.5, 0.25, 0.25))
    assert image.units == ("second", "pixel", "micrometer", "micrometer", "micrometer")


slices = st.builds(slice, st.none() | st.integers(-25, 25), st.none() | st.integers(-25, 25), st.sampled_from([None, 1, 2, -1, -3]))


@given(key=st.tuples(*[slices | st.integers(0, n - 1) for n in (2, 2, 3, 16, 24)]))
@settings(max_examples=60, deadline=None)
def test_a_part_is_the_part_of_the_whole(key: tuple[Any, ...]) -> None:
    assert np.array_equal(read(DATA / "planes.czi").data[key], planes()[key])


def test_the_axes_are_as_a_user_says() -> None:
    image = read(DATA / "planes.czi", axes="ctzyx")
    assert np.array_equal(image.data, planes().swapaxes(0, 1))


def test_several_scenes_are_listed_and_each_can_be_had() -> None:
    with pytest.raises(InputError, match=r"holds 2 images \(0: left \(12, 24\), 1: right \(12, 24\)\).*--scene 0"):
        read(DATA / "scenes.czi")
    for wish, first in ((0, 1), ("right", 101), ("1", 101)):
        assert np.array_equal(read(DATA / "scenes.czi", scene=wish).data, mosaic(first))
    with pytest.raises(InputError, match="has no image 'middle'"):
        read(DATA / "scenes.czi", scene="middle")


def test_a_scene_that_is_no_image_does_not_stand_in_the_way_of_others(tmp_path: Path) -> None:
    data = bytearray((DATA / "scenes.czi").read_bytes())
    struct.pack_into("<i", data, entries(data)[3] + 2, 3)  # a tile of the second scene is said to be in colours
    (tmp_path / "a.czi").write_bytes(data)
    with pytest.raises(InputError, match="both grey and coloured tiles"):
        read(tmp_path / "a.czi", scene="right")
    assert np.array_equal(read(tmp_path / "a.czi", scene="left").data, mosaic(1))


def test_scenes_lie_where_the_stage_was() -> None:
    left, right = (read(DATA / "scenes.czi", scene=k) for k in range(2))
    assert np.allclose(np.add(left.translate, (5.5 * 0.5, 11.5 * 0.5)), (-50, 100))
    assert np.allclose(np.subtract(right.translate, left.translate), (15, 50))  # as far apart as their pixels: 30 and 100 of half a micrometre


def test_colours_begin_with_red() -> None:
    image = read(DATA / "colours.czi")
    y, x = np.indices((10, 14))
    assert (image.axes, image.channels, image.rgb) == ("cyx", ("red", "green", "blue"), True)
    assert np.array_equal(image.data, [10 * y, 10 * x, np.full_like(x, 7)])
    assert image.units == ("pixel",) * 3


def test_smaller_copies_are_levels(tmp_path: Path) -> None:
    data = bytearray((DATA / "scenes.czi").read_bytes())
    second = entries(data)[1]
    with_dimension(data, second, "X", 0, 28, 14)
    with_dimension(data, second, "Y", 0, 20, 10)
    (tmp_path / "a.czi").write_bytes(data)
    image = read(tmp_path / "a.czi", scene=0)
    assert [(level.shape, np.unique(level).tolist()) for level in image.levels] == [((10, 14), [1]), ((5, 7), [11])]


def test_tiles_are_the_chunks() -> None:
    assert read(DATA / "planes.czi").data.chunks == (1, 1, 1, 16, 24)
    assert read(DATA / "scenes.czi", scene=0).data.chunks == (10, 14)
    assert read(DATA / "colours.czi").data.chunks == (3, 10, 14)


@pytest.mark.parametrize(("codec", "number"), [("jpegxr", 4), ("lzw", 2), ("jpeg", 1)])
def test_other_compressions_are_decoded(codec: str, number: int, tmp_path: Path) -> None:
    codecs = pytest.importorskip("imagecodecs")
    y, x = np.indices((10, 14))
    pixels = np.stack([200 + 2 * y, 5 * x, y + x], axis=-1).astype(np.uint8)
    stored = pixels[..., ::-1].tobytes() if codec == "lzw" else pixels  # the other two say themselves which colour is which
    data = bytearray((DATA / "colours.czi").read_bytes())
    with_pixels(
        data,
        entries(data)[0],
        getattr(codecs, f"{codec}_encode")(stored, **({} if codec == "lzw" else {"level": 1.0 if number == 4 else 99})),
        number,
    )
    (tmp_path / "a.czi").write_bytes(data)
    found = np.moveaxis(np.asarray(read(tmp_path / "a.czi").data), 0, -1).astype(int)
    assert np.abs(found - pixels).max() <= (6 if codec == "jpeg" else 0)


def test_the_time_step_is_that_of_the_experiment_where_the_image_says_none(tmp_path: Path) -> None:
    data = (DATA / "planes.czi").read_bytes()
    told = b"<T><Positions><Interval><Start>0</Start><Increment>2.5</Increment></Interval></Positions></T>"
    wished = (
        b"<TimeSeriesSetup><Interval><TimeSpan><Value>750</Value><DefaultUnitFormat>ms</DefaultUnitFormat></TimeSpan></Interval></TimeSeriesSetup>"
    )
    at, end = data.index(b"<T>"), data.index(b"</T>") + 4
    room = end - at
    assert told.count(b"<") == data[at:end].count(b"<")
    (tmp_path / "a.czi").write_bytes(data[:at] + wished.ljust(room) + data[end:])
    assert read(tmp_path / "a.czi").scale[0] == 0.75


def test_a_tile_that_declares_more_than_the_file_can_hold_is_refused(tmp_path: Path) -> None:
    for name, where, told in (
        ("planes.czi", "declares an image of shape", (2**30, 24, 24)),
        ("scenes.czi", "which needs 14.0 GB", (0, 1_400_000_000, 1_400_000_000)),
    ):
        data = bytearray((DATA / name).read_bytes())
        with_dimension(data, entries(data)[0], "X", *told)
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=where):
            read(tmp_path / name)


def test_a_file_that_ends_too_early_is_named(tmp_path: Path) -> None:
    data = (DATA / "planes.czi").read_bytes()
    for part in (0, 10, 100, 0.3, 0.6, 0.9, 0.99):
        (tmp_path / "cut.czi").write_bytes(data[: int(part * len(data)) if isinstance(part, float) else part])
        with pytest.raises(InputError, match=r"cut\.czi"):
            np.asarray(read(tmp_path / "cut.czi").data)


def test_nothing_is_written_as_czi(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"Files ending in \.czi are read, and not written"):
        write(read(DATA / "colours.czi"), tmp_path / "a.czi")


def test_another_process_reads_the_same(elsewhere: Callable[[Any], NDArray[Any]]) -> None:
    image = read(DATA / "planes.czi")
    np.asarray(image.data[..., :1, :1])  # open here, and not sent so
    assert np.array_equal(elsewhere(image.data), planes())


def test_any_byte_may_be_wrong(flipped: Callable[..., int]) -> None:
    assert flipped(DATA / "planes.czi")


def test_results_lie_on_their_image(segsuite: Callable[..., Any], tmp_path: Path) -> None:
    for out in ("a.ome.zarr", "a.tif"):
        told = segsuite("segment", DATA / "scenes.czi", "--scene", "right", "--model", "otsu", "--out", tmp_path / out)
        assert told.code == 0, told.err
        found, image = read_segmentation(tmp_path / out), read(DATA / "scenes.czi", scene="right")
        assert (found.scale, found.units, found.translate) == (image.scale, image.units, image.translate)
        assert np.asarray(found.labels).max() > 0
    for out in ("b.ome.zarr", "b.ome.tif"):
        assert segsuite("convert", DATA / "planes.czi", tmp_path / out).code == 0
        image, copy = read(DATA / "planes.czi"), read(tmp_path / out)
        assert np.array_equal(image.data, copy.data)
        assert (copy.axes, copy.units, copy.channels) == (image.axes, image.units, image.channels)
        assert np.allclose(copy.scale, image.scale)
    told = segsuite("info", DATA / "scenes.czi", "--scene", "1")
    assert "12 y x 24 x, uint8, voxel 0.5 x 0.5 micrometer" in told.out
