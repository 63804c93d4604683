"""Annotations as others make and score them: the command line, the tools of COCO, real files, and files that cannot be."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Picture

from napari_segsuite.annotations import FORMATS, Annotated, export, read_annotations
from napari_segsuite.annotations.categories import NUMBERS
from napari_segsuite.annotations.meshes import meshes_of
from napari_segsuite.errors import InputError, OutputError
from napari_segsuite.io import read_segmentation, write, write_result
from napari_segsuite.io.table import table_of
from napari_segsuite.metrics import evaluate
from napari_segsuite.synthetic import nuclei
from napari_segsuite.types import Class, Image, Segmentation

Segsuite = Callable[..., Any]
CLASSES = (Class(1, "round", (1, 2, 3)), Class(2, "long", (4, 5, 6)))


def segmentation(labels: NDArray[Any], classes: tuple[Class, ...] = CLASSES, **more: Any) -> Segmentation:
    """Labels whose classes take turns."""
    axes = "tzyx"[-labels.ndim :]
    ids = [int(i) for i in np.unique(labels) if i]
    table = table_of(labels, axes, classes, {i: classes[i % len(classes)].id for i in ids})
    n = labels.ndim
    return Segmentation(labels, table, classes, axes, **{"scale": (1.0,) * n, "units": ("pixel",) * n, "translate": (0.0,) * n, **more})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two images and results for them."""
    (tmp_path / "images").mkdir()
    for k, name in enumerate(("a", "b")):
        pixels, labels = nuclei((96, 128), "yx", crowding=0.1, seed=k)
        write(Image((pixels,), "yx", (1.0,) * 2, ("pixel",) * 2, (0.0,) * 2), tmp_path / f"images/{name}.tif")
        write_result(segmentation(labels), tmp_path / "results", name)
    return tmp_path


