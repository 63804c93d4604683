"""From what a package or a form says to a `ModelSpec`: what is known before the network has been run, and what its answer tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from napari_segsuite.codecs import codec
from napari_segsuite.errors import ModelError, OptionError
from napari_segsuite.models.classes import WRITTEN, read_class
from napari_segsuite.models.foreign.form import Form, normalization
from napari_segsuite.models.foreign.grid import LARGEST, grid
from napari_segsuite.models.foreign.rdf import Package
from napari_segsuite.models.foreign.tensors import Tensor
from napari_segsuite.types import SPATIAL, Class, Head, ModelSpec

STRIDE = 16
CHECK_ANYWAY = "`segsuite models check` runs its test all the same."
POINTWISE = {"binarize", "clip", "ensure_dtype", "fixed_zero_mean_unit_variance", "scale_linear", "sigmoid", "softmax"}


@dataclass(frozen=True)
class Draft:
    """A model before its network has been run.

    Attributes
    ----------
    axes : str
        Spatial.
    channels : tuple of str
    normalize : mapping
        As in `ModelSpec`.
    input : mapping
        ``axes``, ``least``, ``step``, ``steps`` of the network's input.
    outputs : tuple of mapping
        ``axes``, ``steps``, ``channels`` and ``activation`` (empty: not known) per answer; empty where they are not described.
    halo : tuple of int
        Per spatial axis; empty where it is not known.
    texts : mapping
        Description, licence and the like.
    codec_options : mapping
        What its makers tuned the decoder to.
    """

    axes: str
    channels: tuple[str, ...]
    normalize: Mapping[str, Any]
    input: Mapping[str, Any]
    outputs: tuple[Mapping[str, Any], ...]
    halo: tuple[int, ...]
    texts: Mapping[str, str]
    codec_options: Mapping[str, Any] = field(default_factory=dict)


def of_package(package: Package, form: Form) -> Draft:
    """What a package says, with what the form says on top of it.

    Raises
    ------
    ModelError
        The model cannot segment images of any size; says why.
    """
    if len(package.inputs) != 1:
        names = ", ".join(t.name for t in package.inputs)
        raise ModelError(
            f"{package.path}, field 'inputs': {len(package.inputs)} of them ({names})", "one input, to segment images with it", CHECK_ANYWAY
        )
    tensor = package.inputs[0]
    size = dict(zip(tensor.axes, zip(tensor.least, tensor.step, strict=True), strict=True))
    axes = "".join(a for a in SPATIAL if a in size and size[a] != (1, 0))
    odd = [a for a in tensor.axes if a not in "bc" + SPATIAL and size[a][0] != 1]
    if axes not in LARGEST or odd or (form.axes and form.axes != axes):
        needed = f"the spatial axes {form.axes or 'yx or zyx'}, a batch, channels, and a length of 1 along all others"
        raise ModelError(f"{package.path}, field 'inputs[0].axes': {tensor.axes!r}", needed, CHECK_ANYWAY)
    normalize, steps = normalization(form.normalize) if form.normalize else _split(package, tensor, axes)
    halos = [dict(zip(t.axes, t.halo, strict=False)) for t in package.outputs]
    texts = {"description": package.description, "licence": package.licence, "citation": package.citation, "version": package.version}
    return Draft(
        axes=axes,
        channels=channels_of(form, tensor.channels, size["c"][0] if "c" in size else 1),
        normalize=normalize,
        input={"axes": tensor.axes, "least": list(tensor.least), "step": list(tensor.step), "steps": list(steps)},
        outputs=tuple(_output(package, n) for n in range(len(package.outputs))),
        halo=tuple(max(h.get(a, 0) for h in halos) for a in axes),
        texts=texts,
    )


def of_form(form: Form, what: str) -> Draft:
    """What a form says of a network that says nothing itself.

    Raises
    ------
    OptionError
        Names everything that is missing.
    """
    missing = [f"--{name}" for name in ("axes", "normalize", "activation") if not getattr(form, name)]
    if missing:
        example = "--axes yx --normalize percentiles:1:99.8 --activation softmax --classes 1:nucleus:thing"
        raise OptionError(
            f"{what} does not say what it takes and gives", ", ".join(missing), f"Say it, for example {example}, or in a form (--form)."
        )
    letters = form.input_axes or "bc" + form.axes
    spatial = "".join(a for a in letters if a in SPATIAL)
    if sorted(spatial) != sorted(form.axes) or len(set(letters)) != len(letters) or not set(letters) <= {*"bc", *form.axes}:
        raise OptionError(f"input_axes is {letters!r}", f"the letters of bc{form.axes}, each at most once, all of {form.axes} among them")
    tile = dict(zip(form.axes, form.tile or LARGEST[form.axes], strict=False))
    stride = dict(zip(form.axes, form.multiple or (STRIDE,) * len(form.axes), strict=False))
    channels = channels_of(form, (), len(form.channels) or 1)
    least = [tile.get(a, 0) if form.fixed else stride.get(a, 0) for a in letters]
    step = [0 if form.fixed else stride.get(a, 0) for a in letters]
    sizes = {"b": (1, 0), "c": (len(channels), 0)}
    both = [sizes.get(a, (n, m)) for a, n, m in zip(letters, least, step, strict=True)]
    normalize, steps = normalization(form.normalize)
    told = {"axes": letters, "least": [n for n, _ in both], "step": [m for _, m in both], "steps": steps}
    return Draft(form.axes, channels, normalize, told, (), (), {"description": f"The network in {what}."})


def declared(draft: Draft, shape: Sequence[Any]) -> Draft:
    """A draft of a form with the sizes that the network's file itself fixes: whole numbers in `shape`, as ONNX has it.

    Raises
    ------
    OptionError
        The file has other axes or channels than the form.
    """
    letters = draft.input["axes"]
    if len(shape) != len(letters):
        raise OptionError(f"the network's input has {len(shape)} axes ({shape})", f"as many as {letters!r}", "Say which they are with --input-axes.")
    fixed = [n if isinstance(n, int) and n > 0 else None for n in shape]
    if "c" in letters and fixed[letters.index("c")] not in (None, len(draft.channels)):
        raise OptionError(f"the network takes {fixed[letters.index('c')]} channels", f"as many as --channels, {', '.join(draft.channels)}")
    least = [n if f is None else f for n, f in zip(draft.input["least"], fixed, strict=True)]
    step = [n if f is None else 0 for n, f in zip(draft.input["step"], fixed, strict=True)]
    return replace(draft, input={**draft.input, "least": least, "step": step})


def finished(draft: Draft, form: Form, shapes: Sequence[Sequence[int]], net: Mapping[str, Any], name: str) -> ModelSpec:
    """The description of the model, once it is known what shapes the network answers with.

    Raises
    ------
    ModelError, OptionError
        Says what else must be told of the answers.
    """
    outputs = draft.outputs or tuple({"axes": draft.input["axes"], "steps": [], "channels": (), "activation": form.activation} for _ in shapes)
    if len(outputs) != len(shapes):
        raise ModelError(f"the network answers with {len(shapes)} tensors", f"{len(outputs)}, as its description says")
    counts = [
        shape[o["axes"].index("c")] if "c" in o["axes"] and len(shape) == len(o["axes"]) else 1 for o, shape in zip(outputs, shapes, strict=True)
    ]
    dims = len(draft.axes)
    chosen = _chosen(form, [h.name for h in codec(form.codec or "semantic").heads((Class(1, "object"),), dims)], counts)
    number, picked = chosen.get("semantic", (0, ()))
    classes = classes_of(form, len(picked) or counts[number], outputs[number])
    heads = codec(form.codec or "semantic").heads(classes, dims)
    maps = {h.name: _map(h, *chosen[h.name], counts, outputs, form, len(classes)) for h in heads}
    interface = {"input": draft.input, "outputs": [{"axes": o["axes"], "steps": o["steps"]} for o in outputs], "maps": maps}
    return spec_of(draft, form, {**net, **interface}, name, heads, classes, grid(draft.axes, draft.input, draft.halo, form), draft.codec_options)


def spec_of(
    draft: Draft,
    form: Form,
    net: Mapping[str, Any],
    name: str,
    heads: tuple[Head, ...],
    classes: tuple[Class, ...],
    grids: tuple[tuple[int, ...], ...],
    codec_options: Mapping[str, Any] | None = None,
) -> ModelSpec:
    """The description of a model of which everything is known; `grids` are tile, multiple and context."""
    told: dict[str, Any] = {"axes": draft.axes, "pixel_size_um": form.pixel_size_um or None, **draft.texts}
    told |= {key: value for key in ("description", "licence", "citation", "trained_on") if (value := getattr(form, key))}
    return ModelSpec(
        name=name,
        channels=draft.channels,
        heads=heads,
        classes=classes,
        codec=form.codec or "semantic",
        codec_options=codec_options or {},
        diameter_px=form.diameter_px,
        tile=grids[0],
        multiple=grids[1],
        context=grids[2],
        normalize=draft.normalize,
        net=net,
        weights_sha256=net["files"][net["file"]],
        **told,
    )


def channels_of(form: Form, told: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Names of the channels that a network takes: as the form says, as its description says, or numbered."""
    if form.channels and len(form.channels) != count:
        raise OptionError(f"channels are {', '.join(form.channels)}", f"{count} names, since the network takes {count}")
    named = told if len(told) == count else tuple(f"channel {n}" for n in range(count))
    return form.channels or (named if count > 1 else ("grey",))


