"""Several models as one in the user's folder: copies of them, and a description of their mean."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from napari_segsuite.errors import OptionError
from napari_segsuite.models.folder import ENSEMBLE, FORMAT, load, read_spec
from napari_segsuite.models.foreign import home
from napari_segsuite.models.foreign.archive import sha256_of
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
        The models do not fit together.
    ModelError
        One of them is missing, damaged or not trusted.
    """
    from napari_segsuite.models import CLASSICAL, folder_of

    if classical := [s for s in sources if s in CLASSICAL]:
        raise OptionError(f"{classical[0]!r} has no network", "models with weights, of which a mean can be taken")
    folders = [folder_of(source) for source in sources]
    specs = [read_spec(folder) for folder in folders]
    if nested := [s.name for s in specs if s.net.get("name") == ENSEMBLE]:
        raise OptionError(f"{nested[0]!r} is a mean of models itself", "models with a network of their own")
    spec, name = joined_spec(specs, name), free_name(name, overwrite)
    home.home().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=home.home()) as made:
        new = Path(made) / name
        members = [f"members/{k}" for k in range(len(specs))]
        for member, folder, own in zip(members, folders, specs, strict=True):
            copied(folder, own, new / member)
            shutil.copyfile(folder / "model.json", new / member / "model.json")
        files = {path.relative_to(new).as_posix(): sha256_of(path) for path in sorted(new.rglob("*")) if path.is_file()}
        spec = replace(spec, name=name, net={"name": ENSEMBLE, "members": members, "files": files})
        (new / "model.json").write_text(json.dumps({"format": FORMAT, **asdict(spec)}, indent=2) + "\n", encoding="utf-8")
        spec = load(new, device="cpu", batch=1, flips=False).spec
        if (final := home.home() / name).exists():
            shutil.rmtree(final)
        new.rename(final)
    return spec
