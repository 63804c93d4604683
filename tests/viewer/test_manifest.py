"""The manifest: valid, every command leads somewhere, and what it says agrees with the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from npe2 import PluginManifest

import napari_segsuite
from napari_segsuite.viewer.settings import NAME, Preferences, preferences

MANIFEST = Path(napari_segsuite.__file__).with_name("napari.yaml")
SAMPLES = {"tissue": (512, 512), "coins": (303, 384), "cell": (660, 550), "nuclei_2d": (512, 512), "nuclei_3d": (32, 256, 256)}


@pytest.fixture
def manifest() -> Any:
    return PluginManifest.from_file(MANIFEST)


def test_every_command_can_be_imported(manifest: PluginManifest) -> None:
    manifest.validate_imports()
    used = {c.command for group in ("readers", "writers", "widgets", "sample_data") for c in getattr(manifest.contributions, group)}
    assert used == {c.id for c in manifest.contributions.commands or []}


def test_npe2_says_it_is_valid() -> None:
    done = subprocess.run([sys.executable, "-m", "npe2", "validate", str(MANIFEST)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "valid" in done.stdout


def test_menus_are_among_those_that_napari_lets_plugins_fill(manifest: PluginManifest) -> None:
    from napari._app_model.constants import MenuId

    assert set(manifest.contributions.menus) <= {str(menu) for menu in MenuId.contributables()}


@pytest.mark.parametrize("key", [*SAMPLES, "nuclei_over_time"])
def test_every_sample_opens_without_the_network(npe2pm: Any, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("a sample wants the network")

    monkeypatch.setattr("socket.socket.connect", no_network)
    npe2pm.register(PluginManifest.from_file(MANIFEST))
    image, *truth = ViewerModel().open_sample(NAME, key)
    assert isinstance(image, ImageLayer)
    assert image.data.shape[: image.ndim] == SAMPLES.get(key, (6, 20, 192, 192))
    assert len(np.unique(image.data)) > 50
    if key.startswith("nuclei"):
        assert isinstance(truth[0], Labels)
        assert truth[0].scale.tolist() == image.scale.tolist()
        assert str(image.units[-1]) == "micrometer"
        assert len(truth[0].features) == truth[0].data.max() + 1
        assert not truth[0].visible


def test_the_same_samples_are_in_the_manifest(manifest: PluginManifest) -> None:
    assert {s.key for s in manifest.contributions.sample_data or []} == {*SAMPLES, "nuclei_over_time"}


def test_preferences_and_their_defaults_agree(plugin_settings: None, npe2pm: Any) -> None:
    npe2pm.register(PluginManifest.from_file(MANIFEST))
    declared = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))["contributions"]["configurations"]["segment"]["properties"]
    assert {name: told["default"] for name, told in declared.items()} == vars(Preferences())
    assert preferences() == Preferences()
    from napari.settings import get_plugin_settings

    get_plugin_settings(NAME).segment.keep_warm_minutes = 3.0
    get_plugin_settings(NAME).segment.model = "otsu"
    assert preferences() == Preferences(model="otsu", keep_warm_minutes=3.0)


def test_without_stored_preferences_the_defaults_hold(plugin_settings: None) -> None:
    assert preferences() == Preferences()
