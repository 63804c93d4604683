"""Files from strangers: names that stay in their folder, archives that stay in their bounds, downloads that stay what they were."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from napari_segsuite.errors import MissingExtra, ModelError, SegsuiteError

MEMBERS, TOTAL, RATIO = 1000, 4 * 2**30, 200
"""A package has at most this many files, this many bytes, and is packed at most this densely."""
OFFLINE = "SEGSUITE_OFFLINE"
STEP = 2**20
Show = Callable[[int, int], None]


def is_url(text: str) -> bool:
    """Whether it is an address on the web.

    >>> is_url("https://example.com/a.zip"), is_url("a.zip")
    (True, False)
    """
    return text.startswith(("http://", "https://"))


def safe_name(name: str, where: str) -> str:
    """A path inside a package, with slashes; never one that leads out of it, or means another file on another system.

    Raises
    ------
    ModelError

    Examples
    --------
    >>> safe_name("./a/b.npy", "rdf.yaml")
    'a/b.npy'
    """
    parts = [part for part in name.split("/") if part != "."]
    hidden = any(p in ("", "..") or p.endswith((".", " ")) or re.search(r'[\x00-\x1f\\:*?"<>|]', p) for p in parts)
    if not parts or hidden or len(name) > 250:
        raise ModelError(f"{where} names the file {name!r}", "a relative path that stays inside the package")
    return str(PurePosixPath(*parts))


def inside(folder: Path, name: str, where: str) -> Path:
    """The regular file of that name in a folder, reached without links.

    Raises
    ------
    ModelError
        It is not there, is no file, or a link leads to it.
    """
    path = folder
    for part in safe_name(name, where).split("/"):
        path = path / part
        if path.is_symlink():
            raise ModelError(f"{where} names the file {name!r}, and {path} is a link", "a file")
    if not path.is_file():
        raise ModelError(
            f"{where} names the file {name!r}, which is not in {folder}", "the whole package", "Get the package again, with all its files."
        )
    return path


@contextmanager
def naming(source: str, places: Mapping[str, str]) -> Iterator[None]:
    """Name in errors what the user gave, and not where it was unpacked or copied to.

    Parameters
    ----------
    source : str
        What the user gave.
    places : mapping
        Pattern of a place -> what it is to be called.
    """
    try:
        yield
    except SegsuiteError as error:
        kind, args = error.__reduce__()[:2]
        told = [str(text) for text in args]
        for place, name in places.items():
            told = [re.sub(place, name.replace("\\", r"\\"), text) for text in told]
        if not Path(source).is_dir():  # a file by itself is not in a folder of its name
            told = [text.replace(f"{source}/{PurePosixPath(source).name}", source) for text in told]
        if told == list(args):
            raise
        raise kind(*told) from error


def package_at(source: str) -> str:
    """What holds the files of a package: the folder, archive or network that is given, or the folder of a description."""
    if not source.lower().endswith((".yaml", ".yml")):
        return source
    return source.rpartition("/")[0] if is_url(source) else str(Path(source).parent)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unzip(path: Path, into: Path) -> None:
    """Unpack an archive into an empty folder.

    Raises
    ------
    ModelError
        It is damaged, a member would lie outside, is no regular file or stands for two, or it is larger than it may be.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            _check_members(path, members)
            for member in members:
                _extract(archive, member, into / safe_name(member.filename, str(path)), path)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise ModelError(f"{path} cannot be unpacked: {error}", "a zip file, whole and without a password") from error


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    total = sum(m.file_size for m in members)
    if len(members) > MEMBERS or total > TOTAL:
        raise ModelError(f"{path} holds {len(members)} files of {total / 2**20:.0f} MB", f"at most {MEMBERS} files and {TOTAL >> 20} MB")
    if total > 2**20 and total > RATIO * path.stat().st_size:
        raise ModelError(f"{path} would be {total // max(path.stat().st_size, 1)} times as large when unpacked", f"at most {RATIO} times")
    seen: dict[str, str] = {}
    for member in members:
        mode = member.external_attr >> 16
        if "\\" in member.orig_filename or (mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG)):
            raise ModelError(f"{path} holds {member.orig_filename!r}, which is a link or no ordinary file", "regular files only")
        name = unicodedata.normalize("NFC", safe_name(member.orig_filename, str(path))).casefold()
        if name in seen:
            raise ModelError(f"{path} holds both {seen[name]!r} and {member.filename!r}", "names that differ on every system")
        seen[name] = member.filename


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, path: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with archive.open(member) as source, target.open("xb") as file:
        while block := source.read(STEP):
            left -= len(block)
            if left < 0:
                raise ModelError(f"{path} holds {member.filename!r}, which is larger than the archive says", f"{member.file_size} bytes")
            file.write(block)


def download(url: str, into: Path, sha256: str = "", show: Show | None = None) -> Path:
    """Get a file from the web.

    Parameters
    ----------
    url : str
        http or https.
    into : Path
        Folder.
    sha256 : str, optional
        What the file must have.
    show : callable, optional
        Told bytes so far and bytes in all.

    Raises
    ------
    MissingExtra
        pooch is not installed.
    ModelError
        The network is switched off (``SEGSUITE_OFFLINE``), does not answer, or answers with another file than asked for.
    """
    if os.environ.get(OFFLINE, "0") not in ("", "0"):
        raise ModelError(f"{url} would be downloaded, and {OFFLINE} is set", "a file on this machine", f"Download it elsewhere, or unset {OFFLINE}.")
    try:
        import pooch
    except (ImportError, RuntimeError) as error:
        raise MissingExtra(f"downloading {url}", "imports") from error

    try:
        name = safe_name(PurePosixPath(unquote(urlsplit(url).path)).name or "package", url)
    except ValueError as error:
        raise ModelError(f"{url} is no address: {error}", "https://...") from error
    pooch.get_logger().setLevel("ERROR")
    try:
        got = pooch.retrieve(url, f"sha256:{sha256}" if sha256 else None, name, into, downloader=_Downloader(show))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{url} cannot be downloaded: {error}", "an address that answers with the file" + (f" of sha256 {sha256}" if sha256 else "")
        ) from error
    return Path(got)


class _Downloader:
    """What pooch calls to get a file: with a bound on its size, and telling how far it is."""

    def __init__(self, show: Show | None) -> None:
        self.show = show

    def __call__(self, url: str, output_file: Any, pooch: Any, check_only: bool = False) -> bool | None:
        request = urllib.request.Request(url, headers={"User-Agent": "napari-segsuite"})
        with urllib.request.urlopen(request, timeout=60) as answer, open(output_file, "wb") as file:
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while block := answer.read(STEP):
                done += len(block)
                if max(done, total) > TOTAL:
                    raise ValueError(f"it has more than {TOTAL >> 20} MB")
                file.write(block)
                if self.show:
                    self.show(done, total)
            if total and done != total:
                raise ValueError(f"{done} of {total} bytes came")
        return None
