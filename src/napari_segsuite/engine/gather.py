"""What comes back from the chunks of a run, until it is a `Segmentation`: frames in the image's order, numbered one after the other."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite._version import __version__
from napari_segsuite.arrays import FILLED_PX
from napari_segsuite.engine import pixels
from napari_segsuite.engine.join import Joined, Seams, join
from napari_segsuite.engine.plan import Plan
from napari_segsuite.types import AXES, ArrayLike, Class, Image, ModelSpec, Segmentation

if TYPE_CHECKING:
    from napari_segsuite.engine.chunk import Labelled


class Tally:
    """What the frames of a run add up to, whatever its labels are kept in.

    Parameters
    ----------
    plan : Plan
    image : Image
    spec : ModelSpec

    Attributes
    ----------
    device : str
        Where the network ran; empty until that is known.
    filled, things : int
        Pixels that had to be replaced; things numbered so far.
    seams : Seams
    """

    def __init__(self, plan: Plan, image: Image, spec: ModelSpec) -> None:
        self.plan, self.image, self.spec = plan, image, spec
        self.tables: list[dict[str, NDArray[Any]]] = []
        self.things, self.filled, self.device = 0, 0, ""
        self.notices: tuple[str, ...] = ()
        self.seams = Seams()
        self.where: dict[str, tuple[int, int]] = {}

    def note(self, filled: int, device: str, notices: Sequence[str], where: Mapping[str, Sequence[int]] | None = None) -> None:
        """Take in what a worker has to say."""
        for axis, (start, stop) in (where or {}).items():
            low, high = self.where.get(axis, (start, stop))
            self.where[axis] = min(low, start), max(high, stop)
        self.filled += filled
        self.device = device or self.device
        self.notices = tuple(dict.fromkeys((*self.notices, *notices)))

    def number(self, at: Sequence[int], joined: Joined) -> NDArray[np.int64]:
        """Number the segments of the next frame; frames must come in their order. Returns the label of each of its pieces."""
        stuff = sum(not c.countable for c in self.spec.classes)
        final, table = joined.linked.final, dict(joined.linked.segments)
        final = np.where(final > stuff, final + self.things, final)
        table["id"] = np.where(table["id"] > stuff, table["id"] + self.things, table["id"])
        self.things += int((table["id"] > stuff).sum())
        frames = zip(self.plan.frames, at, strict=True)
        self.tables.append({**table, **{f"frame_{a}": np.full(len(table["id"]), i, np.int64) for a, i in frames}})
        self.seams.add(joined.seams)
        return final

    def segmentation(self, labels: ArrayLike, seconds: float) -> Segmentation:
        """The result, once all frames were numbered and `labels` are what they shall be."""
        plan, image, spec = self.plan, self.image, self.spec
        keep = [i for i, a in enumerate(image.axes) if a != "c"]
        axes = "".join(image.axes[i] for i in keep)
        seams = {"seams": self.seams.to_json()} if self.seams.faces else {}
        return Segmentation(
            labels=labels,
            segments=_join(plan, spec, self.tables, axes),
            classes=spec.classes,
            axes=axes,
            scale=tuple(image.scale[i] for i in keep),
            units=tuple(image.units[i] for i in keep),
            translate=tuple(image.translate[i] for i in keep),
            affine=image.affine,
            name=f"{image.name} {spec.name}",
            provenance={
                "plan": plan.to_json(), "fingerprint": plan.fingerprint, "limits": [list(pair) for pair in plan.limits], "device": self.device,
                "filled": self.filled, "notices": [*plan.notices, *self.notices, *_told(self.filled, self.where),
                            *pixels.missing(image), *self.seams.warnings()],
                "seconds": round(seconds, 3),
                "tile": {"size": list(spec.tile), "context": list(spec.context), "multiple": list(spec.multiple)}, "versions": _versions(), **seams,
            },
        )  # fmt: skip


class Frames:
    """Labels and rows of a run in memory, as they come in.

    Parameters
    ----------
    plan : Plan
    image : Image
    spec : ModelSpec
    chunks : int
        How many there will be in all.
    """

    def __init__(self, plan: Plan, image: Image, spec: ModelSpec, chunks: int) -> None:
        self.plan, self.image, self.tally = plan, image, Tally(plan, image, spec)
        self.labels: NDArray[np.integer] = np.zeros(tuple(n for a, n in zip(image.axes, image.shape, strict=True) if a != "c"), np.uint32)
        self.order = list(np.ndindex(*[image.size(a) for a in plan.frames]))
        self.per_frame = chunks // max(1, len(self.order))
        self.open: dict[tuple[int, ...], _Frame] = {}
        self.complete: dict[tuple[int, ...], tuple[_Frame, Joined]] = {}

    def add(self, labelled: Labelled) -> None:
        """Take in a chunk; link its frame if that is now complete, and write all frames whose turn it is."""
        self.tally.note(labelled.filled, labelled.device, labelled.notices, labelled.where)
        at = labelled.at.frame
        frame = self.open.setdefault(at, _Frame())
        frame.parts.append(labelled)
        if len(frame.parts) == self.per_frame:
            self.complete[at] = frame, frame.joined(self.plan, self.tally.spec.classes)
            del self.open[at]
        # Things are numbered after those of the frames before, whatever order frames were computed in.
        while (done := len(self.tally.tables)) < len(self.order) and self.order[done] in self.complete:
            self._write(self.order[done], *self.complete.pop(self.order[done]))

    def finish(self, seconds: float) -> Segmentation:
        """The result, once all chunks were added."""
        return self.tally.segmentation(self.labels, seconds)

    def _write(self, at: tuple[int, ...], frame: _Frame, joined: Joined) -> None:
        final, starts = self.tally.number(at, joined), joined.starts
        if final.max(initial=0) > np.iinfo(self.labels.dtype).max:
            self.labels = self.labels.astype(np.uint64)
        for part, start, stop in zip(frame.parts, starts, starts[1:], strict=False):
            lut = np.concatenate([[0], final[start:stop]]).astype(self.labels.dtype)
            self.labels[_index(self.plan, self.image, at, part.at.box)] = lut.take(part.pieces.labels, mode="clip")


class _Frame:
    """The chunks of one frame until all are there."""

    def __init__(self) -> None:
        self.parts: list[Labelled] = []

    def joined(self, plan: Plan, classes: Sequence[Class]) -> Joined:
        """Join the pieces of all chunks."""
        self.parts.sort(key=lambda p: p.at.box)
        return join([_Part(p) for p in self.parts], plan, classes)


class _Part:
    """A chunk in memory, as joining wants it."""

    def __init__(self, labelled: Labelled) -> None:
        self.box, self.rows, self.labels = labelled.at.box, labelled.pieces.rows, labelled.pieces.labels

    def first(self, axis: int) -> NDArray[np.int32]:
        """The first plane."""
        plane: NDArray[np.int32] = np.take(self.labels, 0, axis)
        return plane

    def last(self) -> list[tuple[NDArray[np.int32], None]]:
        """The last planes; what lies behind them was not asked for."""
        return [(np.take(self.labels, -1, axis), None) for axis in range(self.labels.ndim)]


def _index(plan: Plan, image: Image, at: tuple[int, ...], box: Sequence[tuple[int, int]]) -> tuple[int | slice, ...]:
    """Where a chunk lies in the labels, which have the image's axes without channels."""
    frame, spatial = dict(zip(plan.frames, at, strict=True)), dict(zip(plan.axes, box, strict=True))
    return tuple(frame[a] if a in frame else slice(*spatial[a]) if a in spatial else 0 for a in image.axes if a != "c")


