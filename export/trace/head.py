"""head.onnx: `features` (B, T, D), `lengths` (B) and state → `outputs` (B, K) or (B, T, K), and the state after.

A head is any nn.Module with `forward(features, lengths)`. What its recurrent modules start from and end with is
carried from chunk to chunk without a word from the head, unless one is bidirectional. A head that keeps more than
that over time (a pooling) has `initial_state(batch)` → tensors (batch, size) by name, zero before the first frame,
and `step(features, lengths, state)` → outputs, state; an `initial_state` that gives {}, with or without `step`, says
that it can't be streamed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from export.errors import UnsupportedModule
from export.trace.graphs import finish
from export.trace.recurrent import Carried, cell_of, exchange, padded_for_packed, recurrent_modules
from export.trace.tracing import copied, trace
from service.bundle import StateTensor, Task


@dataclass(frozen=True)
class HeadGraph:
    """A head that is to be exported. feature_size: D; task: what its outputs are."""

    module: nn.Module
    feature_size: int
    task: Task

    @property
    def has_step(self) -> bool:
        """Whether the head carries its state itself."""
        return hasattr(self.module, "step") and hasattr(self.module, "initial_state")

    @property
    def state(self) -> tuple[StateTensor, ...]:
        """What is carried from chunk to chunk of a stream; empty where the end must be known."""
        if hasattr(self.module, "initial_state"):
            return self._own_state()
        modules = recurrent_modules(self.module)
        return tuple(
            StateTensor(name=name, size=int(modules[path].hidden_size))  # type: ignore[arg-type]
            for path, kinds in self.recurrent_states().items()
            for names in kinds
            for name in names
        )

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        """Names of the leading, symbolic dimensions of each input and output."""
        names: dict[str, tuple[str, ...]] = {
            "features": ("batch", "time"),
            "lengths": ("batch",),
            "outputs": ("batch",) if self.task == "clip" else ("batch", "time"),
        }
        for tensor in self.state:
            names[tensor.name] = names[f"{tensor.name}_out"] = ("batch",)
        return names

    def recurrent_states(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """Names of the state of each recurrent module by path: for hidden (and cell), one a layer.

        Empty where the head speaks of its state itself, or a module is bidirectional.
        """
        modules = recurrent_modules(self.module)
        if hasattr(self.module, "initial_state") or any(module.bidirectional for module in modules.values()):
            return {}
        names = {}
        for path, module in modules.items():
            prefix = "" if len(modules) == 1 else path.replace(".", "_") + "_"
            kinds = cell_of(path, module).states
            layers = [""] if module.num_layers == 1 else [f"_{layer}" for layer in range(int(module.num_layers))]  # type: ignore[arg-type]
            names[path] = tuple(tuple(f"{prefix}{kind}{layer}" for layer in layers) for kind in kinds)
        return names

    def _own_state(self) -> tuple[StateTensor, ...]:
        said = f"the head ({type(self.module).__name__})"
        given = self.module.initial_state(1) if callable(self.module.initial_state) else None
        taken = {"features", "lengths", "outputs"}
        if (
            not isinstance(given, dict)
            or not all(isinstance(values, Tensor) for values in given.values())
            or taken & ({*given} | {f"{name}_out" for name in given})
            or {*given} & {f"{name}_out" for name in given}
        ):
            raise UnsupportedModule(
                said,
                "its `initial_state(batch)` is not a method that gives tensors by name",
                "return a dict of zeros (batch, size), by other names than features, lengths and outputs, or {}",
            )
        if given and not self.has_step:
            raise UnsupportedModule(
                said,
                "it has `initial_state` but no `step`",
                "give it `step(features, lengths, state)` → outputs, state; or return {} if it is not to be streamed",
            )
        for name, values in given.items():
            if values.ndim != 2 or bool(values.any()):
                raise UnsupportedModule(
                    said,
                    f"its state {name!r} does not start as zeros (batch, size), as the service starts every clip",
                    "flatten it; put what it learned into the state by `step`, while a count of frames there is zero",
                )
        return tuple(StateTensor(name=name, size=values.shape[1]) for name, values in given.items())


class _Traced(nn.Module):
    """What is traced: state in and out as positional tensors."""

    def __init__(self, graph: HeadGraph) -> None:
        super().__init__()
        self.head = copied(graph.module, "head").float()
        self._own_step = graph.has_step
        self._names = tuple(tensor.name for tensor in graph.state)
        states = graph.recurrent_states()
        _start_from_zero(self.head, list(states), graph.feature_size)
        self._twins = exchange(self.head, states)

    def forward(self, features: Tensor, lengths: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self._names, state, strict=True))
        carried = Carried(features, lengths, given)
        for twin in self._twins:
            twin.carried = carried
        if self._own_step:
            outputs, after = self.head.step(features, lengths, given)  # type: ignore[operator]
        else:
            outputs, after = self.head(features, lengths), carried.final
        for name in self._names:
            if name not in after:
                raise UnsupportedModule(
                    f"the head ({type(self.head).__name__})",
                    f"its state {name!r} is not there after it ran",
                    "return it from `step`, or run every recurrent layer in forward",
                )
        return outputs, *(after[name] for name in self._names)


def _start_from_zero(head: nn.Module, paths: list[str], feature_size: int) -> None:
    """Recurrent modules whose state is carried must start from zero, whether or not the head says so."""
    learned: list[str] = []

    def see(path: str, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        initial = named.get("hx", args[1] if len(args) > 1 else None)
        parts = initial if isinstance(initial, tuple) else (initial,)
        if any(part is not None and bool(part.any()) for part in parts):
            learned.append(f"{path} ({type(head.get_submodule(path)).__name__})")

    handles = [
        head.get_submodule(path).register_forward_pre_hook(
            lambda _m, args, named, path=path: see(path, args, named), with_kwargs=True
        )
        for path in paths
    ]
    if paths:
        with torch.inference_mode():
            head(torch.rand(2, 3, feature_size), torch.tensor([3, 3]))
    for handle in handles:
        handle.remove()
    if learned:
        raise UnsupportedModule(
            learned[0],
            "it starts from a state of the head's own, which a stream would lose after its first chunk",
            "start it from zero, or give the head `initial_state` and `step`; an `initial_state` alone that returns {} "
            "says that it is not streamed",
        )


def export_head(graph: HeadGraph) -> bytes:
    """The ONNX graph; deterministic bytes. Raises UnsupportedModule, and ExportError with the exporter's word."""
    state = graph.state
    batch, time = torch.export.Dim("batch", min=1), torch.export.Dim("time", min=1)
    features, lengths = torch.zeros(3, 5, graph.feature_size), torch.tensor([5, 4, 2])
    traced = _Traced(graph)
    with padded_for_packed():
        model = trace(
            traced,
            (features, lengths, *(torch.zeros(3, tensor.size) for tensor in state)),
            input_names=["features", "lengths", *(tensor.name for tensor in state)],
            output_names=["outputs", *(f"{tensor.name}_out" for tensor in state)],
            dynamic_shapes=({0: batch, 1: time}, {0: batch}, *([tuple({0: batch} for _ in state)] if state else [])),
            what="head",
        )
    return finish(model, "head", graph.axes)
