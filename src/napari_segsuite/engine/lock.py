"""One process at a time: a lock on a file where the system has such a thing, and a lease that is renewed where it has not.

On a disk the system holds the lock and lets go of it when the process dies, however that happens. In an object store there is only a file that
says who holds it, so its holder changes it every few seconds. One that does not change any more was left by a process that died, and is taken
over. No clocks are compared: who wants the lease watches the file for a while.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from napari_segsuite.errors import OutputError
from napari_segsuite.io.faults import writing
from napari_segsuite.io.place import from_there, is_remote, make_folder, remove, service

BEAT_S = 3.0
"""A lease is renewed this often."""
DEAD_S = 15.0
"""One that nobody has renewed for so long is free."""

Check = Callable[[], None]


@contextmanager
def held(path: Path, what: Path) -> Iterator[Check]:
    """Hold a lock, which is a file that nothing else uses.

    Parameters
    ----------
    path : Path
        Of the lock.
    what : Path
        What it stands for, for messages.

    Yields
    ------
    callable
        Complains (`OutputError`) if the lock was lost meanwhile, as after a computer slept; to be called now and then.

    Raises
    ------
    OutputError
        Another process holds it.
    """
    with writing(path.parent):
        make_folder(path.parent)
    if is_remote(path):
        lease = _Lease(path, what)
        lease.take()
        try:
            yield lease.check
        finally:
            lease.give_back()
        return
    lock = FileLock(path, timeout=0)
    with writing(path.parent):
        try:
            lock.acquire()
        except Timeout as error:  # before `writing` sees it, since it is an OSError
            raise _taken(what, _told(path)) from error
    holder = _holder(path)
    with suppress(OSError):  # it is only to be told to others
        holder.write_text(json.dumps({"host": platform.node(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M")}), encoding="utf-8")
    try:
        yield lambda: None
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only process that writes a file: by a lock beside it, which goes when the file is there.

    Where there can be no lock (a URL, a disk without locks, a folder that is not there), `io.commit.replacing` still refuses to put a file in
    the place of one that came meanwhile.

    Raises
    ------
    OutputError
        Another process is writing it.
    """
    beside = path.with_name(f".{path.name[:120]}.lock")
    lock = None if is_remote(path) or not path.parent.is_dir() else FileLock(beside, timeout=0)
    if lock is not None:
        try:
            lock.acquire()
        except Timeout as error:
            raise _taken(path) from error
        except (OSError, NotImplementedError):
            lock = None
    try:
        yield
    finally:
        if lock is not None:
            with suppress(OSError):  # before it is released: nobody waits for it, and nobody else may hold it yet
                beside.unlink(missing_ok=True)
            lock.release()


def _holder(path: Path) -> Path:
    """The file beside a lock that says who holds it; the lock itself is emptied by everybody who tries to get it."""
    return path.with_name(f"{path.name}.holder")


def _told(path: Path) -> dict[str, Any] | None:
    """Who holds a lock, as far as that is known."""
    try:
        return dict(json.loads(_holder(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class _Lease:
    """Who holds something in an object store, as a file that is written again and again."""

    def __init__(self, path: Path, what: Path) -> None:
        self._path, self._what, self._owner, self._beats = path, what, uuid4().hex, 0
        self._over, self._lost = threading.Event(), False
        self._thread = threading.Thread(target=self._keep, name=f"lease of {what}", daemon=True)

    def take(self) -> None:
        """Get it, if need be after watching whether somebody still renews it."""
        with writing(self._path):
            while not self._made():
                self._watch()
            time.sleep(0.2)  # two that found a dead lease may both have deleted and made it: the later one holds it
            if not self._mine():
                raise _taken(self._what, self._read())
        self._thread.start()

    def check(self) -> None:
        """Complain if somebody else took it over."""
        if self._lost:
            found = f"{self._what} was taken over by another process{_who(self._read())}, because this one did not answer for {DEAD_S:.0f} s"
            raise OutputError(found, do="Nothing is lost. Stop one of the two, and start the same run again.")

    def give_back(self) -> None:
        """Let others have it."""
        self._over.set()
        self._thread.join(BEAT_S)
        with suppress(OSError), from_there(self._path):
            if self._mine():
                remove(self._path)

    def _made(self) -> bool:
        """Write it unless it is there."""
        try:
            fs, name = service(self._path)
            fs.pipe_file(name, self._told(), mode="create")
        except FileExistsError:
            return False
        return True

    def _watch(self) -> None:
        """Wait until whoever holds it has not renewed it for long, and delete it then.

        Raises
        ------
        OutputError
            It was renewed.
        """
        before, until = self._read(), time.monotonic() + DEAD_S
        while time.monotonic() < until:
            time.sleep(BEAT_S / 6)
            now = self._read()
            if now is None:
                return
            if now != before:
                raise _taken(self._what, now)
        if self._read() == before:
            remove(self._path)

    def _keep(self) -> None:
        while not self._over.wait(BEAT_S):
            with suppress(OSError), from_there(self._path):  # a connection that fails for a moment; if it does for long, another may take over
                if not self._mine():
                    self._lost = True
                    return
                self._beats += 1
                fs, name = service(self._path)
                fs.pipe_file(name, self._told())

    def _told(self) -> bytes:
        return json.dumps({"owner": self._owner, "beat": self._beats, "host": platform.node(), "pid": os.getpid()}).encode()

    def _read(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads(self._path.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _mine(self) -> bool:
        return (self._read() or {}).get("owner") == self._owner


def _taken(what: Path, holder: dict[str, Any] | None = None) -> OutputError:
    return OutputError(f"another process{_who(holder)} is writing {what}", do="Wait until it is done, stop it, or choose another output.")


def _who(holder: dict[str, Any] | None) -> str:
    since = f", since {holder['since']}" if holder and "since" in holder else ""
    return f" ({holder.get('pid')} on {holder.get('host')}{since})" if holder else ""
