"""Reading ND2, the files of Nikon microscopes, with the library nd2.

A file is a series of frames, each with all channels; what the frames count is said by nested loops over time, position and depth. A position is an
image. Frames that an acquisition never came to are 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io.bulk import HARMLESS_BYTES
from napari_segsuite.io.faults import AGAIN, reading, size_text
from napari_segsuite.io.geometry import Described, Size
from napari_segsuite.io.lazy import Opened
from napari_segsuite.io.planes import Box, Kept, Planes, Stored, check_extent, to_image
from napari_segsuite.io.scenes import Scene, choose
from napari_segsuite.types import Image

if TYPE_CHECKING:
    from nd2 import ND2File

_LETTERS = {"TimeLoop": "t", "NETimeLoop": "t", "ZStackLoop": "z", "XYPosLoop": "p"}
_PACKED = "lossless"
_MOST_FROM_ONE_BYTE = 1100


@dataclass(frozen=True)
class Frames:
    """The frames of one image.

    Attributes
    ----------
    path : Path
    loops : tuple of (str, int)
        What frames count, outermost first: ``t``, ``z``, ``p`` (positions), or a word for what we have no letter for; and how many there are.
    at : mapping of str to int
        The number that is meant of what is no axis of an image.
    channels, height, width, colours : int
    dtype : dtype
    packed : bool
    """

    path: Path
    loops: tuple[tuple[str, int], ...]
    at: dict[str, int]
    channels: int
    height: int
    width: int
    colours: int
    dtype: np.dtype[Any]
    packed: bool

    @property
    def counted(self) -> tuple[tuple[str, int], ...]:
        """Letters and lengths of the axes that count frames."""
        return tuple((name, n) for name, n in self.loops if name not in self.at)

    @property
    def letters(self) -> str:
        """Its axes."""
        return "".join(name for name, _ in self.counted) + "c" * (self.channels > 1) + "yx" + "c" * (self.colours > 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its axes."""
        more = (self.channels,) if self.channels > 1 else ()
        return (*(n for _, n in self.counted), *more, self.height, self.width, *((self.colours,) if self.colours > 1 else ()))


