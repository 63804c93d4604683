"""Files that hold several images: which one is meant, and what to call what is made of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_segsuite.errors import InputError

MOST_TOLD = 8
"""How many images a message lists."""

ALL = "all"
"""What stands for every image of a file where one could be chosen."""

_LONGEST = 80


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
        Of its stored axes; empty where that takes more than a look at the list of images.
    key : str
        What it is chosen by for certain where that is no number: a path in a store, the UID of a series.
    """

    number: int
    name: str
    shape: tuple[int, ...]
    key: str = ""

    def __str__(self) -> str:
        return f"{self.number}: {self.name or 'unnamed'}{f' {self.shape}' if self.shape else ''}"

    @property
    def wish(self) -> int | str:
        """What `io.read` takes as ``scene`` for just this image."""
        return self.key or self.number


class Several(InputError):
    """A file holds several images, and none was chosen."""


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
            raise Several(f"file {path} holds {len(scenes)} images ({told})", "one of them", how_to_choose(scenes[0].number))
        return scenes[0]
    chosen = find((*scenes, *hidden), wish)
    if chosen is None:
        raise InputError(f"file {path} has no image {wish!r}", f"one of {told}")
    return chosen


def find(scenes: Sequence[Scene], wish: int | str) -> Scene | None:
    """The image of this number, key or name, if there is just one; where one has the number and another the name, an integer means the number.

    A path in a file may begin with a slash, as its own program shows it.
    """
    numbered = {one.number: one for one in scenes if str(one.number) == str(wish)}
    named = {one.number: one for one in scenes if {str(wish), str(wish).strip("/")} & {one.key, one.name}}
    found = (numbered or named) if isinstance(wish, int) else (named or numbered)
    return next(iter(found.values())) if len(found) == 1 else None


def how_to_choose(example: int | str) -> str:
    """What to do about a file of several images."""
    return f"Choose one by its number or name, as scene={example!r} (--scene {example}), or do all of them (--scene {ALL})."


def titles(scenes: Sequence[Scene]) -> list[str]:
    """What results of images of one file are called after: their names as a part of a file's name where these tell them apart, else their numbers.

    >>> titles([Scene(0, "Series 1/left", ()), Scene(1, "Series 1/right", ())]), titles([Scene(0, "a", ()), Scene(1, "A", ())])
    (['Series-1-left', 'Series-1-right'], ['0', '1'])
    """
    names = [title(one.name) for one in scenes]
    return names if all(names) and len({name.casefold() for name in names}) == len(names) else [str(one.number) for one in scenes]


def title(name: str) -> str:
    """A name as a part of a file's name.

    >>> title("volumes/raw"), title(".."), title("labels")
    ('volumes-raw', '', 'image-labels')
    """
    found = re.sub(r"[^\w.+-]+", "-", name)[:_LONGEST].strip("-._")
    # A file that ends in _labels is taken for a result, and not for an image.
    return f"image-{found}" if found.casefold() == "labels" else found
