"""Transfer learning in its three ways: a frozen encoder, its stored features, and fine-tuning from a named stage.

Frozen, the encoder's features are stored once, and a head is trained on them. Fine-tuned, it is the maps before the
stage that are stored, and an epoch costs only what lies behind them (Yosinski et al. 2014, arXiv 1411.1792).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from models.encoders import ImageEncoder, StagesFrom
from models.fit_settings import MixedPrecision

BatchNorm = Literal["frozen", "live"]
# Of the stages at once where no gradient keeps them: a batch of windows has thousands, each with maps of megabytes.
_FRAMES = 64
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class FineTuned(nn.Module):
    """The trained stages of an encoder below a head: maps (B, T, C, h, w), lengths (B) → what the head gives.

    encoder: trained in place from `stage` on. learning_rate: of its stages. batch_norm: frozen keeps the running
    statistics, as batches of few clips, whose frames are alike, would spoil them; live trains with the batch's.
    head_epochs: so many epochs the head learns alone: gradients of one that knows nothing would spoil what the encoder
    knows (Kumar et al. 2022, arXiv 2202.10054).
    mixed_precision: what the stages compute in where PyTorch deems it safe (torch.amp). The head stays in float32: its
    cost is small, its sums are long, and oneDNN has no LSTM in bfloat16 on CPUs without it.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        stage: str,
        head: nn.Module,
        learning_rate: float,
        batch_norm: BatchNorm,
        mixed_precision: MixedPrecision = "off",
        head_epochs: int = 0,
    ) -> None:
        super().__init__()
        self.stages = StagesFrom(encoder, stage).requires_grad_()  # encoders are built frozen
        self.head: nn.Module = head
        self._encoder = (encoder,)  # no child: its parameters would be there twice
        self._learning_rate = learning_rate
        self._batch_norm = batch_norm
        self._mixed_precision = mixed_precision
        self.head_epochs = head_epochs
        self._learns = True

    @property
    def encoder(self) -> ImageEncoder:
        """The whole encoder, whose stages are trained here."""
        return self._encoder[0]

    def learning_rates(self) -> Mapping[str, float]:
        """For `models.optimisation`: those of parts that do not learn as the rest does."""
        return {"stages": self._learning_rate}

    @property
    def head_alone(self) -> bool:
        """Whether the head alone learns in this epoch: the stages give the same features until it is over."""
        return not self._learns

    def begin_epoch(self, number: int) -> None:
        """From 1 on: whether the stages learn in it."""
        self._learns = number > self.head_epochs
        self.stages.requires_grad_(self._learns)

    def train(self, mode: bool = True) -> FineTuned:
        """Frozen batch norms stay as in eval, and all of the stages while they do not learn."""
        super().train(mode)
        if not self._learns:
            self.stages.eval()
        if self._batch_norm == "frozen":
            for module in self.stages.modules():
                if isinstance(module, _NORMS):
                    module.eval()
        return self

    def forward(self, maps: Tensor, lengths: Tensor) -> Tensor:
        """maps (B, T, C, h, w), lengths (B) int64 → logits."""
        logits: Tensor = self.head(self.features(maps, lengths), lengths)
        return logits

    def features(self, maps: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D), zeros past each length: no frame that is none goes through the stages, or into their norms."""
        held = torch.arange(maps.shape[1], device=maps.device) < lengths.to(maps.device)[:, None]
        with torch.autocast(
            maps.device.type,
            torch.float16 if self._mixed_precision == "float16" else torch.bfloat16,
            enabled=self.training and self._mixed_precision != "off",
        ):
            rows = maps[held]
            if rows.ndim == 4:  # as `ImageEncoder` has them, and CPUs convolve best
                rows = rows.contiguous(memory_format=torch.channels_last)
            parts = [rows] if torch.is_grad_enabled() else torch.split(rows, _FRAMES)
            found = torch.cat([self.stages(part) for part in parts])
        found = found.float()
        features = found.new_zeros(*held.shape, found.shape[1])
        features[held] = found
        return features

    def features_of_rows(self, maps: Tensor) -> Tensor:
        """(R, D) of maps (R, C, h, w) of any type, in eval: each once, however many windows share it; on the CPU."""
        device = next(self.stages.parameters()).device
        with torch.inference_mode():
            found = [self.stages(part.to(device).float()).float().cpu() for part in torch.split(maps, _FRAMES)]
        return torch.cat(found)

    def initial_state(self, batch: int) -> dict[str, Tensor]:
        """The head's."""
        state: dict[str, Tensor] = self.head.initial_state(batch)  # type: ignore[operator]
        return state

    def step(self, maps: Tensor, lengths: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """A piece of a window: see `SequenceHead.step`."""
        found: tuple[Tensor, dict[str, Tensor]] = self.head.step(self.features(maps, lengths), lengths, state)  # type: ignore[operator]
        return found
