"""``segsuite convert``: an image or labels from one format into another, and what the other cannot say."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.engine.lock import alone
from napari_segsuite.errors import OptionError, OutputError, SegsuiteError
from napari_segsuite.flags import add_reading, in_flags, output, reading_of, where
from napari_segsuite.io import holds_labels, module_of, read, read_segmentation, write
from napari_segsuite.io.commit import check_free
from napari_segsuite.io.faults import writing
from napari_segsuite.io.geometry import kept, sized
from napari_segsuite.io.inputs import source_of, takes_scene
from napari_segsuite.io.nifti_grid import grid_told, is_plain
from napari_segsuite.io.place import canonical, make_folder
from napari_segsuite.io.scenes import ALL
from napari_segsuite.io.volume import stored_type
from napari_segsuite.sizes import um_in
from napari_segsuite.sources import Source, sources_in
from napari_segsuite.terminal import complain, say
from napari_segsuite.types import SPATIAL, Image, Segmentation

_NAMES = {
    "tiff": "TIFF", "ome_zarr": "OME-Zarr", "raster": "a picture file", "nifti": "NIfTI", "nrrd": "NRRD", "metaimage": "MetaImage",
    "dicom": "DICOM",
}  # fmt: skip
_WORLD = ("nifti", "nrrd", "metaimage", "dicom")
_FORMATS = ("tif", "ome-zarr", "nii.gz", "nii", "nrrd", "mha", "png")


def convert(
    source: Path, target: Path, *, labels: bool = False, axes: str | None = None, scene: int | str | None = None, files: str | None = None,
    voxel_um: Sequence[float] = (), series: Path | None = None, overwrite: bool = False,
) -> list[str]:  # fmt: skip
    """Write what is in one file to another of another format.

    Parameters
    ----------
    source, target : Path
    labels : bool
        Take the pixels as labels where the file does not say that they are.
    axes, scene, files, voxel_um
        As in `io.read`.
    series : Path, optional
        DICOM series that labels belong to: they are laid on its grid, and a DICOM segmentation refers to it.
    overwrite : bool

    Returns
    -------
    list of str
        What the new file does not say to other programs (``lost: ...``), and what else is to be known (``note: ...``).

    Raises
    ------
    InputError, OutputError, MissingExtra
        As in `io.read` and `io.write`; also where both are one file.
    """
    if canonical(source) == canonical(target):
        raise OutputError(f"{source} would be written over itself", "another path for the result")
    if target.suffix.lower() == ".zarr" or not target.is_dir():  # which writing has other words for
        check_free(target, overwrite=overwrite)
    with alone(target):
        thing = _read(source, labels, axes, scene, files, voxel_um, series)
        write(thing, target, overwrite=overwrite)
        notes = [kept(thing)] if voxel_um and thing.affine is not None else []
        return [f"note: {one}" for one in notes] + [f"lost: {one}" for one in lost(thing, target)]


def _read(
    source: Path, labels: bool, axes: str | None, scene: int | str | None, files: str | None, voxel_um: Sequence[float], series: Path | None
) -> Image | Segmentation:
    """What is to be written."""
    thing: Image | Segmentation
    if labels or (not files and holds_labels(source)):
        found = _labels(source, axes, scene, files, series)
        thing = sized(found, voxel_um) if voxel_um else found
    elif series is not None:
        raise OptionError(f"a series is for labels, and {source} is an image", "labels, or --labels where the file does not say that it holds some")
    else:
        thing = read(source, axes=axes, scene=scene, files=files, voxel_um=voxel_um)
    return thing


def convert_all(source: Path, target: Path, suffix: str = "", *, scene: int | str | None = None, **wishes: Any) -> Iterator[tuple[str, Path, Any]]:
    """Write one or all of the images in a file.

    Parameters
    ----------
    source : Path
    target : Path
        A file, or with `suffix` a folder, which is made if it is not there.
    suffix : str
        Of files in a folder: ``tif``, ``ome-zarr``, ...
    scene : int or str, optional
        One of several images, or `io.scenes.ALL`.
    **wishes
        Of `convert`.

    Yields
    ------
    what, where, told
        The image, its file, and what that does not say; or the error why there is none.

    Raises
    ------
    OptionError
        There are several images and one output.
    """
    found = [Source(source, scene)] if wishes.get("files") else sources_in(source, scene, labels=True)
    if not suffix and len(found) > 1:
        raise OptionError(f"there are {len(found)} images in {source} and one output, {target}", "a folder as OUT, and its files with --format")
    for one in found:
        to = target / f"{one.name}.{suffix.replace('-', '.')}" if suffix else target
        try:
            if suffix:
                with writing(to):
                    make_folder(target)
            yield str(one), to, convert(one.path, to, scene=one.scene, **wishes)
        except SegsuiteError as error:
            if len(found) == 1:
                raise
            yield str(one), to, error


def _labels(source: Path, axes: str | None, scene: int | str | None, files: str | None, series: Path | None) -> Segmentation:
    if scene is not None and not files and source_of(source) == "ome_zarr":
        source, scene = source / str(scene), None
    found = read_segmentation(source, axes=axes, scene=scene if files or takes_scene(source) else None, files=files)
    # So that a format with a geometry of its own can be given that of the file, bit for bit.
    told = {**found.provenance, "converted_from": str(source)}
    if series is None:
        return replace(found, provenance=told)
    from napari_segsuite.io.dicom import on_series

    return on_series(replace(found, provenance={**told, "series": str(series)}), series)


def lost(thing: Image | Segmentation, target: Path) -> list[str]:
    """What a format cannot say of an image or of labels, as phrases; our record in the file keeps the place all the same."""
    kind = str(module_of(target))
    name, told = _NAMES[kind], []
    if thing.affine is not None and kind not in _WORLD:
        told.append(f"its orientation: {name} has no affine, so that only napari-segsuite finds it again, and other programs show the stored planes")
    elif kind == "tiff" and any(thing.translate):
        told.append(f"its position in the world, which {name} has no word for; napari-segsuite finds it again")
    if kind == "raster" and target.suffix.lower() in (".jpg", ".jpeg", ".webp"):
        told.append(f"the exact values of its pixels, since {target.suffix} packs them with a loss; .png and .tif do not")
    if kind == "raster" and any(unit != "pixel" for unit in thing.units):
        told.append(f"its sample sizes, which {name} has no words for; napari-segsuite finds them again")
    if kind not in ("nifti", "dicom") and (header := grid_told(thing)) is not None and not is_plain(header):
        told.append(f"its sform and qform with their codes, and its unit, as NIfTI has them; napari-segsuite writes them again from {name}")
    if isinstance(thing, Segmentation):
        before = thing.provenance.get("dicom", {})
        return told + list(before.get("lost", ()) if before.get("source") == thing.provenance.get("converted_from") else ())
    if kind != "ome_zarr" and len(thing.levels) > 1:
        told.append(f"its {len(thing.levels) - 1} smaller levels; the finest is kept")
    before = np.dtype(thing.data.dtype).newbyteorder("=")
    if kind in _WORLD and before != (after := stored_type(thing)):
        told.append(f"its type {before}, which {name} does not have; it is {after} now, with the same values")
    if kind == "metaimage" and not all(um_in(u) for a, u in zip(thing.axes, thing.units, strict=True) if a in SPATIAL):
        told.append("that the size of its voxels is not known: MetaImage has no word for it, and other programs take its numbers as millimetres")
    return told


def add_convert(command: Any) -> None:
    """Add the arguments of the command."""
    command.add_argument("source", type=where, metavar="IN", help="a file, store or DICOM folder of any format that is read")
    told = "a path ending in .ome.zarr, .tif, .png, .nii.gz, .nii, .nrrd, .mha, or .dcm for labels; with --scene all or --format a folder"
    command.add_argument("target", type=output, metavar="OUT", help=told)
    command.add_argument("--format", choices=_FORMATS, help="OUT is a folder; of the files in it [tif]")
    command.add_argument("--labels", action="store_true", help="the pixels are labels, where the file does not say so itself")
    add_reading(command)
    command.add_argument("--series", type=where, metavar="DICOM", help="folder or file of the DICOM series that labels belong to, and lie on")
    command.add_argument("--overwrite", action="store_true", help="replace what is there")
    command.set_defaults(command=_convert)


def _convert(args: argparse.Namespace) -> int:
    is_file = module_of(args.target) is not None
    if is_file and args.format:
        raise OptionError(f"--format {args.format} is for a folder, and OUT, {args.target}, is one file", "a folder as OUT, or no --format")
    suffix = "" if is_file else args.format or ("tif" if args.scene == ALL or args.target.is_dir() else "")
    wishes = {"labels": args.labels, "series": args.series, "overwrite": args.overwrite, **reading_of(args)}
    failures = []
    for what, to, told in convert_all(args.source, args.target, suffix, **wishes):
        if isinstance(told, SegsuiteError):
            failures.append(f"  {what}: {in_flags(str(told))}")
            say(f"{what}: failed")
        else:
            say("\n".join([f"{what} -> {to}", *(f"  {in_flags(one)}" for one in told)]))
    if failures:
        complain(f"{len(failures)} failed:\n" + "\n".join(failures))
    return 1 if failures else 0
