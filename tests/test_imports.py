"""Law 9: the headless half imports no Qt; nothing a user waits for imports torch before work begins.

The import contracts in pyproject.toml see who writes ``import torch``. What counts for a user is what has been loaded in the
end, so here fresh processes import the modules one after the other and report what each of them has dragged in.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import napari_segsuite


def named(room: str, modules: str) -> list[str]:
    """The full names of modules of a room; an empty word is the room itself."""
    return [".".join(part for part in ("napari_segsuite", room, module) if part) for module in ("", *modules.split())]


TORCH = ("torch",)
NETWORKS = ("monai", "segmentation_models_pytorch", "timm", "torchvision")
GUI = ("napari", "magicgui", "qtpy", "superqt", "vispy", "PyQt5", "PyQt6", "PySide6")

# By name, not by looking into folders: a module that is gone must be noticed, and a new one must be thought about.
LIGHT = (
    *named(
        "",
        "_version allocator annotation_commands types errors arrays synthetic batch cli cluster convert flags info model_commands outputs pairing "
        "resume sizes sources terminal thresholds",
    ),
    *named(
        "engine",
        "forecast gather growing join layout link lock measure options pixels plan progress prompts reader run schedule "
        "scratch self_check source tasks tiles told volume work zoom",
    ),
    *named(
        "io",
        "blocks bulk commit compound czi czi_pixels czi_tiles dicom dicom_grid dicom_headers dicom_peek dicom_pixels dicom_planes dicom_seg "
        "dicom_segments dicom_source dicom_stack dicom_values dicom_write faults fluoview geometry hdf5 ids imaris inputs kinds label_store "
        "labels lazy lif lif_blocks markup metaimage metaimage_write mrc nd2 ngff nifti nifti_grid nifti_write nrrd nrrd_write ome_zarr "
        "ome_zarr_write overlay packed place planes plates pyramid raster readers record scenes shards slices store table tiff tiff_check "
        "tiff_meta tiff_write units volume world",
    ),
    *named(
        "annotations",
        "categories checks cityscapes coco coco_panoptic drawn geojson imagej items labelme meshes pictures rings rle tables voc",
    ),
    *named("metrics", "objects scores table voxels"),
    *named("models", "classes classical families grown mirrored orthogonal seeded superpixels together"),
    *named("models.prompts", "geodesic nested"),
    *named(
        "models.foreign",
        "archive fields form home keras_file mask2former_net monai_config monai_nets monai_transforms nnunet_nets oneformer_net onnx_file rdf "
        "sam_net segformer_net stardist_config stardist_rays swin_net tensors weights_file",
    ),
    *named("tracking", "command ctc"),
    *named("training", "classes options scattered"),
)
HEAVY = (
    *named("codecs", "boundaries centers compass flows instances objects paste pieces places prototypes runs semantic stars suppress targets"),
    *named("engine", "chunk"),
    *named("models", "folder nets parts queries torch_model"),
    *named(
        "models.foreign",
        "built bundle cellpose cellpose_net cellpose_sam check described draft grid join mask2former members model network nnunet oneformer pickles "
        "pretrained processing queries sam sam_file sam_masks sam_prompts segformer sources stardist stardist_net store totalsegmentator universal "
        "whole",
    ),
    *named("models.families", "detection headed monai smp transformers")[1:],
    *named("training", "appraise augment card checkpoint data design fit job losses nuclei nuclei3d recipe record samples shapes volumes"),
)
VIEWER = (
    *named(
        "viewer",
        "adding appraise asking beside cards catalogue child clicks closing editors export files forecast form growth layers links models_dock "
        "painted panel pickers prompts_dock prompts_panel results said samples segment segments segments_dock segments_view settings "
        "preview shelf shelves show shown stores target tries view words worker",
    ),
)

WATCH = """
import importlib, json, sys
watched, modules = json.loads(sys.argv[1])
found = {}
for module in modules:
    before = set(sys.modules)
    try:
        importlib.import_module(module)
        found[module] = sorted({name.partition(".")[0] for name in set(sys.modules) - before} & set(watched))
    except Exception as error:
        found[module] = [f"{type(error).__name__}: {error}"]
print(json.dumps(found))
"""


@cache
def loaded(modules: tuple[str, ...], watched: tuple[str, ...]) -> dict[str, list[str]]:
    """Import `modules` in one fresh process; for each, which of `watched` it was the first to load."""
    done = subprocess.run([sys.executable, "-c", WATCH, json.dumps([watched, modules])], capture_output=True, text=True, timeout=200, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("module", sorted(set(LIGHT)))
def test_light_module_loads_neither_torch_nor_qt(module: str) -> None:
    assert loaded(LIGHT, TORCH + GUI)[module] == []


@pytest.mark.parametrize("module", sorted(set(HEAVY) - set(LIGHT)))
def test_headless_module_loads_no_qt_and_no_library_of_networks(module: str) -> None:
    assert loaded(HEAVY, GUI + NETWORKS)[module] == []


@pytest.mark.gui
@pytest.mark.parametrize("module", VIEWER)
def test_viewer_module_loads_no_torch(module: str) -> None:
    assert loaded(VIEWER, TORCH)[module] == []


def test_watching_notices_what_is_loaded() -> None:
    modules = ("json", "xml.dom", "napari_segsuite.no_such_module")
    assert loaded(modules, ("xml",)) == {
        "json": [],
        "xml.dom": ["xml"],
        "napari_segsuite.no_such_module": ["ModuleNotFoundError: No module named 'napari_segsuite.no_such_module'"],
    }


def test_every_module_is_named_above() -> None:
    root = Path(napari_segsuite.__file__).parent
    paths = [path.relative_to(root).with_suffix("") for path in root.rglob("*.py")]
    there = {".".join(("napari_segsuite", *path.parts)).removesuffix(".__init__") for path in paths}
    assert there - {"napari_segsuite.__main__"} == {*LIGHT, *HEAVY, *VIEWER}


def test_help_loads_no_torch_and_no_qt() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "napari_segsuite", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    names = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "napari_segsuite" in names
    assert "segment" in done.stdout
    assert names & {*TORCH, *GUI} == set()