@pytest.mark.parametrize("name", [name for name, one in FORMATS.items() if one.readable])
def test_results_go_out_and_come_in_as_labels_to_train_on(name: str, results: Path, segsuite: Segsuite) -> None:
    from napari_segsuite.training.data import read_data
    from napari_segsuite.training.options import TrainOptions

    out = results / f"out{FORMATS[name].suffix if FORMATS[name].several else ''}"
    told = segsuite("export", str(results / "results"), "--format", name, "--out", str(out), "--images", str(results / "images"))
    assert (told.code, told.err) == (0, "")
    sources = [out] if FORMATS[name].several else sorted(out.iterdir())
    told = segsuite("import", *map(str, sources), "--out", str(results / "labels"), "--images", str(results / "images"))
    assert (told.code, told.err) == (0, "")
    for stem in "ab":
        before, after = (read_segmentation(results / folder / f"{stem}_labels.tif") for folder in ("results", "labels"))
        assert np.array_equal(before.labels, after.labels)
        assert before.segments["class_id"].tolist() == after.segments["class_id"].tolist()
    data = read_data(TrainOptions(images=str(results / "images"), labels=str(results / "labels"), task="instance"))
    assert data.classes == CLASSES
    assert sum(len(s.class_of) for s in data.samples) > 4


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # of pycocotools, with numpy 2
def test_tools_of_coco_count_what_we_count(results: Path, segsuite: Segsuite, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = [read_segmentation(results / f"results/{n}_labels.tif") for n in "ab"]
    numbers = {NUMBERS: {"1": 18, "2": 90}}
    items = [
        Annotated(Segmentation(**{**vars(one), "provenance": numbers}), f"{n}.tif", number=100 + k)
        for k, (n, one) in enumerate(zip("ab", truth, strict=True))
    ]
    export(items, results / "truth.json", "coco")
    found = []
    for n, one in zip("ab", truth, strict=True):
        labels = np.roll(one.labels, 2, 1)
        found.append(segmentation(np.where(labels % 5 == 1, 0, labels)))
        found[-1].segments["score"][:] = np.linspace(0.3, 0.9, len(found[-1].segments["id"]))  # type: ignore[index]
        write_result(found[-1], results / "found", n)
    told = segsuite(
        "export", str(results / "found"), "--format", "coco-results", "--out", str(results / "r.json"), "--like", str(results / "truth.json")
    )
    assert (told.code, told.err) == (0, "")
    theirs = COCO(str(results / "truth.json"))
    for item, image in zip(items, theirs.imgs, strict=True):
        masks = {a["segment_id"]: theirs.annToMask(a) for a in theirs.imgToAnns[image]}
        assert all(np.array_equal(mask, item.segmentation.labels == number) for number, mask in masks.items())
    scored = COCOeval(theirs, theirs.loadRes(str(results / "r.json")), "segm")
    scored.evaluate()
    whole = [e for e in scored.evalImgs if e is not None and e["aRng"] == [0, 1e10]]
    for number, category in ((1, 18), (2, 90)):
        mine = [e for e in whole if e["category_id"] == category]
        matched = sum(int((e["dtMatches"][0] > 0).sum()) for e in mine)
        there, seen = sum(len(e["gtIds"]) for e in mine), sum(len(e["dtIds"]) for e in mine)
        ours = next(c for c in evaluate(found, truth).to_json()["classes"] if c["id"] == number)
        assert (ours["tp"], ours["fp"], ours["fn"]) == (matched, seen - matched, there - matched)
        assert matched > 0
    capsys.readouterr()


def test_panoptic_files_of_coco_agree_with_their_own_figures(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "coco_panoptic_annotations/panoptic_examples.json"
    document = json.loads(path.read_text())
    names = {c["id"]: c["name"] for c in document["categories"]}
    items = list(read_annotations(path))
    for item, entry in zip(items, document["annotations"], strict=True):
        found = item.segmentation
        assert (item.notes, item.number) == ((), entry["image_id"])
        kinds = [found.classes[k - 1].name for k in found.segments["class_id"].tolist()]
        expected = sorted((names[s["category_id"]], s["area"]) for s in entry["segments_info"])
        assert sorted(zip(kinds, found.segments["size"].tolist(), strict=True)) == expected
    again = list(read_annotations(export(items, tmp_path / "again.json", "coco-panoptic")))
    for one, other in zip(items, again, strict=True):
        assert np.array_equal(one.segmentation.labels, other.segmentation.labels)
        assert one.segmentation.classes == other.segmentation.classes
        assert {n: c.tolist() for n, c in one.segmentation.segments.items()} == {n: c.tolist() for n, c in other.segmentation.segments.items()}
    written = json.loads((tmp_path / "again.json").read_text())
    assert {c["id"]: c["name"] for c in written["categories"]} == names
    scores = evaluate((i.segmentation for i in items), (i.segmentation for i in again)).to_json()
    assert scores["class_means"]["pq"] == 1


def coco(**more: Any) -> dict[str, Any]:
    """A small data set with numbers that have gaps, two polygons of one object, a group, and an image without anything."""
    annotations = [
        {"id": 5, "image_id": 30, "category_id": 44, "segmentation": [[1, 1, 4, 1, 4, 4, 1, 4], [6, 1, 8, 1, 8, 3, 6, 3]], "iscrowd": 0},
        {"id": 6, "image_id": 30, "category_id": 7, "segmentation": {"size": [6, 10], "counts": [0, 6, 54]}, "iscrowd": 1},
        {"id": 7, "image_id": 30, "category_id": 7, "segmentation": [[2, 2, 3, 2, 3, 3, 2, 3]], "iscrowd": 0},
    ]
    images = [{"id": 30, "file_name": "x/one.jpg", "height": 6, "width": 10}, {"id": 4, "file_name": "two.jpg", "height": 6, "width": 10}]
    categories = [{"id": 44, "name": "bottle"}, {"id": 7, "name": "train"}]
    return {"images": images, "annotations": annotations, "categories": categories, **more}


def test_a_data_set_of_others_comes_in_as_labels(tmp_path: Path, segsuite: Segsuite) -> None:
    (tmp_path / "d.json").write_text(json.dumps(coco()))
    told = segsuite("import", str(tmp_path / "d.json"), "--out", str(tmp_path / "labels"))
    assert told.code == 0
    assert "1 pixels belong to several objects" in told.out
    assert "1 group of objects, which is background now" in told.out
    one, two = (read_segmentation(tmp_path / f"labels/{name}_labels.tif") for name in ("one", "two"))
    expected = np.zeros((6, 10), int)
    expected[1:4, 1:4] = expected[1:3, 6:8] = 1
    expected[2, 2] = 3  # the smaller one is seen
    assert np.array_equal(one.labels, expected)
    assert [c.name for c in one.classes] == ["train", "bottle"]
    assert one.segments["class_id"].tolist() == [2, 1]
    assert not two.labels.any()
    told = segsuite("export", str(tmp_path / "labels"), "--format", "coco", "--out", str(tmp_path / "e.json"))
    assert told.code == 0
    assert [c["id"] for c in json.loads((tmp_path / "e.json").read_text())["categories"]] == [7, 44]


def _polygon(points: Any) -> dict[str, Any]:
    return coco(annotations=[{"id": 1, "image_id": 4, "category_id": 7, "segmentation": points}])


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "cannot be read"),
        (coco(images=[{"id": 4, "file_name": "../../two.jpg", "height": 6, "width": 10}]), "'../../two.jpg'"),
        (coco(images=[{"id": 4, "file_name": "/etc/two.jpg", "height": 6, "width": 10}]), "'/etc/two.jpg'"),
        (coco(images=[{"id": 4, "file_name": "C:\\two.jpg", "height": 6, "width": 10}]), "names its file"),
        (coco(images=[{"id": 4, "file_name": "two.jpg", "height": 10**9, "width": 10**9}], annotations=[]), "1000000000 x 1000000000"),
        (coco(images=[{"id": 4, "file_name": "two.jpg", "width": 10}], annotations=[]), "no field 'height'"),
        (coco(images=[]), "annotations of image 30, which it does not list"),
        (coco(categories=[{"id": 7, "name": "a"}]), "Annotation 5 of"),
        (coco(categories=[{"id": 7, "name": "a"}, {"id": 7, "name": "b"}]), "two categories with the same id"),
        (_polygon([[1, 1, 3, 3]]), "a polygon of 2 points"),
        (_polygon([[1, 1, 3]]), "as a polygon"),
        (_polygon([[1, 1, 3, float("nan"), 2, 2]]), "far outside"),
        (_polygon([[1, 1, 1e300, 3, 2, 2]]), "far outside"),
        (_polygon([]), "an empty list"),
        (_polygon(None), "as its 'segmentation'"),
        (_polygon({"size": [6, 10], "counts": [1, 2]}), "add up to 3 pixels"),
        (_polygon({"size": [6, 10], "counts": [-1, 61]}), "add up"),
        (_polygon({"size": [6, 11], "counts": [66]}), "size [6, 11]"),
        (_polygon({"size": [6, 10], "counts": "~~~"}), "no packed run length"),
        (_polygon({"size": [6, 10], "counts": "P"}), "end within a number"),
        ({"annotations": 3}, "none of the fields"),
        ([{"geometry": {"type": "Point", "coordinates": [1, 2]}}], "is a Point"),
        ({"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}}]}, "a polygon of 2 points"),
        ({"features": []}, "does not say how large its image is"),
        ({"features": [], "napari-segsuite": {"axes": "yx", "shape": [10**6, 10**6]}}, "1000000 x 1000000"),
        ({"shapes": [{"label": "a", "points": [[1, 1], [2, 2]], "shape_type": "line"}], "imageHeight": 9, "imageWidth": 9}, "is a line"),
    ],
)
def test_files_that_cannot_be_are_refused_with_a_sentence(document: Any, said: str, tmp_path: Path, segsuite: Segsuite) -> None:
    path = tmp_path / "in/d.json"
    path.parent.mkdir()
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    told = segsuite("import", str(path), "--out", str(tmp_path / "out"))
    assert told.code == 1
    assert (said in told.err, "d.json" in told.err) == (True, True)
    assert not any(tmp_path.rglob("*.tif"))


def _places(thing: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = thing.items() if isinstance(thing, dict) else enumerate(thing[:3]) if isinstance(thing, list) else ()
    return [at, *(place for key, value in inner for place in _places(value, (*at, key)))]


@pytest.mark.parametrize("name", ["coco", "coco-panoptic", "geojson", "labelme"])
def test_whatever_stands_in_a_field_is_read_or_refused(name: str, tmp_path: Path) -> None:
    labels = np.array([[0, 3, 3, 5], [7, 3, 0, 5]], np.uint8)
    out = export([Annotated(segmentation(labels), "a.png")], tmp_path / f"a{FORMATS[name].suffix}", name)
    whole, values = out.read_text(), (None, -1, float("inf"), "../e", [], {}, [[1]], True, 10**30)
    refused = 0
    for k, place in enumerate(_places(json.loads(whole))[1:]):
        for value in (values[k % 9], values[(k + 4) % 9]):
            document = inner = json.loads(whole)
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
            out.write_text(json.dumps(document))
            refused += _is_refused(out, name)
    assert refused > 20


def _is_refused(path: Path, name: str) -> bool:
    try:
        list(read_annotations(path, name))
    except InputError:
        return True
    return False


def test_pictures_of_other_sizes_and_other_segments_are_refused(tmp_path: Path) -> None:
    out = export([Annotated(segmentation(np.eye(5, dtype=np.uint8)), "a.png")], tmp_path / "p.json", "coco-panoptic")
    Picture.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "p/a.png")
    with pytest.raises(InputError, match="9 x 9 pixels, and its image 5 x 5"):
        list(read_annotations(out))
    Picture.fromarray(np.full((5, 5, 3), 3, np.uint8)).save(tmp_path / "p/a.png")
    with pytest.raises(InputError, match="disagree about segment 1"):
        list(read_annotations(out))
    document = json.loads(out.read_text())
    document["annotations"][0]["file_name"] = "../p/a.png"
    out.write_text(json.dumps(document))
    with pytest.raises(InputError, match="below that of the data set"):
        list(read_annotations(out))


@pytest.mark.parametrize(
    ("name", "labels", "said"),
    [
        ("coco", np.ones((2, 3, 4), np.uint8), "is about pictures"),
        ("coco-results", np.ones((3, 4), np.uint8), "has no number in a data set"),
        ("coco-panoptic", np.full((3, 4), 2**24, np.uint32), "numbers up to 16777215"),
        ("voc", np.arange(300, dtype=np.uint16).reshape(20, 15), "at most 254"),
        ("cityscapes", np.arange(3000, dtype=np.uint16).reshape(50, 60), "at most 999"),
        ("roi-zip", np.zeros((1, 40000), np.uint8), "places up to 32767"),
        ("glb", np.ones((3, 4), np.uint8), "a volume"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(name: str, labels: NDArray[Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=said):
        export([Annotated(segmentation(labels), "a.png")], tmp_path / f"a{FORMATS[name].suffix}", name)
    assert not list(tmp_path.iterdir())


def test_what_qupath_and_imagej_draw_comes_in(tmp_path: Path, segsuite: Segsuite) -> None:
    roifile = pytest.importorskip("roifile")
    square = [[1, 1], [5, 1], [5, 5], [1, 5], [1, 1]]
    named = {"objectType": "annotation", "name": "x", "classification": {"name": "Tumor", "colorRGB": -3670016}}
    features = [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square]}, "properties": named}]
    features.append({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[6, 6], [8, 6], [8, 8]]]}, "properties": {"name": "x"}})
    (tmp_path / "a.geojson").write_text(json.dumps(features))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("1.roi", roifile.ImagejRoi.frompoints(np.array(square[:4])).tobytes())
    (tmp_path / "images").mkdir()
    for name in "ab":
        Picture.fromarray(np.zeros((10, 12), np.uint8)).save(tmp_path / f"images/{name}.png")
    sources = [str(tmp_path / "a.geojson"), str(tmp_path / "b.zip")]
    assert segsuite("import", *sources, "--out", str(tmp_path / "out"), "--images", str(tmp_path / "images")).code == 0
    a, b = (read_segmentation(tmp_path / f"out/{name}_labels.tif") for name in "ab")
    assert [(c.name, c.color) for c in a.classes] == [("Tumor", (200, 0, 0))]
    assert a.segments["size"].tolist() == [16, 3]
    assert b.segments["size"].tolist() == [16]
    (tmp_path / "b.zip").write_bytes(b"PK")
    told = segsuite("import", sources[1], "--out", str(tmp_path / "more"), "--images", str(tmp_path / "images"))
    assert (told.code, "no zip file" in told.err) == (1, True)


