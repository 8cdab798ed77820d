"""Encoders behind the session interface, on every runtime that is here: the same features, whoever runs beside them."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from service.bundle import EncoderDocument, Precision, Runtime, read_document
from service.engine import onnx_runtime
from service.engine.onnx_runtime import OnnxEncoder
from service.engine.openvino_runtime import has_bf16
from service.engine.sessions import DeviceLost, Encoder, open_encoders
from service.errors import NotReady
from tests.service.engine.graphs import ENCODER, encoder
from tests.zoo import TRAINED_ENCODER

Frames = NDArray[np.uint8]
Pair = tuple[Runtime, Precision]
PAIRS: list[Pair] = [("onnxruntime-cpu", "fp32"), ("openvino-cpu", "fp32"), ("openvino-cpu", "bf16")]
# Of features up to 6: fp32 sums in another order, bf16 keeps 8 bits.
TOLERANCE: dict[Precision, float] = {"fp32": 1e-5, "bf16": 0.1}
ZOO_ENCODER = TRAINED_ENCODER / "encoder.onnx"
MOST = 5


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder") / "encoder.onnx"
    path.write_bytes(encoder())
    return path


@pytest.fixture(scope="module")
def reference(graph: Path) -> ort.InferenceSession:
    return ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])


@pytest.fixture(params=PAIRS, ids="-".join)
def opened(request: pytest.FixtureRequest, graph: Path) -> list[Encoder]:
    runtime, precision = request.param
    return open_encoders(graph, ENCODER, runtime, precision, count=2, max_batch_frames=MOST)


def frames_of(seed: int, num_frames: int, document: EncoderDocument = ENCODER) -> Frames:
    size = (num_frames, document.frame_height, document.frame_width, 3)
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def features(one: Encoder, frames: Frames) -> NDArray[np.float32]:
    one.buffer[: len(frames)] = frames
    return one.run(len(frames))


def test_every_number_of_frames_gives_the_graph_s_features(
    opened: list[Encoder], reference: ort.InferenceSession
) -> None:
    one = opened[0]
    assert one.buffer.shape == (MOST, 16, 24, 3)
    assert one.feature_size == 6
    for num_frames in (3, 1, MOST, 2, 4, 3):
        frames = frames_of(num_frames, num_frames)
        [wanted] = reference.run(["features"], {"frames": frames})
        found = features(one, frames)
        assert found.shape == (num_frames, 6)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=TOLERANCE[one.precision])


def test_a_frame_s_features_are_the_same_to_the_bit_in_any_batch(opened: list[Encoder]) -> None:
    frames = frames_of(0, MOST)
    alone = [features(opened[0], frames[row : row + 1])[0] for row in range(MOST)]
    np.testing.assert_array_equal(features(opened[1], frames), alone)


def test_features_are_the_caller_s_own(opened: list[Encoder]) -> None:
    one = opened[0]
    first = features(one, frames_of(1, 2))
    kept = first.copy()
    features(one, frames_of(2, 2))
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    assert features(one, frames_of(2, 2)).any()


def test_the_buffer_is_read_where_it_lies(opened: list[Encoder], reference: ort.InferenceSession) -> None:
    """Written through another view of the same memory, after the first run has bound it."""
    one = opened[0]
    view = one.buffer[:2]
    one.run(2)
    view[:] = frames_of(3, 2)
    [wanted] = reference.run(["features"], {"frames": view})
    np.testing.assert_allclose(one.run(2), wanted, atol=TOLERANCE[one.precision])


def test_onnx_runtime_takes_the_buffer_s_address() -> None:
    buffer = frames_of(4, 3)
    assert ort.OrtValue.ortvalue_from_numpy(buffer[:2]).data_ptr() == buffer.ctypes.data


def test_a_run_from_the_middle_of_the_buffer(opened: list[Encoder]) -> None:
    one = opened[0]
    whole = features(one, frames_of(5, MOST))
    np.testing.assert_array_equal(one.run(2, 1), whole[1:3])
    np.testing.assert_array_equal(one.run(1, MOST - 1), whole[-1:])
    with pytest.raises(ValueError, match="num_frames 2 is not from 1 to 1"):
        one.run(2, MOST - 1)


@pytest.mark.parametrize("num_frames", [0, -1, MOST + 1])
def test_beyond_the_buffer(opened: list[Encoder], num_frames: int) -> None:
    with pytest.raises(ValueError, match=f"num_frames {num_frames} is not from 1 to {MOST}"):
        opened[0].run(num_frames)


def test_two_threads_at_once_do_not_disturb_each_other(opened: list[Encoder]) -> None:
    batches = [[frames_of(10 * number + size, size) for size in (1, 3, MOST)] for number in range(2)]
    wanted = [[features(one, frames) for frames in own] for one, own in zip(opened, batches, strict=True)]
    wrong: list[str] = []
    together = threading.Barrier(2)

    def work(number: int) -> None:
        for turn in range(60):
            index = turn % 3
            together.wait(10)
            found = features(opened[number], batches[number][index])
            if not np.array_equal(found, wanted[number][index]):
                wrong.append(f"executor {number}, turn {turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_encoders_on_onnx_runtime_share_one_session(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    open_one = onnx_runtime.open_session

    def counted(path: Path, *rest: object, **named: object) -> ort.InferenceSession:
        made.append(path)
        return open_one(path, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(onnx_runtime, "open_session", counted)
    first, second = open_encoders(graph, ENCODER, "onnxruntime-cpu", "fp32", count=2, max_batch_frames=2)
    assert made == [graph]
    assert not np.shares_memory(first.buffer, second.buffer)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_another_width_of_features_than_the_document_s(graph: Path, pair: Pair) -> None:
    wrong = ENCODER.model_copy(update={"feature_size": 7})
    [one] = open_encoders(graph, wrong, *pair, count=1, max_batch_frames=2)
    with pytest.raises(Exception, match="7"):
        one.run(2)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_the_trained_encoder(pair: Pair) -> None:
    document = read_document(ZOO_ENCODER.with_name("encoder.json"), EncoderDocument)
    [one] = open_encoders(ZOO_ENCODER, document, *pair, count=1, max_batch_frames=3)
    session = ort.InferenceSession(str(ZOO_ENCODER), providers=["CPUExecutionProvider"])
    for num_frames in (1, 2, 3):
        frames = frames_of(num_frames, num_frames, document)
        [wanted] = session.run(["features"], {"frames": frames})
        off = np.abs(features(one, frames) - wanted).max() / wanted.max()
        assert off < (1e-4 if one.precision == "fp32" else 0.25)
        if one.precision == "bf16" and has_bf16():
            assert off > 1e-4, "it was not computed in bf16"


def test_float16_reads_the_graph_beside_it(tmp_path: Path, reference: ort.InferenceSession) -> None:
    (tmp_path / "encoder.fp16.onnx").write_bytes(encoder())
    named = ENCODER.model_copy(update={"fp16_sha256": "0" * 64})
    [one] = open_encoders(tmp_path / "encoder.onnx", named, "onnxruntime-cpu", "fp16", count=1, max_batch_frames=2)
    frames = frames_of(5, 2)
    np.testing.assert_allclose(features(one, frames), reference.run(None, {"frames": frames})[0], atol=1e-6)
    with pytest.raises(NotReady, match="encoder small has no float16 graph; export with --fp16"):
        open_encoders(tmp_path / "encoder.onnx", ENCODER, "onnxruntime-cpu", "fp16", count=1, max_batch_frames=2)


class Failing:
    """In place of a session whose device gave up; there is no GPU to break here."""

    def __init__(self, words: str) -> None:
        self.words = words

    def run_with_iobinding(self, _: object) -> None:
        raise RuntimeError(self.words)


@pytest.mark.parametrize(
    ("words", "lost"),
    [
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", True),
        ("Failed to allocate memory for requested buffer of size 939524096", False),
    ],
)
def test_only_a_lost_device_is_a_device_lost(graph: Path, words: str, lost: bool) -> None:
    [one] = open_encoders(graph, ENCODER, "onnxruntime-cpu", "fp32", count=1, max_batch_frames=2)
    assert isinstance(one, OnnxEncoder)
    one._session = Failing(words)
    with pytest.raises(DeviceLost if lost else RuntimeError, match=words[:20]) as caught:
        one.run(1)
    assert isinstance(caught.value, DeviceLost) is lost
