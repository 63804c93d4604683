"""Reading DICOM: a series in a folder or by any of its files, multi-frame files, pictures and films; segmentations as labels.

Only headers are read at first, and frames when they are asked for. Who the patient is stays in the files.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from napari_segsuite.errors import InputError
from napari_segsuite.io import dicom_peek, dicom_seg
from napari_segsuite.io.bulk import Block
from napari_segsuite.io.dicom_headers import kind_of
from napari_segsuite.io.dicom_pixels import Volume, check, is_coloured, open_volume
from napari_segsuite.io.dicom_stack import Series, Stack, check_none_apart, images_in, stacked
from napari_segsuite.io.faults import check_is_there
from napari_segsuite.io.geometry import order_of, stem_of
from napari_segsuite.io.lazy import View
from napari_segsuite.io.scenes import Scene, Several, find, how_to_choose
from napari_segsuite.io.volume import Stored, lettered
from napari_segsuite.types import Image, Segmentation

Wish = int | str | None


def read(path: Path, *, axes: str | None = None, scene: Wish = None) -> Image:
    """Read a DICOM series, film or picture as an `Image`; see `napari_segsuite.io.read`.

    Of a segmentation, its labels; with `scene`, the number or name of a segment, only that.
    """
    if path.is_file() and dicom_peek.is_segmentation(path):
        return dicom_seg.image_of(dicom_seg.read(path, scene=scene), path)
    series = series_of(path, scene)
    if scene is None:
        check_none_apart(_with(series), path if path.is_dir() else path.parent)
    return _image(series, stacked(series, path), path, axes)


def read_segmentation(path: Path, *, axes: str | None = None, scene: Wish = None) -> Segmentation:
    """Read a DICOM segmentation; see `napari_segsuite.io.read_segmentation`."""
    if path.is_file() and dicom_peek.is_segmentation(path):
        return dicom_seg.read(path, scene=scene)
    if path.is_dir():
        raise InputError(f"folder {path} holds an image, and no labels", "a DICOM segmentation, which is one file")
    from napari_segsuite.io import labels

    return labels.read_segmentation(path, _Plain, axes)


def scenes(path: Path) -> list[Scene]:
    """The images in a folder, or the segments of a segmentation, which can lie on top of each other."""
    if path.is_file() and dicom_peek.is_segmentation(path):
        return dicom_seg.scenes(path)
    return _scenes(images_in(dicom_peek.files_in(path))) if path.is_dir() else []


def _scenes(images: list[Series]) -> list[Scene]:
    shapes = [(len(one.frames), one.frames[0].file.rows, one.frames[0].file.columns) for one in images]
    names = [one.frames[0].file.description for one in images]
    return [Scene(k, name, shape, one.key) for k, (name, shape, one) in enumerate(zip(names, shapes, images, strict=True))]


def read_record(path: Path) -> dict[str, Any]:
    """What kind of thing a file is."""
    return {"kind": "segmentation"} if path.is_file() and dicom_peek.is_segmentation(path) else {}


class _Plain:
    """A DICOM image whose values are labels."""

    read_labels = staticmethod(read)
    read_record = staticmethod(read_record)


def whole(path: Path) -> Path:
    """One path for all files of a series: its folder if there is no other image in that, else the first of its files.

    What cannot be read is returned as it is.
    """
    try:
        if dicom_peek.is_segmentation(path):
            return path
        images = images_in(dicom_peek.files_in(path.parent))
    except InputError:
        return path
    mine = next((one for one in images if path in one.files), None)
    if mine is None or len(mine.files) == 1:
        return path
    return path.parent if len(images) == 1 else min(mine.files)


def series_of(path: Path, scene: Wish = None) -> Series:
    """The one image that a path and a choice mean.

    Parameters
    ----------
    path : Path
        A folder, or any file of a series.
    scene : int or str, optional
        Series UID, number or description, where the folder holds several.

    Raises
    ------
    InputError
        There is none, or there are several; they are listed.
    """
    if path.is_file():
        return _series_of_file(path, scene)
    files = dicom_peek.files_in(path)
    images = images_in(files)
    if not images:
        raise _no_image(files, path)
    if scene is None and len(images) == 1:
        return images[0]
    told = _listed(images)
    if scene is None:
        if len({one.frames[0].file.series for one in images}) == 1:
            check_none_apart(images, path)
        found = f"folder {path} holds {len(images)} DICOM images ({told})"
        raise Several(found, "one of them", f"{how_to_choose(images[0].key)} Or give one file of it.")
    chosen = find(_scenes(images), scene)
    if chosen is None:
        raise InputError(f"folder {path} has no image {scene!r}", f"one of {told}")
    return images[chosen.number]


def files_of(path: Path, scene: Wish = None) -> list[Path]:
    """The files of the image that is meant."""
    return [path] if path.is_file() and dicom_peek.is_segmentation(path) else series_of(path, scene).files


def on_series(found: Segmentation, path: Path) -> Segmentation:
    """Lay labels on the grid of a series: background where only that reaches, the same voxels in its order.

    Raises
    ------
    InputError
        Their voxels are none of the series, or lie outside of it.
    """
    check_is_there(path)
    stack = stacked(series_of(path), path)
    first = stack.frames[0][0].file
    return dicom_seg.on_grid(found, stack.grid, (first.columns, first.rows, len(stack.frames[0])), path)


def volume_of(stack: Stack) -> Volume:
    """The pixels of a stack, still in their files."""
    first = stack.frames[0][0].file
    colours = 3 if is_coloured(first) else 0
    kinds = "c" * bool(colours) + ("sss" if stack.placed else "ss") + "t" * (len(stack.frames) > 1)
    return Volume(stack.frames, kinds, colours)


def _series_of_file(path: Path, scene: Wish) -> Series:
    if dicom_peek.class_of(path) == dicom_peek.DIRECTORY:
        raise InputError(f"file {path} is a DICOMDIR, a list of the files on a medium", "an image", f"Read the folder {path.parent} instead.")
    if not images_in([path]):
        raise _no_image([path], path)
    # The files beside it are looked at even if the name of this one is no usual one.
    files = list(dict.fromkeys([path, *dicom_peek.files_in(path.parent)]))
    images = [one for one in images_in(files) if path in one.files]
    chosen = [one for k, one in enumerate(images) if scene is None or str(scene) in (str(k), one.key)]
    if len(chosen) != 1:
        choose = f"Choose with scene={images[0].key!r} (--scene {images[0].key})."
        raise InputError(f"file {path} belongs to {len(images)} images ({_listed(images)})", "one of them", choose)
    return chosen[0]


def _image(series: Series, stack: Stack, path: Path, axes: str | None) -> Image:
    volume = volume_of(stack)
    first = stack.frames[0][0]
    check(first)
    if not stack.placed and len(stack.frames) > 1 and first.file.frame_time is None and axes is None:
        found = f"file {first.file.path} has {len(stack.frames)} frames, and does not say whether they are slices or moments"
        raise InputError(found, "what its axes are", "Say so with --axes xyt (moments) or --axes xyz (slices).")
    stored = Stored(Block(first.file.path, 0, volume.shape, volume.dtype), volume.kinds, stack.grid, rgb=bool(volume.colours))
    letters, place = lettered(stored, path, axes)
    _, order = order_of(letters, place["axes"])
    data = View(partial(open_volume, volume), volume.shape, volume.dtype, order, path)
    colours = ("red", "green", "blue") if volume.colours else ()
    return Image(levels=(data,), channels=colours, rgb=bool(colours), name=stem_of(path), source=str(_source(series, path)), **place)


def _with(series: Series) -> list[Series]:
    """A series, and the other images of the same UID that lie beside it."""
    first = series.frames[0].file
    beside = images_in(list(dict.fromkeys([*series.files, *dicom_peek.files_in(first.path.parent)])))
    return [one for one in beside if one.frames[0].file.series == first.series]


def _source(series: Series, path: Path) -> Path:
    """What finds the same image again: the path that was given, or a file of what was chosen."""
    return path if path.is_file() or len(images_in(dicom_peek.files_in(path))) == 1 else min(series.files)


def _listed(images: list[Series]) -> str:
    return "; ".join(f"{k}: {one}" for k, one in enumerate(images[:12])) + ("; ..." if len(images) > 12 else "")


def _no_image(files: list[Path], path: Path) -> InputError:
    """What to say of DICOM files without images."""
    what = "file" if path.is_file() else "folder"
    if not files:
        return InputError(f"{what} {path} holds no DICOM file", "a DICOM series")
    segmentations = [file.name for file in files if dicom_peek.is_segmentation(file)]
    if segmentations:
        return InputError(f"folder {path} holds segmentations ({', '.join(segmentations[:4])}) and no image", "one of these files, or an image")
    kinds = sorted({kind_of(file) for file in files[:50]})
    return InputError(f"{what} {path} holds no image, but {', '.join(kinds)}", "DICOM files with pixels")
