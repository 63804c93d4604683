"""Images and results at URLs: in memory, and in a real object store that another process serves."""

from __future__ import annotations

import functools
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr

from napari_segsuite import arrays, io, read, read_segmentation, segment
from napari_segsuite.engine import lock
from napari_segsuite.engine.plan import Options, Plan, resolve
from napari_segsuite.engine.run import result, run
from napari_segsuite.engine.work import Work, read_job
from napari_segsuite.errors import InputError, MissingExtra, OutputError
from napari_segsuite.info import info
from napari_segsuite.io import label_store
from napari_segsuite.io.place import is_remote, names_in, place, put_remote, store_at
from napari_segsuite.models import load_spec
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Image, Segmentation

SHAPE, CHUNK = (24, 70, 66), (10, 32, 31)
CHUNKS = 27
FEW, SMALL = (12, 44, 40), (6, 22, 20)
"""A volume of 8 chunks, since each file that an object store is asked for takes a while."""


HURRIED = """
from napari_segsuite.engine import lock
from napari_segsuite.cli import main
lock.BEAT_S, lock.DEAD_S = 0.5, 5.0
raise SystemExit(main())
"""
"""The command, which does not wait as long for a lease that nobody renews."""


@pytest.fixture
def there() -> Iterator[str]:
    """A folder in memory."""
    fs = fsspec.filesystem("memory")
    yield "memory://there"
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


@pytest.fixture(scope="module")
def image() -> Image:
    return arrays.as_image(nuclei(SHAPE, "zyx", seed=3)[0], "zyx", name="nuclei")


