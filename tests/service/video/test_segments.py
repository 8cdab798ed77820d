"""Shared segments: sealed, without a name, and handed round."""

from __future__ import annotations

import gc
import mmap
import os

import numpy as np
import pytest

from service.video.segments import Segments
from tests.decoders import open_descriptors

SHAPE = (4, 8, 8, 3)


def test_what_a_decoder_writes_is_read_without_a_copy() -> None:
    segments = Segments(2, SHAPE)
    theirs = np.frombuffer(mmap.mmap(segments.descriptors[1], 0), np.uint8).reshape(SHAPE)
    theirs[2] = 7
    assert (segments.frames(1)[2] == 7).all()
    assert (segments.frames(0) == 0).all()
    assert not segments.frames(1).flags.writeable
    segments.close()


@pytest.mark.parametrize("num_bytes", [0, 1, 1 << 20])
def test_a_decoder_can_not_resize_them(num_bytes: int) -> None:
    """A segment that shrank would end the service with SIGBUS; one that grew would take its memory."""
    segments = Segments(1, SHAPE)
    with pytest.raises(PermissionError):
        os.ftruncate(segments.descriptors[0], num_bytes)
    segments.close()


def test_each_is_taken_once_and_given_back() -> None:
    segments = Segments(2, SHAPE)
    taken = {segments.take(), segments.take()}
    assert taken == {0, 1}
    with pytest.raises(RuntimeError, match="release"):
        segments.take()
    segments.give_back(1)
    assert segments.take() == 1
    segments.close()


def test_nothing_stays_open_and_what_is_held_stays_readable() -> None:
    gc.collect()
    before = open_descriptors("memfd:frames")
    segments = Segments(3, SHAPE)
    assert open_descriptors("memfd:frames") > before
    held = segments.frames(2)
    segments.close()
    assert held.shape == SHAPE
    assert (held == 0).all()
    del held, segments
    gc.collect()
    assert open_descriptors("memfd:frames") == before
