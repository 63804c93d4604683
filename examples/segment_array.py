"""Segment a numpy array: labels, and a table with one row per object."""

from __future__ import annotations

from napari_segsuite import segment
from napari_segsuite.synthetic import nuclei


def main() -> None:
    pixels, _ = nuclei((256, 256), "yx", crowding=0.15, seed=1)
    # "otsu" is the quick classical model; leave it out, and the neural network "nuclei" is used.
    found = segment(pixels, "otsu", min_size_px=20)
    table = found.segments  # columns; pandas.DataFrame(table) makes a data frame of them
    print(f"{found.task} segmentation, labels {found.labels.shape} {found.labels.dtype}")
    print(f"{len(table['id'])} objects, columns: {', '.join(table)}")
    largest = table["size"].argmax()
    print(f"the largest is number {table['id'][largest]}, {table['size'][largest]} pixels, score {table['score'][largest]:.2f}")


if __name__ == "__main__":
    main()
