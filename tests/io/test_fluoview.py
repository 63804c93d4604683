"""OIF and OIB files: made here as descriptions of the format say, and read by oiffile too where it is installed."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, SegsuiteError
from napari_segsuite.io import list_scenes, read

SECTOR, SMALL, CUTOFF = 512, 64, 4096
END, FREE, TABLE = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD


def settings(sections: dict[str, dict[str, object]]) -> bytes:
    lines = [line for name, told in sections.items() for line in (f"[{name}]", *(f"{key}={value}" for key, value in told.items()))]
    return b"\xff\xfe" + "\r\n".join([*lines, ""]).encode("utf-16-le")


def acquired(data: NDArray[Any], letters: str, **more: bytes) -> dict[str, bytes]:
    """The files of an acquisition: a TIFF for each plane, and what the first and last say of themselves."""
    n = dict(zip(letters, data.shape, strict=False))
    axis = {"C": 2, "Z": 3, "T": 4}
    units = {"C": {}, "Z": {"Interval": "1500.0", "PixUnit": '"nm"'}, "T": {"PixUnit": '"ms"'}}
    main: dict[str, dict[str, object]] = {
        "Axis Parameter Common": {"AxisOrder": f'"XY{"".join(sorted(n))}"'},
        **{f"Axis {k} Parameters Common": {"AxisCode": f'"{a}"', "MaxSize": n.get(a, 0), **units[a]} for a, k in axis.items()},
        "Channel 1 Parameters": {"CH Name": '"CHS1"', "DyeName": '"DAPI"'},
        "Channel 2 Parameters": {"CH Name": '"CHS2"', "DyeName": '"None"'},
        "Reference Image Parameter": {"WidthConvertValue": "0,207.0", "WidthUnit": '"um"', "HeightConvertValue": "0.25", "HeightUnit": '"um"'},
        "ProfileSaveInfo": {"Name": '"FV"', "Version": '"1.0"'},
    }
    files = {"a.oif": settings(main), "s_Thumb.bmp": b"BM"}
    for at in np.ndindex(*data.shape[: len(n)]):
        stem = "s_" + "".join(f"{a}{k + 1:03d}" for a, k in zip(letters, at, strict=True))
        plane = io.BytesIO()
        tifffile.imwrite(plane, data[at], photometric="minisblack", metadata=None)
        files[f"{stem}.tif"] = plane.getvalue()
        moment = {"AbsPositionValue": 2500.0 * dict(zip(letters, at, strict=True)).get("T", 0)}
        files[f"{stem}.pty"] = settings({"Axis 4 Parameters": moment})
    return {**files, **more}


def write_oif(path: Path, files: dict[str, bytes]) -> Path:
    folder = path.with_name(f"{path.name}.files")
    folder.mkdir()
    for name, data in files.items():
        (path if name == "a.oif" else folder / name).write_bytes(data)
    return path


def write_oib(path: Path, files: dict[str, bytes]) -> Path:
    """A compound file of version 3: head, sectors of streams, small streams in one of their own, list of names, tables."""
    info: dict[str, object] = {"MainFileName": "Stream00000", "Storage00001": "a.oif.files", "Name": '"a"', "Version": '"2"', "Compression": '"None"'}
    streams = {}
    for k, (name, data) in enumerate(sorted(files.items(), key=lambda item: item[0] != "a.oif")):
        info[f"Stream{k:05d}"] = name if k == 0 else f"Storage00001/{name}"
        streams[f"Stream{k:05d}"] = data
    streams["OibInfo.txt"] = settings({"OibSaveInfo": info})
    sectors: list[bytes] = []
    table: list[int] = []

    def put(data: bytes) -> int:
        first, n = len(sectors), -(-len(data) // SECTOR)
        sectors.extend(data[SECTOR * k : SECTOR * (k + 1)].ljust(SECTOR, b"\0") for k in range(n))
        table.extend([*range(first + 1, first + n), END][:n])
        return first if n else END

    small, chains, entries = b"", [], []
    for name, data in streams.items():
        n = -(-len(data) // SMALL)
        start = put(data) if len(data) >= CUTOFF else len(small) // SMALL
        if len(data) < CUTOFF:
            chains += [*range(start + 1, start + n), END][:n]
            small += data.ljust(n * SMALL, b"\0")
        entries.append((name, 2, start, len(data)))
    entries.insert(0, ("Root Entry", 5, put(small), len(small)))
    listed = b""
    for k, (name, kind, start, size) in enumerate(entries):
        right, child = (k + 1 if 0 < k < len(entries) - 1 else FREE), (1 if k == 0 else FREE)
        text = name.encode("utf-16-le")
        head = struct.pack("<64sHBBIII", text, len(text) + 2, kind, 1, FREE, right, child)
        listed += head + bytes(36) + struct.pack("<III", start, size, 0)
    names = put(listed.ljust(-(-len(listed) // SECTOR) * SECTOR, b"\0"))
    chained = struct.pack(f"<{len(chains)}I", *chains)
    chain = put(chained.ljust(-(-len(chained) // SECTOR) * SECTOR, b"\xff"))
    count = next(n for n in range(1, 109) if 128 * n >= len(table) + n)
    at = [len(sectors) + k for k in range(count)]
    table += [TABLE] * count
    table += [FREE] * (128 * count - len(table))
    sectors += [struct.pack("<128I", *table[128 * k : 128 * (k + 1)]) for k in range(count)]
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHHHI", 0x3E, 3, 0xFFFE, 9, 6, 0, 0)
    head += struct.pack("<9I", 0, count, names, 0, CUTOFF, chain, -(-len(chained) // SECTOR), END, 0)
    head += struct.pack("<109I", *at, *[FREE] * (109 - count))
    path.write_bytes(head + b"".join(sectors))
    return path


def counted(*shape: int) -> NDArray[Any]:
    return np.arange(np.prod(shape)).reshape(shape).astype(np.uint16)


WRITERS = {".oif": write_oif, ".oib": write_oib}


@pytest.mark.parametrize("suffix", WRITERS)
def test_values_sizes_and_names_are_those_of_the_file(suffix: str, elsewhere: Callable[[Any], NDArray[Any]], tmp_path: Path) -> None:
    data = counted(2, 3, 4, 50, 60)
    path = WRITERS[suffix](tmp_path / f"a{suffix}", acquired(data, "CZT"))
    image = read(path)
    found = np.moveaxis(data, 2, 0)
    assert np.array_equal(image.data, found)
    assert (image.axes, image.channels) == ("tczyx", ("DAPI", "CHS2"))
    assert (image.scale, image.units) == ((2.5, 1, 1.5, 0.25, 0.207), ("second", "pixel", *("micrometer",) * 3))
    assert np.array_equal(image.data[::-2, 1, 1, 40:2:-3, ::5], found[::-2, 1, 1, 40:2:-3, ::5])
    assert np.array_equal(elsewhere(image.data), found)
    oiffile = pytest.importorskip("oiffile")
    assert np.array_equal(oiffile.imread(path), data)


@pytest.mark.parametrize("suffix", WRITERS)
def test_planes_that_are_missing_are_0_and_one_plane_is_a_plane(suffix: str, tmp_path: Path) -> None:
    files = acquired(counted(2, 3, 5, 6) + 1, "CZ")
    del files["s_C002Z003.tif"]
    image = read(WRITERS[suffix](tmp_path / f"a{suffix}", files))
    assert [bool(np.any(image.data[c, z])) for c in range(2) for z in range(3)] == [True] * 5 + [False]
    one = read(WRITERS[suffix](tmp_path / f"b{suffix}", acquired(counted(1, 5, 6), "C")))
    assert (one.axes, one.shape) == ("yx", (5, 6))


def test_bands_are_images_and_references_are_had_on_request(tmp_path: Path) -> None:
    reference = acquired(counted(1, 8, 9) + 7, "C")["s_C001.tif"]
    path = write_oib(tmp_path / "a.oib", acquired(counted(2, 2, 5, 6), "CL", **{"s_C001-R001.tif": reference}))
    assert [one.name for one in list_scenes(path)] == ["image L1", "image L2"]
    with pytest.raises(InputError, match="holds 2 images"):
        read(path)
    assert np.array_equal(read(path, scene="image L2").data, counted(2, 2, 5, 6)[:, 1])
    assert np.array_equal(read(path, scene=2).data, counted(8, 9) + 7)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.oif").write_bytes(acquired(counted(1, 5, 6), "C")["a.oif"])
    with pytest.raises(InputError, match=r"no folder a\.oif\.files beside"):
        read(tmp_path / "a.oif")
    with pytest.raises(InputError, match=r"has no planes among its 1 files"):
        read(write_oib(tmp_path / "b.oib", {"a.oif": settings({"A": {"b": 1}})}))
    line = acquired(counted(1, 5, 6), "C")
    line["a.oif"] = line["a.oif"].replace("XYC".encode("utf-16-le"), "XTC".encode("utf-16-le"))
    with pytest.raises(InputError, match=r"axes of the image in .* are t, x"):
        read(write_oib(tmp_path / "c.oib", line))
    odd = acquired(counted(2, 5, 6), "C")
    odd["s_C002.tif"] = acquired(counted(1, 7, 8), "C")["s_C001.tif"]
    with pytest.raises(InputError, match=r"plane s_C002\.tif has the shape \(7, 8\)"):
        np.asarray(read(write_oib(tmp_path / "d.oib", odd)).data)


def test_a_damaged_file_is_an_image_or_a_sentence(flipped: Callable[..., int], tmp_path: Path) -> None:
    path = write_oib(tmp_path / "a.oib", acquired(counted(2, 3, 40, 70), "CZ"))
    flipped(path, 60)
    data = path.read_bytes()
    for part in (0.001, 0.1, 0.5, 0.99):
        (tmp_path / "cut.oib").write_bytes(data[: int(part * len(data))])
        with pytest.raises(InputError, match="cut"):
            np.asarray(read(tmp_path / "cut.oib").data)
    tables = struct.unpack_from("<I", data, 44)[0]
    first = 512 * (1 + struct.unpack_from("<I", data, 76)[0])
    for value in (0, 1, 5, END - 1):  # chains that run in circles, or away
        broken = data[:first] + struct.pack("<I", value) * (128 * tables) + data[first + 512 * tables :]
        (tmp_path / "broken.oib").write_bytes(broken)
        with contextlib.suppress(SegsuiteError):
            np.asarray(read(tmp_path / "broken.oib").data)
