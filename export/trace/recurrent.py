"""The layers of `models.cells` as plain ONNX nodes, for as long as a head is traced.

PyTorch's exporter can't take packed sequences, re-packs the weights at every run and writes the time dimension as
a constant. So each recurrent module is exchanged for an `OnnxRecurrent`, which holds its weights in ONNX's layout
and puts one ONNX RNN, LSTM or GRU node a layer into the graph, with `sequence_lens` and initial state; and
`pack_padded_sequence` gives a padded batch with its lengths, which is what those nodes want.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from export.errors import UnsupportedModule
from export.trace.graphs import OPSET
from models import cells
from models.cells import CellKind
from models.recurrent import SteppedRecurrent


@dataclass(frozen=True)
class PaddedSequence:
    """What stands for a PackedSequence in the trace: `data` (B, T, D) and `lengths` (B)."""

    data: Tensor
    lengths: Tensor

    def __getattr__(self, name: str) -> Any:
        """For what a PackedSequence has and this has not."""
        if name in ("_replace", "to", *PackedSequence._fields):
            raise UnsupportedModule(
                "the head",
                f"it uses `{name}` of a packed sequence",
                "unpack it with pad_packed_sequence, change the padded outputs, and pack them again",
            )
        raise AttributeError(name)


@dataclass
class Carried:
    """The state that a head's recurrent modules start from (`initial`) and end with (`final`), by name.

    For heads that leave their state to the export: filled while the head is traced. features, lengths: of the clips,
    for sequences of the same batch and time that the head does not pack.
    """

    features: Tensor
    lengths: Tensor
    initial: dict[str, Tensor] = field(default_factory=dict)
    final: dict[str, Tensor] = field(default_factory=dict)


class OnnxRecurrent(nn.Module):
    """A recurrent module's twin whose forward writes ONNX nodes; it can only be traced, not run."""

    carried: Carried | None = None
    hidden_size: int
    num_layers: int
    batch_first: bool
    bidirectional: bool

    def __init__(self, path: str, module: nn.Module, state_names: tuple[tuple[str, ...], ...]) -> None:
        """state_names: for hidden (and cell), one name a layer; empty where no state is carried."""
        super().__init__()
        self._path = path
        self.state_names = state_names
        kind = cell_of(path, module)
        self.op_type: str = kind.operator
        self.has_cell = len(kind.states) > 1
        for name in ("input_size", "hidden_size", "num_layers", "batch_first", "bidirectional"):
            setattr(self, name, getattr(module, name))
        self.num_directions = 2 if self.bidirectional else 1
        self.attributes: dict[str, Any] = {
            "hidden_size": self.hidden_size,
            "direction": "bidirectional" if self.bidirectional else "forward",
        }
        for name, value in kind.attributes.items():
            self.attributes[name] = [*value] * self.num_directions if isinstance(value, tuple) else value
        for layer in range(self.num_layers):
            for name, values in _weights(module, layer, self.num_directions, kind).items():
                self.register_buffer(f"layer{layer}_{name}", values)

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002  (as torch.nn.LSTM)
        """As torch's; a PaddedSequence gives one."""
        packed = isinstance(input, PaddedSequence)
        rows, lengths = (input.data, input.lengths) if packed else (input, None)
        if rows.ndim != 3:
            raise UnsupportedModule(self._path, "it is given a sequence without a batch", "keep the batch dimension")
        time_major = rows.transpose(0, 1) if packed or self.batch_first else rows
        if lengths is None and self.carried is not None:
            batch, time = self.carried.features.shape[:2]
            same = statically_known_true(batch == time_major.shape[1]) and statically_known_true(
                time == time_major.shape[0]
            )
            lengths = self.carried.lengths if same else None
        if self.state_names and self.carried is not None:
            hx = None  # zeros: see `export.trace.head`
        initial = self._initial(hx)
        finals: list[list[Tensor]] = []
        for layer in range(self.num_layers):
            time_major, final = self._layer(layer, time_major, lengths, [part[layer] for part in initial])
            finals.append(final)
        if hx is None and self.carried is not None:
            for names, values in zip(self.state_names, zip(*finals, strict=True), strict=False):
                for name, value in zip(names, values, strict=True):
                    if name in self.carried.final:
                        raise UnsupportedModule(
                            self._path,
                            "it runs twice in one forward: one state can't be carried for both",
                            "give the head `initial_state` and `step`; an `initial_state` alone that returns {} says "
                            "that it is not streamed",
                        )
                    self.carried.final[name] = value[0]
        state = tuple(torch.cat(part) if len(part) > 1 else part[0] for part in zip(*finals, strict=True))
        outputs = time_major.transpose(0, 1) if packed or self.batch_first else time_major
        return PaddedSequence(outputs, input.lengths) if packed else outputs, state if self.has_cell else state[0]

    def _initial(self, hx: Any) -> list[list[Tensor | None]]:
        """For hidden (and cell), one tensor (directions, B, H) a layer; None is zero."""
        num_parts = 2 if self.has_cell else 1
        if hx is not None:
            parts = hx if self.has_cell else (hx,)
            return [list(part.split(self.num_directions)) if self.num_layers > 1 else [part] for part in parts]
        if self.carried is not None and self.state_names:
            return [[self.carried.initial[name][None] for name in names] for names in self.state_names]
        return [[None for _ in range(self.num_layers)] for _ in range(num_parts)]

    def _layer(
        self, layer: int, rows: Tensor, lengths: Tensor | None, initial: list[Tensor | None]
    ) -> tuple[Tensor, list[Tensor]]:
        """rows (T, B, D) → (T, B, directions · H), and the last hidden (and cell), each (directions, B, H)."""
        time, batch, _ = rows.shape
        width, directions = self.hidden_size, self.num_directions
        num_parts = 2 if self.has_cell else 1
        hidden, cell = (*initial, None, None)[:2]
        inputs = [
            rows,
            *(getattr(self, f"layer{layer}_{name}", None) for name in ("W", "R", "B")),
            None if lengths is None else lengths.to(torch.int32),
            hidden,
        ]
        if self.has_cell:
            inputs += [cell, getattr(self, f"layer{layer}_P", None)]
        while inputs[-1] is None:
            inputs.pop()
        outputs, *final = torch.onnx.ops.symbolic_multi_out(
            self.op_type,
            inputs,
            self.attributes,
            dtypes=[torch.float32] * (1 + num_parts),
            shapes=[(time, directions, batch, width), *[(directions, batch, width)] * num_parts],
            version=OPSET,
        )
        # A squeeze, or both directions side by side as torch has them.
        flat = (
            outputs.squeeze(1) if directions == 1 else outputs.transpose(1, 2).reshape(time, batch, directions * width)
        )
        return flat, list(final)


