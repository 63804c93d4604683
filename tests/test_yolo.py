"""Networks that answer with boxes and prototypes of masks: objects are where they are, in any chunks; what is something else is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from napari_segsuite import load_model, load_spec, segment
from napari_segsuite.codecs import prototypes
from napari_segsuite.codecs.instances import LEAST, Objects
from napari_segsuite.codecs.prototypes import Boxes
from napari_segsuite.errors import ModelError, OptionError
from napari_segsuite.models.foreign import whole
from napari_segsuite.models.foreign.draft import Draft
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.store import add

Array = NDArray[Any]
SIDE, STEP, RADIUS, BOX = 64, 2, 5, 14
KINDS = ("1:red disc", "2:green disc")
EIGHT_BIT = "scale:0.00392156862745098"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def spotter(path: Path, layout: str = "yolov8-seg", **changes: Array) -> Path:
    """A network that sees discs by how well they fit a disc with a dark ring around it: a box per place, and their brightness as a mask.

    Parameters
    ----------
    layout : str
        How it answers.
    changes : array
        Instead of its constants.
    """
    places = SIDE // STEP
    y, x = np.mgrid[-8:9, -8:9]
    far = np.hypot(y, x)
    disc, ring = far <= RADIUS, (far > RADIUS) & (far <= RADIUS + 2)
    fit = np.zeros((2, 3, 17, 17))
    fit[0, 0] = fit[1, 1] = disc / disc.sum() - ring / ring.sum()
    grid = np.stack(np.meshgrid(*[np.arange(places) * STEP + 0.5] * 2)).reshape(2, -1)  # x, y of pixels' middles
    constants: dict[str, Array] = {
        "fit": fit,
        "pool": np.stack([np.broadcast_to(np.array([1, 1, 0])[:, None, None], (3, 4, 4)) / 16, np.zeros((3, 4, 4))]),
        "bias": np.array([0.0, 1.0]),
        "boxes": np.concatenate([grid, np.full_like(grid, BOX)])[None],
        "mix": np.broadcast_to(np.array([20.0, -10.0])[:, None], (2, places**2))[None],
        "sure": np.ones((1, 1, places**2)),
        "low": np.zeros(()),
        "high": np.ones(()),
    }
    known = [numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name) for name, value in {**constants, **changes}.items()]
    known.append(numpy_helper.from_array(np.array([1, 2, -1]), "flat"))
    columns = layout == "yolov8-seg"
    parts = ["boxes", *([] if columns else ["sure"]), "scores", "mix"]
    nodes = [
        helper.make_node("Conv", ["images", "fit"], ["raw"], pads=[8] * 4, strides=[STEP] * 2),
        helper.make_node("Clip", ["raw", "low", "high"], ["between"]),
        helper.make_node("Reshape", ["between", "flat"], ["scores"]),
        helper.make_node("Concat", parts, ["output0" if columns else "turned"], axis=1),
        *([] if columns else [helper.make_node("Transpose", ["turned"], ["output0"], perm=[0, 2, 1])]),
        helper.make_node("Conv", ["images", "pool", "bias"], ["output1"], strides=[4, 4]),
    ]
    ends = [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, SIDE, SIDE])]
    ends += [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("output0", "output1")]
    graph = helper.make_graph(nodes, "spotter", ends[:1], ends[1:], known)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def discs(shape: tuple[int, int], count: int, seed: int) -> tuple[Array, Array]:
    """Discs in red or green, some of them at the border, and their labels: odd numbers are red."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    pixels, labels, middles = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.int32), list[Array]()
    while len(middles) < count:
        middle = 2 * (rng.integers(0, shape) // 2)
        if all(np.hypot(*(middle - other)) > 2 * RADIUS + 4 for other in middles):
            middles.append(middle)
            inside = np.hypot(y - middle[0], x - middle[1]) <= RADIUS
            labels[inside] = len(middles)
            pixels[inside, (len(middles) - 1) % 2] = 255
    return pixels, labels


def test_objects_are_found_where_they_are_in_any_chunks(tmp_path: Path, segsuite: Callable[..., Any]) -> None:
    path = spotter(tmp_path / "discs.onnx")
    said = ("--layout", "yolov8-seg", "--normalize", EIGHT_BIT, "--classes", ",".join(KINDS))
    assert segsuite("models", "add", path, *said).out == "added discs: instance, yx, classes red disc, green disc; use it with --model discs\n"
    spec = load_spec("discs")
    assert (spec.tile, spec.context, spec.multiple, spec.channels) == ((64, 64), (16, 16), (1, 1), ("red", "green", "blue"))
    pixels, labels = discs((150, 171), 40, seed=1)
    found = segment(pixels, model="discs", min_size_px=0)
    assert len(found.segments["id"]) == 40
    pairs = {(int(a), int(b)) for a, b in zip(np.asarray(found.labels).ravel(), labels.ravel(), strict=True) if a and b}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) == 40
    for mine, true in pairs:
        a, b = np.asarray(found.labels) == mine, labels == true
        assert (a & b).sum() > 0.65 * (a | b).sum()  # masks have a quarter of the pixels
        assert found.segments["class_id"][found.segments["id"] == mine] == 2 - true % 2
    for chunk in ((150, 40), (33, 71)):
        np.testing.assert_array_equal(segment(pixels, model="discs", min_size_px=0, chunk=chunk).labels, found.labels)


