"""Measure what an encoder takes, into service/engine/footprint.json: `python -m tests.measure_footprint`.

The bundled model's, in a process of its own each time, as memory that was freed before is not measured again; the
median of several.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys

import onnxruntime

from service.bundle import EncoderDocument, read_document
from service.engine.batch_sizes import BatchSizes, sizes_for
from service.engine.footprint import FILE, Expectations, Load, Rates, Recorded, growth
from service.engine.sessions import choose_runtime, open_encoders
from service.registry import verify
from tests.server import ROOT
from tests.zoo import TRAINED, ZOO

_TIMES = 5
_THREADS = 2


def measure(threads: int = _THREADS) -> Rates:
    """Of one load in this process, which should have done nothing before."""
    bundle = verify(TRAINED, ZOO / "encoders")
    # Asks for the provider, which opens a session: what any first one brings is not the encoder's.
    runtime = choose_runtime(("onnxruntime-cpu",), "fp32", bundle.certificate, bundle.model)
    document = read_document(bundle.encoder_path.with_name("encoder.json"), EncoderDocument)
    sizes = sizes_for(runtime)
    with growth() as opened:
        encoders = open_encoders(
            bundle.encoder_path, document, runtime, "fp32", count=threads, max_batch_frames=sizes[-1]
        )
    with growth() as run:
        BatchSizes.timed(encoders, sizes)
    expected = Expectations()
    expected.learn(Load.of(bundle.encoder_path, document, runtime, threads * sizes[-1]), opened, run)
    return expected.rates


def measured_apart() -> Rates:
    """By a process of its own."""
    command = [sys.executable, "-m", "tests.measure_footprint", "--once"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return Rates.model_validate_json(done.stdout)


def main() -> None:
    """Write the file, and say what is in it."""
    every = [measured_apart() for _ in range(_TIMES)]
    rates = Rates(
        graph=round(statistics.median(each.graph for each in every), 2),
        pixel=round(statistics.median(each.pixel for each in every), 1),
    )
    recorded = Recorded(
        model=f"{TRAINED.parent.name} {TRAINED.name}", runtime="onnxruntime-cpu", onnxruntime=onnxruntime.__version__,
        machine=f"{platform.system()} {platform.machine()}", encoder_threads=_THREADS,
        batch_frames=sizes_for("onnxruntime-cpu")[-1], rates=rates,
    )  # fmt: skip
    FILE.write_text(json.dumps(recorded.model_dump(), indent=1) + "\n", encoding="utf-8")
    print(f"{rates}, of {_TIMES}: {', '.join(f'({each})' for each in every)}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--once"]:
        print(measure().model_dump_json())
    else:
        main()
