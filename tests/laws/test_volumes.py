"""Laws 2, 3 and 4 for results that grow on disk: exact, resumable after anything, whoever computes.

Real runs are stopped, killed, starved of disk, fed with broken pixels and started again; what they leave is compared bit by bit with a
run that nobody disturbed.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import tensorstore
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_segsuite import arrays, read, read_segmentation, segment
from napari_segsuite.engine import schedule, tasks
from napari_segsuite.engine.layout import Layout
from napari_segsuite.engine.plan import Options, Plan, resolve
from napari_segsuite.engine.run import result, run
from napari_segsuite.engine.work import is_result_of, read_job, tidy
from napari_segsuite.errors import InputError, OutputError, SegsuiteError
from napari_segsuite.info import info
from napari_segsuite.io import label_store, write
from napari_segsuite.io.packed import Records
from napari_segsuite.models import load_spec
from napari_segsuite.models.folder import save
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Image, Segmentation

if TYPE_CHECKING:
    from napari_segsuite.models.torch_model import TorchModel

LONG = (100, 30, 28), (10, 30, 28)
"""A volume of which a chunk needs only a part, and its chunks."""
FEW = (20, 46, 44), (10, 23, 22)
"""A volume of eight chunks, for a network."""
SHAPE, CHUNK = (24, 70, 66), (10, 32, 31)
CHUNKS = 3 * 3 * 3


@pytest.fixture(scope="module")
def image() -> Image:
    return arrays.as_image(nuclei(SHAPE, "zyx", seed=3)[0], "zyx", name="nuclei")


@pytest.fixture(scope="module")
def model(untrained: Callable[..., TorchModel], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a network that several tiles are needed for."""
    folder = tmp_path_factory.mktemp("models") / "untrained"
    made = untrained(3)
    save(made.spec, made.net.state_dict(), folder)
    return str(folder)


@pytest.fixture(scope="module")
def few() -> Image:
    return arrays.as_image(nuclei(FEW[0], "zyx", seed=3)[0], "zyx", name="few")


@pytest.fixture(scope="module")
def long() -> Image:
    return arrays.as_image(nuclei(LONG[0], "zyx", seed=4)[0], "zyx", name="long")


def planned(image: Image, model: str = "otsu", **options: Any) -> Plan:
    return resolve(image, Options(model=model, **{"chunk": CHUNK, **options}), load_spec(model))


@pytest.fixture(scope="module")
def whole(image: Image) -> Segmentation:
    return result(run(planned(image), image))


def assert_equal(found: Segmentation, whole: Segmentation) -> None:
    np.testing.assert_array_equal(np.asarray(found.labels), whole.labels)
    assert list(found.segments) == list(whole.segments)
    for name, column in whole.segments.items():
        np.testing.assert_array_equal(found.segments[name], column, err_msg=name)


def left(out: Path) -> list[str]:
    """What else than the result lies in and beside a store."""
    inside = [p.name for p in out.iterdir() if p.name not in ("zarr.json", "table", ".zgroup", ".zattrs") and not p.name.isdigit()]
    return inside + [p.name for p in out.parent.iterdir() if p.name.startswith(".")]


class Counting(cf.ThreadPoolExecutor):
    """Threads that count which calls they really make."""

    def __init__(self, workers: int = 2) -> None:
        super().__init__(workers)
        self.calls: Counter[tuple[str, Any]] = Counter()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> cf.Future[Any]:
        def counted() -> Any:
            value = function(*args, **kwargs)
            self.calls[(function.__name__, repr(args[1:]))] += 1
            return value

        return super().submit(counted)

    def of(self, name: str) -> set[Any]:
        return {what for function, what in self.calls if function == name}


# Files --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_what_is_written_is_what_zarr_and_others_read(version: str, image: Image, whole: Segmentation, tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    found = result(run(planned(image), image, out=out, version=version))
    assert_equal(found, whole)
    assert left(out) == []
    group = zarr.open_group(out, mode="r")
    level = group["0"]
    assert isinstance(level, zarr.Array)
    assert (level.dtype, group.metadata.zarr_format) == (np.uint32, 3 if version == "0.5" else 2)
    if version == "0.5":
        assert level.shards == tuple(min(c, n) for c, n in zip(CHUNK, SHAPE, strict=True))
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(out / "0")}}
        np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), whole.labels)


