"""A run into a store on disk, seen from the viewer: its thread looks what has been finished, and a layer shows it meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Layer
from napari.utils.colormaps import DirectLabelColormap

from napari_segsuite.engine.plan import Plan
from napari_segsuite.types import Image, ModelSpec, Segmentation
from napari_segsuite.viewer.child import Child
from napari_segsuite.viewer.layers import OURS
from napari_segsuite.viewer.results import UNFINISHED, laid_on

if TYPE_CHECKING:
    from napari_segsuite.engine.growing import Growing
    from napari_segsuite.engine.run import Progress

INTERVAL_S = 1.0
"""The layer is renewed at most this often, ..."""
FIRST_S = 0.2
"""... and this is how soon the first chunk is seen."""


@dataclass
class Growth:
    """A run into a store; its thread writes what the window's reads.

    Attributes
    ----------
    plan, image, spec
        What it does; the spec as the plan runs it.
    path : Path
        The store.
    growing : Growing, optional
        What is finished, once something can be.
    news : int
        How often something new was seen.
    levels : tuple of arrays
        The result on disk, finest first, once it is finished.
    """

    plan: Plan
    image: Image
    spec: ModelSpec
    path: Path
    growing: Growing | None = None
    news: int = 0
    levels: tuple[Any, ...] = ()
    _next: float = field(default=0.0, repr=False)

    def run(self, child: Child, before: threading.Event | None) -> Generator[Progress, None, Segmentation]:
        """Do it, in a thread; `before` is set when the run before this has let go of what it wrote."""
        from napari_segsuite import io
        from napari_segsuite.engine.run import Progress, run  # brings parts of scipy along that opening the dock need not wait for
        from napari_segsuite.engine.source import check_image_unchanged, identity_of

        while before is not None and not before.wait(0.1):
            yield Progress(0, 1, "waiting for the stopped run to end")
        yield Progress(0, 1, "looking at the image")
        source = identity_of(self.image)
        unchanged = partial(check_image_unchanged, self.image, source)
        with child.executor() as executor:
            steps = run(self.plan, self.image, out=self.path, executor=executor, source=source, workers=1, unchanged=unchanged)
            found = yield from self._watched(steps)
        self.levels = _shown(io.read(self.path).levels)
        return found

    def look(self) -> None:
        """See what has been finished since the last time, now and then."""
        if time.monotonic() < self._next:
            return
        self.growing = self.growing or self._opened()
        if self.growing is not None and self.growing.look():
            self.news += 1
        self._next = time.monotonic() + (INTERVAL_S if self.news else FIRST_S)

    def stopped(self) -> str:
        """What to say when it was stopped in the middle; nothing if it had hardly begun."""
        if self.growing is None:
            return ""
        return f"Stopped; {self.growing.finished} of {self.growing.total} chunks are done. Press Run to go on."

    def _watched(self, steps: Generator[Progress, None, Segmentation]) -> Generator[Progress, None, Segmentation]:
        try:
            while True:
                try:
                    progress = next(steps)
                except StopIteration as stop:
                    return stop.value
                if progress.total > 1:  # from here on, what lies in the store belongs to this run
                    self.look()
                yield progress
        finally:
            steps.close()

    def _opened(self) -> Growing | None:
        from napari_segsuite.engine.growing import Growing
        from napari_segsuite.engine.volume import store_of
        from napari_segsuite.engine.work import Work, read_job

        job = read_job(self.path)
        if job is None:
            return None
        return Growing(Work(self.path, job.token), job.plan, self.spec, store_of(job.plan, self.image, self.path, None))


def in_memory(child: Child, plan: Plan, image: Image) -> Generator[Progress, None, Segmentation]:
    """A run in the child whose result is in memory, and that nobody sees before it is finished."""
    from napari_segsuite.engine.run import run  # brings parts of scipy along that opening the dock need not wait for

    with child.executor() as executor:
        return (yield from run(plan, image, executor=executor))


class GrowingLayer:
    """The Labels layer that shows a run while it is on its way.

    Parameters
    ----------
    viewer : napari.Viewer
    growth : Growth
    layer : napari.layers.Image
        Where it lies.
    axes : str
        What the layer's axes were taken to be.
    """

    def __init__(self, viewer: Any, growth: Growth, layer: Layer, axes: str) -> None:
        self._viewer, self._growth, self._layer, self._axes = viewer, growth, layer, axes
        self._made, self._seen = False, 0

    def update(self) -> None:
        """Show what is new; in the thread of the window."""
        growing = self._growth.growing
        if growing is None or self._growth.news == self._seen:
            return
        self._seen = self._growth.news
        labels = self.labels()
        if not self._made:
            self._made = True
            self._show(growing, labels)
        elif labels is not None:
            labels.refresh(highlight=False, extent=False)

    def labels(self) -> Labels | None:
        """The layer, also one that an earlier run into the same store has left; None if there is none or somebody removed it."""
        path = str(self._growth.path)
        return next((x for x in self._viewer.layers if isinstance(x, Labels) and x.metadata.get(OURS, {}).get(UNFINISHED) == path), None)

    def _show(self, growing: Growing, labels: Labels | None) -> None:
        own = "".join(a for a in self._growth.image.axes if a != "c")
        levels, meta = laid_on(list(growing.levels), own, self._growth.image, self._layer, self._axes)
        if labels is not None:
            labels.data = levels if len(levels) > 1 else levels[0]
            return
        classes = self._growth.spec.classes
        if not any(c.countable for c in classes):
            colors: dict[int | None, Any] = {0: np.zeros(4), None: np.array([0.5, 0.5, 0.5, 1.0])}
            meta["colormap"] = DirectLabelColormap(color_dict=colors | {c.id: np.array([*c.color, 255]) / 255 for c in classes})
        meta["metadata"] = {OURS: {UNFINISHED: str(self._growth.path)}}
        meta["name"] = f"{self._layer.name} {self._growth.spec.name}"
        made = self._viewer.add_labels(levels if len(levels) > 1 else levels[0], multiscale=len(levels) > 1, **meta)
        made.editable = False


def _shown(levels: tuple[Any, ...]) -> tuple[Any, ...]:
    """The levels of a result for a layer: on disk, or in memory, where they can be painted on, if one that is not large is all."""
    from napari_segsuite.engine.growing import on_disk
    from napari_segsuite.viewer.files import EDITABLE_BYTES

    in_memory = len(levels) == 1 and levels[0].nbytes <= EDITABLE_BYTES
    return (np.asarray(levels[0]),) if in_memory else tuple(on_disk(level) for level in levels)
