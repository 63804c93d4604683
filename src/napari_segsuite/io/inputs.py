"""Which files can be read, and by which module; and what a list of files, patterns and folders on the command line means."""

from __future__ import annotations

import glob
import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

from napari_segsuite.errors import InputError, MissingExtra, OutputError
from napari_segsuite.io import dicom_peek
from napari_segsuite.io.faults import check_is_there
from napari_segsuite.io.geometry import stem_of
from napari_segsuite.io.place import canonical, has_metadata, is_remote, names_in, place, service

MODULES = {
    "tiff": (".tif", ".tiff", ".btf", ".tf8", ".lsm"),
    "ome_zarr": (".zarr",),
    "raster": (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"),
    "nifti": (".nii", ".nii.gz", ".hdr"),
    "nrrd": (".nrrd", ".nhdr"),
    "metaimage": (".mha", ".mhd"),
    "dicom": (".dcm", ".dicom", ".ima"),
    "czi": (".czi",),
    "lif": (".lif",),
    "nd2": (".nd2",),
    "fluoview": (".oib", ".oif"),
    "hdf5": (".h5", ".hdf5", ".hdf"),
    "imaris": (".ims",),
    "mrc": (".mrc", ".mrcs", ".rec", ".st", ".ali"),
}
"""Module of this package -> suffixes it reads."""

NEEDS = {
    "nifti": ("nibabel", "medical"),
    "dicom": ("pydicom", "medical"),
    "nd2": ("nd2", "microscopes"),
    "hdf5": ("h5py", "microscopes"),
    "imaris": ("h5py", "microscopes"),
}
"""Module of this package -> library that it needs, and the extra that brings it."""

UNWRITTEN = ("czi", "lif", "nd2", "fluoview", "mrc", "hdf5", "imaris")
"""Modules that only read."""

UNWRITTEN_SUFFIXES = (".lsm",)
"""Suffixes that other modules only read."""

READ_ONLY = (".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".hdr", ".nhdr", ".mhd", ".dicom", ".ima")
"""Suffixes of files that do not keep labels exactly, that are one of two files, or that are read under this name only."""

OURS = "_labels"
"""What the names of our own results end with, before the suffix."""


def module_of(path: Path) -> str | None:
    """Name the module that reads or writes `path`, or None where no module does.

    >>> [module_of(Path(p)) for p in ("a.ome.tif", "b.ome.zarr", "b.ome.zarr/labels/cells", "c.PNG", "d.nii.gz", "e.txt")]
    ['tiff', 'ome_zarr', 'ome_zarr', 'raster', 'nifti', None]
    """
    by_suffix = next((module for module, suffixes in MODULES.items() if path.name.lower().endswith(suffixes)), None)
    return by_suffix or ("ome_zarr" if _in_store(path) else None)


def source_of(path: Path) -> str | None:
    """Name the module that reads what is at `path`; other than with `module_of`, files without a suffix and folders are looked into for DICOM."""
    found = module_of(path)
    return found if found or is_remote(path) or not dicom_peek.holds_dicom(path) else "dicom"


def check_extra(path: Path) -> None:
    """Complain now, and not after the work, when what reads or writes such a file is not installed.

    Raises
    ------
    MissingExtra
    """
    library, extra = NEEDS.get(source_of(path) or "", ("", ""))
    if library and importlib.util.find_spec(library) is None:
        raise MissingExtra(f"reading {'' if module_of(path) in UNWRITTEN else 'and writing '}{path.name}", extra)


def takes_scene(path: Path) -> bool:
    """Whether labels can be chosen among several in a file of this kind."""
    return source_of(path) in ("dicom", "tiff", *UNWRITTEN)


def check_written(path: Path) -> None:
    """Complain about the name of a file of a kind that is read and not written.

    Raises
    ------
    OutputError
    """
    if module_of(path) in UNWRITTEN or path.suffix.lower() in UNWRITTEN_SUFFIXES:
        raise OutputError(f"files ending in {path.suffix} are read, and not written", "for example .ome.zarr or .tif", "Choose another suffix.")


def known() -> str:
    """The suffixes that can be read, for messages."""
    return ", ".join(suffix for suffixes in MODULES.values() for suffix in suffixes)


def writable() -> str:
    """The suffixes that can be written, for messages."""
    return ", ".join(
        s for module, suffixes in MODULES.items() for s in suffixes if module not in UNWRITTEN and s not in (*UNWRITTEN_SUFFIXES, *READ_ONLY)
    )


def sidecars_of(labels: str | Path) -> dict[str, Path]:
    """The table and the run's record that lie beside a labels file: ``segments`` and ``run``.

    >>> {name: path.name for name, path in sidecars_of("out/a_labels.ome.zarr").items()}
    {'segments': 'a_segments.csv', 'run': 'a_run.json'}
    """
    labels = place(labels)
    stem = stem_of(labels).removesuffix(OURS)
    return {"segments": labels.with_name(f"{stem}_segments.csv"), "run": labels.with_name(f"{stem}_run.json")}


def list_inputs(inputs: Sequence[str | Path]) -> list[Path]:
    """Expand files, patterns and folders to the images they mean, each once, in order.

    Parameters
    ----------
    inputs : sequence of str or Path
        A file or an ``.ome.zarr`` folder stands for itself; a pattern (``*``, ``?``, ``**``) and a folder stand for the readable images in
        them, sorted, without our own results (``*_labels.*``) and hidden files. A folder of DICOM files is one image, and so is each file of a
        series in it (`dicom.whole`).

    Raises
    ------
    InputError
        Something is missing, or a pattern or folder has no image; it is named.
    """
    if not inputs:
        raise InputError("no input is given", "a file, a folder or a pattern such as 'images/*.tif'")
    found = [path for one in inputs for path in _expand(str(one))]
    once: dict[tuple[Path, str], Path] = {}
    for path in found:  # a link to a folder above it makes the same files appear below themselves, under other paths and the same name
        once.setdefault((canonical(path), path.name), path)
    return list(once.values())


def list_folders(inputs: Sequence[str | Path]) -> list[Path]:
    """Expand folders and patterns to the folders they mean, whose files are one image each (`io.slices`).

    Raises
    ------
    InputError
        One is no folder, or a pattern matches none.
    """
    found: list[Path] = []
    for one in map(str, inputs):
        path = Path(one).expanduser()
        matching = [path] if path.exists() or not glob.has_magic(one) else sorted(map(Path, glob.glob(str(path), recursive=True)))
        folders = [p for p in matching if p.is_dir() and not p.name.startswith(".")]
        if one.strip() and matching == [path] and not path.exists():
            raise InputError(f"no folder at {path}", do="Check the path.")
        if not one.strip() or not folders:
            raise InputError(f"{one!r} is no folder", "folders whose files are one image each, or a pattern of such folders")
        found += folders
    return list(dict.fromkeys(found))


def _expand(text: str) -> list[Path]:
    if not text.strip():
        raise InputError("an input is empty", "a file, a folder or a pattern such as 'images/*.tif'", "'.' is the current folder.")
    path = place(text)
    if is_remote(path):
        return _expand_url(path)
    path = path.expanduser()
    if path.is_dir() and path.suffix.lower() != ".zarr":
        found = _images(path.iterdir(), skip_ours=True)
        if dicom_peek.is_series_folder(path):
            found = [path, *(p for p in found if source_of(p) != "dicom")]
        complaint = f"folder {path} holds no image that can be read"
    elif path.exists() or not glob.has_magic(text):
        if not path.exists():
            raise InputError(f"no file at {path}", do="Check the path.")
        return [_whole(path)]
    else:
        found = [_whole(p) for p in _images((Path(p) for p in glob.glob(str(path), recursive=True)), skip_ours=OURS not in text)]
        complaint = f"no image matches {text!r}"
    if not found and path.is_dir() and has_metadata(path):
        return [path]
    if not found:
        raise InputError(complaint, f"files ending in {known()}")
    return found


def _expand_url(path: Path) -> list[Path]:
    """A URL stands for itself, a folder or pattern of URLs for the zarr stores in it."""
    if path.suffix.lower() == ".zarr" and not glob.has_magic(str(path)):
        check_is_there(path)
        return [path]
    if glob.has_magic(str(path)):
        fs, pattern = service(path)
        found = [path.with_segments(one) for one in fs.glob(pattern)]  # type: ignore[attr-defined]
    else:
        check_is_there(path)
        if has_metadata(path):
            return [path]
        found = [path / name for name in names_in(path)]
    stores = sorted((p for p in found if p.suffix.lower() == ".zarr" and not p.name.startswith(".") and not stem_of(p).endswith(OURS)), key=str)
    if not stores:
        raise InputError(f"no zarr store is at {path}", "URLs of zarr stores, of a folder of them, or a pattern")
    return stores


def _images(paths: Iterable[Path], *, skip_ours: bool) -> list[Path]:
    keep = [p for p in paths if not p.name.startswith(".") and not any(folder.suffix.lower() == ".zarr" for folder in p.parents)]
    keep = [p for p in keep if (p.suffix.lower() == ".zarr" or dicom_peek.holds_dicom(p) if p.is_dir() else source_of(p) not in (None, "ome_zarr"))]
    above = {folder for p in keep for folder in p.parents}  # of a tree of folders, those where the files lie
    return sorted(p for p in keep if p not in above and not (skip_ours and stem_of(p).endswith(OURS)))


def _whole(path: Path) -> Path:
    """One path for all files of a DICOM series; other paths as they are."""
    if not path.is_file() or source_of(path) != "dicom" or importlib.util.find_spec("pydicom") is None:
        return path
    from napari_segsuite.io import dicom

    return dicom.whole(path)


def _in_store(path: Path) -> bool:
    return any(part.lower().endswith(".zarr") for part in path.parts) or (path.is_dir() and has_metadata(path))
