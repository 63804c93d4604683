"""Which models there are, by what they answer with, and word of it when one comes or goes.

Every dock asks here, so that a model which is added in one of them, or beside napari on the command line, is there in all.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from qtpy.QtCore import QObject, Signal

from napari_segsuite.errors import SegsuiteError
from napari_segsuite.models import CLASSICAL, builtin, list_models, load_spec
from napari_segsuite.models.foreign.home import installed
from napari_segsuite.types import ModelSpec, Task

log = logging.getLogger(__name__)

TASKS: dict[Task, str] = {
    "instance": "Objects (instance)",
    "semantic": "Kinds of pixels (semantic)",
    "panoptic": "Objects and kinds of pixels (panoptic)",
}
SHIPPED, UNTRAINED, ADDED, FOLDER = "came with the install", "needs no training", "added", "in a folder"


class Catalogue(QObject):
    """Tells when the user's folder of models is another than it was."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, int] = {}

    def look(self) -> None:
        """Look at the folder, and emit `changed` if a model in it came, went or was replaced since the last time."""
        if (now := _state()) != self._seen:
            self._seen = now
            self.changed.emit()


catalogue = Catalogue()


class Specs:
    """The descriptions of models by name or folder, each read once until it may be another."""

    def __init__(self) -> None:
        self._known: dict[str, ModelSpec] = {}

    def listed(self) -> list[ModelSpec]:
        """Read all that came with the install or were added; what cannot be listed is told in the log."""
        try:
            found = list_models()
        except SegsuiteError as error:
            log.error("%s", error)
            found = [load_spec("otsu")]
        self._known = {spec.name: spec for spec in found}
        return found

    def of(self, ref: str) -> ModelSpec:
        """The description of one.

        Raises
        ------
        ModelError
            There is no such model, or its description is damaged.
        """
        if ref not in self._known:
            self._known[ref] = load_spec(ref)
        return self._known[ref]

    def or_first(self, name: str) -> str:
        """This one, or the first of the list where it is not there."""
        return name if name in self._known else next(iter(self._known))


def grouped(specs: Sequence[ModelSpec]) -> list[tuple[str, list[ModelSpec]]]:
    """Put models under headings by what they answer with; those of a heading stay in their order."""
    groups = [(title, [spec for spec in specs if spec.task == task]) for task, title in TASKS.items()]
    return [(title, found) for title, found in groups if found]


def origin(name: str) -> str:
    """Where a model is from, in a few words."""
    if name in CLASSICAL:
        return UNTRAINED
    return SHIPPED if name in builtin() else ADDED if name in installed() else FOLDER


def _state() -> dict[str, int]:
    """The models in the user's folder, each with the time at which it was written."""
    found = {}
    for name, folder in installed().items():
        with suppress(OSError):  # it goes while we look
            found[name] = (folder / "model.json").stat().st_mtime_ns
    return found
