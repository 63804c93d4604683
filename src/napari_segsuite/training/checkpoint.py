"""The state of a training on disk, the last and the one before it: a damaged one costs a few steps, and not the training."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from napari_segsuite.errors import ModelError
from napari_segsuite.io.commit import sync_folder

LAST, EARLIER = "checkpoint.pt", "checkpoint.before.pt"

log = logging.getLogger(__name__)


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the state only when the new one is safely on disk; what it replaces steps aside.

    Raises
    ------
    OSError
        It cannot be written; what was there stays.
    """
    part = folder / f"{LAST}.part"
    try:
        with part.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
    except RuntimeError as error:
        part.unlink(missing_ok=True)
        if isinstance(error.__context__, (KeyboardInterrupt, OSError)):  # torch closes its archive, fails at that, and hides what had stopped it
            raise error.__context__ from None
        raise
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if (folder / LAST).exists():
        (folder / LAST).replace(folder / EARLIER)
    part.replace(folder / LAST)
    sync_folder(folder)


def load(folder: Path) -> dict[str, Any] | None:
    """The last state that is whole; None where there is none yet.

    Raises
    ------
    ModelError
        What is there is damaged.
    """
    damaged = []
    for path in (folder / LAST, folder / EARLIER):
        if not path.exists():
            continue
        try:
            state = _read(path)
        except Exception:  # noqa: BLE001  whatever the bytes made of it
            damaged.append(path)
            continue
        for bad in damaged:
            log.warning("%s is damaged; the training goes on from step %s", bad, state["step"])
            bad.unlink()
        return state
    if damaged:
        found = f"the state of the training in {damaged[0]} is damaged"
        raise ModelError(found, do="Copy it again from where it was whole, or begin anew with --overwrite.")
    return None


def remove(folder: Path) -> None:
    """Delete what is needed no more."""
    for name in (LAST, EARLIER):
        (folder / name).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    """A state, if every byte of it is as it was written: torch does not compare the checksums in its files."""
    with zipfile.ZipFile(path) as archive:
        if bad := archive.testzip():
            raise ValueError(bad)
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if not {"step", "net", "average", "optimizer"} <= set(state):
        raise ValueError("no state of a training")
    return state
