"""The limit: cores ÷ (CPU seconds to decode + encode + head one clip), each measured alone, one thread, no server.

What a server would reach whose own work costs nothing and whose cores never wait. Run:
`python -m tests.bench limit [--clips N] [--seconds S] [--runtimes onnxruntime-cpu,openvino-cpu,openvino-cpu-bf16]`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.settings import available_cores
from tests.bench.load import Clip, clips_of, in_passes
from tests.bench.peers.clip_model import Array, ClipModel, Engine, decode
from tests.bench.peers.onnx_engine import OnnxEngine
from tests.bench.report import finish, parser
from tests.zoo import TRAINED, TRAINED_ENCODER

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH_FRAMES = 4  # the fastest on one thread of a CPU, see FIELD-NOTES; larger ones leave the cache
_BEGIN_SECONDS = 0.5
ONNX, OPENVINO, OPENVINO_BF16 = "onnxruntime-cpu", "openvino-cpu", "openvino-cpu-bf16"


@dataclass(frozen=True)
class Cost:
    """CPU seconds of `clips` clips with `ticks` ticks."""

    clips: int
    ticks: int
    decode_seconds: float
    encode_seconds: float
    head_seconds: float

    @classmethod
    def sum(cls, costs: Sequence[Cost]) -> Cost:
        """Of several."""
        return cls(
            sum(cost.clips for cost in costs),
            sum(cost.ticks for cost in costs),
            sum(cost.decode_seconds for cost in costs),
            sum(cost.encode_seconds for cost in costs),
            sum(cost.head_seconds for cost in costs),
        )

    @property
    def seconds(self) -> float:
        """All three."""
        return self.decode_seconds + self.encode_seconds + self.head_seconds

    def ticks_per_second(self, cores: int) -> float:
        """What so many cores could do."""
        return cores * self.ticks / self.seconds


class Limit:
    """One clip's work in this process on one thread, without a server around it."""

    def __init__(self, runtime: str = ONNX) -> None:
        """runtime: one of the names above."""
        cv2.setNumThreads(1)
        self.runtime = runtime
        self._model = ClipModel(_ENGINES[runtime](), BATCH_FRAMES)

    def scores(self, clip: Clip) -> dict[str, float]:
        """What every server must answer, near enough."""
        return {best.label: best.score for best in self._run(clip.path)[1]}

    def scored(self, path: Path) -> int:
        """Do a clip; returns its ticks."""
        return self._run(path)[0].ticks

    def ticks(self, clip: Clip) -> int:
        """How many samples the grid has in it."""
        return int(decode(clip.path, self._model.spec).ticks.sum())

    def measure(self, clips: Iterable[Clip], seconds: float) -> Cost:
        """Go through clips until `seconds` of wall time are over."""
        until = time.perf_counter() + seconds
        costs = []
        for clip in clips:
            costs.append(self._run(clip.path)[0])
            if time.perf_counter() > until:
                break
        return Cost.sum(costs)

    def _run(self, path: Path) -> tuple[Cost, list[Any]]:
        at = [time.process_time()]
        clip = decode(path, self._model.spec)
        at.append(time.process_time())
        features = self._model.encode(clip.frames)
        at.append(time.process_time())
        best = self._model.best(np.repeat(features, clip.ticks, axis=0))
        at.append(time.process_time())
        return Cost(1, int(clip.ticks.sum()), *np.diff(at).tolist()), best


class AllCores:
    """The limit's loop in a process a core, at the same time.

    Cores that are all busy share caches, memory and clock: what they give together is less than the limit, which is
    measured alone, and no server's doing. A context manager.
    """

    def __init__(self, runtime: str, cores: int) -> None:
        self._cores = cores
        self._pool = ProcessPoolExecutor(cores, get_context("spawn"), initializer=_begin, initargs=(runtime,))

    def __enter__(self) -> AllCores:
        self.ticks_per_second([], 0.0)  # now, and not in a slice of somebody's
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def ticks_per_second(self, paths: Sequence[Path], seconds: float) -> float:
        """Of all together; each goes through the paths from a place of its own."""
        step = max(1, len(paths) // self._cores)
        orders = [[*paths[at * step :], *paths[: at * step]] for at in range(self._cores)]
        return sum(self._pool.map(_loop, orders, [seconds] * self._cores))


_alone: Limit


def _begin(runtime: str) -> None:
    """In a process of `AllCores`."""
    global _alone
    _alone = Limit(runtime)


def _loop(paths: Sequence[Path], seconds: float) -> float:
    """Ticks a second of wall time; 0 where there is nothing to do but to begin."""
    if not paths:
        time.sleep(_BEGIN_SECONDS)  # so that each process takes one of these
        return 0.0
    started, ticks = time.perf_counter(), 0
    for path in itertools.cycle(paths):
        ticks += _alone.scored(path)
        if time.perf_counter() - started > seconds:
            break
    return ticks / (time.perf_counter() - started)


def _onnx() -> Engine:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return OnnxEngine(TRAINED_ENCODER / "encoder.onnx", TRAINED / "head.onnx", options)


class _OpenVino(OnnxEngine):
    """The encoder on OpenVINO, one thread; heads run on ONNX Runtime, as in the service."""

    def __init__(self, precision: str) -> None:
        import openvino as ov

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        super().__init__(TRAINED_ENCODER / "encoder.onnx", TRAINED / "head.onnx", options)
        hints = {
            "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,  # or the processes of `AllCores` would all be on the first core
        }  # fmt: skip
        self._request = (
            ov.Core().compile_model(str(TRAINED_ENCODER / "encoder.onnx"), "CPU", hints).create_infer_request()
        )

    def encode(self, frames: NDArray[np.uint8]) -> Array:
        return np.array(self._request.infer([np.ascontiguousarray(frames)])[0], np.float32)


_ENGINES: dict[str, Callable[[], Engine]] = {
    ONNX: _onnx,
    OPENVINO: lambda: _OpenVino("f32"),
    OPENVINO_BF16: lambda: _OpenVino("bf16"),
}


@dataclass(frozen=True)
class Result:
    """One runtime's. ms per average clip of one thread's CPU time."""

    runtime: str
    cores: int
    clips: int
    ticks_per_clip: float
    decode_ms: float
    encode_ms: float
    head_ms: float
    clips_per_second: float


def result_of(runtime: str, cost: Cost) -> Result:
    """Per clip, and what the cores of this machine could do."""
    each = 1e3 / cost.clips
    return Result(
        runtime, available_cores(), cost.clips, cost.ticks / cost.clips, cost.decode_seconds * each,
        cost.encode_seconds * each, cost.head_seconds * each, available_cores() * cost.clips / cost.seconds,
    )  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Print and write the limit of each runtime."""
    flags = parser("limit", __doc__)
    flags.add_argument("--clips", type=int, default=64)
    flags.add_argument("--seconds", type=float, default=20)
    flags.add_argument("--runtimes", default=ONNX)
    options = flags.parse_args(arguments)
    clips = clips_of(options.data, options.seed, options.clips)
    seconds = 1 if options.quick else options.seconds
    results = []
    for runtime in options.runtimes.split(","):
        limit = Limit(runtime)
        limit.measure(clips[:1], 0)  # first runs allocate
        result = result_of(runtime, limit.measure(in_passes(clips, options.seed), seconds))
        print(result)
        results.append(result)
    finish("limit", results, options)
