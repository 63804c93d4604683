"""What a user may wish of a training: one dataclass, from which the command line's flags and the record of the run are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_segsuite.codecs import NAMES
from napari_segsuite.engine.options import Wishes, check_device, check_fields, option
from napari_segsuite.errors import OptionError
from napari_segsuite.models import families
from napari_segsuite.training.classes import parse

SIZES = ("resunet-tiny", "resunet-small", "resunet-base")
"""Networks of 0.5, 2 and 8 million weights (in 2D); ``resunet`` is the middle one."""
OTHERS = tuple(dict.fromkeys(name for name, _ in families.SIZES))
"""Networks of other libraries."""
CODEC = {"semantic": "semantic", "instance": "centers", "panoptic": "centers"}
"""The codec of a task where none is wished."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Wishes):
    """What a user may wish of a training."""

    images: str = option("", "image files: a folder, or one file")
    labels: str = option("", "their labels: a folder with files of the same names (with or without '_labels'), or one file")
    task: Literal["semantic", "instance", "panoptic"] = option(
        "instance", "what the labels are: the class of every voxel, or countable objects with a number each, or stuff and objects together"
    )
    net: str | None = option(
        None,
        "resunet-tiny, resunet-small (also: resunet) or resunet-base; empty: resunet-small, or that of --init. Of other libraries: "
        + "; ".join(f"{', '.join(families.names(extra))} (extra {extra})" for extra in ("smp", "monai", "detection", "transformers"))
        + "; a larger one of each is called NAME-base",
    )
    codec: str | None = option(
        None,
        f"how objects are written as maps: {' or '.join(NAMES)}; empty: {CODEC['semantic']} for classes, else {CODEC['instance']}, or objects with "
        "a network that answers with those",
    )
    classes: tuple[str, ...] = option(
        (), "the classes as ID:NAME or ID:NAME:KIND with the kind stuff or thing, stuff first; empty: as the label files say, else by the task"
    )
    split: bool = option(False, "every separate piece of a number is an object of its own: for masks that do not number their objects (0 and 255)")
    init: str | None = option(None, "begin with the weights of this model: a name in the list, or a folder")
    steps: int = option(3000, "how long: 300 for a first look, 3000 usually, 20000 for many images", ge=1, le=10**7)
    held_back: float = option(0.15, "part of the images that is not trained on, to choose thresholds and to say how good the model is", ge=0, le=0.9)
    crop: tuple[int, ...] = option(
        (), "size of the crops that are trained on, per axis; empty: what suits the objects and the images", unit="voxel", advanced=True
    )
    batch: int | None = option(None, "crops per step; empty: 8 (volumes: 2)", ge=1, le=1024, advanced=True)
    rate: float | None = option(None, "learning rate; empty: 0.002, or a quarter of it with --init", ge=1e-7, le=1, advanced=True)
    axes: str | None = option(None, "what the stored axes of the images are, where the files do not say: letters of tczyx", advanced=True)
    seed: int = option(0, "another number gives other images held back and other crops", ge=0, le=2**31, advanced=True)
    device: str = option("auto", "where the network is trained: auto, cpu, cuda, cuda:1, mps", advanced=True)

    @property
    def codec_name(self) -> str:
        """The wished codec, or the network's, or the task's."""
        return self.codec or (self.own_codec if self.detects else CODEC[self.task])

    @property
    def own_codec(self) -> str:
        """The codec of networks that answer with whole objects; some of them do without where the task has none."""
        return "semantic" if self.task == "semantic" else "objects"

    @property
    def detects(self) -> bool:
        """Whether the wished network answers with whole objects."""
        return self.family in families.DETECTORS

    @property
    def family(self) -> str:
        """The wished network without its size."""
        return (self.net or "").partition("-")[0]

    @property
    def net_name(self) -> str | None:
        """The wished network by its full name."""
        return "resunet-small" if self.net == "resunet" else self.net


def check(options: TrainOptions) -> None:
    """Complain about a wish that no data could meet.

    Raises
    ------
    OptionError
        A value of another type than the field's or out of its bounds, an unknown name, classes that are not written as they should be.
    """
    check_fields(options)
    check_device(options.device)
    for name in ("images", "labels"):
        if not getattr(options, name).strip():
            raise OptionError(f"no {name} are given", "a folder or a file", f"Say where they are, for example --{name} {Path(name)}.")
    if options.net_name not in (None, *SIZES, *OTHERS):
        raise OptionError(f"there is no network {options.net!r}", f"resunet, {', '.join((*SIZES, *OTHERS))}")
    if options.net_name in OTHERS:
        families.check(options.net_name.partition("-")[0])
    if options.codec_name not in NAMES:
        raise OptionError(f"there is no codec {options.codec!r}", f"one of {', '.join(NAMES)}")
    if options.detects and options.task == "semantic" and options.family not in families.UNIVERSAL:
        raise OptionError(f"network {options.net} finds objects, and the task is semantic", "the task instance or panoptic", "Choose another --net.")
    fits = options.codec_name == options.own_codec if options.detects else options.codec_name != "objects"
    if not fits and options.init is None:
        found = f"network {options.net or 'resunet-small'} with the codec {options.codec_name}"
        those = families.UNIVERSAL if options.task == "semantic" else families.DETECTORS
        raise OptionError(found, f"the codec {options.own_codec} with {' or '.join(those)}, and another than objects with other networks")
    if options.crop and min(options.crop) < 1:
        raise OptionError(f"crop is {options.crop}", "at least 1 voxel along every axis")
    if options.classes:
        parse(options.classes, options.task)
