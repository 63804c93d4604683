"""What strangers may try with a model: nothing of theirs is run without trust, written outside its folder, or blown up."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from napari_segsuite.errors import ModelError, OptionError, SegsuiteError
from napari_segsuite.models import builtin, load_model
from napari_segsuite.models.foreign import home as models_home
from napari_segsuite.models.foreign import pickles
from napari_segsuite.models.foreign.archive import safe_name, unzip
from napari_segsuite.models.foreign.check import check
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.rdf import read_package
from napari_segsuite.models.foreign.store import add, remove

FORM = Form(axes="yx", normalize="none", activation="none")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that nothing may make."""
    return tmp_path / "canary"


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


# Archives -----------------------------------------------------------------------------------------------------------------------------

ESCAPES = [
    "../canary",
    "a/../../canary",
    "/canary",
    "C:\\canary",
    "..\\canary",
    "a//b",
    "a/./../..",
    "con:stream",
    "dot.",
    "space ",
    "nul\x00l",
    "",
    ".",
]


@pytest.mark.parametrize("name", ESCAPES)
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    with pytest.raises(ModelError, match="a relative path that stays inside"):
        safe_name(name, "x.zip")


@pytest.mark.parametrize("name", ["../canary", "a/../../canary", "/canary", "..\\canary"])
def test_no_member_of_an_archive_leaves_its_folder(name: str, tmp_path: Path, canary: Path) -> None:
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr(name, "gone")
    with pytest.raises(ModelError):
        unzip(tmp_path / "p.zip", tmp_path / "in")
    with pytest.raises(ModelError):
        add(str(tmp_path / "p.zip"))
    assert not canary.exists()
    assert not list((tmp_path / "in").iterdir())


def test_no_member_of_an_archive_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        link = zipfile.ZipInfo("rdf.yaml")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/hostname")
    with pytest.raises(ModelError, match="a link or no ordinary file"):
        unzip(tmp_path / "p.zip", tmp_path / "in")


BOMBS: dict[str, tuple[Callable[[zipfile.ZipFile], object], str]] = {
    "dense": (lambda z: z.writestr("a", bytes(8 << 20)), "times as large when unpacked"),
    "many": (lambda z: [z.writestr(str(n), "") for n in range(1001)], "holds 1001 files"),
    "two names that are one": (lambda z: [z.writestr(n, "") for n in ("A.npy", "a.npy")], "holds both 'A.npy' and 'a.npy'"),
    "two ways to write an accent": (lambda z: [z.writestr(n, "") for n in ("\u00e9.npy", "e\u0301.npy")], "holds both '\u00e9.npy' and"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_an_archive_stays_in_its_bounds(name: str, tmp_path: Path) -> None:
    fill, text = BOMBS[name]
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        fill(archive)
    with pytest.raises(ModelError, match=text):
        unzip(tmp_path / "p.zip", tmp_path / "in")
    assert not list((tmp_path / "in").iterdir())


def test_an_archive_that_lies_about_sizes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(100_000))
    data = (tmp_path / "p.zip").read_bytes()
    (tmp_path / "p.zip").write_bytes(data.replace(struct.pack("<I", 100_000), struct.pack("<I", 10)))
    with pytest.raises(ModelError):
        unzip(tmp_path / "p.zip", tmp_path / "in")
    assert all(path.stat().st_size <= 10 for path in (tmp_path / "in").iterdir())


# Descriptions -------------------------------------------------------------------------------------------------------------------------


def described(folder: Path, **changes: Any) -> Path:
    """A description that is whole, but for what is changed."""
    axes = [
        {"type": "batch"},
        {"type": "channel", "channel_names": ["a"]},
        *({"type": "space", "id": a, "size": {"min": 16, "step": 16}} for a in "yx"),
    ]
    told = {
        "type": "model", "format_version": "0.5.4", "name": "net", "inputs": [{"id": "x", "axes": axes}], "outputs": [{"id": "y", "axes": axes}],
        "weights": {"onnx": {"source": "net.onnx"}}, **changes,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "rdf.yaml").write_text(json.dumps(told), encoding="utf-8")
    return folder / "rdf.yaml"


def bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines)


