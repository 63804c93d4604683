"""What a file or store is, and how far a run is that writes it: ``segsuite info``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_segsuite.engine.layout import Layout
from napari_segsuite.engine.work import FOLDER, Begun, Work, read_job
from napari_segsuite.errors import InputError, SegsuiteError
from napari_segsuite.io import holds_labels, label_store, list_scenes, read, read_segmentation
from napari_segsuite.io.faults import reading as open_to
from napari_segsuite.io.inputs import source_of
from napari_segsuite.io.ome_zarr import names_of_labels
from napari_segsuite.io.place import is_folder
from napari_segsuite.io.scenes import ALL, Scene, Several
from napari_segsuite.models import load_spec
from napari_segsuite.sizes import size_text, voxel_text

MOST = 1000
"""Numbers of missing chunks that are listed at most."""


def info(path: Path, scene: int | str | None = None, **reading: Any) -> dict[str, Any]:
    """Describe what is at a path as plain values.

    Parameters
    ----------
    path : Path
        An image, labels, or a store that a run has not finished.
    scene : int or str, optional
        Which image, where there are several; `io.scenes.ALL` for each of them. Without it, several are listed.
    **reading
        Of an image, as in `io.read`.

    Returns
    -------
    dict
        ``kind`` (image or segmentation), ``shape``, ``axes``, ``dtype``, ``scale``, ``units``; of a result also ``finished``, ``fingerprint``,
        ``plan`` and ``chunks`` with ``total``, ``done`` and ``missing`` (numbers); of a finished one ``segments`` and ``seams``. Of a file of
        several images ``kind`` is ``images``, and ``images`` tells of each at least ``number`` and ``name``.

    Raises
    ------
    InputError
        There is nothing that can be read.
    """
    with open_to(path):
        return _told(path, scene, reading)


def _told(path: Path, scene: int | str | None, reading: dict[str, Any]) -> dict[str, Any]:
    wishes = {"scene": scene, **reading}
    if reading.get("files"):
        from napari_segsuite.io.slices import files_of as files_of_folder

        return {**_image(path, wishes), "files": len(files_of_folder(path, reading["files"]))}
    if source_of(path) == "dicom":
        from napari_segsuite.io.dicom import files_of

        told = _finished(path) if holds_labels(path) else _image(path, wishes)
        return told if told["kind"] != "image" else {**told, "files": len(files_of(path, None if scene == ALL else scene))}
    if not is_folder(path) or source_of(path) is None:
        return _finished(path) if holds_labels(path) else _image(path, wishes)
    if label_store.is_unfinished(path):
        return _unfinished(path)
    if holds_labels(path):
        return _finished(path)
    return _image(path, wishes) | {"labels": names_of_labels(path)}


def text(told: dict[str, Any]) -> str:
    """The same for people."""
    if told["kind"] == "images":
        more = f"  and {told['count'] - MOST} more" if told["count"] > MOST else "  More about one with --scene NAME, about all with --scene all."
        return "\n".join([f"{told['path']}: {told['count']} images", *map(_line, told["images"]), *([] if "kind" in told["images"][0] else [more])])
    lines = [f"{told['path']}: {told['kind']}{'' if told.get('finished', True) else ', NOT FINISHED'}"]
    if "shape" in told:
        lines.append(f"  {_grid(told)}")
    if told.get("channels"):
        lines.append(f"  channels: {', '.join(told['channels'])}")
    if "files" in told:
        lines.append(f"  {told['files']} file{'s' * (told['files'] > 1)}")
    if "segments" in told:
        lines.append(f"  {told['segments']} segment{'s' * (told['segments'] != 1)}")
    if "chunks" in told:
        stage = f", {told['stage']}" if "stage" in told else ""
        lines.append(f"  {told['chunks']['done']} of {told['chunks']['total']} chunks done{stage}")
    if told.get("labels"):
        lines.append(f"  labels inside: {', '.join(told['labels'])}")
    if told.get("plan"):
        lines.append(f"  made with {told['plan']['model']['name']} {told['plan']['model']['version']}, fingerprint {told['fingerprint']}")
    if seams := told.get("seams"):
        lines.append(f"  seams: {seams_text(seams)}")
    if not told.get("finished", True):
        lines.append("  Run the same command again to go on.")
    return "\n".join(lines)


def _line(image: dict[str, Any]) -> str:
    """One of the images of a file."""
    shape = f", {_grid(image)}" if "scale" in image else f" {tuple(image['shape'])}" if image["shape"] else ""
    return f"  {image['number']}: {image['name'] or 'unnamed'}{shape}{': ' * ('error' in image)}{image.get('error', '')}"


def _grid(told: dict[str, Any]) -> str:
    return f"{size_text(told['shape'], told['axes'])}, {told['dtype']}, voxel {voxel_text(told['scale'], told['axes'], told['units'])}"


def seams_text(seams: Mapping[str, Any]) -> str:
    """What was seen where chunks meet (`engine.join.Seams`), in a few words."""
    agreed = "" if seams["agreement"] is None else f", neighbours agree on {100 * seams['agreement']:.4g} % of {seams['compared_voxels']} voxels"
    objects = "1 object looks" if seams["straight_edges"] == 1 else f"{seams['straight_edges']} objects look"
    straight = f"; {objects} cut off, e.g. at {seams['examples'][0]}" if seams["straight_edges"] else ""
    return f"{seams['faces']} faces, {seams['pairs']} pairs joined{agreed}{straight}"


def _image(path: Path, wishes: dict[str, Any]) -> dict[str, Any]:
    """An image; of several, of which none was chosen, what there is."""
    whole = wishes["scene"] == ALL and not wishes.get("files")
    if whole and len(found := list_scenes(path)) > 1:
        return _images(path, found, wishes)
    try:
        image = read(path, **(wishes | {"scene": None} if whole else wishes))
    except Several:
        return _images(path, list_scenes(path), wishes)
    return {"path": str(path), "kind": "image", "name": image.name, **_place(image.data, image), "channels": list(image.channels)}


def _images(path: Path, found: list[Scene], wishes: dict[str, Any]) -> dict[str, Any]:
    """The images of a file; with all about each if all were asked for."""
    images = [{"number": one.number, "name": one.name, "shape": list(one.shape)} for one in found[:MOST]]
    if wishes["scene"] == ALL:
        for told, one in zip(images, found, strict=False):
            try:
                told |= _image(path, {**wishes, "scene": one.wish}) | {"name": one.name}
            except SegsuiteError as error:
                told["error"] = str(error)
    return {"path": str(path), "kind": "images", "count": len(found), "images": images}


def _unfinished(path: Path) -> dict[str, Any]:
    begun = read_job(path)
    told: dict[str, Any] = {"path": str(path), "kind": "segmentation", "finished": False}
    if begun is None:
        if not (path / FOLDER).is_dir() and not any(path.iterdir()):
            raise InputError(f"folder {path} is empty", "an image or a result")
        return {**told, "fingerprint": None, "plan": None, "chunks": {"total": None, "done": 0, "missing": []}}
    done = Work(path, begun.token).numbers("chunks")
    total = _chunks(begun)
    missing = [k for k in range(total) if k not in done][:MOST]
    chunks = {"total": total, "done": len(done), "missing": missing}
    image = begun.plan.image
    keep = [i for i, a in enumerate(image["axes"]) if a != "c"]
    place = {name: [image[name][i] for i in keep] for name in ("shape", "scale", "units")}
    told |= {**place, "axes": "".join(image["axes"][i] for i in keep), "dtype": "uint32", "stage": "segmenting" if missing else "joining and writing"}
    return {**told, "fingerprint": begun.plan.fingerprint, "plan": begun.plan.to_json(), "chunks": chunks}


def _chunks(begun: Begun) -> int:
    plan = begun.plan
    return Layout(plan, plan.spec_of(load_spec(plan.options.model))).chunks


def _finished(path: Path) -> dict[str, Any]:
    found = read_segmentation(path)
    made = found.provenance
    plan = made.get("plan") or {}
    told = {"path": str(path), "kind": "segmentation", "finished": True, **_place(found.labels, found), "segments": len(found.segments["id"])}
    told |= {"fingerprint": made.get("fingerprint"), "plan": plan or None}
    if plan:
        size = dict(zip(plan["image"]["axes"], plan["image"]["shape"], strict=True))
        total = int(np.prod([-(-size[a] // c) for a, c in zip(plan["axes"], plan["chunk"], strict=True)])) * int(
            np.prod([size[a] for a in plan["frames"]])
        )
        told["chunks"] = {"total": total, "done": total, "missing": []}
    return told | ({"seams": made["seams"]} if "seams" in made else {})


def _place(array: Any, thing: Any) -> dict[str, Any]:
    shape = [int(n) for n in array.shape]
    return {"shape": shape, "axes": thing.axes, "dtype": str(array.dtype), "scale": [float(s) for s in thing.scale], "units": list(thing.units)}
