"""The recipe of the built-in model `nuclei-3d`: which volumes, which network, how long.

Run ``python -m napari_segsuite.training.nuclei3d --data FOLDER --out FOLDER``; the same command again goes on. Most crops are of synthetic
volumes (`volumes`); without ``--data`` all are.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from napari_segsuite.codecs import centers
from napari_segsuite.models.nets import ResUNet
from napari_segsuite.training import recipe
from napari_segsuite.training.augment import Augmentation
from napari_segsuite.training.fit import Schedule
from napari_segsuite.training.samples import Pair, pair
from napari_segsuite.training.shapes import Floats, shapes
from napari_segsuite.training.volumes import volume
from napari_segsuite.types import Class, ModelSpec

CLASSES = (Class(1, "nucleus", (255, 127, 14)),)
NORMALIZE = (1.0, 99.8)
CODEC_OPTIONS: dict[str, float] = {
    "center": 0.2,
    "window": 3,
    "search": 4,
    "longest": 24,
    "second": 4,
    "min_size": 100,
    "min_score": 0.65,
    "foreground": 0.45,
}
DIAMETER = 16.0
"""Typical diameter across (in y and x) of the training nuclei, in voxels."""
CROP = (32, 64, 64)
SHAPE = (48, 128, 128)
"""Size of a synthetic volume."""
NET = {"dims": 3, "in_channels": 1, "widths": [8, 32, 64, 128], "blocks": [1, 2, 2, 2]}
SCHEDULE = Schedule(steps=3000, batch=2, rate=1.5e-3, decay=900)
CHANGES = (
    Augmentation(zoom=(0.6, 1.6), elastic=1.25, invert=0.0, intensity=0.3, exact=0.3),
    Augmentation(zoom=(0.8, 1.25), elastic=1.1, invert=0.0, intensity=0.2, exact=0.6),
    recipe.FINE,
)


@dataclass(frozen=True)
class Source:
    """A real volume, where it was cut in two, and how often crops are drawn from its training part.

    Attributes
    ----------
    name, image, labels : str
        Paths in the data folder.
    axis, cut : int
        Voxels before `cut` along `axis` are for training, the others are held back.
    step : float
        Distance of two slices, in voxels of the last two axes.
    diameter : float
        Median extent of the nuclei along y and x in the training part, in voxels.
    share : float
        Part of all crops.
    """

    name: str
    image: str
    labels: str
    axis: int
    cut: int
    step: float
    diameter: float
    share: float

    def read(self, data: Path, held_back: bool) -> tuple[NDArray[Any], NDArray[np.integer]]:
        """Image and labels of one of the two parts."""
        part = [slice(None)] * 3
        part[self.axis] = slice(self.cut, None) if held_back else slice(self.cut)
        return tifffile.imread(data / self.image)[tuple(part)], tifffile.imread(data / self.labels)[tuple(part)]


SOURCES = (
    Source(
        "ovule",
        "nuclei3d_gonuclear/1135_image.ome.tif",
        "nuclei3d_gonuclear/1135_labels.ome.tif",
        axis=0,
        cut=70,
        step=0.284 / 0.127,
        diameter=23.5,
        share=0.18,
    ),
    Source(
        "mouse embryo",
        "nuclei3d_mouse_embryo_qcanet/16cell_image.ome.tif",
        "nuclei3d_mouse_embryo_qcanet/16cell_labels.ome.tif",
        axis=2,
        cut=64,
        step=1.75 / 0.8,
        diameter=17,
        share=0.14,
    ),
)
OUTLINES = ("nuclei3d_gonuclear/1137_labels_only_raw_is_corrupt.ome.tif", 0.284 / 0.127)
"""A label volume without an image, whose shapes synthetic nuclei may have, and how far its slices are apart."""


def read_pairs(data: Path) -> list[Pair]:
    """The training parts of the real volumes, magnified so that their nuclei have the model's diameter."""
    return [_magnified(source, *source.read(data, held_back=False)) for source in SOURCES]


def read_shapes(data: Path) -> list[Floats]:
    """Shapes of real nuclei: of the labels without an image, and of the training parts."""
    known = [(tifffile.imread(data / OUTLINES[0]), OUTLINES[1]), *((s.read(data, held_back=False)[1], s.step) for s in SOURCES)]
    return [shape for labels, step in known for shape in shapes(labels, step)]


def synthetic_pairs(count: int, share: float, seed: int, real: Sequence[Floats] = (), shape: tuple[int, int, int] = SHAPE) -> list[Pair]:
    """Volumes that are the same for the same seed, together drawn with the probability `share`."""
    pairs = []
    for number in range(count):
        image, labels = volume(shape, np.random.default_rng((seed, number)), real=real)
        pairs.append(pair(image[None], labels.astype(np.uint16), NORMALIZE, share / count, f"synthetic {number}"))
    return pairs


def net() -> ResUNet:
    """The network with freshly drawn weights."""
    heads = {head.name: head.channels for head in centers.heads(CLASSES, 3)}
    return ResUNet(heads=heads, **NET)  # type: ignore[arg-type]


def spec() -> ModelSpec:
    """Everything about the model but its weights; the codec's options were chosen on the training parts and on synthetic volumes."""
    return ModelSpec(
        name="nuclei-3d",
        version="1",
        description="Nuclei in fluorescence volumes, 3D.",
        axes="zyx",
        channels=("nuclei",),
        heads=centers.heads(CLASSES, 3),
        classes=CLASSES,
        codec="centers",
        codec_options=CODEC_OPTIONS,
        diameter_px=DIAMETER,
        tile=(128, 272, 272),
        multiple=net().multiple,
        context=(16, 16, 16),
        normalize={"method": "percentiles", "values": list(NORMALIZE)},
        net={"name": "resunet", "kwargs": {**NET, "heads": {head.name: head.channels for head in centers.heads(CLASSES, 3)}}},
        licence="BSD-3-Clause; training data MIT",
        citation="Vijayan et al. 2024, doi:10.1242/dev.202800; Tokuoka et al. 2020, doi:10.1038/s41540-020-00152-8 (training data)",
        trained_on="synthetic volumes, and parts of one volume each of Arabidopsis ovule (GoNuclear) and mouse embryo (QCANet)",
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train and print one line every 20 steps."""
    flags = recipe.parser(__doc__, SCHEDULE, polish=500)
    flags.add_argument("--data", type=Path, help="folder with the real volumes; without it only synthetic ones are used")
    flags.add_argument("--volumes", type=int, default=96, help="number of synthetic volumes")
    recipe.run(recipe.Recipe(net, spec, _pairs, CROP, CHANGES, SCHEDULE), flags.parse_args(argv))


def _pairs(args: argparse.Namespace) -> list[Pair]:
    if args.data is None:
        return synthetic_pairs(args.volumes, 1.0, args.seed)
    share = 1 - sum(source.share for source in SOURCES)
    return [*synthetic_pairs(args.volumes, share, args.seed, read_shapes(args.data)), *read_pairs(args.data)]


def _magnified(source: Source, image: NDArray[Any], labels: NDArray[np.integer]) -> Pair:
    zoom = DIAMETER / source.diameter
    if abs(zoom - 1) > 0.1:
        image = ndimage.zoom(image, zoom, order=1, grid_mode=True, mode="nearest")
        labels = ndimage.zoom(labels.astype(np.int32), zoom, order=0, grid_mode=True, mode="nearest")
    return pair(image[None], labels, NORMALIZE, source.share, source.name)


if __name__ == "__main__":
    main()
