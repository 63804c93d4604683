"""A package's own test: its test inputs through its network as it is run here, compared with its test outputs."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_segsuite.errors import ModelError
from napari_segsuite.models import CLASSICAL, builtin
from napari_segsuite.models.foreign import home, rdf
from napari_segsuite.models.foreign.archive import Show, is_url, naming, package_at
from napari_segsuite.models.foreign.home import SAY_SO
from napari_segsuite.models.foreign.network import opened
from napari_segsuite.models.foreign.processing import Others, apply
from napari_segsuite.models.foreign.sources import PACKAGE, found, gathered
from napari_segsuite.models.foreign.tensors import Tensor

LARGEST = 2**28
"""Numbers that a test tensor may have."""


@dataclass(frozen=True)
class Checked:
    """How far the answers are from those that the package says are right.

    Attributes
    ----------
    name : str
    weights : str
        The kind that was run.
    differences : mapping
        Largest absolute difference, per output.
    tolerance : float
    """

    name: str
    weights: str
    differences: Mapping[str, float]
    tolerance: float

    @property
    def good(self) -> bool:
        """Whether no difference is above the tolerance."""
        return all(d <= self.tolerance for d in self.differences.values())

    def __str__(self) -> str:
        told = ", ".join(f"{name} {d:.2g}" for name, d in self.differences.items())
        return f"{self.name} ({self.weights}): largest difference {told}; tolerance {self.tolerance:g}: {'good' if self.good else 'NOT GOOD'}"


def check(source: str, *, tolerance: float = 1e-4, weights: str = "", trusted: bool = False, show: Show | None = None) -> Checked:
    """Run the test of a model that was added, or of a package that was not.

    Parameters
    ----------
    source : str
        Name of a model, or path or URL of a BioImage.IO package.
    tolerance : float
    weights : str, optional
        Which of a package's networks.
    trusted : bool
        Whether a package that was not added may run code of its own.
    show : callable, optional
        Told how many bytes of how many are downloaded.

    Raises
    ------
    SegsuiteError
        There is no test, it cannot be read, or the network cannot be run.
    """
    if source in (there := home.installed()):
        from napari_segsuite.models.folder import read_spec

        spec = read_spec(there[source])
        if "description" not in spec.net:
            raise ModelError(f"model {source!r} came without test tensors", "a BioImage.IO package, which has some")
        package = rdf.read_package(there[source] / spec.net["description"])
        return _checked(package, source, spec.net, there[source], tolerance)
    if source in {*builtin(), *CLASSICAL} and not Path(source).exists():
        do = f"Its figures: `segsuite models show {source}`."
        raise ModelError(f"model {source!r} came with the install, without test tensors", "a BioImage.IO package, which has some", do)
    with found(source, "", show) as path, tempfile.TemporaryDirectory(prefix="segsuite-") as made:
        if path.is_file() and path.suffix.lower() not in rdf.SUFFIXES:
            needed = "the name of a model that was added, or a folder, zip file or description (.yaml) of a BioImage.IO package"
            raise ModelError(f"{source} is no model with a test of its own", needed)
        package = rdf.read_package(path if path.is_file() else rdf.find(path))
        chosen, new = package.chosen(weights), Path(made)
        net = gathered(package, chosen, new, source if is_url(source) else "", show)
        if not trusted:
            home.demand(chosen.kind, net["files"], package.name, SAY_SO)
        with naming(source, {rf"{re.escape(made)}(/{PACKAGE})?": package_at(source)}):
            return _checked(package, package.name, net, new, tolerance, trusted)


def _checked(package: rdf.Package, name: str, net: Mapping[str, Any], folder: Path, tolerance: float, trusted: bool = False) -> Checked:
    lacking = [t.name for t in (*package.inputs, *package.outputs) if t.test is None]
    if lacking:
        raise ModelError(f"{package.path} names no test tensor for {', '.join(lacking)}", "one for every input and output")
    where = folder / PACKAGE
    inputs = {t.name: (_tensor(where, t), t.axes) for t in package.inputs}
    ready = [apply(t.steps, inputs[t.name][0], t.axes, inputs) for t in package.inputs]
    network = opened(net, folder, torch.device("cpu"), trusted=trusted).eval()
    with torch.inference_mode():
        answers = network(*ready)
    if len(answers) != len(package.outputs):
        raise ModelError(f"the network answers with {len(answers)} tensors", f"{len(package.outputs)}, as {package.path} says")
    raw: Others = {**inputs, **{t.name: (a.float(), t.axes) for t, a in zip(package.outputs, answers, strict=True)}}
    differences = {t.name: _difference(t, apply(t.steps, raw[t.name][0], t.axes, raw), _tensor(where, t)) for t in package.outputs}
    return Checked(name, net["name"], differences, tolerance)


def _difference(tensor: Tensor, got: torch.Tensor, wanted: torch.Tensor) -> float:
    if got.shape != wanted.shape:
        raise ModelError(f"output {tensor.name!r} has the shape {tuple(got.shape)}", f"{tuple(wanted.shape)}, as its test tensor")
    difference = (got.double() - wanted.double()).abs().max()
    return float(difference) if bool(difference.isfinite()) else float("inf")


def _tensor(where: Path, tensor: Tensor) -> torch.Tensor:
    """A test tensor out of an npy file, without trusting what it says of its size."""
    assert tensor.test is not None
    path = where / tensor.test.path
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.ndim != len(tensor.axes) or array.size > LARGEST or array.dtype.kind not in "biuf":
            raise ValueError(f"it holds {getattr(array, 'shape', '?')} {getattr(array, 'dtype', '')}")
        return torch.from_numpy(np.array(array, np.float32))
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(f"test tensor {path} cannot be read: {error}", f"an .npy file of numbers with the axes {tensor.axes!r}") from error
