"""XML that files bring along."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from xml.etree import ElementTree

from napari_segsuite.errors import InputError


def parsed(text: str, path: Path, what: str = "XML") -> ElementTree.Element:
    """The root of a file's XML.

    Raises
    ------
    InputError
        It defines entities, which can expand without bound.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(f"the {what} of {path} defines its own entities", f"plain {what}", "It may be an attack; export the file again.")
    return ElementTree.fromstring(text)


def number_of(text: str | None) -> float:
    """A number that a file writes as text; 0 for anything else.

    >>> number_of("2.5e-07"), number_of("nan"), number_of(None)
    (2.5e-07, 0.0, 0.0)
    """
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if isfinite(value) else 0.0
