"""Annotations in the formats of data sets and of other programs: `export`, `read_annotations`; a name says which module does it.

Everything is exact: what is read back of a file that was written here has the same pixels, numbers, classes and scores, as far as the format
has words for them; `lost` says for what it has none. No module here knows torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_segsuite.annotations.items import Annotated
from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io.commit import check_free
from napari_segsuite.io.faults import check_is_there, reading
from napari_segsuite.io.place import is_remote
from napari_segsuite.io.table import columns_of
from napari_segsuite.types import Segmentation

__all__ = ["FORMATS", "Annotated", "Format", "export", "format_of", "lost", "read_annotations"]


@dataclass(frozen=True)
class Format:
    """A format of annotations.

    Attributes
    ----------
    title : str
        What people call it.
    module : str
        Of this package.
    suffix : str
        Of its files; empty for a folder.
    several : bool
        Whether one file (or folder) is about a data set of several images.
    write, lost : str
        Names in the module.
    readable : bool
    """

    title: str
    module: str
    suffix: str
    several: bool = False
    write: str = "write"
    lost: str = "lost"
    readable: bool = True


FORMATS = {
    "coco": Format("COCO instances", "coco", ".json", True),
    "coco-results": Format("COCO results", "coco", ".json", True, "write_results", "lost_in_results", readable=False),
    "coco-panoptic": Format("COCO panoptic", "coco_panoptic", ".json", True),
    "voc": Format("Pascal VOC", "voc", "", True),
    "cityscapes": Format("Cityscapes", "cityscapes", "", True),
    "geojson": Format("GeoJSON (QuPath)", "geojson", ".geojson"),
    "roi-zip": Format("ROIs of ImageJ", "imagej", ".zip"),
    "labelme": Format("LabelMe", "labelme", ".json"),
    "ply": Format("surfaces as PLY", "meshes", ".ply", write="write_ply", readable=False),
    "stl": Format("surfaces as STL", "meshes", ".stl", write="write_stl", lost="lost_in_stl", readable=False),
    "glb": Format("surfaces as glTF", "meshes", ".glb", write="write_glb", readable=False),
    "csv": Format("table as CSV", "tables", ".csv", True, "write_csv", readable=False),
    "parquet": Format("table as Parquet", "tables", ".parquet", True, "write_parquet", readable=False),
}
"""Name -> format."""


def export(items: Iterable[Annotated], out: Path, name: str, *, overwrite: bool = False) -> Path:
    """Write annotations.

    Parameters
    ----------
    items : iterable of Annotated
        Taken one after the other; one only for formats that are about one image.
    out : Path
    name : str
        Key of `FORMATS`.
    overwrite : bool

    Raises
    ------
    OutputError
        The format cannot hold them, or something is there already.
    MissingExtra
        It needs an optional package.
    """
    told = FORMATS[name]
    if is_remote(out):
        raise OutputError(f"{out} is a URL, where annotations cannot be written", "a path on a disk")
    if told.suffix and out.suffix.lower() != told.suffix:
        raise OutputError(f"{out} does not end in {told.suffix}", f"a path ending in {told.suffix} for {told.title}")
    check_free(out, overwrite=overwrite)
    getattr(_module(told), told.write)(items, out, overwrite=overwrite)
    return out


def lost(segmentation: Segmentation, name: str) -> list[str]:
    """What a format cannot say of labels, as phrases."""
    told = FORMATS[name]
    found: list[str] = list(getattr(_module(told), told.lost)(segmentation))
    more = [column for column in segmentation.segments if column not in columns_of(segmentation.axes)]
    if told.readable and more:
        found.append(f"the columns {', '.join(more)} of its table")
    if told.readable and set(segmentation.provenance) - {"category_ids"}:
        found.append("the record of the run that made it, which stays in the result itself")
    return found


def read_annotations(path: Path, name: str = "", images: Mapping[str, Path] | None = None) -> Iterator[Annotated]:
    """Read annotations image by image.

    Parameters
    ----------
    path : Path
        A file, or the folder of a data set.
    name : str
        Key of `FORMATS`; found out where it is empty.
    images : mapping of name to path, optional
        The images by their names without suffixes; formats that do not say how large an image is look there.

    Raises
    ------
    InputError
        The file is missing or damaged, of an unknown kind, or says what cannot be; it names the file and the field.
    """
    check_is_there(path)
    told = FORMATS[name or format_of(path)]
    if not told.readable:
        raise InputError(f"{told.title} cannot be read back", "one of " + ", ".join(n for n, f in FORMATS.items() if f.readable))
    return _reported(_module(told).read(path, images), path)


def format_of(path: Path) -> str:
    """Find out which format a file or folder has.

    Raises
    ------
    InputError
    """
    if path.is_dir():
        if (path / "SegmentationClass").is_dir():
            return "voc"
        if next(path.rglob("*_gtFine_instanceIds.png"), None) is not None:
            return "cityscapes"
    elif path.suffix.lower() in (".geojson", ".zip"):
        return "geojson" if path.suffix.lower() == ".geojson" else "roi-zip"
    elif path.suffix.lower() == ".json":
        return _kind_of_json(path)
    needed = "a .json, .geojson or .zip file, or a folder of Pascal VOC or Cityscapes"
    raise InputError(f"{path} is not a kind of annotations that can be read", needed, "Say which it is with --format.")


def _reported(found: Iterator[Annotated], path: Path) -> Iterator[Annotated]:
    """The same images; whatever else goes wrong with a file is told with its name."""
    while True:
        with reading(path):
            item = next(found, None)
        if item is None:
            return
        yield item


def _kind_of_json(path: Path) -> str:
    from napari_segsuite.annotations.checks import load

    document = load(path)
    if isinstance(document, list) or (isinstance(document, dict) and "features" in document):
        return "geojson"
    if isinstance(document, dict) and "shapes" in document:
        return "labelme"
    entries = document.get("annotations") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        needed = "a file of COCO (annotations), LabelMe (shapes) or GeoJSON (features)"
        raise InputError(f"{path} has none of the fields annotations, shapes and features", needed)
    return "coco-panoptic" if any(isinstance(one, dict) and "segments_info" in one for one in entries[:1]) else "coco"


def _module(told: Format) -> Any:
    return importlib.import_module(f"napari_segsuite.annotations.{told.module}")
