"""The pixels of DICOM frames, each read when it is asked for and turned into what it means: Hounsfield units, colours.

pydicom decodes with whatever permissive decoder it finds; what it has none for, as JPEG-LS, imagecodecs decodes from the frame's bytes.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import InputError, MissingExtra
from napari_segsuite.io.bulk import HARMLESS_BYTES
from napari_segsuite.io.dicom_headers import File, Frame, pydicom_reading
from napari_segsuite.io.faults import AGAIN, size_text
from napari_segsuite.io.lazy import Opened
from napari_segsuite.io.planes import Kept

MOST_FROM_ONE_BYTE = 2000
"""How many bytes one compressed byte can become; more is a bomb or damage."""

_CODECS = {
    "1.2.840.10008.1.2.4.50": "jpeg", "1.2.840.10008.1.2.4.51": "jpeg", "1.2.840.10008.1.2.4.57": "ljpeg", "1.2.840.10008.1.2.4.70": "ljpeg",
    "1.2.840.10008.1.2.4.80": "jpegls", "1.2.840.10008.1.2.4.81": "jpegls", "1.2.840.10008.1.2.4.90": "jpeg2k", "1.2.840.10008.1.2.4.91": "jpeg2k",
    "1.2.840.10008.1.2.4.201": "htj2k", "1.2.840.10008.1.2.4.202": "htj2k", "1.2.840.10008.1.2.4.203": "htj2k",
}  # fmt: skip
"""Transfer syntax -> what imagecodecs calls its decoder."""

_PALETTE = "PALETTE COLOR"
_DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True)
class Volume:
    """Frames as one array that stays in its files; `lazy.View` opens it.

    Attributes
    ----------
    frames : tuple of tuple of Frame
        By time, then by slice.
    kinds : str
        Of the stored axes, fastest first: ``c`` for colours, ``ss`` or ``sss``, ``t``.
    colours : int
        How many; 0 for grey.
    """

    frames: tuple[tuple[Frame, ...], ...]
    kinds: str
    colours: int = 0

    @property
    def deep(self) -> bool:
        """Whether there is an axis of slices."""
        return self.kinds.count("s") == 3

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The type that holds all values of all frames without rounding integers."""
        return np.result_type(*{meant(f) for volume in self.frames for f in volume})

    @property
    def shape(self) -> tuple[int, ...]:
        """Fastest axis first."""
        first = self.frames[0][0].file
        size = [self.colours] if self.colours else []
        size += [first.columns, first.rows]
        return (*size, *([len(self.frames[0])] if self.deep else []), *([len(self.frames)] if "t" in self.kinds else []))


def open_volume(volume: Volume) -> Opened:
    """What `lazy.View` opens."""
    return _Planes(volume), None


