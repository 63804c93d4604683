"""Files in, files out: `read`, `read_segmentation`, `write`, `list_inputs`; the suffix names the module that does it.

Importing this is cheap: tifffile, zarr and Pillow are loaded when a file of their kind is met.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io.commit import check_free, replacing
from napari_segsuite.io.faults import writing
from napari_segsuite.io.geometry import sized
from napari_segsuite.io.inputs import (
    OURS,
    check_extra,
    check_written,
    list_folders,
    list_inputs,
    module_of,
    sidecars_of,
    source_of,
    takes_scene,
    writable,
)
from napari_segsuite.io.place import make_folder, place, remove
from napari_segsuite.io.readers import reader_of, slices_of
from napari_segsuite.io.scenes import Scene
from napari_segsuite.types import Image, Segmentation

__all__ = [
    "check_is_image", "holds_labels", "list_folders", "list_inputs", "list_scenes", "module_of", "read", "read_segmentation", "sidecars_of", "write",
    "write_result",
]  # fmt: skip


def read(
    path: str | PathLike[str], *, axes: str | None = None, scene: int | str | None = None, files: str | None = None,
    voxel_um: Sequence[float] = (),
) -> Image:  # fmt: skip
    """Read an image file, or a folder of files that are one image.

    Parameters
    ----------
    path : str or path
        TIFF, OME-TIFF, ImageJ TIFF, PNG, JPEG, NIfTI (with the extra ``medical``), NRRD, MetaImage, DICOM (with ``medical``: a folder, or any file
        of a series), CZI, LSM, LIF, OIB, OIF, MRC, ND2, Imaris, HDF5 (the last three with ``microscopes``), or an OME-Zarr or zarr folder, also one
        inside another or at a URL such as ``s3://bucket/a.ome.zarr`` (with the extra ``remote``).
    axes : str, optional
        What the stored axes are, one letter of ``tczyx`` each, where the file does not say or is wrong.
    scene : int or str, optional
        Number or name of the image in a file that holds several; of a folder of several DICOM series, the series UID.
    files : {'z', 't', 'c'}, optional
        `path` is a folder whose files (TIFF or pictures, in the order of their numbers) are the slices, time points or channels of one image.
    voxel_um : sequence of float
        The size of a voxel along the spatial axes in micrometres, where the file does not say or is wrong; one number for all axes alike.

    Returns
    -------
    Image
        Zarr stores, large TIFFs and files of microscope vendors stay on disk until they are indexed.

    Raises
    ------
    InputError
        The file is missing, damaged, of an unknown kind, holds several images, or does not say what its axes are.
    MissingExtra
        It is compressed in a way that needs an optional package.
    """
    path = place(path)
    found: Image = slices_of(path, files, scene).read(path, files, axes=axes) if files else reader_of(path).read(path, axes=axes, scene=scene)
    return sized(found, voxel_um) if voxel_um else found


def read_segmentation(
    path: str | PathLike[str], *, axes: str | None = None, scene: int | str | None = None, files: str | None = None
) -> Segmentation:  # fmt: skip
    """Read labels, with the table, classes and provenance that were written with them.

    Parameters
    ----------
    path : str or Path
        A file that `write` or `write_result` wrote, or any label image. Where a file holds no table, the ``_segments.csv`` and
        ``_run.json`` beside it are used, and failing that the table is computed from the labels.
    axes : str, optional
        As in `read`, for label images of others.
    scene : int or str, optional
        Number or name of one segment of a DICOM segmentation, of which several can lie on top of each other; of the image in a file of several.
    files : {'z', 't'}, optional
        As in `read`.

    Raises
    ------
    InputError
        The file is missing or damaged, or its pixels cannot be labels.
    """
    path = place(path)
    if files:
        return slices_of(path, files, scene).read_segmentation(path, files, axes)  # type: ignore[no-any-return]
    module = reader_of(path)
    if module.__name__.endswith("dicom"):
        return module.read_segmentation(path, axes=axes, scene=scene)  # type: ignore[no-any-return]
    from napari_segsuite.io import labels

    if scene is not None and takes_scene(path):
        return labels.read_segmentation(path, module, axes, scene=scene)
    if scene is not None:
        raise InputError(f"segments of {path} cannot be read one by one with scene={scene!r}", "a DICOM segmentation")
    if module.__name__.endswith("ome_zarr"):
        return module.read_segmentation(path, axes=axes)  # type: ignore[no-any-return]
    return labels.read_segmentation(path, module, axes)


def list_scenes(path: str | PathLike[str]) -> list[Scene]:
    """List the images in a file, store or folder of a kind that can hold several; only what describes them is read.

    Parameters
    ----------
    path : str or path
        As in `read`.

    Returns
    -------
    list of Scene
        With ``number``, ``name``, ``shape`` (as stored; empty where that takes a longer look) and ``wish``, which `read` takes as ``scene``;
        empty where the file is one image by its kind.

    Raises
    ------
    InputError, MissingExtra
        As in `read`.
    """
    path = place(path)
    module = reader_of(path)
    return list(module.scenes(path)) if hasattr(module, "scenes") else []


def holds_several(path: str | PathLike[str]) -> bool:
    """Whether a file or folder holds several images, of which one can be chosen."""
    path = place(path)
    return takes_scene(path) and len(list_scenes(path)) > 1


def holds_labels(path: str | PathLike[str]) -> bool:
    """Whether a file or store says of itself that it is labels."""
    path = place(path)
    return bool(reader_of(path).read_record(path).get("kind") == "segmentation")


def check_is_image(image: Image) -> tuple[str, ...]:
    """Refuse an image whose file says that it is labels: what was segmented already is no scan or micrograph.

    Parameters
    ----------
    image : Image
        As `read` gave it.

    Returns
    -------
    tuple of str
        What makes one doubt, for people, where a header of others hints at labels and does not have to mean it.

    Raises
    ------
    InputError
        It is a DICOM segmentation, a label image of OME-Zarr, or a result of ours.
    """
    path = place(image.source)
    if source_of(path) is None and path.is_dir():
        return ()  # slices, of which it was said that they are an image
    module = reader_of(path)
    record = module.read_record(path)
    if record.get("kind") == "segmentation":
        from napari_segsuite.io.volume import planned

        made_from = planned(record.get("provenance", {}))
        give = f"the image that they were made from, {made_from}" if made_from else "the image that they were made from"
        found = f"{path} holds labels, which are the result of a segmentation and not an image"
        raise InputError(found, give, "Labels are for `segsuite convert`, `evaluate`, `export`, `track` and for --labels of `train`.")
    hint = module.hints_at_labels(path) if hasattr(module, "hints_at_labels") else ""
    return (f"{path} may hold labels and no image: {hint}",) if hint else ()


def write(thing: Image | Segmentation, path: str | PathLike[str], *, overwrite: bool = False, version: str | None = None) -> Path:
    """Write an image or a segmentation to one file or store; it takes its name only when it is whole.

    Parameters
    ----------
    thing : Image or Segmentation
    path : str or path
        Also a URL. The suffix decides: ``.tif``, ``.ome.zarr``, ``.nii.gz``, ``.nrrd``, ``.mha``, or ``.png`` for what fits into one. For a
        segmentation also ``STORE.ome.zarr/labels/NAME``, inside the store of its image, and ``.dcm``, if it was made from a DICOM series.
    overwrite : bool
        Replace what is there; it is kept until the new one is whole.
    version : str, optional
        Of OME-Zarr: ``"0.5"`` (default) or ``"0.4"``.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    OutputError
        Unknown suffix, something is there already, no room, no right to write, columns of different lengths, or the format cannot hold it.
    """
    path = place(path)
    name = module_of(path)
    if name is None:
        raise OutputError(f"the suffix of {str(path)!r} is not a kind of file that can be written", f"a path ending in {writable()}")
    if name != "ome_zarr" and path.is_dir():
        raise OutputError(f"{str(path)!r} is a folder", "a file name")
    check_written(path)
    check_extra(path)
    if isinstance(thing, Segmentation):
        from napari_segsuite.io.table import check_table

        check_table(thing.segments)
    writer = importlib.import_module(f"napari_segsuite.io.{name}" if name == "raster" else f"napari_segsuite.io.{name}_write")
    options = {"version": version} if name == "ome_zarr" else {}
    (writer.write_image if isinstance(thing, Image) else writer.write_segmentation)(thing, path, overwrite=overwrite, **options)
    return path


def write_result(
    segmentation: Segmentation, folder: str | PathLike[str], stem: str, *, format: str = "tif", overwrite: bool = False
) -> dict[str, Path]:
    """Write a segmentation as three files: ``<stem>_labels.tif``, ``<stem>_segments.csv`` and ``<stem>_run.json``.

    Parameters
    ----------
    folder : str or Path
        Made if it is not there.
    stem : str
        Name of the image without its suffix.
    format : {'tif', 'ome-zarr', 'png'}
        Of the labels.
    overwrite : bool

    Returns
    -------
    dict
        ``labels``, ``segments`` and ``run``: their paths. The last is written last, so that where it is, all are.
    """
    suffix = {"tif": ".tif", "ome-zarr": ".ome.zarr", "png": ".png"}.get(format)
    if suffix is None:
        raise OutputError(f"format {format!r} is not known", "tif, ome-zarr or png")
    labels = place(folder) / f"{stem}{OURS}{suffix}"
    paths = {"labels": labels, **sidecars_of(labels)}
    with writing(labels):
        make_folder(labels.parent)
    for path in paths.values():
        check_free(path, overwrite=overwrite)
    with writing(paths["run"]):
        remove(paths["run"])
    write(segmentation, labels, overwrite=overwrite)
    return write_beside(segmentation, labels, overwrite=overwrite)


def write_beside(segmentation: Segmentation, labels: Path, *, overwrite: bool = False) -> dict[str, Path]:
    """Write the table and the record of a segmentation beside its labels, the record last; gives the paths of all three."""
    from napari_segsuite.io.table import write_table

    paths = sidecars_of(labels)
    write_table(segmentation.segments, paths["segments"], overwrite=overwrite)
    with replacing(paths["run"], overwrite=overwrite) as part:
        part.write_text(json.dumps(_run_json(segmentation), indent=2, ensure_ascii=False), encoding="utf-8")
    return {"labels": labels, **paths}


def _run_json(segmentation: Segmentation) -> Mapping[str, Any]:
    classes = [{"id": c.id, "name": c.name, "color": list(c.color), "countable": c.countable} for c in segmentation.classes]
    return {**segmentation.provenance, "classes": classes}
