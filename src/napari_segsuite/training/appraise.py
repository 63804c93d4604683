"""How good a network is on what was held back, through the engine that users run; and which thresholds are best there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.engine import segment
from napari_segsuite.metrics import Scores, evaluate
from napari_segsuite.models.torch_model import TorchModel
from napari_segsuite.training.data import Sample
from napari_segsuite.training.design import window
from napari_segsuite.types import ModelSpec, Prediction, Segmentation

CENTERS, PARTS = (0.1, 0.2, 0.35, 0.5), (0.1, 0.2, 0.3)
"""Heights of a centre, and windows in parts of the diameter, that are tried."""
SECOND: Mapping[str, tuple[str, Sequence[float]]] = {
    "boundaries": ("merge", (0.05, 0.1, 0.2)),
    "stars": ("overlap", (0.3, 0.4, 0.5)),
    "objects": ("overlap", (0.3, 0.5)),
}
"""What else is tried of other codecs."""
SCORES, SIZES = (0.0, 0.5, 0.6, 0.7, 0.8), (0.0, 0.25, 0.5, 0.75)
"""Least scores, and least sizes in parts of the smallest true objects, that are tried."""
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
MOST_BYTES = 2**30
"""Maps that are kept while thresholds are tried, at most."""


class Remembering:
    """A model that answers what it was asked before from memory, with another spec if wished: the maps do not depend on thresholds."""

    def __init__(self, model: TorchModel, spec: ModelSpec, known: dict[bytes, Prediction] | None = None) -> None:
        self.model, self.spec = model, spec
        self.known: dict[bytes, Prediction] = {} if known is None else known

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        """As the model."""
        key = hashlib.sha256(repr(batch.shape).encode() + np.ascontiguousarray(batch).tobytes()).digest()
        if key not in self.known:
            found = self.model.predict(batch)
            found = replace(found, maps={name: value.cpu() for name, value in found.maps.items()})
            if sum(map(_bytes, (found, *self.known.values()))) > MOST_BYTES:
                return found
            self.known[key] = found
        return replace(self.known[key], maps={name: value.clone() for name, value in self.known[key].maps.items()})

    def tuned(self, **codec_options: Any) -> Remembering:
        """The same with other options of the codec."""
        spec = replace(self.spec, codec_options={**self.spec.codec_options, **codec_options})
        return Remembering(self.model, spec, self.known)


def _bytes(found: Prediction) -> int:
    return sum(v.nbytes for v in (*found.maps.values(), *found.objects))


def appraise(model: Remembering, held: Sequence[Sample]) -> Scores:
    """Segment what was held back and compare it with the truth."""
    truths = [sample.truth(model.spec.classes) for sample in held]
    return evaluate((run(model, sample) for sample in held), truths, names=[sample.name for sample in held])


def run(model: Remembering, sample: Sample) -> Segmentation:
    """Segment a sample as a user would."""
    one = sample.image.size("c") == 1
    image = replace(sample.image, channels=sample.image.channels or ("0",), rgb=sample.image.rgb and not one)
    return segment(image, model)


def tune(model: Remembering, held: Sequence[Sample], smallest: float) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Try options of the codec and thresholds on what was held back.

    Parameters
    ----------
    model : Remembering
    held : sequence of Sample
    smallest : float
        Content of the smallest objects of the training, in voxels.

    Yields
    ------
    done, total : int
        How many of the codec's options were tried.
    best : dict
        The best options so far: the highest mean AP over `THRESHOLDS`, of equals the first.
    """
    tries, truths = _tries(model.spec), [sample.truth(model.spec.classes) for sample in held]
    n_true = sum(map(_things, truths))
    best: tuple[float, dict[str, Any]] = (-1.0, {})
    for done, options in enumerate(tries, 1):
        tuned = model.tuned(**options, min_score=0.0, min_size=0)
        table = [row for sample, truth in zip(held, truths, strict=True) for row in _rows(tuned, sample, truth)]
        for score, part in product(SCORES, SIZES):
            least = round(part * smallest)
            quality = _quality(table, n_true, score, least)
            if quality > best[0] + 1e-9:
                best = quality, {**options, "min_score": score, "min_size": least}
        yield done, len(tries), best[1]


