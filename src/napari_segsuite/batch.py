"""Many files, one after the other: what is finished is not done again, what fails is named and does not stop the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from napari_segsuite.engine.options import check
from napari_segsuite.engine.plan import Options, Plan, resolve
from napari_segsuite.engine.run import Progress, result, run
from napari_segsuite.engine.self_check import self_check, sentence
from napari_segsuite.engine.work import tidy
from napari_segsuite.errors import InputError, OutputError, SegsuiteError
from napari_segsuite.flags import in_flags
from napari_segsuite.io import (
    check_is_image,
    label_store,
    list_folders,
    list_inputs,
    read_segmentation,
    write,
    write_beside,
    write_result,
)
from napari_segsuite.io.faults import writing
from napari_segsuite.io.geometry import kept
from napari_segsuite.io.place import make_folder, remove
from napari_segsuite.models import check_device, load_spec
from napari_segsuite.outputs import Batch as Batch
from napari_segsuite.outputs import check_output, check_result, check_targets
from napari_segsuite.resume import INPUT, check_unchanged, identity, is_finished
from napari_segsuite.sources import Source, sources_in
from napari_segsuite.types import Image, ModelSpec, Segmentation

Show = Callable[[str, int, int, str], object]
"""Called with an input's path, done, total and a few words."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done:
    """What became of one input; `segments` and `seconds` are None where nothing was computed, and `extra` is what an install lacks for it."""

    source: str
    paths: dict[str, Path] = field(default_factory=dict)
    segments: int | None = None
    seconds: float | None = None
    device: str = ""
    notices: tuple[str, ...] = ()
    error: str = ""
    extra: str = ""

    @property
    def event(self) -> str:
        """``done``, ``skipped`` (it was there already) or ``failed``."""
        return "failed" if self.error else "skipped" if self.segments is None else "done"

    def __str__(self) -> str:
        if self.event == "failed":
            return f"{self.source}: failed"
        told = "".join(f"\n  note: {in_flags(notice)}" for notice in self.notices)
        if self.event == "skipped":
            return f"{self.source}: already done, {self.paths['labels']}{told}"
        segments = "1 segment" if self.segments == 1 else f"{self.segments} segments"
        return f"{self.source}: {segments} in {self.seconds:.1f} s, {self.paths['labels']}{told}"

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        paths = {name: str(path) for name, path in self.paths.items()}
        found = {"segments": self.segments, "seconds": self.seconds, "device": self.device, "notices": list(self.notices)}
        return {"event": self.event, "input": self.source, "paths": paths, **found, "error": self.error}


def segment_all(inputs: Sequence[str | Path], batch: Batch, show: Show) -> Iterator[Done]:
    """Segment one input after the other.

    Parameters
    ----------
    inputs : sequence of str or Path
        Files, patterns and folders (`io.list_inputs`).
    batch : Batch
    show : callable

    Yields
    ------
    Done
        For every image, and for every input that is missing.

    Raises
    ------
    SegsuiteError
        Before anything is done: a wish that no image can meet, an unknown model, an output that cannot be written to, two inputs
        with one result, or a result in the place of an input.
    """
    spec = _checked_options(batch)
    check_output(batch)
    sources, missing = _listed(inputs, batch)
    check_targets(sources, batch)
    yield from missing
    for source in sources:
        try:
            yield _segment(source, batch, spec, show)
        except (SegsuiteError, MemoryError, UnicodeError, RuntimeError) as error:
            log.debug("segmenting %s failed", source, exc_info=True)
            yield Done(str(source), error=_why(error), extra=getattr(error, "extra", ""))


