"""What the docks say: no word of the command line, and nothing that Python would call a field."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from napari.utils.theme import get_theme
from pytestqt.qtbot import QtBot
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QVBoxLayout, QWidget

import napari_segsuite
from napari_segsuite.engine.plan import Options
from napari_segsuite.errors import OptionError, OutputError, SegsuiteError
from napari_segsuite.viewer.panel import quiet_label
from napari_segsuite.viewer.words import complaint, in_form

ROOM = Path(napari_segsuite.__file__).parent
SEEN = [*ROOM.glob("engine/*.py"), *ROOM.glob("codecs/*.py"), *ROOM.glob("models/*.py"), *ROOM.glob("viewer/*.py"), ROOM / "io" / "commit.py"]
SEEN += [ROOM / "models" / "foreign" / "network.py", *ROOM.glob("models/prompts/*.py")]
KINDS = {"SegsuiteError", "InputError", "OptionError", "ModelError", "OutputError", "Finished"}


def texts(path: Path) -> Iterator[SegsuiteError]:
    """The errors that a file's code makes, with a word for each value that is put into them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
            parts = dict(enumerate(map(text, node.args))) | {keyword.arg: text(keyword.value) for keyword in node.keywords}
            yield OptionError(parts.get(0, "x") or "x", parts.get(1, "") or parts.get("needed", ""), parts.get(2, "") or parts.get("do", ""))
        elif isinstance(node, ast.Assign) and (told := text(node.value)).startswith(("Say ", "Choose ", "Leave ")):
            yield OptionError("x", do=told)


def text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "'word'" if node.conversion == ord("r") else "word"
    return str(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_no_message_of_a_dock_speaks_of_flags_or_keywords() -> None:
    said = [complaint(error) for path in SEEN for error in texts(path)]
    assert len(said) > 100
    names = "|".join(f.name for f in fields(Options))
    assert not [words for words in said if re.search(rf"--\w|\b({names})=|with `segsuite", words)]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OptionError("x", "y", "Choose device='auto' or 'cpu' (--device cpu)."), "Choose auto or cpu under Advanced > Device."),
        (OptionError("x", do="Choose flips=False."), "Switch off Advanced > Flips."),
        (OptionError("x", do="Choose stack='slices', or a model for volumes."), "Choose slices under Stack, or a model for volumes."),
        (OptionError("no effect of diameter_px=30.0", do="Leave diameter_px empty."), "No effect of Diameter. Leave Diameter empty."),
        (OutputError("x", do="Choose another output, or allow it to be replaced (--overwrite)."), "Choose another name under Save to."),
        (OptionError("model 'm'", do="Say so with: segsuite models add /a b/m --trust"), "Add it again in the Models dock, which asks."),
    ],
)  # fmt: skip
def test_an_error_names_the_field(error: SegsuiteError, told: str) -> None:
    assert complaint(error).endswith(told)


def test_a_dialog_says_what_can_be_ticked_in_it() -> None:
    told = "A exists already. Choose another name, or allow it to be replaced (overwrite=True, --overwrite)."
    assert in_form(told, "tick 'Replace'") == "A exists already. Choose another name, or tick 'Replace'."
    assert in_form(told) == "A exists already. Choose another name."


def contrast(one: QColor, other: QColor) -> float:
    """By how much one colour is lighter than another, as the Web Content Accessibility Guidelines measure it."""

    def light(color: QColor) -> float:
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (color.redF(), color.greenF(), color.blueF())]
        return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["dark", "light"])
def test_a_warning_is_seen_in_every_theme(name: str, qtbot: QtBot) -> None:
    theme = get_theme(name)
    dock, label = QWidget(), quiet_label(bad=True)
    qtbot.addWidget(dock)
    QVBoxLayout(dock).addWidget(label)
    dock.setStyleSheet(f"QWidget {{ color: {theme.text.as_hex()}; background-color: {theme.background.as_hex()}; }}")
    dock.show()
    found = re.search(r"color: (#\w+)", label.styleSheet())
    assert found is not None
    assert contrast(QColor(found[1]), QColor(theme.background.as_hex())) > 4.5
    label.warn(False)
    assert label.styleSheet() == ""
