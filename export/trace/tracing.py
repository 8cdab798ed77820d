"""PyTorch's exporters, quiet, and their failures as errors that name a module and a remedy."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import logging
import re
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import onnx
import onnx_ir as ir
import onnxscript.optimizer
import sympy  # type: ignore[import-untyped]
import torch
from onnx_ir.passes.common import LiftConstantsToInitializersPass
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from export.errors import ExportError, UnsupportedModule
from export.trace.graphs import OPSET

Exporter = Literal["dynamo", "torchscript"]
EXPORTERS: dict[Exporter, str] = {
    "dynamo": "torch.onnx.export(dynamo=True)",
    "torchscript": "torch.onnx.export(dynamo=False)",
}
# Code that is never the user's own.
_NOT_THEIRS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"), "<")


def trace(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    *,
    input_names: list[str],
    output_names: list[str],
    dynamic_shapes: tuple[Any, ...],
    what: str,
    exporter: Exporter = "dynamo",
) -> onnx.ModelProto:
    """The traced graph of `module`. Raises UnsupportedModule; `what` is the module's name in messages."""
    with _quiet(), open_modules(module, what) as opened, _watched_sizes(opened) as frozen:
        traced = None
        try:
            if exporter == "torchscript":
                return _torchscript(module, inputs, input_names, output_names, dynamic_shapes)
            with _symbolic_len(module):
                traced = torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes, strict=False)
            opened.clear()
            program = torch.onnx.export(
                traced,
                (),
                input_names=input_names,
                output_names=output_names,
                opset_version=OPSET,
                dynamo=True,
                optimize=True,
                verbose=False,
            )
        except ExportError:
            raise
        except Exception as error:  # whatever tracing user's code raises
            causes = list(_chain(error))
            for cause in causes:
                if isinstance(cause, ExportError):
                    raise cause from error
            if traced is not None:
                opened += _translated(traced, causes)
            raise _explained(causes, opened, frozen, what) from error
    if program is None:
        raise ExportError(f"the exporter returned nothing for the {what}")
    model: onnx.ModelProto = program.model_proto
    return model


def _torchscript(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    input_names: list[str],
    output_names: list[str],
    dynamic_shapes: tuple[Any, ...],
) -> onnx.ModelProto:
    """With what it leaves to compute from constants folded, and those constants as initializers."""
    buffer = io.BytesIO()
    axes = {
        name: {axis: dim.__name__ for axis, dim in dims.items()}
        for name, dims in zip(input_names, dynamic_shapes, strict=True)
    }
    axes |= dict.fromkeys(output_names, axes[input_names[0]])
    with _symbolic_len(module):
        torch.onnx.export(
            module,
            inputs,
            buffer,  # type: ignore[arg-type]
            input_names=input_names,
            output_names=output_names,
            dynamic_axes=axes,
            opset_version=OPSET,
            do_constant_folding=True,
            dynamo=False,
        )
    model = ir.from_proto(onnx.load_from_string(buffer.getvalue()))
    onnxscript.optimizer.optimize_ir(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return ir.to_proto(model)


def copied(module: nn.Module, what: str) -> nn.Module:
    """A copy in eval mode, its parametrizations (weight_norm, spectral_norm) turned into plain weights."""
    try:
        twin = copy.deepcopy(module).eval()
    except RuntimeError as error:
        raise UnsupportedModule(
            f"the {what} ({type(module).__name__})",
            f"it can't be copied: {str(error).splitlines()[0]}",
            "call torch.nn.utils.remove_weight_norm before, or use torch.nn.utils.parametrizations.weight_norm",
        ) from error
    for part in list(twin.modules()):
        if parametrize.is_parametrized(part):
            # By hand: torch's remove_parametrizations changes the class, which the original shares.
            names = list(part.parametrizations)  # type: ignore[arg-type]
            weights = {name: getattr(part, name).detach() for name in names}
            part.__class__ = parametrize.type_before_parametrizations(part)
            del part.parametrizations
            for name, values in weights.items():
                part.register_parameter(name, nn.Parameter(values))
    return twin


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters' own deprecations, progress and dumps; the certificate judges the result."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.fx")]
    levels = [logger.level for logger in loggers]
    nowhere = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        torch.no_grad(),
    ):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def _symbolic_len(traced: nn.Module) -> Iterator[None]:
    """`len` of a tensor gives its symbolic size, in the files of the traced modules' own classes.

    Python's `len` asks for a number, which freezes the graph to it. It is shadowed there only: others go by it.
    """

    def length(value: Any) -> Any:
        return value.shape[0] if isinstance(value, Tensor) and value.ndim else len(value)

    files = {sys.modules[type(part).__module__] for part in traced.modules()}
    ours = [file for file in files if not file.__name__.startswith("torch.") and "len" not in vars(file)]
    for file in ours:
        vars(file)["len"] = length
    try:
        yield
    finally:
        for file in ours:
            del vars(file)["len"]


