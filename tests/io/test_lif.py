"""LIF: files written here after what is known of the format, and read by liffile too."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import liffile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io import read

NUMBERS = {"x": 1, "y": 2, "z": 3, "t": 4, "m": 10}
LENGTHS = {"x": ("m", 0.5e-6, 1e-3), "y": ("m", 0.5e-6, 2e-3), "z": ("m", -2e-6, 0.0), "t": ("s", 30.0, 0.0), "m": ("", 1.0, 0.0)}
"""Unit, step and origin."""


@dataclass
class Series:
    """An image to write: `stored` are its axes in the order in which they lie in the file, slowest first."""

    data: NDArray[Any]
    stored: str
    name: str = "one"
    dyes: tuple[str, ...] = ()
    colours: tuple[int, ...] = ()
    tiles: tuple[tuple[float, float], ...] = ()

    def xml(self, block: int) -> str:
        steps = dict(zip(self.stored, np.cumprod([self.data.itemsize, *self.data.shape[:0:-1]])[::-1], strict=True))
        sizes = dict(zip(self.stored, self.data.shape, strict=True))
        channels = "".join(self.channel(k, k * int(steps.get("c", 0))) for k in range(sizes.get("c", 1)))
        dimensions = "".join(
            f'<DimensionDescription DimID="{NUMBERS[a]}" NumberOfElements="{sizes[a]}" Origin="{LENGTHS[a][2]}" '
            f'Length="{LENGTHS[a][1] * (sizes[a] - 1)}" Unit="{LENGTHS[a][0]}" BytesInc="{steps[a]}" BitInc="0"/>'
            for a in reversed(self.stored)
            if a != "c"
        )
        tiles = "".join(f'<Tile FieldX="{k}" FieldY="0" PosX="{x}" PosY="{y}" PosZ="0"/>' for k, (y, x) in enumerate(self.tiles))
        return (
            f'<Element Name={quoteattr(self.name)} UniqueID="{block}"><Data><Image><ImageDescription><Channels>{channels}</Channels>'
            f'<Dimensions>{dimensions}</Dimensions></ImageDescription><Attachment Name="TileScanInfo">{tiles}</Attachment></Image></Data>'
            f'<Memory Size="{self.data.nbytes}" MemoryBlockID="MemBlock_{block}"/></Element>'
        )

    def channel(self, k: int, at: int) -> str:
        tag, dye = self.colours[k] if self.colours else 0, self.dyes[k] if self.dyes else ""
        told = f"<ChannelProperty><Key>DyeName</Key><Value>{dye}</Value></ChannelProperty>" if dye else ""
        kind, bits = int(self.data.dtype.kind == "f"), 8 * self.data.itemsize
        return (
            f'<ChannelDescription DataType="{kind}" ChannelTag="{tag}" Resolution="{bits}" BytesInc="{at}" BitInc="0" '
            f'NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" LUTName="Gray" IsLUTInverted="0">{told}</ChannelDescription>'
        )


def write_lif(path: Path, *series: Series, version: int = 2) -> None:
    """Write a LIF file."""
    inside = "".join(one.xml(k) for k, one in enumerate(series))
    text = (
        f'<LMSDataContainerHeader Version="{version}"><Element Name="file" UniqueID="0"><Data><Experiment/></Data><Memory Size="0" '
        f'MemoryBlockID="MemBlock_none"/><Children>{inside}</Children></Element></LMSDataContainerHeader>'
    )
    with path.open("wb") as file:
        file.write(struct.pack("<IIBI", 0x70, 2 * len(text) + 5, 0x2A, len(text)) + text.encode("utf-16-le"))
        for k, one in enumerate(series):
            name = f"MemBlock_{k}"
            wide = "Q" if version > 1 else "I"
            file.write(struct.pack(f"<IIB{wide}BI", 0x70, 0, 0x2A, one.data.nbytes, 0x2A, len(name)) + name.encode("utf-16-le"))
            file.write(np.ascontiguousarray(one.data).astype(one.data.dtype.newbyteorder("<")).tobytes())


def counted(*shape: int, dtype: Any = np.uint16) -> NDArray[Any]:
    return np.arange(prod(shape)).reshape(shape).astype(dtype)


@given(order=st.permutations("tcz"), dtype=st.sampled_from([np.uint8, np.uint16, np.float32]), version=st.sampled_from([1, 2]))
@settings(max_examples=15, deadline=None)
def test_every_order_of_planes_is_read_as_liffile_reads_it(
    order: list[str], dtype: Any, version: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lengths = {"t": 2, "c": 3, "z": 4, "y": 5, "x": 6}
    stored = "".join([*order, "yx"])
    series = Series(counted(*(lengths[a] for a in stored), dtype=dtype), stored, dyes=("DAPI", "GFP", "Cy5"))
    path = tmp_path_factory.mktemp("lif") / "a.lif"
    write_lif(path, series, version=version)
    image = read(path)
    assert np.array_equal(image.data, series.data.transpose([stored.index(a) for a in "tczyx"]))
    assert (image.axes, image.channels, image.data.dtype) == ("tczyx", ("DAPI", "GFP", "Cy5"), dtype)
    assert np.allclose(image.scale, (30, 1, 2, 0.5, 0.5))
    assert image.units == ("second", "pixel", *("micrometer",) * 3)
    assert np.allclose(image.translate, (0, 0, 0, 2000, 1000))
    with liffile.LifFile(path) as theirs:
        found = theirs.images[0]
        assert np.array_equal(found.asarray().transpose([found.dims.index(a.upper()) for a in "tczyx"]), image.data)
        steps = {a: abs(np.diff(found.coords[a.upper()])[0]) for a in "tzyx"}
    assert np.allclose([steps["t"], *(1e6 * steps[a] for a in "zyx")], [s for s, a in zip(image.scale, image.axes, strict=True) if a != "c"])


@pytest.mark.parametrize("colours", [(1, 2, 3), (3, 2, 1)])
def test_colours_begin_with_red(colours: tuple[int, ...], tmp_path: Path) -> None:
    series = Series(counted(4, 5, 3, dtype=np.uint8), "yxc", colours=colours)
    write_lif(tmp_path / "a.lif", series)
    image = read(tmp_path / "a.lif")
    assert (image.axes, image.channels, image.rgb) == ("cyx", ("red", "green", "blue"), True)
    assert np.array_equal(image.data, np.moveaxis(series.data[..., :: 1 if colours[0] == 1 else -1], -1, 0))
    assert np.array_equal(liffile.imread(tmp_path / "a.lif"), np.moveaxis(np.asarray(image.data), 0, -1))


def test_several_images_are_listed_and_each_can_be_had(tmp_path: Path) -> None:
    first, second = counted(4, 5), counted(3, 6, 7)
    write_lif(tmp_path / "a.lif", Series(first, "yx", "left"), Series(second, "zyx", "right <2>"))
    with pytest.raises(InputError, match=r"holds 2 images \(0: left \(4, 5\), 1: right <2> \(3, 6, 7\)\).*--scene 0"):
        read(tmp_path / "a.lif")
    assert np.array_equal(read(tmp_path / "a.lif", scene="left").data, first)
    assert np.array_equal(read(tmp_path / "a.lif", scene=1).data, second)


def test_tiles_are_images_at_their_place(tmp_path: Path) -> None:
    series = Series(counted(2, 4, 5), "myx", "scan", tiles=((0.001, 0.002), (0.001, 0.003)))
    write_lif(tmp_path / "a.lif", series)
    image = read(tmp_path / "a.lif", scene="scan tile 1")
    assert np.array_equal(image.data, series.data[1])
    assert np.allclose(image.translate, (1000, 3000))


def test_a_slice_across_has_axes_when_a_user_names_them(tmp_path: Path) -> None:
    series = Series(counted(4, 5), "zx")
    write_lif(tmp_path / "a.lif", series)
    with pytest.raises(InputError, match=r"are z, x\. Needed: y and x.*axes='yx'"):
        read(tmp_path / "a.lif")
    image = read(tmp_path / "a.lif", axes="yx")
    assert np.array_equal(image.data, series.data)


def test_a_file_that_ends_too_early_is_named(tmp_path: Path) -> None:
    write_lif(tmp_path / "a.lif", Series(counted(20, 30), "yx"))
    data = (tmp_path / "a.lif").read_bytes()
    for part in (0, 0.01, 0.3, 0.7, 0.9, 0.999):
        (tmp_path / "cut.lif").write_bytes(data[: int(part * len(data))])
        with pytest.raises(InputError, match=r"cut\.lif"):
            read(tmp_path / "cut.lif")


def test_another_process_reads_the_same(elsewhere: Callable[[Any], NDArray[Any]], tmp_path: Path) -> None:
    series = Series(counted(3, 5, 6), "zyx")
    write_lif(tmp_path / "a.lif", series)
    image = read(tmp_path / "a.lif")
    np.asarray(image.data[..., :1, :1])  # open here, and not sent so
    assert np.array_equal(elsewhere(image.data), series.data)


def test_any_byte_may_be_wrong(flipped: Callable[..., int], tmp_path: Path) -> None:
    series = Series(counted(3, 5, 6), "zyx")
    write_lif(tmp_path / "a.lif", series)
    assert flipped(tmp_path / "a.lif")
