"""A class as it is written on the command line and in forms: ``ID:NAME``, ``ID:NAME:stuff`` or ``ID:NAME:thing``."""

from __future__ import annotations

from napari_segsuite.errors import OptionError
from napari_segsuite.types import Class

KINDS = {"stuff": False, "thing": True}
COLORS = ((255, 127, 14), (31, 119, 180), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (227, 119, 194), (188, 189, 34))
WRITTEN = "ID:NAME or ID:NAME:stuff or ID:NAME:thing, as in --classes 1:membrane:stuff,2:neurite:thing"


def read_class(text: str, countable: bool) -> Class:
    """Read a class; `countable` is what it is where the text does not say.

    Raises
    ------
    OptionError

    Examples
    --------
    >>> read_class("2:neurite:thing", False).countable
    True
    """
    parts = [part.strip() for part in text.split(":")]
    if len(parts) not in (2, 3) or not parts[0].isdecimal() or not parts[1] or (len(parts) == 3 and parts[2] not in KINDS):
        raise OptionError(f"class {text!r} cannot be read", WRITTEN)
    number = int(parts[0])
    return Class(number, parts[1], COLORS[(number - 1) % len(COLORS)], KINDS[parts[2]] if len(parts) == 3 else countable)
