"""An encoder cut in two before a stage: what stays frozen gives maps that are stored, what follows is trained."""

from __future__ import annotations

from torch import Tensor, fx, nn

from models.encoders.image import ImageEncoder, normalised
from models.encoders.kind import EncoderError


class MapsOf(nn.Module):
    """Frames as `stage` would get them: uint8 RGB (N, H, W, 3) → maps (N, C, h, w), or what else its input is.

    of_pixels: nothing is before the stage; the maps are then the frames themselves, uint8 (N, 3, H, W), a quarter of
    what they would be normalised, and exact. Raises EncoderError for a stage that there is not, and for one before
    which more than one tensor is needed.
    """

    def __init__(self, encoder: ImageEncoder, stage: str) -> None:
        super().__init__()
        self._half, _ = _halves(encoder, stage)
        self.of_pixels = _is_empty(self._half)
        self.register_buffer("mean", encoder.mean)
        self.register_buffer("std", encoder.std)

    def forward(self, frames: Tensor) -> Tensor:
        """As `ImageEncoder.forward` begins."""
        pixels = frames.permute(0, 3, 1, 2)
        if self.of_pixels:
            return pixels.contiguous()
        maps: Tensor = self._half(normalised(pixels, self.mean, self.std))  # type: ignore[arg-type]
        return maps


class StagesFrom(nn.Module):
    """Maps (N, C, h, w) of `MapsOf` → features (N, D): `stage` and all behind it, with the encoder's own parameters.

    What is trained here is trained in the encoder. Batch norms follow `train()` and `eval()`, as do dropouts. What the
    network's code does by whether it trains, without a module for it (EfficientNet's stochastic depth), is as in eval.
    Raises EncoderError as `MapsOf`.
    """

    def __init__(self, encoder: ImageEncoder, stage: str) -> None:
        super().__init__()
        before, self.stages = _halves(encoder, stage)
        self.of_pixels = _is_empty(before)
        self.register_buffer("mean", encoder.mean, persistent=False)
        self.register_buffer("std", encoder.std, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, h, w) → (N, D)."""
        if self.of_pixels:
            maps = normalised(maps, self.mean, self.std)  # type: ignore[arg-type]
        features: Tensor = self.stages(maps)
        return features.mean(dim=(2, 3)) if features.ndim == 4 else features


def _is_empty(half: fx.GraphModule) -> bool:
    return all(node.op in ("placeholder", "output") for node in half.graph.nodes)


class _Leaves(fx.Tracer):
    """Traces down to torch's own modules and those that no trace can go into, as torchvision's does."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Layers of torch, and subclasses of convolutions, whose padding looks at sizes."""
        if isinstance(m, (nn.Conv2d, nn.MultiheadAttention)):
            return True
        return super().is_leaf_module(m, module_qualified_name)


def _halves(encoder: ImageEncoder, stage: str) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The CNN before and from the stage; their modules are the encoder's own."""
    paths = encoder.paths_from(stage)
    was_training = encoder.training
    encoder.eval()
    try:
        graph = _Leaves().trace(encoder.cnn)
    except Exception as error:  # fx has no error class of its own
        raise EncoderError(f"encoder {encoder.name} can't be cut at {stage}: {error}") from error
    finally:
        encoder.train(was_training)
    nodes = list(graph.nodes)
    behind = {node for node in nodes if _reads(node, paths)}
    if not behind:
        raise EncoderError(f"encoder {encoder.name}: stage {stage} is not computed in its forward pass")
    for node in nodes:  # in the order of computation: what depends on the stage is behind it
        if any(source in behind for source in node.all_input_nodes):
            behind.add(node)
    needed = {
        source for node in behind for source in node.all_input_nodes if source not in behind and source.op != "get_attr"
    }
    if len(needed) != 1:
        raise EncoderError(
            f"encoder {encoder.name}: {stage} and what follows need {len(needed)} tensors of what is before, and one "
            "can be stored; begin at another stage"
        )
    [edge] = needed
    before = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in nodes[: nodes.index(edge) + 1]:
        copied[node] = before.node_copy(node, copied.__getitem__)
    before.output(copied[edge])
    after = fx.Graph()
    kept: dict[fx.Node, fx.Node] = {edge: after.placeholder("maps")}
    for node in nodes:
        if node in behind or (node.op == "get_attr" and any(user in behind for user in node.users)):
            kept[node] = after.node_copy(node, kept.__getitem__)
    halves = fx.GraphModule(encoder.cnn, before), fx.GraphModule(encoder.cnn, after)
    for half in halves:
        half.graph.eliminate_dead_code()
        half.recompile()
        half.delete_all_unused_submodules()
    return halves


def _reads(node: fx.Node, paths: tuple[str, ...]) -> bool:
    """Whether a node computes with parameters that begin with one of the paths."""
    if node.op not in ("call_module", "get_attr"):
        return False
    target = str(node.target)
    return any(target == path or target.startswith(f"{path}.") for path in paths)
