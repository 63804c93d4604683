"""Which classes there are, and which class each label has: as the user says, as the label files say, or as the task means."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, OptionError
from napari_segsuite.models.classes import COLORS, WRITTEN, read_class
from napari_segsuite.types import Class, Segmentation


def parse(texts: Sequence[str], task: str) -> tuple[Class, ...]:
    """Read classes as they are written on the command line.

    Parameters
    ----------
    texts : sequence of str
        ``ID:NAME`` or ``ID:NAME:KIND``; without a kind, a class of a semantic task is stuff and any other one things.
    task : str

    Returns
    -------
    tuple of Class
        By rising id.

    Raises
    ------
    OptionError
        One cannot be read, ids are not 1, 2, 3, ..., stuff comes after things, or the kinds do not fit the task.

    Examples
    --------
    >>> [(c.id, c.name, c.countable) for c in parse(["1:membrane:stuff", "2:neurite:thing"], "panoptic")]
    [(1, 'membrane', False), (2, 'neurite', True)]
    """
    classes = tuple(sorted((read_class(text, task != "semantic") for text in texts), key=lambda c: c.id))
    if [c.id for c in classes] != list(range(1, len(classes) + 1)) or len(classes) > 255:
        raise OptionError(f"the ids of the classes are {', '.join(str(c.id) for c in classes)}", "1, 2, 3, ... without gaps, 255 at most")
    check(classes, task, "--classes")
    return classes


def check(classes: Sequence[Class], task: str, where: str) -> None:
    """Refuse classes whose order or kinds do not fit.

    Raises
    ------
    OptionError
    """
    told = ", ".join(f"{c.id} {c.name} ({'thing' if c.countable else 'stuff'})" for c in classes)
    if sorted(classes, key=lambda c: c.countable) != list(classes):
        raise OptionError(f"in {where} stuff comes after things: {told}", "stuff first")
    kinds = {c.countable for c in classes}
    needed = {"semantic": {False}, "instance": {True}, "panoptic": {False, True}}[task]
    if kinds != needed:
        words = {"semantic": "stuff only", "instance": "things only", "panoptic": "at least one class of stuff and one of things"}[task]
        raise OptionError(f"the classes of {where} are {told}", f"{words} for the task {task}", f"Say which they are: {WRITTEN}.")


def found(labels: Sequence[Segmentation], task: str) -> tuple[Class, ...]:
    """The classes where the user names none: those of the label files, else those that the task means.

    Raises
    ------
    InputError
        The label files have different classes, or none where the task needs to know them.
    OptionError
        Their classes do not fit the task.
    """
    told = {tuple(s.classes) for s in labels if is_told(s)}
    if len(told) > 1:
        raise InputError("label files have different classes", "the same in all", f"Say which they are: {WRITTEN}.")
    if told:
        classes = told.pop()
        check(classes, task, "the label files")
        return classes
    if task == "instance":
        return (Class(1, "object"),)
    if task == "panoptic":
        raise InputError("the label files do not say which classes there are", "stuff and things by name", f"Say which they are: {WRITTEN}.")
    top = max(int(s.labels.max(initial=0)) for s in labels)
    if top > 255:
        raise InputError(
            f"the label files have ids up to {top}", "class ids up to 255 for the task semantic", "If the ids are objects, use --task instance."
        )
    return tuple(Class(k, f"class {k}", COLORS[(k - 1) % len(COLORS)], countable=False) for k in range(1, top + 1))


def masks(labels: list[Segmentation], task: str) -> tuple[list[Segmentation], list[str]]:
    """Labels whose one number is not 1, such as masks of 0 and 255, as labels of class 1, where the task is classes and the files name none.

    Returns
    -------
    list of Segmentation, list of str
        The second says what was done.
    """
    if task != "semantic" or any(map(is_told, labels)):
        return labels, []
    ids = {int(i) for one in labels for i in np.unique(one.labels)} - {0}
    if len(ids) != 1 or ids == {1}:
        return labels, []
    made = [replace(one, labels=(one.labels != 0).astype(np.uint8)) for one in labels]
    return made, [f"the labels are masks of 0 and {ids.pop()}: the latter is class 1"]


def absent(classes: Sequence[Class], there: Collection[int]) -> str:
    """What to say of classes that no voxel has; empty where all are there."""
    names = [c.name for c in classes if c.id not in there]
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)} of {len(classes)} classes are nowhere in the labels ({shown}): are these the numbers of classes?" if names else ""


def is_told(labels: Segmentation) -> bool:
    """Whether a label file says which classes it has; without a word about them it is read as of one class ``object``."""
    return [c.name for c in labels.classes] != ["object"]


def class_of(labels: Segmentation, ids: NDArray[np.integer], classes: Sequence[Class], name: str) -> dict[int, int]:
    """The class of each id: by the file's own table, else ids up to the number of stuff classes are those classes, and others things.

    Raises
    ------
    InputError
        There are several classes of things and no table, or an id that is no class.
    """
    if is_told(labels):
        table: Mapping[int, int] = dict(zip(labels.segments["id"].tolist(), labels.segments["class_id"].tolist(), strict=True))
        unknown = sorted({table[int(i)] for i in ids} - {c.id for c in classes})
        if unknown:
            raise InputError(f"labels {name} have segments of class {unknown[0]}", f"classes 1 to {len(classes)}")
        return {int(i): int(table[int(i)]) for i in ids}
    stuff, things = [c.id for c in classes if not c.countable], [c.id for c in classes if c.countable]
    others = [int(i) for i in ids if int(i) not in stuff]
    if others and len(things) != 1:
        found = f"labels {name} have the id {others[0]}"
        if not things:
            raise InputError(found, f"ids of classes, 0 to {len(stuff)}", "If ids are objects, use --task instance.")
        raise InputError(f"{found}, and there are {len(things)} classes of things", "one class of things, or label files with a table of classes")
    return {int(i): int(i) if int(i) in stuff else things[0] for i in ids}
