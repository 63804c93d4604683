"""Result folders of nnU-Net v2 (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z): plans, data set and folds, read as data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.errors import ModelError
from napari_segsuite.models.foreign.archive import inside
from napari_segsuite.models.foreign.described import Described, classes_of, coloured, interface, ordered
from napari_segsuite.models.foreign.draft import Draft, channels_of
from napari_segsuite.models.foreign.fields import Fields, read_json
from napari_segsuite.models.foreign.form import Form, normalization
from napari_segsuite.models.foreign.grid import roomy
from napari_segsuite.models.foreign.nnunet_nets import architecture, arguments, strides
from napari_segsuite.models.foreign.pickles import checkpoint
from napari_segsuite.models.mirrored import LIES
from napari_segsuite.types import SPATIAL

PLANS, DATASET, CHECKPOINT = "plans.json", "dataset.json", "checkpoint_final.pth"
MILLIMETRES = {"SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient"}
"""Readers of nnU-Net whose formats say the size of a voxel in millimetres."""
NO_UNIT = {"NaturalImage2DIO"}
"""Those whose formats do not say it."""
FAR = float(np.finfo(np.float32).max)
"""What a channel that is not clipped is clipped to, as JSON has no infinity."""
INTENSITIES, OLD_INTENSITIES = "foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality"
LIMITS = ("percentile_00_5", "percentile_99_5", "mean", "std")


def is_results(folder: Path) -> bool:
    """Whether a folder holds results of nnU-Net."""
    return (folder / PLANS).is_file() and (folder / DATASET).is_file()


def read(folder: Path, form: Form) -> Described:
    """Read what nnU-Net planned and trained, in one configuration.

    Parameters
    ----------
    folder : Path
    form : Form
        What the user says; `weights` may name one of the folds.

    Raises
    ------
    ModelError
        Names the file, the field, what was found and what is needed.
    """
    data = Fields(folder / DATASET, "", read_json(inside(folder, DATASET, str(folder))))
    plans = Fields(folder / PLANS, "", read_json(inside(folder, PLANS, str(folder))))
    files = _folds(folder, form.weights)
    planned = _configuration(plans, _trained(folder, files))
    channels, names = _channels(data), _classes(data)
    network, kwargs = arguments(architecture(planned), len(channels), len(names))
    axes, spatial = _axes(plans, planned, form)
    stride = strides(kwargs, len(axes), planned)
    patch = tuple(planned.whole("patch_size", int(n), 1) for n in planned.numbers("patch_size", len(axes)))
    normalize, steps = normalization(form.normalize) if form.normalize else _normalization(plans, planned, len(channels))
    # Twice the stride: a norm over the voxels of an image needs more than one of them at the coarsest level.
    sides = {a: (2 * n, n) for a, n in zip(axes, stride, strict=True)}
    letters = form.input_axes or "bc" + axes
    draft = Draft(
        axes=spatial,
        channels=channels_of(form, coloured(channels), len(channels)),
        normalize=normalize,
        input={**interface(letters, {**sides, "c": (len(channels), 0)}), "steps": steps},
        outputs=({"axes": letters, "steps": [], "channels": tuple(names), "activation": "argmax"},),
        halo=(),
        texts=_texts(data, plans),
    )
    sizes = {a: (p, p // 4, m) for a, p, m in zip(axes, patch, stride, strict=True)}  # windows overlap by half, as a quarter on each side
    tile, context, multiple = (tuple(sizes[a][n] for a in spatial) for n in range(3))
    told: dict[str, Any] = {"tile": roomy(tile, context, multiple), "context": context, **classes_of(names)}
    size = () if form.pixel_size_um else _pixel_size(plans, planned, data, axes)
    said = Form(**told, pixel_size_um=tuple(size[axes.index(a)] for a in spatial) if size else ())
    lies = {LIES: "RAS"} if _is_turned(plans) else {}
    net = {"name": "nnunet", "network": network, "kwargs": kwargs, **lies}
    return Described(folder, plans.text("dataset_name", folder.name), draft, said, net, (*files, PLANS, DATASET))


def _folds(folder: Path, wish: str) -> list[str]:
    """The checkpoints that are averaged: those of all folds as nnU-Net does, or of the one that is wished."""
    there = sorted(path.parent.name for path in folder.glob(f"fold_*/{CHECKPOINT}"))
    numbered = [name for name in there if name != "fold_all"] or there
    if (wish and wish not in there) or not there:
        found = f"{folder} has {CHECKPOINT} in {', '.join(there) or 'no folder fold_0, fold_1, ...'}"
        raise ModelError(found, f"the fold {wish!r}, as was wished" if wish else "one of them at least")
    names = [f"{name}/{CHECKPOINT}" for name in ([wish] if wish else numbered)]
    for name in names:
        inside(folder, name, str(folder))
    return names


def _trained(folder: Path, files: list[str]) -> str:
    """The configuration that all checkpoints were trained in; the name of the folder may have been changed."""
    found = {}
    for name in files:
        told = checkpoint(folder / name).get("init_args")
        found[name] = told.get("configuration") if isinstance(told, Mapping) else None
    if len(set(map(str, found.values()))) != 1 or not isinstance(found[files[0]], str):
        told = ", ".join(f"{name}: {kind}" for name, kind in found.items())
        raise ModelError(f"{folder}: field 'init_args.configuration' of the checkpoints: {told}", "the name of one configuration, the same in all")
    return str(found[files[0]])


def _configuration(plans: Fields, name: str) -> Fields:
    """A configuration, with what it takes over from others."""
    every, merged, seen = plans.below("configurations"), dict[str, Any](), list[str]()
    while name:
        if name in seen or name not in every.told:
            every.wrong(name, None if name not in seen else "a configuration that takes over from itself", f"one of {', '.join(every.told)}")
        seen.append(name)
        told = every.below(name)
        merged = {**told.told, **merged}
        name = told.text("inherits_from", "")
    found = Fields(plans.path, every.name(seen[0]), merged)
    if found.value("previous_stage", None):
        found.wrong("previous_stage", found.told["previous_stage"], "none: in a cascade the network also needs the answer of another one")
    return found


def _channels(data: Fields) -> tuple[str, ...]:
    told = data.below("channel_names" if "channel_names" in data.told else "modality").told
    if not told or sorted(told) != sorted(str(n) for n in range(len(told))):
        data.wrong("channel_names", told, "names by number from 0 on")
    return tuple(str(told[str(n)]) for n in range(len(told)))


def _classes(data: Fields) -> list[str]:
    """The names of the network's channels, background first."""
    told = {name: number for name, number in data.below("labels").told.items() if name != "ignore"}
    if any(isinstance(number, list) for number in told.values()):
        data.wrong("labels", data.told["labels"], "one number per label: regions that lie upon each other are no classes of voxels")
    names = {data.whole("labels", number): str(name) for name, number in told.items()}
    if sorted(names) != list(range(len(told))) or len(names) < 2:
        data.wrong("labels", data.told["labels"], "the numbers 0, 1, 2, ..., each once, at least two")
    return ["background", *(names[n] for n in range(1, len(names)))]


