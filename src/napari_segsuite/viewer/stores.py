"""Where on disk a result can grow: which stores to offer for an image, and what is to be said about a chosen one before a run begins."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from itertools import count
from math import prod
from pathlib import Path

from napari_segsuite.engine.plan import Plan
from napari_segsuite.errors import OutputError
from napari_segsuite.types import Image, ModelSpec

LARGE_VOXELS = 2**28
"""A result with more voxels than this (1 GiB of labels) is offered a store on disk by itself."""
ANOTHER = "Choose another name under Save to."


class Finished(OutputError):
    """The store holds the result already."""


def voxels(image: Image) -> int:
    """How many voxels a result has."""
    return prod(n for a, n in zip(image.axes, image.shape, strict=True) if a != "c")


def offers(image: Image, spec: ModelSpec) -> list[Path]:
    """Stores for a result, the first to be preferred: beside what the image was read from, and inside it where that is an OME-Zarr image."""
    if not image.source or "://" in image.source:
        return []
    source, name = Path(image.source), re.sub(r"[^\w.-]+", "_", spec.name).strip("_.") or "labels"
    root = next((p for p in reversed((source, *source.parents)) if p.suffix.lower() == ".zarr"), source)
    stem = "_".join([re.sub(r"(\.(ome|zarr|tiff?|png|jpe?g))+$", "", root.name, flags=re.IGNORECASE), *source.relative_to(root).parts])
    inside = [source / "labels" / name] if _is_image_group(source) else []
    return [root.with_name(f"{stem}_{name}.ome.zarr"), *inside]


def begun(paths: list[Path], plan: Plan, spec: ModelSpec) -> Path | None:
    """The first that holds an unfinished run of the same plan."""
    for path in paths:
        with suppress(OutputError):
            if (path / ".segsuite" / "job.json").is_file() and examine(path, plan, spec)[1]:
                return path
    return None


def free(path: Path, plan: Plan, spec: ModelSpec) -> Path:
    """The path itself, or with a number, so that it can take the result of a plan: nothing is there, or this very job.

    Raises
    ------
    OutputError
        Nothing can be written there.
    """
    stem, suffix = path.name.removesuffix(".ome.zarr"), ".ome.zarr" if path.name.endswith(".ome.zarr") else ""
    for number in count(2):
        try:
            examine(path, plan, spec)
        except Finished:
            break
        except OutputError:
            if number > 99 or not os.path.lexists(path):
                raise
            path = path.with_name(f"{stem}_{number}{suffix}")
        else:
            break
    return path


def examine(path: Path, plan: Plan, spec: ModelSpec) -> tuple[int, int]:
    """Look at the store that a result shall go to; nothing is written.

    Parameters
    ----------
    path : Path
    plan : Plan
    spec : ModelSpec
        As the plan runs it.

    Returns
    -------
    done, total : int
        Chunks of an unfinished run of the same job; (0, 0) where there is none.

    Raises
    ------
    Finished
        It holds the result of the same plan.
    OutputError
        It cannot be written, or holds something else.
    """
    from napari_segsuite.io import label_store  # brings zarr along, which opening the dock need not wait for

    try:
        _check_place(path, plan)
        if not os.path.lexists(path):
            return 0, 0
        if not label_store.is_unfinished(path):
            raise _refused(path, plan)
    except (OSError, ValueError) as error:  # a name that is too long, a null character, a folder that may not be looked into
        raise OutputError(f"{str(path)!r} is not a path that can be written", do=ANOTHER) from error
    return _unfinished(path, plan, spec)


def _check_place(path: Path, plan: Plan) -> None:
    from napari_segsuite.io import label_store, ome_zarr_write

    if ome_zarr_write.parent_of(path) is not None:
        size = {a: int(n) for a, n in zip(plan.image["axes"], plan.image["shape"], strict=True) if a != "c"}
        label_store.plan_store(path, "".join(size), list(size.values()), list(size.values()))  # complains where it is no image like this one
    elif path.suffix.lower() != ".zarr":
        raise OutputError(f"{str(path)!r} is not the name of an OME-Zarr store", "one that ends in .ome.zarr, or STORE/labels/NAME")
    there = next(p for p in (path, *path.parents) if p.exists())
    if not there.is_dir():
        raise OutputError(f"{there} is a file", "a folder that results can be written to", ANOTHER)
    if not os.access(there, os.W_OK):
        raise OutputError(f"folder {there} may not be written to", do=ANOTHER)


def _refused(path: Path, plan: Plan) -> OutputError:
    """Why a store that is not unfinished cannot take a result."""
    import zarr
    from zarr.storage import LocalStore

    from napari_segsuite.io import ome_zarr_write
    from napari_segsuite.io.record import KEY

    ome_zarr_write.check_replaceable(path, overwrite=True, labels=True)  # complains where it holds something else than labels
    record = zarr.open_group(LocalStore(path, read_only=True), mode="r").attrs.asdict().get(KEY)
    made = record.get("provenance") if isinstance(record, dict) else None
    if isinstance(made, dict) and made.get("fingerprint") == plan.fingerprint:
        do = "To run again, change an option or the name under Save to."
        return Finished(f"{path.name} holds the result of these options already", do=do)
    return OutputError(f"store {path} exists already", do=ANOTHER)


def _unfinished(path: Path, plan: Plan, spec: ModelSpec) -> tuple[int, int]:
    from napari_segsuite.engine.layout import Layout
    from napari_segsuite.engine.work import Work, difference, read_job

    job = read_job(path)
    if job is None:
        return 0, 0
    if job.plan.fingerprint != plan.fingerprint:
        told = difference(job.plan.to_json(), job.source, plan, job.source)
        raise OutputError(f"store {path} holds an unfinished run {told}", do=ANOTHER)
    return len(Work(path, job.token).records("chunks").names()), Layout(job.plan, spec).chunks


def _is_image_group(source: Path) -> bool:
    """Whether a folder is an image that labels can be written into."""
    for name in ("zarr.json", ".zattrs"):
        if (source / name).is_file():
            return '"multiscales"' in (source / name).read_text(encoding="utf-8", errors="replace")
    return False
