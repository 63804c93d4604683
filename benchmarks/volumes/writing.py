"""Writing labels: our own encoder beside tensorstore and zarr-python, and the whole pyramid over its finest level.

All write the same blocks of 128 cubed with the same codecs (zstd of level 1, crc32c), one after the other, one file each. The floor is
compressing and summing up alone. Ours also forces every file to the disk and renames it; the others do not.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs import zstd
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.volumes.measure import cpu, fastest, folder, heading, row, verdict
from benchmarks.volumes.sources import blobs
from napari_segsuite.io import label_store
from napari_segsuite.io.packed import pack, unpack
from napari_segsuite.io.shards import LEVEL

TARGET_PYRAMID = 1.3
ROUNDS = 5
Labels = NDArray[np.uint32]
Blocks = dict[tuple[int, ...], Labels]


def main(options: argparse.Namespace) -> dict[str, float]:
    """Print MB per CPU-second."""
    side, n = (2, 64) if options.quick else (4, 128)
    blocks = _blocks(side, n)
    megabytes = sum(block.nbytes for block in blocks.values()) / 1e6
    heading(f"writing: {megabytes:.0f} MB of uint32 labels in {len(blocks)} blocks of {n} cubed; MB per CPU-second, best of {ROUNDS} rounds")
    with folder() as at:
        writers: dict[str, Callable[[], object]] = {
            "ours": lambda: _ours(at, blocks),
            "zarr-python, sharded": lambda: _zarr(at, blocks, sharded=True),
            "zarr-python": lambda: _zarr(at, blocks, sharded=False),
            "floor: zstd and crc32c alone": lambda: _encoded(blocks),
        }
        if _has_tensorstore():
            writers |= {"tensorstore, sharded": lambda: _tensorstore(at, blocks, sharded=True)}
            writers |= {"tensorstore": lambda: _tensorstore(at, blocks, sharded=False)}
        seconds = fastest(writers, 1 if options.quick else ROUNDS)
        for name, took in seconds.items():
            row(name, f"{megabytes / took:.0f} MB/s", f"{took / seconds['ours']:.2f} x ours")
        rounds = 1 if options.quick else ROUNDS
        row(f"pyramid over finest level, blocks of {n} cubed", f"{_pyramid(at, blocks, rounds):.3f}")
        large = _joined(blocks, (2, 2, side))
        ratio = _pyramid(at, large, rounds)
    verdict(f"the same, of {' x '.join(map(str, large[0, 0, 0].shape))} as by default", ratio, TARGET_PYRAMID)
    return {"pyramid": ratio, **{name: megabytes / took for name, took in seconds.items()}}


def _blocks(side: int, n: int) -> Blocks:
    labels = ndimage.label(blobs((n, n, n)))[0].astype(np.uint32)
    count = int(labels.max())
    return {at: np.where(labels, labels + np.uint32(k * count), np.uint32(0)) for k, at in enumerate(np.ndindex(side, side, side))}


def _joined(blocks: Blocks, many: tuple[int, ...]) -> Blocks:
    """Larger blocks of the same volume, each made of so many along each axis."""
    n = next(iter(blocks.values())).shape
    large: Blocks = {}
    for place, block in blocks.items():
        at = tuple(p // m for p, m in zip(place, many, strict=True))
        whole = large.setdefault(at, np.empty([k * m for k, m in zip(n, many, strict=True)], np.uint32))
        whole[tuple(slice(p % m * k, (p % m + 1) * k) for p, m, k in zip(place, many, n, strict=True))] = block
    return large


def _fresh(at: Path) -> Path:
    shutil.rmtree(at, ignore_errors=True)
    at.mkdir()
    return at


def _folder(at: Path) -> Path:
    at.mkdir()
    return at


def _size(blocks: Blocks) -> tuple[list[int], list[int]]:
    """Shape of the array, and of a block."""
    block = next(iter(blocks.values())).shape
    return [(1 + max(place[a] for place in blocks)) * n for a, n in enumerate(block)], list(block)


def _box(place: tuple[int, ...], block: list[int]) -> tuple[slice, ...]:
    return tuple(slice(i * n, (i + 1) * n) for i, n in zip(place, block, strict=True))


def _store(at: Path, blocks: Blocks) -> label_store.LabelStore:
    shape, block = _size(blocks)
    store = label_store.plan_store(at / "labels.ome.zarr", "zyx", shape, block)
    label_store.begin(store.path, store.version)
    store.create()
    return store


def _ours(at: Path, blocks: Blocks) -> None:
    store = _store(_fresh(at), blocks)
    for place, labels in blocks.items():
        store.levels[0].write(place, labels)


def _pyramid(at: Path, blocks: Blocks, rounds: int) -> float:
    """Time of all levels over that of the finest alone: each step's least, the finest written both ways in turns, block by block."""
    least: dict[tuple[str, int, tuple[int, ...]], float] = {}
    for number in range(rounds):
        for step, took in _steps(_fresh(at), blocks, number):
            least[step] = min(took, least.get(step, np.inf))
    alone, every = (sum(took for step, took in least.items() if step[0] == name) for name in ("alone", "all"))
    return every / alone


