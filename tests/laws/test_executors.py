"""Law 4: it does not matter where chunks are computed: here, in threads, in other processes or on a cluster.

One condition that a machine has to keep: every process uses the same number of threads for its network. Libraries for convolutions split
their sums by it, which changes the last bit of a float32.
"""

from __future__ import annotations

import concurrent.futures as cf
import importlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_segsuite import arrays
from napari_segsuite.engine.plan import Options, resolve
from napari_segsuite.engine.run import IN_FLIGHT, Run, result, run
from napari_segsuite.errors import InputError, ModelError, SegsuiteError
from napari_segsuite.models import load_model, load_spec
from napari_segsuite.models.folder import save
from napari_segsuite.types import Image, Segmentation

if TYPE_CHECKING:
    from distributed import Client

    from napari_segsuite.models.torch_model import TorchModel

Array = NDArray[Any]

BEHAVIOUR = '''
"""Pixels that do something when a chunk reads them: worker processes import this by its name."""
import os, time
import numpy as np
from napari_segsuite.errors import InputError

class Pixels:
    def __init__(self, shape, action):
        self.shape, self.action, self.dtype, self.ndim = shape, action, np.dtype("uint8"), len(shape)

    def __getitem__(self, key):
        values = np.add.outer(np.arange(self.shape[0]), np.arange(self.shape[1])) % 251
        if any(k != slice(None) for k in key):  # contrast is measured on all of it, and goes well
            ACTIONS[self.action]()
        return values.astype(self.dtype)[key]

def fail():
    raise InputError("the file ends early", "all of its bytes", "Copy it again")

ACTIONS = {"fail": fail, "die": lambda: os._exit(9), "wait": lambda: time.sleep(0.05)}
'''


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Image]]:
    """Images that fail, die or wait when a chunk of them is read."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "segsuite_behaviour.py").write_text(BEHAVIOUR)
    sys.path.insert(0, str(folder))
    made = importlib.import_module("segsuite_behaviour")
    yield lambda action: arrays.as_image(made.Pixels((60, 60), action))
    sys.path.remove(str(folder))


def processes(count: int) -> cf.ProcessPoolExecutor:
    return cf.ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


@pytest.fixture(scope="module")
def pool(pixels: object) -> Iterator[cf.Executor]:
    with processes(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def single() -> Iterator[cf.Executor]:
    """The process that loads torch, which takes seconds: one is enough."""
    with processes(1) as executor:
        yield executor


@pytest.fixture(scope="module")
def cluster(pixels: object) -> Iterator[Client]:
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    quiet = {"n_workers": 1, "threads_per_worker": 2, "processes": True, "dashboard_address": None, "silence_logs": "ERROR"}
    with distributed.LocalCluster(**quiet) as local, distributed.Client(local) as client:
        yield client


@pytest.fixture(params=["threads", "processes", "dask"])
def executor(request: pytest.FixtureRequest) -> Iterator[cf.Executor]:
    if request.param == "threads":
        with cf.ThreadPoolExecutor(3) as threads:
            yield threads
    elif request.param == "processes":
        yield request.getfixturevalue("pool")
    else:
        yield request.getfixturevalue("cluster").get_executor()


@pytest.fixture
def scratches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Lists the scratch folders that are there."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda: sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("segsuite-"))


def started(image: Image, executor: cf.Executor | None, model: str = "otsu", **options: Any) -> Run:
    return run(resolve(image, Options(model=model, **options), load_spec(model)), image, executor=executor)


def assert_identical(one: Segmentation, other: Segmentation) -> None:
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.labels.dtype == other.labels.dtype
    assert list(one.segments) == list(other.segments)
    for name, column in one.segments.items():
        np.testing.assert_array_equal(column, other.segments[name], err_msg=name)
    for name in ("plan", "fingerprint", "limits", "filled", "notices", "device"):
        assert one.provenance[name] == other.provenance[name], name


def noisy(shape: tuple[int, ...]) -> Array:
    pixels = np.random.default_rng(0).normal(size=shape).cumsum(-1)
    pixels.ravel()[::97] = np.nan
    return pixels


def test_otsu(executor: cf.Executor, scratches: Callable[[], list[str]]) -> None:
    image = arrays.as_image(noisy((3, 40, 50)), "tyx")
    here = result(started(image, None, chunk=(17, 20)))
    assert len(here.segments["id"]) > 5
    assert here.provenance["filled"] == np.isnan(image.data).sum()
    assert_identical(result(started(image, executor, chunk=(17, 20))), here)
    assert scratches() == []


@pytest.mark.parametrize("where", ["threads", "processes"])
def test_a_network_and_pixels_on_disk(where: str, request: pytest.FixtureRequest, untrained: Callable[..., TorchModel], tmp_path: Path) -> None:
    """In another process the model comes from its files, and the pixels from theirs."""
    made = untrained()
    save(made.spec, made.net.state_dict(), tmp_path / "model")
    stored = zarr.create_array(str(tmp_path / "pixels.zarr"), shape=(50, 60), chunks=(16, 16), dtype="uint16")
    stored[...] = np.random.default_rng(1).integers(0, 3000, (50, 60))
    image = arrays.as_image(stored)
    here = result(started(image, None, str(tmp_path / "model"), chunk=(19, 60)))
    assert len(here.segments["id"]) > 5
    with cf.ThreadPoolExecutor(3) as threads:
        executor = threads if where == "threads" else request.getfixturevalue("single")
        assert_identical(result(started(image, executor, str(tmp_path / "model"), chunk=(19, 60))), here)


@pytest.mark.parametrize("kind", ["in memory", "lazy, cannot be sent", "zarr in memory"])
def test_pixels_that_cannot_be_sent_travel_by_file(kind: str, pool: cf.Executor) -> None:
    values = noisy((2, 30, 40)).astype(">f4")
    data: Any = values
    if kind == "lazy, cannot be sent":
        data = Unsendable(values)
    elif kind == "zarr in memory":
        data = zarr.create_array({}, shape=values.shape, chunks=(1, 16, 16), dtype="float32")
        data[...] = values
    image = arrays.as_image(data, "tyx")
    assert_identical(result(started(image, pool, chunk=(30, 13))), result(started(image, None, chunk=(30, 13))))


class Unsendable:
    """An array that pickle refuses, as those of open files are."""

    def __init__(self, values: Array) -> None:
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, values.ndim

    def __getitem__(self, key: Any) -> Array:
        return np.asarray(self.values[key])

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle an open file")


def test_progress_rises_to_its_total(executor: cf.Executor, pixels: Callable[[str], Image]) -> None:
    steps = list(started(pixels("wait"), executor, chunk=(20, 20)))
    assert steps[0].message == "measuring contrast"
    told = [p for p in steps if p.total > 1]
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert told[-1].done == told[-1].total == 900


def test_closing_cancels_and_leaves_nothing(executor: cf.Executor, pixels: Callable[[str], Image], scratches: Callable[[], list[str]]) -> None:
    steps = started(pixels("wait"), executor, chunk=(5, 5))
    for progress in steps:
        if progress.total > 1 and progress.done > 2 * progress.total / 144:
            break
    assert len(scratches()) == 1
    before = time.monotonic()
    steps.close()
    assert time.monotonic() - before < 5
    assert scratches() == []
    # The executor is free again: what was handed out last is soon over, and the other 100 chunks were never handed out.
    assert executor.submit(int, "7").result(timeout=10) == 7
    assert time.monotonic() - before < 10
    time.sleep(0.3)
    assert scratches() == []  # no straggler has made the folder anew


def test_closing_cancels_what_waits_in_the_queue(pixels: Callable[[str], Image]) -> None:
    with cf.ThreadPoolExecutor(1) as threads:
        handed: list[cf.Future[Any]] = []
        submit = threads.submit
        threads.submit = lambda *a: handed.append(submit(*a)) or handed[-1]  # type: ignore[method-assign, assignment, func-returns-value]
        steps = started(pixels("wait"), threads, chunk=(5, 5))
        while next(steps).total == 1:
            pass
        steps.close()
        assert IN_FLIGHT - 1 <= len(handed) <= IN_FLIGHT + 3
        assert sum(f.cancelled() for f in handed) >= IN_FLIGHT - 2


def test_closing_while_contrast_is_measured(scratches: Callable[[], list[str]]) -> None:
    with cf.ThreadPoolExecutor(1) as threads:
        threads.submit(time.sleep, 0.3)
        steps = started(arrays.as_image(noisy((20, 20))), threads)
        assert next(steps).message == next(steps).message == "measuring contrast"
        assert len(scratches()) == 1
        steps.close()
        assert scratches() == []


def test_an_error_in_a_chunk_arrives_as_itself(executor: cf.Executor, pixels: Callable[[str], Image], scratches: Callable[[], list[str]]) -> None:
    with pytest.raises(InputError) as caught:
        result(started(pixels("fail"), executor, chunk=(20, 20)))
    assert str(caught.value) == "The file ends early. Needed: all of its bytes. Copy it again."
    assert (caught.value.found, caught.value.needed, caught.value.do) == ("the file ends early", "all of its bytes", "Copy it again")
    assert scratches() == []
    assert executor.submit(int, "7").result(timeout=20) == 7


def test_a_damaged_model_is_told_by_a_worker_as_it_is_here(single: cf.Executor, untrained: Callable[..., TorchModel], tmp_path: Path) -> None:
    made = untrained()
    save(made.spec, made.net.state_dict(), tmp_path)
    with (tmp_path / "weights.safetensors").open("r+b") as file:
        file.truncate(1000)
    image = arrays.as_image(noisy((20, 20)))
    texts = []
    for executor in (None, single):
        with pytest.raises(ModelError, match=r"weights\.safetensors has the sha256 .* Needed: .* as model\.json says") as caught:
            result(started(image, executor, str(tmp_path)))
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    with pytest.raises(ModelError):
        load_model(str(tmp_path), device="cpu")


def test_a_worker_process_that_is_killed_is_an_error_and_no_hang(pixels: Callable[[str], Image], scratches: Callable[[], list[str]]) -> None:
    with processes(1) as executor:
        steps = started(pixels("wait"), executor, chunk=(5, 5))
        while next(steps).total == 1:
            pass
        next(iter(executor._processes.values())).kill()
        before = time.monotonic()
        with pytest.raises(SegsuiteError, match=r"The process that computed the segmentation ended unexpectedly\. It may have run out of memory"):
            result(steps)
        assert time.monotonic() - before < 5
    assert scratches() == []


def test_a_dask_worker_that_dies_is_an_error_and_no_hang(cluster: Client, pixels: Callable[[str], Image], scratches: Callable[[], list[str]]) -> None:
    import dask

    executor: cf.Executor = cluster.get_executor()  # type: ignore[no-untyped-call]
    assert cluster.cluster is not None
    cluster.cluster.scheduler.allowed_failures = 0  # by default a chunk may kill three workers before it is given up
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), pytest.raises(SegsuiteError, match="ended unexpectedly"):
        result(started(pixels("die"), executor, chunk=(60, 30)))
    assert scratches() == []
