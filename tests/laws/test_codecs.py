"""Law 1: decode(encode(labels)) gives the labels back.

What is claimed, and tested, is this:

`centers`
    The *identical* partition, for objects of any shape and size, down to one voxel, if
    (a) each object is connected by faces (of others, the largest part is kept),
    (b) no voxel is farther than ``longest`` voxels along any axis from its object's medoid, and
    (c) the medoids of two objects are more than ``window`` voxels apart along some axis: nearer ones are one peak, and the objects one.
    It holds for every class set and sampling, and classes survive: a segment's class is that of its object.
`flows`
    The same with ``smooth=0`` and ``least=1``, if the way inside the object to its medoid has at most ``steps`` voxels instead of (b). With the
    defaults, which are made for maps with noise, objects of fewer than ``least`` voxels are lost, and thin ones may be.
`boundaries`
    The same with ``smooth=0`` and ``merge=0``, wherever the medoids are, if what is not outline is connected in each object and each voxel of its
    outline is next to some of that, as where all its parts are three voxels wide; and if the way to its middle has at most ``steps`` voxels.
`semantic`
    The identical class of every voxel; objects are the face-connected components of a class, so touching ones of one class are one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_segsuite import codecs, metrics
from napari_segsuite.codecs import centers, flows, pieces, runs, semantic, targets
from napari_segsuite.engine.link import link
from napari_segsuite.engine.tiles import quantize
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Class, Head

Array = NDArray[Any]

FEW = settings(max_examples=25, deadline=None, derandomize=True)
CELL = (Class(1, "cell"),)
KINDS = (Class(1, "cell"), Class(2, "debris"))
LAND = (Class(1, "tissue", countable=False), Class(2, "glass", countable=False))
BOTH = (*LAND, Class(3, "cell"), Class(4, "debris"))
CLASS_SETS = {"one kind": CELL, "two kinds": KINDS, "panoptic": BOTH}
NO_PAIRS = np.zeros((0, 2), np.int64)
EXACT: dict[str, dict[str, Any]] = {
    "centers": {"window": 2},
    "flows": {"window": 2, "smooth": 0, "least": 1, "steps": 512},
    "boundaries": {"smooth": 0, "merge": 0, "steps": 4096, "level": 4096},
}
"""Codecs that keep touching objects apart, and the options with which they give every object back."""

each_codec = pytest.mark.parametrize("name", EXACT)


def perfect(encoded: Mapping[str, Array], heads: Sequence[Head]) -> dict[str, Array]:
    """The activated maps of a network that makes no mistake, as the integers that decoding gets."""
    first = heads[0]
    maps: dict[str, Array] = {first.name: np.stack([encoded["semantic"] == k for k in range(first.channels)]).astype(np.float32)}
    maps |= {h.name: encoded[h.name] for h in heads[1:]}
    return {h.name: quantize(h, maps[h.name]) for h in heads}


def decode(name: str, maps: Mapping[str, Array], classes: Sequence[Class], **options: Any) -> tuple[Array, dict[str, Array]]:
    """Labels and table of one frame of maps."""
    shape = maps["semantic"].shape[1:]
    origin = (0,) * len(shape)
    assigned = codecs.codec(name).assign(maps, classes, options, origin, shape, (1.0,) * len(shape))
    found = pieces.collect(assigned, classes, origin, shape)
    linked = link([found.rows], NO_PAIRS, classes, "zyx"[-len(shape) :])
    return np.concatenate([[0], linked.final])[found.labels], linked.segments


def filled(found: pieces.Assigned, values: Array) -> Array:
    """As an array, 0 where the codec saw background."""
    out = np.zeros(int(np.prod(found.shape)), values.dtype)
    out[found.inside] = values
    return out.reshape(found.shape)


def there_and_back(
    name: str, labels: Array, classes: Sequence[Class] = CELL, class_of: Mapping[int, int] | None = None, **more: Any
) -> tuple[Array, dict[str, Array]]:
    sampling = more.pop("sampling", None)
    heads = codecs.codec(name).heads(classes, labels.ndim)
    encoded = codecs.codec(name).encode(labels, classes, class_of, sampling)
    assert all(np.isfinite(m).all() for m in encoded.values())
    return decode(name, perfect(encoded, heads), classes, **more)


def assert_same_partition(found: Array, labels: Array) -> None:
    """Every object has one number of its own, on all of its voxels and on no other."""
    pairs = np.unique(np.stack([found.ravel(), labels.ravel()]), axis=1).T
    bad = [(int(f), int(t)) for f, t in pairs if (f == 0) != (t == 0)]
    assert not bad, f"background and objects are confused: (found, true) {bad}"
    assert len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1])) == len(pairs), f"split or merged: (found, true) {pairs.tolist()}"


def components(labels: Array) -> Array:
    """Each face-connected component of each label, with a number of its own."""
    out = np.zeros(labels.shape, np.int32)
    for i in np.unique(labels[labels > 0]):
        part, count = ndimage.label(labels == i)
        out[part > 0] = part[part > 0] + out.max()
        assert count
    return out


@st.composite
def scenes(draw: st.DrawFn) -> Array:
    """Regions grown around seeds: they touch, bend, are cut by the border, have holes and ragged sides, and are as small as one voxel."""
    d = draw(st.sampled_from((2, 3)))
    shape = draw(st.tuples(*[st.integers(8, 40 if d == 2 else 16)] * d))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 12))
    seeds = np.zeros(shape, np.int32)
    seeds[tuple(rng.integers(0, shape, (count, d)).T)] = np.arange(1, count + 1)
    size, eaten = draw(st.sampled_from((0.0, 2.5, 6.0, 99.0))), draw(st.sampled_from((0.0, 0.1, 0.3)))
    stretch = rng.uniform(0.3, 3.0, d) if draw(st.booleans()) else np.ones(d)
    distance, nearest = ndimage.distance_transform_edt(seeds == 0, stretch, return_indices=True)
    grown = np.where((distance <= size) & (rng.random(shape) >= eaten), seeds[tuple(nearest)], 0)
    return separable(grown, 2)


def separable(labels: Array, window: int) -> Array:
    """Leave out what conditions (a) and (c) leave out: all but an object's largest part, and objects too near to an earlier one."""
    out = np.zeros(labels.shape, np.int32)
    for i in np.unique(labels[labels > 0]):
        part, count = ndimage.label(labels == i)
        sizes = np.bincount(part.ravel(), minlength=count + 1)[1:]
        out[part == 1 + int(sizes.argmax())] = out.max() + 1
    kept: list[Array] = []
    for i, point, _ in zip(*targets.medoids(out), strict=True):
        if all(np.abs(point - other).max() > window for other in kept):
            kept.append(point)
        else:
            out[out == i] = 0
    return out


