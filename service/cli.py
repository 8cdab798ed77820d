"""serve | predict | batch | probe | models. Settings are flags of `serve` and environment variables of all."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track
from rich.table import Column, Table

from service.errors import BadParameter, NoFile, ReelserveError
from service.flags import Once, check_flags, flags_of
from service.jobs.command import batch
from service.model_errors import UnknownModel
from service.names import utf8_path, written
from service.parameters import PredictParameters, ProbeParameters
from service.results import LabelScore, Prediction
from service.settings import MIB, Settings
from service.terminal import complain, err, out, plain, read_settings, say, warn
from service.wording import as_flag

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Reelserve: clips in, labels with scores and times out."
)


app.command(cls=Once)(batch)


@app.callback()
def main() -> None:
    """Reelserve: clips in, labels with scores and times out."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal of few letters shows the others as escapes
        sys.stdout.reconfigure(errors="backslashreplace")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False,
)  # fmt: skip
def serve(context: typer.Context) -> None:
    """Start the HTTP service. Every setting is a flag: --port 8080 (see serve --help)."""
    # pydantic-settings makes a flag of each setting, with its documentation line.
    try:
        check_flags(context.args, [*map(as_flag, Settings.model_fields), "--reelserve-port", "--help"])
    except BadParameter as error:
        complain(error)
        raise typer.Exit(2) from error
    settings = read_settings(cli_args=context.args)
    _check_models(settings)
    arguments = [
        sys.executable, "-m", "bentoml", "serve", "service.app:VideoService",
        "--host", settings.host, "--port", str(settings.port),
        "--timeout-graceful-shutdown", str(settings.shutdown_seconds),
    ]  # fmt: skip
    environment = {**os.environ, **settings.to_environment(), "BENTOML_DO_NOT_TRACK": "True"}
    os.execve(sys.executable, arguments, environment)  # noqa: S606  (no shell; this process becomes the server)


@app.command(cls=Once)
@flags_of(PredictParameters, top_k=3)  # a table is read by people
def predict(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Video files.", metavar="FILE…")],
    asked: PredictParameters,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")] = False,
) -> None:
    """Classify files in this process: the same pipeline as the server. Exit code 1 when a file failed."""
    from service.answers import spec_with
    from service.bundle import file_sha256
    from service.pipeline import ClipRequest
    from service.serving import Serving

    serving = Serving(read_settings().loading(asked.model))
    context.call_on_close(serving.close)  # whatever happens: it has threads and processes
    try:
        serving.load()
        loaded, options = serving.model(asked.model), asked.options()
        spec_with(loaded.document.spec, options)
    except ReelserveError as error:
        complain(error)
        raise typer.Exit(2) from error
    # Folded, not cut: files of one folder differ at the end.
    file_column, words_column = Column("file", overflow="fold"), Column("segments", overflow="fold")
    title = f"{loaded.name.name} {loaded.name.version}"
    table = Table(file_column, "label", "score", "seconds", "frames", words_column, title=plain(title))
    warnings: list[str] = []
    failed = 0
    for file in track(files, "predicting", console=err, transient=True, disable=as_json or not err.is_terminal):
        try:
            with _named(file) as path:
                request = ClipRequest(
                    path, file_sha256(path), options, start_seconds=asked.start_seconds,
                    end_seconds=math.inf if asked.end_seconds is None else asked.end_seconds,
                    stream=asked.stream, strict=asked.strict,
                )  # fmt: skip
                [answer] = serving.predict(request, [loaded])
        except ReelserveError as error:
            failed += 1
            if as_json:
                print(json.dumps({"file": written(file), "code": error.code, "detail": error.detail}))  # noqa: T201
            else:
                table.add_row(plain(file), plain(error.code, "red"), "", "", "", plain(error.detail))
            continue
        if as_json:
            print(json.dumps({"file": written(file), **answer.model_dump(mode="json")}))  # noqa: T201
        else:
            _add(table, file, answer)
            warnings += [f"{file}: {each}" for each in answer.warnings]
    if not as_json:
        out.print(table)
    for warning in warnings:  # below the table, whole
        warn(warning)
    if failed:
        say(f"{failed} of {len(files)} files failed")
        raise typer.Exit(1)


