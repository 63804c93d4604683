"""What the docks say: no word of the command line, and nothing that Python would call a field."""

from __future__ import annotations

import json
import re
import subprocess
import sys
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
TEXTS = """
import ast, json, sys
KINDS = {"SegsuiteError", "InputError", "OptionError", "ModelError", "OutputError", "Finished"}

def text(node):
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text, node.values))
    if isinstance(node, ast.FormattedValue):
        return "'word'" if node.conversion == ord("r") else "word"
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""

found = []
for path in sys.argv[1:]:
    for node in ast.walk(ast.parse(open(path, encoding="utf-8").read())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
            parts = dict(zip(("found", "needed", "do"), map(text, node.args))) | {k.arg: text(k.value) for k in node.keywords}
            found.append([parts.get("found") or "x", parts.get("needed", ""), parts.get("do", "")])
        elif isinstance(node, ast.Assign) and text(node.value).startswith(("Say ", "Choose ", "Leave ")):
            found.append(["x", "", text(node.value)])
print(json.dumps(found))
"""
"""The texts of the errors that files make, with a word for each value that is put into them. In a process of its own, since Python's parser is
confused by threads that parse too, and a dock's threads do when they load scikit-image."""


def test_no_message_of_a_dock_speaks_of_flags_or_keywords() -> None:
    done = subprocess.run([sys.executable, "-I", "-c", TEXTS, *map(str, SEEN)], capture_output=True, text=True, check=True, timeout=60)
    said = [complaint(OptionError(*parts)) for parts in json.loads(done.stdout)]
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


def test_a_path_that_no_line_has_room_for_is_in_the_tooltip(qtbot: QtBot) -> None:
    label, path = quiet_label(), f"/{'folder/' * 9}<b>.zarr"
    qtbot.addWidget(label)
    label.setText(f"Store {path} exists already.")
    assert path.replace("<", "&lt;").replace(">", "&gt;") in label.toolTip()
    label.setText("Nothing long.")
    assert label.toolTip() == ""
