"""The files around the code say the same as the code."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml
from npe2 import PluginManifest

from napari_segsuite._version import __version__

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "napari_segsuite"
VIEWER = sorted((PACKAGE / "viewer").rglob("*.py"))
HEADLESS = sorted(set(PACKAGE.rglob("*.py")) - set(VIEWER))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def name_of(requirement: str) -> str:
    """The distribution that a requirement is about, spelled in the one normal way."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


def imports(path: Path) -> Iterator[str]:
    """The top-level packages that a file imports by an import statement."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def undeclared(files: Iterable[Path], *extras: str) -> set[str]:
    """Imports, as ``file: package``, that neither Python nor the base nor one of the extras brings."""
    declared = {name_of(r) for r in PROJECT["dependencies"] + [r for extra in extras for r in EXTRAS[extra]]}
    known = {"napari_segsuite", *sys.stdlib_module_names}
    brought_by = {module: {name_of(d) for d in names} for module, names in packages_distributions().items()}
    found = {(path, module) for path in files for module in imports(path) if module not in known}
    return {f"{path.relative_to(ROOT)}: {module}" for path, module in found if not declared & brought_by.get(module, {name_of(module)})}


def test_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = re.findall(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert citation["version"] == __version__ == changes[0]


def test_licence_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["license"] == PROJECT["license"] == "BSD-3-Clause"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("BSD 3-Clause License")


def test_manifest_at_the_top_is_the_one_in_the_package() -> None:
    # Where a checkout has no symlinks (Windows), git writes the target's path into the file.
    assert (ROOT / "napari.yaml").read_bytes() in ((PACKAGE / "napari.yaml").read_bytes(), b"src/napari_segsuite/napari.yaml")


def test_manifest_is_valid_and_bears_the_name_of_the_distribution() -> None:
    assert PluginManifest.from_file(PACKAGE / "napari.yaml").name == PROJECT["name"]


def test_headless_half_imports_only_what_the_base_and_its_extras_bring() -> None:
    data, networks = (
        ("annotations", "codecs", "cluster", "medical", "microscopes", "parquet", "remote"),
        ("imports", "monai", "nnunet", "onnx", "stardist"),
    )
    assert undeclared(HEADLESS, *data, *networks, "transformers") == set()


def test_viewer_imports_only_what_the_gui_extra_brings() -> None:
    assert undeclared(VIEWER, "gui") == set()


def test_tests_import_only_what_gui_and_test_bring() -> None:
    extras = ("annotations", "cluster", "detection", "imports", "medical", "microscopes", "onnx", "remote", "stardist", "tracking")
    files = sorted(path for path in (ROOT / "tests").rglob("*.py") if "data" not in path.parts)  # what made the data is not run
    assert undeclared(files, "gui", "test", *extras) == set()


def test_every_extra_that_an_error_names_exists() -> None:
    calls = [node for path in HEADLESS + VIEWER for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    named = {arg.value for call in calls if "MissingExtra" in ast.unparse(call.func) for arg in call.args[1:2] if isinstance(arg, ast.Constant)}
    assert named <= set(EXTRAS)
