"""HDF5 and Imaris files: written with h5py, Imaris's as its format is described."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io import read, read_segmentation

Elsewhere = Callable[[Any], NDArray[Any]]


def counted(*shape: int, dtype: Any = np.uint16) -> NDArray[Any]:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def letters(text: str) -> NDArray[Any]:
    return np.frombuffer(text.encode(), "S1")


def write_imaris(path: Path, data: NDArray[Any], names: tuple[str, ...] = ("DAPI", "GFP"), moments: tuple[str, ...] = ()) -> None:
    """Write (t, c, z, y, x) in two resolutions, volumes padded to whole chunks of 4 as Imaris does."""
    with h5py.File(path, "w") as file:
        about = file.create_group("DataSetInfo/Image")
        for k, (a, low, high) in enumerate(
            (("X", 10.0, 10 + 0.5 * data.shape[4]), ("Y", 20.0, 20 + 0.5 * data.shape[3]), ("Z", 0.0, 2.0 * data.shape[2]))
        ):
            about.attrs[a], about.attrs[f"ExtMin{k}"], about.attrs[f"ExtMax{k}"] = (
                letters(str(data.shape[4 - k])),
                letters(f"{low}"),
                letters(f"{high}"),
            )
        about.attrs["Unit"] = letters("um")
        for c, name in enumerate(names):
            file.create_group(f"DataSetInfo/Channel {c}").attrs["Name"] = letters(name)
        when = file.create_group("DataSetInfo/TimeInfo")
        for t, moment in enumerate(moments):
            when.attrs[f"TimePoint{t + 1}"] = letters(moment)
        for r in range(2):
            for t, c in np.ndindex(*data.shape[:2]):
                volume = data[t, c, :, :: 2**r, :: 2**r]
                group = file.create_group(f"DataSet/ResolutionLevel {r}/TimePoint {t}/Channel {c}")
                padded = np.pad(volume, [(0, -n % 4) for n in volume.shape], constant_values=9)
                group.create_dataset("Data", data=padded, chunks=(4, 4, 4), compression="gzip")
                for a, n in zip("ZYX", volume.shape, strict=True):
                    group.attrs[f"ImageSize{a}"] = letters(str(n))


def test_imaris_has_its_values_sizes_names_and_levels(elsewhere: Elsewhere, tmp_path: Path) -> None:
    data = counted(2, 2, 3, 10, 14)
    write_imaris(tmp_path / "a.ims", data, moments=("2026-01-02 03:04:05.000", "2026-01-02 03:04:35.000"))
    image = read(tmp_path / "a.ims")
    assert np.array_equal(image.data, data)
    assert (image.axes, image.channels) == ("tczyx", ("DAPI", "GFP"))
    assert (image.scale, image.units) == ((30, 1, 2, 0.5, 0.5), ("second", "pixel", *("micrometer",) * 3))
    assert image.translate == (0, 0, 1, 20.25, 10.25)
    assert image.data.chunks == (1, 1, 3, 4, 4)
    assert [level.shape for level in image.levels] == [(2, 2, 3, 10, 14), (2, 2, 3, 5, 7)]
    assert np.array_equal(image.levels[1], data[..., ::2, ::2])
    assert np.array_equal(image.data[1, ::-1, 0, 8:2:-3, ::5], data[1, ::-1, 0, 8:2:-3, ::5])
    assert np.array_equal(elsewhere(image.data), data)


def test_a_plane_of_imaris_is_a_plane(tmp_path: Path) -> None:
    data = counted(1, 1, 1, 10, 14)
    write_imaris(tmp_path / "a.ims", data, names=("grey",))
    image = read(tmp_path / "a.ims")
    assert (image.axes, image.channels) == ("yx", ())
    assert np.array_equal(image.data, data[0, 0, 0])


def test_datasets_are_images_told_apart_by_their_paths(elsewhere: Elsewhere, tmp_path: Path) -> None:
    raw, labels = counted(4, 5, 6), counted(4, 5, 6, dtype=np.uint64)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"], file["volumes/labels"], file["volumes/name"] = raw, labels, "sample A"
        for name in ("raw", "labels"):
            file[f"volumes/{name}"].attrs["resolution"] = (40.0, 4.0, 4.0)
            file[f"volumes/{name}"].attrs["offset"] = (80.0, 0.0, 8.0)
    with pytest.raises(InputError, match=r"holds 2 images \(0: volumes/labels \(4, 5, 6\), 1: volumes/raw \(4, 5, 6\)\).*--scene 0"):
        read(tmp_path / "a.h5")
    image = read(tmp_path / "a.h5", scene="volumes/raw")
    assert np.array_equal(image.data, raw)
    assert (image.axes, image.scale, image.units, image.translate) == ("zyx", (40, 4, 4), ("nanometer",) * 3, (80, 0, 8))
    assert np.array_equal(elsewhere(image.data), raw)
    assert np.array_equal(image.data[::-2, 1, 4:1:-1], raw[::-2, 1, 4:1:-1])


def test_one_dataset_is_labels(tmp_path: Path, segsuite: Callable[..., Any]) -> None:
    labels = np.zeros((4, 5, 6), np.uint64)
    labels[1:3, 1:3, 1:3], labels[3, 4] = 7, 9
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"], file["labels"] = counted(4, 5, 6), labels
    with pytest.raises(InputError, match="holds 2 images"):
        read_segmentation(tmp_path / "a.h5", axes="zyx")
    assert np.array_equal(read_segmentation(tmp_path / "a.h5", axes="zyx", scene="labels").labels, labels)
    told = segsuite("convert", tmp_path / "a.h5", tmp_path / "b.ome.zarr", "--labels", "--scene", "labels", "--axes", "zyx")
    assert (told.code, told.err) == (0, "")
    found = read_segmentation(tmp_path / "b.ome.zarr")
    assert np.array_equal(found.labels, labels)
    assert found.segments["id"].tolist() == [7, 9]


def test_axes_are_as_the_file_says(tmp_path: Path) -> None:
    data = counted(4, 5, 6, 2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = data
    with pytest.raises(InputError, match=r"Dataset '/data' of .*a\.h5 of shape \(4, 5, 6, 2\) does not say what its axes are"):
        read(tmp_path / "a.h5")
    assert np.array_equal(read(tmp_path / "a.h5", axes="zyxc").data, np.moveaxis(data, -1, 0))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["data"].attrs["axistags"] = json.dumps({"axes": [{"key": a, "typeFlags": 2} for a in "zyxc"]})
    image = read(tmp_path / "a.h5")
    assert (image.axes, image.channels) == ("czyx", ("channel 0", "channel 1"))
    assert np.array_equal(image.data, np.moveaxis(data, -1, 0))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"] = counted(4, 5, 6)
        file["data"].attrs["element_size_um"] = (0.3, 0.1, 0.1)
    image = read(tmp_path / "b.h5")
    assert (image.axes, image.scale, image.units) == ("zyx", (0.3, 0.1, 0.1), ("micrometer",) * 3)


def test_samples_elsewhere_and_far_too_many_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(300))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", (10, 30), "u1", external=[(str(tmp_path / "secret"), 0, 300)])
    with pytest.raises(InputError, match="lies in other files"):
        read(tmp_path / "a.h5")
    write_imaris(tmp_path / "a.ims", counted(1, 1, 3, 10, 14), names=("grey",))
    with h5py.File(tmp_path / "a.ims", "r+") as file, h5py.File(tmp_path / "other.h5", "w") as other:
        other["data"] = counted(4, 12, 16)
        del file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data"]
        file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "data")
    with pytest.raises(InputError, match="lies in other files"):
        read(tmp_path / "a.ims")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("data", (10**6, 10**6), "u2", chunks=(100, 100))
    with pytest.raises(InputError, match=r"which needs 2000\.0 GB"):
        read(tmp_path / "b.h5")


@pytest.mark.parametrize("suffix", [".ims", ".h5"])
def test_a_damaged_file_is_named(suffix: str, flipped: Callable[..., int], tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".ims":
        write_imaris(path, counted(1, 2, 3, 10, 14))
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=counted(30, 40), chunks=(10, 10), compression="gzip")
    flipped(path, 60)
    data = path.read_bytes()
    for part in (0, 0.01, 0.5, 0.99):
        (tmp_path / f"cut{suffix}").write_bytes(data[: int(part * len(data))])
        with pytest.raises(InputError, match="cut"):
            np.asarray(read(tmp_path / f"cut{suffix}").data)