def suited(name: str, labels: Array, most: Sequence[int] = (24, 7)) -> Array:
    """What the conditions of `boundaries` leave of a scene: a part of it, of so many voxels in 2D and 3D, magnified three times."""
    if name != "boundaries":
        return labels
    some = components(labels[tuple(slice(most[labels.ndim - 2]) for _ in labels.shape)])
    for axis in range(labels.ndim):
        some = some.repeat(3, axis)
    return some


@each_codec
@given(labels=scenes(), window=st.sampled_from((1, 2)))
@FEW
@example(labels=np.zeros((1, 1), np.int32), window=2)
@example(labels=np.ones((1, 1), np.int32), window=2)
@example(labels=np.ones((70, 3), np.int32), window=2)
@example(labels=np.ones((1, 1, 60), np.int32), window=2)
def test_every_object_comes_back(name: str, labels: Array, window: int) -> None:
    labels = suited(name, labels)
    found, table = there_and_back(name, labels, **{**EXACT[name], "window": window})
    assert_same_partition(found, labels)
    assert len(table["id"]) == len(np.unique(labels[labels > 0]))
    assert (table["score"] == 1).all()


@each_codec
@given(labels=scenes(), kinds=st.sampled_from(sorted(CLASS_SETS)), seed=st.integers(0, 2**32 - 1))
@FEW
def test_classes_and_stuff_come_back(name: str, labels: Array, kinds: str, seed: int) -> None:
    classes, labels = CLASS_SETS[kinds], suited(name, labels)
    class_of = some_class_of(labels, classes, seed)
    found, table = there_and_back(name, labels, classes, class_of, **EXACT[name])
    _assert_panoptic(found, table, labels, classes, class_of)


