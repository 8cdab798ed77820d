"""How benchmarks count: work inside a window, ratios of pairs, quantiles with failures; and the peers' head is ours."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bench.contest import Measure, Spread, disagreement, in_rounds, pair_ratios, work_rate
from tests.bench.latency import Point, Waits, long_clips, p99_over_best_peer
from tests.bench.limit import Limit
from tests.bench.load import Answer, Clip
from tests.bench.page import page
from tests.bench.peers.eager_engine import head_of
from tests.bench.peers.onnx_engine import OnnxEngine
from tests.bench.report import RESULTS
from tests.bench.sides import STANDARD, chosen, in_json, peer_versions
from tests.real_clips import real_clip
from tests.zoo import TRAINED, TRAINED_ENCODER


def answer(
    started: float, seconds: float, *, clip: str = "a", status: int = 200, scheduled: float | None = None
) -> Answer:
    """Only its times and its clip matter."""
    due = started if scheduled is None else scheduled
    return Answer(clip, "short", status, "", b"", due, started, seconds, None, None)


def test_work_counts_with_the_share_of_its_time_inside() -> None:
    answers = [
        answer(0, 10),  # all inside [0, 10)
        answer(-5, 10, clip="long"),  # half
        answer(8, 8),  # a quarter
        answer(20, 1),  # outside
        answer(0, 10, status=503),  # not done
    ]
    assert work_rate(answers, {"a": 20, "long": 100}, 0, 10) == pytest.approx((20 + 50 + 5) / 10)


def test_ratios_are_within_rounds_that_both_were_in() -> None:
    calls: list[tuple[str, int]] = []

    def measure(name: str, figure: float) -> Measure:
        def run(number: int) -> float:
            calls.append((name, number))
            return figure * (number + 1)  # a machine that gets faster

        return run

    measures = {"one": measure("one", 2), "other": measure("other", 1), "rare": measure("rare", 0.5)}
    rates = in_rounds(measures, 2, {"rare": 2})
    assert calls == [("one", 0), ("other", 0), ("rare", 0), ("other", 1), ("one", 1)], "to and fro"
    assert pair_ratios(rates["one"], rates["other"]) == Spread(2.0, 2.0, 2.0, 2)
    assert pair_ratios(rates["one"], rates["rare"]) == Spread(4.0, 4.0, 4.0, 1)


def test_disagreement_is_the_largest_difference() -> None:
    assert disagreement({"a": 0.7, "b": 0.2}, {"a": 0.7, "b": 0.25}) == pytest.approx(0.05)
    assert disagreement({"a": 0.7, "b": 0.20}, {"a": 0.7, "c": 0.21}) == pytest.approx(0.01)
    assert disagreement({"a": 0.7}, {"b": 0.7}) == pytest.approx(0)
    assert disagreement({"a": 0.9, "b": 0.1}, {"b": 0.9, "a": 0.1}) == pytest.approx(0.8)


def test_a_failure_is_the_longest_wait() -> None:
    waits = Waits.of([answer(1, index / 1000, scheduled=0.5) for index in range(1, 100)] + [answer(0, 0, status=0)])
    assert (waits.count, waits.failed) == (100, 1)
    assert (waits.p50_ms, waits.p95_ms, waits.p99_ms) == (550, 595, 599), "from the scheduled arrival"
    waits = Waits.of([answer(0, 1), answer(0, 1), answer(0, 0, status=504)])
    assert (waits.p50_ms, waits.p99_ms) == (1000, None)
    assert str(waits) == "1000 / never / never, 1 of 3 failed"
    assert str(Waits.of([])) == "none"


def test_ours_is_held_against_the_best_peer_at_the_same_rate() -> None:
    def point(side: str, of: str, p99_ms: float | None) -> Point:
        return Point(side, 0.7, of, 1.0, Waits(100, 0, 1.0, 1.0, p99_ms), None, 0.0, 0.0, {})

    mix = [
        point("reelserve", "reelserve", 100),
        point("bentoml-onnx", "reelserve", 400),
        point("fastapi-onnx", "reelserve", 250),
        point("litserve-onnx", "reelserve", None),
        point("fastapi-onnx", "fastapi-onnx", 50),
    ]
    assert p99_over_best_peer(mix, "reelserve") == 0.4
    assert p99_over_best_peer(mix[:1], "reelserve") is None


def test_the_peers_torch_head_is_the_bundles() -> None:
    """Random features behind the lengths: they must not count."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(5, 16, 1280)).astype(np.float32)
    lengths = np.array([16, 1, 7, 16, 3], np.int64)
    wanted = OnnxEngine(TRAINED_ENCODER / "encoder.onnx", TRAINED / "head.onnx").logits(features, lengths)
    with torch.inference_mode():
        got = head_of(TRAINED / "head.onnx")(torch.from_numpy(features), torch.from_numpy(lengths)).numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-4)  # logits of a few units, in another order of additions


def test_the_limit_gives_the_answer_and_counts_its_ticks() -> None:
    clip = Clip.of(real_clip("bikes.mp4"))
    limit = Limit()
    cost = limit.measure([clip, clip], seconds=1e9)
    assert cost.clips == 2
    assert cost.ticks == 2 * limit.ticks(clip) > 0
    assert min(cost.decode_seconds, cost.encode_seconds, cost.head_seconds) > 0
    assert cost.ticks_per_second(cores=3) == pytest.approx(3 * cost.ticks / cost.seconds)
    assert all(0 <= score <= 1 for score in limit.scores(clip).values())


def test_long_clips_last_two_minutes(tmp_path: Path) -> None:
    (clip,) = long_clips(tmp_path, [Clip.of(real_clip("bikes.mp4"))])
    assert clip.kind == "long"
    assert Limit().ticks(clip) == pytest.approx(480, abs=2)  # 4 a second


def test_a_clip_in_json_is_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\r\n\r\n--content\r\n--\r\n")
    sent = json.loads(in_json(Clip.of(path)).body)
    assert base64.b64decode(sent["video"]) == path.read_bytes()


def test_sides_are_chosen_by_name() -> None:
    assert chosen(None) == list(STANDARD)
    assert chosen(",".join(STANDARD)) == list(STANDARD)
    assert chosen("fastapi-onnx,reelserve-openvino-bf16") == ["fastapi-onnx", "reelserve-openvino-bf16"]
    with pytest.raises(ValueError, match="side 'torchserve' is unknown"):
        chosen("torchserve")


def test_every_peers_framework_has_its_version_in_the_results() -> None:
    assert all(peer in versions for peer, versions in peer_versions().items())


def test_the_page_is_that_of_the_committed_results() -> None:
    assert (RESULTS / "README.md").read_text(encoding="utf-8") == page()
