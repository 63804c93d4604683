"""Several models that share one work: each knows some of the classes, and all together are one model with the classes of all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_segsuite.codecs import codec
from napari_segsuite.errors import OptionError
from napari_segsuite.models.together import Several, all_of, check_same, same_side, shared_grid
from napari_segsuite.types import ModelSpec, Prediction

SAME = ("axes", "channels", "codec", "normalize", "pixel_size_um", "diameter_px")
"""What models must agree on to see an image in the same way."""
GROUND = 128
"""Rounded probability of the background, of 255, up to which a voxel belongs to a class (`semantic.kinds`)."""


def parted_spec(specs: Sequence[ModelSpec], name: str) -> ModelSpec:
    """Describe a model that is made of parts.

    Parameters
    ----------
    specs : sequence of ModelSpec
        Two or more, in the order in which they are computed.
    name : str
        Of the new model.

    Returns
    -------
    ModelSpec
        Its classes are those of the first part, then those of the second, and so on, numbered anew.

    Raises
    ------
    OptionError
        The parts see an image differently, or answer with something else than classes of voxels.
    """
    check_same(specs, SAME, "parts that see an image in the same way")
    first = specs[0]
    if wrong := [s.name for s in specs if s.codec != "semantic" or any(c.countable for c in s.classes)]:
        raise OptionError(f"{wrong[0]!r} answers with objects", "parts that answer with classes of voxels")
    known = itertools.chain.from_iterable(s.classes for s in specs)
    classes = tuple(replace(c, id=k) for k, c in enumerate(known, 1))
    tile, multiple, context = shared_grid(specs)
    return replace(
        first, name=name, version="1", description=f"{len(specs)} models, one after the other. {all_of(specs, 'description')}".strip(),
        classes=classes, heads=codec("semantic").heads(classes, len(first.axes)), tile=tile, multiple=multiple, context=context, net=same_side(specs),
        weights_sha256="", licence=all_of(specs, "licence"), citation=all_of(specs, "citation"), trained_on=all_of(specs, "trained_on"),
    )  # fmt: skip


class Parts(Several):
    """Models one after the other, each of which adds its classes.

    A voxel belongs to the last part that finds a class there, as if each part's labels were painted over those of the parts before it. Where none
    does, the part speaks that is least sure of the background.

    Parameters
    ----------
    spec : ModelSpec
        `parted_spec` of theirs.
    members : sequence of Model
    """

    @torch.inference_mode()
    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        """Maps (N, 1 + classes, *spatial): at each voxel those of one part, and 0 for the classes of the others."""
        found: Any = None
        at = 1
        for model in self.members:
            value = torch.as_tensor(model.predict(batch).maps["semantic"])
            if found is None:
                found = torch.zeros((len(value), self.spec.heads[0].channels, *value.shape[2:]), device=value.device)
                found[:, :1] = 1
            value = value.to(found.device)  # another one where memory ran out
            ground, before = value[:, :1], found[:, :1]
            takes = (ground < before) | ((ground * 255).round() <= GROUND)
            found[:, 1:at].masked_fill_(takes, 0)
            found[:, :1] = torch.where(takes, ground, before)
            at += (more := value.shape[1] - 1)
            found[:, at - more : at] = value[:, 1:] * takes
        return Prediction({"semantic": found})
