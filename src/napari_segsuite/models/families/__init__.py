"""Networks of other libraries with our named heads, by name; a library is imported only when one of its networks is built.

What these networks have in common is `headed.Headed`; what is asked of each library is in a module of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from napari_segsuite.errors import MissingExtra

if TYPE_CHECKING:
    from napari_segsuite.models.families.detection import Detector
    from napari_segsuite.models.families.headed import Headed
    from napari_segsuite.models.families.transformers import Universal


@dataclass(frozen=True)
class Family:
    """Where the networks of a name come from.

    Attributes
    ----------
    extra : str
        The extra of this package that brings the library; also the module here that builds with it.
    libraries : tuple of str
        What is imported; the first is what builds the network.
    rate : float
        Learning rate that its training begins with: networks with attention want a lower one.
    """

    extra: str
    libraries: tuple[str, ...]
    rate: float


_SMP, _MONAI = ("smp", ("segmentation_models_pytorch",)), ("monai", ("monai.networks.nets",))
FAMILIES: Mapping[str, Family] = {
    "deeplabv3plus": Family(*_SMP, 1e-3),
    "fpn": Family(*_SMP, 1e-3),
    "segformer": Family(*_SMP, 5e-4),
    "unetplusplus": Family(*_SMP, 1e-3),
    "segresnet": Family(*_MONAI, 1e-3),
    "dynunet": Family(*_MONAI, 1e-3),
    "maskrcnn": Family("detection", ("torchvision.models.detection",), 5e-4),
    "mask2former": Family("transformers", ("transformers",), 1e-3),
    "swinunetr": Family("monai", ("monai.networks.nets", "einops"), 5e-4),  # MONAI itself asks for einops only when the network runs
}
SIZES: Mapping[tuple[str, int], Mapping[str, Any]] = {
    ("deeplabv3plus", 2): {"encoder": "resnet18", "width": 128},
    ("deeplabv3plus-base", 2): {"encoder": "resnet50", "width": 256},
    ("fpn", 2): {"encoder": "resnet18", "width": 64},
    ("fpn-base", 2): {"encoder": "resnet50", "width": 128},
    ("segformer", 2): {"encoder": "mit_b0", "width": 128},
    ("segformer-base", 2): {"encoder": "mit_b2", "width": 256},
    ("unetplusplus", 2): {"encoder": "resnet18", "width": 16},
    ("unetplusplus-base", 2): {"encoder": "resnet50", "width": 32},
    ("maskrcnn", 2): {"encoder": "resnet18", "width": 64, "layers": 2},
    ("maskrcnn-base", 2): {"encoder": "resnet50", "width": 256, "layers": 4},
    ("mask2former", 2): {"encoder": "resnet18", "width": 64, "layers": 3, "queries": 100},
    ("mask2former-base", 2): {"encoder": "resnet50", "width": 256, "layers": 6, "queries": 200},
    ("segresnet", 2): {"width": 16, "blocks": [1, 2, 2, 4]},
    ("segresnet-base", 2): {"width": 32, "blocks": [1, 2, 2, 4]},
    ("segresnet", 3): {"width": 8, "blocks": [1, 2, 2, 4]},
    ("segresnet-base", 3): {"width": 16, "blocks": [1, 2, 2, 4]},
    ("dynunet", 2): {"widths": [24, 48, 96, 192, 256]},
    ("dynunet-base", 2): {"widths": [32, 64, 128, 256, 512, 512]},
    ("dynunet", 3): {"widths": [8, 32, 64, 128]},
    ("dynunet-base", 3): {"widths": [16, 64, 128, 256, 320]},
    ("swinunetr", 2): {"width": 24},
    ("swinunetr-base", 2): {"width": 48},
    ("swinunetr", 3): {"width": 12},
    ("swinunetr-base", 3): {"width": 24},
}
"""By what ``--net`` names and the number of spatial axes: what the network is built with, beside what follows from the data."""


DETECTORS = ("maskrcnn", "mask2former")
"""Those that answer with whole objects: the codec `objects` needs one of them, and they need it."""
UNIVERSAL = ("mask2former",)
"""Those of them that also do without objects: where the task has none, they answer in the codec `semantic`."""


def names(extra: str) -> list[str]:
    """The families that an extra brings."""
    return [name for name, family in FAMILIES.items() if family.extra == extra]


def check(name: str) -> None:
    """See whether the library is there, without importing it.

    Raises
    ------
    MissingExtra
    """
    family = FAMILIES[name]
    if any(find_spec(library.partition(".")[0]) is None for library in family.libraries):
        raise MissingExtra(f"the network {name}", family.extra)


def build(name: str, kwargs: Mapping[str, Any]) -> Headed | Detector | Universal:
    """Make a network by its name in the checkpoint.

    Raises
    ------
    MissingExtra
        Its library is not installed, or does not work with the installed torch.
    TypeError, ValueError
        It cannot be built of that.
    """
    family = FAMILIES[name]
    try:
        library, *_ = [import_module(each) for each in family.libraries]
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another version than torch
        raise MissingExtra(f"the network {name}", family.extra) from error
    found: Headed | Detector | Universal = getattr(import_module(f"{__name__}.{family.extra}"), name)(library, **kwargs)
    return found