def test_both_layouts_are_read_the_same_and_a_grey_image_is_repeated(tmp_path: Path) -> None:
    pixels = discs((64, 64), 6, seed=2)[0]
    answers = []
    for layout in ("yolov8-seg", "yolov5-seg"):
        path = spotter(tmp_path / f"{layout}.onnx", layout)
        path.with_suffix(".json").write_text(json.dumps({"layout": layout, "normalize": EIGHT_BIT, "classes": KINDS}))
        add(str(path))
        answers.append(segment(pixels, model=layout, min_size_px=0))
        grey = segment(pixels[..., 0], model=layout, min_size_px=0)
        assert sorted(set(grey.segments["class_id"])) == [1]
        assert len(grey.segments["id"]) == 3
    np.testing.assert_array_equal(answers[0].labels, answers[1].labels)
    assert len(answers[0].segments["id"]) == 6
    half = spotter(tmp_path / "half.onnx", "yolov5-seg", sure=np.full((1, 1, 1024), 0.2))  # objectness counts
    add(str(half), Form(layout="yolov5-seg", normalize=EIGHT_BIT, classes=KINDS))
    assert len(segment(pixels, model="half", min_size_px=0).segments["id"]) == 0
    assert len(segment(pixels, model="half", min_size_px=0, center=0.1).segments["id"]) == 6


def test_statistics_of_the_image_serve_as_well(tmp_path: Path) -> None:
    pixels = discs((64, 64), 6, seed=2)[0] // 3 + 30
    add(str(spotter(tmp_path / "net.onnx")), Form(layout="yolov8-seg", normalize="percentiles:0:100", classes=KINDS))
    assert len(segment(pixels, model="net", min_size_px=0).segments["id"]) == 6


# Decoding -----------------------------------------------------------------------------------------------------------------------------


