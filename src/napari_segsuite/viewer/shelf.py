"""Adding, checking and removing models in a process of its own: opening a network loads torch, and may take long.

This module is imported in that process too, so nothing here may import Qt or napari.
"""

from __future__ import annotations

import concurrent.futures as cf
import re
import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from napari_segsuite.engine.progress import WAIT_S, Progress
from napari_segsuite.engine.scratch import count, counted, scratch
from napari_segsuite.errors import SegsuiteError
from napari_segsuite.models.foreign import home
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.types import ModelSpec
from napari_segsuite.viewer.child import Child

T = TypeVar("T")
ADDING = ".adding-*"
"""What a model lies in while it is being added."""


@dataclass(frozen=True)
class Wish:
    """A model to be added.

    Attributes
    ----------
    source : str
        Path or URL.
    name : str
        What to call it; empty: as it calls itself.
    sha256 : str
        What the file must have; empty: anything.
    overwrite : bool
        Replace a model of this name.
    form : Form
        What its files do not say themselves.
    agreed : mapping of file to sha256
        Programs that the user has agreed to run; any other is refused.
    """

    source: str
    name: str = ""
    sha256: str = ""
    overwrite: bool = False
    form: Form = field(default_factory=Form)
    agreed: Mapping[str, str] = field(default_factory=dict)


def add(wish: Wish, counter: Path) -> ModelSpec:
    """Add a model; to be called in the child.

    What the user agreed to is trusted by its sha256, never the model as such: what comes from a URL may be something else the second time.
    """
    from napari_segsuite.models.foreign.store import add as add_to_store

    tempfile.tempdir = str(counter.parent)  # deleted by the parent, also when this process is killed in the middle of a download
    new = set(wish.agreed.values()) - home.trusted()
    if new:
        home.trust({file: digest for file, digest in wish.agreed.items() if digest in new}, wish.name or Path(wish.source).name)
    try:
        return add_to_store(
            wish.source, wish.form, name=wish.name, overwrite=wish.overwrite, sha256=wish.sha256, show=lambda done, total: count(counter, done, total)
        )
    except BaseException:
        home.forget(new)
        raise
    finally:
        tempfile.tempdir = None


def check(name: str, counter: Path) -> str:
    """Run the test of a model that was added, and say how far it is from its makers' answers; to be called in the child."""
    from napari_segsuite.models.foreign.check import check as check_one

    return str(check_one(name))


def remove(name: str, counter: Path) -> str:
    """Delete a model that was added; to be called in the child."""
    from napari_segsuite.models.foreign.store import remove as remove_from_store

    remove_from_store(name)
    return name


def working(child: Child, words: str, function: Callable[[Any, Path], T], asked: Any) -> Generator[Progress, None, T]:
    """Have something done in the child.

    Yields
    ------
    Progress
        In kilobytes where something is downloaded, so that no number is too large for a bar of Qt.
    """
    before = set(home.home().glob(ADDING))
    with scratch() as folder, child.executor() as executor:
        counter = folder / "bytes"
        future = executor.submit(function, asked, counter)
        try:
            while not future.done():
                cf.wait([future], WAIT_S)
                done, total = (n >> 10 for n in counted(counter))
                yield Progress(done, total, f"{words}{f': {done / 1024:.0f} of {total / 1024:.0f} MB' if total else ''}")
            return future.result()
        finally:
            if not future.done():  # cancelled: the process was killed, and could not tidy up
                future.cancel()
                _sweep(set(home.home().glob(ADDING)) - before)


def programs(error: Exception) -> tuple[str, dict[str, str]]:
    """Why a model was refused that runs code of its own, and its files with their sha256; nothing of any other error."""
    if not isinstance(error, SegsuiteError) or error.do != home.SAY_SO:
        return "", {}
    why, _, listed = error.found.partition(" Its files: ")
    return why, dict(re.findall(r"(.+?) \(sha256 ([0-9a-f]{64})\)(?:, |$)", listed))


def _sweep(folders: set[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            shutil.rmtree(folder)
