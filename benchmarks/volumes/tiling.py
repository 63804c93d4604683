"""What tiles cost: voxels computed over voxels in the image, and the time of a run over the raw forward of the same voxels.

Counted: the tilings of our models, of MONAI's sliding window and of nnU-Net's predictor (by its own function where `nnunetv2` can be
imported, which `bench` does not install, and by the same formula elsewhere). Measured, with the same network: the raw forward of blocks that
share no voxel, our tiles with their context, the whole run into a store, and MONAI's `sliding_window_inference` on a part of the image.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.volumes.measure import cpu, folder, heading, row, say, verdict
from benchmarks.volumes.sources import boxes
from napari_segsuite.arrays import as_image
from napari_segsuite.engine import measure, tiles
from napari_segsuite.engine.layout import Layout
from napari_segsuite.engine.plan import Options, Plan, resolve
from napari_segsuite.engine.reader import Reader
from napari_segsuite.engine.run import result, run
from napari_segsuite.errors import SegsuiteError
from napari_segsuite.models import load_model
from napari_segsuite.types import Image, ModelSpec, Prediction

FULL = {2: (4096, 4096), 3: (128, 512, 512)}
QUICK = {2: (96, 96), 3: (16, 40, 40)}
TARGET = {2: 1.15, 3: 1.25}
PEERS = {2: (512, 512), 3: (64, 128, 128)}
"""Windows of the other tilings."""
FIRST = 64
"""Side of an image that is segmented before anything is measured: importing, and loading compiled code, happen once in a process."""
PART = {2: (1024, 1024), 3: (64, 256, 256)}
"""Of the image, for MONAI's time: what it computes per voxel depends little on the size."""
Shape = Sequence[int]


def main(options: argparse.Namespace) -> dict[str, float]:
    """Print ratios for 2D and 3D."""
    figures = {}
    wishes = options.tiles or (None, None)
    for dims, name, tile in zip((2, 3), options.models, wishes, strict=True):
        shape = (QUICK if options.quick else FULL)[dims]
        model = small_model(dims) if options.quick else _loaded(name)
        if model is None:
            row(name, "no such model")
            continue
        spec = model.spec
        if tile:
            model.spec = replace(spec, tile=tuple(int(n) for n in tile.split(",")))
        heading(f"tiling: {' x '.join(map(str, shape))}, {spec.name}, tile {model.spec.tile}, context {spec.context}")
        _counts(dims, FULL[dims], model.spec)
        figures |= _times(dims, shape, model, quick=options.quick)
    return figures


def small_model(dims: int) -> Any:
    """A tiny untrained network that says nothing is anywhere."""
    import torch

    from napari_segsuite.codecs import centers
    from napari_segsuite.models import nets
    from napari_segsuite.models.torch_model import TorchModel
    from napari_segsuite.types import Class

    heads = centers.heads((Class(1, "object"),), dims)
    kwargs = {"dims": dims, "in_channels": 1, "widths": [4, 8], "blocks": [1, 1], "heads": {h.name: h.channels for h in heads}}
    torch.manual_seed(0)
    net = nets.build("resunet", kwargs)
    axes = "zyx"[-dims:]
    spec = ModelSpec("small", axes, ("grey",), heads, (Class(1, "object"),), "centers", tile=(64,) * dims, multiple=(2,) * dims, context=(8,) * dims)
    net.heads["semantic"].bias.data[:] = torch.tensor([9.0, -9.0])  # type: ignore[union-attr, operator, index]
    return TorchModel(replace(spec, net={"name": "resunet", "kwargs": kwargs}), net, device="cpu")


def _loaded(name: str) -> Any:
    try:
        return load_model(name, device="cpu")
    except SegsuiteError:
        return None


def _counts(dims: int, shape: Shape, spec: ModelSpec) -> None:
    say("  voxels computed over voxels in the image")
    row("ours", f"{ours(shape, spec):.3f}")
    try:
        for overlap in (0.25, 0.5):
            row(f"MONAI, window {PEERS[dims]}, overlap {overlap}", f"{monai(shape, PEERS[dims], overlap):.3f}")
    except ImportError as error:
        row("MONAI", f"not installed ({error.name})")
    name = f"nnU-Net, window {PEERS[dims]}, step 0.5"
    try:
        row(name, f"{nnunet_itself(shape, PEERS[dims], 0.5):.3f}", "its function")
    except (ImportError, RuntimeError):
        row(name, f"{nnunet(shape, PEERS[dims], 0.5):.3f}", "its formula")


def ours(shape: Shape, spec: ModelSpec) -> float:
    """Voxels that our tiles see, over the voxels of a frame."""
    sides = [sum(b - a for _, (a, b) in line) for line in tiles.lines(shape, spec)]
    return math.prod(sides) / math.prod(shape)


def monai(shape: Shape, window: Shape, overlap: float) -> float:
    """The same for MONAI, by its own functions."""
    from monai.data.utils import dense_patch_slices
    from monai.inferers.utils import _get_scan_interval

    interval = _get_scan_interval(tuple(shape), tuple(window), len(shape), [overlap] * len(shape))
    return len(dense_patch_slices(tuple(shape), tuple(window), interval)) * math.prod(window) / math.prod(shape)


