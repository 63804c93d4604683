"""What a run over a large volume keeps on disk while it works: what the job is, what is done, and who is at it.

In the store that is being written lies a folder `FOLDER`::

    job.json   the plan, its contrast constants, and the identity of what was read
    lock       held by the one process that coordinates
    TOKEN/     tiles   integer maps of tiles, as long as a chunk needs them
               labels  piece numbers of chunks, as runs, and small copies of them
               chunks  rows and faces of chunks; a chunk without a record here is not computed
               frames  final labels of the pieces of a frame
               blocks  one record per finished block of the result, with what the next lower level has of it
               notes   what workers had to say

Every record is written atomically, so that a process may be killed at any moment. The folder is deleted when the result is finished.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from napari_segsuite.engine.lock import Check, held
from napari_segsuite.engine.options import Options
from napari_segsuite.engine.plan import Plan
from napari_segsuite.errors import InputError, OutputError, SegsuiteError
from napari_segsuite.io import label_store, read_segmentation
from napari_segsuite.io.commit import check_free
from napari_segsuite.io.faults import writing
from napari_segsuite.io.ome_zarr_write import check_replaceable
from napari_segsuite.io.packed import Records
from napari_segsuite.io.place import exists, is_folder, make_folder, names_in, remove, rename

INPUT = "input"
"""Under this name the identity of what was read is kept in a result's provenance."""
FOLDER = ".segsuite"
FORMAT = 3
KINDS = ("tiles", "labels", "chunks", "frames", "blocks", "notes")


@dataclass(frozen=True)
class Work:
    """The folders of one job's records.

    Attributes
    ----------
    store : Path
        The result.
    token : str
        Names the folder; a job that replaces another has another one, so that workers of the old job cannot write into the new.
    """

    store: Path
    token: str

    @property
    def folder(self) -> Path:
        """All records."""
        return self.store / FOLDER / self.token

    def records(self, kind: str) -> Records:
        """Those of one of `KINDS`."""
        return Records(self.folder / kind)

    def make(self) -> None:
        """Make the folders."""
        with writing(self.folder):
            for kind in KINDS:
                make_folder(self.folder / kind)

    def note(self, name: str, told: Mapping[str, Any]) -> None:
        """Keep what a worker has to say; the same name says the same."""
        notes = self.records("notes")
        if not (notes.folder / name).exists():
            notes.put(name, json.dumps(told).encode())

    def notes(self) -> list[dict[str, Any]]:
        """All that was said, in an order that does not depend on who was first; what is damaged is not worth stopping for."""
        told = []
        for name in sorted(self.records("notes").names()):
            with suppress(OSError, ValueError):
                told.append(json.loads((self.folder / "notes" / name).read_bytes()))
        return told

    def numbers(self, kind: str) -> set[int]:
        """Numbers of the tiles or chunks whose records are there."""
        found = {int(name) for name in self.records(kind).names() if name.isdigit()}
        return found & self.numbers("labels") if kind == "chunks" else found


@dataclass(frozen=True)
class Begun:
    """A job as it is found on disk.

    Attributes
    ----------
    plan : Plan
        With its contrast constants.
    source : mapping
        Identity of the input (`source.identity`); empty for one that is no file.
    token : str
    """

    plan: Plan
    source: Mapping[str, Any]
    token: str


@contextmanager
def locked(store: Path, version: str, plan: Plan, source: Mapping[str, Any], *, overwrite: bool) -> Iterator[tuple[Begun | None, Check]]:
    """Hold a store for as long as a run writes it, made ready for that.

    Parameters
    ----------
    store : Path
    version : str
        Of OME-Zarr, for a new store.
    overwrite : bool
        Replace what is there: a finished result steps aside until the new one is finished, an unfinished one of other wishes is deleted.
    plan, source
        Of the job; an unfinished run of another one is not gone on with.

    Yields
    ------
    Begun or None
        The unfinished run of the same job, if there is one.
    callable
        Complains if another process took the store over (`lock.held`).

    Raises
    ------
    OutputError
        Another process writes the store, it is finished, or it holds something else.
    """
    if not label_store.is_unfinished(store):
        check_replaceable(store, overwrite=overwrite, labels=True)
        _step_aside(store)
    with _lock(store) as check:
        if not label_store.is_unfinished(store):  # another process finished it in this moment
            check_free(store, overwrite=False)
        own = label_store.version_of(store)
        if own not in (None, version):
            raise OutputError(
                f"{store} holds an unfinished run in OME-Zarr {own}, not {version}", do="Go on with that version, or choose another output."
            )
        if own is None or read_job(store, damaged=overwrite) is None:
            label_store.begin(store, version)
        begun = read_job(store, damaged=overwrite)
        if begun is not None and not (begun.plan.fingerprint == plan.fingerprint and begun.source == source):
            if not overwrite:
                found = f"store {store} holds an unfinished run {difference(begun.plan.to_json(), begun.source, plan, source)}"
                raise OutputError(found, do="Choose another output, or allow it to be replaced (--overwrite).")
            begun = None
        if begun is None:
            _forget(store)
        yield begun, check


