"""What an ONNX file may be: plain operators, and numbers that lie in the file or in files beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_segsuite.errors import MissingExtra, ModelError
from napari_segsuite.models.foreign.archive import inside

DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
LARGEST = 2**31
"""A file of more bytes is no ONNX file: its format ends there."""
BITS = {"FLOAT": 32, "DOUBLE": 64, "FLOAT16": 16, "BFLOAT16": 16, "INT64": 64, "UINT64": 64, "INT32": 32, "UINT32": 32, "INT16": 16, "UINT16": 16,
        "INT8": 8, "UINT8": 8, "BOOL": 8, "COMPLEX64": 64, "COMPLEX128": 128}  # fmt: skip


def check(path: Path) -> list[str]:
    """Read an ONNX file without running it.

    Returns
    -------
    list of str
        Names of the files beside it that its numbers lie in.

    Raises
    ------
    MissingExtra
        onnx is not installed.
    ModelError
        It is no ONNX file, has operators of its own, or numbers that lie elsewhere or are fewer than it says.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except (ImportError, RuntimeError) as error:
        raise MissingExtra("reading ONNX files", "onnx") from error
    if path.stat().st_size >= LARGEST:
        raise ModelError(f"{path} has {path.stat().st_size} bytes", "less than 2 GB", "Export it again, with external data.")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except (DecodeError, ValueError, OSError) as error:
        raise ModelError(f"{path} is not an ONNX file: {error}") from error
    if not model.graph.node or not model.graph.input or not model.graph.output:
        raise ModelError(f"{path} is not an ONNX file with a network in it")
    _check_operators(path, model)
    return sorted({name for tensor in _tensors(model) if (name := _checked(path, tensor))})


def _check_operators(path: Path, model: Any) -> None:
    known = DOMAINS | {function.domain for function in model.functions}
    for node in _nodes(model):
        if node.domain not in known:
            raise ModelError(
                f"{path} uses the operator {node.op_type!r} of {node.domain!r}", "operators of ONNX itself", "Export it without custom operators."
            )


def _graphs(model: Any) -> Iterator[Any]:
    """The graph, those below its operators, and its functions."""
    todo = [model.graph, *model.functions]
    while todo:
        graph = todo.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                todo += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]


def _nodes(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from graph.node


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor whose numbers are stored."""
    for graph in _graphs(model):
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t


def _checked(path: Path, tensor: Any) -> str:
    """The file beside the model that a tensor's numbers lie in, if any; they are as many as its shape says."""
    import onnx

    kind = onnx.TensorProto.DataType.Name(tensor.data_type)
    count = math.prod(tensor.dims)
    if any(n < 0 for n in tensor.dims):
        raise ModelError(f"{path}: tensor {tensor.name!r} has the shape {tuple(tensor.dims)}", "no negative lengths")
    size = count * BITS.get(kind, 4) // 8
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        told = {entry.key: entry.value for entry in tensor.external_data}
        name = str(told.get("location", ""))
        file = inside(path.parent, name, f"{path}, tensor {tensor.name!r},")
        offset, length = (int(told.get(key) or default) for key, default in (("offset", 0), ("length", size)))
        if offset < 0 or length < size or offset + length > file.stat().st_size:
            raise ModelError(
                f"{path}: tensor {tensor.name!r} needs {size} bytes from {offset} on of {name}", f"a file with them; it has {file.stat().st_size}"
            )
        return name
    stored = len(tensor.raw_data) or size * (
        sum(len(getattr(tensor, f"{t}_data")) for t in ("float", "int32", "int64", "double", "uint64", "string")) > 0
    )
    values = max(len(getattr(tensor, f"{t}_data")) for t in ("float", "int32", "int64", "double", "uint64", "string"))
    if stored < size or (not tensor.raw_data and 8 * values < count):
        raise ModelError(f"{path}: tensor {tensor.name!r} has the shape {tuple(tensor.dims)} and {stored} bytes", f"{size} bytes")
    return ""
