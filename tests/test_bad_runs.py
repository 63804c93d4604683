"""Runs that are disturbed: a model that fails or answers nonsense, a disk that is full or slow, an input that changes; never half a result."""

from __future__ import annotations

import copy
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from napari_segsuite import SegsuiteError, arrays, load_model, read, read_segmentation, segment, write
from napari_segsuite.batch import Batch, segment_all
from napari_segsuite.engine.layout import Layout
from napari_segsuite.engine.options import Options
from napari_segsuite.engine.plan import resolve
from napari_segsuite.engine.run import result, run
from napari_segsuite.errors import ModelError, OutputError
from napari_segsuite.info import info
from napari_segsuite.io import faults, label_store
from napari_segsuite.models import load_spec
from napari_segsuite.models.folder import save
from napari_segsuite.models.torch_model import TorchModel
from napari_segsuite.synthetic import nuclei
from napari_segsuite.training import checkpoint, train
from napari_segsuite.types import Prediction

Array = NDArray[Any]


@pytest.fixture(scope="module")
def pixels() -> Array:
    return nuclei((70, 60), "yx", seed=3)[0]


class Changed:
    """A model whose answers are changed, or not given, after some tiles."""

    def __init__(self, model: TorchModel, change: Callable[[Prediction], Prediction], after: int = 0) -> None:
        self.model, self.change, self.left = model, change, after
        self.spec, self.device = model.spec, "cuda"

    def predict(self, batch: NDArray[np.float32]) -> Prediction:
        self.left -= 1
        answer = self.model.predict(batch)
        return answer if self.left >= 0 else self.change(answer)


def each(change: Callable[[Any], Any]) -> Callable[[Prediction], Prediction]:
    return lambda answer: replace(answer, maps={name: change(value) for name, value in answer.maps.items()})


def speck(value: float) -> Callable[[Any], Any]:
    """One number of a map is another."""

    def change(map_: Any) -> Any:
        map_ = map_.clone()
        map_[0, 0, 3, 4] = value
        return map_

    return change