def forecasts(inputs: Sequence[str | Path], batch: Batch, workers: int) -> Iterator[dict[str, Any]]:
    """What segmenting each input would take (`engine.forecast.forecast`), or why it cannot be done; nothing is written.

    Raises
    ------
    SegsuiteError
        As `segment_all`, before anything is done.
    """
    from napari_segsuite.engine.forecast import forecast

    spec = _checked_options(batch)
    check_output(batch)
    sources, missing = _listed(inputs, batch)
    check_targets(sources, batch)
    yield from ({"input": one.source, "error": one.error} for one in missing)
    for source in sources:
        try:
            image, plan = _planned(source, batch, spec)
            yield {
                "input": str(source),
                "out": str(batch.paths_of(source)["labels"]),
                **forecast(plan, image, plan.spec_of(spec), workers, grows=batch.grows),
            }
        except (SegsuiteError, MemoryError, UnicodeError, RuntimeError) as error:
            yield {"input": str(source), "error": _why(error)}


def demo(out: Path, show: Show) -> Done:
    """Segment the nuclei of the immunohistochemistry picture that scikit-image brings, and draw the result.

    The picture's haematoxylin, which stains nuclei, is separated from the brown antibody stain first (Ruifrok and Johnston 2001).

    Returns
    -------
    Done
        With the paths ``labels``, ``segments``, ``run``, ``image`` and ``overlay``.
    """
    import numpy as np
    from skimage import color, data

    from napari_segsuite.arrays import as_image
    from napari_segsuite.io.overlay import write_overlay

    check_output(Batch(out, Options()))
    picture = as_image(data.immunohistochemistry(), name="tissue")
    image = as_image(color.rgb2hed(data.immunohistochemistry())[..., 0].astype(np.float32), name="haematoxylin")
    # The brown stain is not among what the model was trained on, and it is less sure of what it finds there.
    options = Options(model="nuclei", min_score=0.6)
    found = _run(image, resolve(image, options, load_spec(options.model)), "demo", show)
    paths = write_result(found, out, image.name, overwrite=True)
    paths["image"] = write(image, out / f"{image.name}.tif", overwrite=True)
    paths["overlay"] = write_overlay(picture, found, out / f"{image.name}_overlay.png", overwrite=True)
    return _done("demo", found, paths)


def _checked_options(batch: Batch) -> ModelSpec:
    """The model, once it is known that the wishes can be met for any image; what devices a cluster has, only its workers know."""
    check(batch.options)
    spec = load_spec(batch.options.model)
    if not batch.elsewhere:
        check_device(batch.options.model, batch.options.device)
    return spec


def _segment(source: Source, batch: Batch, spec: ModelSpec, show: Show) -> Done:
    before = identity(source.path, source.scene)
    image, plan = _planned(source, batch, spec)
    paths = batch.paths_of(source)
    finished = None if batch.overwrite else is_finished(paths, plan, before)
    if finished:
        return _there(source, paths, plan, image, spec, batch)
    overwrite = batch.overwrite or finished is False
    if not batch.grows:
        found = _run(image, plan, str(source), show)
        _check_unchanged(source, batch, before)
        checked = {"self_check": _checked(plan, image, spec, found)} if batch.check else {}
        found = replace(found, provenance={**found.provenance, INPUT: before, **checked})
        if batch.single:
            _make(batch.out.parent)
            return _done(str(source), found, {"labels": write(found, batch.out, overwrite=overwrite)})
        return _done(str(source), found, write_result(found, batch.out, source.stem, format=batch.format, overwrite=overwrite))
    if finished is False and not batch.overwrite and _is_whole(paths["labels"]):
        found = read_segmentation(paths["labels"])  # a run was killed before it wrote what stands beside them
    else:
        unchanged = partial(_check_unchanged, source, batch, before)
        found = _grow(image, plan, batch, paths, str(source), show, source=before, overwrite=overwrite, unchanged=unchanged)
    return _done(str(source), found, paths if batch.single else write_beside(found, paths["labels"], overwrite=overwrite))


def _planned(source: Source, batch: Batch, spec: ModelSpec) -> tuple[Image, Plan]:
    """An input, and what will be done with it; complaints come before any work."""
    image = batch.read(source)
    doubts = check_is_image(image) + ((kept(image),) if batch.voxel_um and image.affine is not None else ())
    plan = resolve(image, batch.options, spec)
    check_result(image, batch)
    return image, replace(plan, notices=(*plan.notices, *doubts))


