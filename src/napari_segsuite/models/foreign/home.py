"""The user's folder of models, and what in it is trusted: files that run code of their own when they are opened, known by their sha256.

The list of what is trusted lies in this folder, never in a package, which could otherwise say of itself that it is trusted.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import platformdirs

from napari_segsuite.errors import ModelError

LIST = "trusted.json"
SAY_SO = "If you do, say so with --trust."
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that no file can have on Windows, where models may be copied to."""
WHY = {
    "torchscript": "a TorchScript file is a program, which can read and write files when it is loaded or run",
    "pt2": "a torch.export file is opened by unpickling, which can run any code",
    "pytorch_state_dict": "the network is Python code of the package, which is run when it is loaded",
}
"""The kinds of networks that are programs: kind -> what they can do."""


def home() -> Path:
    """The user's folder of models: ``SEGSUITE_MODELS``, or ``models`` in the folder that the system has for data of programs."""
    told = os.environ.get("SEGSUITE_MODELS")
    return Path(told).expanduser() if told else Path(platformdirs.user_data_dir("napari-segsuite", appauthor=False)) / "models"


def installed() -> dict[str, Path]:
    """The models in the user's folder: name -> folder."""
    return {path.parent.name: path.parent for path in sorted(home().glob("*/model.json")) if NAME.fullmatch(path.parent.name)}


def trusted() -> set[str]:
    """The sha256 of all files that the user trusts.

    Raises
    ------
    ModelError
        The list is damaged.
    """
    path = home() / LIST
    if not path.exists():
        return set()
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {str(digest) for digest in told["sha256"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} cannot be read: {error}", "the list of files that are trusted", "Delete it, and add the models again.") from error


def trust(files: Mapping[str, str], name: str) -> None:
    """Note that these files (name -> sha256) of a model are trusted."""
    path = home() / LIST
    told = {"sha256": dict.fromkeys(trusted(), "")}
    if path.exists():
        told = json.loads(path.read_text(encoding="utf-8"))
    told["sha256"] |= {digest: f"{name}: {file}" for file, digest in files.items()}
    _write(path, told)


def forget(digests: Iterable[str]) -> None:
    """Trust these no more."""
    path = home() / LIST
    if path.exists() and (gone := set(digests) & trusted()):
        told = json.loads(path.read_text(encoding="utf-8"))
        _write(path, {"sha256": {digest: text for digest, text in told["sha256"].items() if digest not in gone}})


def demand(kind: str, files: Mapping[str, str], name: str, do: str) -> None:
    """Refuse a network that is a program, unless the user trusts all its files (name -> sha256).

    Raises
    ------
    ModelError
        Names the files with their sha256, what they could do, and what to do.
    """
    strange = {file: digest for file, digest in files.items() if digest not in trusted()}
    if kind in WHY and strange:
        listed = ", ".join(f"{file} (sha256 {digest})" for file, digest in strange.items())
        raise ModelError(f"model {name!r} runs code of its own: {WHY[kind]}. Its files: {listed}", "your word that you trust where they are from", do)


def _write(path: Path, told: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    part.replace(path)
