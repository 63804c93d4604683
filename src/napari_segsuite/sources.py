"""The images that an input means: files, fields of plates, and one or all of the images of a file that holds several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_segsuite.errors import InputError, SegsuiteError
from napari_segsuite.io import holds_labels, list_scenes
from napari_segsuite.io.geometry import stem_of
from napari_segsuite.io.inputs import source_of
from napari_segsuite.io.plates import fields_meant, name_of_field, plate_of
from napari_segsuite.io.scenes import ALL, find, title, titles


@dataclass(frozen=True)
class Source:
    """One image.

    Attributes
    ----------
    path : Path
    scene : int or str, optional
        Which of several, as `io.read` takes it.
    title : str
        What tells it from the others in the names of results; empty where a file holds just one.
    """

    path: Path
    scene: int | str | None = None
    title: str = ""

    @property
    def stem(self) -> str:
        """What names of results begin with."""
        return self.name.removesuffix("_labels")

    @property
    def name(self) -> str:
        """The name of its file without suffixes, and which image in it.

        >>> Source(Path("a/b.lif"), 3, "left").name, Source(Path("p.ome.zarr/A/1/0")).name
        ('b_left', 'p_A1_0')
        """
        name = name_of_field(self.path) or stem_of(self.path)
        return f"{name.removesuffix('_labels')}_{self.title}" if self.title else name

    def __str__(self) -> str:
        return f"{self.path} ({self.title})" if self.title else str(self.path)


def sources_in(path: Path, scene: int | str | None, *, labels: bool = False) -> list[Source]:
    """The images of a file, store or folder that are meant.

    Parameters
    ----------
    path : Path
    scene : int or str, optional
        Number or name of one image; `ALL` for each of them.
    labels : bool
        Whether labels are wanted too: the segments of a DICOM segmentation one by one.

    Returns
    -------
    list of Source
        At least one. What cannot be listed, or is not there, is left for reading to complain about.

    Raises
    ------
    InputError
        The wish is one image's number and another's name.
    """
    wish = None if scene == ALL else scene
    fields = fields_meant(path, wish)
    if fields != [path]:
        return [Source(field) for field in fields]
    if scene is None or plate_of(path) is not None:
        return [Source(path)]
    try:
        found = list_scenes(path) if labels or source_of(path) != "dicom" or not holds_labels(path) else []
    except SegsuiteError:
        return [Source(path, wish)]
    if wish is None:
        named = zip(found, titles(found), strict=True)
        return [Source(path, one.wish, called) for one, called in named] if len(found) > 1 else [Source(path)]
    chosen = find(found, wish)
    other = next((one for one in found if one.name == str(wish) and one != chosen), None)
    if chosen is not None and other is not None:
        do = f"Take all of them (--scene {ALL}), or say it in Python: scene={chosen.number} is the number, scene={other.name!r} the name."
        raise InputError(f"{wish} is the number of one image in {path} ({chosen}) and the name of another ({other})", "one of them", do)
    if chosen is None:
        return [Source(path, wish, title(str(wish)) if len(found) > 1 else "")]
    return [Source(path, chosen.wish, titles(found)[found.index(chosen)] if len(found) > 1 else "")]
