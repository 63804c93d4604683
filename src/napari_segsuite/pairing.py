"""Which files belong together: an input and its result, a result and its truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_segsuite.errors import InputError
from napari_segsuite.io import list_inputs, module_of
from napari_segsuite.io.dicom_peek import is_series_folder
from napari_segsuite.io.faults import check_is_there
from napari_segsuite.io.plates import name_of_field


def pairs(pred: Path, true: Path, *, images: bool = False) -> list[tuple[Path, Path]]:
    """Find which labels belong to which truth: two files, or files of the same stem in two folders.

    Parameters
    ----------
    pred, true : Path
    images : bool
        The first are images; of their folder our own results are left out. The two folders can then be one.

    Raises
    ------
    InputError
        One is missing, one is a folder and the other is not, or a file has no partner or two; they are named.
    """
    check_is_there(pred)
    check_is_there(true)
    if not _is_folder(pred) and not _is_folder(true):
        return [(pred, true)]
    if not (_is_folder(pred) and _is_folder(true)):
        raise InputError(f"one of {pred} and {true} is a file, and the other a folder", "two files, or two folders")
    predictions, truths = _by_stem(pred, ours=not images), _by_stem(true)
    alone = sorted({*predictions} ^ {*truths})
    if alone:
        shown = ", ".join(map(repr, alone[:8])) + (", ..." if len(alone) > 8 else "")
        raise InputError(f"there are files in only one of {pred} and {true}: {shown}", "the same names in both, with or without '_labels'")
    return [(predictions[name], truths[name]) for name in sorted(predictions)]


def results(inputs: Sequence[str | Path]) -> list[Path]:
    """Expand files, patterns and folders to the labels they mean: of a folder our own results, where there are any.

    Raises
    ------
    InputError
        Something is missing, or a folder has no labels; it is named.
    """
    found: list[Path] = []
    for one in inputs:
        path = Path(one).expanduser()
        found += _by_stem(path).values() if str(one).strip() and path.is_dir() and _is_folder(path) else list_inputs([one])
    return list(dict.fromkeys(found))


def stem(path: Path) -> str:
    """Name of a file without its suffixes, and without the ``_labels`` of our own results.

    >>> stem(Path("a/cells.ome.tif")), stem(Path("cells_labels.ome.zarr")), stem(Path("plate.ome.zarr/A/1/0"))
    ('cells', 'cells', 'plate_A1_0')
    """
    from napari_segsuite.io.geometry import stem_of

    return name_of_field(path) or stem_of(path).removesuffix("_labels")


def _is_folder(path: Path) -> bool:
    return path.is_dir() and module_of(path) is None and not is_series_folder(path)


def _by_stem(folder: Path, *, ours: bool = True) -> dict[str, Path]:
    """The files of a folder by stem: our own results where they are wanted and there are any, else everything else that can be read."""
    results = [p for p in sorted(folder.iterdir()) if ours and module_of(p) is not None and stem(p) + "_labels" in p.name]
    found: dict[str, Path] = {}
    for path in results or list_inputs([folder]):
        if stem(path) in found:
            raise InputError(f"files {found[stem(path)]} and {path} have one name", "one file per name")
        found[stem(path)] = path
    return found
