"""Law 8 without a viewer: a marked voxel keeps its world position from file to image to labels to file.

Files are written and results read back with other libraries, and where a voxel lies is worked out from the bare metadata. The viewer's
half is in tests/viewer.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_segsuite import read_segmentation
from napari_segsuite.cli import main

Array = NDArray[Any]
Place = Mapping[str, tuple[float, float]]
"""Per axis the size of a sample and the position of the first one, in micrometres or seconds."""

FEW = settings(max_examples=7, deadline=None)
SHAPE = {"t": 3, "c": 2, "z": 12, "y": 20, "x": 17}
CHANNEL = 1


@st.composite
def scenes(draw: st.DrawFn) -> tuple[str, dict[str, int], Place]:
    """Axes, where the middle of the mark is, and where the image lies in the world."""
    axes = draw(st.sampled_from(("yx", "zyx", "tyx", "cyx", "czyx", "tzyx", "tczyx")))
    at = {a: draw(st.integers(3, SHAPE[a] - 4)) for a in axes if a in "zyx"} | ({"t": draw(st.integers(0, 2))} if "t" in axes else {})
    place = {a: (draw(st.floats(0.01, 50)), draw(st.floats(-1000, 1000)) if a in "zyx" else 0.0) for a in at}
    return axes, at, place


def marked(axes: str, at: Mapping[str, int]) -> Array:
    """An image that is dark but for 5 bright voxels along each spatial axis, in one frame and one channel."""
    pixels = np.full([SHAPE[a] for a in axes], 7, np.uint16)
    index = {a: slice(i - 2, i + 3) if a in "zyx" else i for a, i in at.items()} | {"c": CHANNEL}
    pixels[tuple(index[a] for a in axes)] = 900
    return pixels


def in_world(at: Mapping[str, float], place: Place) -> dict[str, float]:
    return {a: place[a][1] + place[a][0] * i for a, i in at.items()}


def ome_tiff(folder: Path, pixels: Array, axes: str, place: Place) -> Path:
    """OME-TIFF, whose words for a position we do not use: its first voxel lies at 0."""
    sizes = {f"PhysicalSize{a.upper()}": place[a][0] for a in axes if a in "zyx"}
    units = {f"PhysicalSize{a.upper()}Unit": "µm" for a in axes if a in "zyx"}
    time = {"TimeIncrement": place["t"][0], "TimeIncrementUnit": "s"} if "t" in axes else {}
    metadata = {"axes": axes.upper(), **sizes, **units, **time}
    tifffile.imwrite(folder / "a.ome.tif", pixels, photometric="minisblack", metadata=metadata)
    return folder / "a.ome.tif"


def ome_zarr(version: str) -> Callable[[Path, Array, str, Place], Path]:
    def make(folder: Path, pixels: Array, axes: str, place: Place) -> Path:
        group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2 if version == "0.4" else 3)
        group.create_array("s0", shape=pixels.shape, dtype=pixels.dtype, chunks=(8,) * pixels.ndim)[...] = pixels
        kinds = {"t": ("time", "second"), "c": ("channel", None)}
        listed = [
            {"name": a, "type": kind} | ({"unit": unit} if unit else {}) for a in axes for kind, unit in [kinds.get(a, ("space", "micrometer"))]
        ]
        transforms = [
            {"type": "scale", "scale": [place[a][0] if a in place else 1.0 for a in axes]},
            {"type": "translation", "translation": [place[a][1] if a in place else 0.0 for a in axes]},
        ]
        scales: Any = [{"version": version, "axes": listed, "datasets": [{"path": "s0", "coordinateTransformations": transforms}]}]
        group.attrs.update({"multiscales": scales} if version == "0.4" else {"ome": {"version": version, "multiscales": scales}})
        return folder / "a.zarr"

    return make


def middle(labels: Array, axes: str) -> dict[str, float]:
    assert np.unique(labels).tolist() == [0, 1]
    return dict(zip(axes, np.argwhere(labels).mean(0).tolist(), strict=True))


def world_in_tiff(path: Path) -> dict[str, float]:
    """Where the label lies by the OME-XML alone, which says nothing of the first voxel."""
    with tifffile.TiffFile(path) as tif:
        axes, labels = tif.series[0].axes.lower(), tif.asarray()
        pixels = next(e for e in ElementTree.fromstring(tif.ome_metadata or "").iter() if e.tag.endswith("}Pixels"))
    assert {pixels.get(f"PhysicalSize{a.upper()}Unit") for a in axes if a in "zyx"} == {"µm"}
    names = {a: "TimeIncrement" if a == "t" else f"PhysicalSize{a.upper()}" for a in axes}
    return in_world(middle(labels, axes), {a: (float(pixels.get(name, "nan")), 0.0) for a, name in names.items()})


def world_in_zarr(path: Path) -> dict[str, float]:
    scales = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]["ome"]["multiscales"][0]
    axes = "".join(axis["name"] for axis in scales["axes"])
    assert [axis["unit"] for axis in scales["axes"]] == ["second" if a == "t" else "micrometer" for a in axes]
    scale, *shift = scales["datasets"][0]["coordinateTransformations"]
    corner = shift[0]["translation"] if shift else [0.0] * len(axes)
    labels = np.asarray(zarr.open_array(path / scales["datasets"][0]["path"], mode="r")[...])
    return in_world(middle(labels, axes), dict(zip(axes, zip(scale["scale"], corner, strict=True), strict=True)))


def segmented(source: Path, out: Path, axes: str, *words: str) -> Path:
    chosen = ["--channels", str(CHANNEL)] if "c" in axes else []
    assert main(["segment", str(source), "--model", "otsu", "--out", str(out), *chosen, *words]) == 0
    return out


MAKERS = {"tiff": ome_tiff, "ome-zarr-0.4": ome_zarr("0.4"), "ome-zarr-0.5": ome_zarr("0.5")}


@pytest.mark.parametrize("kind", MAKERS)
@given(scene=scenes(), cut=st.booleans(), out=st.sampled_from(("b.tif", "b.ome.zarr")))
@FEW
def test_a_marked_voxel_keeps_its_place(kind: str, scene: tuple[str, dict[str, int], Place], cut: bool, out: str) -> None:
    axes, at, place = scene
    if kind == "tiff":
        place = {a: (size, 0.0) for a, (size, _) in place.items()}
    expected = {a: pytest.approx(w, rel=1e-6, abs=1e-6) for a, w in in_world(at, place).items()}
    chunks = ["--chunk", ",".join("7" for a in axes if a in "zyx")] if cut else []
    with tempfile.TemporaryDirectory() as folder:
        source = MAKERS[kind](Path(folder), marked(axes, at), axes, place)
        path = segmented(source, Path(folder, out), axes, *chunks)
        if out.endswith(".tif"):
            corner = {a: place[a][1] for a in at}
            assert {a: w + corner[a] for a, w in world_in_tiff(path).items()} == expected
        else:
            assert world_in_zarr(path) == expected
        back = read_segmentation(path)
        found = {a: (s, t) for a, s, t in zip(back.axes, back.scale, back.translate, strict=True)}
        centroid = {a: back.segments[f"centroid_{a}"].item() for a in back.axes}
        assert centroid == pytest.approx({a: float(i) for a, i in at.items()})
        assert in_world(centroid, found) == expected


def test_labels_in_the_store_of_their_image_lie_on_it() -> None:
    axes, at, place = "zyx", {"z": 5, "y": 9, "x": 4}, {"z": (2.0, 10.0), "y": (0.25, -20.0), "x": (0.5, 3.0)}
    with tempfile.TemporaryDirectory() as folder:
        source = ome_zarr("0.5")(Path(folder), marked(axes, at), axes, place)
        inside = segmented(source, source / "labels" / "cells", axes)
        assert world_in_zarr(inside) == pytest.approx(in_world(at, place))
        listed = json.loads((source / "labels" / "zarr.json").read_text(encoding="utf-8"))["attributes"]["ome"]["labels"]
        assert listed == ["cells"]
