"""The Segment dock: choose an image and a model, see at once what does not fit, press Run.

The dock keeps its form, references to layers and the child process; everything else it asks for when it needs it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Layer
from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_segsuite.engine.plan import Options, Plan, resolve
from napari_segsuite.errors import OptionError, SegsuiteError
from napari_segsuite.types import Image, ModelSpec, Segmentation
from napari_segsuite.viewer import preview
from napari_segsuite.viewer.catalogue import Specs, catalogue
from napari_segsuite.viewer.child import Child
from napari_segsuite.viewer.closing import when_gone
from napari_segsuite.viewer.editors import Choice
from napari_segsuite.viewer.forecast import Forecaster
from napari_segsuite.viewer.form import Form
from napari_segsuite.viewer.growth import GrowingLayer, Growth, in_memory
from napari_segsuite.viewer.layers import axes_choices, misread, to_image
from napari_segsuite.viewer.links import Links
from napari_segsuite.viewer.panel import Column, Panel, duration, quiet_label
from napari_segsuite.viewer.pickers import AxesPicker, ChannelPicker, LayerPicker, ModelPicker, plain
from napari_segsuite.viewer.settings import preferences
from napari_segsuite.viewer.shown import Shown
from napari_segsuite.viewer.stores import LARGE_VOXELS, Finished, voxels
from napari_segsuite.viewer.target import TargetPicker
from napari_segsuite.viewer.tries import Tries
from napari_segsuite.viewer.words import card, complaint, outcome, sentence
from napari_segsuite.viewer.worker import Job, give_up, start

if TYPE_CHECKING:
    from napari_segsuite.engine.run import Progress

log = logging.getLogger(__name__)

CHANGED = "The image was changed since Run was pressed; this is of what it was then."
DEVICES = ("auto", "cpu", "cuda", "mps")


class SegmentDock(QWidget):
    """Plugins > Segsuite > Segment.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        By this name napari hands itself over.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = plain(napari_viewer)
        wishes = preferences()
        self.child = Child(60 * wishes.keep_warm_minutes)
        self._specs = Specs()
        self._shown = Shown(self._viewer)
        self._forecast = Forecaster(self.child, self)
        self._tries = Tries(self._viewer)
        self._tried: tuple[Plan, Image, Layer, str] | None = None
        self._plan: tuple[Plan, Image, Layer, str, Path | None] | None = None
        self._growing: GrowingLayer | None = None
        self._growth: Growth | None = None
        self._job: Job[Segmentation] | None = None
        self._jobs: list[Job[Segmentation]] = []  # the same, for whoever outlives the dock
        self._ended: threading.Event | None = None
        self._links = Links()
        self._blind = False  # whether what is said is that nothing that could be tried is in view
        self._started = 0.0
        self._checking = QTimer(self, singleShot=True, interval=60)
        self._checking.timeout.connect(self.check)
        self._build()
        self.model.set_value(self._specs.or_first(wishes.model))
        self._connect()
        self._look_at_layer()
        self.check()
        QTimer.singleShot(0, self._warm)

    def _build(self) -> None:
        self.layer = LayerPicker(self._viewer.layers)
        self.axes, self.card = AxesPicker(), quiet_label()
        self.model, self.channels, self.target = ModelPicker(self._specs.listed()), ChannelPicker(), TargetPicker()
        self.form: Form[Options] = Form(
            Options,
            editors={"model": self.model, "channels": self.channels, "device": Choice(DEVICES, free=True)},
            notes={"model": self.card},
            above={"Image": self.layer, "Axes": self.axes},
            below={"Save to": self.target},
        )
        self.panel = Panel()
        inner = QWidget()
        inside = QVBoxLayout(inner)
        inside.setContentsMargins(6, 6, 6, 6)
        for part in (self.form, self.panel, self.form.advanced):  # what is folded comes last, so that Run stays where it is
            inside.addWidget(part)
        inside.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Column(inner))

    def _connect(self) -> None:
        self.layer.changed.connect(self._look_at_layer)
        self.layer.changed.connect(self.target.follow)
        self.target.changed.connect(self._checking.start)
        self._forecast.changed.connect(self._estimate)
        self.axes.currentIndexChanged.connect(self._checking.start)
        self.form.changed.connect(self._checking.start)
        catalogue.changed.connect(self._relist)
        self.model.activated.connect(self._checking.start)
        self.panel.run.clicked.connect(self.run)
        self.panel.attempt.clicked.connect(self.attempt)
        self.panel.cancel.clicked.connect(self.cancel)
        self._tries.follow(self.panel.side_by_side)
        self.panel.fix.clicked.connect(self._slices)
        self.panel.table.clicked.connect(partial(self._shown.open_table))
        self.panel.save.clicked.connect(partial(self._shown.save, self))
        self.panel.export.clicked.connect(partial(self._shown.export, self))
        layers, view, camera = self._viewer.layers.events, self._viewer.dims.events, getattr(self._viewer, "scene", self._viewer).camera.events
        self._links.hear(self._look_again, view.ndisplay, view.order, view.point, camera.zoom, camera.center)
        self._links.hear(lambda event: self.panel.results(self._shown.latest() is not None), layers.removed)
        # It may not call into a widget that is half gone, so it gets what it needs and not the dock.
        when_gone(self, partial(give_up, self.child, self._jobs, (self.layer.close_links, self._links.close)), self._jobs)

    def check(self) -> None:
        """Resolve the plan for what is entered, and show what does not fit before anybody presses Run."""
        self._checking.stop()
        self._plan, self._tried, layer = None, None, self.layer.value()
        try:
            spec = self._specs.of(self.model.value())
            self.card.setText(card(spec))
            if layer is None:
                self._show_fields(None, spec)
                self.panel.complain("", f"{self.model.instead} Open an image, or try File > Open Sample > Segsuite.".strip())
            else:
                image = to_image(layer, self.axes.value())
                self._show_fields(image, spec)
                plan = resolve(image, self.form.value(), spec)
                self._tried = plan, image, layer, self.axes.value()
                out, told = self.target.settle(plan, image, plan.spec_of(spec)) if self._job is None else (None, "")
                self._plan = (*self._tried, out)
                self.panel.complain("", " ".join([self.model.instead, *(sentence(n) for n in plan.notices), told, misread(layer)]).strip())
        except Finished as error:
            self.panel.complain("", str(error))
        except SegsuiteError as error:
            told = f"{self.model.instead} {misread(layer)}".strip()
            self.panel.complain(complaint(error), told, fix=isinstance(error, OptionError) and "stack=" in error.do)
        self.panel.ready(self._plan is not None and self._job is None, self._tried is not None and self._job is None)
        self._estimate(ask=True)

    def _estimate(self, *, ask: bool = False) -> None:
        """Say what a run would take where that matters: of a large image, and of one whose result goes to the disk."""
        wanted = self._plan if self._job is None else None
        if wanted is None or (wanted[4] is None and voxels(wanted[1]) <= LARGE_VOXELS):
            self._forecast.drop()
        elif ask:
            plan, image, out = wanted[0], wanted[1], wanted[4]
            self._forecast.ask(plan, image, plan.spec_of(self._specs.of(plan.options.model)), grows=out is not None)
        total = self.target.total
        self.panel.estimate(*self._forecast.words(wanted[4] if wanted else None, (total - self.target.done) / total if total else 1.0))

    def run(self) -> None:
        """Start what the plan says; does nothing while something does not fit or a run is on its way."""
        self.check()
        if self._plan is None or self._job is not None:
            return
        plan, image, layer, axes, out = self._plan
        steps, self._growth, self._growing = in_memory(self.child, plan, image), None, None
        if out is not None:
            self._growth = Growth(plan, image, plan.spec_of(self._specs.of(plan.options.model)), out)
            self._growing = GrowingLayer(self._viewer, self._growth, layer, axes)
            steps = self._growth.run(self.child, self._ended)
        self._begin(steps, partial(self._done, layer, layer.data, axes, plan), plan)

    def attempt(self) -> None:
        """Segment what is in view, with what is entered; a run's store is not touched."""
        self.check()
        if self._tried is None or self._job is not None:
            return
        plan, image, layer, axes = self._tried
        try:
            part = self._tries.part(plan, self._specs.of(plan.options.model), image, layer, axes)
        except SegsuiteError as error:
            self._blind = True
            self.panel.end(complaint(error))
            return
        self._growth = self._growing = None
        self._begin(preview.segment(plan, image, part, self.child), partial(self._attempted, layer, axes, plan, part), plan)

    def _begin(self, steps: Generator[Progress, None, Segmentation], done: Callable[[Segmentation], None], plan: Plan) -> None:
        self._started, self._blind = time.monotonic(), False
        self._forecast.make_way()
        self.panel.begin(" ".join(map(sentence, plan.notices)))
        name = f"Segsuite: {plan.image['name']} with {plan.options.model}"
        self._job = start(steps, on_progress=self._progress, on_done=done, on_error=self._failed, name=name, parent=self)
        self._jobs[:], self._ended = [self._job], self._job.finished

    def cancel(self) -> None:
        """Stop the run now: its process is killed, and a new one gets warm in the background."""
        if self._job is None:
            return
        self._job.cancel()
        self.child.kill()
        kept = self._growth.stopped() if self._growth is not None else ""
        self._over(kept or f"Cancelled after {duration(time.monotonic() - self._started)}.")
        self._warm()

    def _progress(self, progress: Progress) -> None:
        self.panel.progress(progress, time.monotonic() - self._started)
        if self._growing is not None:
            self._growing.update()

    def _done(self, layer: Layer, data: Any, axes: str, plan: Plan, segmentation: Segmentation) -> None:
        took = time.monotonic() - self._started
        more: dict[str, Any] = {"levels": self._growth.levels, "into": self._growing.labels()} if self._growth and self._growing else {}
        kept = self._shown.show(segmentation, layer, axes, plan.options.model, replace=self.panel.replace.isChecked(), **more)
        told = [sentence(n) for n in segmentation.provenance.get("notices", ()) if n not in plan.notices] + [CHANGED] * (layer.data is not data)
        self._over(" ".join([outcome(segmentation, took, self._growth.path if self._growth else None), *told, kept]).strip())
        self.panel.results(True)

    def _attempted(self, layer: Layer, axes: str, plan: Plan, part: preview.Part, segmentation: Segmentation) -> None:
        took = time.monotonic() - self._started
        kept = self._tries.show(segmentation, layer, axes, plan, part, compare=self.panel.compare.isChecked())
        self._over(" ".join([f"In view: {outcome(segmentation, took, None)}", preview.caveat(plan, part), kept]).strip())

    def _failed(self, error: Exception) -> None:
        told = complaint(self.child.explain(error))
        log.error("%s", told, exc_info=error)
        self._over(told)
        show_error(told)
        self._warm()

    def _over(self, text: str) -> None:
        self._job = None
        self.panel.end(text)
        self.check()

    def _look_at_layer(self) -> None:
        """Offer the axes that the chosen layer can have."""
        layer = self.layer.value()
        self.axes.follow(layer)
        if layer is not None:
            events = layer.events
            self._links.hear(self._layer_changed, events.data, events.scale, events.units, events.name)
            self._links.hear(self._look_at_layer, events.axis_labels)
        self.form.layout().setRowVisible(self.axes, self.axes.count() > 1)
        self._checking.start()

    def _layer_changed(self, event: Any = None) -> None:
        layer = self.layer.value()
        if layer is not None and self.axes.value() not in axes_choices(layer.ndim):
            self._look_at_layer()
        self._checking.start()

    def _show_fields(self, image: Image | None, spec: ModelSpec) -> None:
        """Hide what means nothing for this image and model, unless something is entered there."""
        channels = image.channels if image is not None else ()
        colour = spec.channels == ("red", "green", "blue")
        self.channels.set_choices(channels if len(channels) > 1 else (), 1 if colour else len(spec.channels))
        self.form.show_field("channels", len(channels) > 1 or self.channels.value() != ())
        self.form.show_field("stack", image is not None and image.size("z") > 1)
        self.form.show_field("diameter_px", spec.diameter_px is not None or self.form.editor("diameter_px").value() is not None)

    def _look_again(self, event: Any = None) -> None:
        """The view is another: what was said of it may hold no more."""
        if not self._blind or self._job is not None:
            return
        self.check()
        if self._tried is not None:
            plan, image, layer, axes = self._tried
            with suppress(SegsuiteError):
                self._tries.part(plan, self._specs.of(plan.options.model), image, layer, axes)
                self._blind = False
                self.panel.end("")

    def _slices(self) -> None:
        self.form.editor("stack").set_value("slices")
        self.check()

    def _relist(self) -> None:
        """Offer the models that there are now."""
        self.model.fill(self._specs.listed())
        self._checking.start()

    def _warm(self) -> None:
        try:
            self.child.warm()
        except OSError as error:  # no process can be started; the run will say so again if it is still so
            log.warning("could not start the process that computes the segments ahead of time: %s", error)
