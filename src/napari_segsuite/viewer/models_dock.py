"""The Models dock: which models there are and what each is for; adds, checks and removes those of others.

The dock only shows and asks. What takes time or opens a network happens in a process of its own (`shelf`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox, QTreeWidget, QTreeWidgetItem, QWidget

from napari_segsuite.errors import OptionError, SegsuiteError
from napari_segsuite.types import ModelSpec
from napari_segsuite.viewer import shelf
from napari_segsuite.viewer.adding import AddPage
from napari_segsuite.viewer.cards import card_of
from napari_segsuite.viewer.catalogue import ADDED, Specs, catalogue, grouped, origin
from napari_segsuite.viewer.child import Child
from napari_segsuite.viewer.closing import when_gone
from napari_segsuite.viewer.panel import duration
from napari_segsuite.viewer.pickers import bold, italic, plain
from napari_segsuite.viewer.settings import NAME
from napari_segsuite.viewer.shelves import Shelves
from napari_segsuite.viewer.words import in_fields
from napari_segsuite.viewer.worker import Job, give_up, start

IDLE_S = 60.0
"""What is added is seldom followed by more: the process gives its memory back soon."""


class ModelsDock(QWidget):
    """Plugins > Segsuite > Models.

    Parameters
    ----------
    napari_viewer : napari.Viewer, optional
        By this name napari hands itself over; without one nothing can be used in the Segment dock.
    """

    def __init__(self, napari_viewer: Any = None) -> None:
        super().__init__()
        self._viewer = plain(napari_viewer)
        self.child = Child(IDLE_S)
        self._specs = Specs()
        self._job: Job[Any] | None = None
        self._jobs: list[Job[Any]] = []  # the same, for whoever outlives the dock
        self._started = 0.0
        self._wanted = ""
        self.view, self.page = Shelves(), AddPage()
        self.view.put(self, self.page)
        self.names: QTreeWidget = self.view.names
        self._connect()
        self.refresh()

    def value(self) -> ModelSpec | None:
        """The chosen model."""
        item = self.names.currentItem()
        name = item.data(0, Qt.ItemDataRole.UserRole) if item is not None else None
        return self._specs.of(str(name)) if name else None

    def set_value(self, name: str) -> None:
        """Choose a model, if it is listed."""
        for item in self._items():
            if item.data(0, Qt.ItemDataRole.UserRole) == name:
                self.names.setCurrentItem(item)

    def refresh(self) -> None:
        """Read the list again; what was chosen stays chosen."""
        chosen = self.value()
        wanted, self._wanted = self._wanted or (chosen.name if chosen else ""), ""
        listed = self._specs.listed()
        self.names.blockSignals(True)
        self.names.clear()
        for title, specs in grouped(listed):
            head = QTreeWidgetItem(self.names, [title])
            head.setFlags(Qt.ItemFlag.ItemIsEnabled)
            head.setFirstColumnSpanned(True)
            head.setFont(0, bold(head.font(0)))
            for spec in specs:
                item = QTreeWidgetItem(head, [spec.name, origin(spec.name)])
                item.setData(0, Qt.ItemDataRole.UserRole, spec.name)
                item.setFont(1, italic(item.font(1)))  # a grey that is seen in one theme of napari is not in another
        self.names.expandAll()
        self.names.blockSignals(False)
        self.set_value(self._specs.or_first(wanted))
        self._show()

    def add(self, agreed: dict[str, str] | None = None) -> None:
        """Add what the page says; ``agreed`` are the programs in it (file: sha256) that the user wants to run."""
        try:
            wish = replace(self.page.value(), agreed=agreed or {})
        except OptionError as error:
            self.view.end(in_fields(error), bad=True)
            return
        self._do(f"adding {wish.source}", shelf.add, wish, self._added, partial(self._refused, wish))

    def check(self) -> None:
        """Run the chosen model's own test."""
        if (spec := self.value()) is not None:
            self._do(f"checking {spec.name}", shelf.check, spec.name, self._checked)

    def remove(self) -> None:
        """Delete the chosen model, if the user says so."""
        spec = self.value()
        if spec is None or not _agreed(self, f"Remove {spec.name}?", "Its files are deleted from your folder of models.", "Remove"):
            return
        self._do(f"removing {spec.name}", shelf.remove, spec.name, self._removed)

    def use(self) -> None:
        """Choose the chosen model in the Segment dock, which is opened if it is not there."""
        if (spec := self.value()) is not None and self._viewer is not None:
            _, dock = self._viewer.window.add_plugin_dock_widget(NAME, "Segment", tabify=True)  # below each other they want a tall screen
            plain(dock).model.set_value(spec.name)

    def cancel(self) -> None:
        """Stop what is being done now; nothing of it stays."""
        if self._job is not None:
            self._job.cancel()
            self.child.kill()
            self._over(f"Cancelled after {duration(time.monotonic() - self._started)}.")

    def showEvent(self, event: Any) -> None:
        """See whether models were added beside napari."""
        super().showEvent(event)
        catalogue.look()

    def _do(
        self, words: str, function: Callable[..., Any], asked: Any, done: Callable[[Any], None], failed: Callable[[Exception], None] | None = None
    ) -> None:
        """Have one thing done in the child; nothing if another is on its way."""
        if self._job is not None:
            return
        self._started = time.monotonic()
        self.view.begin(words)
        self._job = start(
            shelf.working(self.child, words, function, asked),
            on_progress=self.view.progress,
            on_done=done,
            on_error=failed or self._failed,
            name=f"Segsuite: {words}",
            parent=self,
        )
        self._jobs[:] = [self._job]
        self._buttons()

    def _added(self, spec: ModelSpec) -> None:
        self._wanted = spec.name
        self.page.clear()
        self.view.turn_to(adding=False)
        self._over(f"Added {spec.name}. It is in the list of the Segment dock now.")

    def _checked(self, told: str) -> None:
        self._over(f"{told}.", bad=told.endswith("NOT GOOD"))

    def _removed(self, name: str) -> None:
        self._over(f"Removed {name}.")

    def _refused(self, wish: shelf.Wish, error: Exception) -> None:
        """A model was not added: ask where that is because it runs code of its own, else say why."""
        why, files = shelf.programs(error)
        if files and wish.agreed:
            self._over("Not added: its files are others now than those that you agreed to.", bad=True)
            return
        if not files:
            self._failed(error)
            if any(f"--{name}" in str(error) for name in ("axes", "classes", "outputs", "activation", "input-axes", "channels", "tile")):
                self.page.unfold()
            return
        self._over("Not added: it runs code of its own.")
        listed = "\n".join(f"{file}\nsha256 {digest}" for file, digest in files.items())
        more = f"It can do whatever you can do on this computer. Go on only if you trust where it is from:\n\n{wish.source}\n\n{listed}"
        if _agreed(self, f"{why[:1].upper()}{why[1:]}", more, "Trust these files"):
            self.add(files)

    def _failed(self, error: Exception) -> None:
        told = in_fields(self.child.explain(error))
        self._over(told, bad=True)
        if not isinstance(error, SegsuiteError):
            show_error(told)

    def _over(self, text: str, *, bad: bool = False) -> None:
        self._job = None
        self.view.end(text, bad=bad)
        catalogue.look()
        self._buttons()

    def _show(self) -> None:
        try:
            if (spec := self.value()) is not None:
                self.view.text.setMarkdown(card_of(spec))
        except SegsuiteError as error:  # it has just been removed by somebody else
            self.view.text.setPlainText(str(error))
        self._buttons()

    def _buttons(self) -> None:
        spec, idle = self.value(), self._job is None
        theirs = spec is not None and origin(spec.name) == ADDED
        tested = spec is not None and theirs and "description" in spec.net
        self.view.allow(
            add=idle, use=spec is not None and self._viewer is not None, remove=idle and theirs, check=idle and tested,
            why_not_check="" if tested else "Only packages of BioImage.IO that were added bring a test of their own.",
            why_not_remove="" if theirs else "Only models that were added can be removed.",
        )  # fmt: skip
        self.page.setEnabled(idle)

    def _items(self) -> list[QTreeWidgetItem]:
        heads = [self.names.topLevelItem(k) for k in range(self.names.topLevelItemCount())]
        return [head.child(k) for head in heads for k in range(head.childCount())]

    def _connect(self) -> None:
        self.names.currentItemChanged.connect(self._show)
        for button, slot in zip(self.view.buttons, (self._turn, self.check, self.remove, self.use), strict=True):
            button.clicked.connect(partial(_call, slot))
        self.view.cancel.clicked.connect(partial(_call, self.cancel))
        self.page.asked.connect(partial(_call, self.add))
        self.page.closed.connect(partial(self.view.turn_to, adding=False))
        catalogue.changed.connect(self.refresh)
        when_gone(self, partial(give_up, self.child, self._jobs, ()), self._jobs)

    def _turn(self) -> None:
        self.view.turn_to(adding=True)
        self.page.source.setFocus()


def _call(function: Callable[[], None], *_: Any) -> None:
    """Call without what a signal brings along."""
    function()


def _agreed(parent: QWidget, text: str, more: str, yes: str) -> bool:
    """Ask a question that Enter and Escape answer with no."""
    box = QMessageBox(QMessageBox.Icon.Warning, "Segsuite", text, QMessageBox.StandardButton.Cancel, parent)
    box.setTextFormat(Qt.TextFormat.PlainText)
    box.setInformativeText(more)
    button = box.addButton(yes, QMessageBox.ButtonRole.AcceptRole)
    cancel = box.button(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(cancel)
    box.setEscapeButton(cancel)
    box.exec()
    return bool(box.clickedButton() is button)
