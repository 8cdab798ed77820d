"""Our own model `shots` on films, as a batch serves it: `python -m tests.bench.peers.reelserve_shots < paths`.

In the development environment, on one thread of the encoder and one decoder. Runs shorter than two frames go to a
neighbour (`min_segment_seconds` of an answer; chosen on validation groups). Prints a row of JSON a film: path, seconds
of CPU with those of the decode processes, spans (start, stop in frames; kind).
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import psutil

from service.answers import AnswerOptions
from service.pipeline import ClipRequest
from service.serving import Serving
from service.settings import Settings

MODEL = "shots"
_OPTIONS = AnswerOptions(min_segment_seconds=0.05)


def spans(serving: Serving, path: Path) -> list[tuple[int, int, str]]:
    """Its segments but those of no transition, in frames."""
    request = ClipRequest(path, hashlib.sha256(path.read_bytes()).hexdigest(), _OPTIONS)
    model = serving.model(MODEL)
    [found] = serving.predict(request, [model])
    # Every frame is a tick, and films have one rate.
    rate = found.receipt.ticks / found.receipt.duration_seconds
    return [
        (round(each.start_seconds * rate), round(each.end_seconds * rate), each.label)
        for each in found.segments
        if each.label != "none"
    ]


def cpu_seconds() -> float:
    """Of this process and all that it began, those that have ended too."""
    own = psutil.Process()
    return sum(sum(each.cpu_times()[:4]) for each in (own, *own.children(recursive=True)))


def main() -> None:
    """Read paths from standard input, one a line."""
    settings = Settings(
        models=MODEL, default_model=MODEL, encoder_threads=1, max_clips_decoding=1, feature_cache_bytes=0
    )
    serving = Serving(settings)
    serving.load()
    try:
        for path in sys.stdin.read().splitlines():
            before = cpu_seconds()
            found = spans(serving, Path(path))
            print(json.dumps({"path": path, "seconds": cpu_seconds() - before, "spans": found}), flush=True)
    finally:
        serving.close()


if __name__ == "__main__":
    main()
