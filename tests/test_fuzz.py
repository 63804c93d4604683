"""Files with anything wrong in them: a result or a sentence, within bounded time and memory, and nothing is written beside them.

A few damages of each file are tried each time; ``pytest tests/test_fuzz.py --fuzz 10000`` tries as many of each. The message of a failure names the
file and the number of the damage, which is the same each time.
"""

from __future__ import annotations

import contextlib
import json
import random
import resource
import shutil
import signal
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Picture

from napari_segsuite import SegsuiteError, evaluate, read, read_segmentation, segment, write
from napari_segsuite.annotations import Annotated, export, read_annotations
from napari_segsuite.arrays import as_image
from napari_segsuite.engine import pixels
from napari_segsuite.io.inputs import check_extra
from napari_segsuite.models.foreign.store import add
from napari_segsuite.synthetic import nuclei

if not hasattr(signal, "SIGALRM"):
    pytest.skip("time and memory are bounded here by means of Unix", allow_module_level=True)

SECONDS, ROOM = 60, 3 * 2**30
"""That one file may take, and bytes of address space beside those that are taken already."""
LARGEST = 2**24
"""Bytes of pixels that are looked at; of what declares more, only the description is."""
EXTREME = (b"\x00" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x01\x00\x00\x00", b"\x00\x00\x00\x01")
VALUES: tuple[Any, ...] = (
    None, -1, 0, 1e308, float("nan"), 10**30, 2**31, "", "../../x", "x" * 3000, [], {}, [[]], True, [1, 2, 3], {"a": {"b": []}}, [None], "nan",
)  # fmt: skip
TEXTS = (".json", ".geojson", ".yaml", ".yml", ".txt", ".csv", ".xml")


def volume() -> tuple[Any, Any]:
    planes, labels = nuclei((4, 24, 30), "zyx", seed=2)
    return planes.astype(np.uint16), labels.astype(np.uint16)


def images(folder: Path) -> None:
    planes, labels = volume()
    tifffile.imwrite(folder / "tiles.tif", planes, compression="zlib", tile=(16, 16), byteorder=">", photometric="minisblack")
    tifffile.imwrite(folder / "imagej.tif", planes, imagej=True, metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"})
    for name, array in (("grey.png", planes[0].astype(np.uint8)), ("deep.png", planes[0]), ("photo.jpg", planes[0].astype(np.uint8))):
        Picture.fromarray(array).save(folder / name)
    Picture.fromarray(labels[0].astype(np.uint8)).convert("P").save(folder / "palette.png")
    image = as_image(planes)
    found = segment(planes, model="otsu")
    for name in ("a.ome.tif", "a.nrrd", "a.mha", "a.nii", "a.nii.gz"):
        with contextlib.suppress(SegsuiteError):  # without the library of NIfTI
            check_extra(folder / name)
            write(image, folder / name)
            write(found, folder / name.replace("a.", "l_labels."))
    for path in (Path(__file__).parent / "data" / "czi").glob("*.czi"):
        shutil.copy(path, folder)
    write(image, folder / "image.ome.zarr")
    write(found, folder / "labels.ome.zarr")


def annotations(folder: Path) -> None:
    found = segment(volume()[0][1], model="otsu")
    for form, name in (("coco", "coco.json"), ("coco-panoptic", "panoptic.json"), ("geojson", "g.geojson"), ("labelme", "l.json"), ("voc", "v")):
        export([Annotated(found, "one.png")], folder / name, form)


def models(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the format is old
        net = torch.jit.script(torch.nn.Conv2d(1, 2, 3, padding=1))
    package = folder / "package"
    package.mkdir()
    net.save(str(package / "weights.pt"))
    np.save(package / "in.npy", np.zeros((1, 1, 32, 32), np.float32))
    np.save(package / "out.npy", np.zeros((1, 2, 32, 32), np.float32))
    shape = {"reference_tensor": "x", "scale": [1, 0, 1, 1], "offset": [0, 1, 0, 0]}
    told = {
        "format_version": "0.4.9", "type": "model", "name": "net", "description": "d", "license": "MIT", "authors": [], "cite": [],
        "inputs": [{"name": "x", "axes": "bcyx", "data_type": "float32", "shape": {"min": [1, 1, 32, 32], "step": [0, 0, 16, 16]}}],
        "outputs": [{"name": "y", "axes": "bcyx", "data_type": "float32", "shape": shape}],
        "test_inputs": ["in.npy"], "test_outputs": ["out.npy"], "weights": {"torchscript": {"source": "weights.pt"}},
    }  # fmt: skip
    (package / "rdf.yaml").write_text(json.dumps(told))  # JSON is YAML
    (folder / "plans").mkdir()
    plan = {
        "configurations": {"2d": {"patch_size": [32, 32], "spacing": [1, 1], "normalization_schemes": ["ZScoreNormalization"]}},
        "foreground_intensity_properties_per_channel": {}, "dataset_name": "a", "plans_name": "nnUNetPlans", "transpose_forward": [0, 1, 2],
    }  # fmt: skip
    (folder / "plans" / "plans.json").write_text(json.dumps(plan))
    (folder / "plans" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "a": 1}, "channel_names": {"0": "CT"}}))
    (folder / "plans" / "fold_0").mkdir()
    torch.save({"network_weights": {"a": torch.ones(3)}}, folder / "plans" / "fold_0" / "checkpoint_final.pth")
    (folder / "sam").mkdir()
    (folder / "sam" / "config.json").write_text(json.dumps({"architectures": ["SamModel"], "vision_config": {"hidden_size": 16}}))
    (folder / "sam" / "model.safetensors").write_bytes(b"\x08" + bytes(7) + b"{}      ")
    torch.save({"image_encoder.patch_embed.proj.weight": torch.ones(2), "prompt_encoder.pe_layer.x": torch.ones(2)}, folder / "net.pth")
    with zipfile.ZipFile(folder / "package.zip", "w") as archive:
        for path in package.iterdir():
            archive.write(path, path.name)


