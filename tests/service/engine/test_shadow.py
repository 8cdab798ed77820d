"""The shadow check against an encoder that looks at its neighbours, one that fails, and clean ones."""

from __future__ import annotations

import logging
import threading

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from service.engine.shadow import MAX_FRAMES, TOLERANCE, Features, Frames, Scores, Shadow, ShadowSample
from tests.server import wait_until

SHAPE = (8, 8, 3)


def clean(frames: Frames) -> Features:
    """(N, 3): the mean of each channel, of each frame alone."""
    means: Features = frames.mean(axis=(1, 2)).astype(np.float32)
    return means


def leaking(frames: Frames) -> Features:
    """A hundredth of the batch's mean in each: what a batch norm left in training mode does."""
    own = clean(frames)
    mixed: Features = own + np.float32(0.01) * (own.mean(axis=0) - own)
    return mixed


def score(features: Features, ticks: NDArray[np.int64]) -> Scores:
    """(3,): shares of the channels over all ticks, the brighter ones counting more."""
    total = (np.repeat(features, ticks, axis=0) ** 2).sum(axis=0)
    shares: Scores = total / total.sum()
    return shares


def frames_of(num_frames: int, seed: int = 0) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (num_frames, *SHAPE), dtype=np.uint8)


def ones(num_frames: int) -> NDArray[np.int64]:
    return np.ones(num_frames, np.int64)


def sampled(encode_batch: object, num_frames: int, *, chunk: int = 16) -> ShadowSample:
    """A clip as the pipeline feeds it: all frames of a chunk are in one batch."""
    assert callable(encode_batch)
    sample = ShadowSample(encode_batch)
    features = []
    for at in range(0, num_frames, chunk):
        frames = frames_of(min(chunk, num_frames - at), seed=at)
        sample.add_frames(frames)
        features.append(encode_batch(frames))
        frames[:] = 0  # as shared memory is written again
        sample.add_features(features[-1], ones(len(frames)))
    sample.add_scores(score, score(np.concatenate(features), ones(num_frames)))
    return sample


@pytest.mark.parametrize("num_frames", [1, 16, 40, MAX_FRAMES, MAX_FRAMES + 1, 200])
def test_a_clean_encoder_is_found_clean(num_frames: int) -> None:
    difference = sampled(clean, num_frames).difference()
    assert difference
    assert (difference.features, difference.scores) == (0.0, 0.0)


@pytest.mark.parametrize("num_frames", [16, MAX_FRAMES, 200])
def test_an_encoder_that_looks_at_its_neighbours_is_found(num_frames: int) -> None:
    difference = sampled(leaking, num_frames).difference()
    assert difference
    assert difference.features > TOLERANCE
    assert difference.scores > 0.0


def test_a_head_that_looks_at_its_neighbours_is_found() -> None:
    sample = sampled(clean, 16)
    sample.add_scores(score, np.array([0.5, 0.25, 0.25]))
    difference = sample.difference()
    assert difference
    assert difference.features == 0.0
    assert difference.scores > 0.1


def test_no_more_than_the_start_is_held() -> None:
    sample = ShadowSample(clean)
    for _ in range(50):
        sample.add_frames(frames_of(16))
        sample.add_features(np.zeros((16, 3), np.float32), ones(16))
    held = [array for part in vars(sample).values() if isinstance(part, list) for array in part]
    assert sum(len(array) for array in held) == 3 * MAX_FRAMES


def test_a_frame_that_serves_several_ticks_counts_as_often() -> None:
    sample = ShadowSample(clean)
    frames, ticks = frames_of(3), np.array([1, 5, 2])
    sample.add_frames(frames)
    sample.add_features(clean(frames), ticks)
    sample.add_scores(score, score(clean(frames), ticks))
    difference = sample.difference()
    assert difference
    assert difference.scores == 0.0


def test_what_is_no_number_is_the_largest_difference() -> None:
    sample = ShadowSample(clean)
    sample.add_frames(frames_of(1))
    sample.add_features(np.full((1, 3), np.nan, np.float32), ones(1))
    with np.errstate(invalid="ignore"):
        difference = sample.difference()
    assert difference
    assert difference.features > TOLERANCE


def test_one_in_n_is_sampled() -> None:
    shadow = Shadow(one_in=3)
    try:
        assert [shadow.sample(clean) is not None for _ in range(9)] == [False, False, True] * 3
    finally:
        shadow.close()


def test_none_is_sampled_by_default() -> None:
    shadow = Shadow(one_in=0)
    assert not any(shadow.sample(clean) for _ in range(9))
    shadow.close()


def checks() -> float:
    return REGISTRY.get_sample_value("reelserve_shadow_checks_total") or 0.0


def largest(part: str) -> float:
    return REGISTRY.get_sample_value("reelserve_shadow_difference_max", {"part": part}) or 0.0


def test_what_it_finds_is_in_the_metrics_and_the_log(caplog: pytest.LogCaptureFixture) -> None:
    shadow = Shadow(one_in=1)
    try:
        for encode, warned in ((clean, False), (leaking, True), (clean, True)):
            before = checks()
            shadow.check(sampled(encode, 40))
            wait_until(lambda before=before: checks() == before + 1, "a check")  # type: ignore[misc]
            assert ("computed alone" in caplog.text) == warned
            assert (largest("features") > TOLERANCE) == warned, "the largest so far stays"
    finally:
        shadow.close()


def test_a_failing_encoder_fails_no_request_and_not_the_next_check(caplog: pytest.LogCaptureFixture) -> None:
    def failing(frames: Frames) -> Features:
        if len(frames) == 1:
            raise RuntimeError("no device")
        return clean(frames)

    shadow = Shadow(one_in=1)
    try:
        before = checks()
        shadow.check(sampled(failing, 40))
        wait_until(lambda: "a shadow check failed" in caplog.text, "the failure in the log")
        shadow.check(sampled(clean, 40))
        wait_until(lambda: checks() == before + 1, "the next check")
    finally:
        shadow.close()


def test_what_comes_while_it_is_busy_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "service.engine.shadow")
    started, go_on = threading.Event(), threading.Event()

    def waiting(frames: Frames) -> Features:
        if len(frames) == 1:
            started.set()
            go_on.wait()
        return clean(frames)

    shadow = Shadow(one_in=1)
    try:
        before = checks()
        shadow.check(sampled(waiting, 4, chunk=2))
        started.wait()
        for _ in range(5):
            shadow.check(sampled(clean, 4))
        assert caplog.text.count("left out") == 4
        go_on.set()
        wait_until(lambda: checks() == before + 2, "both checks")
    finally:
        go_on.set()
        shadow.close()


def test_closing_stops_between_two_frames() -> None:
    seen: list[int] = []
    started, go_on = threading.Event(), threading.Event()

    def counting(frames: Frames) -> Features:
        if len(frames) == 1:
            seen.append(1)
            started.set()
            go_on.wait()
        return clean(frames)

    shadow = Shadow(one_in=1)
    shadow.check(sampled(counting, 40))
    started.wait()
    shadow.check(sampled(counting, 40))
    closing = threading.Thread(target=shadow.close)
    closing.start()
    wait_until(shadow._stopping.is_set, "the order to stop")
    go_on.set()
    closing.join()
    assert len(seen) == 1
