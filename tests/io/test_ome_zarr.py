"""OME-Zarr: what others make of our stores, and we of theirs."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, OptionError, OutputError
from napari_segsuite.io import ngff, pyramid, read, read_segmentation, write
from napari_segsuite.types import Image, Segmentation

Array = NDArray[Any]
VERSIONS = ("0.4", "0.5")
both = pytest.mark.parametrize("version", VERSIONS)


def big_labels() -> Array:
    labels = np.zeros((3, 1100, 1200), np.uint16)
    labels[1, 100:140, 200:260], labels[2, 900:, 1000:] = 7, 70
    return labels


def metadata_of(path: Path) -> dict[str, Any]:
    group = zarr.open_group(path, mode="r", use_consolidated=False)
    return dict(ngff.ome_of(group.attrs.asdict()))


def model(version: str, kind: str) -> Any:
    module = importlib.import_module(f"ome_zarr_models.v{version.replace('.', '')}.{kind}")
    return getattr(module, {"image": "Image", "image_label": "ImageLabel", "labels": "Labels"}[kind])


def in_napari(path: Path) -> list[Any]:
    """The layers that napari-ome-zarr makes of a store."""
    from napari_ome_zarr import napari_get_reader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = napari_get_reader(str(path))
        assert reader is not None
        return list(reader(str(path)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder two levels down: for a label store, napari-ome-zarr opens the folder above its folder for writing and makes it a zarr group."""
    (tmp_path / "above" / "here").mkdir(parents=True)
    return tmp_path / "above" / "here"


@both
def test_labels_open_in_napari_ome_zarr_and_validate(version: str, make_segmentation: Callable[..., Segmentation], folder: Path) -> None:
    labels = big_labels()
    path = write(make_segmentation(labels, "zyx", scale=(2.0, 0.5, 0.25)), folder / "a.ome.zarr", version=version)
    [(levels, meta, kind)] = in_napari(path)
    assert kind == "labels"
    assert np.array_equal(np.asarray(levels[0]), labels)
    assert (meta["scale"], meta["units"]) == ([2.0, 0.5, 0.25], ("micrometer",) * 3)
    rows = meta.get("properties") or {str(name): list(column) for name, column in meta["features"].items()}  # up to 0.10, or later
    assert rows.get("index", rows.get("label_value")) == [7, 70]
    assert rows["class"] == ["cell", "cell"]
    assert {7, 70} <= set(meta["colormap"])
    group = zarr.open_group(path, mode="r")
    model(version, "image_label").from_zarr(group)
    assert len(model(version, "image").from_zarr(group).datasets[0] if version == "0.5" else levels) == len(levels)


@both
def test_labels_beside_their_image_open_and_validate(
    version: str, make_image: Callable[..., Image], make_segmentation: Callable[..., Segmentation], folder: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 4000, (2, 3, 1100, 1200)).astype(np.uint16)
    image = write(make_image(pixels, "czyx"), folder / "a.ome.zarr", version=version)
    segmentation = make_segmentation(big_labels(), "zyx")
    for name in ("cells", "nuclei"):
        write(segmentation, image / "labels" / name)
    write(segmentation, image / "labels" / "cells", overwrite=True)
    layers = in_napari(image)
    images = [(levels, meta) for levels, meta, kind in layers if kind == "image"]
    if len(images) == 1:  # napari-ome-zarr up to 0.10 leaves it to napari to split the channels
        [(levels, meta)] = images
        images = [([levels[0][k]], {"name": name}) for k, name in enumerate(meta["name"])]
    assert [meta["name"] for _, meta in images] == ["image: dye 0", "image: dye 1"]
    assert np.array_equal(np.stack([np.asarray(levels[0]) for levels, _ in images]), pixels)
    labels = [levels for levels, _, kind in layers if kind == "labels"]
    assert len(labels) == 2
    assert np.array_equal(np.asarray(labels[0][0]), segmentation.labels)
    group = zarr.open_group(image, mode="r")
    assert model(version, "image").from_zarr(group).labels is not None
    model(version, "labels").from_zarr(group["labels"])
    assert metadata_of(image / "labels")["labels"] == ["nuclei", "cells"]
    assert metadata_of(image / "labels" / "cells")["image-label"]["source"] == {"image": "../../"}
    back = read_segmentation(image / "labels" / "cells")
    assert (back.segments["id"].tolist(), back.provenance) == ([7, 70], {"model": "otsu"})
    with pytest.raises(InputError, match=r"holds 2 label images \(nuclei, cells\)\. Needed: one\. Give one of them: .*labels/nuclei"):
        read_segmentation(image)
    assert read(image).channels == ("dye 0", "dye 1")


