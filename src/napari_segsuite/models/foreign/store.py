"""The user's folder of models: what is in it, and how something gets there.

A model of others is a folder with our ``model.json``, a card, and the files of its package, as they came, in ``package/``.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_segsuite.errors import ModelError, OptionError
from napari_segsuite.models.folder import FOREIGN, PARTS, load, read_spec
from napari_segsuite.models.foreign import home, members, rdf
from napari_segsuite.models.foreign.archive import Show, inside, is_url, naming, package_at, sha256_of
from napari_segsuite.models.foreign.described import Described, Parted
from napari_segsuite.models.foreign.form import Form, overlaid, read_form
from napari_segsuite.models.foreign.network import SUFFIXES, check_kind, needs, opened, shapes
from napari_segsuite.models.foreign.sources import PACKAGE, copy, found, gathered, net_of, tests_of
from napari_segsuite.models.prompts import SAM
from napari_segsuite.types import ModelSpec

if TYPE_CHECKING:
    from napari_segsuite.models.foreign.draft import Draft


def add(
    source: str, flags: Form | None = None, *, form: Path | None = None, name: str = "", trusted: bool = False, overwrite: bool = False,
    sha256: str = "", show: Show | None = None,
) -> ModelSpec:  # fmt: skip
    """Put a model into the user's folder.

    Parameters
    ----------
    source : str
        Path or URL of a package of BioImage.IO, MONAI, nnU-Net, TotalSegmentator, transformers or StarDist (folder or zip file; of BioImage.IO
        also the description), of a network (.onnx, .pt, .pt2), of weights of Cellpose, or of a folder of ours.
    flags : Form, optional
        What is to be said of the network.
    form : Path, optional
        The same as a JSON file; by default the one beside the network, ``net.json`` for ``net.onnx``, if there is one.
    name : str, optional
        What to call it; by default as it calls itself.
    trusted : bool
        Whether it may run code of its own.
    overwrite : bool
        Replace a model of this name.
    sha256 : str, optional
        What the file must have.
    show : callable, optional
        Told how many bytes of how many are downloaded.

    Returns
    -------
    ModelSpec

    Raises
    ------
    SegsuiteError
        Says what is wrong with it, what it lacks, or why it is not trusted.
    """
    with found(source, sha256, show) as path:
        beside = path.with_suffix(".json") if path.name else path
        said = read_form(form) if form else read_form(beside) if path.is_file() and path.suffix in SUFFIXES and beside.is_file() else Form()
        origin = source if is_url(source) else ""
        home.home().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".adding-", dir=home.home()) as made:
            new = rf"{re.escape(made)}/[^/]+"
            places = {rf"{new}/model\.json": f"the description made of {source}", rf"{new}(/members/\d+)?(/{PACKAGE})?": package_at(source)}
            try:
                with naming(source, places):
                    return _added(path, overlaid(said, flags or Form()), name, trusted, overwrite, origin, Path(made), show)
            finally:
                _tidy()


def remove(name: str) -> None:
    """Delete a model that was added, and what was said of the trust in it.

    Raises
    ------
    ModelError
        There is none of this name among those that were added.
    """
    models = home.installed()
    if name not in models:
        raise ModelError(
            f"no model {name!r} was added",
            f"one of {', '.join(models)}" if models else "a model that was, and none was",
            "Models that came with the install cannot be removed.",
        )
    shutil.rmtree(models[name])
    _tidy()


def _added(path: Path, form: Form, name: str, trusted: bool, overwrite: bool, origin: str, work: Path, show: Show | None) -> ModelSpec:
    from napari_segsuite.models.foreign.whole import completed

    form = completed(form)
    if name and not home.NAME.fullmatch(name):
        raise OptionError(f"the model's name is {name!r}", "letters, digits, dots, dashes and underscores, 64 at most, the first a letter or digit")
    if (path / "model.json").is_file():
        spec = read_spec(path)
        name = free_name(name or spec.name, overwrite)
        new = copied(path, spec, work / name)
        spec = replace(spec, name=name)
        _allow(spec.net, name, trusted)
    elif told := described(path, form):
        name = free_name(name or told.name, overwrite)
        new = work / name
        spec = _from_described(told, form, new, trusted) if isinstance(told, Described) else _from_parts(told, form, new, trusted)
    else:
        package = rdf.read_package(path if path.is_file() else rdf.find(path)) if path.is_dir() or path.suffix in (".yaml", ".yml") else None
        name = free_name(name or (package.name if package else path.stem), overwrite)
        new = work / name
        new.mkdir()
        spec = _from_package(package, form, new, trusted, origin, show) if package else _from_file(path, form, new, trusted)
    members.write_spec(new, spec)
    spec = _tried(new)
    if (final := home.home() / name).exists():
        shutil.rmtree(final)
    new.rename(final)
    return spec


def free_name(wish: str, overwrite: bool) -> str:
    """The wish as the name of a folder, which no other model has."""
    from napari_segsuite.models import CLASSICAL, builtin

    name = re.sub(r"[^a-z0-9._-]+", "-", wish.lower()).strip("-._")[:64].rstrip("-._") if not home.NAME.fullmatch(wish) else wish
    if not home.NAME.fullmatch(name):
        raise OptionError(f"the model's name is {wish!r}", "letters, digits, dots and dashes, 64 at most", "Give it one with --name.")
    if home.RESERVED.fullmatch(name) or name.endswith("."):
        raise OptionError(f"the model's name is {name!r}", "one that a folder can have on every system", "Give it one with --name.")
    others = {one.casefold(): one for one in (*builtin(), *CLASSICAL, *(set(home.installed()) - {name}))}
    if (taken := others.get(name.casefold())) is not None:
        kind = "came with the install" if taken in {*builtin(), *CLASSICAL} else "is there already"
        raise OptionError(f"a model {taken!r} {kind}", "another name, which differs in more than capitals", "Give it one with --name.")
    if name in home.installed() and not overwrite:
        raise OptionError(f"a model {name!r} is there already", do="Give this one another name with --name, or replace that one with --overwrite.")
    return name


def copied(path: Path, spec: ModelSpec, new: Path) -> Path:
    """A folder of ours, with those of its files that are named."""
    names = list(spec.net.get("files", {"weights.safetensors": ""}))
    names += [n for n in ("card.md",) if (path / n).is_file()]
    if (path / PACKAGE).is_dir() and "description" in spec.net:
        package = rdf.read_package(inside(path, spec.net["description"], str(path / "model.json")))
        names += [f"{PACKAGE}/{source.path}" for source in tests_of(package)] + [spec.net["description"]]
    for name in dict.fromkeys(names):
        copy(inside(path, name, str(path / "model.json")), new / name)
    return new


def described(path: Path, form: Form) -> Described | Parted | None:
    """What a folder says of its model, where it is of a format that says everything; None for all others."""
    from napari_segsuite.models.foreign import (
        bundle,
        cellpose,
        mask2former,
        nnunet,
        oneformer,
        pretrained,
        sam,
        sam_file,
        segformer,
        stardist,
        totalsegmentator,
    )  # fmt: skip

    for _ in range(3):  # archives of nnU-Net have folders around it
        inner = list(path.iterdir()) if path.is_dir() else []
        path = inner[0] if len(inner) == 1 and inner[0].is_dir() and not inner[0].is_symlink() else path
    kinds: tuple[tuple[Callable[[Path], bool], Callable[[Path, Form], Described | Parted]], ...] = (
        (bundle.is_bundle, bundle.read),
        (nnunet.is_results, nnunet.read),
        (totalsegmentator.is_results, totalsegmentator.read),
        (stardist.is_model, stardist.read),
        (cellpose.is_model, cellpose.read),
        (sam_file.is_model, sam.read_file),
        (mask2former.is_checkpoint, mask2former.read),
        (oneformer.is_checkpoint, oneformer.read),
        (sam.is_checkpoint, sam.read),
        (pretrained.is_checkpoint, segformer.read),
    )
    return next((read(path, form) for known, read in kinds if known(path)), None)


def _from_package(package: rdf.Package, form: Form, new: Path, trusted: bool, origin: str, show: Show | None) -> ModelSpec:
    from napari_segsuite.models.foreign.draft import of_package

    weights = package.chosen(form.weights)
    draft = of_package(package, form)
    net = {**gathered(package, weights, new, origin, show), "description": f"{PACKAGE}/rdf.yaml"}
    copy(package.path, new / PACKAGE / "rdf.yaml")
    if package.documentation and (package.path.parent / package.documentation.path).is_file():
        copy(inside(package.path.parent, package.documentation.path, str(package.path)), new / "card.md")
    return _finished(draft, form, net, new, trusted)


def _from_described(told: Described, form: Form, new: Path, trusted: bool) -> ModelSpec:
    for name in told.files:
        copy(inside(told.folder, name, str(told.folder)), new / PACKAGE / name)
    if told.card and (told.folder / told.card).is_file():
        copy(inside(told.folder, told.card, str(told.folder)), new / "card.md")
    files = {f"{PACKAGE}/{name}": sha256_of(new / PACKAGE / name) for name in told.files}
    net = {**told.net, "file": next(iter(files)), "files": files}
    return _finished(told.draft, overlaid(told.said, form), net, new, trusted)


def _from_parts(told: Parted, form: Form, new: Path, trusted: bool) -> ModelSpec:
    from napari_segsuite.models.parts import parted_spec

    specs = []
    for k, part in enumerate(told.parts):
        specs.append(replace(_from_described(part, form, new / members.member(k), trusted), name=part.name))
        members.write_spec(new / members.member(k), specs[-1])
    return members.of_members(new, parted_spec(specs, new.name), PARTS)


def _from_file(path: Path, form: Form, new: Path, trusted: bool) -> ModelSpec:
    from napari_segsuite.models.foreign.draft import of_form

    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(
            f"{path} is no model",
            f"a folder or zip file of a package, a description (.yaml), a file ending in {', '.join(SUFFIXES)}, or weights of Cellpose or SAM",
            "Of StarDist, add the folder that it is in." if path.suffix.lower() in (".h5", ".hdf5") else "",
        )
    kind = SUFFIXES[path.suffix.lower()]
    if not path.stat().st_size:
        raise ModelError(f"{path} is empty", "a file of a network", "Get it again.")
    check_kind(kind, path)  # before anything is asked of the user
    draft = of_form(form, path.name)
    copy(path, new / PACKAGE / path.name)
    for other in needs(kind, path):
        copy(other, new / PACKAGE / other.relative_to(path.parent))
    return _finished(draft, form, net_of(kind, new / PACKAGE / path.name, new), new, trusted)


def _finished(draft: Draft, form: Form, net: dict[str, Any], new: Path, trusted: bool) -> ModelSpec:
    """Run the network once on nothing, to see what it answers with."""
    import torch

    from napari_segsuite.models.foreign import queries, sam, whole
    from napari_segsuite.models.foreign.draft import declared, finished

    _allow(net, new.name, trusted)
    network = opened(net, new, torch.device("cpu"))
    inputs: Any = getattr(network, "inputs", None)
    if inputs and not draft.outputs:
        draft = declared(draft, inputs[0].shape)
    if net["name"] == SAM:
        return sam.finished(draft, form, (), net, new.name)
    finish = queries.finished if "objects" in net else whole.finished if form.layout else finished
    return finish(draft, form, shapes(network, draft.input), net, new.name)


def _allow(net: Mapping[str, Any], name: str, trusted: bool) -> None:
    """Note the trust in a network that is a program, or refuse it."""
    if net.get("name") in home.WHY:
        if trusted:
            home.trust(net["files"], name)
        home.demand(net["name"], net["files"], name, home.SAY_SO)


def _tried(new: Path) -> ModelSpec:
    """The model as it will be loaded, after it has answered one tile of noise."""
    import numpy as np

    model = load(new, device="cpu", batch=1, flips=False)
    if model.spec.net["name"] in (*FOREIGN, PARTS):
        shape = [min(n, max(2 * m, 32)) for n, m in zip(model.spec.tile, model.spec.multiple, strict=True)]
        model.predict(np.random.default_rng(0).normal(size=(1, len(model.spec.channels), *shape)).astype(np.float32))
    return model.spec


def _tidy() -> None:
    """Trust only what is there."""
    home.forget(home.trusted() - set[str]().union(*(_digests(folder) for folder in home.installed().values())))


def _digests(folder: Path) -> set[str]:
    try:
        files = json.loads((folder / "model.json").read_text(encoding="utf-8"))["net"]["files"]
        return set(files.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()