def some_class_of(labels: Array, classes: Sequence[Class], seed: int) -> dict[int, int]:
    ids = np.unique(labels[labels > 0]).tolist()
    return dict(zip(ids, np.random.default_rng(seed).integers(1, len(classes) + 1, len(ids)).tolist(), strict=True))


def _assert_panoptic(found: Array, table: Mapping[str, Array], labels: Array, classes: Sequence[Class], class_of: Mapping[int, int]) -> None:
    """Stuff is labelled with its class id, things are numbered after it, and the table knows their classes."""
    stuff = [c.id for c in classes if not c.countable]
    expected = np.vectorize(lambda i: class_of.get(int(i), 0), otypes=[np.int64])(labels)
    kinds = dict(zip(table["id"].tolist(), table["class_id"].tolist(), strict=True))
    np.testing.assert_array_equal(np.vectorize(lambda i: kinds.get(int(i), 0), otypes=[np.int64])(found), expected)
    things = ~np.isin(expected, stuff)
    assert_same_partition(np.where(things, found, 0), np.where(things, labels, 0))
    assert (found[~things] == expected[~things]).all()
    assert (found[things & (found > 0)] > len(stuff)).all()


@each_codec
@given(labels=scenes(), sampling=st.tuples(*[st.sampled_from((0.2, 1.0, 5.0))] * 3))
@FEW
def test_the_sampling_of_anisotropic_images_changes_the_targets_and_loses_no_object(name: str, labels: Array, sampling: tuple[float, ...]) -> None:
    labels = suited(name, labels)
    assert_same_partition(there_and_back(name, labels, sampling=sampling[: labels.ndim], **EXACT[name])[0], labels)


def _ring(radius: int) -> Array:
    y, x = np.mgrid[-radius - 2 : radius + 3, -radius - 2 : radius + 3]
    r = np.hypot(y, x)
    ring: Array = ((r <= radius) & (r > radius - 4)).astype(np.int32)
    return ring


def _ring_around_a_disc() -> Array:
    labels = _ring(20)
    labels[18:27, 20:25] = 2
    return labels


def _horseshoes() -> Array:
    """Two bent objects, each with an arm in the other's mouth."""
    labels = np.zeros((30, 40), np.int32)
    labels[2:6, 2:30], labels[2:26, 2:6], labels[22:26, 2:30] = 1, 1, 1
    labels[8:28, 34:38], labels[10:20, 10:38] = 2, 2
    return labels


def _touching_bars() -> Array:
    return np.repeat(np.arange(1, 11, dtype=np.int32), 3)[:, None] + np.zeros((1, 80), np.int32)


def _shell_with_a_core() -> Array:
    z, y, x = np.mgrid[-8:9, -8:9, -8:9]
    r = np.sqrt(z**2 + y**2 + x**2)
    return np.where(r <= 3, 2, np.where(r <= 8, 1, 0)).astype(np.int32)


def _corners() -> Array:
    labels = np.zeros((12, 12), np.int32)
    labels[0, 0], labels[0, -1], labels[-1, 0], labels[-1, -1] = 1, 2, 3, 4
    return labels


def _spiral() -> Array:
    labels = np.zeros((41, 41), np.int32)
    for k in range(0, 20, 4):
        labels[k, k : -k or None], labels[k : -k or None, -k - 1], labels[-k - 1, k : -k or None], labels[k + 4 : -k or None, k] = 1, 1, 1, 1
        labels[k + 4, k : k + 5] = 1
    return labels


