"""What does the items of a batch: this process, or Ray."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Protocol, Self

from service.answers import spec_with
from service.jobs.errors import BadInput
from service.jobs.items import Item, Row
from service.jobs.job import Options
from service.jobs.predictor import Predictor
from service.jobs.ray_stages import Task
from service.jobs.remote import Remote
from service.jobs.runner import run
from service.jobs.sink import Sink
from service.registry import Registry
from service.serving import Serving
from service.settings import ROOT, Settings

Told = Callable[[Row], None]
_REACH_SECONDS = 5.0


class Engine(Protocol):
    """A context manager; entering raises what is wrong with the model and with the options for it.

    model_sha256: of its bundle, once entered.
    """

    model_sha256: str

    def run(self, items: Iterable[Item], sink: Sink, stop: threading.Event, told: Told) -> None:
        """Rows of all items into the sink, until `stop` is set. Raises what ends the batch."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class LocalEngine:
    """This process: models in memory, and as many items at once as keep the cores busy."""

    model_sha256: str

    def __init__(self, settings: Settings, model: str | None, options: Options, remote: Remote) -> None:
        self._settings = settings
        self._name = model
        self._options = options
        self._remote = remote
        self._serving = Serving(settings.loading(model))

    def __enter__(self) -> Self:
        try:
            self._serving.load()
            self._model = self._serving.model(self._name)
            spec_with(self._model.document.spec, self._options.answer)
        except BaseException:
            self._serving.close()
            raise
        self.model_sha256 = self._model.sha256
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.close()

    def run(self, items: Iterable[Item], sink: Sink, stop: threading.Event, told: Told) -> None:
        """As `runner.run`."""
        predict = Predictor(self._serving, self._model, self._remote, self._options, cancelled=stop)
        workers = 2 * self._settings.max_clips_in_progress  # half of them read their file, or wait for its copy
        run(items, predict, sink, workers=workers, stop=stop, told=told)


class RayEngine:
    """Actors of Ray Data, here or on a cluster."""

    model_sha256: str

    def __init__(
        self,
        settings: Settings,
        model: str | None,
        options: Options,
        allowed: tuple[str, ...] | None,
        address: str | None,
    ) -> None:
        self._settings = settings
        self._name = model
        self._options = options
        self._allowed = allowed
        self._address = address

    def __enter__(self) -> Self:
        settings = self._settings
        if self._address not in (None, "auto"):
            _check_reachable(str(self._address))
        registry = Registry.of(settings)
        registry.scan()
        bundle = registry.get(self._name)
        self.model_sha256 = bundle.sha256
        spec_with(bundle.model.spec, self._options.answer)
        # No stage needs these, and all of them would be sent to all machines.
        settings = settings.model_copy(update=dict.fromkeys(("secret_key", "jobs_url", "job_webhook_secret")))
        if settings.models_dir.is_relative_to(ROOT):
            settings = settings.model_copy(update={"models_dir": settings.models_dir.relative_to(ROOT)})
        settings = settings.loading(bundle.model.name)
        self._task = Task(settings, bundle.model.name, bundle.model.spec, self._options, self._allowed)
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held between runs."""

    def run(self, items: Iterable[Item], sink: Sink, stop: threading.Event, told: Told) -> None:
        """As `run_ray`."""
        from service.jobs.ray_engine import run_ray

        run_ray(items, self._task, sink, address=self._address, stop=stop, told=told)


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes. Raises BadInput."""
    if address.startswith("ray://"):
        raise BadInput(
            f"--address {address}: Ray Data can't be driven by a client of Ray; run this on a machine of the cluster, "
            "with --address auto",
            value=address,
        )
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _REACH_SECONDS).close()
    except (OSError, ValueError) as error:
        raise BadInput(
            f"--address {address}: {error}; give auto, or HOST:PORT of a cluster's head", value=address
        ) from error
