"""PNG and its like, checked with files that Pillow writes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io import read, read_segmentation, write
from napari_segsuite.types import Image, Segmentation


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16"])
def test_grey_pictures_keep_their_depth(dtype: str, tmp_path: Path) -> None:
    data = (np.arange(20 * 30).reshape(20, 30) * 97).astype(dtype)
    PIL.Image.fromarray(data).save(tmp_path / "a.png")
    image = read(tmp_path / "a.png")
    assert (image.axes, image.data.dtype, image.rgb) == ("yx", np.dtype(dtype), False)
    assert np.array_equal(image.data, data)
    assert (image.scale, image.units, image.name) == ((1.0, 1.0), ("pixel", "pixel"), "a")


@pytest.mark.parametrize(("suffix", "channels"), [(".png", 3), (".png", 4), (".bmp", 3), (".webp", 3)])
def test_colour_pictures_become_channels(suffix: str, channels: int, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, (20, 30, channels)).astype(np.uint8)
    PIL.Image.fromarray(data).save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    image = read(tmp_path / f"a{suffix}")
    assert (image.axes, image.rgb, image.channels) == ("cyx", True, ("red", "green", "blue", "alpha")[:channels])
    assert np.array_equal(image.data, np.moveaxis(data, -1, 0))


def test_jpeg_and_grey_with_alpha(tmp_path: Path) -> None:
    PIL.Image.new("L", (30, 20), 77).save(tmp_path / "a.jpg")
    assert (read(tmp_path / "a.jpg").axes, read(tmp_path / "a.jpg").data[3, 4]) == ("yx", 77)
    PIL.Image.new("LA", (30, 20), (77, 255)).save(tmp_path / "a.png")
    assert (read(tmp_path / "a.png").axes, read(tmp_path / "a.png").data[3, 4]) == ("yx", 77)
    PIL.Image.new("CMYK", (30, 20)).save(tmp_path / "b.jpg")
    assert read(tmp_path / "b.jpg").axes == "cyx"


def test_a_palette_gives_colours_as_an_image_and_numbers_as_labels(tmp_path: Path) -> None:
    picture = PIL.Image.new("P", (2, 2))
    picture.putdata([0, 1, 2, 2])
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "a.png")
    assert read(tmp_path / "a.png").data[:, 0, 1].tolist() == [255, 0, 0]
    assert np.asarray(read_segmentation(tmp_path / "a.png").labels).tolist() == [[0, 1], [2, 2]]


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_deep_colours_are_not_cut_to_eight_bits(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    data = (np.arange(4 * 5 * 3).reshape(4, 5, 3) * 1000 + 7).astype(">u2")
    (tmp_path / "a.png").write_bytes(png(5, 4, 16, 2, b"".join(b"\0" + row.tobytes() for row in data)))
    image = read(tmp_path / "a.png")
    assert image.data.dtype == np.uint16
    assert np.array_equal(image.data, np.moveaxis(data, -1, 0))


def test_a_picture_that_declares_too_many_pixels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(60_000, 60_000, 8, 0, b"\0"))
    with pytest.raises(InputError, match="declares more pixels than a picture file may have"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_picture_is_named(suffix: str, share: float, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, (60, 70)).astype(np.uint8)
    PIL.Image.fromarray(data).save(tmp_path / f"a{suffix}")
    whole = (tmp_path / f"a{suffix}").read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match="cannot be read") as caught:
        read(tmp_path / f"a{suffix}")
    assert str(tmp_path / f"a{suffix}") in str(caught.value)


def test_a_moving_picture_is_not_read_as_its_first_frame(tmp_path: Path) -> None:
    frames = [PIL.Image.new("L", (8, 9), k * 50) for k in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match=r"has 3 frames\. Needed: one picture"):
        read(tmp_path / "a.gif")


def test_axes_and_scene_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (8, 9)).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png", axes="YXC", scene=0).axes == "cyx"
    with pytest.raises(InputError, match="does not fit"):
        read(tmp_path / "a.png", axes="zyx")
    with pytest.raises(InputError, match="has no image 1; it is one picture"):
        read(tmp_path / "a.png", scene=1)


def test_written_labels_are_a_plain_png_for_others(make_segmentation: Callable[..., Segmentation], tmp_path: Path) -> None:
    labels = np.zeros((20, 30), np.uint32)
    labels[3:5] = 65535
    found = np.asarray(PIL.Image.open(write(make_segmentation(labels), tmp_path / "a.png")))
    assert np.array_equal(found, labels)


@pytest.mark.parametrize(
    ("labels", "axes", "name", "complaint"),
    [
        (np.full((4, 5), 65536), "yx", "a.png", "'labels' has axes 'yx' and ids up to 65536; PNG holds two dimensions and ids up to 65535."),
        (np.ones((3, 4, 5), np.uint8), "zyx", "a.png", "'labels' has axes 'zyx' and ids up to 1; PNG holds two dimensions"),
        (np.ones((4, 5), np.uint8), "yx", "a.jpg", "A .jpg file does not keep labels exactly. Needed: .png, .tif or .ome.zarr."),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    labels: Any, axes: str, name: str, complaint: str, make_segmentation: Callable[..., Segmentation], tmp_path: Path
) -> None:
    with pytest.raises(OutputError) as caught:
        write(make_segmentation(labels, axes), tmp_path / name)
    assert str(caught.value).startswith(complaint)
    assert not list(tmp_path.iterdir())


def test_images_are_written_where_they_fit(make_image: Callable[..., Image], tmp_path: Path) -> None:
    grey = (np.arange(600).reshape(20, 30) * 100).astype(np.uint16)
    back = read(write(make_image(grey), tmp_path / "a.png"))
    assert np.array_equal(back.data, grey)
    assert (back.scale, back.units) == ((0.5, 0.5), ("micrometer",) * 2)
    colour = np.random.default_rng(0).integers(0, 256, (3, 20, 30)).astype(np.uint8)
    assert np.array_equal(read(write(make_image(colour, "cyx", rgb=True), tmp_path / "b.png")).data, colour)
    for pixels, axes, name in [(grey, "yx", "c.jpg"), (colour, "cyx", "c.png"), (grey.astype(float), "yx", "c.png")]:
        with pytest.raises(OutputError, match=r"cannot hold 'image'.*Write \.tif or \.ome\.zarr instead"):
            write(make_image(pixels, axes), tmp_path / name)
