"""What a dock hears of its viewer, kept together so that it can let go of all of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Links:
    """Connections to napari's events. Calls nothing of Qt."""

    def __init__(self) -> None:
        self._links: list[tuple[Any, Callable[..., None]]] = []

    def hear(self, slot: Callable[..., None], *events: Any) -> None:
        """Call a function when any of these events is told; asking for the same once more does nothing."""
        for event in events:
            if not any(event is one and slot == own for one, own in self._links):
                event.connect(slot)
                self._links.append((event, slot))

    def leave(self, slot: Callable[..., None], *events: Any) -> None:
        """Hear these events no more."""
        for event in events:
            event.disconnect(slot)
        self._links = [(one, own) for one, own in self._links if own != slot or not any(one is event for event in events)]

    def close(self, *_: Any) -> None:
        """Hear nothing any more."""
        for event, slot in self._links:
            with suppress(RuntimeError, ValueError):
                event.disconnect(slot)
        self._links.clear()
