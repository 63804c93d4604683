"""SAM as transformers keeps it: embeddings, prompts and automatic masks are those of transformers; what does not fit is refused."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from napari_segsuite import load_model, load_spec, segment
from napari_segsuite.errors import MissingExtra, ModelError, OptionError
from napari_segsuite.models.foreign import sam, sam_masks
from napari_segsuite.models.foreign.form import Form
from napari_segsuite.models.foreign.processing import apply
from napari_segsuite.models.foreign.sam_net import NETWORK, WHOLE
from napari_segsuite.models.foreign.store import add
from napari_segsuite.models.prompts import Prompt, prompter

Array = NDArray[Any]
SIDE, POINTS = 64, 12
PARTS: dict[str, dict[str, Any]] = {
    "vision_config": {
        "hidden_size": 16, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8,
        "num_pos_feats": 16, "window_size": 4, "global_attn_indexes": [1], "mlp_dim": 32,
    },
    "prompt_encoder_config": {"hidden_size": 32, "image_size": SIDE, "patch_size": 8},
    "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 4, "iou_head_hidden_dim": 16},
}  # fmt: skip
PIXELS: dict[str, Any] = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3], "size": {"longest_edge": SIDE}}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models, fewer points than usual, and no connection to anywhere."""

    def no_connection(*_: object) -> None:
        raise AssertionError("the network of computers was asked for something")

    monkeypatch.setenv("SEGSUITE_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(sam, "POINTS", POINTS)
    monkeypatch.setattr(socket.socket, "connect", no_connection)
    return tmp_path / "models"


def written(folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], object] | None = None) -> Path:
    """A checkpoint whose weights are none."""
    config, pixels = json.loads(json.dumps({"architectures": [NETWORK], **PARTS})), json.loads(json.dumps(PIXELS))
    if change:
        change(config, pixels)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    save_file({"weight": torch.ones(1)}, folder / "model.safetensors")
    return folder


def test_a_checkpoint_says_all_that_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    told = sam.read(written(tmp_path / "net"), Form())
    assert (told.said.tile, told.said.classes, told.draft.channels) == ((SIDE, SIDE), ("1:object:thing",), ("red", "green", "blue"))
    assert told.draft.normalize == {"method": "percentiles", "values": [1.0, 99.8], "cut": None, "joint": True}
    assert sam.read(tmp_path / "net", Form(normalize="none")).draft.normalize == {"method": "none", "cut": None}
    assert told.net["kwargs"]["vision_config"]["qkv_bias"] is True
    with pytest.raises(MissingExtra, match=r'pip install "napari-segsuite\[transformers\]"'):
        add(str(tmp_path / "net"))


REFUSED: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "another network": (lambda c, _: c.update(architectures=["SamHQModel"]), r"field 'architectures': found \['SamHQModel'\].*SamModel"),
    "a huge network": (lambda c, _: c["vision_config"].update(hidden_size=10**9), r"'vision_config.hidden_size': found 1000000000"),
    "too many layers": (
        lambda c, _: c["vision_config"].update(num_hidden_layers=500),
        r"'vision_config.num_hidden_layers': found 500\. Needed: at most",
    ),
    "too large a picture": (lambda c, _: c["vision_config"].update(image_size=8192), r"'vision_config.image_size': found 8192\. Needed: 32 to 2048"),
    "two sizes": (lambda c, _: c["prompt_encoder_config"].update(image_size=32), r"'prompt_encoder_config.image_size': found 32\. Needed: 64"),
    "widths that do not meet": (
        lambda c, _: c["vision_config"].update(output_channels=16),
        r"'vision_config.output_channels': found 16\. Needed: 32",
    ),
    "another activation": (lambda c, _: c["mask_decoder_config"].update(hidden_act="mine"), r"'mask_decoder_config.hidden_act': found 'mine'"),
    "a text for a number": (lambda c, _: c["vision_config"].update(patch_size="8"), r"'vision_config.patch_size': found '8'"),
    "a text for a part": (lambda c, _: c.update(vision_config="facebook/sam"), r"'vision_config': found 'facebook/sam'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_by_its_name(name: str, tmp_path: Path, home: Path) -> None:
    with pytest.raises(ModelError, match=REFUSED[name][1]):
        add(str(written(tmp_path / "net", REFUSED[name][0])))
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"classes": ("1:cat", "2:dog")}, "one class of things"),
        ({"classes": ("1:sky:stuff",)}, "one class of things"),
        ({"layout": "yolov8-seg"}, "nothing: what a SAM takes"),
        ({"normalize": "mean_std"}, "percentiles:1:99.8"),
        ({"axes": "zyx"}, "the letters of bcyx"),
    ],
)
def test_what_does_not_fit_is_said(said: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=told):
        add(str(written(tmp_path / "net")), Form(**said))


