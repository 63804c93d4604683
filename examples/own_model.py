"""A model of one's own: any object with a `spec` and a method `predict`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_segsuite import Class, segment
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Head, ModelSpec, Prediction

REACH = 24  # pixels; further away than this nothing changes what the model says


class Blobs:
    """Objects are where a picture blurred a little is clearly brighter than the same picture blurred a lot."""

    spec = ModelSpec(
        name="blobs",
        axes="yx",
        channels=("grey",),
        heads=(Head("semantic", 2, "logits"),),  # background and one class
        classes=(Class(1, "blob"),),
        codec="semantic",  # objects are what touches
        tile=(128, 128),
        multiple=(1, 1),
        context=(REACH, REACH),
    )

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        """Probabilities (N, 2, Y, X) of normalised pixels (N, 1, Y, X)."""
        fine, coarse = (gaussian_filter(batch, (0, 0, s, s), radius=(0, 0, REACH, REACH)) for s in (1, 8))
        blob = np.clip(0.5 + 4 * (fine - coarse - 0.1), 0, 1)
        return Prediction({"semantic": np.concatenate([1 - blob, blob], axis=1)})


def main() -> None:
    pixels, truth = nuclei((200, 200), "yx", crowding=0.2, seed=6)
    found = segment(pixels, Blobs(), min_size_px=30)
    print(f"{len(found.segments['id'])} blobs, {truth.max()} true nuclei")
    chunked = segment(pixels, Blobs(), min_size_px=30, chunk=(70, 70))
    print(f"the same in chunks: {np.array_equal(found.labels, chunked.labels)}")


if __name__ == "__main__":
    main()
