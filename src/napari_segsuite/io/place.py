"""Where a file or store is: a path on a disk, or a URL that `fsspec` knows (``s3://``, ``gs://``, ``az://``, ``sftp://``, ``memory://``, ...).

A URL becomes a `upath.UPath`, which has the methods of a `pathlib.Path` that are used here. So whatever takes a ``Path`` takes either, and
what disks and object stores do differently stands in this module: atomic writes, listing, folders (an object store has none), renaming.

Credentials and addresses are fsspec's own business: environment variables, or files in ``~/.config/fsspec``.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from napari_segsuite.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from zarr.abc.store import Store

_URL = re.compile(r"(?P<protocol>[a-z0-9+.-]{2,})://(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_TYPED = re.compile(r"[a-z][a-z0-9+.-]+:/(?!/)", re.IGNORECASE)
WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss", "memory"}
"""Protocols whose writes are seen whole or not at all; elsewhere a file is written beside its name and renamed."""


def place(where: str | os.PathLike[str]) -> Path:
    """Make a path of what a user entered.

    Parameters
    ----------
    where : str or path
        A path or a URL; ``file://`` and ``local://`` are paths.

    Returns
    -------
    Path
        Or a `upath.UPath`, which is used like one.

    Raises
    ------
    InputError
        fsspec does not know the protocol.
    MissingExtra
        What it takes to reach that protocol is not installed.

    Examples
    --------
    >>> place("a.ome.zarr"), place("file:///data/a.ome.zarr").name, place("file://localhost/data/a.tif").parent.name
    (PosixPath('a.ome.zarr'), 'a.ome.zarr', 'data')
    """
    if not isinstance(where, str):
        return where if is_remote(where) else Path(where)  # type: ignore[return-value]
    found = _URL.fullmatch(where)
    if found is None:
        if _TYPED.match(where):
            meant = where.replace(":/", ":///" if where.lower().startswith(("file:", "local:")) else "://", 1)
            raise InputError(f"{where!r} looks like a URL with a slash too few", f"{meant}, or a path without ':/'")
        return Path(where)
    if found["protocol"].lower() in ("file", "local"):
        from urllib.request import url2pathname

        rest = found["rest"]
        return Path(url2pathname(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest))
    return _remote(where)


def _remote(url: str) -> Path:
    try:
        from upath import UPath

        # Others write there too, so that what was listed before is no answer to what is there now.
        path: Any = UPath(url, use_listings_cache=False)
        path.fs  # noqa: B018  the packages of the protocol are missed here, and not in the middle of a run
    except ImportError as error:
        if error.name in ("upath", "fsspec", "s3fs", "aiohttp"):
            raise MissingExtra(f"reaching {url}", "remote") from error
        raise InputError(f"{url} cannot be reached: {str(error).partition(chr(10))[0]}") from error
    except ValueError as error:
        raise InputError(f"{url!r} is a URL of a kind that fsspec does not know", "s3://, gs://, az://, sftp:// or the like") from error
    return path  # type: ignore[no-any-return]


def is_remote(path: object) -> bool:
    """Whether `path` came from a URL."""
    return not isinstance(path, str | Path) and hasattr(path, "fs")


def service(path: Any) -> tuple[Any, str]:
    """The file system of fsspec that a URL lies in, and what it is called there."""
    return path.fs, str(path.path).rstrip("/")


def exists(path: Path) -> bool:
    """Whether there is something, be it a link that leads nowhere."""
    return path.exists() if is_remote(path) else os.path.lexists(path)


def canonical(path: Path) -> Path:
    """One path for one place; unlike `Path.resolve`, never an error."""
    return path if is_remote(path) else Path(os.path.realpath(path))


def has_metadata(path: Path) -> bool:
    """Whether a folder is a zarr group or array."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def is_folder(path: Path) -> bool:
    """Whether there is a folder; at a URL where folders cannot be asked for, whether a zarr store is there."""
    if not is_remote(path):
        return path.is_dir()
    with suppress(OSError), from_there(path):  # of a web server that lists nothing
        if path.is_dir():
            return True
    return has_metadata(path)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where there is such a thing."""
    if not is_remote(path):
        path.mkdir(parents=True, exist_ok=True)
    elif _protocol(path) not in WHOLE:
        fs, name = service(path)
        fs.makedirs(name, exist_ok=True)


def names_in(folder: Path) -> set[str]:
    """Names of what lies in a folder; none where there is no folder."""
    try:
        if is_remote(folder):
            fs, root = service(folder)
            return {str(entry).rstrip("/").rpartition("/")[2] for entry in fs.ls(root, detail=False)} - {""}
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except FileNotFoundError:
        return set()


def remove(path: Path) -> None:
    """Delete a file or a folder with all that is in it, if it is there."""
    if is_remote(path):
        fs, name = service(path)
        if path.exists():
            fs.rm(name, recursive=True)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def rename(path: Path, other: Path) -> None:
    """Give a file or folder another name; an object store copies what is in it for that."""
    if not is_remote(path):
        os.replace(path, other)
        return
    (fs, root), (_, new) = service(path), service(other)
    if _protocol(path) not in WHOLE:
        fs.mv(root, new)
        return
    files = fs.find(root)  # one by one, since what a service lists as folders cannot be copied
    fs.copy(files, [new + name[len(root) :] for name in files], on_error="raise")
    remove(path)


def put_remote(path: Path, data: bytes) -> None:
    """Write a small file at a URL, whole or not at all."""
    fs, name = service(path)
    if _protocol(path) in WHOLE:
        fs.pipe_file(name, data)
        return
    part = path.with_name(f".{path.name}.{uuid4().hex[:12]}")
    try:
        fs.pipe_file(service(part)[1], data)
        fs.mv(service(part)[1], name)
    except BaseException:
        remove(part)
        raise


def read_range(path: Path, start: int, stop: int) -> bytes:
    """Read a part of a file, in bytes."""
    if is_remote(path):
        fs, name = service(path)
        return bytes(fs.cat_file(name, start=start, end=stop)) if stop > start else b""
    with path.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


def upload(local: Path, path: Path) -> None:
    """Copy a file, or a zarr store that is whole, to a URL; what makes a reader take it for a store comes last."""
    if local.is_file():
        put_remote(path, local.read_bytes())
        return
    files = [file for file in local.rglob("*") if file.is_file()]
    for file in sorted(files, key=lambda f: (f.parent == local, f)):
        to = path.joinpath(*file.relative_to(local).parts)
        make_folder(to.parent)
        fs, name = service(to)
        fs.put_file(str(file), name)


def store_at(path: Path, *, read_only: bool = False) -> Store:
    """The zarr store at a place."""
    if is_remote(path):
        from zarr.storage import FsspecStore

        options = {**path.storage_options, "asynchronous": True}  # type: ignore[attr-defined]
        return FsspecStore.from_url(str(path), storage_options=options, read_only=read_only)
    from zarr.storage import LocalStore

    return LocalStore(path, read_only=read_only)


@contextmanager
def from_there(path: Path | str) -> Iterator[None]:
    """Turn what a service says into the errors of the system: a bucket that is not there, rights that are missing, a connection that breaks."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if "://" in str(path) and type(error).__module__.partition(".")[0] not in ("builtins", "napari_segsuite"):
            raise OSError(f"{path}: {type(error).__name__}: {error}") from error
        raise


def _protocol(path: Any) -> str:
    """The protocol of a URL."""
    return str(path.protocol)
