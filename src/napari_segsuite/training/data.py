"""A user's images and labels in memory, with what they have in common; and which of them are held back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_segsuite import arrays
from napari_segsuite.engine import pixels
from napari_segsuite.engine.zoom import aspect_of
from napari_segsuite.errors import InputError
from napari_segsuite.io import check_is_image, read, read_segmentation
from napari_segsuite.io.place import place
from napari_segsuite.io.table import table_of
from napari_segsuite.pairing import pairs, stem
from napari_segsuite.sizes import lengths_apart, voxels_apart
from napari_segsuite.training import classes as kinds
from napari_segsuite.training import scattered
from napari_segsuite.training.options import TrainOptions
from napari_segsuite.types import Class, Image, Segmentation

SMALLEST = 16
"""Images with fewer pixels along y or x cannot be trained on."""


@dataclass(frozen=True, eq=False)
class Sample:
    """An image of one time point and its labels.

    Attributes
    ----------
    name : str
    image : Image
        Its pixels in memory, (C, *spatial); ``c`` is always there.
    labels : (*spatial) int32
        0 is background, others are 1 to n.
    class_of : mapping of label to class id
    """

    name: str
    image: Image
    labels: NDArray[np.int32]
    class_of: Mapping[int, int]

    @property
    def digest(self) -> str:
        """16 hex digits that change with any pixel or label."""
        found = hashlib.sha256(f"{self.image.data.dtype} {self.image.shape} {sorted(self.class_of.items())}".encode())
        for array in (self.image.data, self.labels):
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()[:16]

    def truth(self, classes: Sequence[Class]) -> Segmentation:
        """The labels as a result that others can be compared with."""
        axes = self.image.spatial
        table = table_of(self.labels, axes, classes, self.class_of)
        ones = (1.0,) * len(axes)
        return Segmentation(self.labels, table, tuple(classes), axes, ones, ("pixel",) * len(axes), (0.0,) * len(axes), name=self.name)

    def part(self, axis: int, start: int, stop: int) -> Sample:
        """A stretch of a spatial axis."""
        at = (slice(None),) * axis + (slice(start, stop),)
        image = replace(self.image, levels=(self.image.data[(slice(None), *at)],))
        labels, class_of = _numbered(self.labels[at], self.class_of)
        return Sample(f"{self.name} {self.image.spatial[axis]}={start}:{stop}", image, labels, class_of)


@dataclass(frozen=True)
class Data:
    """What is trained on.

    Attributes
    ----------
    files : tuple of tuples of Sample
        Per file, its time points in order.
    axes : str
        ``"yx"`` or ``"zyx"``.
    channels : tuple of str
    classes : tuple of Class
    pixel_size_um : tuple of float, optional
        Where all images have the same.
    aspect : tuple of float
        How much longer a voxel is along each axis than along its shortest.
    notices : tuple of str
    """

    files: tuple[tuple[Sample, ...], ...]
    axes: str
    channels: tuple[str, ...]
    classes: tuple[Class, ...]
    pixel_size_um: tuple[float, ...] | None
    aspect: tuple[float, ...]
    notices: tuple[str, ...] = field(default=())

    @property
    def samples(self) -> list[Sample]:
        """All of them."""
        return [sample for file in self.files for sample in file]


def read_data(options: TrainOptions) -> Data:
    """Read all pairs of images and labels.

    Raises
    ------
    InputError
        A file has no partner or cannot be read; shapes, dimensions or channels differ; there is nothing in the labels; an image is too small.
    """
    found = pairs(place(options.images), place(options.labels), images=True)
    images = [_image(path, options.axes) for path, _ in found]
    labels = [_labels(path, image, options.axes) for (_, path), image in zip(found, images, strict=True)]
    _check_alike(images)
    labels, masks = kinds.masks(labels, options.task) if not options.classes else (labels, [])
    classes = kinds.parse(options.classes, options.task) if options.classes else kinds.found(labels, options.task)
    files = tuple(tuple(_samples(image, truth, classes, options.split)) for image, truth in zip(images, labels, strict=True))
    data = _in_common(files, images, classes)
    told = [*masks, scattered.notice((s.name, s.labels, _things(s.class_of, classes)) for s in data.samples)]
    if not options.classes:
        told.append(kinds.absent(classes, {kind for s in data.samples for kind in s.class_of.values()}))
    data = replace(data, notices=(*data.notices, *filter(None, told)))
    if not any(sample.class_of for sample in data.samples):
        raise InputError(f"all label files in {options.labels} are empty", "labels above 0", "Check that they are the labels of these images.")
    return data


def held_back(data: Data, share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Which samples are trained on, and which are held back: the same ones for the same names and the same seed.

    Of several files some are drawn; of one with several time points the last ones are taken, and of a single image a part at the end of its
    longest axis.
    """
    samples = data.samples
    if share == 0:
        return samples, []
    if len(data.files) > 1:
        order = sorted(data.files, key=lambda file: hashlib.sha256(f"{seed} {file[0].name}".encode()).digest())
        count = min(max(1, round(share * len(order))), len(order) - 1)
        held = order[:count]
        return [s for file in data.files if file not in held for s in file], [s for file in data.files if file in held for s in file]
    if len(samples) > 1:
        cut = len(samples) - max(1, round(share * len(samples)))
        return samples[:cut], samples[cut:]
    shape = samples[0].labels.shape
    axis = int(np.argmax(shape))
    cut = shape[axis] - round(share * shape[axis])
    if min(cut, shape[axis] - cut) < SMALLEST:
        return samples, []
    return [samples[0].part(axis, 0, cut)], [samples[0].part(axis, cut, shape[axis])]


