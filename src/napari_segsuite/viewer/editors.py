"""Editors for values: what a form puts beside a field's name, by the field's type."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from dataclasses import Field
from typing import Any, Literal, Protocol, Union, get_args, get_origin

from qtpy.QtCore import QLocale, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QLineEdit, QSpinBox

from napari_segsuite.errors import OptionError

SUFFIXES = {"pixel": " px", "voxel": " voxels"}
LARGEST = 2**31 - 1


class Editor(Protocol):
    """What every editor can do; all are widgets too."""

    changed: Any

    def value(self) -> Any:
        """What the user entered."""

    def set_value(self, value: Any) -> None:
        """Show a value."""


class Flag(QCheckBox):
    """Yes or no."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.toggled.connect(self.changed)

    def value(self) -> bool:
        return bool(self.isChecked())

    def set_value(self, value: bool) -> None:
        self.setChecked(value)


class Choice(QComboBox):
    """One of a few words, or, where `free`, any other."""

    changed = Signal()

    def __init__(self, choices: Sequence[str], *, free: bool = False) -> None:
        super().__init__()
        self.setEditable(free)
        self.addItems([str(c) for c in choices])
        self.currentTextChanged.connect(self.changed)

    def value(self) -> str:
        return str(self.currentText())

    def set_value(self, value: str) -> None:
        if self.findText(value) < 0:
            self.addItem(value)
        self.setCurrentText(value)


class Whole(QSpinBox):
    """An integer between bounds, or none: one below the lower bound stands ``auto`` where a field may be empty."""

    changed = Signal()

    def __init__(self, low: float | None, high: float | None, unit: str, *, optional: bool) -> None:
        super().__init__()
        lowest = -LARGEST + 1 if low is None else int(low)
        self.setRange(lowest - optional, LARGEST if high is None else int(min(high, LARGEST)))
        self.setSuffix(SUFFIXES.get(unit, unit and f" {unit}"))
        if optional:
            self.setSpecialValueText("auto")
        self._optional = optional
        self.valueChanged.connect(lambda _: self.changed.emit())

    def value(self) -> int | None:
        number = int(super().value())
        return None if self._optional and number == self.minimum() else number

    def set_value(self, value: int | None) -> None:
        self.setValue(self.minimum() if value is None else value)


class Real(QDoubleSpinBox):
    """A number between bounds, or none: one step below the lower bound stands ``auto`` where a field may be empty."""

    changed = Signal()

    def __init__(self, low: float | None, high: float | None, unit: str, *, optional: bool) -> None:
        super().__init__()
        low, high = -1e9 if low is None else low, 1e9 if high is None else high
        step = 1.0 if high > 10 else 0.05
        self.setLocale(QLocale.c())
        self.setDecimals(30)  # all that a float has, down to a millionth; what is shown is in `textFromValue`
        self.setSingleStep(step)
        self.setRange(low - step if optional else low, high)
        self.setSuffix(SUFFIXES.get(unit, unit and f" {unit}"))
        if optional:
            self.setSpecialValueText("auto")
        self._optional = optional
        self.valueChanged.connect(lambda _: self.changed.emit())

    def textFromValue(self, value: float) -> str:
        """The shortest text that gives the same number again."""
        return repr(value).removesuffix(".0")

    def stepBy(self, steps: int) -> None:
        """Step without the dust of binary fractions, so that 0.3 stays 0.3."""
        super().stepBy(steps)
        self.setValue(round(super().value(), 6))

    def value(self) -> float | None:
        number = float(super().value())
        return None if self._optional and number == self.minimum() else number

    def set_value(self, value: float | None) -> None:
        self.setValue(self.minimum() if value is None else value)


class Text(QLineEdit):
    """Any text."""

    changed = Signal()

    def __init__(self, placeholder: str = "") -> None:
        super().__init__()
        self.setPlaceholderText(placeholder)
        self.textChanged.connect(lambda _: self.changed.emit())

    def value(self) -> Any:
        return str(self.text())

    def set_value(self, value: Any) -> None:
        self.setText(str(value))


class Words(Text):
    """Texts, separated by commas."""

    def value(self) -> tuple[str, ...]:
        return tuple(w.strip() for w in self.text().split(",") if w.strip())

    def set_value(self, value: Sequence[str]) -> None:
        self.setText(", ".join(value))


class Numbers(Text):
    """Numbers, whole ones or real ones, separated by spaces or commas."""

    def __init__(self, placeholder: str = "", *, whole: bool = True) -> None:
        super().__init__(placeholder)
        self._whole = whole

    def value(self) -> tuple[float, ...]:
        words = self.text().replace(",", " ").split()
        try:
            return tuple(int(w) if self._whole else float(w) for w in words)
        except ValueError:
            kind, example = ("whole numbers", "32 256 256") if self._whole else ("numbers", "0.5 0.25 0.25")
            raise OptionError(f"{self.text()!r} is not a row of {kind}", f"numbers like {example}, or nothing") from None

    def set_value(self, value: Sequence[float]) -> None:
        self.setText(" ".join(map(str, value)))


def editor_for(field: Field[Any], hint: Any) -> Any:
    """Make the editor that fits a field's type.

    Raises
    ------
    TypeError
        There is none for such a type; that is a mistake in the dataclass.
    """
    low, high, unit = (field.metadata.get(k) for k in ("ge", "le", "unit"))
    inner, optional = _without_none(hint)
    if get_origin(inner) is Literal:
        return Choice(get_args(inner))
    if inner is float:
        return Real(low, high, unit or "", optional=optional)
    if inner is int:
        return Whole(low, high, unit or "", optional=optional)
    makers: dict[Any, Callable[[], Any]] = {
        bool: Flag,
        str: Text,
        tuple[int, ...]: lambda: Numbers("auto"),
        tuple[float, ...]: lambda: Numbers("auto", whole=False),
        tuple[str, ...]: lambda: Words("auto"),
    }
    if inner not in makers or optional:
        raise TypeError(f"there is no editor for the field {field.name!r} of type {hint}")
    return makers[inner]()


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
        return next(a for a in get_args(hint) if a is not type(None)), True
    return hint, False