@pytest.fixture(scope="module")
def whole(image: Image) -> Segmentation:
    return result(run(planned(image), image))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that are renewed often, so that nobody waits long for a dead one."""
    monkeypatch.setattr(lock, "BEAT_S", 0.2)
    monkeypatch.setattr(lock, "DEAD_S", 1.5)


def planned(image: Image, **options: Any) -> Plan:
    return resolve(image, Options(model="otsu", **{"chunk": CHUNK, **options}), load_spec("otsu"))


def assert_equal(found: Segmentation, whole: Segmentation) -> None:
    np.testing.assert_array_equal(np.asarray(found.labels[...]), whole.labels)
    assert list(found.segments) == list(whole.segments)
    for name, column in whole.segments.items():
        np.testing.assert_array_equal(found.segments[name], column, err_msg=name)


def keys_of(url: str) -> dict[str, Any]:
    """Everything below a URL, and when it was written."""
    path: Any = place(url)
    return {name: path.fs.info(name)["created"] for name in path.fs.find(path.path)}


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_a_result_at_a_url_is_what_it_is_on_a_disk(version: str, there: str, image: Image, whole: Segmentation, tmp_path: Path) -> None:
    out, disk = place(f"{there}/a.ome.zarr"), tmp_path / "a.ome.zarr"
    assert_equal(result(run(planned(image), image, out=out, version=version)), whole)
    result(run(planned(image), image, out=disk, version=version))
    files = {name.removeprefix("/there/a.ome.zarr/") for name in keys_of(f"{there}/a.ome.zarr")}
    assert files == {file.relative_to(disk).as_posix() for file in disk.rglob("*") if file.is_file()}
    blocks = [name for name in files if "/c/" in name or (version == "0.4" and name.startswith("0/") and not name.startswith("0/."))]
    assert blocks
    assert all((out / name).read_bytes() == (disk / name).read_bytes() for name in blocks)
    assert_equal(read_segmentation(str(out)), whole)


def test_a_run_into_a_url_is_stopped_and_gone_on_with(there: str, image: Image, whole: Segmentation, quick: None) -> None:
    out = place(f"{there}/a.ome.zarr")
    steps = run(planned(image), image, out=out)
    for _ in steps:
        if (job := read_job(out)) is not None and len((records := Work(out, job.token).records("chunks")).names()) > 2:
            break
    steps.close()
    before = {name: keys_of(f"{out}/.segsuite/{job.token}/chunks")[f"{records.folder.path}/{name}"] for name in records.names()}  # type: ignore[attr-defined]
    assert 0 < len(before) < CHUNKS
    assert label_store.is_unfinished(out)
    with pytest.raises(InputError, match="are not finished"):
        read_segmentation(str(out))
    with pytest.raises(OutputError, match="with other options"):
        result(run(planned(image, min_size_px=9), image, out=out))
    found = run(planned(image), image, out=out)
    next(p for p in found if p.done > 900)
    after = keys_of(f"{out}/.segsuite/{job.token}/chunks")
    assert {name: after[f"{records.folder.path}/{name}"] for name in before} == before  # type: ignore[attr-defined]
    assert_equal(result(found), whole)
    assert not [name for name in keys_of(str(out)) if ".segsuite" in name]


def test_labels_inside_an_image_at_a_url(there: str, image: Image, whole: Segmentation) -> None:
    store = f"{there}/cells.ome.zarr"
    io.write(image, store)
    assert {name.rpartition("/")[2] for name in keys_of(store)} >= {"zarr.json"}
    again = read(store)
    np.testing.assert_array_equal(np.asarray(again.data[...]), image.data)
    assert (again.axes, again.source) == ("zyx", store)
    found = segment(store, "otsu", out=f"{store}/labels/otsu", chunk=CHUNK)
    assert_equal(found, whole)
    assert_equal(read_segmentation(store), whole)
    assert_equal(segment(store, "otsu", out=f"{store}/labels/otsu", chunk=CHUNK), whole)  # is there already
    changed = zarr.open_array(store_at(place(store) / "0"))
    changed[0, 0, :4] = 99
    with pytest.raises(OutputError, match="exists already"):
        segment(store, "otsu", out=f"{store}/labels/otsu", chunk=CHUNK)


def test_replacing_a_result_at_a_url_keeps_it_until_the_new_one_is_there(there: str, image: Image, whole: Segmentation) -> None:
    out = place(f"{there}/a.ome.zarr")
    result(run(planned(image, min_size_px=30), image, out=out))
    before = len(read_segmentation(str(out)).segments["id"])
    with pytest.raises(OutputError, match="exists already"):
        result(run(planned(image), image, out=out))
    steps = run(planned(image), image, out=out, overwrite=True)
    next(p for p in steps if p.done > 100)
    assert len(read_segmentation(f"{there}/.a.ome.zarr.before").segments["id"]) == before
    assert_equal(result(steps), whole)
    assert names_in(place(there)) == {"a.ome.zarr"}


def test_a_lease_is_refused_while_it_is_renewed_and_free_when_it_is_not(there: str, quick: None) -> None:
    path, what = place(f"{there}/lock"), place(f"{there}/store")
    with lock.held(path, what):
        began = time.monotonic()
        with pytest.raises(OutputError, match=rf"Another process \({os.getpid()} on .*\) is writing memory://there/store"), lock.held(path, what):
            pass
        assert time.monotonic() - began < lock.DEAD_S
    assert not path.exists()
    put_remote(path, json.dumps({"owner": "dead", "beat": 3}).encode())
    with lock.held(path, what) as check:
        check()
        assert json.loads(path.read_bytes())["owner"] != "dead"


def test_who_lost_a_lease_stops(there: str, image: Image, quick: None) -> None:
    out = place(f"{there}/a.ome.zarr")
    steps = run(planned(image), image, out=out)
    next(p for p in steps if p.done > 0)
    put_remote(out / ".segsuite" / "lock", json.dumps({"owner": "another", "host": "there", "pid": 7}).encode())
    time.sleep(3 * lock.BEAT_S)
    with pytest.raises(OutputError, match=r"taken over by another process \(7 on there\)"):
        result(steps)


def test_a_folder_of_stores(there: str, image: Image, segsuite: Callable[..., Any]) -> None:
    for name in ("a", "b"):
        io.write(image, f"{there}/in/{name}.ome.zarr")
    told = segsuite("segment", f"{there}/in", "--model", "otsu", "--out", f"{there}/out", "--format", "ome-zarr", "--progress", "none")
    assert told.code == 0, told.err
    names = {"a_labels.ome.zarr", "a_segments.csv", "a_run.json", "b_labels.ome.zarr", "b_segments.csv", "b_run.json"}
    assert names_in(place(f"{there}/out")) == names
    again = segsuite("segment", f"{there}/in/*.zarr", "--model", "otsu", "--out", f"{there}/out", "--format", "ome-zarr", "--progress", "none")
    assert again.code == 0
    assert again.out.count("already done") == 2
    scores = segsuite("evaluate", f"{there}/out/a_labels.ome.zarr", f"{there}/out/b_labels.ome.zarr", "--json")
    assert json.loads(scores.out)["ap"]["0.5"] == 1
    about = segsuite("info", f"{there}/out/a_labels.ome.zarr", "--json")
    assert json.loads(about.out)["finished"] is True


def test_other_files_at_a_url(there: str, whole: Segmentation) -> None:
    io.write(whole, f"{there}/a.tif")
    assert place(f"{there}/a.tif").stat().st_size > 1000
    with pytest.raises(OutputError, match=r"File memory://there/a.tif exists already"):
        io.write(whole, f"{there}/a.tif")
    with pytest.raises(InputError, match="Copy it to a disk first"):
        read(f"{there}/a.tif")


def test_what_cannot_be_reached_is_said(there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segsuite: Callable[..., Any]) -> None:
    assert place(f"file://{tmp_path}") == tmp_path
    assert place("C:\\data\\a.zarr").name.endswith("a.zarr")
    with pytest.raises(InputError, match=r"'nosuch://a' is a URL of a kind that fsspec does not know"):
        place("nosuch://a")
    with pytest.raises(InputError, match=r"'file:/a/b' looks like a URL with a slash too few\. Needed: file:///a/b"):
        place("file:/a/b")
    with pytest.raises(InputError, match=r"'s3:/a/b' looks like a URL with a slash too few\. Needed: s3://a/b"):
        place("s3:/a/b")
    with pytest.raises(InputError, match=r"No file at memory://there/a\.ome\.zarr"):
        read(f"{there}/a.ome.zarr")
    with pytest.raises(SystemExit):
        segsuite("info", "nosuch://a")
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(MissingExtra, match=r'pip install "napari-segsuite\[remote\]"'):
        place(there)
    assert not is_remote(place("a.zarr"))


class Unlisted(http.server.SimpleHTTPRequestHandler):
    """A web server as many are: files, but no lists of them."""

    def list_directory(self, path: Any) -> None:
        self.send_error(403)

    def log_message(self, *_: Any) -> None:
        pass


def test_an_image_on_a_web_server_that_lists_nothing(image: Image, whole: Segmentation, tmp_path: Path) -> None:
    io.write(image, tmp_path / "cells.ome.zarr")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Unlisted, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = f"http://127.0.0.1:{server.server_address[1]}/cells.ome.zarr"
        try:
            found = read(store)
            np.testing.assert_array_equal(np.asarray(found.data[...]), image.data)
            assert_equal(segment(store, "otsu", out=tmp_path / "otsu.ome.zarr", chunk=CHUNK), whole)
            with pytest.raises(InputError, match="No file at http"):
                read(f"{store}/nothing.zarr")
        finally:
            server.shutdown()


# An object store as a service ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[str, dict[str, str]]]:
    """A bucket that another process serves with the interface of S3, and the environment by which it is found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1", "FSSPEC_S3_ENDPOINT_URL": address}
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **keys}
    )
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"{address}/moto-api/", timeout=1).close()
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.1)
        fs: Any = fsspec.filesystem("s3", key="test", secret="test", endpoint_url=address)
        fs.mkdir("bucket")
        yield address, keys
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("more", [[], pytest.param(["--workers", "2"], marks=pytest.mark.slow)])
def test_killed_and_gone_on_with_in_an_object_store(bucket: tuple[str, dict[str, str]], more: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command, from another process each time."""
    image = arrays.as_image(nuclei(FEW, "zyx", crowding=0.3, seed=3)[0], "zyx", name="nuclei")
    whole = result(run(planned(image, chunk=SMALL), image))
    address, keys = bucket
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": address})
    store, out = "s3://bucket/cells.ome.zarr", "s3://bucket/cells.ome.zarr/labels/otsu"
    io.write(image, store)
    command = [
        sys.executable,
        "-c",
        HURRIED,
        "segment",
        store,
        "--model",
        "otsu",
        "--out",
        out,
        "--chunk",
        ",".join(map(str, SMALL)),
        "--progress",
        "json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **keys}) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if json.loads(line).get("done", 0) > 100)
        process.kill()
    assert info(place(out))["finished"] is False
    again = subprocess.run([*command, *more], capture_output=True, text=True, env={**os.environ, **keys}, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    assert_equal(read_segmentation(out), whole)
    assert not [name for name in place(out).fs.find(place(out).path) if ".segsuite" in name]  # type: ignore[attr-defined]
    fewer = segment(store, "otsu", out=out, chunk=FEW, min_size_px=400, overwrite=True)
    assert len(fewer.segments["id"]) < len(whole.segments["id"])
    assert names_in(place(out).parent) == {"otsu", "zarr.json"}


def test_a_bucket_that_is_not_there(bucket: tuple[str, dict[str, str]], tmp_path: Path, image: Image) -> None:
    io.write(image, tmp_path / "a.tif")
    command = [sys.executable, "-m", "napari_segsuite", "segment", str(tmp_path / "a.tif"), "--model", "otsu", "--out", "s3://nosuch/a.ome.zarr"]
    told = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **bucket[1]}, timeout=120, check=False)
    assert told.returncode == 1
    assert "Traceback" not in told.stderr
    assert "s3://nosuch" in told.stderr