def recurrent_modules(head: nn.Module) -> dict[str, nn.Module]:
    """The recurrent modules of a head by path, in order. Raises UnsupportedModule for those that ONNX lacks."""
    found: dict[str, nn.Module] = {}
    for path, module in head.named_modules():
        if isinstance(module, nn.RNNCellBase):
            raise UnsupportedModule(
                _said(path, module),
                "a cell steps in a Python loop, which freezes the number of frames",
                "run nn.RNN, nn.LSTM, nn.GRU or models.recurrent.PeepholeLSTM over the whole sequence; their weights "
                "have the same shapes, so that those of the cell can be copied",
            )
        if isinstance(module, (nn.RNNBase, SteppedRecurrent)) or cells.kind_of(module):
            cell_of(_said(path, module), module)
            found[path] = module
    return found


def exchange(head: nn.Module, state_names: dict[str, tuple[tuple[str, ...], ...]]) -> list[OnnxRecurrent]:
    """Put an `OnnxRecurrent` in place of each recurrent module, and return them. Changes the head."""
    twins = []
    for path, module in recurrent_modules(head).items():
        twin = OnnxRecurrent(_said(path, module), module, state_names.get(path, ()))
        for name, part in list(head.named_modules(remove_duplicate=False)):
            if part is module:  # also where it goes by a second name
                parent, _, attribute = name.rpartition(".")
                setattr(head.get_submodule(parent), attribute, twin)
        twins.append(twin)
    return twins


