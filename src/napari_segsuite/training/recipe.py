"""What the recipes of the built-in models have in common: flags, crops whose changes become milder, the run, the export."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from napari_segsuite.codecs import centers
from napari_segsuite.models import load_model
from napari_segsuite.models.folder import save
from napari_segsuite.models.nets import ResUNet
from napari_segsuite.training.augment import Augmentation
from napari_segsuite.training.fit import Schedule, fit
from napari_segsuite.training.samples import Crops, Pair
from napari_segsuite.types import ModelSpec

BROAD = Augmentation()
POLISH = Augmentation(zoom=(0.8, 1.25), elastic=1.05, intensity=0.2, exact=0.5)
FINE = Augmentation(intensity=0.05, invert=0.0, exact=1.0)
"""Broad changes teach what is common to all nuclei; milder ones later, and hardly any at the very end, teach where exactly outlines are:
how bright a voxel must be to count depends on the light, the contrast and the sharpness that the other changes vary."""


@dataclass(frozen=True)
class Course:
    """Which changes a crop gets, by its number; an object, not a function, so that it can be sent to another process.

    Attributes
    ----------
    polish, fine : int
        Numbers of the first crop with milder changes, and of the first with hardly any.
    broad : int
        After `polish`, one crop in so many still gets the broad ones; 0 for none.
    changes : three Augmentation
        The broad, the milder and the mildest ones.
    """

    polish: int
    fine: int
    broad: int = 0
    changes: tuple[Augmentation, Augmentation, Augmentation] = (BROAD, POLISH, FINE)

    def __call__(self, crop: int) -> Augmentation:
        if crop < self.polish or (self.broad and crop % self.broad == 0):
            return self.changes[0]
        return self.changes[1] if crop < self.fine else self.changes[2]


@dataclass(frozen=True)
class Recipe:
    """What makes one model.

    Attributes
    ----------
    net, spec : callables
        Give the network with freshly drawn weights, and everything about the model but its weights.
    pairs : callable
        Gives the training data that the command's flags ask for.
    crop : d ints
        Size of a crop in voxels.
    changes : three Augmentation
        See `Course`.
    schedule : Schedule
        Where the flags do not say otherwise.
    """

    net: Callable[[], ResUNet]
    spec: Callable[[], ModelSpec]
    pairs: Callable[[argparse.Namespace], list[Pair]]
    crop: tuple[int, ...]
    changes: tuple[Augmentation, Augmentation, Augmentation]
    schedule: Schedule


def parser(description: str | None, schedule: Schedule, polish: int) -> argparse.ArgumentParser:
    """The flags of every recipe but those that say where the data is."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--steps", type=int, default=schedule.steps)
    made.add_argument("--decay", type=int, default=schedule.decay)
    made.add_argument("--rate", type=float, default=schedule.rate)
    made.add_argument("--polish", type=int, default=polish, help="last steps, with milder changes to the crops")
    made.add_argument("--fine", type=int, default=0, help="last of these steps, with hardly any changes")
    made.add_argument("--broad", type=int, default=0, help="of the last steps' crops, one in so many still gets the broad changes")
    made.add_argument("--init", help="begin with the weights of this model (name or folder)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--device", default="cpu")
    made.add_argument("--export", type=Path, help="write the run in --out as a model folder, and do not train")
    return made


def run(recipe: Recipe, args: argparse.Namespace) -> None:
    """Do what the flags ask for: train and print one line every 20 steps, or export."""
    if args.export:
        export(recipe.spec(), args.out, args.export)
        return
    torch.manual_seed(args.seed)
    network = recipe.net()
    if args.init:
        network.load_state_dict(load_model(args.init, device="cpu").net.state_dict())  # type: ignore[attr-defined]
    batch = recipe.schedule.batch
    schedule = Schedule(steps=args.steps, decay=args.decay, rate=args.rate, batch=batch)
    crops = _crops(recipe, args)
    for done in fit(network, crops, schedule, args.out, recipe.spec().heads, args.device, layout=network.memory_format):
        if done.step % 20 == 0:
            parts = " ".join(f"{name} {value:.4f}" for name, value in done.parts.items())
            sys.stdout.write(f"step {done.step} {parts} {done.seconds:.0f} s\n")
            sys.stdout.flush()


def export(spec: ModelSpec, run: Path, folder: Path) -> None:
    """Write the averaged weights of a run's checkpoint as a model folder."""
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    save(spec, state["average"], folder)


def _crops(recipe: Recipe, args: argparse.Namespace) -> Callable[[int, int], Crops]:
    """The data set of a run, by its number of crops and the first one that is not done yet."""
    spec, pairs, batch = recipe.spec(), recipe.pairs(args), recipe.schedule.batch
    encode = functools.partial(centers.encode, classes=spec.classes)

    def crops(count: int, start: int) -> Crops:
        course = Course(count - max(args.polish, args.fine) * batch, count - args.fine * batch, args.broad, recipe.changes)
        return Crops(pairs, encode, recipe.crop, count, course, len(spec.channels), args.seed, start)

    return crops