SHAPES = {
    "ring": _ring(20), "ring around a disc": _ring_around_a_disc(), "horseshoes": _horseshoes(), "bars side by side": _touching_bars(),
    "a shell and its core": _shell_with_a_core(), "voxels in the corners": _corners(), "spiral": _spiral(),
    "all of the image": np.ones((50, 60), np.int32), "nothing": np.zeros((4, 5, 6), np.int32),
}  # fmt: skip


@each_codec
@pytest.mark.parametrize("shape", SHAPES)
def test_bent_hollow_and_touching_shapes(shape: str, name: str) -> None:
    labels = suited(name, SHAPES[shape], (80, 20))
    assert_same_partition(labels, components(labels))  # the example itself is what condition (a) asks for
    assert_same_partition(there_and_back(name, labels, **EXACT[name])[0], labels)


@pytest.mark.parametrize(("shape", "axes"), [((160, 160), "yx"), ((24, 64, 64), "zyx")])
def test_flows_with_the_defaults_give_crowded_objects_back(shape: tuple[int, ...], axes: str) -> None:
    _, labels = nuclei(shape, axes, seed=2)
    whole = separable(labels, 3)
    found, table = there_and_back("flows", whole, CELL)
    scores = metrics.evaluate([found], [np.where(np.bincount(whole.ravel())[whole] >= 10, whole, 0)])
    assert len(table["id"]) > 10
    assert scores.ap[0.7] > 0.97


def test_the_ceiling_of_flows_is_the_number_of_steps() -> None:
    """16 steps are exactly enough for 16 voxels on each side of the medoid; beyond, what does not arrive is no part of the object."""
    fits, long = np.ones((1, 33), np.int32), np.ones((1, 61), np.int32)
    o = {**EXACT["flows"], "steps": 16, "search": 0}
    assert_same_partition(there_and_back("flows", fits, **o)[0], fits)
    found = there_and_back("flows", long, **o)[0]
    assert np.count_nonzero(found == found[0, 30]) == 33


def test_where_flows_lead_out_of_the_foreground_there_is_no_object() -> None:
    labels = np.zeros((30, 30), np.int32)
    labels[5:25, 5:25] = 1
    maps = perfect(flows.encode(labels, CELL), flows.heads(CELL, 2))
    assert decode("flows", maps, CELL)[0].max() == 1
    maps["flow"][:] = np.where(labels > 0, 64, 0)  # all to the lower right corner
    assert decode("flows", maps, CELL)[0].max() == 0
    maps["semantic"] = np.where(np.arange(2)[:, None, None] == 1, np.uint8(255), np.uint8(0)) + np.zeros((2, 30, 30), np.uint8)
    assert decode("flows", maps, CELL)[0].max() == 1  # but an object may end with the picture


def test_flows_are_unit_vectors_up_to_the_medoid() -> None:
    labels = _horseshoes()
    maps = flows.encode(labels, CELL)
    points, sizes = targets.medoids(labels)[1:]
    length = np.sqrt((maps["flow"] ** 2).sum(0)) / flows.FLOW_UNIT
    middle = np.zeros(labels.shape, np.bool_)
    middle[tuple(points.T)] = True
    assert (length[(labels == 0) | middle] == 0).all()
    assert length[(labels > 0) & ~middle] == pytest.approx(1, abs=0.02)
    for i, size in enumerate(sizes, start=1):
        assert maps["weight"][0][labels == i] == pytest.approx(size**-0.5)


def test_the_ceiling_objects_longer_than_the_longest_offset_are_cut() -> None:
    """Condition (b) is sharp: 80 voxels from the medoid are decoded, and what is farther than the second step and search reach too is lost."""
    fits, long = np.ones((1, 161), np.int32), np.ones((1, 300), np.int32)
    assert_same_partition(there_and_back("centers", fits)[0], fits)
    found = there_and_back("centers", long)[0]
    assert 0 < np.count_nonzero(found) < long.size
    assert_same_partition(there_and_back("centers", long, longest=150)[0], long)


