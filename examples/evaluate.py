"""Compare results with the truth: one image, and several images pooled."""

from __future__ import annotations

from napari_segsuite import evaluate, segment
from napari_segsuite.synthetic import nuclei


def main() -> None:
    pairs = [nuclei((160, 160), "yx", crowding=crowding, seed=5) for crowding in (0.05, 0.15, 0.3)]
    found = [segment(pixels, "otsu").labels for pixels, _ in pairs]
    truth = [labels for _, labels in pairs]
    print(f"one image: {evaluate(found[0], truth[0])}")
    scores = evaluate(found, truth, names=["sparse", "dense", "crowded"])
    for image in scores.images:
        print(f"{image.name:8} {image.n_true} true, {image.n_pred} found, AP at IoU 0.5 {image.ap[0.5]:.2f}, Dice {image.dice:.2f}")
    print(f"pooled   {scores.n_true} true, {scores.n_pred} found, AP at IoU 0.5 {scores.ap[0.5]:.2f}, Dice {scores.dice:.2f}")
    print("touching nuclei become one object for a threshold: AP falls with crowding, Dice hardly does")


if __name__ == "__main__":
    main()