def test_labels_in_a_store_with_consolidated_metadata_are_seen(
    make_image: Callable[..., Image], make_segmentation: Callable[..., Segmentation], folder: Path
) -> None:
    for version in VERSIONS:
        image = write(make_image(np.zeros((30, 40), np.uint8)), folder / f"{version}.ome.zarr", version=version)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(str(image))
            write(make_segmentation(), image / "labels" / "cells")
        assert [kind for *_, kind in in_napari(image)] == ["image", "labels"]


def test_labels_follow_the_version_and_the_levels_of_the_image(
    make_image: Callable[..., Image], make_segmentation: Callable[..., Segmentation], tmp_path: Path
) -> None:
    pixels = np.zeros((64, 90), np.uint8)
    image = write(make_image(pixels, levels=(pixels, pixels[::2, ::3], pixels[::4, ::9])), tmp_path / "a.ome.zarr", version="0.4")
    labels = np.zeros((64, 90), np.uint16)
    labels[8:20, 9:30] = 3
    path = write(make_segmentation(labels), image / "labels" / "cells")
    assert [level.shape for level in read(path).levels] == [(64, 90), (32, 30), (16, 10)]
    with pytest.raises(OptionError, match=r"is OME-Zarr 0\.4, and labels inside it cannot be 0\.5"):
        write(make_segmentation(labels), image / "labels" / "more", version="0.5")
    with pytest.raises(OutputError, match=r"The labels have axes 'zyx' and the image in .* has 'yx'"):
        write(make_segmentation(big_labels(), "zyx"), image / "labels" / "more")
    assert [p.name for p in (image / "labels").iterdir() if p.is_dir()] == ["cells"]


