"""Where the results of a batch go, and whether they can go there."""

from __future__ import annotations

import concurrent.futures as cf
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from napari_segsuite.engine.options import Options
from napari_segsuite.errors import OptionError, OutputError
from napari_segsuite.io import module_of, read, sidecars_of
from napari_segsuite.io.inputs import READ_ONLY, check_extra, check_written
from napari_segsuite.io.place import canonical, from_there, is_remote, make_folder, put_remote, remove
from napari_segsuite.io.plates import plate_of
from napari_segsuite.sources import Source
from napari_segsuite.types import Image

SUFFIX = {"tif": ".tif", "ome-zarr": ".ome.zarr"}


@dataclass(frozen=True)
class Batch:
    """What is wished for all inputs: where to, how, in which format, how to read, and who computes (`engine.volume.run_store`), here or elsewhere."""

    out: Path
    options: Options
    format: str = "tif"
    overwrite: bool = False
    axes: str | None = None
    scene: int | str | None = None
    version: str | None = None
    executor: cf.Executor | None = None
    workers: int = 3
    check: bool = False
    files: str | None = None
    voxel_um: tuple[float, ...] = ()
    elsewhere: bool = False

    @property
    def single(self) -> bool:
        """Whether `out` names one result rather than a folder of them."""
        return module_of(self.out) is not None

    @property
    def store(self) -> Path | None:
        """The zarr store that `out` lies in, where it does."""
        return next((p for p in self.out.parents if p.suffix.lower() == ".zarr"), None)

    @property
    def grows(self) -> bool:
        """Whether results are OME-Zarr stores, which come into being on disk."""
        return self.store is not None or (module_of(self.out) == "ome_zarr" if self.single else self.format == "ome-zarr")

    def read(self, source: Source) -> Image:
        """Read an input as it is wished."""
        return read(source.path, axes=self.axes, scene=source.scene, files=self.files, voxel_um=self.voxel_um)

    def inside_plate(self, source: Source) -> bool:
        """Whether `out` is PLATE/labels/NAME and the source a field of this plate: each then gets labels NAME in its own image."""
        return self.store is not None and self.out.parent == self.store / "labels" and plate_of(source.path) == self.store

    def paths_of(self, source: Source) -> dict[str, Path]:
        """Where the ``labels`` of an input go and, in a folder, its ``segments`` and ``run``."""
        if self.single:
            return {"labels": source.path / "labels" / self.out.name if self.inside_plate(source) else self.out}
        labels = self.out / f"{source.stem}_labels{SUFFIX[self.format]}"
        return {"labels": labels, **sidecars_of(labels)}


def check_output(batch: Batch) -> None:
    """Find out that nothing can be written, or not in this format, before the work and not after it."""
    out, kind = batch.out, module_of(batch.out)
    if kind is not None and out.name.lower().endswith(READ_ONLY):
        raise OutputError(f"a {out.suffix} file does not keep labels exactly", ".png, .tif or .ome.zarr", "Choose another --out.")
    check_written(out)
    check_extra(out)
    if kind is not None and kind != "ome_zarr" and out.is_dir():
        raise OutputError(f"{str(out)!r} is a folder", "a file name", "Choose another --out.")
    if batch.store is not None and not (out.parent == batch.store / "labels" and batch.store.is_dir()):
        needed = "a path outside, or STORE/labels/NAME in the store of an image"
        raise OutputError(f"output {out} lies inside a zarr store", needed, "Choose another --out.")
    folder = out.parent if batch.single else out
    if is_remote(out):
        _check_url(folder)
        return
    try:
        there = next(p for p in (folder, *folder.parents) if p.exists())
        if not there.is_dir():
            raise OutputError(f"folder {folder} cannot be made, since {there} is a file", do="Choose another --out.")
        with tempfile.TemporaryFile(dir=there):
            pass
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise OutputError(f"folder {folder} cannot be written to: {why}", do="Choose another --out, or free the folder.") from error


def check_result(image: Image, batch: Batch) -> None:
    """Find out that labels of this image cannot be written in the format that is wished, before the work and not after it."""
    if module_of(batch.out) == "dicom":
        from napari_segsuite.io.dicom_source import check_source

        check_source(image, batch.out)


def _check_url(folder: Path) -> None:
    """Write a small file to a URL and delete it: rights and addresses show only then."""
    probe = folder / f".segsuite-{uuid4().hex[:12]}"
    try:
        with from_there(folder):
            make_folder(folder)
            put_remote(probe, b"")
            remove(probe)
    except OSError as error:
        do = "Check the name and the rights, or choose another --out."
        raise OutputError(f"nothing can be written to {folder}: {str(error).partition(chr(10))[0]}", do=do) from error


def check_targets(sources: Sequence[Source], batch: Batch) -> None:
    """See that every input has a result of its own, and that none takes the place of an input."""
    if batch.single and len(sources) > 1 and not all(batch.inside_plate(source) for source in sources):
        raise OptionError(f"there are {len(sources)} inputs and one output, {batch.out}", "a folder as --out")
    here = {canonical(source.path): source.path for source in sources}
    taken: dict[Path, Source] = {}
    for source in sources:
        labels = batch.paths_of(source)["labels"]
        target = canonical(labels)
        if target in taken:
            found = f"inputs {taken[target]} and {source} would both be written to {labels}"
            raise OutputError(found, do="Segment them one by one, each with an --out of its own.")
        taken[target] = source
        hit = next((p for p in (target, *target.parents) if p in here), None)
        if hit is not None and (hit == target or target.relative_to(hit).parts[0] != "labels"):
            word = "over" if hit == target else "into"
            raise OutputError(f"the result {labels} would be written {word} the input {here[hit]}", do="Choose another --out.")
