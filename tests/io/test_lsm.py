"""LSM: TIFFs with the table of ZEISS's format, written here with tifffile, a small picture behind every plane."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io import read, write

NAMES = 300
"""Byte of the file that names of channels are put at: in a text of the first page, which a writer leaves as it is."""


def write_lsm(path: Path, data: NDArray[Any], axes: str, scan: int, names: tuple[str, ...] = ()) -> None:
    """Write planes of channels (..., c, y, x)."""
    length = {a: data.shape[axes.index(a)] if a in axes else 1 for a in "tczyx"}
    about = np.zeros(1, np.dtype(tifffile.TIFF.CZ_LSMINFO))[0]
    for name, value in (
        ("MagicNumber", 67127628), ("StructureSize", about.nbytes), ("ScanType", scan), ("DimensionTime", length["t"]), ("DimensionZ", length["z"]),
        ("DimensionChannels", length["c"]), ("DimensionY", length["y"]), ("DimensionX", length["x"]), ("VoxelSizeX", 0.2e-6), ("VoxelSizeY", 0.2e-6),
        ("VoxelSizeZ", 1e-6), ("OriginX", 5e-6), ("TimeIntervall", 4.0), ("OffsetChannelColors", NAMES),
    ):  # fmt: skip
        about[name] = value
    planes = data.reshape(-1, *data.shape[-3:])
    with tifffile.TiffWriter(path, byteorder="<") as file:
        for k, plane in enumerate(planes):
            table = [(34412, 1, about.nbytes, about.tobytes(), True), (65000, 1, 2000, bytes(2000), True)] if k == 0 else []
            photometric = "rgb" if len(plane) == 3 else "minisblack"
            file.write(plane, planarconfig="separate", photometric=photometric, extratags=table, metadata=None, subfiletype=0)
            file.write(plane[:, ::4, ::4], planarconfig="separate", photometric=photometric, metadata=None, subfiletype=1)
    written = bytearray(path.read_bytes())
    words = b"".join(struct.pack("<I", len(name) + 1) + name.encode() + b"\0" for name in names)
    head = struct.pack("<6I", 24 + 4 * len(names) + len(words), len(names), len(names), 24, 24 + 4 * len(names), 0)
    room = bytes(len(head) + 4 * len(names) + len(words))
    at = written.index(bytes(2000)) + 8
    written[at : at + len(room)] = head + bytes(4 * len(names)) + words
    path.write_bytes(bytes(written).replace(struct.pack("<I", NAMES), struct.pack("<I", at), 1))


@pytest.mark.parametrize(("channels", "names"), [(3, ("Ch1", "Ch2", "ChD")), (4, ("Ch1-T1", "Ch2-T1", "Ch1-T2", "ChD"))])
def test_planes_have_their_axes_sizes_and_names(channels: int, names: tuple[str, ...], tmp_path: Path) -> None:
    data = np.arange(2 * 4 * channels * 16 * 24).reshape(2, 4, channels, 16, 24).astype(np.uint16)
    write_lsm(tmp_path / "a.lsm", data, "tzcyx", 6, names)
    image = read(tmp_path / "a.lsm")
    assert np.array_equal(image.data, data.swapaxes(1, 2))
    assert (image.axes, image.channels, image.rgb) == ("tczyx", names, False)
    assert np.allclose(image.scale, (4, 1, 1, 0.2, 0.2))
    assert image.units == ("second", "pixel", *("micrometer",) * 3)
    assert np.allclose(image.translate, (0, 0, 0, 0, 5))


def test_a_slice_across_has_axes_when_a_user_names_them(tmp_path: Path) -> None:
    data = np.arange(3 * 6 * 24).reshape(3, 6, 24).astype(np.uint8)
    write_lsm(tmp_path / "a.lsm", data, "czx", 1, ("one", "two", "three"))
    with pytest.raises(InputError, match=r"are c, z, x\. Needed: y and x.*axes='cyx'"):
        read(tmp_path / "a.lsm")
    assert np.array_equal(read(tmp_path / "a.lsm", axes="cyx").data, data)


def test_nothing_is_written_as_lsm(tmp_path: Path) -> None:
    write_lsm(tmp_path / "a.lsm", np.zeros((3, 16, 24), np.uint8), "cyx", 0)
    with pytest.raises(OutputError, match=r"Files ending in \.lsm are read, and not written"):
        write(read(tmp_path / "a.lsm"), tmp_path / "b.lsm")
