"""Files that hold several images: which one is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_segsuite.errors import InputError

MOST_TOLD = 8
"""How many images a message lists."""


@dataclass(frozen=True)
class Scene:
    """One image of a file that can hold several.

    Attributes
    ----------
    number : int
        What it is chosen by, besides its name.
    name : str
        Empty where it has none.
    shape : tuple of int
    """

    number: int
    name: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.number}: {self.name or 'unnamed'} {self.shape}"


def choose(scenes: Sequence[Scene], wish: int | str | None, path: Path, hidden: Sequence[Scene] = ()) -> Scene:
    """The one image that is meant.

    Parameters
    ----------
    scenes : sequence of Scene
    wish : int or str, optional
        Its number or name.
    path : Path
    hidden : sequence of Scene
        Others that can be had by their number, and that nobody means who does not say so.

    Raises
    ------
    InputError
        There is none, there are several without a choice, or none is called so; they are listed.
    """
    if not scenes:
        raise InputError(f"file {path} holds no image")
    told = ", ".join(map(str, scenes[:MOST_TOLD])) + (", ..." if len(scenes) > MOST_TOLD else "")
    if wish is None:
        if len(scenes) > 1:
            several, first = f"file {path} holds {len(scenes)} images ({told})", scenes[0].number
            raise InputError(several, "one of them", f"Choose with scene={first} (--scene {first}).")
        return scenes[0]
    chosen = [one for one in (*scenes, *hidden) if str(wish) in (str(one.number), one.name)]
    if not chosen:
        raise InputError(f"file {path} has no image {wish!r}", f"one of {told}")
    return chosen[0]
