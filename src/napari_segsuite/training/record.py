"""What lies beside a model in the making: which job it is, how far it is, what came out. And when the folder may be written to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_segsuite.errors import OptionError, OutputError
from napari_segsuite.io.commit import replacing
from napari_segsuite.io.faults import reading, writing
from napari_segsuite.models import load_spec
from napari_segsuite.training.options import TrainOptions

FOLDER = "training"
"""Inside the model's folder: everything that is not the model."""
JOB, RESULT = "job.json", "result.json"
MODEL = ("model.json", "weights.safetensors", "card.md")
_ELSEWHERE = ("images", "labels", "device")
"""Wishes that change neither what is trained nor on what: the job is known by the pixels, not by where they lie."""


def job_of(options: TrainOptions, digests: Mapping[str, str]) -> dict[str, Any]:
    """The identity of a training: what was wished, the pixels and labels, and the weights that it begins with."""
    wishes = {name: value for name, value in options.to_json().items() if name not in _ELSEWHERE}
    wishes |= {"codec": options.codec_name, "net": options.net_name}
    if options.init is not None:
        wishes["init"] = load_spec(options.init).weights_sha256 or options.init
    return {"options": wishes, "data": dict(digests)}


def check_folder(out: Path, options: TrainOptions, overwrite: bool) -> None:
    """Refuse a folder that cannot be this model's, before anything is read.

    Raises
    ------
    OutputError
        It is a file, or holds something else.
    OptionError
        It is the model to begin with.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file", "a folder for the model", "Choose another --out.")
    if options.init is not None and out.exists() and Path(options.init).expanduser().resolve() == out.resolve():
        raise OptionError(f"model {options.init!r} is to be trained into its own folder", do="Choose another --out.")
    if overwrite or not out.is_dir() or (out / FOLDER / JOB).is_file():
        return
    there = sorted(p.name for p in out.iterdir() if not p.name.startswith("."))
    if there:
        found = f"folder {out} holds {', '.join(there[:4])}{', ...' if len(there) > 4 else ''}, and no training of ours"
        raise OutputError(found, "an empty folder, or a new one", "Choose another --out, or allow it to be replaced (--overwrite).")


def begin(out: Path, job: Mapping[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """Make the folder ready; what came out, if this job is done already.

    Raises
    ------
    OutputError
        Another job lies there, and it is not to be replaced; the first difference is named.
    """
    folder = out / FOLDER
    before = read(folder / JOB)
    if before == job and not overwrite:
        return read(folder / RESULT) if (out / MODEL[0]).is_file() else None
    if before is not None and not overwrite:
        found = f"folder {out} holds another training: {_difference(before, job)}"
        raise OutputError(found, do="Choose another --out, or allow it to be replaced (--overwrite).")
    with writing(folder / JOB):
        for name in MODEL:
            (out / name).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    write(folder / JOB, job)
    return None


def read(path: Path) -> dict[str, Any] | None:
    """A JSON object, where it is there."""
    if not path.is_file():
        return None
    with reading(path):
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return told


def write(path: Path, told: Mapping[str, Any]) -> None:
    """Write a JSON object, whole or not at all."""
    write_text(path, json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    with replacing(path, overwrite=True) as part:
        part.write_text(text, encoding="utf-8")


def _difference(before: Mapping[str, Any], job: Mapping[str, Any]) -> str:
    """The first thing in which two jobs differ."""
    old, new = before.get("options", {}), job["options"]
    for name in new:
        if old.get(name) != new[name]:
            return f"{name} was {_told(old.get(name))} and is {_told(new[name])}"
    old, new = before.get("data", {}), job["data"]
    changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    words = "is new" if changed and changed[0] not in old else "is gone" if changed and changed[0] not in new else "changed"
    return f"{changed[0]} {words}" if changed else "it was made by another version"


def _told(value: Any) -> str:
    return "empty" if value in (None, [], "") else f"{value!r}"
