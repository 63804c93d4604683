"""MRC: files that mrcfile wrote."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io import read


def counted(*shape: int, dtype: Any = np.int16) -> NDArray[Any]:
    return (np.arange(np.prod(shape)) % 120).reshape(shape).astype(dtype)


def write_mrc(path: Path, data: NDArray[Any], size: Any = (4.0, 4.0, 10.0), **fields: Any) -> None:
    with mrcfile.new(path) as file:
        file.set_data(data)
        file.voxel_size = size
        for name, value in fields.items():
            file.header[name] = value


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float32, np.float16])
def test_a_volume_has_its_values_sizes_and_place(dtype: Any, tmp_path: Path) -> None:
    data = counted(3, 5, 7, dtype=dtype)
    write_mrc(tmp_path / "a.mrc", data, origin=(8.0, 12.0, -20.0))
    image = read(tmp_path / "a.mrc")
    assert np.array_equal(image.data, data)
    assert (image.axes, image.units, image.data.dtype) == ("zyx", ("angstrom",) * 3, dtype)
    assert np.allclose(image.scale, (10, 4, 4))
    assert image.translate == (-20, 12, 8)
    assert image.pixel_size_um() == pytest.approx((1e-3, 4e-4, 4e-4))


@pytest.mark.filterwarnings("ignore:Setting the dtype:DeprecationWarning")  # in mrcfile, of numpy 2.5
def test_a_second_header_and_the_other_byte_order_are_passed(tmp_path: Path) -> None:
    data = counted(3, 5, 7)
    with mrcfile.new(tmp_path / "a.rec") as file:
        file.set_data(data)
        file.set_extended_header(np.zeros(300, np.uint8))
    assert np.array_equal(read(tmp_path / "a.rec").data, data)
    raw = (tmp_path / "a.rec").read_bytes()
    words = np.frombuffer(raw[:208] + raw[216:1024], "<u4").astype(">u4").tobytes()
    (tmp_path / "b.rec").write_bytes(words[:208] + b"MAP \x11\x11\0\0" + words[208:] + raw[1024:1324] + data.astype(">i2").tobytes())
    image = read(tmp_path / "b.rec")
    assert np.array_equal(image.data, data)
    assert np.array_equal(mrcfile.read(tmp_path / "b.rec"), data)


def test_one_section_is_a_picture_and_several_volumes_are_moments(tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.mrc", counted(5, 7))
    assert read(tmp_path / "a.mrc").axes == "yx"
    data = counted(2, 3, 5, 7)
    write_mrc(tmp_path / "b.mrc", data)
    image = read(tmp_path / "b.mrc")
    assert (image.axes, image.shape) == ("tzyx", (2, 3, 5, 7))
    assert np.array_equal(image.data, data)


def test_axes_in_another_order_are_put_in_ours(tmp_path: Path) -> None:
    data = counted(3, 5, 7)
    write_mrc(tmp_path / "a.mrc", data, mapc=2, mapr=3, maps=1)
    image = read(tmp_path / "a.mrc")
    assert np.array_equal(image.data, data.transpose(1, 2, 0))
    assert np.array_equal(read(tmp_path / "a.mrc", axes="tyx").data, data)


def test_bytes_have_no_sign_where_imod_says_so(tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.st", np.full((2, 5, 7), -1, np.int8))
    assert np.unique(read(tmp_path / "a.st").data).tolist() == [-1]
    data = bytearray((tmp_path / "a.st").read_bytes())
    data[152:160] = struct.pack("<2i", 1146047817, 0)
    (tmp_path / "a.st").write_bytes(data)
    assert np.unique(read(tmp_path / "a.st").data).tolist() == [255]


def test_a_size_that_is_not_told_is_a_pixel(tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.mrc", counted(3, 5, 7), 0.0)
    image = read(tmp_path / "a.mrc")
    assert (image.scale, image.units, image.translate) == ((1, 1, 1), ("pixel",) * 3, (0, 0, 0))


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.mrc", counted(3, 5, 7, dtype=np.complex64))
    with pytest.raises(InputError, match=r"a\.mrc has samples of the mode 4"):
        read(tmp_path / "a.mrc")
    write_mrc(tmp_path / "b.mrc", counted(3, 5, 7))
    data = (tmp_path / "b.mrc").read_bytes()
    for part in (0, 0.5, 0.9, 0.999):
        (tmp_path / "cut.mrc").write_bytes(data[: int(part * len(data))])
        with pytest.raises(InputError, match=r"cut\.mrc"):
            read(tmp_path / "cut.mrc")


def test_another_process_reads_the_same(elsewhere: Callable[[Any], NDArray[Any]], tmp_path: Path) -> None:
    data = counted(3, 5, 7)
    write_mrc(tmp_path / "a.mrc", data)
    image = read(tmp_path / "a.mrc")
    np.asarray(image.data[..., :1, :1])  # open here, and not sent so
    assert np.array_equal(elsewhere(image.data), data)


def test_any_byte_may_be_wrong(flipped: Callable[..., int], tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.mrc", counted(3, 5, 7))
    assert flipped(tmp_path / "a.mrc")
