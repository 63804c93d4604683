"""`evaluate`: every score of one image or of many, pooled, as one value that can be added, printed and stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, TypeAlias

import numpy as np

from napari_segsuite.errors import InputError
from napari_segsuite.metrics.objects import Matching, join, matching, matching_by_class
from napari_segsuite.metrics.table import Overlap, check_shapes, overlap, overlap_blocks
from napari_segsuite.metrics.voxels import Partition, Region, foreground, partition, regions_by_class
from napari_segsuite.sizes import voxels_apart
from napari_segsuite.types import ArrayLike, Segmentation

Labels: TypeAlias = ArrayLike | Segmentation
Classes: TypeAlias = Mapping[int, int]
_Named: TypeAlias = tuple[Classes, dict[int, str]]

THRESHOLDS = tuple(i / 20 for i in range(10, 20))
"""IoU 0.5, 0.55 ... 0.95."""


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Segments and voxels of one class; only segments of the same class are matched."""

    id: int
    name: str
    objects: Matching
    region: Region

    def to_json(self) -> dict[str, Any]:
        """The figures as plain values."""
        return {"id": self.id, "name": self.name, **_told(self.objects), "ap": self.objects.ap, "dice": self.region.dice, "iou": self.region.iou}


@dataclass(frozen=True, eq=False)
class Scores:
    """What `evaluate` finds. Scores of different images add to the scores of all of them, pooled.

    Attributes
    ----------
    objects : Matching
        At IoU 0.5, whatever the classes; ``objects.f1``, ``objects.pq``, ``objects.at(0.7).ap``.
    foreground : Region
        Everything that is not background; ``foreground.dice``.
    partition : Partition
        ``partition.voi_split``, ``partition.voi_merge``, ``partition.arand``.
    classes : tuple of ClassScores
        Of the classes that occur, by rising id; empty where classes are not known on both sides.
    images : tuple of Scores
        The images that were pooled, in order; empty for the scores of one image.
    name : str
    """

    objects: Matching
    foreground: Region
    partition: Partition
    classes: tuple[ClassScores, ...] = ()
    images: tuple[Scores, ...] = ()
    name: str = ""

    def __str__(self) -> str:
        """One line for people."""
        ap, many = self.ap, f" in {len(self.each)} images" if self.images else ""
        return (
            f"AP {ap[0.5]:.3f} at IoU 0.5, {ap[0.7]:.3f} at 0.7, {ap[0.9]:.3f} at 0.9; F1 {self.f1:.3f}, PQ {self.pq:.3f}, "
            f"Dice {self.dice:.3f}; {self.n_true} true and {self.n_pred} predicted segments{many}"
        )

    def __add__(self, other: Scores) -> Scores:
        return pool([*self.each, *other.each])

    @property
    def each(self) -> tuple[Scores, ...]:
        """The scores of each image, also where it is only one."""
        return self.images or (self,)

    @property
    def ap(self) -> dict[float, float]:
        """TP / (TP + FP + FN) by IoU threshold, from counts summed over the images."""
        return {t: self.objects.at(t).ap for t in THRESHOLDS}

    @property
    def ap_mean_per_image(self) -> dict[float, float]:
        """The mean over images of each image's `ap`; an image with nothing in it on both sides counts as 1."""
        each = [image.ap for image in self.each]
        return {t: float(np.mean([ap[t] for ap in each])) for t in THRESHOLDS}

    @property
    def f1(self) -> float:
        """F1 at IoU 0.5."""
        return self.objects.f1

    @property
    def pq(self) -> float:
        """Panoptic quality at IoU 0.5, all segments as one class; see `class_means` for the usual mean over classes."""
        return self.objects.pq

    @property
    def dice(self) -> float:
        """Dice coefficient of the foreground."""
        return self.foreground.dice

    @property
    def n_true(self) -> int:
        """True segments, in all images together."""
        return self.objects.n_true

    @property
    def n_pred(self) -> int:
        """Predicted segments, in all images together."""
        return self.objects.n_pred

    @property
    def class_means(self) -> dict[str, float]:
        """Means over the classes that occur, as PQ is usually given; empty without classes."""
        rows = [c.to_json() for c in self.classes]
        return {name: float(np.mean([row[name] for row in rows])) for name in ("pq", "sq", "rq", "dice", "iou") if rows}

    def to_json(self) -> dict[str, Any]:
        """All figures as plain values, with the thresholds ``"0.5"`` to ``"0.95"`` as keys of ``ap``."""
        told = {
            "ap": _keyed(self.ap), **_told(self.objects), "dice": self.foreground.dice, "iou": self.foreground.iou,
            "voi_split": self.partition.voi_split, "voi_merge": self.partition.voi_merge, "arand": self.partition.arand,
            "ap_mean_per_image": _keyed(self.ap_mean_per_image), "images": len(self.each),
        }  # fmt: skip
        if self.classes:
            told |= {"class_means": self.class_means, "classes": [c.to_json() for c in self.classes]}
        if self.images:
            told["per_image"] = [{"name": s.name, "ap": _keyed(s.ap), **_told(s.objects), "dice": s.foreground.dice} for s in self.images]
        return told


