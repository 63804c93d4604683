"""From a user's images and labels to a model folder: a generator that can be stopped at any moment and gone on with."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from napari_segsuite.codecs import codec
from napari_segsuite.engine.lock import held
from napari_segsuite.engine.progress import Progress
from napari_segsuite.errors import OptionError
from napari_segsuite.io.faults import writing
from napari_segsuite.models.families import FAMILIES
from napari_segsuite.models.folder import save, stored
from napari_segsuite.models.torch_model import TorchModel, pick_device
from napari_segsuite.training import checkpoint, record
from napari_segsuite.training.appraise import Remembering, appraise, figures, tune, words
from napari_segsuite.training.augment import Augmentation
from napari_segsuite.training.card import card, trained_on
from napari_segsuite.training.data import Sample, held_back, normalized, read_data
from napari_segsuite.training.design import NORMALIZE, Design, design
from napari_segsuite.training.fit import Schedule, fit, settle
from napari_segsuite.training.options import TrainOptions, check
from napari_segsuite.training.recipe import Course
from napari_segsuite.training.samples import Crops, Pair

CHANGES = {
    2: (
        Augmentation(zoom=(0.7, 1.4), elastic=1.2, invert=0.0, intensity=0.3, exact=0.25),
        Augmentation(zoom=(0.85, 1.2), elastic=1.05, invert=0.0, intensity=0.15, exact=0.5),
    ),
    3: (
        Augmentation(zoom=(0.7, 1.4), elastic=1.2, invert=0.0, intensity=0.3, exact=0.3),
        Augmentation(zoom=(0.85, 1.2), elastic=1.1, invert=0.0, intensity=0.15, exact=0.6),
    ),
}
"""Broad changes of the crops, and milder ones for the last `POLISH` of a run."""
POLISH, DECAY = 0.2, 0.35
BATCH = {2: 8, 3: 2}
RATE = 2e-3
"""Of networks of our own; those of other libraries have theirs."""
SETTLE = 16
"""Batches from which the statistics of the norms are measured in the end."""
EMPTY = 0.02
"""Part of the crops with nothing but noise, where what is no object is background."""
IN_ANOTHER_PROCESS = 200
"""Steps from which on it pays to start a process that makes the crops."""


@dataclass(frozen=True, eq=False)
class Trained:
    """What came of a training.

    Attributes
    ----------
    model : Path
        The folder, for ``--model``.
    task : str
    held_back : tuple of str
        What was not trained on.
    figures : mapping
        On what was held back; empty where nothing was.
    notices : tuple of str
    fresh : bool
        Whether it was computed now, and was not there already.
    """

    model: Path
    task: str
    held_back: tuple[str, ...]
    figures: Mapping[str, Any]
    notices: tuple[str, ...] = ()
    fresh: bool = True

    def __str__(self) -> str:
        names = ", ".join(self.held_back[:4]) + (f" and {len(self.held_back) - 4} more" if len(self.held_back) > 4 else "")
        there = "" if self.fresh else "already trained; "
        good = f"{words(self.figures)}; held back: {names}" if self.held_back else "nothing was held back"
        return "\n".join([f"{self.model}: {there}{good}", *(f"  note: {notice}" for notice in self.notices)])

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        told = {"model": str(self.model), "task": self.task, "held_back": list(self.held_back), "figures": dict(self.figures)}
        return {"event": "done" if self.fresh else "skipped", **told, "notices": list(self.notices)}


def run(options: TrainOptions, out: Path, *, overwrite: bool = False) -> Generator[Progress, None, Trained]:
    """Train a model; close the generator to stop, do the same again to go on from the last checkpoint.

    Parameters
    ----------
    options : TrainOptions
    out : Path
        The model's folder. It looks like a model only when all is done.
    overwrite : bool
        Replace another training or model there.

    Yields
    ------
    Progress
        Steps, and a few words.

    Returns
    -------
    Trained

    Raises
    ------
    SegsuiteError
        What was found, what is needed, what to do.
    """
    check(options)
    pick_device(options.device)
    record.check_folder(out, options, overwrite)
    yield Progress(0, options.steps, "reading the images")
    data = read_data(options)
    with held(out.with_name(f".{out.name}.lock"), out):
        job = record.job_of(options, {sample.name: sample.digest for sample in data.samples})
        before = record.begin(out, job, overwrite)
        if before is not None:
            return _there(out, before)
        train, kept = held_back(data, options.held_back, options.seed)
        torch.manual_seed(options.seed)
        made = design(options, data, train, out.resolve().name)
        state = yield from _fitted(options, made, train, out / record.FOLDER)
        return (yield from _finished(options, made, state, train, kept, out))


def _there(out: Path, told: Mapping[str, Any]) -> Trained:
    return Trained(out, told["task"], tuple(told["held_back"]), told["figures"], tuple(told["notices"]), fresh=False)


def schedule_of(options: TrainOptions, net: str, dims: int) -> Schedule:
    """How long and how fast: a short run warms up for a shorter time and averages over fewer weights."""
    steps = options.steps
    usual = FAMILIES[net].rate if net in FAMILIES else RATE
    return Schedule(
        steps=steps,
        batch=options.batch or BATCH[dims],
        rate=options.rate or (usual if options.init is None else usual / 4),
        warmup=min(100, 1 + steps // 10),
        decay=round(DECAY * steps),
        averaging=min(0.998, max(0.0, 1 - 10 / steps)),
        checkpoint=min(100, max(1, steps // 20)),
    )


def _fitted(options: TrainOptions, made: Design, train: Sequence[Sample], folder: Path) -> Generator[Progress, None, dict[str, torch.Tensor]]:
    """Run the loop, or what is left of it; the averaged weights, rounded as they are stored."""
    dims = len(made.spec.axes)
    schedule = schedule_of(options, made.spec.net["name"], dims)
    device = pick_device(options.device)
    layout = made.net.memory_format if device.type != "mps" else torch.contiguous_format
    workers = 1 if schedule.steps >= IN_ANOTHER_PROCESS else 0
    crops = _crops(options, made, train, schedule)
    steps = fit(made.net, crops, schedule, folder, made.spec.heads, str(device), workers, layout)
    try:
        with writing(folder / checkpoint.LAST):
            for done in steps:
                loss = sum(done.parts.values())
                yield Progress(done.step, schedule.steps, f"step {done.step} of {schedule.steps}, loss {loss:.3f}")
    except FloatingPointError as error:
        raise OptionError(str(error), do=f"Begin anew with --rate {schedule.rate / 4:g} --overwrite.") from error
    except torch.OutOfMemoryError as error:
        raise OptionError("the memory of the device is not enough", do="Choose a smaller --batch or --crop, or --device cpu.") from error
    finally:
        steps.close()
    yield Progress(schedule.steps, schedule.steps, "averaging")
    state = (checkpoint.load(folder) or {})["average"]
    made.net.load_state_dict({name: stored(v).to(v.dtype) for name, v in state.items()})
    last, count = schedule.steps * schedule.batch, SETTLE * schedule.batch
    after = crops(last + count, last)
    settle(made.net, ({"image": after[k]["image"].to(device)} for k in range(count)), schedule.batch)
    return {name: v.cpu() for name, v in made.net.state_dict().items()}


def _crops(options: TrainOptions, made: Design, train: Sequence[Sample], schedule: Schedule) -> Callable[[int, int], Crops]:
    """The data set of a run, by its number of crops and the first one that is not done yet."""
    spec = made.spec
    dims = len(spec.axes)
    pairs = [Pair(normalized(s, NORMALIZE), s.labels, (), _weight(s), s.name, s.class_of) for s in train]
    encode = functools.partial(codec(spec.codec).encode, classes=spec.classes)
    broad, polish = CHANGES[dims]
    last = schedule.steps * schedule.batch
    course = Course(round((1 - POLISH) * last), last, changes=(broad, polish, polish))
    # Where every voxel has a class, noise is none of them.
    empty = EMPTY if spec.task == "instance" and any((s.labels == 0).any() for s in train) else 0.0

    def crops(count: int, start: int) -> Crops:
        return Crops(pairs, encode, made.crop, count, course, len(spec.channels), options.seed, start, empty)

    return crops


def _weight(sample: Sample) -> float:
    """An image counts by the root of its size: a large one shows more, but not as much more as it is larger."""
    return math.sqrt(sample.labels.size)


def _finished(
    options: TrainOptions, made: Design, state: Mapping[str, torch.Tensor], train: Sequence[Sample], kept: Sequence[Sample], out: Path
) -> Generator[Progress, None, Trained]:
    """Choose thresholds, measure, and write the model, its description last."""
    objects, net = made.objects, made.net
    spec = replace(made.spec, trained_on=trained_on(len(train)), description=f"Trained on {trained_on(len(train))}.")
    model = Remembering(TorchModel(spec, net, device=options.device), spec)
    if kept and spec.task != "semantic":
        best: dict[str, Any] = {}
        for done, total, best in tune(model, kept, objects.smallest):  # noqa: B007
            yield Progress(options.steps, options.steps, f"choosing thresholds, {done} of {total}")
        model = model.tuned(**best)
    yield Progress(options.steps, options.steps, "measuring how good it is")
    good = figures(appraise(model, kept), spec.task) if kept else {}
    told = {"task": spec.task, "held_back": [s.name for s in kept], "figures": good, "notices": list(made.notices)}
    weights = sum(p.numel() for p in net.parameters())
    record.write(out / record.FOLDER / record.RESULT, told)
    record.write_text(out / "card.md", card(model.spec, options, told, objects.count, weights, made.notices))
    with writing(out / "model.json"):
        save(model.spec, state, out)
        checkpoint.remove(out / record.FOLDER)
    return replace(_there(out, told), fresh=True)
