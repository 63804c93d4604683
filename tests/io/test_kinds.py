"""Files whose names say something else than they are: told as what they are, and not as damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_segsuite.errors import InputError
from napari_segsuite.io import read
from napari_segsuite.io.inputs import MODULES, module_of
from napari_segsuite.io.kinds import check_kind

HEADS = {
    "a TIFF file": (".tif", b"II*\0"),
    "a PNG file": (".png", b"\x89PNG\r\n\x1a\n"),
    "a JPEG file": (".jpg", b"\xff\xd8\xff\xe0"),
    "an NRRD file": (".nrrd", b"NRRD0004\n"),
    "a CZI file": (".czi", b"ZISRAWFILE"),
    "a LIF file": (".lif", b"\x70\0\0\0\1\0\0\0\x2a"),
    "an ND2 file": (".nd2", b"\xda\xce\xbe\x0a"),
    "a compound file, as OIB files are": (".oib", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    "an HDF5 file": (".h5", b"\x89HDF\r\n\x1a\n"),
    "a DICOM file": (".dcm", bytes(128) + b"DICM"),
    "an MRC file": (".mrc", bytes(208) + b"MAP \x44\x44"),
    "a NIfTI file that is not compressed": (".nii", b"\x5c\1\0\0" + bytes(340) + b"n+1\0"),
    "a MetaImage": (".mha", b"ObjectType = Image\n"),
    "a ZIP archive": ("", b"PK\3\4"),
    "a web page, as servers answer with in the place of a file": ("", b"\n<!DOCTYPE html>"),
}
SUFFIXES = (".tif", ".png", ".nii", ".nii.gz", ".nrrd", ".mha", ".dcm", ".czi", ".lif", ".nd2", ".oib", ".h5", ".ims", ".mrc")


@pytest.mark.parametrize("name", HEADS)
def test_a_file_is_told_as_what_it_is(tmp_path: Path, name: str) -> None:
    suffix, head = HEADS[name]
    assert {module_of(Path(f"a{one}")) for one in SUFFIXES} == set(MODULES) - {"ome_zarr"}
    own = module_of(Path(f"a{suffix}"))
    others = [one for one in SUFFIXES if module_of(Path(f"a{one}")) != own and (own, one) != ("hdf5", ".ims")]
    for other in [*others, ".scan", ""]:
        path = tmp_path / f"a{other}"
        path.write_bytes(head.ljust(2000, b"\0"))
        said = f"and its name ends in {other}" if other else "which its name does not say"
        if name == "a DICOM file" and other in (".scan", ""):
            continue  # which need no suffix
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value).startswith(f"File {path} is {name}, {said}.")
        assert suffix in caught.value.do
        assert "damaged" not in str(caught.value)


def test_what_is_compressed_and_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"\x1f\x8b\x08".ljust(99, b"\0"))
    with pytest.raises(InputError, match=r"is a gzip file, and its name ends in \.nii\..* Rename it to a\.nii\.gz\."):
        read(tmp_path / "a.nii")
    (tmp_path / "b.nii.gz").write_bytes(HEADS["a NIfTI file that is not compressed"][1].ljust(999, b"\0"))
    with pytest.raises(InputError, match=r"ends in \.nii\.gz\..* Rename it to b\.nii\."):
        read(tmp_path / "b.nii.gz")
    (tmp_path / "c.czi").write_bytes(b"\x1f\x8b\x08".ljust(99, b"\0"))
    with pytest.raises(InputError, match=r"is a gzip file, and its name ends in \.czi\. Unpack it first\."):
        read(tmp_path / "c.czi")


def test_a_file_that_is_two_things_is_what_its_name_says(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"II*\0".ljust(128, b"\0") + b"DICM")
    check_kind(path, "tiff")
    check_kind(path, "dicom")
    with pytest.raises(InputError, match="is a TIFF file"):
        check_kind(path, "raster")
    path.write_bytes(b"nothing that is known")
    check_kind(path, "tiff")