@both
def test_pyramids_of_labels_hold_no_id_that_was_not_there(
    version: str, make_segmentation: Callable[..., Segmentation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyramid, "SMALL_VOXELS", 2**13)
    labels = np.random.default_rng(0).integers(0, 2**40, (1, 150, 161)).astype(np.uint64)
    path = write(make_segmentation(labels, "zyx", segments={"id": np.zeros(0, np.int64)}), tmp_path / "a.ome.zarr", version=version)
    levels = [np.asarray(level[...]) for level in read(path).levels]
    assert [level.shape for level in levels] == [(1, 150, 161), (1, 75, 81)]
    assert np.array_equal(levels[1], labels[:, ::2, ::2])
    datasets = metadata_of(path)["multiscales"][0]["datasets"]
    assert datasets[1]["coordinateTransformations"] == [{"type": "scale", "scale": [0.5, 1.0, 1.0]}], "a picked voxel lies where it was"


def test_pyramids_of_images_are_means_in_the_middle_of_their_blocks(make_image: Callable[..., Image], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (1301, 1400)).astype(np.uint8)
    path = write(make_image(pixels, translate=(10.0, 20.0)), tmp_path / "a.ome.zarr")
    image = read(path)
    assert [level.shape for level in image.levels] == [(1301, 1400), (651, 700)]
    expected = np.rint(pixels[:1300].astype(float).reshape(650, 2, 700, 2).mean((1, 3)))
    assert np.array_equal(np.asarray(image.levels[1][:650]), expected)
    datasets = metadata_of(path)["multiscales"][0]["datasets"]
    assert datasets[1]["coordinateTransformations"][1] == {"type": "translation", "translation": [10.25, 20.25]}


@pytest.mark.parametrize("shape", [(5, 3, 2000, 2000), (1, 1, 10, 400_000_000), (4000, 1, 4000, 4000), (2, 2, 2, 2)])
def test_the_lowest_level_is_small_enough_for_a_thumbnail(shape: tuple[int, ...]) -> None:
    for factors in pyramid.plan_factors("tzyx", shape):
        shape = pyramid.shrunk(shape, factors)
    assert np.prod(shape[1:]) <= pyramid.SMALL_VOXELS


def test_windows_of_contrast_follow_the_data(make_image: Callable[..., Image], tmp_path: Path) -> None:
    pixels = np.zeros((2, 30, 40), np.float32)
    pixels[0, 3], pixels[1] = 7.5, np.nan
    path = write(make_image(pixels, "cyx"), tmp_path / "a.ome.zarr")
    windows = [channel["window"] for channel in metadata_of(path)["omero"]["channels"]]
    assert [(w["start"], w["end"]) for w in windows] == [(0.0, 7.5), (0.0, 1.0)]


@both
def test_no_flipped_bit_goes_unnoticed(version: str, make_segmentation: Callable[..., Segmentation], tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 50, (60, 70)).astype(np.uint16)
    path = write(make_segmentation(labels), tmp_path / "a.ome.zarr", version=version)
    [chunk] = [p for p in (path / "0").rglob("*") if p.is_file() and not p.name.startswith((".z", "zarr"))]
    whole = chunk.read_bytes()
    noticed = 0
    for bit in np.random.default_rng(1).integers(0, len(whole) * 8, 80).tolist():
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        chunk.write_bytes(damaged)
        try:
            found = np.asarray(read(path).data[...])
        except InputError:
            noticed += 1
        else:
            assert np.array_equal(found, labels)
    assert noticed > 70


@both
def test_a_lost_chunk_is_not_background(version: str, make_segmentation: Callable[..., Segmentation], tmp_path: Path) -> None:
    path = write(make_segmentation(np.zeros((30, 1500), np.uint16)), tmp_path / "a.ome.zarr", version=version)
    assert not np.asarray(read_segmentation(path).labels).any()
    chunks = sorted(p for p in (path / "0").rglob("*") if p.is_file() and not p.name.startswith((".z", "zarr")))
    assert len(chunks) == 2, "chunks that are all background are stored too"
    chunks[1].unlink()
    with pytest.raises(InputError, match="1 of 2 chunks are missing from"):
        read_segmentation(path)


@both
def test_a_damaged_table_is_named(version: str, make_segmentation: Callable[..., Segmentation], tmp_path: Path) -> None:
    path = write(make_segmentation(), tmp_path / "a.ome.zarr", version=version)
    chunk = next(p for p in (path / "table" / "int64").rglob("*") if p.is_file() and not p.name.startswith((".z", "zarr")))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(InputError, match="cannot be read: reading failed") as caught:
        read_segmentation(path)
    assert str(path) in str(caught.value)


def store_of(folder: Path, axes: list[Any], shape: tuple[int, ...], version: str = "0.4", **more: Any) -> Path:
    """A store as another program would write it."""
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=ngff.VERSIONS[version])
    data = np.arange(np.prod(shape)).reshape(shape).astype(np.uint16)
    group.create_array("base", shape=shape, dtype="uint16", chunks=shape)[...] = data
    scales: dict[str, Any] = {"datasets": [{"path": "base"}], **({"axes": axes} if axes else {}), **more}
    group.attrs.update({"multiscales": [scales]} if version == "0.4" else {"ome": {"version": "0.5", "multiscales": [scales]}})
    return folder / "a.zarr"


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ([], (2, 3, 4, 5, 6), "tczyx"),
        (["c", "y", "x"], (3, 5, 6), "cyx"),
        ([{"name": n, "type": "space"} for n in ("row", "column")], (5, 6), "yx"),
        (
            [{"name": "T", "type": "time"}, {"name": "dye", "type": "channel"}, *({"name": n, "type": "space"} for n in "abc")],
            (2, 3, 4, 5, 6),
            "tczyx",
        ),
    ],
)
def test_axes_of_older_versions_and_other_names_are_understood(axes: list[Any], shape: tuple[int, ...], expected: str, tmp_path: Path) -> None:
    image = read(store_of(tmp_path, axes, shape))
    assert (image.axes, image.shape) == (expected, shape)


@pytest.mark.parametrize(
    ("axes", "shape", "complaint"),
    [
        ([], (4, 5, 6), "lists the axes None for an array of 3 axes. Give them with axes"),
        (["y", "x"], (4, 5, 6), "lists the axes ['y', 'x'] for an array of 3 axes"),
        ([{"name": "lambda", "type": "spectrum"}, {"name": "y"}, {"name": "x"}], (4, 5, 6), "has axes lambda, y, x. Needed: time, channel and"),
    ],
)
def test_axes_that_cannot_be_understood_must_be_given(axes: list[Any], shape: tuple[int, ...], complaint: str, tmp_path: Path) -> None:
    path = store_of(tmp_path, axes, shape)
    with pytest.raises(InputError) as caught:
        read(path)
    assert complaint in str(caught.value)
    assert read(path, axes="zyx").axes == "zyx"


def test_axes_in_another_order_are_seen_in_ours(tmp_path: Path) -> None:
    path = store_of(tmp_path, [{"name": n, "type": "channel" if n == "c" else "space"} for n in "xyc"], (6, 5, 3))
    image = read(path)
    assert (image.axes, image.shape) == ("cyx", (3, 5, 6))
    stored = np.arange(90).reshape(6, 5, 3)
    assert np.array_equal(np.asarray(image.data), stored.transpose(2, 1, 0))
    assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(image.data))[1]), stored.transpose(2, 1, 0)[1])