YAML = {
    "laughs": (bomb(), "stands for more than"),
    "many aliases": ("a: &a [1]\nb: [" + ", ".join(["*a"] * 101) + "]", "aliases"),
    "deep": ("[" * 5000, "deep"),
    "an object": ("!!python/object/apply:os.system ['touch canary']", "plain values"),
    "a name": ("a: !!python/name:os.system", "plain values"),
    "too long": ("a: '" + "x" * 2**20 + "'", "at most 1 MB"),
    "a list": ("[1, 2]", "a mapping of fields"),
    "itself": ("&a [*a]", "stands for more than"),
    "no text": ("\x00\x01", "plain values"),
    "nothing": ("", "a mapping of fields"),
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_is_plain_values_of_bounded_size(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, why = YAML[name]
    (tmp_path / "rdf.yaml").write_text(text, encoding="utf-8")
    begun = time.process_time()
    with pytest.raises(ModelError, match=why):
        read_package(tmp_path / "rdf.yaml")
    assert time.process_time() - begun < 5
    assert not (tmp_path / "canary").exists()


SOURCES = ["../net.onnx", "/etc/hostname", "file:///etc/hostname", "ftp://example.com/net.onnx", "link.onnx", "folder/net.onnx"]


@pytest.mark.parametrize("source", SOURCES)
def test_no_source_leads_out_of_the_package(source: str, tmp_path: Path) -> None:
    path = described(tmp_path / "p", weights={"onnx": {"source": source}})
    (tmp_path / "net.onnx").write_bytes(b"secret")
    (tmp_path / "p" / "link.onnx").symlink_to(tmp_path / "net.onnx")
    (tmp_path / "p" / "folder").symlink_to(tmp_path)
    with pytest.raises(ModelError, match=r"names the file|is not in"):
        add(str(path), trusted=True)


DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "a huge size": (
        {"inputs": [{"id": "x", "axes": [{"type": "space", "id": "y", "size": 10**12}]}]},
        r"'inputs\[0\]\.axes\[0\]\.size': found 1000000000000",
    ),
    "no axes": ({"inputs": [{"id": "x"}]}, r"'inputs\[0\]\.axes': found nothing"),
    "an axis twice": ({"inputs": [{"id": "x", "axes": [{"type": "batch"}] * 2}]}, "no two the same"),
    "an unknown step": (
        {"outputs": [{"id": "y", "axes": [{"type": "batch"}], "postprocessing": [{"id": "custom", "kwargs": {"callable": "os.system"}}]}]},
        r"'outputs\[0\]\.postprocessing\[0\]\.id': found 'custom'. Needed: one of binarize",
    ),
    "an unknown version": ({"format_version": "0.6.0"}, r"'format_version': found '0\.6\.0'"),
    "another type": ({"type": "dataset"}, "'type': found 'dataset'"),
    "inputs that are a number": ({"inputs": 5}, "'inputs': found 5. Needed: a list"),
    "weights that are a list": ({"weights": []}, "'weights'"),
    "a sha256 that is none": ({"weights": {"onnx": {"source": "a.onnx", "sha256": "xyz"}}}, "64 hexadecimal digits"),
    "code out of a library": (
        {"weights": {"pytorch_state_dict": {"source": "a.pt", "architecture": {"import_from": "subprocess", "callable": "run"}}}},
        "code out of a library is not imported by its name",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_description_is_told_by_file_and_field(name: str, tmp_path: Path) -> None:
    changes, text = DAMAGED[name]
    with pytest.raises(ModelError, match=text) as caught:
        add(str(described(tmp_path / "p", **changes)), trusted=True)
    assert "rdf.yaml" in str(caught.value)


def packed(folder: Path, archive: Path, top: str = "") -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.rglob("*"):
            file.write(path, f"{top}{path.relative_to(folder).as_posix()}")
    return archive


@pytest.mark.parametrize("top", ["", "inside/"])
def test_errors_name_the_archive_and_its_member(top: str, tmp_path: Path, home: Path) -> None:
    """And not where it was unpacked to, which is gone by then."""
    (tmp_path / "p").mkdir()
    archive = packed(tmp_path / "p", tmp_path / "a.zip")
    for change, text in [
        ({"type": "dataset"}, rf"{archive}/{top}rdf\.yaml, field 'type': found 'dataset'"),
        ({}, rf"{archive}/{top}rdf\.yaml names the file 'net\.onnx', which is not in {archive}"),
        ({"weights": {"onnx": {"source": "rdf.yaml"}}}, rf"(?i){archive}/({top})?rdf\.yaml "),
    ]:
        described(tmp_path / "p", **change)
        packed(tmp_path / "p", archive, top)
        for call in (add, check):
            with pytest.raises(ModelError, match=text) as caught:
                call(str(archive))
            assert not any(word in str(caught.value) for word in ("segsuite-", "unpacked", ".adding"))
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(ModelError, match=rf"{archive} cannot be unpacked"):
        add(str(archive))


def test_a_network_that_cannot_be_read_is_called_as_it_was_given(tmp_path: Path) -> None:
    small(tmp_path / "net.onnx")
    (tmp_path / "net.onnx").write_bytes((tmp_path / "net.onnx").read_bytes()[:-30])
    with pytest.raises(ModelError, match=rf"(?i){tmp_path / 'net.onnx'} ") as caught:
        add(str(tmp_path / "net.onnx"), FORM)
    assert ".adding" not in str(caught.value)


def test_a_folder_that_is_no_package_is_told_all_kinds_that_are(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    with pytest.raises(ModelError, match=r"p has no bioimageio\.yaml") as caught:
        add(str(tmp_path / "p"))
    kinds = ("BioImage.IO", "MONAI", "nnU-Net", "TotalSegmentator", "transformers", "SegFormer", "SAM", "StarDist", "model.json", "Cellpose", ".onnx")
    assert [kind for kind in kinds if kind not in str(caught.value)] == []


def test_a_description_that_ends_too_early_is_told_where(tmp_path: Path) -> None:
    """Wherever it is cut: within a value, between two, or after a field, which leaves a good description of less."""
    text = "type: model\nformat_version: 0.5.4\nname: 'a net'\ninputs:\n- {id: x, axes: [{type: batch}]}\noutputs: [{id: y, axes: []}]\n"
    path = tmp_path / "bioimageio.yaml"
    for end in range(1, len(text)):
        path.write_text(text[:end])
        with pytest.raises(
            ModelError, match=r"bioimageio\.yaml (ends too early, in line \d|has no .*weights; it ends after|: found)|: found '"
        ) as caught:
            add(str(tmp_path))
        assert "line" in str(caught.value) or "ends" in str(caught.value) or "mapping of fields" in str(caught.value)
    path.write_text("type: model\nname: [a\nb: c\nweights: {}\n")
    with pytest.raises(ModelError, match=r"bioimageio\.yaml cannot be read at line 3, column 2: "):
        add(str(tmp_path))


def test_weights_are_those_of_the_description(tmp_path: Path) -> None:
    path = described(tmp_path / "p", weights={"onnx": {"source": "net.onnx", "sha256": "0" * 64}})
    small(tmp_path / "p" / "net.onnx")
    with pytest.raises(ModelError, match=r"net\.onnx has the sha256 [0-9a-f]{64}\. Needed: 0000"):
        add(str(path))


def npy(shape: str, kind: str = "<f4") -> bytes:
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (63 - (len(head) + 10) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode()


TENSORS = {
    "huge": npy("(1, 1, 1000000, 1000000)"),
    "a pickle": npy("(1,)", "|O") + pickle.dumps([1]),
    "cut off": npy("(1, 1, 16, 16)") + bytes(100),
    "text": npy("(1, 1, 1, 1)", "<U4") + bytes(16),
    "no array": b"hello",
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_test_tensor_is_numbers_of_the_size_that_it_has(name: str, tmp_path: Path) -> None:
    path = described(tmp_path / "p")
    told = json.loads(path.read_text())
    for key, file in (("inputs", "in.npy"), ("outputs", "out.npy")):
        told[key][0]["test_tensor"] = {"source": file}
        (tmp_path / "p" / file).write_bytes(TENSORS[name])
    path.write_text(json.dumps(told))
    small(tmp_path / "p" / "net.onnx")
    with pytest.raises(ModelError, match=rf"(?i)test tensor {path.parent}/in\.npy cannot be read"):
        check(str(path))


# ONNX ---------------------------------------------------------------------------------------------------------------------------------


def small(path: Path, change: Callable[[Any], object] = bool) -> Path:
    """A network that adds a number, as an ONNX file, after a change."""
    ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", 1, "h", "w"]) for n in "xy"]
    number = onnx.numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "w"], ["y"])], "net", ends[:1], ends[1:], [number])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def elsewhere(location: str, **more: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": location, **more}.items():
            tensor.external_data.add(key=key, value=str(value))

    return change


def huge(model: Any) -> None:
    model.graph.initializer[0].dims[:] = [10**6, 10**6]


def custom(model: Any) -> None:
    model.opset_import.append(onnx.helper.make_opsetid("evil", 1))
    model.graph.node[0].domain = "evil"


def hidden(model: Any) -> None:
    """The custom operator stands in a branch."""
    body = onnx.helper.make_graph([onnx.helper.make_node("Run", [], ["z"], domain="evil")], "b", [], [])
    model.graph.node.append(onnx.helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body))


ONNX: dict[str, tuple[Callable[[Any], object], str]] = {
    "numbers in another folder": (elsewhere("../secret"), "a relative path that stays inside"),
    "numbers in a system file": (elsewhere("/etc/hostname"), "a relative path that stays inside"),
    "numbers behind a link": (elsewhere("link"), "is a link"),
    "numbers that are not there": (elsewhere("gone"), "is not in"),
    "numbers beyond the end": (elsewhere("data", offset=4096), "bytes from 4096 on"),
    "numbers before the start": (elsewhere("data", offset=-8), "bytes from -8 on"),
    "a huge shape": (huge, r"the shape \(1000000, 1000000\) and 4 bytes\. Needed: 4000000000000 bytes"),
    "an operator of its own": (custom, r"the operator 'Add' of 'evil'"),
    "an operator of its own in a branch": (hidden, r"the operator 'Run' of 'evil'"),
    "nothing": (lambda m: m.ClearField("graph"), "is not an ONNX file with a network"),
}


@pytest.mark.parametrize("name", ONNX)
def test_an_onnx_file_is_operators_of_onnx_and_its_own_numbers(name: str, tmp_path: Path, home: Path) -> None:
    change, text = ONNX[name]
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "data").write_bytes(bytes(8))
    (tmp_path / "secret").write_bytes(bytes(8))
    (tmp_path / "p" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match=text):
        add(str(small(tmp_path / "p" / "net.onnx", change)), FORM)
    assert not list(home.iterdir())


def test_numbers_beside_an_onnx_file_come_along_and_are_checked(tmp_path: Path, home: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "data").write_bytes(np.float32([0, 0.25]).tobytes())
    spec = add(str(small(tmp_path / "p" / "net.onnx", elsewhere("data", offset=4, length=4))), FORM)
    assert set(spec.net["files"]) == {"package/net.onnx", "package/data"}
    answer = load_model("net", device="cpu").predict(np.full((1, 1, 16, 16), 0.5, np.float32)).maps["semantic"]
    assert answer[0, 1, 0, 0] == 0.75
    (home / "net" / "package" / "data").write_bytes(bytes(8))
    with pytest.raises(ModelError, match=r"package.data has the sha256"):
        load_model("net")


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff" * 100])
def test_what_is_no_onnx_file_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=r"net\.onnx is (not an ONNX file|empty)"):
        add(str(tmp_path / "net.onnx"), FORM)


