"""The description of a BioImage.IO model, versions 0.4 and 0.5 (github.com/bioimage-io/spec-bioimage-io), read as data and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_segsuite.errors import ModelError
from napari_segsuite.models.foreign.fields import Fields, read_yaml
from napari_segsuite.models.foreign.tensors import Source, Tensor, named, read_tensor, source_of, with_tests

NAMES = ("bioimageio.yaml", "rdf.yaml", "model.yaml")
NEEDED = ("type", "format_version", "name", "inputs", "outputs", "weights")
"""What every description has."""
UNDERSTOOD = (
    "BioImage.IO (one description), MONAI bundle (configs/metadata.json), results of nnU-Net (dataset.json, plans.json, fold_0, ...) or of "
    "TotalSegmentator, checkpoint of transformers (config.json: SegFormer, Mask2Former, OneFormer, SAM), StarDist (config.json, weights), or one of "
    "our own (model.json)"
)
"""The kinds of folders of models, for people."""
RUNNABLE = ("onnx", "torchscript", "pytorch_state_dict")
"""The kinds of weights that can be run, those first that need no trust."""


@dataclass(frozen=True)
class Weights:
    """A network: its kind, its file, and for a state dict the code that it belongs to."""

    kind: str
    source: Source
    code: Source | None = None
    callable: str = ""
    kwargs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Package:
    """A model of BioImage.IO, as its description says."""

    path: Path
    name: str
    description: str
    licence: str
    citation: str
    version: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    weights: Mapping[str, Weights]
    documentation: Source | None

    def chosen(self, wish: str = "") -> Weights:
        """The weights that are run: the wished ones, or the first that need no trust.

        Raises
        ------
        ModelError
        """
        runnable = [kind for kind in RUNNABLE if kind in self.weights]
        found = f"{self.path}, field 'weights': {', '.join(self.weights) or 'nothing'}"
        if wish and wish not in runnable:
            raise ModelError(f"{found}, and not {wish}", f"one of {', '.join(runnable)}" if runnable else f"one of {', '.join(RUNNABLE)}")
        if not runnable:
            raise ModelError(found, f"weights that can be run here: {', '.join(RUNNABLE)}", "Ask its makers for an ONNX file.")
        return self.weights[wish or runnable[0]]


SUFFIXES = (".yaml", ".yml")
"""What the names of descriptions end with."""


def find(folder: Path) -> Path:
    """The description in a folder.

    Raises
    ------
    ModelError
        There is none, or more than one.
    """
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("*.bioimageio.yaml"))
    if len(found) != 1:
        told = ", ".join(p.name for p in found) or "none"
        raise ModelError(
            f"folder {folder} has no {' or '.join(NAMES)}, and of *.bioimageio.yaml {told}",
            f"a folder of one of these kinds: {UNDERSTOOD}",
            "Name the folder in which these files lie; networks (.onnx, .pt, .pt2) and weights of Cellpose are added as the file that they are.",
        )
    return found[0]


def read_package(path: Path) -> Package:
    """Read a description.

    Raises
    ------
    MissingExtra
        PyYAML is not installed.
    ModelError
        Names the file, the field, what was found and what is needed.
    """
    told = Fields(path, "", read_yaml(path))
    if lacking := [name for name in NEEDED if told.told.get(name) is None]:
        found = f"{path} has no {', '.join(lacking)}; it ends after {', '.join(list(map(str, told.told))[-1:]) or 'nothing'!r}"
        raise ModelError(found, f"all of {', '.join(NEEDED)}", "If it ends too early there, get it again.")
    if (kind := told.text("type", "")) != "model":
        told.wrong("type", kind, "model")
    version = told.text("format_version")
    if not re.match(r"0\.[45]\.", version):
        told.wrong("format_version", version, "0.4.x or 0.5.x")
    old = version.startswith("0.4")
    inputs = tuple(read_tensor(f, old, "preprocessing", n) for n, f in enumerate(told.many("inputs")))
    outputs = tuple(read_tensor(f, old, "postprocessing", n) for n, f in enumerate(told.many("outputs")))
    if old:
        inputs, outputs = with_tests(told, inputs, "test_inputs"), with_tests(told, outputs, "test_outputs")
    names = [t.name for t in inputs + outputs]
    if double := sorted({n for n in names if names.count(n) > 1}):
        at = max(n for n, name in enumerate(names) if name == double[0])
        field = f"inputs[{at}]" if at < len(inputs) else f"outputs[{at - len(inputs)}]"
        told.wrong(f"{field}.{'name' if old else 'id'}", double[0], "a name that no other input or output has")
    return Package(
        path=path,
        name=told.text("name"),
        description=told.text("description", ""),
        licence=told.text("license", ""),
        citation="; ".join(filter(None, (_cited(f) for f in told.many("cite", [])))),
        version=str(told.value("version", "1")),
        inputs=inputs,
        outputs=outputs,
        weights=_weights(told.below("weights"), old),
        documentation=source_of(told, "documentation") if isinstance(told.value("documentation", None), (str, dict)) else None,
    )


def _weights(told: Fields, old: bool) -> dict[str, Weights]:
    found = {}
    for kind in told.told:
        f = told.below(str(kind))
        source = named(f, "source", f.value("source"), f.text("sha256", "") if f.value("sha256", None) is not None else "")
        code, name, kwargs = _architecture(f, old) if kind == "pytorch_state_dict" else (None, "", None)
        found[str(kind)] = Weights(str(kind), source, code, name, kwargs)
    return found


def _architecture(told: Fields, old: bool) -> tuple[Source, str, Mapping[str, Any]]:
    """The file with the network's code, the name in it, and what it is called with."""
    if old:
        written = told.text("architecture")
        file, _, name = written.rpartition(":")
        if not file.endswith(".py"):
            told.wrong("architecture", written, "FILE.py:NAME; code out of a library is not imported by its name")
        return named(told, "architecture", file, str(told.value("architecture_sha256", "") or "")), name, dict(told.value("kwargs", None) or {})
    f = told.below("architecture")
    if "source" not in f.told:
        f.wrong("source", f.value("import_from", None), "a file with the code; code out of a library is not imported by its name")
    return source_of(told, "architecture"), f.text("callable"), dict(f.value("kwargs", None) or {})


def _cited(told: Fields) -> str:
    return ", ".join(str(told.told[k]) for k in ("text", "doi") if told.told.get(k))
