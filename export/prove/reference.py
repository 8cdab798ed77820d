"""The model as PyTorch computes it, in float64: what every graph is held against. Each clip by itself, unpadded."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from export.errors import ExportError, UnsupportedModule
from export.source import VideoModel
from export.trace.head import HeadGraph
from export.trace.tracing import copied, open_modules
from service.video.windows import Window, cover

Doubles = NDArray[np.float64]
# A CNN's activations in float64 stay in the cache: 32 frames at once take three times as long.
_FEW_FRAMES = 4
_Seen = dict[str, tuple[list[Tensor], Tensor]]


class Reference:
    """A copy of encoder and head in float64, eval mode."""

    def __init__(self, model: VideoModel, graph: HeadGraph) -> None:
        self.model = model
        self.encoder = copied(model.encoder, "encoder").double()
        self._head = copied(graph.module, "head").double()
        self._graph = graph

    def features(self, frames: NDArray[np.uint8]) -> Doubles:
        """uint8 RGB (N, H, W, 3) → (N, D)."""
        with torch.inference_mode():
            rows = [
                self.encoder(torch.from_numpy(frames[at : at + _FEW_FRAMES])).numpy()
                for at in range(0, len(frames), _FEW_FRAMES)
            ]
        return np.concatenate(rows)

    def outputs(self, features: NDArray[np.floating]) -> tuple[Doubles, dict[str, Doubles]]:
        """One clip's features (T, D) → its outputs (K) or (T, K), and the state after it, each (size)."""
        given = torch.from_numpy(features).double()[None]
        lengths = torch.tensor([len(features)])
        with torch.inference_mode():
            if self._graph.has_step:
                outputs, state = self._head.step(given, lengths, self._head.initial_state(1))  # type: ignore[operator]
            else:
                state, handles = self._watch()
                outputs = self._head(given, lengths)
                for handle in handles:
                    handle.remove()
        return outputs[0].numpy(), {name: values[0].numpy() for name, values in state.items()}

    def scores(self, features: NDArray[np.floating]) -> tuple[list[Window], list[Doubles], Doubles]:
        """All windows of one clip's features (T, D), each one's scores, and the clip's (windows, K).

        For the task `frame` the clip's are those of ticks (T, K), each of them the mean of the windows that hold it.
        """
        windows = cover(len(features), self.model.spec)
        scored = [self.activated(self.outputs(features[window.start : window.stop])[0]) for window in windows]
        if self.model.task == "clip":
            return windows, scored, np.stack(scored)
        totals = np.zeros((len(features), scored[0].shape[1]))
        counts = np.zeros((len(features), 1))
        for window, rows in zip(windows, scored, strict=True):
            totals[window.start : window.stop] += rows
            counts[window.start : window.stop] += 1
        return windows, scored, totals / counts

    def activated(self, outputs: Doubles) -> Doubles:
        """Outputs (…, K) as scores."""
        values = torch.from_numpy(outputs)
        if self.model.score == "softmax":
            values = values.softmax(dim=-1)
        elif self.model.score == "sigmoid":
            values = values.sigmoid()
        scores: Doubles = values.numpy()
        return scores

    def _watch(self) -> tuple[dict[str, Tensor], list[torch.utils.hooks.RemovableHandle]]:
        """Hooks that read the last hidden (and cell) of each recurrent module, by the names of the state."""
        state: dict[str, Tensor] = {}

        def keep(names: tuple[tuple[str, ...], ...], final: Tensor | tuple[Tensor, Tensor]) -> None:
            for kind, values in zip(names, final if isinstance(final, tuple) else (final,), strict=True):
                state.update({name: values[layer] for layer, name in enumerate(kind)})

        handles = [
            self._head.get_submodule(path).register_forward_hook(lambda _m, _i, out, n=names: keep(n, out[1]))
            for path, names in self._graph.recurrent_states().items()
        ]
        return state, handles


def feature_size(model: VideoModel) -> int:
    """The width of what the encoder gives for one black frame."""
    frame = torch.from_numpy(np.zeros((1, model.spec.frame_height, model.spec.frame_width, 3), np.uint8))
    with torch.inference_mode():
        try:
            features = model.encoder.eval()(frame)
        except Exception as error:  # whatever a user's network raises
            raise ExportError(
                f"the encoder does not take uint8 RGB frames (1, {model.spec.frame_height}, "
                f"{model.spec.frame_width}, 3): {str(error).splitlines()[0]}; wrap it in models.encoders.ImageEncoder"
            ) from error
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        shape = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        raise ExportError(
            f"the encoder gives {shape} for one frame, not (1, D); wrap it in models.encoders.ImageEncoder"
        )
    return int(features.shape[1])