def test_the_ceiling_centres_within_one_window_are_one_object() -> None:
    """Condition (c) is sharp: at 3 voxels apart there are two objects, at 2 there is one."""
    labels = np.zeros((5, 9), np.int32)
    labels[1:4, 1:4], labels[1:4, 4:7] = 1, 2
    assert_same_partition(there_and_back("centers", labels, window=2)[0], labels)
    assert there_and_back("centers", labels, window=3)[0].max() == 1


def test_the_ceiling_of_an_object_in_two_parts_the_largest_is_kept() -> None:
    labels = np.zeros((9, 20), np.int32)
    labels[2:7, 2:9], labels[3:6, 12:15] = 1, 1
    found, table = there_and_back("centers", labels)
    np.testing.assert_array_equal(found > 0, components(labels) == 1)
    assert table["size"].tolist() == [35]


@given(scenes(), st.sampled_from(("one kind", "two kinds", "panoptic", "semantic only")), st.integers(0, 2**32 - 1))
@FEW
def test_semantic_gives_classes_back_and_objects_where_they_do_not_touch(labels: Array, name: str, seed: int) -> None:
    classes = {**CLASS_SETS, "semantic only": LAND}[name]
    class_of = some_class_of(labels, classes, seed)
    found, table = there_and_back("semantic", labels, classes, class_of)
    kind = np.vectorize(lambda i: class_of.get(int(i), 0), otypes=[np.int32])(labels)
    merged = components(kind)
    for c in classes:
        if not c.countable:
            merged[kind == c.id] = (kind == c.id).max() * (merged.max() + 1)
    class_of_merged = {int(i): int(kind[merged == i][0]) for i in np.unique(merged[merged > 0])}
    _assert_panoptic(found, table, merged, classes, class_of_merged)


def test_without_countable_classes_the_label_is_the_class_id() -> None:
    labels = np.array([[1, 1, 0, 2], [0, 1, 2, 2], [1, 0, 0, 1]], np.uint16)
    found, table = there_and_back("semantic", labels, LAND)
    np.testing.assert_array_equal(found, labels)
    assert table["id"].tolist() == table["class_id"].tolist() == [1, 2]
    assert table["size"].tolist() == [5, 3]


@each_codec
@given(labels=scenes())
@FEW
def test_encoding_and_decoding_are_deterministic_and_leave_their_input_alone(name: str, labels: Array) -> None:
    before = labels.copy()
    first, again = codecs.codec(name).encode(labels, CELL), codecs.codec(name).encode(labels, CELL)
    assert all((first[key] == again[key]).all() for key in first)
    maps = perfect(first, codecs.codec(name).heads(CELL, labels.ndim))
    kept = {key: m.copy() for key, m in maps.items()}
    one, two = ({"labels": out[0], **out[1]} for out in (decode(name, maps, CELL), decode(name, maps, CELL)))
    assert all((one[key] == two[key]).all() for key in one)
    np.testing.assert_array_equal(labels, before)
    assert all((maps[key] == kept[key]).all() for key in maps)


@given(scenes())
@FEW
def test_the_table_says_what_the_labels_say(labels: Array) -> None:
    found, table = there_and_back("centers", labels)
    ids, sizes = np.unique(found[found > 0], return_counts=True)
    assert table["id"].tolist() == ids.tolist() == list(range(1, len(ids) + 1))
    assert table["size"].tolist() == sizes.tolist()
    for row, box in enumerate(ndimage.find_objects(found)):
        inside = np.argwhere(found == row + 1)
        for axis, (name, side) in enumerate(zip("zyx"[-labels.ndim :], box, strict=True)):
            assert (table[f"bbox_{name}0"][row], table[f"bbox_{name}1"][row]) == (side.start, side.stop)
            assert table[f"centroid_{name}"][row] == pytest.approx(inside[:, axis].mean(), abs=1e-9)