def _split(package: Package, tensor: Tensor, axes: str) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """What is done once for the whole image, and what is done to each tile after it: statistics of a tile are not those of the image."""
    normalize: dict[str, Any] = {"method": "none", "cut": None}
    after: list[Mapping[str, Any]] = []
    for n, step in enumerate(s for s in tensor.steps):
        name, kwargs = step["name"], step["kwargs"]
        if name == "ensure_dtype" and str(kwargs.get("dtype", "")).startswith("float"):
            continue
        if is_pointwise(step):
            after.append(step)
            continue
        over = kwargs.get("axes")
        whole = over is None or set(axes) <= set(over)
        own = kwargs.get("reference_tensor") in (None, tensor.name)
        if after or normalize["method"] != "none" or not whole or not own or name not in ("zero_mean_unit_variance", "scale_range"):
            found = f"{package.path}, field 'inputs[0].preprocessing[{n}]': {name} with {dict(kwargs)}"
            raise ModelError(found, f"a first step with statistics over all of {axes}, which can be found once per image", CHECK_ANYWAY)
        normalize = {"joint": len(tensor.axes) > len(axes) and (over is None or "c" in over), "cut": None}
        if name == "scale_range":
            normalize |= {"method": "percentiles", "values": [kwargs.get("min_percentile", 0.0), kwargs.get("max_percentile", 100.0)]}
        else:
            normalize |= {"method": "mean_std", "eps": kwargs.get("eps", 1e-6)}
    return normalize, after


