"""Networks of other libraries out of plain arguments and a file of numbers: nothing in a model's files is run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from napari_segsuite.errors import MissingExtra, ModelError
from napari_segsuite.models.folder import check_finite, fill
from napari_segsuite.models.foreign import (
    cellpose_net,
    cellpose_sam,
    keras_file,
    mask2former_net,
    oneformer_net,
    sam_file,
    sam_net,
    segformer_net,
    swin_net,
)
from napari_segsuite.models.foreign.fields import Fields, line
from napari_segsuite.models.foreign.monai_nets import arguments
from napari_segsuite.models.foreign.nnunet_nets import LAYERS, checked
from napari_segsuite.models.foreign.pickles import checkpoint, state, weights_in
from napari_segsuite.models.foreign.sam_masks import Automatic

MAX_WEIGHTS = 2**29
"""Numbers that a network may have."""
_MAKERS = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn)


def built(net: Mapping[str, Any], paths: Mapping[str, Path]) -> nn.Module:
    """Build the network that a description asks for, and give it its weights.

    Parameters
    ----------
    net : mapping
        ``name`` (the library), ``file``, ``network`` (a name out of our own table), ``kwargs`` (checked again, as the file may have been changed).
    paths : mapping of str to Path
        Files by their names, of the sha256 that the description says.

    Raises
    ------
    MissingExtra
        The library is not installed.
    ModelError
        The network is none of those that are known, cannot be built of that, or has other weights.
    """
    found: nn.Module = LIBRARIES[net["name"]](net, paths)
    return found


def _monai(net: Mapping[str, Any], paths: Mapping[str, Path]) -> nn.Module:
    kwargs = arguments(str(net["network"]), Fields(Path("model.json"), "net.kwargs", dict(net["kwargs"])))
    path = paths[net["file"]]
    weights = state(path)
    try:
        from monai.networks import nets
    except (ImportError, RuntimeError) as error:
        raise MissingExtra("a MONAI bundle", "monai") from error
    network = bounded(lambda: getattr(nets, net["network"])(**kwargs), f"monai.networks.nets.{net['network']}", "monai")
    fill(network, weights, path)
    return network


def _nnunet(net: Mapping[str, Any], paths: Mapping[str, Path]) -> nn.Module:
    kwargs = checked(str(net["network"]), Fields(Path("model.json"), "net.kwargs", dict(net["kwargs"])))
    files = [path for name, path in paths.items() if name.endswith(".pth")]
    weights = [weights_in(checkpoint(path), path, ("network_weights",)) for path in files]
    try:
        from dynamic_network_architectures.architectures import unet
    except (ImportError, RuntimeError) as error:
        raise MissingExtra("a model of nnU-Net", "nnunet") from error
    layers = {key: getattr(nn, kwargs[key]) for key in LAYERS if kwargs.get(key)}
    name = f"{unet.__name__}.{net['network']}"
    folds = [bounded(lambda: getattr(unet, net["network"])(**{**kwargs, **layers}), name, "nnunet") for _ in files]
    for fold, values, path in zip(folds, weights, files, strict=True):
        fill(fold, values, path)
    return Mean(folds)


class Mean(nn.Module):
    """The mean of what several networks answer, as nnU-Net takes of its folds: of logits, before the softmax."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = sum(network(x) for network in self.networks)
        return total / len(self.networks)


def _segformer(net: Mapping[str, Any], paths: Mapping[str, Path]) -> nn.Module:
    kwargs = segformer_net.arguments(Fields(Path("model.json"), "net.kwargs", dict(net["kwargs"])))
    return Enlarged(_transformers(paths[net["file"]], segformer_net.NETWORK, lambda library: library.SegformerConfig(**kwargs)))


def _mask2former(net: Mapping[str, Any], paths: Mapping[str, Path]) -> nn.Module:
    kwargs = mask2former_net.arguments(Fields(Path("model.json"), "net.kwargs", dict(net["kwargs"])))
    backbone = kwargs.pop(swin_net.BACKBONE)

    def config(library: Any) -> Any:
        return library.Mask2FormerConfig(**kwargs, backbone_config=library.SwinConfig(**backbone))

    return Queries(_transformers(paths[net["file"]], mask2former_net.NETWORK, config))


def _oneformer(net: Mapping[str, Any], paths: Mapping[str, Path]) -> nn.Module:
    kwargs = oneformer_net.arguments(Fields(Path("model.json"), "net.kwargs", dict(net["kwargs"])))
    backbone, task = kwargs.pop(swin_net.BACKBONE), kwargs.pop("task")

    def config(library: Any) -> Any:
        return library.OneFormerConfig(**kwargs, backbone_config=library.SwinConfig(**backbone))

    return Asked(_transformers(paths[net["file"]], oneformer_net.NETWORK, config, oneformer_net.TRAINING), task)


def _stardist(net: Mapping[str, Any], paths: Mapping[str, Path]) -> nn.Module:
    from napari_segsuite.models.foreign import stardist_net

    path = paths[net["file"]]
    stars: Any = bounded(lambda: stardist_net.network(net["kwargs"]), "of StarDist", "stardist")
    fill(stars.network, stardist_net.weights_of(keras_file.read(path), stars.network, path), path)
    found: nn.Module = stars
    return found