def _image(path: Path, axes: str | None) -> Image:
    """Read an image into memory, its channels first after time, without alpha and without a z axis of one slice."""
    image = read(path, axes=axes)
    check_is_image(image)
    whole = pixels.read(image, (slice(None),) * len(image.axes))
    if whole.dtype.kind not in "biuf":
        raise InputError(f"the pixels of {path} are of type {whole.dtype}", "integers or real numbers")
    if "c" not in image.axes:
        at = int("t" in image.axes)
        whole = np.expand_dims(whole, at)
        image = _with_axis(image, at)
    elif image.rgb and image.size("c") == 4:
        whole = whole.take(range(3), image.axes.index("c"))
    if image.spatial == "zyx" and image.size("z") == 1:
        at = image.axes.index("z")
        whole, image = whole.squeeze(at), _without(image, at)
    if len(image.spatial) < 2 or min(whole.shape[-2:]) < SMALLEST:
        raise InputError(f"image {path} has shape {whole.shape} (axes {image.axes})", f"at least {SMALLEST} pixels along y and x")
    return replace(image, levels=(whole,), name=stem(path), source=str(path), channels=image.channels[:3] if image.rgb else image.channels)


def _with_axis(image: Image, at: int) -> Image:
    """The description of an image that gets an axis of one channel."""
    return replace(
        image,
        axes=image.axes[:at] + "c" + image.axes[at:],
        scale=(*image.scale[:at], 1.0, *image.scale[at:]),
        units=(*image.units[:at], "pixel", *image.units[at:]),
        translate=(*image.translate[:at], 0.0, *image.translate[at:]),
    )


def _without(image: Image, at: int) -> Image:
    """The description of an image that loses an axis."""
    return replace(
        image,
        axes=image.axes[:at] + image.axes[at + 1 :],
        scale=image.scale[:at] + image.scale[at + 1 :],
        units=image.units[:at] + image.units[at + 1 :],
        translate=image.translate[:at] + image.translate[at + 1 :],
        affine=None,
    )


def _labels(path: Path, image: Image, axes: str | None) -> Segmentation:
    """Read labels, which must cover the voxels of their image."""
    own = image.axes.replace("c", "")
    try:
        found = read_segmentation(path, axes=axes.replace("c", "") if axes else None)
    except InputError:
        if axes is None:
            found = read_segmentation(path, axes=own)  # a file that does not say its axes has those of the image
        else:
            raise
    labels = np.asarray(found.labels)
    needed = tuple(image.size(a) for a in own)
    if labels.ndim == len(own) + 1 and "z" in found.axes and labels.shape[found.axes.index("z")] == 1:
        labels = labels.squeeze(found.axes.index("z"))
    if labels.shape != needed:
        raise InputError(
            f"labels {path} have shape {labels.shape}, and their image {image.source} has {needed} (axes {own})",
            "the same shape",
            f"{lengths_apart(labels.shape, needed)} Check that they belong together, and what their axes are (--axes).".strip(),
        )
    if apart := voxels_apart(found, image):
        do = "Check that they belong together, and correct the one that is wrong (segsuite convert --voxel-um)."
        raise InputError(f"the voxels of labels {path} and of their image {image.source} differ: {apart}", "labels on the grid of the image", do)
    return replace(found, labels=labels, axes=own, name=str(path))


