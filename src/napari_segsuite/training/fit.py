"""One training loop: AdamW, warm-up, a long plateau and a final decay, averaged weights, checkpoints that can be resumed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from napari_segsuite.models.torch_model import precision_of
from napari_segsuite.training import checkpoint, losses
from napari_segsuite.training.samples import Crops
from napari_segsuite.types import Head


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes
    ----------
    steps, batch : int
    rate : float
        Learning rate of the plateau.
    warmup, decay : int
        Steps of rise at the start and of cosine fall (to 2 %) at the end. A run can be prolonged from any checkpoint of its
        plateau by raising `steps`.
    weight_decay, clip, averaging : float
        AdamW's weight decay (none on norms and biases), gradient norm limit, decay of the weight average.
    checkpoint : int
        Steps between checkpoints.
    """

    steps: int = 8000
    batch: int = 8
    rate: float = 2e-3
    warmup: int = 100
    decay: int = 2000
    weight_decay: float = 1e-2
    clip: float = 5.0
    averaging: float = 0.998
    checkpoint: int = 250

    def factor(self, step: int) -> float:
        """Learning rate at `step`, relative to `rate`."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        left = self.steps - step
        if left >= self.decay:
            return 1.0
        return 0.02 + 0.98 * 0.5 * (1 - math.cos(math.pi * left / self.decay))


@dataclass(frozen=True)
class Progress:
    """What `fit` yields after each step."""

    step: int
    parts: Mapping[str, float]
    seconds: float


def fit(
    net: nn.Module,
    crops: Callable[[int, int], Crops],
    schedule: Schedule,
    folder: Path,
    heads: Sequence[Head],
    device: str = "cpu",
    workers: int = 1,
    layout: torch.memory_format = torch.contiguous_format,
) -> Generator[Progress, None, None]:
    """Train `net`; close the iterator to stop, call again with the same folder to go on from the last checkpoint.

    Parameters
    ----------
    net : Module
        Its weights are changed in place.
    crops : callable
        ``crops(count, start)`` gives the data set of a run of `count` crops without its first `start` ones.
    schedule : Schedule
    folder : Path
        Gets ``checkpoint.pt`` (tensors and numbers only) and the one before it, ``log.jsonl`` and ``schedule.json``.
    heads : sequence of Head
        What is compared with the crops' maps (`losses.losses`).
    device : str
    workers : int
        Processes that make crops.
    layout : memory format
        Of the batches, as the network prefers.

    Yields
    ------
    Progress
        After every step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schedule.json").write_text(json.dumps(asdict(schedule)))
    net.to(device).to(memory_format=layout).train()
    average = Average(net, schedule.averaging)
    optimizer = torch.optim.AdamW(_groups(net, schedule.weight_decay), lr=schedule.rate, betas=(0.9, 0.99))
    step = _resume(folder, net, average, optimizer)
    data = crops(schedule.steps * schedule.batch, step * schedule.batch)
    loader = DataLoader(data, schedule.batch, num_workers=workers, prefetch_factor=4 if workers else None)
    started, bad = time.perf_counter(), 0
    with (folder / "log.jsonl").open("a") as log:
        for batch in loader:
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate * schedule.factor(step)
            torch.manual_seed(step)  # some networks draw by chance what they learn from; a resumed run draws the same
            parts = _step(net, batch, optimizer, schedule.clip, heads, device, layout)
            bad = 0 if parts else bad + 1
            if bad > 20:
                raise FloatingPointError(f"the loss is not finite since {bad} steps (step {step}); lower the learning rate")
            average.update(net, step)
            step += 1
            if step % schedule.checkpoint == 0 or step == schedule.steps:
                checkpoint.save(folder, {"step": step, "net": net.state_dict(), "average": average.state, "optimizer": optimizer.state_dict()})
            done = Progress(step, parts, time.perf_counter() - started)
            log.write(json.dumps(asdict(done)) + "\n")
            log.flush()
            yield done


@torch.no_grad()
def settle(net: nn.Module, crops: Iterable[Mapping[str, Tensor]], batch: int) -> None:
    """Measure the statistics of all norms anew, over some crops.

    Averaged weights are weights that no statistics were measured with, and the statistics of a short run remember its beginning
    (Izmailov et al. 2018, arXiv 1803.05407, section 3.2).

    Parameters
    ----------
    net : Module
        Changed in place.
    crops : iterable of mapping
        With ``image``, (C, *spatial), on the network's device.
    batch : int
        How many are looked at together.
    """
    norms: list[Any] = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    net.train()
    images = [crop["image"] for crop in crops]
    for first in range(0, len(images) - len(images) % batch, batch):
        net(torch.stack(images[first : first + batch]))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    net.eval()


class Average:
    """Exponential moving average of weights and norm statistics; short memory at first, `decay` later."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: dict[str, Tensor] = {name: value.detach().clone() for name, value in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Move towards the current weights."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


def _step(
    net: nn.Module,
    batch: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    clip: float,
    heads: Sequence[Head],
    device: str,
    layout: torch.memory_format,
) -> dict[str, float]:
    """One update; nothing is changed, and nothing returned, where the gradient is not finite."""
    target = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    image = target.pop("image").to(memory_format=layout)
    # Half precision only where the hardware has it: emulated, it takes ten times as long. A float16 gradient would need scaling.
    with torch.autocast(image.device.type, torch.bfloat16, enabled=precision_of(image.device) == torch.bfloat16):
        own = getattr(net, "losses", None)  # of networks that answer with whole objects
        parts = own(image, target) if own else losses.losses(net(image), target, heads)
    optimizer.zero_grad(set_to_none=True)
    (sum(parts.values(), start=torch.zeros((), device=image.device)) if own else losses.total(parts, heads)).backward()
    norm = nn.utils.clip_grad_norm_(net.parameters(), clip)
    if not torch.isfinite(norm):
        return {}
    optimizer.step()
    return {name: float(value.detach()) for name, value in parts.items()}


def _groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for convolutions only."""
    decayed = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _resume(folder: Path, net: nn.Module, average: Average, optimizer: torch.optim.Optimizer) -> int:
    state = checkpoint.load(folder)
    if state is None:
        return 0
    net.load_state_dict(state["net"])
    average.state = {name: value.to(next(net.parameters()).device) for name, value in state["average"].items()}
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
