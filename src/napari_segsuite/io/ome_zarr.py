"""Reading OME-Zarr (0.1 to 0.5) and plain zarr arrays: lazily, with pyramids, and never outside the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_segsuite.errors import InputError
from napari_segsuite.io import ngff
from napari_segsuite.io.faults import AGAIN, reading
from napari_segsuite.io.geometry import PLACE, Described, fields_of, order_of, parse_axes, stem_of, unsaid
from napari_segsuite.io.ids import from_pixels, largest
from napari_segsuite.io.lazy import Opened, View
from napari_segsuite.io.record import KEY, affine_of, check_finished, classes_of, segmentation_of
from napari_segsuite.io.scenes import Scene, Several, how_to_choose
from napari_segsuite.io.store import check_array, check_complete, child, named, open_node
from napari_segsuite.io.table import table_of, tidy
from napari_segsuite.types import Image, Segmentation, Table

TABLE = "table"
"""Group below a label image that holds its table."""


def read(path: Path, *, axes: str | None = None, scene: int | str | None = None) -> Image:
    """Read an OME-Zarr image, or a plain zarr array whose axes are given; see `napari_segsuite.io.read`."""
    with reading(path):
        node, where = _scene(_opened(path), path, scene)
        return _group_image(node, where, axes) if isinstance(node, zarr.Group) else _array_image(node, where, axes)


def read_segmentation(path: Path, *, axes: str | None = None) -> Segmentation:
    """Read labels: a label image, or the only one in an image's ``labels`` group; see `napari_segsuite.io.read_segmentation`."""
    with reading(path):
        node, where = _label_node(_opened(path), path)
        if not isinstance(node, zarr.Group):
            image, record, stored = _array_image(node, where, axes), dict[str, Any](), None
        else:
            image, record, stored = _group_image(node, where, axes), _record(node), _table(node, where)
        labels = _checked(image, record, where)
        place = {name: getattr(image, name) for name in PLACE}
        table = stored if stored is not None else table_of(labels, image.axes, classes_of(record))
        return segmentation_of(labels, place, {"name": image.name, **record}, table)


def scenes(path: Path) -> list[Scene]:
    """The images in a store that is none itself: fields of a plate, series, or whatever images lie in it."""
    with reading(path):
        node = open_node(path)
        if not isinstance(node, zarr.Group) or "multiscales" in ngff.ome_of(node.attrs.asdict()):
            return []
        return [Scene(k, name, (), key=name) for k, name in enumerate(scenes_of(node))]


def labels_of(group: zarr.Group) -> list[str]:
    """Names of the label images of an image group."""
    try:
        listed = ngff.ome_of(group["labels"].attrs.asdict()).get("labels", [])
    except KeyError:
        return []
    return [str(name) for name in listed]


def read_record(path: Path) -> dict[str, Any]:
    """The record that we put into a store; of labels also those of others say that they are some."""
    with reading(path):
        node = open_node(path)
        if not isinstance(node, zarr.Group):
            return {}
        ome = ngff.ome_of(node.attrs.asdict())
        said = "image-label" in ome or ("labels" in ome and "multiscales" not in ome)
        return {**_record(node), **({"kind": "segmentation"} if said else {})}


def names_of_labels(path: Path) -> list[str]:
    """Names of the label images in the store of an image."""
    with reading(path):
        node = open_node(path)
        return labels_of(node) if isinstance(node, zarr.Group) else []


def _opened(path: Path) -> zarr.Group | zarr.Array[Any]:
    node = open_node(path)
    if isinstance(node, zarr.Group):
        check_finished(_record(node), path)
    return node