def _cellpose(net: Mapping[str, Any], paths: Mapping[str, Path]) -> nn.Module:
    """One of Cellpose's networks, with the weights in a file."""
    path, kind = paths[net["file"]], cellpose_net if net["name"] == "cellpose" else cellpose_sam
    kwargs = kind.arguments(Fields(Path("model.json"), "net.kwargs", dict(net["kwargs"])))
    channels, inputs = kwargs.pop("channels"), kwargs.get("inputs", cellpose_sam.MOST["channels"])
    made = cellpose_net.CPnet if net["name"] == "cellpose" else cellpose_sam.CPSAM
    network = bounded(lambda: made(**kwargs), "of Cellpose", "")
    fill(network, cellpose_net.kept(state(path)), path)
    return cellpose_net.Filled(network, channels, inputs)


def _sam(net: Mapping[str, Any], paths: Mapping[str, Path]) -> nn.Module:
    told = net["objects"]
    kwargs = sam_net.arguments(Fields(Path("model.json"), "net.kwargs", dict(net["kwargs"])))

    def config(library: Any) -> Any:
        parts = {"vision_config": "SamVisionConfig", "prompt_encoder_config": "SamPromptEncoderConfig", "mask_decoder_config": "SamMaskDecoderConfig"}
        return library.SamConfig(**{part: getattr(library, name)(**kwargs[part]) for part, name in parts.items()})

    path = paths[net["file"]]
    own = sam_file.renamed(sam_file.loaded(path)) if sam_file.is_model(path) else None
    return Automatic(_transformers(path, sam_net.NETWORK, config, weights=own), int(told["points"]), float(told["stability"]))


def _transformers(
    path: Path, name: str, config: Callable[[Any], Any], training: tuple[str, ...] = (), weights: Mapping[str, Tensor] | None = None
) -> nn.Module:  # fmt: skip
    """A network of transformers with the weights in a file, without those for `training` only; `config` makes its configuration of the library."""
    weights = _weights(path) if weights is None else weights
    weights = {key: value for key, value in weights.items() if not key.startswith(training)} if training else weights
    check_finite(weights, path)
    try:
        import transformers
        from transformers.utils import logging

        kind = getattr(transformers, name)
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another version than torch
        raise MissingExtra("a network of transformers", "transformers") from error
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what does not fit is told below
    try:
        return bounded(lambda: _loaded(kind, config(transformers), weights, path, training), name, "transformers")
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file as transformers keeps them."""
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    try:
        return from_bytes(path.read_bytes()) if path.suffix == ".safetensors" else state(path)
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{path} is not a safetensors file: {line(error)}") from error


def _loaded(kind: Any, config: Any, weights: Mapping[str, Tensor], path: Path, training: tuple[str, ...]) -> nn.Module:
    """A network of transformers with weights, by its own loader: what weights are called in files is not what they are called in memory."""
    network: nn.Module
    settings: dict[str, Any] = {"dtype": torch.float32, "ignore_mismatched_sizes": True, "output_loading_info": True}
    network, told = kind.from_pretrained(None, config=config, state_dict=dict(weights), **settings)
    wrong = {name: sorted(key for key in map(str, found) if not (training and key.startswith(training))) for name, found in told.items()}
    wrong = {name: found for name, found in wrong.items() if found}
    if wrong:
        listed = "; ".join(f"{name.replace('_', ' ')}: {len(found)}, such as {found[0]}" for name, found in wrong.items())
        raise ModelError(f"{path} does not fit the network: {listed}", f"the weights of the network in {segformer_net.CONFIG}")
    return network


class Enlarged(nn.Module):
    """The logits of a network of transformers, which are coarser than its input, enlarged to its size as its makers do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x).logits
        return F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=False)


class Queries(nn.Module):
    """The logits of the classes and of the masks of a network of transformers that answers with queries."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        answer = self.network(x)
        return [answer.class_queries_logits, answer.masks_queries_logits]


class Asked(Queries):
    """The same of a network that is told its task, as numbers of tokens."""

    def __init__(self, network: nn.Module, task: Sequence[int]) -> None:
        super().__init__(network)
        self.register_buffer("task", torch.tensor([task]))

    def forward(self, x: Tensor) -> list[Tensor]:
        task: Any = self.task
        answer = self.network(x, task_inputs=task.expand(len(x), -1))
        return [answer.class_queries_logits, answer.masks_queries_logits]


def bounded(build: Callable[[], nn.Module], name: str, extra: str) -> nn.Module:
    """Call what builds a network, unless it has more numbers than a network may have.

    Raises
    ------
    MissingExtra
        Only now it was seen that something is not installed.
    ModelError
        It cannot be built.
    """
    try:
        with warnings.catch_warnings(), _Bounded():
            warnings.simplefilter("ignore")  # that an argument will have another name
            return build()
    except ModelError:
        raise
    except ImportError as error:
        raise MissingExtra(f"the network {name}", extra) from error
    except Exception as error:
        raise ModelError(f"the network {name} cannot be built: {type(error).__name__}: {line(error)}", "arguments that fit together") from error


class _Bounded(TorchFunctionMode):
    """Counts the numbers for which memory is taken, in this thread."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 2 * MAX_WEIGHTS  # some are made twice

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _MAKERS:
            size = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
            self.left -= math.prod(n for n in size if isinstance(n, int))
            if self.left < 0:
                raise ModelError("the network would have too many weights", f"at most {MAX_WEIGHTS}")
        return func(*args, **(kwargs or {}))


LIBRARIES: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Path]], nn.Module]] = {
    "monai": _monai,
    "nnunet": _nnunet,
    "transformers_segformer": _segformer,
    "transformers_mask2former": _mask2former,
    "transformers_oneformer": _oneformer,
    "stardist": _stardist,
    "cellpose": _cellpose,
    "cellpose_sam": _cellpose,
    "transformers_sam": _sam,
}
"""What builds a kind of network."""
