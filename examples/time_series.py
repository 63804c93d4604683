"""Segment a time series frame by frame, with one contrast for all frames, and count the objects over time."""

from __future__ import annotations

import numpy as np

from napari_segsuite import Image, segment
from napari_segsuite.synthetic import nuclei


def main() -> None:
    pixels, _ = nuclei((5, 128, 160), "tyx", crowding=0.15, speed_um=2.0, seed=4)
    scale, units = (5.0, 0.4, 0.4), ("minute", "micrometer", "micrometer")
    series = Image((pixels,), axes="tyx", scale=scale, units=units, translate=(0.0,) * 3, name="series")
    found = segment(series, "otsu", min_size_px=30)
    frame = found.segments["bbox_t0"]  # an object lies in one frame: its box along t is one wide
    for t in range(len(pixels)):
        size = found.segments["size"][frame == t]
        print(f"after {t * scale[0]:2.0f} {units[0]}s: {len(size)} objects, mean size {size.mean():.0f} pixels")
    ids = found.segments["id"]
    print(f"ids run through all frames, 1 to {ids.max()}, none twice: {len(np.unique(ids)) == len(ids)}; they are not tracks")


if __name__ == "__main__":
    main()
