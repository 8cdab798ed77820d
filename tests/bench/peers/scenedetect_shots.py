"""PySceneDetect's detectors (BSD-3-Clause) on films: `python -m tests.bench.peers.scenedetect_shots NAME < paths`.

In its environment. As its documentation leads to: the defaults of each detector; `adaptive` is its command line's own.
`adaptive-threshold` has both, for cuts and for fades to black, as one may give several. Prints a row of JSON a film:
path, seconds of CPU, spans (start, stop in frames; no kind). A span is the frame that begins a scene.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping

import cv2
from scenedetect import AdaptiveDetector, ContentDetector, SceneDetector, SceneManager, ThresholdDetector, open_video

CONFIGURATIONS: Mapping[str, Callable[[], tuple[SceneDetector, ...]]] = {
    "content": lambda: (ContentDetector(),),
    "adaptive": lambda: (AdaptiveDetector(),),
    "threshold": lambda: (ThresholdDetector(),),
    "adaptive-threshold": lambda: (AdaptiveDetector(), ThresholdDetector()),
}


def spans(path: str, detectors: tuple[SceneDetector, ...]) -> list[tuple[int, int, str]]:
    """Where scenes begin, the first one's apart."""
    manager = SceneManager()
    for detector in detectors:
        manager.add_detector(detector)
    manager.detect_scenes(open_video(path))
    starts = [scene.frame_num for scene, _ in manager.get_scene_list()[1:]]
    return [(start, start + 1, "") for start in starts]


def main(name: str) -> None:
    """Read paths from standard input, one a line."""
    cv2.setNumThreads(1)
    for path in sys.stdin.read().splitlines():
        before = time.process_time()
        found = spans(path, CONFIGURATIONS[name]())
        print(json.dumps({"path": path, "seconds": time.process_time() - before, "spans": found}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
