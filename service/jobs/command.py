"""`python -m service batch`: files in, rows out, resumable after whatever ended it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from service.errors import Cancelled, ReelserveError
from service.flags import flags_of
from service.jobs.errors import BadInput
from service.jobs.items import Row
from service.names import written
from service.parameters import AnswerParameters
from service.terminal import complain, err, log_to_stderr, read_settings, say

_LINE_SECONDS = 10.0
_EXIT_FAILED_ITEMS = 1
_EXIT_ENDED = 2
_EXIT_INTERRUPTED = 130


class EngineName(StrEnum):
    """What runs a batch."""

    LOCAL = "local"
    RAY = "ray"


@flags_of(AnswerParameters)
def batch(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Files, folders, patterns, manifests, URLs.")],
    out: Annotated[Path, typer.Option(help="results.jsonl, .csv, or .parquet (a folder of parts).")],
    asked: AnswerParameters,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what is in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in --out.")] = False,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Only items of shard I of N, from 0.")] = "0/1",
    allow: Annotated[list[str] | None, typer.Option(metavar="PREFIX", help="URLs that may be read.")] = None,
    engine: Annotated[EngineName, typer.Option(help="This process, or Ray Data.")] = EngineName.LOCAL,
    address: Annotated[str | None, typer.Option(help="Ray: a cluster's, as auto; without it one is started.")] = None,
) -> None:
    """Classify any number of videos. Exit code 1 when items failed: each is a row with code and message.

    After an interruption of any kind, --resume does what is not recorded yet.
    """
    from service.jobs.allowed import prefixes_of
    from service.jobs.engines import LocalEngine, RayEngine
    from service.jobs.inputs import Inputs
    from service.jobs.job import Options
    from service.jobs.naming import Named
    from service.jobs.remote import Remote
    from service.jobs.runner import Shard, listed_ids, recorded_ids
    from service.jobs.sink import kind_of, open_sink
    from service.spool import Spool

    settings = read_settings()
    log_to_stderr()
    spool = Spool(settings.spool_dir, settings.spool_quota_bytes, settings.max_upload_bytes)
    allowed = None if allow is None else prefixes_of(",".join(allow))
    remote = Remote(allowed, spool)
    try:
        options = Options(asked.options(), asked.strict, asked.stream)
        own, files = Shard.parsed(shard), Inputs(inputs, remote)
        found = Named(files, settings)
        kind_of(out)
        if address is not None and engine is not EngineName.RAY:
            raise BadInput("--address is of a Ray cluster; give --engine ray too")
        with (
            _stopped_by_signals() as stop,
            listed_ids(found, own) as first,
            LocalEngine(settings, asked.model, options, remote)
            if engine is EngineName.LOCAL
            else RayEngine(settings, asked.model, options, allowed, address) as worker,
            open_sink(out, resume=resume, overwrite=overwrite, shard=(own.index, own.count)) as sink,
            # Once more, where the output was begun under a former key: its items have other names.
            listed_ids(found, own) if found.follow(row.id_text for row in sink.recorded()) else first as listed,
            recorded_ids(sink, listed, worker.model_sha256, found.check) as recorded,
            _progress(len(listed), len(recorded), recorded.num_at("error")) as progress,
        ):
            if files.passed_over:
                say(str(files.passed_over))
            spool.sweep()
            items = (each.item for each in found if each.item in own and each.item.id not in recorded)
            worker.run(items, sink, stop, progress.told)
            if stop.is_set():
                raise Cancelled("between two items")
    except Cancelled as error:
        say(f"interrupted; go on by the same command with --resume. What is done is in {written(out)}")
        raise typer.Exit(_EXIT_INTERRUPTED) from error
    except ReelserveError as error:
        complain(error)
        raise typer.Exit(_EXIT_ENDED) from error
    say(f"{progress.summary()}; {written(out)}")
    if progress.num_failed:
        say(f"{progress.num_failed} items failed: their rows have code and message")
        raise typer.Exit(_EXIT_FAILED_ITEMS)


class _Progress:
    """A bar on a terminal, a line every ten seconds elsewhere: items, clips a second, time left, failures."""

    def __init__(self, bar: Progress, total: int, num_done: int, num_failed: int) -> None:
        self.num_failed = num_failed  # of the whole output, as the exit code is
        self._bar = bar
        self._task = bar.add_task("batch", total=total, completed=num_done, rate="-", failed=num_failed)
        self._total = total
        self._num_done = num_done
        self._count = 0
        self._began = self._said = time.monotonic()

    def summary(self) -> str:
        """Of this run."""
        seconds = time.monotonic() - self._began
        return f"{self._count} items in {seconds:.1f} s, {self._count / max(seconds, 1e-9):.2f} clips/s"

    def told(self, row: Row) -> None:
        """An item was recorded."""
        self._count += 1
        self.num_failed += row.status == "error"
        now = time.monotonic()
        rate = self._count / max(now - self._began, 1e-9)
        self._bar.update(self._task, advance=1, rate=f"{rate:.2f}", failed=self.num_failed)
        if not err.is_terminal and now - self._said >= _LINE_SECONDS:
            self._said = now
            done = self._num_done + self._count
            left = (self._total - done) / rate
            err.print(f"{done} of {self._total}, {rate:.2f} clips/s, {left:.0f} s left, {self.num_failed} failed")


@contextmanager
def _progress(total: int, num_done: int, num_failed: int = 0) -> Iterator[_Progress]:
    columns = (
        TextColumn("[progress.description]{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} clips/s,"), TimeElapsedColumn(), TextColumn("gone,"), TimeRemainingColumn(),
        TextColumn("left, {task.fields[failed]} failed"),
    )  # fmt: skip
    if num_done:
        err.print(f"{num_done} of {total} are recorded already")
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        yield _Progress(bar, total, num_done, num_failed)


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Set by the first SIGINT or SIGTERM: nothing new is begun, clips in progress stop between chunks.

    The second ends the process at once; --resume goes on after that too.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  (as signal calls it)
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    stop = threading.Event()
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
