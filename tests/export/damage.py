"""What exporters and hands do to graphs and modules, one function for each kind of damage."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn

from export.trace.graphs import RECURRENT
from models.encoders import IMAGENET_MEAN, IMAGENET_STD, ImageEncoder

Graph = Callable[[onnx.ModelProto], None]
Module = Callable[[nn.Module], nn.Module]


def frozen_in_metadata(name: str, axis: int, size: int) -> Graph:
    """A dimension of an input or output is a number."""

    def damage(model: onnx.ModelProto) -> None:
        value = next(v for v in (*model.graph.input, *model.graph.output) if v.name == name)
        value.type.tensor_type.shape.dim[axis].dim_value = size

    return damage


def frozen_inside(output: str, shape: tuple[int, ...]) -> Graph:
    """What makes `output` is reshaped to constants on its way; the metadata stay symbolic."""

    def damage(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if output in node.output)
        node.output[list(node.output).index(output)] = "free"
        model.graph.initializer.append(numpy_helper.from_array(np.array(shape), "size"))
        _after(model, node, helper.make_node("Reshape", ["free", "size"], [output], name="frozen"))

    return damage


def batch_of_one_as_initial_state(model: onnx.ModelProto) -> None:
    """Zeros for one clip, as PyTorch's older exporter bakes them in."""
    node = _recurrent(model)
    directions, _, width = _weights(model, node.input[2]).shape
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((directions, 1, width), np.float32), "zeros"))
    _set_input(node, 5, "zeros")
    if node.op_type == "LSTM":
        _set_input(node, 6, "zeros")


def drop_input(index: int) -> Graph:
    """sequence_lens (4), initial_h (5), initial_c (6) or peepholes (7) of every recurrent node."""

    def damage(model: onnx.ModelProto) -> None:
        for node in _every_recurrent(model):
            if len(node.input) > index:
                node.input[index] = ""

    return damage


def lengths_of_all_frames(model: onnx.ModelProto) -> None:
    """sequence_lens is there, but says that every clip is as long as the batch."""
    node = _recurrent(model)
    for name, values in (("at_time", np.array([1])), ("no_batch", np.array([0]))):
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    lengths = [
        helper.make_node("Shape", ["features"], ["sizes"], name="sizes"),
        helper.make_node("Gather", ["sizes", "at_time"], ["num_frames"], name="num_frames"),
        helper.make_node("Shape", ["lengths"], ["batch"], name="batch"),
        helper.make_node("Expand", ["num_frames", "batch"], ["all"], name="all"),
        helper.make_node("Cast", ["all"], ["all_int32"], name="cast_all", to=onnx.TensorProto.INT32),
    ]
    node.input[4] = "all_int32"
    for one in reversed(lengths):
        model.graph.node.insert(0, one)


def swap_gates(model: onnx.ModelProto) -> None:
    """PyTorch's order (input, forget, cell, output) where ONNX wants input, output, forget, cell."""
    _change(model, 2, lambda r: np.concatenate([np.split(r, 4, axis=1)[i] for i in (0, 2, 3, 1)], axis=1))


