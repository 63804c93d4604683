"""ND2: files written here chunk by chunk, as the library nd2 expects them of NIS-Elements."""

from __future__ import annotations

import importlib.util
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nd2
import numpy as np
import pytest
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, MissingExtra
from napari_segsuite.io import read

TIME = {"eType": 1, "uLoopPars": {"uiCount": 2, "dStart": 0.0, "dPeriod": 1500.0, "dDuration": 3000.0}}
DEPTH = {"eType": 4, "uLoopPars": {"uiCount": 4, "dZLow": 0.0, "dZHigh": 6.0, "dZStep": 2.0, "iType": 0}}
POSITIONS = {
    "eType": 2,
    "uLoopPars": {
        "uiCount": 3,
        "Points": {
            "i0000000000": {"dPosX": 0.0, "dPosY": 0.0, "dPosName": "left"},
            "i0000000001": {"dPosX": 100.0, "dPosY": -40.0, "dPosName": "right"},
            "i0000000002": {"dPosX": 200.0, "dPosY": 0.0},
        },
    },
}


def variant(told: dict[str, Any]) -> bytes:
    """Values by name in the form in which the format has them: kind, length of the name, name, value."""
    out = b""
    for name, value in told.items():
        head = struct.pack("B", len(name) + 1) + f"{name}\0".encode("utf-16-le")
        if isinstance(value, dict):
            inside = variant(value)
            length = 1 + len(head) + 12 + len(inside)
            out += b"\x0b" + head + struct.pack("<IQ", len(value), length) + inside + bytes(8 * len(value))
        elif isinstance(value, str):
            out += b"\x08" + head + f"{value}\0".encode("utf-16-le")
        elif isinstance(value, bool):
            out += b"\x01" + head + struct.pack("B", value)
        else:
            out += (b"\x03" + head + struct.pack("<I", value)) if isinstance(value, int) else (b"\x06" + head + struct.pack("<d", value))
    return out


def nested(loops: list[dict[str, Any]]) -> dict[str, Any]:
    """One loop in another."""
    first, *rest = loops
    return {**first, **({"ppNextLevelEx": {"i0000000000": nested(rest)}} if rest else {})}