def is_pointwise(step: Mapping[str, Any]) -> bool:
    """Whether a step asks of a voxel nothing but its own channels."""
    kwargs = step["kwargs"]
    if step["name"] == "zero_mean_unit_variance":
        return kwargs.get("mean") is not None
    along = kwargs.get("axis") or (kwargs.get("axes") if isinstance(kwargs.get("gain"), list) else None) or "c"
    return step["name"] in POINTWISE and along == "c" and not {"min_percentile", "max_percentile"} & {k for k, v in kwargs.items() if v is not None}


def _output(package: Package, number: int) -> Mapping[str, Any]:
    """An answer of a package: its steps, and whether these make probabilities."""
    tensor = package.outputs[number]
    for n, step in enumerate(tensor.steps):
        if not is_pointwise(step):
            found = f"{package.path}, field 'outputs[{number}].postprocessing[{n}]': {step['name']}"
            raise ModelError(found, "steps that ask of a voxel nothing but its own channels", CHECK_ANYWAY)
    last = [s["name"] for s in tensor.steps if s["name"] != "ensure_dtype"][-1:]
    sure = last in (["sigmoid"], ["softmax"], ["binarize"]) or (tensor.span is not None and tensor.span[0] >= 0 and tensor.span[1] <= 1)
    return {"axes": tensor.axes, "steps": list(tensor.steps), "channels": tensor.channels, "activation": "none" if sure else ""}


