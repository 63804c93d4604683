"""What a run over a large volume costs, each figure as a ratio to a peer or to a floor of the same run.

    python -m benchmarks volumes [--only NAME ...] [--quick] [--tiles Y,X Z,Y,X] [--models NAME NAME] [--plot FILE]

- tiling      the whole run over the raw forward of the same voxels, and what other tilings compute
- stitching   components of a volume by pieces of chunks, beside labelling the whole array
- writing     labels to OME-Zarr beside tensorstore and zarr-python, and the pyramid over the finest level
- linking     joining 10,000 chunks as a share of a run
- memory      peak memory of a volume and of one eight times as large; 4 GiB of pixels under a limit of 2 GiB; forecasts
- overlap     how long the network waits for reading, decoding and writing
- curve       time and memory over the size of the volume

Times are CPU seconds of one thread unless said otherwise. A part whose peer is not installed says so and goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from napari_segsuite.allocator import keep_memory

PARTS = ("tiling", "stitching", "writing", "linking", "memory", "overlap", "curve")


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks volumes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="NAME", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes that show that it works, not how fast it is")
    parser.add_argument("--tiles", nargs=2, metavar=("Y,X", "Z,Y,X"), help="other tiles than the models': in 2D and in 3D")
    parser.add_argument("--models", nargs=2, default=("nuclei", "nuclei-3d"), help="models for the part on tiling: in 2D and in 3D")
    parser.add_argument("--plot", type=Path, help="draw the curve into this file (needs matplotlib)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts one after the other."""
    import torch

    torch.set_num_threads(1)
    keep_memory()  # as the command line does
    options = parsed(argv)
    for name in options.only:
        import_module(f"benchmarks.volumes.{name}").main(options)
