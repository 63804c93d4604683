"""Models of Cellpose, each one file of weights: of versions 1 to 3 (doi:10.1038/s41592-020-01018-x) and of 4 (doi:10.1101/2025.04.28.651001)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from napari_segsuite.codecs.flows import FLOW_UNIT
from napari_segsuite.errors import ModelError, OptionError
from napari_segsuite.models.foreign import cellpose_net, cellpose_sam
from napari_segsuite.models.foreign.described import Described, interface, ordered
from napari_segsuite.models.foreign.draft import Draft, channels_of
from napari_segsuite.models.foreign.fields import Fields
from napari_segsuite.models.foreign.form import Form, normalization
from napari_segsuite.models.foreign.network import SUFFIXES
from napari_segsuite.models.foreign.pickles import state
from napari_segsuite.models.foreign.weights_file import names_in

NORMALIZE = "percentiles:1:99"
"""What Cellpose does to each channel where nobody says otherwise."""
DIAMETER = 30.0
"""To which Cellpose brings objects, in pixels, where a file does not say another."""
TILE, CONTEXT = 224, 32
"""Of versions 1 to 3, in whose training images had this size; 4 has one size only."""
LENGTH = 5.0
"""Of the flow in the answer, where a flow has a length of 1."""
MARKS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    ((b"encoder.cls_token", b"W2"), "a network of Cellpose 4 on DINOv3"),
    ((b"encoder.patch_embed1.proj", b"diam_labels"), "a network of Cellpose 3 on SegFormer"),
    ((b"downsample.down.res_down_0", b"upsample.up.res_up_0"), "cellpose"),
    ((b"encoder.patch_embed.proj", b"encoder.pos_embed", b"W2"), "cellpose_sam"),
)
"""Parts of names of arrays by which a network is known, first those that it is not mistaken for; and what it is, or what builds it."""
CITATION = {
    "cellpose": "Stringer et al. 2021, Cellpose: a generalist algorithm for cellular segmentation, doi:10.1038/s41592-020-01018-x",
    "cellpose_sam": "Pachitariu et al. 2025, Cellpose-SAM: superhuman generalization for cellular segmentation, doi:10.1101/2025.04.28.651001",
}


def is_model(path: Path) -> bool:
    """Whether a file holds weights of a network of Cellpose, by the names in it."""
    return path.is_file() and bool(_kind(path))


def read(path: Path, form: Form) -> Described:
    """Read a file of weights.

    Parameters
    ----------
    path : Path
    form : Form
        What the user says; as many `channels` as images have.

    Raises
    ------
    ModelError
        Names the file, the array, what was found and what is needed.
    """
    kind, axes = _kind(path), ordered(form, "yx")
    if kind not in CITATION:
        needed = "a network of Cellpose 1 to 3, or of Cellpose 4 on SAM"
        raise ModelError(f"{path} is {kind}", needed, "Use it in Cellpose itself.")
    weights = state(path)
    net: Any = cellpose_net if kind == "cellpose" else cellpose_sam
    told = net.shapes_in(weights, lambda name, found, needed: cellpose_net.refuse(path, name, found, needed))
    inputs, count = told.get("inputs", cellpose_sam.MOST["channels"]), len(form.channels) or 1
    if count > inputs:
        raise OptionError(f"channels are {', '.join(form.channels)}", f"{inputs} names at most, since the network takes {inputs}")
    kwargs = net.arguments(Fields(path, "", {"channels": count, **told}))
    diameter, seen = _length(weights, "diam_mean", path) or DIAMETER, _length(weights, "diam_labels", path)
    size, step = (TILE, 2 ** (len(kwargs["widths"]) - 1)) if kind == "cellpose" else (kwargs["tokens"] * kwargs["patch"], 0)
    size = -(-size // step) * step if step else size
    normalize, steps = normalization(form.normalize or NORMALIZE)
    letters = form.input_axes or "bc" + axes
    draft = Draft(
        axes="yx",
        channels=channels_of(form, (), count),
        normalize=normalize,
        input={**interface(letters, {**dict.fromkeys(axes, (size, step)), "c": (count, 0)}), "steps": steps},
        outputs=({"axes": letters, "steps": [], "channels": (), "activation": "sigmoid"},),
        halo=(),
        texts={"description": _description(kind, diameter, seen), "citation": CITATION[kind]},
    )
    said = Form(
        codec="flows",
        outputs=("semantic=0:2", "flow=0:0:1"),
        classes=("1:cell:thing",),
        unit=FLOW_UNIT / LENGTH,
        diameter_px=diameter,
        tile=(size, size),
        context=(min(CONTEXT, size // 8),) * 2,
        multiple=() if step else (kwargs["patch"],) * 2,
    )
    name = path.stem if path.suffix.lower() in SUFFIXES else path.name
    return Described(path.parent, name, draft, said, {"name": kind, "kwargs": kwargs}, (path.name,))


def _description(kind: str, diameter: float, seen: float | None) -> str:
    text = f"Cellpose {'1 to 3' if kind == 'cellpose' else '4 (SAM)'}, for objects of {diameter:g} pixels"
    trained = f"; those that it was trained on had {seen:.1f} before they were brought to that" if seen and abs(seen - diameter) > 0.05 else ""
    return f"{text}{trained}."


def _length(weights: Mapping[str, Tensor], name: str, path: Path) -> float | None:
    """A diameter that is kept beside the weights; files of version 1 have none."""
    if name not in weights:
        return None
    value = weights[name].double().ravel()
    if len(value) != 1 or not 1 <= float(value[0]) <= 10_000:
        cellpose_net.refuse(path, name, value.tolist()[:5], "one number from 1 to 10000")
    return round(float(value[0]), 6)


def _kind(path: Path) -> str:
    """Which network a file is of, by the names of its arrays; empty where it is none of these."""
    names = names_in(path)
    return next((kind for marks, kind in MARKS if all(mark in names for mark in marks)), "")
