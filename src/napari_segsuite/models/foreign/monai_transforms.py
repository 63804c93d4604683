"""Transforms of MONAI bundles in terms of what is done here: what a pixel is, what is done to it, what the answer stands for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from napari_segsuite.models.foreign.fields import Fields
from napari_segsuite.models.foreign.monai_config import Config

PASSIVE_BEFORE = {"LoadImage", "EnsureChannelFirst", "EnsureType", "CastToType", "ToTensor", "ToDevice", "AddChannel", "AsChannelFirst"}
PASSIVE_AFTER = {"Invert", "SaveImage", "EnsureType", "ToTensor", "ToDevice", "FromMetaTensor", "CopyItems", "DeleteItems"}
READERS = {"ITKReader", "NibabelReader", "PILReader"}
"""Those that give the axes as x, y, z."""
REAL = {"float32", "float", "$torch.float32", "$np.float32", "$numpy.float32", "float64", "$torch.float", "$torch.float64"}
"""Texts, compared and never run."""
SIDES = {"R": "x", "L": "x", "A": "y", "P": "y", "S": "z", "I": "z"}
TOWARDS = {"R": "the right", "L": "the left", "A": "the front", "P": "the back", "S": "the head", "I": "the feet"}
COMMON = ("keys", "allow_missing_keys", "dtype")


@dataclass
class Prepared:
    """What is done to an image before the network.

    Attributes
    ----------
    axes : str
        Spatial axes in the network's order; MONAI's readers give x first.
    channels : int
    normalize : dict
        As in `ModelSpec`.
    steps : list
        What follows on each tile.
    spacing : tuple of float, optional
        Millimetres per axis of `axes`.
    towards : str
        In which directions the axes must point, in words; empty where that is not said.
    """

    axes: str
    channels: int
    normalize: dict[str, Any] = field(default_factory=lambda: {"method": "none", "cut": None})
    steps: list[dict[str, Any]] = field(default_factory=list)
    spacing: tuple[float, ...] | None = None
    towards: str = ""

    def linear(self, gain: float | list[float], offset: float | list[float]) -> None:
        self.steps.append({"name": "scale_linear", "kwargs": {"gain": gain, "offset": offset}})

    def statistics(self, told: Fields, normalize: Mapping[str, Any], joint: bool) -> None:
        """Scale by what is found in the whole image. What scaled it linearly before has no effect then; anything else cannot come before."""
        joint = joint and self.channels > 1
        mixed = self.normalize["method"] != "none" and self.normalize["joint"] != joint
        gains = [step["kwargs"].get("gain") for step in self.steps]
        if mixed or not all(isinstance(gain, (int, float)) and gain > 0 for gain in gains):
            told.wrong("_target_", "statistics of an image after another transform", "them first, to be found once per image")
        self.normalize, self.steps = {"cut": None, "joint": joint, **normalize}, []


def prepared(config: Config, value: Any, dims: int, channels: int, *, intensities: bool, spacing: bool) -> Prepared:
    """Read the transforms before the network.

    Parameters
    ----------
    config : Config
    value : any
        The bundle's ``preprocessing``.
    dims : int
        Spatial axes.
    channels : int
    intensities, spacing : bool
        Whether what scales the pixels, and what says their size, is wanted at all: the user may have said it.

    Raises
    ------
    ModelError
        Names the transform or argument that cannot be done here.
    """
    made = Prepared("xyz"[:dims], channels)
    for where, name, told in _transforms(config, "preprocessing", value):
        if name in PASSIVE_BEFORE:
            _check_passive(told)
        elif name in _PLACES:
            if spacing or name != "Spacing":
                _PLACES[name](_literal(config, told), made)
        elif name not in _VALUES:
            raise config.refused(f"{where}._target_", name, f"one of {', '.join(sorted(PASSIVE_BEFORE | set(_PLACES) | set(_VALUES)))}", "")
        elif intensities:
            _VALUES[name](_literal(config, told), made)
    return made


def activation(config: Config, value: Any, channels: int) -> str:
    """What makes probabilities of the answer: ``softmax``, ``argmax``, ``sigmoid``, or nothing where it is not said.

    Raises
    ------
    ModelError
        The answer is changed by something that is not done here, or its classes may lie upon each other.
    """
    made = ""
    for where, name, told in _transforms(config, "postprocessing", value):
        if name in PASSIVE_AFTER:
            continue
        if name not in ("Activations", "AsDiscrete"):
            needed = f"one of {', '.join(sorted({*PASSIVE_AFTER, 'Activations', 'AsDiscrete'}))}"
            raise config.refused(f"{where}._target_", name, needed, "Take it out of the file if the answer is good without it.")
        told = _literal(config, told)
        made = (_activations if name == "Activations" else _discrete)(told, made)
    if made == "sigmoid" and channels > 1:
        do = "With --activation sigmoid each voxel gets the most probable of them."
        raise config.refused("postprocessing", f"sigmoid of {channels} channels", "softmax, or one channel: here a voxel has one class", do)
    return made


def _transforms(config: Config, key: str, value: Any) -> list[tuple[str, str, Fields]]:
    """Where each transform stands, its name without what marks it as one of dictionaries, and its arguments."""
    name, told = config.call(key, value, "monai.transforms")
    if name != "Compose":
        return [(key, _bare(name), told)] if name else []
    items = told.value("transforms", [])
    if not isinstance(items, list) or len(items) > 100:
        told.wrong("transforms", items, "a list of transforms")
    places = [f"{key}.transforms[{n}]" for n in range(len(items))]
    called = [(where, *config.call(where, item, "monai.transforms")) for where, item in zip(places, items, strict=True)]
    for where, name, told in called:
        keys = config.literal(f"{where}.keys", told.value("keys", "")) if name else ""
        if isinstance(keys, list) and len(keys) != 1:
            told.wrong("keys", keys, "one: the image, or the answer to it")
    return [(where, _bare(name), told) for where, name, told in called if name]


def _bare(name: str) -> str:
    return re.sub(r"(?<=[a-z])(d|D|Dict)$", "", name)


def _literal(config: Config, told: Fields) -> Fields:
    """Arguments without references; the type of number is a text that stays what it is."""
    plain = {key: item if key == "dtype" else config.literal(told.name(key), item) for key, item in told.told.items()}
    return Fields(told.path, told.where, plain)


def _check_passive(told: Fields) -> None:
    if "converter" in told.told:
        told.wrong("converter", told.told["converter"], "no code that changes the image")
    reader = told.value("reader", None)
    name = reader.removeprefix("$").removeprefix("monai.data.") if isinstance(reader, str) else reader
    if reader is not None and name not in READERS:
        told.wrong("reader", reader, f"one of {', '.join(sorted(READERS))}")
    _check_real(told)


def _check_real(told: Fields) -> None:
    if told.value("dtype", None) is not None and (not isinstance(told.told["dtype"], str) or told.told["dtype"] not in REAL):
        told.wrong("dtype", told.told["dtype"], "float32")


def _arguments(told: Fields, *names: str) -> None:
    told.only({*COMMON, *names})
    _check_real(told)


def _orientation(told: Fields, made: Prepared) -> None:
    told.only({*COMMON, "axcodes", "labels", "as_closest_canonical"})
    codes = told.text("axcodes")
    axes = "".join(SIDES.get(code, "?") for code in codes)
    if sorted(axes) != sorted(made.axes) or made.spacing or told.value("labels", None) or told.value("as_closest_canonical", False):
        told.wrong("axcodes", told.told, f"letters for {', '.join(made.axes)}, such as RAS, and nothing else; before Spacing")
    made.axes = axes
    made.towards = ", ".join(f"{a} towards {TOWARDS[c]}" for a, c in zip(axes, codes, strict=True))


def _spacing(told: Fields, made: Prepared) -> None:
    _arguments(told, "pixdim", "mode", "padding_mode", "align_corners", "diagonal", "scale_extent", "recompute_affine")
    if told.value("mode", "bilinear") not in ("bilinear", ["bilinear"]) or told.value("diagonal", False):
        told.wrong("mode", {key: told.told.get(key) for key in ("mode", "diagonal")}, "bilinear, and the axes as they are")
    size = told.value("pixdim")
    sizes = [size] * len(made.axes) if isinstance(size, (int, float)) else size
    if not isinstance(sizes, list) or len(sizes) != len(made.axes) or not all(told.finite("pixdim", n) > 0 for n in sizes):
        told.wrong("pixdim", size, f"{len(made.axes)} sizes in millimetres above 0")
    made.spacing = tuple(float(n) for n in sizes)


def _between(told: Fields, made: Prepared, low: str, high: str) -> None:
    """After the image was scaled to 0 and 1: to two other values, and cut off there where that is asked for."""
    first, last = (None if told.value(key, None) is None else told.finite(key, told.told[key]) for key in (low, high))
    if first is not None and last is not None:
        made.linear(last - first, first)
    if told.value("clip", False):
        made.steps.append({"name": "clip", "kwargs": {"min": first, "max": last}})


def _scale_intensity(told: Fields, made: Prepared) -> None:
    _arguments(told, "minv", "maxv", "factor", "channel_wise")
    if told.value("minv", 0.0) is None and told.value("maxv", 1.0) is None:
        made.linear(1 + told.finite("factor", told.value("factor", 0.0) or 0.0), 0.0)
        return
    made.statistics(told, {"method": "percentiles", "values": [0.0, 100.0]}, not told.value("channel_wise", False))
    _between(Fields(told.path, told.where, {"minv": 0.0, "maxv": 1.0, **told.told}), made, "minv", "maxv")


def _scale_range(told: Fields, made: Prepared) -> None:
    _arguments(told, "a_min", "a_max", "b_min", "b_max", "clip")
    low, high = told.finite("a_min", told.value("a_min")), told.finite("a_max", told.value("a_max"))
    if high == low:
        told.wrong("a_max", high, f"another number than a_min, {low:g}")
    made.linear(1 / (high - low), -low / (high - low))
    _between(told, made, "b_min", "b_max")


def _scale_percentiles(told: Fields, made: Prepared) -> None:
    _arguments(told, "lower", "upper", "b_min", "b_max", "clip", "relative", "channel_wise")
    low, high = told.finite("lower", told.value("lower")), told.finite("upper", told.value("upper"))
    if not 0 <= low < high <= 100 or told.value("relative", False):
        told.wrong("upper", told.told, "two percentiles from 0 to 100, and not relative")
    made.statistics(told, {"method": "percentiles", "values": [low, high]}, not told.value("channel_wise", False))
    _between(told, made, "b_min", "b_max")


def _normalize(told: Fields, made: Prepared) -> None:
    _arguments(told, "subtrahend", "divisor", "nonzero", "channel_wise")
    if told.value("nonzero", False):
        told.wrong("nonzero", True, "false: the mean and the deviation of all voxels, of which none is left as it is")
    mean, deviation = told.value("subtrahend", None), told.value("divisor", None)
    if mean is None and deviation is None:
        made.statistics(told, {"method": "mean_std", "eps": 0.0}, not told.value("channel_wise", False))
        return
    single = not told.value("channel_wise", False)
    means = (told.finite("subtrahend", mean),) if single else told.numbers("subtrahend", made.channels)
    deviations = (told.finite("divisor", deviation),) if single else told.numbers("divisor", made.channels)
    gains = [1 / (n or 1.0) for n in deviations]
    offsets = [-m * g for m, g in zip(means, gains, strict=True)]
    made.linear(gains[0] if single else gains, offsets[0] if single else offsets)


def _activations(told: Fields, made: str) -> str:
    told.only({"keys", "allow_missing_keys", "sigmoid", "softmax", "other", "kwargs", "dim"})
    chosen = [name for name in ("sigmoid", "softmax") if told.value(name, False) not in (False, [False])]
    if made or len(chosen) != 1 or any(told.value(name, None) for name in ("other", "kwargs", "dim")):
        told.wrong("_target_", told.told, "sigmoid or softmax, once")
    return chosen[0]


def _discrete(told: Fields, made: str) -> str:
    told.only({"keys", "allow_missing_keys", "argmax", "to_onehot", "threshold"})
    argmax = told.value("argmax", False) not in (False, [False])
    threshold = told.value("threshold", None)
    threshold = threshold[0] if isinstance(threshold, list) and len(threshold) == 1 else threshold
    if argmax and threshold is None and made in ("", "softmax"):
        return "argmax"
    if not argmax and threshold == 0.5 and made == "sigmoid":
        return made
    told.wrong("threshold", told.told, "argmax of channels (with or without softmax before it), or a threshold of 0.5 after sigmoid")


_PLACES: Mapping[str, Callable[[Fields, Prepared], None]] = {"Orientation": _orientation, "Spacing": _spacing}
_VALUES: Mapping[str, Callable[[Fields, Prepared], None]] = {
    "NormalizeIntensity": _normalize,
    "ScaleIntensity": _scale_intensity,
    "ScaleIntensityRange": _scale_range,
    "ScaleIntensityRangePercentiles": _scale_percentiles,
}