def scene(seed: int, count: int, size: tuple[int, int]) -> tuple[Boxes, Array]:
    """Boxes in heaps, some beyond the border or thinner than a pixel, with ties in scores, and prototypes."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(-5, np.array(size)[::-1] + 5, (max(count // 4, 1), 2))[rng.integers(0, max(count // 4, 1), count)]
    half = rng.choice([0.2, 4, 9, 30], (count, 1)) * rng.uniform(0.8, 1.2, (count, 2))
    middle += rng.normal(0, 1.5, (count, 2))
    score = rng.choice([0.3, 0.9], count) if seed % 2 else rng.random(count)
    masks = rng.normal(0, 2, (4, 1 + size[0] // 4, 1 + size[1] // 4)).astype(np.float32)
    mix = rng.normal(0, 1, (count, 4)).astype(np.float32)
    return Boxes(np.concatenate([middle - half, middle + half], 1), score, rng.integers(1, 3, count), mix), masks


def slow_suppressed(found: Boxes, overlap: float) -> list[int]:
    """One pair after the other."""
    stay: list[int] = []
    for i in sorted(range(len(found.score)), key=lambda i: -found.score[i]):
        for j in stay:
            a, b = found.corners[i], found.corners[j]
            common = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
            if found.kind[i] == found.kind[j] and common > overlap * union:
                break
        else:
            stay.append(i)
    return stay


@given(st.integers(0, 999), st.integers(1, 60), st.sampled_from([0.0, 0.3, 0.7]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_boxes_are_suppressed_as_one_by_one(seed: int, count: int, overlap: float) -> None:
    found = scene(seed, count, (50, 70))[0]
    assert prototypes.suppressed(found, overlap).tolist() == slow_suppressed(found, overlap)


def test_boxes_are_suppressed_as_by_torchvision() -> None:
    try:
        from torchvision.ops import batched_nms
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision is not installed: {error}")
    found = scene(2, 500, (200, 200))[0]
    stay = batched_nms(*(torch.from_numpy(v) for v in (found.corners, found.score, found.kind)), 0.5).numpy()
    np.testing.assert_array_equal(prototypes.suppressed(found, 0.5), stay)
    assert 50 < len(stay) < 450


def slow_objects(found: Boxes, masks: Array, size: Sequence[int], shape: Sequence[int]) -> list[tuple[float, int, Array]]:
    """Score, class and probabilities (0..255) of the boxes that stay: whole masks, made large and cut."""
    out = []
    for k in slow_suppressed(found, prototypes.OVERLAP):
        mask = torch.einsum("k,khw->hw", torch.from_numpy(found.mix[k]), torch.from_numpy(masks)).sigmoid()
        large = torch.nn.functional.interpolate(mask[None, None], tuple(size), mode="bilinear", align_corners=False)[0, 0].numpy()
        x0, y0, x1, y1 = found.corners[k]
        y, x = (np.arange(n) + 0.5 for n in size)
        large = large * ((y >= y0) & (y < y1))[:, None] * ((x >= x0) & (x < x1))
        large = large[: shape[0], : shape[1]] * 255
        if (np.rint(large) >= LEAST).any():
            out.append((found.score[k], int(found.kind[k]), large))
    return out


@given(st.integers(0, 999), st.integers(1, 40), st.sampled_from([((64, 64), (64, 64)), ((50, 71), (33, 71)), ((5, 9), (4, 2))]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_masks_are_those_of_whole_maps_made_large_and_cut(seed: int, count: int, sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    boxes, masks = scene(seed, count, sizes[0])
    found, wanted = prototypes.objects(boxes, masks, *sizes), slow_objects(boxes, masks, *sizes)
    assert [(round(255 * s), k) for s, k, _ in wanted] == list(zip(found.score.tolist(), found.kind.tolist(), strict=True))
    for k, (_, _, large) in enumerate(wanted):
        mine = np.zeros(sizes[1])
        mine[tuple(found.voxel[found.owner == k].T)] = found.value[found.owner == k]
        unsure = abs(large - LEAST + 0.5) < 1e-3  # rounded to other sides
        np.testing.assert_allclose(np.where(unsure, 0, mine), np.where(unsure | (large < LEAST - 0.5), 0, large), atol=0.501)


def test_what_a_hostile_answer_costs_is_bounded() -> None:
    rng = np.random.default_rng(0)
    scores, mix = rng.uniform(0.5, 1, (20000, 1)).astype(np.float32), np.ones((20000, 2), np.float32)
    places = np.tile(np.array([32, 32, 1e30, 1e30], np.float32), (20000, 1))
    kinds = np.tile(scores, (1, 200)) * rng.uniform(0.9, 1, (20000, 200)).astype(np.float32)
    spread = rng.uniform(0, 256, (20000, 4)).astype(np.float32)
    start = time.process_time()
    for where, how in ((places, scores), (spread, kinds)):
        boxes = prototypes.boxes(where, how, mix, np.arange(1, 1 + how.shape[1]))
        found = prototypes.objects(boxes, np.ones((2, 64, 64), np.float32), (256, 256), (256, 256))
        assert len(boxes.score) <= prototypes.CANDIDATES
        assert 1 <= len(found.score) <= prototypes.MOST
        assert len(found.voxel) <= prototypes.ROOM * 256**2
    assert time.process_time() - start < 5


# Refusals -----------------------------------------------------------------------------------------------------------------------------

LACKING: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"normalize": ""}, OptionError, r"Needed: --normalize\."),
    ({"layout": "", "codec": "objects"}, OptionError, "how the network writes them: --layout, one of yolov8-seg, yolov5-seg"),
    ({"layout": "yolov5-seg"}, ModelError, r"\(1, 8, 1024\) and \(1, 2, 16, 16\), which leaves room for 1017 classes.*Say another --layout"),
    ({"classes": ()}, OptionError, "answers with 2 channels, and what they stand for is not said"),
    ({"classes": ("1:a",)}, OptionError, r"Needed: 2 things, in the network's order"),
    ({"classes": ("1:a:stuff", "2:b")}, OptionError, r"Needed: 2 things"),
    ({"channels": ("grey",)}, OptionError, "takes 3 channels"),
    ({"axes": "zyx"}, OptionError, r"Axes is 'zyx' with the layout yolov8-seg\. Needed: yx"),
    ({"codec": "centers"}, OptionError, r"Needed: objects"),
    ({"outputs": ("semantic=0",)}, OptionError, r"Needed: nothing"),
    ({"context": (40, 40)}, OptionError, "leaves nothing of it"),
]


@pytest.mark.parametrize(("change", "kind", "told"), LACKING)
def test_what_does_not_fit_is_said(change: dict[str, Any], kind: type[Exception], told: str, tmp_path: Path, home: Path) -> None:
    said: dict[str, Any] = {"layout": "yolov8-seg", "normalize": EIGHT_BIT, "classes": KINDS, **change}
    with pytest.raises(kind, match=told):
        add(str(spotter(tmp_path / "net.onnx")), Form(**said))
    assert list(home.iterdir()) == []


def test_a_layout_that_is_not_known_is_refused() -> None:
    with pytest.raises(OptionError, match=r"Layout is 'yolo'\. Needed: yolov8-seg, yolov5-seg"):
        Form(layout="yolo")


def test_a_layout_is_for_a_network_alone() -> None:
    told = Draft("yx", ("grey",), {}, {}, ({"axes": "bcyx"},), (), {})
    with pytest.raises(OptionError, match="a package says itself what it answers with"):
        whole.finished(told, Form(layout="yolov8-seg"), [], {}, "package")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"boxes": np.full((1, 4, 1024), np.nan)}, "The network's answer is not finite"),
        ({"bias": np.array([0, np.inf])}, "The network's answer is not finite"),
    ],
)
def test_answers_that_are_not_finite_are_refused(changes: dict[str, Array], told: str, tmp_path: Path, home: Path) -> None:
    with pytest.raises(ModelError, match=told):
        add(str(spotter(tmp_path / "net.onnx", **changes)), Form(layout="yolov8-seg", normalize="none", classes=KINDS))
    assert list(home.iterdir()) == []


def test_answers_of_another_shape_are_refused_whenever_they_come() -> None:
    told = {"layout": "yolov8-seg", "answers": [0, 1], "kinds": [1, 2]}
    good = [torch.zeros(1, 8, 84), torch.zeros(1, 2, 16, 16)]
    found: Objects = whole.read(told, good, (64, 64), (64, 64))["objects"][0]
    assert len(found.score) == 0
    wrong: list[tuple[torch.Tensor, ...]] = [
        (torch.zeros(1, 9, 84), good[1]), (torch.zeros(1, 84, 8), good[1]), (torch.zeros(8, 84), good[1]), (good[0], torch.zeros(1, 3, 16, 16)),
        (good[0], torch.zeros(2, 16, 16)), (good[0], torch.zeros(2, 2, 16, 16)), (good[0], torch.zeros(1, 2, 0, 16)),
    ]  # fmt: skip
    for answers in wrong:
        with pytest.raises(ModelError, match=r"answers with tensors of shape .* of 2 classes"):
            whole.read(told, answers, (64, 64), (64, 64))
    with pytest.raises(ModelError, match=r"answers with 1 tensors\. Needed: 2 at least"):
        whole.read(told, good[:1], (64, 64), (64, 64))
    none = whole.read(told, [torch.zeros(1, 8, 0), good[1]], (64, 64), (64, 64))["objects"][0]
    assert len(none.score) == 0


def test_what_model_json_says_is_checked_again(tmp_path: Path, home: Path) -> None:
    add(str(spotter(tmp_path / "net.onnx")), Form(layout="yolov8-seg", normalize="none", classes=KINDS))
    path = home / "net" / "model.json"
    told = json.loads(path.read_text())
    for key, value in (("layout", "mine"), ("answers", [0, 9]), ("kinds", [1]), ("kinds", "x")):
        path.write_text(json.dumps({**told, "net": {**told["net"], "objects": {**told["net"]["objects"], key: value}}}))
        with pytest.raises(ModelError):
            load_model("net", device="cpu").predict(np.zeros((1, 3, 64, 64), np.float32))
