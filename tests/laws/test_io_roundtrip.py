"""Law 7: read(write(s)) == s per format. Law 8, the half of files: a marked voxel keeps its world position."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from napari_segsuite.io import read, read_segmentation, write, write_result
from napari_segsuite.io.table import read_table, table_of, tidy, write_table
from napari_segsuite.types import Class, Image, Segmentation

Array = NDArray[Any]

IDS = (0, 0, 0, 1, 2, 3, 254, 255, 256, 65535, 65536, 70000, 2**31, 2**32 + 1, 2**53 + 1, 2**63, 2**64 - 1)
UNITS = ("micrometer", "nanometer", "pixel", "second", "inch", "parsec")
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "tiff": ("a b#ü.tif", {}),
    "ome-zarr-0.5": ("a b#ü.ome.zarr", {}),
    "ome-zarr-0.4": ("a b#ü.ome.zarr", {"version": "0.4"}),
    "png": ("a b#ü.png", {}),
    "nifti": ("a b#ü.nii.gz", {}),
    "nrrd": ("a b#ü.nrrd", {}),
    "metaimage": ("a b#ü.mha", {}),
}
WORLD = ("nifti", "nrrd", "metaimage")
FEW = settings(max_examples=20, deadline=None)

sizes = st.floats(1e-9, 1e9)
places = st.floats(-1e9, 1e9)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
colors = st.tuples(*[st.integers(0, 255)] * 3)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | places | texts, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3)
)


@st.composite
def classes(draw: st.DrawFn) -> tuple[Class, ...]:
    """Stuff first, then things, as the vocabulary wants it."""
    countable = sorted(draw(st.lists(st.booleans(), min_size=1, max_size=3)))
    return tuple(Class(k + 1, draw(texts), draw(colors), c) for k, c in enumerate(countable))


@st.composite
def segmentations(
    draw: st.DrawFn, axes: tuple[str, ...] = ("yx", "zyx", "tyx", "tzyx"), ids: tuple[int, ...] = IDS, affine: bool = True
) -> Segmentation:
    """Any labels of any size, ids near every limit of an integer type, and a table that cannot be computed from them."""
    letters = draw(st.sampled_from(axes))
    shape = draw(hnp.array_shapes(min_dims=len(letters), max_dims=len(letters), min_side=1, max_side=5))
    values = draw(st.lists(st.sampled_from(ids), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    labels = np.array(values, np.uint64).reshape(shape)
    kinds = draw(classes())
    n = len(letters)
    whole = np.array(draw(st.lists(places, min_size=16, max_size=16))).reshape(4, 4) if affine and draw(st.booleans()) else None
    return Segmentation(
        labels, draw(tables(labels, letters, kinds)), kinds, letters,
        scale=tuple(draw(sizes) for _ in range(n)), units=tuple(draw(st.sampled_from(UNITS)) for _ in range(n)),
        translate=tuple(draw(places) for _ in range(n)), affine=whole, name=draw(texts.filter(bool)),
        provenance=draw(st.dictionaries(texts, plain, max_size=3)),
    )  # fmt: skip


@st.composite
def tables(draw: st.DrawFn, labels: Array, axes: str, kinds: tuple[Class, ...]) -> dict[str, Array]:
    table = table_of(labels, axes, kinds)
    n = len(table["id"])
    table["score"] = np.array(draw(st.lists(st.floats(0, 1), min_size=n, max_size=n)), np.float64)
    table["status"] = np.array(draw(st.lists(texts, min_size=n, max_size=n)), np.str_)
    table["mean_intensity"] = np.array(draw(st.lists(places, min_size=n, max_size=n)), np.float64)
    return table


def assert_same_table(one: Any, other: Any) -> None:
    assert list(one) == list(other)
    for name in one:
        assert np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f"), name
        assert one[name].dtype.kind == other[name].dtype.kind, name


def assert_same(one: Segmentation, other: Segmentation) -> None:
    assert np.array_equal(np.asarray(one.labels), np.asarray(other.labels))
    assert_same_table(one.segments, other.segments)
    assert (one.affine is None) == (other.affine is None)
    assert one.affine is None or np.array_equal(one.affine, other.affine)  # type: ignore[arg-type]
    for field in fields(Segmentation):
        if field.name not in ("labels", "segments", "affine"):
            assert getattr(one, field.name) == getattr(other, field.name), field.name


def check_round_trip(segmentation: Segmentation, file: str, options: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(segmentation, Path(folder) / file, **options)
        assert_same(segmentation, read_segmentation(path))
        assert [p.name for p in Path(folder).iterdir()] == [file]


@given(segmentations())
@FEW
def test_tiff_gives_back_what_was_written(segmentation: Segmentation) -> None:
    check_round_trip(segmentation, *FORMATS["tiff"])


@given(segmentations(axes=("yx",), ids=tuple(i for i in IDS if i < 2**16)))
@FEW
def test_png_gives_back_what_was_written(segmentation: Segmentation) -> None:
    check_round_trip(segmentation, *FORMATS["png"])


@pytest.mark.parametrize("name", ["ome-zarr-0.5", "ome-zarr-0.4"])
@given(segmentation=segmentations())
@settings(max_examples=10, deadline=None)
def test_ome_zarr_gives_back_what_was_written(name: str, segmentation: Segmentation) -> None:
    check_round_trip(segmentation, *FORMATS[name])


@pytest.mark.parametrize("name", WORLD)
@given(segmentation=segmentations(affine=False))
@settings(max_examples=10, deadline=None)
def test_formats_with_a_world_give_back_what_was_written(name: str, segmentation: Segmentation) -> None:
    check_round_trip(segmentation, *FORMATS[name])


@given(segmentations())
@FEW
def test_csv_gives_back_the_table(segmentation: Segmentation) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_table(segmentation.segments, Path(folder) / "table.csv")
        assert_same_table(segmentation.segments, read_table(Path(folder) / "table.csv"))


def test_a_table_without_rows_comes_back(tmp_path: Path) -> None:
    empty = table_of(np.zeros((3, 4), np.uint16), "yx", (Class(1, "cell"),))
    segmentation = Segmentation(np.zeros((3, 4), np.uint16), empty, (Class(1, "cell"),), "yx", (1.0, 1.0), ("pixel",) * 2, (0.0, 0.0))
    for file, options in FORMATS.values():
        assert_same(segmentation, read_segmentation(write(segmentation, tmp_path / file, overwrite=True, **options)))
    write_table(empty, tmp_path / "table.csv")
    assert_same_table(tidy(empty), read_table(tmp_path / "table.csv"))


@given(segmentations(axes=("yx", "zyx")))
@FEW
def test_labels_saved_again_by_others_keep_their_table(segmentation: Segmentation) -> None:
    """Another program drops what we put into the TIFF; the files beside it bring class, score and status back."""
    top = int(np.asarray(segmentation.labels).max())
    with tempfile.TemporaryDirectory() as folder:
        paths = write_result(segmentation, folder, "cells")
        tifffile.imwrite(paths["labels"], np.asarray(segmentation.labels), photometric="minisblack", metadata={"axes": segmentation.axes.upper()})
        back = read_segmentation(paths["labels"])
    assert top == int(np.asarray(back.labels).max())
    assert_same_table(segmentation.segments, back.segments)
    assert (back.classes, back.provenance) == (segmentation.classes, {k: v for k, v in segmentation.provenance.items() if k != "classes"})


DTYPES = ("bool", "uint8", "int8", "uint16", ">u2", "int32", "uint64", "float16", "float32", ">f8")


@st.composite
def images(draw: st.DrawFn, dtypes: tuple[str, ...] = DTYPES) -> Image:
    axes = draw(st.sampled_from(("yx", "zyx", "cyx", "tyx", "tczyx")))
    shape = draw(hnp.array_shapes(min_dims=len(axes), max_dims=len(axes), min_side=1, max_side=4))
    pixels = draw(hnp.arrays(np.dtype(draw(st.sampled_from(dtypes))), shape, elements={"allow_nan": False}, fill=st.nothing()))
    rgb = axes == "cyx" and shape[0] in (3, 4) and pixels.dtype == np.uint8
    place = {a: (draw(sizes), draw(st.sampled_from(UNITS)), draw(places)) if a != "c" else (1.0, "pixel", 0.0) for a in axes}
    scale, units, translate = zip(*place.values(), strict=True)
    names = tuple(draw(texts.filter(bool)) for _ in range(shape[axes.index("c")])) if "c" in axes else ()
    return Image((pixels,), axes, scale, units, translate, names, rgb=rgb, name=draw(texts.filter(bool)))


def check_image(image: Image, file: str, options: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        back = read(write(image, Path(folder) / file, **options))
        assert np.array_equal(np.asarray(back.data[...]), image.data)
        assert back.data.dtype == image.data.dtype.newbyteorder("=")
    for name in ("axes", "scale", "units", "translate", "channels", "rgb", "name"):
        assert getattr(back, name) == getattr(image, name), name


@given(images())
@FEW
def test_image_comes_back_from_tiff(image: Image) -> None:
    check_image(image, *FORMATS["tiff"])


@pytest.mark.parametrize("name", ["ome-zarr-0.5", "ome-zarr-0.4"])
@given(image=images())
@settings(max_examples=8, deadline=None)
def test_image_comes_back_from_ome_zarr(name: str, image: Image) -> None:
    check_image(image, *FORMATS[name])


@pytest.mark.parametrize("name", WORLD)
@given(image=images(tuple(d for d in DTYPES if d not in ("bool", "float16"))))
@settings(max_examples=8, deadline=None)
def test_image_comes_back_from_formats_with_a_world(name: str, image: Image) -> None:
    check_image(image, *FORMATS[name])


# Law 8. The file is written by another library, and where the voxel lies in the result is worked out from the bare metadata.

AT, SHAPE = (3, 5, 2), (4, 7, 6)
SCALE, CORNER = (2.0, 0.25, 0.5), (10.0, -20.0, 0.0)


def marked(shape: tuple[int, ...] = SHAPE, at: tuple[int, ...] = AT) -> Array:
    pixels = np.zeros(shape, np.uint16)
    pixels[at] = 1000
    return pixels


def ome_tiff(folder: Path) -> Path:
    sizes_of = {f"PhysicalSize{a}": s for a, s in zip("ZYX", SCALE, strict=True)}
    units = {f"PhysicalSize{a}Unit": "µm" for a in "ZYX"}
    tifffile.imwrite(folder / "a.ome.tif", marked(), metadata={"axes": "ZYX", **sizes_of, **units})
    return folder / "a.ome.tif"


def imagej(folder: Path) -> Path:
    resolution = (1 / SCALE[2], 1 / SCALE[1])
    tifffile.imwrite(folder / "a.tif", marked(), imagej=True, resolution=resolution, metadata={"axes": "ZYX", "spacing": SCALE[0], "unit": "micron"})
    return folder / "a.tif"


def ome_zarr(folder: Path) -> Path:
    """A version 0.4 store with axes in another order, and half of its transformation on the whole multiscale."""
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2)
    group.create_array("s0", shape=SHAPE[::-1], dtype="uint16", chunks=(2, 2, 2))[...] = marked().transpose()
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "xyz"]
    own = [{"type": "scale", "scale": [s / 2 for s in SCALE[::-1]]}, {"type": "translation", "translation": [c / 2 for c in CORNER[::-1]]}]
    whole = [{"type": "scale", "scale": [2.0, 2.0, 2.0]}]
    datasets = [{"path": "s0", "coordinateTransformations": own}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets, "coordinateTransformations": whole}]
    return folder / "a.zarr"


def world_in_tiff(path: Path) -> list[float]:
    with tifffile.TiffFile(path) as tif:
        at = np.argwhere(tif.asarray())[0]
        pixels = next(e for e in ElementTree.fromstring(tif.ome_metadata or "").iter() if e.tag.endswith("}Pixels"))
    assert {pixels.get(f"PhysicalSize{a}Unit") for a in "ZYX"} == {"µm"}
    return [float(pixels.get(f"PhysicalSize{a}", "nan")) * i for a, i in zip("ZYX", at, strict=True)]


def world_in_zarr(path: Path) -> list[float]:
    scales = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]["ome"]["multiscales"][0]
    at = np.argwhere(np.asarray(zarr.open_array(path / scales["datasets"][0]["path"], mode="r")[...]))[0]
    scale, *shift = scales["datasets"][0]["coordinateTransformations"]
    assert [axis["unit"] for axis in scales["axes"]] == ["micrometer"] * 3
    return [float(v) for v in np.array(scale["scale"]) * at + (np.array(shift[0]["translation"]) if shift else 0)]


@pytest.mark.parametrize(("make", "corner"), [(ome_tiff, (0.0, 0.0, 0.0)), (imagej, (0.0, 0.0, 0.0)), (ome_zarr, CORNER)])
def test_a_marked_voxel_keeps_its_place(make: Callable[[Path], Path], corner: tuple[float, ...], tmp_path: Path) -> None:
    expected = [c + s * i for c, s, i in zip(corner, SCALE, AT, strict=True)]
    image = read(make(tmp_path))
    labels = (np.asarray(image.data[...]) > 500).astype(np.uint32) * 7
    at = np.argwhere(labels)[0]
    assert [t + s * i for t, s, i in zip(image.translate, image.scale, at, strict=True)] == pytest.approx(expected)
    assert image.units == ("micrometer",) * 3
    kinds = (Class(1, "cell"),)
    segmentation = Segmentation(labels, table_of(labels, image.axes, kinds), kinds, image.axes, image.scale, image.units, image.translate)
    assert world_in_zarr(write(segmentation, tmp_path / "b.ome.zarr")) == pytest.approx(expected)
    # OME-XML has sizes but no place of the first voxel: what it says must agree, and our own reader must know the rest.
    written = write(segmentation, tmp_path / "b.tif")
    assert world_in_tiff(written) == pytest.approx([e - c for e, c in zip(expected, corner, strict=True)])
    assert read_segmentation(written).translate == pytest.approx(corner)
    assert [segmentation.segments[f"centroid_{a}"].item() for a in "zyx"] == list(AT)
