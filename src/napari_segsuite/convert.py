"""``segsuite convert``: an image or labels from one format into another, and what the other cannot say."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.errors import OptionError, OutputError
from napari_segsuite.flags import add_reading, output, reading_of, where
from napari_segsuite.io import holds_labels, module_of, read, read_segmentation, write
from napari_segsuite.io.geometry import sized
from napari_segsuite.io.inputs import takes_scene
from napari_segsuite.io.nifti_grid import grid_told, is_plain
from napari_segsuite.io.place import canonical
from napari_segsuite.io.volume import stored_type
from napari_segsuite.terminal import say
from napari_segsuite.types import SPATIAL, Image, Segmentation

_NAMES = {
    "tiff": "TIFF", "ome_zarr": "OME-Zarr", "raster": "a picture file", "nifti": "NIfTI", "nrrd": "NRRD", "metaimage": "MetaImage",
    "dicom": "DICOM",
}  # fmt: skip
_WORLD = ("nifti", "nrrd", "metaimage", "dicom")


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
        What the new file does not say to other programs, as phrases.

    Raises
    ------
    InputError, OutputError, MissingExtra
        As in `io.read` and `io.write`; also where both are one file.
    """
    if canonical(source) == canonical(target):
        raise OutputError(f"{source} would be written over itself", "another path for the result")
    thing: Image | Segmentation
    if labels or (not files and holds_labels(source)):
        found = _labels(source, axes, scene, files, series)
        thing = sized(found, voxel_um) if voxel_um else found
    elif series is not None:
        raise OptionError(f"a series is for labels, and {source} is an image", "labels, or --labels where the file does not say that it holds some")
    else:
        thing = read(source, axes=axes, scene=scene, files=files, voxel_um=voxel_um)
    write(thing, target, overwrite=overwrite)
    return lost(thing, target)


def _labels(source: Path, axes: str | None, scene: int | str | None, files: str | None, series: Path | None) -> Segmentation:
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
    if kind == "metaimage" and len({u for a, u in zip(thing.axes, thing.units, strict=True) if a in SPATIAL} - {"millimeter"}):
        told.append("its unit: MetaImage has none, and other programs take its numbers as millimetres")
    return told


def add_convert(command: Any) -> None:
    """Add the arguments of the command."""
    command.add_argument("source", type=where, metavar="IN", help="a file, store or DICOM folder of any format that is read")
    command.add_argument(
        "target", type=output, metavar="OUT", help="a path ending in .ome.zarr, .tif, .png, .nii.gz, .nii, .nrrd, .mha, or .dcm for labels"
    )
    command.add_argument("--labels", action="store_true", help="the pixels are labels, where the file does not say so itself")
    add_reading(command)
    command.add_argument("--series", type=where, metavar="DICOM", help="folder or file of the DICOM series that labels belong to, and lie on")
    command.add_argument("--overwrite", action="store_true", help="replace what is there")
    command.set_defaults(command=_convert)


def _convert(args: argparse.Namespace) -> int:
    told = convert(args.source, args.target, labels=args.labels, series=args.series, overwrite=args.overwrite, **reading_of(args))
    say("\n".join([f"{args.source} -> {args.target}", *(f"  lost: {one}" for one in told)]))
    return 0
