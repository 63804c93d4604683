"""Weights that Keras stored as HDF5, layer by layer: read by h5py as numbers, without Keras or TensorFlow.

Two layouts are known. That of Keras 1 and 2, which csbdeep and StarDist write with Keras 3 as well: a group per layer, whose attribute
``weight_names`` lists its arrays. And that of Keras 3 (``.weights.h5``): ``layers/KIND_NUMBER/vars/NUMBER``, with the layer's name as an attribute.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import MissingExtra, ModelError
from napari_segsuite.models.foreign.fields import line

LARGEST = 2**29
"""Numbers that a file may hold."""
LAYERS = 10_000
PARTS = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
Layers = Mapping[str, Mapping[str, NDArray[np.float32]]]
"""The arrays of each layer with weights, by their name in Keras, out of `PARTS`."""
LAYOUT = "weights as Keras stores them: the attribute 'layer_names' at the top of the file, or a group 'layers' of Keras 3"


def read(path: Path) -> Layers:
    """Read the weights of all layers.

    Raises
    ------
    MissingExtra
        h5py is not installed.
    ModelError
        The file is damaged, of another layout, leads to other files, or holds more than `LARGEST` numbers.
    """
    try:
        import h5py
    except (ImportError, RuntimeError) as error:
        raise MissingExtra("weights of Keras (.h5)", "stardist") from error
    try:
        with h5py.File(path, "r") as file:
            top = _group(file, "model_weights", path) if "model_weights" in file else file
            listed = "layer_names" in top.attrs or "layer_names0" in top.attrs
            if not listed and "layers" not in top:
                raise ModelError(f"{path} holds {', '.join(list(top)[:5]) or 'nothing'}", LAYOUT)
            return _bounded((_old if listed else _new)(top, path), path)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, UnicodeError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as HDF5: {line(error)}", LAYOUT, "Get the file again; this one is damaged.") from error


def _old(top: Any, path: Path) -> Iterator[tuple[str, str, Any]]:
    """Layer, part and data set, as Keras 1 and 2 lay them out."""
    for layer in _texts(top.attrs, "layer_names"):
        group = _group(top, layer, path)
        for name in _texts(group.attrs, "weight_names"):
            yield layer, name.rpartition("/")[2].partition(":")[0], _data(group, name, path)


def _new(top: Any, path: Path) -> Iterator[tuple[str, str, Any]]:
    """The same as Keras 3 lays them out: the arrays of a layer have numbers, in the order in which it made them."""
    layers = _group(top, "layers", path)
    for key in layers:
        numbered = _group(_group(layers, key, path), "vars", path)
        arrays = [_data(numbered, str(n), path) for n in range(len(numbered))]
        name = numbered.attrs.get("name")
        if arrays and not isinstance(name, str):
            raise ModelError(f"{path}: layer {key!r} does not say its name", "a file of Keras 3.3 or newer, or of Keras 2 (weights_best.h5)")
        parts = PARTS[:2] if arrays and arrays[0].ndim > 1 else PARTS[2:]
        if len(arrays) > len(parts):
            raise ModelError(f"{path}: layer {name!r} has {len(arrays)} arrays", f"at most {len(parts)}: {', '.join(parts)}")
        yield from ((str(name), part, array) for part, array in zip(parts, arrays, strict=False))


def _bounded(found: Iterator[tuple[str, str, Any]], path: Path) -> Layers:
    """The arrays themselves, unless they are no real numbers, not of a known kind, or too many."""
    layers: dict[str, dict[str, NDArray[np.float32]]] = {}
    left = LARGEST
    for layer, part, data in found:
        if part not in PARTS or data.dtype.kind != "f":
            raise ModelError(f"{path}: layer {layer!r} has {part!r} of {data.dtype}", f"real numbers called {', '.join(PARTS)}")
        left -= math.prod(data.shape)
        if left < 0 or len(layers) > LAYERS:
            raise ModelError(f"{path} holds more than {LARGEST} numbers or {LAYERS} layers", "the weights of a network")
        layers.setdefault(layer, {})[part] = np.asarray(data[()], np.float32)
    return layers


def _texts(attributes: Any, key: str) -> list[str]:
    """A list of texts, which Keras cuts into several attributes when it is long."""
    keys = [key] if key in attributes else [f"{key}{n}" for n in range(LAYERS) if f"{key}{n}" in attributes]
    texts = [text for k in keys for text in np.asarray(attributes[k]).ravel().tolist()]
    return [text.decode("utf-8") if isinstance(text, bytes) else str(text) for text in texts]


def _group(parent: Any, name: str, path: Path) -> Any:
    import h5py

    found = _own(parent, name, path)
    if not isinstance(found, h5py.Group):
        raise ModelError(f"{path}: {name!r} is no group", LAYOUT)
    return found


def _data(parent: Any, name: str, path: Path) -> Any:
    import h5py

    found = _own(parent, name, path)
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise ModelError(f"{path}: {name!r} is no array that lies in the file itself", LAYOUT)
    return found


def _own(parent: Any, name: str, path: Path) -> Any:
    """What a group holds under a name, one step at a time and never by a link, which may lead to another file.

    A name has at most a handful of parts: Keras repeats the layer's.
    """
    import h5py

    parts = [part for part in name.split("/") if part]
    if not parts or len(parts) > 20:
        raise ModelError(f"{path} names {name[:100]!r}", "the name of a layer or an array")
    for part in parts:
        if not isinstance(parent, h5py.Group) or not isinstance(parent.get(part, getlink=True), h5py.HardLink):
            raise ModelError(f"{path} has no {name!r} of its own", LAYOUT, "Get the file again; this one is damaged.")
        parent = parent[part]
    return parent
