"""How far a run is, and what a run is to those who drain it."""

from __future__ import annotations

import concurrent.futures as cf
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar, cast

from napari_segsuite.types import Segmentation

WAIT_S = 0.1
T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """How far a run is: `done` of `total` units of work, and what is being done in a few words."""

    done: int
    total: int
    message: str


Run = Generator[Progress, None, Segmentation]


MEASURING = Progress(0, 1, "measuring contrast")


def waited(future: cf.Future[T], progress: Progress) -> Generator[Progress, None, T]:
    """Wait for something that a worker does, saying so."""
    try:
        while not future.done():
            cf.wait([future], WAIT_S)
            yield progress
        return future.result()
    finally:
        future.cancel()


def watched(steps: Generator[Progress, None, T], check: Callable[[], None]) -> Generator[Progress, None, T]:
    """Do steps as long as a check before each does not complain."""
    try:
        while True:
            check()
            try:
                step = next(steps)
            except StopIteration as stop:
                return cast("T", stop.value)
            yield step
    finally:
        steps.close()


def drained(steps: Generator[Progress, None, T], show: Callable[[Progress], object] | None = None) -> T:
    """Do all steps, and give what they return.

    Parameters
    ----------
    steps : generator
    show : callable, optional
        Called with every `Progress`.
    """
    while True:
        try:
            step = next(steps)
        except StopIteration as stop:
            return cast("T", stop.value)
        if show is not None:
            show(step)
