"""The card of a model that a user trained: what it is, on what, how good, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from napari_segsuite.training.appraise import words
from napari_segsuite.training.options import TrainOptions
from napari_segsuite.types import ModelSpec


def card(spec: ModelSpec, options: TrainOptions, found: Mapping[str, Any], objects: int, weights: int, notices: Sequence[str]) -> str:
    """Write the card in Markdown."""
    held = found["held_back"]
    kinds = ", ".join(f"{c.id} {c.name} ({'things' if c.countable else 'stuff'})" for c in spec.classes)
    size = " x ".join(f"{s:g}" for s in spec.pixel_size_um) + " um" if spec.pixel_size_um else "not known"
    good = [
        f"On what was held back ({_listed(held)}): {words(found['figures'])}." if held else "Nothing was held back, so there are no figures.",
        *(["The thresholds were chosen on the same images, so that others will do a little worse."] if held and spec.task != "semantic" else []),
    ]
    begun = f", beginning with `{options.init}`" if options.init else ""
    return "\n".join(
        [
            f"# {spec.name}",
            "",
            f"{spec.task.capitalize()} segmentation, axes {spec.axes}, classes: {kinds}.",
            "",
            "| | |",
            "|---|---|",
            f"| channels | {', '.join(spec.channels)} |",
            f"| pixel size | {size} |",
            f"| typical diameter | {f'{spec.diameter_px:.1f} pixels' if spec.diameter_px else 'has no objects'} |",
            f"| network | {spec.net['name']}, {weights / 1e6:.2f} million weights{_sizes(spec.net['kwargs'])} |",
            f"| codec | {spec.codec}, {dict(spec.codec_options)} |",
            f"| trained on | {spec.trained_on} ({objects} objects) |",
            f"| training | {options.steps} steps, seed {options.seed}{begun} |",
            "",
            "## How good it is",
            "",
            *good,
            "",
            "## Limits",
            "",
            "It knows what it was trained on: other stains, microscopes and magnifications were not measured.",
            *(f"- {notice}" for notice in notices),
            "",
        ]
    )


def trained_on(train: int) -> str:
    """What to say of the data in the model's description."""
    return f"{train} {'image' if train == 1 else 'images'} of its user's"


def _sizes(kwargs: Mapping[str, Any]) -> str:
    """What a network was built with, beside what the data say."""
    return "".join(f", {name} {kwargs[name]}" for name in ("encoder", "width", "widths") if name in kwargs)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