def test_targets_are_what_a_network_can_learn() -> None:
    """Classes within range, heat in 0..1 with 1 on the object, offsets that lead onto the medoid, weights only where objects are."""
    labels = _horseshoes()
    maps = centers.encode(labels, CELL)
    ids, points, sizes = targets.medoids(labels)
    assert maps["semantic"].dtype == np.uint8
    assert maps["center"].min() >= 0
    assert maps["center"].max() == 1
    assert (labels[tuple(points.T)] == ids).all()
    grid: Array = np.indices(labels.shape)
    for i, point, size in zip(ids, points, sizes, strict=True):
        mine = labels == i
        assert (grid[:, mine] + maps["offset"][:, mine] == point[:, None]).all()
        assert maps["weight"][0][mine] == pytest.approx(size**-0.5)
    assert not maps["weight"][0][labels == 0].any()
    assert set(semantic.encode(labels, CELL)) == {"semantic"}


def test_orphans_are_kept_on_request() -> None:
    labels = np.zeros((12, 30), np.int32)
    labels[2:10, 2:10], labels[4:8, 20:25] = 1, 2
    maps = perfect(centers.encode(labels, CELL), centers.heads(CELL, 2))
    maps["center"][0, :, 15:] = 0  # the network saw no centre there
    assert_same_partition(decode("centers", maps, CELL)[0], np.where(labels == 1, 1, 0))
    assert_same_partition(decode("centers", maps, CELL, orphans=True)[0], labels)


# Maps that no perfect network gives --------------------------------------------------------------------------------------------------


def read_slowly(maps: Mapping[str, Array], classes: Sequence[Class], o: Mapping[str, Any], factor: Sequence[float]) -> tuple[Array, Array]:
    """The four steps of the codec's description, voxel by voxel: the class, and the flat index of the object's peak plus 1."""
    shape = maps["semantic"].shape[1:]
    kind, key = np.zeros(shape, np.uint8), np.zeros(shape, np.int64)
    things = [c.id for c in classes if c.countable]
    for at in np.ndindex(*shape):
        scores = maps["semantic"][(slice(None), *at)].tolist()
        kind[at] = 1 + scores[1:].index(max(scores[1:])) if scores[0] <= round(255 * (1 - o["foreground"])) else 0
    center, offsets = maps["center"][0], np.moveaxis(maps["offset"], 0, -1)
    peaks = []
    for at in np.ndindex(*shape):
        window = [max(1, round(o["window"] * f)) for f in factor]
        box = tuple(slice(max(a - w, 0), a + w + 1) for a, w in zip(at, window, strict=True))
        seen = [tuple(low.start + i for low, i in zip(box, j, strict=True)) for j in np.ndindex(*center[box].shape)]
        best = min(seen, key=lambda s: (-int(center[s]), s))
        if best == at and center[at] >= max(1, round(255 * o["center"])):
            peaks.append(at)

    def follow(at: tuple[int, ...], longest: float) -> tuple[int, ...]:
        out = []
        for a, n, f, eighths in zip(at, shape, factor, offsets[at].tolist(), strict=True):
            limit = int(longest * f * 8)
            out.append(min(max(a + int(np.floor(max(-limit, min(limit, eighths)) / 8 + 0.5)), 0), n - 1))
        return tuple(out)

    thing = np.isin(kind, things)
    for at in zip(*np.nonzero(thing), strict=True):
        place = follow(tuple(int(a) for a in at), o["longest"])
        place = follow(place, o["second"]) if thing[place] else place
        far = [round(sum(((a - b) / f) ** 2 for a, b, f in zip(place, p, factor, strict=True)), 6) for p in peaks]
        if far and min(far) <= o["search"] ** 2:
            key[at] = 1 + np.ravel_multi_index(peaks[far.index(min(far))], shape)
        elif not o["orphans"]:
            kind[at] = 0
    return kind, key


