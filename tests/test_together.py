"""Several models as one, and one model on several devices."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_segsuite import load_model, segment
from napari_segsuite.cli import main
from napari_segsuite.engine.options import check_device
from napari_segsuite.errors import ModelError, OptionError
from napari_segsuite.models import load_spec
from napari_segsuite.models.folder import save
from napari_segsuite.models.foreign.home import installed
from napari_segsuite.models.foreign.join import join
from napari_segsuite.models.foreign.store import remove
from napari_segsuite.models.together import devices, joined_spec
from napari_segsuite.models.torch_model import TorchModel
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Class, Head, ModelSpec


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def folds(untrained: Callable[..., TorchModel], tmp_path: Path) -> list[str]:
    """Three models that differ in nothing but their weights."""
    made = []
    for k in range(3):
        model = untrained(seed=k)
        save(replace(model.spec, name=f"fold{k}", licence="CC0", trained_on=f"part {k}"), model.net.state_dict(), tmp_path / f"fold{k}", half=False)
        made.append(str(tmp_path / f"fold{k}"))
    return made


def test_the_mean_is_the_mean_of_the_maps(folds: list[str]) -> None:
    spec = join(folds, "all")
    batch = np.random.default_rng(0).random((2, len(spec.channels), 32, 32)).astype(np.float32)
    found = load_model("all", device="cpu").predict(batch).maps
    each = [load_model(folder, device="cpu").predict(batch).maps for folder in folds]
    assert set(found) == {h.name for h in spec.heads}
    for name, value in found.items():
        expected = np.mean([np.asarray(maps[name]) for maps in each], axis=0)
        np.testing.assert_allclose(np.asarray(value), expected, atol=1e-5)
        assert np.abs(np.asarray(each[0][name]) - expected).max() > 1e-3, "the folds differ"


def test_the_mean_stays_when_its_parts_go(folds: list[str]) -> None:
    spec = join(folds[:2], "pair")
    assert (spec.licence, spec.trained_on) == ("CC0", "part 0; part 1")
    assert spec.description == "The mean of 2 models: fold0, fold1."
    for folder in folds:
        shutil.rmtree(folder)
    assert load_model("pair", device="cpu").spec == load_spec("pair") == spec
    remove("pair")
    assert not installed()


def test_chunks_do_not_change_what_a_mean_answers(folds: list[str], tmp_path: Path) -> None:
    join(folds, "all")
    pixels, _ = nuclei((150, 170), "yx", seed=1)
    whole = segment(pixels, "all", device="cpu", min_score=0.0)
    parts = segment(pixels, "all", device="cpu", min_score=0.0, chunk=(64, 90), out=tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(np.asarray(whole.labels), np.asarray(parts.labels))


def test_a_mean_may_be_copied_as_any_folder_of_ours(folds: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "join", *folds[:2], "--name", "pair"]) == 0
    assert "added pair: The mean of 2 models: fold0, fold1. Use it with --model pair" in capsys.readouterr().out
    shutil.copytree(installed()["pair"], tmp_path / "sent")
    assert main(["models", "add", str(tmp_path / "sent"), "--name", "again"]) == 0
    assert load_model("again", device="cpu").spec.net == load_model("pair", device="cpu").spec.net


def test_members_that_were_changed_are_refused(folds: list[str]) -> None:
    join(folds[:2], "pair")
    path = installed()["pair"] / "members" / "1" / "model.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "description": "another"}))
    with pytest.raises(ModelError, match="the one that the model was made of"):
        load_model("pair", device="cpu")


@pytest.mark.parametrize("name", ["../members/0", "members/../..", "/etc", "members"])
def test_members_are_looked_for_in_the_model_alone(name: str, folds: list[str]) -> None:
    join(folds[:2], "pair")
    path = installed()["pair"] / "model.json"
    told = json.loads(path.read_text())
    told["net"]["members"][0] = name
    path.write_text(json.dumps(told))
    with pytest.raises(ModelError, match="a folder members/NUMBER"):
        load_model("pair", device="cpu")


def spec_with(**changes: Any) -> ModelSpec:
    heads = (Head("semantic", 2, "logits"),)
    return replace(ModelSpec("a", "yx", ("grey",), heads, (Class(1, "cell"),), "semantic"), **changes)


def test_the_grid_of_a_mean_suits_all() -> None:
    one = spec_with(tile=(512, 512), multiple=(16, 16), context=(64, 64))
    two = spec_with(tile=(384, 384), multiple=(24, 24), context=(20, 20))
    spec = joined_spec([one, two], "both")
    assert (spec.tile, spec.multiple, spec.context) == ((384, 384), (48, 48), (96, 96))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"channels": ("red", "green")}, "differ in channels"),
        ({"classes": (Class(1, "nucleus"),)}, "differ in classes"),
        ({"pixel_size_um": (1.0, 1.0)}, "differ in pixel_size_um"),
        ({"codec": "flows"}, "differ in codec"),
    ],
)
def test_models_that_do_not_fit_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        joined_spec([spec_with(), spec_with(**changes)], "both")


def test_what_has_no_mean_is_refused(folds: list[str]) -> None:
    with pytest.raises(OptionError, match="answers with whole objects"):
        joined_spec([spec_with(codec="objects")] * 2, "both")
    with pytest.raises(OptionError, match="two or more"):
        join(folds[:1], "one")
    with pytest.raises(OptionError, match="has no network"):
        join([folds[0], "otsu"], "both")
    join(folds[:2], "pair")
    with pytest.raises(OptionError, match="is made of models itself"):
        join(["pair", folds[2]], "more")
    with pytest.raises(OptionError, match="is there already"):
        join(folds[:2], "pair")


def test_one_model_twice_is_refused_whatever_it_is_called(folds: list[str], tmp_path: Path) -> None:
    shutil.copytree(folds[0], tmp_path / "copy")
    with pytest.raises(OptionError, match=r"fold0' is given twice \(sha256 [0-9a-f]{16}\.\.\.\)\. Needed: models with weights of their own"):
        join([folds[0], folds[1], folds[0]], "both")
    with pytest.raises(OptionError, match=r"fold0' and '.*copy' have the same weights \(sha256"):
        join([folds[0], folds[1], str(tmp_path / "copy")], "both")


def test_devices_that_share_the_tiles_answer_as_one_does(folds: list[str]) -> None:
    """Processors stand for the graphics cards here: what is shared and put together is the same."""
    shared: Any = load_model(folds[0], device="cpu,cpu")
    one: Any = load_model(folds[0], device="cpu")
    assert (shared.device, shared.batch, shared.spec) == ("cpu,cpu", 2, one.spec)
    batch = np.random.default_rng(0).random((5, len(one.spec.channels), 32, 48)).astype(np.float32)
    for name, value in shared.predict(batch).maps.items():
        np.testing.assert_array_equal(value, np.asarray(one.predict(batch).maps[name]))
    pixels, _ = nuclei((150, 170), "yx", seed=1)
    few = replace(one.spec, tile=(96, 96), context=(16, 16))
    one.spec = shared.spec = few
    labels = [np.asarray(segment(pixels, model, min_score=0.0).labels) for model in (one, shared)]
    np.testing.assert_array_equal(*labels)


def test_words_for_several_devices() -> None:
    assert devices("cuda:0, cuda:1") == ["cuda:0", "cuda:1"]
    check_device("cuda:0,cuda:1", several=True)
    check_device("cuda:all", several=True)
    for wish in ("cuda:0,gpu", "cuda:all,cpu", ""):
        with pytest.raises(OptionError, match="several such as cuda:0,cuda:1"):
            check_device(wish, several=True)
    with pytest.raises(OptionError, match="Device is 'cuda:0,cuda:1'"):
        check_device("cuda:0,cuda:1")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="no graphics card was found"):
            devices("cuda:all")


def test_models_for_objects_of_about_one_size_fit_together() -> None:
    """Trainings with another seed hold other images back, and measure another diameter."""
    assert joined_spec([spec_with(diameter_px=17.2), spec_with(diameter_px=16.4), spec_with(diameter_px=17.0)], "all").diameter_px == 17.0
    assert joined_spec([spec_with(), spec_with()], "all").diameter_px is None
    for other in (30.0, None):
        with pytest.raises(OptionError, match="pixels across"):
            joined_spec([spec_with(diameter_px=17.2), spec_with(diameter_px=other)], "all")