def attribute(name: str, value: int | str | list[str]) -> Graph:
    """An attribute of every recurrent node."""

    def damage(model: onnx.ModelProto) -> None:
        for node in _every_recurrent(model):
            kept = [a for a in node.attribute if a.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return damage


def forward_only(model: onnx.ModelProto) -> None:
    """The reverse direction is lost: its half repeats the forward one."""
    node = _recurrent(model)
    for index in (1, 2, 3):
        _change(model, index, lambda w: w[:1])
    attribute("direction", "forward")(model)
    hidden = node.output[1]
    node.output[1] = "forward_hidden"
    _after(model, node, helper.make_node("Concat", ["forward_hidden"] * 2, [hidden], name="twice", axis=0))


def swap_directions(model: onnx.ModelProto) -> None:
    for index in (1, 2, 3):
        _change(model, index, lambda w: w[::-1].copy())


def opset_22(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 22


def repack_weights(model: onnx.ModelProto) -> None:
    """The weights of the gates are put together at every run."""
    node = _recurrent(model)
    name = node.input[1]
    halves = np.split(_weights(model, name), 2, axis=1)
    for index, half in enumerate(halves):
        model.graph.initializer.append(numpy_helper.from_array(half, f"half{index}"))
    pack = helper.make_node("Concat", ["half0", "half1"], ["packed"], name="pack", axis=1)
    node.input[1] = "packed"
    model.graph.node.insert(0, pack)


def transpose_weights(model: onnx.ModelProto) -> None:
    """As above, by one node that a constant-folding runtime hides."""
    tensor = next(t for t in model.graph.initializer if t.name == "classifier.weight")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).T.copy(), tensor.name))
    gemm = next(node for node in model.graph.node if tensor.name in node.input)
    gemm.input[1] = "turned"
    model.graph.node.insert(0, helper.make_node("Transpose", [tensor.name], ["turned"], name="turn", perm=[1, 0]))


def path_inside(model: onnx.ModelProto) -> None:
    """A stack trace, as PyTorch 2 leaves one with every node."""
    entry = model.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.stack_trace", 'File "/home/me/train/my_head.py", line 7, in forward'


def loop(model: onnx.ModelProto) -> None:
    """The outputs go once through a Loop."""
    node = next(node for node in model.graph.node if "outputs" in node.output)
    node.output[list(node.output).index("outputs")] = "before"
    shape: list[str | int | None] = ["batch", 3]
    kinds = {"i": onnx.TensorProto.INT64, "go": onnx.TensorProto.BOOL}
    inputs = [helper.make_tensor_value_info(name, kind, []) for name, kind in kinds.items()]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["carried"], ["after"])],
        "body",
        [*inputs, helper.make_tensor_value_info("carried", onnx.TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("go_on", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", onnx.TensorProto.FLOAT, shape),
        ],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(1), "once"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "true"))
    _after(model, node, helper.make_node("Loop", ["once", "true", "before"], ["outputs"], name="loop", body=body))


def other_epoch(path: str) -> Module:
    """The weights below `path` have moved a little since."""

    def damage(module: nn.Module) -> nn.Module:
        stale = copy.deepcopy(module)
        torch.manual_seed(7)
        with torch.no_grad():
            for weights in stale.get_submodule(path).parameters():
                weights.add_(0.05 * torch.randn_like(weights))
        return stale

    return damage


def imagenet_normalisation(module: nn.Module) -> nn.Module:
    """The usual mean and std, where the model was trained with others."""
    assert isinstance(module, ImageEncoder)
    return ImageEncoder(module.cnn, module.name, module.feature_size, IMAGENET_MEAN, IMAGENET_STD)


def pixels_up_to_255(module: nn.Module) -> nn.Module:
    """Nothing divides by 255."""
    wrong = copy.deepcopy(module)
    wrong.get_buffer("std").div_(255)
    return wrong


class Bgr(nn.Module):
    """Swapped channels in front of an encoder."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, frames: Tensor) -> Tensor:
        features: Tensor = self.encoder(frames.flip(3))
        return features


def _every_recurrent(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type in RECURRENT]


def _recurrent(model: onnx.ModelProto) -> onnx.NodeProto:
    return _every_recurrent(model)[0]


def _weights(model: onnx.ModelProto, name: str) -> NDArray[np.float32]:
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def _change(model: onnx.ModelProto, index: int, how: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
    """The weights that are input `index` of the first recurrent node."""
    name = _recurrent(model).input[index]
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(how(numpy_helper.to_array(tensor)), name))


def _set_input(node: onnx.NodeProto, index: int, name: str) -> None:
    node.input.extend([""] * (index + 1 - len(node.input)))
    node.input[index] = name


def _after(model: onnx.ModelProto, node: onnx.NodeProto, added: onnx.NodeProto) -> None:
    model.graph.node.insert(list(model.graph.node).index(node) + 1, added)
