"""Encoders cut in two, and fine-tuned: the same features, the right parameters, norms frozen or live."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from models import encoders
from models.data.windowed import windowed
from models.encoders import EncoderError, ImageEncoder, MapsOf, StagesFrom
from models.errors import OutOfDeviceMemoryError
from models.fit import Machine, fit
from models.fit_settings import FitSettings
from models.head_settings import HeadSettings
from models.served import outputs
from models.transfer import BatchNorm, FineTuned
from service.video.spec import ClipSpec

HEAD = HeadSettings(hidden_size=4, input_dropout=0.0, output_dropout=0.0)


def encoder_of(name: str, side: int) -> ImageEncoder:
    torch.manual_seed(0)
    encoder = encoders.build(name, side, side, weights="random").eval()
    for module in encoder.modules():  # so that a norm left out would show
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return encoder


def frames_of(side: int, count: int = 3) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=random)


@pytest.mark.parametrize(
    ("name", "side", "stages"),
    [
        ("efficientnet-lite0", 64, ("block0", "block7", "head")),
        ("small-16", 32, ("stage0", "stage2")),
        ("resnet18", 64, ("layer1", "layer4")),
        ("vgg11_bn", 64, ("block3", "fc6")),
        ("googlenet", 64, ("inception4c",)),
    ],
)
def test_both_halves_are_the_whole(name: str, side: int, stages: tuple[str, ...]) -> None:
    encoder, frames = encoder_of(name, side), frames_of(side)
    with torch.inference_mode():
        wanted = encoder(frames)
    for stage in stages:
        before, after = MapsOf(encoder, stage).eval(), StagesFrom(encoder, stage).eval()
        with torch.inference_mode():
            found = after(before(frames))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
        mine = {id(weight) for weight in encoder.parameters_from(stage).values()}
        assert {id(weight) for weight in after.parameters()} == mine, "the encoder's own, and all of them"
        assert not mine & {id(weight) for weight in before.parameters()}


def test_a_stage_that_is_none_is_refused() -> None:
    with pytest.raises(EncoderError, match="no stage 'block9'; there are stage0, stage1, stage2, stage3"):
        MapsOf(encoder_of("small-16", 32), "block9")


class TwoPaths(nn.Module):
    """What follows needs two tensors of what is before: no single map can be stored."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        left, right = self.a(pixels), self.b(pixels)
        found: torch.Tensor = self.last(left) + right.mean()
        return found


def test_a_cut_through_two_paths_is_refused() -> None:
    encoder = ImageEncoder(TwoPaths(), "two", 4, stages={"stem": ("a", "b"), "last": ("last",)})
    with pytest.raises(EncoderError, match="last and what follows need 2 tensors of what is before"):
        StagesFrom(encoder, "last")


def bright_or_dark(encoder: ImageEncoder, stage: str, count: int = 12) -> tuple[list[np.ndarray], torch.Tensor]:  # type: ignore[type-arg]
    """Maps of clips that are bright or dark; float16 as they are stored."""
    random = np.random.default_rng(0)
    maps, labels = [], []
    for number in range(count):
        level = 60 if number % 2 else 190
        frames = random.integers(level - 40, level + 40, (5, 32, 32, 3), np.uint8)
        with torch.inference_mode():
            maps.append(MapsOf(encoder, stage).eval()(torch.from_numpy(frames)).numpy().astype(np.float16))
        labels.append(number % 2)
    return maps, torch.tensor(labels)


@pytest.mark.parametrize("batch_norm", ["frozen", "live"])
@pytest.mark.parametrize("mixed_precision", ["off", "bfloat16", "float16"])
def test_fine_tuning_trains_the_stages_and_no_more(batch_norm: str, mixed_precision: str) -> None:
    encoder = encoder_of("small-16", 32)
    before = copy.deepcopy(encoder.state_dict())
    maps, labels = bright_or_dark(encoder, "stage2")
    spec = ClipSpec(sample_fps=4, frame_height=32, frame_width=32, window_frames=4, stride_frames=2)
    windows = windowed(maps, labels, spec)
    torch.manual_seed(0)
    model = FineTuned(encoder, "stage2", HEAD.build(encoder.feature_size, 2), 1e-2, batch_norm, mixed_precision)  # type: ignore[arg-type]
    settings = FitSettings(epochs=12, patience=12, batch_windows=6, learning_rate=2e-2)
    result = fit(model, windows, windows, settings, seed=0)
    assert result.best_figure == 1.0
    after = encoder.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    trained = set(encoder.parameters_from("stage2"))
    norms = {name for name in after if "running" in name or "num_batches" in name}
    assert changed - norms == trained
    of_stages = {name for name in norms if name.startswith(("cnn.2.", "cnn.3."))}
    assert changed & norms == (of_stages if batch_norm == "live" else set())
    assert model.encoder is encoder
    with torch.inference_mode():
        frames = frames_of(32)
        torch.testing.assert_close(model.stages(MapsOf(encoder, "stage2").eval()(frames)), encoder(frames))


