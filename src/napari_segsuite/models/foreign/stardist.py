"""Models of StarDist (Schmidt et al. 2018, doi:10.1007/978-3-030-00934-2_30), as it keeps them: ``config.json``, ``thresholds.json`` and weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_segsuite.codecs import stars
from napari_segsuite.errors import ModelError
from napari_segsuite.models.foreign.archive import inside
from napari_segsuite.models.foreign.described import Described, interface, ordered
from napari_segsuite.models.foreign.draft import Draft, channels_of
from napari_segsuite.models.foreign.fields import Fields, read_json
from napari_segsuite.models.foreign.form import Form, normalization
from napari_segsuite.models.foreign.grid import LARGEST, roomy
from napari_segsuite.models.foreign.pretrained import name_of
from napari_segsuite.models.foreign.stardist_config import AXES, CONFIG, arguments, reach, stride

THRESHOLDS = "thresholds.json"
WEIGHTS = ("weights_best.h5", "weights_last.h5", "weights_now.h5")
"""The first that is there is taken."""
USUAL = {"prob": 0.5, "nms": 0.4}
"""The thresholds that StarDist takes where it has found no better ones."""
NORMALIZE = "percentiles:1:99.8"
"""What StarDist's users do to images, as its examples say; no file of a model does."""
RADIUS = {2: 64, 3: 32}
"""The longest ray where nobody says how large objects are."""
CITATION = {
    2: "Schmidt et al. 2018, Cell Detection with Star-convex Polygons, doi:10.1007/978-3-030-00934-2_30",
    3: "Weigert et al. 2020, Star-convex Polyhedra for 3D Object Detection and Segmentation in Microscopy, doi:10.1109/WACV45572.2020.9093435",
}


def is_model(folder: Path) -> bool:
    """Whether a folder is a model of StarDist; one of csbdeep that is none is refused when it is read."""
    path = folder / CONFIG
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b'"n_rays"' in file.read(2**20) or any((folder / name).exists() for name in WEIGHTS)


def read(folder: Path, form: Form) -> Described:
    """Read a model.

    Parameters
    ----------
    folder : Path
    form : Form
        What the user says; `weights` may name one of its files.

    Raises
    ------
    ModelError
        Names the file, the field, what was found and what is needed.
    """
    told = Fields(folder / CONFIG, "", read_json(inside(folder, CONFIG, str(folder))))
    kwargs = arguments(told)
    axes = AXES[kwargs["axes"]]
    if ordered(form, axes) != axes:
        told.wrong("axes", form.input_axes, f"{axes} in this order")
    files = _files(folder, form.weights)
    step, count, classes = stride(kwargs), kwargs["n_channel_in"], kwargs["n_classes"]
    normalize, steps = normalization(form.normalize or NORMALIZE)
    # Of how far a network of volumes could see half is kept: its tiles would else be nothing but context.
    context = tuple(n if axes == "yx" else -(-n // 2) for n in reach(kwargs))
    tile = roomy([max(n, 6 * c) for n, c in zip(LARGEST[axes], context, strict=True)], context, step)
    letters = "bc" + axes
    outputs = tuple({"axes": letters, "steps": [], "channels": (), "activation": "none"} for _ in range(3))
    draft = Draft(
        axes=axes,
        channels=channels_of(form, ("red", "green", "blue"), count),
        normalize=normalize,
        input={**interface(letters, {**{a: (n, n) for a, n in zip(axes, step, strict=True)}, "c": (count, 0)}), "steps": steps},
        outputs=outputs,
        halo=(),
        texts={"description": f"StarDist, {kwargs['n_rays']} rays{f', {classes} classes' if classes else ''}.", "citation": CITATION[len(axes)]},
        codec_options=_options(folder, form, len(axes)),
    )
    said = Form(
        codec="stars",
        outputs=("semantic=0", "probability=1", "rays=2"),
        classes=tuple(f"{n}:object{'' if classes is None else f' {n}'}:thing" for n in range(1, (classes or 1) + 1)),
        tile=tile,
        context=context,
    )
    return Described(folder, name_of(folder, "stardist"), draft, said, {"name": "stardist", "kwargs": kwargs}, files)


def _files(folder: Path, wish: str) -> tuple[str, ...]:
    """The weights and what belongs to them."""
    there = [name for name in ((wish,) if wish else WEIGHTS) if (folder / name).exists()]
    if not there:
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:10])
        raise ModelError(f"{folder} holds {found}", f"weights: {wish or ' or '.join(WEIGHTS)}", "Copy the whole folder that StarDist trained.")
    return (there[0], CONFIG, *([THRESHOLDS] if (folder / THRESHOLDS).exists() else []))


def _options(folder: Path, form: Form, dims: int) -> Mapping[str, Any]:
    """What the codec is told: StarDist's thresholds, and that its rays end where an object does."""
    told = {}
    if (folder / THRESHOLDS).exists():
        told = read_json(inside(folder, THRESHOLDS, str(folder)))
    fields = Fields(folder / THRESHOLDS, "", told)
    found = {key: fields.finite(key, fields.value(key, usual)) for key, usual in USUAL.items()}
    for key, value in found.items():
        if not 0 <= value <= 1:
            fields.wrong(key, value, "a number from 0 to 1")
    longest = RADIUS[dims] if form.diameter_px is None else min(max(math.ceil(form.diameter_px), 8), stars.LONGEST)
    return {"center": found["prob"], "overlap": found["nms"], "wide": 0.0, "longest": longest}