def test_surfaces_are_closed_and_of_physical_size(tmp_path: Path) -> None:
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[0:3, 1:4, 1:6], labels[3:, 4:, 5:] = 1, 2
    volume = segmentation(labels, scale=(2.0, 0.5, 0.5), units=("micrometer",) * 3, translate=(10.0, 0.0, 0.0))
    noise = np.random.default_rng(0).integers(0, 3, (6, 6, 6)).astype(np.uint8)  # whose voxels touch in every way
    for mesh in (*meshes_of(volume), *meshes_of(segmentation(noise))):
        edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
        there = {*map(tuple, edges.tolist())}
        assert len(there) == len(edges)
        assert there == {(b, a) for a, b in there}  # every edge has one face on each side, and they agree about outside
    for mesh, voxels in zip(meshes_of(volume), (45, 8), strict=True):
        a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(float) for k in range(3))
        size = float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)
        assert 0.4 * voxels * 0.5 < size < voxels * 0.5
        assert mesh.vertices[:, 2].min() >= 9
    for suffix in ("ply", "stl", "glb"):
        out = export([Annotated(volume, "a.tif")], tmp_path / f"a.{suffix}", suffix)
        assert out.stat().st_size > 1000
    assert b"element vertex" in (tmp_path / "a.ply").read_bytes()[:200]
    head = (tmp_path / "a.glb").read_bytes()
    told = json.loads(head[20 : 20 + int.from_bytes(head[12:16], "little")])
    assert int.from_bytes(head[8:12], "little") == len(head)
    assert [m["name"] for m in told["materials"]] == ["long", "round"]
    assert told["accessors"][0]["max"][0] < 1e-5  # metres
    triangles = int.from_bytes((tmp_path / "a.stl").read_bytes()[80:84], "little")
    assert (tmp_path / "a.stl").stat().st_size == 84 + 50 * triangles


def test_tables_of_several_images_are_one(results: Path, segsuite: Segsuite) -> None:
    assert segsuite("export", str(results / "results"), "--format", "csv", "--out", str(results / "t.csv")).code == 0
    lines = (results / "t.csv").read_text().splitlines()
    assert lines[0].startswith("image,class,id,class_id,score,size")
    assert {line.split(",")[0] for line in lines[1:]} == {"a.tif", "b.tif"}
    told = segsuite("export", str(results / "results"), "--format", "parquet", "--out", str(results / "t.parquet"))
    if importlib.util.find_spec("pyarrow") is None:
        assert (told.code, "napari-segsuite[parquet]" in told.err) == (1, True)
    else:
        parquet = importlib.import_module("pyarrow.parquet")
        assert parquet.read_table(results / "t.parquet").num_rows == len(lines) - 1


def test_several_results_do_not_go_into_one_file_of_one_image(results: Path, segsuite: Segsuite) -> None:
    told = segsuite("export", str(results / "results"), "--format", "geojson", "--out", str(results / "a.geojson"))
    assert (told.code, "2 results cannot go into one .geojson file" in told.err) == (1, True)
