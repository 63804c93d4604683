"""Surfaces of the objects of a volume as PLY, STL and glTF (GLB): closed, in physical size, x y z, in the colours of their classes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite.annotations.items import Annotated
from napari_segsuite.errors import OutputError
from napari_segsuite.io.commit import replacing
from napari_segsuite.sizes import pixel_size_um
from napari_segsuite.types import Class, Segmentation

GREY = (160, 160, 160)


@dataclass(frozen=True, eq=False)
class Mesh:
    """The surface of a segment.

    Attributes
    ----------
    id : int
    vertices : (n, 3) float32
        x, y, z in the units of the labels.
    faces : (m, 3) int32
        Seen from outside, counter-clockwise in a world whose axes x, y and z are right-handed.
    color : tuple of int
    kind : str
        Name of its class.
    """

    id: int
    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    color: tuple[int, int, int]
    kind: str


def lost(segmentation: Segmentation) -> list[str]:
    """What surfaces do not hold."""
    return ["its voxels: surfaces run between them, and cannot be read back"]


def lost_in_stl(segmentation: Segmentation) -> list[str]:
    """What STL has no words for besides."""
    return [*lost(segmentation), "colours, classes, numbers and units, which STL has no words for"]


def meshes_of(segmentation: Segmentation) -> Iterator[Mesh]:
    """Draw the surface of each segment, by marching cubes halfway between its voxels and others.

    Raises
    ------
    OutputError
        The labels are no volume of one time point.
    """
    from skimage.measure import marching_cubes

    axes, shape = segmentation.axes, tuple(segmentation.labels.shape)
    labels = np.asarray(segmentation.labels)
    if axes == "tzyx" and shape[0] == 1:
        labels = labels[0]
    elif axes != "zyx":
        raise OutputError(f"{segmentation.name} has axes {axes!r} and shape {shape}", "a volume (zyx) for surfaces")
    classes: dict[int, Class] = {c.id: c for c in segmentation.classes}
    scale, shift = np.array(segmentation.scale[-3:]), np.array(segmentation.translate[-3:])
    table = segmentation.segments
    for k, number in enumerate(table["id"].tolist()):
        low, high = (np.array([int(table[f"bbox_{a}{end}"][k]) for a in "zyx"]) for end in (0, 1))
        crop = labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] == number
        # Lorensen's cases, not Lewiner's: where voxels touch only by an edge, those of scikit-image give edges with four faces.
        points, faces, _, _ = marching_cubes(np.pad(crop, 1).astype(np.float32), 0.5, method="lorensen", allow_degenerate=False)
        world = (points + low - 1) * scale + shift
        kind = classes.get(int(table["class_id"][k]))
        yield Mesh(int(number), world[:, ::-1].astype(np.float32), faces.astype(np.int32), kind.color if kind else GREY, kind.name if kind else "")


def write_ply(items: Iterable[Annotated], out: Path, *, overwrite: bool) -> None:
    """Write one binary PLY: vertices with colours, faces with the number of their segment."""
    (item,) = items
    meshes = list(meshes_of(item.segmentation))
    vertices = np.zeros(sum(len(m.vertices) for m in meshes), np.dtype([("at", "<f4", 3), ("color", "u1", 3)]))
    faces = np.zeros(sum(len(m.faces) for m in meshes), np.dtype([("n", "u1"), ("of", "<i4", 3), ("segment", "<u4")]))
    faces["n"] = 3
    v = f = 0
    for mesh in meshes:
        at, of = slice(v, v + len(mesh.vertices)), slice(f, f + len(mesh.faces))
        vertices["at"][at], vertices["color"][at] = mesh.vertices, mesh.color
        faces["of"][of], faces["segment"][of] = mesh.faces + v, mesh.id
        v, f = at.stop, of.stop
    head = ["ply", "format binary_little_endian 1.0", f"comment unit {item.segmentation.units[-1]}", f"element vertex {v}"]
    head += [f"property float {a}" for a in "xyz"] + [f"property uchar {c}" for c in ("red", "green", "blue")]
    head += [f"element face {f}", "property list uchar int vertex_indices", "property uint segment", "end_header", ""]
    with replacing(out, overwrite=overwrite) as part:
        part.write_bytes("\n".join(head).encode("ascii") + vertices.tobytes() + faces.tobytes())


def write_stl(items: Iterable[Annotated], out: Path, *, overwrite: bool) -> None:
    """Write one binary STL with the triangles of all segments."""
    (item,) = items
    corners = [mesh.vertices[mesh.faces] for mesh in meshes_of(item.segmentation)]
    triangles = np.concatenate(corners) if corners else np.zeros((0, 3, 3), np.float32)
    rows = np.zeros(len(triangles), np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")]))
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    rows["normal"], rows["corners"] = normal / np.where(length > 0, length, 1), triangles
    with replacing(out, overwrite=overwrite) as part:
        part.write_bytes(b"surfaces of segments".ljust(80) + struct.pack("<I", len(rows)) + rows.tobytes())


def write_glb(items: Iterable[Annotated], out: Path, *, overwrite: bool) -> None:
    """Write one GLB (glTF 2.0): a mesh per segment, a material per class; in metres, as the format wants, where the unit is a length."""
    (item,) = items
    found = item.segmentation
    um = pixel_size_um(found.axes[-1], (1.0,), found.units[-1:])
    metres = um[0] * 1e-6 if um else 1.0
    chunks: list[bytes] = []
    document: dict[str, Any] = {"asset": {"version": "2.0", "generator": "napari-segsuite"}, "scene": 0}
    parts: dict[str, list[Any]] = {name: [] for name in ("nodes", "meshes", "accessors", "bufferViews", "materials")}
    kinds: dict[tuple[str, tuple[int, int, int]], int] = {}
    for mesh in meshes_of(found):
        material = kinds.setdefault((mesh.kind, mesh.color), len(kinds))
        at = len(parts["accessors"])
        points = (mesh.vertices * metres).astype("<f4")
        bounds = {"min": points.min(0).tolist(), "max": points.max(0).tolist()}
        parts["accessors"] += [_accessor(at, 5126, len(points), "VEC3", **bounds), _accessor(at + 1, 5125, mesh.faces.size, "SCALAR")]
        for data, target in ((points.tobytes(), 34962), (mesh.faces.astype("<u4").tobytes(), 34963)):
            parts["bufferViews"].append({"buffer": 0, "byteOffset": sum(map(len, chunks)), "byteLength": len(data), "target": target})
            chunks.append(data)
        parts["meshes"].append({"primitives": [{"attributes": {"POSITION": at}, "indices": at + 1, "material": material}], "name": str(mesh.id)})
        parts["nodes"].append({"mesh": len(parts["nodes"]), "name": str(mesh.id), "extras": {"id": mesh.id, "class": mesh.kind}})
    parts["materials"] = [_material(name, color) for name, color in kinds]
    scene = {"nodes": list(range(len(parts["nodes"])))} if parts["nodes"] else {}
    document |= {"scenes": [scene], **{name: listed for name, listed in parts.items() if listed}}
    body = b"".join(chunks)
    if body:
        document["buffers"] = [{"byteLength": len(body)}]
    text = json.dumps(document).encode()
    blocks = [(b"JSON", text.ljust(-(-len(text) // 4) * 4))] + ([(b"BIN\0", body)] if body else [])
    data = b"".join(struct.pack("<I", len(block)) + name + block for name, block in blocks)
    with replacing(out, overwrite=overwrite) as part:
        part.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(data)) + data)


def _accessor(view: int, kind: int, count: int, shape: str, **bounds: Any) -> dict[str, Any]:
    return {"bufferView": view, "componentType": kind, "count": count, "type": shape, **bounds}


def _material(name: str, color: tuple[int, int, int]) -> dict[str, Any]:
    """A dull surface; colours of glTF are linear."""
    linear = [((v / 255 + 0.055) / 1.055) ** 2.4 if v > 10 else v / 255 / 12.92 for v in color]
    return {"name": name, "pbrMetallicRoughness": {"baseColorFactor": [*linear, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.8}}
