"""Fixtures and rules that hold for every folder of tests."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from napari_segsuite.models.torch_model import TorchModel

# Some tests kill processes or limit how much they may write, and such a process would leave half a module in the bytecode cache.
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
# The networks of most tests are so small that threads cost more than they save, far more on a machine that does something else too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A worker of dask that starts on a busy machine may take longer than the 30 s that dask waits.
os.environ.setdefault("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "120s")
# Models that the user of this machine added are none of the tests' business.
os.environ["SEGSUITE_MODELS"] = tempfile.mkdtemp(prefix="segsuite-models-")
atexit.register(shutil.rmtree, os.environ["SEGSUITE_MODELS"], ignore_errors=True)
if sys.dont_write_bytecode:  # then each of the many processes that tests start would compile all that it imports
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = tempfile.mkdtemp(prefix="segsuite-tests-")
    atexit.register(shutil.rmtree, sys.pycache_prefix, ignore_errors=True)
    sys.dont_write_bytecode = False

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what runs in the background; the commands that are tested would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

GUI_FIXTURES = {"make_napari_viewer", "make_napari_viewer_proxy", "qapp", "qtbot"}
OPEN_A_WINDOW = """
from qtpy.QtGui import QOpenGLContext
from qtpy.QtWidgets import QApplication
app = QApplication([])
raise SystemExit(0 if QOpenGLContext().create() else "there is no OpenGL")
"""


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real annotated data that lies beside the checkout, where there is one."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real data beside the checkout (../shared/data) is absent")
    return folder


class Told(NamedTuple):
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def segsuite(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Run the command ``segsuite`` in this process."""
    from napari_segsuite.cli import main

    def call(*words: object) -> Told:
        code = main([str(word) for word in words])
        return Told(code, *capsys.readouterr())

    return call


FORKING = """
import json, os, resource, signal, sys
from napari_segsuite.cli import main
import napari_segsuite.batch, napari_segsuite.engine.chunk, napari_segsuite.io.ome_zarr_write, napari_segsuite.io.tiff_write
import skimage.filters, tifffile

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}

def watch(job):
    # Count what is about to happen to files in a folder; at the n-th time send this process a signal.
    folder = os.path.abspath(job["watch"])
    def hook(event, args):
        if event in EVENTS and isinstance(args[0], (str, os.PathLike)) and os.path.abspath(args[0]).startswith(folder):
            job["events"] += 1
            if job["events"] == job["at"]:
                os.kill(os.getpid(), job["signal"])
    sys.addaudithook(hook)

def command(job, tell):
    os.chdir(job["cwd"])
    for stream, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(job[stream], os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    if job["limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"],) * 2)
    if job["watch"]:
        watch(job)
    code = main(job["words"])
    os.write(tell, str(job["events"]).encode())
    os._exit(code)

for line in sys.stdin:
    told, tell = os.pipe()
    if not (child := os.fork()):
        command(json.loads(line), tell)
    os.close(tell)
    with open(told) as answer:
        events = answer.read()
    _, status = os.waitpid(child, 0)
    print(json.dumps([os.waitstatus_to_exitcode(status), int(events or 0)]), flush=True)
"""


class Forked(NamedTuple):
    """How a command in a process of its own ended (minus the signal that killed it), what it said, and how often it touched a folder."""

    code: int
    out: str
    err: str
    events: int


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Forked]]:
    """Run the command ``segsuite`` in a process of its own, which may be limited, interrupted or killed; a fork of one that is warm.

    With ``watch`` a folder, ``signal`` is sent before the process touches a file in it for the ``at``-th time. With ``limit`` it can
    write no file of more bytes, as on a disk that is full.
    """
    folder = tmp_path_factory.mktemp("forked")
    source = str(Path(__file__).resolve().parents[1] / "src")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]), "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([sys.executable, "-c", FORKING], **pipes) as warm:
        assert warm.stdin is not None
        assert warm.stdout is not None
        asked, told = warm.stdin, warm.stdout

        def call(*words: object, watch: Path | None = None, at: int = 0, signal: int = 9, limit: int | None = None) -> Forked:
            streams = {name: folder / name for name in ("out", "err")}
            job = {"words": [str(w) for w in words], "cwd": os.getcwd(), "at": at, "signal": int(signal), "limit": limit, "events": 0}
            text = json.dumps({**job, "watch": str(watch or ""), **{name: str(path) for name, path in streams.items()}})
            asked.write(text + "\n")
            asked.flush()
            code, events = json.loads(told.readline())
            out, err = (path.read_text(encoding="utf-8") for path in streams.values())
            return Forked(code, out, err, events)

        yield call
        asked.close()