@pytest.fixture(scope="module")
def network() -> Any:
    """A small one of random weights that is sure of what it says."""
    transformers = pytest.importorskip("transformers")
    with torch.random.fork_rng():
        torch.manual_seed(2)
        kinds = zip(WHOLE, ("SamVisionConfig", "SamPromptEncoderConfig", "SamMaskDecoderConfig"), strict=True)
        net = transformers.SamModel(transformers.SamConfig(**{part: getattr(transformers, kind)(**PARTS[part]) for part, kind in kinds})).eval()
        with torch.no_grad():
            for name, value in net.named_parameters():
                if value.ndim > 1:
                    torch.nn.init.normal_(value, std=2.5 / value[0].numel() ** 0.5)
                if "positional_embedding" in name:
                    torch.nn.init.normal_(value, std=0.3)
            net.mask_decoder.iou_prediction_head.proj_out.weight *= 0.1
            net.mask_decoder.iou_prediction_head.proj_out.bias.fill_(0.85)
            for part in net.mask_decoder.output_hypernetworks_mlps:
                part.proj_out.weight *= 300
    return net


@pytest.fixture
def added(network: Any, tmp_path: Path) -> Path:
    """The same, added as ``net``, which takes pixels as they are; where its files lie."""
    folder = stored(network, tmp_path / "net")
    add(str(folder), Form(normalize="none", context=(16, 16)))
    return folder


def stored(network: Any, folder: Path) -> Path:
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    return folder