def read(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read an ND2 file as an `Image`; see `napari_segsuite.io.read`."""
    with reading(path), _opened(path) as file:
        images = _images(file, path)
        frames = images[choose(_scenes(file, images), scene, path).number]
        return to_image([Stored(partial(open_frames, frames), frames.shape, frames.dtype)], frames.letters, _described(file, frames), path, axes)


def scenes(path: Path) -> list[Scene]:
    """The images in an ND2 file."""
    with reading(path), _opened(path) as file:
        return _scenes(file, _images(file, path))


def read_labels(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read an ND2 file whose pixels are labels."""
    return read(path, axes=axes, scene=scene)


def read_record(path: Path) -> dict[str, Any]:
    """Nothing: there is no record of ours in an ND2 file."""
    return {}


def _images(file: ND2File, path: Path) -> list[Frames]:
    """The images of an open file: one for each number of what is no axis of an image."""
    loops = _loops(file, path)
    others = [(name, n) for name, n in loops if len(name) > 1 or name == "p"]
    places = [dict(zip(dict(others), at, strict=True)) for at in np.ndindex(*(n for _, n in others))]
    return [_frames(file, loops, at, path) for at in places]


def _scenes(file: ND2File, images: list[Frames]) -> list[Scene]:
    names = _positions(file)
    return [Scene(k, _name(one.at, names), one.shape) for k, one in enumerate(images)]


def open_frames(frames: Frames) -> Opened:
    """What `lazy.View` opens."""
    import nd2

    file, kept, lock = nd2.ND2File(frames.path), Kept(), Lock()

    def decoded(number: int) -> NDArray[Any]:
        with lock:
            return np.array(_frame(file, number, frames))

    def region(at: tuple[int, ...], box: Box) -> NDArray[Any]:
        given = dict(zip((name for name, _ in frames.counted), at, strict=False)) | frames.at
        number = int(np.ravel_multi_index([given[name] for name, _ in frames.loops], [n for _, n in frames.loops])) if frames.loops else 0
        # A frame that is not packed is mapped into memory: only what is looked at is read.
        frame = kept.get(number, partial(decoded, number)) if frames.packed else _frame(file, number, frames)
        top, bottom, left, right = box
        plane = frame[at[-1] if frames.channels > 1 else 0, top:bottom, left:right]
        return plane if frames.colours > 1 else plane[..., 0]

    return Planes(frames.shape, frames.dtype, region, coloured=frames.colours > 1), file.close


@contextmanager
def _opened(path: Path) -> Iterator[ND2File]:
    import nd2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with nd2.ND2File(path) as file:
            if file.is_legacy:
                found = f"file {path} is of the kind that was written before 2010, in JPEG 2000"
                raise InputError(found, "a newer ND2 file", "Save it anew with NIS-Elements.")
            yield file


def _frame(file: ND2File, number: int, frames: Frames) -> NDArray[Any]:
    """A frame as (channels, rows, columns, colours); samples of a pixel that are not three are channels."""
    samples = file.components_per_channel
    found = file.read_frame(number).reshape(-1, frames.height, frames.width, samples)
    return found if frames.colours > 1 or samples == 1 else np.moveaxis(found, -1, 1).reshape(-1, frames.height, frames.width, 1)


def _loops(file: ND2File, path: Path) -> tuple[tuple[str, int], ...]:
    loops = [(_LETTERS.get(loop.type, "loop"), loop.count) for loop in file.experiment if loop.count > 1]
    if len({name for name, _ in loops}) < len(loops):
        raise InputError(f"file {path} counts its frames by {', '.join(f'{name} ({n})' for name, n in loops)}", "each once", "Save it as OME-TIFF.")
    return tuple(loops)


def _frames(file: ND2File, loops: tuple[tuple[str, int], ...], at: dict[str, int], path: Path) -> Frames:
    """The frames of an image, which the file can hold.

    Raises
    ------
    InputError
    """
    told = file.attributes
    dtype, size = np.dtype(file.dtype), path.stat().st_size
    coloured = file.components_per_channel == 3
    channels = (told.channelCount or 1) if coloured else told.componentCount
    packed = told.compressionType == _PACKED
    frames = Frames(path, loops, at, channels, told.heightPx, told.widthPx or 0, 3 if coloured else 1, dtype, packed)
    if coloured and channels > 1:
        raise InputError(f"file {path} has {channels} channels of colours (shape {frames.shape})", "one of them", "Split it by channel.")
    if told.compressionType not in (None, "none", _PACKED):
        raise InputError(
            f"the frames of {path} are packed with loss ({told.compressionType})", "frames as they are", "Save it anew with NIS-Elements."
        )
    nbytes = frames.height * frames.width * channels * frames.colours * dtype.itemsize
    if min(frames.shape) < 1 or nbytes > (max(HARMLESS_BYTES, size * _MOST_FROM_ONE_BYTE) if packed else size):
        found = f"file {path} is {size_text(size)} long and declares frames of shape {frames.shape[-2:]}, which need {size_text(nbytes)} each"
        raise InputError(found, do=AGAIN)
    check_extent(frames.shape, dtype, size, path)
    return frames


def _positions(file: ND2File) -> list[Any]:
    """What is said of each position."""
    return next((list(loop.parameters.points) for loop in file.experiment if loop.type == "XYPosLoop"), [])


def _name(at: dict[str, int], positions: list[Any]) -> str:
    words = []
    for name, number in at.items():
        own = positions[number].name if name == "p" and number < len(positions) else None
        words.append(own or f"{'position' if name == 'p' else name} {number}")
    return " ".join(words)


def _described(file: ND2File, frames: Frames) -> Described:
    """Sizes, position and channels of an image."""
    channels = file.metadata.channels or []
    sizes: dict[str, Size] = {}
    if channels:
        volume = channels[0].volume
        told = zip("xyz", volume.axesCalibration, volume.axesCalibrated, strict=True)
        sizes = {a: (float(size), "micrometer") for a, size, known in told if known and size > 0}
    step = next((_interval(loop) for loop in file.experiment if _LETTERS.get(loop.type) == "t"), 0.0)
    if step > 0:
        sizes["t"] = (step / 1000, "second")
    points, start = _positions(file), {}
    if points and {"y", "x"} <= set(sizes):
        where = points[frames.at.get("p", 0)].stagePositionUm
        middle = {"x": (float(where.x), frames.width), "y": (float(where.y), frames.height)}
        start = {a: centre - (n - 1) / 2 * sizes[a][0] for a, (centre, n) in middle.items()}
    names = () if frames.colours > 1 or len(channels) != frames.channels else tuple(one.channel.name or "" for one in channels)
    return Described(sizes, start, names, frames.colours > 1)


def _interval(loop: Any) -> float:
    """Milliseconds from one time point to the next: as they were if that is said, else as was wished; 0 where they are not equal."""
    periods = loop.parameters.periods if loop.type == "NETimeLoop" else [loop.parameters]
    steps = {float((one.periodDiff.avg if one.periodDiff else 0) or one.periodMs or 0) for one in periods}
    return steps.pop() if len(steps) == 1 else 0.0
