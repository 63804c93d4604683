"""Small things to write: labels of two kinds of segment, and images."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from napari_segsuite.errors import SegsuiteError
from napari_segsuite.io import read
from napari_segsuite.io.table import table_of
from napari_segsuite.types import Class, Image, Segmentation

CLASSES = (Class(1, "tissue", (1, 2, 3), countable=False), Class(2, "cell", (9, 8, 7)))


@pytest.fixture
def make_segmentation() -> Callable[..., Segmentation]:
    def make(labels: NDArray[Any] | None = None, axes: str = "yx", **fields: Any) -> Segmentation:
        if labels is None:
            labels = np.zeros((30, 40), np.uint16)
            labels[2:9, 3:9], labels[15:25, 20:39] = 1, 5
        n = labels.ndim
        place = {"scale": (0.5,) * n, "units": ("micrometer",) * n, "translate": (0.0,) * n}
        told = {"labels": labels, "segments": table_of(labels, axes, CLASSES), "classes": CLASSES, "axes": axes, "provenance": {"model": "otsu"}}
        return Segmentation(**{**told, **place, **fields})

    return make


@pytest.fixture
def make_image() -> Callable[..., Image]:
    def make(pixels: NDArray[Any], axes: str = "yx", **fields: Any) -> Image:
        place = {"scale": tuple(1.0 if a == "c" else 0.5 for a in axes), "translate": (0.0,) * len(axes)}
        names = tuple(f"dye {k}" for k in range(pixels.shape[axes.index("c")])) if "c" in axes else ()
        units = tuple("pixel" if a == "c" else "micrometer" for a in axes)
        return Image(**{"levels": (pixels,), "axes": axes, "channels": names, "units": units, **place, **fields})

    return make


@pytest.fixture
def make_series() -> Callable[..., list[Path]]:
    """Write a CT series, a file per slice; what `change` does to the header of slice k is up to the test."""

    def make(
        folder: Path,
        data: NDArray[Any],
        *,
        origin: tuple[float, ...] = (-90.5, 126.25, -72.1),
        directions: NDArray[Any] | None = None,
        spacing: tuple[float, ...] = (0.8, 0.9, 3.0),
        change: Callable[[Dataset, int], object] = lambda header, k: None,
        order: tuple[int, ...] = (),
    ) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        columns = np.eye(3) if directions is None else np.asarray(directions, float)
        uids = {name: generate_uid(None) for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
        paths = []
        for k in range(len(data)):
            header = Dataset()
            header.PatientName, header.PatientID, header.PatientBirthDate, header.PatientSex = "Doe^Jane", "4711", "19700101", "F"
            for name, uid in uids.items():
                setattr(header, name, uid)
            header.SOPClassUID, header.SOPInstanceUID, header.Modality = CTImageStorage, generate_uid(None), "CT"
            header.SeriesNumber, header.InstanceNumber, header.SeriesDescription = 3, k + 1, "thorax"
            header.Rows, header.Columns = data.shape[1:]
            header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
            header.BitsAllocated = header.BitsStored = 8 * data.dtype.itemsize
            header.HighBit, header.PixelRepresentation = header.BitsStored - 1, int(data.dtype.kind == "i")
            header.PixelSpacing, header.SliceThickness = [spacing[1], spacing[0]], spacing[2]
            header.ImageOrientationPatient = [round(float(v), 10) for v in columns[:, :2].T.ravel()]
            header.ImagePositionPatient = [round(float(v), 10) for v in np.array(origin) + columns[:, 2] * spacing[2] * k]
            header.PixelData = np.ascontiguousarray(data[k]).astype(data.dtype.newbyteorder("<")).tobytes()
            change(header, k)
            header.file_meta = FileMetaDataset()
            header.file_meta.TransferSyntaxUID, header.file_meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, header.SOPClassUID
            header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
            paths.append(folder / f"IM{order[k] if order else k:04d}")
            header.save_as(paths[-1], enforce_file_format=True)
        return paths

    return make


@pytest.fixture(scope="session")
def elsewhere() -> Iterator[Callable[[Any], NDArray[Any]]]:
    """Read an array that stays on disk in a process of its own, which gets it by pickle."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield lambda array: pool.submit(np.asarray, array).result(timeout=60)


@pytest.fixture
def flipped(tmp_path: Path) -> Callable[..., int]:
    """Read copies of a file with one wrong byte each: an image or an error of ours, of whatever the file says then; gives how many were refused."""

    def check(path: Path, times: int = 200) -> int:
        data, random, refused = path.read_bytes(), np.random.default_rng(0), 0
        copy = tmp_path / f"flipped{path.suffix}"
        for at in random.integers(0, len(data), times):
            copy.write_bytes(data[:at] + bytes([data[at] ^ random.integers(1, 256)]) + data[at + 1 :])
            refused += 1
            with contextlib.suppress(SegsuiteError):
                np.asarray(read(copy).data[..., :1000, :1000])
                refused -= 1
        return refused

    return check
