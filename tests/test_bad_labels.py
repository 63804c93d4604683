"""Labels that are none, or that do not lie where they should: named, and never taken for objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from napari_segsuite import evaluate, read_segmentation, write
from napari_segsuite.errors import InputError
from napari_segsuite.io.table import table_of
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Class

Array = NDArray[Any]
Segsuite = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def objects(dtype: Any = np.uint16) -> Array:
    return nuclei((64, 80), "yx", seed=1)[1].astype(dtype)


# Greys and colours


def mask(size: tuple[int, int], how: Any, suffix: str, **more: Any) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        picture = PIL.Image.fromarray((objects() > 0).astype(np.uint8) * 255)
        picture.resize(size, how).save(path, **more)

    save.suffix = suffix  # type: ignore[attr-defined]
    return save


LANCZOS, LINEAR, NEAREST = PIL.Image.Resampling.LANCZOS, PIL.Image.Resampling.BILINEAR, PIL.Image.Resampling.NEAREST


def blurred(sigma: float) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        PIL.Image.fromarray(ndimage.gaussian_filter((objects() > 0).astype(np.uint8) * 255, sigma)).save(path)

    save.suffix = ".png"  # type: ignore[attr-defined]
    return save


SOFT = {
    "smoothed a little": blurred(1.0),
    "smoothed until no pixel is 255": blurred(2.0),
    "a small JPEG": mask((80, 64), NEAREST, ".jpg", quality=70),
    "enlarged": mask((240, 192), LINEAR, ".png"),
    "made smaller": mask((60, 48), LANCZOS, ".png"),
    "JPEG": mask((240, 192), NEAREST, ".jpg", quality=80),
    "in a TIFF": mask((240, 192), LINEAR, ".tif"),
}


@pytest.mark.parametrize("name", SOFT)
def test_the_greys_of_a_mask_with_soft_edges_are_no_objects(name: str, folder: Path, segsuite: Segsuite) -> None:
    path = Path(f"mask{SOFT[name].suffix}")  # type: ignore[attr-defined]
    SOFT[name](path)
    told = segsuite("evaluate", path, path)
    assert (told.code, told.out) == (1, "")
    assert f"labels in {path} look like a mask with soft edges: " in told.err
    assert "that run into each other. Needed: one number per object, with sharp edges." in told.err


def thin() -> Array:
    """A cell with thin processes of others around it."""
    labels = np.zeros((100, 100), np.uint8)
    labels[40:60, 40:60] = 30
    for k in range(1, 10):
        labels[10 * k, :38] = k
    return labels


def inside() -> Array:
    """Small objects within a large one."""
    labels = np.zeros((100, 100), np.uint8)
    labels[5:95, 5:95] = 255
    for k in range(1, 9):
        labels[10 * k : 10 * k + 3, 40:43] = k
    return labels


def dots() -> Array:
    """Objects of one pixel, some of which touch."""
    labels = np.zeros((60, 60), np.uint8)
    labels[::3, ::3] = np.arange(400).reshape(20, 20) % 250 + 1
    labels[1, ::3] = 9
    return labels


@pytest.mark.parametrize("labels", [dots(), objects(np.uint8), (objects() > 0).astype(np.uint8) * 255, thin(), inside(), np.zeros((9, 9), np.uint8)])
def test_small_thin_and_nested_objects_are_no_soft_edges(labels: Array, folder: Path) -> None:
    PIL.Image.fromarray(labels).save("l.png")
    assert np.array_equal(np.asarray(read_segmentation("l.png").labels), labels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_no_numbers_of_objects(mode: str, folder: Path, segsuite: Segsuite) -> None:
    PIL.Image.fromarray(objects(np.uint8)).convert(mode).save("l.png")
    told = segsuite("evaluate", "l.png", "l.png")
    assert told.code == 1
    assert "File l.png has several channels or colours" in told.err
    assert "Needed: one number per pixel for labels." in told.err


# Numbers


@pytest.mark.parametrize(
    "command",
    [
        "evaluate l.tif neg.tif",
        "evaluate neg.tif l.tif",
        "convert neg.tif new.png --labels",
        "track neg.tif --out new.tif",
        "export neg.tif --format geojson --out new.geojson",
    ],
)
def test_ids_below_0_are_named_with_their_file_and_place(command: str, folder: Path, segsuite: Segsuite) -> None:
    labels = objects(np.int16)
    labels[:, 70:] = -1
    tifffile.imwrite("neg.tif", labels)
    tifffile.imwrite("l.tif", objects())
    told = segsuite(*command.split())
    assert (told.code, told.out) == (1, "")
    assert told.err == (
        "segsuite: The labels in neg.tif hold a negative id (-1 at (0, 70)). Needed: ids from 0 (background) on. Replace it by 0 if it means "
        "'not labelled'; of a truth, segsuite evaluate leaves such voxels out with --ignore-label -1.\n"
    )
    assert sorted(p.name for p in folder.iterdir()) == ["l.tif", "neg.tif"]


def test_ids_below_0_never_get_a_row_in_a_table() -> None:
    labels = objects(np.int32)
    labels[3:5, 70:] = -7
    with pytest.raises(InputError, match=r"The labels hold a negative id \(-7 at \(3, 70\)\)"):
        table_of(labels, "yx", [Class(1, "cell")])


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr", ".nrrd", ".nii.gz"])
@pytest.mark.parametrize("top", [65536, 2**31, 2**53 + 1, 2**64 - 1])
def test_the_largest_ids_come_back_as_they_are(top: int, suffix: str, folder: Path) -> None:
    labels = objects(np.uint64)
    labels[labels == 1] = top
    tifffile.imwrite("l.tif", labels)
    found = read_segmentation("l.tif")
    back = read_segmentation(write(found, f"new{suffix}"))
    np.testing.assert_array_equal(np.asarray(back.labels), labels)
    assert (back.segments["id"].tolist()[-1], str(back.labels.dtype)) == (top, "uint32" if top < 2**32 else "uint64")
    assert evaluate(back, found).ap[0.95] == 1


# Places


def placed(path: str, labels: Array, um: float) -> None:
    tifffile.imwrite(path, labels, resolution=(1e4 / um, 1e4 / um), resolutionunit="CENTIMETER")


def test_voxels_of_other_sizes_do_not_belong_together(folder: Path, segsuite: Segsuite) -> None:
    placed("half.tif", objects(), 0.5)
    placed("large.tif", objects(), 1.5)
    placed("near.tif", objects(), 0.505)
    tifffile.imwrite("unknown.tif", objects())
    for other in ("near.tif", "unknown.tif"):
        assert segsuite("evaluate", "half.tif", other).code == 0
    told = segsuite("evaluate", "half.tif", "large.tif")
    assert told.code == 1
    assert "'half.tif': the voxels of the prediction and of the truth differ: 0.5 x 0.5 micrometer and 1.5 x 1.5 micrometer." in told.err
    assert segsuite("convert", "large.tif", "mended.tif", "--labels", "--voxel-um", "0.5").code == 0  # as it says
    assert segsuite("evaluate", "half.tif", "mended.tif").code == 0
    placed("image.tif", nuclei((64, 80), "yx", seed=1)[0].astype(np.uint16), 0.5)
    told = segsuite("train", "--images", "image.tif", "--labels", "large.tif", "--out", "model", "--steps", "1")
    assert told.code == 1
    assert "The voxels of labels large.tif and of their image image.tif differ: 1.5 x 1.5 micrometer and 0.5 x 0.5 micrometer." in told.err
    assert not Path("model").exists()


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (np.s_[::2, ::2], "Needed: the same shape. One looks like a level of the pyramid of the other, 2 x 2 times smaller."),
        (np.s_[:-1], "Needed: the same shape. They differ by one, as rounded levels of a pyramid do."),
        (np.s_[:50, :30], "Needed: the same shape."),
    ],
)
def test_shapes_that_differ_are_told_with_what_may_be_the_reason(part: Any, told: str, folder: Path, segsuite: Segsuite) -> None:
    tifffile.imwrite("l.tif", objects())
    tifffile.imwrite("other.tif", objects()[part])
    tifffile.imwrite("image.tif", nuclei((64, 80), "yx", seed=1)[0])
    shape = objects()[part].shape
    answer = segsuite("evaluate", "l.tif", "other.tif")
    assert (answer.code, answer.err) == (1, f"segsuite: 'l.tif': the prediction has shape (64, 80) and the truth {shape}. {told}\n")
    answer = segsuite("train", "--images", "image.tif", "--labels", "other.tif", "--out", "model", "--steps", "1")
    assert answer.code == 1
    assert f"have shape {shape}, and their image image.tif has (64, 80) (axes yx). {told} Check that they belong together" in answer.err