def nnunet(shape: Shape, window: Shape, step: float) -> float:
    """The same for nnU-Net: as many windows as needed for steps of at most that share of the window (`compute_steps_for_sliding_window`)."""
    counts = [math.ceil((n - w) / (w * step)) + 1 for n, w in zip(shape, window, strict=True)]
    return math.prod(counts) * math.prod(window) / math.prod(shape)


def nnunet_itself(shape: Shape, window: Shape, step: float) -> float:
    """The same by nnU-Net's own function."""
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

    steps = compute_steps_for_sliding_window(tuple(shape), tuple(window), step)
    return math.prod(map(len, steps)) * math.prod(window) / math.prod(shape)


def _times(dims: int, shape: Shape, model: Any, *, quick: bool) -> dict[str, float]:
    with folder() as at:
        small = as_image(_pixels(dims, [min(n, FIRST) for n in shape]))
        result(run(_planned(small, model), small, out=at / "first.ome.zarr", model=model))
        image = as_image(_pixels(dims, shape))
        plan = _planned(image, model)
        timed = Timed(model, _blocks(plan, image, model))
        whole = cpu(lambda: result(run(plan, image, out=at / "out.ome.zarr", model=timed))) - timed.aside_s
    raw_s = timed.raw_s
    network = timed.seconds
    say(f"  CPU time over the raw forward ({1e6 * raw_s / math.prod(shape):.2f} CPU-s per million voxels)")
    row("ours, the network on tiles with context", f"{network / raw_s:.3f}")
    verdict("ours, the whole run into a store", whole / raw_s, TARGET[dims])
    part = tuple(min(n, m) for n, m in zip(shape, PART[dims], strict=True))
    for overlap in (0.25,) if quick else (0.25, 0.5):
        _monai_time(dims, plan, image, model, part, overlap)
    return {f"network{dims}": network / raw_s, f"whole{dims}": whole / raw_s}


def _pixels(dims: int, shape: Shape) -> NDArray[Any]:
    """Nuclei; a block of them, repeated."""
    from napari_segsuite.synthetic import nuclei

    block = tuple(min(n, 512 if dims == 2 else 64) for n in shape)
    one, _ = nuclei(block, axes="zyx"[-dims:], scale_um=(0.4,) * dims, seed=0)
    return np.tile(one, [-(-n // b) for n, b in zip(shape, block, strict=True)])[tuple(slice(n) for n in shape)]


def _planned(image: Image, model: Any) -> Plan:
    """The plan of an image at its own resolution."""
    plan = resolve(image, Options(model=model.spec.name, device="cpu"), model.spec)
    return replace(plan, limits=measure.limits(image, plan, model.spec), zoom=(1.0,) * len(image.axes))


def _blocks(plan: Plan, image: Image, model: Any) -> Iterator[NDArray[np.float32]]:
    """What our tiles answer for, without context: blocks that share no voxel."""
    layout = Layout(plan, model.spec)
    for number in range(layout.tiles):
        frame, tile = layout.tile(number)
        pixels = Reader(plan, image, frame, tile.core, layout.grids, len(model.spec.channels)).read(tile.core)
        yield tiles.padded(pixels, model.spec.multiple[-len(plan.axes) :])[None]


class Timed:
    """A model that counts the CPU seconds of its predictions, and beside each those of the raw forward of one of `blocks`.

    One after the other, since other programs change how fast the machine is meanwhile.
    """

    def __init__(self, model: Any, blocks: Iterator[NDArray[np.float32]]) -> None:
        self.model, self.spec, self.blocks, self.seconds, self.raw_s, self.aside_s = model, model.spec, blocks, 0.0, 0.0, 0.0

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        """As the model does."""
        begin = time.thread_time()
        for block in islice(self.blocks, len(batch)):
            self.raw_s += _raw(self.model, block)
        start = time.thread_time()
        answer: Prediction = self.model.predict(batch)
        self.seconds += time.thread_time() - start
        self.aside_s += start - begin
        return answer


def _raw(model: Any, block: NDArray[np.float32]) -> float:
    """CPU seconds of the network alone."""
    import torch

    batch = torch.from_numpy(block).contiguous(memory_format=model.layout)
    start = time.thread_time()
    with torch.inference_mode():
        model.net(batch)
    return time.thread_time() - start


def _monai_time(dims: int, plan: Plan, image: Image, model: Any, part: Shape, overlap: float) -> None:
    """MONAI's sliding window over the raw forward of the same part, both with windows of the same size."""
    try:
        from monai.inferers import sliding_window_inference
    except ImportError:
        return
    import torch

    layout = Layout(plan, model.spec)
    everything = tuple((0, n) for n in part)
    window = tuple(min(w, n) for w, n in zip(PEERS[dims], part, strict=True))
    pixels = Reader(plan, image, layout.tile(0)[0], everything, layout.grids, len(model.spec.channels)).read(everything)
    batch = torch.from_numpy(np.ascontiguousarray(pixels[None]))
    blocks = [box for _, box in boxes(part, window)]
    with torch.inference_mode():
        raw = sum(cpu(lambda b=b: model.net(batch[(slice(None), slice(None), *b)])) for b in blocks)  # type: ignore[misc]
        theirs = cpu(lambda: sliding_window_inference(batch, window, 1, model.net, overlap=overlap))
    row(f"MONAI, overlap {overlap}, {' x '.join(map(str, part))}", f"{theirs / raw:.3f}")
