"""Our own checkpoint: a folder with ``model.json`` (everything about the model) and ``weights.safetensors`` (tensors, never a pickle)."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_segsuite import arrays
from napari_segsuite.codecs import NAMES
from napari_segsuite.errors import ModelError, OptionError
from napari_segsuite.types import Class, Head, Model, ModelSpec

if TYPE_CHECKING:
    import torch

FORMAT = "segsuite-model/1"
LARGEST_JSON = 2**20
AGAIN = "Join the models again, or add them again."
ENSEMBLE, PARTS = "ensemble", "parts"
SEVERAL = (ENSEMBLE, PARTS)
"""Names of networks that are several models, whose folders lie in this one: their mean, or each with classes of its own."""
FOREIGN = (
    "onnx", "torchscript", "pt2", "pytorch_state_dict", "monai", "nnunet", "transformers_segformer", "transformers_mask2former",
    "transformers_oneformer", "stardist", "cellpose", "cellpose_sam", "transformers_sam",
)  # fmt: skip
"""Networks of others (`foreign.network`), whose files lie beside ``model.json`` as they came."""


def read_spec(folder: Path) -> ModelSpec:
    """Read ``model.json``.

    Raises
    ------
    ModelError
        Names the file, the field, what was found and what is needed.
    """
    path = folder / "model.json"
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ModelError(f"{path} has {path.stat().st_size} bytes", f"at most {LARGEST_JSON}")
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}", "a JSON file that describes a model") from error
    if not isinstance(told, dict) or told.pop("format", None) != FORMAT:
        raise ModelError(
            f"{path} is not of the format {FORMAT!r}", f"a field 'format' with the value {FORMAT!r}", "Update napari-segsuite, or convert it."
        )
    known = {f.name for f in fields(ModelSpec)}
    unknown = sorted(set(told) - known)
    if unknown:
        raise ModelError(f"{path} has unknown fields {', '.join(unknown)}", f"only {', '.join(sorted(known))}", "Update napari-segsuite.")
    try:
        return _spec(told)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{path} describes no model: {error}") from error


def load(folder: Path, *, device: str, batch: int, flips: bool) -> Model:
    """Build the network and load its weights, after checking their sha256.

    Raises
    ------
    ModelError
        The description does not fit together; the weights are missing, damaged, not finite or of another network.
    """
    from napari_segsuite.models.torch_model import TorchModel

    spec = read_spec(folder)
    if spec.net.get("name") in SEVERAL:
        return _several(folder, spec, device=device, batch=batch, flips=flips)
    if spec.net.get("name") in FOREIGN:
        from napari_segsuite.models.foreign import model

        try:
            return model.load(folder, spec, device=device, flips=flips)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{folder / 'model.json'}, field 'net': {type(error).__name__}: {error}", "what `segsuite models add` writes") from error
    net = _net(spec, folder / "model.json")
    fill(net, _weights(folder / "weights.safetensors", spec.weights_sha256), folder)
    return TorchModel(spec, net, device=device, batch=batch, flips=flips)


def save(spec: ModelSpec, state: Mapping[str, torch.Tensor], folder: Path, *, half: bool = True) -> ModelSpec:
    """Write a checkpoint.

    Parameters
    ----------
    spec : ModelSpec
        Its sha256 is filled in.
    state : mapping of str to tensor
    folder : Path
        Made if needed; files are replaced only when the new ones are complete.
    half : bool
        Store kernels as float16, which halves the file (`stored`).

    Returns
    -------
    ModelSpec
        As written.
    """
    from safetensors.torch import save as to_bytes

    small = {name: (stored(v) if half else v).contiguous() for name, v in state.items()}
    check_finite(small, folder)
    data = to_bytes(small)
    told = {"format": FORMAT, **asdict(spec), "weights_sha256": hashlib.sha256(data).hexdigest()}
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / "weights.safetensors", data)
    _replace(folder / "model.json", (json.dumps(told, indent=2) + "\n").encode())
    return read_spec(folder)


def stored(value: torch.Tensor) -> torch.Tensor:
    """A tensor as it lies on disk: kernels in half precision; norms in full; whole numbers, which may be indices, as they are."""
    return value.half() if value.ndim > 1 and value.is_floating_point() else value


def _several(folder: Path, spec: ModelSpec, *, device: str, batch: int, flips: bool) -> Model:
    """The models in folders inside of this one, as one."""
    from napari_segsuite.models.parts import Parts, parted_spec
    from napari_segsuite.models.together import Ensemble, joined_spec

    describe, kind = (joined_spec, Ensemble) if spec.net["name"] == ENSEMBLE else (parted_spec, Parts)
    path = folder / "model.json"
    try:
        names, files = [str(name) for name in spec.net["members"]], dict(spec.net["files"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}, field 'net': {error}", "members and files, as `segsuite models` writes them") from error
    members = []
    for name in names:
        inner = folder / name
        if not re.fullmatch(r"members/\d+", name) or inner.is_symlink():
            raise ModelError(f"{path} names the member {name!r}", "a folder members/NUMBER")
        if read_spec(inner).net.get("name") in SEVERAL:
            raise ModelError(f"{inner} is made of models itself", "models with a network of their own")
        found = hashlib.sha256((inner / "model.json").read_bytes()).hexdigest()
        if found != files.get(f"{name}/model.json"):
            raise ModelError(f"{inner / 'model.json'} has the sha256 {found[:16]}...", "the one that the model was made of", AGAIN)
        members.append(load(inner, device=device, batch=batch, flips=flips))
    try:
        grid = describe([m.spec for m in members], spec.name)
    except OptionError as error:
        raise ModelError(f"{path}: {error.found}", "members that fit together", AGAIN) from error
    if any(n % m for n, m in zip(spec.multiple, grid.multiple, strict=True)) or spec.heads != grid.heads:
        raise ModelError(f"{path}: multiple is {spec.multiple}", f"multiples of {grid.multiple}", AGAIN)
    return kind(spec, members)


def _spec(told: dict[str, Any]) -> ModelSpec:
    """Plain JSON values to a spec, lists to tuples."""
    told["heads"] = tuple(Head(**head) for head in told["heads"])
    told["classes"] = tuple(Class(c["id"], c["name"], tuple(c["color"]), c["countable"]) for c in told["classes"])
    for name in ("channels", "tile", "multiple", "context", "pixel_size_um"):
        if told.get(name) is not None:
            told[name] = tuple(told[name])
    spec = ModelSpec(**told)
    _check_texts(spec)
    _check_grid(spec)
    _check_classes(spec)
    _check_scale(spec)
    return spec


def _check_texts(spec: ModelSpec) -> None:
    for name in ("name", "version", "description", "codec", "licence", "citation", "trained_on", "weights_sha256"):
        if not isinstance(getattr(spec, name), str):
            raise ValueError(f"{name} is {getattr(spec, name)!r}, not a text")
    if spec.codec not in NAMES:
        raise ValueError(f"the codec {spec.codec!r} is not one of {', '.join(NAMES)}")
    if not spec.channels or not all(isinstance(c, str) for c in spec.channels):
        raise ValueError(f"channels are {spec.channels}, not a list of names")


def _check_grid(spec: ModelSpec) -> None:
    sizes = {len(spec.axes), len(spec.tile), len(spec.multiple), len(spec.context)}
    whole = [*spec.tile, *spec.multiple, *spec.context]
    if spec.axes not in ("yx", "zyx") or len(sizes) != 1 or not all(isinstance(n, int) and 0 <= n <= 65536 for n in whole):
        raise ValueError(f"axes {spec.axes!r} with tile {spec.tile}, multiple {spec.multiple}, context {spec.context}")
    # Tiles begin at multiples of the network's stride, so the context is rounded up to one.
    if any(m < 1 or t < 2 * (-(-c // m) * m) + m for t, c, m in zip(spec.tile, spec.context, spec.multiple, strict=True)):
        raise ValueError(f"a tile of {spec.tile} has nothing left inside a context of {spec.context}")


def _check_classes(spec: ModelSpec) -> None:
    if not 1 <= len(spec.classes) <= 255 or [c.id for c in spec.classes] != list(range(1, len(spec.classes) + 1)):
        raise ValueError("class ids are not 1, 2, 3, ... up to 255 at most")
    if sorted(spec.classes, key=lambda c: bool(c.countable)) != list(spec.classes):
        raise ValueError("a class of stuff comes after a countable one")


def _check_scale(spec: ModelSpec) -> None:
    lengths = [*(spec.pixel_size_um or ()), *([] if spec.diameter_px is None else [spec.diameter_px])]
    if not all(isinstance(n, (int, float)) and 0 < n < math.inf for n in lengths) or len(spec.pixel_size_um or spec.axes) != len(spec.axes):
        raise ValueError(f"pixel_size_um is {spec.pixel_size_um}, diameter_px is {spec.diameter_px}")
    method, values = spec.normalize.get("method"), spec.normalize.get("values", (1.0, 99.8))
    low, high = values
    if method not in arrays.METHODS or not 0 <= low < high <= 100 or not 0 <= spec.normalize.get("eps", 0) < math.inf:
        raise ValueError(
            f"normalize is {dict(spec.normalize)}, not percentiles with two values from 0 to 100, or one of {', '.join(arrays.METHODS[1:])}"
        )


def _net(spec: ModelSpec, path: Path) -> torch.nn.Module:
    """Build the network, after seeing whether it takes and answers what the rest of the description says."""
    from napari_segsuite.codecs import codec
    from napari_segsuite.models import nets

    told = {head.name: (head.channels, head.kind) for head in spec.heads}
    needs = {head.name: (head.channels, head.kind) for head in codec(spec.codec).heads(spec.classes, len(spec.axes))}
    try:
        kwargs = dict(spec.net["kwargs"])
        found = {name: kwargs[name] for name in ("dims", "in_channels", "heads")}
        net = nets.build(spec.net["name"], kwargs)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}, field 'net': {error}", f"a network of {', '.join(nets.NETS)} and its sizes") from error
    right = {"dims": len(spec.axes), "in_channels": len(spec.channels), "heads": {name: channels for name, (channels, _) in told.items()}}
    if found != right:
        raise ModelError(f"{path}, field 'net': {found}", f"{right} as the axes, channels and heads beside it")
    if not needs.items() <= told.items():
        raise ModelError(f"{path}: the heads are {told}", f"{needs} for the codec {spec.codec!r} and {len(spec.classes)} classes")
    if any(m % n for m, n in zip(spec.multiple, nets.multiple_of(net), strict=True)):
        raise ModelError(f"{path}: multiple is {spec.multiple}", f"multiples of {nets.multiple_of(net)}, the network's stride")
    return net


def _weights(path: Path, sha256: str) -> Mapping[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}", "the weights beside model.json") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelError(
            f"{path} has the sha256 {found[:16]}...", f"{sha256[:16]}... as model.json says", "Get the model again; this file is damaged."
        )
    try:
        tensors: dict[str, torch.Tensor] = from_bytes(data)
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from error
    return tensors


def fill(net: torch.nn.Module, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Copy the weights into the network, in full precision.

    Raises
    ------
    ModelError
        They are not those of this network, or not finite.
    """
    own = net.state_dict()
    wrong = [n for n in {*own, *weights} if n not in own or n not in weights or own[n].shape != weights[n].shape]
    if wrong:
        name = sorted(wrong)[0]
        shapes = [tuple(d[name].shape) if name in d else "nothing" for d in (weights, own)]
        raise ModelError(
            f"{folder}: {len(wrong)} tensors do not fit, such as {name!r}: the file has {shapes[0]}", f"{shapes[1]} as the network in model.json"
        )
    check_finite(weights, folder)
    net.load_state_dict({name: value.to(own[name].dtype) for name, value in weights.items()})


def check_finite(weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Refuse weights that are not finite.

    Raises
    ------
    ModelError
    """
    bad = [n for n, v in weights.items() if v.is_floating_point() and not bool(v.isfinite().all())]
    if bad:
        raise ModelError(f"{folder}: the weights {bad[0]!r} are not finite", do="Train again from the last good checkpoint.")


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
