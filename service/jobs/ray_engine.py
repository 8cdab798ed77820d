"""`batch --engine ray`: a batch on many machines, or on all cores of this one, by Ray Data.

Items → `Decode` (actors on CPUs) → `Score` (actors with a GPU each where there are any) → `Join` → rows, which are
recorded here. Ray Data streams: what is decoded and not scored yet is bounded by its object store.
"""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict

from service.errors import EngineFailed, ReelserveError
from service.jobs.errors import BadInput
from service.jobs.items import Item, Row
from service.jobs.ray_stages import Decode, Join, Score, Task
from service.jobs.remote import is_url
from service.jobs.sink import Sink
from service.names import path_of, written
from service.settings import ROOT

# Of what a machine has, actors take three quarters: Ray Data hangs where they take all (ray#44687).
_DECODE_CPUS, _SCORE_CPUS, _JOIN_CPUS = 0.25, 0.4, 0.1
_SCORED_TOGETHER = 8
_BLOCK_ITEMS = 4
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what it says on stderr is of no use to who runs a batch
}
_NOT_SENT = [".git", ".venv*", "runs", ".features", "tests", "**/__pycache__"]


def run_ray(
    items: Iterable[Item],
    task: Task,
    sink: Sink,
    *,
    address: str | None,
    stop: threading.Event,
    told: Callable[[Row], None],
) -> None:
    """Rows of all items into the sink. address: of a cluster that this machine is of, `auto` or `host:port`; None
    starts one here. Paths of files are those of every machine of the cluster.

    Raises BadInput where Ray is not installed or the cluster can't be reached, and EngineFailed for what ends a stage.
    """
    os.environ.update({name: value for name, value in _ENVIRONMENT.items() if name not in os.environ})
    if address is None:  # else Ray leaves a token in the home directory
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise BadInput("--engine ray needs Ray: make -B install-serve LOCK=requirements/serve-ray.txt") from error
    try:
        ray.init(
            address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
            runtime_env={"working_dir": str(ROOT), "excludes": _NOT_SENT} if address else None,
        )  # fmt: skip
    except ConnectionError as error:
        remedy = "a cluster with a token wants RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or ~/.ray/auth_token"
        raise BadInput(f"--address {address}: {error}; {remedy}", value=address) from error
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        cpus, gpus = resources.get("CPU", 1.0), int(resources.get("GPU", 0))
        waiting = [{"item": json.dumps(asdict(item)), "path": _place(item.location)} for item in items]
        if not waiting:
            return
        rows = (
            ray.data.from_items(waiting, override_num_blocks=math.ceil(len(waiting) / _BLOCK_ITEMS))
            .map_batches(
                Decode, batch_size=1, fn_constructor_args=(task,), num_cpus=_DECODE_CPUS,
                compute=ray.data.ActorPoolStrategy(size=max(1, int(cpus))),
            )
            .map_batches(
                Score, batch_size=_SCORED_TOGETHER, fn_constructor_args=(task,),
                compute=ray.data.ActorPoolStrategy(size=gpus or 1),
                **({"num_gpus": 1} if gpus else {"num_cpus": _SCORE_CPUS}),
            )
            .map_batches(
                Join, batch_size=None, fn_constructor_args=(task,), num_cpus=_JOIN_CPUS,
                compute=ray.data.ActorPoolStrategy(size=1),
            )
        )  # fmt: skip
        for found in rows.iter_rows():
            row = Row.model_validate_json(found["row"])
            sink.append(row)
            told(row)
            if stop.is_set():
                return
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, ReelserveError):  # of a stage, DiskFull for one
            raise cause from error
        raise EngineFailed(f"Ray ended the batch: {str(cause or error).strip().splitlines()[-1]}") from error
    finally:
        ray.shutdown()


def _place(uri: str) -> str:
    """Actors of a cluster have other working directories; of a URL it says all."""
    return "" if is_url(uri) else written(path_of(uri).absolute())
