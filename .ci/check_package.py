"""Check that the wheel and the sdist in a folder hold what a user needs and little else: python .ci/check_package.py dist."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

LARGEST_MB = 20
NEEDED = ("napari_segsuite/napari.yaml", "napari_segsuite/py.typed", "napari_segsuite/_version.py")
MODEL = ("model.json", "weights.safetensors", "card.md")


def members(path: Path) -> list[str]:
    """The names in an archive."""
    if path.suffix == ".whl":
        return zipfile.ZipFile(path).namelist()
    with tarfile.open(path) as archive:
        return archive.getnames()


def complaints(path: Path, source: Path) -> list[str]:
    """What is wrong with an archive, compared with the package's folder `source`."""
    names = members(path)
    builtin = [p.relative_to(source.parent).as_posix() for p in sorted(source.glob("models/builtin/*/*")) if p.name in MODEL]
    wrong = [f"{name} is missing" for name in (*NEEDED, *builtin) if not any(n.endswith(name) for n in names)]
    if not any(n.endswith("weights.safetensors") for n in names):
        wrong.append("no model with weights is in it")
    wrong += [f"{n} does not belong in it" for n in names if "__pycache__" in n or n.endswith(".pyc")]
    if path.suffix == ".whl":
        wrong += [f"{n} is outside the package" for n in names if not n.startswith(("napari_segsuite/", "napari_segsuite-"))]
    if path.stat().st_size > LARGEST_MB * 2**20:
        wrong.append(f"it is larger than {LARGEST_MB} MB")
    return wrong


def main(folder: str) -> int:
    """Complain on the standard error; 0 if there is nothing to complain about."""
    archives = [*Path(folder).glob("*.whl"), *Path(folder).glob("*.tar.gz")]
    source = Path(__file__).resolve().parents[1] / "src" / "napari_segsuite"
    wrong = [f"{path.name}: {text}" for path in archives for text in complaints(path, source)]
    if {p.suffix for p in archives} != {".whl", ".gz"}:
        wrong.append(f"{folder}: a wheel and an sdist are needed, found {[p.name for p in archives]}")
    sys.stderr.write("".join(f"{line}\n" for line in wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