def flow_slowly(maps: Mapping[str, Array], classes: Sequence[Class], o: Mapping[str, Any], factor: Sequence[float]) -> Array:
    """The steps of the description of `flows`, voxel by voxel: the flat index of the object's sink plus 1."""
    shape = maps["semantic"].shape[1:]
    low = round(255 * (1 - o["foreground"]))
    kind = np.where(maps["semantic"][0] <= low, 1 + maps["semantic"][1:].argmax(0), 0)
    thing = np.isin(kind, [c.id for c in classes if c.countable])

    def box(at: tuple[int, ...], width: float) -> tuple[slice, ...]:
        return tuple(slice(max(a - round(width * f), 0), a + round(width * f) + 1) for a, f in zip(at, factor, strict=True))

    def ahead(at: tuple[int, ...]) -> tuple[int, ...] | None:
        around = box(at, o["smooth"])
        vector = [int((np.clip(c[around].astype(int), -1000, 1000) * thing[around]).sum()) for c in maps["flow"]]
        longest = max(abs(v) for v in vector)
        step = [int(np.sign(v)) if 2 * abs(v) >= longest else 0 for v in vector]
        alone = [s if k == [abs(v) for v in vector].index(longest) else 0 for k, s in enumerate(step)]
        for tried in (step, alone):
            to = tuple(min(max(a + s, 0), n - 1) for a, s, n in zip(at, tried, shape, strict=True))
            if thing[to]:
                return to
        return None

    came, stuck, count = {}, set(), np.zeros(shape, int)
    for at in zip(*(c.tolist() for c in np.nonzero(thing)), strict=True):
        place = at
        for _ in range(2 ** int(np.ceil(np.log2(o["steps"] * max(factor))))):
            place = ahead(place) or place
        came[at] = place
        count[place] += 1
        stuck |= {at} if ahead(at) is None else set()
    count[tuple(np.array(sorted(stuck), int).reshape(-1, len(shape)).T)] = 0
    index = np.arange(count.size).reshape(shape)
    sinks = []
    for at in zip(*(c.tolist() for c in np.nonzero(count >= o["least"])), strict=True):
        window = box(at, o["window"])
        best = count[window] == count[window].max()
        sinks += [at] if index[window][best][0] == index[at] else []
    key = np.zeros(shape, np.int64)
    for at, place in came.items():
        far = [round(sum(((a - b) / f) ** 2 for a, b, f in zip(place, s, factor, strict=True)), 6) for s in sinks]
        if far and min(far) <= o["search"] ** 2:
            key[at] = 1 + np.ravel_multi_index(sinks[far.index(min(far))], shape)
    return key


SMALL_GRIDS: list[tuple[tuple[int, ...], tuple[float, ...]]] = [
    ((17, 19), (1.0, 1.0)), ((14, 20), (1.0, 1.6)), ((6, 7, 8), (1.0, 1.0, 1.0)), ((5, 8, 7), (2.5, 1.0, 1.0)),
]  # fmt: skip


@given(st.sampled_from(SMALL_GRIDS), st.sampled_from([CELL, BOTH]), st.sampled_from([0, 1]), st.integers(0, 2**32 - 1))
@settings(FEW, max_examples=12)
def test_any_flows_are_decoded_as_the_description_says(
    grid: tuple[tuple[int, ...], tuple[float, ...]], classes: Sequence[Class], smooth: int, seed: int
) -> None:
    shape, factor = grid
    rng = np.random.default_rng(seed)
    o = {"foreground": 0.5, "smooth": smooth, "steps": 4, "least": int(rng.integers(1, 4)), "window": 1, "search": 2, "orphans": True}
    maps: dict[str, Array] = {
        "semantic": rng.choice([0, 60, 128, 255], (len(classes) + 1, *shape)).astype(np.uint8),
        "flow": rng.choice([-2000, -64, -30, 0, 10, 64], (len(shape), *shape)).astype(np.int16),
    }
    found = flows.assign(maps, classes, o, (0,) * len(shape), shape, factor)
    np.testing.assert_array_equal(filled(found, found.keys[found.number]), flow_slowly(maps, classes, o, factor))