def _group_image(group: zarr.Group, path: Path, axes: str | None) -> Image:
    """The image that a group's ``multiscales`` describe."""
    ome = ngff.ome_of(group.attrs.asdict())
    scales = ome["multiscales"][0]
    arrays = _pyramid([child(group, str(d["path"]), path) for d in scales["datasets"]], path)
    letters, units = ngff.axes_of(scales, arrays[0].ndim) if not axes else (parse_axes(axes, arrays[0].shape, path), {})
    described = ngff.placed(scales, letters, units)
    record = _record(group)
    wanted, _ = order_of(letters)
    names = ngff.channel_names(ome, arrays[0].shape[letters.index("c")]) if "c" in letters else ()
    coloured = len(names) in (3, 4) and [n.lower() for n in names[:3]] == ["red", "green", "blue"]
    return Image(
        levels=_arranged(arrays, letters, path), channels=names, rgb="c" in wanted and bool(record.get("rgb", coloured)), affine=affine_of(record),
        name=str(record.get("name") or described.name or stem_of(path)), source=str(path), **fields_of(wanted, described),
    )  # fmt: skip


def _array_image(array: zarr.Array[Any], path: Path, axes: str | None) -> Image:
    """The image that a plain array is, once it is known what its axes are."""
    check_array(array, path)
    letters = parse_axes(axes or _plain_axes(array, path), array.shape, path)
    wanted, _ = order_of(letters)
    names = ngff.channel_names({}, array.shape[letters.index("c")]) if "c" in letters else ()
    place = fields_of(wanted, Described(sizes=_element_size(array, letters)))
    return Image(levels=_arranged([array], letters, path), channels=names, name=stem_of(path), source=str(path), **place)


def _checked(image: Image, record: dict[str, Any], path: Path) -> Any:
    """The pixels of an image as labels, on disk still where they can be labels as they are."""
    labels = image.data
    if "c" in image.axes:
        raise InputError(f"store {path} has several channels (axes {image.axes!r}, shape {image.shape})", "one number per voxel for labels")
    if record.get("kind") == "segmentation" and isinstance(labels, zarr.Array):
        check_complete(labels, path)
    if np.dtype(labels.dtype).kind == "i":
        largest(labels, str(path))  # complains about negative ids
    return labels if np.dtype(labels.dtype).kind in "iu" else from_pixels(np.asarray(labels), str(path))


def _scene(node: Any, path: Path, scene: int | str | None) -> tuple[Any, Path]:
    """The image that is meant: the node itself, or one of those in it."""
    if not isinstance(node, zarr.Group) or "multiscales" in ngff.ome_of(node.attrs.asdict()):
        if scene not in (None, 0, "0"):
            raise InputError(f"store {path} has no image {scene!r}; it is one image")
        return node, path
    names = scenes_of(node)
    if not names:
        raise InputError(f"store {path} holds no image", "an OME-Zarr group with 'multiscales', or an array")
    if scene is None and len(names) > 1:
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        found = f"store {path} holds {len(names)} images ({shown})"
        raise Several(found, "one of them", how_to_choose(names[0]))
    wanted = names[0] if scene is None else str(scene)
    if wanted not in names and wanted.isdigit() and int(wanted) < len(names):
        wanted = names[int(wanted)]
    return child(node, wanted, path), path / wanted


def scenes_of(group: zarr.Group) -> list[str]:
    """Paths of the images in a group: fields of a plate, series, or whatever arrays and pyramids it holds."""
    ome = ngff.ome_of(group.attrs.asdict())
    if "plate" in ome:
        wells = [str(well["path"]) for well in ome["plate"].get("wells", [])]
        return [f"{well}/{name}" if name else well for well in wells for name in _fields_of(group, well)]
    if "well" in ome:
        return [str(image["path"]) for image in ome["well"].get("images", [])]
    members = sorted(group.members())
    return [name for name, node in members if isinstance(node, zarr.Array) or "multiscales" in ngff.ome_of(node.attrs.asdict())]


def _fields_of(plate: zarr.Group, well: str) -> list[str]:
    """The fields of a well: those that it lists, or else the images in it; the well itself where it is missing, for reading to complain about."""
    node = plate.get(well)
    if not isinstance(node, zarr.Group):
        return [""]
    told = ngff.ome_of(node.attrs.asdict()).get("well", {}).get("images", [])
    return [str(image["path"]) for image in told] or scenes_of(node) or [""]


