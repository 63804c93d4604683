"""A SAM that was added, asked with a user's points and boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_segsuite.models import folder_of
from napari_segsuite.models.folder import read_spec
from napari_segsuite.models.foreign.network import opened
from napari_segsuite.models.foreign.processing import apply
from napari_segsuite.models.foreign.sam_masks import Automatic, enlarged, inner
from napari_segsuite.models.prompts import Candidate, Prompt
from napari_segsuite.models.torch_model import pick_device
from napari_segsuite.types import ModelSpec


@dataclass(frozen=True, eq=False)
class Embedded:
    """A picture that was looked at."""

    embedding: Tensor
    size: tuple[int, ...]


class SamPrompts:
    """A backend of `models.prompts`. Its scores are predicted intersections over union.

    Parameters
    ----------
    spec : ModelSpec
    network : Automatic
    device : torch.device
    """

    axes = "yx"

    def __init__(self, spec: ModelSpec, network: Automatic, device: torch.device) -> None:
        self.name, self.side = spec.name, spec.tile[-1]
        self.network = network.eval().requires_grad_(False).to(device)
        self._told: dict[str, Any] = dict(spec.net["input"])
        self._device = device

    @torch.inference_mode()
    def look(self, pixels: NDArray[np.float32]) -> Embedded:
        """Embed a picture (C, *spatial), normalised as the model's description says."""
        x = apply(self._told["steps"], torch.from_numpy(np.ascontiguousarray(pixels))[None].to(self._device), self._told["axes"])
        return Embedded(self.network.embedding(x), tuple(x.shape[2:]))

    @torch.inference_mode()
    def answer(self, state: Embedded, prompt: Prompt) -> list[Candidate]:
        """One mask, or for a single point the three that it may mean; best first."""
        scale = [m / n for n, m in zip(state.size, inner(state.size, self.network.side), strict=True)]
        points = marks = boxes = None
        if prompt.points:
            places = [[x * scale[1], y * scale[0]] for y, x in prompt.points]
            points = torch.tensor([places], dtype=torch.float32, device=self._device)
            marks = torch.tensor([list(map(int, prompt.marks))], device=self._device)
        if prompt.box is not None:
            (top, bottom), (left, right) = prompt.box
            corners = [left * scale[1], top * scale[0], (right - 1) * scale[1], (bottom - 1) * scale[0]]
            boxes = torch.tensor([corners], dtype=torch.float32, device=self._device)
        several = prompt.box is None and len(prompt.points) == 1
        logits, scores = self.network.ask(state.embedding, points, marks, boxes, several)
        masks = (enlarged(logits[0], state.size, self.network.side) > 0).cpu().numpy()
        sure = scores[0].float().clamp(0, 1).cpu().numpy()
        order = np.argsort(-sure, kind="stable")
        return [Candidate(masks[k], float(sure[k])) for k in order if masks[k].any()]


def load(name: str, *, device: str) -> SamPrompts:
    """Open a SAM by its name or folder.

    Raises
    ------
    MissingExtra, ModelError
        See `network.opened`.
    """
    folder = folder_of(name)
    spec, where = read_spec(folder), pick_device(device)
    network = opened(spec.net, folder, where)
    inside: Any = getattr(network, "inner", network)
    return SamPrompts(spec, inside, where)