def _chosen(form: Form, heads: Sequence[str], counts: Sequence[int]) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Which answer is which head, and which of its channels: as the form says, or in the codec's order."""
    told = f"the network answers with {len(counts)} maps of {', '.join(map(str, counts))} channels"
    if not form.outputs:
        if len(heads) != len(counts):
            raise OptionError(
                told, f"which of them is which of {', '.join(heads)}", f"Say it with --outputs {','.join(f'{h}={n}' for n, h in enumerate(heads))}."
            )
        return {name: (n, ()) for n, name in enumerate(heads)}
    found = {}
    for text in form.outputs:
        name, _, rest = text.partition("=")
        numbers = [int(n) if n.isdecimal() else -1 for n in rest.split(":")]
        if name not in heads or not 0 <= numbers[0] < len(counts) or not all(0 <= n < counts[numbers[0]] for n in numbers[1:]):
            raise OptionError(f"outputs has {text!r}, and {told}", f"HEAD=NUMBER or HEAD=NUMBER:CHANNEL..., HEAD one of {', '.join(heads)}")
        found[name] = (numbers[0], tuple(numbers[1:]))
    if missing := [name for name in heads if name not in found]:
        raise OptionError(f"outputs does not say which map is {missing[0]}", ", ".join(heads))
    return found


def classes_of(form: Form, channels: int, output: Mapping[str, Any]) -> tuple[Class, ...]:
    """The classes that the form names; of a single channel, one of objects."""
    if not form.classes and channels > 1:
        named = f" ({', '.join(output['channels'])})" if output["channels"] else ""
        do = f"Name those of the {channels} channels that are not the background, which comes first if there is one; --outputs changes the order."
        raise OptionError(
            f"the network answers with {channels} channels{named}, and what they stand for is not said", f"--classes with {WRITTEN}", do
        )
    classes = tuple(sorted((read_class(text, True) for text in form.classes or ("1:object",)), key=lambda c: c.id))
    if [c.id for c in classes] != list(range(1, len(classes) + 1)) or sorted(classes, key=lambda c: c.countable) != list(classes):
        raise OptionError(f"the classes are {', '.join(form.classes)}", "ids 1, 2, 3, ..., stuff before things")
    return classes


def _map(
    head: Head, number: int, picked: tuple[int, ...], counts: Sequence[int], outputs: Sequence[Mapping[str, Any]], form: Form, classes: int
) -> dict[str, Any]:
    """How the map of a head is made of an answer."""
    channels, needed = len(picked) or counts[number], (classes, classes + 1) if head.name == "semantic" else (head.channels,)
    if channels not in needed:
        text = f"{classes} ({'one per class' if classes > 1 else 'its probability'}) or {classes + 1} (background first)"
        raise OptionError(
            f"the map {head.name!r} has {channels} channels", text if head.name == "semantic" else f"{head.channels}", "Choose them with --outputs."
        )
    activation = form.activation or outputs[number]["activation"]
    if not activation and head.kind in ("logits", "probability"):
        raise OptionError(f"it is not said what makes probabilities of output {number}", "--activation softmax, argmax, sigmoid or none")
    if head.name == "semantic" and counts[number] == 1 and activation in ("softmax", "argmax"):
        raise OptionError(f"the activation is {activation}, which makes 1 of everything where there is one channel", "sigmoid, or none")
    if head.kind == "probability" and activation in ("softmax", "argmax"):
        activation = "sigmoid"
    return {"output": number, "channels": list(picked), "activation": activation or "none", "unit": form.unit}