@given(st.sampled_from(SMALL_GRIDS), st.sampled_from([CELL, BOTH]), st.booleans(), st.integers(0, 2**32 - 1))
@FEW
def test_any_maps_are_decoded_as_the_description_says(
    grid: tuple[tuple[int, ...], tuple[float, ...]], classes: Sequence[Class], orphans: bool, seed: int
) -> None:
    shape, factor = grid
    rng = np.random.default_rng(seed)
    o = {"foreground": rng.choice([0.3, 0.5]), "center": 0.3, "window": 2, "search": 3, "longest": 4, "second": 2, "orphans": orphans}
    levels = np.array([0, 60, 128, 255]) if seed % 2 else np.arange(256)
    maps: dict[str, Array] = {
        "semantic": rng.choice(levels, (len(classes) + 1, *shape)).astype(np.uint8),
        "center": (rng.choice(levels, (1, *shape)) * (rng.random((1, *shape)) < 0.3)).astype(np.uint8),
        "offset": rng.integers(-45, 46, (len(shape), *shape)).astype(np.int16),
    }
    kind, key = read_slowly(maps, classes, o, factor)
    found = centers.assign(maps, classes, o, (0,) * len(shape), shape, factor)
    np.testing.assert_array_equal(filled(found, found.kind), kind)
    np.testing.assert_array_equal(filled(found, found.keys[found.number]), key)
    height = np.where(key > 0, maps["center"][0].ravel()[key - 1], 0)
    np.testing.assert_array_equal(filled(found, found.heights[found.number]), height)
    for k, score in enumerate(found.scores, start=1):
        np.testing.assert_array_equal(filled(found, score), np.where(kind > 0, maps["semantic"][k], 0))


@given(st.sampled_from([name for name in codecs.NAMES if name != "objects"]), st.sampled_from([CELL, BOTH]), st.booleans(), st.integers(0, 2**32 - 1))
@FEW
def test_voxels_that_are_asked_for_get_what_they_get_in_the_whole(name: str, classes: Sequence[Class], stretch: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (13, 17)
    maps: dict[str, Array] = {
        "semantic": rng.integers(0, 256, (len(classes) + 1, *shape)).astype(np.uint8),
        "center": rng.integers(0, 256, (1, *shape)).astype(np.uint8),
        "offset": rng.integers(-45, 46, (len(shape), *shape)).astype(np.int16),
    }
    maps |= {"flow": maps["offset"], "boundary": maps["semantic"][:1], "distance": maps["center"], "probability": maps["center"]}
    maps["rays"] = rng.integers(0, 60, (32, *shape)).astype(np.uint8)
    lines = [np.sort(rng.integers(0, n, 9)) for n in shape]  # with repeats, as when labels are enlarged
    at: list[Any] = [slice(lines[0][0], lines[0][-1] + 1), lines[1]] if stretch else lines
    taken = np.ix_(*[np.arange(n)[a] for n, a in zip(shape, at, strict=True)])
    whole = codecs.codec(name).assign(maps, classes, {"least": 1}, (0, 0), shape, (1.0, 1.0))
    part = codecs.codec(name).assign(maps, classes, {"least": 1}, (0, 0), shape, (1.0, 1.0), at)
    np.testing.assert_array_equal(filled(part, part.kind), filled(whole, whole.kind)[taken])
    np.testing.assert_array_equal(filled(part, part.number), filled(whole, whole.number)[taken])
    for one, other in zip(part.scores, whole.scores, strict=True):
        np.testing.assert_array_equal(filled(part, one), filled(whole, other)[taken])


@given(st.sampled_from([(9, 11), (1, 30), (4, 5, 6)]), st.integers(1, 4), st.integers(0, 2**32 - 1))
@FEW
def test_pieces_are_the_face_connected_components(shape: tuple[int, ...], count: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, count + 1, shape).astype(np.int32)
    inside = np.flatnonzero(values)
    found = runs.find(inside, values.ravel()[inside], shape)
    joined = np.zeros(values.size, np.int32)
    joined[inside] = np.repeat(1 + runs.join(found, shape), found.length)
    assert_same_partition(joined.reshape(shape), components(values))
