"""What a plan records of its image and its model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import numpy as np

from napari_segsuite.types import Image, ModelSpec


def image_told(image: Image) -> dict[str, Any]:
    """What an image is and where it lies, as plain values."""
    return {
        "name": image.name,
        "source": image.source,
        "shape": list(image.shape),
        "axes": image.axes,
        "dtype": str(np.dtype(image.data.dtype)),
        "scale": list(image.scale),
        "units": list(image.units),
        "translate": list(image.translate),
        "channels": list(image.channels),
    }


def model_told(spec: ModelSpec) -> dict[str, Any]:
    """What a plan and its fingerprint must know of a model."""
    words = ("description", "licence", "citation", "trained_on")
    rest = json.dumps({k: v for k, v in asdict(spec).items() if k not in words}, sort_keys=True)
    return {
        "name": spec.name,
        "version": spec.version,
        "task": spec.task,
        "weights_sha256": spec.weights_sha256,
        "spec_sha256": hashlib.sha256(rest.encode()).hexdigest(),
        "codec": spec.codec,
        "normalize": dict(spec.normalize),
        "tile": {"size": list(spec.tile), "context": list(spec.context), "multiple": list(spec.multiple)},
    }