def check(frame: Frame) -> None:
    """Compare what is declared with what a file can hold.

    Raises
    ------
    InputError
    """
    file = frame.file
    nbytes = file.rows * file.columns * file.samples * max(file.allocated // 8, 1)
    there = file.path.stat().st_size
    if nbytes > max(HARMLESS_BYTES, there * MOST_FROM_ONE_BYTE):
        told = f"file {file.path} declares frames of {file.columns} x {file.rows} pixels, which need {size_text(nbytes)}"
        raise InputError(f"{told}, and is {size_text(there)} long, which cannot become so much", do=AGAIN)
    if not 1 <= file.stored <= file.allocated <= 64 or not file.stored - 1 <= file.high < file.allocated:
        found = f"file {file.path} stores {file.stored} of {file.allocated} bits, the highest being {file.high}"
        raise InputError(found, "BitsStored up to BitsAllocated", AGAIN)


def is_coloured(file: File) -> bool:
    """Whether a file holds colours."""
    return file.samples > 1 or file.photometric == _PALETTE


def meant(frame: Frame) -> np.dtype[Any]:
    """The smallest type for the values of a frame: integers where slope and intercept are, else floats."""
    file = frame.file
    if is_coloured(file):
        return np.dtype(np.uint8 if file.allocated <= 8 else np.uint16 if file.allocated <= 16 else np.uint32)
    if (frame.slope, frame.inter) == (1.0, 0.0):
        return np.dtype(
            f"{'i' if file.signed else 'u'}{1 if file.allocated <= 8 else 2 if file.allocated <= 16 else 4 if file.allocated <= 32 else 8}"
        )
    if not (frame.slope.is_integer() and frame.inter.is_integer()):
        return np.dtype(np.float32 if file.stored <= 16 else np.float64)
    low, high = (-(2 ** (file.stored - 1)), 2 ** (file.stored - 1) - 1) if file.signed else (0, 2**file.stored - 1)
    ends = sorted((low * int(frame.slope) + int(frame.inter), high * int(frame.slope) + int(frame.inter)))
    kinds = (np.int16, np.uint16, np.int32, np.int64)
    return np.dtype(next((k for k in kinds if np.iinfo(k).min <= ends[0] and ends[1] <= np.iinfo(k).max), np.float64))


def plane_of(frame: Frame) -> NDArray[Any]:
    """The values of a frame, (rows, columns) or (rows, columns, colours).

    Raises
    ------
    InputError
        It is damaged or of a kind that cannot be decoded.
    MissingExtra
    """
    file, part = frame.file, f"frame {frame.index + 1}" if frame.file.count > 1 else "its pixels"
    with pydicom_reading(file.path, part):
        raw = _decoded(frame)
        size = (file.rows, file.columns)
        if raw.shape[:2] != size or raw.ndim != 2 + is_coloured(file):
            raise InputError(f"{part} of {file.path} are of shape {raw.shape}", f"{size}, as the header says", AGAIN)
        return raw.astype(meant(frame), copy=False) if is_coloured(file) else _valued(raw, frame)


class _Planes:
    """Frames as one array, of which the last read ones are kept."""

    def __init__(self, volume: Volume) -> None:
        self._volume, self._kept = volume, Kept()

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        """A part, all axes of which are there; fastest first."""
        volume, keys = self._volume, list(key)
        colour = keys.pop(0) if volume.colours else slice(None)
        x, y = keys.pop(0), keys.pop(0)
        slices = range(*(keys.pop(0) if volume.deep else slice(0, 1)).indices(len(volume.frames[0])))
        times = range(*(keys.pop(0) if "t" in volume.kinds else slice(0, 1)).indices(len(volume.frames)))
        parts = [[self._plane(t, z)[y, x] for z in slices] for t in times]
        first = volume.frames[0][0].file
        size = (len(range(*y.indices(first.rows))), len(range(*x.indices(first.columns))), *([volume.colours] if volume.colours else []))
        whole = np.array(parts, volume.dtype).reshape(len(times), len(slices), *size)
        absent = tuple(axis for axis, letter in enumerate("tz") if (letter == "t" and "t" not in volume.kinds) or (letter == "z" and not volume.deep))
        turned = whole.squeeze(absent).transpose()
        return turned[colour] if volume.colours else turned

    def _plane(self, t: int, z: int) -> NDArray[Any]:
        frame, dtype = self._volume.frames[t][z], self._volume.dtype
        return self._kept.get((t, z), lambda: plane_of(frame).astype(dtype, copy=False))


def _decoded(frame: Frame) -> NDArray[Any]:
    """The stored values of a frame, and colours as red, green and blue."""
    import pydicom
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    file = frame.file
    check(frame)
    if file.syntax in _CODECS:
        raw = _unpacked(frame, _CODECS[file.syntax], available=get_decoder(file.syntax).is_available)
    elif file.syntax in ("", _DEFLATED) or file.allocated == 1:
        raw = _from_memory(frame)
    else:
        raw = pixel_array(file.path, index=frame.index)
    native = np.asarray(raw).astype(raw.dtype.newbyteorder("="), copy=False)
    if file.photometric != _PALETTE:
        return native
    return np.asarray(apply_color_lut(native, pydicom.dcmread(file.path, stop_before_pixels=True, force=True)))


def _unpacked(frame: Frame, codec: str, *, available: bool) -> NDArray[Any]:
    """Decode a compressed frame with pydicom, and what that has no decoder for, or only one of fewer bits, with imagecodecs."""
    from pydicom.pixels.utils import pixel_array

    try:
        if available:
            return pixel_array(frame.file.path, index=frame.index)
    except RuntimeError:
        if importlib.util.find_spec("imagecodecs") is None:
            raise
    return _by_imagecodecs(frame, codec)


def _from_memory(frame: Frame) -> NDArray[Any]:
    """The same of a file that has to be read whole: compressed whole, without a preamble (its encoding has to be found), or of bits.

    Of single bits that a file lacks at its end, pydicom makes zeros where it reads the file itself.
    """
    import pydicom
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    data = pydicom.dcmread(frame.file.path, force=True)
    if "TransferSyntaxUID" not in data.file_meta:
        little, implicit = data.is_little_endian, data.is_implicit_VR
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    found: NDArray[Any] = data.pixel_array if frame.file.count == 1 else data.pixel_array[frame.index]
    return found


def _by_imagecodecs(frame: Frame, codec: str) -> NDArray[Any]:
    """Decode the bytes of a frame."""
    import pydicom
    from pydicom.encaps import get_frame

    file = frame.file
    if importlib.util.find_spec("imagecodecs") is None:
        raise MissingExtra(f"reading file {file.path}, which is compressed ({codec}),", "codecs")
    import imagecodecs

    data = pydicom.dcmread(file.path, specific_tags=["PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"])
    table = data.get("ExtendedOffsetTable")
    extended = (table, data.ExtendedOffsetTableLengths) if table else None
    packed = get_frame(data.PixelData, frame.index, number_of_frames=file.count, extended_offsets=extended)
    return np.asarray(getattr(imagecodecs, f"{codec}_decode")(packed))


def _valued(raw: NDArray[Any], frame: Frame) -> NDArray[Any]:
    """Stored values as what they mean: without bits that are not theirs, with their sign, scaled."""
    file = frame.file
    whole = raw.view(np.dtype(f"u{raw.dtype.itemsize}")) if raw.dtype.kind in "iu" else raw
    if whole.dtype.kind == "u":
        whole = _own_bits(whole, file)
    to = meant(frame)
    if (frame.slope, frame.inter) == (1.0, 0.0):
        return whole.astype(to, copy=False)
    if to.kind == "f":
        return (whole.astype(np.float64) * frame.slope + frame.inter).astype(to)
    return (whole.astype(np.int64) * int(frame.slope) + int(frame.inter)).astype(to)


def _own_bits(whole: NDArray[Any], file: File) -> NDArray[Any]:
    """Keep the bits that are stored, and copy the sign into those above; overlays may stand in them."""
    width = 8 * whole.dtype.itemsize
    if file.stored < width:
        shift = file.high - (file.stored - 1)
        whole = (whole >> shift) & whole.dtype.type(2**file.stored - 1)
    signed = np.dtype(f"i{whole.dtype.itemsize}")
    if not file.signed:
        return whole
    up = width - file.stored
    found: NDArray[Any] = (whole << up).view(signed) >> up
    return found