def _steps(at: Path, blocks: Blocks, number: int) -> Iterator[tuple[tuple[str, int, tuple[int, ...]], float]]:
    """What is done for each block, and its processor seconds; as in `engine.tasks`."""
    alone, store = _store(_folder(at / "alone"), blocks), _store(_folder(at / "all"), blocks)
    kept: dict[tuple[int, tuple[int, ...]], bytes] = {}
    for level in range(1, len(store.levels)):
        for place in np.ndindex(*store.levels[level].counts):
            box = store.levels[level].box(place)
            lower, first = np.empty([s.stop - s.start for s in box], np.uint32), [s.start for s in box]
            for fine in store.above(level, place):
                if level == 1:
                    both = {
                        "alone": partial(alone.levels[0].write, fine, blocks[fine]),
                        "all": partial(store.write, 0, fine, blocks[fine], lower, first),
                    }
                    for name in sorted(both, reverse=(sum(fine) + number) % 2 == 0):  # the second finds the block in the cache
                        yield (name, 0, fine), cpu(both[name])
                else:
                    yield ("all", -level, fine), cpu(partial(_put_into, store, level, place, fine, kept.pop((level - 1, fine)), lower))
            yield ("all", level, place), cpu(partial(_finish, store, level, place, lower, kept))


def _put_into(store: label_store.LabelStore, level: int, place: tuple[int, ...], fine: tuple[int, ...], packed: bytes, lower: Labels) -> None:
    store.put_into(level, place, fine, unpack(packed)["thin"], lower)


def _finish(store: label_store.LabelStore, level: int, place: tuple[int, ...], block: Labels, kept: dict[Any, bytes]) -> None:
    """Write a block of a lower level, and keep what the next level has of it."""
    if level + 1 == len(store.levels):
        store.write(level, place, block, None)
        return
    thin, corner = store.thinned(level + 1, place)
    store.write(level, place, block, thin, corner)
    kept[level, place] = pack({"thin": thin}, quick=True)


def _zarr(at: Path, blocks: Blocks, sharded: bool) -> None:
    shape, block = _size(blocks)
    codecs = [zarr.codecs.ZstdCodec(level=LEVEL), zarr.codecs.Crc32cCodec()]
    shards: Any = tuple(block) if sharded else None
    array = zarr.create_array(_fresh(at) / "0", shape=tuple(shape), dtype="uint32", chunks=tuple(block), shards=shards, compressors=codecs)
    for place, labels in blocks.items():
        array[_box(place, block)] = labels


def _tensorstore(at: Path, blocks: Blocks, sharded: bool) -> None:
    import tensorstore

    shape, block = _size(blocks)
    inner: list[dict[str, Any]] = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "zstd", "configuration": {"level": LEVEL}},
        {"name": "crc32c"},
    ]
    shard = {"name": "sharding_indexed", "configuration": {"chunk_shape": block, "codecs": inner, "index_codecs": [inner[0], inner[2]]}}
    grid = {"name": "regular", "configuration": {"chunk_shape": block}}
    metadata = {"shape": shape, "data_type": "uint32", "fill_value": 0, "chunk_grid": grid, "codecs": [shard] if sharded else inner}
    place_of = {"driver": "file", "path": str(_fresh(at) / "0")}
    context = {"data_copy_concurrency": {"limit": 1}, "file_io_concurrency": {"limit": 1}}
    array = tensorstore.open({"driver": "zarr3", "kvstore": place_of, "metadata": metadata, "context": context}, create=True).result()
    for place, labels in blocks.items():
        array[_box(place, block)].write(labels).result()


def _has_tensorstore() -> bool:
    try:
        import tensorstore  # noqa: F401
    except ImportError:
        row("tensorstore", "not installed")
        return False
    return True


def _encoded(blocks: Blocks) -> None:
    for labels in blocks.values():
        google_crc32c.value(zstd.compress(labels, LEVEL))