def test_transformations_that_are_no_scale_are_refused(tmp_path: Path) -> None:
    path = store_of(tmp_path, ["y", "x"], (5, 6), coordinateTransformations=[{"type": "scale", "path": "elsewhere"}])
    with pytest.raises(InputError, match="has a transformation that cannot be used"):
        read(path)


def test_levels_that_do_not_belong_together_are_left_out(tmp_path: Path) -> None:
    path = store_of(tmp_path, ["y", "x"], (8, 8), datasets=[{"path": name} for name in ("base", "other", "larger")])
    group = zarr.open_group(path, mode="a")
    group.create_array("other", shape=(4, 4), dtype="float32")
    group.create_array("larger", shape=(9, 9), dtype="uint16")
    assert [level.shape for level in read(path).levels] == [(8, 8)]


def test_a_plain_array_needs_its_axes(tmp_path: Path) -> None:
    for number in VERSIONS.index("0.4") + 2, 3:
        path = tmp_path / f"{number}.zarr"
        array = zarr.open_array(path, mode="w", shape=(3, 4, 5), dtype=">u2", zarr_format=number, attributes={"element_size_um": [2, 0.5, 0.5]})
        array[...] = np.arange(60).reshape(3, 4, 5)
        with pytest.raises(InputError, match=r"say what its axes are\. Needed: axes\. Give them, for example with axes='zyx' \(--axes zyx\)\."):
            read(path)
        image = read(path, axes="zyx")
        assert (image.scale, image.units, image.data.dtype.isnative) == ((2.0, 0.5, 0.5), ("micrometer",) * 3, True)
        assert np.array_equal(np.asarray(image.data[...]), np.arange(60).reshape(3, 4, 5))
    assert read_segmentation(path.parent / "2.zarr", axes="zyx").segments["id"].tolist() == list(range(1, 60))


def test_one_of_several_images_must_be_chosen(tmp_path: Path, make_image: Callable[..., Image]) -> None:
    root = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=3)
    root.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "A/1"}, {"path": "B/2"}]}}
    for well in ("A/1", "B/2"):
        root.create_group(well).attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": "0"}]}}
        group = root.create_group(f"{well}/0")
        group.create_array("s0", shape=(4, len(well) + (well == "B/2")), dtype="uint8")
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": "s0"}]}]}
    with pytest.raises(InputError, match=r"holds 2 images \(A/1/0, B/2/0\)\. Needed: one of them\. Choose one by .*, as scene='A/1/0'"):
        read(tmp_path / "plate.zarr")
    for scene in ("B/2/0", 1):
        assert read(tmp_path / "plate.zarr", scene=scene).shape == (4, 4)
    assert read(tmp_path / "plate.zarr" / "A" / "1").shape == (4, 3)
    with pytest.raises(InputError, match="refers to 'C/3', which is not in it"):
        read(tmp_path / "plate.zarr", scene="C/3")


@pytest.mark.parametrize("name", ["../secret", "base/../../secret", "/../secret"])
def test_metadata_that_leads_out_of_the_store_is_refused(name: str, tmp_path: Path) -> None:
    zarr.open_array(tmp_path / "secret", mode="w", shape=(5, 6), dtype="uint16")[...] = 99
    path = store_of(tmp_path, ["y", "x"], (5, 6), datasets=[{"path": name}])
    with pytest.raises(InputError, match="which leads out of it"):
        read(path)


@pytest.mark.parametrize("what", ["array", "chunk"])
def test_links_that_lead_out_of_the_store_are_refused(what: str, tmp_path: Path) -> None:
    path = store_of(tmp_path, ["y", "x"], (5, 6), "0.5")
    (path / "base").rename(tmp_path / "moved")
    if what == "array":
        os.symlink(tmp_path / "moved", path / "base", target_is_directory=True)
    else:
        (path / "base" / "c" / "0").mkdir(parents=True)
        (tmp_path / "moved" / "zarr.json").rename(path / "base" / "zarr.json")
        os.symlink(tmp_path / "moved" / "c" / "0" / "0", path / "base" / "c" / "0" / "0")
    with pytest.raises(InputError, match="leads out of"):
        read(path).data[...]


