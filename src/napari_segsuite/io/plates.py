"""High-content plates in OME-Zarr: their fields of view as images, and what to call them."""

from __future__ import annotations

from pathlib import Path

from napari_segsuite.errors import InputError
from napari_segsuite.io.faults import reading
from napari_segsuite.io.geometry import stem_of
from napari_segsuite.io.inputs import module_of

DEPTH = 3
"""A field lies in ``PLATE/ROW/COLUMN/FIELD``."""


def fields_of_plate(path: Path) -> list[Path]:
    """The fields of all wells of a plate, in the plate's order; none where a store is no plate.

    Raises
    ------
    InputError
        The store is damaged, or a well that the plate lists is not there.
    """
    import zarr

    from napari_segsuite.io import ngff
    from napari_segsuite.io.ome_zarr import scenes_of
    from napari_segsuite.io.store import open_node

    with reading(path):
        node = open_node(path)
        if not isinstance(node, zarr.Group) or "plate" not in ngff.ome_of(node.attrs.asdict()):
            return []
        return [path / name for name in scenes_of(node)]


def plate_of(path: Path) -> Path | None:
    """The store of the plate that a path is a field of, by the path alone.

    >>> plate_of(Path("p.ome.zarr/A/1/0")), plate_of(Path("p.ome.zarr/labels/cells")), plate_of(Path("p.ome.zarr/0"))
    (PosixPath('p.ome.zarr'), None, None)
    """
    parents = list(path.parents)[:DEPTH]
    inside = len(parents) == DEPTH and parents[-1].suffix.lower() == ".zarr" and "labels" not in path.parts[-DEPTH:]
    return parents[-1] if inside else None


def name_of_field(path: Path) -> str | None:
    """What to call a field among the results of its plate; None for what is no field.

    >>> name_of_field(Path("p.ome.zarr/B/03/1"))
    'p_B03_1'
    """
    plate = plate_of(path)
    row, column, field = path.parts[-DEPTH:] if plate is not None else ("", "", "")
    return f"{stem_of(plate)}_{row}{column}_{field}" if plate is not None else None


def fields_meant(path: Path, scene: int | str | None) -> list[Path]:
    """The fields of a plate, or those of the row, well or field that is chosen; other images as they are, and what is damaged for reading to say."""
    if module_of(path) != "ome_zarr":
        return [path]
    try:
        found = fields_of_plate(path)
    except InputError:
        return [path]
    chosen = path if scene is None else path / str(scene)
    return [field for field in found if chosen in (field, *field.parents)] or [path]
