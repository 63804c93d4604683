"""The Prompts dock: click on an object or draw a box around it, see its outline, press Accept.

The dock keeps references to layers and what was asked last; backends without weights answer at once, networks in the child.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from napari.layers import Labels
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_segsuite.engine.prompts import index, told
from napari_segsuite.errors import SegsuiteError
from napari_segsuite.models.prompts import BACKENDS, names
from napari_segsuite.types import Image
from napari_segsuite.viewer.asking import Answer, Asker, Question, frame_of, is_light, question_of
from napari_segsuite.viewer.catalogue import catalogue
from napari_segsuite.viewer.child import Child
from napari_segsuite.viewer.clicks import BACKGROUND, OBJECT, Clicks
from napari_segsuite.viewer.closing import when_gone
from napari_segsuite.viewer.layers import guess_axes, to_image
from napari_segsuite.viewer.links import Links
from napari_segsuite.viewer.painted import Painted, takes
from napari_segsuite.viewer.pickers import LayerPicker, plain
from napari_segsuite.viewer.prompts_panel import PromptsPanel, called
from napari_segsuite.viewer.settings import preferences
from napari_segsuite.viewer.words import complaint
from napari_segsuite.viewer.worker import Job, give_up, start

log = logging.getLogger(__name__)


class PromptsDock(QWidget):
    """Plugins > Segsuite > Prompts.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        By this name napari hands itself over.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = plain(napari_viewer)
        self.child = Child(60 * preferences().keep_warm_minutes)
        self._asker = Asker(self.child)
        self._answer: Answer | None = None
        self._chosen = self._edits = 0
        self._tool = ""
        self._job: Job[Answer] | None = None
        self._jobs: list[Job[Answer]] = []  # the same, for whoever outlives the dock
        self._again = False
        keys = {"Enter": self.accept, "Escape": self.clear, "t": self.swap, "n": self.next}
        self._soon = QTimer(self, singleShot=True, interval=30)
        self._soon.timeout.connect(self.ask)
        self.clicks = Clicks(self._viewer, self._soon.start, keys)
        self.painted = Painted(self._viewer)
        self.layer = LayerPicker(self._viewer.layers)
        self.panel = PromptsPanel(self.layer, lambda labels: takes(labels, self.layer.value()))
        self.panel.lay_into(self)
        self._links = Links()
        self._connect()
        self.panel.fill(names())
        self._look_at_layer()
        QTimer.singleShot(0, self._asker.warm)

    def use(self, tool: str) -> None:
        """Let the mouse say ``object``, ``background`` or ``box``."""
        if (ready := self._ready()) is None:
            self.panel.tool("")
            return
        layer, axes, image = ready
        self._tool = tool
        self.panel.tool(tool)
        self.clicks.on(layer, axes, image)
        self.clicks.tool(tool)
        self.panel.hint(tool)
        self._moved()

    def swap(self) -> None:
        """Change between points on the object and beside it."""
        self.use(BACKGROUND if self._tool != BACKGROUND else OBJECT)

    def ask(self) -> None:
        """Ask the model what is meant by what is said now."""
        self._soon.stop()
        if self._job is not None:
            self._again = True
            return
        try:
            question = self._question()
            if question is None:
                self._show(None)
                return
            if is_light(question.model):
                self._show(self._asker.at_once(question))
                return
        except SegsuiteError as error:
            self._failed(error)
            return
        self.panel.busy("Asking...")
        name = f"Segsuite: {question.model} is asked about {question.image.name}"
        self._job = start(
            self._asker.steps(question), on_progress=self.panel.progress, on_done=self._answered, on_error=self._stopped, name=name, parent=self
        )
        self._jobs[:] = [self._job]

    def next(self) -> None:
        """Show the next of the answers that the model has."""
        if self._answer is not None and len(self._answer.candidates) > 1:
            self._chosen = (self._chosen + 1) % len(self._answer.candidates)
            self._outline()

    def accept(self) -> None:
        """Put what is outlined into the Labels layer, as a new object."""
        if self._soon.isActive():
            self.ask()
        if self._answer is None or not self._answer.candidates or self._job is not None:
            return
        ready = self._ready()
        if ready is None or self._key(ready[0], ready[1]) != self._answer.question.key:
            return
        layer, axes, image = ready
        best = self._answer.candidates[self._chosen]
        target = self.panel.target()
        if target is not None and (why := takes(target, layer)):
            self.panel.say(f"Layer {target.name!r} {why}: choose another one under Objects to.", bad=True)
            return
        target = target or self.painted.new(layer, axes, image)
        where = index(axes.replace("c", ""), self._answer.asked.plan, self._answer.question.frame, self._answer.view)
        noted = {"model": self._answer.question.model, "frame": list(self._answer.question.frame), **told(self._answer.question.prompt)}
        try:
            number = self.painted.put(target, where, best.region, best.score, noted, over=self.panel.over.isChecked())
        except SegsuiteError as error:
            self._failed(error)
            return
        self.panel.choose(target)
        self.clicks.raise_to_top()
        if not number:
            self.panel.say('All of this belongs to other objects already. Tick "Paint over other objects" to take it from them.', bad=True)
            return
        self._forget(*ready)
        self.panel.say(f"Object {number} is in {target.name!r}.{self.painted.covered()}", of=target)

    def undo(self) -> None:
        """Take the last object out of its layer again."""
        number = self.painted.undo()
        self.panel.say(f"Object {number} is taken out again." if number else "")
        self._buttons()

    def clear(self) -> None:
        """Forget what was said here of an object that was not accepted; what was said in other slices stays."""
        self.panel.say("")
        if (ready := self._ready()) is not None:
            self._forget(*ready)

    def _forget(self, layer: Any, axes: str, image: Image) -> None:
        try:
            _, frame = frame_of(self._viewer, layer, axes, image, self.panel.volume.isChecked())
        except SegsuiteError as error:
            self._failed(error)
            return
        self.clicks.forget(*self.clicks.said().here(axes.replace("c", ""), frame))
        self._show(None)

    def _ready(self) -> tuple[Any, str, Image] | None:
        """The chosen layer, its axes, and the image that it shows."""
        layer = self.layer.value()
        if layer is None:
            self.panel.say("Open an image, or try File > Open Sample > Segsuite.", bad=True)
            return None
        try:
            axes = guess_axes(layer)
            return layer, axes, to_image(layer, axes)
        except SegsuiteError as error:
            self._failed(error)
            return None

    def _question(self) -> Question | None:
        """What to ask; None as long as nothing says where the object is."""
        if (ready := self._ready()) is None:
            return None
        outside = self.clicks.drop_outside()
        question, why = question_of(
            self._viewer, *ready, self.clicks.said(), self.panel.model(), self.panel.volume.isChecked(), self._key(*ready[:2])
        )
        if outside or question is None:
            self.panel.say("That is outside the image." if outside else why, bad=outside)
        return question

    def _key(self, layer: Any, axes: str) -> tuple[Any, ...]:
        return id(layer), axes, self._edits

    def _answered(self, answer: Answer) -> None:
        self._job = None
        again, self._again = self._again, False
        self.ask() if again else self._show(answer)

    def _stopped(self, error: Exception) -> None:
        self._job, self._again = None, False
        self._failed(self.child.explain(error))

    def _failed(self, error: SegsuiteError) -> None:
        log.info("%s", error)
        self._show(None)
        self.panel.say(complaint(error), bad=True)

    def _show(self, answer: Answer | None) -> None:
        self._answer, self._chosen = answer, 0
        self.panel.busy("")
        if answer is None or not answer.candidates:
            self.clicks.hide()
            if answer is not None:
                self.panel.say("Nothing is found there that has a border. Add a point, or draw a box.", bad=True)
            self._buttons()
            return
        self._outline()

    def _outline(self) -> None:
        assert self._answer is not None
        best = self._answer.candidates[self._chosen]
        axes = guess_axes(self.layer.value()).replace("c", "")
        where = index(axes, self._answer.asked.plan, self._answer.question.frame, self._answer.view)
        whole = best.region.reshape([1 if isinstance(w, int) else w.stop - w.start for w in where])
        self.clicks.show(whole, tuple(w if isinstance(w, int) else w.start for w in where))
        many = len(self._answer.candidates)
        choice = f", answer {self._chosen + 1} of {many}" if many > 1 else ""
        self.panel.say(f"{int(best.region.sum()):,} {'voxels' if best.region.ndim == 3 else 'pixels'}{choice}. Enter accepts it.")
        self._buttons()

    def _buttons(self) -> None:
        found = len(self._answer.candidates) if self._answer is not None else 0
        self.panel.allow(accept=found > 0, following=found > 1, undo=self.painted.can_undo)

    def _look_at_layer(self) -> None:
        """Another image: what was said belongs to the one before."""
        layer = self.layer.value()
        self.clicks.leave()
        self._tool = ""
        self.panel.tool("")
        self.panel.hint("")
        self._answer = None
        if layer is not None:
            self._links.hear(self._data_changed, layer.events.data)
        self.panel.say("" if layer is not None else "Open an image, or try File > Open Sample > Segsuite.")
        self._fields()

    def _fields(self, event: Any = None) -> None:
        """Offer the Labels layers that fit, and what the image and the model can do."""
        layer = self.layer.value()
        try:
            deep = layer is not None and to_image(layer).size("z") > 1
        except SegsuiteError:
            deep = False
        labels = [x for x in map(plain, self._viewer.layers) if isinstance(x, Labels) and not self.clicks.own(x)]
        self.panel.offer(labels)
        self._links.hear(self._fields, *(x.events.name for x in labels))
        self.panel.allow_volume(deep and self.panel.model() in BACKENDS)
        self._buttons()

    def _data_changed(self, event: Any = None) -> None:
        self._edits += 1
        self._soon.start()

    def _relist(self) -> None:
        if gone := self.panel.fill(names()):
            self._model_changed()
            self.panel.say(f"Model {gone!r} is no longer there: {self.panel.model()!r} is chosen in its place.", bad=True)
        self._fields()

    def _model_changed(self) -> None:
        self._fields()
        self._asker.expect(self.panel.model())
        self.ask()

    def _connect(self) -> None:
        self.layer.changed.connect(self._look_at_layer)
        self.panel.changed.connect(self._model_changed)
        self.panel.used.connect(self.use)
        for button, slot in (
            (self.panel.accept, self.accept), (self.panel.undo, self.undo), (self.panel.clear, self.clear), (self.panel.following, self.next)
        ):  # fmt: skip
            button.clicked.connect(partial(called, slot))
        layers, dims = self._viewer.layers.events, self._viewer.dims.events
        self._links.hear(self._fields, layers.inserted, layers.removed, layers.reordered)
        self._links.hear(self._moved, dims.point, dims.ndisplay, dims.order)
        catalogue.changed.connect(self._relist)
        close = (self.layer.close_links, self._links.close, self.clicks.deafen)
        when_gone(self, partial(give_up, self.child, self._jobs, close), leave=self.clicks.leave)

    def _moved(self, event: Any = None) -> None:
        """Another slice is shown: the prompt is what is said there."""
        if self.clicks.said():
            self._soon.start()
        else:
            self.panel.forget_complaint()
