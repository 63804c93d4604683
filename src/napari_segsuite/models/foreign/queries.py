"""A model of others that answers with queries (`models.queries`), described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from napari_segsuite.codecs import codec
from napari_segsuite.models.foreign.draft import Draft, classes_of, spec_of
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.whole import grids_of
from napari_segsuite.models.queries import check
from napari_segsuite.types import ModelSpec

SCORE = 0.5
"""Score of the objects that are wanted where nobody says, as in transformers."""


def finished(draft: Draft, form: Form, shapes: Sequence[Sequence[int]], net: Mapping[str, Any], name: str) -> ModelSpec:
    """The description of the model, once it is known what shapes the network answers with.

    Raises
    ------
    ModelError, OptionError
        They are not those of queries, or the classes do not fit together.
    """
    told = net["objects"]
    check([tuple(shape) for shape in shapes], told)
    classes = classes_of(form, len(told["kinds"]), {"channels": ()})
    form = replace(form, codec="objects" if any(c.countable for c in classes) else "semantic")
    grids, longest = grids_of(draft, form)
    options = {"center": SCORE, "longest": longest} if form.codec == "objects" else {}
    heads = codec(form.codec).heads(classes, len(draft.axes))
    return spec_of(draft, form, {**net, "input": draft.input}, name, heads, classes, grids, options)