GARBAGE: dict[str, tuple[Callable[[Prediction], Prediction], str]] = {
    "NaN": (each(speck(float("nan"))), r"answered with values that are no numbers \(NaN or infinite\), in its map 'semantic'\. Choose device='cpu'"),
    "infinity": (each(speck(float("inf"))), "no numbers"),
    "NaN in numpy": (each(lambda m: speck(float("nan"))(m).numpy()), "no numbers"),
    "another shape": (each(lambda m: m[..., :-1]), r"answered with a map 'semantic' of shape .*\. Needed: a map 'semantic' of shape \(1, 2, "),
    "another number of channels": (each(lambda m: m[:, :1]), "a map 'semantic' of shape"),
    "no map": (lambda answer: replace(answer, maps={}), "answered with no map 'semantic'"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_nonsense_that_a_model_answers_is_an_error_and_no_background(name: str, pixels: Array, untrained: Any, tmp_path: Path) -> None:
    change, text = GARBAGE[name]
    with pytest.raises(ModelError, match=text):
        segment(pixels, Changed(untrained(), change, after=2))
    if name == "NaN":
        out = tmp_path / "a.ome.zarr"
        with pytest.raises(ModelError, match=text):
            segment(pixels, Changed(untrained(), change, after=2), out=out, chunk=(20, 60), workers=1)
        assert label_store.is_unfinished(out)


def test_a_device_that_is_lost_leaves_what_is_done_and_another_one_goes_on(pixels: Array, untrained: Any, tmp_path: Path) -> None:
    def lost(_: Prediction) -> Prediction:
        raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later")

    model, out, image = untrained(), tmp_path / "a.ome.zarr", arrays.as_image(pixels)
    save(model.spec, model.net.state_dict(), tmp_path / "model")
    plan = resolve(image, Options(model=str(tmp_path / "model"), chunk=(20, 60), batch=1), load_spec(str(tmp_path / "model")))
    with pytest.raises(SegsuiteError, match=r"failed: RuntimeError: CUDA error: unspecified launch failure\. What is finished is kept") as caught:
        result(run(plan, image, out=out, model=Changed(model, lost, after=15), workers=1))
    assert "\n" not in str(caught.value)
    assert 0 < info(out)["chunks"]["done"] < 4
    again = Changed(model, lost, after=10**6)
    found = result(run(plan, image, out=out, model=again, workers=1))
    assert 0 < 10**6 - again.left < Layout(plan, model.spec).tiles
    np.testing.assert_array_equal(np.asarray(found.labels), segment(pixels, model).labels)


@pytest.mark.parametrize("out", ["a.ome.zarr", "a_labels.tif"])
def test_an_input_that_changes_meanwhile_gives_nothing_that_looks_finished(out: str, pixels: Array, tmp_path: Path) -> None:
    source, target = tmp_path / "a.tif", tmp_path / out
    tifffile.imwrite(source, pixels)
    times = iter([pixels + 1])

    def meddle(*_: object) -> None:
        for other in times:
            tifffile.imwrite(source, other)

    [done] = list(segment_all([str(source)], Batch(target, Options(model="otsu")), meddle))
    again = ", with --overwrite," if out.endswith("zarr") else ""
    assert done.error == f"File {source} changed while it was segmented. Do it again{again} when nothing writes to it any more."
    with pytest.raises(SegsuiteError, match=r"not finished|No file at"):
        read_segmentation(target)
    [done] = list(segment_all([str(source)], Batch(target, Options(model="otsu"), overwrite=True), meddle))
    np.testing.assert_array_equal(np.asarray(read_segmentation(done.paths["labels"]).labels), segment(pixels + 1, "otsu").labels)


def test_a_store_that_changes_meanwhile_is_told_from_python_too(pixels: Array, tmp_path: Path) -> None:
    store = write(arrays.as_image(pixels), tmp_path / "a.ome.zarr")
    image = read(store)

    class Meddling(Changed):
        def predict(self, batch: NDArray[np.float32]) -> Prediction:
            write(arrays.as_image(pixels + 1), store, overwrite=True)
            return self.model.predict(batch)

    model = Meddling(load_model("otsu"), bool)  # type: ignore[arg-type]
    for more in ({}, {"out": tmp_path / "b.ome.zarr"}):
        with pytest.raises(SegsuiteError, match="changed while it was segmented"):
            segment(image, model, **more)
    with pytest.raises(SegsuiteError, match="not finished"):
        read_segmentation(tmp_path / "b.ome.zarr")


@pytest.fixture
def lesson(tmp_path: Path) -> dict[str, Any]:
    """The wishes for a short training."""
    for k in range(2):
        for name, array in zip(("images", "labels"), nuclei((32, 32), "yx", seed=k), strict=True):
            (tmp_path / name).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / name / f"{k}.tif", array.astype(np.uint16), metadata={"axes": "YX"})
    data = {"images": str(tmp_path / "images"), "labels": str(tmp_path / "labels"), "out": tmp_path / "model"}
    return {**data, "net": "resunet-tiny", "crop": (16, 16), "batch": 2, "steps": 6}


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are set as POSIX has them")
def test_a_training_on_a_full_disk_says_so_and_leaves_no_half_state(lesson: dict[str, Any], tmp_path: Path) -> None:
    import resource

    folder, limits = tmp_path / "model" / "training", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"checkpoint\.pt would be larger than this file system or user may write\."):
            train(**lesson)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(p.name for p in folder.iterdir()) == ["job.json", "log.jsonl", "schedule.json"]
    assert not (tmp_path / "model" / "model.json").exists()