@contextlib.contextmanager
def padded_for_packed() -> Iterator[None]:
    """Within, `pack_padded_sequence` and `pad_packed_sequence` deal in PaddedSequence, under every name they have."""
    _exchange_functions({pack_padded_sequence: _pack, pad_packed_sequence: _pad})
    try:
        yield
    finally:  # also in modules that were imported meanwhile
        _exchange_functions({_pack: pack_padded_sequence, _pad: pad_packed_sequence})


def _exchange_functions(replacements: dict[Any, Any]) -> None:
    for module in list(sys.modules.values()):
        if module is None or module.__name__ == __name__:
            continue
        for name, value in list(vars(module).items()):
            for function, replacement in replacements.items():
                if value is function:
                    setattr(module, name, replacement)


def _pack(
    input: Tensor,  # noqa: A002  (as torch's)
    lengths: Tensor,
    batch_first: bool = False,
    enforce_sorted: bool = True,  # noqa: ARG001
) -> PaddedSequence:
    return PaddedSequence(input if batch_first else input.transpose(0, 1), torch.as_tensor(lengths))


def _pad(
    sequence: PaddedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """The outputs are zero past each length already. total_length, where given, is the batch's own."""
    del total_length
    rows = sequence.data
    if padding_value:
        held = torch.arange(rows.shape[1])[None, :] < sequence.lengths[:, None]
        rows = torch.where(held[:, :, None], rows, padding_value)
    return rows if batch_first else rows.transpose(0, 1), sequence.lengths


def _said(path: str, module: nn.Module) -> str:
    return f"{path or 'the head'} ({type(module).__name__})"


def cell_of(path: str, module: nn.Module) -> CellKind:
    """Its row: a subclass counts while it computes as its base does. Raises UnsupportedModule; `path` is its name."""
    kind = cells.kind_of(module)
    if kind is None:
        known = ", ".join(sorted({row.module.__name__ for row in cells.CELLS.values()}))
        raise UnsupportedModule(path, "ONNX has no such recurrent node", f"use {known}, or add a row to models.cells")
    for method in ("forward", "advance"):
        if getattr(type(module), method, None) is not getattr(kind.module, method, None):
            raise UnsupportedModule(
                path, f"it overrides the {method} of {kind.module.__name__}", "do it in the module around it"
            )
    if getattr(module, "proj_size", 0):
        raise UnsupportedModule(path, "ONNX's LSTM has no projection (proj_size)", "follow it by nn.Linear")
    return kind


def _weights(module: nn.Module, layer: int, num_directions: int, kind: CellKind) -> dict[str, Tensor]:
    """W (directions, G·H, D), R (directions, G·H, H), B (directions, 2·G·H) and P (directions, 3·H) of one layer."""
    suffixes = [f"_l{layer}", f"_l{layer}_reverse"][:num_directions]

    def ordered(name: str, order: tuple[int, ...]) -> list[Tensor]:
        stacked = [getattr(module, name + suffix).detach().float() for suffix in suffixes]
        return [torch.cat([part.chunk(len(order))[i] for i in order]) for part in stacked]

    gates = kind.gate_order
    parts = {"W": ordered("weight_ih", gates), "R": ordered("weight_hh", gates)}
    if hasattr(module, f"bias_ih_l{layer}"):
        both = zip(ordered("bias_ih", gates), ordered("bias_hh", gates), strict=True)
        parts["B"] = [torch.cat(pair) for pair in both]
    if kind.peepholes:
        parts["P"] = ordered("weight_peephole", kind.peephole_order)
    return {name: torch.stack(values) for name, values in parts.items()}
