"""By how much an image is resampled for a model, per axis."""

from __future__ import annotations

import numpy as np

from napari_segsuite.engine.options import Options
from napari_segsuite.errors import OptionError
from napari_segsuite.types import Image, ModelSpec

SMALLEST, LARGEST = 1 / 32, 16.0


def aspect_of(image: Image) -> tuple[tuple[float, ...], list[str]]:
    """Find how much longer a voxel is along each spatial axis than along its shortest: resampled by that, voxels are cubes.

    Parameters
    ----------
    image : Image

    Returns
    -------
    aspect : tuple of float
        One number per spatial axis, at least 1; all 1 where the sizes are not known.
    notices : list of str
        What the user should know.
    """
    units = {u for a, u in zip(image.axes, image.units, strict=True) if a in image.spatial}
    scale = tuple(s for a, s in zip(image.axes, image.scale, strict=True) if a in image.spatial)
    # Numbers of one unit compare even where the unit is none; but all of them 1 is how not knowing looks.
    known = scale if len(units) == 1 and not (units == {"pixel"} and len(set(scale)) == 1) else ()
    sizes = np.abs(image.pixel_size_um() or known)
    if not sizes.size or not (np.isfinite(sizes) & (sizes > 0)).all():
        return (1.0,) * len(scale), ["the voxels are taken as cubes, since their sizes are not known"]
    return tuple((sizes / sizes.min()).tolist()), []


def zoom_of(image: Image, options: Options, spec: ModelSpec, aspect: tuple[float, ...]) -> tuple[tuple[float, ...], list[str]]:
    """Decide on model pixels per image pixel: by a wished diameter, else by physical sizes where both are known, else by `aspect`.

    Parameters
    ----------
    image : Image
    options : Options
    spec : ModelSpec
    aspect : tuple of float
        Per axis that the model sees (`aspect_of`); all 1 where voxels are left in their shape.

    Returns
    -------
    zoom : tuple of float
    notices : list of str
        That the image is resampled, where it is, or that it cannot be known whether it should.

    Raises
    ------
    OptionError
        The model does not resample, or not by so much.
    """
    zoom, why = _wished(image, options, spec, aspect)
    told = _unknown(image, options, spec)
    if not all(np.isfinite(z) and SMALLEST <= z <= LARGEST for z in zoom):
        raise OptionError(f"{why} means resampling {image.name!r} by {_told(zoom)}", f"a factor from {SMALLEST:g} to {LARGEST:g}")
    # A difference of a few percent is inside what models are trained for, and resampling would cost time and sharpness.
    return ((1.0,) * len(zoom), told) if all(abs(z - 1) < 0.05 for z in zoom) else (zoom, [*told, f"resampled by {_told(zoom)} for {why}"])


def _unknown(image: Image, options: Options, spec: ModelSpec) -> list[str]:
    """What to say where a model is for voxels of a size, and nobody knows that of the image."""
    if spec.pixel_size_um is None or options.diameter_px is not None or image.pixel_size_um() is not None:
        return []
    made = " x ".join(f"{s:g}" for s in spec.pixel_size_um)
    found = f"the model is made for voxels of {made} um, and the size of these is not known, so they are taken as they are"
    return [f"{found}; say it with voxel_um (--voxel-um)"]


def _wished(image: Image, options: Options, spec: ModelSpec, aspect: tuple[float, ...]) -> tuple[tuple[float, ...], str]:
    """The zoom, and what it is for."""
    sizes = image.pixel_size_um()
    if options.diameter_px is not None:
        if spec.diameter_px is None:
            raise OptionError(
                f"model {spec.name!r} does not resample, so diameter_px={options.diameter_px} has no effect", do="Leave diameter_px empty."
            )
        return tuple(a * (spec.diameter_px / options.diameter_px) for a in aspect), f"an object diameter of {options.diameter_px:g} pixels"
    if spec.pixel_size_um is not None and sizes is not None:
        zoom = tuple(s / m for s, m in zip(sizes[-len(aspect) :], spec.pixel_size_um, strict=True))
        return zoom, f"pixels of {' x '.join(f'{s:g}' for s in sizes)} um"
    return aspect, "voxels that are cubes"


def _told(zoom: tuple[float, ...]) -> str:
    """A zoom in words: one number where the axes agree."""
    told = [f"{z:.3g}" for z in zoom]
    return told[0] if len(set(told)) == 1 else f"{' x '.join(told)} ({', '.join('zyx'[-len(zoom) :])})"