@pytest.mark.parametrize("shape", [(20, 300, 301), (5, 500, 601), (1100, 1001)])
def test_lower_levels_are_every_nth_voxel_of_the_level_above(shape: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 2, [-(-n // 3) for n in shape]), np.ones((3,) * len(shape)))[tuple(slice(n) for n in shape)].astype(np.uint8)
    big = arrays.as_image(pixels, "zyx"[-len(shape) :])
    out = tmp_path / "a.ome.zarr"
    result(run(planned(big, chunk=(20, 150, 161)[-len(shape) :]), big, out=out))
    scales: Any = zarr.open_group(out, mode="r").attrs["ome"]
    levels = [zarr.open_array(out / d["path"], mode="r")[...] for d in scales["multiscales"][0]["datasets"]]
    assert len(levels) > 1
    assert levels[-1].size <= 2**20
    for fine, coarse in pairwise(levels):
        step = tuple(-(-a // b) for a, b in zip(fine.shape, coarse.shape, strict=True))
        np.testing.assert_array_equal(coarse, fine[tuple(slice(None, None, s) for s in step)])
    np.testing.assert_array_equal(levels[0], result(run(planned(big, chunk=shape), big)).labels)


def test_labels_grow_inside_the_store_of_their_image(image: Image, whole: Segmentation, tmp_path: Path) -> None:
    store = tmp_path / "image.ome.zarr"
    write(replace(image, scale=(2.0, 0.5, 0.5), units=("micrometer",) * 3), store)
    source = read(store)
    found = result(run(planned(source), source, out=store / "labels" / "cells"))
    np.testing.assert_array_equal(np.asarray(found.labels), whole.labels)
    assert found.scale == (2.0, 0.5, 0.5)
    back = read_segmentation(store)
    np.testing.assert_array_equal(np.asarray(back.labels), whole.labels)
    listed: Any = zarr.open_group(store / "labels", mode="r").attrs["ome"]
    assert listed["labels"] == ["cells"]


def test_ids_beyond_32_bits_are_stored_in_64(image: Image, whole: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_segsuite.engine import gather, volume

    class Later(gather.Tally):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.things = 2**32

    monkeypatch.setattr(volume, "Tally", Later)
    found = result(run(planned(image), image, out=tmp_path / "a.ome.zarr"))
    assert found.labels.dtype == np.uint64
    np.testing.assert_array_equal(np.asarray(found.labels), np.where(whole.labels > 0, whole.labels.astype(np.uint64) + 2**32, 0))


# Stopped and started again ------------------------------------------------------------------------------------------------------------


def test_stopped_at_any_moment_and_started_again_nothing_is_done_twice(few: Image, model: str, tmp_path: Path) -> None:
    plan = planned(few, model, chunk=FEW[1])
    whole = result(run(plan, few))
    for stop in (1, 3, 9, 24, 10**6):
        out = tmp_path / f"{stop}.ome.zarr"
        with Counting() as first, Counting() as second:
            steps = run(plan, few, out=out, executor=first, workers=1)
            for k, _ in enumerate(steps):
                if sum(first.calls.values()) >= stop or k > 2000:
                    break
            steps.close()
            done = first.of("decode")
            if label_store.is_unfinished(out):
                told = info(out)
                begun = told["plan"] is not None  # else it was stopped before the contrast was measured
                assert (told["finished"], told["chunks"]["total"]) == (False, 8 if begun else None)
                assert told["chunks"]["done"] == len(done) == (8 - len(told["chunks"]["missing"]) if begun else 0)
                with pytest.raises(InputError, match="not finished"):
                    read_segmentation(out)
            found = result(run(plan, few, out=out, executor=second, workers=1)) if label_store.is_unfinished(out) else read_segmentation(out)
            assert not done & second.of("decode")
            assert not first.of("relabel") & second.of("relabel")
            assert max([*first.calls.values(), *second.calls.values()]) == 1 or stop == 10**6
        assert_equal(found, whole)
        assert left(out) == []


def test_what_there_is_to_say_of_a_tile_is_kept_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes on after a stop between the two does not compute the tile again."""
    pixels = np.where(np.arange(40) < 20, np.nan, np.arange(40)).astype(np.float32) + np.zeros((30, 1), np.float32)
    holed, order, put = arrays.as_image(pixels), list[str](), Records.put

    def seen(self: Records, name: str, *args: Any, **kwargs: Any) -> None:
        order.append(self.folder.name)
        put(self, name, *args, **kwargs)

    monkeypatch.setattr(Records, "put", seen)
    found = result(run(planned(holed, chunk=(30, 40)), holed, out=tmp_path / "a.ome.zarr"))
    assert found.provenance["device"] == "cpu"
    assert order.count("notes") == 2  # the device, and that pixels were missing
    assert max(k for k, kind in enumerate(order) if kind == "notes") < order.index("tiles")


def test_a_tile_is_computed_once_and_kept_only_while_it_is_needed(long: Image, model: str, tmp_path: Path) -> None:
    plan, out = planned(long, model, batch=1, chunk=LONG[1]), tmp_path / "a.ome.zarr"
    most = 0
    with Counting(1) as hands:
        for _ in run(plan, long, out=out, executor=hands, workers=1):
            job = read_job(out) if label_store.is_unfinished(out) else None
            folder = out / ".segsuite" / (job.token if job else "-") / "tiles"
            most = max(most, len(list(folder.iterdir())) if folder.is_dir() else 0)
        assert set(hands.calls.values()) == {1}
        total = len(hands.of("predict"))
    assert 5 < most < 0.6 * total


def alive(group: int) -> list[int]:
    """The processes of a group that are not over."""
    found = []
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


if os.name == "posix":

    @pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
    def test_a_command_that_is_killed_leaves_what_the_next_one_goes_on_with(
        workers: list[str], image: Image, whole: Segmentation, tmp_path: Path
    ) -> None:
        write(image, tmp_path / "image.tif")
        words = [sys.executable, "-m", "napari_segsuite", "segment", "image.tif", "--model", "otsu", "--out", "a.ome.zarr", "--chunk", "10,32,31"]
        words += [*workers, "--progress", "json"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=tmp_path, env=environment, text=True, start_new_session=True) as command:
            assert command.stdout is not None
            for line in command.stdout:
                if json.loads(line).get("done", 0) > 600:
                    os.kill(command.pid, signal.SIGKILL)
                    break
        until = time.monotonic() + 20
        while alive(command.pid) and time.monotonic() < until:
            time.sleep(0.1)
        assert not alive(command.pid), "workers outlive the process that started them"
        assert label_store.is_unfinished(tmp_path / "a.ome.zarr")
        before = info(tmp_path / "a.ome.zarr")["chunks"]["done"]
        assert before > 0
        again = subprocess.run(words[: -2 - len(workers)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=100)
        assert (again.returncode, again.stderr) == (0, "")
        assert_equal(read_segmentation(tmp_path / "a.ome.zarr"), whole)

    def test_a_second_process_on_one_output_is_refused(image: Image, tmp_path: Path) -> None:
        plan, out = planned(image), tmp_path / "a.ome.zarr"
        steps = run(plan, image, out=out)
        for _ in range(3):
            next(steps)
        write(image, tmp_path / "image.tif")
        words = [sys.executable, "-m", "napari_segsuite", "segment", str(tmp_path / "image.tif"), "--model", "otsu", "--out", str(out)]
        other = subprocess.run([*words, "--chunk", "10,32,31"], capture_output=True, text=True, check=False, timeout=100)
        assert other.returncode == 1
        assert re.search(rf"Another process \({os.getpid()} on .*, since \d{{4}}-.*\) is writing {re.escape(str(out))}", other.stderr)
        found = result(steps)
        assert len(found.segments["id"]) > 3


def test_an_unfinished_run_of_other_wishes_is_not_gone_on_with(image: Image, tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    steps = run(planned(image), image, out=out)
    while info(out)["chunks"]["done"] < 5 if out.exists() else True:
        next(steps)
    steps.close()
    other = planned(image, min_size_px=200)
    with pytest.raises(OutputError, match=r"unfinished run .*min_size_px None instead of 200"):
        result(run(other, image, out=out))
    assert info(out)["chunks"]["done"] >= 5
    found = result(run(other, image, out=out, overwrite=True))
    assert_equal(found, result(run(other, image)))
    assert left(out) == []


def test_other_chunks_go_on_with_those_that_are_there(image: Image, whole: Segmentation, tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    steps = run(planned(image), image, out=out)
    while not out.exists() or info(out)["chunks"]["done"] < 5:
        next(steps)
    steps.close()
    with Counting() as hands:
        assert_equal(result(run(planned(image, chunk=(24, 70, 66)), image, out=out, executor=hands)), whole)
        assert len(hands.of("decode")) <= CHUNKS - 5


def test_a_finished_result_stays_until_its_successor_is_finished(image: Image, whole: Segmentation, tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    result(run(planned(image), image, out=out))
    with pytest.raises(OutputError, match="exists already"):
        result(run(planned(image, min_size_px=200), image, out=out))
    steps = run(planned(image, min_size_px=200), image, out=out, overwrite=True)
    for _ in range(3):
        next(steps)
    steps.close()
    assert_equal(read_segmentation(tmp_path / ".a.ome.zarr.before"), whole)
    found = result(run(planned(image, min_size_px=200), image, out=out))
    assert len(found.segments["id"]) < len(whole.segments["id"])
    assert left(out) == []


# What fails ---------------------------------------------------------------------------------------------------------------------------


class Flaky:
    """Pixels of which some cannot be read at first."""

    def __init__(self, pixels: Any, error: Exception, times: int) -> None:
        self.pixels, self.error, self.times = pixels, error, times
        self.beyond = 0.6 * max(pixels.shape)
        self.shape, self.dtype, self.ndim = pixels.shape, pixels.dtype, pixels.ndim

    def __getitem__(self, key: Any) -> Any:
        if self.times and any(isinstance(k, slice) and (k.stop or 0) > self.beyond and (k.start or 0) > 0 for k in key):
            self.times -= 1
            raise self.error
        return self.pixels[key]


class Passing(RuntimeError):
    """A failure that passes, as of a network or a card."""


def flaky(image: Image, error: Exception, times: int, monkeypatch: pytest.MonkeyPatch) -> Image:
    monkeypatch.setattr("napari_segsuite.engine.scratch.portable", lambda image, folder: image)  # stays in this process
    return replace(image, levels=(Flaky(image.data, error, times),))


def test_what_fails_for_a_moment_is_tried_again(few: Image, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(few, model, chunk=FEW[1])
    broken = flaky(few, MemoryError("for a moment"), schedule.TRIES - 1, monkeypatch)
    assert_equal(result(run(plan, broken, out=tmp_path / "a.ome.zarr")), result(run(plan, few)))
    assert broken.data.times == 0


def test_a_chunk_that_cannot_be_read_is_named_and_the_rest_is_kept(long: Image, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, out = planned(long, model, batch=1, chunk=LONG[1]), tmp_path / "a.ome.zarr"
    with pytest.raises(InputError, match=r"cannot be read \(OSError: a bad sector\)"), monkeypatch.context() as patched:
        result(run(plan, flaky(long, OSError("a bad sector"), 10**6, patched), out=out))
    before = info(out)["chunks"]["done"]
    assert before > 0
    with Counting() as hands:
        found = result(run(plan, long, out=out, executor=hands, workers=1))
        assert len(hands.of("decode")) == 10 - before
    assert_equal(found, result(run(plan, long)))


def stopped(image: Image, out: Path, chunks: int = 5, **options: Any) -> Path:
    """A run that was stopped after some chunks; gives the folder of its records."""
    steps = run(planned(image, **options), image, out=out)
    while not out.exists() or info(out)["chunks"]["done"] < chunks:
        next(steps)
    steps.close()
    job = read_job(out)
    assert job is not None
    return out / ".segsuite" / job.token


@pytest.mark.parametrize("kind", ["chunks", "labels", "notes"])
def test_a_damaged_record_is_computed_anew(kind: str, image: Image, whole: Segmentation, tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    for record in (stopped(image, out) / kind).iterdir():
        record.write_bytes(record.read_bytes()[:-3])
    complaints = 0
    while label_store.is_unfinished(out):
        with contextlib.suppress(InputError):
            result(run(planned(image), image, out=out))
            break
        complaints += 1
    assert complaints >= 1 or kind == "notes"  # one after the other is named and deleted
    assert_equal(read_segmentation(out), whole)


def test_a_damaged_description_of_the_job_can_be_overwritten(image: Image, whole: Segmentation, tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    (stopped(image, out).parent / "job.json").write_text("{")
    with pytest.raises(InputError, match="Begin anew with --overwrite"):
        result(run(planned(image), image, out=out))
    assert_equal(result(run(planned(image), image, out=out, overwrite=True)), whole)


def test_another_version_of_the_format_does_not_go_on_with_a_run(image: Image, whole: Segmentation, tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    stopped(image, out)
    with pytest.raises(OutputError, match=r"unfinished run in OME-Zarr 0\.5, not 0\.4"):
        result(run(planned(image), image, out=out, version="0.4"))
    assert_equal(result(run(planned(image), image, out=out)), whole)


def test_what_a_kill_left_in_and_beside_a_result_is_swept(image: Image, whole: Segmentation, tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    stopped(image, out)
    (out / "0" / "c").mkdir(parents=True)
    (out / "0" / "c" / ".1.6e10e38e05ef").write_bytes(b"half a shard")
    assert_equal(result(run(planned(image), image, out=out)), whole)
    assert [p.name for p in out.rglob(".*")] == []
    (out / ".segsuite" / "0123" / "chunks").mkdir(parents=True)  # killed while it deleted its records
    plan, source = planned(image), {"pixels": 1}
    assert not is_result_of(out, plan, source)
    tidy(out)
    assert left(out) == []


def test_a_changed_image_is_not_taken_for_the_one_that_was_segmented(image: Image, tmp_path: Path) -> None:
    out, options = tmp_path / "a.ome.zarr", {"model": "otsu", "chunk": CHUNK}
    pixels = np.asarray(image.data)
    first = segment(pixels, out=out, **options)
    assert_equal(segment(pixels, out=out, **options), replace(first, labels=np.asarray(first.labels)))
    with pytest.raises(OutputError, match="exists already"):
        segment(pixels[:, ::-1].copy(), out=out, **options)
    turned = segment(pixels[:, ::-1].copy(), out=out, overwrite=True, **options)
    np.testing.assert_array_equal(np.asarray(turned.labels) > 0, np.asarray(segment(pixels[:, ::-1].copy(), **options).labels) > 0)
    tifffile.imwrite(tmp_path / "p.tif", pixels)
    segment(tmp_path / "p.tif", out=tmp_path / "b.ome.zarr", **options)
    tifffile.imwrite(tmp_path / "p.tif", pixels // 2)
    with pytest.raises(OutputError, match="exists already"):
        segment(tmp_path / "p.tif", out=tmp_path / "b.ome.zarr", **options)


def test_labels_of_another_image_do_not_go_into_a_store(image: Image, tmp_path: Path) -> None:
    store = tmp_path / "image.ome.zarr"
    write(image, store)
    other = replace(image, levels=(np.asarray(image.data)[:, :50],))
    with pytest.raises(OutputError, match=r"and the image in .* is 24 z x 70 y x 66 x"):
        result(run(planned(other), other, out=store / "labels" / "cells"))


if sys.platform == "linux":

    @pytest.mark.parametrize("room", [3000, 20000, 60000])
    def test_a_disk_that_gets_full_is_told_and_gone_on_with_later(room: int, forked: Callable[..., Any], tmp_path: Path) -> None:
        """No file may be longer than `room` bytes, which is how a full disk looks to whoever writes."""
        rng = np.random.default_rng(0)
        noisy = arrays.as_image(rng.integers(0, 255, (20, 96, 97)).astype(np.uint8), "zyx")
        write(noisy, tmp_path / "image.tif")
        words = ["segment", tmp_path / "image.tif", "--model", "otsu", "--out", tmp_path / "a.ome.zarr", "--chunk", "20,48,97", "--min-size-px", "1"]
        full = forked(*words, limit=room)
        assert full.code == 1
        assert "would be larger than" in full.err or "disk is full" in full.err
        assert label_store.is_unfinished(tmp_path / "a.ome.zarr")
        assert forked(*words).code == 0
        expected = result(run(planned(noisy, chunk=(20, 96, 97), min_size_px=1), noisy))
        assert_equal(read_segmentation(tmp_path / "a.ome.zarr"), expected)


# Who computes -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes() -> Iterator[cf.Executor]:
    with cf.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_processes_give_the_same(processes: cf.Executor, image: Image, whole: Segmentation, tmp_path: Path) -> None:
    assert_equal(result(run(planned(image), image, out=tmp_path / "a.ome.zarr", executor=processes, workers=2)), whole)


def test_a_worker_that_is_killed_loses_nothing_but_its_task(image: Image, whole: Segmentation, tmp_path: Path) -> None:
    """The pool is broken and says so; the same run with a new one goes on."""
    out = tmp_path / "a.ome.zarr"
    with cf.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        steps = run(planned(image), image, out=out, executor=pool, workers=2)

        def kill(_: object) -> None:
            if out.exists() and info(out)["chunks"]["done"] >= 4:
                next(iter(pool._processes.values())).kill()

        with pytest.raises(SegsuiteError, match="ended unexpectedly"):
            result(steps, kill)
    before = info(out)["chunks"]["done"]
    with Counting() as hands:
        assert_equal(result(run(planned(image), image, out=out, executor=hands)), whole)
        assert len(hands.of("decode")) == CHUNKS - before


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    quiet = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None, "silence_logs": "CRITICAL"}
    with distributed.LocalCluster(**quiet) as local, distributed.Client(local) as client:
        yield client


def test_dask_gives_the_same_also_when_a_worker_is_killed(cluster: Any, image: Image, whole: Segmentation, tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    pids = list(cluster.run(os.getpid).values())
    killed: list[int] = []

    def kill(_: object) -> None:
        if not killed and out.exists() and info(out)["chunks"]["done"] >= 3:
            killed.append(pids[0])
            os.kill(pids[0], signal.SIGTERM if os.name == "nt" else signal.SIGKILL)

    steps = run(planned(image), image, out=out, executor=cluster.get_executor(pure=False), workers=2)
    assert_equal(result(steps, kill), whole)
    assert killed


def test_closing_a_run_leaves_no_task_behind_that_writes(image: Image, tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    with Counting(2) as hands:
        steps = run(planned(image), image, out=out, executor=hands)
        for _ in range(4):
            next(steps)
        steps.close()
        before = sorted(p for p in out.rglob("*"))
        time.sleep(0.3)
        assert sorted(p for p in out.rglob("*")) == before


def test_only_so_many_tasks_are_handed_out_at_once(image: Image, tmp_path: Path) -> None:
    most = 0

    class Watched(Counting):
        def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> cf.Future[Any]:
            nonlocal most
            future = super().submit(function, *args, **kwargs)
            most = max(most, self._work_queue.qsize())
            return future

    with Watched(1) as hands:
        result(run(planned(image), image, out=tmp_path / "a.ome.zarr", executor=hands, workers=2))
    assert most <= 4
    assert tasks.name_of(7) == "000000007"


# The order of things ------------------------------------------------------------------------------------------------------------------


@given(st.tuples(*[st.integers(1, 90)] * 3), st.tuples(*[st.integers(5, 40)] * 3), st.sampled_from([None, 6.0, 17.0]))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_tiles_know_the_chunks_that_need_them(untrained: Callable[..., TorchModel], shape: Any, chunk: Any, diameter: float | None) -> None:
    spec = untrained(3).spec
    image = arrays.as_image(np.broadcast_to(np.uint8(0), (2, *shape)), "tzyx")
    layout = Layout(resolve(image, Options(model=spec.name, chunk=chunk, diameter_px=diameter), spec), spec)
    numbers = np.arange(layout.chunks).reshape(layout.chunk_shape)
    needed = {(tile, k) for k in range(layout.chunks) for tile in layout.tiles_of(k)}
    assert needed == {(tile, int(k)) for tile in range(layout.tiles) for k in numbers[layout.chunks_with(tile)].ravel()}
    for k in range(layout.chunks):
        at = layout.chunk(k)
        region = layout.grids.on_model(layout.grids.around(layout.wider(at.box), layout.reach))
        assert layout.tiles_over(at.frame, region) == layout.tiles_of(k)


def test_a_million_chunks_are_planned_at_once_and_in_little_memory() -> None:
    huge = arrays.as_image(np.broadcast_to(np.uint8(0), (6400,) * 3), "zyx")
    tracemalloc.start()
    plan = planned(huge, chunk=(64,) * 3)
    order = schedule.Labelling(Layout(plan, load_spec("otsu")), set(), set(), 1)
    assert all(order.look_further() for _ in range(50))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert order.layout.chunks == 10**6
    assert peak < 32 * 10**6


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_any_order_of_answers_does_everything_once(untrained: Callable[..., TorchModel], seed: int) -> None:
    rng = np.random.default_rng(seed)
    spec = untrained(3).spec
    image = arrays.as_image(np.broadcast_to(np.uint8(0), (50, 60, 30)), "zyx")
    layout = Layout(resolve(image, Options(model=spec.name, chunk=(9, 20, 30)), spec), spec)
    done = set(rng.permutation(layout.chunks)[: rng.integers(0, layout.chunks)].tolist())
    have = set(rng.permutation(layout.tiles)[: rng.integers(0, layout.tiles)].tolist())
    order = schedule.Labelling(layout, set(done), set(have), int(rng.integers(1, 4)))
    out: list[tuple[str, Any]] = []
    predicted: list[int] = []
    while not order.finished:
        while len(out) < 4:
            if (chunk := order.next_chunk()) is not None:
                assert set(layout.tiles_of(chunk)) <= order.have
                out.append(("decode", chunk))
            elif order.queued:
                out.append(("predict", order.next_tiles()))
            elif not order.look_further():
                break
        kind, what = out.pop(int(rng.integers(len(out))))
        if kind == "predict":
            predicted += what
            order.predicted(what)
        else:
            assert what not in done
            done.add(what)
            order.decoded(what)
    assert len(predicted) == len(set(predicted))
    assert not set(predicted) & have
    assert done == set(range(layout.chunks))


# Real volumes -------------------------------------------------------------------------------------------------------------------------

REAL = {
    "neurons": ("em_neurons3d_gala/train_image.tif", (33, 50, 64)),
    "nuclei": ("nuclei3d_gonuclear/1135_image.ome.tif", (40, 57, 64)),
    "cells": ("cells3d_ovule/sample_image.ome.tif", (32, 50, 70)),
}


@pytest.mark.parametrize("name", REAL)
def test_real_volumes_in_chunks_are_as_in_one_piece(name: str, shared_data: Path, model: str, tmp_path: Path) -> None:
    """By contact, where objects run through many chunks; and with a network that was never trained, whose answers vary everywhere."""
    path, chunk = REAL[name]
    source = read(shared_data / path, axes="zyx")
    crop = replace(source, levels=(np.asarray(source.data[:20, :64, :64]),))
    for which, image, size in (("otsu", source, chunk), (model, crop, (9, 30, 40))):
        cut = tuple(min(c, n) for c, n in zip(size, image.shape, strict=True))
        whole = result(run(planned(image, which, chunk=image.shape), image))
        found = result(run(planned(image, which, chunk=cut), image, out=tmp_path / f"{Path(which).name}.ome.zarr"))
        assert_equal(found, whole)
        assert found.provenance["seams"]["agreement"] == 1.0
        assert len(whole.segments["id"]) >= 3
