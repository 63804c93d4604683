"""What OneFormer (Jain et al. 2023, arXiv 2211.06220) on a Swin Transformer is built with, and how it is told its task; transformers is not imported.

The task is a text, ``the task is panoptic``, as numbers of the tokenizer of CLIP (Radford et al. 2021, arXiv 2103.00020): pairs of letters that are
joined by their rank, after Sennrich et al. 2016 (arXiv 1508.07909).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from napari_segsuite.models.foreign import swin_net
from napari_segsuite.models.foreign.fields import Fields

NETWORK = "OneFormerForUniversalSegmentation"
WHOLE = {
    "conv_dim": 256,
    "mask_dim": 256,
    "hidden_dim": 256,
    "encoder_feedforward_dim": 1024,
    "dim_feedforward": 2048,
    "encoder_layers": 6,
    "decoder_layers": 10,
    "query_dec_layers": 2,
    "num_attention_heads": 8,
    "num_queries": 150,
    "task_seq_len": 77,
    "common_stride": 4,
}
OTHER = {
    "norm": "GN",
    "use_task_norm": True,
    "pre_norm": False,
    "enforce_input_proj": False,
    "layer_norm_eps": 1e-5,
    "strides": [4, 8, 16, 32],
}
"""The entries that say what the network is, with what they are where nothing is said; all others are for training."""
TRAINING = ("model.text_mapper.", "criterion.")
"""What weights begin with that are for training only: texts of the classes, and the loss."""
LARGEST_TOKEN = 2**17
FIRST, LAST, END = "<|startoftext|>", "<|endoftext|>", "</w>"
"""What CLIP writes before and after a text, and what its tokens have at the end of a word."""


def arguments(told: Fields) -> dict[str, Any]:
    """What the network is built with, and ``task``, the numbers that tell it what to do, after seeing that it fits together.

    Raises
    ------
    ModelError
        Names the entry.
    """
    task = told.value("task")
    rest = Fields(told.path, told.where, {key: value for key, value in told.told.items() if key != "task"})
    made = swin_net.arguments(rest, WHOLE, OTHER, {"common_stride": 4, "strides": OTHER["strides"], "norm": "GN"})
    if not isinstance(task, list) or len(task) != made["task_seq_len"] or not all(type(n) is int and 0 <= n < LARGEST_TOKEN for n in task):
        told.wrong("task", task, f"{made['task_seq_len']} numbers of tokens")
    return {**made, "task": task}


def tokens(text: str, vocabulary: Mapping[str, Any], merges: str, length: int) -> list[int] | None:
    """A text of lower-case words as the tokenizer of CLIP numbers it, with zeros up to a length.

    Parameters
    ----------
    text : str
    vocabulary : mapping
        Token to number.
    merges : str
        Pairs to join, one per line, the first the most wanted.
    length : int

    Returns
    -------
    list of int or None
        None where the vocabulary lacks a token, or the text is longer.

    Examples
    --------
    >>> known = {FIRST: 7, LAST: 8, "a</w>": 1, "ba": 2, "n</w>": 3}
    >>> tokens("a ban", known, "b a", 6)
    [7, 1, 2, 3, 8, 0]
    """
    lines = [tuple(line.split()) for line in merges.splitlines() if not line.startswith("#version")]
    rank = {pair: n for n, pair in enumerate(lines) if len(pair) == 2}
    found = [vocabulary.get(token) for token in (FIRST, *(t for word in text.split() for t in _pieces(word, rank)), LAST)]
    numbers = [n for n in found if type(n) is int]
    return numbers + [0] * (length - len(numbers)) if len(numbers) == len(found) <= length else None


def _pieces(word: str, rank: Mapping[tuple[str, str], int]) -> list[str]:
    """The tokens of a word: neighbours of the best rank are joined, until none can be."""
    parts = [*word[:-1], word[-1] + END]
    while wanted := [pair for pair in itertools.pairwise(parts) if pair in rank]:
        best = min(wanted, key=rank.__getitem__)
        joined, at = list[str](), 0
        while at < len(parts):
            step = 2 if tuple(parts[at : at + 2]) == best else 1
            joined.append("".join(parts[at : at + step]))
            at += step
        parts = joined
    return parts