def _axes(plans: Fields, planned: Fields, form: Form) -> tuple[str, str]:
    """The network's spatial axes in its order, and in ours."""
    order = [int(n) for n in plans.numbers("transpose_forward", 3, [0, 1, 2])]
    dims = len(planned.value("patch_size")) if isinstance(planned.value("patch_size"), list) else 0
    if sorted(order) != [0, 1, 2] or dims not in (2, 3) or (dims == 2 and order[0] != 0):
        plans.wrong("transpose_forward", order, "an order of three axes, and the first one first where the network sees slices")
    axes = ordered(form, "".join(SPATIAL[n] for n in order)[3 - dims :])
    return axes, "".join(a for a in SPATIAL if a in axes)


def _pixel_size(plans: Fields, planned: Fields, data: Fields, axes: str) -> tuple[float, ...]:
    """In micrometres, per axis of the network; empty where its images have no unit."""
    reader = data.text("overwrite_image_reader_writer", plans.text("image_reader_writer", ""))
    if reader in NO_UNIT:
        return ()
    if reader not in MILLIMETRES:
        needed = f"one of {', '.join(sorted(MILLIMETRES | NO_UNIT))}, as of others the unit of lengths is not known"
        raise ModelError(f"{plans.path}, field 'image_reader_writer': found {reader!r}", needed, "Say the size of a voxel with --pixel-size-um.")
    sizes = planned.numbers("spacing", len(axes))
    if not all(n > 0 for n in sizes):
        planned.wrong("spacing", sizes, "lengths above 0")
    return tuple(1000 * n for n in sizes)


