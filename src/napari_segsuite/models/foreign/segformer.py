"""SegFormer (Xie et al. 2021, arXiv 2105.15203) as Hugging Face's transformers keeps it: a folder with ``config.json`` and weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from napari_segsuite.models.foreign import mask2former_net, oneformer_net, sam_net
from napari_segsuite.models.foreign.described import Described, classes_of, interface, ordered
from napari_segsuite.models.foreign.draft import Draft, channels_of
from napari_segsuite.models.foreign.fields import Fields
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.grid import LARGEST, roomy
from napari_segsuite.models.foreign.pretrained import CARD, config_of, files_of, name_of, names_of, normalization_of, pixels_of, tile_of
from napari_segsuite.models.foreign.segformer_net import FEW, NETWORK, ONE, arguments

KNOWN = (NETWORK, mask2former_net.NETWORK, oneformer_net.NETWORK, sam_net.NETWORK)
"""Networks of transformers that can be added."""


def read(folder: Path, form: Form) -> Described:
    """Read a checkpoint.

    Parameters
    ----------
    folder : Path
    form : Form
        What the user says.

    Raises
    ------
    ModelError
        Names the file, the field, what was found and what is needed.
    """
    told = config_of(folder)
    if told.value("architectures", None) != [NETWORK]:
        told.wrong("architectures", told.value("architectures", None), " or ".join(f"['{name}']" for name in KNOWN))
    kwargs = arguments(Fields(told.path, "", {key: told.told[key] for key in (*ONE, *FEW) if key in told.told}))
    names = names_of(told)
    channels = kwargs["num_channels"]
    axes = ordered(form, "yx")
    stride = math.prod(kwargs["strides"])
    pixels = pixels_of(folder)
    normalize, steps = normalization_of(folder, pixels, form, channels)
    tile = tile_of(pixels) or LARGEST["yx"]
    context = tuple(n // 8 for n in tile)
    letters = form.input_axes or "bc" + axes
    draft = Draft(
        axes="yx",
        channels=channels_of(form, ("red", "green", "blue"), channels),
        normalize=normalize,
        input={**interface(letters, {**dict.fromkeys(axes, (stride, stride)), "c": (channels, 0)}), "steps": steps},
        outputs=({"axes": letters, "steps": [], "channels": tuple(names), "activation": "argmax" if len(names) > 1 else "sigmoid"},),
        halo=(),
        texts={"description": f"SegFormer, {len(names)} classes."},
    )
    sizes: dict[str, Any] = {"tile": roomy(tile, context, (stride, stride)), "context": context}
    said = Form(**{**sizes, **classes_of(names)})
    net = {"name": "transformers_segformer", "kwargs": {**kwargs, "num_labels": len(names)}}
    return Described(folder, name_of(folder, "segformer"), draft, said, net, files_of(folder), CARD)