@pytest.fixture(scope="session")
def untrained() -> Callable[..., TorchModel]:
    """Make small networks with random weights, whose tiles are small too: pictures of a few dozen pixels have several.

    Their answers mean nothing and vary from pixel to pixel, which is what tests of exactness want.
    """
    import torch

    from napari_segsuite.codecs import codec
    from napari_segsuite.models.nets import ResUNet
    from napari_segsuite.models.torch_model import TorchModel
    from napari_segsuite.types import Class, ModelSpec

    def make(dims: int = 2, classes: Sequence[Class] = (Class(1, "cell"),), representation: str = "centers", **more: Any) -> TorchModel:
        heads = codec(representation).heads(classes, dims)
        channels = more.pop("channels", ("grey",))
        kwargs: dict[str, Any] = {
            "dims": dims,
            "in_channels": len(channels),
            "heads": {h.name: h.channels for h in heads},
            "widths": [4, 6],
            "blocks": [1, 1],
        }
        torch.manual_seed(more.pop("seed", 0))
        net = ResUNet(**kwargs)
        with torch.no_grad():  # answers of middle size, around 0
            for name, value in net.eval()(torch.rand(1, len(channels), *(16,) * dims)).items():
                head: Any = net.heads[name]
                head.weight /= value.std()
                head.bias.copy_((head.bias - value.mean((0, *range(2, value.ndim)))) / value.std())
        axes = "zyx"[-dims:]
        near = {
            "centers": {"longest": 4, "second": 2, "search": 3, "window": 2},
            "flows": {"steps": 4, "search": 3, "window": 2, "least": 2},
            "boundaries": {"steps": 4, "level": 2, "search": 3},
            "stars": {"longest": 3, "center": 0.3},
        }
        about: dict[str, Any] = {
            "tile": (12, 24, 24)[-dims:], "context": (2, 4, 4)[-dims:], "multiple": net.multiple, "diameter_px": 10.0,
            "codec_options": near.get(representation, {}),
            "net": {"name": "resunet", "kwargs": kwargs},
        }  # fmt: skip
        spec = ModelSpec(f"untrained{dims}d", axes, channels, heads, tuple(classes), representation, **{**about, **more})
        model = TorchModel(spec, net, device="cpu")
        model.precision = torch.float32  # the same numbers on every kind of processor
        return model

    return make


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="run the tests marked slow too")
    parser.addoption("--fuzz", type=int, metavar="N", help="try N damages of each file in tests/test_fuzz.py")


def pytest_plugin_registered(plugin: object, manager: pytest.PytestPluginManager) -> None:
    """Take pytest-qt out where Qt cannot be loaded: it would end the whole session, and most tests here need no Qt."""
    if getattr(plugin, "__name__", "") == "pytestqt.plugin" and _why_qt_does_not_load():
        manager.unregister(plugin)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = [] if config.getoption("--run-slow") else [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
    older = [item for item in items if "plugin_settings" in getattr(item, "fixturenames", ())]
    if older and not hasattr(importlib.import_module("napari.settings"), "get_plugin_settings"):
        for item in older:
            item.add_marker(pytest.mark.skip(reason="napari keeps settings of plugins since 0.9"))
    gui = [item for item in items if _opens_a_window(item)]
    if not gui:
        return
    if reason := _why_no_window():
        for item in gui:
            item.add_marker(pytest.mark.skip(reason=f"no window can be opened here: {reason}"))
    else:
        _load_triton_before_opengl()


def _opens_a_window(item: pytest.Item) -> bool:
    return item.get_closest_marker("gui") is not None or bool(GUI_FIXTURES & set(getattr(item, "fixturenames", ())))


def _why_no_window() -> str:
    """Try it in a process of its own, because Qt ends the process when it fails; an empty string if it works."""
    if reason := _why_qt_does_not_load():
        return reason
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        return "no display, and Xvfb is not installed"
    tried = subprocess.run([sys.executable, "-c", OPEN_A_WINDOW], capture_output=True, text=True, timeout=120, check=False)
    return "" if tried.returncode == 0 else (tried.stderr.strip().splitlines() or ["Qt ended the process"])[-1]


def _load_triton_before_opengl() -> None:
    """Keep the process alive: triton (which a torch optimizer loads) and Mesa's software OpenGL each bring an LLVM.

    Loaded after a window was opened, triton's ends the process; the other way round both work.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("triton")


@functools.cache
def _why_qt_does_not_load() -> str:
    try:
        importlib.import_module("PyQt6.QtWidgets")
        importlib.import_module("PyQt6.QtTest")
    except ImportError as error:
        return str(error)
    return ""