def look(path: Path) -> None:
    """Read an image as a run does, and labels as a comparison does."""
    with contextlib.suppress(SegsuiteError):
        image = read(path)
        if image.data.size * image.data.dtype.itemsize <= LARGEST:
            pixels.read(image, (slice(None),) * len(image.axes))
    with contextlib.suppress(SegsuiteError):
        found = read_segmentation(path)
        if found.labels.size * found.labels.dtype.itemsize <= LARGEST:
            evaluate(found, found)


def bring(path: Path) -> None:
    """Read annotations."""
    with contextlib.suppress(SegsuiteError):
        for _ in read_annotations(path):
            pass


def take(path: Path) -> None:
    with contextlib.suppress(SegsuiteError):
        add(str(path), name="net")


GROUPS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None], int]] = {
    "images": (images, look, 12),
    "annotations": (annotations, bring, 12),
    "models": (models, take, 5),
}
"""What makes the files, what takes them, and how many damages of each are tried if nothing else is said."""


def damaged(data: bytes, dice: random.Random) -> bytes:
    """Bytes with something wrong."""
    out, kind = bytearray(data), dice.randrange(6)
    at = dice.randrange(len(out)) if dice.random() < 0.5 else dice.randrange(min(len(out), 600))
    if kind == 0:
        return bytes(out[:at])
    if kind == 1:
        out[at : at + 4] = dice.choice(EXTREME)
    elif kind == 2:
        del out[at : at + dice.choice((1, 2, 8, 64))]
    elif kind == 3:
        out[at:at] = out[at : at + dice.choice((1, 8, 64))]
    else:
        for _ in range(dice.choice((1, 1, 2, 8))):
            out[dice.randrange(len(out)) if dice.random() < 0.5 else dice.randrange(min(len(out), 600))] = dice.randrange(256)
    return bytes(out)


def rewritten(text: str, dice: random.Random) -> str:
    """A description with something wrong in its meaning: a value replaced or left out."""
    told = json.loads(text)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    walk(told)
    if not places:
        return text
    for _ in range(dice.choice((1, 1, 2))):
        node, key = dice.choice(places)
        with contextlib.suppress(KeyError, IndexError):  # it went with another
            if dice.random() < 0.25:
                del node[key]
            else:
                node[key] = dice.choice(VALUES)
    return json.dumps(told)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """End what takes too long or too much."""

    def late(*_: object) -> None:
        raise TimeoutError(f"it took more than {SECONDS} s")

    taken = next(int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
    before, limits = signal.signal(signal.SIGALRM, late), resource.getrlimit(resource.RLIMIT_AS)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, limits[1]))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def cases(group: str, folder: Path) -> list[tuple[str, str]]:
    """Each thing that is taken, with each file of it that is damaged: their paths relative to the folder."""
    found = []
    for thing in sorted(folder.iterdir()):
        files = sorted(p for p in thing.rglob("*") if p.is_file()) if thing.is_dir() else [thing]
        found += [(thing.name, str(p.relative_to(folder))) for p in files if p.stat().st_size]
    return found


@pytest.mark.parametrize("group", GROUPS)
def test_damaged_files_give_a_result_or_a_sentence(group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> None:
    make, use, usual = GROUPS[group]
    whole, work = tmp_path / "whole", tmp_path / "work"
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("SEGSUITE_OFFLINE", "1")
    whole.mkdir()
    make(whole)
    wrong = []
    for thing, file in cases(group, whole):
        for number in range(pytestconfig.getoption("--fuzz") or usual):
            dice = random.Random(f"{group} {file} {number}")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            source, target = whole / thing, work / thing
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
            data = (whole / file).read_bytes()
            told = file.endswith((*TEXTS, ".zattrs", ".zgroup", ".zarray")) and dice.random() < 0.7
            with contextlib.suppress(ValueError, UnicodeDecodeError):
                data = rewritten(data.decode(), dice).encode() if told else damaged(data, dice)
            (work / file).write_bytes(data)
            there = {p for p in tmp_path.rglob("*") if "models" not in p.parts}
            try:
                with bounded(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    use(target)
            except Exception as error:  # noqa: BLE001 - whatever it is, it should have been a sentence
                wrong.append(f"{file} number {number}: {type(error).__name__}: {str(error)[:200]}")
            if more := {p for p in tmp_path.rglob("*") if "models" not in p.parts} - there:
                wrong.append(f"{file} number {number}: it wrote {sorted(map(str, more))[:3]}")
            shutil.rmtree(tmp_path / "models", ignore_errors=True)
    assert not wrong, "\n".join(wrong)
