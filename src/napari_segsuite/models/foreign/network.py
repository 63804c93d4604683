"""Networks of others, opened: whatever the file is, then a module that answers tensors with a list of tensors."""

from __future__ import annotations

import importlib.util
import io
import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_segsuite.errors import MissingExtra, ModelError
from napari_segsuite.models.foreign import onnx_file
from napari_segsuite.models.foreign.archive import inside, sha256_of
from napari_segsuite.models.foreign.built import LIBRARIES, built
from napari_segsuite.models.foreign.fields import line
from napari_segsuite.models.foreign.home import WHY, demand

SUFFIXES = {".onnx": "onnx", ".pt": "torchscript", ".pth": "torchscript", ".torchscript": "torchscript", ".ts": "torchscript", ".pt2": "pt2"}


def opened(net: Mapping[str, Any], folder: Path, device: torch.device, *, trusted: bool = False) -> nn.Module:
    """Open the network that a description names, after checking all its files.

    Parameters
    ----------
    net : mapping
        ``name`` (the kind), ``file``, ``files`` (name -> sha256 of all its files), and for a state dict ``code``, ``callable``, ``kwargs``;
        for a network out of a library (`built`) ``network`` and ``kwargs``.
    folder : Path
        That the names are relative to.
    device : torch.device
        Where it will run.
    trusted : bool
        Whether it may run code of its own this once, though it is not in the user's list.

    Returns
    -------
    Module
        Tensors to a list of tensors.

    Raises
    ------
    MissingExtra
        What it needs to run is not installed.
    ModelError
        A file is not there or another one; it is a program that the user does not trust; it cannot be opened.
    """
    kind, files = net["name"], dict(net["files"])
    if not {net["file"], *([net["code"]] if "code" in net else [])} <= set(files) or (kind == "pytorch_state_dict") != ("code" in net):
        raise ModelError(f"{folder / 'model.json'}, field 'net.files': {', '.join(files)}", "all files of the network, with their sha256")
    paths = {name: inside(folder, name, str(folder / "model.json")) for name in files}
    for name, path in paths.items():
        if (found := sha256_of(path)) != files[name]:
            raise ModelError(f"{path} has the sha256 {found[:16]}...", f"{files[name][:16]}... as model.json says", "Add the model again.")
    if kind in WHY and not trusted:
        demand(kind, files, folder.name, f"Say so with: segsuite models add {folder} --trust")
    if kind in LIBRARIES:
        return Listed(built(net, paths))
    network: nn.Module = _OPEN[kind](paths[net["file"]], net, paths, device)
    return network


def check_kind(kind: str, path: Path) -> None:
    """Refuse a file that is not what its ending says, before anything in it is run.

    Raises
    ------
    ModelError
    """
    if kind == "onnx":
        onnx_file.check(path)
        return
    names = _members(path)
    last = {name.rpartition("/")[2] for name in names}
    if kind == "torchscript" and not ("constants.pkl" in last and any("/code/" in name for name in names)):
        what = "a state dict or another pickle of PyTorch, numbers without a network" if "data.pkl" in last else "no TorchScript file"
        raise ModelError(f"{path} is {what}", "a TorchScript file, as torch.jit.script(network).save(path) writes", "Export it, best as ONNX.")
    if kind == "pt2" and not names:
        raise ModelError(f"{path} is no torch.export file", "a file that torch.export.save wrote")


def _members(path: Path) -> list[str]:
    """The names in a zip file; none where it is something else, or damaged."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return []


def needs(kind: str, path: Path) -> list[Path]:
    """The files beside a network's file that belong to it."""
    return [inside(path.parent, name, str(path)) for name in onnx_file.check(path)] if kind == "onnx" else []