@app.command(cls=Once)
@flags_of(ProbeParameters)
def probe(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Video files.", metavar="FILE…")],
    asked: ProbeParameters,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")] = False,
) -> None:
    """Say what files really are, what a prediction would cost, what is wrong, and which ffmpeg line mends it.

    Exit code 1 when a prediction would refuse a file. No model is loaded, nothing is inferred.
    """
    from service.probe_report import report
    from service.probing import examine
    from service.registry import Registry
    from service.video.mending import mended_name
    from service.video.pool import DecodePool

    settings = read_settings()
    registry = Registry.of(settings)
    try:
        registry.scan()
        none = asked.model is None and not registry.bundles and not registry.refused
        document = None if none else registry.get(asked.model).model
        pool = context.with_resource(DecodePool(1, settings.decode_limits()))
    except ReelserveError as error:
        complain(error)
        raise typer.Exit(2) from error
    failed = 0
    for file in files:
        try:
            with _named(file) as path:
                facts = pool.probe(path, full=asked.full, stream=asked.stream)
        except ReelserveError as error:
            failed += 1
            if as_json:
                print(json.dumps({"file": written(file), "code": error.code, "detail": error.detail}))  # noqa: T201
            else:
                report(out, file, error)
            continue
        answer = examine(facts, pool.limits, document, source=str(file), target=mended_name(file))
        failed += answer.refused
        if as_json:
            print(json.dumps({"file": written(file), **answer.model_dump(mode="json")}))  # noqa: T201
        else:
            report(out, file, answer)
    if failed:
        say(f"{failed} of {len(files)} files would be refused")
        raise typer.Exit(1)


@app.command(cls=Once)
def models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")] = False,
) -> None:
    """List models: which of them `serve` loads by these settings, and what each takes on disk and in memory.

    No model is loaded: memory is as expected, for an encoder once for all models on it. What a running service has is
    in its /v1/models.
    """
    from service.listing import lines_of
    from service.serving import Serving

    serving = Serving(read_settings())
    context.call_on_close(serving.close)
    registry, loads, problem = serving.registry, set[str](), None
    try:
        registry.scan()
        loads = {bundle.model.name for bundle in registry.to_load()}
    except BadParameter as error:  # several, and none is the default: they are listed all the same
        problem = error
    except ReelserveError as error:
        complain(error)
        raise typer.Exit(2) from error
    names = ("disk MiB", "head MiB", "encoder MiB")
    columns = [Column(name, overflow="fold") for name in ("model", "loads", *names, "encoder, or why not")]
    table = Table(*columns, title=plain(f"as serve loads them from {registry.models_dir}; memory as expected"))
    for line in lines_of(serving):
        loaded = "refused" if line.status == "refused" else "yes" if line.name in loads else "no"
        if as_json:
            said = line.model_dump(mode="json", exclude={"status", "runtime", "precision", "encoder_loaded"})
            reason = None if loaded == "yes" else line.reason
            print(json.dumps({**said, "loads": loaded, "reason": reason}))  # noqa: T201
            continue
        sizes = [line.disk_bytes, line.head_memory_bytes, line.encoder_memory_bytes]
        cells = ["" if size is None else f"{size / MIB:.1f}" for size in sizes]
        note = (line.reason if loaded == "refused" else line.encoder) or ""
        which = "default" if loaded == "yes" and line.name == registry.default() else loaded
        table.add_row(*map(plain, (f"{line.name} {line.version}", which, *cells, note)))
    if not as_json:
        out.print(table)
    if problem:
        complain(problem)
        raise typer.Exit(2)


def _check_models(settings: Settings) -> None:
    """Before the server starts, as far as folders' names tell: a name that no model has is a line, and exit code 2."""
    from service.registry import Registry

    if not settings.models or settings.bento_model is not None or not settings.models_dir.is_dir():
        return  # what there is is known only later
    try:
        Registry.of(settings).find()
    except UnknownModel as error:
        complain(UnknownModel(f"the setting models: {error.detail}"))
        raise typer.Exit(2) from error


@contextmanager
def _named(file: Path) -> Iterator[Path]:
    """What is to be read. Raises NoFile for what is no file, or can't be read."""
    try:
        if not file.is_file():
            raise NoFile(f"{written(file)} is not a file")
        file.open("rb").close()
    except (OSError, ValueError) as error:
        raise NoFile(f"{written(file)} can't be read: {getattr(error, 'strerror', None) or error}") from error
    with utf8_path(file) as path:
        yield path


def _add(table: Table, file: Path, answer: Prediction) -> None:
    best, *others = answer.predictions
    if answer.abstained:
        others, best = answer.predictions, LabelScore(label="none of the labels", score=best.score)
    runs = " · ".join(f"{s.label} {s.start_seconds:g}–{s.end_seconds:g} s" for s in answer.segments)
    receipt = answer.receipt
    table.add_row(
        plain(file), plain(best.label), f"{best.score:.3f}", f"{receipt.duration_seconds:.2f}",
        f"{receipt.frames_used} of {receipt.frames_walked}", plain(runs),
    )  # fmt: skip
    for other in others:
        table.add_row("", plain(other.label, "dim"), plain(f"{other.score:.3f}", "dim"))
