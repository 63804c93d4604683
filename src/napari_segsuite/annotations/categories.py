"""Classes as data sets list them, numbered as their makers like, and as they are here: 1, 2, 3, ..., stuff first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from napari_segsuite.annotations.checks import get
from napari_segsuite.errors import InputError
from napari_segsuite.io.record import classes_of
from napari_segsuite.models.classes import COLORS
from napari_segsuite.types import Class

NUMBERS = "category_ids"
"""Where the record of labels keeps what the data set that they come from calls their classes."""


def numbered(found: Sequence[tuple[int, str, Any, bool]], where: str) -> tuple[tuple[Class, ...], dict[int, int]]:
    """Make classes of categories.

    Parameters
    ----------
    found : sequence of (number, name, colour, countable)
        The colour may be None.
    where : str
        The file, for messages.

    Returns
    -------
    classes, of
        Stuff first, numbered without gaps (as they are, where they are so already); and the class of each category.

    Raises
    ------
    InputError
        Two have one number.
    """
    if len({number for number, *_ in found}) != len(found):
        raise InputError(f"{where} has two categories with the same id", "one id each")
    ordered = sorted(found, key=lambda c: (c[3], c[0]))
    classes = tuple(
        Class(k, name, _color(color, k, where), countable) for k, (_, name, color, countable) in enumerate(ordered, start=1)
    )  # fmt: skip
    return classes, {number: k for k, (number, *_) in enumerate(ordered, start=1)}


def from_record(record: Mapping[str, Any], where: str) -> tuple[Class, ...]:
    """The classes that our own record beside annotations lists.

    Raises
    ------
    InputError
        It is damaged.
    """
    try:
        classes = classes_of(record)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise InputError(f"the list of classes in {where} is damaged ({error})") from error
    if not all(0 < c.id < 2**16 for c in classes) or len({c.id for c in classes}) != len(classes):
        raise InputError(f"the list of classes in {where} has the ids {[c.id for c in classes]}", "one id from 1 on for each")
    return classes


def to_provenance(of: Mapping[int, int]) -> dict[str, Any]:
    """Note what the categories were, where they were something else."""
    return {NUMBERS: {str(k): number for number, k in of.items()}} if any(k != number for number, k in of.items()) else {}


def numbers_of(classes: Sequence[Class], provenance: Mapping[str, Any]) -> dict[int, int]:
    """The category of each class: as in the data set that the labels come from, else its own number."""
    noted = provenance.get(NUMBERS, {})
    told = {c.id: noted.get(str(c.id)) for c in classes} if isinstance(noted, Mapping) else {}
    known = {k: n for k, n in told.items() if isinstance(n, int)}
    return known if len(known) == len(classes) == len({*known.values()}) else {c.id: c.id for c in classes}


def to_coco(classes: Sequence[Class], numbers: Mapping[int, int]) -> list[dict[str, Any]]:
    """The categories of a COCO file."""
    kinds = {True: "thing", False: "stuff"}
    told = [(numbers[c.id], c) for c in classes]
    return [{"id": n, "name": c.name, "supercategory": kinds[c.countable], "isthing": int(c.countable), "color": list(c.color)} for n, c in told]


def from_coco(document: Mapping[str, Any], path: Any) -> tuple[tuple[Class, ...], dict[int, int]]:
    """The classes of a COCO file; categories that do not say so are things.

    Raises
    ------
    InputError
    """
    found = []
    for k, entry in enumerate(get(document, "categories", list, str(path))):
        where = f"category {k} of {path}"
        found.append((get(entry, "id", int, where), get(entry, "name", str, where), entry.get("color"), bool(entry.get("isthing", 1))))
    return numbered(found, str(path))


def _color(value: Any, number: int, where: str) -> tuple[int, int, int]:
    if value is None:
        return COLORS[(number - 1) % len(COLORS)]
    try:
        red, green, blue = (int(v) for v in value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where} has {value!r} as the colour of a category", "three numbers from 0 to 255") from None
    if not all(0 <= v <= 255 for v in (red, green, blue)):
        raise InputError(f"{where} has {value!r} as the colour of a category", "three numbers from 0 to 255")
    return red, green, blue