def blots(shape: tuple[int, int], seed: int) -> Array:
    """A picture (y, x, 3) of colours that change slowly."""
    noise = torch.from_numpy(np.random.default_rng(seed).random((1, 3, 2 + shape[0] // 8, 2 + shape[1] // 8)))
    large = torch.nn.functional.interpolate(noise, shape, mode="bicubic").clamp(0, 1)[0]
    return (255 * large.numpy()).astype(np.uint8).transpose(1, 2, 0)


def processor() -> Any:
    """That of transformers."""
    transformers = pytest.importorskip("transformers")
    sizes = {"pad_size": {"height": SIDE, "width": SIDE}, "mask_size": {"longest_edge": SIDE // 4}}
    return transformers.SamImageProcessor(**PIXELS, **sizes, mask_pad_size={"height": SIDE // 4, "width": SIDE // 4})


@pytest.mark.parametrize("shape", [(64, 64), (48, 64), (40, 30)])
def test_prompts_are_answered_as_transformers_answers_them(network: Any, added: Path, shape: tuple[int, int]) -> None:
    transformers = pytest.importorskip("transformers")
    picture, backend = blots(shape, 1), prompter("net", device="cpu")
    state = backend.look(picture.transpose(2, 0, 1).astype(np.float32))
    both = transformers.SamProcessor(processor())
    inputs = both(images=picture, return_tensors="pt")
    scaled = apply(load_spec("net").net["input"]["steps"], torch.from_numpy(picture.transpose(2, 0, 1)).float()[None], "bcyx")
    pixels = sam_masks.fitted(scaled, SIDE)
    rounding = 1e-4 if max(shape) == SIDE else 1.01 / 255 / 0.2  # torchvision enlarges whole numbers, and rounds
    torch.testing.assert_close(pixels, inputs["pixel_values"], rtol=0, atol=rounding)
    with torch.inference_mode():
        torch.testing.assert_close(state.embedding, network.get_image_embeddings(pixels), rtol=0, atol=1e-4)
    for prompt, told in (
        (Prompt(((20, 12),)), {"input_points": [[[12, 20]]]}),
        (Prompt(((20, 12), (30, 25)), (True, False)), {"input_points": [[[12, 20], [25, 30]]], "input_labels": [[1, 0]]}),
        (Prompt(box=((10, 31), (5, 26))), {"input_boxes": [[[5, 10, 25, 30]]]}),
        (Prompt(((20, 12),), box=((10, 31), (5, 26))), {"input_points": [[[12, 20]]], "input_boxes": [[[5, 10, 25, 30]]]}),
    ):
        inputs = both(images=picture, return_tensors="pt", **told)
        several = prompt.box is None and len(prompt.points) == 1
        with torch.inference_mode():
            wanted = network(pixel_values=pixels, **{k: inputs[k] for k in told}, multimask_output=several)
        masks = both.image_processor.post_process_masks(wanted.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"])[0][0].numpy()
        sure = wanted.iou_scores[0, 0].clamp(0, 1).numpy()
        found = backend.answer(state, prompt)
        assert len(found) == (3 if several else 1)
        for k, candidate in zip(np.argsort(-sure, kind="stable"), found, strict=True):
            assert candidate.score == pytest.approx(sure[k], abs=1e-4)
            np.testing.assert_array_equal(candidate.region, masks[k])


def test_automatic_masks_are_those_of_transformers(network: Any, added: Path) -> None:
    transformers = pytest.importorskip("transformers")
    picture = blots((64, 56), 4)
    made = transformers.pipeline("mask-generation", model=network, image_processor=processor(), device="cpu")
    wanted = made(Image.fromarray(picture), points_per_crop=POINTS)
    spec = load_spec("net")
    assert (spec.codec, spec.task, spec.tile, dict(spec.codec_options)) == ("objects", "instance", (64, 64), {"center": 0.88, "longest": 16})
    whole = {**spec.net["objects"], "longest": 64}
    model = load_model("net", device="cpu")
    x = apply(spec.net["input"]["steps"], torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32))[None], "bcyx")
    with torch.inference_mode():
        answers = model.net.network.inner(x)  # type: ignore[attr-defined]
    found = sam_masks.read(whole, answers, picture.shape[:2], picture.shape[:2])["objects"][0]
    scores = answers[1][0].numpy()
    those = scores > 0.88
    assert 4 <= those.sum() == len(wanted["scores"]) < len(scores)
    np.testing.assert_allclose(scores[those], wanted["scores"].numpy(), atol=1e-4)
    for k, mask in enumerate(wanted["masks"]):
        own = np.zeros(picture.shape[:2], np.uint8)
        own[tuple(found.voxel[found.owner == k].T)] = found.value[found.owner == k]
        np.testing.assert_array_equal((own >= 128)[abs(own - 127.5) > 1], np.asarray(mask)[abs(own - 127.5) > 1])


def test_a_large_image_is_segmented_in_any_chunks(
    network: Any, tmp_path: Path, segsuite: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sam, "POINTS", 9)
    folder, grey = stored(network, tmp_path / "net"), tmp_path / "grey.tif"
    add(str(folder), Form(normalize="none", context=(16, 16)))
    capsys.readouterr()
    pixels = blots((100, 80), 3)
    wish: dict[str, Any] = {"model": "net", "device": "cpu", "min_size_px": 0}
    found = segment(pixels, **wish)
    assert len(found.segments["id"]) >= 3
    assert found.segments["score"].min() >= 0.87
    sides = [found.segments[f"bbox_{a}1"] - found.segments[f"bbox_{a}0"] for a in "yx"]
    assert max(map(np.max, sides)) <= 33, "masks that reach too far are left out"
    np.testing.assert_array_equal(segment(pixels, **wish, chunk=(64, 64)).labels, found.labels)
    tifffile.imwrite(grey, (pixels[..., 0].astype(np.uint16) + 300) * 20)
    done = segsuite("models", "add", folder, "--name", "micro", "--context", "16,16", "--classes", "1:cell")
    assert done.out.startswith("added micro: instance, yx, classes cell; "), done
    assert segsuite("segment", grey, "--model", "micro", "--out", tmp_path / "out", "--device", "cpu").code == 0
    assert load_spec("micro").normalize["joint"] is True


def test_other_weights_and_answers_are_refused(network: Any, tmp_path: Path) -> None:
    folder = stored(network, tmp_path / "net")
    weights = load_file(folder / "model.safetensors")
    name = "mask_decoder.iou_token.weight"
    for changed, message in (
        ({k: v for k, v in weights.items() if k != name}, rf"does not fit the network: missing keys: 1, such as {name}"),
        ({**weights, "more": torch.ones(1)}, r"unexpected keys: 1, such as more"),
        ({**weights, name: weights[name] * torch.nan}, rf"the weights '{name}' are not finite"),
    ):
        save_file(changed, folder / "model.safetensors")
        with pytest.raises(ModelError, match=message):
            add(str(folder), name="other")
    with pytest.raises(ModelError, match="not finite"):
        sam_masks.read({"longest": 9, "side": 64}, [torch.full((1, 1, 8, 8), torch.nan), torch.ones(1, 1)], (64, 64), (64, 64))


def test_only_a_sam_is_asked_with_prompts() -> None:
    with pytest.raises(OptionError, match=r"'nuclei' cannot be asked with points and boxes.*one of geodesic"):
        prompter("nuclei")
