"""OneFormer (Jain et al. 2023, arXiv 2211.06220) as Hugging Face's transformers keeps it: a folder with ``config.json``, weights and a vocabulary.

One network for all three tasks, which is told its task as a text. That is said once, when the model is added: by what its classes are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from napari_segsuite.errors import ModelError
from napari_segsuite.models.foreign import pretrained, universal
from napari_segsuite.models.foreign.archive import inside
from napari_segsuite.models.foreign.described import Described
from napari_segsuite.models.foreign.fields import LARGEST, Fields, read_json
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.oneformer_net import NETWORK, OTHER, WHOLE, arguments, tokens
from napari_segsuite.models.foreign.swin_net import taken

VOCABULARY, MERGES = "vocab.json", "merges.txt"


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is a checkpoint of OneFormer."""
    return pretrained.is_of(folder, NETWORK)


def read(folder: Path, form: Form) -> Described:
    """Read a checkpoint (`universal.described`).

    Raises
    ------
    ModelError
        As there; and the vocabulary is missing or another one.
    """
    told = taken(pretrained.config_of(folder), {**WHOLE, **OTHER})
    length = told.whole("task_seq_len", told.value("task_seq_len", WHOLE["task_seq_len"]), 1)
    kwargs = arguments(Fields(told.path, "", {**told.told, "task": [0] * min(length, LARGEST)}))
    found = universal.described(folder, form, "OneFormer", kwargs)
    kinds, stuff = found.net["objects"]["kinds"], found.net["objects"]["stuff"]
    task = "instance" if not stuff else "panoptic" if max(kinds) > stuff else "semantic"
    return replace(found, net={**found.net, "kwargs": {**found.net["kwargs"], "task": _said(folder, f"the task is {task}", length)}})


def _said(folder: Path, text: str, length: int) -> list[int]:
    """A text as the numbers that the folder's vocabulary has for it."""
    vocabulary = read_json(inside(folder, VOCABULARY, str(folder)))
    with inside(folder, MERGES, str(folder)).open("rb") as file:
        merges = file.read(LARGEST).decode("utf-8", "replace")
    numbers = tokens(text, vocabulary if isinstance(vocabulary, dict) else {}, merges, length)
    if numbers is None:
        raise ModelError(f"{folder / VOCABULARY} and {MERGES} do not write {text!r} in {length} tokens", "the vocabulary of CLIP")
    return numbers
