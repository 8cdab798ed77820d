"""A process that does nothing but decode: each line on stdin names a clip, each answer is `FRAMES SECONDS`.

`tests.bench.decode_memory` weighs it; it imports nothing beyond the pool.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from service.video.pool import DecodePool
from service.video.spec import ClipSpec

SPEC = ClipSpec(sample_fps=8.0, frame_height=224, frame_width=224, resize="crop")


def main() -> None:
    """Until stdin ends."""
    with DecodePool(num_credits=1) as pool:
        for line in sys.stdin:
            started = time.perf_counter()
            with pool.open(Path(line.rstrip("\n")), SPEC) as clip:
                for chunk in clip.chunks():
                    chunk.release()
                walked = clip.report().frames_walked
            print(walked, time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
