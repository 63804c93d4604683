"""TIFF dialects, checked with files that tifffile writes."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io import read, read_segmentation, tiff, tiff_write, write
from napari_segsuite.types import Image, Segmentation

Array = NDArray[Any]


def numbered(*shape: int, dtype: str = "uint16") -> Array:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def pixels(image: Image) -> Array:
    return np.asarray(image.data[...])


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"tile": (16, 16), "compression": "zlib"}])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_bytes_arrive_in_any_layout(
    dtype: str, options: dict[str, Any], byteorder: Any, lazy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = numbered(7, 20, 33, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", data, byteorder=byteorder, metadata={"axes": "ZYX"}, **options)
    monkeypatch.setattr(tiff, "LAZY_BYTES", 0 if lazy else 2**20)
    image = read(tmp_path / "a.tif")
    assert isinstance(image.data, np.ndarray) != lazy
    assert image.data.dtype == np.dtype(dtype)
    assert image.data.dtype.isnative
    assert np.array_equal(pixels(image), data)
    for key in [(2,), (slice(1, 3), 4), (..., slice(5, 9)), (-1, slice(None), -1), (slice(0, 6, 2), slice(3), 1)]:
        assert np.array_equal(image.data[key], data[key])


def test_an_image_on_disk_goes_to_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "LAZY_BYTES", 0)
    data = numbered(5, 8, 9)
    tifffile.imwrite(tmp_path / "a.tif", data, metadata={"axes": "TYX"})
    image = read(tmp_path / "a.tif")
    assert np.array_equal(image.data[2], data[2])
    sent = pickle.loads(pickle.dumps(image.data))
    assert np.array_equal(np.asarray(sent), data)
    assert (sent.ndim, sent.size, sent.nbytes, len(sent)) == (3, 360, 720, 5)
    with pytest.raises(IndexError, match="takes integers and slices"):
        image.data[[1, 2]]


def test_ome_tiff_says_sizes_units_channels_and_name(tmp_path: Path) -> None:
    told = {"PhysicalSizeX": 65.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 65.0, "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 0.2}
    more = {"TimeIncrement": 5.0, "TimeIncrementUnit": "min", "Channel": {"Name": ["DAPI", "GFP"]}, "Name": "embryo"}
    tifffile.imwrite(tmp_path / "a.ome.tif", numbered(3, 2, 4, 5, 6), metadata={"axes": "TCZYX", **told, **more})
    image = read(tmp_path / "a.ome.tif")
    assert (image.axes, image.shape, image.channels) == ("tczyx", (3, 2, 4, 5, 6), ("DAPI", "GFP"))
    assert image.scale == (5.0, 1.0, 0.2, 65.0, 65.0)
    assert image.units == ("minute", "pixel", "micrometer", "nanometer", "nanometer")
    assert image.pixel_size_um() == pytest.approx((0.2, 0.065, 0.065))
    assert (image.name, image.source) == ("a", str(tmp_path / "a.ome.tif"))


@pytest.mark.parametrize("size", ["0", "-1.0", "NaN", "many"])
def test_a_size_that_cannot_be_is_no_size(size: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", numbered(5, 6), metadata={"axes": "YX", "PhysicalSizeX": size})
    image = read(tmp_path / "a.ome.tif")
    assert (image.scale, image.units, image.pixel_size_um()) == ((1.0, 1.0), ("pixel", "pixel"), None)


def test_axes_stored_in_another_order_come_in_ours(tmp_path: Path) -> None:
    data = numbered(2, 3, 4, 5, 6)
    tifffile.imwrite(tmp_path / "a.ome.tif", data, metadata={"axes": "ZTCYX"})
    image = read(tmp_path / "a.ome.tif")
    assert image.axes == "tczyx"
    assert np.array_equal(pixels(image), data.transpose(1, 2, 0, 3, 4))


def test_imagej_hyperstack_says_spacing_interval_and_unit(tmp_path: Path) -> None:
    told = {"axes": "TZCYX", "spacing": -0.7, "unit": "um", "finterval": 2.5, "Labels": ["DAPI", "GFP"]}
    tifffile.imwrite(tmp_path / "a.tif", numbered(3, 4, 2, 5, 6), imagej=True, resolution=(4.0, 5.0), metadata=told)
    image = read(tmp_path / "a.tif")
    assert (image.axes, image.shape) == ("tczyx", (3, 2, 4, 5, 6))
    assert image.scale == pytest.approx((2.5, 1.0, 0.7, 0.2, 0.25))
    assert image.units == ("second", "pixel", "micrometer", "micrometer", "micrometer")


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("samples", [3, 4])
def test_colour_pictures_become_channels(samples: int, lazy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = numbered(20, 30, samples, dtype="uint8")
    monkeypatch.setattr(tiff, "LAZY_BYTES", 0 if lazy else 2**20)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", byteorder=">", extrasamples=["unassalpha"] if samples == 4 else None)
    image = read(tmp_path / "a.tif")
    assert (image.axes, image.rgb, image.channels) == ("cyx", True, ("red", "green", "blue", "alpha")[:samples])
    assert np.array_equal(pixels(image), np.moveaxis(data, -1, 0))


def test_three_dyes_in_a_colour_file_of_imagej_are_no_colours(tmp_path: Path) -> None:
    told = {"mode": "composite", "unit": "um"}
    tifffile.imwrite(tmp_path / "a.tif", numbered(20, 30, 3, dtype="uint8"), imagej=True, photometric="rgb", metadata=told)
    assert (read(tmp_path / "a.tif").rgb, read(tmp_path / "a.tif").axes) == (False, "cyx")


@pytest.mark.parametrize(("per_cm", "size"), [(20_000, 0.5), (28.35, 1.0)])
def test_resolution_tags_are_believed_for_microscopes_not_for_printers(per_cm: float, size: float, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", numbered(5, 6), resolution=(per_cm, per_cm), resolutionunit="CENTIMETER")
    assert read(tmp_path / "a.tif").scale == pytest.approx((size, size))
    assert read(tmp_path / "a.tif").units == (("micrometer",) * 2 if size == 0.5 else ("pixel",) * 2)


def test_pages_of_unknown_meaning_are_a_stack_unless_they_are_few(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "many.tif", numbered(9, 20, 30))
    assert read(tmp_path / "many.tif").axes == "zyx"
    assert read(tmp_path / "many.tif", axes="tyx").axes == "tyx"
    with tifffile.TiffWriter(tmp_path / "few.tif") as tif:
        for page in numbered(3, 20, 30):
            tif.write(page, metadata=None)
    with pytest.raises(InputError) as caught:
        read(tmp_path / "few.tif")
    assert str(caught.value) == (
        f"File {tmp_path / 'few.tif'} does not say what its axes are (shape (3, 20, 30)). "
        "Needed: axes, for example 'cyx' or 'tyx' or 'zyx'. Give them with axes='zyx' (--axes zyx)."
    )
    tifffile.imwrite(tmp_path / "five.tif", numbered(2, 2, 3, 20, 30), photometric="minisblack")
    with pytest.raises(InputError, match=r"Needed: axes, for example 'tzcyx' or 'tczyx'\. Give them with axes='tczyx' \(--axes tczyx\)\."):
        read(tmp_path / "five.tif")
    assert read(tmp_path / "five.tif", axes="tczyx").axes == "tczyx"
    tifffile.imwrite(tmp_path / "six.tif", numbered(2, 2, 2, 3, 20, 30), photometric="minisblack")
    with pytest.raises(InputError, match=r"shape \(2, 2, 2, 3, 20, 30\)\)\. Needed: at most the five axes t, c, z, y and x\. Split the file\."):
        read(tmp_path / "six.tif")
    image = read(tmp_path / "few.tif", axes="CYX")
    assert (image.axes, image.channels) == ("cyx", ("channel 0", "channel 1", "channel 2"))


def test_a_last_axis_of_three_is_not_taken_for_width(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", numbered(20, 30, 3), photometric="minisblack")
    with pytest.raises(InputError, match="does not say what its axes are"):
        read(tmp_path / "a.tif")
    assert np.array_equal(pixels(read(tmp_path / "a.tif", axes="yxc")), np.moveaxis(numbered(20, 30, 3), -1, 0))


@pytest.mark.parametrize(
    ("axes", "complaint"),
    [("zy", "names 2 axes, and {path} has 3"), ("zzx", "cannot be understood"), ("qyx", "cannot be understood"), ("tcx", "has no y and x")],
)
def test_axes_that_do_not_fit_are_refused(axes: str, complaint: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", numbered(9, 20, 30))
    with pytest.raises(InputError) as caught:
        read(tmp_path / "a.tif", axes=axes)
    assert complaint.format(path=tmp_path / "a.tif") in str(caught.value)


def test_one_of_several_images_must_be_chosen(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(numbered(5, 6), metadata={"axes": "YX", "Name": "well A", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5})
        tif.write(numbered(7, 8), metadata={"axes": "YX", "Name": "well B", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25})
    with pytest.raises(InputError) as caught:
        read(tmp_path / "a.ome.tif")
    assert str(caught.value) == (
        f"File {tmp_path / 'a.ome.tif'} holds 2 images (0: well A (5, 6), 1: well B (7, 8)). Needed: one of them. "
        "Choose one by its number or name, as scene=0 (--scene 0), or do all of them (--scene all)."
    )
    for scene in (1, "1", "well B"):
        image = read(tmp_path / "a.ome.tif", scene=scene)
        assert (image.shape, image.scale) == ((7, 8), (0.25, 0.25))
    with pytest.raises(InputError, match="has no image 'well C'"):
        read(tmp_path / "a.ome.tif", scene="well C")


@pytest.mark.parametrize("lazy", [False, True])
def test_sub_images_are_levels_of_a_pyramid(lazy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = numbered(64, 96)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(data, subifds=2, tile=(16, 16), metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5})
        tif.write(data[::2, ::2], subfiletype=1, tile=(16, 16))
        tif.write(data[::4, ::4], subfiletype=1, tile=(16, 16))
    monkeypatch.setattr(tiff, "LAZY_BYTES", 0 if lazy else 2**20)
    image = read(tmp_path / "a.ome.tif")
    assert [level.shape for level in image.levels] == [(64, 96), (32, 48), (16, 24)]
    assert all(np.array_equal(np.asarray(level), data[:: 2**k, :: 2**k]) for k, level in enumerate(image.levels))
    assert image.scale == (0.5, 0.5)


def test_a_file_of_a_set_with_a_member_missing_names_it(tmp_path: Path) -> None:
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
        for z, name in enumerate(("a.ome.tif", "{other}"))
    )
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        f'Type="uint16" SizeX="6" SizeY="5" SizeC="1" SizeZ="2" SizeT="1">{planes}</Pixels></Image></OME>'
    )
    for other, complaint in (
        ("b.ome.tif", "is one of 2 that belong together, and b.ome.tif is missing"),
        ("../b.ome.tif", "names files in other folders"),
    ):
        tifffile.imwrite(tmp_path / "a.ome.tif", numbered(5, 6), description=text.format(other=other), metadata=None)
        with pytest.raises(InputError, match=complaint):
            read(tmp_path / "a.ome.tif")


CONTRADICTIONS = {
    "more planes than pages": ("ome", 'SizeZ="3"', 'SizeZ="5"', r"Page 3 of 5 is missing"),
    "fewer planes than pages": (
        "ome",
        'SizeZ="3"',
        'SizeZ="2"',
        r"describes 2 planes \(axes ZYX, shape \(2, 5, 6\)\), and the file holds 3 pages \(of 5 x 6\)",
    ),
    "wider pixels": ("ome", 'SizeX="6"', 'SizeX="7"', r"OME-XML of file .* \(1 t, 1 c, 3 z, 5 y, 7 x\) does not fit its 3 pages \(of 5 x 6\)"),
    "more slices": ("imagej", "slices=3", "slices=4", r"ImageJ's description in file .* describes 4 planes .* holds 3 pages"),
    "fewer slices": ("imagej", "slices=3", "slices=2", r"ImageJ's description in file .* describes 2 planes .* holds 3 pages"),
    "another product": ("imagej", "slices=3", "slices=2\nchannels=2", r"ImageJ's description in file .* describes 4 planes .* holds 3 pages"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_description_that_contradicts_the_pages_is_told_with_both(name: str, tmp_path: Path) -> None:
    kind, old, new, told = CONTRADICTIONS[name]
    tifffile.imwrite(tmp_path / "a.tif", numbered(3, 5, 6), **{kind: True}, photometric="minisblack", metadata={"axes": "ZYX"})
    assert read(tmp_path / "a.tif").shape == (3, 5, 6)
    text = tifffile.tiffcomment(tmp_path / "a.tif")
    assert old in text
    text = text.replace(old, new).replace("images=3", f"images={4 if 'more' in name or 'other' in name else 2}")
    tifffile.tiffcomment(tmp_path / "a.tif", text.encode())
    with pytest.raises(InputError, match=told):
        read(tmp_path / "a.tif")


def test_too_many_pages_are_refused_before_they_are_all_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", numbered(9, 5, 6), metadata={"axes": "ZYX"}, contiguous=False)
    assert read(tmp_path / "a.tif").shape == (9, 5, 6)
    monkeypatch.setattr("napari_segsuite.io.tiff_check.MOST_PAGES", 8)
    with pytest.raises(InputError, match=r"has more than 8 pages, which takes too long to look through"):
        read(tmp_path / "a.tif")


@pytest.mark.skipif(os.name == "nt", reason="a file with a hole takes all of its room here")
def test_a_stack_of_more_than_four_gigabytes_is_read_to_its_last_plane(tmp_path: Path) -> None:
    """ImageJ writes these with a single page, and a description of how many planes follow."""
    path, planes = tmp_path / "a.tif", 2100
    text = f"ImageJ=1.54\nimages={planes}\nslices={planes}\n" + " " * 40
    tifffile.imwrite(path, np.zeros((1024, 1024), np.uint16), description=text, metadata=None, software=False)
    with tifffile.TiffFile(path) as tif:
        start = tif.pages.first.dataoffsets[0]
    with path.open("r+b") as file:  # a file with a hole, which takes no room on the disk
        file.seek(start + (planes - 1) * 2**21)
        file.write(np.full((1024, 1024), 7, np.uint16).tobytes())
    image = read(path)
    assert (image.shape, path.stat().st_size > 2**32) == ((planes, 1024, 1024), True)
    assert (int(image.data[-1].min()), int(image.data[-2].max())) == (7, 0)


def test_xml_that_unfolds_is_refused(tmp_path: Path) -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><OME>&b;</OME>'
    tifffile.imwrite(tmp_path / "a.ome.tif", numbered(5, 6), description=bomb, metadata=None)
    with pytest.raises(InputError, match="defines its own entities"):
        read(tmp_path / "a.ome.tif")


def tiny_bomb(path: Path, side: int, compression: int) -> Path:
    """A file of 150 bytes that declares side x side pixels."""
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1)]
    tags += [(278, 4, 1, side), (279, 4, 1, 16)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    path.write_bytes(b"II*\0" + struct.pack("<I", 24) + bytes(16) + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


@pytest.mark.parametrize("compression", [1, 8])
def test_a_few_bytes_that_declare_gigabytes_are_refused(compression: int, tmp_path: Path) -> None:
    path = tiny_bomb(tmp_path / "a.tif", 200_000, compression)
    assert path.stat().st_size < 150
    with pytest.raises(InputError, match=r"declares an image of shape \(200000, 200000\), which would need 40.0 GB"):
        read(path)


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"ome": True}, {"imagej": True}])
def test_a_truncated_file_is_named(options: dict[str, Any], share: float, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 60000, (6, 40, 50)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", data, metadata={"axes": "ZYX"}, **options)
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"(?i)truncated") as caught:
        read(tmp_path / "a.tif")
    assert str(tmp_path / "a.tif") in str(caught.value)


def test_pages_that_point_in_a_circle_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for page in numbered(7, 20, 30):
            tif.write(page, metadata=None, contiguous=False)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        first, last = tif.pages.first.offset, tif.pages[6].offset
        n = len(tif.pages.first.tags)
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    raw[last + 2 + 12 * n : last + 6 + 12 * n] = struct.pack("<I", first)
    (tmp_path / "a.tif").write_bytes(raw)
    with pytest.raises(InputError, match="point in a circle after page 7"):
        read(tmp_path / "a.tif")


def test_written_labels_are_plain_ome_tiff_for_others(make_segmentation: Callable[..., Segmentation], tmp_path: Path) -> None:
    labels = np.zeros((4, 30, 40), np.int64)
    labels[1:3, 5:9, 6:11] = 70000
    segmentation = make_segmentation(labels, "zyx", scale=(2.0, 0.5, 0.25), name="cells & <more>")
    with tifffile.TiffFile(write(segmentation, tmp_path / "a.tif")) as tif:
        assert np.array_equal(tif.asarray(), labels)
        assert (tif.series[0].axes, tif.series[0].kind, tif.pages.first.dtype, int(tif.pages.first.compression)) == ("ZYX", "ome", np.uint32, 8)
        found = next(e for e in ElementTree.fromstring(tif.ome_metadata or "").iter() if e.tag.endswith("}Pixels"))
    assert [(found.get(f"PhysicalSize{a}"), found.get(f"PhysicalSize{a}Unit")) for a in "ZYX"] == [("2.0", "µm"), ("0.5", "µm"), ("0.25", "µm")]


@pytest.mark.parametrize(("top", "dtype"), [(65535, "uint16"), (65536, "uint32"), (2**32, "uint64")])
def test_labels_take_the_smallest_type_that_holds_them(top: int, dtype: str, make_segmentation: Callable[..., Segmentation], tmp_path: Path) -> None:
    labels = np.zeros((5, 6), np.uint64)
    labels[2, 3] = top
    found = tifffile.imread(write(make_segmentation(labels), tmp_path / "a.tif"))
    assert found.dtype == dtype
    assert int(found.max()) == top


def test_large_files_are_big_tiff(make_segmentation: Callable[..., Segmentation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_write, "BIG_BYTES", 100)
    path = write(make_segmentation(), tmp_path / "a.tif")
    with tifffile.TiffFile(path) as tif:
        assert tif.is_bigtiff
    assert read_segmentation(path).segments["id"].tolist() == [1, 5]


def test_only_what_was_edited_in_public_overrules_the_record(make_segmentation: Callable[..., Segmentation], tmp_path: Path) -> None:
    path = write(make_segmentation(), tmp_path / "a.tif")
    text = tifffile.tiffcomment(path)
    tifffile.tiffcomment(path, text.replace('PhysicalSizeX="0.5"', 'PhysicalSizeX="0.8"').encode())
    assert read_segmentation(path).scale == (0.5, 0.8)


def test_colours_are_written_as_colours(make_image: Callable[..., Image], tmp_path: Path) -> None:
    data = numbered(3, 20, 30, dtype="uint8")
    path = write(make_image(data, "cyx", rgb=True), tmp_path / "a.tif")
    with tifffile.TiffFile(path) as tif:
        assert (tif.series[0].axes, tif.pages.first.photometric.name) == ("YXS", "RGB")
    assert np.array_equal(pixels(read(path)), data)
    assert read(path).rgb


def test_pixels_that_tiff_has_no_word_for_are_refused(make_image: Callable[..., Image], tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="TIFF has no pixels of type complex64"):
        write(make_image(np.zeros((4, 5), np.complex64)), tmp_path / "a.tif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (np.full((5, 6), 0.37, np.float32), "has values that are not whole numbers (0.37 at (0, 0)). Needed: one whole number per segment. Is it a"),
        (np.full((5, 6), np.nan), "has values that are not whole numbers (nan at (0, 0))"),
        (np.full((5, 6), -1, np.int16), "hold a negative id (-1 at (0, 0)). Needed: ids from 0 (background) on."),
    ],
)
def test_pixels_that_are_no_labels_are_refused(labels: Array, complaint: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", labels)
    with pytest.raises(InputError) as caught:
        read_segmentation(tmp_path / "a.tif")
    assert complaint in str(caught.value)


def test_labels_of_others_get_a_table(tmp_path: Path) -> None:
    labels = np.zeros((5, 6), np.float32)
    labels[1:3, 2:5] = 6.9999
    tifffile.imwrite(tmp_path / "a.tif", labels)
    found = read_segmentation(tmp_path / "a.tif")
    assert (found.labels.dtype, found.segments["id"].tolist(), found.segments["size"].tolist(), found.task) == (np.uint16, [7], [6], "instance")
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((5, 6, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match=r"has several channels or colours \(axes 'cyx', shape \(3, 5, 6\)\)"):
        read_segmentation(tmp_path / "rgb.tif")
