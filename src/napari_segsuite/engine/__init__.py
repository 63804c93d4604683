"""Plans, tiles, chunks, links: from an image to a segmentation."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_segsuite.types import Image, Model, Segmentation

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from napari_segsuite.engine.plan import Plan


def segment(
    image: Any,
    model: str | Model = "nuclei",
    *,
    axes: str | None = None,
    scene: int | str | None = None,
    out: str | PathLike[str] | None = None,
    executor: Executor | None = None,
    workers: int = 3,
    overwrite: bool = False,
    **options: Any,
) -> Segmentation:
    """Segment an image.

    Parameters
    ----------
    image : Image, array or path
        An array is ``yx``, ``zyx`` or, with a last axis of 3 or 4 uint8 values, a colour picture, unless `axes` says otherwise.
    model : str or Model
        Name of a built-in or classical model, a model folder, or an object with ``spec`` and ``predict``.
    axes : str, optional
        One letter of ``tczyx`` per dimension of an array.
    scene : int or str, optional
        Of a path: number or name of the image in a file that holds several (`io.list_scenes`).
    out : str or path, optional
        An OME-Zarr store (``NAME.ome.zarr``, or ``IMAGE.ome.zarr/labels/NAME``) that the result grows in, in bounded memory. The same
        call again goes on where the last one was stopped; the labels of the result stay on disk. By default the result is in memory.
    executor : concurrent.futures.Executor, optional
        Who computes: processes, or a dask cluster (``client.get_executor(pure=False)``). By default this process.
    workers, overwrite
        With `out`: tasks that the executor works on at once; replace another result, or an unfinished run of another job.
    **options
        Fields of `engine.plan.Options`.

    Returns
    -------
    Segmentation

    Raises
    ------
    SegsuiteError
        What was found, what is needed, what to do.

    Examples
    --------
    >>> import numpy as np
    >>> picture = np.zeros((32, 32)); picture[4:9, 4:9] = 1; picture[20:29, 20:29] = 1
    >>> len(segment(picture, model="otsu").segments["id"])
    2
    """
    from napari_segsuite.engine.plan import Options, resolve
    from napari_segsuite.io.place import place
    from napari_segsuite.models import check_device, load_spec

    found = image if isinstance(image, Image) else image_of(image, axes, scene)
    given = None if isinstance(model, str) else model
    spec = load_spec(model) if isinstance(model, str) else model.spec
    plan = resolve(found, Options.from_json({"model": model if isinstance(model, str) else spec.name, **options}), spec)
    if given is None and executor is None and not spec.net:  # a network says so itself
        check_device(plan.options.model, plan.options.device)
    if out is None:
        return _in_memory(plan, found, scene, executor=executor, model=given)
    return _grown(plan, found, place(out), scene, executor=executor, model=given, workers=workers, overwrite=overwrite)


def _in_memory(plan: Plan, image: Image, scene: int | str | None, **more: Any) -> Segmentation:
    """What a run makes of an image whose file stays as it is meanwhile."""
    from napari_segsuite.engine.run import result, run
    from napari_segsuite.engine.source import check_unchanged, file_of, identity

    path = file_of(image)
    before = identity(path, scene) if path is not None else {}
    made = result(run(plan, image, **more))
    if path is not None:
        check_unchanged(before, identity(path, scene), path, grown=False)
    return made


def _grown(plan: Plan, image: Image, out: Path, scene: int | str | None, **more: Any) -> Segmentation:
    """The finished result of this job where it is there already, else what a run makes of it."""
    from functools import partial

    from napari_segsuite.engine.run import result, run
    from napari_segsuite.engine.source import check_image_unchanged, identity_of
    from napari_segsuite.engine.work import is_result_of, tidy
    from napari_segsuite.errors import OutputError
    from napari_segsuite.io import read_segmentation
    from napari_segsuite.io.inputs import module_of

    if module_of(out) != "ome_zarr":
        raise OutputError(f"out is {str(out)!r}", "a path ending in .ome.zarr, or STORE.ome.zarr/labels/NAME")
    known = identity_of(image)
    source = known | ({} if scene is None else {"scene": scene})
    if is_result_of(out, plan, source):
        tidy(out)
        return read_segmentation(out)
    return result(run(plan, image, out=out, source=source, unchanged=partial(check_image_unchanged, image, known), **more))


def image_of(image: Any, axes: str | None, scene: int | str | None = None) -> Image:
    """An image out of an array, or out of what a path or URL leads to."""
    if isinstance(image, (str, PathLike)):
        from napari_segsuite.io import check_is_image, read

        found = read(image, axes=axes, scene=scene)
        check_is_image(found)
        return found
    from napari_segsuite.arrays import as_image

    return as_image(image, axes)
