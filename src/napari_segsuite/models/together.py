"""Several models as one: the mean of what they answer, or one model on several devices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.errors import ModelError, OptionError
from napari_segsuite.models.mirrored import LIES
from napari_segsuite.types import Model, ModelSpec, Prediction

if TYPE_CHECKING:
    import torch

SAME = ("axes", "channels", "classes", "heads", "codec", "normalize", "pixel_size_um")
ALIKE = 1.25
"""Models for objects of about one size fit together: what is measured on the images of a training depends on which were held back."""
"""What models must agree on for a mean of their maps to mean anything."""


def joined_spec(specs: Sequence[ModelSpec], name: str) -> ModelSpec:
    """Describe the mean of several models.

    Parameters
    ----------
    specs : sequence of ModelSpec
        Two or more.
    name : str
        Of the new model.

    Returns
    -------
    ModelSpec
        With the smallest tile, the largest context and a stride that suits all; what the codec was tuned to is the first one's.

    Raises
    ------
    OptionError
        They differ in something that a mean needs to be the same, or answer with objects, of which there is no mean.
    """
    first = specs[0]
    check_same(specs, SAME, "models that take and answer the same, such as several trainings on the same data")
    if first.codec == "objects":
        raise OptionError(f"{first.name!r} answers with whole objects", "models that answer with maps, of which a mean can be taken")
    tile, multiple, context = shared_grid(specs)
    listed = ", ".join(s.name for s in specs)
    return replace(
        first, name=name, version="1", description=f"The mean of {len(specs)} models: {listed}.", tile=tile, multiple=multiple, context=context,
        net=same_side(specs), weights_sha256="",
        diameter_px=_diameter(specs), licence=all_of(specs, "licence"), citation=all_of(specs, "citation"), trained_on=all_of(specs, "trained_on"),
    )  # fmt: skip


def _diameter(specs: Sequence[ModelSpec]) -> float | None:
    """The median size of the objects that models are for, which must be about the same."""
    told = [s.diameter_px for s in specs]
    sizes = [d for d in told if d]
    if len(sizes) not in (0, len(specs)) or (sizes and max(sizes) > ALIKE * min(sizes)):
        found = f"the models are for objects of {', '.join(f'{d:.3g}' if d else 'any' for d in told)} pixels across"
        raise OptionError(found, "models for objects of about the same size", "Train them on the same images.")
    return float(np.median(sizes)) if sizes else None


def check_same(specs: Sequence[ModelSpec], names: Sequence[str], needed: str) -> None:
    """Refuse models that differ in any of some fields, or fewer than two of them.

    Raises
    ------
    OptionError
        Names the field.
    """
    first = specs[0]
    if len(specs) < 2:
        raise OptionError(f"1 model ({first.name!r}) is to be joined", "two or more")
    for other, name in itertools.product(specs[1:], names):
        if getattr(other, name) != getattr(first, name):
            found = f"{first.name!r} and {other.name!r} differ in {name}: {_short(getattr(first, name))} and {_short(getattr(other, name))}"
            raise OptionError(found, needed)


def same_side(specs: Sequence[ModelSpec]) -> dict[str, Any]:
    """The `net` of several models together: how images must lie for them, which must be the same for all.

    Raises
    ------
    OptionError
    """
    wished = {str(spec.net.get(LIES, "")) for spec in specs}
    if len(wished) > 1:
        raise OptionError(f"the models want images to lie in different ways ({', '.join(sorted(wished))})", "one way")
    return {LIES: found} if (found := wished.pop()) else {}


def shared_grid(specs: Sequence[ModelSpec]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The smallest tile, a stride that suits all, and the largest context."""
    multiple = tuple(math.lcm(*n) for n in zip(*(s.multiple for s in specs), strict=True))
    context = tuple(-(-max(n) // m) * m for n, m in zip(zip(*(s.context for s in specs), strict=True), multiple, strict=True))
    tiles = zip(*(s.tile for s in specs), strict=True)
    return tuple(max(min(n), 2 * c + m) for n, c, m in zip(tiles, context, multiple, strict=True)), multiple, context


def all_of(specs: Sequence[ModelSpec], field: str) -> str:
    """What several models say in a field, each text once."""
    return "; ".join(dict.fromkeys(text for s in specs if (text := str(getattr(s, field)))))


class Several:
    """Models that see the same tiles, one after the other.

    Parameters
    ----------
    spec : ModelSpec
        Of what they are together.
    members : sequence of Model
        Computed one after the other, so that no more memory is needed than for the largest one's tile; all are kept on the device.
    """

    def __init__(self, spec: ModelSpec, members: Sequence[Model]) -> None:
        self.spec, self.members = spec, tuple(members)

    @property
    def device(self) -> Any:
        """Where they run."""
        return getattr(self.members[0], "device", "cpu")

    @property
    def batch(self) -> int:
        """Tiles that all of them take at a time."""
        return min(int(getattr(m, "batch", 1)) for m in self.members)

    @property
    def notices(self) -> list[str]:
        """What they have to say."""
        return _said(self.members)


class Ensemble(Several):
    """The mean of what several models answer; its description is `joined_spec` of theirs."""

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        """Maps (N, C, *spatial): of each head the mean over the models."""
        total: dict[str, Any] = {}
        for model in self.members:
            for name, value in model.predict(batch).maps.items():
                total[name] = total[name] + value if name in total else value
        return Prediction({name: value / len(self.members) for name, value in total.items()})


class Spread:
    """One model on several devices, which share the tiles.

    Parameters
    ----------
    models : sequence of Model
        The same one, on a device each.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = tuple(models)
        self.spec = models[0].spec
        self._threads = ThreadPoolExecutor(len(models))

    @property
    def device(self) -> str:
        """All of them, with commas between."""
        return ",".join(str(getattr(m, "device", "cpu")) for m in self.models)

    @property
    def batch(self) -> int:
        """As many tiles as all devices take together."""
        return sum(int(getattr(m, "batch", 1)) for m in self.models)

    @property
    def notices(self) -> list[str]:
        """What they have to say."""
        return _said(self.models)

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        """Maps (N, C, *spatial) of a batch, in its order, in the memory of the computer."""
        parts = [part for part in np.array_split(batch, len(self.models)) if len(part)]
        answers = list(self._threads.map(lambda pair: _home(pair[0].predict(pair[1])), zip(self.models, parts, strict=False)))
        maps = {name: np.concatenate([a.maps[name] for a in answers]) for name in answers[0].maps}
        return Prediction(maps, list(itertools.chain.from_iterable(a.objects for a in answers)))


def devices(wish: str) -> list[str]:
    """The devices that a wish names: ``cuda:0,cuda:1``, or ``cuda:all`` for all graphics cards.

    Raises
    ------
    ModelError
        ``cuda:all`` where there is none.
    """
    if wish != "cuda:all":
        return [name.strip() for name in wish.split(",")]
    import torch

    count = torch.cuda.device_count()
    if not count:
        raise ModelError("device 'cuda:all' is not available here: no graphics card was found", "auto or cpu")
    return [f"cuda:{k}" for k in range(count)]


def _home(prediction: Prediction) -> Prediction:
    """Maps as arrays; while one device's are copied, the others go on computing."""
    maps: dict[str, torch.Tensor | NDArray[Any]] = dict(prediction.maps)
    return Prediction({name: v if isinstance(v, np.ndarray) else v.cpu().numpy() for name, v in maps.items()}, prediction.objects)


def _said(models: Sequence[Model]) -> list[str]:
    return list(dict.fromkeys(text for m in models for text in getattr(m, "notices", ())))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 120 else f"{text[:117]}..."