def _pyramid(arrays: list[Any], path: Path) -> list[zarr.Array[Any]]:
    """The levels that form a pyramid: arrays of one type, none larger than the one before."""
    for array in arrays:
        if not isinstance(array, zarr.Array):
            raise InputError(f"store {path} lists a group as one of its levels", "arrays")
        check_array(array, path)
    keep = arrays[:1]
    for array in arrays[1:]:
        if array.dtype == keep[0].dtype and array.ndim == keep[0].ndim and all(a <= b for a, b in zip(array.shape, keep[-1].shape, strict=True)):
            keep.append(array)
    return keep


def _arranged(arrays: list[Any], letters: str, path: Path) -> tuple[Any, ...]:
    """The arrays themselves where their axes are in our order and their bytes in the machine's, else views of them."""
    _, order = order_of(letters)
    if order == tuple(range(len(letters))) and all(a.dtype.isnative for a in arrays):
        return tuple(named(a, path) for a in arrays)
    return tuple(View(_Ready(a), a.shape, a.dtype, order, path) for a in arrays)


class _Ready:
    """An array that is open already, as something to call."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __call__(self) -> Opened:
        return self._array, None


def _plain_axes(array: zarr.Array[Any], path: Path) -> str:
    names = array.metadata.dimension_names if array.metadata.zarr_format == 3 else None
    if names and all(names):
        return "".join(str(n)[0] for n in names)
    if array.ndim == 2:
        return "yx"
    raise unsaid(array.shape, f"the plain zarr array {path}")


def _element_size(array: Any, letters: str) -> dict[str, tuple[float, str]]:
    """Sample sizes that some programs note beside a plain array, one number per axis."""
    sizes = array.attrs.asdict().get("element_size_um")
    if not isinstance(sizes, (list, tuple)) or len(sizes) != len(letters):
        return {}
    return {a: (float(s), "micrometer") for a, s in zip(letters, sizes, strict=True) if a in "zyx"}


def _record(group: zarr.Group) -> dict[str, Any]:
    record = group.attrs.asdict().get(KEY)
    return dict(record) if isinstance(record, dict) else {}


def _label_node(node: zarr.Group | zarr.Array[Any], path: Path) -> tuple[zarr.Group | zarr.Array[Any], Path]:
    """The label image that is meant: the only one that an image has, or what is there itself."""
    if not isinstance(node, zarr.Group):
        return node, path
    ome = ngff.ome_of(node.attrs.asdict())
    inside, names = ("", [str(n) for n in ome["labels"]]) if "labels" in ome else ("labels/", labels_of(node))
    if "image-label" in ome or ("multiscales" in ome and not names):
        return node, path
    if len(names) != 1:
        shown = f"{len(names)} label images ({', '.join(names[:8])})" if names else "no label image"
        raise InputError(f"store {path} holds {shown}", "one", f"Give one of them: {path / inside / names[0]}" if names else "")
    return child(node, inside + names[0], path), path / inside / names[0]


def _table(group: zarr.Group, path: Path) -> Table | None:
    """The table stored below a label image (`ome_zarr_write.write_labels_table`)."""
    if TABLE not in group:
        return None
    node = child(group, TABLE, path)
    listed = node.attrs.asdict().get("columns")
    if not isinstance(node, zarr.Group) or not isinstance(listed, list):
        return None
    arrays = {str(name): _stack(node, str(name), path) for name in {entry["array"] for entry in listed}}
    columns = {}
    for entry in listed:
        values = arrays[entry["array"]][int(entry["at"])]
        columns[str(entry["name"])] = np.array(entry["categories"], np.str_)[values] if "categories" in entry else values
    if len({len(c) for c in columns.values()}) > 1:
        raise InputError(f"the columns of the table in {path} have different lengths", do=AGAIN)
    return tidy(columns)


def _stack(table: zarr.Group, name: str, path: Path) -> NDArray[Any]:
    node = child(table, name, path)
    if not isinstance(node, zarr.Array):
        raise InputError(f"store {path} has a group where a part of its table should be", do=AGAIN)
    check_array(node, path)
    check_complete(node, path)
    return np.asarray(node[...])
