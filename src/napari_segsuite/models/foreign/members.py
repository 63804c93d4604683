"""A model that is made of several, on disk: their folders in its own, and a description that names all files of theirs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from napari_segsuite.models.folder import FORMAT
from napari_segsuite.models.foreign.archive import sha256_of
from napari_segsuite.types import ModelSpec


def member(number: int) -> str:
    """The folder of a member, in the model's.

    >>> member(3)
    'members/3'
    """
    return f"members/{number}"


def of_members(folder: Path, spec: ModelSpec, kind: str) -> ModelSpec:
    """The description of what is made of all models in a folder, which lie there already.

    Parameters
    ----------
    folder : Path
    spec : ModelSpec
        Its `net` may say what is not said by its members.
    kind : str
        `folder.ENSEMBLE` or `folder.PARTS`.
    """
    count = len(list((folder / member(0)).parent.iterdir()))
    files = {path.relative_to(folder).as_posix(): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    return replace(spec, net={**spec.net, "name": kind, "members": [member(k) for k in range(count)], "files": files})


def write_spec(folder: Path, spec: ModelSpec) -> None:
    """Write a model's description into its folder."""
    told = {"format": FORMAT, **asdict(spec)}
    (folder / "model.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
