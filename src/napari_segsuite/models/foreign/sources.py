"""From where a user says a model is to the files of it that are needed, in one folder."""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from napari_segsuite.errors import ModelError
from napari_segsuite.models.foreign.archive import Show, download, inside, is_url, naming, sha256_of, unzip
from napari_segsuite.models.foreign.network import check_kind, needs
from napari_segsuite.models.foreign.rdf import Package, Weights
from napari_segsuite.models.foreign.tensors import Source
from napari_segsuite.models.foreign.weights_file import is_weights

PACKAGE = "package"
"""The folder, in a model's, that the files of others lie in."""
UNPACKED = "unpacked"
"""The folder that an archive is unpacked into, whose name says nothing."""


@contextmanager
def found(source: str, sha256: str = "", show: Show | None = None) -> Iterator[Path]:
    """A file or folder on this machine that a path or URL stands for, unpacked where it is an archive, for as long as it is needed.

    Raises
    ------
    ModelError
        There is nothing, or it cannot be had.
    """
    if not is_url(source) and (scheme := re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source)):
        found = f"{source} is an address of a kind that models are not fetched from ({scheme[0]})"
        raise ModelError(found, "https:// or http://, or a file or folder on this machine", "Download it first.")
    with tempfile.TemporaryDirectory(prefix="segsuite-") as made:
        work = Path(made)
        path = download(source, work / "download", sha256, show) if is_url(source) else Path(source).expanduser()
        if not path.exists():
            raise ModelError(f"there is no file or folder {source}", "a package, or a network as .onnx, .pt or .pt2")
        unpacked = work / UNPACKED
        with naming(source, {re.escape(str(place)): source for place in (unpacked, *([path] if is_url(source) else []))}):
            if sha256 and path.is_file() and (got := sha256_of(path)) != sha256:
                raise ModelError(f"{source} has the sha256 {got}", sha256)
            if path.is_file() and (path.suffix.lower() == ".zip" or (not path.suffix and _is_archive(path))):
                unpacked.mkdir()
                unzip(path, unpacked)
                inner = list(unpacked.iterdir())
                path = inner[0] if len(inner) == 1 and inner[0].is_dir() else unpacked
            yield path


def _is_archive(path: Path) -> bool:
    """Whether a file without an ending is a zip file of something else than weights of PyTorch, which are zip files as well."""
    return zipfile.is_zipfile(path) and not is_weights(path)


def gathered(package: Package, weights: Weights, new: Path, origin: str = "", show: Show | None = None) -> dict[str, Any]:
    """Bring the files of a package that are needed into a folder.

    Parameters
    ----------
    package : Package
    weights : Weights
    new : Path
    origin : str
        URL of the description, where it came from one.
    show : callable, optional

    Returns
    -------
    dict
        What `network.opened` must know of the network, with names relative to `new`.
    """
    into = new / PACKAGE
    for source in [*([weights.code] if weights.code else []), weights.source, *tests_of(package)]:
        fetch(package, source, into, origin, show)
    beside = package.path.parent / weights.source.path
    for path in needs(weights.kind, beside) if beside.is_file() else []:
        copy(path, into / path.relative_to(package.path.parent))
    net = net_of(weights.kind, into / weights.source.path, new)
    if weights.code:
        code = f"{PACKAGE}/{weights.code.path}"
        net["files"] |= {code: sha256_of(new / code)}
        net |= {"code": code, "callable": weights.callable, "kwargs": dict(weights.kwargs or {})}
    return net


def net_of(kind: str, file: Path, new: Path) -> dict[str, Any]:
    """What `network.opened` must know of a network's files."""
    if kind != "pytorch_state_dict":
        check_kind(kind, file)
    files = {path.relative_to(new).as_posix(): sha256_of(path) for path in [file, *needs(kind, file)]}
    return {"name": kind, "file": file.relative_to(new).as_posix(), "files": files}


def fetch(package: Package, source: Source, into: Path, origin: str = "", show: Show | None = None) -> Path:
    """Copy or download a file that a package names, and check its sha256 where that is said.

    Raises
    ------
    ModelError
    """
    target = into / source.path
    beside = package.path.parent / source.path
    url = source.url or (urljoin(origin, source.path) if origin.endswith((".yaml", ".yml")) else "")
    if url and not beside.is_file():
        with tempfile.TemporaryDirectory(prefix="segsuite-") as made:
            copy(download(url, Path(made), source.sha256, show), target)
    else:
        copy(inside(package.path.parent, source.path, str(package.path)), target)
    if source.sha256 and (got := sha256_of(target)) != source.sha256:
        raise ModelError(f"{package.path}: {source.path} has the sha256 {got}", f"{source.sha256}, as the description says", "Get the package again.")
    return target


def tests_of(package: Package) -> list[Source]:
    return [t.test for t in (*package.inputs, *package.outputs) if t.test]


def copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if not to.exists():
        shutil.copyfile(path, to)
