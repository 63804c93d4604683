"""Plans, tiles, chunks, links: from an image to a segmentation."""

from __future__ import annotations

from typing import Any

from napari_segsuite.types import Image, Model, Segmentation


def segment(image: Any, model: str | Model = "nuclei", *, axes: str | None = None, **options: Any) -> Segmentation:
    """Segment an image.

    Parameters
    ----------
    image : Image, array or path
        An array is taken as ``yx``, ``zyx`` or, with a last axis of 3 or 4 uint8 values, as a colour picture; say otherwise with
        `axes`. A path is read.
    model : str or Model
        Name of a built-in or classical model, a model folder, or an object with ``spec`` and ``predict``.
    axes : str, optional
        One letter of ``tczyx`` per dimension of an array.
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
    from napari_segsuite.engine.run import result, run
    from napari_segsuite.models import load_spec

    found = image if isinstance(image, Image) else _image(image, axes)
    name = model if isinstance(model, str) else model.spec.name
    spec = load_spec(model) if isinstance(model, str) else model.spec
    plan = resolve(found, Options.from_json({"model": name, **options}), spec)
    return result(run(plan, found, model=None if isinstance(model, str) else model))


def _image(image: Any, axes: str | None) -> Image:
    from os import PathLike
    from pathlib import Path

    if isinstance(image, (str, PathLike)):
        from napari_segsuite.io import read

        return read(Path(image), axes=axes)
    from napari_segsuite.arrays import as_image

    return as_image(image, axes)
