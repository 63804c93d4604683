"""What a TIFF says about its axes: OME-XML, ImageJ's text, ZEISS's LSM, or nothing but its resolution tags."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from napari_segsuite.errors import InputError
from napari_segsuite.io.geometry import Described, Size, valid
from napari_segsuite.io.markup import parsed
from napari_segsuite.io.units import PIXEL, micrometres, name_of, symbol_of

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

LARGEST_TAG_UM = 25.0
"""Resolution tags in centimetres are believed for pixels up to this size; larger ones are printing resolutions (25 um is 1016 dpi)."""

_RGB, _YCBCR = 2, 6
_CENTIMETER = 3


def describe(tif: TiffFile, series: TiffPageSeries, index: int) -> Described:
    """Sizes, units, channel names and colour of one series of an open TIFF.

    Parameters
    ----------
    tif : TiffFile
    series : TiffPageSeries
    index : int
        Its number among the images of the file.
    """
    if series.kind == "ome":
        return _from_ome(tif, index, _is_rgb(series))
    if tif.is_imagej:
        return _from_imagej(tif, series)
    if tif.is_lsm:
        return _from_lsm(tif.lsm_metadata or {})
    sizes = _from_tags(series.keyframe)
    return Described(sizes=sizes, rgb=_is_rgb(series))


def check_xml(tif: TiffFile, path: Path) -> None:
    """Refuse OME-XML that defines entities (they can expand without bound) or names files elsewhere or missing.

    Raises
    ------
    InputError
    """
    text = tif.pages.first.description
    if not text.lstrip().startswith("<") or "OME" not in text[:2000]:
        return
    names = {e.get("FileName", "") for e in parsed(text, path, "OME-XML").iter() if e.tag.endswith("}UUID")} - {""}
    outside = sorted(name for name in names if Path(name).name != name or "\\" in name)
    if outside:
        raise InputError(f"the OME-XML of {path} names files in other folders ({outside[0]!r})", "files beside it")
    missing = sorted(name for name in names if not (path.parent / name).exists())
    # A file that was renamed alone still names itself by its old name: it holds all the planes, and nothing is missing.
    if missing and len(names) > 1:
        found = f"file {path} is one of {len(names)} that belong together, and {_listed(missing)} missing"
        raise InputError(found, do="Put all of them in one folder.")


def ome_metadata(described: Mapping[str, Size], channels: tuple[str, ...], name: str) -> dict[str, Any]:
    """The OME-XML attributes of sizes, channel names and the image's name, as tifffile's writer takes them."""
    told: dict[str, Any] = {"Name": _printable(name)}
    for axis, (size, unit) in described.items():
        symbol = symbol_of(unit)
        if axis == "t" and symbol:
            told |= {"TimeIncrement": size, "TimeIncrementUnit": symbol}
        elif axis in "zyx" and (symbol or size != 1):
            told |= {f"PhysicalSize{axis.upper()}": size, f"PhysicalSize{axis.upper()}Unit": symbol or "pixel"}
    return {**told, "Channel": {"Name": [_printable(channel) for channel in channels]}} if channels else told


def resolution(sizes: Mapping[str, Size]) -> dict[str, Any]:
    """The resolution tags, as tifffile's writer takes them: pixels per centimetre where x and y are lengths, else nothing."""
    per_cm = {"nanometer": 1e7, "micrometer": 1e4, "millimeter": 10.0}
    found = [per_cm[unit] / size for size, unit in (sizes.get(a, (1.0, PIXEL)) for a in "xy") if unit in per_cm and 1e-3 < size < 1e5]
    return {"resolution": tuple(found), "resolutionunit": _CENTIMETER} if len(found) == 2 and max(found) < 1e8 else {}