def examine(model: VideoModel, graph: HeadGraph, reference: Reference) -> None:
    """Run the user's own modules before anything is exported. Raises UnsupportedModule, ExportError.

    What is wrong in PyTorch already is said here, with the module's name: outputs of another shape, random
    outputs, rows that depend on the rest of their batch, and what lies past a clip's length.
    """
    spec = model.spec
    random = np.random.default_rng(2)
    frames = random.integers(0, 256, (3, spec.frame_height, spec.frame_width, 3), np.uint8)
    with torch.inference_mode():
        features = _twice(reference.encoder, "encoder", torch.from_numpy(frames))
        if features.shape != (3, graph.feature_size):
            raise ExportError(f"the encoder gives {tuple(features.shape)} for 3 frames, not (3, {graph.feature_size})")
        _independent(reference.encoder, "encoder", (torch.from_numpy(frames),), features)
        clips = torch.from_numpy(np.abs(random.normal(0, 0.5, (3, 6, graph.feature_size))))
        lengths = torch.tensor([6, 6, 6])
        outputs = _twice(reference._head, "head", clips, lengths)
        wanted = (3, len(model.labels)) if model.task == "clip" else (3, 6, len(model.labels))
        if outputs.shape != wanted:
            raise ExportError(
                f"the head gives {tuple(outputs.shape)} for 3 clips of 6 frames, not {wanted}, as {len(model.labels)} "
                f"labels and the task {model.task!r} say; make its last layer as wide as `labels`, and pool over time "
                "for the task 'clip', not for 'frame'"
            )
        _independent(reference._head, "head", (clips, lengths), outputs)
        _reads_no_padding(reference._head, model, clips)
        if graph.has_step:
            _steps_as_forward(reference._head, model, clips)


def _run(module: nn.Module, what: str, *inputs: Tensor) -> Tensor:
    """Run in float64; what fails is said with the innermost module."""
    with open_modules(module, what) as opened:
        try:
            outputs = module(*inputs)
        except Exception as error:  # whatever a user's network raises
            said = opened[-1] if opened else f"the {what}'s own forward ({type(module).__name__})"
            fault = (str(error) or type(error).__name__).strip().splitlines()[0]
            if _runs_in_float32(module, inputs):
                raise UnsupportedModule(
                    said,
                    f"it does not run in float64, in which it is proven: {fault}",
                    "make its tensors of the dtype of its weights or inputs (`features.new_zeros(…)`, "
                    "`.to(self.weight.dtype)`)",
                ) from error
            given = ", ".join(f"{str(part.dtype).removeprefix('torch.')} {tuple(part.shape)}" for part in inputs)
            remedy = (
                "it takes features (B, T, D) and lengths (B) int64, of any batch, also of one, in any order"
                if what == "head"
                else "it takes uint8 RGB frames (N, H, W, 3), of any number, also one"
            )
            raise UnsupportedModule(said, f"it does not run on {given}: {fault}", remedy) from error
    if not isinstance(outputs, Tensor):
        raise ExportError(
            f"the {what} returns a {type(outputs).__name__}, not a tensor; return the "
            + ("logits alone: a state goes through `step`" if what == "head" else "features alone")
        )
    if not torch.isfinite(outputs).all():
        raise ExportError(f"the {what} gives numbers that are not finite for ordinary input; look at its weights")
    return outputs


