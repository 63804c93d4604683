"""How far a run is, and what a run is to those who drain it."""

from __future__ import annotations

import concurrent.futures as cf
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

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