def evaluate(
    pred: Labels | Iterable[Labels],
    true: Labels | Iterable[Labels],
    *,
    names: Sequence[str] = (),
    ignore_label: int | None = None,
    pred_classes: Classes | None = None,
    true_classes: Classes | None = None,
) -> Scores:
    """Compare a prediction with the truth, or several of each in the same order.

    Parameters
    ----------
    pred, true : array or Segmentation, or an iterable of them
        Labels of the same shape, 0 is background. Iterables are walked side by side, so generators that read one file
        at a time keep one pair in memory; zarr and dask arrays are read block by block. Where one of a pair is a
        `Segmentation` with a time axis, each time point counts as an image.
    names : sequence of str, optional
        What to call the pairs, in errors and in ``Scores.images``.
    ignore_label : int, optional
        Voxels where the truth has this id are left out on both sides.
    pred_classes, true_classes : mapping of segment id to class id, optional
        For scores per class; by default from the table of a `Segmentation`. Segments that are not in it are in no class.

    Returns
    -------
    Scores
        Figures from the summed counts of all images; those of single images are in ``Scores.images``.

    Raises
    ------
    InputError
        The numbers of images, their shapes or the known sizes of their voxels differ, an id is negative, or a value is not a whole number.

    Examples
    --------
    >>> truth = np.array([[1, 1, 0, 2]])
    >>> scores = evaluate(np.array([[1, 1, 0, 0]]), truth)
    >>> scores.objects.recall, scores.ap[0.75], scores.to_json()["f1"] == 2 / 3
    (0.5, 0.5, True)
    """
    single = _is_labels(pred) and _is_labels(true)
    found: list[Scores] = []
    for i, (one, other) in enumerate(_pairs(pred, true)):
        name = names[i] if i < len(names) else "" if single else f"pair {i + 1}"
        try:
            found += _frames(one, other, ignore_label, _classes(one, pred_classes), _classes(other, true_classes), name)
        except InputError as error:
            raise InputError(f"{name!r}: {error.found}" if name else error.found, error.needed, error.do) from error
    if not found:
        raise InputError("there are no images to evaluate")
    return found[0] if len(found) == 1 else pool(found)


def pool(images: Sequence[Scores]) -> Scores:
    """Scores of several images together: counts are summed first, figures follow from the sums."""
    rows: dict[int, list[ClassScores]] = {}
    for image in images:
        for row in image.classes:
            rows.setdefault(row.id, []).append(row)
    return Scores(
        objects=join([s.objects for s in images]),
        foreground=sum((s.foreground for s in images), Region(0, 0, 0)),
        partition=sum((s.partition for s in images), Partition(0, 0.0, 0.0, 0.0, 0.0, 0.0)),
        classes=tuple(_pool_class(rows[kind]) for kind in sorted(rows)),
        images=tuple(images),
    )


def _pool_class(rows: Sequence[ClassScores]) -> ClassScores:
    return ClassScores(rows[0].id, rows[0].name, join([r.objects for r in rows]), sum((r.region for r in rows), Region(0, 0, 0)))


