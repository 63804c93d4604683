"""``segsuite export`` and ``segsuite import``: results as annotations for data sets and other programs, and annotations as labels to train on."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.annotations import FORMATS, Annotated, export, format_of, lost, read_annotations
from napari_segsuite.annotations.checks import name_of
from napari_segsuite.annotations.items import CROWD
from napari_segsuite.engine.lock import alone
from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.flags import check_folder, folder, named, scene_of, where
from napari_segsuite.io import list_inputs, read_segmentation, write_result
from napari_segsuite.io.faults import check_is_there, writing
from napari_segsuite.pairing import results, stem
from napari_segsuite.sources import Source, sources_in
from napari_segsuite.terminal import say
from napari_segsuite.types import Segmentation


def export_all(
    inputs: Sequence[str],
    out: Path,
    name: str,
    *,
    images: Path | None = None,
    like: Path | None = None,
    axes: str | None = None,
    scene: int | str | None = None,
    overwrite: bool = False,
) -> list[tuple[Path, list[str]]]:
    """Write results as annotations.

    Parameters
    ----------
    inputs : sequence of str
        Label files, folders of them, or patterns.
    out : Path
        A file with the suffix of the format, or a folder: of a data set, or for one file per result.
    name : str
        Key of `annotations.FORMATS`.
    images : Path, optional
        Folder of the images, whose file names are then written.
    like : Path, optional
        A COCO file whose numbers of images and categories are taken.
    axes, scene
        As in `io.read_segmentation`; `io.scenes.ALL` for each image of a file.
    overwrite : bool

    Returns
    -------
    list of (path, what it cannot say)

    Raises
    ------
    InputError, OutputError, MissingExtra
    """
    found, files = [one for path in results(inputs) for one in sources_in(path, scene, labels=True)], _by_stem(images)
    told: dict[str, None] = {}
    known = _known(like) if like is not None else None

    def items(some: Sequence[Source]) -> Iterator[Annotated]:
        for one in some:
            labels = read_segmentation(one.path, axes=axes, scene=one.scene)
            told.update(dict.fromkeys(lost(labels, name)))
            item = Annotated(labels, _file_name(one.stem, labels, files))
            yield item if known is None else _alike(item, *known)

    if FORMATS[name].several or (len(found) == 1 and out.suffix.lower() == FORMATS[name].suffix):
        with alone(out):
            return [(export(items(found), out, name, overwrite=overwrite), list(told))]
    _check_folder_for(out, name, len(found))
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    done = []
    for one in found:
        told.clear()
        with alone(to := out / f"{one.stem}{FORMATS[name].suffix}"):
            done.append((export(items([one]), to, name, overwrite=overwrite), list(told)))
    return done


def _check_folder_for(out: Path, name: str, count: int) -> None:
    """Refuse what looks like one file where there is one per result."""
    suffix = FORMATS[name].suffix
    if out.suffix.lower() in {f.suffix for f in FORMATS.values()} - {suffix, ""} and not out.is_dir():
        raise OutputError(f"{out} does not end in {suffix}", f"a path ending so for {FORMATS[name].title}, or a folder")
    if out.suffix.lower() == suffix:
        raise OutputError(f"{count} results cannot go into one {out.suffix} file", "a folder as --out")


def import_all(
    sources: Sequence[Path], out: Path, *, name: str = "", images: Path | None = None, keep_crowds: bool = False, overwrite: bool = False
) -> Iterator[tuple[Path, list[str]]]:
    """Write annotations as label images with their tables and classes, as `segsuite train` takes them; all are read before any is written.

    Parameters
    ----------
    sources : sequence of Path
    out : Path
        A folder.
    name : str
        Key of `annotations.FORMATS`; found out where it is empty.
    images : Path, optional
        Folder of the images; labels must then have the size of their image.
    keep_crowds : bool
        Groups of objects that nobody told apart stay, as one segment each; else they become background.
    overwrite : bool

    Yields
    ------
    path, notes
        Of one image, and what could not be taken.

    Raises
    ------
    InputError, OutputError, MissingExtra
    """
    files = _by_stem(images)
    names = {source: name or format_of(source) for source in sources}
    _check_all(names, files)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    for source, kind in names.items():
        for item in read_annotations(source, kind, files):
            found, notes = item.segmentation, list(item.notes)
            crowds = int((np.asarray(found.segments["status"]) == CROWD).sum())
            if crowds and not keep_crowds:
                found = _without_crowds(found)
                several = "1 group of objects, which is" if crowds == 1 else f"{crowds} groups of objects, which are"
                notes.append(f"{several} background now (--keep-crowds keeps them)")
            yield write_result(found, out, name_of(item.file_name, str(source)), overwrite=overwrite)["labels"], notes


def add_export(command: Any) -> None:
    """Add the arguments of ``segsuite export``."""
    command.add_argument("inputs", nargs="+", metavar="RESULT", help="label files, patterns such as 'results/*_labels.tif', or folders")
    command.add_argument("--format", required=True, choices=list(FORMATS), help="; ".join(f"{n}: {f.title}" for n, f in FORMATS.items()))
    told = "a path ending as the format does, or a folder: of the data set (voc, cityscapes), or for one file per result"
    command.add_argument("--out", type=_target, required=True, help=told)
    command.add_argument("--images", type=named, metavar="DIR", help="folder of the images, whose file names are written then")
    command.add_argument("--like", type=named, metavar="FILE", help="a COCO file whose numbers of images and categories are taken")
    command.add_argument("--axes", help="what the stored axes of the labels are, where their files do not say: letters of tczyx")
    command.add_argument("--scene", metavar="NAME", help="number or name of the image in files that hold several; all: each of them")
    command.add_argument("--overwrite", action="store_true", help="replace what is there")
    command.set_defaults(command=_export)


def add_import(command: Any) -> None:
    """Add the arguments of ``segsuite import``."""
    readable = [n for n, f in FORMATS.items() if f.readable]
    command.add_argument("sources", nargs="+", type=where, metavar="FILE", help="files of annotations, or the folder of a data set")
    command.add_argument("--out", type=folder, required=True, metavar="DIR", help="folder for the labels, one file per image, with their tables")
    command.add_argument("--format", choices=readable, help="what the files are [found out]")
    command.add_argument("--images", type=named, metavar="DIR", help="folder of the images: for their sizes, where a format does not say them")
    command.add_argument("--keep-crowds", action="store_true", help="keep groups of objects (iscrowd) as one segment each [they become background]")
    command.add_argument("--overwrite", action="store_true", help="replace what is there")
    command.set_defaults(command=_import)


def _target(text: str) -> Path:
    """A file of one of the formats, or a folder."""
    path = named(text)
    if path.suffix.lower() not in {f.suffix for f in FORMATS.values()}:
        check_folder(path, text)
    return path


def _export(args: argparse.Namespace) -> int:
    wish = {"axes": args.axes, "scene": scene_of(args)}
    done = export_all(args.inputs, args.out, args.format, images=args.images, like=args.like, **wish, overwrite=args.overwrite)
    say("\n".join(line for path, told in done for line in (str(path), *(f"  lost: {one}" for one in told))))
    return 0


def _import(args: argparse.Namespace) -> int:
    more = {"images": args.images, "keep_crowds": args.keep_crowds, "overwrite": args.overwrite}
    for path, notes in import_all(args.sources, args.out, name=args.format or "", **more):
        say("\n".join([str(path), *(f"  lost: {one}" for one in notes)]))
    return 0


def _by_stem(folder: Path | None) -> dict[str, Path]:
    if folder is None:
        return {}
    check_is_there(folder)
    return {stem(path): path for path in list_inputs([folder])}


def _file_name(title: str, found: Segmentation, files: Mapping[str, Path]) -> str:
    """The name of the image: of the file in the folder of images, else as the record of the run says."""
    if files:
        if title not in files:
            raise InputError(f"no image is called {title}", f"one of {', '.join(sorted(files)[:8])}", "Check --images.")
        return files[title].name
    source = found.provenance.get("input", {})
    named = str(source.get("name", "")) if isinstance(source, Mapping) else ""
    return named if named and stem(Path(named)) == title and Path(named).name == named else f"{title}.tif"


def _known(like: Path) -> tuple[dict[str, tuple[int, str]], dict[str, int]]:
    """Numbers and file names of the images of a COCO file by their names, and the numbers of its categories by theirs."""
    from napari_segsuite.annotations.checks import get, load
    from napari_segsuite.annotations.coco import images_of

    document = load(like)
    images = {name_of(one["file_name"], str(like)): (number, str(one["file_name"])) for number, one in images_of(document, like).items()}
    listed = get(document, "categories", list, str(like))
    return images, {get(c, "name", str, str(like)): get(c, "id", int, str(like)) for c in listed}


def _alike(item: Annotated, images: Mapping[str, tuple[int, str]], categories: Mapping[str, int]) -> Annotated:
    from napari_segsuite.annotations.categories import NUMBERS

    title, found = name_of(item.file_name, item.segmentation.name), item.segmentation
    unknown = [c.name for c in found.classes if c.name not in categories]
    if title not in images or unknown:
        what = f"no image {title}" if title not in images else f"no category {unknown[0]}"
        raise InputError(
            f"the file of --like has {what}", f"the same names: {', '.join(list(categories)[:8]) if unknown else ', '.join(list(images)[:8])}"
        )
    number, file_name = images[title]
    numbers = {str(c.id): categories[c.name] for c in found.classes}
    return replace(item, segmentation=replace(found, provenance={**found.provenance, NUMBERS: numbers}), file_name=file_name, number=number)


def _check_all(names: Mapping[Path, str], files: Mapping[str, Path]) -> None:
    """Read everything once, so that nothing is written of a data set that turns out to be damaged."""
    seen = set[str]()
    for source, kind in names.items():
        for item in read_annotations(source, kind, files):
            title = name_of(item.file_name, str(source))
            if title in seen:
                raise InputError(f"two images are called {title}", "one name each", "Import them into folders of their own.")
            seen.add(title)
            if files:
                _check_size(item.segmentation, files.get(title), title, source)


def _check_size(found: Segmentation, image: Path | None, title: str, source: Path) -> None:
    from napari_segsuite.io import read

    if image is None:
        raise InputError(f"{source} is about an image {title}, which is not in the folder of images", do="Check --images.")
    opened = read(image)
    size = tuple(opened.size(a) for a in found.axes)
    if size != tuple(found.labels.shape):
        raise InputError(f"{source} says that image {title} has shape {tuple(found.labels.shape)}, and {image} has {size}", "the same shape")


def _without_crowds(found: Segmentation) -> Segmentation:
    keep = np.asarray(found.segments["status"]) != CROWD
    gone = np.asarray(found.segments["id"])[~keep]
    labels = np.where(np.isin(found.labels, gone), 0, found.labels).astype(found.labels.dtype)
    return replace(found, labels=labels, segments={name: np.asarray(column)[keep] for name, column in found.segments.items()})