def _from_ome(tif: TiffFile, index: int, rgb: bool) -> Described:
    images = [e for e in ElementTree.fromstring(tif.ome_metadata or "<OME/>").iter() if e.tag.endswith("}Image")]
    pixels = next((e for e in images[index] if e.tag.endswith("}Pixels")), None) if index < len(images) else None
    if pixels is None:
        return Described(rgb=rgb)
    found = {a: (pixels.get(f"PhysicalSize{a.upper()}"), pixels.get(f"PhysicalSize{a.upper()}Unit", "µm")) for a in "zyx"}
    found["t"] = (pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    sizes = {a: valid((_number(size), name_of(unit))) for a, (size, unit) in found.items() if size is not None}
    names = [e.get("Name", "") for e in pixels if e.tag.endswith("}Channel")]
    return Described(sizes=sizes, channels=tuple(names) if any(names) and not rgb else (), rgb=rgb, name=images[index].get("Name", ""))


def _from_imagej(tif: TiffFile, series: TiffPageSeries) -> Described:
    told = tif.imagej_metadata or {}
    unit = name_of(_text(told.get("unit")))
    sizes: dict[str, Size] = {}
    if unit != PIXEL:
        for axis, per_unit in zip("xy", _resolution_of(series.keyframe), strict=True):
            own = name_of(_text(told.get(f"{axis}unit"))) if f"{axis}unit" in told else unit
            sizes[axis] = valid((1 / per_unit if per_unit else 0.0, own))
        zunit = name_of(_text(told["zunit"])) if "zunit" in told else unit
        # ImageJ counts z downwards in some of its own samples: the sign says nothing about size.
        sizes["z"] = valid((abs(_number(told.get("spacing"))), zunit))
    interval = _number(told.get("finterval"))
    if interval > 0:
        sizes["t"] = valid((interval, name_of(_text(told.get("tunit", "sec")))))
    # Channels that ImageJ shows as a composite are separate dyes, even when they are stored like a colour picture.
    rgb = _is_rgb(series) and told.get("mode") not in ("composite", "color", "grayscale")
    return Described(sizes=sizes, channels=_slice_labels(told, series), rgb=rgb)


def _from_lsm(told: Mapping[str, Any]) -> Described:
    """What ZEISS's LSM says; its channels are dyes, also where they are stored like the colours of a picture."""
    sizes: dict[str, Size] = {a: valid((micrometres(_number(told.get(f"VoxelSize{a.upper()}"))), "micrometer")) for a in "zyx"}
    sizes["t"] = valid((_number(told.get("TimeIntervall")), "second"))  # spelt so by the format
    start = {a: micrometres(_number(told.get(f"Origin{a.upper()}"))) for a in "zyx" if sizes[a][1] != PIXEL}
    return Described(sizes, start, tuple((told.get("ChannelColors") or {}).get("ColorNames", ())))


def _from_tags(page: TiffPage) -> dict[str, Size]:
    unit = page.tags.get("ResolutionUnit")
    if unit is None or int(unit.value) != _CENTIMETER:
        return {}
    sizes = {a: 1e4 / per_cm for a, per_cm in zip("xy", _resolution_of(page), strict=True) if per_cm > 0}
    believed = len(sizes) == 2 and all(isfinite(s) and s <= LARGEST_TAG_UM for s in sizes.values())
    return {a: (s, "micrometer") for a, s in sizes.items()} if believed else {}


def _resolution_of(page: TiffPage) -> tuple[float, float]:
    """Pixels per unit along x and y; 0 where it is not said."""
    found = []
    for name in ("XResolution", "YResolution"):
        tag = page.tags.get(name)
        above, below = tag.value if tag is not None and isinstance(tag.value, tuple) and len(tag.value) == 2 else (0, 1)
        found.append(above / below if below else 0.0)
    return found[0], found[1]


def _is_rgb(series: TiffPageSeries) -> bool:
    page = series.keyframe
    return int(page.photometric) in (_RGB, _YCBCR) and page.samplesperpixel in (3, 4)


def _slice_labels(told: Mapping[str, Any], series: TiffPageSeries) -> tuple[str, ...]:
    labels = told.get("Labels")
    axes = series.axes.upper()
    if not isinstance(labels, (list, tuple)) or axes.count("C") != 1:
        return ()
    n = series.shape[axes.index("C")]
    return tuple(str(label) for label in labels) if len(labels) == n and all(labels) else ()


def _printable(text: str) -> str:
    """The text without the characters that XML cannot hold, not even escaped."""
    return "".join(c for c in text if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff")


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"{shown} {'is' if len(names) == 1 else 'are'}"