def _frames(pred: Labels, true: Labels, ignore: int | None, pred_classes: _Named | None, true_classes: _Named | None, name: str) -> Iterator[Scores]:
    """Score the pair, or each of its time points: a segment is matched within its frame, identity over time is another question."""
    axes = next((s.axes for s in (true, pred) if isinstance(s, Segmentation)), "")
    found, wanted = _array(pred), _array(true)
    check_shapes(wanted, found)
    if isinstance(pred, Segmentation) and isinstance(true, Segmentation) and (apart := voxels_apart(pred, true)):
        do = "Check that they belong together, and correct the one that is wrong (segsuite convert --voxel-um)."
        raise InputError(f"the voxels of the prediction and of the truth differ: {apart}", "labels on one grid", do)
    if "t" not in axes:
        yield replace(_score(_table(wanted, found, ignore), pred_classes, true_classes), name=name)
        return
    at = axes.index("t")
    for t in range(wanted.shape[at]):
        frame = (slice(None),) * at + (t,)
        scores = _score(_table(wanted[frame], found[frame], ignore), pred_classes, true_classes)
        yield replace(scores, name=f"{name} t={t}".strip())


def _score(table: Overlap, pred_classes: _Named | None, true_classes: _Named | None) -> Scores:
    scores = Scores(matching(table), foreground(table), partition(table))
    if pred_classes is None or true_classes is None:
        return scores
    names = {**pred_classes[1], **true_classes[1]}
    objects = matching_by_class(table, true_classes[0], pred_classes[0])
    regions = regions_by_class(table, true_classes[0], pred_classes[0])
    return replace(scores, classes=tuple(ClassScores(k, names.get(k, str(k)), objects[k], regions[k]) for k in objects))


def _table(true: ArrayLike, pred: ArrayLike, ignore: int | None) -> Overlap:
    walk = overlap if isinstance(true, np.ndarray) and isinstance(pred, np.ndarray) else overlap_blocks
    return walk(true, pred, ignore=ignore)


def _pairs(pred: Labels | Iterable[Labels], true: Labels | Iterable[Labels]) -> Iterator[tuple[Labels, Labels]]:
    absent = object()
    for i, (one, other) in enumerate(zip_longest(_several(pred), _several(true), fillvalue=absent)):
        if one is absent or other is absent:
            more, fewer = ("truth", "prediction") if one is absent else ("prediction", "truth")
            raise InputError(f"{more} number {i + 1} has no {fewer}", "as many predictions as truths, in the same order")
        for side, labels in (("prediction", one), ("truth", other)):
            if not _is_labels(labels):
                raise InputError(f"{side} number {i + 1} is a {type(labels).__name__}", "an array or a Segmentation")
        yield one, other  # type: ignore[misc]


def _several(labels: Labels | Iterable[Labels]) -> Iterable[Any]:
    return (labels,) if _is_labels(labels) else labels  # type: ignore[return-value]


def _is_labels(value: object) -> bool:
    return isinstance(value, Segmentation) or (hasattr(value, "shape") and hasattr(value, "dtype"))


def _array(labels: Labels) -> ArrayLike:
    return labels.labels if isinstance(labels, Segmentation) else labels


def _classes(labels: Labels, given: Classes | None) -> _Named | None:
    """Class of each segment and the classes' names, where they are known."""
    names = {c.id: c.name for c in labels.classes} if isinstance(labels, Segmentation) else {}
    if given is not None:
        return given, names
    if not isinstance(labels, Segmentation) or "class_id" not in labels.segments:
        return None
    if [c.name for c in labels.classes] == ["object"]:  # what labels without a word about classes are read as
        return None
    ids, kinds = labels.segments["id"], labels.segments["class_id"]
    return {int(i): int(k) for i, k in zip(ids, kinds, strict=True)}, names


def _told(objects: Matching) -> dict[str, Any]:
    plain = ("f1", "precision", "recall", "pq", "sq", "rq", "tp", "fp", "fn", "n_true", "n_pred")
    return {name: getattr(objects, name) for name in plain}


def _keyed(by_threshold: Mapping[float, float]) -> dict[str, float]:
    return {f"{t:g}": value for t, value in by_threshold.items()}