# Programs -----------------------------------------------------------------------------------------------------------------------------


def writing(path: Path, canary: Path) -> Path:
    """A TorchScript file that writes a file while it is loaded."""

    class Evil(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.path = str(canary)

        @torch.jit.export
        def __getstate__(self) -> tuple[str, bool]:
            return self.path, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[str, bool]) -> None:
            self.path, self.training = state[0], state[1]
            torch.save(torch.ones(1), self.path)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    torch.jit.save(torch.jit.script(Evil()), path)  # type: ignore[no-untyped-call]
    canary.unlink(missing_ok=True)
    return path


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_run_only_when_it_is_trusted_and_only_this_file(tmp_path: Path, canary: Path, home: Path) -> None:
    path = writing(tmp_path / "net.pt", canary)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ModelError, match=rf"runs code of its own: a TorchScript file is a program.*net\.pt \(sha256 {digest}\).*--trust"):
        add(str(path), FORM)
    assert not canary.exists()
    assert not list(home.iterdir())
    add(str(path), FORM, trusted=True)
    assert models_home.trusted() == {digest}
    assert canary.exists()  # it is as dangerous as it is said to be
    canary.unlink()
    other = bytearray((home / "net" / "package" / "net.pt").read_bytes())
    other[-30] ^= 1
    (home / "net" / "package" / "net.pt").write_bytes(other)
    told = json.loads((home / "net" / "model.json").read_text())
    with pytest.raises(ModelError, match="Add the model again"):
        load_model("net")
    told["net"]["files"]["package/net.pt"] = hashlib.sha256(other).hexdigest()
    (home / "net" / "model.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match="runs code of its own"):
        load_model("net")
    assert not canary.exists()
    remove("net")
    assert models_home.trusted() == set()


@pytest.mark.filterwarnings("ignore")
def test_a_model_folder_cannot_say_of_itself_that_it_is_trusted(tmp_path: Path, canary: Path, home: Path) -> None:
    add(str(writing(tmp_path / "net.pt", canary)), FORM, trusted=True)
    (home / "net").rename(tmp_path / "theirs")
    (tmp_path / "theirs" / "trusted.json").write_bytes((home / "trusted.json").read_bytes())
    (home / "trusted.json").unlink()
    canary.unlink()
    for ask in (load_model, add):
        with pytest.raises(ModelError, match="runs code of its own"):
            ask(str(tmp_path / "theirs"))
    assert not canary.exists()
    assert add(str(tmp_path / "theirs"), trusted=True).name == "net"


PROGRAMS = {
    "pickle.ckpt",
    "pickle.joblib",
    "pickle.npy",
    "pickle.npz",
    "pickle.pkl",
    "pickle.pt",
    "whole.pt",
    "state.pt",
    "legacy.pth",
    "pickle.pt2",
    "zip.pt2",
    "pickle.onnx",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_pickle_is_never_opened_whatever_it_is_called(name: str, tmp_path: Path, canary: Path) -> None:
    path, data = tmp_path / name, io.BytesIO()
    if name in ("whole.pt", "legacy.pth"):
        torch.save({"a": Trap(canary)}, data, _use_new_zipfile_serialization=name == "whole.pt")
    elif name == "state.pt":
        torch.save(torch.nn.Linear(2, 2).state_dict(), data)
    elif name == "zip.pt2":
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("x/data.pkl", pickle.dumps(Trap(canary)))
    else:
        data.write(pickle.dumps(Trap(canary)))
    path.write_bytes(data.getvalue())
    with pytest.raises(ModelError):
        add(str(path), FORM, trusted=name != "zip.pt2")
    assert not canary.exists()


def test_a_state_dict_is_numbers_only_even_when_its_code_is_trusted(tmp_path: Path, canary: Path) -> None:
    architecture = {"source": "net.py", "callable": "Net"}
    path = described(tmp_path / "p", weights={"pytorch_state_dict": {"source": "w.pt", "architecture": architecture}})
    (tmp_path / "p" / "net.py").write_text("import torch\nNet = torch.nn.Identity\n")
    torch.save({"a": Trap(canary)}, tmp_path / "p" / "w.pt")
    with pytest.raises(ModelError, match="cannot be built: UnpicklingError"):
        add(str(path), FORM, trusted=True)
    assert not canary.exists()


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "a file outside": lambda net: net.update(file="../../net.onnx", files={"../../net.onnx": "0"}),
    "no files": lambda net: net.update(files={}),
    "files that are a list": lambda net: net.update(files=["a"]),
    "another kind": lambda net: net.update(name="torchscript"),
    "code beside": lambda net: net.update(code="package/net.onnx", callable="x", kwargs={}),
    "no input": lambda net: net.pop("input"),
    "an answer that is not there": lambda net: net["maps"]["semantic"].update(output=7),
    "a step that is none": lambda net: net["input"].update(steps=[{"name": "eval", "kwargs": {}}]),
    "maps of another head": lambda net: net.update(maps={}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_description_of_ours_that_was_changed_is_refused(name: str, tmp_path: Path, home: Path) -> None:
    add(str(small(tmp_path / "net.onnx")), FORM)
    path = home / "net" / "model.json"
    told = json.loads(path.read_text())
    HOSTILE[name](told["net"])
    path.write_text(json.dumps(told))
    with pytest.raises(ModelError):
        load_model("net", device="cpu").predict(np.zeros((1, 1, 16, 16), np.float32))


@pytest.mark.parametrize("name", ["../evil", "a/b", ".hidden", "x" * 65])
def test_a_name_that_is_asked_for_is_taken_as_it_is_or_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="The model's name is"):
        add(str(builtin()["nuclei"]), name=name)
    assert not models_home.installed()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("http://[bad", r"http://\[bad is no address"),
        ("/", "model"),
        ("empty.pth", r"empty\.pth is empty"),
        ("text.pth", r"text\.pth is no TorchScript file"),
        ("state.pth", r"state\.pth is a state dict or another pickle of PyTorch, numbers without a network"),
    ],
)
def test_what_is_no_model_is_told_before_anything_is_asked(source: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.pth").touch()
    Path("text.pth").write_text("half a download")
    torch.save({"weight": torch.ones(3)}, "state.pth")
    with pytest.raises(SegsuiteError, match=told):
        add(source)


def test_advice_to_switch_protection_off_is_not_passed_on(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (print, ("run",))

    torch.save({"network_weights": Harmful()}, tmp_path / "net.pth")
    with pytest.raises(ModelError, match="it is damaged, or holds more than numbers") as error:
        pickles.read_numbers(tmp_path / "net.pth")
    assert "weights_only" not in str(error.value)


def test_a_model_of_the_install_has_no_test_of_its_own() -> None:
    for name in ("nuclei", "otsu"):
        with pytest.raises(ModelError, match=rf"Model '{name}' came with the install, without test tensors"):
            check(name)
