"""Writing so that a name only ever stands for a whole result: beside it first, then one rename.

1. `replacing` hands out a hidden sibling, ``.<name>.part-<pid>``.
2. The caller writes all of it there.
3. Its bytes are forced to the disk (`_sync`), and only then does it take the name (`_swap`).

Whatever fails before the last step leaves the old file as it was and nothing new under the name.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from napari_segsuite.errors import OutputError
from napari_segsuite.io.faults import patiently, writing
from napari_segsuite.io.place import exists, is_remote, put_remote, remove, upload

STALE_SECONDS = 86400.0
"""A hidden sibling that nobody touched for this long was left by a process that died."""


@contextmanager
def replacing(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a path to write a file or folder to that takes the place of `path` when the body ends without an error.

    Raises
    ------
    OutputError
        There is something already, or in the end, and `overwrite` is false; or the system refuses (folder missing, not writable, disk full).
    """
    check_free(path, overwrite=overwrite)
    if is_remote(path):
        with _uploading(path, overwrite=overwrite) as part:
            yield part
        return
    part = path.with_name(f".{path.name[:120]}.part-{os.getpid()}")
    try:
        with writing(path):
            sweep(path)
            remove(part)
            yield part
            _sync(part)
            check_free(path, overwrite=overwrite)  # another process may have been faster
            _swap(part, path)
    finally:
        _discard(part)


@contextmanager
def _uploading(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """The same for a URL: written here first, then sent."""
    with tempfile.TemporaryDirectory(prefix="segsuite-") as folder:
        part = Path(folder) / path.name
        yield part
        with writing(path):
            check_free(path, overwrite=overwrite)
            remove(path)
            upload(part, path)


def _discard(part: Path) -> None:
    """Delete what was not finished; after a Ctrl-C, a thread of zarr may still be writing a chunk while the folder goes."""
    for _ in range(40):
        with suppress(OSError):
            remove(part)
        if not os.path.lexists(part):
            return
        time.sleep(0.05)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Complain when something is at `path` that may not be replaced."""
    if not overwrite and exists(path):
        kind = "folder" if path.is_dir() else "file"
        raise OutputError(f"{kind} {path} exists already", do="Choose another name, or allow it to be replaced (overwrite=True, --overwrite).")


def sweep(path: Path) -> None:
    """Delete what processes that died left beside `path`."""
    now = time.time()
    for old in path.parent.iterdir():
        if old.name.startswith(f".{path.name[:120]}.part-") and now - old.stat().st_mtime > STALE_SECONDS:
            remove(old)


def _swap(part: Path, path: Path) -> None:
    if not (path.exists() and (part.is_dir() or path.is_dir())):
        os.replace(part, path)
    else:  # a folder cannot be replaced in one step: the old one steps aside, and comes back if the new one cannot take its place
        aside = path.with_name(f".{path.name[:120]}.old-{os.getpid()}")
        remove(aside)
        os.replace(path, aside)
        try:
            os.replace(part, path)
        except OSError:
            os.replace(aside, path)
            raise
        remove(aside)
    sync_folder(path.parent)


def _sync(part: Path) -> None:
    files = [Path(folder) / name for folder, _, names in os.walk(part) for name in names] if part.is_dir() else [part]
    for file in files:
        sync_file(file)


def sync_file(path: Path) -> None:
    """Force the bytes of a file to the disk."""
    with path.open("rb+") as opened:
        os.fsync(opened.fileno())


def put(path: Path, data: bytes, *, firm: bool = True) -> None:
    """Write a small file whole or not at all, replacing what is there; if `firm`, it survives a power cut from here on.

    Unlike with `replacing`, many processes may write into one folder at once, and nothing is looked up in it.
    """
    with writing(path):
        patiently(partial(put_remote, path, data) if is_remote(path) else partial(_put, path, data, firm=firm))


def _put(path: Path, data: bytes, *, firm: bool) -> None:
    part = path.with_name(f".{path.name}.{uuid4().hex[:12]}")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        if firm:
            sync_folder(path.parent)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def put_attributes(group: Path, more: Mapping[str, Any]) -> None:
    """Add attributes to a zarr group that is there, in one write that happens whole or not at all.

    zarr's own way copies every value before it writes it, indented: 2 s for 18,000 segments, and a third more to read.
    """
    file = group / ".zattrs" if (group / ".zgroup").is_file() else group / "zarr.json"
    told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    attributes = told if file.name == ".zattrs" else told.setdefault("attributes", {})
    attributes.update(more)
    put(file, json.dumps(told).encode())


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk."""
    if os.name != "posix":  # elsewhere a folder cannot be opened, and a rename needs no forcing
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