@pytest.mark.parametrize("batch_norm", ["frozen", "live"])
def test_the_head_learns_alone_before_the_stages_do(batch_norm: BatchNorm) -> None:
    encoder = encoder_of("small-16", 32)
    maps, labels = bright_or_dark(encoder, "stage2")
    windows = windowed(maps, labels, ClipSpec(sample_fps=4, frame_height=32, frame_width=32))
    model = FineTuned(
        encoder, "stage2", HEAD.build(encoder.feature_size, 2), 1e-2, batch_norm, head_epochs=2
    )  # fmt: skip
    before, changed = copy.deepcopy(model.state_dict()), []

    def look(_phase: str, _line: dict[str, float]) -> None:
        now = model.state_dict()
        changed.append({name.partition(".")[0] for name in now if not torch.equal(now[name], before[name])})

    fit(model, windows, None, FitSettings(batch_windows=6), seed=0, stop_after=3, machine=Machine(track=look))
    assert changed == [{"head"}, {"head"}, {"head", "stages"}], "neither weights nor running statistics"


def test_a_scale_that_is_too_high_is_no_norm_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first steps in float16 overflow: they are left out, and the curve stays finite."""
    encoder = encoder_of("small-16", 32)
    maps, labels = bright_or_dark(encoder, "stage2")
    windows = windowed(maps, labels, ClipSpec(sample_fps=4, frame_height=32, frame_width=32))
    torch.manual_seed(0)
    settings = FitSettings(batch_windows=1, mixed_precision="float16")
    model = FineTuned(encoder, "stage2", HEAD.build(encoder.feature_size, 2), 1e-2, "frozen", "float16")
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**24))
    result = fit(model, windows, None, settings, seed=0, stop_after=2)
    assert all(np.isfinite(line["gradient_norm"]) for line in result.curve)
    assert all(line["gradient_norm"] > 0 for line in result.curve)


def test_a_batch_that_does_not_fit_says_what_makes_it_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of("small-16", 32)
    maps, labels = bright_or_dark(encoder, "stage2")
    windows = windowed(maps, labels, ClipSpec(sample_fps=4, frame_height=32, frame_width=32))
    model = FineTuned(encoder, "stage2", HEAD.build(encoder.feature_size, 2), 1e-2, "frozen")

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.stages, "forward", full)
    words = r"epoch 1: 3 windows of up to 5 ticks, each of 32 × 8 × 8, do not fit .* of cpu: lower --batch-windows"
    with pytest.raises(OutOfDeviceMemoryError, match=words):
        fit(model, windows, None, FitSettings(batch_windows=3), seed=0, stop_after=1)


def test_what_keeps_no_gradient_goes_through_the_stages_in_parts() -> None:
    encoder = encoder_of("small-16", 32)
    model = FineTuned(encoder, "stage3", HEAD.build(encoder.feature_size, 2), 1e-3, "frozen").eval()
    maps, lengths = torch.randn(5, 40, 64, 4, 4), torch.tensor([40, 3, 40, 40, 7])
    wanted = model.features(maps, lengths)
    seen: list[int] = []
    model.stages.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    with torch.inference_mode():
        torch.testing.assert_close(model.features(maps, lengths), wanted, rtol=1e-5, atol=1e-6)
    assert seen == [64, 64, 2]


def test_rows_that_windows_share_go_through_the_stages_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of("small-16", 32)
    model = FineTuned(encoder, "stage2", HEAD.build(encoder.feature_size, 2), 1e-3, "frozen").eval()
    maps = [MapsOf(encoder, "stage2")(frames_of(32, count)).detach().half().numpy() for count in (9, 3)]
    spec = ClipSpec(sample_fps=4, frame_height=32, frame_width=32, window_frames=4, stride_frames=1)
    windows = windowed(maps, torch.tensor([0, 1]), spec)
    assert len(windows) == 7
    with torch.inference_mode():
        wanted = model(*windows.batch(torch.arange(7)))
    seen: list[int] = []
    forward = model.stages.forward
    monkeypatch.setattr(model.stages, "forward", lambda rows: seen.append(len(rows)) or forward(rows))  # type: ignore[func-returns-value]
    torch.testing.assert_close(outputs(model, windows).logits, wanted, rtol=1e-5, atol=1e-6)
    assert sum(seen) == 12


def test_padding_does_not_reach_the_stages() -> None:
    """A batch norm that is live would see it."""
    encoder = encoder_of("small-16", 32)
    model = FineTuned(encoder, "stage3", HEAD.build(encoder.feature_size, 2), 1e-3, "live").train()
    seen: list[int] = []
    model.stages.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    maps = torch.randn(2, 6, 64, 4, 4)
    features = model.features(maps, torch.tensor([6, 2]))
    assert seen == [8]
    assert features.shape == (2, 6, encoder.feature_size)
    assert not features[1, 2:].any()
    assert features[1, :2].abs().sum() > 0
