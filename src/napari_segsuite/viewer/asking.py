"""Asking a backend with prompts: one without weights at once, a network in the child, which keeps what it has looked at.

This module is imported in the child too, so nothing here may import Qt or napari.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Generator, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Layer
from numpy.typing import NDArray

from napari_segsuite.engine.progress import Progress, waited
from napari_segsuite.engine.prompts import Asked, asked
from napari_segsuite.models.prompts import BACKENDS, Box, Candidate, Prompt, prompter
from napari_segsuite.types import Image
from napari_segsuite.viewer.child import Child
from napari_segsuite.viewer.said import Said
from napari_segsuite.viewer.view import shown

log = logging.getLogger(__name__)

LOADING = Progress(0, 0, "loading the model")
LOOKING = Progress(0, 0, "looking at the image")
ASKING = Progress(0, 0, "asking")

_KEPT: dict[str, Any] = {}
"""In the child: the backend that was used last, by ``name``, and what it has looked at last, by ``key``."""


@dataclass(frozen=True, eq=False)
class Question:
    """A prompt about a part of an image.

    Attributes
    ----------
    image : Image
    model : str
    volume : bool
    channels : tuple of str
    frame : tuple of int
        One index per axis that is not looked along, in the image's order.
    prompt : Prompt
        In voxels of the picture.
    key : hashable
        Changes with whatever changes what there is to look at, besides the frame.
    """

    image: Image
    model: str
    volume: bool
    channels: tuple[str, ...]
    frame: tuple[int, ...]
    prompt: Prompt
    key: Hashable


@dataclass(frozen=True, eq=False)
class Answer:
    """What a backend answered: candidates for a part of the picture, best first."""

    asked: Asked
    question: Question
    view: Box
    candidates: tuple[Candidate, ...]


class Asker:
    """Asks, and keeps what is needed again for the next prompt.

    Parameters
    ----------
    child : Child
    """

    def __init__(self, child: Child) -> None:
        self.child = child
        self._asked: tuple[Hashable, Asked] | None = None
        self._seen: tuple[Hashable, Any] | None = None

    @staticmethod
    def warm() -> None:
        """Load what backends without weights need, in a thread: the first click need not wait for it."""
        threading.Thread(target=_load, name="warm-prompts", daemon=True).start()

    def expect(self, model: str) -> None:
        """Start the process that a model needs ahead of time."""
        if not is_light(model):
            try:
                self.child.warm()
            except OSError as error:
                log.warning("could not start the process that runs the model ahead of time: %s", error)

    def at_once(self, question: Question) -> Answer:
        """Ask a backend without weights.

        Raises
        ------
        SegsuiteError
            The image, the backend and the prompt do not fit together.
        """
        ready = self._ready(question)
        view = ready.view(question.prompt)
        backend, key = prompter(question.model), (question.key, question.frame, view)
        if self._seen is None or self._seen[0] != key:
            self._seen = key, backend.look(ready.pixels(question.frame, view))
        found = backend.answer(self._seen[1], question.prompt.moved([-a for a, _ in view]))
        return Answer(ready, question, view, tuple(found))

    def steps(self, question: Question) -> Generator[Progress, None, Answer]:
        """Ask a network in the child; to be driven in a thread.

        Yields
        ------
        Progress
        """
        yield LOADING
        ready = self._ready(question)
        view = ready.view(question.prompt)
        prompt = question.prompt.moved([-a for a, _ in view])
        key = repr((question.key, question.frame, view))
        with self.child.executor() as executor:
            found = yield from waited(executor.submit(answered, question.model, key, prompt), ASKING)
            if found is None:
                pixels = ready.pixels(question.frame, view)
                found = yield from waited(executor.submit(looked, question.model, key, pixels, prompt), LOOKING)
        return Answer(ready, question, view, tuple(found))

    def _ready(self, question: Question) -> Asked:
        key = (question.key, question.model, question.volume, question.channels)
        if self._asked is None or self._asked[0] != key:
            self._asked = key, asked(question.image, question.model, volume=question.volume, channels=question.channels)
        return self._asked[1]


def _load() -> None:
    for module in ("scipy.ndimage", "skimage.graph", "napari_segsuite.engine.layout", "napari_segsuite.engine.reader"):
        importlib.import_module(module)


def is_light(model: str) -> bool:
    """Whether a backend answers at once, in any process."""
    return model in BACKENDS


def answered(model: str, key: str, prompt: Prompt) -> list[Candidate] | None:
    """Answer about what was looked at last; None if that is something else. To be called in the child."""
    if _KEPT.get("name") != model or _KEPT.get("key") != key:
        return None
    found: list[Candidate] = _KEPT["backend"].answer(_KEPT["state"], prompt)
    return found


def looked(model: str, key: str, pixels: NDArray[np.float32], prompt: Prompt) -> list[Candidate]:
    """Look at a picture, and answer about it. To be called in the child."""
    if _KEPT.get("name") != model:
        _KEPT.clear()
        _KEPT.update(name=model, backend=prompter(model))
    _KEPT.update(key="", state=None)  # two of them could be too much
    _KEPT.update(state=_KEPT["backend"].look(pixels), key=key)
    found: list[Candidate] = _KEPT["backend"].answer(_KEPT["state"], prompt)
    return found


def question_of(
    viewer: Any, layer: Layer, axes: str, image: Image, said: Said, model: str, volume: bool, key: Hashable
) -> tuple[Question | None, str]:
    """What to ask a model of what is said about the shown slice, or about the stack; else None, and what is lacking, in a sentence.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    layer : napari.layers.Image
    axes : str
        What its axes are, in its own order.
    image : Image
        The same layer.
    said : Said
    model : str
    volume : bool
        Whether a body is wanted, where there is a stack.
    key : hashable
        See `Question`.

    Raises
    ------
    InputError
        The canvas shows other axes than y and x.
    """
    if not said:
        return None, ""
    looked, frame = frame_of(viewer, layer, axes, image, volume)
    prompt = said.prompt(axes.replace("c", ""), looked, frame)
    channels = (str(shown(viewer, layer, axes, looked)["c"]),) if "c" in axes else ()
    if not prompt.says_where:
        return None, said.lacking(axes.replace("c", ""), frame)
    return Question(image, model, looked == "zyx", channels, tuple(frame.values()), prompt, key), ""


def frame_of(viewer: Any, layer: Layer, axes: str, image: Image, volume: bool) -> tuple[str, dict[str, int]]:
    """The axes that a model looks along, and the shown index along each of the others but the channels'.

    Raises
    ------
    InputError
        The canvas shows other axes than y and x, and one slice is to be looked at.
    """
    looked = "zyx" if volume and image.size("z") > 1 else "yx"
    at = shown(viewer, layer, axes, looked)
    return looked, {a: at[a] for a in image.axes if a not in looked + "c"}
