"""Law 10, the form's half: what is put into the form comes out of it, and every field of the dataclass has its editor and its words."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication

from napari_segsuite.engine.plan import Options, option
from napari_segsuite.errors import OptionError
from napari_segsuite.viewer.editors import Choice, editor_for
from napari_segsuite.viewer.form import Form, label
from napari_segsuite.viewer.pickers import ChannelPicker, ModelPicker

WORDS = st.text("abcdefXYZ 0123456789_-", min_size=1, max_size=12).map(str.strip).filter(bool)


def any_value(hint: Any, metadata: Any) -> st.SearchStrategy[Any]:
    """Values that a field may have, by its type and bounds; numbers below a millionth are not for forms."""
    low, high = metadata["ge"], metadata["le"]
    if hint in (float, float | None):
        number: st.SearchStrategy[Any] = st.floats(low, high).filter(lambda v: v == 0 or v > 1e-6)
        return number if hint is float else st.none() | number
    if hint in (int, int | None):
        return st.integers(low, high) if hint is int else st.none() | st.integers(low, high)
    known = {bool: st.booleans(), str: WORDS, tuple[str, ...]: st.lists(WORDS, max_size=3).map(tuple)}
    known[tuple[int, ...]] = st.lists(st.integers(1, 10**6), max_size=3).map(tuple)
    return known[hint] if hint in known else st.sampled_from(get_args(hint))


HINTS = get_type_hints(Options)
OPTIONS = st.builds(Options, **{f.name: any_value(HINTS[f.name], f.metadata) for f in fields(Options)})


@pytest.fixture
def form(qtbot: QtBot) -> Form[Options]:
    form: Form[Options] = Form(Options, {"model": ModelPicker([]), "channels": ChannelPicker(), "device": Choice(["auto"], free=True)})
    qtbot.addWidget(form)
    qtbot.addWidget(form.advanced)
    return form


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPTIONS)
def test_what_is_put_in_comes_out(form: Form[Options], options: Options) -> None:
    form.set_value(options)
    assert form.value() == options
    assert Options.from_json(form.value().to_json()) == options


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPTIONS)
def test_leaving_a_field_changes_nothing(form: Form[Options], options: Options) -> None:
    form.set_value(options)
    for field in fields(Options):
        if hasattr(form.editor(field.name), "interpretText"):
            form.editor(field.name).interpretText()  # what Qt does when the focus goes
    assert form.value() == options


def test_stepping_gives_round_numbers(form: Form[Options]) -> None:
    editor = form.editor("foreground")
    for expected in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3):
        editor.stepBy(1)
        assert editor.value() == expected
    assert editor.text() == "0.3"
    editor.stepBy(-100)
    assert editor.value() is None
    assert editor.text() == "auto"


def test_it_starts_with_the_defaults(form: Form[Options]) -> None:
    assert form.value() == Options()


@pytest.mark.parametrize("field", fields(Options), ids=lambda f: f.name)
def test_every_field_has_its_words_unit_and_bounds(form: Form[Options], field: Any) -> None:
    editor = form.editor(field.name)
    told = editor.toolTip()
    assert field.metadata["help"][1:] in told
    assert field.metadata["ge"] is None or f"{field.metadata['ge']:g} to {field.metadata['le']:g}" in told
    assert not field.metadata["unit"] or field.metadata["unit"] in told
    assert editor.accessibleName() == label(field.name)
    assert form.advanced.isAncestorOf(editor) == field.metadata["advanced"]


def test_a_change_is_told(form: Form[Options], qtbot: QtBot) -> None:
    for name, value in {
        "min_size_px": 5,
        "diameter_px": 12.0,
        "stack": "slices",
        "flips": True,
        "chunk": (3, 4),
        "channels": ("a",),
        "model": "x",
    }.items():
        with qtbot.waitSignal(form.changed, timeout=1000):
            form.editor(name).set_value(value)


def test_what_cannot_be_read_is_said(form: Form[Options]) -> None:
    form.editor("chunk").setText("32 by 64")
    with pytest.raises(OptionError, match=r"'32 by 64' is not a row of whole numbers. Needed: numbers like 32 256 256"):
        form.value()


def test_the_wheel_scrolls_and_does_not_change_a_number(form: Form[Options], qtbot: QtBot) -> None:
    editor = form.editor("min_size_px")
    form.show()
    where = QPointF(editor.rect().center())
    for child in (editor, form.editor("stack")):
        turn = QWheelEvent(
            where, where, QPoint(0, 120), QPoint(0, 120), Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False
        )
        child.clearFocus()
        QApplication.sendEvent(child, turn)
    assert form.value() == Options()


def test_any_dataclass_makes_a_form(qtbot: QtBot) -> None:
    @dataclass(frozen=True)
    class Wishes:
        words: tuple[str, ...] = option((), "some words")
        level: float = option(0.5, "how much", ge=0, le=1)

    form: Form[Any] = Form(Wishes)
    qtbot.addWidget(form)
    qtbot.addWidget(form.advanced)
    form.set_value(Wishes(("a", "b"), 0.25))
    assert form.value() == Wishes(("a", "b"), 0.25)
    assert form.editor("level").minimum() == 0


def test_a_type_without_an_editor_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="no editor for the field 'model'"):
        editor_for(fields(Options)[0], dict[str, int])


def test_channels_are_those_of_the_image(qtbot: QtBot) -> None:
    picker = ChannelPicker()
    qtbot.addWidget(picker)
    picker.set_choices(("DAPI", "GFP"), 1)
    picker.set_value(("GFP",))
    picker.set_choices(("GFP", "RFP", "DAPI"), 1)
    assert picker.value() == ("GFP",)
    picker.set_choices(("RFP",), 1)
    assert picker.value() == ()
    picker.set_choices(("a", "b"), 2)
    picker.set_value(("b", "a"))
    assert picker.value() == ("b", "a")
