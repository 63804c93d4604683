"""What may be compared and in which form it may come; what may not is refused with its place."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import zarr

from napari_segsuite.errors import InputError, OptionError
from napari_segsuite.metrics import evaluate, matching, overlap, overlap_blocks
from napari_segsuite.types import Class, Segmentation

DTYPES = ("?", "i1", "u1", "<i2", ">i2", ">u2", "<u4", ">i8", "<u8", ">u8", "<f2", ">f4", "f8")


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_type_byte_order_and_layout_gives_the_same_table(dtype: str) -> None:
    plain = (np.arange(60).reshape(3, 4, 5) % 7 > 3).astype(np.uint8)
    given = plain.astype(dtype)
    given.flags.writeable = False
    layouts = [given, np.asfortranarray(given), np.ascontiguousarray(given[::-1])[::-1], np.repeat(given, 2, axis=2)[..., ::2]]
    assert all(overlap(plain, layout) == overlap(layout, plain) == overlap(plain, plain) for layout in layouts)


def test_huge_ids_stay_apart_and_cost_nothing() -> None:
    true = np.array([2**64 - 1, 2**64 - 2, 2**53, 2**53 + 1, 0], np.uint64).repeat(1000)
    tracemalloc.start()
    scores = evaluate(true[::-1], true[::-1], true_classes={2**64 - 1: 1}, pred_classes={2**64 - 1: 1})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (scores.n_true, scores.objects.tp, scores.classes[0].region.true) == (4, 4, 1000)
    assert peak < 2**20


def test_real_numbers_close_to_integers_are_rounded() -> None:
    stored = np.array([0.0, 0.9999, 7014.9999, 7014.9995, -0.0004], np.float32)
    assert overlap(stored, stored).true.tolist() == [0, 1, 7015]


BAD: tuple[tuple[Any, str], ...] = (
    (
        [[0, 1], [0.37, 1]],
        "The prediction has non-integer values (0.37 at (1, 0)): is it a probability map? Needed: integer labels, 0 for background.",
    ),
    ([[0, 1], [0, np.nan]], "The prediction has non-integer values (nan at (1, 1)): is it a probability map?"),
    ([[np.inf, 1], [0, 1]], "The prediction has non-integer values (inf at (0, 0)): is it a probability map?"),
    ([[0, -1.0], [0, 1]], "The prediction has negative ids (-1 at (0, 1)). Needed: ids from 0, which is background. If -1 marks"),
    ([[0, 1, 1], [0, 1, 1]], "The prediction has shape (2, 3) and the truth (2, 2). Needed: the same shape."),
    ([[1j, 0], [0, 0]], "The prediction is of type complex128. Needed: integer labels, 0 for background."),
)


@pytest.mark.parametrize(("pred", "text"), BAD)
def test_bad_labels_are_named_with_their_place(pred: Any, text: str) -> None:
    true = np.zeros((2, 2), np.uint8)
    with pytest.raises(InputError) as caught:
        evaluate(np.array(pred), true)
    assert str(caught.value).startswith(text)
    with pytest.raises(InputError, match=r"'b\.tif': the prediction "):
        evaluate([true, np.array(pred)], [true, true], names=["a.tif", "b.tif"])


def test_place_of_a_bad_value_is_that_in_the_whole_array() -> None:
    true = np.zeros((4, 6))
    pred = true.copy()
    pred[3, 4] = 0.5
    with pytest.raises(InputError, match=r"0\.5 at \(3, 4\)"):
        overlap_blocks(true, pred, block=(2, 3))


def test_ignored_voxels_are_left_out_on_both_sides() -> None:
    true, pred = np.array([-1, -1, 1, 1, 0, 2]), np.array([3, 1, 1, 1, 0, 2])
    with pytest.raises(InputError, match=r"The truth has negative ids \(-1 at \(0,\)\).*say ignore_label=-1"):
        evaluate(pred, true)
    scores = evaluate(pred, true, ignore_label=-1)
    assert (scores.ap[0.95], scores.n_true, scores.n_pred, scores.dice) == (1, 2, 2, 1)
    assert evaluate(pred, np.where(true < 0, 255, true).astype(np.uint8), ignore_label=255).to_json() == scores.to_json()


def test_numbers_of_images_must_agree() -> None:
    image = np.zeros((2, 2), np.uint8)
    with pytest.raises(InputError, match="Truth number 2 has no prediction"):
        evaluate([image], [image, image])
    with pytest.raises(InputError, match="Prediction number 1 is a list"):
        evaluate([[0, 1]], [image])  # type: ignore[list-item]
    with pytest.raises(InputError, match="There are no images to evaluate"):
        evaluate([], [])
    with pytest.raises(OptionError, match="The IoU threshold is 0"):
        matching(overlap(image, image), 0)
    with pytest.raises(OptionError, match=r"A matching at IoU 0\.3 does not tell that at 0\.5"):
        matching(overlap(image, image), 0.3).at(0.5)


def segmentation(labels: Any, class_of: dict[int, int], axes: str = "yx") -> Segmentation:
    classes = (Class(1, "tissue", countable=False), Class(2, "nucleus"))
    table = {"id": np.array(list(class_of)), "class_id": np.array(list(class_of.values()))}
    return Segmentation(labels, table, classes, axes, (1.0,) * len(axes), ("pixel",) * len(axes), (0.0,) * len(axes))


def test_classes_come_from_the_tables_of_segmentations() -> None:
    true = segmentation(np.array([[1, 1, 1, 1, 2, 2, 3, 3, 4]]), {1: 1, 2: 2, 3: 2})
    pred = segmentation(np.array([[1, 1, 1, 3, 2, 2, 5, 5, 5]]), {1: 1, 2: 2, 3: 2, 5: 1})
    scores = evaluate([pred, pred], [true, true])
    told = scores.to_json()
    # By overlap alone, 3 and 5 are partners; by class they are not. Segment 4 is in no table and so in no class.
    assert (scores.objects.tp, told["pq"]) == (6, pytest.approx((0.75 + 1 + 2 / 3) / 4))
    tissue, nucleus = told["classes"]
    assert (tissue["name"], tissue["tp"], tissue["fp"], tissue["fn"], tissue["pq"]) == ("tissue", 2, 2, 0, 0.75 * 2 / 3)
    assert (nucleus["name"], nucleus["tp"], nucleus["fp"], nucleus["fn"], nucleus["pq"]) == ("nucleus", 2, 2, 2, 0.5)
    assert (tissue["dice"], nucleus["iou"]) == (2 * 3 / (4 + 6), 2 / 5)
    assert told["class_means"]["pq"] == pytest.approx((0.5 + 0.5) / 2)
    assert "classes" not in evaluate(pred, true.labels).to_json()
    assert evaluate(pred, true.labels, true_classes={1: 1, 2: 2, 3: 2}).to_json()["classes"][0]["fp"] == 1


def test_time_points_are_judged_one_by_one() -> None:
    true = np.array([[[1, 1, 0, 0]], [[0, 0, 2, 2]]])
    pred = segmentation(np.array([[[9, 9, 0, 0]], [[0, 0, 9, 9]]]), {9: 2}, axes="tyx")
    scores = evaluate(pred, true, names=["film"])
    assert (scores.ap[0.95], scores.n_pred, [s.name for s in scores.images]) == (1, 2, ["film t=0", "film t=1"])
    assert evaluate(pred.labels, true).n_pred == 1


def test_pairs_are_read_one_at_a_time_and_chunked_arrays_are_welcome() -> None:
    read: list[str] = []
    images = [np.kron(np.arange(12).reshape(3, 4), np.ones((4, 5), np.int32)) * (k + 1) for k in range(3)]

    def files(side: str) -> Iterator[Any]:
        for k in range(3):
            read.append(f"{side}{k}")
            yield zarr.create_array({}, data=images[k], chunks=(5, 7))

    scores = evaluate(files("pred"), files("true"))
    assert read == ["pred0", "true0", "pred1", "true1", "pred2", "true2"]
    assert (scores.ap[0.95], scores.n_true, scores.foreground.true) == (1, 33, 3 * 11 * 20)


def test_importing_metrics_is_cheap() -> None:
    code = "import sys, napari_segsuite.metrics.scores as s; print(sorted({m.partition('.')[0] for m in sys.modules} & set(sys.argv[1:])))"
    heavy = ["torch", "scipy", "skimage", "zarr", "dask", "napari", "qtpy", "numpy"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.strip() == "['numpy']"
