"""MONAI bundles (github.com/Project-MONAI/MONAI, monai.bundle): a folder with configs and weights, read as data and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_segsuite.errors import ModelError
from napari_segsuite.models.foreign.archive import inside
from napari_segsuite.models.foreign.described import Described, classes_of, coloured, interface, ordered
from napari_segsuite.models.foreign.draft import Draft, channels_of
from napari_segsuite.models.foreign.fields import Fields, read_json
from napari_segsuite.models.foreign.form import Form, normalization
from napari_segsuite.models.foreign.grid import LARGEST, roomy
from napari_segsuite.models.foreign.monai_config import Config
from napari_segsuite.models.foreign.monai_nets import arguments, sides
from napari_segsuite.models.foreign.monai_transforms import Prepared, activation, prepared
from napari_segsuite.types import SPATIAL

METADATA = "configs/metadata.json"
INFERENCE = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
WEIGHTS = {"monai": "models/model.pt", "torchscript": "models/model.ts"}
CARD, LICENCE = "docs/README.md", "LICENSE"


def is_bundle(folder: Path) -> bool:
    """Whether a folder is a MONAI bundle."""
    return (folder / METADATA).is_file()


def read(folder: Path, form: Form) -> Described:
    """Read a bundle.

    Parameters
    ----------
    folder : Path
    form : Form
        What the user says; what is said there is not asked of the bundle.

    Raises
    ------
    MissingExtra
        Its configuration is in YAML, and PyYAML is not installed.
    ModelError
        Names the file, the field, what was found and what is needed.
    """
    about = Fields(folder / METADATA, "", read_json(inside(folder, METADATA, str(folder))))
    config = Config(_inference(folder))
    kind = _kind(folder, form)
    where = "network_def" if "network_def" in config.told else "network"
    name, told = config.call(where, config.followed(where), "monai.networks.nets")
    literal = Fields(told.path, where, config.literal(where, told.told))
    kwargs = arguments(name, literal)
    made = _prepared(config, form, kwargs)
    spatial = "".join(a for a in SPATIAL if a in made.axes)
    size = dict(zip(made.axes, sides(name, kwargs, literal), strict=True))
    draft = _draft(config, form, kwargs, made, interface(form.input_axes or "bc" + made.axes, {**size, "c": (kwargs["in_channels"], 0)}))
    draft = replace(draft, channels=channels_of(form, _channels(about), kwargs["in_channels"]), texts=_texts(about, made, folder))
    said = Form(**{**_sizes(config, made, size, spatial), **_classes(about, kwargs["out_channels"])})
    files = (WEIGHTS[kind], METADATA, config.path.relative_to(folder).as_posix(), *((LICENCE,) if (folder / LICENCE).is_file() else ()))
    net = {"name": kind, **({"network": name, "kwargs": kwargs} if kind == "monai" else {})}
    return Described(folder, about.text("name", folder.name), draft, said, net, files, CARD)


def _draft(config: Config, form: Form, kwargs: Mapping[str, Any], made: Prepared, told: dict[str, Any]) -> Draft:
    """What the configuration says; the rest is in the metadata."""
    kind = form.activation
    if not kind and "postprocessing" in config.told:
        kind = activation(config, config.followed("postprocessing"), kwargs["out_channels"])
    return Draft(
        axes="".join(a for a in SPATIAL if a in made.axes),
        channels=(),
        normalize=made.normalize,
        input={**told, "steps": made.steps},
        outputs=({"axes": told["axes"], "steps": [], "channels": (), "activation": kind},),
        halo=(),
        texts={},
    )


def _prepared(config: Config, form: Form, kwargs: Mapping[str, Any]) -> Prepared:
    """What is done to an image before the network, as the user or else the bundle says."""
    dims, channels = kwargs["spatial_dims"], kwargs["in_channels"]
    if "preprocessing" in config.told:
        wanted = {"intensities": not form.normalize, "spacing": not form.pixel_size_um}
        made = prepared(config, config.followed("preprocessing"), dims, channels, **wanted)
    elif form.normalize:
        made = Prepared("xyz"[:dims], channels)
    else:
        raise config.refused("preprocessing", None, "what is done to the pixels before the network", "Say it with --normalize.")
    if form.normalize:
        normalize, steps = normalization(form.normalize)
        made.normalize, made.steps = dict(normalize), steps
    made.axes = ordered(form, made.axes)
    return made


def _inference(folder: Path) -> Path:
    """The file that says how the network is used."""
    found = [name for name in INFERENCE if (folder / name).is_file()]
    if len(found) != 1:
        raise ModelError(f"{folder} has of {', '.join(INFERENCE)}: {', '.join(found) or 'none'}", "one of them")
    return inside(folder, found[0], str(folder))


def _kind(folder: Path, form: Form) -> str:
    """Which weights are taken: those that are numbers only, or as wished."""
    if form.weights and form.weights not in WEIGHTS:
        raise ModelError(f"{folder} was asked for the weights {form.weights!r}", f"one of {', '.join(WEIGHTS)}")
    if form.weights or not (folder / WEIGHTS["torchscript"]).is_file() or (folder / WEIGHTS["monai"]).is_file():
        kind = form.weights or "monai"
    else:
        kind = "torchscript"
    if not (folder / WEIGHTS[kind]).exists() and (folder / "large_files.yml").is_file():
        do = "Download it as large_files.yml in this folder says."
        raise ModelError(f"{folder} names the file {WEIGHTS[kind]!r}, which is not in it", "the whole bundle", do)
    inside(folder, WEIGHTS[kind], str(folder))
    return kind


def _sizes(config: Config, made: Prepared, size: dict[str, tuple[int, int]], spatial: str) -> dict[str, Any]:
    """Tile, context and pixel size out of what says how tiles are cut; ours have no overlap but a context, of half of it on each side."""
    inferer = config.followed("inferer")
    told = inferer if isinstance(inferer, dict) and str(inferer.get("_target_", "")).endswith("SlidingWindowInferer") else {}
    roi = config.literal("inferer.roi_size", told.get("roi_size"))
    overlap = config.literal("inferer.overlap", told.get("overlap", 0.25))
    lengths = roi if isinstance(roi, list) else [roi] * len(spatial)
    if len(lengths) != len(spatial) or not all(n is None or (type(n) is int and -1 <= n <= 4096) for n in lengths):
        raise config.refused("inferer.roi_size", roi, f"{len(spatial)} lengths up to 4096", "")
    if not isinstance(overlap, (int, float)) or not 0 <= overlap < 1:
        raise config.refused("inferer.overlap", overlap, "a number from 0 to 1", "")
    by_axis = dict(zip(made.axes, lengths, strict=True))
    usual = dict(zip(spatial, LARGEST[spatial], strict=True))
    tile = [size[a][0] if not size[a][1] else by_axis[a] if (by_axis[a] or 0) > 0 else usual[a] for a in spatial]
    multiple = [size[a][1] or 1 for a in spatial]
    context = [int(n * overlap / 2) for n in tile]
    spacing = dict(zip(made.axes, made.spacing or (), strict=False))
    found: dict[str, Any] = {"context": tuple(context)}
    if all(size[a][1] for a in spatial):
        found["tile"] = roomy(tile, context, multiple)
    if spacing:
        found["pixel_size_um"] = tuple(1000 * spacing[a] for a in spatial)
    return found


def _format(about: Fields, side: str) -> Fields | None:
    """What is said of the only input or output."""
    told = about.value("network_data_format", {})
    found = told.get(side) if isinstance(told, dict) else None
    only = next(iter(found.values())) if isinstance(found, dict) and len(found) == 1 else None
    return Fields(about.path, f"network_data_format.{side}", only) if isinstance(only, dict) else None


def _names(told: Fields | None) -> tuple[str, ...]:
    found = told.value("channel_def", {}) if told else {}
    numbered = isinstance(found, dict) and sorted(found) == sorted(str(n) for n in range(len(found)))
    return tuple(str(found[str(n)]) for n in range(len(found))) if numbered else ()


def _channels(about: Fields) -> tuple[str, ...]:
    names = coloured(_names(_format(about, "inputs")))
    return names if len(names) > 1 else ()


def _classes(about: Fields, count: int) -> dict[str, tuple[str, ...]]:
    names = _names(_format(about, "outputs"))
    return classes_of(names) if len(names) == count else {}


def _texts(about: Fields, made: Prepared, folder: Path) -> dict[str, str]:
    text = about.text("description", "")
    if made.towards:
        text = f"{text.rstrip('. ')}. Images must lie with {made.towards}; nothing turns them."
    references = about.value("references", [])
    return {
        "description": text,
        "licence": f"see {LICENCE} in its package" if (folder / LICENCE).is_file() else "",
        "citation": "; ".join(str(r) for r in references) if isinstance(references, list) else str(references),
        "version": str(about.value("version", "1")),
        "trained_on": str(about.value("data_source", "")),
    }