def write_nd2(path: Path, frames: NDArray[Any], names: tuple[str, ...], loops: list[dict[str, Any]], *, packed: bool = False, pad: int = 0) -> None:
    """Write frames (n, height, width, samples); of several samples each is a channel, or all are one if that is all that is named."""
    n, height, width, samples = frames.shape
    itemsize = frames.dtype.itemsize
    attributes = {
        "uiWidth": width, "uiWidthBytes": width * samples * itemsize + pad, "uiHeight": height, "uiComp": samples, "uiBpcInMemory": 8 * itemsize,
        "uiBpcSignificant": 8 * itemsize, "uiSequenceCount": n, "eCompression": 0 if packed else 2, "dCompressionParam": 0.0,
    }  # fmt: skip
    each = samples // len(names)
    planes = {f"i{k:010}": {"sDescription": name, "uiCompCount": each, "pFluorescentProbe": {"uiNothing": 0}} for k, name in enumerate(names)}
    metadata = {"bCalibrated": True, "dCalibration": 0.25, "sPicturePlanes": {"uiCount": len(names), "sPlaneNew": planes}}
    chunks = {
        "ImageAttributesLV!": variant({"SLxImageAttributes": attributes}),
        "ImageMetadataSeqLV|0!": variant({"SLxPictureMetadata": metadata}),
        **({"ImageMetadataLV!": variant({"SLxExperiment": nested(loops)})} if loops else {}),
    }
    for k, frame in enumerate(frames):
        rows = b"".join(row.tobytes() + bytes(pad) for row in frame)
        chunks[f"ImageDataSeq|{k}!"] = bytes(8) + (zlib.compress(rows) if packed else rows)
    with path.open("wb") as file:

        def put(name: bytes, data: bytes, room: int) -> int:
            at = file.tell()
            file.write(struct.pack("<IIQ", 0x0ABECEDA, room, len(data)) + name.ljust(room, b"\0") + data)
            return at

        put(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"), 32)
        places = {name: (put(name.encode(), data, 4072), len(data)) for name, data in chunks.items()}
        listed = b"".join(name.encode() + struct.pack("<QQ", *place) for name, place in places.items())
        end = b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", file.tell())
        put(b"ND2 FILEMAP SIGNATURE NAME 0001!", listed + end, 32)


def frames_of(n: int, samples: int, dtype: Any = np.uint16) -> NDArray[Any]:
    return np.arange(n * 5 * 7 * samples).reshape(n, 5, 7, samples).astype(dtype)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("pad", [0, 4])
def test_frames_are_put_in_their_place(packed: bool, pad: int, tmp_path: Path) -> None:
    frames = frames_of(8, 2)
    write_nd2(tmp_path / "a.nd2", frames, ("DAPI", "GFP"), [TIME, DEPTH], packed=packed, pad=pad)
    image = read(tmp_path / "a.nd2")
    assert np.array_equal(image.data, np.moveaxis(frames.reshape(2, 4, 5, 7, 2), -1, 1))
    assert (image.axes, image.channels, image.data.dtype) == ("tczyx", ("DAPI", "GFP"), np.uint16)
    assert np.allclose(image.scale, (1.5, 1, 2, 0.25, 0.25))
    assert image.units == ("second", "pixel", *("micrometer",) * 3)
    assert np.array_equal(image.data[1, :, 2, 1:3, ::-2], np.asarray(image.data)[1, :, 2, 1:3, ::-2])
    theirs = nd2.imread(tmp_path / "a.nd2")
    assert np.array_equal(np.moveaxis(theirs, 2, 1), image.data)


def test_one_frame_is_a_picture(tmp_path: Path) -> None:
    frames = frames_of(1, 1, np.float32)
    write_nd2(tmp_path / "a.nd2", frames, ("mono",), [])
    image = read(tmp_path / "a.nd2")
    assert (image.axes, image.channels) == ("yx", ())
    assert np.array_equal(image.data, frames[0, ..., 0])


def test_colours_begin_with_red(tmp_path: Path) -> None:
    frames = frames_of(4, 3, np.uint8)
    write_nd2(tmp_path / "a.nd2", frames, ("brightfield",), [DEPTH])
    image = read(tmp_path / "a.nd2")
    assert (image.axes, image.channels, image.rgb) == ("czyx", ("red", "green", "blue"), True)
    assert np.array_equal(image.data, np.moveaxis(frames, -1, 0))


def test_positions_are_images_at_their_place(tmp_path: Path) -> None:
    frames = frames_of(12, 1)
    write_nd2(tmp_path / "a.nd2", frames, ("DAPI",), [POSITIONS, DEPTH])
    with pytest.raises(InputError, match=r"holds 3 images \(0: left \(4, 5, 7\), 1: right \(4, 5, 7\), 2: position 2 \(4, 5, 7\)\).*--scene 0"):
        read(tmp_path / "a.nd2")
    for wish in (1, "right"):
        image = read(tmp_path / "a.nd2", scene=wish)
        assert np.array_equal(image.data, frames[4:8, ..., 0])
        assert np.allclose(np.add(image.translate, (0, 2 * 0.25, 3 * 0.25)), (0, -40, 100))


def test_a_file_that_ends_too_early_is_named(tmp_path: Path) -> None:
    write_nd2(tmp_path / "a.nd2", frames_of(4, 1), ("DAPI",), [DEPTH])
    data = (tmp_path / "a.nd2").read_bytes()
    for part in (0, 0.01, 0.3, 0.7, 0.9, 0.999):
        (tmp_path / "cut.nd2").write_bytes(data[: int(part * len(data))])
        with pytest.raises(InputError, match=r"cut\.nd2"):
            read(tmp_path / "cut.nd2")


def test_frames_that_the_file_cannot_hold_are_refused(tmp_path: Path) -> None:
    write_nd2(tmp_path / "a.nd2", frames_of(1, 1), ("DAPI",), [])
    data = (tmp_path / "a.nd2").read_bytes()
    name = "uiHeight\0".encode("utf-16-le")
    at = data.index(name) + len(name)
    (tmp_path / "a.nd2").write_bytes(data[:at] + struct.pack("<I", 2**31) + data[at + 4 :])
    with pytest.raises(InputError, match=r"declares frames of shape \(2147483648, 7\), which need 30\.1 GB each"):
        read(tmp_path / "a.nd2")


def test_another_process_reads_the_same(elsewhere: Callable[[Any], NDArray[Any]], tmp_path: Path) -> None:
    frames = frames_of(8, 1)
    write_nd2(tmp_path / "a.nd2", frames, ("DAPI",), [TIME, DEPTH], packed=True)
    image = read(tmp_path / "a.nd2")
    np.asarray(image.data[..., :1, :1])  # open here, and not sent so
    assert np.array_equal(elsewhere(image.data), frames.reshape(2, 4, 5, 7))


def test_any_byte_may_be_wrong(flipped: Callable[..., int], tmp_path: Path) -> None:
    frames = frames_of(8, 1)
    write_nd2(tmp_path / "a.nd2", frames, ("DAPI",), [TIME, DEPTH], packed=True)
    assert flipped(tmp_path / "a.nd2")


def test_without_the_library_the_way_to_get_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (tmp_path / "a.nd2").touch()
    with pytest.raises(MissingExtra, match=r'pip install "napari-segsuite\[microscopes\]"'):
        read(tmp_path / "a.nd2")
