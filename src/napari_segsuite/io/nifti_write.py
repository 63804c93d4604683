"""Writing NIfTI: on the grid of the file that the image or the labels come from, with its sform and qform bit for bit, where that is known."""

from __future__ import annotations

import base64
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.errors import MissingExtra, OutputError, SegsuiteError
from napari_segsuite.io import nifti
from napari_segsuite.io.bulk import gzipped, pour
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.nifti_grid import FIELDS, grid_told, header_from
from napari_segsuite.io.record import image_record, pack, segmentation_record
from napari_segsuite.io.volume import MARK, data_of, sizes_of, stored_type
from napari_segsuite.io.world import MIRRORED, XYZ, agree, grid_of, names_of
from napari_segsuite.types import Image, Segmentation

_SCANNER = 1
_LONGEST = 32767


def write_image(image: Image, path: Path, *, overwrite: bool) -> None:
    """Write the finest level of an image."""
    _write(image, image_record(image), path, overwrite=overwrite)


def write_segmentation(segmentation: Segmentation, path: Path, *, overwrite: bool) -> None:
    """Write labels in the smallest type that holds them, with everything else in a header extension."""
    _write(segmentation, segmentation_record(segmentation), path, overwrite=overwrite)


def _write(thing: Image | Segmentation, record: dict[str, Any], path: Path, *, overwrite: bool) -> None:
    try:
        from nibabel.nifti1 import Nifti1Extension
    except ImportError as error:
        raise MissingExtra(f"writing NIfTI ({path.name})", "medical") from error
    if path.suffix.lower() == ".hdr":
        raise OutputError(f"{path} would be two files, a header and its samples", "a path ending in .nii or .nii.gz")
    header, spatial = _header(thing)
    note = MARK + base64.b64encode(pack(record))
    header.extensions.append(Nifti1Extension("comment", note))
    stored = spatial + "".join(a for a in "tc" if a in thing.axes)
    wrapped: Any = gzipped if path.suffix.lower() == ".gz" else nullcontext
    with replacing(path, overwrite=overwrite) as part, part.open("wb") as raw, wrapped(raw) as file:
        header.write_to(file)
        pour(file, data_of(thing), thing.axes, "".join(a for a in stored if a in thing.axes), header.get_data_dtype())


def _header(thing: Image | Segmentation) -> tuple[Any, str]:
    """The header, and the stored order of the spatial axes."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    sizes, source = sizes_of(thing), _source(thing)
    spatial = names_of(nifti.grid_in(source).matrix) if source is not None else XYZ
    shape = [sizes.get(a, 1) for a in spatial]
    if "t" in sizes or "c" in sizes:
        shape += [sizes.get("t", 1)] + ([sizes["c"]] if "c" in sizes else [])
    elif source is not None and len(source.get_data_shape()) == 2:
        shape = shape[:2]
    wide = max(shape) > _LONGEST or (source is not None and source.sizeof_hdr != 348)
    kind: Any = Nifti2Header if wide else Nifti1Header
    header = kind()
    header.set_data_shape(shape)
    header.set_data_dtype(stored_type(thing))
    header.set_slope_inter(1, 0)
    if isinstance(thing, Segmentation):
        header.set_intent("label")
    _place(header, thing, spatial) if source is None else _copy(header, source)
    return header, spatial


def _place(header: Any, thing: Image | Segmentation, spatial: str) -> None:
    """Write where the samples lie: as sform, and as qform where the axes are at right angles."""
    grid = grid_of(thing, spatial, nifti.LENGTHS)
    affine = MIRRORED @ grid.matrix + 0.0
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    header["pixdim"][4], header["toffset"] = grid.time[0], grid.start
    header.set_sform(affine, _SCANNER)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.allclose(directions.T @ directions, np.eye(3), atol=1e-5):
        header.set_qform(affine, _SCANNER)
    codes = {unit: code for code, unit in {**nifti.LENGTH_CODES, **nifti.TIME_CODES}.items()}
    length, time = codes.get(grid.unit, 0), codes.get(grid.time[1], 0)
    header["xyzt_units"] = (length & 7) + (time & 56)


def _copy(header: Any, source: Any) -> None:
    """Take over the geometry of another header, bit for bit."""
    for name in FIELDS:
        header[name] = source[name]
    header["pixdim"][:4] = source["pixdim"][:4]
    header["pixdim"][4] = source["pixdim"][4] if len(source.get_data_shape()) > 3 else header["pixdim"][4]


def _source(thing: Image | Segmentation) -> Any:
    """The header of the file that this comes from, if that is known and still the same grid; else None."""
    from nibabel.spatialimages import HeaderDataError

    told = grid_told(thing)
    header = None if told is None else header_from(told)
    if header is None:
        return None
    with suppress(SegsuiteError, HeaderDataError, ValueError):
        grid, shape = nifti.grid_in(header), header.get_data_shape()
        spatial = names_of(grid.matrix)
        box = tuple((*map(int, shape[:3]), 1, 1)[:3])
        own = grid_of(thing, spatial, nifti.LENGTHS)
        for k, letter in enumerate(spatial):
            if letter not in thing.axes:  # of a plane, the header alone knows how thick it is
                own.matrix[:, k] = grid.matrix[:, k]
        same = box == tuple(sizes_of(thing).get(a, 1) for a in spatial)
        return header if same and agree(grid, own, box) else None
    return None
