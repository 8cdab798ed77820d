from __future__ import annotations

import threading
from pathlib import Path
from queue import Full, Queue

import numpy as np
import pytest

from models.data import decode_ahead as module
from models.data.decode_ahead import FAULTS_OF_FILES, decode_ahead
from service.video.spec import ClipSpec
from tests.drawn import draw

SPEC = ClipSpec(sample_fps=25, frame_height=32, frame_width=32)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve; the second is broken."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [draw(folder / f"{number}.mp4", num_frames=20 + number, width=64, height=64).path for number in range(12)]
    paths[1].write_text("not a video")
    return paths


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_clips_come_in_order_with_their_own_errors(clips: list[Path]) -> None:
    counts = {}
    with decode_ahead(clips, SPEC, 4) as decoding:
        for clip in decoding:
            try:
                counts[clip.path] = sum(int(batch.ticks.sum()) for batch in clip.batches())
                assert clip.report().frames_walked == counts[clip.path]
            except FAULTS_OF_FILES:
                counts[clip.path] = -1
    assert counts == {path: -1 if number == 1 else 20 + number for number, path in enumerate(clips)}
    assert workers() == []


def test_memory_is_bounded_while_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips of 300 frames: what waits is a few batches of a few clips, whatever there is to decode."""
    paths = [draw(tmp_path / f"{number}.mp4", num_frames=300, width=64, height=64).path for number in range(6)]
    monkeypatch.setattr(module, "_MOST_CLIPS", 2)
    full = threading.Event()
    queues = []

    class Watched(Queue[object]):
        def __init__(self, most: int) -> None:
            super().__init__(most)
            queues.append(self)

        def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
            try:
                super().put(item, block, timeout)
            except Full:
                full.set()
                raise

    monkeypatch.setattr(module, "Queue", Watched)
    with decode_ahead(paths, SPEC, 4) as decoding:
        first = next(decoding)
        assert full.wait(60)  # a decoder has met the bound
        assert len(queues) <= 3
        assert sum(queue.qsize() for queue in queues) <= 3 * module._MOST_BATCHES
        frames = np.concatenate([batch.frames for batch in first.batches()])
        assert len(frames) == 300
    assert workers() == []


def test_leaving_early_ends_all_decoding(clips: list[Path]) -> None:
    def interrupted() -> None:
        with decode_ahead(clips, SPEC, 4) as decoding:
            next(decoding)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert workers() == []