def _tries(spec: ModelSpec) -> list[dict[str, Any]]:
    """Options of the codec that are worth trying."""
    if spec.diameter_px is None or spec.codec not in ("centers", *SECOND):
        return [{}]
    windows = sorted({window(spec.diameter_px, part) for part in PARTS})
    name, values = SECOND.get(spec.codec, ("window", windows))
    return [{"center": center, name: value} for value, center in product(values, CENTERS)]


def _rows(model: Remembering, sample: Sample, truth: Segmentation) -> list[tuple[float, float, float]]:
    """Score, size, and IoU with its true partner (0 without one), of each thing that is found."""
    found = run(model, sample)
    things = [c.id for c in model.spec.classes if c.countable]
    rows = {
        int(i): (float(score), float(size))
        for i, kind, score, size in zip(*(found.segments[name].tolist() for name in ("id", "class_id", "score", "size")), strict=True)
        if kind in things
    }
    match = evaluate(found.labels, truth.labels).objects
    partner = dict(zip(match.pred_ids.tolist(), match.iou.tolist(), strict=True))
    return [(*row, partner.get(i, 0.0)) for i, row in rows.items()]


def _things(truth: Segmentation) -> int:
    countable = [c.id for c in truth.classes if c.countable]
    return int(np.isin(truth.segments["class_id"], countable).sum())


def _quality(rows: Sequence[tuple[float, float, float]], n_true: int, score: float, least: float) -> float:
    """Mean AP of the things that a least score and size leave."""
    kept = np.array([iou for s, size, iou in rows if s >= score and size >= least])
    ap = [int((kept >= t).sum()) / max(n_true + len(kept) - int((kept >= t).sum()), 1) for t in THRESHOLDS]
    return float(np.mean(ap))


def figures(scores: Scores, task: str) -> dict[str, Any]:
    """The figures that are usual for a task."""
    rows = [{"id": c.id, "name": c.name, **_by_class(c.objects, c.region, task)} for c in scores.classes]
    if task == "semantic":
        return {"dice": scores.dice, "classes": rows, "mean": {n: v for n, v in scores.class_means.items() if n in ("dice", "iou")}}
    ap = {"ap_0.5": scores.ap[0.5], "ap_0.75": scores.ap[0.75], "n_true": scores.n_true, "n_pred": scores.n_pred}
    if task == "instance":
        return {**ap, "classes": rows} if len(rows) > 1 else ap
    return {"classes": rows, "mean": {name: value for name, value in scores.class_means.items() if name in ("pq", "sq", "rq")}}


def _by_class(objects: Any, region: Any, task: str) -> dict[str, float]:
    if task == "semantic":
        return {"dice": region.dice, "iou": region.iou}
    if task == "instance":
        return {"ap_0.5": objects.ap, "ap_0.75": objects.at(0.75).ap}
    return {"pq": objects.pq, "sq": objects.sq, "rq": objects.rq}


def words(told: Mapping[str, Any]) -> str:
    """Figures in a line for people."""
    parts = []
    if "ap_0.5" in told:
        parts.append(f"AP {told['ap_0.5']:.3f} at IoU 0.5, {told['ap_0.75']:.3f} at 0.75 ({told['n_true']} true, {told['n_pred']} found)")
    for row in told.get("classes", ()):
        values = " ".join(f"{_NAMES[name]} {value:.3f}" for name, value in row.items() if name not in ("id", "name"))
        parts.append(f"{row['name']}: {values}")
    return "; ".join(parts)


_NAMES = {"dice": "Dice", "iou": "IoU", "pq": "PQ", "sq": "SQ", "rq": "RQ", "ap_0.5": "AP 0.5", "ap_0.75": "AP 0.75"}
