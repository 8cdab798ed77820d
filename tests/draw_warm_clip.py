"""Draw service/video/warm.mp4, the clip that warms the zygote up: `python -m tests.draw_warm_clip`."""

from __future__ import annotations

import av
import numpy as np

from service.video.zygote import _CLIP, _CLIP_FRAMES

SIDE = 64


def main() -> None:
    """H.264 with B-frames, a square that moves: every kind of prediction is in it."""
    ramp = np.arange(SIDE, dtype=np.uint8) * (256 // SIDE)
    with av.open(str(_CLIP), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "40", "bf": "2"}
        for number in range(_CLIP_FRAMES):
            frame = np.zeros((SIDE, SIDE, 3), np.uint8)
            frame[..., 0], frame[..., 1] = ramp, ramp[:, None]
            at = 4 * number % 48
            frame[at : at + 16, 8:40] = 200
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


if __name__ == "__main__":
    main()