def shapes(network: nn.Module, told: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """The shapes of what a network answers zeros with, of the `least` size that its input may have and that is not tiny."""
    sizes = zip(told["axes"], told["least"], told["step"], strict=True)
    size = [valid(n if a not in "zyx" else 32, n, m) for a, n, m in sizes]
    try:
        with torch.inference_mode():
            return [tuple(t.shape) for t in network.eval()(torch.zeros(size))]
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(
            f"the network cannot take an input of {size} ({told['axes']}): {line(error)}", "the sizes and axes that it is made for"
        ) from error


class Listed(nn.Module):
    """TorchScript, or a network out of Python code or a library."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        return _listed(self.inner(*tensors))


class _Exported(nn.Module):
    """A torch.export program; it stays on the device that it was opened for, and has no training mode to leave."""

    def __init__(self, program: Any, device: torch.device) -> None:
        super().__init__()
        if device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        self.device, self.hidden = device, (program.module(),)

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        return _listed(self.hidden[0](*[t.to(self.device) for t in tensors]))


class _Onnx(nn.Module):
    """A session of ONNX Runtime, on the graphics card where its build for that is installed."""

    def __init__(self, path: Path, device: torch.device, threads: int) -> None:
        super().__init__()
        try:
            import onnxruntime
        except (ImportError, RuntimeError) as error:
            raise MissingExtra("running ONNX models", "onnx") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        wished = ["CUDAExecutionProvider", "CPUExecutionProvider"] if device.type == "cuda" else ["CPUExecutionProvider"]
        providers = [name for name in wished if name in onnxruntime.get_available_providers()]
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:
            raise ModelError(f"{path} cannot be opened by ONNX Runtime: {line(error)}", do="Export it again, with an older opset.") from error
        self.inputs = self.session.get_inputs()

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        given = {
            told.name: t.cpu().numpy().astype(_NUMPY.get(told.type, np.float32), copy=False) for told, t in zip(self.inputs, tensors, strict=True)
        }
        try:
            answers = self.session.run(None, given)
        except Exception as error:
            raise ModelError(f"ONNX Runtime stopped: {line(error)}", "an input as the network is made for") from error
        return [torch.from_numpy(np.asarray(value)).to(tensors[0].device) for value in answers]


_NUMPY = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
}


def _torchscript(path: Path, *_: Any) -> nn.Module:
    check_kind("torchscript", path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the format is old
            return Listed(torch.jit.load(io.BytesIO(path.read_bytes()), map_location="cpu"))
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"{path} cannot be opened as TorchScript: {line(error)}") from error


def _pt2(path: Path, _: Any, __: Any, device: torch.device) -> nn.Module:
    check_kind("pt2", path)
    try:
        return _Exported(torch.export.load(io.BytesIO(path.read_bytes())), device)
    except Exception as error:
        raise ModelError(
            f"{path} cannot be opened by torch.export: {line(error)}", do="Export it with a version of torch like the one here."
        ) from error


def _onnx(path: Path, _: Any, paths: Mapping[str, Path], device: torch.device) -> nn.Module:
    if unknown := {path.parent / name for name in onnx_file.check(path)} - set(paths.values()):
        raise ModelError(
            f"{path} keeps numbers in {min(unknown).name}, which model.json does not name", "all files of the network, with their sha256"
        )
    return _Onnx(path, device, torch.get_num_threads())


def _state_dict(path: Path, net: Mapping[str, Any], paths: Mapping[str, Path], _: torch.device) -> nn.Module:
    code = paths[net["code"]]
    try:
        state = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
        spec = importlib.util.spec_from_file_location(f"segsuite_foreign_{net['files'][net['code']][:16]}", code)
        if spec is None or spec.loader is None:
            raise ModelError(f"{code} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        network = getattr(module, net["callable"])(**net["kwargs"])
        network.load_state_dict(state)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{code}: {net['callable']} with the weights {path.name} cannot be built: {type(error).__name__}: {line(error)}") from error
    return Listed(network)


_OPEN: Mapping[str, Any] = {"onnx": _onnx, "torchscript": _torchscript, "pt2": _pt2, "pytorch_state_dict": _state_dict}


def _listed(answer: Any) -> list[Tensor]:
    values = list(answer.values()) if isinstance(answer, Mapping) else list(answer) if isinstance(answer, Sequence) else [answer]
    if not values or not all(isinstance(v, Tensor) for v in values):
        raise ModelError(f"the network answers with {type(answer).__name__}", "tensors")
    return values


def valid(n: int, least: int, step: int) -> int:
    """The smallest of ``least + k * step`` that is not below `n`; `least` itself where there is no other.

    >>> valid(70, 32, 16), valid(3, 32, 16), valid(256, 256, 0)
    (80, 32, 256)
    """
    return least if n <= least or not step else least + -(-(n - least) // step) * step
