"""The known answer: asked at start of what serves, at every batch size; what computes otherwise is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.bundle import KNOWN_ANSWER, EncoderDocument, ModelDocument, Precision, Runtime, file_sha256, read_document
from service.engine.heads import Array, Head
from service.engine.known_answer import KnownAnswer
from service.engine.sessions import Encoder, open_encoders, open_session
from service.errors import BundleError
from service.model_errors import ModelRefused
from service.serving import Serving
from service.settings import Settings
from service.tolerances import tolerance_of
from tests.bundles import copy_of_the_zoo
from tests.zoo import TRAINED, ZOO

MODEL = read_document(TRAINED / "model.json", ModelDocument)
ENCODER = ZOO / "encoders" / MODEL.encoder.name / "encoder.onnx"
DOCUMENT = read_document(ENCODER.with_name("encoder.json"), EncoderDocument)


@pytest.fixture(scope="module")
def known() -> KnownAnswer:
    return KnownAnswer.read(TRAINED / KNOWN_ANSWER, MODEL, DOCUMENT)


@dataclasses.dataclass
class StandIn:
    """An encoder that knows the features of each frame, and gets some of them wrong in batches of one size."""

    known: KnownAnswer
    wrong: Callable[[int], float]
    precision: Precision = "fp32"
    runtime: Runtime = "onnxruntime-cuda"
    feature_size: int = DOCUMENT.feature_size
    buffer: NDArray[np.uint8] = dataclasses.field(default_factory=lambda: np.zeros((256, 224, 224, 3), np.uint8))
    asked: list[int] = dataclasses.field(default_factory=list)

    def run(self, num_frames: int, at: int = 0) -> Array:
        self.asked.append(num_frames)
        order = [self._number(frame) for frame in self.buffer[at : at + num_frames]]
        features = self.known.features[order].copy()
        features[-1] += self.wrong(num_frames) * np.abs(features).max()
        return features

    def _number(self, frame: NDArray[np.uint8]) -> int:
        return next(n for n, known in enumerate(self.known.frames) if np.array_equal(known, frame))


def test_what_ships_is_known(known: KnownAnswer) -> None:
    """The frames differ, as do their features: a wrong order or a blank frame would show."""
    encoders = open_encoders(ENCODER, DOCUMENT, "onnxruntime-cpu", "fp32", count=2, max_batch_frames=8)
    known.check_encoders(encoders, (1, 2, 8))
    known.check_head(Head(open_session(TRAINED / "head.onnx", "onnxruntime-cpu"), MODEL))
    for one in range(len(known.frames)):
        for other in range(one):
            assert np.abs(known.features[one] - known.features[other]).max() > 0.1
    assert (TRAINED / KNOWN_ANSWER).stat().st_size < 40_000


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_batch_size_that_is_computed_otherwise_is_found(known: KnownAnswer, precision: Precision) -> None:
    limit = tolerance_of("encoder features, real frames", precision).limit
    right = StandIn(known, lambda size: 0.5 * limit, precision)
    known.check_encoders([right], (1, 4, 64, 256))
    assert right.asked == [1, 4, 64, 256]
    for bad in (1, 256):
        wrong = StandIn(known, lambda size, bad=bad: 2 * limit * (size == bad), precision)  # type: ignore[misc]
        with pytest.raises(BundleError) as refused:
            known.check_encoders([wrong], (1, 4, 64, 256))
        said = f"onnxruntime-cuda in {precision}, in batches of {bad}, computes features that are {2 * limit:.3g} off, "
        assert said + f"at most {limit:g} needed" in str(refused.value)


def test_each_executor_is_asked(known: KnownAnswer) -> None:
    encoders = [StandIn(known, lambda size: 0.0), StandIn(known, lambda size: np.nan)]
    with pytest.raises(BundleError, match="in batches of 4, computes features that are inf off,"):
        known.check_encoders(encoders, (1, 4))
    assert encoders[1].asked == [4]


def test_a_head_that_computes_otherwise_is_found(known: KnownAnswer) -> None:
    head = Head(open_session(TRAINED / "head.onnx", "onnxruntime-cpu"), MODEL)
    right = head.scores([known.features[known.window]])[0]
    off = dataclasses.replace(known, scores=right + np.float32(2e-3))
    with pytest.raises(BundleError, match=r"head\.onnx computes scores that are 0\.002 off \(alone\), at most 0\.0001"):
        off.check_head(head)


class Forgetful:
    """A head that is right about one window alone, and ignores lengths, or loses its state."""

    def __init__(self, head: Head, *, lengths: bool, state: bool) -> None:
        self.model = head.model
        self._head, self._lengths, self._state = head, lengths, state

    def scores(self, windows: Sequence[Array]) -> Array:
        if self._lengths or len(windows) == 1:
            return self._head.scores(windows)
        longest = max(map(len, windows))
        return self._head.scores([np.pad(window, ((0, longest - len(window)), (0, 0))) for window in windows])

    def step(self, pieces: Sequence[Array], states: Array) -> tuple[Array, Array]:
        scores, after = self._head.step(pieces, states)
        return scores, after if self._state else np.zeros_like(after)


@pytest.mark.parametrize(("forgets", "said"), [("lengths", "in a batch"), ("state", "piece by piece")])
def test_lengths_and_state_are_asked_for_too(known: KnownAnswer, forgets: str, said: str) -> None:
    head = Head(open_session(TRAINED / "head.onnx", "onnxruntime-cpu"), MODEL)
    known.check_head(Forgetful(head, lengths=True, state=True))
    with pytest.raises(BundleError, match=rf"off \({said}\), at most"):
        known.check_head(Forgetful(head, lengths=forgets != "lengths", state=forgets != "state"))


def test_a_second_bundle_on_an_encoder_is_asked_as_well(tmp_path: Path) -> None:
    copy_of_the_zoo(tmp_path, "a-first")
    second = copy_of_the_zoo(tmp_path, "b-second")
    right = KnownAnswer.read(second / KNOWN_ANSWER, MODEL, DOCUMENT)
    wrong = dataclasses.replace(right, features=right.features[::-1].copy(), window=right.window[:1] * 0 + 3)
    (second / KNOWN_ANSWER).write_bytes(wrong.to_bytes())
    certificate = second / "certificate.json"
    content = json.loads(certificate.read_text())
    content["subjects"]["known_answer"] = file_sha256(second / KNOWN_ANSWER)
    certificate.write_text(json.dumps(content))
    serving = Serving(Settings(models_dir=tmp_path, models="all"))
    try:
        serving.load()
        assert list(serving.models) == ["a-first"]
        assert "in fp32, as it is served, computes features that" in serving.registry.refused["b-second"].reason
    finally:
        serving.close()


def without(name: str) -> Callable[[KnownAnswer, Path], None]:
    def write(known: KnownAnswer, path: Path) -> None:
        arrays = {key: value for key, value in vars(known).items() if key != name}
        with path.open("wb") as file:
            np.savez(file, **arrays)

    return write


def changed(**fields: Any) -> Callable[[KnownAnswer, Path], None]:
    def write(known: KnownAnswer, path: Path) -> None:
        path.write_bytes(dataclasses.replace(known, **fields).to_bytes())

    return write


def pickled(known: KnownAnswer, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **{**vars(known), "frames": np.array([print])})


def cut(known: KnownAnswer, path: Path) -> None:
    path.write_bytes(known.to_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "can't be read: "),
        (lambda known, path: path.write_bytes(b"no zip"), "can't be read: "),
        (without("scores"), "can't be read: .*scores"),
        (pickled, "can't be read: .*allow_pickle=False"),
        (changed(frames=np.zeros((4, 8, 8, 3), np.uint8)), r"frames is uint8 \(4, 8, 8, 3\), .* uint8 \(any, 224, 224"),
        (changed(scores=np.zeros(11, np.float32)), r"scores is float32 \(11,\), .* need float32 \(12\)"),
        (changed(features=np.zeros((4, 1280))), r"features is float64"),
        (changed(features=np.zeros((3, 1280), np.float32)), "its arrays are of unequal lengths"),
        (changed(window=np.array([0, 4])), "names a frame that is not there"),
        (changed(window=np.zeros(0, np.int64)), r"window is int64 \(0,\)"),
    ],
)
def test_a_file_that_is_none(
    damage: Callable[[KnownAnswer, Path], None], said: str, known: KnownAnswer, tmp_path: Path
) -> None:
    path = tmp_path / KNOWN_ANSWER
    damage(known, path)
    with pytest.raises(BundleError, match=said) as refused:
        KnownAnswer.read(path, MODEL, DOCUMENT)
    assert str(refused.value).startswith(str(path))


def rounding(run: Callable[..., Array]) -> Callable[..., Array]:
    return lambda num_frames, at=0: run(num_frames, at).astype(np.float16).astype(np.float32)


def test_a_runtime_that_computes_otherwise_refuses_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is right to the byte, and so is its certificate; the runtime here rounds to 11 bits."""
    copy_of_the_zoo(tmp_path, "mine")
    opened = open_encoders

    def coarse(*given: object, **more: object) -> list[Encoder]:
        encoders: list[Encoder] = opened(*given, **more)  # type: ignore[arg-type]
        for encoder in encoders:
            monkeypatch.setattr(encoder, "run", rounding(encoder.run))
        return encoders

    monkeypatch.setattr("service.loading.open_encoders", coarse)
    serving = Serving(Settings(models_dir=tmp_path))
    try:
        serving.load()
        assert serving.models == {}
        with pytest.raises(
            ModelRefused, match=r"mine 1 is refused: .*known answer is not given: onnxruntime-cpu in fp"
        ):
            serving.registry.get("mine")
    finally:
        serving.close()
