"""Several models as one in the user's folder: copies of them, and a description of their mean."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from napari_segsuite.errors import OptionError
from napari_segsuite.models.folder import ENSEMBLE, SEVERAL, load, read_spec
from napari_segsuite.models.foreign import home
from napari_segsuite.models.foreign.members import member, of_members, write_spec
from napari_segsuite.models.foreign.store import copied, free_name
from napari_segsuite.models.together import joined_spec
from napari_segsuite.types import ModelSpec


def join(sources: Sequence[str], name: str, *, overwrite: bool = False) -> ModelSpec:
    """Put the mean of several models into the user's folder.

    Parameters
    ----------
    sources : sequence of str
        Names or folders of two or more models that take and answer the same. They are copied, so that they may change or go afterwards.
    name : str
    overwrite : bool
        Replace a model of this name.

    Returns
    -------
    ModelSpec

    Raises
    ------
    OptionError
        The models do not fit together, or two of them are one.
    ModelError
        One of them is missing, damaged or not trusted.
    """
    from napari_segsuite.models import CLASSICAL, folder_of

    if classical := [s for s in sources if s in CLASSICAL]:
        raise OptionError(f"{classical[0]!r} has no network", "models with weights, of which a mean can be taken")
    folders = [folder_of(source) for source in sources]
    specs = [read_spec(folder) for folder in folders]
    if nested := [s.name for s in specs if s.net.get("name") in SEVERAL]:
        raise OptionError(f"{nested[0]!r} is made of models itself", "models with a network of their own")
    _check_differ(sources, specs)
    spec, name = joined_spec(specs, name), free_name(name, overwrite)
    home.home().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=home.home()) as made:
        new = Path(made) / name
        for k, (folder, own) in enumerate(zip(folders, specs, strict=True)):
            copied(folder, own, new / member(k))
            shutil.copyfile(folder / "model.json", new / member(k) / "model.json")
        write_spec(new, of_members(new, replace(spec, name=name), ENSEMBLE))
        spec = load(new, device="cpu", batch=1, flips=False).spec
        if (final := home.home() / name).exists():
            shutil.rmtree(final)
        new.rename(final)
    return spec


def _check_differ(sources: Sequence[str], specs: Sequence[ModelSpec]) -> None:
    """Refuse weights that are there twice, under one name or two: in a mean they would count twice."""
    known: dict[tuple[str, ...], str] = {}
    for source, spec in zip(sources, specs, strict=True):
        weights = (spec.weights_sha256,) if spec.weights_sha256 else tuple(sorted(spec.net.get("files", {}).values()))
        if weights in known:
            other = known[weights]
            found = f"model {source!r} is given twice" if other == source else f"models {other!r} and {source!r} have the same weights"
            raise OptionError(f"{found} (sha256 {weights[0][:16]}...)", "models with weights of their own", "Name each of them once.")
        known[weights] = source