def _samples(image: Image, truth: Segmentation, classes: Sequence[Class], split: bool) -> list[Sample]:
    """The time points of a file."""
    if "t" not in image.axes:
        return [_sample(image.name, image, truth, truth.labels, classes, split)]
    still = [replace(_without(image, 0), levels=(image.data[t],)) for t in range(image.size("t"))]
    return [_sample(f"{image.name} t={t}", one, truth, truth.labels[t], classes, split) for t, one in enumerate(still)]


def _sample(name: str, image: Image, truth: Segmentation, labels: NDArray[np.integer], classes: Sequence[Class], split: bool) -> Sample:
    ids = np.unique(labels)
    class_of = kinds.class_of(truth, ids[ids != 0], classes, truth.name)
    numbered, class_of = _numbered(labels, class_of)
    return Sample(name, image, *(scattered.split(numbered, class_of, _things(class_of, classes)) if split else (numbered, class_of)))


def _things(class_of: Mapping[int, int], classes: Sequence[Class]) -> set[int]:
    """The labels that are objects."""
    countable = {c.id for c in classes if c.countable}
    return {label for label, kind in class_of.items() if kind in countable}


def _numbered(labels: NDArray[np.integer], class_of: Mapping[int, int]) -> tuple[NDArray[np.int32], dict[int, int]]:
    """The labels with numbers without gaps, and the classes of these; stuff keeps its numbers, which are the lowest."""
    ids, which = np.unique(labels, return_inverse=True)
    present = [int(i) for i in ids if i != 0]
    low = max([i for i in present if class_of[i] == i], default=0)
    stuff = [i for i in present if i <= low]
    rank = {0: 0} | {i: i for i in stuff} | {i: low + 1 + k for k, i in enumerate(i for i in present if i > low)}
    numbered = np.array([rank[int(i)] for i in ids], np.int32)[which].reshape(labels.shape)
    return numbered, {rank[i]: class_of[i] for i in present}


def _check_alike(images: Sequence[Image]) -> None:
    """Refuse images that one network cannot take."""
    first = images[0]
    for image in images[1:]:
        for what, one, other in (("axes", first.spatial, image.spatial), ("channels", first.size("c"), image.size("c"))):
            if one != other:
                found = f"image {first.source} has {one} as its {what}" if what == "axes" else f"image {first.source} has {one} channels"
                raise InputError(f"{found}, and {image.source} has {other}", f"the same {what} in all images", "Train on those that are alike.")


def _in_common(files: tuple[tuple[Sample, ...], ...], images: Sequence[Image], classes: tuple[Class, ...]) -> Data:
    first = images[0]
    names = {image.channels for image in images}
    numbers = tuple(str(k) for k in range(first.size("c")))
    told = names.pop() if len(names) == 1 else ()
    channels = ("red", "green", "blue") if all(image.rgb for image in images) and len(numbers) == 3 else told or numbers
    sizes = [image.pixel_size_um() for image in images]
    known = [size for size in sizes if size is not None]
    same = len(known) == len(sizes) and all(np.allclose(size, known[0], rtol=0.02) for size in known)
    notices = [] if same or not known else ["pixel sizes differ between the images, so the model has none and does not resample by them"]
    aspects = np.array([aspect_of(image)[0] for image in images])
    aspect = tuple(float(a) for a in np.median(aspects, axis=0))
    return Data(files, first.spatial, channels if len(channels) > 1 else ("grey",), classes, known[0] if same else None, aspect, tuple(notices))


def normalized(sample: Sample, percentiles: tuple[float, float]) -> NDArray[Any]:
    """The pixels as the network gets them at inference, (C, *spatial) float32."""
    data = sample.image.data
    made = arrays.normalize(data, [arrays.contrast(channel, percentiles) for channel in data])
    arrays.fill(made)
    return made