def _told(filled: int, where: Mapping[str, tuple[int, int]]) -> list[str]:
    """How many pixels had no value, where, and what became of them."""
    if not filled:
        return []
    were = "1 pixel was" if filled == 1 else f"{filled} pixels were"
    at = ", ".join(f"{axis}={where[axis][0]}:{where[axis][1]}" for axis in AXES if axis in where)
    stead = f"the nearest value within {FILLED_PX} pixels stands in for them, and where there is none they are dark"
    return [f"{were} not finite (NaN or infinite), within {at}: {stead}"]


def _join(plan: Plan, spec: ModelSpec, tables: Sequence[dict[str, NDArray[Any]]], axes: str) -> dict[str, NDArray[Any]]:
    """One table of all frames, columns in the documented order; a stuff class is one segment over all frames."""
    rows = dict(tables[0]) if len(tables) == 1 else {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    for axis in plan.frames:
        at = rows.pop(f"frame_{axis}")
        rows |= {f"bbox_{axis}0": at, f"bbox_{axis}1": at + 1, f"centroid_{axis}": at.astype(float)}
    rows = _merge_stuff(rows, sum(not c.countable for c in spec.classes), axes)
    names = ["id", "class_id", "score", "size", *(f"bbox_{a}{i}" for a in axes for i in (0, 1)), *(f"centroid_{a}" for a in axes)]
    out: dict[str, NDArray[Any]] = {}
    for name in names:
        out[name] = rows.pop(name) if name in rows else np.full(len(out["id"]), int(name[-1] == "1"), np.int64)
    out["status"] = np.full(len(out["id"]), "new")
    return out


def _merge_stuff(rows: dict[str, NDArray[Any]], stuff: int, axes: str) -> dict[str, NDArray[Any]]:
    """Add up the rows of a stuff class from all frames."""
    is_stuff = rows["id"] <= stuff
    if not is_stuff.any():
        return rows
    merged: list[dict[str, Any]] = []
    for i in np.unique(rows["id"][is_stuff]):
        mine = {name: column[rows["id"] == i] for name, column in rows.items()}
        weight = mine["size"] / mine["size"].sum()
        combine: dict[str, Callable[[NDArray[Any]], Any]] = {"size": np.sum, "id": np.min, "class_id": np.min}
        for name in rows:
            if name.startswith("bbox_"):
                combine[name] = np.min if name.endswith("0") else np.max
        merged.append({name: combine[name](v) if name in combine else float((v * weight).sum()) for name, v in mine.items()})
    return {name: np.concatenate([np.array([m[name] for m in merged], column.dtype), column[~is_stuff]]) for name, column in rows.items()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "napari-segsuite": __version__}
    for name in ("numpy", "torch", "scipy", "scikit-image"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found
