"""What a NIfTI header says of its grid, as plain values: so that other formats can carry it in our record, and it comes back bit for bit."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from napari_segsuite.errors import SegsuiteError
from napari_segsuite.io import nifti
from napari_segsuite.io.inputs import module_of
from napari_segsuite.io.volume import origin_of
from napari_segsuite.types import Image, Segmentation

FIELDS = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
    "xyzt_units", "toffset",
)  # fmt: skip
"""All that is said of it but the sizes of samples."""

_PLAIN = {"qform_code": 1, "sform_code": 1}
_MILLIMETRES = 2
_UNIT = 7
_SIZES = 5


def grid_told(thing: Image | Segmentation) -> dict[str, Any] | None:
    """What the NIfTI file that this comes from, maybe through files of other formats, says of its grid; None where it comes from none."""
    origin = origin_of(thing)
    kind = module_of(origin) if origin is not None else None
    if origin is None or kind is None or not origin.exists():
        return None
    with suppress(SegsuiteError):
        if kind == "nifti":
            return _plain(nifti.header_of(origin))
        if isinstance(thing, Image) or "converted_from" in thing.provenance:
            told = importlib.import_module(f"napari_segsuite.io.{kind}").read_record(origin).get("nifti")
            return dict(told) if isinstance(told, Mapping) else None
    return None


def header_from(told: Mapping[str, Any]) -> Any:
    """The header that says so; None where `told` says nothing that a header can."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    with suppress(HeaderDataError, KeyError, TypeError, ValueError, OverflowError):
        header: Any = Nifti1Header() if told["bytes"] == Nifti1Header.sizeof_hdr else Nifti2Header()
        header.set_data_shape([int(n) for n in told["shape"]])
        for name in FIELDS:
            header[name] = told[name]
        header["pixdim"][:_SIZES] = told["pixdim"]
        return header
    return None


def is_plain(told: Mapping[str, Any]) -> bool:
    """Whether a header says no more than one that is written anew: sform and qform of code 1, in millimetres."""
    return all(told.get(name) == code for name, code in _PLAIN.items()) and int(told.get("xyzt_units", 0)) & _UNIT == _MILLIMETRES


def _plain(header: Any) -> dict[str, Any]:
    fields = {name: header[name].tolist() for name in FIELDS}
    shape = [int(n) for n in header.get_data_shape()]
    return {"bytes": int(header.sizeof_hdr), "shape": shape, **fields, "pixdim": header["pixdim"][:_SIZES].tolist()}
