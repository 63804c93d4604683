"""A form made from a dataclass: one editor per field, with the field's words, unit and bounds from its metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Any, Generic, TypeVar, get_type_hints

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QFormLayout, QToolButton, QVBoxLayout, QWidget

from napari_segsuite.viewer.editors import editor_for

D = TypeVar("D")


class Form(QWidget, Generic[D]):
    """A form whose value is an instance of a dataclass.

    Parameters
    ----------
    kind : type
        A dataclass whose fields' metadata may hold ``help``, ``unit``, ``ge``, ``le`` and ``advanced``.
    editors : mapping of field name to editor, optional
        Editors for fields that need more than their type says.
    notes : mapping of field name to widget, optional
        Shown below the field.
    above, below : mapping of label to widget, optional
        Rows above the first field and below the last that is not folded away.

    Attributes
    ----------
    advanced : QWidget
        The advanced fields, folded away; to be put wherever there is room for them.
    """

    changed = Signal()

    def __init__(
        self,
        kind: Callable[..., D],
        editors: Mapping[str, Any] | None = None,
        notes: Mapping[str, QWidget] | None = None,
        above: Mapping[str, QWidget] | None = None,
        below: Mapping[str, QWidget] | None = None,
    ) -> None:
        super().__init__()
        self._kind = kind
        self._editors: dict[str, Any] = {}
        self._rows: dict[str, QFormLayout] = {}
        plain, inside = QFormLayout(self), QWidget()
        folded = QFormLayout(inside)
        for layout, indent in ((plain, 0), (folded, 12)):
            layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
            layout.setContentsMargins(indent, 0, 0, 0)
            layout.setVerticalSpacing(4)
        for text, widget in (above or {}).items():
            plain.addRow(text, widget)
        hints = get_type_hints(kind)
        for field in fields(kind):  # type: ignore[arg-type]
            layout = folded if field.metadata.get("advanced") else plain
            self._add(field, (editors or {}).get(field.name) or editor_for(field, hints[field.name]), layout, (notes or {}).get(field.name))
        for text, widget in (below or {}).items():
            self._leave_wheel(widget)
            plain.addRow(text, widget)
        self.advanced = _fold("Advanced", inside)
        self.advanced.setVisible(folded.rowCount() > 0)
        self.set_value(kind())

    def value(self) -> D:
        """What is entered.

        Raises
        ------
        OptionError
            Something cannot be read.
        """
        return self._kind(**{name: editor.value() for name, editor in self._editors.items()})

    def set_value(self, value: D) -> None:
        """Show a value; `value` gives it back unchanged."""
        for name, editor in self._editors.items():
            editor.set_value(getattr(value, name))

    def editor(self, name: str) -> Any:
        """The editor of a field."""
        return self._editors[name]

    def show_field(self, name: str, visible: bool) -> None:
        """Show or hide a field with its label."""
        self._rows[name].setRowVisible(self._editors[name], visible)

    def _add(self, field: Field[Any], editor: Any, layout: QFormLayout, note: QWidget | None) -> None:
        editor.setToolTip(tooltip(field))
        editor.setAccessibleName(label(field.name))
        editor.changed.connect(self.changed)
        self._leave_wheel(editor)
        layout.addRow(label(field.name), editor)
        layout.labelForField(editor).setToolTip(tooltip(field))
        if note is not None:
            layout.addRow(note)
        self._editors[field.name], self._rows[field.name] = editor, layout

    def _leave_wheel(self, editor: QWidget) -> None:
        """The wheel scrolls the dock; it must not change a number that happens to be under the pointer."""
        for part in [editor, *editor.findChildren(QComboBox), *editor.findChildren(QAbstractSpinBox)]:
            part.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            part.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Let the wheel through to an editor only when it has been clicked."""
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QComboBox | QAbstractSpinBox) and not watched.hasFocus():
            event.ignore()
            return True
        return bool(super().eventFilter(watched, event))


def label(name: str) -> str:
    """Turn a field's name into words.

    >>> label("min_size_px")
    'Min size'
    """
    return name.removesuffix("_px").removesuffix("_um").replace("_", " ").capitalize()


def tooltip(field: Field[Any]) -> str:
    """All that a field's metadata says."""
    told = str(field.metadata.get("help", ""))
    low, high, unit = (field.metadata.get(k) for k in ("ge", "le", "unit"))
    bounds = f" ({low:g} to {high:g}{f' {unit}' if unit else ''})" if low is not None and high is not None else f" ({unit})" if unit else ""
    return f"<p>{told[:1].upper()}{told[1:]}{bounds}.</p>"


def _fold(title: str, inside: QWidget) -> QWidget:
    """Put a widget below a button that shows and hides it; hidden at first."""
    outside, button = QWidget(), QToolButton()
    button.setText(title)
    button.setCheckable(True)
    button.setAutoRaise(True)
    button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)

    def fold(opened: bool) -> None:
        button.setArrowType(Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow)
        inside.setVisible(opened)

    button.toggled.connect(fold)
    fold(False)
    layout = QVBoxLayout(outside)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(button)
    layout.addWidget(inside)
    return outside
