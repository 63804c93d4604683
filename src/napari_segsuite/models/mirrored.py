"""Images that lie the other way round than a model wants them: the model sees their tiles mirrored.

Models of patients tell left from right by where it lies. How an image lies is what its file says; in the world of this project x grows to the
patient's left, y to the back and z to the head (LPS, `io.world`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.types import Image, Model, ModelSpec, Prediction

WORLD = {"x": "L", "y": "P", "z": "S"}
"""Where the axes of the world grow to: left, back (posterior), head (superior)."""
LIES = "lies"
"""The field of `ModelSpec.net` that says where x, y and z must grow to, such as ``RAS``."""


def mirrored_axes(image: Image, spec: ModelSpec) -> str:
    """The axes along which a model must see an image mirrored.

    Parameters
    ----------
    image : Image
        One without a size in units of length has no place in the world, and is taken as it is.
    spec : ModelSpec

    Returns
    -------
    str
        Letters of ``zyx``; empty where the image lies as the model wants it, or the model does not care.
    """
    wanted: Any = spec.net.get(LIES)
    cares = isinstance(wanted, str) and len(wanted) == len(WORLD) and spec.codec == "semantic"
    if not cares or image.spatial != "zyx" or image.pixel_size_um() is None:
        return ""
    grows = np.ones(3) if image.affine is None else np.diag(image.affine)[:3]
    kept = {axis: wanted[k] == side for k, (axis, side) in enumerate(WORLD.items())}
    return "".join(axis for axis, step in zip(image.spatial, grows, strict=True) if (step > 0) != kept[axis])


def words(spec: ModelSpec, axes: str) -> list[str]:
    """What a user should know of it."""
    return [f"the model {spec.name} sees the image mirrored along {', '.join(axes)}, as it wants it to lie"] if axes else []


class Mirrored:
    """A model that sees tiles mirrored; its maps are mirrored back.

    Parameters
    ----------
    model : Model
        Answers with maps that know no direction.
    axes : str
        Of its spatial ones.
    """

    def __init__(self, model: Model, axes: str) -> None:
        self.model, self.spec = model, model.spec
        self.at = tuple(2 + self.spec.axes.index(axis) for axis in axes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        """Maps (N, C, z, y, x) of a batch of tiles."""
        maps: dict[str, Any] = dict(self.model.predict(np.ascontiguousarray(np.flip(batch, self.at))).maps)
        return Prediction({name: np.flip(v, self.at) if isinstance(v, np.ndarray) else v.flip(self.at) for name, v in maps.items()})