@pytest.mark.parametrize("version", VERSIONS)
def test_chunks_of_terabytes_are_refused_before_they_are_read(version: str, tmp_path: Path) -> None:
    path = store_of(tmp_path, ["y", "x"], (5, 6), version)
    file = path / "base" / (".zarray" if version == "0.4" else "zarr.json")
    told = json.loads(file.read_text(encoding="utf-8"))
    if version == "0.4":
        told["chunks"] = [10**6, 10**6]
    else:
        told["chunk_grid"]["configuration"]["chunk_shape"] = [10**6, 10**6]
    file.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(InputError, match=r"declares chunks of shape \(1000000, 1000000\), which would need 2000\.0 GB each"):
        read(path)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_chunk_that_unfolds_to_terabytes_is_refused_before_it_is_decoded(version: str, tmp_path: Path) -> None:
    path = store_of(tmp_path, ["y", "x"], (5, 6), version)
    whole = zarr.open_array(path / "base", mode="a")
    whole = zarr.create_array(path / "base", shape=(500, 600), dtype="u2", chunks=(500, 600), zarr_format=whole.metadata.zarr_format, overwrite=True)
    whole[...] = np.arange(300_000).reshape(500, 600) % 777
    assert read(path).data[3, 4] == 1804 % 777
    chunk = next(p for p in (path / "base").rglob("*") if p.name in ("0", "0.0") and p.is_file())
    data = chunk.read_bytes()
    assert data[:4] == b"\x28\xb5\x2f\xfd"
    # The frame begins anew with a header that has room for a size of eight bytes.
    chunk.write_bytes(data[:4] + b"\xe0" + (2**42).to_bytes(8, "little") + data[9:])
    with pytest.raises(InputError, match=r"declares that it unfolds to 4398\.0 GB\. Needed: at most 4\.3 GB"):
        np.asarray(read(path).data[:2, :2])


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda path: (path / "zarr.json").write_text("{", encoding="utf-8"), "cannot be read: reading failed"),
        (lambda path: (path / "zarr.json").unlink(), "is not a zarr group or array: it has no zarr.json"),
        (lambda path: (path / "0" / "zarr.json").unlink(), "refers to '0', which is not in it"),
        (lambda path: zarr.open_group(path).attrs.update({"ome": {"multiscales": []}}), "cannot be read: reading failed (IndexError"),
        (lambda path: zarr.open_group(path).attrs.update({"ome": {"multiscales": [{"datasets": 5}]}}), "cannot be read: reading failed (TypeError"),
        (lambda path: zarr.open_group(path).attrs.update({"ome": {}}), "holds 1 images"),
    ],
)
def test_damaged_metadata_is_named(damage: Callable[[Path], Any], complaint: str, make_image: Callable[..., Image], tmp_path: Path) -> None:
    path = write(make_image(np.zeros((5, 6), np.uint8)), tmp_path / "a.ome.zarr")
    damage(path)
    if complaint == "holds 1 images":
        assert read(path, axes="yx").shape == (5, 6), "without metadata, the only array is the image"
        return
    with pytest.raises(InputError) as caught:
        read(path)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)


def test_labels_never_replace_an_image_and_nothing_replaces_other_folders(
    make_image: Callable[..., Image], make_segmentation: Callable[..., Segmentation], tmp_path: Path
) -> None:
    path = write(make_image(np.full((5, 6), 9, np.uint8)), tmp_path / "a.ome.zarr")
    with pytest.raises(OutputError, match=r"holds an image, which labels must not replace\. Write them into it with .*labels"):
        write(make_segmentation(), path, overwrite=True)
    assert read(path).data[2, 3] == 9
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr" / "thesis.txt").touch()
    with pytest.raises(OutputError, match="is there and is not a zarr store, so it is not replaced"):
        write(make_segmentation(), tmp_path / "b.zarr", overwrite=True)
    assert (tmp_path / "b.zarr" / "thesis.txt").exists()
    with pytest.raises(OutputError, match="lies inside another store"):
        write(make_segmentation(), path / "cells")
    with pytest.raises(OptionError, match=r"OME-Zarr version '0\.3' cannot be written\. Needed: '0\.4' or '0\.5'\."):
        write(make_segmentation(), tmp_path / "c.ome.zarr", version="0.3")


def test_many_segments_are_not_written_as_json(
    make_segmentation: Callable[..., Segmentation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngff, "MOST_PROPERTIES", 50)
    labels = np.arange(60 * 70, dtype=np.uint32).reshape(60, 70)
    path = write(make_segmentation(labels), tmp_path / "a.ome.zarr")
    assert set(metadata_of(path)["image-label"]) == set()
    assert len(read_segmentation(path).segments["id"]) == 60 * 70 - 1


def test_a_store_can_be_copied_onto_itself(make_image: Callable[..., Image], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (50, 60)).astype(np.uint8)
    path = write(make_image(pixels), tmp_path / "a.ome.zarr")
    write(read(path), path, overwrite=True)
    assert np.array_equal(np.asarray(read(path).data[...]), pixels)