def _there(source: Source, paths: dict[str, Path], plan: Plan, image: Image, spec: ModelSpec, batch: Batch) -> Done:
    """What to say of a result that is there already."""
    if not batch.grows and not batch.check:
        return Done(str(source), paths)
    if batch.grows:
        tidy(paths["labels"])
        own = label_store.version_of(paths["labels"])
        if batch.version not in (None, own):
            found = f"result {paths['labels']} is there already, in OME-Zarr {own} instead of {batch.version}"
            raise OutputError(found, do="Choose another output, or allow it to be replaced (--overwrite).")
    checked = [sentence(_checked(plan, image, spec, read_segmentation(paths["labels"])))] if batch.check else []
    return Done(str(source), paths, notices=tuple(checked))


def _checked(plan: Plan, image: Image, spec: ModelSpec, found: Segmentation) -> dict[str, Any]:
    limits = tuple((float(a), float(b)) for a, b in found.provenance["limits"])
    return self_check(replace(plan, limits=limits), image, plan.spec_of(spec), found.labels)


def _grow(image: Image, plan: Plan, batch: Batch, paths: dict[str, Path], name: str, show: Show, **more: Any) -> Segmentation:
    """Segment into an OME-Zarr store, or go on with that."""
    if "run" in paths:
        with writing(paths["run"]):
            remove(paths["run"])
    if batch.store is None:
        _make(paths["labels"].parent)

    def tell(progress: Progress) -> None:
        show(name, progress.done, progress.total, progress.message)

    wishes: dict[str, Any] = {"version": batch.version, "workers": batch.workers, "check": batch.check}
    steps = run(plan, image, out=paths["labels"], executor=batch.executor, **wishes, **more)
    return result(steps, tell)


def _check_unchanged(source: Source, batch: Batch, before: Mapping[str, Any]) -> None:
    check_unchanged(before, identity(source.path, source.scene), source.path, grown=batch.grows)


def _is_whole(labels: Path) -> bool:
    return labels.exists() and not label_store.is_unfinished(labels)


def _make(folder: Path) -> None:
    with writing(folder):
        make_folder(folder)


def _run(image: Image, plan: Plan, source: str, show: Show) -> Segmentation:
    def tell(progress: Progress) -> None:
        show(source, progress.done, progress.total, progress.message)

    return result(run(plan, image), tell)


def _done(source: str, found: Segmentation, paths: dict[str, Path]) -> Done:
    told = found.provenance
    checked = [sentence(told["self_check"])] if "self_check" in told else []
    return Done(source, paths, len(found.segments["id"]), told["seconds"], told["device"], (*told["notices"], *checked))


def _why(error: Exception) -> str:
    if isinstance(error, SegsuiteError):
        return str(error)
    if isinstance(error, MemoryError):
        return "The memory of this computer is not enough for it. Choose a smaller --batch or --chunk, or a part of the image."
    if isinstance(error, UnicodeError):
        return "Its name holds bytes that are no text, which results cannot record. Rename it."
    # What torch and its drivers raise has many lines, of which the first says most.
    return f"Computing it failed: {str(error).partition(chr(10))[0][:200]}. Try --device cpu, or a smaller --batch."


def _listed(inputs: Sequence[str | Path], batch: Batch) -> tuple[list[Source], list[Done]]:
    """The images that inputs mean, each once, and the inputs that mean none."""
    found: dict[Source, None] = {}
    missing = []
    for one in inputs:
        try:
            if batch.files:
                found |= dict.fromkeys(Source(path, batch.scene) for path in list_folders([one]))
            else:
                found |= dict.fromkeys(source for path in list_inputs([one]) for source in sources_in(path, batch.scene))
        except InputError as error:
            missing.append(Done(str(one), error=str(error)))
        except OSError as error:  # a name that is too long
            missing.append(Done(str(one), error=f"This is not a path that can be opened: {error.strerror}."))
    return list(found), missing
