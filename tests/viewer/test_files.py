"""Law 7 through napari: what the writers write, the readers give back as the same layers; and the readers leave others' files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer
from napari.layers._source import layer_source
from napari.utils.notifications import notification_manager
from npe2 import PluginManager, PluginManifest
from npe2.io_utils import read, write_get_writer

import napari_segsuite
from napari_segsuite import io
from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io.table import table_of
from napari_segsuite.types import Class, Image, Segmentation
from napari_segsuite.viewer import files
from napari_segsuite.viewer.layers import misread
from napari_segsuite.viewer.results import from_segmentation

CLASSES = (Class(1, "road", (80, 80, 80), countable=False), Class(2, "car", (200, 0, 0)))
NAME = "napari-segsuite"


@pytest.fixture(autouse=True)
def plugin(npe2pm: Any) -> Any:
    """npe2 with this plugin and no other."""
    manifest = PluginManifest.from_file(Path(napari_segsuite.__file__).with_name("napari.yaml"))
    npe2pm.register(manifest)
    return npe2pm


def labels_layer(shape: tuple[int, ...] = (3, 6, 7), axes: str = "zyx", seed: int = 0) -> Labels:
    labels = np.random.default_rng(seed).integers(0, 5, shape).astype(np.uint32)
    table = table_of(labels, axes, CLASSES)
    table["score"] = np.linspace(0.3, 0.9, len(table["id"]))
    units = tuple("second" if a == "t" else "micrometer" for a in axes)
    scale, start = (2.0, 1.5, 0.5, 0.25)[-len(axes) :], (3.0, 4.0, 5.0, 6.0)[-len(axes) :]
    provenance = {"plan": {"model": {"name": "test"}}}
    data, meta, _ = from_segmentation(Segmentation(labels, table, CLASSES, axes, scale, units, start, name="cells", provenance=provenance))
    return Labels(data, **meta)


def opened(path: Path) -> list[Layer]:
    """What napari makes of a file with our reader."""
    layers: list[Layer] = ViewerModel().open(path, plugin=NAME)
    return layers


def written(path: Path, *layers: Layer) -> list[str]:
    return write_get_writer(str(path), [layer.as_layer_data_tuple() for layer in layers], plugin_name=NAME)[0]


@pytest.mark.parametrize("suffix", [".ome.zarr", ".zarr", ".tif", ".tiff"])
@pytest.mark.parametrize("axes", ["yx", "zyx", "tzyx"])
def test_labels_come_back_with_place_table_classes_and_provenance(tmp_path: Path, suffix: str, axes: str) -> None:
    before = labels_layer((2, 3, 6, 7)[-len(axes) :], axes)
    assert written(tmp_path / f"cells{suffix}", before) == [str(tmp_path / f"cells{suffix}")]
    (after,) = opened(tmp_path / f"cells{suffix}")
    assert isinstance(after, Labels)
    assert np.array_equal(after.data, before.data)
    assert np.allclose(after.scale, before.scale)
    assert np.allclose(after.translate, before.translate)
    assert (after.units, after.axis_labels) == (before.units, before.axis_labels)
    assert after.features.equals(before.features)
    for key in ("classes", "provenance"):
        assert after.metadata["segsuite"][key] == before.metadata["segsuite"][key]
    assert np.allclose(after.get_color(1), before.get_color(1))
    assert after.editable


def test_a_rotated_layer_lies_where_it_lay(tmp_path: Path) -> None:
    before = labels_layer()
    before.rotate, before.affine = 20, np.array([[1, 0, 0, 5], [0, 1, 0.2, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    written(tmp_path / "cells.ome.zarr", before)
    (after,) = opened(tmp_path / "cells.ome.zarr")
    assert np.allclose(after.data_to_world((2, 3, 4)), before.data_to_world((2, 3, 4)))


@pytest.mark.parametrize("suffix", [".ome.zarr", ".tif", ".ome.tif"])
@pytest.mark.parametrize("kind", ["grey", "rgb", "pyramid", "time"])
def test_images_come_back(tmp_path: Path, suffix: str, kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 48, 3)).astype(np.uint8)
    meta: dict[str, Any] = {"scale": (1.5, 0.5, 0.25), "units": ("um",) * 3, "axis_labels": tuple("zyx")}
    data: Any = pixels[..., 0]
    if kind == "rgb":
        data, meta["rgb"] = pixels, True
    elif kind == "pyramid":
        data = [pixels[..., 0], pixels[:, ::2, ::2, 0]]
    elif kind == "time":
        meta |= {"units": ("s", "um", "um"), "axis_labels": tuple("tyx")}
    before = ImageLayer(data, name="cells", **meta)
    assert written(tmp_path / f"cells{suffix}", before) == [str(tmp_path / f"cells{suffix}")]
    (after,) = opened(tmp_path / f"cells{suffix}")
    assert isinstance(after, ImageLayer)
    finest = after.data[0] if after.multiscale else after.data
    assert np.array_equal(np.asarray(finest), pixels if kind == "rgb" else pixels[..., 0])
    assert np.allclose(after.scale, before.scale)
    assert (after.units, after.axis_labels, after.rgb) == (before.units, before.axis_labels, before.rgb)


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_channels_are_layers_with_names(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 3, 20, 30)).astype(np.uint16)
    place = ((1.0, 2.0, 0.5, 0.5), ("pixel", *("micrometer",) * 3), (0.0,) * 4)
    io.write(Image((pixels,), "czyx", *place, ("DAPI", "GFP"), name="cells"), tmp_path / f"cells{suffix}")
    first, second = opened(tmp_path / f"cells{suffix}")
    assert (first.name, second.name) == ("cells DAPI", "cells GFP")
    assert np.array_equal(np.asarray(second.data[0] if second.multiscale else second.data), pixels[1])
    assert second.scale.tolist() == [2.0, 0.5, 0.5]
    assert second.metadata["segsuite"]["channel"] == "GFP"


def test_an_image_and_its_labels_share_a_store(tmp_path: Path) -> None:
    image = ImageLayer(np.random.default_rng(0).random((3, 6, 7)), name="cells", scale=(1.5, 0.5, 0.25), units=("um",) * 3)
    labels = labels_layer()
    labels.name = "my cells/2"
    store = tmp_path / "both.ome.zarr"
    assert written(store, image, labels) == [str(store), str(store / "labels" / "my_cells_2")]
    seen, marked = opened(store)
    assert isinstance(seen, ImageLayer)
    assert isinstance(marked, Labels)
    assert np.array_equal(marked.data, labels.data)
    assert np.array_equal(np.asarray(seen.data[0] if seen.multiscale else seen.data), image.data)
    (alone,) = opened(store / "labels" / "my_cells_2")
    assert np.array_equal(alone.data, labels.data)


def test_painted_labels_are_saved_as_painted(tmp_path: Path) -> None:
    layer = labels_layer()
    written(tmp_path / "cells.ome.zarr", layer)
    (again,) = opened(tmp_path / "cells.ome.zarr")
    again.data_setitem((np.array([0]), np.array([0]), np.array([0])), 77)
    (untouched,) = opened(tmp_path / "cells.ome.zarr")
    assert untouched.data[0, 0, 0] != 77
    written(tmp_path / "painted.ome.zarr", again)
    (painted,) = opened(tmp_path / "painted.ome.zarr")
    assert painted.data[0, 0, 0] == 77
    assert 77 in painted.features["index"].tolist()


def test_large_labels_are_shown_from_disk_and_cannot_be_painted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "EDITABLE_BYTES", 1000)
    layer = labels_layer((1100, 1000), "yx")
    written(tmp_path / "cells.ome.zarr", layer)
    (shown,) = opened(tmp_path / "cells.ome.zarr")
    assert shown.multiscale
    assert not shown.editable
    assert np.array_equal(np.asarray(shown.data[0]), layer.data)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")  # napari does not turn its slices
def test_a_scan_lies_in_its_world_and_its_labels_go_back_on_the_same_grid(tmp_path: Path) -> None:
    affine = np.array([[0, 0, 4.0, -90], [-0.9, 0.1, 0, 126], [0.1, 0.9, 0, -72], [0, 0, 0, 1]])  # sagittal and oblique
    nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine).to_filename(tmp_path / "a.nii.gz")
    (layer,) = opened(tmp_path / "a.nii.gz")
    at = np.argwhere(layer.data == 33)[0]
    right, front, up = (affine @ [*np.unravel_index(33, (3, 4, 5)), 1])[:3]
    assert np.allclose(layer.data_to_world(at), (up, -front, -right), atol=1e-5)
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    labels = Labels(np.ones(layer.data.shape, np.uint8), affine=layer.affine, scale=layer.scale, units=layer.units, name="a")
    written(tmp_path / "b.nii.gz", labels)
    (back,) = opened(tmp_path / "b.nii.gz")
    assert isinstance(back, Labels)
    assert np.allclose(back.data_to_world(at), (up, -front, -right), atol=1e-5)


def test_a_dicom_series_opens_by_its_folder_and_its_labels_go_back_as_a_segmentation(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(notification_manager, "dispatch", lambda note: said.append(str(note.message)))
    folder = shared_data / "dicom_seg_dcmqi" / "ct-3slice"
    (layer,) = opened(folder)
    assert (layer.data.shape, layer.name, layer.units[0]) == ((3, 512, 512), "ct-3slice", "millimeter")
    assert layer.data_to_world((2, 0, 0)) == pytest.approx((-126.690002, -226.800003, -235.199997))
    (liver,) = opened(folder.parent / "liver.dcm")
    assert isinstance(liver, Labels)
    assert liver.data_to_world((0, 0, 0)) == pytest.approx(layer.data_to_world((0, 0, 0)))
    liver.data[0, 0, 0] = 1
    assert written(tmp_path / "liver.dcm", liver) == [str(tmp_path / "liver.dcm")]
    back = io.read_segmentation(tmp_path / "liver.dcm")
    assert (np.count_nonzero(back.labels), back.classes[0].name) == (107_099, "Liver")
    assert files.get_reader(str(tmp_path / "nothing")) is None
    assert said == []
    opened(folder.parent / "partial_overlaps.dcm")
    assert "partial_overlaps.dcm: segments overlap in 3134 voxels" in said[0]


def test_a_series_that_another_reader_has_shown_is_told(shared_data: Path) -> None:
    folder = shared_data / "dicom_seg_dcmqi" / "ct-3slice"
    for path, reader, told in (
        (folder, "napari", "Open Folder"),
        (folder / "01.dcm", "napari", "Plugin and Segsuite"),
        (folder, "napari-segsuite", ""),
    ):
        with layer_source(path=str(path), reader_plugin=reader):
            layer = ImageLayer(np.zeros((3, 4, 4)))
        assert told in misread(layer)
        assert bool(misread(layer)) == bool(told)
    assert misread(ImageLayer(np.zeros((4, 4)))) == ""


def test_a_store_is_not_overwritten(tmp_path: Path) -> None:
    written(tmp_path / "cells.ome.zarr", labels_layer(seed=1))
    with pytest.raises(OutputError, match="exists already"):
        written(tmp_path / "cells.ome.zarr", labels_layer(seed=2))
    (kept,) = opened(tmp_path / "cells.ome.zarr")
    assert np.array_equal(kept.data, labels_layer(seed=1).data)


def test_a_name_without_suffix_gets_one(tmp_path: Path) -> None:
    layer = labels_layer()
    assert files.write_labels(str(tmp_path / "cells"), *layer.as_layer_data_tuple()[:2]) == [str(tmp_path / "cells.tif")]


@pytest.mark.parametrize("name", ["notes.txt", "cells.oir", "scan.vsi", "table.csv", "folder", "cells.npy"])
def test_other_files_are_left_to_others(tmp_path: Path, plugin: PluginManager, name: str) -> None:
    path = tmp_path / name
    path.mkdir() if name == "folder" else path.touch()
    assert all(reader.exec(kwargs={"path": [str(path)], "stack": False}) is None for reader in plugin.iter_compatible_readers([str(path)]))


def test_a_stack_of_files_is_left_to_others(tmp_path: Path) -> None:
    assert files.get_reader([str(tmp_path / "a.tif"), str(tmp_path / "b.tif")]) is None


def test_axes_that_a_file_does_not_say_are_shown_as_a_stack_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(notification_manager, "dispatch", lambda note: said.append(f"{note.severity}: {note.message}"))
    tifffile.imwrite(tmp_path / "three.tif", np.zeros((3, 20, 30), np.uint8), photometric="minisblack", metadata=None)
    (layer,) = opened(tmp_path / "three.tif")
    assert layer.data.shape == (3, 20, 30)
    assert "three.tif does not say what its axes are (shape (3, 20, 30)). It is shown as zyx" in said[0]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "torn.tif").write_bytes(b"II*\0torn")
    with pytest.raises(InputError, match=r"torn\.tif"):
        files.read_layers(str(tmp_path / "torn.tif"))


def test_real_files_open(shared_data: Path) -> None:
    (stack,) = opened(shared_data / "io_samples" / "maize_clsm.tif")
    assert isinstance(stack, ImageLayer)
    image, *labels = opened(shared_data / "ngff" / "cardiomyocyte_B03_mip_v04.ome.zarr")
    assert isinstance(image, ImageLayer)
    assert labels


def test_npe2_reads_what_npe2_writes(tmp_path: Path, plugin: Any) -> None:
    written(tmp_path / "cells.tif", labels_layer())
    (layer,) = read([str(tmp_path / "cells.tif")], stack=False, plugin_name=NAME)
    assert layer[-1] == "labels"


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_labels_of_few_bits_have_room_for_more_numbers(kind: type[np.generic], tmp_path: Path) -> None:
    """In 8 bits the number after 255 would be 0."""
    labels = np.zeros((20, 20), kind)
    labels[2:5, 2:5] = np.iinfo(kind).max
    path = files.write_labels(str(tmp_path / "a.tif"), labels, {"name": "a"})[0]
    ((data, _, _),) = files.read_layers(path)
    data[10:12, 10:12] = int(np.iinfo(kind).max) + 1
    again = files.write_labels(str(tmp_path / "b.tif"), data, {"name": "b"})[0]
    assert sorted(np.unique(np.asarray(io.read_segmentation(again).labels)).tolist()) == [0, np.iinfo(kind).max, int(np.iinfo(kind).max) + 1]


# Several images in one file -----------------------------------------------------------------------------------------------------------


def test_all_images_of_a_file_are_layers_the_first_of_them_visible(tmp_path: Path) -> None:
    path, pixels = tmp_path / "two.ome.tif", [np.full((20 + k, 30), 7 + k, np.uint16) for k in range(2)]
    with tifffile.TiffWriter(path, ome=True) as tif:
        for k, array in enumerate(pixels):
            tif.write(array, metadata={"axes": "YX", "Name": ("left", "right")[k], "PhysicalSizeX": k + 1.0, "PhysicalSizeXUnit": "µm"})
    layers = opened(path)
    assert [(layer.name, layer.visible) for layer in layers] == [("two left", True), ("two right", False)]
    assert [float(layer.scale[-1]) for layer in layers] == [1.0, 2.0]
    for layer, array in zip(layers, pixels, strict=True):
        np.testing.assert_array_equal(np.asarray(layer.data), array)


def test_of_a_file_with_very_many_images_is_told_how_to_take_them(tmp_path: Path) -> None:
    with tifffile.TiffWriter(path := tmp_path / "many.ome.tif", ome=True) as tif:
        for k in range(files.MOST_SCENES + 1):
            tif.write(np.zeros((4, 5 + k), np.uint8), metadata={"axes": "YX"})
    with pytest.raises(InputError, match=r"holds 21 images.*segsuite convert many\.ome\.tif FOLDER --scene all"):
        opened(path)