@pytest.mark.parametrize("damage", ["cut off", "one byte"])
def test_a_damaged_checkpoint_costs_a_few_steps_and_not_the_training(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, {"step": step, "net": {"a": torch.full((99,), float(step))}, "average": {}, "optimizer": {}})
    last, earlier = tmp_path / checkpoint.LAST, tmp_path / checkpoint.EARLIER

    def spoil(path: Path) -> None:
        data = bytearray(path.read_bytes())
        at = data.index(np.full(4, float(path == last) + 2, np.float32).tobytes())
        path.write_bytes(data[: len(data) // 2] if damage == "cut off" else data[:at] + b"x" + data[at + 1 :])

    spoil(last)
    whole = checkpoint.load(tmp_path)
    assert whole is not None
    assert (whole["step"], float(whole["net"]["a"].mean())) == (2, 2.0)
    assert f"{last} is damaged; the training goes on from step 2" in caplog.text
    assert [p.name for p in tmp_path.iterdir()] == [checkpoint.EARLIER]
    spoil(earlier)
    with pytest.raises(ModelError, match=r"The state of the training in .* is damaged\. Copy it again .*, or begin anew with --overwrite"):
        checkpoint.load(tmp_path)
    checkpoint.remove(tmp_path)
    assert checkpoint.load(tmp_path) is None


class Unsteady:
    """Pixels that cannot be read for some times."""

    def __init__(self, pixels: Array, error: Exception, times: int) -> None:
        self.pixels, self.error, self.times = pixels, error, times
        self.shape, self.dtype, self.ndim = pixels.shape, pixels.dtype, pixels.ndim

    def __getitem__(self, key: Any) -> Any:
        if self.times:
            self.times -= 1
            raise self.error
        return self.pixels[key]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_disk_that_does_not_answer_for_a_moment_is_asked_again(number: int, pixels: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "WAIT_S", 0.001)
    error, whole = OSError(number, os.strerror(number)), segment(pixels, "otsu")
    image = replace(arrays.as_image(pixels), levels=(Unsteady(pixels, error, faults.TRIES - 1),))
    np.testing.assert_array_equal(segment(image, "otsu").labels, whole.labels)
    image.data.times = 10**6
    with pytest.raises(SegsuiteError, match=rf"Pixels of image at y=all, x=all cannot be read \(.*{number}"):
        segment(image, "otsu")
    assert 10**6 - image.data.times == faults.TRIES
    really, lost = os.replace, iter([error] * (faults.TRIES - 1))

    def sometimes(old: Any, new: Any) -> None:
        for failed in lost if ".segsuite" in str(new) else ():
            raise failed
        really(old, new)

    monkeypatch.setattr(os, "replace", sometimes)
    found = segment(pixels, "otsu", out=tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(np.asarray(found.labels), whole.labels)
    assert not list(lost)


@pytest.mark.parametrize("kind", [ValueError, type("Own", (Exception,), {})])
def test_a_block_of_a_dask_array_that_fails_is_named_and_the_others_are_kept(kind: type[Exception], pixels: Array, tmp_path: Path) -> None:
    broken, out = [True], tmp_path / "a.ome.zarr"

    def block(part: Array, block_info: Any = None) -> Array:
        if broken[0] and block_info and block_info[0]["chunk-location"] == (2, 0):
            raise kind("no luck")
        return part

    lazy = arrays.as_image(da.from_array(pixels, chunks=(20, 60)).map_blocks(block, dtype=pixels.dtype))
    model = copy.copy(load_model("otsu"))
    model.spec = replace(model.spec, tile=(8, 20, 60), context=(0, 0, 0), normalize={"method": "none"})  # type: ignore[misc]
    plan = resolve(lazy, Options(model="otsu", chunk=(20, 60)), model.spec)
    with pytest.raises(SegsuiteError, match=r"Pixels of image at y=36:54, x=0:60 cannot be read \(\w+: no luck\)\. What computes this array failed"):
        result(run(plan, lazy, out=out, model=model, workers=1))
    assert 0 < info(out)["chunks"]["done"] < 4
    broken[0] = False
    found = result(run(plan, lazy, out=out, model=model, workers=1))
    np.testing.assert_array_equal(np.asarray(found.labels), segment(pixels, model).labels)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="which file a number stands for is asked of /proc")
def test_nothing_takes_its_name_before_it_is_on_the_disk(pixels: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that after a power cut no record claims a chunk that is not there: each is forced to the disk, then named, then its folder is."""
    told, sync, replacing = list[tuple[str, str]](), os.fsync, os.replace

    def synced(number: int) -> None:
        told.append(("sync", os.readlink(f"/proc/self/fd/{number}")))
        sync(number)

    def replaced(old: Any, new: Any) -> None:
        by_zarr = str(old).endswith(".partial")  # which forces nothing: that is made up for in the end
        told.append(("zarr" if by_zarr else "name", os.path.realpath(new)))
        assert by_zarr or ("sync", os.path.realpath(old)) in told, new
        replacing(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    segment(pixels, "otsu", out=tmp_path / "a.ome.zarr", chunk=(20, 60), workers=1)
    last = max(k for k, (what, path) in enumerate(told) if what == "name" and path.endswith("a.ome.zarr/zarr.json"))
    there = {os.path.realpath(p) for folder in ("0", "table") for p in (tmp_path / "a.ome.zarr" / folder).rglob("*") if p.is_file()}
    assert there <= {path for what, path in told[:last] if what in ("sync", "name")}
    kinds = [path.split("/")[-2] if ".segsuite" in path else "block" for what, path in told if what == "name"]
    assert {"chunks", "labels", "blocks", "tiles", "block"} <= set(kinds)
    for kind, before in (("chunks", "labels"), ("blocks", "block")):
        first = kinds.index(kind)
        assert before in kinds[:first]
    for k, (what, path) in enumerate(told):
        if what == "name" and "/tiles/" not in path and not path.endswith(".json"):  # tiles can be computed again, which costs less than waiting
            assert ("sync", os.path.dirname(path)) in told[k:], path


@pytest.mark.slow
def test_a_script_that_starts_itself_anew_is_told_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import concurrent.futures as cf, multiprocessing as mp, numpy as np\nfrom napari_segsuite import segment\n"
        "with cf.ProcessPoolExecutor(1, mp_context=mp.get_context('spawn')) as pool:\n    segment(np.eye(64), 'otsu', executor=pool)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, env=environment, timeout=200, check=False)
    assert done.returncode == 1
    assert "Or the script that starts processes lacks if __name__ == '__main__': around what it does" in done.stderr.splitlines()[-1]