def _normalization(plans: Fields, planned: Fields, channels: int) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """What is done to pixels: once for the whole image, and on each tile."""
    schemes = planned.value("normalization_schemes")
    if not isinstance(schemes, list) or len(schemes) != channels or not all(isinstance(s, str) for s in schemes):
        planned.wrong("normalization_schemes", schemes, f"{channels} names, one per channel")
    masked = planned.value("use_mask_for_norm", [False] * channels)
    kinds = set(schemes)
    if isinstance(masked, list) and any(m and s == "ZScoreNormalization" for m, s in zip(masked, schemes, strict=False)):
        planned.wrong("use_mask_for_norm", masked, "false: the mean and the deviation of all voxels, not of those above 0")
    if kinds == {"ZScoreNormalization"}:
        return {"method": "mean_std", "eps": 0.0, "joint": False, "cut": None}, []
    if kinds == {"RescaleTo01Normalization"}:
        return {"method": "percentiles", "values": [0.0, 100.0], "joint": False, "cut": None}, []
    if not kinds <= {"CTNormalization", "NoNormalization", "RGBTo01Normalization"}:
        needed = "ZScoreNormalization or RescaleTo01Normalization of all channels, or any of CTNormalization, NoNormalization, RGBTo01Normalization"
        planned.wrong("normalization_schemes", schemes, needed)
    return {"method": "none", "cut": None}, _fixed(plans, schemes)


def _fixed(plans: Fields, schemes: list[str]) -> list[dict[str, Any]]:
    """Clip and scale each channel with numbers that are in the plans."""
    rows = [_numbers(plans, scheme, str(n)) for n, scheme in enumerate(schemes)]
    low, high, gain, offset = ([row[k] for row in rows] for k in range(4))
    clip = {"name": "clip", "kwargs": {"min": low, "max": high, "axis": "c"}}
    scale = {"name": "scale_linear", "kwargs": {"gain": gain, "offset": offset, "axis": "c"}}
    return [*([clip] if "CTNormalization" in schemes else []), *([scale] if set(schemes) != {"NoNormalization"} else [])]


def _numbers(plans: Fields, scheme: str, channel: str) -> tuple[float, float, float, float]:
    """Where a channel is clipped, its gain and its offset."""
    if scheme != "CTNormalization":
        return -FAR, FAR, 1 / 255 if scheme == "RGBTo01Normalization" else 1.0, 0.0
    old = INTENSITIES not in plans.told and OLD_INTENSITIES in plans.told
    told = plans.below(OLD_INTENSITIES if old else INTENSITIES).below(channel)
    low, high, mean, deviation = (told.finite(key, told.value(key)) for key in LIMITS)
    gain = 1 / max(deviation, 1e-8)
    return low, high, gain, -mean * gain


def _is_turned(plans: Fields) -> bool:
    """Whether nnU-Net turned all images the same way round when it read them."""
    return plans.text("image_reader_writer", "").endswith("WithReorient")


def _texts(data: Fields, plans: Fields) -> dict[str, str]:
    texts = {key: str(data.told.get(name, "")) for key, name in (("description", "description"), ("licence", "licence"), ("citation", "reference"))}
    if _is_turned(plans):
        texts["description"] += " It sees x grow towards the right, y towards the front, z towards the head."
    texts["licence"] = texts["licence"] or str(data.told.get("license", ""))
    return {**{key: text.strip() for key, text in texts.items()}, "trained_on": plans.text("dataset_name", "")}
