"""Work through a volume in pieces: the labels and the table are those of the whole, bit by bit."""

from __future__ import annotations

import numpy as np

from napari_segsuite import segment
from napari_segsuite.synthetic import nuclei


def main() -> None:
    pixels, _ = nuclei((24, 96, 112), "zyx", crowding=0.2, seed=3)
    whole = segment(pixels, "otsu")
    parts = segment(pixels, "otsu", chunk=(8, 40, 40))  # voxels along z, y, x; they need not divide the volume
    pieces = np.prod([-(-n // c) for n, c in zip(pixels.shape, (8, 40, 40), strict=True)])
    print(f"a volume of {pixels.shape}, at once and in {pieces} chunks: {len(whole.segments['id'])} and {len(parts.segments['id'])} objects")
    print(f"equal labels: {np.array_equal(whole.labels, parts.labels)}")
    print(f"equal tables: {all(np.array_equal(whole.segments[name], parts.segments[name]) for name in whole.segments)}")


if __name__ == "__main__":
    main()
