"""Attributes of DICOM headers as numbers and moments; what they hold in fact is checked, since files hold anything."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import AGAIN


class HasGet(Protocol):
    """A dataset, a group of attributes, or a mapping."""

    def get(self, name: str, /) -> Any:
        """The value of an attribute; None where there is none."""
        ...


def numbers(data: HasGet, name: str, n: int, path: Path) -> tuple[float, ...] | None:
    """An attribute of `n` numbers; None where it is missing or empty.

    Raises
    ------
    InputError
    """
    told = data.get(name)
    if told is None or told == "" or (hasattr(told, "__len__") and not len(told)):
        return None
    try:
        found = tuple(float(v) for v in (told if hasattr(told, "__iter__") and not isinstance(told, str) else [told]))
    except (TypeError, ValueError):
        found = ()
    if len(found) != n:
        raise InputError(f"the attribute {name} of {path} is {str(told)[:60]!r}", f"{n} number{'s' if n > 1 else ''}", AGAIN)
    return found


def times_of(known: HasGet, path: Path) -> dict[str, float]:
    """When a frame was taken, in all the ways that it says so: in seconds, or as a number.

    Parameters
    ----------
    known : anything with ``get``
        The attributes of a frame.
    path : Path
        To be named in errors.
    """
    found: dict[str, float] = {}
    for name, key, factor in (
        ("TemporalPositionIndex", "TemporalPositionIdentifier", 1.0),
        ("TemporalPositionIdentifier", "TemporalPositionIdentifier", 1.0),
        ("NominalCardiacTriggerDelayTime", "TriggerTime", 1e-3),
        ("TriggerTime", "TriggerTime", 1e-3),
    ):
        value = numbers(known, name, 1, path)
        if value is not None:
            found.setdefault(key, value[0] * factor)
    for name in ("FrameAcquisitionDateTime", "FrameReferenceDateTime", "AcquisitionDateTime"):
        if known.get(name):
            with suppress(ValueError):
                found.setdefault("AcquisitionTime", _seconds(str(known.get(name))))
    if known.get("AcquisitionTime"):
        with suppress(ValueError):
            found.setdefault("AcquisitionTime", _seconds(str(known.get("AcquisitionDate") or "19700101") + str(known.get("AcquisitionTime"))))
    return found


def _seconds(text: str) -> float:
    """A date and time as DICOM writes them, ``YYYYMMDDHHMMSS.FFFFFF&ZZXX``, in seconds."""
    whole, _, fraction = text.strip().partition(".")
    base = datetime.strptime(whole[:14].ljust(14, "0"), "%Y%m%d%H%M%S")
    return (base - datetime(1970, 1, 1)).total_seconds() + float(f"0.{fraction[:6].partition('+')[0].partition('-')[0] or 0}")
