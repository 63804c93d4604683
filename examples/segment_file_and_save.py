"""From a file to files: write an OME-TIFF with its pixel size, segment it, save labels and table, and read them back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_segsuite import Image, read, read_segmentation, segment, write
from napari_segsuite.io.table import write_table
from napari_segsuite.synthetic import nuclei

FOLDER = Path("example-results")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    pixels, _ = nuclei((200, 300), "yx", scale_um=(0.4, 0.4), crowding=0.15, seed=2)
    image = Image((pixels,), axes="yx", scale=(0.4, 0.4), units=("micrometer",) * 2, translate=(0.0, 0.0), name="cells")
    write(image, FOLDER / "cells.ome.tif", overwrite=True)

    found = segment(read(FOLDER / "cells.ome.tif"), "otsu")
    area = found.segments["size"] * float(np.prod(found.scale))
    print(f"{len(area)} objects, median area {np.median(area):.1f} um2 with pixels of {found.scale[0]} {found.units[0]}")

    labels = write(found, FOLDER / "cells_labels.ome.zarr", overwrite=True)
    write_table(found.segments, FOLDER / "cells_segments.csv", overwrite=True)
    again = read_segmentation(labels)
    same = np.array_equal(again.labels[...], found.labels) and all(np.array_equal(again.segments[k], found.segments[k]) for k in found.segments)
    print(f"read back from {labels.name}: scale {again.scale}, made with {again.provenance['plan']['model']['name']}, equal: {same}")


if __name__ == "__main__":
    main()
