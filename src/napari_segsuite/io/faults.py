"""What goes wrong with files, in words: decoders' exceptions become `InputError`, the system's become `OutputError`."""

from __future__ import annotations

import errno
import lzma
import os
import random
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from napari_segsuite.errors import InputError, MissingExtra, OutputError, SegsuiteError
from napari_segsuite.io.place import from_there, is_folder, is_remote

Result = TypeVar("Result")

BROKEN = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, MemoryError, NameError, OSError, RuntimeError, SyntaxError,
    TypeError, ValueError, lzma.LZMAError, struct.error, zlib.error,
)  # fmt: skip
"""What decoders raise when they meet bytes that they did not expect."""

AGAIN = "It is truncated or damaged; copy or export it again."
"""What to do with a file that is not whole."""

_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}
PASSING = {
    getattr(errno, name)
    for name in ("EIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "ECONNRESET", "ECONNABORTED", "ENETRESET", "EREMOTEIO")
    if hasattr(errno, name)
}
"""What a disk in the network answers while it is looked for, and what may be gone a moment later."""
TRIES, WAIT_S = 3, 0.1
"""How often something is tried that fails so, and how long is waited before the second time; twice as long before the third."""
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def reading(path: Path, part: str = "") -> Iterator[None]:
    """Turn whatever a decoder raises into an `InputError` that names the file and what failed.

    Parameters
    ----------
    path : Path
    part : str
        What is being read of it, such as ``"chunk (0, 3)"``.
    """
    try:
        with from_there(path):
            yield
    except SegsuiteError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"no file at {path}", do="Check the path.") from error
    except PermissionError as error:
        raise InputError(f"file {path} may not be read ({error.strerror})", do="Ask for the right to read it, or copy it.") from error
    except BROKEN as error:
        if "imagecodecs" in str(error) or isinstance(error, ImportError):
            raise MissingExtra(f"reading file {path}, which is compressed,", "codecs") from error
        what = f"reading {part} failed" if part else "reading failed"
        raise InputError(f"file {path} cannot be read: {what} ({_brief(error)})", do=AGAIN) from error


def check_is_there(path: Path) -> None:
    """Complain when there is nothing at `path`."""
    try:
        with from_there(path):
            there = is_folder(path) or path.exists()
        special = there and not is_remote(path) and not path.is_file() and not path.is_dir()
    except (OSError, ValueError) as error:  # a loop of links, a name that is too long, a null character
        raise InputError(f"{str(path)!r} is not a path that can be opened ({_brief(error)})") from error
    if not there:
        raise InputError(f"no file at {path}", do="Check the path.")
    if special:
        raise InputError(f"{path} is a pipe, a socket or a device", "a file, which can be read more than once", "Save it to a file first.")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says about a write into an `OutputError` that names the file and the way out."""
    try:
        with from_there(path):
            yield
    except OSError as error:
        raise told(error, path) from error


def patiently(call: Callable[[], Result]) -> Result:
    """Do something again, a moment later, that failed for a reason that may pass (`PASSING`); the last failure is passed on."""
    for k in range(TRIES - 1):
        try:
            return call()
        except Exception as error:
            if not _may_pass(error):
                raise
        time.sleep(WAIT_S * 2**k * (1 + random.random()))  # so that workers that failed together do not ask together again
    return call()


def _may_pass(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, is one of the system that may pass."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in PASSING:
            return True
        error = error.__cause__ or error.__context__
    return False


def told(error: OSError, path: Path) -> OutputError:
    """Say what a failed write to `path` means for its user."""
    folder = path.parent
    if error.errno in _FULL:
        found = f"the disk is full: {path} could not be written ({_free(folder)} free)"
        return OutputError(found, do=f"Make room in {folder}, or choose another folder.")
    if error.errno in _DENIED:
        return OutputError(f"folder {folder} may not be written to, so {path.name} was not saved", do="Choose another folder.")
    if error.errno == errno.EFBIG:
        return OutputError(f"file {path} would be larger than this file system or user may write", do="Choose another folder, or .ome.zarr.")
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return OutputError(f"there is no folder {folder} for {path.name}", do="Make the folder first, or choose another.")
    if error.errno == errno.ENAMETOOLONG:
        do = "Give the result a shorter name of its own, or rename the input."
        return OutputError(f"the name {path.name} is too long for this file system", do=do)
    return OutputError(f"file {path} could not be written ({_brief(error)})")


def size_text(nbytes: float) -> str:
    """Write a number of bytes for people.

    >>> size_text(150), size_text(37.2e9)
    ('150 bytes', '37.2 GB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= factor:
            return f"{nbytes / factor:.1f} {unit}"
    return f"{nbytes:.0f} bytes"


def _free(folder: Path) -> str:
    try:
        return size_text(shutil.disk_usage(folder).free)
    except OSError:
        return "nothing"


def _brief(error: BaseException) -> str:
    text = os.linesep.join(str(error).splitlines()[:1])[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