def tidy(store: Path) -> None:
    """Delete what a run left that was killed right after it had finished its result."""
    if not (store / FOLDER).is_dir() or label_store.is_unfinished(store):
        return
    with suppress(OutputError), _lock(store):
        finish(store)


@contextmanager
def _lock(store: Path) -> Iterator[Check]:
    """Be the only process that works on a store; the folder for that goes with the last record."""
    folder = store / FOLDER
    try:
        with held(folder / "lock", store) as check:
            yield check
    finally:
        if not label_store.is_unfinished(store):
            with suppress(OSError):
                remove(folder / "lock")
                if folder.is_dir():
                    folder.rmdir()


def begin_job(store: Path, plan: Plan, source: Mapping[str, Any]) -> Work:
    """Write down what the job is, before anything of it is done."""
    work = Work(store, uuid4().hex[:12])
    work.make()
    told = {"format": FORMAT, "token": work.token, "fingerprint": plan.fingerprint, "plan": plan.to_json(), "source": dict(source)}
    Records(store / FOLDER).put("job.json", json.dumps(told, indent=1).encode())
    return work


def read_job(store: Path, *, damaged: bool = False) -> Begun | None:
    """The job that a store's records belong to; None where none was begun, or, if `damaged` is allowed, where that cannot be told.

    Raises
    ------
    InputError
        The description is damaged, or of another version.
    """
    path = store / FOLDER / "job.json"
    try:
        told = json.loads(path.read_bytes())
        if told["format"] != FORMAT:
            raise InputError(f"the unfinished run in {store} has format {told['format']}", str(FORMAT), "Go on with the version that began it.")
        return Begun(plan_of(told["plan"]), dict(told["source"]), str(told["token"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if damaged:
            return None
        found = f"the description of the unfinished run in {path} is damaged ({type(error).__name__})"
        raise InputError(found, do="Begin anew with --overwrite, or choose another output.") from error


def plan_of(told: Mapping[str, Any]) -> Plan:
    """A plan from its JSON."""
    as_tuples = {name: tuple(told[name]) for name in ("channels", "zoom", "chunk", "notices")}
    limits = tuple((float(a), float(b)) for a, b in told["limits"])
    return Plan(**{**told, **as_tuples, "limits": limits, "options": Options.from_json(told["options"])})


def is_result_of(store: Path, plan: Plan, source: Mapping[str, Any]) -> bool:
    """Whether a store holds the finished result of a job."""
    if not is_folder(store) or label_store.is_unfinished(store):
        return False
    try:
        told = read_segmentation(store).provenance
    except SegsuiteError:
        return False
    return told.get("fingerprint") == plan.fingerprint and told.get(INPUT) == dict(source)


def finish(store: Path) -> None:
    """Delete what only the run needed, and what its result replaces; the lock goes last."""
    folder = store / FOLDER
    for name in names_in(folder) - {"lock"}:
        with suppress(OSError):
            remove(folder / name)
    with suppress(OSError):
        remove(before(store))


def before(store: Path) -> Path:
    """Where a result that is being replaced waits until the new one is finished."""
    return store.with_name(f".{store.name[:120]}.before")


def _step_aside(store: Path) -> None:
    if not exists(store):
        return
    with writing(store):
        remove(before(store))
        rename(store, before(store))


def _forget(store: Path) -> None:
    """Delete the records and arrays of an unfinished run."""
    with writing(store):
        remove(store / FOLDER / "job.json")
        for name in names_in(store) - {FOLDER}:
            if (store / name).is_dir():
                remove(store / name)
        for name in names_in(store / FOLDER) - {"lock", "lock.holder"}:
            remove(store / FOLDER / name)


def difference(before: Mapping[str, Any], read: Mapping[str, Any], plan: Plan, source: Mapping[str, Any]) -> str:
    """In what a plan (as JSON) and the identity of what it was made for differ from those of now, as the end of a sentence."""
    if read != source:
        return "from another input, or from this one before it changed"
    options = {k: v for k, v in plan.options.to_json().items() if k not in ("device", "batch", "chunk")}
    changed = [f"{k} {before['options'].get(k)!r} instead of {v!r}" for k, v in options.items() if before["options"].get(k) != v]
    return f"with other options ({', '.join(changed)})" if changed else "with another version of the model, or for other voxel sizes"