def _runs_in_float32(module: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    try:
        copy.deepcopy(module).float()(*(part.float() if part.is_floating_point() else part for part in inputs))
    except Exception:  # noqa: BLE001  (the first error is the one that is told)
        return False
    return True


def _twice(module: nn.Module, what: str, *inputs: Tensor) -> Tensor:
    """The outputs, which must be the same the second time; else the innermost module at fault is named."""
    first, second = _run(module, what, *inputs), _run(module, what, *inputs)
    if not torch.equal(first, second):
        raise UnsupportedModule(
            _parted(_seen(module, inputs), _seen(module, inputs), torch.equal)
            or f"the {what}'s own forward ({type(module).__name__})",
            "it gives another answer the second time",
            "nothing may be random in eval mode: nn.Dropout, or F.dropout with `training=self.training`",
        )
    return first


def _independent(module: nn.Module, what: str, inputs: tuple[Tensor, ...], together: Tensor) -> None:
    """Each row alone must equal itself in the batch; else the module where they part is named."""
    noun = "clips" if what == "head" else "frames"
    fault = f"it mixes the {noun} of a batch: one alone gives another answer"
    remedy = "no norm, softmax, mean or attention over the batch; use LayerNorm, or BatchNorm with running statistics"
    seen = _seen(module, inputs)
    for name, part in module.named_modules():
        # Its own error on one row says nothing of the cause.
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is None:
            raise UnsupportedModule(f"{name} ({type(part).__name__})", fault, remedy)
    for row in range(len(together)):
        alone_inputs = tuple(part[row : row + 1] for part in inputs)
        if _close(_run(module, what, *alone_inputs)[0], together[row]):
            continue
        parted = _parted(_seen(module, alone_inputs), seen, functools.partial(_same_row, row=row))
        raise UnsupportedModule(parted or f"the {what}'s own forward ({type(module).__name__})", fault, remedy)


def _steps_as_forward(head: nn.Module, model: VideoModel, clips: Tensor) -> None:
    """What is exported is `step`; what was trained is `forward`."""
    for lengths in (torch.tensor([6, 6, 6]), torch.tensor([2, 6, 4])):
        outputs = _run(head, "head", clips, lengths)
        stepped, _ = head.step(clips, lengths, head.initial_state(len(clips)))  # type: ignore[operator]
        for row, length in enumerate(lengths.tolist()):
            held = slice(None) if model.task == "clip" else slice(length)
            if not _close(stepped[row][held], outputs[row][held]):
                raise UnsupportedModule(
                    f"the head ({type(head).__name__})",
                    "its `step` from `initial_state` gives another answer than its `forward`",
                    "let `forward` call `step`, as models.heads.SequenceHead does",
                )


def _reads_no_padding(head: nn.Module, model: VideoModel, clips: Tensor) -> None:
    lengths = torch.tensor([2, 6, 4])
    dirty = clips.clone()
    for row, length in enumerate(lengths.tolist()):
        dirty[row, length:] = 1e3
    clean, spoiled = _run(head, "head", clips, lengths), _run(head, "head", dirty, lengths)
    for row, length in enumerate(lengths.tolist()):
        held = slice(None) if model.task == "clip" else slice(length)
        if not _close(clean[row][held], spoiled[row][held]):
            raise UnsupportedModule(
                f"the head ({type(head).__name__})",
                "it reads past a clip's length: other padding gives another answer",
                "give `lengths` to the recurrent layers (pack_padded_sequence), and mask what pools their outputs",
            )


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-9, rtol=1e-6)


def _seen(module: nn.Module, inputs: tuple[Tensor, ...]) -> _Seen:
    """What every submodule is given and gives, in the order in which they end, innermost first."""
    seen: _Seen = {}

    def keep(said: str, given: tuple[object, ...], value: object) -> None:
        while isinstance(value, tuple) and not isinstance(value, PackedSequence):
            value = value[0]
        if isinstance(value, Tensor):
            seen.setdefault(said, ([part for part in given if isinstance(part, Tensor)], value))

    handles = []
    for path, part in module.named_modules():
        said = f"{path} ({type(part).__name__})"
        if path:
            handles.append(part.register_forward_hook(lambda _m, given, out, said=said: keep(said, given, out)))
    module(*inputs)
    for handle in handles:
        handle.remove()
    return seen


def _parted(one: _Seen, other: _Seen, same: Callable[[Tensor, Tensor], bool]) -> str | None:
    """The innermost module that is given the same and gives something else."""
    for said in one:
        if said in other:
            (given, value), (other_given, other_value) = one[said], other[said]
            if all(map(same, given, other_given)) and not same(value, other_value):
                return said
    return None


def _same_row(alone: Tensor, together: Tensor, row: int) -> bool:
    """Whether the only row of `alone` is row `row` of `together`, whichever axis is the batch's."""
    for axis in range(min(2, alone.ndim)):
        if alone.shape[axis] == 1:
            part = together.narrow(axis, row, 1) if together.shape[axis] > row else None
            if part is not None and part.shape == alone.shape:
                return _close(alone, part)
    return True
