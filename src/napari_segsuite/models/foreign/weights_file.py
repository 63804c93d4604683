"""Files of PyTorch's weights that say nothing but numbers and their names: which network they are of, seen before anything is opened."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

LOOKED_AT = 2**22
"""Bytes of the names in a file that are looked at."""


def is_weights(path: Path) -> bool:
    """Whether a zip file is weights as PyTorch stores them, and no package."""
    try:
        with zipfile.ZipFile(path) as file:
            return bool(_pickle(file))
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def names_in(path: Path) -> bytes:
    """The part of a file of weights that holds the names of its arrays, as it is; empty where it is something else."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                if not (name := _pickle(file)):
                    return b""
                with file.open(name) as names:
                    return names.read(LOOKED_AT)
        with path.open("rb") as plain:
            return plain.read(LOOKED_AT) if plain.read(1) == b"\x80" else b""
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return b""


def _pickle(file: zipfile.ZipFile) -> str:
    """The member that names the arrays in a file of PyTorch; empty where it is another zip file, or a program."""
    names = file.namelist()
    if any(re.fullmatch(r"[^/]+/code/.*", name) for name in names):
        return ""
    return next((name for name in names if re.fullmatch(r"[^/]+/data\.pkl", name)), "")
