"""Folders that TotalSegmentator (Wasserthal et al. 2023, doi:10.1148/ryai.230024) keeps its networks in: several results of nnU-Net as one model.

Which data sets are parts of which task, and the numbers of the classes, are those of ``totalsegmentator.map_to_binary`` (version 2.18): the classes
of a task are those of its parts, in the order of the parts. Its package is not needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from napari_segsuite.errors import ModelError, OptionError
from napari_segsuite.models.foreign import nnunet
from napari_segsuite.models.foreign.described import Parted
from napari_segsuite.models.foreign.form import Form

TASKS: Mapping[str, Mapping[int, int]] = {
    "total": {291: 24, 292: 26, 293: 18, 294: 23, 295: 26},
    "total_v3": {831: 24, 832: 26, 833: 18, 834: 23, 835: 26},
    "total_mr": {850: 29, 851: 21},
    "headneck_muscles": {778: 11, 779: 12},
}
"""Tasks of several networks: the number of each one's data set, in the order in which they are computed, and how many classes it has."""


def is_results(folder: Path) -> bool:
    """Whether a folder holds data sets of TotalSegmentator, one of which at least is a part of a task."""
    return bool(set(_sets(folder)) & {number for parts in TASKS.values() for number in parts})


def read(folder: Path, form: Form) -> Parted:
    """Read all parts of a task.

    Parameters
    ----------
    folder : Path
        With a folder per data set, as ``~/.totalsegmentator/nnunet/results``.
    form : Form
        What the user says; `weights` may name the task.

    Raises
    ------
    ModelError
        A part is missing, or is another one than its number says.
    OptionError
        The user names a task that is none, or classes of his own.
    """
    for name in ("classes", "outputs", "layout", "codec"):
        if getattr(form, name):
            raise OptionError(f"{name} is {getattr(form, name)!r}", "nothing: the classes of TotalSegmentator are known")
    there = _sets(folder)
    task = _task(folder, there, form.weights)
    told = []
    for number, count in TASKS[task].items():
        part = nnunet.read(_trained(there[number]), replace(form, weights=""))
        if len(part.said.classes) != count:
            raise ModelError(f"{part.folder} has {len(part.said.classes)} classes", f"{count}, as this part of the task {task} has")
        told.append(part)
    return Parted(f"totalsegmentator-{task}".replace("_", "-"), tuple(told))


def _sets(folder: Path) -> dict[int, Path]:
    """The data sets in a folder, by their numbers."""
    names = [path for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []
    return {int(match.group(1)): path for path in names if (match := re.match(r"Dataset(\d{3})_", path.name))}


def _task(folder: Path, there: Mapping[int, Path], wish: str) -> str:
    """The task that is wished, or the only one of which all parts are there."""
    if wish and wish not in TASKS:
        raise OptionError(f"weights is {wish!r}", f"a task of several networks: {', '.join(TASKS)}", "Others are added by their own folder.")
    whole = [task for task, parts in TASKS.items() if set(parts) <= set(there) and wish in ("", task)]
    if len(whole) > 1:
        raise OptionError(f"{folder} has all parts of {', '.join(whole)}", "one task", f"Say which, for example with --weights {whole[0]}.")
    if not whole:
        found = f"{folder} has the data sets {', '.join(map(str, there)) or 'none'}"
        parts = "; ".join(f"of {task} {', '.join(map(str, numbers))}" for task, numbers in TASKS.items() if wish in ("", task))
        do = f"Get them with: totalseg_download_weights -t {wish or 'total'}. A data set alone is added by its own folder."
        raise ModelError(found, f"all parts of a task: {parts}", do)
    return whole[0]


def _trained(folder: Path) -> Path:
    """The one training in a data set's folder."""
    found = [path for path in sorted(folder.iterdir()) if path.is_dir() and nnunet.is_results(path)]
    if len(found) != 1:
        raise ModelError(f"{folder} has {len(found)} trainings ({', '.join(p.name for p in found)})", f"one, with {nnunet.PLANS}")
    return found[0]
