"""Law 10, the headless half: flags of the command line, JSON and Python say the same wishes and come to the same `Options`.

That the form says the same too is in tests/viewer.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import typing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_segsuite.arrays import as_image
from napari_segsuite.engine.options import Options, check, hints
from napari_segsuite.engine.plan import resolve
from napari_segsuite.errors import OptionError
from napari_segsuite.flags import add_options, options_of
from napari_segsuite.models import load_spec

FEW = settings(max_examples=60, deadline=None)

# Whatever can be typed: commas, quotes, spaces and dashes in names of channels too.
names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)


def values(name: str) -> st.SearchStrategy[Any]:
    """Any value that a field may have, from its type and bounds alone."""
    f = next(f for f in fields(Options) if f.name == name)
    hint, low, high = hints()[name], f.metadata["ge"], f.metadata["le"]
    kinds = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return st.sampled_from(kinds)
    if typing.get_origin(hint) is tuple:
        return st.lists(names if kinds[0] is str else st.integers(1, 10**6), max_size=3).map(tuple)
    simple: dict[Any, Any] = {bool: st.booleans(), int: st.integers(low or 0, high or 0), float: st.floats(low or 0, high or 0)}
    if name == "device":
        return st.sampled_from(("auto", "cpu", "cuda", "cuda:1", "mps"))
    kind = next(k for k in (*kinds, hint) if k in (*simple, str))
    return st.none() | simple[kind] if type(None) in kinds else names if kind is str else simple[kind]


options = st.builds(Options, **{f.name: values(f.name) for f in fields(Options)})


def flags(wish: Options) -> list[str]:
    """What to type for a wish, the fields in the order of `Options`, those that are as by default left out."""
    words = []
    for f in fields(Options):
        value, flag = getattr(wish, f.name), "--" + f.name.replace("_", "-")
        if value == f.default:
            continue
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            words.append(f"{flag}={typed(value) if isinstance(value, tuple) else value}")
    return words


def typed(several: tuple[Any, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="").writerow(several)
    return text.getvalue()


def parsed(words: list[str]) -> Options:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser)
    return options_of(parser.parse_args(words))


@given(options)
@FEW
def test_flags_say_the_same(wish: Options) -> None:
    assert parsed(flags(wish)) == wish


@given(options)
@FEW
def test_json_says_the_same(wish: Options) -> None:
    assert Options.from_json(json.loads(json.dumps(wish.to_json()))) == wish


@given(options)
@FEW
def test_no_wish_within_its_bounds_is_refused(wish: Options) -> None:
    check(wish)


def test_saying_nothing_is_the_default_everywhere() -> None:
    assert parsed([]) == Options.from_json({}) == Options()


def test_every_field_is_a_flag_with_its_help() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    text = " ".join(parser.format_help().split())
    for f in fields(Options):
        assert f"--{f.name.replace('_', '-')}" in text
        assert f.metadata["help"].split(";")[0] in text
    assert "(1 to 4096)" in text
    assert "[nuclei]" in text


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"diameter_px": 10}, {"diameter_px": 10.0}),
        ({"diameter_px": np.float32(10)}, {"diameter_px": 10.0}),
        ({"min_size_px": np.int16(3)}, {"min_size_px": 3}),
        ({"flips": np.True_}, {"flips": True}),
        ({"channels": "DAPI"}, {"channels": ("DAPI",)}),
        ({"channels": 0}, {"channels": ("0",)}),
        ({"channels": [np.int64(1), "GFP"]}, {"channels": ("1", "GFP")}),
        ({"chunk": np.array([32, 64])}, {"chunk": (32, 64)}),
        ({"model": Path("models") / "mine"}, {"model": str(Path("models") / "mine")}),
    ],
)
def test_one_wish_is_one_value_however_it_is_said(said: dict[str, Any], meant: dict[str, Any]) -> None:
    assert Options.from_json(said) == Options(**said) == Options(**meant)
    assert {name: type(v) for name, v in Options(**said).to_json().items()} == {name: type(v) for name, v in Options(**meant).to_json().items()}
    json.dumps(Options(**said).to_json())


def test_a_plan_of_the_same_wish_is_the_same_plan() -> None:
    image, spec = as_image(np.zeros((8, 8), np.uint8)), load_spec("otsu")
    plans = [
        resolve(image, Options(model="otsu", **wish), spec)
        for wish in ({"min_size_px": 3, "channels": 0}, {"min_size_px": np.int8(3), "channels": ["0"]})
    ]
    assert plans[0] == plans[1]
    assert plans[0].fingerprint == plans[1].fingerprint


OTHER: dict[str, Any] = {
    "channels": ("0",), "stack": "slices", "min_size_px": 9, "min_score": 0.3, "foreground": 0.4, "center": 0.2, "flips": True,
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_a_wish_that_may_change_the_result_changes_the_fingerprint(name: str) -> None:
    image, spec = as_image(np.zeros((8, 8), np.uint8)), load_spec("otsu")
    plain = resolve(image, Options(model="otsu"), spec)
    assert resolve(image, replace(Options(model="otsu"), **{name: OTHER[name]}), spec).fingerprint != plain.fingerprint


@pytest.mark.parametrize("wish", [{"device": "cpu"}, {"batch": 1}, {"chunk": (4, 4)}])
def test_how_it_is_computed_does_not(wish: dict[str, Any]) -> None:
    image, spec = as_image(np.zeros((8, 8), np.uint8)), load_spec("otsu")
    assert resolve(image, Options(model="otsu", **wish), spec).fingerprint == resolve(image, Options(model="otsu"), spec).fingerprint


@pytest.mark.parametrize("part", ["weights_sha256", "normalize", "tile", "codec_options"])
def test_another_model_of_the_same_name_changes_the_fingerprint(part: str) -> None:
    image, spec = as_image(np.zeros((8, 8), np.uint8)), load_spec("otsu")
    others: dict[str, Any] = {"weights_sha256": "ab", "normalize": {"method": "percentiles"}, "tile": (8, 8, 8), "codec_options": {"foreground": 0.1}}
    other = replace(spec, **{part: others[part]})
    assert resolve(image, Options(model="otsu"), other).fingerprint != resolve(image, Options(model="otsu"), spec).fingerprint


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        ({"foreground": 7}, "Foreground is 7.0. Needed: a number from 0.05 to 0.95."),
        ({"foreground": float("nan")}, "Foreground is nan. Needed: a number from 0.05 to 0.95."),
        ({"foreground": "0.5"}, "Foreground is '0.5'. Needed: a number from 0.05 to 0.95."),
        ({"diameter_px": -1}, "diameter_px is -1.0. Needed: a number from 1 to 4096 pixel."),
        ({"diameter_px": float("inf")}, "diameter_px is inf. Needed: a number from 1 to 4096 pixel."),
        ({"min_size_px": True}, "min_size_px is True. Needed: a whole number from 0 to 1000000000 voxel."),
        ({"batch": 2.5}, "Batch is 2.5. Needed: a whole number from 1 to 256."),
        ({"batch": None}, "Batch is None. Needed: a whole number from 1 to 256."),
        ({"flips": "yes"}, "Flips is 'yes'. Needed: True or False."),
        ({"stack": "both"}, "Stack is 'both'. Needed: 'volume' or 'slices' or 'orthogonal'."),
        ({"chunk": "ab"}, "Chunk is ('ab',). Needed: whole numbers, one per spatial axis."),
        ({"chunk": (0, 5)}, "Chunk is (0, 5). Needed: at least 1 voxel along every axis."),
        ({"channels": None}, "Channels is None. Needed: names or numbers of channels."),
        ({"device": "gpu"}, "Device is 'gpu'. Needed: auto, cpu, cuda, cuda:1 or mps, or several such as cuda:0,cuda:1."),
        ({"model": None}, "Model is None. Needed: a text."),
    ],
)
def test_a_wish_that_nothing_can_meet_is_refused_in_words(wish: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        check(Options(**wish))
    assert str(caught.value) == text


def test_a_wish_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(OptionError) as caught:
        Options.from_json({"diametre": 3})
    known = ", ".join(sorted(f.name for f in fields(Options)))
    assert str(caught.value) == f"There is no option 'diametre'. Needed: some of {known}."


@pytest.mark.parametrize("words", [["--batch=many"], ["--chunk=3,x"], ["--stack=both"]])
def test_a_flag_that_cannot_be_read_is_refused(words: list[str]) -> None:
    with pytest.raises(argparse.ArgumentError):
        parsed(words)