@contextlib.contextmanager
def open_modules(module: nn.Module, what: str) -> Iterator[list[str]]:
    """The modules whose forward has begun and not ended, innermost last: after an error, where it happened."""
    opened: list[str] = []
    handles: list[RemovableHandle] = []
    for path, part in module.named_modules():
        said = f"{path.removeprefix('head.') or what} ({type(part).__name__})"
        if path in ("", "head"):
            continue
        handles.append(part.register_forward_pre_hook(functools.partial(_push, opened, said)))
        handles.append(part.register_forward_hook(functools.partial(_pop, opened)))
    try:
        yield opened
    finally:
        for handle in handles:
            handle.remove()


def _push(opened: list[str], said: str, *_: object) -> None:
    opened.append(said)


def _pop(opened: list[str], *_: object) -> None:
    opened.pop()


@contextlib.contextmanager
def _watched_sizes(opened: list[str]) -> Iterator[list[tuple[str, str]]]:
    """The module and the line where a symbolic size was held against a number: the exporter says only that it was.

    The hook is PyTorch's own; without it, a later one may have moved it, messages name no line.
    """
    found: list[tuple[str, str]] = []
    hook = getattr(ShapeEnv, "_log_guard", None)
    if hook is None:
        yield found
        return

    def watched(env: Any, prefix: str, guard: Any, **named: Any) -> None:
        if any(abs(number) > 1 for number in guard.atoms(sympy.Integer)):
            where = (opened[-1] if opened else "", _line(traceback.extract_stack()))
            found.insert(0 if isinstance(guard, sympy.Eq) else len(found), where)
        hook(env, prefix, guard, **named)

    ShapeEnv._log_guard = watched  # type: ignore[method-assign, assignment]
    try:
        yield found
    finally:
        ShapeEnv._log_guard = hook  # type: ignore[method-assign]


def _line(frames: Iterable[traceback.FrameSummary]) -> str:
    """The innermost line of the user's own code since `trace` began; empty where there is none."""
    for frame in reversed(list(frames)):
        if frame.filename == __file__ and frame.name == "trace":
            break
        if not frame.filename.startswith(_NOT_THEIRS) and frame.line:
            return f", at {Path(frame.filename).name}:{frame.lineno} `{frame.line}`"
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _translated(program: torch.export.ExportedProgram, causes: list[BaseException]) -> list[str]:
    """The module of the operation that had no translation; the exporter names the operation alone."""
    found = re.search(r"translating node %([a-z_]\w*?)(?:_\d+)? ", "\n".join(map(str, causes)))
    for node in program.graph.nodes:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        if (
            found
            and node.op == "call_function"
            and found[1] in node.name
            and stack
            and stack[-1][0] not in ("", "head")
        ):
            path, kind = stack[-1]
            name = kind if isinstance(kind, str) else kind.__name__
            return [f"{path.removeprefix('head.')} ({name.rpartition('.')[2]})"]
    return []


def _explained(
    causes: list[BaseException], opened: list[str], frozen: list[tuple[str, str]], what: str
) -> UnsupportedModule:
    """The exporter's error as ours: the innermost module at work, what happened and where, and what to do."""
    text = "\n".join(f"{type(cause).__name__}: {cause}" for cause in causes)
    own = f"the {what}'s own forward"
    module = opened[-1] if opened else own
    line = next(filter(None, (_line(traceback.extract_tb(cause.__traceback__)) for cause in reversed(causes))), "")
    if "data-dependent" in text or "DataDependent" in text or "aten._local_scalar_dense" in text:
        return UnsupportedModule(
            module,
            f"its control flow depends on the data (an `if`, a loop or an `.item()` on a tensor's values){line}",
            "compute for all frames and choose with torch.where or a mask; `lengths.cpu()` for `lengths.tolist()`",
        )
    if "specialized" in text or "ConstraintViolation" in text or "Constraints violated" in text:
        named = re.findall(r"violated \(([\w, ]+)\)", text)
        dims = sorted(set(re.findall(r"batch|time|frames", " ".join(named)))) or ["a dimension"]
        at, line = frozen[0] if frozen else ("", line)
        return UnsupportedModule(
            at or own,
            f"it fixes {' and '.join(dims)} to the size it was traced with, or to a range of sizes{line} (a Python "
            "loop over frames, `int()` of a shape, an `if` on it, or a table of that length)",
            "use tensor operations on the whole sequence, or nn.RNN, nn.LSTM, nn.GRU, PeepholeLSTM",
        )
    unsupported = re.search(r"(?:No (?:ONNX|decompositions)[^\n]*|Unsupported[^\n]*|not support[^\n]*)", text)
    fault = unsupported[0] if unsupported else str(causes[0]).strip().splitlines()[0][:300]
    remedy = "use operations that ONNX has"
    return UnsupportedModule(
        module, f"{fault}{line}", f"{remedy}, or try `--exporter torchscript`" if what == "encoder" else remedy
    )
